//! Reserved addresses, and the actions that lead them to droplets. On process hosts they are records: nothing answers there.

use serde_json::{Value, json};

use super::app::App;
use super::call::{Answer, Call, Result};
use super::catalog;
use super::error::ApiError;
use super::records::reserved_ip::{Lead, RESERVED_IPS_MAX, ReservedIp, resource_id};
use super::records::{Action, Cloud, ResourceKind};
use super::resources::{self, Kind, Resource};
use super::views::{self, Scene, set};
use super::{page, scene};

/// `GET /v2/reserved_ips`
pub(crate) async fn list(app: &App, call: &Call) -> Result {
    scene(app, |scene| {
        let all: Vec<(&u32, &ReservedIp)> = scene.cloud.records.reserved_ips.iter().collect();
        page::answer(call, "reserved_ips", &all, |(slot, reserved)| {
            view(scene, **slot, reserved)
        })
    })
    .await
}

/// `GET /v2/reserved_ips/{ip}`
pub(crate) async fn get(app: &App, ip: &str) -> Result {
    scene(app, |scene| {
        let (slot, reserved) = find(app, scene.cloud, ip)?;
        Answer::ok(json!({"reserved_ip": view(scene, slot, reserved)}))
    })
    .await
}

/// `POST /v2/reserved_ips`: for a region, or for a droplet, to which it leads.
pub(crate) async fn create(app: &App, call: &Call) -> Result {
    let region = call.region("region is invalid")?;
    let now = app.now();
    let (slot, reserved, action) = app
        .change(|cloud| {
            let project = resources::named_project(cloud, call)?;
            let droplet = match call.body.get("droplet_id") {
                None | Some(Value::Null) => None,
                Some(id) => Some(target(cloud, id)?),
            };
            let home = droplet.and_then(|id| cloud.records.droplets.get(&id));
            let region = match (region, home) {
                (None, None) => return Err(ApiError::unprocessable("region or droplet_id is needed")),
                (Some(region), None) => region.to_owned(),
                (Some(region), Some(home)) if region != home.region => return Err(elsewhere()),
                (_, Some(home)) => home.region.clone(),
            };
            let slot = cloud.new_reserved_slot().ok_or_else(|| {
                ApiError::unprocessable(format!(
                    "You have reached the limit of {RESERVED_IPS_MAX} reserved IPs."
                ))
            })?;
            let reserved = ReservedIp {
                id: cloud.machines.new_id(),
                region,
                created_at: now.clone(),
                droplet: None,
            };
            cloud.records.reserved_ips.insert(slot, reserved.clone());
            if let Some(project) = project {
                resources::assign(cloud, &belonging(app, slot, &reserved).urn, project, &now);
            }
            let ip = app.fleet.addresses.reserved_ip(slot);
            let lead = |to| Lead {
                slot,
                ip,
                to: Some(to),
                now: &now,
            };
            let action = droplet.map(|droplet| (droplet, cloud.reserved_ip_lead(&lead(droplet))));
            Ok((slot, reserved, action))
        })
        .await?;
    let mut links = json!({});
    if let Some((droplet, action)) = &action {
        let link = |rel: &str, id: u64, path: &str| json!([{"id": id, "rel": rel, "href": format!("{}/v2/{path}/{id}", call.base)}]);
        set(&mut links, "droplets", link("droplet", *droplet, "droplets"));
        set(&mut links, "actions", link("assign_ip", action.id, "actions"));
    }
    // It leads to its droplet by now, and is shown as by the real one: on its way there.
    let mut shown = app.read(|cloud| fields((app, cloud), slot, &reserved));
    set(&mut shown, "locked", json!(action.is_some()));
    Answer::accepted(json!({"reserved_ip": shown, "links": links}))
}

/// `DELETE /v2/reserved_ips/{ip}`
pub(crate) async fn delete(app: &App, ip: &str) -> Result {
    app.change(|cloud| {
        let (slot, reserved) = find(app, cloud, ip)?;
        // The address may be reserved again at once.
        let urn = belonging(app, slot, reserved).urn;
        resources::forget(cloud, &urn);
        cloud.records.reserved_ips.remove(&slot);
        Answer::no_content()
    })
    .await
}

/// `POST /v2/reserved_ips/{ip}/actions`
pub(crate) async fn act(app: &App, ip: &str, call: &Call) -> Result {
    let now = app.now();
    let (action, project_id) = app
        .change(|cloud| {
            let (slot, reserved) = find(app, cloud, ip)?;
            let reserved = reserved.clone();
            let to = match call.needed_text("type")? {
                "assign" => Some(assigned(cloud, &reserved, call)?),
                "unassign" if reserved.droplet.is_some() => None,
                "unassign" => {
                    return Err(ApiError::unprocessable(
                        "The reserved IP is not assigned to a Droplet.",
                    ));
                }
                other => {
                    return Err(ApiError::unprocessable(format!(
                        "type must be assign or unassign, not `{other}`"
                    )));
                }
            };
            let lead = Lead {
                slot,
                ip: app.fleet.addresses.reserved_ip(slot),
                to,
                now: &now,
            };
            let project = resources::membership(cloud, &belonging(app, slot, &reserved)).project;
            Ok((cloud.reserved_ip_lead(&lead), project))
        })
        .await?;
    let mut shown = views::action(&action);
    set(&mut shown, "project_id", json!(project_id));
    Answer::created(json!({"action": shown}))
}

