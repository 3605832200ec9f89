//! What the pool should be: the policies' proposals combined, then held back by windows, step limits and bounds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::memory::Memory;
use crate::observe::{Observation, UnixMillis};
use crate::policy::{Proposal, Verdict, propose};
use crate::roster::{RepairsRefused, Roster};
use crate::signal::{Hosts, assess};
use crate::spec::{PoolSpec, RepairLimit};

/// Who decides about the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Control {
    /// The policies.
    Auto,
    /// The operator: the size it had when `hold` was said.
    Hold {
        /// Members.
        size: u32,
    },
    /// The operator: a size given by hand.
    Manual {
        /// Members.
        size: u32,
    },
}

/// What the pool should be, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When.
    pub at: UnixMillis,
    /// The pool's size as observed, creates under way among it.
    pub actual: u32,
    /// The size that it is meant to have until something else is decided: `actual`, and what has died or gone since.
    pub kept: u32,
    /// What the policies alone would have.
    pub recommended: u32,
    /// What is wanted: after the operator, the windows and the bounds.
    pub desired: u32,
    /// What this tick goes to: `desired` as far as the step limits let it.
    pub planned: u32,
    /// Why, in one sentence.
    pub reason: String,
    /// Each policy's proposal, with its formula and inputs.
    pub proposals: Vec<Proposal>,
}

/// Decides. `memory` has taken the observation in ([`Memory::observe`]); nothing is changed in it here.
pub fn decide(spec: &PoolSpec, seen: &Observation, memory: &Memory, control: Control) -> Decision {
    let roster = Roster::of(spec, seen, memory);
    let actual = roster.actual();
    let kept = memory.size.unwrap_or(actual).max(actual);
    let proposals = proposals_of(spec, seen, memory, &roster, kept);
    let (recommended, mut why) = combine(&proposals, kept);
    let wanted = match control {
        Control::Auto => stabilise(spec, memory, seen.at, kept, recommended, &mut why),
        Control::Hold { size } => {
            why = vec![format!("held at {size} by the operator")];
            size
        }
        Control::Manual { size } => {
            why = vec![format!("set to {size} by hand")];
            size
        }
    };
    let desired = bounded(spec, wanted, &mut why);
    if actual < kept.min(desired) {
        why.push(format!("{} of {kept} are gone and are replaced", kept - actual));
    }
    let planned = stepped(spec, memory, seen.at, actual, desired, &mut why);
    match roster.repairs_refused {
        None => {}
        Some(RepairsRefused::TooManyUnready) => {
            why.push(
                "no repairs, for more than half of the serving members are not ready at once".to_owned(),
            );
        }
        Some(RepairsRefused::TooManyRepairs) => {
            let RepairLimit { max, window_secs } = spec.repair;
            why.push(format!(
                "no more repairs: at most {max} members are replaced within {window_secs} s"
            ));
        }
    }
    let reason = format!("{}: {}", headline(actual, desired, planned), why.join("; "));
    Decision {
        at: seen.at,
        actual,
        kept,
        recommended,
        desired,
        planned,
        reason,
        proposals,
    }
}

fn proposals_of(
    spec: &PoolSpec,
    seen: &Observation,
    memory: &Memory,
    roster: &Roster<'_>,
    kept: u32,
) -> Vec<Proposal> {
    let hosts = Hosts {
        expected: roster.warm_hosts(spec, memory, seen.at),
        serving: roster.serving_hosts(),
    };
    let serving = crate::roster::saturating(hosts.serving.len());
    let ask = |policy| {
        let policy: &crate::spec::TargetPolicy = policy;
        let signal = assess(seen.signals.get(&policy.name), &hosts, policy.fresh_secs, seen.at);
        propose(policy, signal, kept, serving)
    };
    spec.policies.iter().map(ask).collect()
}

/// Out if any policy says so, to the largest; in only if all agree, to the largest. As AWS target tracking does.
fn combine(proposals: &[Proposal], kept: u32) -> (u32, Vec<String>) {
    let grow = |p: &&Proposal| match p.verdict {
        Verdict::Grow { to } => Some(to),
        Verdict::Keep | Verdict::Shrink { .. } | Verdict::Blind => None,
    };
    let shrink = |p: &Proposal| match p.verdict {
        Verdict::Shrink { to } => Some(to),
        Verdict::Keep | Verdict::Grow { .. } | Verdict::Blind => None,
    };
    if let Some(most) = proposals.iter().filter(|p| grow(p).is_some()).max_by_key(grow) {
        return (grow(&most).unwrap_or(kept), vec![most.formula.clone()]);
    }
    let objections: Vec<String> = proposals
        .iter()
        .filter(|p| shrink(p).is_none())
        .map(|p| p.formula.clone())
        .collect();
    let enough: Option<u32> = proposals.iter().filter_map(shrink).max();
    match enough {
        Some(enough) if objections.is_empty() => {
            (enough, proposals.iter().map(|p| p.formula.clone()).collect())
        }
        Some(_) | None if objections.is_empty() => {
            (kept, vec!["no policy, so the bounds alone decide".to_owned()])
        }
        Some(_) | None => (kept, objections),
    }
}

