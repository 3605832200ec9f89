//! Looks at the world for one tick: the provider's list, each member's own word, and every pool's signals in one reading.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use tidepool_autoscaler_core::observe::{Member, Observation, Power, Readiness, SignalReading, UnixMillis};

use crate::config::SignalConfig;
use crate::metrics::{MetricSource, SignalQuery};
use crate::probe::MemberProbe;
use crate::provider::{Provider, ProviderError};
use tidepool_autoscaler_core::observe::PoolName;

/// Members asked at once: with 2 s a member and 64 at once, 1,000 members that don't answer take 32 s.
const PROBES_MAX: usize = 64;

/// A pool's members, with their own word on readiness, and who says that it is drained.
pub async fn members(
    pool: &PoolName,
    ops_port: u16,
    provider: &dyn Provider,
    probe: &Arc<dyn MemberProbe>,
) -> Result<(Vec<Member>, BTreeSet<tidepool_autoscaler_core::observe::MemberId>), ProviderError> {
    let listed = provider.members_list(pool).await?;
    let asked = listed.into_iter().map(|mut member| async move {
        let mut drained = false;
        match (member.power, member.address) {
            (Power::Running, Some(address)) if member.draining => {
                // Its readiness says nothing more: a member that drains is not ready by its own will.
                drained = probe.drained(address, ops_port).await;
                member.readiness = Readiness::NotReady;
            }
            (Power::Running, Some(address)) => member.readiness = probe.readiness(address, ops_port).await,
            (Power::Running | Power::Creating, _) => member.readiness = Readiness::Unknown,
            (Power::Off, _) => member.readiness = Readiness::NotReady,
        }
        (member, drained)
    });
    let asked: Vec<(Member, bool)> = stream::iter(asked).buffer_unordered(PROBES_MAX).collect().await;
    let drained = asked
        .iter()
        .filter(|(_, drained)| *drained)
        .map(|(member, _)| member.id.clone())
        .collect();
    let mut members: Vec<Member> = asked.into_iter().map(|(member, _)| member).collect();
    members.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    Ok((members, drained))
}

/// What is to be read for a pool with these members: only of those that serve.
pub fn queries(pool: &PoolName, signals: &[SignalConfig], members: &[Member]) -> Vec<SignalQuery> {
    let serving = members.iter().filter(|m| m.serving && !m.draining);
    let hosts: BTreeMap<_, _> = serving.map(|m| (m.name.clone(), m.address)).collect();
    let query = |signal: &SignalConfig| SignalQuery {
        pool: pool.clone(),
        signal: signal.policy.clone(),
        hosts: hosts.clone(),
        what: signal.what.clone(),
        window_secs: signal.window_secs,
    };
    signals.iter().map(query).collect()
}

/// Reads all signals of all pools at once, and gives them back pool by pool, signal by signal.
pub async fn readings(
    source: &dyn MetricSource,
    queries: Vec<SignalQuery>,
    now: UnixMillis,
) -> BTreeMap<PoolName, BTreeMap<String, SignalReading>> {
    let mut by_pool: BTreeMap<PoolName, BTreeMap<String, SignalReading>> = BTreeMap::new();
    if queries.is_empty() {
        return by_pool;
    }
    let mut answers = source.read(&queries, now).await.into_iter();
    for query in queries {
        let reading = match answers.next() {
            Some(Ok(samples)) => SignalReading::Samples(samples),
            Some(Err(error)) => SignalReading::Failed {
                reason: crate::chain(&error),
            },
            None => SignalReading::Failed {
                reason: "the source gave no answer to it".to_owned(),
            },
        };
        by_pool
            .entry(query.pool)
            .or_default()
            .insert(query.signal, reading);
    }
    by_pool
}

/// One pool's observation.
pub fn observation(
    at: UnixMillis,
    members: Vec<Member>,
    drained: BTreeSet<tidepool_autoscaler_core::observe::MemberId>,
    signals: BTreeMap<String, SignalReading>,
) -> Observation {
    Observation {
        at,
        members,
        drained,
        signals,
    }
}
