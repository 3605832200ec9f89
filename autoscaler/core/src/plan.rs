//! The named steps from what is to what was decided. After this no step involves a choice, and running a plan twice does
//! what running it once does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::decide::{Decision, busyness};
use crate::members::MemberState;
use crate::memory::{MemberMemory, Memory};
use crate::observe::{Member, MemberId, MemberName, Observation, Power, UnixMillis};
use crate::roster::{Entry, Roster};
use crate::spec::PoolSpec;

/// One call, with everything in it settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Let the load balancer send it traffic.
    Admit {
        /// Which.
        id: MemberId,
        /// Its name.
        name: MemberName,
    },
    /// Make a member of this name.
    Create {
        /// Its name.
        name: MemberName,
    },
    /// Mark it for removal, for good.
    MarkDraining {
        /// Which.
        id: MemberId,
        /// Its name.
        name: MemberName,
    },
    /// Take it out of the load balancer.
    Withdraw {
        /// Which.
        id: MemberId,
        /// Its name.
        name: MemberName,
    },
    /// Ask it to finish what it has begun.
    Drain {
        /// Which.
        id: MemberId,
        /// Its name.
        name: MemberName,
        /// Where it is asked.
        address: IpAddr,
    },
    /// Ask its operating system to stop.
    Shutdown {
        /// Which.
        id: MemberId,
        /// Its name.
        name: MemberName,
    },
    /// Cut its power.
    PowerOff {
        /// Which.
        id: MemberId,
        /// Its name.
        name: MemberName,
    },
    /// Destroy it.
    Destroy {
        /// Which.
        id: MemberId,
        /// Its name.
        name: MemberName,
    },
}

/// A step's kind, without its member: for journals, metrics and the list of crash points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// [`Step::Admit`].
    Admit,
    /// [`Step::Create`].
    Create,
    /// [`Step::MarkDraining`].
    MarkDraining,
    /// [`Step::Withdraw`].
    Withdraw,
    /// [`Step::Drain`].
    Drain,
    /// [`Step::Shutdown`].
    Shutdown,
    /// [`Step::PowerOff`].
    PowerOff,
    /// [`Step::Destroy`].
    Destroy,
}

impl StepKind {
    /// The first kind; the others follow by [`StepKind::next`].
    pub const FIRST: StepKind = StepKind::Admit;

    /// The kind after this one. A chain instead of a list, because a new kind can't be left out of it: this match would
    /// not compile.
    pub const fn next(self) -> Option<StepKind> {
        match self {
            StepKind::Admit => Some(StepKind::Create),
            StepKind::Create => Some(StepKind::MarkDraining),
            StepKind::MarkDraining => Some(StepKind::Withdraw),
            StepKind::Withdraw => Some(StepKind::Drain),
            StepKind::Drain => Some(StepKind::Shutdown),
            StepKind::Shutdown => Some(StepKind::PowerOff),
            StepKind::PowerOff => Some(StepKind::Destroy),
            StepKind::Destroy => None,
        }
    }

    /// Every kind, in the order of a member's life.
    pub fn all() -> impl Iterator<Item = StepKind> {
        std::iter::successors(Some(StepKind::FIRST), |kind| kind.next())
    }

    /// The kind's name, as in journals, metrics and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            StepKind::Admit => "admit",
            StepKind::Create => "create",
            StepKind::MarkDraining => "mark_draining",
            StepKind::Withdraw => "withdraw",
            StepKind::Drain => "drain",
            StepKind::Shutdown => "shutdown",
            StepKind::PowerOff => "power_off",
            StepKind::Destroy => "destroy",
        }
    }
}

impl Step {
    /// What kind of step it is.
    pub const fn kind(&self) -> StepKind {
        match self {
            Step::Admit { .. } => StepKind::Admit,
            Step::Create { .. } => StepKind::Create,
            Step::MarkDraining { .. } => StepKind::MarkDraining,
            Step::Withdraw { .. } => StepKind::Withdraw,
            Step::Drain { .. } => StepKind::Drain,
            Step::Shutdown { .. } => StepKind::Shutdown,
            Step::PowerOff { .. } => StepKind::PowerOff,
            Step::Destroy { .. } => StepKind::Destroy,
        }
    }

    /// The member's name.
    pub const fn name(&self) -> &MemberName {
        match self {
            Step::Create { name }
            | Step::Admit { name, .. }
            | Step::MarkDraining { name, .. }
            | Step::Withdraw { name, .. }
            | Step::Drain { name, .. }
            | Step::Shutdown { name, .. }
            | Step::PowerOff { name, .. }
            | Step::Destroy { name, .. } => name,
        }
    }

    /// The member's id; a create has none yet.
    pub const fn id(&self) -> Option<&MemberId> {
        match self {
            Step::Create { .. } => None,
            Step::Admit { id, .. }
            | Step::MarkDraining { id, .. }
            | Step::Withdraw { id, .. }
            | Step::Drain { id, .. }
            | Step::Shutdown { id, .. }
            | Step::PowerOff { id, .. }
            | Step::Destroy { id, .. } => Some(id),
        }
    }
}

/// Steps in their order, each to be tried once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// How many members are removed because the pool is too large, for the step limit.
    pub removed: u32,
    /// Members that are removed as dead, for the breaker of repairs.
    pub repaired: BTreeSet<MemberId>,
}

