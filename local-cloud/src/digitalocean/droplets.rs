//! Droplets: create, get, list, delete.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::app::App;
use super::app::Ended;
use super::call::{Answer, Call, Result};
use super::catalog;
use super::error::ApiError;
use super::records::ActionState;
use super::records::droplet::{Droplet, WithMachine};
use super::records::{Action, Cloud, ResourceKind};
use super::{attachments, names, page, scene, scene_of};
use crate::hosts::volumes::Attached;
use crate::hosts::{Boot, FirstBoot, HostError, Wanted};
use crate::machines::{Machine, Power, Private};
use crate::manifests::Images;

/// The bound of `user_data`, as documented.
const USER_DATA_BYTES_MAX: usize = 64 * 1024;
/// Droplets of one `names` request, as documented.
const NAMES_MAX: usize = 10;

/// What a create asks for, checked.
struct CreateRequest {
    names: Vec<String>,
    several: bool,
    region: String,
    size: &'static catalog::Size,
    image: u64,
    base_slug: String,
    tags: Vec<String>,
    features: Vec<String>,
    public_networking: bool,
    vpc: Option<String>,
    first_boot: FirstBoot,
    /// Ids of the volumes that it is to have.
    volumes: Vec<String>,
}

/// `GET /v2/droplets`: those without a GPU, unless `type=gpus` asks for the others.
pub(crate) async fn list(app: &App, call: &Call) -> Result {
    let gpus = match call.param("type") {
        None | Some("droplets") => false,
        Some("gpus") => true,
        Some(_) => return Err(ApiError::unprocessable("type must be droplets or gpus")),
    };
    scene(app, |scene| {
        let (tag, name) = (call.param("tag_name"), call.param("name"));
        let droplets: Vec<WithMachine<'_>> = scene
            .cloud
            .droplets()
            .filter(|found| found.droplet.is_gpu() == gpus)
            .filter(|found| tag.is_none_or(|tag| found.droplet.has_tag(tag)))
            .filter(|found| name.is_none_or(|name| found.machine.name.eq_ignore_ascii_case(name)))
            .collect();
        page::answer(call, "droplets", &droplets, |found| scene.droplet(*found))
    })
    .await
}

/// `GET /v2/droplets/{id}`
pub(crate) async fn get(app: &App, id: &str) -> Result {
    scene(app, |scene| {
        let found = find(scene.cloud, id)?;
        Answer::ok(json!({"droplet": scene.droplet(found)}))
    })
    .await
}

/// `POST /v2/droplets`
pub(crate) async fn create(app: &Arc<App>, call: &Call) -> Result {
    let images = super::images_now(app).await?;
    let request = app.read(|cloud| check(app, cloud, &images, call))?;
    let fault = app.faults.next_create();
    if let Some(fault) = fault.as_ref().filter(|fault| !fault.after_effect) {
        return Err(ApiError::of_fault(fault.status));
    }
    let made = make(app, &request).await?;
    for one in &made {
        let created = app.fleet.hosts.create(&one.machine, &request.first_boot).await;
        let made_whole = match created {
            Ok(()) => attach(app, one.machine.id, &request).await,
            failed => failed,
        };
        if let Err(error) = made_whole {
            forget(app, &made).await?;
            return Err(of_host(error));
        }
    }
    let answer = created(
        &Creation {
            app,
            call,
            images: &images,
            request: &request,
        },
        &made,
    )?;
    for made in made {
        let fault = app.fleet.faults.next_boot();
        let boot = app.fleet.boot_of(&images, &made.machine, fault);
        let app = Arc::clone(app);
        tokio::spawn(async move { begin(&app, &made, boot).await });
    }
    match fault {
        Some(fault) => Err(ApiError::of_fault(fault.status)),
        None => Ok(answer),
    }
}

/// `DELETE /v2/droplets/{id}`
pub(crate) async fn delete(app: &App, id: &str) -> Result {
    let id = app.read(|cloud| find(cloud, id).map(|found| found.droplet.id))?;
    app.destroy(vec![id]).await?;
    Answer::no_content()
}

