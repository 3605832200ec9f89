//! Actions on droplets, one by one and by tag; and what they leave: actions and snapshots.

use std::sync::Arc;

use serde_json::{Value, json};

use super::app::App;
use super::call::{Answer, Call, Result};
use super::catalog;
use super::droplets::find;
use super::error::ApiError;
use super::records::droplet::{Droplet, Status};
use super::records::{Action, ActionState, Cloud, ResourceKind, Snapshot};
use super::{names, page, scene, views};

/// What a client asks of a droplet, checked.
#[derive(Debug, Clone)]
enum Order {
    Shutdown,
    PowerOff,
    PowerOn,
    Reboot,
    PowerCycle,
    Snapshot {
        name: String,
    },
    Rename {
        name: String,
    },
    Resize {
        size: &'static catalog::Size,
        with_disk: bool,
    },
    /// Sets what is so already: every droplet is in a private network, and none has backups.
    Nothing,
}

/// `POST /v2/droplets/{id}/actions`
pub(crate) fn act(app: &Arc<App>, id: &str, call: &Call) -> Result {
    let order = order(call)?;
    let id = app.read(|cloud| find(cloud, id).map(|droplet| droplet.id))?;
    let action = start(app, id, order, call.needed_text("type")?)?;
    Answer::created(json!({"action": views::action(&action)}))
}

/// Actions that can be asked of all droplets with a tag.
const BY_TAG: [&str; 8] = [
    "power_cycle",
    "power_on",
    "power_off",
    "shutdown",
    "enable_ipv6",
    "enable_backups",
    "disable_backups",
    "snapshot",
];

