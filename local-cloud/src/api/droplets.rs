//! Droplets: create, get, list, delete.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::call::{Answer, Call, Result};
use super::error::ApiError;
use super::{page, scene, views::Scene};
use crate::app::App;
use crate::cloud::droplet::{Droplet, Status};
use crate::cloud::{Action, Cloud, ResourceKind, catalog};
use crate::cloud_init::{self, FileToWrite, USER_DATA_BYTES_MAX};
use crate::image::Images;

/// Droplets of one `names` request, as documented.
const NAMES_MAX: usize = 10;

/// What a create asks for, checked.
struct Wish {
    names: Vec<String>,
    several: bool,
    region: String,
    size: &'static catalog::Size,
    image: u64,
    base_slug: String,
    tags: Vec<String>,
    features: Vec<String>,
    vpc: Option<String>,
    files: Vec<FileToWrite>,
}

/// `GET /v2/droplets`
pub(crate) fn list(app: &App, call: &Call) -> Result {
    if call.param("type") == Some("gpus") {
        return page::answer(call, "droplets", &[] as &[Value], Clone::clone);
    }
    scene(app, |scene| {
        let (tag, name) = (call.param("tag_name"), call.param("name"));
        let droplets: Vec<&Droplet> = scene
            .cloud
            .droplets
            .values()
            .filter(|droplet| tag.is_none_or(|tag| droplet.tags.iter().any(|other| other == tag)))
            .filter(|droplet| name.is_none_or(|name| droplet.name.eq_ignore_ascii_case(name)))
            .collect();
        page::answer(call, "droplets", &droplets, |droplet| scene.droplet(droplet))
    })
}

/// `GET /v2/droplets/{id}`
pub(crate) fn get(app: &App, id: &str) -> Result {
    scene(app, |scene| {
        let droplet = find(scene.cloud, id)?;
        Answer::ok(json!({"droplet": scene.droplet(droplet)}))
    })
}

/// `POST /v2/droplets`
pub(crate) fn create(app: &Arc<App>, call: &Call) -> Result {
    let wish = app.read(|cloud| check(app, cloud, call))?;
    let fault = app.faults.next_create();
    if let Some(fault) = fault.as_ref().filter(|fault| !fault.after_effect) {
        return Err(ApiError::of_fault(fault.status));
    }
    let (droplets, actions) = make(app, &wish)?;
    let mut lost = None;
    for droplet in &droplets {
        let written = app
            .state
            .make_droplet(droplet.id)
            .map_err(|error| ApiError::server_error(format!("the droplet's directory: {error}")))
            .and_then(|root| {
                cloud_init::write(&root, &wish.files)
                    .map_err(|error| ApiError::unprocessable(error.to_string()))
            });
        lost = lost.or(written.err());
    }
    if let Some(error) = lost {
        forget(app, &droplets);
        return Err(error);
    }
    let answer = told(app, call, &wish, &droplets, &actions)?;
    for (droplet, action) in droplets.into_iter().zip(actions) {
        let boot_secs = app.faults.next_boot_secs();
        let app = Arc::clone(app);
        tokio::spawn(async move {
            app.boot(&droplet, boot_secs);
            app.action_done(action.id, droplet.id, Some(Status::Active));
        });
    }
    match fault {
        Some(fault) => Err(ApiError::of_fault(fault.status)),
        None => Ok(answer),
    }
}

/// `DELETE /v2/droplets/{id}`
pub(crate) async fn delete(app: &App, id: &str) -> Result {
    let id = app.read(|cloud| find(cloud, id).map(|droplet| droplet.id))?;
    app.destroy(vec![id]).await;
    Answer::no_content()
}

/// `DELETE /v2/droplets?tag_name=`
pub(crate) async fn delete_by_tag(app: &App, call: &Call) -> Result {
    let tag = call
        .param("tag_name")
        .ok_or_else(|| ApiError::unprocessable("tag_name is needed"))?;
    let ids: Vec<u64> = app.read(|cloud| cloud.tagged(tag).map(|droplet| droplet.id).collect());
    app.destroy(ids).await;
    Answer::no_content()
}

/// The droplet of a path's id.
///
/// # Errors
/// 404.
pub(crate) fn find<'a>(cloud: &'a Cloud, id: &str) -> Result<&'a Droplet> {
    id.parse()
        .ok()
        .and_then(|id: u64| cloud.droplets.get(&id))
        .ok_or_else(ApiError::not_found)
}

