//! Reaching the cluster: waiting for one that is down, choosing the datacentre, making the keyspace.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::cluster::metadata::Strategy;
use scylla::statement::unprepared::Statement;

use super::tls::explained;
use crate::store::{OpenError, OpenOptions};

/// Pause between two attempts to reach a cluster that is down.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How long one attempt to open a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Replicas of a document in each datacentre, where there are nodes enough.
const REPLICAS_WANTED: usize = 3;

/// Servers have bounds of their own for changes of the schema; this is far beyond (10 s).
const DDL_TIMEOUT: Duration = Duration::from_secs(30);

/// Something that went wrong while opening, and may go right a moment later.
pub(super) type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// Repeats `attempt` until it succeeds or the operator's patience ends.
pub(super) async fn patiently<'a, T>(
    store: &str,
    options: &OpenOptions,
    began: Instant,
    what: &str,
    mut attempt: impl FnMut() -> BoxFuture<'a, Result<T, Trouble>>,
) -> Result<T, OpenError> {
    let mut reason = None;
    loop {
        // An attempt may hang at any point, so the bound stands around each.
        let left = options.startup_wait.saturating_sub(began.elapsed());
        let error = match tokio::time::timeout(left, attempt()).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => error,
            // One that is cut off knows less than the one before it.
            Err(elapsed) => reason.take().unwrap_or_else(|| elapsed.into()),
        };
        let waited = began.elapsed();
        if waited + RETRY_PAUSE >= options.startup_wait {
            return Err(OpenError::Unreachable {
                store: store.to_owned(),
                waited_secs: waited.as_secs(),
                source: Some(error),
            });
        }
        tracing::warn!(
            store,
            waited_secs = waited.as_secs(),
            wait_max_secs = options.startup_wait.as_secs(),
            error = %tidepool_logging::chain(error.as_ref()),
            "the database is not usable yet ({what}); waiting for it",
        );
        reason = Some(error);
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Opens a session.
pub(super) async fn connect(contact_points: &[String], options: &OpenOptions) -> Result<Session, Trouble> {
    let mut builder = SessionBuilder::new()
        .known_nodes(contact_points)
        .connection_timeout(CONNECT_TIMEOUT);
    if let Some(credentials) = &options.credentials {
        builder = builder.user(&credentials.username, &credentials.password);
    }
    let tls = options.cluster_tls.as_ref();
    if let Some(tls) = tls {
        builder = builder.tls_context(Some(tls.config()));
    }
    let built = builder.build().await;
    built.map_err(|error| explained(error, tls))
}

/// The datacentre that this instance talks to: the operator's choice, or that of the first contact point.
pub(super) fn choose_datacenter(
    session: &Session,
    contact_points: &[String],
    options: &OpenOptions,
) -> Result<String, Trouble> {
    let cluster = session.get_cluster_state();
    let nodes = cluster.get_nodes_info();
    let known = |name: &str| nodes.iter().any(|node| node.datacenter.as_deref() == Some(name));
    if let Some(wanted) = &options.datacenter {
        return match known(wanted) {
            true => Ok(wanted.clone()),
            false => Err(format!("the cluster has no datacentre {wanted:?}").into()),
        };
    }
    let first = contact_points
        .iter()
        .find_map(|point| nodes.iter().find(|node| node.address.to_string() == *point))
        .or_else(|| nodes.first());
    first
        .and_then(|node| node.datacenter.clone())
        .ok_or_else(|| "the cluster's nodes don't report their datacentre".into())
}

/// Makes the keyspace if it is missing, and warns where a single machine's end would lose documents.
pub(super) async fn make_keyspace(
    session: &Session,
    keyspace: &str,
    options: &OpenOptions,
) -> Result<(), Trouble> {
    if session.get_cluster_state().get_keyspace(keyspace).is_none() {
        let mut nodes_by_datacenter: BTreeMap<String, usize> = BTreeMap::new();
        for node in session.get_cluster_state().get_nodes_info() {
            let datacenter = node
                .datacenter
                .clone()
                .ok_or("a node does not report its datacentre")?;
            *nodes_by_datacenter.entry(datacenter).or_default() += 1;
        }
        let replication: String = nodes_by_datacenter
            .iter()
            .map(|(datacenter, nodes)| {
                let replicas = match options.replication_factor {
                    Some(chosen) => u64::from(chosen),
                    None => (*nodes).min(REPLICAS_WANTED) as u64,
                };
                // A name is a text in quotes; a quote in it is doubled.
                format!(", '{}': {replicas}", datacenter.replace('\'', "''"))
            })
            .collect();
        change_schema(
            session,
            &format!(
                "CREATE KEYSPACE IF NOT EXISTS {keyspace}
                 WITH replication = {{'class': 'NetworkTopologyStrategy'{replication}}}"
            ),
        )
        .await?;
        session.refresh_metadata().await?;
    }
    warn_of_few_replicas(session, keyspace);
    Ok(())
}

fn warn_of_few_replicas(session: &Session, keyspace: &str) {
    let cluster = session.get_cluster_state();
    let single = match cluster.get_keyspace(keyspace).map(|found| &found.strategy) {
        Some(Strategy::SimpleStrategy { replication_factor }) => *replication_factor < 2,
        Some(Strategy::NetworkTopologyStrategy {
            datacenter_repfactors,
            ..
        }) => datacenter_repfactors.values().any(|factor| *factor < 2),
        _ => false,
    };
    if single {
        tracing::warn!(
            keyspace,
            "the keyspace has replication factor 1: the end of one machine makes documents unreachable or loses them"
        );
    }
}

/// Runs a statement that changes the schema, and waits until all nodes agree on it.
pub(super) async fn change_schema(session: &Session, cql: &str) -> Result<(), Trouble> {
    let mut statement = Statement::new(cql);
    statement.set_request_timeout(Some(DDL_TIMEOUT));
    session.query_unpaged(statement, ()).await?;
    session.await_schema_agreement().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_an_attempt_said_is_not_forgotten_for_one_that_is_cut_off() {
        let options = OpenOptions {
            startup_wait: RETRY_PAUSE * 2,
            ..OpenOptions::default()
        };
        let mut attempts = 0;
        let opened = patiently::<()>("cassandra://a/b", &options, Instant::now(), "a test", || {
            attempts += 1;
            if attempts == 1 {
                Box::pin(async { Err("no certificate".into()) })
            } else {
                Box::pin(std::future::pending())
            }
        });
        let Err(OpenError::Unreachable { source, .. }) = opened.await else {
            panic!("not given up");
        };
        assert_eq!(source.unwrap().to_string(), "no certificate");
        assert_eq!(attempts, 2);
    }
}
