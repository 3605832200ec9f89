//! A copy of the database file by SQLite's online backup: also while servers write, whole, and checked.
//!
//! The source is read within one transaction, so the copy is what the database was at one moment, and writers can't make
//! it begin again. The copy grows under another name beside its place and gets its own name at the very end. What a backup that
//! was killed has left is removed by the next one for the same place.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::connect::connect;
use super::header::opened;
use super::place::{self, Place, failed};
pub use super::place::{Existing, PlaceError};
use super::{ownership, schema, statements};
use crate::store::OpenError;

/// Pages copied at a time, 4 MiB: some ms, between which progress is reported.
const STEP_PAGES: std::ffi::c_int = 1_024;

/// Pause before a step that found a lock is tried again.
const LOCKED_PAUSE: Duration = Duration::from_millis(50);

/// How often a step may find a lock, 30 s in all. The source's readers are never locked out by its writers.
const LOCKED_MAX: u32 = 600;

/// How often the check of the copy looks whether it is to be given up: SQLite's steps of some 10 ns.
const CHECK_STEPS: std::ffi::c_int = 1_000_000;

/// What the copy's first name ends with.
const PARTIAL: &str = ".partial";

/// A backup to be made.
#[derive(Debug, Clone)]
pub struct BackupOrder<'a> {
    /// The database.
    pub source: &'a Path,
    /// Where the copy goes.
    pub target: &'a Path,
    /// What if there is something already.
    pub existing: Existing,
    /// Random: makes the name under which the copy grows.
    pub nonce: u64,
    /// Set when the backup is to be given up.
    pub stop: Arc<AtomicBool>,
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
    /// The copy can't go where it should.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A signal came.
    #[error("stopped by a signal: no backup was made")]
    Stopped,
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
/// [`BackupError`]; then the target holds what it did before.
pub fn backup(order: &BackupOrder<'_>, progress: impl FnMut(f64)) -> Result<BackupDone, BackupError> {
    let place = Place {
        source: order.source,
        target: order.target,
        existing: order.existing,
    };
    place::check(&place)?;
    let source = schema::open_to_look(order.source)?;
    let mut partial = Partial::make(order)?;
    partial.copy(&source, progress)?;
    partial.check()?;
    let bytes = partial.sync()?;
    partial.go_on()?;
    place::clear(&place)?;
    partial.publish()?;
    Ok(BackupDone { bytes })
}

/// The copy under its first name; removed when it does not get its own.
struct Partial<'a> {
    order: &'a BackupOrder<'a>,
    path: PathBuf,
    /// Open until the end: its lock shows other backups that the copy is not something left behind.
    copy: Connection,
}

impl<'a> Partial<'a> {
    fn make(order: &'a BackupOrder<'a>) -> Result<Self, BackupError> {
        remove_left_behind(order.target);
        let name = format!("{:016x}{PARTIAL}", order.nonce);
        let mut first = first_name_begins(order.target);
        first.push(name);
        let path = order.target.with_file_name(first);
        ownership::make_new(&path).map_err(|error| failed("making", &path, error))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        match connect(&path, flags) {
            Ok(copy) => Ok(Self { order, path, copy }),
            Err(error) => {
                remove(&path);
                Err(error.into())
            }
        }
    }

    /// Fails when the backup is to be given up.
    fn go_on(&self) -> Result<(), BackupError> {
        match self.order.stop.load(Ordering::Relaxed) {
            true => Err(BackupError::Stopped),
            false => Ok(()),
        }
    }

