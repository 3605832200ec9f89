//! Load balancers: records, and the balancers that run for them.

use serde_json::{Map, Value, json};

use super::call::{Answer, Call, NumberBounds, Result, number_of, text_of};
use super::error::ApiError;
use super::views::set;
use super::{page, scene};
use crate::app::App;
use crate::cloud::balancer_spec::{Algorithm, CheckProtocol, ForwardingRule, HealthCheck, LoadBalancer};
use crate::cloud::{Cloud, catalog};

const PORT: NumberBounds = NumberBounds {
    from: 1,
    to: 65_535,
    default: 0,
};
/// Rules of one balancer at most.
const RULES_MAX: usize = 50;

/// `GET /v2/load_balancers`
pub(crate) fn list(app: &App, call: &Call) -> Result {
    scene(app, |scene| {
        let mut all: Vec<&LoadBalancer> = scene.cloud.balancers.values().collect();
        all.sort_by_key(|balancer| (&balancer.created_at, balancer.slot));
        page::answer(call, "load_balancers", &all, |balancer| {
            scene.load_balancer(balancer)
        })
    })
}

/// `GET /v2/load_balancers/{id}`
pub(crate) fn get(app: &App, id: &str) -> Result {
    scene(app, |scene| {
        let balancer = scene.cloud.balancers.get(id).ok_or_else(ApiError::not_found)?;
        Answer::ok(json!({"load_balancer": scene.load_balancer(balancer)}))
    })
}

/// `POST /v2/load_balancers`
pub(crate) fn create(app: &App, call: &Call) -> Result {
    let now = app.now();
    let id = app.change(|cloud| {
        let slot = cloud.new_balancer_slot();
        let slot =
            slot.ok_or_else(|| ApiError::unprocessable("You have reached the load balancer limit."))?;
        let project_id = uuid::Uuid::new_v4().to_string();
        let identity = Identity {
            id: uuid::Uuid::new_v4().to_string(),
            slot,
            created_at: now.clone(),
            project_id,
        };
        let balancer = parse(cloud, call, identity, &now)?;
        if cloud.balancers.values().any(|other| other.name == balancer.name) {
            return Err(ApiError::unprocessable(
                "A load balancer with this name already exists.",
            ));
        }
        install(app, cloud, balancer)
    })?;
    let mut answer = get(app, &id)?;
    answer.status = http::StatusCode::ACCEPTED;
    // The real one needs a while: clients have to wait for `active`, and for the address.
    if let Some(shown) = answer
        .body
        .as_mut()
        .and_then(|body| body.get_mut("load_balancer"))
    {
        set(shown, "status", json!("new"));
        set(shown, "ip", json!(""));
    }
    Ok(answer)
}

/// `PUT /v2/load_balancers/{id}`: the whole configuration; what is not said goes back to its default.
pub(crate) fn update(app: &App, id: &str, call: &Call) -> Result {
    let now = app.now();
    app.change(|cloud| {
        let old = cloud.balancers.get(id).ok_or_else(ApiError::not_found)?;
        let identity = Identity {
            id: old.id.clone(),
            slot: old.slot,
            created_at: old.created_at.clone(),
            project_id: old.project_id.clone(),
        };
        let balancer = parse(cloud, call, identity, &now)?;
        install(app, cloud, balancer)
    })?;
    get(app, id)
}

/// `DELETE /v2/load_balancers/{id}`
pub(crate) fn delete(app: &App, id: &str) -> Result {
    app.change(|cloud| {
        cloud
            .balancers
            .remove(id)
            .map(|_| ())
            .ok_or_else(ApiError::not_found)
    })?;
    app.balancers.remove(id);
    Answer::no_content()
}

/// `POST` and `DELETE /v2/load_balancers/{id}/droplets`
pub(crate) fn change_droplets(app: &App, id: &str, call: &Call, add: bool) -> Result {
    app.change(|cloud| {
        let ids = droplet_ids(cloud, call)?;
        let balancer = cloud.balancers.get_mut(id).ok_or_else(ApiError::not_found)?;
        if balancer.tag.is_some() {
            return Err(ApiError::unprocessable(
                "This load balancer gets its droplets by tag.",
            ));
        }
        balancer.droplet_ids.retain(|other| !ids.contains(other));
        if add {
            balancer.droplet_ids.extend(ids);
        }
        Answer::no_content()
    })
}

