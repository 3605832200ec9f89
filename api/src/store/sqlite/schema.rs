//! Opening the file and bringing its tables up to date. Migrations are append-only.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::connect::{connect, open_looker, prepare};
use super::watch::FileWatch;
use super::{disk, lineage, one_name, ownership};
use crate::store::{OpenError, OpenMode, OpenOptions, SqliteSynchronous};

/// Migrations in order; the first one makes version 1. What was released is never changed.
const MIGRATIONS: [&str; 1] = [include_str!("schema/0001_initial.sql")];

/// Marks a file as ours: "Tide" in ASCII.
const APPLICATION_ID: i32 = 0x5469_6465;

/// How long opening waits for other processes, which open or migrate the same file at the same moment. A migration of
/// the first version takes some ms; ten processes one after the other stay far below.
const OPEN_WAIT_MAX: Duration = Duration::from_secs(20);

/// How long the writer waits for another process's lock before it looks whether anybody still waits for the write: as
/// long as it does not look, writes that were taken back fill the queue.
const WRITER_BUSY_WAIT: Duration = Duration::from_millis(200);

/// A write-ahead log that grew beyond this is cut back after a checkpoint.
const WAL_BYTES_KEPT: i64 = 64 * 1024 * 1024;

/// The connection that writes, and the watch over its files; the file and its tables exist afterwards.
pub(super) fn open_writer(file: &Path, options: &OpenOptions) -> Result<(Connection, FileWatch), OpenError> {
    let refuse = |detail: &str, error: rusqlite::Error| disk_refused(file, detail, error);
    // Before anything is made: a log whose database is gone may be all that is left of it.
    check_fitness(file)?;
    match options.mode {
        OpenMode::Create => ownership::make(file)
            .map_err(|error| refused(file, "the file can't be opened or made", Some(error)))?,
        OpenMode::Change | OpenMode::Read => check_exists(file)?,
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection =
        connect(file, flags).map_err(|error| refuse("the file can't be opened or made", error))?;
    prepare(&connection, WRITER_BUSY_WAIT).map_err(|error| refuse("SQLite refused", error))?;

    let deadline = Instant::now() + OPEN_WAIT_MAX;
    until_unlocked(deadline, || check_is_ours(&connection))
        .map_err(|error| refuse("the file can't be read as a database", error))?
        .map_err(|detail| refused(file, detail, None::<rusqlite::Error>))?;
    until_unlocked(deadline, || {
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))
    })
    .map_err(|error| refuse("the write-ahead log can't be switched on", error))
    .and_then(|mode| match mode.as_str() {
        "wal" => Ok(()),
        _ => Err(refused(
            file,
            "its file system can't do a write-ahead log",
            None::<rusqlite::Error>,
        )),
    })?;
    let synchronous = match options.sqlite_synchronous {
        SqliteSynchronous::Full => "FULL",
        SqliteSynchronous::Normal => "NORMAL",
    };
    connection
        .pragma_update(None, "synchronous", synchronous)
        .and_then(|()| connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT))
        .map_err(|error| refuse("SQLite refused", error))?;

    let found = until_unlocked(deadline, || migrate(&mut connection))
        .map_err(|error| refuse("its tables can't be made or changed", error))?;
    let known = version_of(MIGRATIONS.len());
    if found > known {
        return Err(OpenError::SchemaTooNew {
            store: format!("sqlite:{}", file.display()),
            found,
            known,
        });
    }
    ownership::warn_if_others_may_read(file);
    let watch = FileWatch::begin(file, &connection)
        .map_err(|error| refused(file, "its files can't be looked at", Some(error)))?;
    // Between the opening of the file and the first look at its name somebody may have put another one there.
    watch
        .check(&connection)
        .map_err(|lost| refused(file, &lost.to_string(), None::<rusqlite::Error>))?;
    watch.mark_log(&connection);
    Ok((connection, watch))
}

/// Refuses what is not a file, a file that has several names, and one beside which lies what isn't its own.
fn check_fitness(file: &Path) -> Result<(), OpenError> {
    let detail = match std::fs::metadata(file) {
        Ok(found) if found.is_dir() => Some("it is a folder"),
        // Opening a pipe would wait for its other end.
        Ok(found) if !found.is_file() => Some("it is not a regular file"),
        _ => None,
    };
    if let Some(detail) = detail {
        return Err(refused(file, detail, None::<rusqlite::Error>));
    }
    one_name::check(file).map_err(|error| refused(file, &error.to_string(), None::<rusqlite::Error>))?;
    lineage::check(file).map_err(|unfit| {
        let detail = unfit.to_string();
        refused(file, &detail, Some(unfit))
    })
}

