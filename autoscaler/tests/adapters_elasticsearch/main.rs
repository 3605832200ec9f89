//! The Elasticsearch adapter: recorded Metricbeat documents in a real Elasticsearch (`real`), the index of decisions there
//! (`decisions`), and what goes wrong (`faults`).
//!
//! Without `TIDEPOOL_TEST_ELASTICSEARCH` (an address such as `http://127.0.0.1:9200`) each of the real tests prints a line
//! `tidepool-skip: <name>: <reason>`, which the runner counts.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod decisions;
mod documents;
mod faults;
mod real;

use std::collections::BTreeMap;

use tidepool_autoscaler::metrics::presets::{SourceKind, resolve};
use tidepool_autoscaler::metrics::{PerHost, SignalQuery, SignalSpec};
use tidepool_autoscaler_core::observe::{MemberName, PoolName};

/// A query of one preset for these hosts.
fn preset(name: &str, hosts: &[&str], window_secs: u32) -> SignalQuery {
    query(
        resolve(name, SourceKind::Elasticsearch).unwrap(),
        hosts,
        window_secs,
    )
}

/// A query of one field for these hosts.
fn field(name: &str, per_host: PerHost, hosts: &[&str], window_secs: u32) -> SignalQuery {
    let what = SignalSpec {
        field: name.to_owned(),
        filter: BTreeMap::new(),
        per_host,
        scale: 1.0,
    };
    query(what, hosts, window_secs)
}

fn query(what: SignalSpec, hosts: &[&str], window_secs: u32) -> SignalQuery {
    SignalQuery {
        pool: PoolName("web".to_owned()),
        signal: "signal".to_owned(),
        hosts: hosts
            .iter()
            .map(|name| (MemberName((*name).to_owned()), None))
            .collect(),
        what,
        window_secs,
    }
}
