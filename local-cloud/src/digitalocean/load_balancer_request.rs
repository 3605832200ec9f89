//! What the body of a load balancer's create or update asks for, field by field: kept to, or refused with 422. Only fields
//! that DigitalOcean does not know either, and those that it documents as read-only, are ignored, as it ignores them.

use serde_json::{Map, Value};

use super::call::{Call, NumberBounds, Result, number_of, switch_of, text_of};
use super::catalog;
use super::error::ApiError;
use super::records::Cloud;
use super::records::firewall::{Firewall, RULES_MAX as SOURCES_MAX, Source};
use super::records::load_balancer::{
    Algorithm, CheckProtocol, ForwardingRule, HealthCheck, LoadBalancer, Size,
};
use super::{names, tags};

/// Rules of one balancer at most.
pub(crate) const RULES_MAX: usize = 50;
const PORT: NumberBounds = NumberBounds {
    from: 1,
    to: 65_535,
    default: 0,
};
const IDLE_SECS: NumberBounds = NumberBounds {
    from: 30,
    to: 600,
    default: 60,
};
const UNITS: NumberBounds = NumberBounds {
    from: 1,
    to: 100,
    default: 0,
};

/// Switches that must be off, and why.
const OFF: [(&str, &str); 2] = [
    (
        "redirect_http_to_https",
        "local-cloud's load balancers have no TLS to redirect to; leave it out here, and set it where there is TLS",
    ),
    (
        "enable_proxy_protocol",
        "local-cloud's load balancers don't speak the PROXY protocol; members find the client in X-Forwarded-For",
    ),
];
/// Fields that must be empty, and why.
const EMPTY: [(&str, &str); 3] = [
    ("domains", "local-cloud has no global load balancers"),
    ("glb_settings", "local-cloud has no global load balancers"),
    (
        "target_load_balancer_ids",
        "local-cloud has no global load balancers",
    ),
];
/// Choices of which one is there.
const ONLY: [(&str, &str); 4] = [
    ("type", "REGIONAL"),
    ("network", "EXTERNAL"),
    ("network_stack", "IPV4"),
    ("tls_cipher_policy", "DEFAULT"),
];

/// What a balancer has from elsewhere than the body: a PUT is the whole configuration, but leaves these alone.
pub(crate) struct Identity {
    pub(crate) id: String,
    pub(crate) slot: u32,
    pub(crate) created_at: String,
    pub(crate) project_id: String,
    /// Where one that exists already is: a balancer can't move.
    pub(crate) home: Option<Home>,
}

/// A balancer's region and network.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    /// None only in records of earlier versions.
    pub(crate) region: Option<String>,
    pub(crate) vpc: String,
}

/// Reads the body.
///
/// # Errors
/// 422 with the field that can't be done, and why.
pub(crate) fn parse(cloud: &mut Cloud, call: &Call, identity: Identity) -> Result<LoadBalancer> {
    let name = call.needed_text("name")?.to_owned();
    names::check_balancer(&name)?;
    refuse_what_is_not_there(call)?;
    let algorithm = match call.text("algorithm")? {
        None | Some("round_robin") => Algorithm::RoundRobin,
        Some("least_connections") => Algorithm::LeastConnections,
        Some(_) => {
            return Err(ApiError::unprocessable(
                "algorithm must be round_robin or least_connections",
            ));
        }
    };
    let forwarding_rules = rules(call)?;
    let target_port = forwarding_rules.first().map_or(80, |rule| rule.target_port);
    let health_check = health_check(object(call, "health_check")?, target_port)?;
    let (tag, droplet_ids) = targets(cloud, call)?;
    let size = size(call)?;
    let http_idle_timeout_secs = number_of(&call.body, "http_idle_timeout_seconds", IDLE_SECS)?;
    let enable_backend_keepalive = call.switch("enable_backend_keepalive")?;
    let disable_lets_encrypt_dns_records = call.switch("disable_lets_encrypt_dns_records")?;
    let firewall = firewall(object(call, "firewall")?)?;
    let project_id = project(call)?.unwrap_or(identity.project_id);
    // Last, because it may make the region's default network.
    let home = match identity.home {
        Some(old) => kept_home(call, old)?,
        None => new_home(cloud, call, &identity.created_at)?,
    };
    Ok(LoadBalancer {
        id: identity.id,
        slot: identity.slot,
        name,
        created_at: identity.created_at,
        region: home.region,
        size,
        algorithm,
        forwarding_rules,
        health_check,
        http_idle_timeout_secs,
        enable_backend_keepalive,
        disable_lets_encrypt_dns_records,
        firewall,
        tag,
        droplet_ids,
        vpc: home.vpc,
        project_id,
    })
}