/// Holds a recommendation back until its window agrees: growth to the smallest recommendation of the out-window,
/// shrinking to the largest of the in-window. A pool that was not watched for a whole in-window doesn't shrink yet.
fn stabilise(
    spec: &PoolSpec,
    memory: &Memory,
    now: UnixMillis,
    kept: u32,
    recommended: u32,
    why: &mut Vec<String>,
) -> u32 {
    let within = |secs: u32| {
        let past = memory
            .recommendations
            .iter()
            .filter(move |r| !now.is_past(r.at, secs))
            .map(|r| r.size);
        past.chain([recommended])
    };
    let grow_to = within(spec.out_window_secs).min().unwrap_or(recommended);
    let shrink_to = within(spec.in_window_secs).max().unwrap_or(recommended);
    if recommended > kept {
        if grow_to < recommended {
            why.push(format!(
                "within the last {} s {grow_to} were enough",
                spec.out_window_secs
            ));
        }
        return grow_to.max(kept);
    }
    if recommended < kept {
        let watched = memory
            .since
            .is_some_and(|since| now.is_past(since, spec.in_window_secs));
        if !watched {
            why.push(format!(
                "not watched for {} s yet, so it doesn't shrink",
                spec.in_window_secs
            ));
            return kept;
        }
        if shrink_to > recommended {
            why.push(format!(
                "within the last {} s {shrink_to} were needed",
                spec.in_window_secs
            ));
        }
        return shrink_to.min(kept);
    }
    kept
}

/// Minimum and maximum, with or without metrics.
fn bounded(spec: &PoolSpec, wanted: u32, why: &mut Vec<String>) -> u32 {
    let desired = wanted.min(spec.max).max(spec.min);
    if desired < wanted {
        why.push(format!("{wanted} are over the maximum of {}", spec.max));
    } else if desired > wanted {
        why.push(format!("{wanted} are under the minimum of {}", spec.min));
    }
    desired
}

/// As far towards `desired` as the step limits leave.
fn stepped(
    spec: &PoolSpec,
    memory: &Memory,
    now: UnixMillis,
    actual: u32,
    desired: u32,
    why: &mut Vec<String>,
) -> u32 {
    let limits = &spec.limits;
    let since = |secs: u32| memory.resizes.iter().filter(move |r| !now.is_past(r.at, secs));
    if desired > actual {
        if memory.create_blocked_until.is_some_and(|until| now < until) {
            why.push("no growth now: the provider said that the account's limit is reached".to_owned());
            return actual;
        }
        let used: u32 = since(limits.out_period_secs)
            .map(|r| r.created)
            .fold(0, u32::saturating_add);
        let left = limits.out_max.saturating_sub(used);
        if desired - actual > left {
            why.push(format!(
                "at most {} more {}",
                limits.out_max,
                period(limits.out_period_secs)
            ));
        }
        return desired.min(actual.saturating_add(left));
    }
    let used: u32 = since(limits.in_period_secs)
        .map(|r| r.removed)
        .fold(0, u32::saturating_add);
    let left = limits.in_max.saturating_sub(used);
    if actual - desired > left {
        why.push(format!(
            "at most {} fewer {}",
            limits.in_max,
            period(limits.in_period_secs)
        ));
    }
    desired.max(actual.saturating_sub(left))
}

fn period(secs: u32) -> String {
    if secs == 0 {
        "in a tick".to_owned()
    } else {
        format!("within {secs} s")
    }
}

fn headline(actual: u32, desired: u32, planned: u32) -> String {
    let to = if planned == desired {
        String::new()
    } else {
        format!(", by way of {planned}")
    };
    match desired.cmp(&actual) {
        std::cmp::Ordering::Greater => format!("grow from {actual} to {desired}{to}"),
        std::cmp::Ordering::Less => format!("shrink from {actual} to {desired}{to}"),
        std::cmp::Ordering::Equal => format!("keep {actual}"),
    }
}

/// How busy each host is, for the choice of victims: the first policy's fresh values.
pub fn busyness(decision: &Decision) -> BTreeMap<crate::observe::MemberName, f64> {
    use crate::signal::Signal;
    let values = decision.proposals.iter().find_map(|p| match &p.signal {
        Signal::Fresh { values } | Signal::Partial { values, .. } => Some(values),
        Signal::Stale { .. } | Signal::Missing { .. } => None,
    });
    values
        .map(|v| {
            v.warm
                .iter()
                .chain(&v.warming)
                .map(|(host, value)| (host.clone(), *value))
                .collect()
        })
        .unwrap_or_default()
}
