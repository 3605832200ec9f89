//! The named steps from what is to what was decided. After this no step involves a choice, and running a plan twice does
//! what running it once does.

mod removal;
mod victims;

use std::collections::BTreeSet;

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
    let roster = Roster::of(spec, seen, memory);
    let victims = victims::of(spec, &roster, decision);
    let victim_ids: BTreeSet<&MemberId> = victims.iter().map(|v| &v.id).collect();
    let mut steps = Vec::new();

    let waiting = roster.counted().filter(|e| e.state == MemberState::Ready);
    for entry in waiting.filter(|e| !victim_ids.contains(&e.member.id)) {
        let Member { id, name, .. } = entry.member;
        steps.push(Step::Admit {
            id: id.clone(),
            name: name.clone(),
        });
    }
    steps.extend(
        new_names(spec, seen, memory, decision)
            .into_iter()
            .map(|name| Step::Create { name }),
    );
    for victim in &victims {
        steps.extend(removal::begins(victim));
    }
    for entry in &roster.entries {
        let Entry {
            member,
            state,
            duplicate,
            repair,
            ..
        } = *entry;
        if state == MemberState::Draining {
            let known = memory.members.get(&member.id).copied().unwrap_or_default();
            steps.extend(removal::goes_on(spec, member, known, seen));
        } else if duplicate {
            steps.extend(removal::begins(member));
        } else if repair {
            steps.extend(removal::of_dead(member));
        }
    }
    let repairs = || roster.entries.iter().filter(|e| e.repair);
    let id = |e: &Entry<'_>| e.member.id.clone();
    let repaired = repairs().map(id).collect();
    let boots_given_up = repairs().filter(|e| e.boot_timed_out).map(id).collect();
    Plan {
        steps,
        removed: count(victims.len()),
        repaired,
        boots_given_up,
    }
}

/// Names for the members to be made: those first whose create failed or got lost, then the next numbers.
fn new_names(spec: &PoolSpec, seen: &Observation, memory: &Memory, decision: &Decision) -> Vec<MemberName> {
    let wanted = decision.planned.saturating_sub(decision.actual) as usize;
    let taken: BTreeSet<&MemberName> = seen.members.iter().map(|m| &m.name).collect();
    let again = memory
        .retry_names
        .iter()
        .filter(|name| !taken.contains(name))
        .cloned();
    let fresh = (1..).map(|n| MemberName(format!("{}-{}", spec.name, memory.ordinal_max.saturating_add(n))));
    again.chain(fresh).take(wanted).collect()
}
