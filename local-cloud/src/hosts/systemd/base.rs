//! Base images: a Debian system as packages of the machine's own mirror make it, once, kept for all clouds of the machine.
//! The mirror's address and the machine's apt settings are needed to make it and are not in it.

use std::io;
use std::path::{Path, PathBuf};

use super::command::{self, CommandError};
use super::mirror::{self, MirrorError, Source};
use crate::manifests::System;
use crate::private_files;

/// Counted up when the same manifest leads to another system.
const RECIPE: u32 = 1;
/// What every host has: systemd, ssh, cloud-init, and what people look for on a server.
const PACKAGES: [&str; 14] = [
    "ca-certificates",
    "cloud-init",
    "curl",
    "dbus",
    "iproute2",
    "kmod",
    "libpam-systemd",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "sudo",
    "systemd",
    "systemd-sysv",
];
/// What may not be in an image: the machine's settings, and what must differ from host to host.
const REMOVED: [&str; 12] = [
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/apt/auth.conf.d",
    "etc/apt/sources.list.d",
    "etc/hostname",
    "etc/resolv.conf",
    "var/lib/dbus/machine-id",
    "var/lib/apt/lists",
    "var/cache/apt",
    "var/log/apt",
    "var/log/dpkg.log",
    "var/log/alternatives.log",
    "var/log/bootstrap.log",
];
const SOURCES: &str = "# Hosts have no way out of the machine: there is nothing to install from.\n";
/// Debian's own hosts, which every Debian system names in its documentation.
const OF_DEBIAN: &str = ".debian.org";

/// Why there is no base image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BaseError {
    #[error("{path}: {source}")]
    Disk {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the base image {suite} could not be made from this machine's Debian mirror: see that `apt-get update` works on this machine \
         and that the mirror has {suite}, then try again"
    )]
    Make {
        suite: String,
        #[source]
        source: CommandError,
    },
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    #[error(
        "the mirror's address is in the image made from it, which is not kept: look for the package that writes it, and leave it out \
         of the manifest; it is in {0}"
    )]
    MirrorInside(String),
}

/// The kept base images.
#[derive(Debug, Clone)]
pub(super) struct Bases(PathBuf);

impl Bases {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self(dir)
    }

    /// The directory of a base image, which is made first if it is not there. Others wait meanwhile, in this cloud or another.
    ///
    /// # Errors
    /// When it can't be made; nothing is left then.
    pub(super) fn ensure(&self, system: &System) -> Result<PathBuf, BaseError> {
        let image = self.0.join(name_of(system));
        if image.is_dir() {
            return Ok(image);
        }
        private_files::create_dir_all(&self.0).map_err(of_path(&self.0))?;
        let lock = image.with_extension("lock");
        let file = private_files::create(&lock).map_err(of_path(&lock))?;
        file.lock().map_err(of_path(&lock))?;
        if image.is_dir() {
            return Ok(image);
        }
        tracing::info!(
            suite = system.suite,
            "making a base image; this takes minutes, once"
        );
        let draft = image.with_extension("new");
        remove(&draft)?;
        let made = make(system, &draft).and_then(|()| rename(&draft, &image));
        if made.is_err() {
            remove(&draft)?;
        }
        made.map(|()| image)
    }
}

/// The image's directory: what it was made from, so that another manifest never gets it.
fn name_of(system: &System) -> String {
    let mut packages = system.packages.clone();
    packages.sort();
    packages.dedup();
    let text = format!("{RECIPE} {} {}", system.suite, packages.join(" "));
    let id = uuid::Uuid::from_u128(u128::from_be_bytes(digest(&text)));
    format!("{}-{}", system.suite, id.simple())
}

fn digest(text: &str) -> [u8; 16] {
    use md5::Digest;
    md5::Md5::digest(text.as_bytes()).into()
}

