//! Images: those of the images' directory and the snapshots; and the account's fixed lists.

use serde_json::{Value, json};

use super::app::App;
use super::call::{Answer, Call, Result};
use super::catalog;
use super::error::ApiError;
use super::records::Snapshot;
use super::records::reserved_ip::RESERVED_IPS_MAX;
use super::records::volume::VolumeSnapshot;
use super::views::Scene;
use super::{droplet_actions, images_now, page, scene, scene_of, volume_snapshots};
use crate::manifests::{self, Image, Images};

/// The account's id.
pub(crate) const ACCOUNT: &str = "00000000-0000-4000-8000-000000000000";

/// An image of either kind.
enum Found<'a> {
    Base(&'a Image, u64),
    Snapshot(&'a Snapshot),
}

impl Found<'_> {
    fn view(&self, scene: &Scene<'_>) -> Value {
        match self {
            Self::Base(image, id) => scene.image(image, *id),
            Self::Snapshot(snapshot) => scene.snapshot(snapshot),
        }
    }
}

/// `GET /v2/images`
pub(crate) async fn list(app: &App, call: &Call) -> Result {
    let images = images_with_ids(app).await?;
    scene_of(app, &images, |scene| {
        let private = call.param("private") == Some("true");
        let kind = call.param("type");
        let mut found: Vec<Found<'_>> = Vec::new();
        if !private && kind.is_none_or(|kind| kind == "distribution") {
            found.extend(bases(scene));
        }
        if kind.is_none() {
            found.extend(scene.cloud.records.snapshots.values().map(Found::Snapshot));
        }
        if let Some(tag) = call.param("tag_name") {
            let tagged = scene.cloud.records.tag(tag).map(|(_, tag)| &tag.images);
            found.retain(|image| match image {
                Found::Base(..) => false,
                Found::Snapshot(snapshot) => tagged.is_some_and(|ids| ids.contains(&snapshot.id)),
            });
        }
        page::answer(call, "images", &found, |image| image.view(scene))
    })
}

/// `GET /v2/images/{id or slug}`
pub(crate) async fn get(app: &App, wanted: &str) -> Result {
    let images = images_with_ids(app).await?;
    scene_of(app, &images, |scene| {
        let snapshot = wanted
            .parse()
            .ok()
            .and_then(|id: u64| scene.cloud.records.snapshots.get(&id))
            .map(Found::Snapshot);
        let base = || {
            bases(scene).find(|image| match image {
                Found::Base(image, id) => image.slug == wanted || id.to_string() == wanted,
                Found::Snapshot(_) => false,
            })
        };
        let found = snapshot.or_else(base).ok_or_else(ApiError::not_found)?;
        Answer::ok(json!({"image": found.view(scene)}))
    })
}

/// `PUT /v2/images/{id}`: name, distribution and description, each as far as it is sent.
pub(crate) async fn update(app: &App, id: &str, call: &Call) -> Result {
    let name = match call.body.get("name") {
        None | Some(Value::Null) => None,
        Some(_) => Some(call.needed_text("name")?.to_owned()),
    };
    let distribution = call.text("distribution")?.map(str::to_owned);
    if distribution
        .as_ref()
        .is_some_and(|wanted| !manifests::DISTRIBUTIONS.contains(&wanted.as_str()))
    {
        return Err(ApiError::unprocessable(format!(
            "distribution must be one of: {}",
            manifests::DISTRIBUTIONS.join(", ")
        )));
    }
    let description = call.clearable_text("description")?.map(str::to_owned);
    app.change(|cloud| {
        let snapshot = id
            .parse()
            .ok()
            .and_then(|id: u64| cloud.records.snapshots.get_mut(&id));
        let snapshot = snapshot.ok_or_else(ApiError::not_found)?;
        if let Some(name) = name {
            snapshot.name = name;
        }
        if let Some(description) = description {
            snapshot.description = description;
        }
        if distribution.is_some() {
            snapshot.distribution = distribution;
        }
        Ok(())
    })
    .await?;
    get(app, id).await
}

/// `DELETE /v2/images/{id}` and `DELETE /v2/snapshots/{id}`
pub(crate) async fn delete(app: &App, id: &str) -> Result {
    let id: u64 = id.parse().map_err(|_| ApiError::not_found())?;
    app.change(|cloud| {
        let records = &mut cloud.records;
        records.snapshots.remove(&id).ok_or_else(ApiError::not_found)?;
        for droplet in records.droplets.values_mut() {
            droplet.snapshots.retain(|other| *other != id);
        }
        for tag in records.tags.values_mut() {
            tag.images.remove(&id);
        }
        Ok(())
    })
    .await?;
    if let Err(error) = app.fleet.hosts.snapshot_remove(id).await {
        tracing::warn!(snapshot = id, %error, "something is left of a deleted snapshot");
    }
    Answer::no_content()
}

