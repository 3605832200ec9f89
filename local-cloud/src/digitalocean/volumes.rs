//! Volumes: create, get, list, delete. What is done with one that is there stands in `volume_actions`.

use serde_json::{Value, json};

use super::app::App;
use super::call::{Answer, Call, Result};
use super::catalog;
use super::droplets::of_host;
use super::error::ApiError;
use super::page;
use super::records::Cloud;
use super::records::volume::Volume;
use super::tags;
use crate::hosts::volumes::{Filesystem, FilesystemKind, NewVolume};

/// Volumes of an account at most: what `GET /v2/account` of a real one was seen to say.
pub(crate) const VOLUMES_MAX: usize = 100;
/// Sizes in GiB, as documented: 1 GiB to 16 TiB.
pub(crate) const SIZE_GIB_MAX: u64 = 16_384;
/// Longest name, as documented.
const NAME_MAX: usize = 64;
/// Longest description; the real bound is not documented.
const DESCRIPTION_MAX: usize = 255;

/// What a create asks for, checked.
struct CreateRequest<'a> {
    name: &'a str,
    region: &'static str,
    description: &'a str,
    tags: Vec<String>,
    disk: NewVolume,
    /// What the file system is shown as.
    filesystem: (String, String),
}

/// `GET /v2/volumes`
pub(crate) fn list(app: &App, call: &Call) -> Result {
    let (name, region) = (call.param("name"), call.param("region"));
    app.read(|cloud| {
        let mut volumes: Vec<&Volume> = cloud
            .records
            .volumes
            .values()
            .filter(|volume| name.is_none_or(|name| volume.name == name))
            .filter(|volume| region.is_none_or(|region| catalog::names_region(region, &volume.region)))
            .collect();
        volumes.sort_by_key(|volume| (&volume.created_at, &volume.name));
        page::answer(call, "volumes", &volumes, |volume| view(volume))
    })
}

/// `GET /v2/volumes/{id}`
pub(crate) fn get(app: &App, id: &str) -> Result {
    app.read(|cloud| Answer::ok(json!({"volume": view(find(cloud, id)?)})))
}

/// `POST /v2/volumes`
#[expect(clippy::disallowed_methods, reason = "ids are random, as DigitalOcean's are")]
pub(crate) async fn create(app: &App, call: &Call) -> Result {
    let id = uuid::Uuid::new_v4().to_string();
    let request = app.read(|cloud| check(cloud, call, id))?;
    let hosts = &app.fleet.hosts;
    hosts.volume_check(&request.disk).map_err(of_host)?;
    hosts.volume_make(&request.disk).await.map_err(of_host)?;
    let disk = request.disk.id.clone();
    let now = app.now();
    let kept = app.change(|cloud| insert(cloud, request, now)).await;
    if kept.is_err() {
        remove_disk(app, &disk).await;
    }
    kept
}

/// `DELETE /v2/volumes/{id}`; 409 while it is attached.
pub(crate) async fn delete(app: &App, id: &str) -> Result {
    app.change(|cloud| {
        let volume = find(cloud, id)?;
        if volume.droplet.is_some() {
            return Err(ApiError::conflict(
                "The volume is attached to a Droplet: detach it first.",
            ));
        }
        if volume.busy {
            return Err(ApiError::conflict("The volume has a pending event."));
        }
        cloud.records.volumes.remove(id);
        Ok(())
    })
    .await?;
    remove_disk(app, id).await;
    Answer::no_content()
}

/// `DELETE /v2/volumes?name=&region=`
pub(crate) async fn delete_by_name(app: &App, call: &Call) -> Result {
    let needed = |name: &str| {
        let given = call.param(name);
        given.ok_or_else(|| ApiError::unprocessable(format!("{name} is needed")))
    };
    let (name, region) = (needed("name")?, needed("region")?);
    let id = app.read(|cloud| named(cloud, name, Some(region)).map(|volume| volume.id.clone()))?;
    delete(app, &id).await
}

/// The volume of a path's id.
///
/// # Errors
/// 404.
pub(crate) fn find<'a>(cloud: &'a Cloud, id: &str) -> Result<&'a Volume> {
    cloud.records.volumes.get(id).ok_or_else(ApiError::not_found)
}

/// The volume of that name; in one region a name is a volume's alone.
///
/// # Errors
/// 404, and 422 when several are meant.
pub(crate) fn named<'a>(cloud: &'a Cloud, name: &str, region: Option<&str>) -> Result<&'a Volume> {
    let volumes = cloud.records.volumes.values();
    let mut found = volumes
        .filter(|volume| volume.name == name)
        .filter(|volume| region.is_none_or(|region| catalog::names_region(region, &volume.region)));
    let first = found.next().ok_or_else(ApiError::not_found)?;
    match found.next() {
        None => Ok(first),
        Some(_) => Err(ApiError::unprocessable(
            "region is needed: volumes of several regions have this name",
        )),
    }
}

/// A volume.
pub(crate) fn view(volume: &Volume) -> Value {
    json!({
        "id": volume.id,
        "region": catalog::region_view(&volume.region),
        "name": volume.name,
        "size_gigabytes": volume.size_gib,
        "description": volume.description,
        "droplet_ids": volume.droplet.iter().collect::<Vec<_>>(),
        "created_at": volume.created_at,
        "filesystem_type": volume.filesystem_type,
        "filesystem_label": volume.filesystem_label,
        "tags": volume.tags,
    })
}

