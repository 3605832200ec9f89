//! What the core remembers between two ticks. Memory only adds restraint: a lost one makes the autoscaler slower to
//! shrink and to repair, never wrong about what exists.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::observe::{Member, MemberId, MemberName, Observation, Power, Readiness, UnixMillis};
use crate::outcome::{Decision, Plan, Step};
use crate::spec::{PoolSpec, RepairLimit};

/// At most so many recommendations are kept: the longest window (3,600 s) at the shortest tick (1 s), and room.
pub const RECOMMENDATIONS_MAX: usize = 4096;
/// Growth waits so long after the provider said that the account is full.
pub const QUOTA_WAIT_SECS: u32 = 60;

/// A pool that was not observed for so many ticks has a gap in what is known of it. One tick may be late, and one may fail.
const GAP_TICKS: u32 = 3;
/// At most so many ended stays in the load balancer are kept: all of the largest pool (1,000) replaced twice, and room.
const STAYS_MAX: usize = 2048;
/// Stays are kept for so long: the longest window of a signal (3,600 s) and the oldest value (3,600 s).
const STAYS_SECS: u32 = 7200;
/// A copy that a create sent twice has made is recognised for so long after the first of them: a day. What turns up later is
/// a member like any other.
const SENT_AGAIN_SECS: u32 = 86_400;
/// Growth waits at most so long after a create that came to nothing: as long as a provider is asked for patience at most.
pub const GROWTH_WAIT_SECS_MAX: u32 = 3600;
/// Creates that came to nothing are forgotten after so long without another: the longest wait, and as long again for the next
/// one to be made and found gone.
const VANISHED_SECS: u32 = 2 * GROWTH_WAIT_SECS_MAX;
/// At most so many creates that came to nothing are named: more than a tick makes.
const VANISHED_NAMED_MAX: usize = 20;
/// Names of members have numbers up to this one. A pool that makes a thousand members a second gets there in 30,000 years, and
/// there is room behind it.
pub const ORDINAL_MAX: u64 = 1_000_000_000_000_000;
/// The boot timeout is at most so many times what the configuration says, however long boots take.
pub const BOOT_TIMEOUT_FACTOR_MAX: u32 = 8;
/// And at most so long, unless the configuration says more: the longest that it may say.
pub const BOOT_TIMEOUT_SECS_MAX: u32 = 3600;

/// One pool's memory. What an older version didn't know is as if nothing were remembered.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Since when this pool has been watched without a gap.
    pub since: Option<UnixMillis>,
    /// The last tick.
    pub last_tick: Option<UnixMillis>,
    /// The size that the pool is meant to have: what dies or is destroyed by others is replaced up to it, also when no
    /// metric can say what is needed.
    pub size: Option<u32>,
    /// What the policies wanted, oldest first.
    pub recommendations: Vec<Recommendation>,
    /// How the size was changed, oldest first.
    pub resizes: Vec<Resize>,
    /// What is known of single members.
    pub members: BTreeMap<MemberId, MemberMemory>,
    /// Members that the provider has: those it said it made, and those that were seen. Each is followed by its id until
    /// the provider says that there is none, whether lists show it or not.
    pub followed: BTreeMap<MemberId, Followed>,
    /// Creates that were begun and are not seen yet.
    pub pending_creates: BTreeMap<MemberName, UnixMillis>,
    /// Names whose create failed or was never seen: the next create takes one of these first, so that one that turns up
    /// late is recognised by its name.
    pub retry_names: BTreeSet<MemberName>,
    /// Of these, the ones whose end was never learned, and when they were begun: the provider is asked for the name before
    /// it is given again.
    pub unsettled: BTreeMap<MemberName, UnixMillis>,
    /// Of these, the ones that were given again all the same. A copy that turns up may be removed.
    pub sent_again: BTreeMap<MemberName, SentAgain>,
    /// Members that were declared dead and removed, and when.
    pub repairs: BTreeMap<MemberId, UnixMillis>,
    /// The largest number that was ever given to a member's name.
    pub ordinal_max: u64,
    /// Creates that came to nothing after the provider had accepted them.
    pub vanished: Vanished,
    /// No growth before this time: the provider said that the account is full.
    pub create_blocked_until: Option<UnixMillis>,
    /// Ended stays in the load balancer, oldest first: a value that is a minute old is about the hosts of that minute.
    pub stays: Vec<Stay>,
    /// How many times in a row new members were given up because they were not ready in time.
    pub slow_boots: u32,
    /// What boots took lately, seconds; 0 while none was seen.
    pub boot_secs: u32,
}

