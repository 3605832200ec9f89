//! Who is in the pool and what each member is: the observation, read with the memory.

use std::collections::{BTreeMap, BTreeSet};

use crate::control::Control;
use crate::copies;
use crate::members::MemberState;
use crate::memory::Memory;
use crate::observe::{Member, MemberId, MemberName, Observation, Power, UnixMillis, count, hosts_of};
use crate::outcome::{DeadMember, DeathCause};
use crate::spec::PoolSpec;
use crate::states::States;

/// One member and what it is.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// The member.
    pub member: &'a Member,
    /// The name that its values have; its own, unless several members share that.
    pub host: MemberName,
    /// What it is.
    pub state: MemberState,
    /// Why it is dead, if it is.
    pub cause: Option<DeathCause>,
    /// A create of ours that was lost and sent again made one member too many, and it is this one.
    pub copy: bool,
    /// Dead, and the breaker of repairs lets it be removed.
    pub repair: bool,
    /// The rollout that is under way replaces it.
    pub outdated: bool,
    /// It serves, and has been ready for as long as a rollout asks of a successor.
    pub seasoned: bool,
}

impl Entry<'_> {
    /// Dead because it was not ready within the boot timeout.
    pub fn boot_timed_out(&self) -> bool {
        matches!(self.cause, Some(DeathCause::NotInTime { .. }))
    }

    /// Whether it stands in the way of nothing and nobody removes it: it makes the pool's size.
    fn counts(&self) -> bool {
        !self.copy && !self.repair && self.state != MemberState::Draining
    }
}

/// Every member of a pool in one tick.
#[derive(Debug, Clone)]
pub struct Roster<'a> {
    /// All of them, oldest first.
    pub entries: Vec<Entry<'a>>,
    /// Creates that are begun and not seen yet.
    pub pending: BTreeSet<&'a MemberName>,
    /// Set when members that look dead are kept, because too many do, or too many were replaced lately.
    pub repairs_refused: Option<RepairsRefused>,
}

/// Why members that look dead are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepairsRefused {
    /// More than half of the members are off or not ready: what they depend on is more likely to be at fault.
    TooManyUnready,
    /// So many were replaced lately that replacing doesn't seem to help.
    TooManyRepairs,
    /// The operator holds the pool.
    Held,
}

impl<'a> Roster<'a> {
    /// Reads an observation. `memory` has taken it in already ([`Memory::observe`]).
    pub fn of(spec: &PoolSpec, seen: &'a Observation, memory: &'a Memory) -> Roster<'a> {
        let mut members: Vec<&Member> = seen.members.iter().collect();
        members.sort_by_key(|m| (m.created_at, &m.id));
        let states = States::new(spec, memory, &members, seen.at);
        let mut hosts = hosts_of(&seen.members);
        let entry = |member: &'a Member| {
            let (state, cause) = states.of(member);
            let ready_since = memory.members.get(&member.id).and_then(|m| m.ready_since);
            let long_ready =
                ready_since.is_some_and(|since| seen.at.is_past(since, spec.pace.min_ready_secs));
            Entry {
                member,
                host: hosts.remove(&member.id).unwrap_or_else(|| member.name.clone()),
                state,
                cause,
                copy: false,
                repair: false,
                // Of what isn't seen nobody knows what it is made of.
                outdated: state != MemberState::Unknown
                    && spec
                        .rollout
                        .as_ref()
                        .is_some_and(|rollout| rollout.replaces(member)),
                seasoned: state == MemberState::Serving && long_ready,
            }
        };
        let mut entries: Vec<Entry<'a>> = members.into_iter().map(entry).collect();

        let mut left = (spec.repair.max as usize).saturating_sub(memory.repairs.len());
        let mut too_many_repairs = false;
        for entry in entries.iter_mut().filter(|e| e.state == MemberState::Dead) {
            let begun = memory.repairs.contains_key(&entry.member.id);
            entry.repair = begun || left > 0;
            too_many_repairs |= !entry.repair;
            left = left.saturating_sub(usize::from(!begun));
        }
        let repairs_refused = if too_many_repairs {
            Some(RepairsRefused::TooManyRepairs)
        } else {
            states.outage.then_some(RepairsRefused::TooManyUnready)
        };
        mark_copies(spec, memory, &mut entries);
        Roster {
            entries,
            pending: memory.pending_creates.keys().collect(),
            repairs_refused,
        }
    }

    /// The same under the operator's word: while a pool is held nobody is removed, however dead it looks, for whoever holds
    /// it may be at work on its members.
    #[must_use]
    pub fn under(mut self, control: Control) -> Self {
        if matches!(control, Control::Hold { .. }) {
            if self.entries.iter().any(|e| e.repair) {
                self.repairs_refused = Some(RepairsRefused::Held);
            }
            for entry in &mut self.entries {
                (entry.repair, entry.copy) = (false, false);
            }
        }
        self
    }

    /// Those that are dead, and why.
    pub fn dead(&self) -> impl Iterator<Item = (&Entry<'a>, DeadMember)> {
        self.entries.iter().filter_map(|e| {
            let name = e.host.clone();
            e.cause.map(|cause| (e, DeadMember { name, cause }))
        })
    }

    /// The members that make the pool's size: neither on their way out nor spare copies. A dead member that is not
    /// removed keeps its place, so that the breaker also stops its replacement.
    pub fn counted(&self) -> impl Iterator<Item = &Entry<'a>> {
        self.entries.iter().filter(|e| e.counts())
    }

    /// The pool's size: members that count, and creates whose member is not seen yet.
    pub fn actual(&self) -> u32 {
        count(self.counted().count() + self.pending.len())
    }

    /// How many are in the load balancer and ready.
    pub fn serving_ready(&self) -> u32 {
        count(
            self.entries
                .iter()
                .filter(|e| e.state == MemberState::Serving && !e.copy)
                .count(),
        )
    }

    /// Those that the load is spread over, ready or not.
    fn serving(&self) -> impl Iterator<Item = &Entry<'a>> {
        let may_serve = |state| {
            matches!(
                state,
                MemberState::Serving | MemberState::Unready | MemberState::Off | MemberState::Unknown
            )
        };
        self.counted()
            .filter(move |e| e.member.serving && may_serve(e.state))
    }

    /// Hosts that the load is spread over, ready or not.
    pub fn serving_hosts(&self) -> BTreeSet<&MemberName> {
        self.serving().map(|e| &e.host).collect()
    }

    /// Of these, the ones that have served for long enough that their values count.
    pub fn warm_hosts(&self, spec: &PoolSpec, memory: &Memory, now: UnixMillis) -> BTreeSet<&MemberName> {
        let warm = |e: &&Entry<'_>| {
            let since = memory.members.get(&e.member.id).and_then(|m| m.serving_since);
            since.is_some_and(|since| now.is_past(since, spec.life.warm_up_secs))
        };
        self.serving().filter(warm).map(|e| &e.host).collect()
    }
}