fn refuse_what_is_not_there(call: &Call) -> Result<()> {
    for (name, reason) in OFF {
        call.switch(name)?;
        call.refuse(name, reason)?;
    }
    for (name, reason) in EMPTY {
        call.refuse(name, reason)?;
    }
    for (name, only) in ONLY {
        if call.text(name)?.is_some_and(|wanted| wanted != only) {
            return Err(ApiError::unprocessable(format!(
                "{name}: local-cloud's load balancers are {only} only"
            )));
        }
    }
    let Some(sticky) = object(call, "sticky_sessions")? else {
        return Ok(());
    };
    let none = matches!(text_of(sticky, "type")?, None | Some("none"));
    let cookie = text_of(sticky, "cookie_name")?.is_some()
        || !matches!(sticky.get("cookie_ttl_seconds"), None | Some(Value::Null))
            && number_of(sticky, "cookie_ttl_seconds", UNITS)? != 0;
    if none && !cookie {
        return Ok(());
    }
    Err(ApiError::unprocessable(
        "sticky_sessions: local-cloud's load balancers have none; send the type none",
    ))
}

/// By units or by name; both only when they say the same.
fn size(call: &Call) -> Result<Size> {
    if call.body.get("size_unit").and_then(Value::as_u64) == Some(0) {
        let (from, to) = (UNITS.from, UNITS.to);
        let message = format!("size_unit must be a number from {from} to {to}");
        return Err(ApiError::unprocessable(message));
    }
    let units = Some(number_of(&call.body, "size_unit", UNITS)?).filter(|units| *units > 0);
    let units = units.map(|units| Size { units });
    let named = match call.text("size")? {
        None => None,
        Some(slug) => Some(
            Size::named(slug)
                .ok_or_else(|| ApiError::unprocessable("size must be lb-small, lb-medium or lb-large"))?,
        ),
    };
    if units.is_some() && named.is_some() && units != named {
        return Err(ApiError::unprocessable(
            "size and size_unit can't be used together",
        ));
    }
    Ok(units.or(named).unwrap_or(Size { units: 1 }))
}

/// The tag, in its own spelling when it exists already, or else droplets by id.
fn targets(cloud: &Cloud, call: &Call) -> Result<(Option<String>, Vec<u64>)> {
    let droplets = droplet_ids(cloud, call)?;
    let Some(wanted) = call.text("tag")? else {
        return Ok((None, droplets));
    };
    tags::check(wanted)?;
    if !droplets.is_empty() {
        return Err(ApiError::unprocessable(
            "tag and droplet_ids can't be used together",
        ));
    }
    let known = cloud.records.tag(wanted).map(|(canonical, _)| canonical.as_str());
    Ok((Some(known.unwrap_or(wanted).to_owned()), droplets))
}

/// Projects are not there: a project's id is a label.
fn project(call: &Call) -> Result<Option<String>> {
    let wanted = call.text("project_id")?;
    if wanted.is_some_and(|id| uuid::Uuid::try_parse(id).is_err()) {
        return Err(ApiError::unprocessable("project_id must be a UUID"));
    }
    Ok(wanted.map(str::to_owned))
}

fn firewall(object: Option<&Map<String, Value>>) -> Result<Firewall> {
    let list = |name: &str| -> Result<Vec<Source>> {
        let rules = match object.and_then(|object| object.get(name)) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(rules)) => rules,
            Some(_) => return Err(ApiError::unprocessable(format!("firewall.{name} must be a list"))),
        };
        if rules.len() > SOURCES_MAX {
            return Err(ApiError::unprocessable(format!(
                "firewall.{name} must hold at most {SOURCES_MAX} rules"
            )));
        }
        let parsed = rules.iter().map(|rule| {
            let text = rule.as_str().ok_or_else(|| {
                ApiError::unprocessable(format!("firewall.{name} must be a list of strings"))
            })?;
            Source::try_from(text.to_owned())
                .map_err(|error| ApiError::unprocessable(format!("firewall.{name}: {error}")))
        });
        parsed.collect()
    };
    Ok(Firewall {
        allow: list("allow")?,
        deny: list("deny")?,
    })
}

