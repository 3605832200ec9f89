//! Whether the write-ahead log beside a database is that database's own.
//!
//! SQLite binds the two by their names alone: a log that a crash has left is played into whatever database has the name when it
//! is opened next, such as a backup that was put there. So each run of the log is marked, in a row of the database: with the
//! run's salts, which are in the log's header; with the mark that the database file had before; and with a mark of its own. The
//! row gets into the log first, and into the file with the next checkpoint. A log belongs to a file whose own row is the one
//! before or the one within: `docs/adr/0108-a-log-belongs-to-one-database.md`.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;
use std::{fs::File, sync::PoisonError};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::beside::{self, Salts, beside};
use super::header::Header;
use super::{locks, statements, unnoticed};

/// The mark of a file that has none.
const NONE: Mark = [0; 16];

/// How often a log that doesn't seem to belong is looked at again: another process may begin it anew at the moment, or bring
/// it into the file. Both take some ms.
const LOOKS_MAX: u32 = 10;

/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(30);

/// How often marking begins again. It does only when another process begins the log anew between two of our statements.
const MARKS_MAX: u32 = 4;

/// Random: one for each run of a log.
type Mark = [u8; 16];

/// What the row says, 56 bytes: the run's salts, the mark in the file when this was written, the mark in the row before, and
/// the run's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    salts: Salts,
    file: Mark,
    before: Mark,
    own: Mark,
}

impl Row {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let field = |at: usize| bytes.get(at..at + 16)?.try_into().ok();
        Some(Self {
            salts: bytes.get(..8)?.try_into().ok()?,
            file: field(8)?,
            before: field(24)?,
            own: field(40)?,
        })
    }

    fn bytes(&self) -> Vec<u8> {
        [&self.salts[..], &self.file, &self.before, &self.own].concat()
    }

    /// The row as a connection sees it; `None` where there is none, or no table for it yet.
    fn read(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        let tables: i64 = connection.query_row(
            "SELECT count(*) FROM sqlite_schema WHERE name = 'cluster'",
            [],
            |row| row.get(0),
        )?;
        if tables == 0 {
            return Ok(None);
        }
        let bytes: Option<Vec<u8>> = statements::log_mark(connection).optional()?;
        Ok(bytes.and_then(|bytes| Self::parse(&bytes)))
    }
}

/// Why a file beside a database can't be its own. `Display` is for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Foreign {
    /// The database is empty or missing.
    #[error("there is a -wal beside it, and it is missing or empty itself")]
    NoDatabase,
    /// The database is one that has no log, such as a backup.
    #[error("the -wal beside it is not its own: it has been copied here while that of another lay there")]
    NoLogExpected,
    /// The log goes with another state of a database.
    #[error("the -wal beside it belongs to another database, or to another copy of this one")]
    OtherRun,
    /// With the log the database is damaged.
    #[error("the -wal beside it does not fit: with it the database is damaged")]
    Damaging,
    /// A server goes on with the file that had this name before.
    #[error("another process has the -wal beside it open, for a file that has had this name before")]
    OfAnOpenFile,
    /// SQLite would play a journal back that is not of this program.
    #[error("the -journal beside it is not its own")]
    Journal,
}

