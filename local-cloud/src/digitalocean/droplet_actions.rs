//! Actions on droplets, one by one and by tag; and what they leave: actions and snapshots.

use std::sync::Arc;

use serde_json::{Value, json};

use super::app::App;
use super::app::Ended;
use super::call::{Answer, Call, Result};
use super::catalog;
use super::droplets::find;
use super::error::ApiError;
use super::records::droplet::{Droplet, WithMachine};
use super::records::{Action, ActionState, Cloud, ResourceKind, Snapshot};
use super::{names, page, scene, views};
use crate::hosts::{Boot, HostError};
use crate::machines::{Machine, Power};

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
pub(crate) async fn act(app: &Arc<App>, id: &str, call: &Call) -> Result {
    let order = order(call)?;
    let id = app.read(|cloud| find(cloud, id).map(|found| found.droplet.id))?;
    let action = start(app, id, order, call.needed_text("type")?).await?;
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
pub(crate) async fn act_by_tag(app: &Arc<App>, call: &Call) -> Result {
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
            .records
            .tagged(tag)
            .filter(|droplet| !droplet.locked)
            .map(|droplet| droplet.id)
            .collect()
    });
    let mut actions: Vec<Action> = Vec::new();
    for id in ids {
        // One that was destroyed or locked meanwhile is passed over.
        actions.extend(start(app, id, order.clone(), kind).await.ok());
    }
    Answer::created(json!({"actions": actions.iter().map(views::action).collect::<Vec<Value>>()}))
}

/// `GET /v2/droplets/{id}/actions`
pub(crate) fn list_of_droplet(app: &App, id: &str, call: &Call) -> Result {
    app.read(|cloud| {
        let droplet = find(cloud, id)?.droplet.id;
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
        let action = id.parse().ok().and_then(|id: u64| cloud.records.actions.get(&id));
        let action = action.filter(|action| of.is_none_or(|of| of == action.resource.to_string()));
        Answer::ok(json!({"action": views::action(action.ok_or_else(ApiError::not_found)?)}))
    })
}

/// `GET /v2/droplets/{id}/snapshots`
pub(crate) async fn snapshots(app: &App, id: &str, call: &Call) -> Result {
    scene(app, |scene| {
        let droplet = find(scene.cloud, id)?.droplet.id;
        let all: Vec<&Snapshot> = scene
            .cloud
            .records
            .snapshots
            .values()
            .filter(|snapshot| snapshot.droplet == droplet)
            .collect();
        page::answer(call, "snapshots", &all, |snapshot| scene.snapshot(snapshot))
    })
    .await
}

/// Lists of a droplet that are always empty here: backups, kernels, neighbours, firewalls.
pub(crate) fn empty_list(app: &App, id: &str, key: &str, call: &Call) -> Result {
    app.read(|cloud| find(cloud, id).map(|_| ()))?;
    page::answer(call, key, &[] as &[Value], Clone::clone)
}

fn list_where(cloud: &Cloud, call: &Call, keep: impl Fn(&Action) -> bool) -> Result {
    // The newest first, as people look for them.
    let actions: Vec<&Action> = cloud
        .records
        .actions
        .values()
        .rev()
        .map(Arc::as_ref)
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
fn check_resize(found: WithMachine<'_>, size: &catalog::Size) -> Result<()> {
    if found.machine.power != Power::Off {
        return Err(ApiError::unprocessable("Droplet must be powered off to resize."));
    }
    if size.disk_gb < found.machine.size.disk_gb {
        return Err(ApiError::unprocessable(
            "Size can not decrease size of Droplet's disk image.",
        ));
    }
    if size.is_gpu() != found.droplet.is_gpu() {
        return Err(ApiError::unprocessable(
            "A Droplet can't be resized between sizes with and without a GPU.",
        ));
    }
    Ok(())
}

/// Locks the droplet and sets the order going.
async fn start(app: &Arc<App>, id: u64, order: Order, kind: &str) -> Result<Action> {
    let now = app.now();
    let (machine, action) = app
        .change(|cloud| {
            let found = cloud.droplet(id).ok_or_else(ApiError::not_found)?;
            if found.droplet.locked {
                return Err(ApiError::unprocessable("Droplet already has a pending event."));
            }
            if let Order::Resize { size, .. } = &order {
                check_resize(found, size)?;
            }
            let machine = found.machine.clone();
            edit(cloud, id, |droplet, _| droplet.locked = true);
            let action = cloud.action_start(kind, (ResourceKind::Droplet, id), &now);
            Ok((machine, action))
        })
        .await?;
    let (app, number) = (Arc::clone(app), action.id);
    tokio::spawn(async move {
        let (state, power) = match perform(&app, &machine, order).await {
            Ok(power) => (ActionState::Completed, power),
            Err(failure) => {
                tracing::error!(machine = machine.id, action = number, %failure, "an action failed");
                (ActionState::Errored, None)
            }
        };
        app.action_done(Ended {
            action: number,
            droplet: machine.id,
            state,
            power,
        })
        .await;
    });
    Ok(action)
}

/// Why an action ended in error.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("{}", .0.message)]
    State(ApiError),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::State(error)
    }
}

