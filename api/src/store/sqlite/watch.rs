//! Whether the file under the store is still the one that was opened.
//!
//! SQLite works on open files. When one of them is removed, replaced or cut under it, commits go on into a file that no
//! later open will find. So the writer asks before it acknowledges a group of writes, and before a group that does not
//! follow straight on another; readiness asks too: three calls of `stat`, some microseconds beside a flush.
//!
//! What it holds is looked at as well: somebody may copy another file over it, which leaves name and inode as they were.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use super::beside::beside;
use super::header::{Header, Identity, opened};
use super::lineage::Log;
use super::unnoticed::Found;

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
    /// The same file holds something else.
    #[error("{0} holds something else than this server has written: it was overwritten")]
    Overwritten(String),
    /// It has another name, beside which another server would keep another log.
    #[error("{0} has {1} names (hard links): remove the others, or give them copies")]
    Linked(String, u64),
    /// The operating system doesn't say.
    #[error("{0} can't be looked at: {1}")]
    Unknown(String, String),
}

/// One file, as it was when it was opened.
struct Known {
    path: PathBuf,
    found: Found,
}

impl Known {
    fn look(path: PathBuf) -> std::io::Result<Self> {
        let found = Found::at(&path)?;
        Ok(Self { path, found })
    }

    fn check(&self) -> Result<Found, FileLost> {
        let name = || self.path.display().to_string();
        let found = Found::at(&self.path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => FileLost::Gone(name()),
            _ => FileLost::Unknown(name(), error.to_string()),
        })?;
        match found.is_same_file(&self.found) {
            true => Ok(found),
            false => Err(FileLost::Replaced(name())),
        }
    }
}

/// The header of one database file, over time.
struct Content {
    file: &'static File,
    format: [u8; 20],
    changes_seen: AtomicU32,
    identity: Identity,
    /// Whether the file itself has shown its identity; before its first checkpoint it has an older one, or none.
    identity_before: Mutex<Option<Identity>>,
}

impl Content {
    fn begin(known: &Known, connection: &Connection) -> std::io::Result<Self> {
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        let identity = pragma("application_id").and_then(|program| Ok((program, pragma("user_version")?)));
        let (program, store) = identity.map_err(std::io::Error::other)?;
        let identity = (program.cast_unsigned(), store.cast_unsigned());
        let file = opened(&known.path)?;
        let header = Header::read(file)?;
        Ok(Self {
            file,
            format: header.format,
            changes_seen: AtomicU32::new(header.changes),
            identity,
            identity_before: Mutex::new((header.identity != identity).then_some(header.identity)),
        })
    }

    /// Whether it can be what SQLite makes of what was there. A copy of this same database, no older than its last
    /// checkpoint, is not noticed.
    fn is_continued(&self) -> bool {
        let Ok(header) = Header::read(self.file) else {
            // Too short: its size is judged elsewhere.
            return true;
        };
        if header.format != self.format || header.changes < self.changes_seen.load(Ordering::Relaxed) {
            return false;
        }
        let mut before = self
            .identity_before
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if header.identity == self.identity {
            *before = None;
        } else if *before != Some(header.identity) {
            return false;
        }
        self.changes_seen.fetch_max(header.changes, Ordering::Relaxed);
        true
    }
}

/// The database file with its log and the log's index.
pub(super) struct FileWatch {
    database: Known,
    beside: [Known; 2],
    content: Content,
    log: Log,
    /// Where the database is, links followed.
    resolved: PathBuf,
    /// The largest size that the database file was seen with.
    bytes_seen: AtomicU64,
}

impl FileWatch {
    /// Notes the files of a database that is open and in write-ahead mode.
    pub(super) fn begin(file: &Path, connection: &Connection) -> std::io::Result<Self> {
        // SQLite follows links and puts its files beside what they lead to.
        let resolved = std::fs::canonicalize(file)?;
        let known = |suffix| Known::look(beside(&resolved, suffix));
        let database = Known::look(file.to_owned())?;
        Ok(Self {
            content: Content::begin(&database, connection)?,
            bytes_seen: AtomicU64::new(database.found.bytes),
            database,
            beside: [known("-wal")?, known("-shm")?],
            log: Log::open(&beside(&resolved, "-wal"))?,
            resolved,
        })
    }

    /// Whether all of them are where they were. `connection` is asked only when the database file has shrunk.
    pub(super) fn check(&self, connection: &Connection) -> Result<(), FileLost> {
        let bytes = self.check_names()?;
        let seen = self.bytes_seen.load(Ordering::Relaxed);
        if bytes < seen && bytes < bytes_wanted(connection).unwrap_or(seen) {
            return Err(FileLost::Cut(self.database.path.display().to_string(), bytes));
        }
        if bytes != seen {
            self.bytes_seen.store(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether the names lead to the files that are open, and the database file's header to the same database; the file's
    /// size.
    pub(super) fn check_names(&self) -> Result<u64, FileLost> {
        let found = self.database.check()?;
        if found.links > 1 {
            return Err(FileLost::Linked(
                self.database.path.display().to_string(),
                found.links,
            ));
        }
        for known in &self.beside {
            known.check()?;
        }
        // SQLite takes an empty file for an empty database.
        if found.bytes == 0 {
            return Err(FileLost::Cut(self.database.path.display().to_string(), 0));
        }
        if !self.content.is_continued() {
            return Err(FileLost::Overwritten(self.database.path.display().to_string()));
        }
        Ok(found.bytes)
    }

    /// Marks the log where it has begun anew. A log without a mark is accepted after a crash when the database is whole with it,
    /// so that a failure costs no write.
    pub(super) fn mark_log(&self, connection: &Connection) {
        if self.log.is_unmarked()
            && let Err(error) = self.log.mark(&self.resolved, connection)
        {
            tracing::debug!(%error, "the log could not be marked as this database's own; tried again after the next write");
        }
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
