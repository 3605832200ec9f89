//! Who goes when a pool is too large.

use std::collections::BTreeMap;

use crate::members::MemberState;
use crate::observe::{Member, MemberName};
use crate::outcome::Decision;
use crate::roster::{Entry, Roster};
use crate::spec::PoolSpec;

/// Who goes when the pool is too large: what doesn't serve, then what is not ready, then what has another image than new
/// members get, then the least busy, then the newest. At least `min` ready members stay in the load balancer.
pub(super) fn of<'a>(spec: &PoolSpec, roster: &Roster<'a>, decision: &Decision) -> Vec<&'a Member> {
    // One that isn't known counts where members are made, and not where they are removed.
    let unknown = roster
        .counted()
        .filter(|e| e.state == MemberState::Unknown)
        .count();
    let size = decision.planned.saturating_add(decision.surge);
    let too_many = (decision.actual.saturating_sub(size) as usize).saturating_sub(unknown);
    let busy: BTreeMap<MemberName, f64> = decision.busyness();
    let known = roster.counted().filter(|e| e.state != MemberState::Unknown);
    let mut candidates: Vec<&Entry<'a>> = known.collect();
    let rank = |state: MemberState| match state {
        MemberState::Dead => 0,
        MemberState::Booting => 1,
        MemberState::Ready => 2,
        MemberState::Unready | MemberState::Off => 3,
        MemberState::Serving | MemberState::Draining | MemberState::Unknown => 4,
    };
    let rolling = spec
        .rollout
        .as_ref()
        .is_some_and(|rollout| rollout.is_under_way());
    let image = &spec.recipe_now().image;
    // While members are replaced, those that are to be replaced go first; else what merely has another image.
    let stays = |e: &Entry<'_>| rolling && !e.outdated && e.state != MemberState::Dead;
    let wanted = |e: &Entry<'_>| e.member.image.is(image);
    let busy_of = |e: &Entry<'_>| busy.get(&e.host).copied().unwrap_or(f64::INFINITY);
    candidates.sort_by(|a, b| {
        let by_state = stays(a).cmp(&stays(b)).then(rank(a.state).cmp(&rank(b.state)));
        let by_image = wanted(a).cmp(&wanted(b));
        let by_busyness = busy_of(a).total_cmp(&busy_of(b));
        let by_age = b.member.created_at.cmp(&a.member.created_at);
        by_state
            .then(by_image)
            .then(by_busyness)
            .then(by_age)
            .then(a.member.id.cmp(&b.member.id))
    });
    // While members are replaced, no fewer serve than are wanted.
    let least = if rolling {
        decision.desired.max(spec.min)
    } else {
        spec.min
    };
    let mut spare = roster.serving_ready().saturating_sub(least);
    let may_go = |e: &&Entry<'a>| {
        let serves = e.state == MemberState::Serving;
        let may = !serves || spare > 0;
        spare = spare.saturating_sub(u32::from(serves));
        may
    };
    candidates
        .into_iter()
        .filter(may_go)
        .take(too_many)
        .map(|e| e.member)
        .collect()
}
