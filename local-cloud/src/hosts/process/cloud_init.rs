//! cloud-init's `write_files`, honoured inside a machine's own directory. Nothing here follows a link or leaves that
//! directory: every step of a path is opened relative to the one before it, and never through a symbolic link.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use base64::Engine;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use serde::Deserialize;

/// Most files of one machine: far more than 64 KiB of user data can name.
const FILES_MAX: usize = 4_096;

/// A file to write, parsed and checked as far as that goes without a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileToWrite {
    /// Path below the machine's directory, plain names only.
    steps: Vec<String>,
    content: Vec<u8>,
    mode: u32,
    append: bool,
}

impl FileToWrite {
    /// The keys that may log in as root.
    pub(crate) fn authorized_keys(keys: String) -> Self {
        Self {
            steps: ["root", ".ssh", "authorized_keys"].map(str::to_owned).to_vec(),
            content: keys.into_bytes(),
            mode: 0o600,
            append: false,
        }
    }
}

/// Why user data is refused; the text is for the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CloudInitError {
    #[error("user_data is not a valid cloud-config: {0}")]
    Yaml(String),
    #[error("user_data: write_files[{nth}]: {message}")]
    File { nth: usize, message: String },
    #[error("user_data: write_files: `{path}`: {message}")]
    Write { path: String, message: String },
}

#[derive(Debug, Deserialize)]
struct CloudConfig {
    #[serde(default)]
    write_files: Vec<RawFile>,
}

#[derive(Debug, Deserialize)]
struct RawFile {
    path: String,
    #[serde(default)]
    content: String,
    encoding: Option<String>,
    permissions: Option<Permissions>,
    #[serde(default)]
    append: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Permissions {
    Number(u32),
    Text(String),
}

/// The files that user data asks for. User data that is not `#cloud-config` (a script) asks for none: nothing runs it.
///
/// # Errors
/// The first thing wrong with it.
pub(crate) fn files(user_data: &str) -> Result<Vec<FileToWrite>, CloudInitError> {
    if !user_data.trim_start().starts_with("#cloud-config") {
        return Ok(Vec::new());
    }
    if user_data
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    {
        return Ok(Vec::new());
    }
    let config: CloudConfig = serde_saphyr::from_str(user_data).map_err(|error| {
        CloudInitError::Yaml(error.to_string().lines().next().unwrap_or_default().to_owned())
    })?;
    if config.write_files.len() > FILES_MAX {
        return Err(CloudInitError::Yaml(format!("more than {FILES_MAX} write_files")));
    }
    config
        .write_files
        .into_iter()
        .enumerate()
        .map(|(nth, raw)| check(raw).map_err(|message| CloudInitError::File { nth, message }))
        .collect()
}

/// Writes the files below `root`, which exists.
///
/// # Errors
/// The first file that can't be written, or whose path goes through a link.
pub(crate) fn write(root: &Path, files: &[FileToWrite]) -> Result<(), CloudInitError> {
    for file in files {
        write_one(root, file).map_err(|message| CloudInitError::Write {
            path: file.steps.join("/"),
            message,
        })?;
    }
    Ok(())
}

fn check(raw: RawFile) -> Result<FileToWrite, String> {
    let mut steps = Vec::new();
    for component in Path::new(&raw.path).components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(step) => steps.push(step.to_string_lossy().into_owned()),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(format!("path `{}` leaves the droplet's directory", raw.path));
            }
        }
    }
    if steps.is_empty() || raw.path.ends_with('/') || raw.path.contains('\0') {
        return Err(format!("path `{}` names no file", raw.path));
    }
    let content = match raw.encoding.as_deref() {
        None | Some("" | "text/plain") => raw.content.into_bytes(),
        Some("b64" | "base64") => {
            let text: String = raw.content.split_whitespace().collect();
            base64::engine::general_purpose::STANDARD
                .decode(text)
                .map_err(|error| format!("content is not base64: {error}"))?
        }
        Some(other) => return Err(format!("encoding `{other}` is not supported: b64 or none")),
    };
    let mode = match raw.permissions {
        None => 0o644,
        // YAML reads 0644 as the number 644 (or as octal, depending on its version); people mean octal either way.
        Some(Permissions::Number(number)) => octal(&number.to_string())?,
        Some(Permissions::Text(text)) => octal(&text)?,
    };
    Ok(FileToWrite {
        steps,
        content,
        mode,
        append: raw.append,
    })
}

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text.trim_start_matches("0o"), 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| format!("permissions `{text}` are not octal, such as '0644'"))
}

