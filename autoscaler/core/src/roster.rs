//! Who is in the pool and what each member is: the observation, read with the memory.

use std::collections::{BTreeMap, BTreeSet};

use crate::members::MemberState;
use crate::memory::Memory;
use crate::observe::{Member, MemberId, MemberName, Observation, Power, Readiness, UnixMillis, count};
use crate::spec::PoolSpec;

/// One member and what it is.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The member.
    pub member: &'a Member,
    /// What it is.
    pub state: MemberState,
    /// Whether another member of the same name is kept instead of it.
    pub duplicate: bool,
    /// Dead, and the breaker of repairs lets it be removed.
    pub repair: bool,
    /// Dead because it was not ready within the boot timeout.
    pub boot_timed_out: bool,
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
    /// More than half of the serving members are not ready: what they depend on is more likely to be at fault.
    TooManyUnready,
    /// So many were replaced lately that replacing doesn't seem to help.
    TooManyRepairs,
}

impl<'a> Roster<'a> {
    /// Reads an observation. `memory` has taken it in already ([`Memory::observe`]).
    pub fn of(spec: &PoolSpec, seen: &'a Observation, memory: &'a Memory) -> Roster<'a> {
        let now = seen.at;
        let mut members: Vec<&Member> = seen.members.iter().collect();
        members.sort_by_key(|m| (m.created_at, &m.id));
        let outage = outage_suspected(&members);
        let states = States {
            spec,
            memory,
            now,
            outage,
        };
        let kept = kept_of_each_name(&members);
        let mut entries: Vec<Entry<'a>> = members
            .into_iter()
            .map(|member| {
                let state = states.of(member);
                let dead = state == MemberState::Dead;
                let powered = matches!(member.power, Power::Creating | Power::Running);
                Entry {
                    member,
                    state,
                    // What isn't known is not taken for a spare copy, whatever its name.
                    duplicate: !member.draining
                        && member.power != Power::Unknown
                        && kept.get(&member.name) != Some(&&member.id),
                    repair: false,
                    boot_timed_out: dead && powered && !member.serving,
                }
            })
            .collect();

        let mut left = (spec.repair.max as usize).saturating_sub(memory.repairs.len());
        let mut too_many_repairs = false;
        for entry in entries
            .iter_mut()
            .filter(|e| e.state == MemberState::Dead && !e.duplicate)
        {
            let begun = memory.repairs.contains_key(&entry.member.id);
            entry.repair = begun || left > 0;
            too_many_repairs |= !entry.repair;
            left = left.saturating_sub(usize::from(!begun));
        }
        let repairs_refused = if too_many_repairs {
            Some(RepairsRefused::TooManyRepairs)
        } else {
            outage.then_some(RepairsRefused::TooManyUnready)
        };
        Roster {
            entries,
            pending: memory.pending_creates.keys().collect(),
            repairs_refused,
        }
    }

    /// The members that make the pool's size: neither on their way out nor spare copies. A dead member that is not
    /// removed keeps its place, so that the breaker also stops its replacement.
    pub fn counted(&self) -> impl Iterator<Item = &Entry<'a>> {
        self.entries
            .iter()
            .filter(|e| !e.duplicate && !e.repair && e.state != MemberState::Draining)
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
                .filter(|e| e.state == MemberState::Serving && !e.duplicate)
                .count(),
        )
    }

    /// Hosts that the load is spread over, ready or not.
    pub fn serving_hosts(&self) -> BTreeSet<&'a MemberName> {
        let serving = |e: &&Entry<'_>| {
            let unknown_in_balancer = e.state == MemberState::Unknown && e.member.serving;
            unknown_in_balancer || matches!(e.state, MemberState::Serving | MemberState::Unready)
        };
        self.counted().filter(serving).map(|e| &e.member.name).collect()
    }

    /// Of these, the ones that have served for long enough that their values count.
    pub fn warm_hosts(&self, spec: &PoolSpec, memory: &Memory, now: UnixMillis) -> BTreeSet<&'a MemberName> {
        let warm = |id: &MemberId| {
            let since = memory.members.get(id).and_then(|m| m.serving_since);
            since.is_some_and(|since| now.is_past(since, spec.life.warm_up_secs))
        };
        let serving = self.serving_hosts();
        let counted = self
            .counted()
            .filter(|e| serving.contains(&e.member.name) && warm(&e.member.id));
        counted.map(|e| &e.member.name).collect()
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
    pub fn spread(&self, memory: &Memory, span: Span) -> Spread<'a> {
        let serving = self.serving_hosts();
        let since = |id: &MemberId| memory.members.get(id).and_then(|m| m.serving_since);
        let counted = self.counted().filter(|e| serving.contains(&e.member.name));
        let hosts = counted.map(|e| {
            let share = since(&e.member.id).map_or(1.0, |since| span.share(since, None));
            (&e.member.name, share)
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

/// What members' states are made from.
struct States<'a> {
    spec: &'a PoolSpec,
    memory: &'a Memory,
    now: UnixMillis,
    /// So many members are unready that the fault is likelier in what they share.
    outage: bool,
}

impl States<'_> {
    fn of(&self, member: &Member) -> MemberState {
        let Self {
            spec,
            memory,
            now,
            outage,
        } = *self;
        let ready = member.readiness == Readiness::Ready;
        if member.draining {
            return MemberState::Draining;
        }
        match member.power {
            Power::Off => return MemberState::Dead,
            Power::Unknown => return MemberState::Unknown,
            Power::Creating | Power::Running => {}
        }
        match (member.serving, ready) {
            (true, true) => MemberState::Serving,
            (false, true) => MemberState::Ready,
            (true, false) => {
                let since = memory
                    .members
                    .get(&member.id)
                    .and_then(|m| m.unready_since)
                    .unwrap_or(now);
                let too_long = now.is_past(since, spec.life.unready_secs);
                if too_long && !outage {
                    MemberState::Dead
                } else {
                    MemberState::Unready
                }
            }
            (false, false) if now.is_past(member.created_at, memory.boot_timeout_secs(spec)) => {
                MemberState::Dead
            }
            (false, false) => MemberState::Booting,
        }
    }
}

/// More than half of the running members in the load balancer are not ready, and more than one: the fault is likelier in
/// what they share (their database, our own way to them) than in each of them.
fn outage_suspected(members: &[&Member]) -> bool {
    let in_balancer = members
        .iter()
        .filter(|m| m.serving && !m.draining && m.power != Power::Off);
    let (mut all, mut unready) = (0_usize, 0_usize);
    for member in in_balancer {
        all += 1;
        unready += usize::from(member.readiness != Readiness::Ready);
    }
    unready > 1 && unready * 2 > all
}

/// Of members with one name the best is kept: serving before not, ready before not, then the oldest.
fn kept_of_each_name<'a>(members: &[&'a Member]) -> BTreeMap<&'a MemberName, &'a MemberId> {
    let mut kept: BTreeMap<&MemberName, &Member> = BTreeMap::new();
    let rank = |m: &Member| (m.power == Power::Off, !m.serving, m.readiness != Readiness::Ready);
    for member in members
        .iter()
        .filter(|m| !m.draining && m.power != Power::Unknown)
    {
        let best = kept.entry(&member.name).or_insert(member);
        if rank(member) < rank(best) {
            *best = member;
        }
    }
    kept.into_iter()
        .map(|(name, member)| (name, &member.id))
        .collect()
}