fn check(app: &App, cloud: &Cloud, call: &Call) -> Result<Wish> {
    let (names, several) = names(call)?;
    let region = call.text("region")?.unwrap_or(catalog::DEFAULT_REGION).to_owned();
    if !catalog::is_region(&region) {
        return Err(ApiError::unprocessable(
            "You specified an invalid region for Droplet creation.",
        ));
    }
    let size = call
        .text("size")?
        .and_then(catalog::size_of)
        .ok_or_else(|| ApiError::unprocessable("You specified an invalid size for Droplet creation."))?;
    let images = app
        .images()
        .map_err(|problems| ApiError::server_error(problems.to_string()))?;
    let (image, base_slug, disk_min) = image(cloud, &images, call.body.get("image"))?;
    if size.disk_gb < disk_min {
        return Err(ApiError::unprocessable(
            "This image requires a larger disk than the size you chose.",
        ));
    }
    check_keys(cloud, call)?;
    let vpc = call.text("vpc_uuid")?.map(str::to_owned);
    if vpc
        .as_ref()
        .is_some_and(|id| cloud.vpcs.get(id).is_none_or(|vpc| vpc.region != region))
    {
        return Err(ApiError::unprocessable(
            "The VPC you specified does not exist in that region.",
        ));
    }
    if !call.list("volumes")?.is_empty() {
        return Err(ApiError::unprocessable("local-cloud has no volumes"));
    }
    let user_data = call.text("user_data")?.unwrap_or_default();
    if user_data.len() > USER_DATA_BYTES_MAX {
        return Err(ApiError::unprocessable("User data cannot be larger than 64 KiB"));
    }
    let files = cloud_init::files(user_data).map_err(|error| ApiError::unprocessable(error.to_string()))?;
    let limit = app.settings.droplet_limit;
    if u64::try_from(cloud.droplets.len() + names.len()).unwrap_or(u64::MAX) > limit {
        return Err(ApiError::unprocessable(
            "creating this/these droplet(s) will exceed your droplet limit",
        ));
    }
    let mut features = vec!["private_networking".to_owned()];
    for feature in ["backups", "ipv6", "monitoring"] {
        if call.switch(feature)? {
            features.push(feature.to_owned());
        }
    }
    let tags = super::tags::names_of(call.list("tags")?)?;
    Ok(Wish {
        names,
        several,
        region,
        size,
        image,
        base_slug,
        tags,
        features,
        vpc,
        files,
    })
}

fn names(call: &Call) -> Result<(Vec<String>, bool)> {
    let several = call.list("names")?;
    let names: Vec<String> = if several.is_empty() {
        vec![call.needed_text("name")?.to_owned()]
    } else {
        let texts = several
            .iter()
            .map(|name| name.as_str().map(str::to_owned))
            .collect::<Option<_>>();
        texts.ok_or_else(|| ApiError::unprocessable("names must be a list of strings"))?
    };
    if names.len() > NAMES_MAX {
        return Err(ApiError::unprocessable(format!(
            "You can create at most {NAMES_MAX} Droplets at once."
        )));
    }
    for name in &names {
        check_name(name)?;
    }
    Ok((names, !several.is_empty()))
}

/// A droplet's name is a host's name.
///
/// # Errors
/// 422 with the real one's words.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let fits = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    if fits && !name.is_empty() && name.len() <= 255 {
        return Ok(());
    }
    Err(ApiError::unprocessable(
        "Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)",
    ))
}

/// Id of the image, slug of the programs, smallest disk.
fn image(cloud: &Cloud, images: &Images, wanted: Option<&Value>) -> Result<(u64, String, u64)> {
    let invalid = || ApiError::unprocessable("You specified an invalid image for Droplet creation.");
    let by_id = |id: u64| {
        if let Some(snapshot) = cloud.snapshots.get(&id) {
            return Some((id, snapshot.base_slug.clone(), snapshot.min_disk_gb));
        }
        let (slug, _) = cloud.image_ids.iter().find(|(_, known)| **known == id)?;
        images
            .get(slug)
            .map(|image| (id, image.slug.clone(), image.min_disk_gb))
    };
    match wanted {
        Some(Value::Number(id)) => id.as_u64().and_then(by_id).ok_or_else(invalid),
        Some(Value::String(text)) => match images.get(text) {
            // Its id is given when the droplet is made, if it is the first of its image.
            Some(image) => Ok((
                cloud.image_ids.get(text).copied().unwrap_or(0),
                image.slug.clone(),
                image.min_disk_gb,
            )),
            None => text.parse().ok().and_then(by_id).ok_or_else(invalid),
        },
        _ => Err(invalid()),
    }
}

