//! A droplet's record: what DigitalOcean's API knows of a machine and the machine itself does not.

use serde::{Deserialize, Serialize};

use crate::digitalocean::catalog;
use crate::machines::{Machine, Power};

/// A droplet as it survives a restart; it has the id of its machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Droplet {
    pub(crate) id: u64,
    /// True while an action runs.
    pub(crate) locked: bool,
    pub(crate) created_at: String,
    pub(crate) region: String,
    pub(crate) size: String,
    /// Whether it has a public address.
    #[serde(default = "yes")]
    pub(crate) public_networking: bool,
    /// The image it was made from: of the directory, or a snapshot.
    pub(crate) image: u64,
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

/// A droplet with its machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WithMachine<'a> {
    pub(crate) droplet: &'a Droplet,
    pub(crate) machine: &'a Machine,
}

/// A machine's power as the API names it.
pub(crate) fn status(power: Power) -> &'static str {
    match power {
        Power::New => "new",
        Power::On => "active",
        Power::Off => "off",
    }
}