/// `DELETE /v2/droplets?tag_name=`
pub(crate) async fn delete_by_tag(app: &App, call: &Call) -> Result {
    let tag = call
        .param("tag_name")
        .ok_or_else(|| ApiError::unprocessable("tag_name is needed"))?;
    let ids: Vec<u64> = app.read(|cloud| cloud.records.tagged(tag).map(|droplet| droplet.id).collect());
    app.destroy(ids).await?;
    Answer::no_content()
}

/// A droplet that was just made: locked, and not on yet.
struct Made {
    droplet: Droplet,
    machine: Machine,
    action: Action,
}

/// Boots a new droplet and ends its create.
async fn begin(app: &App, made: &Made, boot: Option<Boot>) {
    let id = made.machine.id;
    // It was destroyed before its host was made, which the destruction then could not find.
    if app.read(|cloud| cloud.machines.get(id).is_none()) {
        app.destroy_host(id).await;
    }
    let gone = || {
        Err(HostError::Refused(format!(
            "image `{}` is gone",
            made.machine.image
        )))
    };
    let booted = match boot {
        Some(boot) => app.fleet.hosts.power_on(boot).await,
        None => gone(),
    };
    let (state, power) = match booted {
        Ok(()) => (ActionState::Completed, Power::On),
        Err(error) => {
            let reason = tidepool_logging::chain(&error);
            tracing::error!(machine = id, reason, "can't boot");
            (ActionState::Errored, Power::Off)
        }
    };
    app.action_done(Ended {
        action: made.action.id,
        droplet: id,
        state,
        power: Some(power),
    })
    .await;
}

/// What a host refuses is the client's mistake; everything else is this server's.
pub(crate) fn of_host(error: HostError) -> ApiError {
    match error {
        HostError::Refused(reason) => ApiError::unprocessable(reason),
        other => ApiError::server_error(other.to_string()),
    }
}

/// The droplet of a path's id.
///
/// # Errors
/// 404.
pub(crate) fn find<'a>(cloud: &'a Cloud, id: &str) -> Result<WithMachine<'a>> {
    id.parse()
        .ok()
        .and_then(|id: u64| cloud.droplet(id))
        .ok_or_else(ApiError::not_found)
}

/// Fields that ask for what local-cloud does not have.
const REFUSED: [(&str, &str); 4] = [
    ("ipv6", "local-cloud's droplets have no IPv6 addresses"),
    ("backups", "local-cloud takes no backups"),
    ("backup_policy", "local-cloud takes no backups"),
    (
        "with_droplet_agent",
        "the Droplet agent can't be installed here; leave it out, or send false",
    ),
];

fn check(app: &App, cloud: &Cloud, images: &Images, call: &Call) -> Result<CreateRequest> {
    let (names, several) = requested_names(call)?;
    let size = call
        .text("size")?
        .and_then(catalog::size_of)
        .ok_or_else(|| ApiError::unprocessable("You specified an invalid size for Droplet creation."))?;
    let (image, base_slug, disk_min) = image(cloud, images, call.body.get("image"))?;
    if size.disk_gb < disk_min {
        return Err(ApiError::unprocessable(
            "This image requires a larger disk than the size you chose.",
        ));
    }
    let (region, vpc) = place(cloud, call)?;
    for name in ["ipv6", "backups", "with_droplet_agent", "private_networking"] {
        call.switch(name)?;
    }
    for (name, reason) in REFUSED {
        call.refuse(name, reason)?;
    }
    let limit = app.settings.droplet_limit;
    if u64::try_from(cloud.records.droplets.len() + names.len()).unwrap_or(u64::MAX) > limit {
        return Err(ApiError::unprocessable(
            "creating this/these droplet(s) will exceed your droplet limit",
        ));
    }
    // Every droplet is in a network, as with the real one, so this feature can't be switched off.
    let mut features = vec!["private_networking".to_owned()];
    if call.switch("monitoring")? {
        features.push("monitoring".to_owned());
    }
    let tags = super::tags::names_of(call.list("tags")?)?;
    let first_boot = FirstBoot {
        region: region.to_owned(),
        tags: tags.clone(),
        ..first_boot(cloud, call)?
    };
    if let Some(image) = images.get(&base_slug) {
        let wanted = Wanted {
            image,
            size: size.of_machine(),
            first_boot: &first_boot,
        };
        app.fleet.hosts.check(&wanted).map_err(of_host)?;
    }
    Ok(CreateRequest {
        names,
        several,
        region: region.to_owned(),
        size,
        image,
        base_slug,
        tags,
        features,
        public_networking: call.optional_switch("public_networking")?.unwrap_or(true),
        vpc,
        first_boot,
        volumes: volumes(cloud, call, region)?,
    })
}

