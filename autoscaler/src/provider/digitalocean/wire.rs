//! DigitalOcean's JSON, as much of it as is written here, and the answers to calls about one droplet.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use tidepool_autoscaler_core::observe::{MemberId, MemberName};

use super::droplet::Droplet;
use super::template::{DropletTemplate, ImageRef, SshKeyRef};

/// The droplet in an answer to a create or to a get of one; `None` when there is none that can be recognised.
pub(super) fn droplet_in(body: &[u8]) -> Option<Droplet> {
    let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).ok()?;
    if let Some(one) = fields.get("droplet") {
        return Some(Droplet::read(one)).filter(|droplet| droplet.id.is_some());
    }
    // The answer to a create of several names; there was one.
    let several: Vec<Box<RawValue>> = serde_json::from_str(fields.get("droplets")?.get()).ok()?;
    let [only] = several.as_slice() else { return None };
    Some(Droplet::read(only)).filter(|droplet| droplet.id.is_some())
}

/// The body of `POST /v2/droplets`.
#[derive(Debug, Serialize)]
pub(super) struct CreateDroplet<'a> {
    name: &'a str,
    region: &'a str,
    size: &'a str,
    image: &'a ImageRef,
    ssh_keys: &'a [SshKeyRef],
    backups: bool,
    ipv6: bool,
    monitoring: bool,
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vpc_uuid: Option<&'a str>,
}

impl<'a> CreateDroplet<'a> {
    /// The body for one new member with these tags.
    pub(super) fn new(template: &'a DropletTemplate, name: &'a MemberName, tags: Vec<String>) -> Self {
        Self {
            name: &name.0,
            region: &template.region,
            size: &template.size,
            image: &template.image,
            ssh_keys: &template.ssh_keys,
            backups: false,
            ipv6: false,
            monitoring: false,
            tags,
            user_data: template.user_data.as_deref(),
            vpc_uuid: template.vpc_uuid.as_deref(),
        }
    }
}

/// The body of `POST` and `DELETE /v2/tags/{tag}/resources` for one droplet. `resource_id` is a text, also for droplets.
pub(super) fn tag_resources(id: &MemberId) -> serde_json::Value {
    serde_json::json!({ "resources": [{ "resource_id": id.0, "resource_type": "droplet" }] })
}