/// Why a database is not opened: a stranger beside it, or a look that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    /// Something beside it isn't its own.
    #[error(
        "{0}, and SQLite would take it up all the same. Put together again what belongs together, or, if what it holds isn't \
         needed, move it away"
    )]
    Foreign(Foreign),
    /// It can't be looked at.
    #[error("what lies beside it can't be looked at")]
    File(#[from] std::io::Error),
    /// SQLite refuses.
    #[error("it can't be read together with the -wal beside it")]
    Database(#[from] rusqlite::Error),
}

/// Refuses a database beside which lies what SQLite would take up and what belongs to something else. Nothing is changed by
/// looking.
pub(super) fn check(file: &Path) -> Result<(), Unfit> {
    // SQLite follows links and looks beside what they lead to. What is missing is looked for where it would be made.
    let resolved = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let mut looks = 1;
    loop {
        let last = looks >= LOOKS_MAX;
        match look(&resolved, last) {
            Ok(None) => return Ok(()),
            Ok(Some(foreign)) if last => return Err(Unfit::Foreign(foreign)),
            Err(error) if last => return Err(error),
            Ok(Some(_)) | Err(_) => std::thread::sleep(LOOK_PAUSE),
        }
        looks += 1;
    }
}

/// `thorough`: also reads the whole database, where nothing else tells.
fn look(file: &Path, thorough: bool) -> Result<Option<Foreign>, Unfit> {
    if !beside::journal_is_ours(file)? {
        return Ok(Some(Foreign::Journal));
    }
    let held = locks::held(file)?;
    if held.index && !held.database {
        return Ok(Some(Foreign::OfAnOpenFile));
    }
    let Some(salts) = beside::salts_of_a_log_in_use(&beside(file, "-wal"))? else {
        return Ok(None);
    };
    let Some(header) = Header::of(file)? else {
        return Ok(Some(Foreign::NoDatabase));
    };
    if !header.is_in_log_mode() {
        return Ok(Some(Foreign::NoLogExpected));
    }
    let together = open_together(file)?;
    // One moment for all that is read.
    let moment = together.unchecked_transaction()?;
    let row = Row::read(&moment);
    let alone = Row::read(&open_alone(file)?);
    if let (Ok(Some(row)), Ok(alone)) = (&row, alone)
        && row.salts == salts
    {
        let mark = alone.map_or(NONE, |alone| alone.own);
        let belongs = [row.file, row.before, row.own].contains(&mark);
        return Ok((!belongs).then_some(Foreign::OtherRun));
    }
    // Not marked: an older program's, or of a server that was killed between the first write of the run and the mark.
    let pragma = |name| moment.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let identity = (pragma("application_id")?, pragma("user_version")?);
    if !header.may_become(identity) {
        return Ok(Some(Foreign::OtherRun));
    }
    if !thorough {
        // Another process may be about to mark it: looked at again before anything is read in full.
        return Ok(Some(Foreign::Damaging));
    }
    let verdict: String = moment.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    Ok((verdict != "ok").then_some(Foreign::Damaging))
}

/// The database with its log, as any other connection sees it; the log stays as it is.
fn open_together(file: &Path) -> rusqlite::Result<Connection> {
    super::connect::open_looker(file)
}

/// The database file without its log.
fn open_alone(file: &Path) -> rusqlite::Result<Connection> {
    use std::os::unix::ffi::OsStrExt as _;
    let path =
        percent_encoding::percent_encode(file.as_os_str().as_bytes(), percent_encoding::NON_ALPHANUMERIC);
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(format!("file:{path}?immutable=1"), flags)
}

/// The log of a database that is open, as far as its run is known.
pub(super) struct Log {
    file: File,
    /// The run whose mark is in it.
    marked: Mutex<Option<Salts>>,
}

impl Log {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self {
            file: unnoticed::open(path)?,
            marked: Mutex::default(),
        })
    }

    /// Whether the log has begun anew since it was marked last: one read of 8 bytes.
    pub(super) fn is_unmarked(&self) -> bool {
        let salts = beside::salts(&self.file);
        salts.is_some() && *self.marked.lock().unwrap_or_else(PoisonError::into_inner) != salts
    }

    /// Marks it, unless another process has.
    pub(super) fn mark(&self, database: &Path, connection: &Connection) -> rusqlite::Result<()> {
        for _ in 0..MARKS_MAX {
            if !self.is_unmarked() {
                break;
            }
            let transaction =
                rusqlite::Transaction::new_unchecked(connection, rusqlite::TransactionBehavior::Immediate)?;
            let Some(salts) = beside::salts(&self.file) else {
                break;
            };
            let found = Row::read(&transaction)?;
            if found.is_none_or(|found| found.salts != salts) {
                let before = found.map_or(NONE, |found| found.own);
                // What can't be read at this moment is most likely what the row says.
                let file = open_alone(database).and_then(|alone| Row::read(&alone));
                let file = file.map_or(before, |row| row.map_or(NONE, |row| row.own));
                let own = transaction.query_row("SELECT randomblob(16)", [], |row| row.get(0))?;
                let row = Row {
                    salts,
                    file,
                    before,
                    own,
                };
                statements::log_mark_set(&transaction, &row.bytes())?;
                transaction.commit()?;
            }
            // The transaction itself may have begun the log anew: then the salts are others now, and it is marked again.
            *self.marked.lock().unwrap_or_else(PoisonError::into_inner) = Some(salts);
        }
        Ok(())
    }
}
