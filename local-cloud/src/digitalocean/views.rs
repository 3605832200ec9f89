//! The cloud's records as the API shows them: every field that a real client reads, always there.

use serde_json::{Value, json};

use super::app::App;
use super::catalog;
use super::records::droplet::{WithMachine, status};
use super::records::firewall::Source;
use super::records::load_balancer::LoadBalancer;
use super::records::{Action, ActionState, Cloud, Key, ResourceKind, Snapshot, Tag, Vpc};
use super::resources::{self, Kind, Resource};
use crate::machines::Power;
use crate::machines::addresses::Interface;
use crate::manifests::{self, Image, Images};

/// What a view may look at.
pub(crate) struct Scene<'a> {
    pub(crate) app: &'a App,
    pub(crate) cloud: &'a Cloud,
    pub(crate) images: &'a Images,
}

impl Scene<'_> {
    pub(crate) fn droplet(&self, found: WithMachine<'_>) -> Value {
        let WithMachine { droplet, machine } = found;
        let size = catalog::size_of(&droplet.size);
        let (memory, vcpus) = size.map_or((0, 0), |size| (size.memory_mb, size.vcpus));
        let disk = machine.size.disk_gb;
        json!({
            "id": droplet.id,
            "name": machine.name,
            "memory": memory,
            "vcpus": vcpus,
            "disk": disk,
            "disk_info": [{"type": "local", "size": {"amount": disk, "unit": "gib"}}],
            "locked": droplet.locked,
            "status": status(machine.power),
            "kernel": null,
            "created_at": droplet.created_at,
            "features": droplet.features,
            "backup_ids": [],
            "next_backup_window": null,
            "snapshot_ids": droplet.snapshots,
            "image": self.image_of(found),
            "volume_ids": self.cloud.volumes_of(droplet.id).map(|volume| &volume.id).collect::<Vec<_>>(),
            "size": size.map_or_else(|| json!({"slug": droplet.size}), catalog::size_view),
            "size_slug": droplet.size,
            "networks": self.networks(found),
            "region": catalog::region_view(&droplet.region),
            "tags": droplet.tags,
            "vpc_uuid": droplet.vpc,
        })
    }

    /// An address is shown from `active` on, as by the real one.
    fn networks(&self, found: WithMachine<'_>) -> Value {
        if found.machine.power == Power::New {
            return json!({"v4": [], "v6": []});
        }
        let addresses = self.app.fleet.network(found.machine);
        let network = |shown: Interface, kind| json!({"ip_address": shown.ip, "netmask": shown.netmask, "gateway": shown.gateway, "type": kind});
        let private = network(addresses.private, "private");
        if !found.droplet.public_networking {
            return json!({"v4": [private], "v6": []});
        }
        json!({"v4": [network(addresses.public, "public"), private], "v6": []})
    }

    fn image_of(&self, found: WithMachine<'_>) -> Value {
        let WithMachine { droplet, machine } = found;
        if let Some(snapshot) = self.cloud.records.snapshots.get(&droplet.image) {
            return self.snapshot(snapshot);
        }
        match self.images.get(&machine.image) {
            Some(image) => self.image(image, droplet.image),
            None => json!({"id": droplet.image, "slug": machine.image, "name": machine.image,
                "distribution": manifests::DEFAULT_DISTRIBUTION, "type": "snapshot", "public": false, "regions": [], "tags": [],
                "created_at": droplet.created_at, "min_disk_size": 1, "size_gigabytes": 1, "status": "deleted"}),
        }
    }

    pub(crate) fn image(&self, image: &Image, id: u64) -> Value {
        json!({
            "id": id,
            "name": image.name,
            "type": "base",
            "distribution": image.distribution,
            "slug": image.slug,
            "public": true,
            "regions": catalog::region_slugs(),
            "created_at": "2026-01-01T00:00:00Z",
            "min_disk_size": image.min_disk_gb,
            "size_gigabytes": 1,
            "description": image.name,
            "tags": self.image_tags(id),
            "status": "available",
            "error_message": "",
        })
    }

    pub(crate) fn snapshot(&self, snapshot: &Snapshot) -> Value {
        let of_base = self
            .images
            .get(&snapshot.base_slug)
            .map(|image| &image.distribution);
        let distribution = snapshot.distribution.as_ref().or(of_base);
        let distribution = distribution.map_or(manifests::DEFAULT_DISTRIBUTION, String::as_str);
        json!({
            "id": snapshot.id,
            "name": snapshot.name,
            "type": "snapshot",
            "distribution": distribution,
            "slug": null,
            "public": false,
            "regions": snapshot.regions,
            "created_at": snapshot.created_at,
            "min_disk_size": snapshot.min_disk_gb,
            "size_gigabytes": 1,
            "description": snapshot.description,
            "tags": self.image_tags(snapshot.id),
            "status": "available",
            "error_message": "",
        })
    }

    /// Tags of an image, by their own spelling.
    pub(crate) fn image_tags(&self, id: u64) -> Vec<&str> {
        let tags = self
            .cloud
            .records
            .tags
            .iter()
            .filter(|(_, tag)| tag.images.contains(&id));
        tags.map(|(name, _)| name.as_str()).collect()
    }

    pub(crate) fn tag(&self, name: &str, tag: &Tag, base: &str) -> Value {
        let droplets = self.cloud.records.tagged(name).count();
        let images = tag.images.len();
        let last = tag
            .last_droplet
            .filter(|id| self.cloud.records.droplets.contains_key(id));
        let uri = last
            .map(|id| format!("{base}/v2/droplets/{id}"))
            .filter(|_| droplets > 0);
        let volumes = self.cloud.records.tagged_volumes(name);
        let snapshots = self.cloud.records.tagged_volume_snapshots(name);
        let mut of_droplets = json!({"count": droplets});
        let mut of_volumes = json!({"count": volumes.len()});
        if let Some(last) = tag.last_volume.as_ref().filter(|last| volumes.contains(last)) {
            set(
                &mut of_volumes,
                "last_tagged_uri",
                json!(format!("{base}/v2/volumes/{last}")),
            );
        }
        let mut all = json!({
            "count": droplets + images + volumes.len() + snapshots, "images": {"count": images},
            "volumes": of_volumes, "volume_snapshots": {"count": snapshots}, "databases": {"count": 0},
        });
        if let (Some(uri), Some(id)) = (uri, last) {
            set(&mut of_droplets, "last_tagged_uri", json!(uri));
            let last = self
                .cloud
                .droplet(id)
                .map_or(Value::Null, |found| self.droplet(found));
            set(&mut of_droplets, "last_tagged", last);
            set(&mut all, "last_tagged_uri", json!(uri));
        }
        set(&mut all, "droplets", of_droplets);
        json!({"name": name, "resources": all})
    }
}

