//! Where a machine's files stand, and how its manifest's placeholders are filled in.

use std::path::PathBuf;

use crate::machines::Machine;
use crate::machines::addresses::{Network, OPS_PORT, PUBLIC_PORT};
use crate::state::dir::StateDir;

/// The directories of all machines.
#[derive(Debug, Clone)]
pub(super) struct Dirs(PathBuf);

impl Dirs {
    pub(super) fn of(state: &StateDir) -> Self {
        Self(state.hosts())
    }

    /// The directory of them all.
    pub(super) fn all(&self) -> &PathBuf {
        &self.0
    }

    pub(super) fn machine(&self, id: u64) -> PathBuf {
        self.0.join(id.to_string())
    }

    pub(super) fn root(&self, id: u64) -> PathBuf {
        self.machine(id).join("root")
    }

    pub(super) fn logs(&self, id: u64) -> PathBuf {
        self.machine(id).join("log")
    }

    pub(super) fn pid_file(&self, id: u64) -> PathBuf {
        self.machine(id).join("pids.json")
    }

    /// The text with `{root}`, `{ip}`, `{name}`, `{id}`, `{port}` and `{ops_port}` filled in.
    pub(super) fn fill_in(&self, text: &str, machine: &Machine, network: &Network) -> String {
        let endpoint = |port| network.endpoint(port);
        text.replace(
            &format!("{{ip}}:{PUBLIC_PORT}"),
            &endpoint(PUBLIC_PORT).to_string(),
        )
        .replace(&format!("{{ip}}:{OPS_PORT}"), &endpoint(OPS_PORT).to_string())
        .replace("{port}", &endpoint(PUBLIC_PORT).port().to_string())
        .replace("{ops_port}", &endpoint(OPS_PORT).port().to_string())
        .replace("{ip}", &network.private.ip.to_string())
        .replace("{id}", &machine.id.to_string())
        .replace("{name}", &machine.name)
        .replace("{root}", &self.root(machine.id).to_string_lossy())
    }
}
