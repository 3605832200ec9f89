//! The health check of a load balancer's body.

use serde_json::{Map, Value};

use super::rules::{PORT, port};
use crate::digitalocean::call::{NumberBounds, Result, number_of, switch_of, text_of};
use crate::digitalocean::error::ApiError;
use crate::digitalocean::records::load_balancer::{CheckProtocol, HealthCheck};

/// Defaults and bounds are the documented ones. The interval may be 1 or 2 here, where the real one asks for 3 or more.
pub(super) fn health_check(object: Option<&Map<String, Value>>, target_port: u16) -> Result<HealthCheck> {
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