/// `GET /v2/reserved_ips/{ip}/actions`, the newest first.
pub(crate) fn actions(app: &App, ip: &str, call: &Call) -> Result {
    app.read(|cloud| {
        let (slot, reserved) = find(app, cloud, ip)?;
        let all = cloud.records.actions.values().rev().map(AsRef::as_ref);
        let own: Vec<&Action> = all
            .filter(|action| is_of(app, (slot, reserved), action))
            .collect();
        page::answer(call, "actions", &own, |action| views::action(action))
    })
}

/// `GET /v2/reserved_ips/{ip}/actions/{id}`
pub(crate) fn action(app: &App, ip: &str, id: &str) -> Result {
    app.read(|cloud| {
        let found = find(app, cloud, ip)?;
        let action = id.parse().ok().and_then(|id: u64| cloud.records.actions.get(&id));
        let action = action.filter(|action| is_of(app, found, action));
        Answer::ok(json!({"action": views::action(action.ok_or_else(ApiError::not_found)?)}))
    })
}

/// Whether an action is of that reservation, and not of an earlier one of the same address.
fn is_of(app: &App, (slot, reserved): (u32, &ReservedIp), action: &Action) -> bool {
    action.resource_kind == ResourceKind::ReservedIp
        && action.resource == resource_id(app.fleet.addresses.reserved_ip(slot))
        && action.id > reserved.id
}

fn assigned(cloud: &Cloud, reserved: &ReservedIp, call: &Call) -> Result<u64> {
    let id = call.body.get("droplet_id").unwrap_or(&Value::Null);
    let again = id.as_u64().is_some_and(|id| reserved.droplet == Some(id));
    let id = if again {
        reserved.droplet.ok_or_else(ApiError::not_found)?
    } else {
        target(cloud, id)?
    };
    let home = cloud.records.droplets.get(&id);
    if home.is_some_and(|droplet| droplet.region != reserved.region) {
        return Err(elsewhere());
    }
    Ok(id)
}

/// A droplet that a reserved address may be led to: each has one at most, and its public interface is where it arrives.
fn target(cloud: &Cloud, id: &Value) -> Result<u64> {
    let found = id.as_u64().and_then(|id| cloud.droplet(id));
    let droplet = found
        .map(|found| found.droplet)
        .ok_or_else(|| ApiError::unprocessable(format!("droplet_id: there is no Droplet {id}")))?;
    if droplet.locked {
        return Err(ApiError::unprocessable("Droplet already has a pending event."));
    }
    if !droplet.public_networking {
        return Err(ApiError::unprocessable(
            "droplet_id: the Droplet has no public interface",
        ));
    }
    let mut others = cloud.records.reserved_ips.values();
    if others.any(|other| other.droplet == Some(droplet.id)) {
        return Err(ApiError::unprocessable("The Droplet already has a reserved IP."));
    }
    Ok(droplet.id)
}

fn elsewhere() -> ApiError {
    ApiError::unprocessable("The Droplet is in another region than the reserved IP.")
}

fn find<'a>(app: &App, cloud: &'a Cloud, ip: &str) -> Result<(u32, &'a ReservedIp)> {
    let mut all = cloud.records.reserved_ips.iter();
    all.find(|(slot, _)| app.fleet.addresses.reserved_ip(**slot).to_string() == ip)
        .map(|(slot, reserved)| (*slot, reserved))
        .ok_or_else(ApiError::not_found)
}

fn view(scene: &Scene<'_>, slot: u32, reserved: &ReservedIp) -> Value {
    let mut view = fields((scene.app, scene.cloud), slot, reserved);
    let found = reserved.droplet.and_then(|id| scene.cloud.droplet(id));
    if let Some(found) = found {
        set(&mut view, "droplet", scene.droplet(found));
    }
    view
}

/// The address as a project has it.
fn belonging(app: &App, slot: u32, reserved: &ReservedIp) -> Resource {
    let ip = app.fleet.addresses.reserved_ip(slot);
    Resource::new(Kind::ReservedIp, &ip, &reserved.created_at)
}

fn fields((app, cloud): (&App, &Cloud), slot: u32, reserved: &ReservedIp) -> Value {
    json!({
        "ip": app.fleet.addresses.reserved_ip(slot),
        "region": catalog::region_view(&reserved.region),
        "droplet": null,
        "locked": false,
        "project_id": resources::membership(cloud, &belonging(app, slot, reserved)).project,
    })
}