/// The volumes that a droplet is to have, by their ids.
fn volumes(cloud: &Cloud, call: &Call, region: &str) -> Result<Vec<String>> {
    let wrong = || ApiError::unprocessable("volumes must be a list of volumes' ids");
    let ids = call.list("volumes")?.iter();
    let ids: Option<Vec<String>> = ids.map(|id| id.as_str().map(str::to_owned)).collect();
    let ids = ids.ok_or_else(wrong)?;
    if !ids.is_empty() && !call.list("names")?.is_empty() {
        return Err(ApiError::unprocessable(
            "volumes: a volume can be attached to one Droplet only; use name instead of names",
        ));
    }
    check_volumes(cloud, &ids, region)
}

/// Looks whether a new droplet can have these volumes; each is named once then.
fn check_volumes(cloud: &Cloud, ids: &[String], region: &str) -> Result<Vec<String>> {
    let mut named: Vec<String> = Vec::new();
    for id in ids.iter().filter(|id| !id.is_empty()) {
        if named.contains(id) {
            continue;
        }
        let volume = cloud.records.volumes.get(id);
        let volume =
            volume.ok_or_else(|| ApiError::unprocessable(format!("volumes: there is no volume {id}")))?;
        attachments::check_attach(volume, region, named.len())?;
        named.push(id.clone());
    }
    Ok(named)
}

/// Attaches its volumes to a new droplet.
async fn attach(app: &App, machine: u64, request: &CreateRequest) -> std::result::Result<(), HostError> {
    let volumes: Vec<Attached> = app.read(|cloud| {
        let records = request
            .volumes
            .iter()
            .filter_map(|id| cloud.records.volumes.get(id))
            // One that was destroyed meanwhile has none.
            .filter(|volume| volume.droplet == Some(machine));
        records.map(attachments::attached).collect()
    });
    for volume in &volumes {
        app.fleet.hosts.volume_attach(machine, volume).await?;
    }
    Ok(())
}

/// Region and network. A network names its region; a region that is given, too, has to be the same.
fn place(cloud: &Cloud, call: &Call) -> Result<(&'static str, Option<String>)> {
    let region = call.region("You specified an invalid region for Droplet creation.")?;
    let Some(id) = call.text("vpc_uuid")? else {
        return Ok((region.unwrap_or(catalog::DEFAULT_REGION), None));
    };
    let refused = || ApiError::unprocessable("The VPC you specified does not exist in that region.");
    let home = cloud
        .records
        .vpcs
        .get(id)
        .and_then(|vpc| catalog::region_of(&vpc.region));
    let home = home.ok_or_else(refused)?;
    let wanted = call.text("region")?;
    // `nyc` is each of its regions, so the network's own, too.
    let fits = wanted.is_none_or(|wanted| catalog::names_region(wanted, home));
    if fits {
        Ok((home, Some(id.to_owned())))
    } else {
        Err(refused())
    }
}

