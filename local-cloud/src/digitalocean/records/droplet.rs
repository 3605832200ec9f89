//! A droplet's record.

use serde::{Deserialize, Serialize};

use crate::digitalocean::catalog;

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
    /// Its disk: that of its size, unless it was resized without its disk. 0 only in records of earlier versions.
    #[serde(default)]
    pub(crate) disk_gb: u64,
    /// Whether it has a public address.
    #[serde(default = "yes")]
    pub(crate) public_networking: bool,
    /// The image it was made from: of the directory, or a snapshot.
    pub(crate) image: u64,
    /// The image whose programs it runs.
    pub(crate) base_slug: String,
    pub(crate) tags: Vec<String>,
    pub(crate) features: Vec<String>,
    pub(crate) vpc: String,
    pub(crate) snapshots: Vec<u64>,
}

fn yes() -> bool {
    true
}

impl Droplet {
    /// Whether it has the tag; tags are compared without case.
    pub(crate) fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|other| other.eq_ignore_ascii_case(tag))
    }

    /// Whether its size has a GPU.
    pub(crate) fn is_gpu(&self) -> bool {
        catalog::size_of(&self.size).is_some_and(catalog::Size::is_gpu)
    }
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
