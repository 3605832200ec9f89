//! What DigitalOcean's API knows of: plain data, kept in one JSON file. Starts no process, speaks no HTTP.

pub(crate) mod certificate;
pub(crate) mod cloud_firewall;
pub(crate) mod domain;
pub(crate) mod droplet;
pub(crate) mod earlier;
pub(crate) mod firewall;
pub(crate) mod load_balancer;
pub(crate) mod project;
pub(crate) mod registry;
pub(crate) mod reserved_ip;
pub(crate) mod volume;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::certificate::Certificate;
use self::cloud_firewall::CloudFirewall;
use self::domain::Domain;
use self::droplet::{Droplet, WithMachine};
use self::load_balancer::LoadBalancer;
use self::project::{Membership, Project};
use self::registry::Registries;
use self::reserved_ip::ReservedIp;
use self::volume::{Volume, VolumeSnapshot};
use super::catalog;
use crate::ip_range::Ipv4Range;
use crate::machines::Machine;
use crate::state::State;

/// Actions kept for `/v2/actions`; older ones are forgotten. 10,000 are 2 MB of state.
const ACTIONS_MAX: usize = 10_000;
/// Load balancers at most: one address each of a /24.
pub(crate) const BALANCERS_MAX: usize = 250;

/// The prefix of ranges that are chosen for networks.
const FREE_RANGE_PREFIX: u8 = 20;

/// The machines, and what the API knows of them.
pub(crate) type Cloud = State<Records>;

/// Everything of the API that survives a restart.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Records {
    pub(crate) droplets: BTreeMap<u64, Droplet>,
    pub(crate) tags: BTreeMap<String, Tag>,
    pub(crate) keys: BTreeMap<u64, Key>,
    /// Ids of the images of the images' directory, by slug: they never change.
    pub(crate) image_ids: BTreeMap<String, u64>,
    pub(crate) snapshots: BTreeMap<u64, Snapshot>,
    pub(crate) vpcs: BTreeMap<String, Vpc>,
    pub(crate) balancers: BTreeMap<String, LoadBalancer>,
    #[serde(default)]
    pub(crate) firewalls: BTreeMap<String, CloudFirewall>,
    /// By their place among the addresses.
    #[serde(default)]
    pub(crate) reserved_ips: BTreeMap<u32, ReservedIp>,
    #[serde(default)]
    pub(crate) volumes: BTreeMap<String, Volume>,
    #[serde(default)]
    pub(crate) volume_snapshots: BTreeMap<String, VolumeSnapshot>,
    #[serde(default)]
    pub(crate) projects: BTreeMap<String, Project>,
    /// Resources that were put into a project, by URN; those that were not are in the default one.
    #[serde(default)]
    pub(crate) memberships: BTreeMap<String, Membership>,
    #[serde(default)]
    pub(crate) certificates: BTreeMap<String, Certificate>,
    /// Shared by the copies that changes are made on: there may be many, and few change.
    pub(crate) actions: BTreeMap<u64, Arc<Action>>,
    /// By their names in small letters; shared by copies, as actions are.
    #[serde(default)]
    pub(crate) domains: BTreeMap<String, Arc<Domain>>,
    #[serde(default)]
    pub(crate) registries: Registries,
}

/// A tag; which droplets have it stands at the droplets.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Tag {
    /// Ids of snapshots that have it.
    pub(crate) images: BTreeSet<u64>,
    /// The last droplet that got it.
    pub(crate) last_droplet: Option<u64>,
    /// The last volume that got it.
    #[serde(default)]
    pub(crate) last_volume: Option<String>,
}

/// An SSH key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) id: u64,
    pub(crate) name: String,
    /// As it was sent, its newline included.
    pub(crate) public_key: String,
    /// MD5, in pairs of digits with colons.
    pub(crate) fingerprint: String,
}

/// A snapshot of a droplet: an image's record. Its droplets run the programs of the image it came from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) base_slug: String,
    pub(crate) droplet: u64,
    pub(crate) created_at: String,
    pub(crate) min_disk_gb: u64,
    pub(crate) regions: Vec<String>,
    /// As a client set it; that of the image it came from otherwise.
    #[serde(default)]
    pub(crate) distribution: Option<String>,
    #[serde(default)]
    pub(crate) description: String,
}

