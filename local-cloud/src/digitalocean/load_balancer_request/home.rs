//! Where a load balancer is: its region and network.

use crate::digitalocean::call::{Call, Result};
use crate::digitalocean::catalog;
use crate::digitalocean::error::ApiError;
use crate::digitalocean::records::Cloud;

/// A balancer's region and network.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    /// None only in records of earlier versions.
    pub(crate) region: Option<String>,
    pub(crate) vpc: String,
}

/// Where an update leaves a balancer: where it is. A body that says otherwise is refused.
pub(super) fn kept_home(call: &Call, old: Home) -> Result<Home> {
    let wanted = call.region("region is invalid")?;
    let named = call.text("region")?;
    let moved =
        matches!((named, &old.region), (Some(named), Some(old)) if !catalog::names_region(named, old));
    if moved || call.text("vpc_uuid")?.is_some_and(|wanted| wanted != old.vpc) {
        return Err(ApiError::unprocessable(
            "region and vpc_uuid of a load balancer can't be changed",
        ));
    }
    let region = old
        .region
        .as_deref()
        .or(wanted)
        .unwrap_or(catalog::DEFAULT_REGION);
    Ok(Home {
        region: Some(region.to_owned()),
        vpc: old.vpc,
    })
}

/// Where a new balancer goes: the network that the body names, or the default one of its region.
pub(super) fn new_home(cloud: &mut Cloud, call: &Call, now: &str) -> Result<Home> {
    let region = call.region("region is invalid")?;
    let Some(id) = call.text("vpc_uuid")? else {
        let region = region.unwrap_or(catalog::DEFAULT_REGION);
        let vpc = cloud.records.default_vpc(region, now);
        return Ok(Home {
            region: Some(region.to_owned()),
            vpc: vpc.ok_or_else(|| ApiError::unprocessable("no address range is left for a network"))?,
        });
    };
    let network = cloud
        .records
        .vpcs
        .get(id)
        .ok_or_else(|| ApiError::unprocessable("vpc_uuid is invalid"))?;
    let named = call.text("region")?;
    if named.is_some_and(|named| !catalog::names_region(named, &network.region)) {
        return Err(ApiError::unprocessable("vpc_uuid is not in this region"));
    }
    Ok(Home {
        region: Some(network.region.clone()),
        vpc: id.to_owned(),
    })
}
