//! Whether another process has a database open, by the locks that SQLite holds as long.

use std::io;
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::beside::beside;
use super::header::opened;

/// A range of bytes in a file.
type Bytes = (libc::off_t, libc::off_t);

/// The bytes that SQLite locks in a database file that it has open (`os.h`, `PENDING_BYTE` and what follows).
const DATABASE: Bytes = (0x4000_0000, 512);

/// Those in the index of a log (`os_unix.c`, `UNIX_SHM_BASE` and what follows).
const INDEX: Bytes = (120, 9);

/// Who has what open, of other processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    /// The database file.
    pub(super) database: bool,
    /// The index of the log beside it: with the log, whichever database it is for.
    pub(super) index: bool,
}

/// What other processes hold now. A connection takes the database first and gives it back last, so that here too much of it is
/// seen rather than too little.
pub(super) fn held(file: &Path) -> io::Result<Held> {
    let index = is_locked(&beside(file, "-shm"), INDEX)?;
    let database = is_locked(file, DATABASE)?;
    Ok(Held { database, index })
}

fn is_locked(path: &Path, (start, length): Bytes) -> io::Result<bool> {
    let file = match opened(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let narrow = |number: libc::c_int| libc::c_short::try_from(number).unwrap_or_default();
    let mut lock = libc::flock {
        l_type: narrow(libc::F_WRLCK),
        l_whence: narrow(libc::SEEK_SET),
        l_start: start,
        l_len: length,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_GETLK(&mut lock))?;
    Ok(lock.l_type != narrow(libc::F_UNLCK))
}