fn make(system: &System, draft: &Path) -> Result<(), BaseError> {
    let failed = |source| BaseError::Make {
        suite: system.suite.clone(),
        source,
    };
    let sources: String = mirror::sources(&system.suite)?.iter().map(Source::line).collect();
    let settings = mirror::settings()?;
    // In a file that nobody else may read: a proxy's address may have a password in it.
    let config = draft.with_extension("apt");
    private_files::write(&config, settings).map_err(of_path(&config))?;
    let mut packages: Vec<&str> = PACKAGES.to_vec();
    packages.extend(system.packages.iter().map(String::as_str));
    // Its mounts are in a namespace of its own, so that none is left however it ends; and it ends with this process.
    let mut command = command::command("setpriv");
    command
        .args([
            "--pdeathsig",
            "KILL",
            "--",
            "unshare",
            "--mount",
            "--propagation",
            "slave",
        ])
        .args([
            "--",
            "mmdebstrap",
            "--quiet",
            "--mode=root",
            "--variant=minbase",
            "--format=directory",
        ])
        .arg(format!("--include={}", packages.join(",")))
        .arg(format!("--aptopt={}", config.display()))
        .arg("--aptopt=Acquire::Languages \"none\"");
    for excluded in ["man", "doc", "info", "locale"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{excluded}/*"));
    }
    command.arg(&system.suite).arg(draft).arg("-");
    let made = command::finish(command, &sources);
    std::fs::remove_file(&config).map_err(of_path(&config))?;
    made.map_err(failed)?;
    clean(draft)?;
    check_clean(draft, &sources)
}

/// Removes what is the machine's, and what each host must have of its own.
fn clean(root: &Path) -> Result<(), BaseError> {
    for path in REMOVED {
        remove(&root.join(path))?;
    }
    let ssh = root.join("etc/ssh");
    for entry in std::fs::read_dir(&ssh).map_err(of_path(&ssh))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("ssh_host_") {
            remove(&entry.path())?;
        }
    }
    for directory in [
        "var/lib/apt/lists/partial",
        "var/cache/apt/archives/partial",
        "var/log/apt",
    ] {
        let path = root.join(directory);
        std::fs::create_dir_all(&path).map_err(of_path(&path))?;
    }
    for (file, content) in [("etc/machine-id", ""), ("etc/apt/sources.list", SOURCES)] {
        let path = root.join(file);
        std::fs::write(&path, content).map_err(of_path(&path))?;
    }
    Ok(())
}

/// Looks for the mirror's host in the whole image.
fn check_clean(root: &Path, sources: &str) -> Result<(), BaseError> {
    let mut hosts: Vec<&str> = sources.lines().filter_map(mirror_host).collect();
    hosts.retain(|host| !host.ends_with(OF_DEBIAN));
    hosts.dedup();
    for host in hosts {
        let root = root.display().to_string();
        // grep fails when it finds nothing, which is what is wanted here.
        if let Ok(files) = command::run("grep", &["-rlF", "--", host, &root]) {
            return Err(BaseError::MirrorInside(files.trim().to_owned()));
        }
    }
    Ok(())
}

fn mirror_host(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("://")?;
    let authority = rest.split('/').next()?;
    let host = authority.rsplit('@').next()?;
    host.split(':').next()
}

fn rename(from: &Path, to: &Path) -> Result<(), BaseError> {
    std::fs::rename(from, to).map_err(of_path(to))
}

fn remove(path: &Path) -> Result<(), BaseError> {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        _ => std::fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(of_path(path)(error)),
        _ => Ok(()),
    }
}

fn of_path(path: &Path) -> impl FnOnce(io::Error) -> BaseError {
    let path = path.to_owned();
    move |source| BaseError::Disk { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_with_the_mirrors_address_in_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let source = "deb http://user:secret@mirror.example:8080/debian bookworm main\n";
        check_clean(dir.path(), source).unwrap();
        std::fs::write(
            dir.path().join("log"),
            "Get:1 http://mirror.example:8080/debian\n",
        )
        .unwrap();
        let error = check_clean(dir.path(), source).unwrap_err();
        assert!(error.to_string().ends_with("/log"), "{error}");
    }

    #[test]
    fn other_packages_are_another_image() {
        let system = |packages: &[&str]| System {
            suite: "bookworm".to_owned(),
            packages: packages.iter().map(|name| (*name).to_owned()).collect(),
            at_start: true,
        };
        assert_eq!(name_of(&system(&["a", "b"])), name_of(&system(&["b", "a", "b"])));
        assert_ne!(name_of(&system(&["a"])), name_of(&system(&[])));
    }
}
