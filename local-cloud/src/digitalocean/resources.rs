//! Which resources the account has, whatever their kind, and the project that each is in. A kind of resource that can be in a
//! project adds itself to [`all`]; nothing else asks what there is.

use std::fmt;
use std::str::FromStr;

use super::app::App;
use super::call::{Call, Result};
use super::error::ApiError;
use super::records::Cloud;
use super::records::project::{FIRST_PROJECT, Membership};

/// A kind of resource that can be in a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Domain,
    Droplet,
    LoadBalancer,
    ReservedIp,
    Volume,
}

/// Each kind: its word in a URN, and the path below which it stands.
const KINDS: [(Kind, &str, &str); 5] = [
    (Kind::Domain, "domain", "domains"),
    (Kind::Droplet, "droplet", "droplets"),
    (Kind::LoadBalancer, "loadbalancer", "load_balancers"),
    (Kind::ReservedIp, "reservedip", "reserved_ips"),
    (Kind::Volume, "volume", "volumes"),
];

/// A resource's name among all of the account's: `do:droplet:123`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Urn(String);

/// A resource that there is.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    pub(crate) urn: Urn,
    created_at: String,
}

/// Every resource that can be in a project.
pub(crate) fn all(app: &App, cloud: &Cloud) -> impl Iterator<Item = Resource> {
    let records = &cloud.records;
    let droplets = records
        .droplets
        .values()
        .map(|droplet| Resource::new(Kind::Droplet, &droplet.id, &droplet.created_at));
    let balancers = records
        .balancers
        .values()
        .map(|balancer| Resource::new(Kind::LoadBalancer, &balancer.id, &balancer.created_at));
    let volumes = records
        .volumes
        .values()
        .map(|volume| Resource::new(Kind::Volume, &volume.id, &volume.created_at));
    let reserved = records.reserved_ips.iter().map(|(slot, reserved)| {
        let ip = app.fleet.addresses.reserved_ip(*slot);
        Resource::new(Kind::ReservedIp, &ip, &reserved.created_at)
    });
    let domains = records
        .domains
        .values()
        .map(|domain| Resource::new(Kind::Domain, &domain.name, &domain.created_at));
    let others = balancers.chain(volumes).chain(reserved).chain(domains);
    droplets.chain(others)
}

/// The project that a resource is in, and since when.
pub(crate) fn membership(cloud: &Cloud, resource: &Resource) -> Membership {
    let records = &cloud.records;
    let noted = records.memberships.get(&resource.urn.0).filter(|noted| {
        // One from before it was made is that of another one with the same name.
        noted.assigned_at >= resource.created_at && records.projects.contains_key(&noted.project)
    });
    noted.cloned().unwrap_or_else(|| Membership {
        project: default_project(cloud).to_owned(),
        assigned_at: resource.created_at.clone(),
    })
}

/// Puts a resource into a project; both are there.
pub(crate) fn assign(cloud: &mut Cloud, urn: &Urn, project: &str, now: &str) {
    let membership = Membership {
        project: project.to_owned(),
        assigned_at: now.to_owned(),
    };
    cloud.records.memberships.insert(urn.0.clone(), membership);
}

/// Takes a resource that is gone out of its project, where another one may get its name at once.
pub(crate) fn forget(cloud: &mut Cloud, urn: &Urn) {
    cloud.records.memberships.remove(&urn.0);
}

/// The id of the project that new resources go to.
pub(crate) fn default_project(cloud: &Cloud) -> &str {
    let default = cloud.records.projects.values().find(|project| project.is_default);
    default.map_or(FIRST_PROJECT, |project| &project.id)
}

/// The project that a create names by `project_id`, if it names one.
///
/// # Errors
/// 422 when there is no such project.
pub(crate) fn named_project<'a>(cloud: &Cloud, call: &'a Call) -> Result<Option<&'a str>> {
    let named = call.text("project_id")?;
    match named {
        Some(id) if !cloud.records.projects.contains_key(id) => Err(ApiError::unprocessable(format!(
            "project_id: there is no project {id}"
        ))),
        named => Ok(named),
    }
}

impl Resource {
    pub(crate) fn new(kind: Kind, id: &dyn fmt::Display, created_at: &str) -> Self {
        Self {
            urn: Urn::new(kind, id),
            created_at: created_at.to_owned(),
        }
    }
}

impl Urn {
    pub(crate) fn new(kind: Kind, id: &dyn fmt::Display) -> Self {
        let word = KINDS.iter().find(|(other, ..)| *other == kind);
        Self(format!("do:{}:{id}", word.map_or("", |(_, word, _)| word)))
    }

    /// Where the resource itself is had.
    pub(crate) fn link(&self, base: &str) -> String {
        let mut parts = self.0.splitn(3, ':').skip(1);
        let (word, id) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let path = KINDS.iter().find(|(_, other, _)| *other == word);
        format!("{base}/v2/{}/{id}", path.map_or(word, |(.., path)| path))
    }
}

impl fmt::Display for Urn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Urn {
    type Err = ApiError;

    /// Any kind will do: what there is not is not found.
    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.splitn(3, ':');
        let is_urn = parts.next() == Some("do")
            && parts.all(|part| !part.is_empty())
            && text.matches(':').count() >= 2;
        if is_urn {
            Ok(Self(text.to_owned()))
        } else {
            Err(ApiError::unprocessable(format!(
                "`{text}` is not a URN such as do:droplet:123"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urns_have_three_parts_and_lead_to_their_resource() {
        let urn: Urn = "do:loadbalancer:a:b".parse().unwrap();
        assert_eq!(urn.link("http://h"), "http://h/v2/load_balancers/a:b");
        assert_eq!(Urn::new(Kind::Droplet, &5).to_string(), "do:droplet:5");
        for wrong in [
            "",
            "do",
            "do:droplet",
            "do:droplet:",
            "do::1",
            "x:droplet:1",
            "droplet:1",
        ] {
            assert!(wrong.parse::<Urn>().is_err(), "{wrong}");
        }
    }
}
