//! What a body asks of a firewall of droplets, checked. The limits are those of DigitalOcean's page *Firewalls Limits*
//! (docs.digitalocean.com/products/networking/firewalls/details/limits).

use serde_json::{Map, Value};

use super::call::{Call, Result, list_of, text_of, texts_of};
use super::error::ApiError;
use super::names;
use super::records::Cloud;
use super::records::cloud_firewall::{Address, Peers, Ports, Protocol, Rule};

/// Droplets of one firewall by their ids; tags have no such limit.
pub(super) const DROPLETS_MAX: usize = 10;
/// Tags of one firewall.
pub(super) const TAGS_MAX: usize = 5;
/// Rules of one firewall, inbound and outbound together.
pub(super) const RULES_MAX: usize = 50;
/// Entries in the sources or destinations of one rule, of all kinds together.
const PEERS_MAX: usize = 1_000;

/// Which way a rule's connections go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
}

impl Way {
    fn rules(self) -> &'static str {
        match self {
            Self::In => "inbound_rules",
            Self::Out => "outbound_rules",
        }
    }

    /// The field of a rule with the other sides.
    pub(super) fn peers(self) -> &'static str {
        match self {
            Self::In => "sources",
            Self::Out => "destinations",
        }
    }
}

/// Inbound and outbound rules of a body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) inbound: Vec<Rule>,
    pub(super) outbound: Vec<Rule>,
}

/// What a create or an update sets.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) rules: Rules,
    pub(super) droplet_ids: Vec<u64>,
    pub(super) tags: Vec<String>,
}

/// A whole body.
///
/// # Errors
/// 422.
pub(super) fn whole(cloud: &Cloud, call: &Call) -> Result<Wanted> {
    let name = call.needed_text("name")?.to_owned();
    names::check_firewall(&name)?;
    Ok(Wanted {
        name,
        rules: rules(cloud, call)?,
        droplet_ids: droplet_ids(cloud, call)?,
        tags: tags(cloud, &call.body, "tags")?,
    })
}

/// The rules of a body, at least one.
///
/// # Errors
/// 422.
pub(super) fn rules(cloud: &Cloud, call: &Call) -> Result<Rules> {
    let rules = Rules {
        inbound: rules_of(cloud, call, Way::In)?,
        outbound: rules_of(cloud, call, Way::Out)?,
    };
    if rules.inbound.is_empty() && rules.outbound.is_empty() {
        return Err(ApiError::unprocessable(
            "inbound_rules or outbound_rules must hold at least one rule",
        ));
    }
    Ok(rules)
}

/// The droplets of a body, each once.
///
/// # Errors
/// 422.
pub(super) fn droplet_ids(cloud: &Cloud, call: &Call) -> Result<Vec<u64>> {
    known_droplets(cloud, &call.body)
}

/// Tags that exist, each once, in their own spelling.
///
/// # Errors
/// 422.
pub(super) fn tags(cloud: &Cloud, object: &Map<String, Value>, field: &str) -> Result<Vec<String>> {
    let mut tags = Vec::new();
    for name in texts_of(object, field)? {
        let Some((canonical, _)) = cloud.records.tag(name) else {
            return Err(ApiError::unprocessable(format!(
                "{field}: there is no tag `{name}`: create it first"
            )));
        };
        if !tags.contains(canonical) {
            tags.push(canonical.clone());
        }
    }
    Ok(tags)
}

fn rules_of(cloud: &Cloud, call: &Call, way: Way) -> Result<Vec<Rule>> {
    let list = call.list(way.rules())?;
    let mut rules: Vec<Rule> = Vec::new();
    for (nth, value) in list.iter().enumerate() {
        let place =
            |error: ApiError| ApiError::unprocessable(format!("{}[{nth}]: {}", way.rules(), error.message));
        let rule = rule(cloud, value, way).map_err(place)?;
        // Rules are a set: the same one twice is one.
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    Ok(rules)
}

fn rule(cloud: &Cloud, value: &Value, way: Way) -> Result<Rule> {
    let Value::Object(rule) = value else {
        return Err(ApiError::unprocessable("a rule must be an object"));
    };
    let protocol = match text_of(rule, "protocol")? {
        Some("tcp") => Protocol::Tcp,
        Some("udp") => Protocol::Udp,
        Some("icmp") => Protocol::Icmp,
        _ => return Err(ApiError::unprocessable("protocol must be tcp, udp or icmp")),
    };
    let ports = match (protocol, text_of(rule, "ports")?) {
        (Protocol::Icmp, None) => Ports::all(),
        (_, None) => return Err(ApiError::unprocessable("ports are needed for tcp and udp")),
        (_, Some(text)) => Ports::try_from(text.to_owned())
            .map_err(|error| ApiError::unprocessable(format!("ports: {error}")))?,
    };
    if protocol == Protocol::Icmp && !ports.are_all() {
        return Err(ApiError::unprocessable("ports: icmp has none"));
    }
    let name = way.peers();
    let needed = || {
        ApiError::unprocessable(format!(
            "{name} must name addresses, droplet_ids, tags or load_balancer_uids"
        ))
    };
    let Some(Value::Object(object)) = rule.get(name) else {
        return Err(needed());
    };
    let peers = peers(cloud, object)?;
    match count(&peers) {
        0 => Err(needed()),
        1..=PEERS_MAX => Ok(Rule {
            protocol,
            ports,
            peers,
        }),
        _ => Err(ApiError::unprocessable(format!(
            "{name} may have at most {PEERS_MAX} entries"
        ))),
    }
}

fn count(peers: &Peers) -> usize {
    peers.addresses.len() + peers.droplet_ids.len() + peers.tags.len() + peers.load_balancer_uids.len()
}

fn peers(cloud: &Cloud, object: &Map<String, Value>) -> Result<Peers> {
    if !texts_of(object, "kubernetes_ids")?.is_empty() {
        return Err(ApiError::unprocessable(
            "kubernetes_ids: local-cloud has no Kubernetes clusters",
        ));
    }
    let mut peers = Peers {
        droplet_ids: known_droplets(cloud, object)?,
        tags: tags(cloud, object, "tags")?,
        ..Peers::default()
    };
    for text in texts_of(object, "addresses")? {
        let address = Address::try_from(text.to_owned())
            .map_err(|error| ApiError::unprocessable(format!("addresses: {error}")))?;
        if !peers.addresses.contains(&address) {
            peers.addresses.push(address);
        }
    }
    for id in texts_of(object, "load_balancer_uids")? {
        if !cloud.records.balancers.contains_key(id) {
            return Err(ApiError::unprocessable(format!(
                "load_balancer_uids: there is no load balancer `{id}`"
            )));
        }
        if !peers.load_balancer_uids.iter().any(|other| other == id) {
            peers.load_balancer_uids.push(id.to_owned());
        }
    }
    Ok(peers)
}

fn known_droplets(cloud: &Cloud, object: &Map<String, Value>) -> Result<Vec<u64>> {
    let mut ids = Vec::new();
    for value in list_of(object, "droplet_ids")? {
        let known = value
            .as_u64()
            .filter(|id| cloud.records.droplets.contains_key(id));
        let Some(id) = known else {
            return Err(ApiError::unprocessable(format!(
                "droplet_ids: there is no Droplet {value}"
            )));
        };
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}
