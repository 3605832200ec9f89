//! A copy of the database file by SQLite's online backup: also while servers write, whole, and checked.
//!
//! The source is read within one transaction, so the copy is what the database was at one moment, and writers can't make
//! it begin again. The copy grows under another name beside its place and gets its own name at the very end.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::{ownership, schema};
use crate::store::OpenError;

/// Pages copied at a time, 4 MiB: some ms, between which progress is reported.
const STEP_PAGES: std::ffi::c_int = 1_024;

/// Pause before a step that found a lock is tried again.
const LOCKED_PAUSE: Duration = Duration::from_millis(50);

/// How often a step may find a lock, 30 s in all. The source's readers are never locked out by its writers.
const LOCKED_MAX: u32 = 600;

/// What to do when the backup's place is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Leave it and fail.
    Keep,
    /// Put the new one in its place.
    Replace,
}

/// A backup to be made.
#[derive(Debug, Clone)]
pub struct BackupOrder<'a> {
    /// The database.
    pub source: &'a Path,
    /// Where the copy goes.
    pub target: &'a Path,
    /// What if there is something already.
    pub existing: Existing,
}

/// A backup that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupDone {
    /// Length of the copy.
    pub bytes: u64,
}

/// Why there is no backup. `Display` leaves the source out.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database can't be read.
    #[error("the database can't be opened")]
    Open(#[from] OpenError),
    /// Something has the backup's name.
    #[error("{} exists: choose another name, or replace it with --force", .0.display())]
    Exists(PathBuf),
    /// The backup would take the database's own place.
    #[error("{} is the database itself", .0.display())]
    Itself(PathBuf),
    /// A file operation failed.
    #[error("{what} {} failed", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
    /// SQLite failed.
    #[error("copying failed")]
    Copy(#[from] rusqlite::Error),
    /// The database stayed locked.
    #[error("the database stayed locked for {} s", (LOCKED_PAUSE * LOCKED_MAX).as_secs())]
    Locked,
    /// The copy is damaged, so the database is, too.
    #[error("the copy does not pass SQLite's integrity check ({0}): the database is damaged")]
    Damaged(String),
}

/// Makes a backup. `progress` is called with the part that is done, 0 to 1.
///
/// # Errors
/// [`BackupError`]; then the target is as it was before.
pub fn backup(order: &BackupOrder<'_>, progress: impl FnMut(f64)) -> Result<BackupDone, BackupError> {
    let identity = |file: &Path| {
        std::fs::metadata(file)
            .map(|found| (found.dev(), found.ino()))
            .ok()
    };
    if identity(order.target).is_some_and(|target| Some(target) == identity(order.source)) {
        return Err(BackupError::Itself(order.target.to_owned()));
    }
    let exists = order.target.symlink_metadata().is_ok();
    if exists && order.existing == Existing::Keep {
        return Err(BackupError::Exists(order.target.to_owned()));
    }
    let source = schema::open_to_look(order.source)?;
    let partial = Partial::make(order.target)?;
    copy(&source, &partial.path, progress)?;
    check(&partial.path)?;
    let bytes = partial.sync()?;
    partial.publish(order)?;
    Ok(BackupDone { bytes })
}

fn open_copy(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
}

fn copy(source: &Connection, target: &Path, mut progress: impl FnMut(f64)) -> Result<(), BackupError> {
    // The snapshot that all steps copy begins with the first read.
    let snapshot = source.unchecked_transaction()?;
    snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let mut copy = open_copy(target)?;
    {
        let backup = Backup::new(source, &mut copy)?;
        let mut locked = 0;
        loop {
            match backup.step(STEP_PAGES)? {
                StepResult::Done => break,
                StepResult::More => {
                    let state = backup.progress();
                    let done = f64::from(state.pagecount - state.remaining);
                    progress(done / f64::from(state.pagecount.max(1)));
                }
                _ if locked >= LOCKED_MAX => return Err(BackupError::Locked),
                _ => {
                    locked += 1;
                    std::thread::sleep(LOCKED_PAUSE);
                }
            }
        }
    }
    progress(1.0);
    // The copy is one file: without this whoever opens it to read would make a log beside it.
    copy.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))?;
    Ok(())
}

fn check(path: &Path) -> Result<(), BackupError> {
    let copy = open_copy(path)?;
    let verdict: String = copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    match verdict.as_str() {
        "ok" => Ok(()),
        _ => Err(BackupError::Damaged(verdict)),
    }
}

/// The copy under its first name; removed when it does not get its own.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn make(target: &Path) -> Result<Self, BackupError> {
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(format!(".{}.partial", std::process::id()));
        let path = target.with_file_name(name);
        ownership::make_new(&path).map_err(|source| BackupError::File {
            what: "making",
            path: path.clone(),
            source,
        })?;
        Ok(Self { path })
    }

    /// Brings the copy to the disk, and returns its length.
    fn sync(&self) -> Result<u64, BackupError> {
        let synced = File::open(&self.path).and_then(|file| {
            file.sync_all()?;
            Ok(file.metadata()?.len())
        });
        synced.map_err(|source| self.failed("flushing", &self.path, source))
    }

    /// Gives it its name, and brings that to the disk as well.
    fn publish(&self, order: &BackupOrder<'_>) -> Result<(), BackupError> {
        let named = match order.existing {
            Existing::Replace => std::fs::rename(&self.path, order.target),
            // Unlike a rename a link fails where something has come to be meanwhile. Some file systems have no links.
            Existing::Keep => match std::fs::hard_link(&self.path, order.target) {
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    std::fs::rename(&self.path, order.target)
                }
                linked => linked,
            },
        };
        named.map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => BackupError::Exists(order.target.to_owned()),
            _ => self.failed("naming", order.target, source),
        })?;
        let folder = match order.target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| self.failed("flushing", folder, source))
    }

    fn failed(&self, what: &'static str, path: &Path, source: std::io::Error) -> BackupError {
        let path = path.to_owned();
        BackupError::File { what, path, source }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After a rename it is gone; after a link this takes the first name away.
        let _gone = std::fs::remove_file(&self.path);
    }
}