/// A size of a body.
///
/// # Errors
/// 422.
pub(crate) fn size_gib(call: &Call) -> Result<u64> {
    let size = call.body.get("size_gigabytes").and_then(Value::as_u64);
    size.filter(|size| (1..=SIZE_GIB_MAX).contains(size))
        .ok_or_else(|| {
            ApiError::unprocessable(format!(
                "size_gigabytes must be a number from 1 to {SIZE_GIB_MAX}"
            ))
        })
}

fn check<'a>(cloud: &Cloud, call: &'a Call, id: String) -> Result<CreateRequest<'a>> {
    let name = call.needed_text("name")?;
    check_name(name)?;
    let size = size_gib(call)?;
    let description = call.text("description")?.unwrap_or_default();
    if description.chars().count() > DESCRIPTION_MAX {
        return Err(ApiError::unprocessable(format!(
            "description must have at most {DESCRIPTION_MAX} characters"
        )));
    }
    let snapshot = match call.text("snapshot_id")? {
        None => None,
        Some(id) => {
            let found = cloud.records.volume_snapshots.get(id);
            Some(found.ok_or_else(|| {
                ApiError::unprocessable("snapshot_id: there is no such snapshot of a volume")
            })?)
        }
    };
    let region = call.region("region is invalid")?;
    let region = region.or_else(|| snapshot.and_then(|snapshot| catalog::region_of(&snapshot.region)));
    let region = region.ok_or_else(|| ApiError::unprocessable("region can't be blank"))?;
    let asked = filesystem(call)?;
    let (mut to_format, mut shown) = (asked.clone(), shown(asked.as_ref()));
    if let Some(snapshot) = snapshot {
        if snapshot.region != region {
            return Err(ApiError::unprocessable("The snapshot is not in that region."));
        }
        if size < snapshot.size_gib {
            return Err(ApiError::unprocessable(format!(
                "size_gigabytes must be at least {}, the size of the snapshot",
                snapshot.size_gib
            )));
        }
        let of_snapshot = (
            snapshot.filesystem_type.clone(),
            snapshot.filesystem_label.clone(),
        );
        if asked.is_some() && shown != of_snapshot {
            return Err(ApiError::unprocessable(
                "filesystem_type: a volume from a snapshot has the snapshot's file system; leave it out",
            ));
        }
        (to_format, shown) = (None, of_snapshot);
    }
    let request = CreateRequest {
        name,
        region,
        description,
        tags: tags::names_of(call.list("tags")?)?,
        disk: NewVolume {
            id,
            gib: size,
            snapshot: snapshot.map(|snapshot| snapshot.id.clone()),
            filesystem: to_format,
        },
        filesystem: shown,
    };
    has_room(cloud, &request)?;
    Ok(request)
}

fn has_room(cloud: &Cloud, request: &CreateRequest<'_>) -> Result<()> {
    let volumes = &cloud.records.volumes;
    if volumes.len() >= VOLUMES_MAX {
        return Err(ApiError::unprocessable(
            "creating this volume will exceed your volume limit",
        ));
    }
    let namesake = |volume: &Volume| volume.name == request.name && volume.region == request.region;
    if volumes.values().any(namesake) {
        return Err(ApiError::conflict(
            "A volume with this name already exists in this region.",
        ));
    }
    Ok(())
}

fn insert(cloud: &mut Cloud, request: CreateRequest<'_>, now: String) -> Result {
    // Another create was faster since the check, or the snapshot is gone.
    has_room(cloud, &request)?;
    let (filesystem_type, filesystem_label) = request.filesystem;
    let volume = Volume {
        id: request.disk.id,
        name: request.name.to_owned(),
        region: request.region.to_owned(),
        size_gib: request.disk.gib,
        description: request.description.to_owned(),
        filesystem_type,
        filesystem_label,
        tags: Vec::new(),
        created_at: now,
        droplet: None,
        busy: false,
    };
    let id = volume.id.clone();
    cloud.records.volumes.insert(id.clone(), volume);
    for tag in request.tags {
        cloud.records.tag_volume(&tag, &id);
    }
    Answer::created(json!({"volume": view(find(cloud, &id)?)}))
}

/// Lower case letters, numbers and dashes; a letter first.
fn check_name(name: &str) -> Result<()> {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if begins && name.bytes().all(is_part) && name.len() <= NAME_MAX {
        return Ok(());
    }
    Err(ApiError::unprocessable(format!(
        "name is invalid: lower case letters, numbers and dashes, a letter first, at most {NAME_MAX} characters"
    )))
}

fn filesystem(call: &Call) -> Result<Option<Filesystem>> {
    let label = call.text("filesystem_label")?.unwrap_or_default();
    let Some(wanted) = call.text("filesystem_type")? else {
        return if label.is_empty() {
            Ok(None)
        } else {
            Err(ApiError::unprocessable(
                "filesystem_label needs a filesystem_type",
            ))
        };
    };
    let kind = FilesystemKind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == wanted);
    let kind = kind.ok_or_else(|| ApiError::unprocessable("filesystem_type must be ext4 or xfs"))?;
    let max = kind.label_bytes_max();
    if label.len() > max || label.chars().any(|char| !char.is_ascii_graphic()) {
        return Err(ApiError::unprocessable(format!(
            "filesystem_label must have at most {max} characters with {wanted}, without spaces"
        )));
    }
    Ok(Some(Filesystem {
        kind,
        label: label.to_owned(),
    }))
}

fn shown(filesystem: Option<&Filesystem>) -> (String, String) {
    let shown = filesystem.map(|filesystem| (filesystem.kind.as_str().to_owned(), filesystem.label.clone()));
    shown.unwrap_or_default()
}

async fn remove_disk(app: &App, id: &str) {
    if let Err(error) = app.fleet.hosts.volume_remove(id).await {
        tracing::warn!(volume = id, %error, "something is left of a volume that is gone");
    }
}