/// A member's time in the load balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stay {
    /// Since when.
    pub since: UnixMillis,
    /// Until when.
    pub until: UnixMillis,
}

/// What the policies wanted at one time, before any restraint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recommendation {
    /// When.
    pub at: UnixMillis,
    /// Members.
    pub size: u32,
}

/// A planned change of size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resize {
    /// When.
    pub at: UnixMillis,
    /// Members to be made.
    pub created: u32,
    /// Members to be removed because the pool is too large.
    pub removed: u32,
}

/// What is known of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberMemory {
    /// Since when it is known, by our own clock: since its create was acknowledged, or since it was first seen. What a boot
    /// takes is counted from here; the provider's clock may be hours away.
    pub known_since: Option<UnixMillis>,
    /// It was seen before it was ever ready, and has not been ready since.
    pub booting: bool,
    /// It was made or seen booting, and has not served since.
    pub is_new: bool,
    /// What the provider says about its power.
    pub power: Option<Power>,
    /// Since when it has said so at every tick.
    pub power_since: Option<UnixMillis>,
    /// Since when it serves; `None` while it was never seen serving.
    pub serving_since: Option<UnixMillis>,
    /// Since when it is not ready, though it serves or was ready before.
    pub unready_since: Option<UnixMillis>,
    /// Since when it has been ready at every tick.
    pub ready_since: Option<UnixMillis>,
    /// Since when it is both marked for removal and out of the load balancer.
    pub withdrawn_since: Option<UnixMillis>,
    /// When it was first asked to drain. Its word that it is drained counts only after that.
    pub drain_since: Option<UnixMillis>,
    /// When it was first asked to shut down.
    pub shutdown_since: Option<UnixMillis>,
}

impl MemberMemory {
    /// Whether the provider has said of it at every tick, for so long, that this is its power.
    pub fn has_been(&self, power: Power, secs: u32, now: UnixMillis) -> bool {
        self.power == Some(power) && self.power_since.is_some_and(|since| now.is_past(since, secs))
    }
}

/// A name whose create was sent again after one whose end was never learned: both may have taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentAgain {
    /// When the first one was begun.
    pub since: UnixMillis,
    /// How many times it was sent again.
    pub times: u32,
}

/// Creates that the provider accepted, and whose members were gone before they were ready, since one last got ready.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Vanished {
    /// Ticks in which some were found gone.
    pub times: u32,
    /// The last of these ticks.
    pub at: Option<UnixMillis>,
    /// Which, the newest of them.
    pub members: BTreeMap<MemberId, MemberName>,
}

/// A member that the provider has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// Its name.
    pub name: MemberName,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When the provider said that it made it, as long as it was not seen since.
    pub acknowledged_at: Option<UnixMillis>,
    /// Since when the provider says that there is none, while that is not believed.
    #[serde(default)]
    pub missing_since: Option<UnixMillis>,
}

/// What became of a create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateOutcome {
    /// It surely didn't happen.
    Failed,
    /// It surely didn't happen, for the account is full.
    QuotaReached,
}