/// Plans. `memory` is the one that the decision was made with.
///
/// Capacity comes first (admit, create), removal after it, so that a slow removal doesn't delay growth.
pub fn plan(spec: &PoolSpec, seen: &Observation, memory: &Memory, decision: &Decision) -> Plan {
    let roster = Roster::of(spec, seen, memory);
    let victims = victims_of(spec, &roster, decision);
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
        steps.extend(removal_begins(victim));
    }
    for entry in &roster.entries {
        let Entry {
            member,
            state,
            duplicate,
            repair,
        } = *entry;
        if state == MemberState::Draining {
            let known = memory.members.get(&member.id).copied().unwrap_or_default();
            let drained = seen.drained.contains(&member.id);
            steps.extend(removal_goes_on(spec, member, known, drained, seen.at));
        } else if duplicate {
            steps.extend(removal_begins(member));
        } else if repair {
            steps.extend(removal_of_dead(member));
        }
    }
    let repaired = roster
        .entries
        .iter()
        .filter(|e| e.repair)
        .map(|e| e.member.id.clone())
        .collect();
    Plan {
        steps,
        removed: crate::roster::saturating(victims.len()),
        repaired,
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

/// Who goes when the pool is too large: what doesn't serve, then what is not ready, then what has another image than new
/// members get, then the least busy, then the newest. At least `min` ready members stay in the load balancer.
fn victims_of<'a>(spec: &PoolSpec, roster: &Roster<'a>, decision: &Decision) -> Vec<&'a Member> {
    let too_many = decision.actual.saturating_sub(decision.planned) as usize;
    let busy: BTreeMap<MemberName, f64> = busyness(decision);
    let mut candidates: Vec<&Entry<'a>> = roster.counted().collect();
    let rank = |state: MemberState| match state {
        MemberState::Dead => 0,
        MemberState::Booting => 1,
        MemberState::Ready => 2,
        MemberState::Unready => 3,
        MemberState::Serving | MemberState::Draining => 4,
    };
    let busy_of = |e: &Entry<'_>| busy.get(&e.member.name).copied().unwrap_or(f64::INFINITY);
    candidates.sort_by(|a, b| {
        let by_state = rank(a.state).cmp(&rank(b.state));
        let by_image = (a.member.image == spec.image).cmp(&(b.member.image == spec.image));
        let by_busyness = busy_of(a).total_cmp(&busy_of(b));
        let by_age = b.member.created_at.cmp(&a.member.created_at);
        by_state
            .then(by_image)
            .then(by_busyness)
            .then(by_age)
            .then(a.member.id.cmp(&b.member.id))
    });
    let mut spare = roster.serving_ready().saturating_sub(spec.min);
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

/// The first steps out of the pool. One that was never in the load balancer has nothing to drain.
fn removal_begins(member: &Member) -> Vec<Step> {
    let (id, name) = (member.id.clone(), member.name.clone());
    if member.serving {
        vec![
            Step::MarkDraining {
                id: id.clone(),
                name: name.clone(),
            },
            Step::Withdraw { id, name },
        ]
    } else {
        vec![Step::Destroy { id, name }]
    }
}

/// A dead member has nothing to drain either, but may still be in the load balancer.
fn removal_of_dead(member: &Member) -> Vec<Step> {
    let (id, name) = (member.id.clone(), member.name.clone());
    let withdraw = Step::Withdraw {
        id: id.clone(),
        name: name.clone(),
    };
    let first = member.serving.then_some(withdraw);
    first.into_iter().chain([Step::Destroy { id, name }]).collect()
}

/// The next step of a member on its way out, from what is seen of it: withdrawn, drained, shut down, destroyed.
fn removal_goes_on(
    spec: &PoolSpec,
    member: &Member,
    known: MemberMemory,
    drained: bool,
    now: UnixMillis,
) -> Option<Step> {
    let (id, name) = (member.id.clone(), member.name.clone());
    let life = &spec.life;
    if member.serving {
        return Some(Step::Withdraw { id, name });
    }
    if member.power != Power::Running {
        return Some(Step::Destroy { id, name });
    }
    if let Some(shutdown) = known.shutdown_since {
        // It was asked to stop and runs on: its power is cut, and if that doesn't help either, it is destroyed as it is.
        if now.is_past(shutdown, life.shutdown_secs.saturating_mul(2)) {
            return Some(Step::Destroy { id, name });
        }
        return now
            .is_past(shutdown, life.shutdown_secs)
            .then_some(Step::PowerOff { id, name });
    }
    let withdrawn = known.withdrawn_since.unwrap_or(now);
    if now.is_past(
        withdrawn,
        life.drain_secs.saturating_add(life.withdraw_settle_secs),
    ) {
        return Some(Step::Shutdown { id, name });
    }
    if !now.is_past(withdrawn, life.withdraw_settle_secs) {
        return None;
    }
    let drained = drained && known.drain_since.is_some();
    match (drained, member.address) {
        (true, _) => Some(Step::Shutdown { id, name }),
        (false, Some(address)) => Some(Step::Drain { id, name, address }),
        // Nobody can be asked: it has until the bound.
        (false, None) => None,
    }
}
