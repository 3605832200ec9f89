//! The machines of this local cloud, as every API works with them: how they are reached, and how they run.

use std::sync::Arc;
use std::time::Duration;

use crate::hosts::{Boot, Hosts};
use crate::machines::Machine;
use crate::machines::addresses::{Addresses, Network};
use crate::machines::faults::{BootFault, Faults};
use crate::manifests::{Images, Manifests};

/// All machines and what they are made from.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) hosts: Arc<dyn Hosts>,
    pub(crate) addresses: Addresses,
    pub(crate) manifests: Manifests,
    pub(crate) faults: Arc<Faults>,
    /// How long a shutdown may take before the power is cut.
    pub(crate) stop_grace: Duration,
}

impl Fleet {
    /// How a machine is reached.
    pub(crate) fn network(&self, machine: &Machine) -> Network {
        self.addresses.network(machine)
    }

    /// What it takes to power a machine on now; None, and a line in the log, when its image is gone.
    pub(crate) fn boot_of(&self, images: &Images, machine: &Machine, fault: BootFault) -> Option<Boot> {
        let Some(image) = images.get(&machine.image) else {
            tracing::error!(
                machine = machine.id,
                image = machine.image,
                "can't boot: its image is gone"
            );
            return None;
        };
        let secs = fault.secs.unwrap_or(image.boot_secs);
        Some(Boot {
            machine: machine.clone(),
            network: self.network(machine),
            image: image.clone(),
            after: Duration::try_from_secs_f64(secs).unwrap_or_default(),
            hangs: fault.hangs,
        })
    }
}
