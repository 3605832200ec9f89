//! Whether the file under the store is still the one that was opened.
//!
//! SQLite works on open files. When one of them is removed, replaced or cut under it, commits go on into a file that no
//! later open will find. So the writer asks before a group of writes and again before it acknowledges the group, and
//! readiness asks too: three calls of `stat`, some microseconds beside a flush.
//!
//! The file is never opened here: closing it again would drop the locks that SQLite holds on it in this process.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;

/// What is wrong with a file under the store. `Display` is a log line's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FileLost {
    /// Nothing has this name any more.
    #[error("{0} is gone: it was removed or moved while this server had it open")]
    Gone(String),
    /// Something else has this name.
    #[error("{0} is another file than the one that this server has open: it was replaced")]
    Replaced(String),
    /// It is shorter than it was, and than it has to be.
    #[error("{0} was cut to {1} bytes while this server had it open")]
    Cut(String, u64),
    /// The operating system doesn't say.
    #[error("{0} can't be looked at: {1}")]
    Unknown(String, String),
}

/// One file, as it was when it was opened.
struct Known {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Known {
    fn look(path: PathBuf) -> std::io::Result<Self> {
        let found = std::fs::metadata(&path)?;
        Ok(Self {
            path,
            device: found.dev(),
            inode: found.ino(),
        })
    }

    fn check(&self) -> Result<Metadata, FileLost> {
        let name = || self.path.display().to_string();
        let found = std::fs::metadata(&self.path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => FileLost::Gone(name()),
            _ => FileLost::Unknown(name(), error.to_string()),
        })?;
        match (found.dev(), found.ino()) == (self.device, self.inode) {
            true => Ok(found),
            false => Err(FileLost::Replaced(name())),
        }
    }
}

/// The database file with its log and the log's index.
pub(super) struct FileWatch {
    database: Known,
    beside: [Known; 2],
    /// The largest size that the database file was seen with.
    bytes_seen: AtomicU64,
}

impl FileWatch {
    /// Notes the files of a database that is open and in write-ahead mode.
    pub(super) fn begin(file: &Path) -> std::io::Result<Self> {
        // SQLite follows links and puts its files beside what they lead to.
        let resolved = std::fs::canonicalize(file)?;
        let beside = |suffix: &str| {
            let mut path = resolved.clone().into_os_string();
            path.push(suffix);
            Known::look(path.into())
        };
        let watch = Self {
            database: Known::look(file.to_owned())?,
            beside: [beside("-wal")?, beside("-shm")?],
            bytes_seen: AtomicU64::new(0),
        };
        let bytes = std::fs::metadata(file)?.len();
        watch.bytes_seen.store(bytes, Ordering::Relaxed);
        Ok(watch)
    }

    /// Whether all of them are where they were. `connection` is asked only when the database file has shrunk.
    pub(super) fn check(&self, connection: &Connection) -> Result<(), FileLost> {
        let bytes = self.check_names()?;
        let seen = self.bytes_seen.load(Ordering::Relaxed);
        // An empty file would be asked in vain: SQLite takes it for an empty database.
        if bytes < seen && (bytes == 0 || bytes < bytes_wanted(connection).unwrap_or(seen)) {
            return Err(FileLost::Cut(self.database.path.display().to_string(), bytes));
        }
        if bytes != seen {
            self.bytes_seen.store(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether the names lead to the files that are open; the database file's size.
    pub(super) fn check_names(&self) -> Result<u64, FileLost> {
        let bytes = self.database.check()?.len();
        for known in &self.beside {
            known.check()?;
        }
        Ok(bytes)
    }
}

/// How long the database is by its own account. A file that somebody's VACUUM has made shorter is still as long as this.
fn bytes_wanted(connection: &Connection) -> Option<u64> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let bytes = pragma("page_count")
        .ok()?
        .checked_mul(pragma("page_size").ok()?)?;
    u64::try_from(bytes).ok()
}
