//! What the disk under a database is short of.

use std::path::Path;

use nix::sys::statvfs::statvfs;
use rusqlite::{ErrorCode, ffi};

/// Why SQLite could not write, where it says no more than that it could not.
pub(super) fn reason(file: &Path, error: &rusqlite::Error) -> Option<&'static str> {
    let writing = [
        ffi::SQLITE_IOERR_WRITE,
        ffi::SQLITE_IOERR_FSYNC,
        ffi::SQLITE_IOERR_DIR_FSYNC,
        ffi::SQLITE_IOERR_TRUNCATE,
        ffi::SQLITE_IOERR_SHMOPEN,
        ffi::SQLITE_IOERR_SHMSIZE,
        ffi::SQLITE_IOERR_SHMMAP,
    ];
    let failure = error.sqlite_error()?;
    let is_full = failure.code == ErrorCode::DiskFull;
    if !is_full && !writing.contains(&failure.extended_code) {
        return None;
    }
    Some(match is_full || has_no_room(file) {
        true => "there is no room left on its disk",
        false => {
            "a file can't be written: its disk may be full or failing, or a quota or the limit of file sizes is reached"
        }
    })
}

/// Whether the file system has nothing left for this process; of what can't be asked that is not known.
fn has_no_room(file: &Path) -> bool {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    statvfs(folder).is_ok_and(|found| {
        found.blocks_available() == 0 || (found.files() > 0 && found.files_available() == 0)
    })
}
