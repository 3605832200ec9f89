//! Files for the owner's eyes alone: made with mode 0600 whatever the umask, and looked at when they were there before.

use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Read and write, for the owner.
const OWNER_ONLY: u32 = 0o600;

/// What everybody else could do.
const OTHERS: u32 = 0o077;

/// Makes an empty file if there is none. SQLite gives the files that it makes beside a database the database's mode.
pub(super) fn make(file: &Path) -> io::Result<()> {
    match make_new(file) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Makes an empty file where there must be none.
pub(super) fn make_new(file: &Path) -> io::Result<()> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(OWNER_ONLY)
        .open(file)?;
    // The umask can take rights away from the mode, also the owner's.
    made.set_permissions(Permissions::from_mode(OWNER_ONLY))
}

/// Says in the log where others than the owner may read or write a database's files. They are left so: somebody may
/// have meant it.
pub(super) fn warn_if_others_may_read(file: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut path = file.as_os_str().to_owned();
        path.push(suffix);
        let Ok(found) = std::fs::metadata(&path) else {
            continue;
        };
        let mode = found.permissions().mode() & 0o777;
        if mode & OTHERS != 0 {
            tracing::warn!(
                file = %Path::new(&path).display(),
                mode = format!("{mode:04o}"),
                "others than the owner may open this file, which holds every document: chmod 0600 closes it"
            );
        }
    }
}