/// Marks the members that our own creates made twice, as far as the pool's minimum is there without them.
fn mark_copies(spec: &PoolSpec, memory: &Memory, entries: &mut [Entry<'_>]) {
    let members: Vec<&Member> = entries.iter().map(|e| e.member).collect();
    let size = entries.iter().filter(|e| e.counts()).count();
    let spare = size.saturating_sub(spec.min as usize);
    let copies: BTreeSet<&MemberId> = copies::of(memory, &members).into_iter().take(spare).collect();
    for entry in entries {
        entry.copy = copies.contains(&entry.member.id);
    }
}

/// A stretch of time that a value is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From.
    pub from: UnixMillis,
    /// To; the same for a value of one moment.
    pub to: UnixMillis,
}

impl Span {
    /// Which share of this stretch lies between two times, 0 to 1.
    fn share(self, since: UnixMillis, until: Option<UnixMillis>) -> f64 {
        if self.from >= self.to {
            return f64::from(since <= self.to && until.is_none_or(|until| self.to < until));
        }
        let (from, to) = (since.max(self.from), until.unwrap_or(self.to).min(self.to));
        to.secs_since(from).max(0.0) / self.to.secs_since(self.from)
    }
}

/// Who the load was spread over in some stretch of time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Spread<'a> {
    /// Hosts that serve now, and which share of the time they served.
    pub hosts: BTreeMap<&'a MemberName, f64>,
    /// Hosts that served then and don't any more; one that served for half of the time is half one.
    pub gone: f64,
}

impl<'a> Roster<'a> {
    /// Who the load was spread over in that time. What is not remembered is as it is now.
    pub fn spread(&self, memory: &Memory, span: Span) -> Spread<'_> {
        let since = |id: &MemberId| memory.members.get(id).and_then(|m| m.serving_since);
        let hosts = self.serving().map(|e| {
            let share = since(&e.member.id).map_or(1.0, |since| span.share(since, None));
            (&e.host, share)
        });
        let leaving = self
            .entries
            .iter()
            .filter(|e| e.member.draining && e.member.power != Power::Off)
            .filter_map(|e| since(&e.member.id))
            .map(|since| span.share(since, None));
        let ended = memory.stays.iter().map(|s| span.share(s.since, Some(s.until)));
        Spread {
            hosts: hosts.collect(),
            gone: leaving.chain(ended).sum(),
        }
    }
}
