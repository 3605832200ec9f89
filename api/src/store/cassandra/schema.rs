//! Migrations: `api/schema/NNNN_name.cql`, append-only, applied in order by one instance at a time.
//!
//! Changes of the schema must not run concurrently (Cassandra gives a table that two nodes make at once two identities),
//! so whoever applies them holds a lease, a row that expires. The lease's own table is made without a lock: its
//! identity is written into the statement, so however many instances make it, it is the same table.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use scylla::client::session::Session;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::cas::{LwtError, execute_lwt, first_row};
use super::connect::{Trouble, change_schema, patiently};
use super::statements::in_keyspace;
use crate::store::{OpenError, OpenOptions};

/// Migrations in order; the first one makes version 1. What was released is never changed.
const MIGRATIONS: [&str; 1] = [include_str!("../../../schema/0001_initial.cql")];

/// How long the lease lives without being renewed. It is renewed before each statement; one takes a second or two,
/// and at most 30 s.
const LEASE_SECS: u32 = 60;

/// How often an instance that waits for the lease looks again. By a plain read: transactions of many who wait would
/// push back the one who works.
const LEASE_POLL: Duration = Duration::from_millis(250);

/// How often a transaction of the lease is repeated whose answer was lost. It does no harm: it only counts for the
/// holder that it names.
const LEASE_ATTEMPTS_MAX: u32 = 3;

/// Brings the keyspace's tables up to date.
pub(super) async fn migrate(
    session: &Session,
    store: &str,
    keyspace: &str,
    options: &OpenOptions,
    began: Instant,
) -> Result<(), OpenError> {
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    let found = patiently(store, options, began, "its tables are being made", || {
        attempt(session, keyspace).boxed()
    })
    .await?;
    match found > known {
        true => Err(OpenError::SchemaTooNew {
            store: store.to_owned(),
            found,
            known,
        }),
        false => Ok(()),
    }
}

/// Looks whether the keyspace has the tables of this program's version, and makes none.
pub(super) async fn check(
    session: &Session,
    store: &str,
    keyspace: &str,
    options: &OpenOptions,
    began: Instant,
) -> Result<(), OpenError> {
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    let found = patiently(store, options, began, "its version is being read", || {
        async {
            match has_ledger(session, keyspace) {
                true => Ledger::prepare(session, keyspace).await?.newest(session).await,
                false => Ok(0),
            }
        }
        .boxed()
    })
    .await?;
    if found > known {
        return Err(OpenError::SchemaTooNew {
            store: store.to_owned(),
            found,
            known,
        });
    }
    if found < known {
        return Err(OpenError::Refused {
            store: store.to_owned(),
            detail: format!(
                "its tables have version {found}, this program needs {known}; starting `tidepool-api serve` on it \
                 brings them up to date"
            ),
            source: None,
        });
    }
    Ok(())
}

/// Whether the tables are there that say which migrations were applied.
fn has_ledger(session: &Session, keyspace: &str) -> bool {
    let cluster = session.get_cluster_state();
    cluster.get_keyspace(keyspace).is_some_and(|found| {
        ["schema_lease", "schema_migrations"]
            .iter()
            .all(|name| found.tables.contains_key(*name))
    })
}

/// The version that the keyspace has afterwards.
#[expect(
    clippy::disallowed_methods,
    reason = "the holder of a lease must be unique among all instances"
)]
async fn attempt(session: &Session, keyspace: &str) -> Result<u32, Trouble> {
    let wanted = u32::try_from(MIGRATIONS.len())?;
    if !has_ledger(session, keyspace) {
        for (table, columns) in [
            ("schema_lease", "name text PRIMARY KEY, holder uuid"),
            (
                "schema_migrations",
                "space text, version int, applied_at timestamp, PRIMARY KEY ((space), version)",
            ),
        ] {
            let id = table_id(keyspace, table);
            change_schema(
                session,
                &format!("CREATE TABLE IF NOT EXISTS {keyspace}.{table} ({columns}) WITH ID = {id}"),
            )
            .await?;
        }
        session.refresh_metadata().await?;
    }
    let ledger = Ledger::prepare(session, keyspace).await?;
    let found = ledger.newest(session).await?;
    if found >= wanted {
        return Ok(found);
    }

    let holder = Uuid::new_v4();
    loop {
        if ledger.lease_is_free(session).await? && ledger.take_lease(session, holder).await? {
            break;
        }
        tokio::time::sleep(LEASE_POLL).await;
        let found = ledger.newest(session).await?;
        if found >= wanted {
            return Ok(found);
        }
    }
    let done = apply_missing(session, keyspace, &ledger, holder).await;
    // Also after an error, so that the next one need not wait for the lease to expire.
    let given_back = ledger.give_lease_back(session, holder).await;
    done?;
    given_back?;
    ledger.newest(session).await
}

async fn apply_missing(
    session: &Session,
    keyspace: &str,
    ledger: &Ledger,
    holder: Uuid,
) -> Result<(), Trouble> {
    // Asked again under the lease: somebody may have been at work while this one waited.
    let applied = ledger.newest(session).await?;
    for (version, migration) in (1..).zip(MIGRATIONS) {
        if version <= applied {
            continue;
        }
        tracing::info!(version, "applying a migration of the schema");
        for statement in statements_of(migration, keyspace) {
            ledger.renew_lease(session, holder).await?;
            change_schema(session, &statement).await?;
        }
        session
            .execute_unpaged(&ledger.record, (SPACE, i32::try_from(version)?))
            .await?;
    }
    Ok(())
}

const SPACE: &str = "default";
const LEASE: &str = "migrations";

/// The tables that the lease and the applied versions stand in.
struct Ledger {
    holder: PreparedStatement,
    newest: PreparedStatement,
    record: PreparedStatement,
    take: PreparedStatement,
    renew: PreparedStatement,
    give_back: PreparedStatement,
}