/// A connection for one who only looks: the file must be there and of this program's version, and stays as it is.
pub(super) fn open_to_look(file: &Path) -> Result<Connection, OpenError> {
    check_exists(file)?;
    let refuse = |detail: &str, error: rusqlite::Error| disk_refused(file, detail, error);
    check_fitness(file)?;
    let connection = open_looker(file).map_err(|error| refuse("the file can't be opened", error))?;
    let deadline = Instant::now() + OPEN_WAIT_MAX;
    until_unlocked(deadline, || check_is_ours(&connection))
        .map_err(|error| refuse("the file can't be read as a database", error))?
        .map_err(|detail| refused(file, detail, None::<rusqlite::Error>))?;
    let found = until_unlocked(deadline, || newest_migration(&connection))
        .map_err(|error| refuse("its version can't be read", error))?;
    let known = version_of(MIGRATIONS.len());
    if found > known {
        return Err(OpenError::SchemaTooNew {
            store: format!("sqlite:{}", file.display()),
            found,
            known,
        });
    }
    if found < known {
        let detail = format!(
            "its tables have version {found}, this program needs {known}; starting `tidepool-api serve` on it brings \
             them up to date"
        );
        return Err(refused(file, &detail, None::<rusqlite::Error>));
    }
    Ok(connection)
}

/// The version that the tables have; 0 if there are none.
fn newest_migration(connection: &Connection) -> rusqlite::Result<u32> {
    let tables: i64 = connection.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE name = 'schema_migrations'",
        [],
        |row| row.get(0),
    )?;
    if tables == 0 {
        return Ok(0);
    }
    let newest: Option<u32> =
        connection.query_row("SELECT max(version) FROM schema_migrations", [], |row| row.get(0))?;
    Ok(newest.unwrap_or(0))
}

fn check_exists(file: &Path) -> Result<(), OpenError> {
    match std::fs::metadata(file) {
        Ok(found) if found.is_dir() => Err(refused(file, "it is a folder", None::<rusqlite::Error>)),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(refused(file, "there is no such file", None::<rusqlite::Error>))
        }
        Err(error) => Err(refused(file, "the file can't be looked at", Some(error))),
    }
}

/// Tries again while other processes hold the locks. SQLite's own busy handler doesn't cover a change of the journal
/// mode, nor the moment in which another process recovers the log.
fn until_unlocked<T>(
    deadline: Instant,
    mut attempt: impl FnMut() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    loop {
        match attempt() {
            Err(error) if is_locked(&error) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            answer => return answer,
        }
    }
}

/// Whether another connection holds a lock that this one needs.
pub(super) fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// An empty file or one of ours; somebody else's database is left alone.
fn check_is_ours(connection: &Connection) -> rusqlite::Result<Result<(), &'static str>> {
    // In this order: another process may be making the tables. Once they are seen, so is the id beside them.
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if tables == 0 || id == APPLICATION_ID {
        return Ok(Ok(()));
    }
    Ok(Err("it is another program's database"))
}

/// Applies what is missing, in one transaction, and returns the version that the file has afterwards. A version above
/// ours is left as it is.
fn migrate(connection: &mut Connection) -> rusqlite::Result<u32> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_migrations (
             version    INTEGER NOT NULL PRIMARY KEY,
             applied_at TEXT    NOT NULL
         ) STRICT",
    )?;
    let applied = newest_migration(&transaction)?;
    for (index, migration) in MIGRATIONS.iter().enumerate() {
        let version = version_of(index + 1);
        if version <= applied {
            continue;
        }
        transaction.execute_batch(migration)?;
        transaction.execute(
            "INSERT INTO schema_migrations (version, applied_at) VALUES (?1, datetime('now'))",
            [version],
        )?;
    }
    if applied <= version_of(MIGRATIONS.len()) {
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        mark(&transaction)?;
    }
    transaction.commit()?;
    Ok(applied.max(version_of(MIGRATIONS.len())))
}

/// Marks the file as this store's own in its header, so that another store's is recognised at a glance.
fn mark(connection: &Connection) -> rusqlite::Result<()> {
    let [a, b, c, d, ..] = super::statements::cluster_secret(connection)?;
    let mark = i32::from_be_bytes([a, b, c, d]);
    let found: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match found == mark {
        true => Ok(()),
        false => connection.pragma_update(None, "user_version", mark),
    }
}

fn version_of(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// [`refused`], with what is known of the disk where that is the reason.
fn disk_refused(file: &Path, detail: &str, error: rusqlite::Error) -> OpenError {
    match disk::reason(file, &error) {
        Some(reason) => refused(file, &format!("{detail}: {reason}"), Some(error)),
        None => refused(file, detail, Some(error)),
    }
}

fn refused<E>(file: &Path, detail: &str, source: Option<E>) -> OpenError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    OpenError::Refused {
        store: format!("sqlite:{}", file.display()),
        detail: detail.to_owned(),
        source: source.map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use crate::store::sqlite::connect::open_reader;

    use super::*;

    #[test]
    fn no_value_that_is_bound_makes_a_statement_be_prepared_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tide.db");
        let (writer, _watch) = open_writer(&file, &OpenOptions::default()).unwrap();
        for connection in [writer, open_reader(&file).unwrap()] {
            let mut statement = connection
                .prepare("SELECT id FROM documents WHERE collection = ?1 AND id > ?2 ORDER BY id LIMIT ?3")
                .unwrap();
            for limit in 1..5 {
                let after = limit.to_string();
                let mut rows = statement.query((b"c", after, limit)).unwrap();
                assert!(rows.next().unwrap().is_none());
            }
            assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
        }
    }
}
