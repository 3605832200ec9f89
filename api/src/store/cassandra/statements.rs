//! The CQL: every statement, prepared once, with what may happen to it on its way.

use std::sync::Arc;
use std::time::Duration;

use scylla::client::execution_profile::{ExecutionProfile, ExecutionProfileHandle};
use scylla::client::session::Session;
use scylla::errors::PrepareError;
use scylla::policies::load_balancing::{DefaultPolicy, LoadBalancingPolicy};
use scylla::policies::retry::{DefaultRetryPolicy, FallthroughRetryPolicy};
use scylla::policies::speculative_execution::SimpleSpeculativeExecutionPolicy;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency};

/// How long one attempt may take. The servers' own bounds are 2 s for a write and 1.8 s for a contended LWT.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// A read that has no answer after this is sent to a second replica as well. Far above a usual read (1 ms), so that it
/// adds hardly any load, and far below what a client notices.
const SPECULATE_AFTER: Duration = Duration::from_millis(100);

/// How long the marker of a deleted document or a dropped collection is kept: 10 days. As long as it lives, a version
/// that follows is greater, whatever the clocks say; after that the nonce alone keeps versions from recurring.
pub(super) const MARKER_SECS: u32 = 864_000;

/// What may happen to a statement on its way.
pub(super) struct Profiles {
    /// Idempotent reads: retried, and sent to a second replica when the first one is slow.
    pub(super) read: ExecutionProfileHandle,
    /// Idempotent writes, which carry their timestamps: retried.
    pub(super) hint: ExecutionProfileHandle,
    /// Lightweight transactions: sent once. See `cas` for the reason.
    pub(super) lwt: ExecutionProfileHandle,
    /// Reads that take part in the transactions' order.
    pub(super) serial_read: ExecutionProfileHandle,
}

