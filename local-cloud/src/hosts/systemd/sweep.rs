//! Removes everything of a cloud's systemd hosts but their disks: processes, mounts, the network, control groups, the claim.

use std::error::Error;
use std::path::Path;

use super::cgroups::{self, Cgroups};
use super::claim::{self, CLAIMS, Claim};
use super::disk_file::DiskFile;
use super::{container, mounts, network, volumes};
use crate::machines::block::Block;

type Failure = Box<dyn Error + Send + Sync>;

/// Ends whatever the cloud with this mark left behind; says how many processes there were.
///
/// # Errors
/// When something stays.
pub(crate) fn sweep(instance: &str) -> Result<usize, Failure> {
    let mut ended = 0;
    let claims = Path::new(CLAIMS);
    for (block, claim) in claim::of_instance(claims, instance)? {
        if let Some(_lock) = claim::lock_of_dead(claims, (block, &claim)) {
            ended += remove(block, &claim)?;
        }
    }
    Ok(ended)
}

/// Ends whatever clouds left behind that were killed and whose state directories are gone since, so that nobody else would.
pub(super) fn sweep_abandoned() {
    let abandoned = match claim::abandoned(Path::new(CLAIMS)) {
        Ok(abandoned) => abandoned,
        Err(error) => {
            tracing::warn!(%error, "the claims of other local clouds can't be read");
            return;
        }
    };
    for (block, claim, _lock) in abandoned {
        let machines = claim.machines.display();
        match remove(block, &claim) {
            Ok(processes) => {
                tracing::warn!(%machines, processes, "ended what another local cloud left behind")
            }
            Err(error) => {
                tracing::warn!(%machines, %error, "what another local cloud left behind can't be removed")
            }
        }
    }
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
        if let (Ok(cgroups), Some(own)) = (&cgroups, DiskFile::of(&machine.path()).device()?) {
            cgroups.lift(own)?;
        }
        let id = machine.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(id) = id {
            container::forget(&block.host_name(id), &machine.path().join("root"));
        }
    }
    mounts::unmount_below(&claim.machines)?;
    volumes::end_all(&claim.machines)?;
    network::remove(block)?;
    if let Ok(cgroups) = &cgroups {
        cgroups.remove(None)?;
    }
    claim::give_back(Path::new(CLAIMS), block)?;
    Ok(ended)
}
