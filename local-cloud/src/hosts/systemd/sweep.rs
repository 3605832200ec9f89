//! Removes everything of a cloud's systemd hosts but their disks: processes, mounts, the network, control groups, the claim.

use std::error::Error;
use std::path::Path;

use super::cgroups::{self, Cgroups};
use super::claim::{self, CLAIMS, Claim};
use super::volume::Volume;
use super::{container, mounts, network};
use crate::machines::block::Block;

type Failure = Box<dyn Error + Send + Sync>;

/// Ends whatever the cloud with this mark left behind; says how many processes there were.
///
/// # Errors
/// When something stays.
pub(crate) fn sweep(instance: &str) -> Result<usize, Failure> {
    let mut ended = 0;
    for (block, claim) in claim::of_instance(Path::new(CLAIMS), instance)? {
        ended += remove(block, &claim)?;
    }
    Ok(ended)
}

/// Removes everything of one block, and gives it back; says how many processes there were.
///
/// # Errors
/// When something stays; the block is not given back then.
pub(super) fn remove(block: Block, claim: &Claim) -> Result<usize, Failure> {
    let cgroups = Cgroups::of(block, Path::new(cgroups::MOUNT));
    let mut ended = 0;
    if let Ok(cgroups) = &cgroups {
        ended = cgroups.kill(None)?;
    }
    for machine in std::fs::read_dir(&claim.machines).into_iter().flatten().flatten() {
        if let (Ok(cgroups), Some(own)) = (&cgroups, Volume::of(&machine.path()).device()?) {
            cgroups.lift(own)?;
        }
        let id = machine.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(id) = id {
            container::forget(&block.host_name(id), &machine.path().join("root"));
        }
    }
    mounts::unmount_below(&claim.machines)?;
    network::remove(block)?;
    if let Ok(cgroups) = &cgroups {
        cgroups.remove(None)?;
    }
    claim::give_back(Path::new(CLAIMS), block)?;
    Ok(ended)
}
