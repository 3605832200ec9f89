//! What the body of a load balancer's create or update asks for, field by field: kept to, or refused with 422. Only fields
//! that DigitalOcean does not know either, and those that it documents as read-only, are ignored, as it ignores them.

mod health_check;
mod home;
mod rules;
mod sticky;

use serde_json::{Map, Value};

use self::health_check::health_check;
pub(crate) use self::home::Home;
use self::home::{kept_home, new_home};
pub(crate) use self::rules::{RULES_MAX, rules};
use self::sticky::sticky_sessions;
use super::call::{Call, NumberBounds, Result, number_of, texts_of};
use super::error::ApiError;
use super::records::Cloud;
use super::records::firewall::{Firewall, RULES_MAX as SOURCES_MAX, Source};
use super::records::load_balancer::{Algorithm, LoadBalancer, Size};
use super::{names, tags};

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
    /// Where one that exists already is: a balancer can't move.
    pub(crate) home: Option<Home>,
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
    let forwarding_rules = rules(cloud, call)?;
    let target_port = forwarding_rules.first().map_or(80, |rule| rule.target_port);
    let health_check = health_check(object(call, "health_check")?, target_port)?;
    let (tag, droplet_ids) = targets(cloud, call)?;
    let size = size(call)?;
    let http_idle_timeout_secs = number_of(&call.body, "http_idle_timeout_seconds", IDLE_SECS)?;
    let sticky_sessions = sticky_sessions(object(call, "sticky_sessions")?)?;
    let redirect_http_to_https = call.switch("redirect_http_to_https")?;
    let enable_proxy_protocol = call.switch("enable_proxy_protocol")?;
    let enable_backend_keepalive = call.switch("enable_backend_keepalive")?;
    let disable_lets_encrypt_dns_records = call.switch("disable_lets_encrypt_dns_records")?;
    let firewall = firewall(object(call, "firewall")?)?;
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
        size_by_name: call.text("size")?.is_some(),
        algorithm,
        forwarding_rules,
        health_check,
        http_idle_timeout_secs,
        enable_backend_keepalive,
        redirect_http_to_https,
        enable_proxy_protocol,
        sticky_sessions,
        disable_lets_encrypt_dns_records,
        firewall,
        tag,
        droplet_ids,
        vpc: home.vpc,
    })
}

fn refuse_what_is_not_there(call: &Call) -> Result<()> {
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
    Ok(())
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

fn firewall(object: Option<&Map<String, Value>>) -> Result<Firewall> {
    let Some(object) = object else {
        return Ok(Firewall::default());
    };
    let within = |error: ApiError| ApiError::unprocessable(format!("firewall.{}", error.message));
    let list = |name: &str| -> Result<Vec<Source>> {
        let rules = texts_of(object, name).map_err(within)?;
        if rules.len() > SOURCES_MAX {
            return Err(ApiError::unprocessable(format!(
                "firewall.{name} must hold at most {SOURCES_MAX} rules"
            )));
        }
        let parsed = rules.into_iter().map(|text| {
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