/// Does it; the power that the machine has then, when that changes.
async fn perform(app: &App, machine: &Machine, order: Order) -> std::result::Result<Option<Power>, Failure> {
    let (hosts, grace) = (&app.fleet.hosts, app.fleet.stop_grace);
    match order {
        Order::Shutdown => Ok(Some(hosts.shutdown(machine.id, grace).await?)),
        Order::PowerOff => {
            hosts.power_off(machine.id).await?;
            Ok(Some(Power::Off))
        }
        Order::PowerOn => {
            if let Some(boot) = boot_now(app, machine).await {
                hosts.power_on(boot).await?;
            }
            Ok(Some(Power::On))
        }
        Order::Reboot => {
            match boot_now(app, machine).await {
                Some(boot) => hosts.reboot(boot, grace).await?,
                None => hosts.shutdown(machine.id, grace).await.map(|_| ())?,
            }
            Ok(Some(Power::On))
        }
        Order::PowerCycle => {
            match boot_now(app, machine).await {
                Some(boot) => hosts.power_cycle(boot).await?,
                None => hosts.power_off(machine.id).await?,
            }
            Ok(Some(Power::On))
        }
        Order::Snapshot { name } => {
            snapshot(app, machine, name).await?;
            Ok(None)
        }
        Order::Rename { name } => {
            app.change(|cloud| {
                edit(cloud, machine.id, |_, machine| machine.name = name);
                Ok(())
            })
            .await?;
            Ok(None)
        }
        Order::Resize { size, with_disk } => {
            let mut resized = machine.clone();
            resized.size = size.of_machine();
            if !with_disk {
                resized.size.disk_gb = machine.size.disk_gb;
            }
            resize(app, &resized, size.slug).await?;
            Ok(None)
        }
        Order::Nothing => Ok(None),
    }
}

/// What it takes to power a machine on with its image as it is now; None, and a line in the log, when that is gone.
async fn boot_now(app: &App, machine: &Machine) -> Option<Boot> {
    match app.fleet.manifests.read().await {
        Ok(images) => app.fleet.boot_of(&images, machine, app.fleet.faults.next_boot()),
        Err(problems) => {
            tracing::error!(machine = machine.id, %problems, "can't boot: the images are broken");
            None
        }
    }
}

/// Changes a droplet and its machine, if they are still there.
fn edit(cloud: &mut Cloud, id: u64, change: impl FnOnce(&mut Droplet, &mut Machine)) {
    let (droplet, machine) = (cloud.records.droplets.get_mut(&id), cloud.machines.get_mut(id));
    if let (Some(droplet), Some(machine)) = (droplet, machine) {
        change(droplet, machine);
    }
}

/// Gives a machine its new size, and its droplet the slug of it.
async fn resize(app: &App, resized: &Machine, slug: &str) -> std::result::Result<(), Failure> {
    app.fleet.hosts.resize(resized).await?;
    app.change(|cloud| {
        edit(cloud, resized.id, |droplet, machine| {
            slug.clone_into(&mut droplet.size);
            machine.size = resized.size;
        });
        Ok(())
    })
    .await?;
    Ok(())
}

async fn snapshot(app: &App, machine: &Machine, name: String) -> std::result::Result<(), Failure> {
    let (id, region) = app
        .change(|cloud| {
            let droplet = cloud.records.droplets.get(&machine.id);
            let region = droplet.map(|droplet| droplet.region.clone());
            Ok((cloud.machines.new_id(), region.ok_or_else(ApiError::not_found)?))
        })
        .await?;
    app.fleet.hosts.snapshot(machine, id).await?;
    let created_at = app.now();
    app.change(|cloud| {
        if let Some(droplet) = cloud.records.droplets.get_mut(&machine.id) {
            droplet.snapshots.push(id);
        }
        let snapshot = Snapshot {
            id,
            name,
            base_slug: machine.image.clone(),
            droplet: machine.id,
            created_at,
            min_disk_gb: machine.size.disk_gb.max(1),
            regions: vec![region],
            distribution: None,
            description: String::new(),
        };
        cloud.records.snapshots.insert(id, snapshot);
        Ok(())
    })
    .await?;
    Ok(())
}

/// `POST /v2/images/{id}/actions`: a transfer to another region, which changes the record alone.
pub(crate) async fn act_on_image(app: &App, id: u64, call: &Call) -> Result {
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
    let action = app
        .change(|cloud| {
            let snapshot = cloud
                .records
                .snapshots
                .get_mut(&id)
                .ok_or_else(ApiError::not_found)?;
            if !snapshot.regions.iter().any(|other| other == region) {
                snapshot.regions.push(region.to_owned());
            }
            let action = cloud.action_start(kind, (ResourceKind::Image, id), &now);
            cloud.records.action_end(action.id, ActionState::Completed, &now);
            let ended = cloud.records.actions.get(&action.id);
            Ok(ended.map_or(action, |ended| Action::clone(ended)))
        })
        .await?;
    Answer::created(json!({"action": views::action(&action)}))
}
