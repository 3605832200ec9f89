//! What one policy wants: a signal tracked to its target, with the formula in words and numbers.

use serde::{Deserialize, Serialize};

use crate::signal::{Signal, Values};
use crate::spec::{Across, TargetPolicy};

/// A load that is a whole number of members but for the rounding of floating point is that number: 0.6 × 3 / 0.6 is 3.
const ROUNDING: f64 = 1e-9;

/// What a policy thinks of the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verdict {
    /// Too small.
    Grow {
        /// Members needed.
        to: u32,
    },
    /// Right, or no need to change it.
    Keep,
    /// Too large.
    Shrink {
        /// Members that are enough.
        to: u32,
    },
    /// The signal can't be trusted, so the pool may not shrink.
    Blind,
}

/// A policy's proposal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// The policy.
    pub policy: String,
    /// What it wants.
    pub verdict: Verdict,
    /// How it came to that, with the numbers.
    pub formula: String,
    /// The signal it went by.
    pub signal: Signal,
    /// The signal's value across hosts, if there is one.
    pub value: Option<f64>,
    /// The policy's target.
    pub target: f64,
}

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
    let (verdict, formula, value) = match &signal {
        Signal::Fresh { values } => judged(policy, values, size, serving, true),
        Signal::Partial { values, expected } => {
            let (verdict, formula, value) = judged(policy, values, size, serving, false);
            let known = values.warm.len();
            (
                verdict,
                format!("{formula}; only {known} of {expected} hosts have a fresh value"),
                value,
            )
        }
        Signal::Stale { age_secs, .. } => {
            let old = format!(
                "{} is stale: its newest value is {age_secs:.0} s old",
                policy.name
            );
            (
                Verdict::Blind,
                format!("{old}, {} s are allowed", policy.fresh_secs),
                None,
            )
        }
        Signal::Missing { reason, .. } => (
            Verdict::Blind,
            format!("{} is missing: {reason}", policy.name),
            None,
        ),
    };
    Proposal {
        policy: policy.name.clone(),
        verdict,
        formula,
        signal,
        value,
        target: policy.target,
    }
}

fn judged(
    policy: &TargetPolicy,
    values: &Values,
    size: u32,
    serving: u32,
    whole: bool,
) -> (Verdict, String, Option<f64>) {
    let need = need_of(policy, values, serving);
    let (low, high) = (members(need.low), members(need.high));
    let made_for = f64::from(size);
    let verdict = if low > size && need.low > made_for * (1.0 + policy.tolerance) {
        Verdict::Grow { to: low }
    } else if !whole {
        Verdict::Blind
    } else if high < size && need.high < made_for * (1.0 - policy.tolerance) {
        Verdict::Shrink { to: high }
    } else {
        Verdict::Keep
    };
    let (value, formula) = formula_of(policy, values, serving, low, high);
    (verdict, formula, Some(value))
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

fn formula_of(policy: &TargetPolicy, values: &Values, serving: u32, low: u32, high: u32) -> (f64, String) {
    let (name, target) = (&policy.name, policy.target);
    let range = if low == high {
        format!("{low}")
    } else {
        format!("{low} to {high}")
    };
    match policy.across {
        Across::Avg => {
            let value = values.mean();
            (
                value,
                format!("{name}: ceil({serving} hosts × mean {value:.4} / target {target}) = {range}"),
            )
        }
        Across::Max => {
            let value = values.max();
            (
                value,
                format!("{name}: ceil({serving} hosts × largest {value:.4} / target {target}) = {range}"),
            )
        }
        Across::Sum => {
            let total = values.total() + values.warming.values().sum::<f64>();
            // What is told is a host's share, for that is what the target is about.
            let share = total / (values.warm.len() + values.warming.len()) as f64;
            (
                share,
                format!("{name}: ceil(total {total:.4} / target {target} a host) = {range}"),
            )
        }
    }
}
