//! What comes of a tick, as values: what each policy proposes, what is decided and why, and the steps of a plan. Text is
//! made of them in `words.rs` alone, so that tests and a later explanation compare values.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::observe::{MemberId, MemberName, UnixMillis};
use crate::recipe::Generation;
use crate::rollout::Cause;
use crate::signal::Signal;
use crate::spec::Across;

/// What a policy thinks of the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verdict {
    /// Too small.
    Grow {
        /// Members needed.
        to: u32,
    },
    /// Right, or no need to change it.
    Keep,
    /// Too large.
    Shrink {
        /// Members that are enough.
        to: u32,
    },
    /// The signal can't be trusted, so the pool may not shrink.
    Blind,
}

/// How a policy came to its verdict, with the numbers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Working {
    /// A load, divided by what a host should have of it.
    Load {
        /// How the hosts' values became one.
        across: Across,
        /// The hosts' mean, the largest value or the total, as `across` says.
        measured: f64,
        /// Hosts that the load was spread over when it was measured; a host that served for half of that time is half one.
        hosts: f64,
        /// What a host should have.
        target: f64,
        /// Members for the load that was surely measured: hosts without a value count as idle.
        low: u32,
        /// Members with hosts without a value counted as loaded like the others.
        high: u32,
    },
    /// There was nothing to work with; the signal says why.
    #[default]
    Unread,
}

/// A policy's proposal. It is serialised with its formula in words.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "SavedProposal")]
pub struct Proposal {
    /// The policy.
    pub policy: String,
    /// What it wants.
    pub verdict: Verdict,
    /// How it came to that.
    pub working: Working,
    /// The signal it went by; `None` for a policy that goes by none.
    pub basis: Option<Basis>,
}

/// The signal that a proposal goes by.
#[derive(Debug, Clone, PartialEq)]
pub struct Basis {
    /// The signal's name; empty where an older version wrote none.
    pub signal_name: String,
    /// How far it can be trusted, with the values.
    pub signal: Signal,
    /// Its value across hosts, if there is one.
    pub value: Option<f64>,
    /// What the policy steers it towards, if there is such a value.
    pub target: Option<f64>,
}

/// A proposal as it is written: what it goes by stands beside the rest.
#[derive(Deserialize)]
struct SavedProposal {
    policy: String,
    verdict: Verdict,
    #[serde(default)]
    working: Working,
    #[serde(default)]
    signal_name: String,
    signal: Option<Signal>,
    value: Option<f64>,
    target: Option<f64>,
}

impl From<SavedProposal> for Proposal {
    fn from(saved: SavedProposal) -> Proposal {
        let SavedProposal {
            policy,
            verdict,
            working,
            signal_name,
            signal,
            value,
            target,
        } = saved;
        let basis = signal.map(|signal| Basis {
            signal_name,
            signal,
            value,
            target,
        });
        Proposal {
            policy,
            verdict,
            working,
            basis,
        }
    }
}

/// What the pool should be, and why. It is serialised with its reason in words.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Decision {
    /// When.
    pub at: UnixMillis,
    /// Who decided about the size; `Auto` where an older version did not write it.
    #[serde(default = "auto")]
    pub control: Control,
    /// The pool's size as observed, creates under way among it.
    pub actual: u32,
    /// The size that it is meant to have until something else is decided: `actual`, and what has died or gone since.
    pub kept: u32,
    /// What the policies alone would have.
    pub recommended: u32,
    /// What is wanted: after the operator, the windows and the bounds.
    pub desired: u32,
    /// What this tick goes to: `desired` as far as the step limits let it.
    pub planned: u32,
    /// How many of `actual` are there beyond the pool's size, as successors that a rollout made.
    #[serde(default)]
    pub surplus: u32,
    /// How many more than `planned` a rollout lets the pool have.
    #[serde(default)]
    pub surge: u32,
    /// Why, in the order in which it was weighed.
    #[serde(default)]
    pub reasons: Vec<Reason>,
    /// Each policy's proposal.
    pub proposals: Vec<Proposal>,
}

fn auto() -> Control {
    Control::Auto
}

