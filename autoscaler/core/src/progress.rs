//! How far a rollout is: done when all members are of it, and turned round when new ones fail. Read from what was seen.

use std::collections::BTreeSet;

use crate::control::Control;
use crate::members::MemberState;
use crate::memory::Memory;
use crate::observe::{MemberId, MemberName, Observation, Power, UnixMillis, count};
use crate::rollout::{Cause, Rollout, Stage};
use crate::roster::{Entry, Roster};
use crate::spec::PoolSpec;

/// A rollout goes back when so many creates in a row were refused as impossible: an image or a size that isn't to be had.
const REFUSED_MAX: u32 = 3;
/// So many failed members are kept of either side: the largest pool.
const FAILED_MAX: usize = 1000;
/// So many failed members are named.
const NAMED_MAX: usize = 5;

/// The rollout after what was seen: it goes back when new members fail, and is done when all are of it. While the pool is held,
/// nothing is concluded.
pub fn advance(spec: &PoolSpec, seen: &Observation, memory: &Memory, control: Control) -> Option<Rollout> {
    let mut next = spec.rollout.clone()?;
    if !next.is_under_way() || matches!(control, Control::Hold { .. }) {
        return Some(next);
    }
    let roster = Roster::of(spec, seen, memory);
    let sides = Sides::of(spec, &roster, memory, seen.at);
    sides.add_to(&mut next, memory);
    if next.stage == Stage::Paused {
        return Some(next);
    }
    if !next.back
        && let Some(cause) = sides.cause_to_stop(spec, &next, memory)
    {
        next.turn_back(cause);
    } else if is_complete(spec, &roster) {
        next.stage = Stage::Done;
        next.forget_failures();
    }
    Some(next)
}

/// All members are of it and have been ready for long enough, none of the others is left, and none is being made.
fn is_complete(spec: &PoolSpec, roster: &Roster<'_>) -> bool {
    let staying = || roster.entries.iter().filter(|e| e.state != MemberState::Draining);
    let fine = |e: &Entry<'_>| e.seasoned && !e.outdated;
    let leaving = |e: &Entry<'_>| e.state == MemberState::Draining && e.outdated;
    staying().all(fine)
        && count(staying().count()) >= spec.min
        && roster.pending.is_empty()
        && !roster.entries.iter().any(leaving)
}

/// How the new members and the others do.
struct Sides<'r> {
    new: Side<'r>,
    others: Side<'r>,
    proven: bool,
    /// No new one is well, and not for so long that it can't be an outage: with none of the others left that is more likely
    /// the fault of what they share.
    outage: bool,
}

#[derive(Default)]
struct Side<'r> {
    ids: BTreeSet<&'r MemberId>,
    /// They have failed, by their bounds.
    failed: BTreeSet<&'r MemberId>,
    /// Their names.
    named: Vec<MemberName>,
    /// They are not ready, or off, however short.
    unwell: BTreeSet<&'r MemberId>,
}

impl<'r> Sides<'r> {
    fn of(spec: &PoolSpec, roster: &'r Roster<'_>, memory: &Memory, now: UnixMillis) -> Sides<'r> {
        let (mut new, mut others, mut proven) = (Side::default(), Side::default(), false);
        let known = |e: &&Entry<'_>| !matches!(e.state, MemberState::Draining | MemberState::Unknown);
        for entry in roster.entries.iter().filter(known) {
            let side = if entry.outdated { &mut others } else { &mut new };
            proven |= !entry.outdated && entry.seasoned;
            let id = &entry.member.id;
            side.ids.insert(id);
            if has_failed(spec, entry, memory, now) {
                side.failed.insert(id);
                side.named.push(entry.host.clone());
            }
            if matches!(
                entry.state,
                MemberState::Unready | MemberState::Off | MemberState::Dead
            ) {
                side.unwell.insert(id);
            }
        }
        let shared = |id: &&MemberId| {
            let since = memory.members.get(*id).and_then(|known| known.unready_since);
            new.unwell.contains(*id) && !since.is_some_and(|at| now.is_past(at, spec.life.outage_secs()))
        };
        let outage = new.ids.iter().all(shared);
        Sides {
            new,
            others,
            proven,
            outage,
        }
    }

    fn add_to(&self, rollout: &mut Rollout, memory: &Memory) {
        let add = |all: &mut BTreeSet<MemberId>, more: &BTreeSet<&MemberId>| {
            let room = FAILED_MAX.saturating_sub(all.len());
            let more: Vec<MemberId> = more.iter().take(room).map(|id| (*id).clone()).collect();
            all.extend(more);
        };
        rollout.proven |= self.proven;
        add(&mut rollout.failed, &self.new.failed);
        add(&mut rollout.others_failed, &self.others.failed);
        // The memory counts from zero again when a member got ready.
        let times = memory.vanished.times;
        rollout.vanished_before = Some(rollout.vanished_before.unwrap_or(times).min(times));
    }

    fn cause_to_stop(&self, spec: &PoolSpec, rollout: &Rollout, memory: &Memory) -> Option<Cause> {
        if rollout.refused >= REFUSED_MAX {
            return Some(Cause::Refused {
                times: rollout.refused,
            });
        }
        let before = rollout.vanished_before.unwrap_or(0);
        let times = memory.vanished.times.saturating_sub(before);
        if !rollout.proven && times > spec.pace.failures_max {
            return Some(Cause::Vanished { times });
        }
        let failed = count(rollout.failed.len());
        let gone = rollout.failed.iter().filter(|id| !self.new.ids.contains(id));
        let of = count(self.new.ids.len() + gone.count());
        // A common outage shows in the others a moment later: one that is unwell counts.
        let unwell = rollout
            .others_failed
            .iter()
            .chain(self.others.unwell.iter().copied());
        let others_failed = count(unwell.collect::<BTreeSet<_>>().len());
        let gone = rollout
            .others_failed
            .iter()
            .filter(|id| !self.others.ids.contains(id));
        let others = count(self.others.ids.len() + gone.count());
        let share = |part: u32, whole: u32| f64::from(part) / f64::from(whole.max(1));
        // Of the others only those that failed are known by then: their share says nothing.
        let more = if self.others.ids.is_empty() {
            !self.outage && failed > others_failed
        } else {
            share(failed, of) > share(others_failed, others)
        };
        (failed > spec.pace.failures_max && more).then(|| Cause::NewOnesFail {
            failed,
            of,
            others_failed,
            others,
            members: self.new.named.iter().take(NAMED_MAX).cloned().collect(),
        })
    }
}

/// Not ready within the rollout's bound, or off or not ready for so long that it would be called dead by itself.
fn has_failed(spec: &PoolSpec, entry: &Entry<'_>, memory: &Memory, now: UnixMillis) -> bool {
    let known = memory.members.get(&entry.member.id).copied().unwrap_or_default();
    let past = |since: Option<UnixMillis>, secs| since.is_some_and(|since| now.is_past(since, secs));
    match entry.state {
        MemberState::Dead => true,
        MemberState::Booting => past(known.known_since, spec.pace.ready_secs),
        MemberState::Unready => past(known.unready_since, spec.life.unready_secs),
        MemberState::Off => known.has_been(Power::Off, spec.life.unready_secs, now),
        MemberState::Ready | MemberState::Serving | MemberState::Draining | MemberState::Unknown => false,
    }
}
