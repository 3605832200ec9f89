//! What holds a recommendation back: windows, minimum and maximum, step limits.

use crate::memory::{Memory, Resize};
use crate::observe::UnixMillis;
use crate::outcome::Reason;
use crate::spec::PoolSpec;

/// What one decision is held back by.
pub(super) struct Restraint<'a> {
    pub(super) spec: &'a PoolSpec,
    pub(super) memory: &'a Memory,
    pub(super) now: UnixMillis,
    /// Members that the provider counts and doesn't show.
    pub(super) unseen: u32,
    /// It may have more than it shows, and doesn't say how many.
    pub(super) may_go_on: bool,
}

impl Restraint<'_> {
    /// Holds a recommendation back until its window agrees: growth to the smallest recommendation of the out-window,
    /// shrinking to the largest of the in-window. A pool that was not watched for a whole in-window doesn't shrink yet.
    pub(super) fn stabilise(&self, kept: u32, recommended: u32, why: &mut Vec<Reason>) -> u32 {
        let (out_secs, in_secs) = (self.spec.out_window_secs, self.spec.in_window_secs);
        if recommended > kept {
            let enough = self.recommended_within(out_secs).fold(recommended, u32::min);
            if enough < recommended {
                why.push(Reason::OutWindow {
                    secs: out_secs,
                    enough,
                });
            }
            return enough.max(kept);
        }
        if recommended < kept {
            let since = self.memory.since;
            if !since.is_some_and(|since| self.now.is_past(since, in_secs)) {
                why.push(Reason::NotWatched { secs: in_secs });
                return kept;
            }
            let needed = self.recommended_within(in_secs).fold(recommended, u32::max);
            if needed > recommended {
                why.push(Reason::InWindow {
                    secs: in_secs,
                    needed,
                });
            }
            return needed.min(kept);
        }
        kept
    }

    fn recommended_within(&self, secs: u32) -> impl Iterator<Item = u32> {
        let past = self.memory.recommendations.iter();
        past.filter(move |r| !self.now.is_past(r.at, secs))
            .map(|r| r.size)
    }

    /// Minimum and maximum, with or without metrics.
    pub(super) fn bounded(&self, wanted: u32, why: &mut Vec<Reason>) -> u32 {
        let PoolSpec { min, max, .. } = *self.spec;
        let desired = wanted.min(max).max(min);
        if desired < wanted {
            why.push(Reason::OverMaximum { wanted, max });
        } else if desired > wanted {
            why.push(Reason::UnderMinimum { wanted, min });
        }
        desired
    }

    /// As far towards `desired` as the step limits leave.
    pub(super) fn stepped(&self, actual: u32, desired: u32, why: &mut Vec<Reason>) -> u32 {
        let limits = &self.spec.limits;
        if desired > actual {
            let blocked_until = self.memory.create_blocked_until;
            if blocked_until.is_some_and(|until| self.now < until) {
                why.push(Reason::AccountFull);
                return actual;
            }
            // The reason is among those of members, for it is one also while nobody is wanted.
            if self.memory.growth_waits(self.spec, self.now) {
                return actual;
            }
            let (max, period_secs) = (limits.out_max, limits.out_period_secs);
            let left = max.saturating_sub(self.changed_within(period_secs, |r| r.created));
            if desired - actual > left {
                why.push(Reason::OutLimit { max, period_secs });
            }
            return desired.min(actual.saturating_add(left));
        }
        let (max, period_secs) = (limits.in_max, limits.in_period_secs);
        let left = max.saturating_sub(self.changed_within(period_secs, |r| r.removed));
        if actual - desired > left {
            why.push(Reason::InLimit { max, period_secs });
        }
        desired.max(actual.saturating_sub(left))
    }

    /// Without those that the provider counts and doesn't show: they may be the ones that seem to be missing.
    pub(super) fn without_unseen(&self, actual: u32, planned: u32, why: &mut Vec<Reason>) -> u32 {
        let wanted = planned.saturating_sub(actual);
        if self.may_go_on && wanted > 0 {
            why.push(Reason::ListMayGoOn);
            return actual;
        }
        let not_made = wanted.min(self.unseen);
        if not_made > 0 {
            why.push(Reason::Unseen { count: self.unseen });
        }
        planned - not_made
    }

    /// How many more than planned a rollout may have of those that it wants: making them is restrained like growth.
    pub(super) fn surged(&self, actual: u32, planned: u32, wanted: u32, why: &mut Vec<Reason>) -> u32 {
        let total = planned.saturating_add(wanted);
        if total <= actual {
            return wanted;
        }
        let mut more = Vec::new();
        let stepped = self.stepped(actual, total, &mut more);
        let made = self.without_unseen(actual, stepped, &mut more);
        // Growth itself may have given the same reasons.
        more.retain(|reason| !why.contains(reason));
        why.append(&mut more);
        made.saturating_sub(planned)
    }

    fn changed_within(&self, secs: u32, count: impl Fn(&Resize) -> u32) -> u32 {
        let resizes = self.memory.resizes.iter();
        resizes
            .filter(|r| !self.now.is_past(r.at, secs))
            .map(count)
            .fold(0, u32::saturating_add)
    }
}
