//! The port to a provider of virtual machines. Only the adapters below know a provider's JSON.

pub mod digitalocean;

use async_trait::async_trait;
use tidepool_autoscaler_core::observe::{Member, MemberId, MemberName, PoolName};

/// What a new member is made of; everything is settled, nothing is left to choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateMember {
    /// The pool, for the tag `pool:<name>`.
    pub pool: PoolName,
    /// The member's name; deterministic, so that a repeated create can be recognised.
    pub name: MemberName,
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
    async fn members_list(&self, pool: &PoolName) -> Result<Vec<Member>, ProviderError>;

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