impl Ledger {
    async fn prepare(session: &Session, keyspace: &str) -> Result<Self, Trouble> {
        let ready = async |cql: &str| ready(session, &in_keyspace(cql, keyspace)).await;
        Ok(Self {
            holder: ready("SELECT holder FROM KEYSPACE.schema_lease WHERE name = ?").await?,
            newest: ready("SELECT max(version) FROM KEYSPACE.schema_migrations WHERE space = ?").await?,
            record: ready(
                "INSERT INTO KEYSPACE.schema_migrations (space, version, applied_at) VALUES (?, ?, toTimestamp(now()))",
            )
            .await?,
            take: ready(&format!(
                "UPDATE KEYSPACE.schema_lease USING TTL {LEASE_SECS} SET holder = ? WHERE name = ? IF holder = null"
            ))
            .await?,
            renew: ready(&format!(
                "UPDATE KEYSPACE.schema_lease USING TTL {LEASE_SECS} SET holder = ? WHERE name = ? IF holder = ?"
            ))
            .await?,
            give_back: ready("UPDATE KEYSPACE.schema_lease SET holder = null WHERE name = ? IF holder = ?").await?,
        })
    }

    async fn newest(&self, session: &Session) -> Result<u32, Trouble> {
        let answer = session.execute_unpaged(&self.newest, (SPACE,)).await?;
        let row = first_row::<(Option<i32>,)>(answer).map_err(|failure| failure.source)?;
        let version = row.and_then(|(version,)| version).unwrap_or(0);
        Ok(u32::try_from(version)?)
    }

    async fn lease_is_free(&self, session: &Session) -> Result<bool, Trouble> {
        let answer = session.execute_unpaged(&self.holder, (LEASE,)).await?;
        let row = first_row::<(Option<Uuid>,)>(answer).map_err(|failure| failure.source)?;
        Ok(row.is_none_or(|(holder,)| holder.is_none()))
    }

    async fn take_lease(&self, session: &Session, holder: Uuid) -> Result<bool, Trouble> {
        match execute_lwt(session, &self.take, (holder, LEASE)).await {
            Ok(taken) => Ok(taken),
            // It may be ours; renewing it shows whether it is.
            Err(LwtError::Lost(_)) => self.hold_lease(session, holder).await,
            Err(LwtError::NotSent(error)) => Err(error.into()),
        }
    }

    async fn hold_lease(&self, session: &Session, holder: Uuid) -> Result<bool, Trouble> {
        for _ in 1..LEASE_ATTEMPTS_MAX {
            if let Ok(held) = execute_lwt(session, &self.renew, (holder, LEASE, holder)).await {
                return Ok(held);
            }
        }
        match execute_lwt(session, &self.renew, (holder, LEASE, holder)).await {
            Ok(held) => Ok(held),
            Err(LwtError::Lost(error) | LwtError::NotSent(error)) => Err(error.into()),
        }
    }

    async fn renew_lease(&self, session: &Session, holder: Uuid) -> Result<(), Trouble> {
        match self.hold_lease(session, holder).await? {
            true => Ok(()),
            false => Err("the lease on migrating the schema was lost to another instance".into()),
        }
    }

    async fn give_lease_back(&self, session: &Session, holder: Uuid) -> Result<(), Trouble> {
        match execute_lwt(session, &self.give_back, (LEASE, holder)).await {
            Ok(_) => Ok(()),
            Err(LwtError::Lost(error) | LwtError::NotSent(error)) => Err(error.into()),
        }
    }
}

async fn ready(session: &Session, cql: &str) -> Result<PreparedStatement, Trouble> {
    let mut statement = session.prepare(cql).await?;
    statement.set_consistency(Consistency::LocalQuorum);
    statement.set_serial_consistency(Some(SerialConsistency::LocalSerial));
    Ok(statement)
}

/// The statements of a file, for the tables of a keyspace: each ends with a semicolon at the end of a line; lines that
/// begin with `--` are comments.
fn statements_of(migration: &str, keyspace: &str) -> Vec<String> {
    // What was released is never changed, and it names its tables alone.
    const TABLE: &str = "TABLE IF NOT EXISTS ";
    let code: String = migration
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .flat_map(|line| [line, "\n"])
        .collect();
    code.split(";\n")
        .map(|statement| {
            statement
                .trim()
                .replacen(TABLE, &format!("{TABLE}{keyspace}."), 1)
        })
        .filter(|statement| !statement.is_empty())
        .collect()
}

/// The same for every instance, another for every keyspace and table. Shaped as a UUID of version 1, which is what
/// Cassandra gives its tables.
fn table_id(keyspace: &str, table: &str) -> Uuid {
    let digest = Sha256::digest(format!("tidepool {keyspace}.{table}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(digest.get(..16).unwrap_or(&[0; 16]));
    uuid::Builder::from_bytes(bytes)
        .with_version(uuid::Version::Mac)
        .with_variant(uuid::Variant::RFC4122)
        .into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_every_migration_into_statements_that_can_be_repeated() {
        for migration in MIGRATIONS {
            let statements = statements_of(migration, "tide");
            assert!(!statements.is_empty());
            for statement in statements {
                assert!(statement.contains("IF NOT EXISTS tide."), "{statement}");
                assert!(!statement.contains("--"), "{statement}");
            }
        }
    }

    #[test]
    fn a_table_id_depends_on_keyspace_and_table_alone() {
        assert_eq!(table_id("a", "t"), table_id("a", "t"));
        assert_ne!(table_id("a", "t"), table_id("b", "t"));
        assert_ne!(table_id("a", "t"), table_id("a", "u"));
    }
}