fn write_one(root: &Path, file: &FileToWrite) -> Result<(), String> {
    let Some((name, parents)) = file.steps.split_last() else {
        return Err("names no file".to_owned());
    };
    let dir_flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let mut dir: OwnedFd =
        open(root, dir_flags, Mode::empty()).map_err(|error| format!("droplet's directory: {error}"))?;
    for step in parents {
        match mkdirat(&dir, step.as_str(), Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(format!("`{step}`: {error}")),
        }
        dir = openat(&dir, step.as_str(), dir_flags, Mode::empty()).map_err(|error| link_or(step, error))?;
    }
    let how = if file.append {
        OFlag::O_APPEND
    } else {
        OFlag::O_TRUNC
    };
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | how;
    // Private until its content is there: a key's file must not be readable for a moment.
    let fd = openat(&dir, name.as_str(), flags, Mode::from_bits_truncate(0o600))
        .map_err(|error| link_or(name, error))?;
    let mut out = File::from(fd);
    if !out.metadata().map_err(|error| error.to_string())?.is_file() {
        return Err(format!("`{name}` is not a regular file"));
    }
    out.write_all(&file.content).map_err(|error| error.to_string())?;
    fchmod(&out, Mode::from_bits_truncate(mode_bits(file.mode))).map_err(|error| error.to_string())
}

#[cfg(target_os = "linux")]
fn mode_bits(mode: u32) -> u32 {
    mode
}

#[cfg(not(target_os = "linux"))]
#[expect(
    clippy::cast_possible_truncation,
    reason = "modes are checked to be at most 0o7777"
)]
fn mode_bits(mode: u32) -> u16 {
    mode as u16
}

fn link_or(step: &str, error: Errno) -> String {
    match error {
        Errno::ELOOP | Errno::ENOTDIR => {
            format!("`{step}` is a link or not a directory; a path may not leave the droplet's directory")
        }
        other => format!("`{step}`: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn written(user_data: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &files(user_data).unwrap()).unwrap();
        dir
    }

    #[test]
    fn files_are_written_with_encoding_permissions_and_append() {
        let dir = written(
            "#cloud-config\nwrite_files:\n- path: /etc/a/one.toml\n  content: |\n    x = 1\n  permissions: '0600'\n\
             - path: /two\n  encoding: b64\n  content: aGVsbG8=\n- path: /two\n  content: ' world'\n  append: true\n",
        );
        let one = dir.path().join("etc/a/one.toml");
        assert_eq!(std::fs::read_to_string(&one).unwrap(), "x = 1\n");
        assert_eq!(
            std::fs::metadata(&one).unwrap().permissions().mode() & 0o7777,
            0o600
        );
        let two = dir.path().join("two");
        assert_eq!(std::fs::read_to_string(&two).unwrap(), "hello world");
        assert_eq!(
            std::fs::metadata(&two).unwrap().permissions().mode() & 0o7777,
            0o644
        );
    }

    #[test]
    fn what_leaves_the_directory_is_refused() {
        for path in ["../x", "/etc/../../x", "/", "", "/etc/"] {
            let user_data = format!("#cloud-config\nwrite_files:\n- path: \"{path}\"\n  content: x\n");
            assert!(files(&user_data).is_err(), "{path}");
        }
    }

    #[test]
    fn links_are_refused_wherever_they_stand() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("etc")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), dir.path().join("file")).unwrap();
        for path in ["/etc/x", "/file"] {
            let user_data = format!("#cloud-config\nwrite_files:\n- path: {path}\n  content: x\n");
            let error = write(dir.path(), &files(&user_data).unwrap()).unwrap_err();
            assert!(error.to_string().contains("link"), "{error}");
        }
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn scripts_and_comments_ask_for_no_file_and_nonsense_is_reported() {
        assert_eq!(files("#!/bin/sh\necho hi").unwrap(), []);
        assert_eq!(files("#cloud-config\n# nothing\n").unwrap(), []);
        assert_eq!(files("#cloud-config\nruncmd: [ls]\n").unwrap(), []);
        assert!(files("#cloud-config\nwrite_files: [").is_err());
        assert!(files("#cloud-config\nwrite_files:\n- content: x\n").is_err());
        assert!(files("#cloud-config\nwrite_files:\n- path: /a\n  encoding: gzip\n").is_err());
        assert!(files("#cloud-config\nwrite_files:\n- path: /a\n  permissions: rw\n").is_err());
    }
}
