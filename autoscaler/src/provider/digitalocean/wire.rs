//! DigitalOcean's JSON, as much of it as is read and written here, and its meaning in our words.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};
use tidepool_autoscaler_core::observe::{
    Member, MemberId, MemberName, PoolName, Power, Readiness, UnixMillis,
};

use super::{AddressKind, DropletTemplate, ImageRef, SshKeyRef};

/// Membership of a pool.
pub(super) fn pool_tag(pool: &PoolName) -> String {
    format!("pool:{pool}")
}

/// What the load balancer targets.
pub(super) fn serving_tag(pool: &PoolName) -> String {
    format!("serving:{pool}")
}

/// Chosen as a victim.
pub(super) fn draining_tag(pool: &PoolName) -> String {
    format!("draining:{pool}")
}

/// One page of `GET /v2/droplets`.
#[derive(Debug, Deserialize)]
pub(super) struct DropletPage {
    pub(super) droplets: Vec<Droplet>,
    #[serde(default)]
    pub(super) links: Option<Links>,
    #[serde(default)]
    pub(super) meta: Option<Meta>,
}

impl DropletPage {
    /// The address of the next page, if there is one.
    pub(super) fn next(&self) -> Option<&str> {
        let pages = self.links.as_ref()?.pages.as_ref()?;
        pages.next.as_deref().filter(|next| !next.is_empty())
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Links {
    #[serde(default)]
    pages: Option<Pages>,
}

#[derive(Debug, Deserialize)]
struct Pages {
    #[serde(default)]
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Meta {
    pub(super) total: usize,
}

/// The answer to a create or to a get of one droplet.
#[derive(Debug, Deserialize)]
pub(super) struct DropletAnswer {
    pub(super) droplet: Droplet,
}

/// A droplet; fields that we don't need are left out, fields that may be missing are optional.
#[derive(Debug, Deserialize)]
pub(super) struct Droplet {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) status: String,
    pub(super) created_at: String,
    #[serde(default)]
    image: Option<Image>,
    #[serde(default)]
    networks: Networks,
    #[serde(default)]
    tags: Option<BTreeSet<String>>,
}

#[derive(Debug, Deserialize)]
struct Image {
    #[serde(default)]
    id: Option<u64>,
    #[serde(default)]
    slug: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Networks {
    #[serde(default)]
    v4: Vec<NetworkV4>,
}

#[derive(Debug, Deserialize)]
struct NetworkV4 {
    ip_address: Ipv4Addr,
    #[serde(rename = "type")]
    kind: String,
}

impl Droplet {
    /// Whether it carries `tag`.
    pub(super) fn has_tag(&self, tag: &str) -> bool {
        self.tags.as_ref().is_some_and(|tags| tags.contains(tag))
    }

    /// Stopped, by DigitalOcean's word.
    pub(super) fn is_off(&self) -> bool {
        self.status == "off" || self.status == "archive"
    }

    /// Its meaning in our words, or what about it can't be understood.
    pub(super) fn member(&self, pool: &PoolName, address: AddressKind) -> Result<Member, String> {
        let created_at: jiff::Timestamp = self
            .created_at
            .parse()
            .map_err(|_| format!("droplet {}: created_at {:?} is no time", self.id, self.created_at))?;
        Ok(Member {
            id: MemberId(self.id.to_string()),
            name: MemberName(self.name.clone()),
            created_at: UnixMillis(created_at.as_millisecond()),
            power: self.power(),
            serving: self.has_tag(&serving_tag(pool)),
            draining: self.has_tag(&draining_tag(pool)),
            readiness: Readiness::Unknown,
            address: self.address(address),
            image: self.image_name(),
        })
    }

    fn power(&self) -> Power {
        match self.status.as_str() {
            "active" => Power::Running,
            _ if self.is_off() => Power::Off,
            // `new`, and whatever may be invented later: it exists, and it is not known to run.
            _ => Power::Creating,
        }
    }

    fn address(&self, kind: AddressKind) -> Option<IpAddr> {
        let wanted = match kind {
            AddressKind::Private => "private",
            AddressKind::Public => "public",
        };
        self.networks
            .v4
            .iter()
            .find(|net| net.kind == wanted)
            .map(|net| IpAddr::V4(net.ip_address))
    }

    fn image_name(&self) -> String {
        let Some(image) = &self.image else {
            return String::new();
        };
        match (&image.slug, image.id) {
            (Some(slug), _) if !slug.is_empty() => slug.clone(),
            (_, Some(id)) => id.to_string(),
            _ => String::new(),
        }
    }
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
    /// The body for one new member of `pool`.
    pub(super) fn new(template: &'a DropletTemplate, pool: &PoolName, name: &'a MemberName) -> Self {
        let mut tags = vec![pool_tag(pool)];
        tags.extend(template.tags.iter().cloned());
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

/// What a body of an answer other than 2xx says. Tags answer in a shape of their own, with `error`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ErrorBody {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    pub(super) message: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    pub(super) request_id: Option<String>,
}

impl ErrorBody {
    /// The provider's words, in one line.
    pub(super) fn words(&self) -> String {
        let text = self.message.as_deref().or(self.error.as_deref());
        match (self.id.as_deref(), text) {
            (Some(id), Some(text)) => format!("{id}: {text}"),
            (Some(only), None) | (None, Some(only)) => only.to_owned(),
            (None, None) => String::new(),
        }
    }
}
