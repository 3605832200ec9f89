//! What the pool should be: the policies' proposals combined, then held back by windows, step limits and bounds.

mod combine;
mod restrain;

use serde::{Deserialize, Serialize};

use crate::memory::Memory;
use crate::observe::{Observation, count};
use crate::outcome::{Decision, Proposal, Reason};
use crate::policy::propose;
use crate::roster::{RepairsRefused, Roster};
use crate::signal::{Hosts, assess};
use crate::spec::{PoolSpec, RepairLimit};
use restrain::Restraint;

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

/// Decides. `memory` has taken the observation in ([`Memory::observe`]); nothing is changed in it here.
pub fn decide(spec: &PoolSpec, seen: &Observation, memory: &Memory, control: Control) -> Decision {
    let roster = Roster::of(spec, seen, memory);
    let actual = roster.actual();
    let kept = memory.size.unwrap_or(actual).max(actual);
    let proposals = proposals_of(spec, seen, memory, &roster, kept);
    let (recommended, mut why) = combine::combine(&proposals, kept);
    let restraint = Restraint {
        spec,
        memory,
        now: seen.at,
    };
    let wanted = match control {
        Control::Auto => restraint.stabilise(kept, recommended, &mut why),
        Control::Hold { size } => {
            why = vec![Reason::Held { size }];
            size
        }
        Control::Manual { size } => {
            why = vec![Reason::SetByHand { size }];
            size
        }
    };
    let desired = restraint.bounded(wanted, &mut why);
    if actual < kept.min(desired) {
        let gone = kept - actual;
        why.push(Reason::Gone { gone, kept });
    }
    let planned = restraint.stepped(actual, desired, &mut why);
    why.extend(roster.repairs_refused.map(|refused| {
        let RepairLimit { max, window_secs } = spec.repair;
        match refused {
            RepairsRefused::TooManyUnready => Reason::TooManyUnready,
            RepairsRefused::TooManyRepairs => Reason::TooManyRepairs { max, window_secs },
        }
    }));
    Decision {
        at: seen.at,
        actual,
        kept,
        recommended,
        desired,
        planned,
        reasons: why,
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
    let serving = count(hosts.serving.len());
    let ask = |policy| {
        let policy: &crate::spec::TargetPolicy = policy;
        let signal = assess(seen.signals.get(&policy.name), &hosts, policy.fresh_secs, seen.at);
        propose(policy, signal, kept, serving)
    };
    spec.policies.iter().map(ask).collect()
}