/// `POST /v2/images/{id}/actions`
pub(crate) async fn act(app: &App, id: &str, call: &Call) -> Result {
    droplet_actions::act_on_image(app, id.parse().map_err(|_| ApiError::not_found())?, call).await
}

/// A snapshot of either kind.
enum AnySnapshot<'a> {
    OfDroplet(&'a Snapshot),
    OfVolume(&'a VolumeSnapshot),
}

/// `GET /v2/snapshots`: the same snapshots, with ids as strings, and those of volumes.
pub(crate) async fn snapshots(app: &App, call: &Call) -> Result {
    scene(app, |scene| {
        let kind = call.param("resource_type");
        let mut all: Vec<AnySnapshot<'_>> = Vec::new();
        if kind.is_none_or(|kind| kind == "droplet") {
            let of_droplets = scene.cloud.records.snapshots.values();
            all.extend(of_droplets.map(AnySnapshot::OfDroplet));
        }
        if kind.is_none_or(|kind| kind == "volume") {
            let of_volumes = volume_snapshots::all(scene.cloud);
            all.extend(of_volumes.into_iter().map(AnySnapshot::OfVolume));
        }
        page::answer(call, "snapshots", &all, |snapshot| match snapshot {
            AnySnapshot::OfDroplet(snapshot) => snapshot_view(scene, snapshot),
            AnySnapshot::OfVolume(snapshot) => volume_snapshots::view(snapshot),
        })
    })
    .await
}

/// `GET /v2/snapshots/{id}`
pub(crate) async fn snapshot(app: &App, id: &str) -> Result {
    scene(app, |scene| {
        let found = id
            .parse()
            .ok()
            .and_then(|id: u64| scene.cloud.records.snapshots.get(&id));
        Answer::ok(json!({"snapshot": snapshot_view(scene, found.ok_or_else(ApiError::not_found)?)}))
    })
    .await
}

/// `GET /v2/account`
pub(crate) fn account(app: &App) -> Result {
    Answer::ok(json!({"account": {
        "droplet_limit": app.settings.droplet_limit,
        "floating_ip_limit": RESERVED_IPS_MAX,
        "reserved_ip_limit": RESERVED_IPS_MAX,
        "volume_limit": super::volumes::VOLUMES_MAX,
        "email": "you@localhost",
        "name": "Local Cloud",
        "uuid": ACCOUNT,
        "email_verified": true,
        "status": "active",
        "status_message": "",
        "team": {"uuid": "00000000-0000-4000-8000-000000000001", "name": "Local Cloud"},
    }}))
}

/// `GET /v2/regions`
pub(crate) fn regions(call: &Call) -> Result {
    page::answer(call, "regions", &catalog::region_slugs(), |slug| {
        catalog::region_view(slug)
    })
}

/// `GET /v2/sizes`
pub(crate) fn sizes(call: &Call) -> Result {
    page::answer(call, "sizes", catalog::sizes(), catalog::size_view)
}

fn snapshot_view(scene: &Scene<'_>, snapshot: &Snapshot) -> Value {
    json!({
        "id": snapshot.id.to_string(),
        "name": snapshot.name,
        "created_at": snapshot.created_at,
        "regions": snapshot.regions,
        "min_disk_size": snapshot.min_disk_gb,
        "size_gigabytes": 1,
        "resource_id": snapshot.droplet.to_string(),
        "resource_type": "droplet",
        "tags": scene.image_tags(snapshot.id),
    })
}

/// The images as they are now; each has an id before it is shown.
async fn images_with_ids(app: &App) -> Result<Images> {
    let images = images_now(app).await?;
    let known = app.read(|cloud| {
        let mut slugs = images.iter().map(|image| &image.slug);
        slugs.all(|slug| cloud.records.image_ids.contains_key(slug))
    });
    if !known {
        app.change(|cloud| {
            for image in images.iter() {
                cloud.image_id(&image.slug);
            }
            Ok(())
        })
        .await?;
    }
    Ok(images)
}

fn bases<'a>(scene: &'a Scene<'_>) -> impl Iterator<Item = Found<'a>> {
    scene.images.iter().map(|image| {
        Found::Base(
            image,
            scene
                .cloud
                .records
                .image_ids
                .get(&image.slug)
                .copied()
                .unwrap_or_default(),
        )
    })
}
