//! Actions on droplets, one by one and by tag; and what they leave: actions and snapshots.

use std::sync::Arc;

use serde_json::{Value, json};

use super::call::{Answer, Call, Result};
use super::droplets::{check_name, find};
use super::error::ApiError;
use super::{page, scene, views};
use crate::app::App;
use crate::cloud::droplet::{Droplet, Status};
use crate::cloud::{Action, ActionState, Cloud, ResourceKind, Snapshot, catalog};

/// What an action does, checked.
#[derive(Debug, Clone)]
enum Deed {
    Shutdown,
    PowerOff,
    PowerOn,
    Reboot,
    PowerCycle,
    Snapshot { name: String },
    Rename { name: String },
    Resize { size: &'static str },
    Feature { name: &'static str, on: bool },
}

/// `POST /v2/droplets/{id}/actions`
pub(crate) fn act(app: &Arc<App>, id: &str, call: &Call) -> Result {
    let deed = deed(call)?;
    let id = app.read(|cloud| find(cloud, id).map(|droplet| droplet.id))?;
    let action = start(app, id, deed, call.needed_text("type")?)?;
    Answer::created(json!({"action": views::action(&action)}))
}

/// `POST /v2/droplets/actions?tag_name=`: on every droplet with the tag that has nothing under way.
pub(crate) fn act_by_tag(app: &Arc<App>, call: &Call) -> Result {
    let tag = call
        .param("tag_name")
        .ok_or_else(|| ApiError::unprocessable("tag_name is needed"))?;
    let deed = deed(call)?;
    let kind = call.needed_text("type")?;
    let ids: Vec<u64> = app.read(|cloud| {
        cloud
            .tagged(tag)
            .filter(|droplet| !droplet.locked)
            .map(|droplet| droplet.id)
            .collect()
    });
    let actions: Vec<Action> = ids
        .into_iter()
        .filter_map(|id| start(app, id, deed.clone(), kind).ok())
        .collect();
    Answer::created(json!({"actions": actions.iter().map(views::action).collect::<Vec<Value>>()}))
}

/// `GET /v2/droplets/{id}/actions`
pub(crate) fn list_of_droplet(app: &App, id: &str, call: &Call) -> Result {
    app.read(|cloud| {
        let droplet = find(cloud, id)?.id;
        list_where(cloud, call, |action| {
            action.resource == droplet && action.resource_kind == ResourceKind::Droplet
        })
    })
}

/// `GET /v2/actions`
pub(crate) fn list(app: &App, call: &Call) -> Result {
    app.read(|cloud| list_where(cloud, call, |_| true))
}

/// `GET /v2/actions/{id}`, and below a resource when `of` names it.
pub(crate) fn get(app: &App, id: &str, of: Option<&str>) -> Result {
    app.read(|cloud| {
        let action = id.parse().ok().and_then(|id: u64| cloud.actions.get(&id));
        let action = action.filter(|action| of.is_none_or(|of| of == action.resource.to_string()));
        Answer::ok(json!({"action": views::action(action.ok_or_else(ApiError::not_found)?)}))
    })
}

/// `GET /v2/droplets/{id}/snapshots`
pub(crate) fn snapshots(app: &App, id: &str, call: &Call) -> Result {
    scene(app, |scene| {
        let droplet = find(scene.cloud, id)?.id;
        let all: Vec<&Snapshot> = scene
            .cloud
            .snapshots
            .values()
            .filter(|snapshot| snapshot.droplet == droplet)
            .collect();
        page::answer(call, "snapshots", &all, |snapshot| scene.snapshot(snapshot))
    })
}

/// Lists of a droplet that are always empty here: backups, kernels, neighbours, firewalls.
pub(crate) fn empty_list(app: &App, id: &str, key: &str, call: &Call) -> Result {
    app.read(|cloud| find(cloud, id).map(|_| ()))?;
    page::answer(call, key, &[] as &[Value], Clone::clone)
}

fn list_where(cloud: &Cloud, call: &Call, keep: impl Fn(&Action) -> bool) -> Result {
    // The newest first, as people look for them.
    let actions: Vec<&Action> = cloud
        .actions
        .values()
        .rev()
        .filter(|action| keep(action))
        .collect();
    page::answer(call, "actions", &actions, |action| views::action(action))
}

fn deed(call: &Call) -> Result<Deed> {
    let named = || call.needed_text("name").map(str::to_owned);
    match call.needed_text("type")? {
        "shutdown" => Ok(Deed::Shutdown),
        "power_off" => Ok(Deed::PowerOff),
        "power_on" => Ok(Deed::PowerOn),
        "reboot" => Ok(Deed::Reboot),
        "power_cycle" => Ok(Deed::PowerCycle),
        "snapshot" => Ok(Deed::Snapshot { name: named()? }),
        "rename" => {
            let name = named()?;
            check_name(&name)?;
            Ok(Deed::Rename { name })
        }
        "resize" => match catalog::size_of(call.needed_text("size")?) {
            Some(size) => Ok(Deed::Resize { size: size.slug }),
            None => Err(ApiError::unprocessable(
                "You specified an invalid size for Droplet resize.",
            )),
        },
        "enable_backups" => Ok(Deed::Feature {
            name: "backups",
            on: true,
        }),
        "disable_backups" => Ok(Deed::Feature {
            name: "backups",
            on: false,
        }),
        "enable_ipv6" => Ok(Deed::Feature {
            name: "ipv6",
            on: true,
        }),
        "enable_private_networking" => Ok(Deed::Feature {
            name: "private_networking",
            on: true,
        }),
        other => Err(ApiError::unprocessable(format!(
            "local-cloud has no action `{other}`"
        ))),
    }
}

/// Locks the droplet and sets the deed going.
fn start(app: &Arc<App>, id: u64, deed: Deed, kind: &str) -> Result<Action> {
    let now = app.now();
    let (droplet, action) = app.change(|cloud| {
        let droplet = cloud.droplets.get_mut(&id).ok_or_else(ApiError::not_found)?;
        if droplet.locked {
            return Err(ApiError::unprocessable("Droplet already has a pending event."));
        }
        if matches!(deed, Deed::Resize { .. }) && droplet.status != Status::Off {
            return Err(ApiError::unprocessable("Droplet must be powered off to resize."));
        }
        droplet.locked = true;
        let droplet = droplet.clone();
        Ok((
            droplet,
            cloud.action_start(kind, (ResourceKind::Droplet, id), &now),
        ))
    })?;
    let (app, number) = (Arc::clone(app), action.id);
    tokio::spawn(async move {
        let status = perform(&app, &droplet, deed).await;
        app.action_done(number, droplet.id, status);
    });
    Ok(action)
}

/// Does it; the droplet's new status, when that changes.
async fn perform(app: &Arc<App>, droplet: &Droplet, deed: Deed) -> Option<Status> {
    let grace = app.settings.stop_grace;
    match deed {
        Deed::Shutdown => {
            app.hosts.shutdown(droplet.id, grace).await;
            Some(Status::Off)
        }
        Deed::PowerOff => {
            app.hosts.power_off(droplet.id).await;
            Some(Status::Off)
        }
        Deed::PowerOn => {
            app.boot(droplet, app.faults.next_boot_secs());
            Some(Status::Active)
        }
        Deed::Reboot => {
            app.hosts.shutdown(droplet.id, grace).await;
            app.boot(droplet, app.faults.next_boot_secs());
            Some(Status::Active)
        }
        Deed::PowerCycle => {
            app.hosts.power_off(droplet.id).await;
            app.boot(droplet, app.faults.next_boot_secs());
            Some(Status::Active)
        }
        Deed::Snapshot { name } => {
            snapshot(app, droplet, name);
            None
        }
        Deed::Rename { name } => {
            edit(app, droplet.id, |droplet| droplet.name = name);
            None
        }
        Deed::Resize { size } => {
            edit(app, droplet.id, |droplet| size.clone_into(&mut droplet.size));
            None
        }
        Deed::Feature { name, on } => {
            edit(app, droplet.id, |droplet| {
                droplet.features.retain(|feature| feature != name);
                if on {
                    droplet.features.push(name.to_owned());
                }
            });
            None
        }
    }
}

fn edit(app: &App, id: u64, change: impl FnOnce(&mut Droplet)) {
    app.change(|cloud| cloud.droplets.get_mut(&id).map(change));
}

fn snapshot(app: &App, droplet: &Droplet, name: String) {
    let created_at = app.now();
    let disk = catalog::size_of(&droplet.size).map_or(1, |size| size.disk_gb);
    app.change(|cloud| {
        let id = cloud.new_id();
        let snapshot = Snapshot {
            id,
            name,
            base_slug: droplet.base_slug.clone(),
            droplet: droplet.id,
            created_at,
            min_disk_gb: disk,
            regions: vec![droplet.region.clone()],
        };
        cloud.snapshots.insert(id, snapshot);
        if let Some(droplet) = cloud.droplets.get_mut(&droplet.id) {
            droplet.snapshots.push(id);
        }
    });
}

/// `POST /v2/images/{id}/actions`: a transfer or conversion changes nothing but the record.
pub(crate) fn act_on_image(app: &App, id: u64, call: &Call) -> Result {
    let kind = call.needed_text("type")?;
    let region = match kind {
        "transfer" => {
            let region = call.needed_text("region")?;
            if !catalog::is_region(region) {
                return Err(ApiError::unprocessable("You specified an invalid region."));
            }
            Some(region.to_owned())
        }
        "convert" => None,
        other => {
            return Err(ApiError::unprocessable(format!(
                "local-cloud has no image action `{other}`"
            )));
        }
    };
    let now = app.now();
    let action = app.change(|cloud| {
        let snapshot = cloud.snapshots.get_mut(&id).ok_or_else(ApiError::not_found)?;
        if let Some(region) = region.filter(|region| !snapshot.regions.contains(region)) {
            snapshot.regions.push(region);
        }
        let action = cloud.action_start(kind, (ResourceKind::Image, id), &now);
        cloud.action_end(action.id, ActionState::Completed, &now);
        Ok(cloud.actions.get(&action.id).cloned().unwrap_or(action))
    })?;
    Answer::created(
        serde_json::to_value(views::action(&action)).map_or(Value::Null, |action| json!({"action": action})),
    )
}