/// A virtual private network; a record only: every droplet reaches every other one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Vpc {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) region: String,
    pub(crate) ip_range: String,
    pub(crate) default: bool,
    pub(crate) created_at: String,
}

/// An action, as `/v2/actions` shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Action {
    pub(crate) id: u64,
    pub(crate) kind: String,
    pub(crate) state: ActionState,
    pub(crate) started_at: String,
    pub(crate) completed_at: Option<String>,
    pub(crate) resource: u64,
    pub(crate) resource_kind: ResourceKind,
    /// The volume that it is about.
    #[serde(default)]
    pub(crate) volume: Option<String>,
    pub(crate) region: String,
}

/// How far an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ActionState {
    InProgress,
    Completed,
    Errored,
}

/// What an action acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ResourceKind {
    Droplet,
    Image,
    ReservedIp,
    /// A droplet, too, with something that it is given or loses.
    Backend,
    /// Named by the action's `volume`: it has no number.
    Volume,
}

impl Cloud {
    /// The droplet of that id.
    pub(crate) fn droplet(&self, id: u64) -> Option<WithMachine<'_>> {
        Some(WithMachine {
            droplet: self.records.droplets.get(&id)?,
            machine: self.machines.get(id)?,
        })
    }

    /// All droplets, oldest first.
    pub(crate) fn droplets(&self) -> impl Iterator<Item = WithMachine<'_>> {
        self.records.droplets.keys().filter_map(|id| self.droplet(*id))
    }

    /// Takes a droplet out, and its machine.
    pub(crate) fn remove_droplet(&mut self, id: u64) {
        self.records.droplets.remove(&id);
        self.machines.remove(id);
        for balancer in self.records.balancers.values_mut() {
            balancer.droplet_ids.retain(|other| *other != id);
        }
        self.firewalls_forget_droplet(id);
        self.reserved_ips_forget_droplet(id);
        self.volumes_forget_droplet(id);
    }

    /// The id of an image of the images' directory.
    pub(crate) fn image_id(&mut self, slug: &str) -> u64 {
        if let Some(id) = self.records.image_ids.get(slug) {
            return *id;
        }
        let id = self.machines.new_id();
        self.records.image_ids.insert(slug.to_owned(), id);
        id
    }

    /// Notes a new action on a resource.
    pub(crate) fn action_start(&mut self, kind: &str, resource: (ResourceKind, u64), now: &str) -> Action {
        let region = match resource {
            (ResourceKind::Droplet | ResourceKind::Backend, id) => self
                .records
                .droplets
                .get(&id)
                .map(|droplet| droplet.region.clone()),
            (ResourceKind::Image | ResourceKind::ReservedIp | ResourceKind::Volume, _) => None,
        };
        let action = Action {
            id: self.machines.new_id(),
            kind: kind.to_owned(),
            state: ActionState::InProgress,
            started_at: now.to_owned(),
            completed_at: None,
            resource: resource.1,
            resource_kind: resource.0,
            volume: None,
            region: region.unwrap_or_else(|| catalog::DEFAULT_REGION.to_owned()),
        };
        let actions = &mut self.records.actions;
        actions.insert(action.id, Arc::new(action.clone()));
        while actions.len() > ACTIONS_MAX {
            actions.pop_first();
        }
        action
    }

    /// Machines behind a load balancer: those of the droplets with its tag, or of those named.
    pub(crate) fn behind<'a>(&'a self, balancer: &'a LoadBalancer) -> impl Iterator<Item = &'a Machine> {
        let found = self.droplets().filter(|found| match &balancer.tag {
            Some(tag) => found.droplet.has_tag(tag),
            None => balancer.droplet_ids.contains(&found.droplet.id),
        });
        found.map(|found| found.machine)
    }

    /// After a restart: what was under way when the last run ended is settled.
    pub(crate) fn settle(&mut self, now: &str) {
        self.machines.settle();
        self.settle_volumes();
        if !self.records.projects.values().any(|project| project.is_default) {
            let first = Project::first(now);
            self.records.projects.insert(first.id.clone(), first);
        }
        for action in self
            .records
            .actions
            .values_mut()
            .filter(|action| action.state == ActionState::InProgress)
        {
            let action = Arc::make_mut(action);
            action.state = ActionState::Completed;
            action.completed_at = Some(now.to_owned());
        }
        for droplet in self.records.droplets.values_mut() {
            droplet.locked = false;
        }
    }
}