impl Memory {
    /// Takes in what a tick saw, before anything is decided.
    pub fn observe(&self, spec: &PoolSpec, seen: &Observation) -> Memory {
        let now = seen.at;
        let mut next = self.clone();
        next.forget_what_is_not_yet(now);
        let followed = self.followed_now(spec, now);
        if self.has_gap(spec, now) {
            next.since = Some(now);
            next.size = None;
            // Nobody knows whether it was so all the time.
            let known = next.members.values_mut();
            known.for_each(|m| (m.unready_since, m.ready_since, m.power_since) = (None, None, None));
        }
        next.last_tick = Some(now);
        let members = seen.members.iter();
        next.members = members
            .map(|m| (m.id.clone(), next.member_seen(spec, m, seen)))
            .collect();
        next.stays_ended(&self.members, now);
        next.boots_seen(self, seen);
        next.creates_vanished(self, seen);

        next.followed = seen
            .members
            .iter()
            .map(|m| (m.id.clone(), followed_on(followed.get(&m.id), m, seen)))
            .collect();

        let names: BTreeSet<&MemberName> = seen.members.iter().map(|m| &m.name).collect();
        next.retry_names.retain(|name| !names.contains(name));
        next.unsettled.retain(|name, _| !names.contains(name));
        next.pending_creates.retain(|name, _| !names.contains(name));
        let settle_secs = spec.life.create_settle_secs;
        let lost: BTreeMap<MemberName, UnixMillis> = next
            .pending_creates
            .extract_if(.., |_, begun| now.is_past(*begun, settle_secs))
            .collect();
        next.retry_names.extend(lost.keys().cloned());
        for (name, begun) in lost {
            next.unsettled.entry(name).or_insert(begun);
        }

        next.forget_what_is_past(spec, now);
        let ordinals = seen.members.iter().filter_map(|m| ordinal_of(spec, &m.name));
        // An earlier version took any number for one of its own.
        let given = if next.ordinal_max > ORDINAL_MAX {
            0
        } else {
            next.ordinal_max
        };
        next.ordinal_max = ordinals.fold(given, u64::max);
        next
    }

    /// Whether the pool was not watched for so long that nothing is known of the time between.
    fn has_gap(&self, spec: &PoolSpec, now: UnixMillis) -> bool {
        // Longer than the in-window alone: a window shorter than a tick would make every tick a gap.
        let gap_secs = spec
            .in_window_secs
            .max(spec.tick_secs.saturating_mul(GAP_TICKS))
            .max(1);
        self.last_tick
            .is_none_or(|last| last > now || now.is_past(last, gap_secs))
    }

    /// The members that are followed, as far as that can be gone by now: since when the provider says that there are none
    /// counts only while nobody looked away, and nothing is from the future.
    pub fn followed_now(&self, spec: &PoolSpec, now: UnixMillis) -> BTreeMap<MemberId, Followed> {
        let gap = self.has_gap(spec, now);
        let mut followed = self.followed.clone();
        for known in followed.values_mut() {
            known.acknowledged_at = known.acknowledged_at.map(|at| at.min(now));
            known.missing_since = known.missing_since.filter(|_| !gap);
        }
        followed
    }

    /// Drops what a clock that was set back left behind, so that nothing from the future restrains or permits.
    fn forget_what_is_not_yet(&mut self, now: UnixMillis) {
        self.recommendations.retain(|r| r.at <= now);
        self.resizes.retain(|r| r.at <= now);
        self.repairs.retain(|_, at| *at <= now);
        self.stays.retain(|stay| stay.until <= now);
        let again = self.sent_again.values_mut();
        again.for_each(|again| again.since = again.since.min(now));
        let begun = self
            .pending_creates
            .values_mut()
            .chain(self.unsettled.values_mut());
        begun.for_each(|at| *at = now.min(*at));
        self.vanished.at = self.vanished.at.map(|at| at.min(now));
        self.create_blocked_until = self
            .create_blocked_until
            .map(|at| at.min(now.plus_secs(QUOTA_WAIT_SECS)));
    }

