//! Tags, and what has them.

use serde_json::{Value, json};

use super::app::App;
use super::call::{Answer, Call, Result};
use super::error::ApiError;
use super::records::{Cloud, Tag};
use super::{page, scene};

/// Longest name, as documented.
const NAME_MAX: usize = 255;

/// Something that can have a tag.
enum Resource {
    Droplet(u64),
    Image(u64),
    Volume(String),
    VolumeSnapshot(String),
}

/// `GET /v2/tags`
pub(crate) async fn list(app: &App, call: &Call) -> Result {
    scene(app, |scene| {
        let tags: Vec<(&String, &Tag)> = scene.cloud.records.tags.iter().collect();
        page::answer(call, "tags", &tags, |(name, tag)| {
            scene.tag(name, tag, &call.base)
        })
    })
    .await
}

/// `POST /v2/tags`; an existing one is returned as it is.
pub(crate) async fn create(app: &App, call: &Call) -> Result {
    let name = call.needed_text("name")?;
    check(name)?;
    let name = app.change(|cloud| Ok(cloud.records.tag_canonical(name))).await?;
    let mut answer = get(app, &name, call).await?;
    answer.status = http::StatusCode::CREATED;
    Ok(answer)
}

/// `GET /v2/tags/{name}`
pub(crate) async fn get(app: &App, name: &str, call: &Call) -> Result {
    scene(app, |scene| {
        let (name, tag) = scene.cloud.records.tag(name).ok_or_else(ApiError::not_found)?;
        Answer::ok(json!({"tag": scene.tag(name, tag, &call.base)}))
    })
    .await
}

/// `DELETE /v2/tags/{name}`: the resources stay, without it.
pub(crate) async fn delete(app: &App, name: &str) -> Result {
    app.change(|cloud| {
        let name = canonical(cloud, name)?;
        cloud.records.tags.remove(&name);
        for droplet in cloud.records.droplets.values_mut() {
            droplet.tags.retain(|tag| *tag != name);
        }
        cloud.firewalls_forget_tag(&name);
        cloud.volumes_forget_tag(&name);
        Answer::no_content()
    })
    .await
}

/// `POST /v2/tags/{name}/resources`: all of them, or none when one is unknown.
pub(crate) async fn add(app: &App, name: &str, call: &Call) -> Result {
    app.change(|cloud| {
        let name = canonical(cloud, name)?;
        for resource in known(cloud, call)? {
            match resource {
                Resource::Droplet(id) => cloud.records.tag_droplet(&name, id),
                Resource::Image(id) => {
                    if let Some(tag) = cloud.records.tags.get_mut(&name) {
                        tag.images.insert(id);
                    }
                }
                Resource::Volume(id) => cloud.records.tag_volume(&name, &id),
                Resource::VolumeSnapshot(id) => {
                    if let Some(snapshot) = cloud.records.volume_snapshots.get_mut(&id)
                        && !snapshot.tags.contains(&name)
                    {
                        snapshot.tags.push(name.clone());
                    }
                }
            }
        }
        Answer::no_content()
    })
    .await
}

/// `DELETE /v2/tags/{name}/resources`
pub(crate) async fn remove(app: &App, name: &str, call: &Call) -> Result {
    app.change(|cloud| {
        let name = canonical(cloud, name)?;
        for resource in known(cloud, call)? {
            match resource {
                Resource::Droplet(id) => {
                    if let Some(droplet) = cloud.records.droplets.get_mut(&id) {
                        droplet.tags.retain(|tag| *tag != name);
                    }
                }
                Resource::Image(id) => {
                    if let Some(tag) = cloud.records.tags.get_mut(&name) {
                        tag.images.remove(&id);
                    }
                }
                Resource::Volume(id) => {
                    if let Some(volume) = cloud.records.volumes.get_mut(&id) {
                        volume.tags.retain(|tag| *tag != name);
                    }
                }
                Resource::VolumeSnapshot(id) => {
                    if let Some(snapshot) = cloud.records.volume_snapshots.get_mut(&id) {
                        snapshot.tags.retain(|tag| *tag != name);
                    }
                }
            }
        }
        Answer::no_content()
    })
    .await
}

/// The tags that a create names, checked.
///
/// # Errors
/// 422.
pub(crate) fn names_of(list: &[Value]) -> Result<Vec<String>> {
    list.iter()
        .map(|name| {
            let name = name
                .as_str()
                .ok_or_else(|| ApiError::unprocessable("tags must be a list of strings"))?;
            check(name)?;
            Ok(name.to_owned())
        })
        .collect()
}

/// A tag's name, checked.
///
/// # Errors
/// 422.
pub(crate) fn check(name: &str) -> Result<()> {
    let fits = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b":-_".contains(&byte));
    if fits && !name.is_empty() && name.len() <= NAME_MAX {
        return Ok(());
    }
    Err(ApiError::unprocessable(
        "Tag name is invalid: letters, numbers, colons, dashes and underscores, at most 255 characters",
    ))
}

/// The own spelling of a tag that exists.
fn canonical(cloud: &Cloud, name: &str) -> Result<String> {
    let found = cloud.records.tag(name).map(|(canonical, _)| canonical.clone());
    found.ok_or_else(ApiError::not_found)
}

fn known(cloud: &Cloud, call: &Call) -> Result<Vec<Resource>> {
    call.needed_list("resources")?
        .iter()
        .map(|resource| known_one(cloud, resource))
        .collect()
}

fn known_one(cloud: &Cloud, resource: &Value) -> Result<Resource> {
    let wrong = || ApiError::unprocessable("resources must be a list of {resource_id, resource_type}");
    let text = match resource.get("resource_id") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => return Err(wrong()),
    };
    let id: Option<u64> = text.parse().ok();
    let kind = resource
        .get("resource_type")
        .and_then(Value::as_str)
        .ok_or_else(wrong)?;
    let found = match (kind, id) {
        ("droplet", Some(id)) if cloud.records.droplets.contains_key(&id) => Some(Resource::Droplet(id)),
        ("image", Some(id)) if cloud.records.snapshots.contains_key(&id) => Some(Resource::Image(id)),
        ("volume", _) if cloud.records.volumes.contains_key(&text) => Some(Resource::Volume(text)),
        ("volume_snapshot", _) if cloud.records.volume_snapshots.contains_key(&text) => {
            Some(Resource::VolumeSnapshot(text))
        }
        _ => None,
    };
    found.ok_or_else(ApiError::not_found)
}
