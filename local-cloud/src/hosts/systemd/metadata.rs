//! The metadata service: what a host is told about itself at 169.254.169.254, as DigitalOcean documents it, and the same facts
//! as a seed for cloud-init's NoCloud, because in a container cloud-init recognises no provider. A host is known by the
//! address that it asks from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::{Method, StatusCode};
use poem::{Endpoint, Request, Response};
use serde_json::{Value, json};

use super::network::mac;
use super::rules::NAME_SERVERS;
use crate::machines::addresses::Interface;
use crate::machines::faults::Faults;

/// What the provider adds to every host's own settings: root logs in, as on its real images; the language that Debian has
/// without packages; keys that are made quickly.
const VENDOR_DATA: &str = "#cloud-config\n\
    disable_root: false\n\
    locale: C.UTF-8\n\
    ssh_genkeytypes: [ed25519, ecdsa]\n";

/// What a host is told.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) region: String,
    pub(super) tags: Vec<String>,
    pub(super) public_keys: Vec<String>,
    pub(super) user_data: String,
    /// None without a public interface.
    pub(super) public: Option<Interface>,
    pub(super) private: Interface,
}

/// A host's facts, and what changes while it runs.
#[derive(Debug, Clone)]
struct Now {
    facts: Arc<Facts>,
    /// The address that leads to it beside its own.
    further: Option<Ipv4Addr>,
}

/// All hosts' facts.
#[derive(Debug, Clone)]
pub(super) struct Metadata {
    /// By address: a host without a public interface asks from its private one. Private networks of a cloud never overlap.
    hosts: Arc<RwLock<HashMap<Ipv4Addr, Arc<Facts>>>>,
    /// Further addresses, by the address of their host that each leads to.
    further: Arc<RwLock<HashMap<Ipv4Addr, Ipv4Addr>>>,
    faults: Arc<Faults>,
}

impl Metadata {
    pub(super) fn new(faults: Arc<Faults>) -> Self {
        Self {
            hosts: Arc::default(),
            further: Arc::default(),
            faults,
        }
    }

    pub(super) fn tell(&self, facts: Facts) {
        let mut all = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        let addresses = facts.public.iter().chain([&facts.private]);
        let addresses: Vec<Ipv4Addr> = addresses.map(|interface| interface.ip).collect();
        let facts = Arc::new(facts);
        all.extend(addresses.into_iter().map(|address| (address, Arc::clone(&facts))));
    }

    pub(super) fn forget(&self, machine: u64) {
        let mut all = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, facts| facts.id != machine);
    }

    /// From now on these addresses lead to hosts.
    pub(super) fn lead(&self, forwards: &BTreeMap<Ipv4Addr, Ipv4Addr>) {
        let further = forwards.iter().map(|(address, own)| (*own, *address)).collect();
        *self.further.write().unwrap_or_else(PoisonError::into_inner) = further;
    }

    fn of(&self, address: Ipv4Addr) -> Option<Now> {
        let all = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        let facts = all.get(&address).cloned()?;
        let further = self.further.read().unwrap_or_else(PoisonError::into_inner);
        let further = facts.public.and_then(|public| further.get(&public.ip).copied());
        Some(Now { facts, further })
    }
}

impl Endpoint for Metadata {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let plain = |status: StatusCode| Response::builder().status(status).content_type("text/plain");
        if let Some(fault) = self.faults.next_metadata() {
            tracing::info!(path = request.uri().path(), ?fault, "fault");
            tokio::time::sleep(Duration::try_from_secs_f64(fault.secs).unwrap_or_default()).await;
            let status = fault.status.and_then(|status| StatusCode::from_u16(status).ok());
            if let Some(status) = status {
                return Ok(plain(status).body("a fault that was asked for\n"));
            }
        }
        let asker = request.remote_addr().as_socket_addr().map(|address| address.ip());
        let facts = match asker {
            Some(IpAddr::V4(address)) => self.of(address),
            _ => None,
        };
        let found = facts.and_then(|now| answer(&now, request.uri().path()));
        Ok(match (request.method(), found) {
            (&Method::GET | &Method::HEAD, Some(text)) => plain(StatusCode::OK).body(text),
            (&Method::GET | &Method::HEAD, None) => plain(StatusCode::NOT_FOUND).body("not found\n"),
            _ => plain(StatusCode::METHOD_NOT_ALLOWED).body("only GET\n"),
        })
    }
}

