//! A pool's settings as the core needs them: checked by the configuration, plain numbers here.

mod saved;

use serde::{Deserialize, Serialize};

use crate::observe::PoolName;
use crate::recipe::Recipe;
use crate::rollout::Rollout;

/// Everything that decides about one pool, apart from what is observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "saved::SavedPool")]
pub struct PoolSpec {
    /// The pool.
    pub name: PoolName,
    /// Never fewer members; at least 1, for a pool of none has no signal to grow from.
    pub min: u32,
    /// Never more.
    pub max: u32,
    /// What new members are made of, unless a rollout says otherwise; members of other images are the first victims.
    pub recipe: Recipe,
    /// Seconds between two ticks: what is not seen for several of them is a gap.
    pub tick_secs: u32,
    /// What is measured, each under its own name. Several policies may go by one signal.
    pub signals: Vec<SignalSettings>,
    /// What the pool follows. Empty only where `min` is `max`.
    pub policies: Vec<Policy>,
    /// Growth must have been wanted for so long, seconds; 0 grows at once.
    pub out_window_secs: u32,
    /// A smaller size must have been enough for so long, seconds.
    pub in_window_secs: u32,
    /// How fast the pool may change.
    pub limits: StepLimits,
    /// How long the stages of a member's life may take.
    pub life: Lifetimes,
    /// How many dead members may be replaced.
    pub repair: RepairLimit,
    /// How a rollout goes on.
    pub pace: Pace,
    /// The last one that was ordered.
    pub rollout: Option<Rollout>,
}

impl PoolSpec {
    /// What the pool's members are to be made of.
    pub fn recipe_now(&self) -> &Recipe {
        self.rollout.as_ref().map_or(&self.recipe, |rollout| &rollout.to)
    }
}

/// How a signal is judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalSettings {
    /// Its name; policies refer to it.
    pub name: String,
    /// How the hosts' values become one.
    pub across: Across,
    /// A value is about so many seconds before its time; 0 for a value of one moment.
    pub window_secs: u32,
    /// A host's value older than this does not count, seconds.
    pub fresh_secs: u32,
}

/// What a pool follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Policy {
    /// Tracks a signal to its target.
    Target(TargetPolicy),
}

/// A policy's kind, without its settings: for the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKind {
    /// [`Policy::Target`].
    Target,
}

impl PolicyKind {
    /// The first kind; the others follow by [`PolicyKind::next`].
    pub const FIRST: PolicyKind = PolicyKind::Target;

    /// The kind after this one. A chain instead of a list, because a new kind can't be left out of it: this match would
    /// not compile.
    pub const fn next(self) -> Option<PolicyKind> {
        match self {
            PolicyKind::Target => None,
        }
    }

    /// Every kind.
    pub fn all() -> impl Iterator<Item = PolicyKind> {
        std::iter::successors(Some(PolicyKind::FIRST), |kind| kind.next())
    }

    /// The kind's name, as in the configuration and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            PolicyKind::Target => "target",
        }
    }
}

impl Policy {
    /// What kind of policy it is.
    pub const fn kind(&self) -> PolicyKind {
        match self {
            Policy::Target(_) => PolicyKind::Target,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Policy::Target(policy) => &policy.name,
        }
    }

    /// The name of the signal that it goes by, if it goes by one.
    pub fn signal(&self) -> Option<&str> {
        match self {
            Policy::Target(policy) => Some(&policy.signal),
        }
    }
}

/// Tracks a signal to its target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetPolicy {
    /// The policy's name.
    pub name: String,
    /// The name of the signal that it goes by.
    pub signal: String,
    /// The value a host should have; above 0. For [`Across::Sum`] a host's share of the pool's total.
    pub target: f64,
    /// No change while the load is within this share of what the pool is made for; 0.1 is ten per cent.
    pub tolerance: f64,
}

/// How the values of the hosts become the pool's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Across {
    /// The mean: for ratios such as CPU.
    Avg,
    /// The total: for rates such as requests a second.
    Sum,
    /// The fullest host: for what must not overflow anywhere, such as memory.
    Max,
}

/// At most so many members more or fewer within a period. With a period of 0 the limit holds for each tick by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLimits {
    /// Members made, replacements among them.
    pub out_max: u32,
    /// Within so many seconds.
    pub out_period_secs: u32,
    /// Members removed because the pool is too large.
    pub in_max: u32,
    /// Within so many seconds.
    pub in_period_secs: u32,
}

/// Bounds of the stages of a member's life, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetimes {
    /// A member's values count as the pool's only after it has served for so long.
    pub warm_up_secs: u32,
    /// A new member that is not ready by then is replaced.
    pub boot_timeout_secs: u32,
    /// A serving member that has not been ready for so long is replaced.
    pub unready_secs: u32,
    /// A create without an answer counts as a member for so long, even if the provider doesn't list it.
    pub create_settle_secs: u32,
    /// Between leaving the load balancer and being asked to drain: the balancer notices in this time.
    pub withdraw_settle_secs: u32,
    /// A draining member is shut down after so long, whether it is drained or not.
    pub drain_secs: u32,
    /// A member that was asked to shut down and runs on is cut off after so long.
    pub shutdown_secs: u32,
}

/// What is said of most members at once is believed only after so many times `unready_secs`: the fault is likelier in what
/// they share, but waiting for ever would leave the pool without them.
const OUTAGE_FACTOR: u32 = 10;

impl Lifetimes {
    /// What is said of most members at once is believed after so many seconds.
    pub fn outage_secs(&self) -> u32 {
        self.unready_secs.saturating_mul(OUTAGE_FACTOR)
    }
}

/// How a rollout goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// At most so many members more than the pool would have, and so many replaced at a time; at least 1.
    pub surge: u32,
    /// A new member counts as its predecessor's successor when it has been ready for so long, seconds.
    pub min_ready_secs: u32,
    /// A new member that is not ready after so long has failed, seconds.
    pub ready_secs: u32,
    /// With more failed new members than this, and relatively more than old ones, the rollout goes back.
    pub failures_max: u32,
}

impl Default for Pace {
    /// The defaults of the configuration, for records that older versions wrote.
    fn default() -> Pace {
        Pace {
            surge: 1,
            min_ready_secs: 30,
            ready_secs: 300,
            failures_max: 1,
        }
    }
}

/// The breaker of repairs: beyond it, dead members stay and are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairLimit {
    /// Members declared dead and removed.
    pub max: u32,
    /// Within so many seconds.
    pub window_secs: u32,
}
