//! Projects, and what is in them.

use serde_json::{Value, json};

use super::app::App;
use super::call::{Answer, Call, Result};
use super::error::ApiError;
use super::page;
use super::records::Cloud;
use super::records::project::{Membership, Project};
use super::resources::{self, Resource, Urn};

/// Longest name, and longest description and purpose, as documented.
const NAME_MAX: usize = 175;
const TEXT_MAX: usize = 255;
/// Projects of an account at most.
const PROJECTS_MAX: usize = 100;
/// The user who has the account, as a number.
const OWNER: u64 = 1;
/// The environments, in the spelling in which they are kept.
const ENVIRONMENTS: [&str; 3] = ["Development", "Staging", "Production"];
/// The purposes that are kept as they are; another one is kept as `Other: …`.
const PURPOSES: [&str; 9] = [
    "Just trying out DigitalOcean",
    "Class project / Educational purposes",
    "Website or blog",
    "Web Application",
    "Service or API",
    "Mobile Application",
    "Machine learning / AI / Data processing",
    "IoT",
    "Operational / Developer tooling",
];

/// `GET /v2/projects`, the default one first.
pub(crate) fn list(app: &App, call: &Call) -> Result {
    app.read(|cloud| {
        let mut all: Vec<&Project> = cloud.records.projects.values().collect();
        all.sort_by_key(|project| (!project.is_default, &project.created_at, &project.id));
        page::answer(call, "projects", &all, |project| view(project))
    })
}

/// `GET /v2/projects/{id or default}`
pub(crate) fn get(app: &App, id: &str) -> Result {
    app.read(|cloud| Answer::ok(json!({"project": view(find(cloud, id)?)})))
}

/// `POST /v2/projects`
#[expect(clippy::disallowed_methods, reason = "ids are random, as DigitalOcean's are")]
pub(crate) async fn create(app: &App, call: &Call) -> Result {
    let wanted = Wanted::of(call)?;
    call.switch("is_default")?;
    call.refuse("is_default", "a project is made the default one by an update")?;
    let (Some(name), Some(purpose)) = (wanted.name, wanted.purpose) else {
        let missing = if wanted.name.is_none() { "name" } else { "purpose" };
        return Err(ApiError::unprocessable(format!("{missing} can't be blank")));
    };
    let now = app.now();
    let project = Project {
        id: uuid::Uuid::new_v4().to_string(),
        name: name.to_owned(),
        description: wanted.description.unwrap_or_default().to_owned(),
        purpose: kept_purpose(purpose),
        environment: wanted.environment.unwrap_or_default().to_owned(),
        is_default: false,
        created_at: now.clone(),
        updated_at: now,
    };
    app.change(|cloud| {
        let projects = &mut cloud.records.projects;
        if projects.len() >= PROJECTS_MAX {
            return Err(ApiError::unprocessable("You have reached the project limit."));
        }
        let shown = view(&project);
        projects.insert(project.id.clone(), project);
        Answer::created(json!({"project": shown}))
    })
    .await
}

/// `PATCH` and `PUT /v2/projects/{id or default}`: the first leaves alone what is not sent, the second needs all of it.
pub(crate) async fn update(app: &App, id: &str, call: &Call) -> Result {
    let wanted = Wanted::of(call)?;
    let default = call.optional_switch("is_default")?;
    if call.method == http::Method::PUT {
        let fields = ["name", "description", "purpose", "environment", "is_default"];
        let missing = fields
            .iter()
            .find(|name| call.body.get(**name).is_none_or(Value::is_null));
        if let Some(missing) = missing {
            return Err(ApiError::unprocessable(format!("{missing} is needed")));
        }
    }
    let now = app.now();
    app.change(|cloud| {
        let old = find(cloud, id)?;
        let id = old.id.clone();
        if old.is_default && default == Some(false) {
            return Err(ApiError::unprocessable(
                "An account keeps a default project: make another one the default instead",
            ));
        }
        if default == Some(true) {
            make_default(app, cloud, &id);
        }
        let project = cloud
            .records
            .projects
            .get_mut(&id)
            .ok_or_else(ApiError::not_found)?;
        wanted.put_on(project);
        project.updated_at = now;
        Answer::ok(json!({"project": view(project)}))
    })
    .await
}

/// `DELETE /v2/projects/{id}`; 412 while something is in it.
pub(crate) async fn delete(app: &App, id: &str) -> Result {
    app.change(|cloud| {
        let project = find(cloud, id)?;
        if project.is_default {
            return Err(ApiError::precondition_failed(
                "the default project can't be deleted: make another one the default first",
            ));
        }
        let id = project.id.clone();
        if !members_of(app, cloud, &id).is_empty() {
            return Err(ApiError::precondition_failed(
                "cannot delete a project with resources. move or remove the resources first",
            ));
        }
        cloud.records.projects.remove(&id);
        cloud.records.memberships.retain(|_, noted| noted.project != id);
        Answer::no_content()
    })
    .await
}

/// `GET /v2/projects/{id or default}/resources`
pub(crate) fn resources(app: &App, id: &str, call: &Call) -> Result {
    app.read(|cloud| {
        let members = members_of(app, cloud, &find(cloud, id)?.id);
        page::answer(call, "resources", &members, |(resource, noted)| {
            shown(call, &resource.urn, &noted.assigned_at, "ok")
        })
    })
}

