//! The forwarding rules of a load balancer's body.

use serde_json::{Map, Value};

use crate::digitalocean::call::{Call, NumberBounds, Result, number_of, switch_of, text_of};
use crate::digitalocean::error::ApiError;
use crate::digitalocean::records::load_balancer::ForwardingRule;

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

/// A port that must be there.
pub(super) fn port(object: &Map<String, Value>, name: &str) -> Result<u16> {
    let number = number_of(object, name, PORT)?;
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    port.ok_or_else(|| ApiError::unprocessable(format!("{name} must be a number from 1 to 65535")))
}