/// What the droplet is given at its first boot: the keys of its root user, and its user data.
fn first_boot(cloud: &Cloud, call: &Call) -> Result<FirstBoot> {
    let mut keys = String::new();
    let mut unknown = Vec::new();
    for wanted in call.list("ssh_keys")? {
        let wanted = wanted.as_str().map_or_else(|| wanted.to_string(), str::to_owned);
        match super::keys::find(cloud, &wanted) {
            Ok(key) => keys.push_str(&format!("{}\n", key.public_key.trim_end())),
            Err(_) => unknown.push(wanted),
        }
    }
    if !unknown.is_empty() {
        let list = unknown.join(", ");
        return Err(ApiError::unprocessable(format!(
            "{list} are invalid key identifiers for Droplet creation."
        )));
    }
    let user_data = call.text("user_data")?.unwrap_or_default();
    if user_data.len() > USER_DATA_BYTES_MAX {
        return Err(ApiError::unprocessable("User data cannot be larger than 64 KiB"));
    }
    let first_boot = FirstBoot {
        authorized_keys: keys,
        user_data: user_data.to_owned(),
        region: String::new(),
        tags: Vec::new(),
    };
    Ok(first_boot)
}

fn requested_names(call: &Call) -> Result<(Vec<String>, bool)> {
    let several = call.texts("names")?;
    let names: Vec<String> = if several.is_empty() {
        vec![call.needed_text("name")?.to_owned()]
    } else {
        call.refuse("name", "name and names can't be used together")?;
        several.iter().copied().map(str::to_owned).collect()
    };
    if names.len() > NAMES_MAX {
        return Err(ApiError::unprocessable(format!(
            "You can create at most {NAMES_MAX} Droplets at once."
        )));
    }
    for name in &names {
        names::check_droplet(name)?;
    }
    Ok((names, !several.is_empty()))
}

/// Id of the image, slug of the programs, smallest disk. The id is 0 for one that no droplet had yet.
pub(crate) fn image(cloud: &Cloud, images: &Images, wanted: Option<&Value>) -> Result<(u64, String, u64)> {
    let invalid = || ApiError::unprocessable("You specified an invalid image for Droplet creation.");
    let by_id = |id: u64| {
        if let Some(snapshot) = cloud.records.snapshots.get(&id) {
            return Some((id, snapshot.base_slug.clone(), snapshot.min_disk_gb));
        }
        let (slug, _) = cloud.records.image_ids.iter().find(|(_, known)| **known == id)?;
        images
            .get(slug)
            .map(|image| (id, image.slug.clone(), image.min_disk_gb))
    };
    match wanted {
        Some(Value::Number(id)) => id.as_u64().and_then(by_id).ok_or_else(invalid),
        Some(Value::String(text)) => match images.get(text) {
            // Its id is given when the droplet is made, if it is the first of its image.
            Some(image) => Ok((
                cloud.records.image_ids.get(text).copied().unwrap_or(0),
                image.slug.clone(),
                image.min_disk_gb,
            )),
            None => text.parse().ok().and_then(by_id).ok_or_else(invalid),
        },
        _ => Err(invalid()),
    }
}

