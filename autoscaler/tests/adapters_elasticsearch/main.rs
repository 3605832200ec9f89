//! The Elasticsearch adapter: recorded Metricbeat documents in a real Elasticsearch (`real`), the index of decisions there
//! (`decisions`), values and names in other spellings (`odd_values`, `names`), and what goes wrong (`faults`).
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
mod names;
mod odd_values;
mod real;

use std::collections::BTreeMap;

use tidepool_autoscaler::metrics::presets::{SourceKind, resolve};
use tidepool_autoscaler::metrics::range::Range;
use tidepool_autoscaler::metrics::{Host, PerHost, SignalQuery, SignalSpec};
use tidepool_autoscaler_core::observe::{MemberId, MemberName, PoolName};

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
        range: Range::NOT_NEGATIVE,
    };
    query(what, hosts, window_secs)
}

fn query(what: SignalSpec, hosts: &[&str], window_secs: u32) -> SignalQuery {
    SignalQuery {
        pool: PoolName("web".to_owned()),
        signal: "signal".to_owned(),
        hosts: hosts
            .iter()
            .map(|name| {
                let id = MemberId(format!("id-of-{name}"));
                (MemberName((*name).to_owned()), Host { id, address: None })
            })
            .collect(),
        what,
        window_secs,
        fresh_secs: 90,
    }
}
