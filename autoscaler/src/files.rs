//! Files of the state directory: readable by their owner alone, replaced whole, and kept aside when they are damaged.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tidepool_autoscaler_core::observe::UnixMillis;

/// State says who may be destroyed and when; nobody but the daemon's user needs it.
const PRIVATE: u32 = 0o600;
/// Damaged files of one second at most: a file is damaged once a start.
const ASIDE_MAX: usize = 100;

/// How to make a file that its owner alone can read.
pub fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(PRIVATE);
    options
}

/// Writes beside the file and renames, so that a crash leaves the old one or the new one, never half of either.
pub fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    // One that a crash left may have been made with another mode.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = private().write(true).create_new(true).open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// A free name beside a damaged file, such as `api.memory.json.damaged-20261129T102403Z`.
pub fn aside(path: &Path, now: UnixMillis) -> io::Result<PathBuf> {
    let at = jiff::Timestamp::from_millisecond(now.0).unwrap_or_default();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let first = format!("{name}.damaged-{}", at.strftime("%Y%m%dT%H%M%SZ"));
    let names = std::iter::once(first.clone()).chain((2..=ASIDE_MAX).map(|n| format!("{first}-{n}")));
    names
        .map(|name| path.with_file_name(name))
        .find(|path| fs::symlink_metadata(path).is_err())
        .ok_or_else(|| io::Error::from(io::ErrorKind::AlreadyExists))
}

/// Puts a file that can't be used out of the way, whatever it is, and says where it is now.
pub fn put_aside(path: &Path, now: UnixMillis) -> io::Result<PathBuf> {
    let aside = aside(path, now)?;
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// Gives a file that is about to be replaced a second name, so that it is never without its first, and says which.
pub fn link_aside(path: &Path, now: UnixMillis) -> io::Result<PathBuf> {
    let aside = aside(path, now)?;
    if fs::hard_link(path, &aside).is_ok() {
        fs::set_permissions(&aside, Permissions::from_mode(PRIVATE))?;
        return Ok(aside);
    }
    // Not every file system has links.
    let mut file = tidepool_listener::open_regular(path, OpenOptions::new().read(true))?;
    let mut copy = private().write(true).create_new(true).open(&aside)?;
    io::copy(&mut file, &mut copy)?;
    copy.sync_all()?;
    Ok(aside)
}
