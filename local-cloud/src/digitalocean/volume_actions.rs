//! What is done with a volume: attached, detached, made larger. Each is an action that ends later.

use std::sync::Arc;

use serde_json::{Value, json};

use super::app::App;
use super::attachments::{attached, busy, check_attach};
use super::call::{Answer, Call, Result};
use super::catalog;
use super::droplet_actions;
use super::error::ApiError;
use super::records::volume::{ATTACH, DETACH, RESIZE, Volume};
use super::records::{Action, ActionState, Cloud};
use super::volumes::{self, find};
use super::{tags, views};
use crate::hosts::HostError;

/// What a client asks of a volume, checked.
#[derive(Debug, Clone)]
enum Order {
    Attach { droplet: u64, tags: Vec<String> },
    Detach { droplet: u64 },
    Resize { gib: u64 },
}

/// What has been begun.
struct Begun {
    action: Action,
    volume: Volume,
}

/// `POST /v2/volumes/{id}/actions`
pub(crate) async fn act(app: &Arc<App>, id: &str, call: &Call) -> Result {
    app.read(|cloud| find(cloud, id).map(|_| ()))?;
    start(app, id, order(call)?, call).await
}

/// `POST /v2/volumes/actions`: on the volume that is named by `volume_name`, and `region` where several have that name.
pub(crate) async fn act_by_name(app: &Arc<App>, call: &Call) -> Result {
    let name = call.needed_text("volume_name")?;
    let order = order(call)?;
    if matches!(order, Order::Resize { .. }) {
        return Err(ApiError::unprocessable("a volume is resized by its id"));
    }
    let region = call.region("region is invalid")?;
    let id = app.read(|cloud| volumes::named(cloud, name, region).map(|volume| volume.id.clone()))?;
    start(app, &id, order, call).await
}

/// `GET /v2/volumes/{id}/actions`
pub(crate) fn list(app: &App, id: &str, call: &Call) -> Result {
    app.read(|cloud| {
        find(cloud, id)?;
        droplet_actions::list_where(cloud, call, |action| action.volume.as_deref() == Some(id))
    })
}

/// `GET /v2/volumes/{id}/actions/{action}`
pub(crate) fn get(app: &App, id: &str, action: &str) -> Result {
    app.read(|cloud| {
        find(cloud, id)?;
        let found = action
            .parse()
            .ok()
            .and_then(|number: u64| cloud.records.actions.get(&number));
        let found = found.filter(|action| action.volume.as_deref() == Some(id));
        Answer::ok(json!({"action": views::action(found.ok_or_else(ApiError::not_found)?)}))
    })
}

fn order(call: &Call) -> Result<Order> {
    let droplet = || {
        let id = call.body.get("droplet_id").and_then(Value::as_u64);
        id.ok_or_else(|| ApiError::unprocessable("droplet_id must be a droplet's id"))
    };
    match call.needed_text("type")? {
        "attach" => Ok(Order::Attach {
            droplet: droplet()?,
            tags: tags::names_of(call.list("tags")?)?,
        }),
        "detach" => Ok(Order::Detach { droplet: droplet()? }),
        "resize" => Ok(Order::Resize {
            gib: volumes::size_gib(call)?,
        }),
        other => Err(ApiError::unprocessable(format!(
            "a volume has no action `{other}`: attach, detach or resize"
        ))),
    }
}

/// Locks what is concerned, and sets the order going.
async fn start(app: &Arc<App>, id: &str, order: Order, call: &Call) -> Result {
    let region = call.region("region is invalid")?;
    let now = app.now();
    let begun = app
        .change(|cloud| {
            let volume = find(cloud, id)?;
            if region.is_some_and(|region| !catalog::names_region(region, &volume.region)) {
                return Err(ApiError::unprocessable("The volume is not in that region."));
            }
            match &order {
                Order::Attach { droplet, tags } => attach(cloud, id, (*droplet, tags), &now),
                Order::Detach { droplet } => detach(cloud, id, *droplet, &now),
                Order::Resize { gib } => resize(cloud, id, *gib, &now),
            }
        })
        .await?;
    let shown = views::action(&begun.action);
    let app = Arc::clone(app);
    tokio::spawn(async move { run(&app, &begun, &order).await });
    Answer::accepted(json!({"action": shown}))
}

