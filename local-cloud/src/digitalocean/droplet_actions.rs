//! Actions on droplets, one by one and by tag; and what they leave: actions and snapshots.

use std::sync::Arc;

use serde_json::{Value, json};

use super::app::App;
use super::app::Ended;
use super::call::{Answer, Call, Result};
use super::catalog;
use super::droplets::{find, of_host};
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
    Rebuild(NewImage),
    /// Sets what is so already: every droplet is in a private network, and none has backups.
    Nothing,
}

/// The image that a droplet is to begin anew from.
#[derive(Debug, Clone)]
struct NewImage {
    /// 0 for one that no droplet had yet.
    id: u64,
    slug: String,
    min_disk_gb: u64,
}

/// `POST /v2/droplets/{id}/actions`
pub(crate) async fn act(app: &Arc<App>, id: &str, call: &Call) -> Result {
    let kind = call.needed_text("type")?;
    let order = match kind {
        "rebuild" => Order::Rebuild(new_image(app, call).await?),
        _ => order(call)?,
    };
    if id.parse().is_ok_and(|id| app.is_ending(id)) {
        return Err(ApiError::being_destroyed());
    }
    let id = app.read(|cloud| find(cloud, id).map(|found| found.droplet.id))?;
    let action = start(app, id, order, kind).await?;
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
            action.resource == droplet
                && matches!(
                    action.resource_kind,
                    ResourceKind::Droplet | ResourceKind::Backend
                )
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

/// Lists of a droplet that are always empty here: backups, kernels, neighbours.
pub(crate) fn empty_list(app: &App, id: &str, key: &str, call: &Call) -> Result {
    app.read(|cloud| find(cloud, id).map(|_| ()))?;
    page::answer(call, key, &[] as &[Value], Clone::clone)
}

pub(super) fn list_where(cloud: &Cloud, call: &Call, keep: impl Fn(&Action) -> bool) -> Result {
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

/// What a rebuild asks for.
async fn new_image(app: &App, call: &Call) -> Result<NewImage> {
    if !app.fleet.hosts.can_rebuild() {
        return Err(ApiError::unprocessable(
            "droplets that are processes can't be rebuilt: --hosts systemd can",
        ));
    }
    let images = super::images_now(app).await?;
    let (id, slug, min_disk_gb) =
        app.read(|cloud| super::droplets::image(cloud, &images, call.body.get("image")))?;
    Ok(NewImage {
        id,
        slug,
        min_disk_gb,
    })
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
    if let Order::Resize { size, .. } = &order {
        app.fleet.hosts.check_size(size.of_machine()).map_err(of_host)?;
    }
    let (machine, action) = app
        .change(|cloud| {
            // It was there a moment ago.
            let found = cloud.droplet(id).ok_or_else(ApiError::being_destroyed)?;
            if found.droplet.locked {
                return Err(ApiError::unprocessable("Droplet already has a pending event."));
            }
            if let Order::Resize { size, .. } = &order {
                check_resize(found, size)?;
            }
            if let Order::Rebuild(image) = &order
                && found.machine.size.disk_gb < image.min_disk_gb
            {
                return Err(ApiError::unprocessable(
                    "This image requires a larger disk than the Droplet has.",
                ));
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
                let reason = tidepool_logging::chain(&failure);
                tracing::error!(machine = machine.id, action = number, reason, "an action failed");
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
    #[error(
        "the droplet was destroyed while its snapshot was made, and the snapshot is not kept: wait until it is completed before \
         you destroy a droplet"
    )]
    DestroyedMeanwhile,
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
            hosts.power_on(boot_now(app, machine).await?).await?;
            Ok(Some(Power::On))
        }
        Order::Reboot => {
            hosts.reboot(boot_now(app, machine).await?, grace).await?;
            Ok(Some(Power::On))
        }
        Order::PowerCycle => {
            hosts.power_cycle(boot_now(app, machine).await?).await?;
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
        Order::Rebuild(image) => {
            rebuild(app, machine, image).await?;
            Ok(Some(Power::On))
        }
        Order::Nothing => Ok(None),
    }
}

/// Begins anew from an image, with name, addresses and what it was given at its first boot as they were.
async fn rebuild(app: &App, machine: &Machine, image: NewImage) -> std::result::Result<(), Failure> {
    let mut rebuilt = machine.clone();
    let id = app
        .change(|cloud| {
            let id = match image.id {
                0 => cloud.image_id(&image.slug),
                id => id,
            };
            rebuilt.snapshot = Some(id).filter(|id| cloud.records.snapshots.contains_key(id));
            Ok(id)
        })
        .await?;
    rebuilt.image = image.slug;
    app.fleet.hosts.rebuild(&rebuilt).await?;
    app.change(|cloud| {
        edit(cloud, rebuilt.id, |droplet, machine| {
            droplet.image = id;
            machine.image.clone_from(&rebuilt.image);
            machine.snapshot = rebuilt.snapshot;
            // Until it is on again.
            machine.power = Power::Off;
        });
        Ok(())
    })
    .await?;
    Ok(app.fleet.hosts.power_on(boot_now(app, &rebuilt).await?).await?)
}

/// What it takes to power a machine on with its image as it is now. Without one nothing is begun: a machine that is on stays on.
async fn boot_now(app: &App, machine: &Machine) -> std::result::Result<Boot, HostError> {
    let images = app.fleet.manifests.read().await;
    let images = images.map_err(|problems| HostError::Refused(problems.to_string()))?;
    let boot = app.fleet.boot_of(&images, machine, app.fleet.faults.next_boot());
    boot.ok_or_else(|| HostError::Refused(format!("image `{}` is gone", machine.image)))
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
            Ok(region.map(|region| (cloud.machines.new_id(), region)))
        })
        .await?
        .ok_or(Failure::DestroyedMeanwhile)?;
    let gone = || app.read(|cloud| cloud.droplet(machine.id).is_none());
    match app.fleet.hosts.snapshot(machine, id).await {
        // There may be nothing left to copy.
        Err(_) if gone() => return Err(Failure::DestroyedMeanwhile),
        made => made?,
    }
    let created_at = app.now();
    let kept = app.change(|cloud| {
        let Some(droplet) = cloud.records.droplets.get_mut(&machine.id) else {
            return Ok(false);
        };
        droplet.snapshots.push(id);
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
        Ok(true)
    });
    let failure = match kept.await {
        Ok(true) => return Ok(()),
        // Nobody knows how much of its disk was copied.
        Ok(false) => Failure::DestroyedMeanwhile,
        Err(error) => error.into(),
    };
    app.fleet.hosts.snapshot_remove(id).await?;
    Err(failure)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digitalocean::stand_in::{self, Gate, PATIENCE, StandIn};

    const ID: u64 = 11;

    async fn ended(app: &App, action: u64) -> ActionState {
        let wait = async {
            loop {
                match app.read(|cloud| cloud.records.actions[&action].state) {
                    ActionState::InProgress => tokio::task::yield_now().await,
                    ended => return ended,
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .expect("the action does not end")
    }

    async fn snapshot_asked(app: &Arc<App>) -> Result {
        let order = json!({"type": "snapshot", "name": "half"});
        act(app, &ID.to_string(), &stand_in::call(&order)).await
    }

    #[tokio::test]
    async fn a_droplet_destroyed_while_its_snapshot_is_made_leaves_none_and_the_action_is_errored() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = Arc::new(StandIn {
            snapshots: Gate::closed(),
            ..StandIn::default()
        });
        let app = stand_in::app(dir.path(), &hosts, stand_in::droplets(&[ID], Power::On));
        let answer = snapshot_asked(&app).await.unwrap();
        assert_eq!(answer.status, 201);
        hosts.snapshots.reached_by(1).await;
        app.destroy(vec![ID]).await.unwrap();
        hosts.snapshots.let_go(1);
        let action = answer.body.unwrap()["action"]["id"].as_u64().unwrap();
        assert_eq!(ended(&app, action).await, ActionState::Errored);
        assert!(hosts.kept.lock().unwrap().is_empty(), "half a disk is kept");
        assert!(app.read(|cloud| cloud.records.snapshots.is_empty()));
    }

    #[tokio::test]
    async fn an_errored_snapshot_of_a_destroyed_droplet_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = Arc::new(StandIn {
            snapshots: Gate::closed(),
            ..StandIn::default()
        });
        let app = stand_in::app(dir.path(), &hosts, stand_in::droplets(&[ID], Power::On));
        let machine = app.read(|cloud| cloud.machines.get(ID).cloned()).unwrap();
        let (failed, ()) = tokio::join!(snapshot(&app, &machine, "half".to_owned()), async {
            hosts.snapshots.reached_by(1).await;
            app.destroy(vec![ID]).await.unwrap();
            hosts.snapshots.let_go(1);
        });
        assert_eq!(
            failed.unwrap_err().to_string(),
            "the droplet was destroyed while its snapshot was made, and the snapshot is not kept: wait until it is completed \
             before you destroy a droplet"
        );
    }

    #[tokio::test]
    async fn a_droplet_that_is_being_destroyed_takes_no_action_and_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = Arc::new(StandIn {
            ends: Gate::closed(),
            ..StandIn::default()
        });
        let app = stand_in::app(dir.path(), &hosts, stand_in::droplets(&[ID], Power::On));
        let destroying = Arc::clone(&app);
        let destroyed = tokio::spawn(async move { destroying.destroy(vec![ID]).await });
        hosts.ends.reached_by(1).await;
        let refused = snapshot_asked(&app).await.unwrap_err();
        assert_eq!(
            (refused.status.as_u16(), refused.id, refused.message.as_str()),
            (
                404,
                "not_found",
                "The Droplet is being destroyed, and no action can begin on it. Take a snapshot before you destroy a Droplet."
            )
        );
        hosts.ends.let_go(1);
        destroyed.await.unwrap().unwrap();
        assert_eq!(snapshot_asked(&app).await.unwrap_err(), ApiError::not_found());
        assert!(app.read(|cloud| cloud.records.actions.is_empty()));
    }

    #[tokio::test]
    async fn a_resize_to_a_size_larger_than_the_machine_is_refused_as_a_create_is() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = Arc::new(StandIn::default());
        let app = stand_in::app(dir.path(), &hosts, stand_in::droplets(&[ID], Power::Off));
        let resize = async |size: &str| {
            let order = json!({"type": "resize", "size": size, "disk": true});
            act(&app, &ID.to_string(), &stand_in::call(&order)).await
        };
        let refused = resize("s-4vcpu-8gb").await.unwrap_err();
        assert_eq!(
            (refused.status.as_u16(), refused.message.as_str()),
            (422, "too large")
        );
        assert!(app.read(|cloud| cloud.records.actions.is_empty()));
        let answer = resize("s-2vcpu-4gb").await.unwrap();
        let action = answer.body.unwrap()["action"]["id"].as_u64().unwrap();
        assert_eq!(ended(&app, action).await, ActionState::Completed);
        assert_eq!(
            app.read(|cloud| cloud.records.droplets[&ID].size.clone()),
            "s-2vcpu-4gb"
        );
    }
}
