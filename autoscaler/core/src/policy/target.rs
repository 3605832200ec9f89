//! What one policy wants: a signal tracked to its target, with the formula in words and numbers.

use super::{Context, Measured};
use crate::observe::MemberName;
use crate::outcome::{Basis, Proposal, Verdict, Working};
use crate::roster::Spread;
use crate::signal::{Gaps, MissingReason, Signal, Values};
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

/// Asks a policy.
///
/// The formula is that of the horizontal pod autoscaler (`desired = ceil(current × value / target)`, Kubernetes
/// documentation, *Algorithm details*), written over the load instead of over the current size: load / target is absolute,
/// so that members that boot don't make the same growth be asked for twice. As there, hosts without a value count as idle
/// on the way out and as loaded on the way in. A value is of the past, so what was spread then is counted: a load is the
/// hosts' mean times the hosts that served when it was measured, not those that serve now.
pub(super) fn propose(policy: &TargetPolicy, context: Context<'_>) -> Proposal {
    let measured = context.signals.get(policy.signal.as_str());
    let signal = measured.map_or_else(not_read, |m| m.signal.clone());
    let judge = |values, trust| match measured {
        Some(measured) => judged(
            policy,
            measured,
            values,
            Judging {
                size: context.size,
                trust,
            },
        ),
        None => (Verdict::Blind, Working::Unread, None),
    };
    let (verdict, working, value) = match &signal {
        Signal::Fresh { values } => judge(values, Trust::Whole),
        Signal::Partial { values, .. } => judge(values, Trust::Part),
        Signal::Stale { .. } | Signal::Missing { .. } => (Verdict::Blind, Working::Unread, None),
    };
    Proposal {
        policy: policy.name.clone(),
        verdict,
        working,
        basis: Some(Basis {
            signal_name: policy.signal.clone(),
            signal,
            value,
            target: Some(policy.target),
        }),
    }
}

fn not_read() -> Signal {
    Signal::Missing {
        reason: MissingReason::NotRead,
        expected: 0,
        gaps: Gaps::default(),
    }
}

struct Judging {
    size: u32,
    trust: Trust,
}

#[derive(PartialEq)]
enum Trust {
    Whole,
    Part,
}

fn judged(
    policy: &TargetPolicy,
    Measured { across, spread, .. }: &Measured<'_>,
    values: &Values,
    Judging { size, trust }: Judging,
) -> (Verdict, Working, Option<f64>) {
    let unmeasured = unmeasured_hosts(*across, values, spread);
    let need = need_of(policy.target, *across, values, unmeasured);
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
        across: *across,
        measured: measured(*across, values),
        hosts: values.warm.len() as f64 + unmeasured,
        target: policy.target,
        low,
        high,
    };
    (verdict, working, Some(value_of(*across, values)))
}

/// Hosts that served when it was measured and whose value doesn't count, or isn't there. For a total every value counts.
fn unmeasured_hosts(across: Across, values: &Values, spread: &Spread<'_>) -> f64 {
    let counts = |host: &MemberName| {
        values.warm.contains_key(host) || (across == Across::Sum && values.warming.contains_key(host))
    };
    let silent = spread.hosts.iter().filter(|(host, _)| !counts(host));
    silent.map(|(_, share)| share).sum::<f64>() + spread.gone
}

fn need_of(target: f64, across: Across, values: &Values, unmeasured: f64) -> Need {
    let known = values.warm.len() as f64;
    let (low, each) = match across {
        Across::Avg => (values.total(), values.mean()),
        Across::Max => (known * values.max(), values.max()),
        Across::Sum => (measured(across, values), values.mean()),
    };
    Need {
        low: low / target,
        high: (low + unmeasured * each.max(0.0)) / target,
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
