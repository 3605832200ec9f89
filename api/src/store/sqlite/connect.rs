//! Connections to a database file, as this program needs them.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::beside::{beside, salts_of_a_log_in_use};

/// Prepared statements kept per connection; there are about 25 texts in all.
const STATEMENTS_CACHED: usize = 64;

/// A connection that only reads.
pub(super) fn open_reader(file: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(
        file,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    // Not SQLITE_OPEN_READONLY: a reader may have to recover the log that a killed process left.
    prepare(&connection, Duration::from_millis(500))?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// A connection of one who only looks: a log that a killed process has left stays where it is, also when this connection is
/// the last one to be closed.
pub(super) fn open_looker(file: &Path) -> rusqlite::Result<Connection> {
    let resolved = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    // An empty log is SQLite's to remove: this connection may have made it.
    let holds_a_log = !matches!(salts_of_a_log_in_use(&beside(&resolved, "-wal")), Ok(None));
    let connection = open_reader(file)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, holds_a_log)?;
    Ok(connection)
}

/// Opens exactly this file. SQLite takes a name that begins with `file:` for a URI.
pub(super) fn connect(file: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    match file.to_string_lossy().starts_with("file:") {
        true => Connection::open_with_flags(Path::new(".").join(file), flags),
        false => Connection::open_with_flags(file, flags),
    }
}

pub(super) fn prepare(connection: &Connection, busy_wait: Duration) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    // The planner's stability guarantee: plans don't depend on the values bound. Without it every list prepares its
    // statement anew, since its LIMIT is bound, and that is an eighth of its work.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.busy_timeout(busy_wait)
}
