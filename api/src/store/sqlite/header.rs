//! What a database file says of itself, read beside SQLite.
//!
//! A file that is opened here is never closed: closing it would drop the locks that SQLite holds on it in this process.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::unnoticed;

/// The files that were opened here, by device and inode. A program opens one store, so there is one of them.
static OPENED: LazyLock<Mutex<HashMap<(u64, u64), &'static File>>> = LazyLock::new(Mutex::default);

/// The file of that name, open to be read. It stays open.
pub(super) fn opened(path: &Path) -> std::io::Result<&'static File> {
    let found = std::fs::metadata(path)?;
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    match opened.get(&(found.dev(), found.ino())) {
        Some(file) => Ok(*file),
        None => {
            let file: &'static File = Box::leak(Box::new(unnoticed::open(path)?));
            let found = file.metadata()?;
            opened.insert((found.dev(), found.ino()), file);
            Ok(file)
        }
    }
}

/// Length of the header at the beginning of a database file.
const HEADER_BYTES: usize = 100;

/// What a database file says of itself, of which nothing but the counters changes while it is in write-ahead mode
/// (<https://www.sqlite.org/fileformat.html#the_database_header>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The magic words, the size of pages, and the journal's mode.
    pub(super) format: [u8; 20],
    /// Grows when the first page changes.
    pub(super) changes: u32,
    /// Whose file it is: ours, and of which store. 0 and 0 until the first checkpoint.
    pub(super) identity: Identity,
}

/// Which program's database it is (`application_id`), and which of its databases (`user_version`).
pub(super) type Identity = (u32, u32);

impl Header {
    /// That of the file with this name; `None` if it is missing or too short to be a database.
    pub(super) fn of(file: &Path) -> std::io::Result<Option<Self>> {
        match opened(file).and_then(Self::read) {
            Ok(header) => Ok(Some(header)),
            Err(error) => match error.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::UnexpectedEof => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Whether it says that the database has a write-ahead log.
    pub(super) fn is_in_log_mode(&self) -> bool {
        matches!(self.format, [.., 2, 2])
    }

    /// Whether a log can make this identity of it: its own, or the first one of a file that has none yet.
    pub(super) fn may_become(&self, (program, store): (i32, i32)) -> bool {
        let (program, store) = (program.cast_unsigned(), store.cast_unsigned());
        [0, program].contains(&self.identity.0) && [0, store].contains(&self.identity.1)
    }

    pub(super) fn read(file: &File) -> std::io::Result<Self> {
        let mut bytes = [0; HEADER_BYTES];
        file.read_exact_at(&mut bytes, 0)?;
        let number = |at: usize| {
            let field = bytes.get(at..at + 4).and_then(|field| field.try_into().ok());
            field.map_or(0, u32::from_be_bytes)
        };
        let mut format = [0; 20];
        format.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Ok(Self {
            format,
            changes: number(24),
            identity: (number(68), number(60)),
        })
    }
}
