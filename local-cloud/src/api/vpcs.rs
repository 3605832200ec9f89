//! Private networks: records only.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::call::{Answer, Call, Result};
use super::error::ApiError;
use super::{page, views};
use crate::app::App;
use crate::cloud::{Cloud, Vpc, catalog};

/// `GET /v2/vpcs`
pub(crate) fn list(app: &App, call: &Call) -> Result {
    app.read(|cloud| {
        let mut vpcs: Vec<&Vpc> = cloud.vpcs.values().collect();
        vpcs.sort_by_key(|vpc| (&vpc.created_at, &vpc.name));
        page::answer(call, "vpcs", &vpcs, |vpc| views::vpc(vpc))
    })
}

/// `GET /v2/vpcs/{id}`
pub(crate) fn get(app: &App, id: &str) -> Result {
    app.read(|cloud| Answer::ok(json!({"vpc": views::vpc(find(cloud, id)?)})))
}

/// `POST /v2/vpcs`
pub(crate) fn create(app: &App, call: &Call) -> Result {
    let name = call.needed_text("name")?.to_owned();
    let region = call.needed_text("region")?.to_owned();
    if !catalog::is_region(&region) {
        return Err(ApiError::unprocessable("region is invalid"));
    }
    let wanted = call.text("ip_range")?.map(str::to_owned);
    if let Some(range) = wanted.as_deref().filter(|range| !is_private_range(range)) {
        return Err(ApiError::unprocessable(format!(
            "ip_range {range} is no private network of /16 to /28"
        )));
    }
    let description = call.text("description")?.unwrap_or_default().to_owned();
    let created_at = app.now();
    app.change(|cloud| {
        if cloud.vpcs.values().any(|vpc| vpc.name == name) {
            return Err(ApiError::unprocessable("This VPC name is already in use."));
        }
        let ip_range = wanted.unwrap_or_else(|| cloud.free_ip_range());
        let id = uuid::Uuid::new_v4().to_string();
        let vpc = Vpc {
            id: id.clone(),
            name,
            description,
            region,
            ip_range,
            default: false,
            created_at,
        };
        let shown = views::vpc(&vpc);
        cloud.vpcs.insert(id, vpc);
        Answer::created(json!({"vpc": shown}))
    })
}

/// `PUT` and `PATCH /v2/vpcs/{id}`; `default: true` takes it from the region's other one.
pub(crate) fn update(app: &App, id: &str, call: &Call) -> Result {
    let name = call.text("name")?.map(str::to_owned);
    let description = call.text("description")?.map(str::to_owned);
    let default = call.switch("default")?;
    app.change(|cloud| {
        let region = find(cloud, id)?.region.clone();
        if default {
            for vpc in cloud.vpcs.values_mut().filter(|vpc| vpc.region == region) {
                vpc.default = vpc.id == id;
            }
        }
        let vpc = cloud.vpcs.get_mut(id).ok_or_else(ApiError::not_found)?;
        vpc.name = name.unwrap_or_else(|| vpc.name.clone());
        vpc.description = description.unwrap_or_else(|| vpc.description.clone());
        Answer::ok(json!({"vpc": views::vpc(vpc)}))
    })
}

/// `DELETE /v2/vpcs/{id}`; 403 while it has members.
pub(crate) fn delete(app: &App, id: &str) -> Result {
    app.change(|cloud| {
        if find(cloud, id)?.default {
            return Err(ApiError::forbidden("Can not delete default VPCs"));
        }
        if !members_of(cloud, id).is_empty() {
            return Err(ApiError::forbidden("Can not delete VPC with members"));
        }
        cloud.vpcs.remove(id);
        Answer::no_content()
    })
}

/// `GET /v2/vpcs/{id}/members`
pub(crate) fn members(app: &App, id: &str, call: &Call) -> Result {
    app.read(|cloud| {
        find(cloud, id)?;
        let kind = call.param("resource_type");
        let members: Vec<Value> = members_of(cloud, id)
            .into_iter()
            .filter(|(of, ..)| kind.is_none_or(|kind| kind == *of))
            .map(|(of, key, name, at)| json!({"urn": format!("do:{of}:{key}"), "name": name, "created_at": at}))
            .collect();
        page::answer(call, "members", &members, Clone::clone)
    })
}

fn find<'a>(cloud: &'a Cloud, id: &str) -> Result<&'a Vpc> {
    cloud.vpcs.get(id).ok_or_else(ApiError::not_found)
}

/// Kind, id, name and time of each.
fn members_of<'a>(cloud: &'a Cloud, id: &str) -> Vec<(&'static str, String, &'a str, &'a str)> {
    let droplets = cloud.droplets.values().filter(|droplet| droplet.vpc == id);
    let balancers = cloud.balancers.values().filter(|balancer| balancer.vpc == id);
    droplets
        .map(|droplet| {
            (
                "droplet",
                droplet.id.to_string(),
                droplet.name.as_str(),
                droplet.created_at.as_str(),
            )
        })
        .chain(balancers.map(|balancer| {
            (
                "load_balancer",
                balancer.id.clone(),
                balancer.name.as_str(),
                balancer.created_at.as_str(),
            )
        }))
        .collect()
}

fn is_private_range(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let private = address
        .parse::<Ipv4Addr>()
        .is_ok_and(|address| address.is_private());
    private && bits.parse::<u8>().is_ok_and(|bits| (16..=28).contains(&bits))
}