/// One reason of a decision, with its numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// This policy's proposal.
    Policy {
        /// Its name.
        policy: String,
    },
    /// There is no policy.
    NoPolicy,
    /// The operator holds the pool.
    Held {
        /// At this size.
        size: u32,
    },
    /// The operator gave a size.
    SetByHand {
        /// This one.
        size: u32,
    },
    /// Growth waits: fewer were enough a moment ago.
    OutWindow {
        /// Within so many seconds.
        secs: u32,
        /// So many were enough.
        enough: u32,
    },
    /// Shrinking waits: more were needed a moment ago.
    InWindow {
        /// Within so many seconds.
        secs: u32,
        /// So many were needed.
        needed: u32,
    },
    /// Shrinking waits: the pool has not been watched for long enough.
    NotWatched {
        /// It must have been watched for so many seconds.
        secs: u32,
    },
    /// More are wanted than are allowed.
    OverMaximum {
        /// So many.
        wanted: u32,
        /// So many are allowed.
        max: u32,
    },
    /// Fewer are wanted than are allowed.
    UnderMinimum {
        /// So many.
        wanted: u32,
        /// So many must be there.
        min: u32,
    },
    /// Members are gone and are replaced.
    Gone {
        /// So many.
        gone: u32,
        /// Of so many.
        kept: u32,
    },
    /// The provider said that the account's limit is reached.
    AccountFull,
    /// Creates that the provider accepted came to nothing, so that growth waits after the last of them.
    Vanished {
        /// Which, with the ids that the provider gave them.
        members: Vec<MemberName>,
        /// Seconds.
        wait_secs: u32,
    },
    /// The provider counts more members than it shows, so that as many fewer are made.
    Unseen {
        /// So many more.
        count: u32,
    },
    /// The provider's list may go on beyond what it shows, so that none are made.
    ListMayGoOn,
    /// The step limit of growth.
    OutLimit {
        /// At most so many more.
        max: u32,
        /// Within so many seconds; 0 for one tick.
        period_secs: u32,
    },
    /// The step limit of shrinking.
    InLimit {
        /// At most so many fewer.
        max: u32,
        /// Within so many seconds; 0 for one tick.
        period_secs: u32,
    },
    /// Members took too long to boot, so that the next ones get longer.
    SlowBoots {
        /// So many times in a row none was ready in time.
        times: u32,
        /// Seconds that a member gets now.
        secs: u32,
    },
    /// No repairs: more than half of the members are off or not ready, so what they depend on is more likely at fault.
    TooManyUnready,
    /// Members look dead and are left alone, for the operator holds the pool.
    RepairsHeld {
        /// Which, and what is wrong with each.
        members: Vec<DeadMember>,
    },
    /// Members are dead and are removed.
    Repairs {
        /// Which, and what is wrong with each.
        members: Vec<DeadMember>,
    },
    /// Members are removed because a create that was lost and sent again made one too many.
    Copies {
        /// Which.
        members: Vec<MemberName>,
    },
    /// Members were chosen to leave before, and go on leaving.
    Leaving {
        /// Which.
        members: Vec<MemberName>,
    },
    /// A rollout replaces members.
    RollingOut {
        /// What they shall be made of.
        to: String,
        /// So many are not of it yet.
        left: u32,
        /// Of so many.
        of: u32,
    },
    /// A rollout is paused.
    RolloutPaused {
        /// What they shall be made of.
        to: String,
        /// So many are not of it yet.
        left: u32,
        /// Of so many.
        of: u32,
    },
    /// A rollout waits, for the operator holds the pool.
    RolloutHeld {
        /// What they shall be made of.
        to: String,
        /// So many are not of it yet.
        left: u32,
        /// Of so many.
        of: u32,
    },
    /// A rollout was stopped.
    RolloutStopped {
        /// It goes back.
        back: bool,
        /// Why.
        cause: Cause,
    },
    /// No more repairs: so many were replaced lately that replacing doesn't seem to help.
    TooManyRepairs {
        /// At most so many are replaced.
        max: u32,
        /// Within so many seconds.
        window_secs: u32,
    },
}

/// A member that is dead, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadMember {
    /// Its name.
    pub name: MemberName,
    /// What is wrong with it.
    pub cause: DeathCause,
}

/// Why a member is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DeathCause {
    /// The provider has said for so long that it is off.
    Off {
        /// At least so many seconds.
        secs: u32,
    },
    /// It has not been ready for so long.
    NotReady {
        /// At least so many seconds.
        secs: u32,
    },
    /// It never got ready within its boot timeout.
    NotInTime {
        /// The timeout, seconds.
        secs: u32,
    },
}

impl Decision {
    /// The pool's size without the successors that a rollout made.
    pub fn base(&self) -> u32 {
        self.actual.saturating_sub(self.surplus)
    }

    /// How busy each host is, for the choice of victims: the first policy's fresh values.
    pub fn busyness(&self) -> BTreeMap<MemberName, f64> {
        let values = self
            .proposals
            .iter()
            .filter_map(|p| p.basis.as_ref())
            .find_map(|b| match &b.signal {
                Signal::Fresh { values } | Signal::Partial { values, .. } => Some(values),
                Signal::Stale { .. } | Signal::Missing { .. } => None,
            });
        let pairs = values.into_iter().flat_map(|v| v.warm.iter().chain(&v.warming));
        pairs.map(|(host, value)| (host.clone(), *value)).collect()
    }
}

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
        /// The generation of what it is made of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<Generation>,
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
            Step::Create { name, .. }
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
    /// Those of them that were not ready within the boot timeout.
    #[serde(default)]
    pub boots_given_up: BTreeSet<MemberId>,
}
