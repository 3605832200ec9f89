//! Whether the file under the store is still the one that was opened.
//!
//! SQLite works on open files. When one of them is removed, replaced or cut under it, commits go on into a file that no
//! later open will find. So the writer asks before a group of writes and again before it acknowledges the group, and
//! readiness asks too: three calls of `stat`, some microseconds beside a flush.
//!
//! What it holds is looked at as well: somebody may copy another file over it, which leaves name and inode as they were.
//!
//! A file that is opened here is never closed: closing it would drop the locks that SQLite holds on it in this process.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

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
    /// The same file holds something else.
    #[error("{0} holds something else than this server has written: it was overwritten")]
    Overwritten(String),
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

/// The files that were opened here, by device and inode. A program opens one store, so there is one of them.
static OPENED: LazyLock<Mutex<HashMap<(u64, u64), &'static File>>> = LazyLock::new(Mutex::default);

/// Length of the header at the beginning of a database file.
const HEADER_BYTES: usize = 100;

/// What a database file says of itself, of which nothing but the counters changes while it is in write-ahead mode
/// (<https://www.sqlite.org/fileformat.html#the_database_header>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    /// The magic words, the size of pages, and the journal's mode.
    format: [u8; 20],
    /// Grows when the first page changes.
    changes: u32,
    /// Whose file it is: ours, and of which store. 0 and 0 until the first checkpoint.
    identity: Identity,
}

/// Which program's database it is (`application_id`), and which of its databases (`user_version`).
type Identity = (u32, u32);

impl Header {
    fn read(file: &File) -> std::io::Result<Self> {
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
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (known.device, known.inode);
        let file = match opened.get(&key) {
            Some(file) => *file,
            None => {
                let file: &'static File = Box::leak(Box::new(File::open(&known.path)?));
                opened.insert(key, file);
                file
            }
        };
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
    /// The largest size that the database file was seen with.
    bytes_seen: AtomicU64,
}

impl FileWatch {
    /// Notes the files of a database that is open and in write-ahead mode.
    pub(super) fn begin(file: &Path, connection: &Connection) -> std::io::Result<Self> {
        // SQLite follows links and puts its files beside what they lead to.
        let resolved = std::fs::canonicalize(file)?;
        let beside = |suffix: &str| {
            let mut path = resolved.clone().into_os_string();
            path.push(suffix);
            Known::look(path.into())
        };
        let database = Known::look(file.to_owned())?;
        let watch = Self {
            content: Content::begin(&database, connection)?,
            database,
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

    /// Whether the names lead to the files that are open, and the database file's header to the same database; the file's
    /// size.
    pub(super) fn check_names(&self) -> Result<u64, FileLost> {
        let bytes = self.database.check()?.len();
        for known in &self.beside {
            known.check()?;
        }
        if !self.content.is_continued() {
            return Err(FileLost::Overwritten(self.database.path.display().to_string()));
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