impl Records {
    /// A place for a load balancer.
    pub(crate) fn new_balancer_slot(&self) -> Option<u32> {
        let used: BTreeSet<u32> = self.balancers.values().map(|balancer| balancer.slot).collect();
        (0..u32::try_from(BALANCERS_MAX).ok()?).find(|slot| !used.contains(slot))
    }

    /// The tag's name and record; names are compared without case.
    pub(crate) fn tag(&self, name: &str) -> Option<(&String, &Tag)> {
        self.tags
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
    }

    /// The tag's own spelling: the first one used counts. Made when there is none.
    pub(crate) fn tag_canonical(&mut self, name: &str) -> String {
        if let Some((canonical, _)) = self.tag(name) {
            return canonical.clone();
        }
        self.tags.insert(name.to_owned(), Tag::default());
        name.to_owned()
    }

    /// Puts a tag that exists on a droplet that exists.
    pub(crate) fn tag_droplet(&mut self, tag: &str, droplet: u64) {
        if let Some(found) = self.droplets.get_mut(&droplet)
            && !found.has_tag(tag)
        {
            found.tags.push(tag.to_owned());
        }
        if let Some(record) = self.tags.get_mut(tag) {
            record.last_droplet = Some(droplet);
        }
    }

    /// Droplets with the tag, oldest first.
    pub(crate) fn tagged(&self, tag: &str) -> impl Iterator<Item = &Droplet> {
        self.droplets.values().filter(move |droplet| droplet.has_tag(tag))
    }

    /// Notes the end of an action.
    pub(crate) fn action_end(&mut self, id: u64, state: ActionState, now: &str) {
        if let Some(action) = self.actions.get_mut(&id) {
            let action = Arc::make_mut(action);
            action.state = state;
            action.completed_at = Some(now.to_owned());
        }
    }

    /// The region's default network, made on first use; None when no address range is left for it.
    #[expect(clippy::disallowed_methods, reason = "ids are random, as DigitalOcean's are")]
    pub(crate) fn default_vpc(&mut self, region: &str, now: &str) -> Option<String> {
        if let Some(vpc) = self.vpcs.values().find(|vpc| vpc.default && vpc.region == region) {
            return Some(vpc.id.clone());
        }
        let vpc = Vpc {
            id: uuid::Uuid::new_v4().to_string(),
            name: format!("default-{region}"),
            description: String::new(),
            region: region.to_owned(),
            ip_range: self.free_ip_range()?.to_string(),
            default: true,
            created_at: now.to_owned(),
        };
        let id = vpc.id.clone();
        self.vpcs.insert(id.clone(), vpc);
        Some(id)
    }

    /// A /20 that meets no network's range: 10.100.0.0/20 first, as the real one picks, then whatever 10.0.0.0/8 has.
    pub(crate) fn free_ip_range(&self) -> Option<Ipv4Range> {
        let first_choice = (100..=255).map(|second| (second, 0));
        let every = (0..=255).flat_map(|second| (0..16).map(move |sixteenth| (second, sixteenth * 16)));
        first_choice
            .chain(every)
            .filter_map(|(second, third)| {
                Ipv4Range::new(Ipv4Addr::new(10, second, third, 0), FREE_RANGE_PREFIX)
            })
            .find(|range| self.vpc_over(*range).is_none())
    }

    /// A network whose range meets this one.
    pub(crate) fn vpc_over(&self, range: Ipv4Range) -> Option<&Vpc> {
        let meets = |vpc: &&Vpc| {
            vpc.ip_range
                .parse::<Ipv4Range>()
                .is_ok_and(|other| other.overlaps(range))
        };
        self.vpcs.values().find(meets)
    }
}
