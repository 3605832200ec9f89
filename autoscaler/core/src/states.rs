//! What a member is in one tick, from what was seen and for how long. What is said in one tick only, by the provider or by
//! the member itself, is not believed where believing it costs the member.

use crate::members::MemberState;
use crate::memory::{MemberMemory, Memory};
use crate::observe::{Member, Power, Readiness, UnixMillis};
use crate::outcome::DeathCause;
use crate::spec::PoolSpec;

/// What members' states are made from.
pub(crate) struct States<'a> {
    spec: &'a PoolSpec,
    memory: &'a Memory,
    now: UnixMillis,
    /// So many members are off or not ready that the fault is likelier in what they share.
    pub(crate) outage: bool,
}

impl<'a> States<'a> {
    /// The states of these members. `memory` has taken them in already.
    pub(crate) fn new(spec: &'a PoolSpec, memory: &'a Memory, members: &[&Member], now: UnixMillis) -> Self {
        Self {
            spec,
            memory,
            now,
            outage: outage_suspected(members),
        }
    }

    /// What this member is; of a dead one, why.
    pub(crate) fn of(&self, member: &Member) -> (MemberState, Option<DeathCause>) {
        let alive = |state| (state, None);
        if member.draining {
            return alive(MemberState::Draining);
        }
        match member.power {
            Power::Off => return self.of_one_off(member),
            Power::Unknown => return alive(MemberState::Unknown),
            Power::Creating | Power::Running => {}
        }
        let known = self.known(member);
        match (member.serving, member.readiness == Readiness::Ready) {
            (true, true) => alive(MemberState::Serving),
            (false, true) => alive(MemberState::Ready),
            (_, false) if known.booting => self.of_one_that_boots(member, known),
            (_, false) => self.of_one_unready(known),
        }
    }

    fn known(&self, member: &Member) -> MemberMemory {
        self.memory.members.get(&member.id).copied().unwrap_or_default()
    }

    fn of_one_off(&self, member: &Member) -> (MemberState, Option<DeathCause>) {
        // A machine doesn't start by itself: one that is off is waited for while most are, and not for ever.
        let life = &self.spec.life;
        let secs = if self.outage {
            life.outage_secs()
        } else {
            life.unready_secs
        };
        if self.known(member).has_been(Power::Off, secs, self.now) {
            (MemberState::Dead, Some(DeathCause::Off { secs }))
        } else {
            (MemberState::Off, None)
        }
    }

    fn of_one_that_boots(&self, member: &Member, known: MemberMemory) -> (MemberState, Option<DeathCause>) {
        let rollout = self
            .spec
            .rollout
            .as_ref()
            .filter(|rollout| rollout.is_under_way());
        let tried = rollout.is_some_and(|rollout| !rollout.back && !rollout.replaces(member));
        let mut secs = self.memory.boot_timeout_secs(self.spec);
        if tried {
            // One that has failed makes room for the next, so that a rollout that can't succeed turns round. The way back doesn't.
            secs = secs.min(self.spec.pace.ready_secs);
        }
        let since = known.known_since.unwrap_or(self.now);
        if self.now.is_past(since, secs) {
            (MemberState::Dead, Some(DeathCause::NotInTime { secs }))
        } else {
            (MemberState::Booting, None)
        }
    }

    fn of_one_unready(&self, known: MemberMemory) -> (MemberState, Option<DeathCause>) {
        let secs = self.spec.life.unready_secs;
        let since = known.unready_since.unwrap_or(self.now);
        if self.now.is_past(since, secs) && !self.outage {
            (MemberState::Dead, Some(DeathCause::NotReady { secs }))
        } else {
            (MemberState::Unready, None)
        }
    }
}

/// More than half, and more than one, of the members in the load balancer are off or not ready, or of all members are off:
/// the fault is likelier in what they share (their database, our own way to them, the provider's word) than in each of them.
fn outage_suspected(members: &[&Member]) -> bool {
    let most = |all: usize, bad: usize| bad > 1 && bad * 2 > all;
    let staying = || members.iter().filter(|m| !m.draining);
    let in_balancer = || staying().filter(|m| m.serving);
    let unready = in_balancer()
        .filter(|m| m.readiness != Readiness::Ready || m.power == Power::Off)
        .count();
    let off = staying().filter(|m| m.power == Power::Off).count();
    most(in_balancer().count(), unready) || most(staying().count(), off)
}
