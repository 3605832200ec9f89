//! What one policy wants: a signal tracked to its target, with the formula in words and numbers.

use crate::outcome::{Proposal, Verdict, Working};
use crate::signal::{Signal, Values};
use crate::spec::{Across, TargetPolicy};

/// A load that is a whole number of members but for the rounding of floating point is that number: 0.6 × 3 / 0.6 is 3.
const ROUNDING: f64 = 1e-9;

/// The sizes that the load asks for, as a lower and an upper estimate.
struct Need {
    /// Members' worth of load that was surely measured: hosts without a value count as idle. Growth goes by this.
    low: f64,
    /// The same with hosts without a value counted as loaded like the others. Shrinking goes by this.
    high: f64,
}

/// Asks a policy. `size` is what the pool is meant to have, with booting members; `serving` is how many hosts share the load.
///
/// The formula is that of the horizontal pod autoscaler (`desired = ceil(current × value / target)`, Kubernetes
/// documentation, *Algorithm details*), written over the load instead of over the current size: load / target is absolute,
/// so that members that boot don't make the same growth be asked for twice. As there, hosts without a value count as idle
/// on the way out and as loaded on the way in.
pub fn propose(policy: &TargetPolicy, signal: Signal, size: u32, serving: u32) -> Proposal {
    let (verdict, working, value) = match &signal {
        Signal::Fresh { values } => judged(policy, values, Sizes { size, serving }, Trust::Whole),
        Signal::Partial { values, .. } => judged(policy, values, Sizes { size, serving }, Trust::Part),
        Signal::Stale { .. } | Signal::Missing { .. } => (Verdict::Blind, Working::Unread, None),
    };
    Proposal {
        policy: policy.name.clone(),
        verdict,
        working,
        signal,
        value,
        target: policy.target,
    }
}

struct Sizes {
    size: u32,
    serving: u32,
}

#[derive(PartialEq)]
enum Trust {
    Whole,
    Part,
}

fn judged(
    policy: &TargetPolicy,
    values: &Values,
    Sizes { size, serving }: Sizes,
    trust: Trust,
) -> (Verdict, Working, Option<f64>) {
    let need = need_of(policy, values, serving);
    let (low, high) = (members(need.low), members(need.high));
    let made_for = f64::from(size);
    let verdict = if low > size && need.low > made_for * (1.0 + policy.tolerance) {
        Verdict::Grow { to: low }
    } else if trust == Trust::Part {
        Verdict::Blind
    } else if high < size && need.high < made_for * (1.0 - policy.tolerance) {
        Verdict::Shrink { to: high }
    } else {
        Verdict::Keep
    };
    let working = Working::Load {
        across: policy.across,
        measured: measured(policy.across, values),
        hosts: serving,
        target: policy.target,
        low,
        high,
    };
    (verdict, working, Some(value_of(policy.across, values)))
}

fn need_of(policy: &TargetPolicy, values: &Values, serving: u32) -> Need {
    let known = values.warm.len() as f64;
    let serving = f64::from(serving);
    let (low, high) = match policy.across {
        Across::Avg => (values.total(), serving * values.mean()),
        Across::Max => (known * values.max(), serving * values.max()),
        Across::Sum => {
            let total = values.total() + values.warming.values().sum::<f64>();
            let silent = serving - known - values.warming.len() as f64;
            (total, total + silent.max(0.0) * values.mean())
        }
    };
    Need {
        low: low / policy.target,
        high: high / policy.target,
    }
}

/// Whole members for a load; 0 for less than nothing.
fn members(load: f64) -> u32 {
    // A float to integer cast saturates at both ends, which is what is wanted.
    (load - ROUNDING).ceil() as u32
}

fn measured(across: Across, values: &Values) -> f64 {
    match across {
        Across::Avg => values.mean(),
        Across::Max => values.max(),
        Across::Sum => values.total() + values.warming.values().sum::<f64>(),
    }
}

/// What is shown beside the target. For [`Across::Sum`] a host's share, because that is what the target is about.
fn value_of(across: Across, values: &Values) -> f64 {
    let measured = measured(across, values);
    match across {
        Across::Avg | Across::Max => measured,
        Across::Sum => measured / (values.warm.len() + values.warming.len()) as f64,
    }
}
