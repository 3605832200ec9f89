//! The operator's word about a pool.

use serde::{Deserialize, Serialize};

/// Who decides about the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Control {
    /// The policies.
    Auto,
    /// The operator: the size it had when `hold` was said. Nobody is removed meanwhile.
    Hold {
        /// Members.
        size: u32,
    },
    /// The operator: a size given by hand.
    Manual {
        /// Members.
        size: u32,
    },
}