    fn forget_what_is_past(&mut self, spec: &PoolSpec, now: UnixMillis) {
        let window_secs = spec.in_window_secs.max(spec.out_window_secs);
        self.recommendations.retain(|r| !now.is_past(r.at, window_secs));
        let excess = self.recommendations.len().saturating_sub(RECOMMENDATIONS_MAX);
        self.recommendations.drain(..excess);
        self.stays.retain(|stay| !now.is_past(stay.until, STAYS_SECS));
        let excess = self.stays.len().saturating_sub(STAYS_MAX);
        self.stays.drain(..excess);
        if self.vanished.at.is_some_and(|at| now.is_past(at, VANISHED_SECS)) {
            self.vanished = Vanished::default();
        }
        let period_secs = spec.limits.out_period_secs.max(spec.limits.in_period_secs);
        self.resizes.retain(|r| !now.is_past(r.at, period_secs));
        self.repairs
            .retain(|_, at| !now.is_past(*at, spec.repair.window_secs));
        self.sent_again
            .retain(|_, again| !now.is_past(again.since, SENT_AGAIN_SECS));
    }

    fn member_seen(&self, spec: &PoolSpec, member: &Member, seen: &Observation) -> MemberMemory {
        let now = seen.at;
        let known = self.members.get(&member.id).copied();
        let before = known.unwrap_or_default();
        let power_since = if before.power == Some(member.power) {
            before.power_since.unwrap_or(now).min(now)
        } else {
            now
        };
        // A member that was already serving when it was first seen is taken to have served since it was made: after a
        // restart the pool must still be able to grow at once. How long ago that is only the provider's clock can say.
        let made_at = seen.by_our_clock(member.created_at);
        let first_serving = made_at.filter(|_| known.is_none()).unwrap_or(now);
        let stopped = member.power == Power::Off && now.is_past(power_since, spec.life.unready_secs);
        let serves = member.serving && !stopped;
        let staying = !member.draining;
        let not_ready = member.readiness != Readiness::Ready;
        let booting = known.is_none_or(|known| known.booting) && staying && !member.serving && not_ready;
        let acknowledged_at = self.followed.get(&member.id).and_then(|f| f.acknowledged_at);
        let made_now = known.is_none() && acknowledged_at.is_some();
        let withdrawn = member.draining && !member.serving;
        MemberMemory {
            known_since: before
                .known_since
                .or(acknowledged_at)
                .or(Some(now))
                .map(|at| at.min(now)),
            booting,
            is_new: staying && !member.serving && (booting || made_now || before.is_new),
            power: Some(member.power),
            power_since: Some(power_since),
            serving_since: serves.then(|| before.serving_since.unwrap_or(first_serving).min(now)),
            unready_since: (staying && not_ready && !booting)
                .then(|| before.unready_since.unwrap_or(now).min(now)),
            ready_since: (staying && !not_ready).then(|| before.ready_since.unwrap_or(now).min(now)),
            withdrawn_since: withdrawn.then(|| before.withdrawn_since.unwrap_or(now).min(now)),
            drain_since: before.drain_since.map(|at| at.min(now)),
            shutdown_since: before.shutdown_since.map(|at| at.min(now)),
        }
    }

    /// The provider said that it made a member: from now on it is followed by its id.
    pub fn create_acknowledged(&mut self, name: &MemberName, id: &MemberId, at: UnixMillis) {
        self.pending_creates.remove(name);
        self.unsettled.remove(name);
        self.followed.insert(
            id.clone(),
            Followed {
                name: name.clone(),
                created_at: at,
                acknowledged_at: Some(at),
                missing_since: None,
            },
        );
    }

    /// The provider destroyed a member, as it was asked to: nobody need ask for it again.
    pub fn destroyed(&mut self, id: &MemberId) {
        self.followed.remove(id);
    }

    /// Notes the stays of members that served in the tick before and don't serve now.
    fn stays_ended(&mut self, before: &BTreeMap<MemberId, MemberMemory>, now: UnixMillis) {
        let serves = |id| self.members.get(id).is_some_and(|m| m.serving_since.is_some());
        let ended: Vec<Stay> = before
            .iter()
            .filter(|(id, _)| !serves(id))
            .filter_map(|(_, m)| m.serving_since)
            .filter(|since| *since < now)
            .map(|since| Stay { since, until: now })
            .collect();
        self.stays.extend(ended);
    }