fn check_keys(cloud: &Cloud, call: &Call) -> Result<()> {
    let unknown: Vec<String> = call
        .list("ssh_keys")?
        .iter()
        .map(|key| key.as_str().map_or_else(|| key.to_string(), str::to_owned))
        .filter(|wanted| super::keys::find(cloud, wanted).is_err())
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let list = unknown.join(", ");
    Err(ApiError::unprocessable(format!(
        "{list} are invalid key identifiers for Droplet creation."
    )))
}

/// Puts the droplets into the state, `new` and locked.
fn make(app: &App, wish: &Wish) -> Result<(Vec<Droplet>, Vec<Action>)> {
    let now = app.now();
    app.change(|cloud| {
        let limit = app.settings.droplet_limit;
        if u64::try_from(cloud.droplets.len() + wish.names.len()).unwrap_or(u64::MAX) > limit {
            // Another create was faster since the check.
            return Err(ApiError::unprocessable(
                "creating this/these droplet(s) will exceed your droplet limit",
            ));
        }
        let image = match wish.image {
            0 => cloud.image_id(&wish.base_slug),
            id => id,
        };
        let vpc = wish
            .vpc
            .clone()
            .unwrap_or_else(|| cloud.default_vpc(&wish.region, &now));
        let tags: BTreeSet<String> = wish.tags.iter().map(|tag| cloud.tag_canonical(tag)).collect();
        let (mut droplets, mut actions) = (Vec::new(), Vec::new());
        for name in &wish.names {
            let slot = cloud.new_slot(app.addresses.slots());
            let slot = slot.ok_or_else(|| ApiError::server_error("no address is left"))?;
            let droplet = Droplet {
                id: cloud.new_id(),
                name: name.clone(),
                slot,
                status: Status::New,
                locked: true,
                created_at: now.clone(),
                region: wish.region.clone(),
                size: wish.size.slug.to_owned(),
                image,
                base_slug: wish.base_slug.clone(),
                tags: tags.iter().cloned().collect(),
                features: wish.features.clone(),
                vpc: vpc.clone(),
                snapshots: Vec::new(),
            };
            cloud.droplets.insert(droplet.id, droplet.clone());
            for tag in &tags {
                cloud.tag_droplet(tag, droplet.id);
            }
            actions.push(cloud.action_start("create", (ResourceKind::Droplet, droplet.id), &now));
            droplets.push(droplet);
        }
        Ok((droplets, actions))
    })
}

/// Takes back droplets whose files could not be written; nothing runs in them yet.
fn forget(app: &App, droplets: &[Droplet]) {
    app.change(|cloud| {
        for droplet in droplets {
            cloud.droplets.remove(&droplet.id);
            cloud.actions.retain(|_, action| action.resource != droplet.id);
        }
    });
    for droplet in droplets {
        if let Err(error) = std::fs::remove_dir_all(app.state.droplet(droplet.id)) {
            tracing::warn!(droplet = droplet.id, %error, "could not remove the directory of a refused droplet");
        }
    }
}

fn told(app: &App, call: &Call, wish: &Wish, droplets: &[Droplet], actions: &[Action]) -> Result {
    scene(app, |scene: &Scene<'_>| {
        let shown: Vec<Value> = droplets.iter().map(|droplet| scene.droplet(droplet)).collect();
        let links: Vec<Value> = actions
            .iter()
            .map(|action| {
                let href = format!("{}/v2/actions/{}", call.base, action.id);
                json!({"id": action.id, "rel": if wish.several { "multiple_create" } else { "create" }, "href": href})
            })
            .collect();
        let links = json!({"actions": links});
        if wish.several {
            return Answer::accepted(json!({"droplets": shown, "links": links}));
        }
        Answer::accepted(json!({"droplet": shown.first(), "links": links}))
    })
}