fn answer(now: &Now, path: &str) -> Option<String> {
    let facts = &now.facts;
    match path {
        "/metadata/v1.json" => Some(facts.json(now.further).to_string()),
        "/nocloud/meta-data" => Some(facts.nocloud().to_string()),
        "/nocloud/user-data" => Some(facts.user_data.clone()),
        "/nocloud/vendor-data" => Some(VENDOR_DATA.to_owned()),
        _ => {
            let path = path.strip_prefix("/metadata/v1")?;
            leaf_or_index(&facts.tree(now.further), path.strip_prefix('/').unwrap_or(path))
        }
    }
}

/// A leaf's value, or the names below a directory, one a line; directories end with a slash.
fn leaf_or_index(tree: &BTreeMap<String, String>, path: &str) -> Option<String> {
    if let Some(value) = tree.get(path) {
        return Some(value.clone());
    }
    let directory = match path.trim_end_matches('/') {
        "" => String::new(),
        path => format!("{path}/"),
    };
    let below = tree.keys().filter_map(|key| key.strip_prefix(&directory));
    let names: BTreeSet<String> = below
        .map(|rest| match rest.split_once('/') {
            Some((name, _)) => format!("{name}/"),
            None => rest.to_owned(),
        })
        .collect();
    (!names.is_empty()).then(|| names.into_iter().collect::<Vec<_>>().join("\n"))
}

impl Facts {
    /// `/metadata/v1.json`
    fn json(&self, further: Option<Ipv4Addr>) -> Value {
        let mut reserved = json!({"ipv4": {"active": further.is_some()}});
        if let (Some(address), Some(ipv4)) =
            (further, reserved.get_mut("ipv4").and_then(Value::as_object_mut))
        {
            ipv4.insert("ip_address".to_owned(), json!(address));
        }
        let interfaces: serde_json::Map<String, Value> = self
            .interfaces()
            .map(|(kind, shown, mac)| {
                let about = json!([{
                    "ipv4": {"ip_address": shown.ip, "netmask": shown.netmask, "gateway": shown.gateway},
                    "mac": mac,
                    "type": kind,
                }]);
                (kind.to_owned(), about)
            })
            .collect();
        let mut all = json!({
            "droplet_id": self.id,
            "hostname": self.name,
            "vendor_data": VENDOR_DATA,
            "public_keys": self.public_keys,
            "region": self.region,
            "interfaces": interfaces,
            "floating_ip": reserved,
            "reserved_ip": reserved,
            "dns": {"nameservers": NAME_SERVERS},
            "tags": self.tags,
            "features": {"dhcp_enabled": false},
        });
        if let (Value::Object(all), false) = (&mut all, self.user_data.is_empty()) {
            all.insert("user_data".to_owned(), Value::from(self.user_data.clone()));
        }
        all
    }

    /// `/metadata/v1/…`, path by path.
    fn tree(&self, further: Option<Ipv4Addr>) -> BTreeMap<String, String> {
        let mut tree = BTreeMap::from(
            [
                ("id", self.id.to_string()),
                ("hostname", self.name.clone()),
                ("user-data", self.user_data.clone()),
                ("vendor-data", VENDOR_DATA.to_owned()),
                ("public-keys", self.public_keys.join("\n")),
                ("region", self.region.clone()),
                (
                    "dns/nameservers",
                    NAME_SERVERS.map(|address| address.to_string()).join("\n"),
                ),
                ("features/dhcp_enabled", "false".to_owned()),
                ("tags/", self.tags.join("\n")),
            ]
            .map(|(path, value)| (path.to_owned(), value)),
        );
        for kind in ["floating_ip", "reserved_ip"] {
            tree.insert(format!("{kind}/ipv4/active"), further.is_some().to_string());
            if let Some(address) = further {
                tree.insert(format!("{kind}/ipv4/ip_address"), address.to_string());
            }
        }
        for (kind, shown, mac) in self.interfaces() {
            for (name, value) in [
                ("type", kind.to_owned()),
                ("mac", mac),
                ("ipv4/address", shown.ip.to_string()),
                ("ipv4/netmask", shown.netmask.to_string()),
                ("ipv4/gateway", shown.gateway.to_string()),
            ] {
                tree.insert(format!("interfaces/{kind}/0/{name}"), value);
            }
        }
        tree
    }

    /// The seed's meta-data: JSON, which is YAML.
    fn nocloud(&self) -> Value {
        json!({
            "instance-id": self.id.to_string(),
            "local-hostname": self.name,
            "public-keys": self.public_keys,
            "region": self.region,
        })
    }

