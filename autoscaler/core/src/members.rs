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
    /// In the load balancer, but not ready; not for long enough to be called dead.
    Unready,
    /// Marked for removal: withdrawn, drained, shut down, destroyed, in this order.
    Draining,
    /// The provider has it, and what it is can't be known: it counts, and is neither admitted nor removed.
    Unknown,
    /// Off, never got ready within its boot timeout, or not ready for too long: to be destroyed and replaced.
    Dead,
}
