//! Who goes because a rollout has made its successor, and what new members are made of while one is under way.

use std::collections::{BTreeMap, BTreeSet};

use crate::control::Control;
use crate::members::MemberState;
use crate::observe::{Member, MemberId, MemberName, count};
use crate::outcome::Decision;
use crate::recipe::Generation;
use crate::rollout::{Rollout, Stage};
use crate::roster::{Entry, Roster};
use crate::spec::PoolSpec;

/// The members that are replaced now: at most as many at a time as the surge, and only as far as the pool has more members
/// than it shall have and more of them serve than are wanted. A new one serves for this only when it has been ready for a
/// while. Who doesn't serve goes first, then the least busy, then the oldest.
pub(super) fn outdated<'a>(
    spec: &PoolSpec,
    roster: &Roster<'a>,
    decision: &Decision,
    victims: &BTreeSet<&MemberId>,
) -> Vec<&'a Member> {
    let running = |rollout: &&Rollout| rollout.stage == Stage::Running;
    if spec.rollout.as_ref().filter(running).is_none() || matches!(decision.control, Control::Hold { .. }) {
        return Vec::new();
    }
    let staying = || roster.counted().filter(|e| !victims.contains(&e.member.id));
    let needed = decision.desired.max(decision.planned);
    let leaving = roster
        .entries
        .iter()
        .filter(|e| e.outdated && e.state == MemberState::Draining);
    let at_a_time = spec.pace.surge.saturating_sub(count(leaving.count()));
    let mut spare = count(staying().filter(|e| serves(e)).count()).saturating_sub(needed);
    let tried = staying().filter(|e| e.outdated || e.seasoned);
    let over = count(tried.count()).saturating_sub(needed);
    let busy = decision.busyness();
    let mut candidates: Vec<&Entry<'a>> = staying().filter(|e| e.outdated).collect();
    candidates.sort_by(|a, b| by_usefulness(&busy, a, b));
    let may_go = |e: &&Entry<'a>| {
        let serving = e.state == MemberState::Serving;
        let may = !serving || spare > 0;
        spare = spare.saturating_sub(u32::from(serving));
        may
    };
    candidates
        .into_iter()
        .filter(may_go)
        .take(at_a_time.min(over) as usize)
        .map(|e| e.member)
        .collect()
}

/// Whether it is one that others may be taken out for.
fn serves(entry: &Entry<'_>) -> bool {
    entry.state == MemberState::Serving && (entry.outdated || entry.seasoned)
}

fn by_usefulness(busy: &BTreeMap<MemberName, f64>, a: &Entry<'_>, b: &Entry<'_>) -> std::cmp::Ordering {
    let busy_of = |e: &Entry<'_>| busy.get(&e.host).copied().unwrap_or(f64::INFINITY);
    let serving = |e: &Entry<'_>| e.state == MemberState::Serving;
    let by_age = (a.member.created_at, &a.member.id).cmp(&(b.member.created_at, &b.member.id));
    serving(a)
        .cmp(&serving(b))
        .then(busy_of(a).total_cmp(&busy_of(b)))
        .then(by_age)
}

/// What each of so many new members is made of. Until one of the new kind has shown that it serves, no more of it are made
/// than the surge, and all others are of what serves already.
pub(super) fn generations(
    spec: &PoolSpec,
    roster: &Roster<'_>,
    creates: u32,
) -> impl Iterator<Item = Option<Generation>> {
    let recipe = spec.recipe_now();
    let known = spec.rollout.as_ref().map_or(recipe, |rollout| rollout.grows_by());
    let untried = roster.counted().filter(|e| !e.outdated).count() + roster.pending.len();
    let room = if known == recipe {
        creates
    } else {
        spec.pace.surge.saturating_sub(count(untried))
    };
    let (first, others) = (recipe.generation.clone(), known.generation.clone());
    (0..creates).map(move |n| if n < room { first.clone() } else { others.clone() })
}