/// `POST /v2/projects/{id or default}/resources`: moves them here. What there is not is said in its place, and no mistake:
/// clients move things away that they have destroyed.
pub(crate) async fn add(app: &App, id: &str, call: &Call) -> Result {
    let urns: Vec<Urn> = call
        .needed_list("resources")?
        .iter()
        .map(|urn| {
            let text = urn.as_str();
            text.ok_or_else(|| ApiError::unprocessable("resources must be a list of URNs"))?
                .parse()
        })
        .collect::<Result<_>>()?;
    let now = app.now();
    app.change(|cloud| {
        let project = find(cloud, id)?.id.clone();
        let there: Vec<Resource> = resources::all(app, cloud).collect();
        let mut answers: Vec<Value> = Vec::new();
        for urn in &urns {
            let Some(resource) = there.iter().find(|resource| resource.urn == *urn) else {
                answers.push(shown(call, urn, &now, "not_found"));
                continue;
            };
            let noted = resources::membership(cloud, resource);
            if noted.project == project {
                answers.push(shown(call, urn, &noted.assigned_at, "already_assigned"));
            } else {
                resources::assign(cloud, urn, &project, &now);
                answers.push(shown(call, urn, &now, "assigned"));
            }
        }
        Answer::ok(json!({"resources": answers, "links": {}, "meta": {"total": answers.len()}}))
    })
    .await
}

/// What a body says of a project, checked.
struct Wanted<'a> {
    name: Option<&'a str>,
    description: Option<&'a str>,
    purpose: Option<&'a str>,
    environment: Option<&'static str>,
}

impl<'a> Wanted<'a> {
    fn of(call: &'a Call) -> Result<Self> {
        let text = |name: &str, max| -> Result<Option<&'a str>> {
            match call.body.get(name) {
                None | Some(Value::Null) => return Ok(None),
                Some(_) => {}
            }
            let text = call.needed_text(name)?;
            at_most(name, text, max).map(Some)
        };
        let description = call.clearable_text("description")?;
        description
            .map(|text| at_most("description", text, TEXT_MAX))
            .transpose()?;
        Ok(Self {
            name: text("name", NAME_MAX)?,
            description,
            purpose: text("purpose", TEXT_MAX)?,
            environment: call.clearable_text("environment")?.map(environment).transpose()?,
        })
    }

    fn put_on(self, project: &mut Project) {
        if let Some(name) = self.name {
            name.clone_into(&mut project.name);
        }
        if let Some(description) = self.description {
            description.clone_into(&mut project.description);
        }
        if let Some(purpose) = self.purpose {
            project.purpose = kept_purpose(purpose);
        }
        if let Some(environment) = self.environment {
            environment.clone_into(&mut project.environment);
        }
    }
}

fn at_most<'a>(name: &str, text: &'a str, max: usize) -> Result<&'a str> {
    if text.chars().count() <= max {
        return Ok(text);
    }
    Err(ApiError::unprocessable(format!(
        "{name} must have at most {max} characters"
    )))
}

/// An environment, in any case; an empty one is none.
fn environment(text: &str) -> Result<&'static str> {
    if text.is_empty() {
        return Ok("");
    }
    let known = ENVIRONMENTS.iter().find(|known| known.eq_ignore_ascii_case(text));
    known.copied().ok_or_else(|| {
        ApiError::unprocessable(format!("environment must be one of: {}", ENVIRONMENTS.join(", ")))
    })
}

fn kept_purpose(text: &str) -> String {
    let is_other = text == "Other" || text.starts_with("Other: ");
    if is_other || PURPOSES.contains(&text) {
        text.to_owned()
    } else {
        format!("Other: {text}")
    }
}

fn make_default(app: &App, cloud: &mut Cloud, id: &str) {
    // What was never assigned stays where it is.
    let old = resources::default_project(cloud).to_owned();
    let unassigned: Vec<(Urn, String)> = members_of(app, cloud, &old)
        .into_iter()
        .map(|(resource, noted)| (resource.urn, noted.assigned_at))
        .collect();
    for (urn, since) in unassigned {
        resources::assign(cloud, &urn, &old, &since);
    }
    for project in cloud.records.projects.values_mut() {
        project.is_default = project.id == id;
    }
}

fn members_of(app: &App, cloud: &Cloud, project: &str) -> Vec<(Resource, Membership)> {
    resources::all(app, cloud)
        .map(|resource| {
            let noted = resources::membership(cloud, &resource);
            (resource, noted)
        })
        .filter(|(_, noted)| noted.project == project)
        .collect()
}

fn find<'a>(cloud: &'a Cloud, id: &str) -> Result<&'a Project> {
    let id = match id {
        "default" => resources::default_project(cloud),
        id => id,
    };
    cloud.records.projects.get(id).ok_or_else(ApiError::not_found)
}

fn view(project: &Project) -> Value {
    json!({
        "id": project.id,
        "owner_uuid": super::images::ACCOUNT,
        "owner_id": OWNER,
        "name": project.name,
        "description": project.description,
        "purpose": project.purpose,
        "environment": project.environment,
        "is_default": project.is_default,
        "created_at": project.created_at,
        "updated_at": project.updated_at,
    })
}

fn shown(call: &Call, urn: &Urn, assigned_at: &str, status: &str) -> Value {
    json!({
        "urn": urn.to_string(),
        "assigned_at": assigned_at,
        "links": {"self": urn.link(&call.base)},
        "status": status,
    })
}
