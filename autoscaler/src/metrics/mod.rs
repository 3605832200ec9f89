//! The port to metrics: where the samples of a signal come from.
//!
//! Only `elasticsearch.rs` knows Metricbeat's field names; only `scrape.rs` knows Prometheus text.

mod counter;
pub mod elasticsearch;
mod fault;
#[cfg(test)]
mod lying_metrics;
pub mod presets;
mod prometheus_text;
pub mod range;
pub mod scrape;
mod series;

use std::collections::BTreeMap;
use std::net::IpAddr;

use async_trait::async_trait;
use tidepool_autoscaler_core::observe::{MemberId, MemberName, PoolName, Reading, UnixMillis};

use self::range::Range;

/// A value that claims to be from so far in the future still counts, seconds: hosts' clocks differ by as much.
pub const SKEW_SECS_DEFAULT: u32 = 5;

/// One signal of one pool to be read.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalQuery {
    /// The pool.
    pub pool: PoolName,
    /// The policy's name for the signal, for messages.
    pub signal: String,
    /// The members whose values are wanted. A source that keeps history by host uses the names and ids; one that asks the
    /// members uses the addresses.
    pub hosts: BTreeMap<MemberName, Host>,
    /// What to read.
    pub what: SignalSpec,
    /// How far back values count, seconds; also the window of a rate.
    pub window_secs: u32,
    /// How old the newest value may be, seconds.
    pub fresh_secs: u32,
}

/// What is known of a member beside its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The provider's id.
    pub id: MemberId,
    /// Where it is reached; `None` while it has no address.
    pub address: Option<IpAddr>,
}

/// What to read of each host.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalSpec {
    /// A field path (Elasticsearch: `system.cpu.total.norm.pct`; scrape: a metric family's name), after presets are resolved.
    pub field: String,
    /// Restricts the documents or series: field or label to value; a value that begins with `!` is one it must not have.
    pub filter: BTreeMap<String, String>,
    /// How a host's values in the window become one.
    pub per_host: PerHost,
    /// Several series of one host (labels, interfaces) are summed after this; each value is multiplied by `scale`.
    pub scale: f64,
    /// Which values the field can have, before they are scaled; a value outside is a fault and counts as none. (Of a
    /// quotient of two families: the quotient.)
    pub range: Range,
}

/// How the values of one host within the window become one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PerHost {
    /// The newest value.
    Last,
    /// The mean.
    Avg,
    /// The largest.
    Max,
    /// Growth per second of a counter; a reset (a smaller value than before) starts from zero.
    Rate,
}

/// Why a query has no samples. A query that was answered, with few or no hosts in it, is not an error.
#[derive(Debug, thiserror::Error)]
pub enum MetricError {
    /// The source can't be reached or answered an error.
    #[error("reading signal {signal:?} of pool {pool} failed: {reason}")]
    Failed {
        /// The pool.
        pool: PoolName,
        /// The signal.
        signal: String,
        /// What happened, for the operator.
        reason: String,
    },
    /// The source answered, but says itself that the answer is incomplete (`timed_out`, failed shards).
    #[error("signal {signal:?} of pool {pool} is incomplete: {reason}")]
    Incomplete {
        /// The pool.
        pool: PoolName,
        /// The signal.
        signal: String,
        /// What is missing.
        reason: String,
    },
}

/// A filter in words.
fn shown(filter: &BTreeMap<String, String>) -> String {
    let one = |(name, value): (&String, &String)| format!("{name} = {value:?}");
    fault::words(&filter.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// A source of samples.
#[async_trait]
pub trait MetricSource: Send + Sync + 'static {
    /// Reads all queries, in one request where the source can; one result for each query, in order, at most one sample a
    /// host, and the reason for each host that has none. Bounded in time by itself.
    async fn read(&self, queries: &[SignalQuery], now: UnixMillis) -> Vec<Result<Reading, MetricError>>;
}

/// A query for members given by name and id.
#[cfg(test)]
fn test_query(members: &[(&str, &str)]) -> SignalQuery {
    let hosts = members.iter().map(|(name, id)| {
        let host = Host {
            id: MemberId((*id).to_owned()),
            address: None,
        };
        (MemberName((*name).to_owned()), host)
    });
    SignalQuery {
        pool: PoolName("web".to_owned()),
        signal: "signal".to_owned(),
        hosts: hosts.collect(),
        what: presets::resolve("cpu", presets::SourceKind::Elasticsearch).unwrap(),
        window_secs: 60,
        fresh_secs: 90,
    }
}
