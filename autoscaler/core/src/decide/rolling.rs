//! How many members more than it would have a pool gets because of a rollout: each successor is made before its predecessor
//! goes.

use crate::control::Control;
use crate::members::MemberState;
use crate::memory::Memory;
use crate::observe::count;
use crate::outcome::Reason;
use crate::rollout::{Rollout, Stage};
use crate::roster::Roster;
use crate::spec::PoolSpec;

/// A rollout that is under way, in one tick.
pub(super) struct Rolling<'a> {
    spec: &'a PoolSpec,
    rollout: &'a Rollout,
    roster: &'a Roster<'a>,
    held: bool,
    /// Members that are there beyond the size that the pool is meant to have.
    pub(super) surplus: u32,
}

impl<'a> Rolling<'a> {
    pub(super) fn of(
        spec: &'a PoolSpec,
        roster: &'a Roster<'a>,
        memory: &Memory,
        control: Control,
    ) -> Option<Self> {
        let rollout = spec.rollout.as_ref().filter(|rollout| rollout.is_under_way())?;
        let actual = roster.actual();
        // Who remembers no size takes all up to the maximum for wanted: the pool may stay larger, and is never smaller for it.
        let size = memory.size.unwrap_or(actual).min(spec.max);
        let beyond = actual.saturating_sub(size);
        Some(Rolling {
            spec,
            rollout,
            roster,
            held: matches!(control, Control::Hold { .. }),
            surplus: beyond.min(spec.pace.surge),
        })
    }

    /// How many more than planned the pool shall have. Those that are on their way out count among the ones that are replaced
    /// at a time, so that never more exist than the maximum and these.
    pub(super) fn surge(&self, planned: u32) -> u32 {
        let unsettled = !self.roster.pending.is_empty() && !self.rollout.proven && !self.rollout.back;
        if self.held || self.rollout.stage != Stage::Running || unsettled {
            return self.surplus;
        }
        let outdated = |wanted: fn(MemberState) -> bool| {
            let entries = self.roster.entries.iter();
            count(entries.filter(|e| e.outdated && wanted(e.state)).count())
        };
        let left = outdated(|state| state != MemberState::Draining);
        let leaving = outdated(|state| state == MemberState::Draining);
        let PoolSpec { max, pace, .. } = self.spec;
        let room = max.saturating_add(pace.surge).saturating_sub(planned);
        let wanted = pace.surge.saturating_sub(leaving).min(left).min(room);
        wanted.max(self.surplus.min(left))
    }

    pub(super) fn reasons(&self) -> Vec<Reason> {
        let staying = self
            .roster
            .entries
            .iter()
            .filter(|e| e.state != MemberState::Draining);
        let of = count(staying.clone().count());
        let left = count(staying.filter(|e| e.outdated).count());
        let to = self.rollout.to.to_string();
        let going = match (self.held, self.rollout.stage) {
            (true, _) => Reason::RolloutHeld { to, left, of },
            (false, Stage::Paused) => Reason::RolloutPaused { to, left, of },
            (false, Stage::Running | Stage::Done) => Reason::RollingOut { to, left, of },
        };
        let cause = self.rollout.cause.clone();
        let turned = cause.map(|cause| Reason::RolloutStopped {
            back: self.rollout.back,
            cause,
        });
        std::iter::once(going).chain(turned).collect()
    }
}