    /// Each interface's kind, and its hardware address.
    fn interfaces(&self) -> impl Iterator<Item = (&'static str, Interface, String)> {
        let public = self.public.map(|shown| ("public", shown, mac(0, shown.ip)));
        let private = ("private", self.private, mac(1, self.private.ip));
        public.into_iter().chain([private])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(further: Option<Ipv4Addr>) -> Now {
        let facts = Arc::new(facts());
        Now { facts, further }
    }

    fn facts() -> Facts {
        Facts {
            id: 10_000_001,
            name: "web-1".to_owned(),
            region: "nyc3".to_owned(),
            tags: vec!["a".to_owned(), "b".to_owned()],
            public_keys: vec![
                "ssh-ed25519 AAAA one".to_owned(),
                "ssh-ed25519 BBBB two".to_owned(),
            ],
            user_data: "#cloud-config\n".to_owned(),
            public: Some(Interface {
                ip: Ipv4Addr::new(198, 18, 0, 4),
                netmask: Ipv4Addr::new(255, 255, 255, 0),
                gateway: Ipv4Addr::new(198, 18, 0, 1),
            }),
            private: Interface {
                ip: Ipv4Addr::new(10, 108, 0, 2),
                netmask: Ipv4Addr::new(255, 255, 240, 0),
                gateway: Ipv4Addr::new(10, 108, 0, 1),
            },
        }
    }

    #[test]
    fn the_tree_is_the_documented_one() {
        for (path, expected) in [
            ("/metadata/v1/id", "10000001"),
            ("/metadata/v1/hostname", "web-1"),
            ("/metadata/v1/user-data", "#cloud-config\n"),
            (
                "/metadata/v1/public-keys",
                "ssh-ed25519 AAAA one\nssh-ed25519 BBBB two",
            ),
            ("/metadata/v1/tags/", "a\nb"),
            ("/metadata/v1/dns/nameservers", "67.207.67.2\n67.207.67.3"),
            ("/metadata/v1/interfaces/", "private/\npublic/"),
            ("/metadata/v1/interfaces/public/0/ipv4/address", "198.18.0.4"),
            ("/metadata/v1/interfaces/private/0/ipv4/netmask", "255.255.240.0"),
            ("/metadata/v1/interfaces/private/0/type", "private"),
        ] {
            assert_eq!(answer(&now(None), path).as_deref(), Some(expected), "{path}");
        }
        let index = answer(&now(None), "/metadata/v1/").unwrap();
        assert!(index.lines().any(|line| line == "interfaces/") && index.lines().any(|line| line == "id"));
        assert_eq!(answer(&now(None), "/metadata/v1"), Some(index));
        for path in [
            "/",
            "/metadata",
            "/metadata/v1x",
            "/metadata/v1/ids",
            "/metadata/v2.json",
        ] {
            assert_eq!(answer(&now(None), path), None, "{path}");
        }
    }

    #[test]
    fn the_whole_is_shown_as_one_document_and_as_a_seed() {
        let json: Value = serde_json::from_str(&answer(&now(None), "/metadata/v1.json").unwrap()).unwrap();
        assert_eq!(json["droplet_id"], 10_000_001);
        assert_eq!(
            json["interfaces"]["private"][0]["ipv4"]["ip_address"],
            "10.108.0.2"
        );
        assert_eq!(json["user_data"], "#cloud-config\n");
        let seed: Value = serde_json::from_str(&answer(&now(None), "/nocloud/meta-data").unwrap()).unwrap();
        assert_eq!(seed["instance-id"], "10000001");
        assert_eq!(seed["public-keys"][1], "ssh-ed25519 BBBB two");
    }

    #[test]
    fn a_further_address_is_shown_while_it_leads_here() {
        let further = now(Some(Ipv4Addr::new(198, 18, 1, 252)));
        for kind in ["floating_ip", "reserved_ip"] {
            let leaf = |now: &Now, leaf: &str| answer(now, &format!("/metadata/v1/{kind}/ipv4/{leaf}"));
            assert_eq!(leaf(&further, "active").as_deref(), Some("true"));
            assert_eq!(leaf(&further, "ip_address").as_deref(), Some("198.18.1.252"));
            assert_eq!(leaf(&now(None), "active").as_deref(), Some("false"));
            assert_eq!(leaf(&now(None), "ip_address"), None);
            let json: Value = serde_json::from_str(&answer(&further, "/metadata/v1.json").unwrap()).unwrap();
            assert_eq!(
                json[kind],
                json!({"ipv4": {"active": true, "ip_address": "198.18.1.252"}})
            );
        }
    }
}