    fn copy(&mut self, source: &Connection, mut progress: impl FnMut(f64)) -> Result<(), BackupError> {
        // The snapshot that all steps copy begins with the first read.
        let snapshot = source.unchecked_transaction()?;
        snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        keep_in_one_file(&self.copy)?;
        let stop = Arc::clone(&self.order.stop);
        {
            let backup = Backup::new(source, &mut self.copy)?;
            let mut locked = 0;
            loop {
                if stop.load(Ordering::Relaxed) {
                    return Err(BackupError::Stopped);
                }
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
        // Again: the source's mode has come along.
        keep_in_one_file(&self.copy)?;
        statements::log_mark_forget(&self.copy)?;
        Ok(())
    }

    fn check(&mut self) -> Result<(), BackupError> {
        let stop = Arc::clone(&self.order.stop);
        self.copy
            .progress_handler(CHECK_STEPS, Some(move || stop.load(Ordering::Relaxed)))?;
        // Never ended: what has been read stays locked.
        self.copy.execute_batch("BEGIN")?;
        let verdict = self
            .copy
            .query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
        self.go_on()?;
        match verdict?.as_str() {
            "ok" => Ok(()),
            damage => Err(BackupError::Damaged(damage.to_owned())),
        }
    }

    /// Brings the copy to the disk, and returns its length.
    fn sync(&self) -> Result<u64, BackupError> {
        // Never closed: that would drop SQLite's lock on it.
        let synced = opened(&self.path).and_then(|file| {
            file.sync_all()?;
            Ok(file.metadata()?.len())
        });
        synced.map_err(|error| failed("flushing", &self.path, error).into())
    }

    /// Gives it its name, and brings that to the disk as well.
    fn publish(&self) -> Result<(), BackupError> {
        let target = self.order.target;
        let named = match self.order.existing {
            Existing::Replace => std::fs::rename(&self.path, target),
            Existing::Keep => name_anew(&self.path, target, |from, to| std::fs::hard_link(from, to)),
        };
        named.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => PlaceError::Exists(target.to_owned()),
            _ => failed("naming", target, error),
        })?;
        // After a link it still has its first name.
        remove(&self.path);
        let folder = folder_of(target);
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| failed("flushing", folder, error).into())
    }
}

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Lets a connection to the copy make no files beside it. What would undo an interrupted transaction is not needed: the copy is
/// thrown away then.
fn keep_in_one_file(copy: &Connection) -> rusqlite::Result<()> {
    copy.pragma_update_and_check(None, "journal_mode", "MEMORY", |_| Ok(()))
}

/// Gives a file a name that nothing has. Unlike a rename a link fails where something has come to be meanwhile; not every file
/// system has links, and they say so in different words.
fn name_anew(from: &Path, to: &Path, link: impl FnOnce(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    match link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) if to.symlink_metadata().is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => std::fs::rename(from, to),
    }
}

/// The beginning that the first names of all copies for a place have.
fn first_name_begins(target: &Path) -> std::ffi::OsString {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(".");
    name
}

fn folder_of(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Removes copies for this place that nobody makes any more. What can't be removed is in nobody's way.
fn remove_left_behind(target: &Path) {
    let begins = first_name_begins(target).into_encoded_bytes();
    for entry in std::fs::read_dir(folder_of(target))
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().into_encoded_bytes();
        let middle = name
            .strip_prefix(&begins[..])
            .and_then(|rest| rest.strip_suffix(PARTIAL.as_bytes()));
        let is_a_copy =
            middle.is_some_and(|middle| !middle.is_empty() && middle.iter().all(u8::is_ascii_hexdigit));
        if is_a_copy && matches!(place::is_in_use(&entry.path()), Ok(false)) {
            tracing::info!(file = %entry.path().display(), "removing what an interrupted backup has left");
            remove(&entry.path());
        }
    }
}

/// Removes a copy and what SQLite may have made beside it.
fn remove(path: &Path) {
    // After a rename it is gone, and nobody needs any of it.
    let _gone = std::fs::remove_file(path);
    let _gone = place::remove_beside(path);
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn a_file_system_without_links_takes_a_backup_all_the_same_and_replaces_nothing() {
        for errno in [Errno::EPERM, Errno::EOPNOTSUPP, Errno::ENOSYS, Errno::EMLINK] {
            let folder = tempfile::tempdir().unwrap();
            let (from, to) = (folder.path().join("from"), folder.path().join("to"));
            std::fs::write(&from, "copy").unwrap();
            name_anew(&from, &to, |_, _| Err(errno.into())).unwrap();
            assert_eq!(std::fs::read(&to).unwrap(), b"copy", "{errno}");

            std::fs::write(&from, "second").unwrap();
            let refused = name_anew(&from, &to, |_, _| Err(errno.into())).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists, "{errno}");
            assert_eq!(std::fs::read(&to).unwrap(), b"copy", "{errno}");
        }
    }
}