fn attach(cloud: &mut Cloud, id: &str, (droplet, tags): (u64, &[String]), now: &str) -> Result<Begun> {
    let volume = find(cloud, id)?.clone();
    let others = cloud.volumes_of(droplet).count();
    let region = lock(cloud, droplet)?;
    check_attach(&volume, &region, others)?;
    for tag in tags {
        cloud.records.tag_volume(tag, id);
    }
    let mut volume = find(cloud, id)?.clone();
    volume.droplet = Some(droplet);
    Ok(begin(cloud, volume, (ATTACH, Some(droplet)), now))
}

fn detach(cloud: &mut Cloud, id: &str, droplet: u64, now: &str) -> Result<Begun> {
    let volume = find(cloud, id)?.clone();
    if volume.droplet != Some(droplet) {
        return Err(ApiError::unprocessable("Attachment not found"));
    }
    lock(cloud, droplet)?;
    if volume.busy {
        return Err(busy());
    }
    Ok(begin(cloud, volume, (DETACH, Some(droplet)), now))
}

fn resize(cloud: &mut Cloud, id: &str, gib: u64, now: &str) -> Result<Begun> {
    let volume = find(cloud, id)?.clone();
    if volume.busy {
        return Err(busy());
    }
    if gib < volume.size_gib {
        return Err(ApiError::unprocessable(format!(
            "size_gigabytes: a volume can only become larger, and it has {}",
            volume.size_gib
        )));
    }
    Ok(begin(cloud, volume, (RESIZE, None), now))
}

/// Locks a droplet, which is undone with the change; its region.
fn lock(cloud: &mut Cloud, droplet: u64) -> Result<String> {
    let found = cloud.records.droplets.get_mut(&droplet);
    let found = found.ok_or_else(ApiError::not_found)?;
    if found.locked {
        // In these words: clients wait and try again.
        return Err(ApiError::unprocessable("Droplet already has a pending event."));
    }
    found.locked = true;
    Ok(found.region.clone())
}

fn begin(cloud: &mut Cloud, mut volume: Volume, (kind, droplet): (&str, Option<u64>), now: &str) -> Begun {
    volume.busy = true;
    cloud.records.volumes.insert(volume.id.clone(), volume.clone());
    let action = cloud.volume_action_start(kind, (&volume.id, droplet), now);
    Begun { action, volume }
}

/// Does it, and notes what came of it.
async fn run(app: &App, begun: &Begun, order: &Order) {
    let (hosts, volume) = (&app.fleet.hosts, &begun.volume);
    let done: std::result::Result<(), HostError> = match order {
        Order::Attach { droplet, .. } => hosts.volume_attach(*droplet, &attached(volume)).await,
        Order::Detach { droplet } => hosts.volume_detach(*droplet, &volume.id).await,
        Order::Resize { gib } => hosts.volume_grow(&volume.id, *gib).await,
    };
    let number = begun.action.id;
    if let Err(error) = &done {
        tracing::error!(volume = volume.id, action = number, %error, "an action failed");
    }
    let state = if done.is_ok() {
        ActionState::Completed
    } else {
        ActionState::Errored
    };
    let now = app.now();
    app.note_end(&format!("action {number}"), |cloud| {
        end(cloud, &volume.id, order, state);
        cloud.records.action_end(number, state, &now);
    })
    .await;
}

fn end(cloud: &mut Cloud, id: &str, order: &Order, state: ActionState) {
    let done = state == ActionState::Completed;
    if let Order::Attach { droplet, .. } | Order::Detach { droplet } = order
        && let Some(droplet) = cloud.records.droplets.get_mut(droplet)
    {
        droplet.locked = false;
    }
    let Some(volume) = cloud.records.volumes.get_mut(id) else {
        return;
    };
    volume.busy = false;
    match order {
        // The droplet may be gone since, and the volume has another one or none.
        Order::Attach { droplet, .. } if !done => {
            volume.droplet = volume.droplet.filter(|other| other != droplet)
        }
        Order::Detach { droplet } if done => volume.droplet = volume.droplet.filter(|other| other != droplet),
        Order::Resize { gib } if done => volume.size_gib = *gib,
        _ => {}
    }
}
