//! A member's way out: withdrawn, drained, shut down, destroyed, a step or two a tick.

use crate::memory::MemberMemory;
use crate::observe::{Member, Observation, Power};
use crate::outcome::Step;
use crate::spec::PoolSpec;

/// The first steps out of the pool. One that was never in the load balancer has nothing to drain.
pub(super) fn begins(member: &Member) -> Vec<Step> {
    let (id, name) = (member.id.clone(), member.name.clone());
    if member.serving {
        vec![
            Step::MarkDraining {
                id: id.clone(),
                name: name.clone(),
            },
            Step::Withdraw { id, name },
        ]
    } else {
        vec![Step::Destroy { id, name }]
    }
}

/// A dead member has nothing to drain either, but may still be in the load balancer.
pub(super) fn of_dead(member: &Member) -> Vec<Step> {
    let (id, name) = (member.id.clone(), member.name.clone());
    let withdraw = Step::Withdraw {
        id: id.clone(),
        name: name.clone(),
    };
    let first = member.serving.then_some(withdraw);
    first.into_iter().chain([Step::Destroy { id, name }]).collect()
}

/// The next step of a member on its way out, from what is seen of it: withdrawn, drained, shut down, destroyed.
pub(super) fn goes_on(
    spec: &PoolSpec,
    member: &Member,
    known: MemberMemory,
    seen: &Observation,
) -> Option<Step> {
    let now = seen.at;
    let (id, name) = (member.id.clone(), member.name.clone());
    let life = &spec.life;
    if member.serving {
        return Some(Step::Withdraw { id, name });
    }
    match member.power {
        // Whether it runs isn't known: it is left alone until it is.
        Power::Unknown => return None,
        // It was asked to stop, or the provider has not said of it that it runs for long.
        Power::Off if known.shutdown_since.is_some() => return Some(Step::Destroy { id, name }),
        power @ (Power::Off | Power::Creating) if known.has_been(power, life.unready_secs, now) => {
            return Some(Step::Destroy { id, name });
        }
        // One list in a hundred says so of a machine that runs: it goes on as if it did.
        Power::Off | Power::Creating | Power::Running => {}
    }
    if let Some(shutdown) = known.shutdown_since {
        // It was asked to stop and runs on: its power is cut, and if that doesn't help either, it is destroyed as it is.
        if now.is_past(shutdown, life.shutdown_secs.saturating_mul(2)) {
            return Some(Step::Destroy { id, name });
        }
        return now
            .is_past(shutdown, life.shutdown_secs)
            .then_some(Step::PowerOff { id, name });
    }
    let withdrawn = known.withdrawn_since.unwrap_or(now);
    if now.is_past(
        withdrawn,
        life.drain_secs.saturating_add(life.withdraw_settle_secs),
    ) {
        return Some(Step::Shutdown { id, name });
    }
    if !now.is_past(withdrawn, life.withdraw_settle_secs) {
        return None;
    }
    let drained = seen.drained.contains(&member.id) && known.drain_since.is_some();
    match (drained, member.address) {
        (true, _) => Some(Step::Shutdown { id, name }),
        (false, Some(address)) => Some(Step::Drain { id, name, address }),
        // Nobody can be asked: it has until the bound.
        (false, None) => None,
    }
}