/// `POST /v2/droplets/actions?tag_name=`: on every droplet with the tag that has nothing under way.
pub(crate) fn act_by_tag(app: &Arc<App>, call: &Call) -> Result {
    let tag = call
        .param("tag_name")
        .ok_or_else(|| ApiError::unprocessable("tag_name is needed"))?;
    let order = order(call)?;
    let kind = call.needed_text("type")?;
    if !BY_TAG.contains(&kind) {
        return Err(ApiError::unprocessable(format!(
            "`{kind}` is not an action for all droplets with a tag: {}",
            BY_TAG.join(", ")
        )));
    }
    let ids: Vec<u64> = app.read(|cloud| {
        cloud
            .tagged(tag)
            .filter(|droplet| !droplet.locked)
            .map(|droplet| droplet.id)
            .collect()
    });
    let actions: Vec<Action> = ids
        .into_iter()
        .filter_map(|id| start(app, id, order.clone(), kind).ok())
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

fn order(call: &Call) -> Result<Order> {
    let named = || call.needed_text("name").map(str::to_owned);
    match call.needed_text("type")? {
        "shutdown" => Ok(Order::Shutdown),
        "power_off" => Ok(Order::PowerOff),
        "power_on" => Ok(Order::PowerOn),
        "reboot" => Ok(Order::Reboot),
        "power_cycle" => Ok(Order::PowerCycle),
        "snapshot" => Ok(Order::Snapshot { name: named()? }),
        "rename" => {
            let name = named()?;
            names::check_droplet(&name)?;
            Ok(Order::Rename { name })
        }
        "resize" => {
            let size = catalog::size_of(call.needed_text("size")?).ok_or_else(|| {
                ApiError::unprocessable("You specified an invalid size for Droplet resize.")
            })?;
            let with_disk = call.switch("disk")?;
            Ok(Order::Resize { size, with_disk })
        }
        "disable_backups" | "enable_private_networking" => Ok(Order::Nothing),
        "enable_backups" | "change_backup_policy" => {
            Err(ApiError::unprocessable("local-cloud takes no backups"))
        }
        "enable_ipv6" => Err(ApiError::unprocessable(
            "local-cloud's droplets have no IPv6 addresses",
        )),
        other => Err(ApiError::unprocessable(format!(
            "local-cloud has no action `{other}`"
        ))),
    }
}

/// A disk can grow but not shrink, whether the disk is resized or not.
fn check_resize(droplet: &Droplet, size: &catalog::Size) -> Result<()> {
    if droplet.status != Status::Off {
        return Err(ApiError::unprocessable("Droplet must be powered off to resize."));
    }
    if size.disk_gb < droplet.disk_gb {
        return Err(ApiError::unprocessable(
            "Size can not decrease size of Droplet's disk image.",
        ));
    }
    if size.is_gpu() != droplet.is_gpu() {
        return Err(ApiError::unprocessable(
            "A Droplet can't be resized between sizes with and without a GPU.",
        ));
    }
    Ok(())
}

/// Locks the droplet and sets the order going.
fn start(app: &Arc<App>, id: u64, order: Order, kind: &str) -> Result<Action> {
    let now = app.now();
    let (droplet, action) = app.change(|cloud| {
        let droplet = cloud.droplets.get_mut(&id).ok_or_else(ApiError::not_found)?;
        if droplet.locked {
            return Err(ApiError::unprocessable("Droplet already has a pending event."));
        }
        if let Order::Resize { size, .. } = &order {
            check_resize(droplet, size)?;
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
        let status = perform(&app, &droplet, order).await;
        app.action_done(number, droplet.id, status);
    });
    Ok(action)
}

/// Does it; the droplet's new status, when that changes.
async fn perform(app: &Arc<App>, droplet: &Droplet, order: Order) -> Option<Status> {
    let grace = app.settings.stop_grace;
    match order {
        Order::Shutdown => {
            app.hosts.shutdown(droplet.id, grace).await;
            Some(Status::Off)
        }
        Order::PowerOff => {
            app.hosts.power_off(droplet.id).await;
            Some(Status::Off)
        }
        Order::PowerOn => {
            boot(app, droplet);
            Some(Status::Active)
        }
        Order::Reboot => {
            app.hosts.shutdown(droplet.id, grace).await;
            boot(app, droplet);
            Some(Status::Active)
        }
        Order::PowerCycle => {
            app.hosts.power_off(droplet.id).await;
            boot(app, droplet);
            Some(Status::Active)
        }
        Order::Snapshot { name } => {
            snapshot(app, droplet, name);
            None
        }
        Order::Rename { name } => {
            edit(app, droplet.id, |droplet| droplet.name = name);
            None
        }
        Order::Resize { size, with_disk } => {
            edit(app, droplet.id, |droplet| {
                size.slug.clone_into(&mut droplet.size);
                if with_disk {
                    droplet.disk_gb = size.disk_gb;
                }
            });
            None
        }
        Order::Nothing => None,
    }
}

/// Boots the droplet with its image as it is now.
fn boot(app: &App, droplet: &Droplet) {
    match app.images() {
        Ok(images) => app.boot(&images, droplet, app.faults.next_boot_secs()),
        Err(problems) => {
            tracing::error!(droplet = droplet.id, %problems, "can't boot: the images are broken");
        }
    }
}

fn edit(app: &App, id: u64, change: impl FnOnce(&mut Droplet)) {
    app.change(|cloud| cloud.droplets.get_mut(&id).map(change));
}

fn snapshot(app: &App, droplet: &Droplet, name: String) {
    let created_at = app.now();
    app.change(|cloud| {
        let id = cloud.new_id();
        let snapshot = Snapshot {
            id,
            name,
            base_slug: droplet.base_slug.clone(),
            droplet: droplet.id,
            created_at,
            min_disk_gb: droplet.disk_gb.max(1),
            regions: vec![droplet.region.clone()],
            distribution: None,
            description: String::new(),
        };
        cloud.snapshots.insert(id, snapshot);
        if let Some(droplet) = cloud.droplets.get_mut(&droplet.id) {
            droplet.snapshots.push(id);
        }
    });
}

/// `POST /v2/images/{id}/actions`: a transfer to another region, which changes the record alone.
pub(crate) fn act_on_image(app: &App, id: u64, call: &Call) -> Result {
    let kind = call.needed_text("type")?;
    match kind {
        "transfer" => {}
        "convert" => {
            return Err(ApiError::unprocessable(
                "Only a backup can be converted, and local-cloud takes no backups",
            ));
        }
        other => {
            return Err(ApiError::unprocessable(format!(
                "local-cloud has no image action `{other}`"
            )));
        }
    }
    let region = call
        .region("You specified an invalid region.")?
        .ok_or_else(|| ApiError::unprocessable("region can't be blank"))?;
    let now = app.now();
    let action = app.change(|cloud| {
        let snapshot = cloud.snapshots.get_mut(&id).ok_or_else(ApiError::not_found)?;
        if !snapshot.regions.iter().any(|other| other == region) {
            snapshot.regions.push(region.to_owned());
        }
        let action = cloud.action_start(kind, (ResourceKind::Image, id), &now);
        cloud.action_end(action.id, ActionState::Completed, &now);
        Ok(cloud.actions.get(&action.id).cloned().unwrap_or(action))
    })?;
    Answer::created(json!({"action": views::action(&action)}))
}