/// Puts the droplets into the state, `new` and locked.
async fn make(app: &App, request: &CreateRequest) -> Result<Vec<Made>> {
    let now = app.now();
    app.change(|cloud| {
        let limit = app.settings.droplet_limit;
        if u64::try_from(cloud.records.droplets.len() + request.names.len()).unwrap_or(u64::MAX) > limit {
            // Another create was faster since the check.
            return Err(ApiError::unprocessable(
                "creating this/these droplet(s) will exceed your droplet limit",
            ));
        }
        let image = match request.image {
            0 => cloud.image_id(&request.base_slug),
            id => id,
        };
        let vpc = request
            .vpc
            .clone()
            .or_else(|| cloud.records.default_vpc(&request.region, &now));
        let vpc = vpc.ok_or_else(|| ApiError::unprocessable("no address range is left for a network"))?;
        let tags: BTreeSet<String> = request
            .tags
            .iter()
            .map(|tag| cloud.records.tag_canonical(tag))
            .collect();
        let mut made = Vec::new();
        for name in &request.names {
            let slot = cloud.machines.new_slot(app.fleet.addresses.slots());
            let slot = slot.ok_or_else(|| ApiError::server_error("no address is left"))?;
            let droplet = Droplet {
                id: cloud.machines.new_id(),
                locked: true,
                created_at: now.clone(),
                region: request.region.clone(),
                size: request.size.slug.to_owned(),
                public_networking: request.public_networking,
                image,
                tags: tags.iter().cloned().collect(),
                features: request.features.clone(),
                vpc: vpc.clone(),
                snapshots: Vec::new(),
            };
            let machine = Machine {
                id: droplet.id,
                name: name.clone(),
                slot,
                power: Power::New,
                image: request.base_slug.clone(),
                snapshot: Some(image).filter(|id| cloud.records.snapshots.contains_key(id)),
                size: request.size.of_machine(),
                public: request.public_networking,
                private: private(app, cloud, &vpc)?,
            };
            cloud.records.droplets.insert(droplet.id, droplet.clone());
            cloud.machines.insert(machine.clone());
            for tag in &tags {
                cloud.records.tag_droplet(tag, droplet.id);
            }
            for id in check_volumes(cloud, &request.volumes, &request.region)? {
                if let Some(volume) = cloud.records.volumes.get_mut(&id) {
                    volume.droplet = Some(droplet.id);
                }
            }
            let action = cloud.action_start("create", (ResourceKind::Droplet, droplet.id), &now);
            made.push(Made {
                droplet,
                machine,
                action,
            });
        }
        Ok(made)
    })
    .await
}

/// A place in the private network, where machines have one.
fn private(app: &App, cloud: &Cloud, vpc: &str) -> Result<Option<Private>> {
    if !app.fleet.addresses.are_private_too() {
        return Ok(None);
    }
    let range = cloud
        .records
        .vpcs
        .get(vpc)
        .and_then(|vpc| vpc.ip_range.parse().ok());
    let place = range.and_then(|range| cloud.machines.new_private(vpc, range));
    let full = || ApiError::unprocessable("The VPC you specified has no address left.");
    place.ok_or_else(full).map(Some)
}

/// Takes back droplets whose hosts could not be made; nothing runs in them yet.
async fn forget(app: &App, made: &[Made]) -> Result<()> {
    let forgotten = app
        .change(|cloud| {
            for Made { droplet, .. } in made {
                cloud.remove_droplet(droplet.id);
                cloud
                    .records
                    .actions
                    .retain(|_, action| action.resource != droplet.id);
            }
            Ok(())
        })
        .await;
    for Made { droplet, .. } in made {
        app.destroy_host(droplet.id).await;
    }
    forgotten
}

/// What the answer to a create is made from.
struct Creation<'a> {
    app: &'a App,
    call: &'a Call,
    images: &'a Images,
    request: &'a CreateRequest,
}

fn created(creation: &Creation<'_>, made: &[Made]) -> Result {
    let several = creation.request.several;
    let rel = if several { "multiple_create" } else { "create" };
    let links: Vec<Value> = made
        .iter()
        .map(|Made { action, .. }| {
            let href = format!("{}/v2/actions/{}", creation.call.base, action.id);
            json!({"id": action.id, "rel": rel, "href": href})
        })
        .collect();
    let links = json!({"actions": links});
    let shown: Vec<Value> = scene_of(creation.app, creation.images, |scene| {
        let views = made
            .iter()
            .map(|Made { droplet, machine, .. }| scene.droplet(WithMachine { droplet, machine }));
        Ok(views.collect())
    })?;
    if several {
        return Answer::accepted(json!({"droplets": shown, "links": links}));
    }
    Answer::accepted(json!({"droplet": shown.first(), "links": links}))
}