/// Where an update leaves a balancer: where it is. A body that says otherwise is refused.
fn kept_home(call: &Call, old: Home) -> Result<Home> {
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
fn new_home(cloud: &mut Cloud, call: &Call, now: &str) -> Result<Home> {
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

/// An object of the body; absent, null and empty are none.
fn object<'a>(call: &'a Call, name: &str) -> Result<Option<&'a Map<String, Value>>> {
    match call.body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object).filter(|object| !object.is_empty())),
        Some(_) => Err(ApiError::unprocessable(format!("{name} must be an object"))),
    }
}

/// The droplets that a body names.
///
/// # Errors
/// 422 when one of them does not exist.
pub(crate) fn droplet_ids(cloud: &Cloud, call: &Call) -> Result<Vec<u64>> {
    let known = |id: &Value| id.as_u64().filter(|id| cloud.records.droplets.contains_key(id));
    let ids: Option<Vec<u64>> = call.list("droplet_ids")?.iter().map(known).collect();
    ids.ok_or_else(|| ApiError::unprocessable("droplet_ids must name existing droplets"))
}

/// The forwarding rules of a body.
///
/// # Errors
/// 422 when there is none, or one that this balancer can't do.
pub(crate) fn rules(call: &Call) -> Result<Vec<ForwardingRule>> {
    let list = call.list("forwarding_rules")?;
    if list.is_empty() || list.len() > RULES_MAX {
        return Err(ApiError::unprocessable(format!(
            "forwarding_rules must hold 1 to {RULES_MAX} rules"
        )));
    }
    let mut rules: Vec<ForwardingRule> = Vec::new();
    for value in list {
        let Value::Object(rule) = value else {
            return Err(ApiError::unprocessable(
                "forwarding_rules must be a list of objects",
            ));
        };
        for name in ["entry_protocol", "target_protocol"] {
            if text_of(rule, name)? != Some("http") {
                let message =
                    format!("{name} must be http: local-cloud's load balancers speak plain HTTP only");
                return Err(ApiError::unprocessable(message));
            }
        }
        if text_of(rule, "certificate_id")?.is_some() || switch_of(rule, "tls_passthrough")? {
            return Err(ApiError::unprocessable(
                "certificate_id and tls_passthrough: local-cloud's load balancers have no TLS",
            ));
        }
        let rule = ForwardingRule {
            entry_port: port(rule, "entry_port")?,
            target_port: port(rule, "target_port")?,
        };
        if rules.iter().any(|other| other.entry_port == rule.entry_port) {
            return Err(ApiError::unprocessable(format!(
                "entry_port {} is used twice",
                rule.entry_port
            )));
        }
        rules.push(rule);
    }
    Ok(rules)
}

fn port(object: &Map<String, Value>, name: &str) -> Result<u16> {
    let number = number_of(object, name, PORT)?;
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    port.ok_or_else(|| ApiError::unprocessable(format!("{name} must be a number from 1 to 65535")))
}

/// Defaults and bounds are the documented ones. The interval may be 1 or 2 here, where the real one asks for 3 or more.
fn health_check(object: Option<&Map<String, Value>>, target_port: u16) -> Result<HealthCheck> {
    let empty = Map::new();
    let object = object.unwrap_or(&empty);
    if switch_of(object, "proxy_protocol")? {
        return Err(ApiError::unprocessable(
            "health_check.proxy_protocol: local-cloud's load balancers don't speak the PROXY protocol",
        ));
    }
    let protocol = match text_of(object, "protocol")? {
        None | Some("http") => CheckProtocol::Http,
        Some("tcp") => CheckProtocol::Tcp,
        Some(_) => {
            return Err(ApiError::unprocessable(
                "health_check.protocol must be http or tcp",
            ));
        }
    };
    let path = text_of(object, "path")?.unwrap_or("/").to_owned();
    if !path.starts_with('/') || path.parse::<http::uri::PathAndQuery>().is_err() {
        return Err(ApiError::unprocessable("health_check.path must begin with /"));
    }
    let port = match number_of(object, "port", PORT)? {
        0 => target_port,
        _ => port(object, "port")?,
    };
    let secs = |name, default| {
        number_of(
            object,
            name,
            NumberBounds {
                from: 1,
                to: 300,
                default,
            },
        )
    };
    let times = |name, default| {
        number_of(
            object,
            name,
            NumberBounds {
                from: 1,
                to: 10,
                default,
            },
        )
    };
    Ok(HealthCheck {
        protocol,
        port,
        path,
        check_interval_secs: secs("check_interval_seconds", 10)?,
        response_timeout_secs: secs("response_timeout_seconds", 5)?,
        unhealthy_threshold: times("unhealthy_threshold", 5)?,
        healthy_threshold: times("healthy_threshold", 3)?,
    })
}
