//! That a database has one name.
//!
//! SQLite keeps the log beside the name by which it was asked to open the database. Of a file with two names two servers keep two
//! logs, and each undoes what the other has brought into the file: "how to corrupt", 2.5 and 2.6
//! (<https://www.sqlite.org/howtocorrupt.html>). Symbolic links are followed by SQLite itself.

use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Why a name is not the only one. `Display` is for the operator.
#[derive(Debug, thiserror::Error)]
pub(super) enum SeveralNames {
    /// Hard links.
    #[error(
        "it has {0} names (hard links), and a server on another of them would not see this one's log: remove the others, or give \
         them copies made with `tidepool-api backup`"
    )]
    Linked(u64),
    /// A file that is mounted by itself.
    #[error(
        "it is mounted here by itself, so that its log would not be beside the file itself, and a server elsewhere would not see \
         it: mount its folder instead"
    )]
    Mounted,
    /// It can't be looked at.
    #[error("its names can't be looked at: {0}")]
    Unknown(io::Error),
}

/// Refuses a file that is reached by another name as well. One that is missing has none.
pub(super) fn check(file: &Path) -> Result<(), SeveralNames> {
    let found = match std::fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(SeveralNames::Unknown)?,
    };
    // A folder has links from those within it, and is refused elsewhere.
    if found.is_file() && found.nlink() > 1 {
        return Err(SeveralNames::Linked(found.nlink()));
    }
    let resolved = std::fs::canonicalize(file).map_err(SeveralNames::Unknown)?;
    // Elsewhere than on Linux nobody tells.
    let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    match found.is_file() && mount_points(&mounts).any(|point| point == resolved) {
        true => Err(SeveralNames::Mounted),
        false => Ok(()),
    }
}

/// The fifth field of each line, in which spaces and their like are written as octal numbers (proc_pid_mountinfo(5)).
fn mount_points(mounts: &[u8]) -> impl Iterator<Item = PathBuf> {
    let lines = mounts.split(|byte| *byte == b'\n');
    lines.filter_map(|line| {
        let escaped = line.split(|byte| *byte == b' ').nth(4)?;
        Some(std::ffi::OsString::from_vec(unescaped(escaped)).into())
    })
}

fn unescaped(mut text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    while let Some((first, rest)) = text.split_first() {
        let digits = rest.get(..3).filter(|_| *first == b'\\');
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(byte.unwrap_or(*first));
        text = match byte {
            Some(_) => rest.get(3..).unwrap_or_default(),
            None => rest,
        };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_spaces() {
        let mounts = b"36 35 98:0 /a /data/tide.db rw - ext4 /dev/sda rw\n37 35 98:0 /b /my\\040data\\134x rw - tmpfs t rw\n";
        let found: Vec<_> = mount_points(mounts).collect();
        assert_eq!(
            found,
            [PathBuf::from("/data/tide.db"), PathBuf::from("/my data\\x")]
        );
    }
}
