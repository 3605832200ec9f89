//! The place of a backup: that nothing is there which the copy would destroy, or which SQLite would play into the copy.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rusqlite::OpenFlags;

use super::beside::{SUFFIXES, beside, salts_of_a_log_in_use, suffix_of};
use super::connect::connect;
use super::{lineage, locks};

/// What to do when the backup's place is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Leave it and fail.
    Keep,
    /// Put the new one in its place.
    Replace,
}

/// Where a copy is to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The database that is copied.
    pub(super) source: &'a Path,
    /// Where the copy goes.
    pub(super) target: &'a Path,
    /// What if there is something already.
    pub(super) existing: Existing,
}

/// Why a copy can't go there. `Display` leaves the source out.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Something has the backup's name.
    #[error("{} exists: choose another name, or replace it with --force", .0.display())]
    Exists(PathBuf),
    /// The place is where a database's log or its like would be.
    #[error("{name} would be taken for a database's {suffix} file: choose another name", name = .0.display(), suffix = .1)]
    Name(PathBuf, &'static str),
    /// What is there is something else than a file.
    #[error("{} is not a regular file, and is not replaced", .0.display())]
    NotAFile(PathBuf),
    /// Somebody has the database open that would be replaced.
    #[error("{} is open in another process: stop that first", .0.display())]
    InUse(PathBuf),
    /// Something waits there for a database.
    #[error(
        "{} is beside the copy's place, and SQLite would play it into the copy: put it back beside the database that it belongs \
         to, move it away if it isn't needed, or choose another name",
        .0.display()
    )]
    Beside(PathBuf),
    /// What lies beside the database that would be replaced can't be put in order.
    #[error(
        "{} is not replaced, because of what is beside it: move it away first, together with its -wal, -shm and -journal files",
        target.display()
    )]
    Unfit {
        /// The database that would be replaced.
        target: PathBuf,
        /// What is wrong beside it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
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
}

/// Refuses a place where the copy must not go. Nothing is changed.
pub(super) fn check(place: &Place<'_>) -> Result<(), PlaceError> {
    let target = place.target;
    if let Some(suffix) = suffix_of(target) {
        return Err(PlaceError::Name(target.to_owned(), suffix));
    }
    let identity = |file: &Path| {
        std::fs::metadata(file)
            .map(|found| (found.dev(), found.ino()))
            .ok()
    };
    if identity(target).is_some_and(|found| Some(found) == identity(place.source)) {
        return Err(PlaceError::Itself(target.to_owned()));
    }
    let found = match target.symlink_metadata() {
        Ok(found) => Some(found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed("looking at", target, error)),
    };
    if found.is_some() && place.existing == Existing::Keep {
        return Err(PlaceError::Exists(target.to_owned()));
    }
    if found.as_ref().is_some_and(|found| !found.is_file()) {
        return Err(PlaceError::NotAFile(target.to_owned()));
    }
    if found.is_some() && is_in_use(target).map_err(|error| failed("looking at", target, error))? {
        return Err(PlaceError::InUse(target.to_owned()));
    }
    match (found, first_beside(target)) {
        (_, None) => Ok(()),
        (None, Some(stray)) => Err(PlaceError::Beside(stray)),
        (Some(_), Some(_)) => lineage::check(target).map_err(|unfit| PlaceError::Unfit {
            target: target.to_owned(),
            source: unfit.into(),
        }),
    }
}

/// Takes away what lies beside the database that is about to be replaced. Its log is brought into it first: at no moment is there
/// a file with a log that isn't its own, or one that lacks a part, whenever this is interrupted.
pub(super) fn clear(place: &Place<'_>) -> Result<(), PlaceError> {
    // Again: copying takes its time.
    check(place)?;
    let target = place.target;
    if first_beside(target).is_none() {
        return Ok(());
    }
    let unfit = |error: rusqlite::Error| PlaceError::Unfit {
        target: target.to_owned(),
        source: error.into(),
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let replaced = connect(target, flags).map_err(unfit)?;
    let busy = replaced.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
    if busy.map_err(unfit)? {
        return Err(PlaceError::InUse(target.to_owned()));
    }
    // As the last connection it removes the log and its index.
    replaced.close().map_err(|(_, error)| unfit(error))?;
    let log = beside(target, "-wal");
    match salts_of_a_log_in_use(&log) {
        Ok(None) => {}
        Ok(Some(_)) => return Err(PlaceError::InUse(target.to_owned())),
        Err(error) => return Err(failed("looking at", &log, error)),
    }
    remove_beside(target)
}

/// Removes what lies beside a file.
pub(super) fn remove_beside(file: &Path) -> Result<(), PlaceError> {
    for suffix in SUFFIXES {
        let path = beside(file, suffix);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("removing", &path, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The first thing that lies beside the place.
fn first_beside(target: &Path) -> Option<PathBuf> {
    let mut paths = SUFFIXES.into_iter().map(|suffix| beside(target, suffix));
    paths.find(|path| path.symlink_metadata().is_ok())
}

/// Whether another process has this database open, or the log that lies beside it.
pub(super) fn is_in_use(file: &Path) -> io::Result<bool> {
    locks::held(file).map(|held| held.database || held.index)
}

pub(super) fn failed(what: &'static str, path: &Path, source: io::Error) -> PlaceError {
    let path = path.to_owned();
    PlaceError::File { what, path, source }
}
