//! What a member is to its pool, read from one observation: booting, serving, on its way out, dead.

use serde::{Deserialize, Serialize};

/// A member's place in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// Made, not ready yet, and still within its boot timeout.
    Booting,
    /// Ready, and waits to be admitted to the load balancer.
    Ready,
    /// In the load balancer and ready.
    Serving,
    /// It serves or was ready before, and is not ready; not for long enough to be called dead.
    Unready,
    /// Off, by the provider's word; not for long enough to be called dead.
    Off,
    /// Marked for removal: withdrawn, drained, shut down, destroyed, in this order.
    Draining,
    /// The provider has it, and what it is can't be known: it counts, and is neither admitted nor removed.
    Unknown,
    /// Off or not ready for too long, or never got ready within its boot timeout: to be destroyed and replaced.
    Dead,
}
