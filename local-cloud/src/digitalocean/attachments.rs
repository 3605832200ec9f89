//! What it takes to attach a volume to a droplet, one that is there or one that is made with it.

use super::call::Result;
use super::error::ApiError;
use super::records::volume::Volume;
use crate::hosts::volumes::Attached;

/// Volumes of one droplet at most, as documented.
const VOLUMES_OF_DROPLET_MAX: usize = 7;

/// Looks whether a droplet can have a volume more.
///
/// # Errors
/// 422 with the reason.
pub(crate) fn check_attach(volume: &Volume, region: &str, others: usize) -> Result<()> {
    if volume.droplet.is_some() {
        return Err(ApiError::unprocessable("This volume is already attached"));
    }
    if volume.busy {
        return Err(busy());
    }
    if volume.region != region {
        return Err(ApiError::unprocessable(
            "Volume and Droplet must be in the same region.",
        ));
    }
    if others >= VOLUMES_OF_DROPLET_MAX {
        return Err(ApiError::unprocessable(format!(
            "A Droplet can have at most {VOLUMES_OF_DROPLET_MAX} volumes."
        )));
    }
    Ok(())
}

/// Something is done with the volume already.
pub(crate) fn busy() -> ApiError {
    ApiError::unprocessable("Volume already has a pending event.")
}

/// A volume as its machine has it.
pub(crate) fn attached(volume: &Volume) -> Attached {
    Attached {
        id: volume.id.clone(),
        name: volume.name.clone(),
    }
}