impl Profiles {
    /// All of them stay within one datacentre.
    pub(super) fn new(datacenter: &str) -> Self {
        let balancing: Arc<dyn LoadBalancingPolicy> = DefaultPolicy::builder()
            .prefer_datacenter(datacenter.to_owned())
            .token_aware(true)
            .permit_dc_failover(false)
            .build();
        let base = ExecutionProfile::builder()
            .load_balancing_policy(balancing)
            .request_timeout(Some(REQUEST_TIMEOUT))
            .consistency(Consistency::LocalQuorum)
            .serial_consistency(Some(SerialConsistency::LocalSerial))
            .speculative_execution_policy(None)
            .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
            .build();
        let retried = base
            .to_builder()
            .retry_policy(Arc::new(DefaultRetryPolicy::new()))
            .build();
        let speculation = SimpleSpeculativeExecutionPolicy {
            max_retry_count: 1,
            retry_interval: SPECULATE_AFTER,
        };
        Self {
            read: retried
                .to_builder()
                .speculative_execution_policy(Some(Arc::new(speculation)))
                .build()
                .into_handle(),
            hint: retried.into_handle(),
            serial_read: base
                .to_builder()
                .consistency(Consistency::LocalSerial)
                .build()
                .into_handle(),
            lwt: base.into_handle(),
        }
    }
}

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident: $profile:ident, $cql:expr;)*) => {
        /// All prepared statements.
        pub(super) struct Statements {
            $($(#[$doc])* pub(super) $name: PreparedStatement,)*
        }

        impl Statements {
            /// Prepares them for the tables of a keyspace.
            pub(super) async fn prepare(
                session: &Session,
                keyspace: &str,
                profiles: &Profiles,
            ) -> Result<Self, PrepareError> {
                Ok(Self {
                    $($name: prepare(session, &in_keyspace(&$cql, keyspace), Kind::$profile, profiles).await?,)*
                })
            }
        }
    };
}

/// What stands for the keyspace in the statements. They name their tables in full: a prepared statement that leans on
/// `USE` is ambiguous, and Cassandra warns of it at each start.
const KEYSPACE: &str = "KEYSPACE.";

/// A statement of this program for the tables of a keyspace.
pub(super) fn in_keyspace(cql: &str, keyspace: &str) -> String {
    cql.replace(KEYSPACE, &format!("{keyspace}."))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Hint,
    Lwt,
    SerialRead,
}

async fn prepare(
    session: &Session,
    cql: &str,
    kind: Kind,
    profiles: &Profiles,
) -> Result<PreparedStatement, PrepareError> {
    let mut statement = session.prepare(cql).await?;
    let profile = match kind {
        Kind::Read => &profiles.read,
        Kind::Hint => &profiles.hint,
        Kind::Lwt => &profiles.lwt,
        Kind::SerialRead => &profiles.serial_read,
    };
    statement.set_execution_profile_handle(Some(profile.clone()));
    statement.set_is_idempotent(matches!(kind, Kind::Read | Kind::Hint));
    // The columns of these answers never change while the program runs: they need not be sent each time.
    statement.set_use_cached_result_metadata(matches!(kind, Kind::Read | Kind::SerialRead));
    Ok(statement)
}

statements! {
    ready: Read, "SELECT name FROM KEYSPACE.cluster WHERE name = 'secret'";
    secret_read: SerialRead, "SELECT value FROM KEYSPACE.cluster WHERE name = 'secret'";
    secret_make: Lwt, "INSERT INTO KEYSPACE.cluster (name, value) VALUES ('secret', ?) IF NOT EXISTS";

    closed_read: SerialRead, "SELECT name FROM KEYSPACE.cluster WHERE name = 'closed'";
    closed_make: Lwt, "INSERT INTO KEYSPACE.cluster (name, value) VALUES ('closed', ?) IF NOT EXISTS";
    closed_drop: Lwt, "DELETE FROM KEYSPACE.cluster WHERE name = 'closed' IF EXISTS";

    collection_fetch: Read,
        "SELECT id, dropped, TTL(dropped), created_at, updated_at, version, previous FROM KEYSPACE.collections WHERE space = ? AND name = ?";
    collection_chain: SerialRead, "SELECT version, previous FROM KEYSPACE.collections WHERE space = ? AND name = ?";
    collection_list: Read,
        "SELECT name, id, created_at, updated_at, version FROM KEYSPACE.collections WHERE space = ? AND name > ? LIMIT ?";
    collection_make: Lwt,
        "UPDATE KEYSPACE.collections SET id = ?, dropped = null, created_at = ?, updated_at = ?, version = ?, previous = ?
         WHERE space = ? AND name = ? IF version = ?";
    collection_change: Lwt,
        "UPDATE KEYSPACE.collections SET updated_at = ?, version = ?, previous = ? WHERE space = ? AND name = ? IF version = ?";
    collection_drop: Lwt, format!(
        "UPDATE KEYSPACE.collections USING TTL {MARKER_SECS} SET id = null, dropped = ?, created_at = null, updated_at = null,
         version = ?, previous = ? WHERE space = ? AND name = ? IF version = ?");

    dropped_add: Hint, "INSERT INTO KEYSPACE.dropped_collections (space, id, name) VALUES (?, ?, ?)";

    dropped_list: Read, "SELECT id, name, WRITETIME(name) FROM KEYSPACE.dropped_collections WHERE space = ?";
    dropped_remove: Hint, "DELETE FROM KEYSPACE.dropped_collections WHERE space = ? AND id = ?";
    document_erase: Hint, "DELETE FROM KEYSPACE.documents WHERE collection = ? AND id = ?";
    list_erase: Hint, "DELETE FROM KEYSPACE.document_list WHERE collection = ? AND level = ? AND bucket = ?";
    levels_erase: Hint, "DELETE FROM KEYSPACE.document_list_levels WHERE collection = ?";

    document_fetch: Read,
        "SELECT version, created_at, updated_at, data FROM KEYSPACE.documents WHERE collection = ? AND id = ?";
    documents_fetch: Read,
        "SELECT id, version, created_at, updated_at, data FROM KEYSPACE.documents WHERE collection = ? AND id IN ?";
    document_meta: Read,
        "SELECT version, previous, level, created_at, updated_at FROM KEYSPACE.documents WHERE collection = ? AND id = ?";
    document_whole: Read,
        "SELECT version, created_at, updated_at, data, previous FROM KEYSPACE.documents WHERE collection = ? AND id = ?";
    document_chain: SerialRead, "SELECT version, previous FROM KEYSPACE.documents WHERE collection = ? AND id = ?";
    document_make: Lwt,
        "UPDATE KEYSPACE.documents SET version = ?, previous = ?, level = ?, created_at = ?, updated_at = ?, data = ?
         WHERE collection = ? AND id = ? IF version = ?";
    document_change: Lwt,
        "UPDATE KEYSPACE.documents SET version = ?, previous = ?, updated_at = ?, data = ?
         WHERE collection = ? AND id = ? IF version = ?";
    document_drop: Lwt, format!(
        "UPDATE KEYSPACE.documents USING TTL {MARKER_SECS} SET version = ?, previous = ?, level = null, created_at = null,
         updated_at = null, data = null WHERE collection = ? AND id = ? IF version = ?");

    list_add: Hint,
        "INSERT INTO KEYSPACE.document_list (collection, level, bucket, hash, id, version) VALUES (?, ?, ?, ?, ?, ?)
         USING TIMESTAMP ?";
    list_remove: Hint,
        "DELETE FROM KEYSPACE.document_list USING TIMESTAMP ?
         WHERE collection = ? AND level = ? AND bucket = ? AND hash = ? AND id = ?";
    list_page: Read,
        "SELECT hash, id, WRITETIME(version) FROM KEYSPACE.document_list
         WHERE collection = ? AND level = ? AND bucket = ? AND (hash, id) > (?, ?) AND (hash) <= (?) LIMIT ?";
    list_sample: Read,
        "SELECT hash FROM KEYSPACE.document_list WHERE collection = ? AND level = ? AND bucket = ? LIMIT ?";
    levels_read: Read, "SELECT level FROM KEYSPACE.document_list_levels WHERE collection = ?";
    level_add: Hint, "INSERT INTO KEYSPACE.document_list_levels (collection, level) VALUES (?, ?)";

    key_make: Lwt,
        "INSERT INTO KEYSPACE.api_keys (space, name, hash, scopes, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)
         IF NOT EXISTS";
    key_read: SerialRead, "SELECT hash FROM KEYSPACE.api_keys WHERE space = ? AND name = ?";
    key_list: Read, "SELECT name, hash, scopes, created_at, expires_at FROM KEYSPACE.api_keys WHERE space = ?";
    key_drop: Lwt, "DELETE FROM KEYSPACE.api_keys WHERE space = ? AND name = ? IF hash = ?";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A statement that leans on `USE` makes Cassandra warn at each start.
    #[test]
    fn every_statement_names_its_table_in_full() {
        let (_, texts) = include_str!("statements.rs")
            .split_once("statements! {\n")
            .unwrap();
        let texts = texts.split_once("#[cfg(test)]").unwrap().0;
        let mut tables = 0;
        for word in ["FROM ", "INTO ", "UPDATE "] {
            for (at, _) in texts.match_indices(word) {
                let table = texts.get(at + word.len()..).unwrap();
                assert!(table.starts_with(KEYSPACE), "{}", table.lines().next().unwrap());
                tables += 1;
            }
        }
        assert!(tables > 30, "{tables}");
        assert_eq!(
            in_keyspace("SELECT a FROM KEYSPACE.b", "tide"),
            "SELECT a FROM tide.b"
        );
    }
}
