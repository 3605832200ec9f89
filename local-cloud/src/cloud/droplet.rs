//! A droplet's record.

use serde::{Deserialize, Serialize};

/// A droplet as it survives a restart.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Droplet {
    pub(crate) id: u64,
    pub(crate) name: String,
    /// Its place among the addresses.
    pub(crate) slot: u32,
    pub(crate) status: Status,
    /// True while an action runs.
    pub(crate) locked: bool,
    pub(crate) created_at: String,
    pub(crate) region: String,
    pub(crate) size: String,
    /// The image it was made from: of the directory, or a snapshot.
    pub(crate) image: u64,
    /// The image whose programs it runs.
    pub(crate) base_slug: String,
    pub(crate) tags: Vec<String>,
    pub(crate) features: Vec<String>,
    pub(crate) vpc: String,
    pub(crate) snapshots: Vec<u64>,
}

/// A droplet's state as the API names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Status {
    New,
    Active,
    Off,
}

impl Status {
    /// As the API writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Active => "active",
            Self::Off => "off",
        }
    }
}