/// A load balancer.
pub(crate) fn load_balancer(app: &App, cloud: &Cloud, balancer: &LoadBalancer) -> Value {
    let droplet_ids: Vec<u64> = cloud.behind(balancer).map(|machine| machine.id).collect();
    let belonging = Resource::new(Kind::LoadBalancer, &balancer.id, &balancer.created_at);
    let check = &balancer.health_check;
    let rules = balancer.forwarding_rules.iter().map(|rule| {
        json!({
            "entry_protocol": rule.entry_protocol.as_str(), "entry_port": rule.entry_port,
            "target_protocol": rule.target_protocol.as_str(), "target_port": rule.target_port,
            "certificate_id": rule.certificate_id.as_deref().unwrap_or_default(),
            "tls_passthrough": rule.tls_passthrough,
        })
    });
    let sticky = match &balancer.sticky_sessions {
        None => json!({"type": "none"}),
        Some(sticky) => json!({"type": "cookies", "cookie_name": sticky.cookie_name,
            "cookie_ttl_seconds": sticky.cookie_ttl_secs}),
    };
    let mut view = json!({
        "id": balancer.id,
        "name": balancer.name,
        "ip": app.fleet.addresses.balancer_ip(balancer.slot),
        "ipv6": "",
        "size_unit": balancer.size.units,
        "type": "REGIONAL",
        "algorithm": balancer.algorithm.as_str(),
        "status": "active",
        "created_at": balancer.created_at,
        "forwarding_rules": rules.collect::<Vec<Value>>(),
        "health_check": {
            "protocol": check.protocol.as_str(), "port": check.port, "path": check.path,
            "check_interval_seconds": check.check_interval_secs,
            "response_timeout_seconds": check.response_timeout_secs,
            "unhealthy_threshold": check.unhealthy_threshold,
            "healthy_threshold": check.healthy_threshold,
        },
        "sticky_sessions": sticky,
        "droplet_ids": droplet_ids,
        "redirect_http_to_https": balancer.redirect_http_to_https,
        "enable_proxy_protocol": balancer.enable_proxy_protocol,
        "enable_backend_keepalive": balancer.enable_backend_keepalive,
        "http_idle_timeout_seconds": balancer.http_idle_timeout_secs,
        "disable_lets_encrypt_dns_records": balancer.disable_lets_encrypt_dns_records,
        "vpc_uuid": balancer.vpc,
        "project_id": resources::membership(cloud, &belonging).project,
        "network": "EXTERNAL",
        "network_stack": "IPV4",
        "tls_cipher_policy": "DEFAULT",
        "firewall": {"allow": sources(&balancer.firewall.allow), "deny": sources(&balancer.firewall.deny)},
        "domains": [],
    });
    // The real provider takes a name that was not asked for as a change.
    if balancer.size_by_name {
        set(&mut view, "size", json!(balancer.size.name()));
    }
    if let Some(region) = &balancer.region {
        set(&mut view, "region", catalog::region_view(region));
    }
    if let Some(tag) = &balancer.tag {
        set(&mut view, "tag", json!(tag));
    }
    view
}

fn sources(list: &[Source]) -> Vec<&str> {
    list.iter().map(Source::as_str).collect()
}

/// Puts a field into an object.
pub(crate) fn set(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(fields) = object {
        fields.insert(name.to_owned(), value);
    }
}

/// An action.
pub(crate) fn action(action: &Action) -> Value {
    json!({
        "id": action.id,
        "status": match action.state {
            ActionState::InProgress => "in-progress",
            ActionState::Completed => "completed",
            ActionState::Errored => "errored",
        },
        "type": action.kind,
        "started_at": action.started_at,
        "completed_at": action.completed_at,
        "resource_id": Some(action.resource).filter(|_| action.resource_kind != ResourceKind::Volume),
        "resource_type": match action.resource_kind {
            ResourceKind::Droplet => "droplet",
            ResourceKind::Image => "image",
            ResourceKind::ReservedIp => "reserved_ip",
            ResourceKind::Backend => "backend",
            ResourceKind::Volume => "volume",
        },
        "region": catalog::region_view(&action.region),
        "region_slug": action.region,
    })
}

/// An SSH key.
pub(crate) fn key(key: &Key) -> Value {
    json!({"id": key.id, "fingerprint": key.fingerprint, "public_key": key.public_key, "name": key.name})
}

/// A network.
pub(crate) fn vpc(vpc: &Vpc) -> Value {
    json!({
        "id": vpc.id, "urn": format!("do:vpc:{}", vpc.id), "name": vpc.name, "description": vpc.description,
        "region": vpc.region, "ip_range": vpc.ip_range, "default": vpc.default, "created_at": vpc.created_at,
    })
}
