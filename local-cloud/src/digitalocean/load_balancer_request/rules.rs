//! The forwarding rules of a load balancer's body.

use serde_json::{Map, Value};

use crate::digitalocean::call::{Call, NumberBounds, Result, number_of, switch_of, text_of};
use crate::digitalocean::error::ApiError;
use crate::digitalocean::records::Cloud;
use crate::digitalocean::records::load_balancer::{ForwardingRule, Protocol};

/// Rules of one balancer at most.
pub(crate) const RULES_MAX: usize = 50;
/// What a port may be; 0 and absent are none.
pub(super) const PORT: NumberBounds = NumberBounds {
    from: 1,
    to: 65_535,
    default: 0,
};

/// The forwarding rules of a body.
///
/// # Errors
/// 422 when there is none, or one that this balancer can't do.
pub(crate) fn rules(cloud: &Cloud, call: &Call) -> Result<Vec<ForwardingRule>> {
    let list = call.list("forwarding_rules")?;
    if list.is_empty() || list.len() > RULES_MAX {
        return Err(ApiError::unprocessable(format!(
            "forwarding_rules must hold 1 to {RULES_MAX} rules"
        )));
    }
    let mut rules: Vec<ForwardingRule> = Vec::new();
    for value in list {
        let Value::Object(object) = value else {
            return Err(ApiError::unprocessable(
                "forwarding_rules must be a list of objects",
            ));
        };
        let rule = rule(cloud, object)?;
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

/// HTTP, HTTPS and HTTP/2 come to members as HTTP; TLS that is passed through, and TCP, as they are.
fn rule(cloud: &Cloud, object: &Map<String, Value>) -> Result<ForwardingRule> {
    let rule = ForwardingRule {
        entry_protocol: protocol(object, "entry_protocol")?,
        entry_port: port(object, "entry_port")?,
        target_protocol: protocol(object, "target_protocol")?,
        target_port: port(object, "target_port")?,
        certificate_id: certificate(cloud, object)?,
        tls_passthrough: switch_of(object, "tls_passthrough")?,
    };
    let (entry, target) = (rule.entry_protocol, rule.target_protocol);
    let passthrough = entry.is_secure() && target == entry && rule.tls_passthrough;
    let plain = matches!(
        (entry, target),
        (Protocol::Http, Protocol::Http) | (Protocol::Tcp, Protocol::Tcp)
    );
    let ended_here = entry.is_secure() && target == Protocol::Http && !rule.tls_passthrough;
    let refused = match (
        passthrough || (plain && !rule.tls_passthrough),
        ended_here,
        &rule.certificate_id,
    ) {
        (true, _, None) | (_, true, Some(_)) => return Ok(rule),
        (true, _, Some(_)) => "certificate_id: only a rule whose TLS ends at the load balancer has one",
        (_, true, None) => "certificate_id is needed where TLS ends at the load balancer",
        _ if rule.tls_passthrough => "tls_passthrough: both protocols must be https, or both http2",
        _ => {
            "target_protocol: local-cloud's load balancers speak HTTP/1.1 without TLS to droplets, to tcp as it comes, and pass \
             TLS on with tls_passthrough only"
        }
    };
    Err(ApiError::unprocessable(refused))
}

fn protocol(object: &Map<String, Value>, name: &str) -> Result<Protocol> {
    match text_of(object, name)? {
        Some("http") => Ok(Protocol::Http),
        Some("https") => Ok(Protocol::Https),
        Some("http2") => Ok(Protocol::Http2),
        Some("tcp") => Ok(Protocol::Tcp),
        Some("http3" | "udp") => Err(ApiError::unprocessable(format!(
            "{name}: local-cloud's load balancers have neither UDP nor HTTP/3, which needs it"
        ))),
        _ => Err(ApiError::unprocessable(format!(
            "{name} must be http, https, http2 or tcp"
        ))),
    }
}

/// By id, or by name as Terraform's provider lets people write it; both only when they say the same.
fn certificate(cloud: &Cloud, object: &Map<String, Value>) -> Result<Option<String>> {
    let all = &cloud.records.certificates;
    let id = text_of(object, "certificate_id")?;
    if id.is_some_and(|id| !all.contains_key(id)) {
        return Err(ApiError::unprocessable("certificate_id names no certificate"));
    }
    let Some(name) = text_of(object, "certificate_name")? else {
        return Ok(id.map(str::to_owned));
    };
    let named = all.values().find(|certificate| certificate.name == name);
    let named = named.ok_or_else(|| ApiError::unprocessable("certificate_name names no certificate"))?;
    if id.is_some_and(|id| id != named.id) {
        return Err(ApiError::unprocessable(
            "certificate_id and certificate_name can't be used together",
        ));
    }
    Ok(Some(named.id.clone()))
}

/// A port that must be there.
pub(super) fn port(object: &Map<String, Value>, name: &str) -> Result<u16> {
    let number = number_of(object, name, PORT)?;
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    port.ok_or_else(|| ApiError::unprocessable(format!("{name} must be a number from 1 to 65535")))
}
