//! What the pool should be: the policies' proposals combined, then held back by windows, step limits and bounds.

mod combine;
mod restrain;
mod rolling;

pub use crate::control::Control;
use crate::members::MemberState;
use crate::memory::Memory;
use crate::observe::{MemberName, Observation, UnixMillis};
use crate::outcome::{DeadMember, Decision, Proposal, Reason};
use crate::policy::{Context, Measured, propose};
use crate::roster::{Entry, RepairsRefused, Roster, Span};
use crate::signal::{Hosts, Signal, assess};
use crate::spec::{PoolSpec, RepairLimit, SignalSettings};
use restrain::Restraint;
use rolling::Rolling;

/// The pool's size without the successors that a rollout made.
pub fn base(spec: &PoolSpec, seen: &Observation, memory: &Memory) -> u32 {
    let roster = Roster::of(spec, seen, memory);
    let rolling = Rolling::of(spec, &roster, memory, Control::Auto);
    roster
        .actual()
        .saturating_sub(rolling.map_or(0, |rolling| rolling.surplus))
}

/// Decides. `memory` has taken the observation in ([`Memory::observe`]); nothing is changed in it here.
pub fn decide(spec: &PoolSpec, seen: &Observation, memory: &Memory, control: Control) -> Decision {
    let roster = Roster::of(spec, seen, memory).under(control);
    let actual = roster.actual();
    let rolling = Rolling::of(spec, &roster, memory, control);
    let surplus = rolling.as_ref().map_or(0, |rolling| rolling.surplus);
    let base = actual.saturating_sub(surplus);
    let kept = memory.size.unwrap_or(base).max(base);
    let proposals = proposals_of(spec, seen, memory, &roster, kept);
    let (recommended, mut why) = combine::combine(&proposals, kept);
    let restraint = Restraint {
        spec,
        memory,
        now: seen.at,
        unseen: seen.unseen,
        may_go_on: seen.may_go_on,
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
    if base < kept.min(desired) {
        let gone = kept - base;
        why.push(Reason::Gone { gone, kept });
    }
    let planned = match control {
        // Nobody is removed while the operator holds the pool, also not the one that is too many.
        Control::Hold { .. } if desired < base => base,
        Control::Hold { .. } | Control::Auto | Control::Manual { .. } => {
            let planned = restraint.stepped(base, desired, &mut why);
            restraint.without_unseen(base, planned, &mut why)
        }
    };
    let mut surge = 0;
    if let Some(rolling) = &rolling {
        surge = restraint.surged(actual, planned, rolling.surge(planned), &mut why);
        why.extend(rolling.reasons());
    }
    why.extend(reasons_of_members(spec, memory, &roster));
    Decision {
        at: seen.at,
        control,
        actual,
        kept,
        recommended,
        desired,
        planned,
        surplus,
        surge,
        reasons: why,
        proposals,
    }
}

/// Why single members are removed, or are not though they look dead.
fn reasons_of_members(spec: &PoolSpec, memory: &Memory, roster: &Roster<'_>) -> Vec<Reason> {
    let mut why = Vec::new();
    let boots = roster
        .entries
        .iter()
        .any(|e| e.state == MemberState::Booting || e.boot_timed_out());
    if memory.slow_boots > 0 && boots {
        why.push(Reason::SlowBoots {
            times: memory.slow_boots,
            secs: memory.boot_timeout_secs(spec),
        });
    }
    if memory.vanished.times > 0 {
        let named = memory.vanished.members.iter();
        why.push(Reason::Vanished {
            members: named
                .map(|(id, name)| MemberName(format!("{name} ({id})")))
                .collect(),
            wait_secs: memory.growth_wait_secs(spec),
        });
    }
    let (repaired, kept): (Vec<_>, Vec<_>) = roster.dead().partition(|(entry, _)| entry.repair);
    let members = |dead: Vec<(_, DeadMember)>| dead.into_iter().map(|(_, member)| member).collect();
    if !repaired.is_empty() {
        why.push(Reason::Repairs {
            members: members(repaired),
        });
    }
    let RepairLimit { max, window_secs } = spec.repair;
    why.extend(roster.repairs_refused.map(|refused| match refused {
        RepairsRefused::TooManyUnready => Reason::TooManyUnready,
        RepairsRefused::TooManyRepairs => Reason::TooManyRepairs { max, window_secs },
        RepairsRefused::Held => Reason::RepairsHeld {
            members: members(kept),
        },
    }));
    let names = |chosen: &dyn Fn(&Entry<'_>) -> bool| -> Vec<MemberName> {
        let chosen = roster.entries.iter().filter(|e| chosen(e));
        chosen.map(|e| e.host.clone()).collect()
    };
    let (copies, leaving) = (names(&|e| e.copy), names(&|e| e.state == MemberState::Draining));
    if !copies.is_empty() {
        why.push(Reason::Copies { members: copies });
    }
    if !leaving.is_empty() {
        why.push(Reason::Leaving { members: leaving });
    }
    why
}

fn proposals_of(
    spec: &PoolSpec,
    seen: &Observation,
    memory: &Memory,
    roster: &Roster<'_>,
    size: u32,
) -> Vec<Proposal> {
    let hosts = Hosts {
        expected: roster.warm_hosts(spec, memory, seen.at),
        serving: roster.serving_hosts(),
    };
    let measure = |settings: &'_ SignalSettings| {
        let reading = seen.signals.get(&settings.name);
        let signal = assess(reading, &hosts, settings.fresh_secs, seen.at);
        Measured {
            spread: roster.spread(memory, span_of(&signal, settings, seen.at)),
            signal,
            across: settings.across,
        }
    };
    let signals = spec
        .signals
        .iter()
        .map(|s| (s.name.as_str(), measure(s)))
        .collect();
    let context = Context {
        signals: &signals,
        size,
    };
    spec.policies
        .iter()
        .map(|policy| propose(policy, context))
        .collect()
}

/// The time that a signal's values are about, the oldest of them at that.
fn span_of(signal: &Signal, settings: &SignalSettings, now: UnixMillis) -> Span {
    let age_secs = match signal {
        Signal::Fresh { values } | Signal::Partial { values, .. } => values.age_secs,
        Signal::Stale { .. } | Signal::Missing { .. } => 0.0,
    };
    // Ages are within an hour and not negative: the cast takes whole milliseconds of them.
    let to = UnixMillis(now.0.saturating_sub((age_secs * 1000.0) as i64));
    Span {
        from: UnixMillis(to.0.saturating_sub(i64::from(settings.window_secs) * 1000)),
        to,
    }
}
