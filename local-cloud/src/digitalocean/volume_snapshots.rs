//! Snapshots of volumes.

use std::sync::Arc;

use serde_json::{Value, json};

use super::app::App;
use super::call::{Answer, Call, Result};
use super::droplets::of_host;
use super::error::ApiError;
use super::records::Cloud;
use super::records::volume::VolumeSnapshot;
use super::volumes::find;
use super::{page, tags};

/// Longest name; the real bound is not documented.
const NAME_MAX: usize = 255;
/// Snapshots of one volume at most.
const SNAPSHOTS_MAX: usize = 25;

/// `GET /v2/volumes/{id}/snapshots`
pub(crate) fn list_of_volume(app: &App, id: &str, call: &Call) -> Result {
    app.read(|cloud| {
        find(cloud, id)?;
        let of_volume: Vec<&VolumeSnapshot> = all(cloud)
            .into_iter()
            .filter(|found| found.volume == id)
            .collect();
        page::answer(call, "snapshots", &of_volume, |snapshot| view(snapshot))
    })
}

/// `GET /v2/volumes/snapshots/{id}`
pub(crate) fn get(app: &App, id: &str) -> Result {
    app.read(|cloud| {
        let found = cloud
            .records
            .volume_snapshots
            .get(id)
            .ok_or_else(ApiError::not_found)?;
        Answer::ok(json!({"snapshot": view(found)}))
    })
}

/// `POST /v2/volumes/{id}/snapshots`; it is there when this is answered.
#[expect(clippy::disallowed_methods, reason = "ids are random, as DigitalOcean's are")]
pub(crate) async fn create(app: &Arc<App>, id: &str, call: &Call) -> Result {
    let name = call.needed_text("name")?;
    if name.chars().count() > NAME_MAX {
        return Err(ApiError::unprocessable(format!(
            "name must have at most {NAME_MAX} characters"
        )));
    }
    let tags = tags::names_of(call.list("tags")?)?;
    let snapshot = uuid::Uuid::new_v4().to_string();
    app.change(|cloud| {
        check(cloud, id, name)?;
        let volume = cloud
            .records
            .volumes
            .get_mut(id)
            .ok_or_else(ApiError::not_found)?;
        volume.busy = true;
        Ok(())
    })
    .await?;
    let taken = app.fleet.hosts.volume_snapshot(id, &snapshot).await;
    let created_at = app.now();
    let kept = app
        .change(|cloud| {
            let volume = cloud
                .records
                .volumes
                .get_mut(id)
                .ok_or_else(ApiError::not_found)?;
            volume.busy = false;
            if taken.is_err() {
                return Ok(None);
            }
            let volume = volume.clone();
            let tags = tags.iter().map(|tag| cloud.records.tag_canonical(tag)).collect();
            let record = VolumeSnapshot {
                id: snapshot.clone(),
                name: name.to_owned(),
                volume: volume.id,
                region: volume.region,
                size_gib: volume.size_gib,
                filesystem_type: volume.filesystem_type,
                filesystem_label: volume.filesystem_label,
                tags,
                created_at,
            };
            let shown = view(&record);
            cloud.records.volume_snapshots.insert(record.id.clone(), record);
            Ok(Some(shown))
        })
        .await;
    match kept {
        Ok(shown) => {
            taken.map_err(of_host)?;
            Answer::created(json!({"snapshot": shown}))
        }
        Err(error) => {
            remove_disk(app, &snapshot).await;
            let (app, volume) = (Arc::clone(app), id.to_owned());
            tokio::spawn(async move { app.note_end("a snapshot", |cloud| let_go(cloud, &volume)).await });
            Err(error)
        }
    }
}

/// `DELETE /v2/volumes/snapshots/{id}` and `DELETE /v2/snapshots/{id}`. Volumes that were made from it have their own disks.
pub(crate) async fn delete(app: &App, id: &str) -> Result {
    app.change(|cloud| {
        let removed = cloud.records.volume_snapshots.remove(id);
        removed.map(|_| ()).ok_or_else(ApiError::not_found)
    })
    .await?;
    remove_disk(app, id).await;
    Answer::no_content()
}

/// Whether there is such a snapshot.
pub(crate) fn is_one(app: &App, id: &str) -> bool {
    app.read(|cloud| cloud.records.volume_snapshots.contains_key(id))
}

/// All of them, oldest first.
pub(crate) fn all(cloud: &Cloud) -> Vec<&VolumeSnapshot> {
    let mut all: Vec<&VolumeSnapshot> = cloud.records.volume_snapshots.values().collect();
    all.sort_by_key(|snapshot| (&snapshot.created_at, &snapshot.name));
    all
}

/// A snapshot of a volume.
pub(crate) fn view(snapshot: &VolumeSnapshot) -> Value {
    json!({
        "id": snapshot.id,
        "name": snapshot.name,
        "created_at": snapshot.created_at,
        "regions": [snapshot.region],
        "min_disk_size": snapshot.size_gib,
        "size_gigabytes": snapshot.size_gib,
        "resource_id": snapshot.volume,
        "resource_type": "volume",
        "tags": snapshot.tags,
    })
}

fn check(cloud: &Cloud, volume: &str, name: &str) -> Result<()> {
    if find(cloud, volume)?.busy {
        return Err(ApiError::conflict("The volume has a pending event."));
    }
    let of_volume = || {
        cloud
            .records
            .volume_snapshots
            .values()
            .filter(|found| found.volume == volume)
    };
    if of_volume().any(|found| found.name == name) {
        return Err(ApiError::conflict("A snapshot with this name already exists."));
    }
    if of_volume().count() >= SNAPSHOTS_MAX {
        return Err(ApiError::unprocessable(
            "You have reached the snapshot limit of this volume.",
        ));
    }
    Ok(())
}

/// Nothing is done with the volume any more.
fn let_go(cloud: &mut Cloud, volume: &str) {
    if let Some(volume) = cloud.records.volumes.get_mut(volume) {
        volume.busy = false;
    }
}

async fn remove_disk(app: &App, id: &str) {
    if let Err(error) = app.fleet.hosts.volume_snapshot_remove(id).await {
        tracing::warn!(snapshot = id, %error, "something is left of a snapshot that is gone");
    }
}
