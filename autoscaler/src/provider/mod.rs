//! The port to a provider of virtual machines. Only the adapters below know a provider's JSON.

pub mod digitalocean;

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tidepool_autoscaler_core::observe::{Member, MemberId, MemberName, PoolName, UnixMillis};
use tidepool_autoscaler_core::recipe::{Image, Recipe};

/// What a new member is made of; everything is settled, nothing is left to choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateMember {
    /// The pool, for the tag `pool:<name>`.
    pub pool: PoolName,
    /// The member's name; deterministic, so that a repeated create can be recognised.
    pub name: MemberName,
    /// Whether a member of this name may have been made already.
    pub earlier: EarlierCreate,
    /// What it is made of.
    pub made: Made,
}

/// What members are made of. All else (region, keys, network) is as the pool is configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Image, size and generation.
    pub recipe: Recipe,
    /// What cloud-init gets.
    pub user_data: Option<UserData>,
}

/// What cloud-init gets. It may hold secrets, so it is never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserData(pub String);

impl fmt::Debug for UserData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Why the provider can't make members of a recipe.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// It doesn't have what is wanted, in a sentence.
    #[error("{0}")]
    NotToBeHad(String),
    /// It could not be asked.
    #[error("the provider can't be asked for the image and the size")]
    Provider(#[from] ProviderError),
}

/// What is known of earlier creates of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlierCreate {
    /// There was none.
    None,
    /// The memory is too young to say.
    NotKnown,
    /// One was begun at this time, and how it ended was never learned.
    Begun(UnixMillis),
}

/// So begins the id of a member that the provider lists without one: it counts, and no call is made with it.
pub const UNIDENTIFIED: &str = "unidentified-";

/// A pool's members, as the provider lists them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// All of them. What can't be understood is among them, with [`Power::Unknown`](tidepool_autoscaler_core::observe::Power).
    pub members: Vec<Member>,
    /// How many more the provider counts and doesn't show.
    pub unseen: u32,
    /// It may have more, and doesn't say how many.
    pub may_go_on: bool,
    /// By how many milliseconds the provider's clock is ahead of ours; `None` while it has not given the time.
    pub ahead_millis: Option<i64>,
    /// What an operator should know about the list, a sentence each.
    pub problems: Vec<String>,
}

/// A member that was asked for by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The member.
    pub member: Member,
    /// Whether it carries the pool's tag; if not, it can't be taken for one that may be changed.
    pub tagged: bool,
    /// What can't be understood of it.
    pub problem: Option<String>,
}

/// How a provider's refusal should be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderErrorKind {
    /// Nothing happened; the next tick may try again.
    Transient,
    /// Nothing happened; not before so many seconds.
    RateLimited {
        /// Seconds to wait, as the provider said.
        retry_after_secs: u64,
    },
    /// The member (or what it needs) is not there.
    NotFound,
    /// The credentials don't allow it.
    Denied,
    /// The request itself is wrong: a configuration problem.
    Invalid,
    /// A limit of the account is reached: blocks growth only.
    QuotaReached,
    /// The call may or may not have taken effect; observe before doing it again.
    UnknownOutcome,
}

/// A failed call. `Display` leaves the source out.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {subject} failed ({kind:?}): {detail}")]
pub struct ProviderError {
    /// How to take it.
    pub kind: ProviderErrorKind,
    /// The trait's method.
    pub operation: &'static str,
    /// Which member or pool.
    pub subject: String,
    /// The provider's own words, with its request id where it gave one.
    pub detail: String,
    /// The transport's error.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A provider, configured for one pool (region, size, image, keys, VPC, user data).
///
/// Every call is bounded in time, and idempotent where the provider lets it be: removing what is gone, stopping what is
/// off, tagging what is tagged succeed.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// All members of the pool, through every page. `readiness` is `Unknown` here; the observer asks the members.
    async fn members_list(&self, pool: &PoolName) -> Result<Listing, ProviderError>;

    /// One member by its id, whatever lists show; `None` when the provider says that there is none.
    async fn member_get(&self, pool: &PoolName, id: &MemberId) -> Result<Option<Found>, ProviderError>;

    /// Whether the account knows the pool by what outlives its members: an account that has never had any doesn't.
    async fn pool_is_known(&self, pool: &PoolName) -> Result<bool, ProviderError>;

    /// Asks the provider whether it spells the pool's names as the configuration does, and whether the pool's members are
    /// its alone; what isn't so, a sentence each.
    async fn names_check(&self, pool: &PoolName) -> Result<Vec<String>, ProviderError>;

    /// Looks up what members would be made of, and gives the image by all its names. It makes nothing.
    async fn recipe_find(&self, recipe: &Recipe) -> Result<Image, RecipeError>;

    /// Makes one member. On `UnknownOutcome` the caller must observe before it asks again.
    async fn member_create(&self, create: &CreateMember) -> Result<MemberId, ProviderError>;

    /// Lets the load balancer send traffic (tag `serving:<pool>`).
    async fn serving_admit(&self, pool: &PoolName, id: &MemberId) -> Result<(), ProviderError>;

    /// Marks a member for removal (tag `draining:<pool>`). The mark is what tells a member on its way out from a new one
    /// that waits to be admitted, also after a crash; it is never taken back.
    async fn draining_mark(&self, pool: &PoolName, id: &MemberId) -> Result<(), ProviderError>;

    /// Takes it out of the load balancer.
    async fn serving_withdraw(&self, pool: &PoolName, id: &MemberId) -> Result<(), ProviderError>;

    /// Asks its operating system to stop.
    async fn member_shutdown(&self, id: &MemberId) -> Result<(), ProviderError>;

    /// Cuts its power.
    async fn member_power_off(&self, id: &MemberId) -> Result<(), ProviderError>;

    /// Destroys it; success if it is gone already.
    async fn member_destroy(&self, id: &MemberId) -> Result<(), ProviderError>;
}