    /// Learns from the members that got ready since the tick before what a boot takes. A slow one counts at once, and is
    /// forgotten by and by.
    fn boots_seen(&mut self, before: &Memory, seen: &Observation) {
        for member in &seen.members {
            let known = before.members.get(&member.id).filter(|known| known.booting);
            let since = known.and_then(|known| known.known_since);
            if let Some(known_since) = since
                && member.readiness == Readiness::Ready
                && !member.draining
            {
                // A float to integer cast saturates at both ends, which is what is wanted.
                let took = seen.at.secs_since(known_since).ceil() as u32;
                self.boot_secs = took.max(self.boot_secs / 4 * 3);
                self.slow_boots = 0;
            }
        }
    }

    /// Finds the members that the provider said it made, or that were seen to boot, and that are gone without our doing before
    /// they were ready. Each counts as a repair: making it again doesn't seem to help either.
    fn creates_vanished(&mut self, before: &Memory, seen: &Observation) {
        let was_made = |id: &MemberId| {
            let followed = before.followed.get(id);
            let boots = before.members.get(id).is_some_and(|known| known.booting);
            followed.is_some_and(|known| known.acknowledged_at.is_some()) || boots
        };
        let mut members = seen.members.iter();
        if members.any(|m| m.readiness == Readiness::Ready && was_made(&m.id)) {
            self.vanished = Vanished::default();
        }
        let there: BTreeSet<&MemberId> = seen.members.iter().map(|m| &m.id).collect();
        let gone: Vec<(&MemberId, &Followed)> = before
            .followed
            .iter()
            .filter(|(id, _)| !there.contains(id) && was_made(id) && !before.repairs.contains_key(id))
            .collect();
        if gone.is_empty() {
            return;
        }
        let vanished = &mut self.vanished;
        (vanished.times, vanished.at) = (vanished.times.saturating_add(1), Some(seen.at));
        for (id, known) in gone {
            self.repairs.entry(id.clone()).or_insert(seen.at);
            vanished.members.insert(id.clone(), known.name.clone());
        }
        while vanished.members.len() > VANISHED_NAMED_MAX {
            vanished.members.pop_first();
        }
    }

    /// How long growth waits after the last create that came to nothing: as long as it took to find out, and twice as long
    /// each time; 0 where the last one didn't.
    pub fn growth_wait_secs(&self, spec: &PoolSpec) -> u32 {
        let Some(doublings) = self.vanished.times.checked_sub(1) else {
            return 0;
        };
        let secs = spec.life.create_settle_secs.max(1);
        secs.saturating_mul(2_u32.saturating_pow(doublings))
            .min(GROWTH_WAIT_SECS_MAX)
    }

    /// Whether growth waits because creates came to nothing: for its time, and for as long as the breaker of repairs is
    /// open, in which they count.
    pub fn growth_waits(&self, spec: &PoolSpec, now: UnixMillis) -> bool {
        let waits = |at| !now.is_past(at, self.growth_wait_secs(spec));
        let RepairLimit { max, .. } = spec.repair;
        let broken = max > 0 && self.repairs.len() >= max as usize;
        self.vanished.at.is_some_and(|at| broken || waits(at))
    }

    /// How long a new member may take to get ready. As configured, until boots are seen to take about as long or longer:
    /// then each time that none was ready in time the next get twice as long, and one that got ready leaves half as much
    /// again as it took.
    pub fn boot_timeout_secs(&self, spec: &PoolSpec) -> u32 {
        let configured = spec.life.boot_timeout_secs;
        let most = configured
            .saturating_mul(BOOT_TIMEOUT_FACTOR_MAX)
            .min(BOOT_TIMEOUT_SECS_MAX)
            .max(configured);
        let doubled = configured.saturating_mul(2_u32.saturating_pow(self.slow_boots));
        let learnt = self.boot_secs.saturating_add(self.boot_secs / 2);
        doubled.max(learnt).min(most)
    }