/// `POST` and `DELETE /v2/load_balancers/{id}/forwarding_rules`
pub(crate) fn change_rules(app: &App, id: &str, call: &Call, add: bool) -> Result {
    app.change(|cloud| {
        let given = rules(call)?;
        let mut balancer = cloud.balancers.get(id).cloned().ok_or_else(ApiError::not_found)?;
        balancer
            .forwarding_rules
            .retain(|rule| !given.iter().any(|other| other.entry_port == rule.entry_port));
        if add {
            balancer.forwarding_rules.extend(given);
        }
        if balancer.forwarding_rules.is_empty() {
            return Err(ApiError::unprocessable(
                "A load balancer needs at least one forwarding rule.",
            ));
        }
        install(app, cloud, balancer)?;
        Answer::no_content()
    })
}

/// What stays the same over a balancer's life.
struct Identity {
    id: String,
    slot: u32,
    created_at: String,
    project_id: String,
}

/// Lets the balancer run, then notes it: a port that can't be had refuses the change.
fn install(app: &App, cloud: &mut Cloud, balancer: LoadBalancer) -> Result<String> {
    let ip = app.addresses.balancer_ip(balancer.slot);
    app.balancers.apply(&balancer, ip).map_err(|error| {
        let source = std::error::Error::source(&error)
            .map(ToString::to_string)
            .unwrap_or_default();
        ApiError::unprocessable(format!("forwarding_rules: {error}: {source}"))
    })?;
    let id = balancer.id.clone();
    cloud.balancers.insert(id.clone(), balancer);
    Ok(id)
}

fn parse(cloud: &mut Cloud, call: &Call, identity: Identity, now: &str) -> Result<LoadBalancer> {
    let name = call.needed_text("name")?.to_owned();
    let region = call.text("region")?.map(str::to_owned);
    if region.as_ref().is_some_and(|region| !catalog::is_region(region)) {
        return Err(ApiError::unprocessable("region is invalid"));
    }
    let algorithm = match call.text("algorithm")? {
        None | Some("round_robin") => Algorithm::RoundRobin,
        Some("least_connections") => Algorithm::LeastConnections,
        Some(_) => {
            return Err(ApiError::unprocessable(
                "algorithm must be round_robin or least_connections",
            ));
        }
    };
    if object(call, "sticky_sessions")?
        .is_some_and(|sticky| !matches!(text_of(sticky, "type"), Ok(None | Some("none"))))
    {
        return Err(ApiError::unprocessable(
            "local-cloud's load balancers have no sticky sessions",
        ));
    }
    let forwarding_rules = rules(call)?;
    let target_port = forwarding_rules.first().map_or(80, |rule| rule.target_port);
    let tag = call.text("tag")?.map(str::to_owned);
    let droplet_ids = droplet_ids(cloud, call)?;
    if tag.is_some() && !droplet_ids.is_empty() {
        return Err(ApiError::unprocessable(
            "tag and droplet_ids can't be used together",
        ));
    }
    let health_check = health_check(object(call, "health_check")?, target_port)?;
    let vpc = match call.text("vpc_uuid")? {
        Some(id) if !cloud.vpcs.contains_key(id) => {
            return Err(ApiError::unprocessable("vpc_uuid is invalid"));
        }
        Some(id) => id.to_owned(),
        None => cloud.default_vpc(region.as_deref().unwrap_or(catalog::DEFAULT_REGION), now),
    };
    let idle = NumberBounds {
        from: 30,
        to: 600,
        default: 60,
    };
    let units = NumberBounds {
        from: 1,
        to: 100,
        default: 1,
    };
    Ok(LoadBalancer {
        id: identity.id,
        slot: identity.slot,
        name,
        created_at: identity.created_at,
        region,
        size_unit: number_of(&call.body, "size_unit", units)?,
        algorithm,
        forwarding_rules,
        health_check,
        http_idle_timeout_secs: number_of(&call.body, "http_idle_timeout_seconds", idle)?,
        tag,
        droplet_ids,
        vpc,
        project_id: call
            .text("project_id")?
            .map_or(identity.project_id, str::to_owned),
    })
}

fn object<'a>(call: &'a Call, name: &str) -> Result<Option<&'a Map<String, Value>>> {
    match call.body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object).filter(|object| !object.is_empty())),
        Some(_) => Err(ApiError::unprocessable(format!("{name} must be an object"))),
    }
}

fn droplet_ids(cloud: &Cloud, call: &Call) -> Result<Vec<u64>> {
    let known = |id: &Value| id.as_u64().filter(|id| cloud.droplets.contains_key(id));
    let ids: Option<Vec<u64>> = call.list("droplet_ids")?.iter().map(known).collect();
    ids.ok_or_else(|| ApiError::unprocessable("droplet_ids must name existing droplets"))
}

fn rules(call: &Call) -> Result<Vec<ForwardingRule>> {
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
