//! The container registry: records and credentials. There is no image in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// All registries, and what the account pays for them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Registries {
    pub(crate) all: BTreeMap<String, Registry>,
    /// There is one as long as there is a registry.
    pub(crate) subscription: Option<Subscription>,
}

/// A registry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Registry {
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) created_at: String,
    /// Oldest first; who has one knows its secret, which is not kept.
    pub(crate) credentials: Vec<Credential>,
}

/// A subscription to a tier, by the tier's slug.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Subscription {
    pub(crate) tier: String,
    pub(crate) created_at: String,
    pub(crate) updated_at: String,
}

/// What was given to a client of the registry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Credential {
    pub(crate) read_write: bool,
    pub(crate) created_at: String,
    /// None for ever.
    pub(crate) expires_at: Option<String>,
}
