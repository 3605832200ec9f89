//! Private networks: records only.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use super::app::App;
use super::call::{Answer, Call, Result};
use super::error::ApiError;
use super::records::{Cloud, Vpc};
use super::{names, page, views};
use crate::ip_range::{Ipv4Range, RangeError};

/// Lengths of prefixes that a network may have.
const PREFIXES: RangeInclusive<u8> = 16..=28;

/// `GET /v2/vpcs`
pub(crate) fn list(app: &App, call: &Call) -> Result {
    app.read(|cloud| {
        let mut vpcs: Vec<&Vpc> = cloud.records.vpcs.values().collect();
        vpcs.sort_by_key(|vpc| (&vpc.created_at, &vpc.name));
        page::answer(call, "vpcs", &vpcs, |vpc| views::vpc(vpc))
    })
}

/// `GET /v2/vpcs/{id}`
pub(crate) fn get(app: &App, id: &str) -> Result {
    app.read(|cloud| Answer::ok(json!({"vpc": views::vpc(find(cloud, id)?)})))
}

/// `POST /v2/vpcs`
#[expect(clippy::disallowed_methods, reason = "ids are random, as DigitalOcean's are")]
pub(crate) async fn create(app: &App, call: &Call) -> Result {
    let name = call.needed_text("name")?.to_owned();
    names::check_vpc(&name)?;
    let region = call
        .region("region is invalid")?
        .ok_or_else(|| ApiError::unprocessable("region can't be blank"))?;
    let wanted = call.text("ip_range")?.map(private_range).transpose()?;
    let description = call.text("description")?.unwrap_or_default().to_owned();
    names::check_description(&description)?;
    call.switch("default")?;
    call.refuse("default", "a VPC is made the default one by an update")?;
    let created_at = app.now();
    app.change(|cloud| {
        name_is_free(cloud, &name, None)?;
        let ip_range = match wanted {
            Some(range) => range,
            None => cloud
                .records
                .free_ip_range()
                .ok_or_else(|| ApiError::unprocessable("no address range is left for a network"))?,
        };
        if let Some(other) = cloud.records.vpc_over(ip_range) {
            return Err(ApiError::unprocessable(format!(
                "This range/size overlaps with another VPC network in your account: {} ({})",
                other.name, other.ip_range
            )));
        }
        let id = uuid::Uuid::new_v4().to_string();
        let vpc = Vpc {
            id: id.clone(),
            name,
            description,
            region: region.to_owned(),
            ip_range: ip_range.to_string(),
            default: false,
            created_at,
        };
        let shown = views::vpc(&vpc);
        cloud.records.vpcs.insert(id, vpc);
        Answer::created(json!({"vpc": shown}))
    })
    .await
}

/// `PUT` and `PATCH /v2/vpcs/{id}`; `default: true` takes it from the region's other one. What is not sent stays.
pub(crate) async fn update(app: &App, id: &str, call: &Call) -> Result {
    let name = match call.body.get("name") {
        None | Some(Value::Null) => None,
        Some(_) => Some(call.needed_text("name")?.to_owned()),
    };
    name.as_deref().map(names::check_vpc).transpose()?;
    let description = call.clearable_text("description")?.map(str::to_owned);
    description.as_deref().map(names::check_description).transpose()?;
    let default = call.optional_switch("default")?;
    let region = call.region("region is invalid")?;
    let ip_range = call.text("ip_range")?;
    app.change(|cloud| {
        let vpc = find(cloud, id)?;
        if region.is_some_and(|wanted| wanted != vpc.region)
            || ip_range.is_some_and(|wanted| wanted != vpc.ip_range)
        {
            return Err(ApiError::unprocessable(
                "region and ip_range of a VPC can't be changed",
            ));
        }
        if vpc.default && default == Some(false) {
            return Err(ApiError::unprocessable(
                "A region keeps a default VPC: make another one the default instead",
            ));
        }
        if let Some(name) = &name {
            name_is_free(cloud, name, Some(id))?;
        }
        let region = vpc.region.clone();
        if default == Some(true) {
            for vpc in cloud.records.vpcs.values_mut().filter(|vpc| vpc.region == region) {
                vpc.default = vpc.id == id;
            }
        }
        let vpc = cloud.records.vpcs.get_mut(id).ok_or_else(ApiError::not_found)?;
        vpc.name = name.unwrap_or_else(|| vpc.name.clone());
        vpc.description = description.unwrap_or_else(|| vpc.description.clone());
        Answer::ok(json!({"vpc": views::vpc(vpc)}))
    })
    .await
}

/// `DELETE /v2/vpcs/{id}`; 403 while it has members.
pub(crate) async fn delete(app: &App, id: &str) -> Result {
    app.change(|cloud| {
        if find(cloud, id)?.default {
            return Err(ApiError::forbidden("Can not delete default VPCs"));
        }
        if !members_of(cloud, id).is_empty() {
            return Err(ApiError::forbidden("Can not delete VPC with members"));
        }
        cloud.records.vpcs.remove(id);
        Answer::no_content()
    })
    .await
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
    cloud.records.vpcs.get(id).ok_or_else(ApiError::not_found)
}

/// Kind, id, name and time of each.
fn members_of<'a>(cloud: &'a Cloud, id: &str) -> Vec<(&'static str, String, &'a str, &'a str)> {
    let droplets = cloud.droplets().filter(|found| found.droplet.vpc == id);
    let balancers = cloud
        .records
        .balancers
        .values()
        .filter(|balancer| balancer.vpc == id);
    droplets
        .map(|found| {
            (
                "droplet",
                found.droplet.id.to_string(),
                found.machine.name.as_str(),
                found.droplet.created_at.as_str(),
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

/// The name belongs to no other network than `of`.
fn name_is_free(cloud: &Cloud, name: &str, of: Option<&str>) -> Result<()> {
    let taken = |vpc: &Vpc| vpc.name == name && of.is_none_or(|id| vpc.id != id);
    if cloud.records.vpcs.values().any(taken) {
        return Err(ApiError::unprocessable("This VPC name is already in use."));
    }
    Ok(())
}

/// A range that a network may have: private addresses, /16 to /28.
fn private_range(text: &str) -> Result<Ipv4Range> {
    let refused = |why: &str| ApiError::unprocessable(format!("ip_range {text} {why}"));
    let range: Ipv4Range = text
        .parse()
        .map_err(|error: RangeError| refused(&error.to_string()))?;
    if !range.first().is_private() || !PREFIXES.contains(&range.prefix()) {
        return Err(refused("is not a private network of /16 to /28"));
    }
    if !range.begins_at_its_address() {
        return Err(refused(&format!(
            "is inside of {}/{}: write that",
            range.first(),
            range.prefix()
        )));
    }
    Ok(range)
}
