//! The port to metrics: where the samples of a signal come from.
//!
//! Only `elasticsearch.rs` knows Metricbeat's field names; only `scrape.rs` knows Prometheus text.

pub mod elasticsearch;
pub mod presets;
mod prometheus_text;
pub mod scrape;
mod series;

use std::collections::BTreeMap;
use std::net::IpAddr;

use async_trait::async_trait;
use tidepool_autoscaler_core::observe::{MemberName, PoolName, Sample, UnixMillis};

/// One signal of one pool to be read.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalQuery {
    /// The pool.
    pub pool: PoolName,
    /// The policy's name for the signal, for messages.
    pub signal: String,
    /// The members whose values are wanted: name and address. A source that keeps history by host name may use the names
    /// only; one that asks the members uses the addresses.
    pub hosts: BTreeMap<MemberName, Option<IpAddr>>,
    /// What to read.
    pub what: SignalSpec,
    /// How far back values count, seconds; also the window of a rate.
    pub window_secs: u32,
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

/// A source of samples.
#[async_trait]
pub trait MetricSource: Send + Sync + 'static {
    /// Reads all queries, in one request where the source can; one result for each query, in order, at most one sample a
    /// host. Bounded in time by itself.
    async fn read(&self, queries: &[SignalQuery], now: UnixMillis) -> Vec<Result<Vec<Sample>, MetricError>>;
}
