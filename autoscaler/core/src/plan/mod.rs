//! The named steps from what is to what was decided. After this no step involves a choice, and running a plan twice does
//! what running it once does.

mod removal;
mod replace;
mod victims;

use std::collections::BTreeSet;

use crate::control::Control;
use crate::members::MemberState;
use crate::memory::Memory;
use crate::observe::{Member, MemberId, MemberName, Observation, count};
use crate::outcome::{Decision, Plan, Step};
use crate::roster::{Entry, Roster};
use crate::spec::PoolSpec;

/// Plans. `memory` is the one that the decision was made with.
///
/// Capacity comes first (admit, create), removal after it, so that a slow removal doesn't delay growth.
pub fn plan(spec: &PoolSpec, seen: &Observation, memory: &Memory, decision: &Decision) -> Plan {
    let roster = Roster::of(spec, seen, memory).under(decision.control);
    let victims = victims::of(spec, &roster, decision);
    let mut leaving: BTreeSet<&MemberId> = victims.iter().map(|v| &v.id).collect();
    let replaced = replace::outdated(spec, &roster, decision, &leaving);
    leaving.extend(replaced.iter().map(|member| &member.id));
    let mut steps = Vec::new();

    let held = matches!(decision.control, Control::Hold { .. });
    // Who holds a pool may have taken a member out of the balancer to work on it; only one that is new is let in then.
    let is_new = |e: &&Entry<'_>| memory.members.get(&e.member.id).is_some_and(|known| known.is_new);
    let waiting = roster
        .counted()
        .filter(|e| e.state == MemberState::Ready)
        .filter(|e| !held || is_new(e));
    // What a rollout goes back from is not let in any more.
    let goes_back = spec.rollout.as_ref().is_some_and(|rollout| rollout.back);
    let waiting = waiting.filter(|e| !(goes_back && e.outdated));
    for entry in waiting.filter(|e| !leaving.contains(&e.member.id)) {
        let Member { id, name, .. } = entry.member;
        steps.push(Step::Admit {
            id: id.clone(),
            name: name.clone(),
        });
    }
    let names = new_names(spec, seen, memory, decision);
    let generations = replace::generations(spec, &roster, count(names.len()));
    let creates = names.into_iter().zip(generations);
    steps.extend(creates.map(|(name, generation)| Step::Create { name, generation }));
    for member in victims.iter().chain(&replaced) {
        steps.extend(removal::begins(member));
    }
    let repairs = repairs(spec, &roster, decision);
    if !held {
        for entry in &roster.entries {
            let member = entry.member;
            if entry.state == MemberState::Draining {
                let known = memory.members.get(&member.id).copied().unwrap_or_default();
                steps.extend(removal::goes_on(spec, member, known, seen));
            } else if entry.copy {
                steps.extend(removal::begins(member));
            } else if repairs.iter().any(|e| e.member.id == member.id) {
                steps.extend(removal::of_dead(member));
            }
        }
    }
    let id = |e: &&Entry<'_>| e.member.id.clone();
    Plan {
        steps,
        removed: count(victims.len()),
        repaired: repairs.iter().map(id).collect(),
        boots_given_up: repairs.iter().filter(|e| e.boot_timed_out()).map(id).collect(),
    }
}

/// The dead members that are removed now. As many of them stay as the pool would be below its minimum without, until others
/// are made in their place: what is dead may come back, what is destroyed doesn't.
fn repairs<'r, 'a>(spec: &PoolSpec, roster: &'r Roster<'a>, decision: &Decision) -> Vec<&'r Entry<'a>> {
    let dead: Vec<&Entry<'a>> = roster.entries.iter().filter(|e| e.repair).collect();
    let needed = spec.min.saturating_sub(decision.planned) as usize;
    let spare = dead.len().saturating_sub(needed);
    dead.into_iter().take(spare).collect()
}

/// Names for the members to be made: those first whose create failed or got lost, then the next numbers. None is given that
/// a member has, or that a create under way may give one.
fn new_names(spec: &PoolSpec, seen: &Observation, memory: &Memory, decision: &Decision) -> Vec<MemberName> {
    let size = decision.planned.saturating_add(decision.surge);
    let wanted = size.saturating_sub(decision.actual) as usize;
    let listed = seen.members.iter().map(|m| &m.name);
    let taken: BTreeSet<&MemberName> = listed.chain(memory.pending_creates.keys()).collect();
    let again = memory.retry_names.iter();
    let fresh = (1..).map(|n| MemberName(format!("{}-{}", spec.name, memory.ordinal_max.saturating_add(n))));
    let fresh = fresh.filter(|name| !memory.retry_names.contains(name));
    let names = again.cloned().chain(fresh).filter(|name| !taken.contains(name));
    names.take(wanted).collect()
}