    /// Notes a decision and its plan before any step is run, so that a crash leaves the restraint in place.
    pub fn intend(&mut self, spec: &PoolSpec, decision: &Decision, plan: &Plan) {
        let at = decision.at;
        self.recommendations.push(Recommendation {
            at,
            size: decision.recommended,
        });
        // Growth is kept as far as it was planned; what was kept before stays kept unless less is wanted now.
        self.size = Some(decision.planned.max(decision.desired.min(decision.kept)));
        let mut created = 0;
        for step in &plan.steps {
            match step {
                Step::Create { name, .. } => {
                    created += 1;
                    self.retry_names.remove(name);
                    if let Some(since) = self.unsettled.get(name).copied() {
                        let again = self.sent_again.entry(name.clone());
                        again.or_insert(SentAgain { since, times: 0 }).times += 1;
                    }
                    self.pending_creates.insert(name.clone(), at);
                    self.ordinal_max = self.ordinal_max.max(ordinal_of(spec, name).unwrap_or(0));
                }
                Step::Shutdown { id, .. } => {
                    self.members
                        .entry(id.clone())
                        .or_default()
                        .shutdown_since
                        .get_or_insert(at);
                }
                Step::Drain { id, .. } => {
                    self.members
                        .entry(id.clone())
                        .or_default()
                        .drain_since
                        .get_or_insert(at);
                }
                Step::Admit { .. }
                | Step::MarkDraining { .. }
                | Step::Withdraw { .. }
                | Step::PowerOff { .. }
                | Step::Destroy { .. } => {}
            }
        }
        let given_up = |id: &MemberId| !self.repairs.contains_key(id);
        if plan.boots_given_up.iter().any(given_up) {
            self.slow_boots = self.slow_boots.saturating_add(1);
        }
        for id in &plan.repaired {
            self.repairs.entry(id.clone()).or_insert(at);
        }
        if created > 0 || plan.removed > 0 {
            self.resizes.push(Resize {
                at,
                created,
                removed: plan.removed,
            });
        }
    }

    /// Takes back a create that surely didn't happen: it neither counts as a member nor against the step limit.
    pub fn create_failed(&mut self, name: &MemberName, begun: UnixMillis, outcome: CreateOutcome) {
        if self.pending_creates.remove(name).is_some() {
            self.retry_names.insert(name.clone());
        }
        // An earlier one of the same name may have been lost: that stays open.
        if let Some(resize) = self.resizes.iter_mut().find(|r| r.at == begun) {
            resize.created = resize.created.saturating_sub(1);
        }
        match outcome {
            CreateOutcome::Failed => {}
            CreateOutcome::QuotaReached => self.create_blocked_until = Some(begun.plus_secs(QUOTA_WAIT_SECS)),
        }
    }
}

/// What is known of a member that was seen.
fn followed_on(known: Option<&Followed>, member: &Member, seen: &Observation) -> Followed {
    let acknowledged_at = match member.power {
        Power::Unknown => known.and_then(|f| f.acknowledged_at),
        Power::Creating | Power::Running | Power::Off => None,
    };
    let missing_since = known.and_then(|f| f.missing_since).unwrap_or(seen.at);
    Followed {
        name: member.name.clone(),
        created_at: member.created_at,
        acknowledged_at,
        missing_since: seen
            .missing
            .contains(&member.id)
            .then(|| missing_since.min(seen.at)),
    }
}

/// The number in a name that this autoscaler gave: `7` of `api-7` in pool `api`. What is over [`ORDINAL_MAX`] it didn't give.
pub fn ordinal_of(spec: &PoolSpec, name: &MemberName) -> Option<u64> {
    let number = digits_of(spec, name)?.parse().ok()?;
    (number <= ORDINAL_MAX).then_some(number)
}

/// Whether a name looks like one that this autoscaler gave, but for a number over [`ORDINAL_MAX`].
pub fn is_over_ordinals(spec: &PoolSpec, name: &MemberName) -> bool {
    digits_of(spec, name).is_some() && ordinal_of(spec, name).is_none()
}

fn digits_of<'n>(spec: &PoolSpec, name: &'n MemberName) -> Option<&'n str> {
    let digits = name.0.strip_prefix(&spec.name.0)?.strip_prefix('-')?;
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then_some(digits)
}
