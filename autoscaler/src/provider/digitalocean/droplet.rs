//! A droplet as it is listed, read field by field: one that is odd in some way stays a member, whose state isn't known.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tidepool_autoscaler_core::observe::{
    Member, MemberId, MemberName, PoolName, Power, Readiness, UnixMillis,
};
use tidepool_autoscaler_core::recipe::Image;

use super::AddressKind;
use super::tags::{self, draining_tag, pool_tag, serving_tag};

/// Of what can't be understood so many characters are quoted.
const QUOTE_CHARS_MAX: usize = 60;

/// The fields of an object, each still as its text.
type Fields = BTreeMap<String, Box<RawValue>>;

/// A droplet; what could not be read of it is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Droplet {
    /// Digits only.
    pub(super) id: Option<MemberId>,
    pub(super) name: Option<MemberName>,
    status: Option<Status>,
    pub(super) created_at: Option<UnixMillis>,
    image: Image,
    size: Option<String>,
    networks: Option<Vec<Address>>,
    pub(super) tags: Option<Vec<String>>,
    /// Why its state can't be known from this; empty when everything could be read.
    oddities: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    New,
    Active,
    Off,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    kind: String,
    ip: Ipv4Addr,
}

impl Droplet {
    /// Reads one item of a list. It never fails: what can't be read is noted.
    pub(super) fn read(item: &RawValue) -> Droplet {
        let mut oddities = Vec::new();
        let fields: Fields = serde_json::from_str(item.get()).unwrap_or_else(|_| {
            oddities.push(format!("it is not an object: {}", quoted(item.get())));
            Fields::new()
        });
        let mut noted = |problem: String| oddities.push(problem);
        let id = read_id(&fields, &mut noted);
        let name = read_name(&fields, &mut noted);
        let status = read_status(&fields, &mut noted);
        let created_at = read_created_at(&fields, &mut noted);
        let networks = read_networks(&fields, &mut noted);
        let tags = read_tags(&fields, &mut noted);
        if status == Some(Status::Active) && networks.as_ref().is_some_and(Vec::is_empty) {
            noted("it is active and has no address".to_owned());
        }
        Droplet {
            id,
            name,
            status,
            created_at,
            image: read_image(&fields),
            size: field(&fields, "size_slug").ok().flatten(),
            networks,
            tags,
            oddities,
        }
    }

    /// Whether it has this tag; `None` when its tags could not be read.
    pub(super) fn tagged(&self, tag: &str) -> Option<bool> {
        let tags = self.tags.as_ref()?;
        Some(tags.iter().any(|other| tags::same(other, tag)))
    }

    /// Stopped, by DigitalOcean's word.
    pub(super) fn is_off(&self) -> bool {
        self.status == Some(Status::Off)
    }

    /// The tags that make it a member of other pools than this one.
    fn other_pools(&self, pool: &PoolName) -> Vec<&str> {
        let own = pool_tag(pool);
        let tags = self.tags.iter().flatten().map(String::as_str);
        tags.filter(|tag| tags::is_pool(tag) && !tags::same(tag, &own))
            .collect()
    }

    /// Why it isn't clear whether it is this pool's alone.
    pub(super) fn shared(&self, pool: &PoolName) -> Option<String> {
        let others = self.other_pools(pool);
        (!others.is_empty()).then(|| {
            let others = quoted(&others.join(", "));
            format!(
                "it has the tag {others} beside {}, so it is not known whose it is",
                pool_tag(pool)
            )
        })
    }

    /// Why a droplet that runs can't be asked whether it is ready: it has addresses, and none of the kind that is asked.
    fn without_address(&self, kind: AddressKind) -> Option<String> {
        let others = self
            .networks
            .as_ref()
            .is_some_and(|networks| !networks.is_empty());
        let asked_nowhere = self.status == Some(Status::Active) && others && self.address(kind).is_none();
        asked_nowhere.then(|| format!("it has no {} address, by which it would be asked", kind.name()))
    }

    /// What can't be understood of it as a member of this pool, in one sentence; `None` when all is clear.
    pub(super) fn problem(&self, pool: &PoolName, kind: AddressKind) -> Option<String> {
        let oddities = self.oddities.iter().cloned();
        let oddities = oddities
            .chain(self.shared(pool))
            .chain(self.without_address(kind));
        let oddities: Vec<String> = oddities.collect();
        if oddities.is_empty() {
            return None;
        }
        let id = self.id.as_ref().map_or("without an id", |id| id.0.as_str());
        let name = self.name.as_ref().map(|name| format!(" ({})", quoted(&name.0)));
        Some(format!(
            "droplet {id}{}: {}; it counts as a member, and nothing is done with it",
            name.unwrap_or_default(),
            oddities.join(", ")
        ))
    }

    /// Its meaning in our words. `id` and `name` stand in for what could not be read.
    pub(super) fn member(&self, pool: &PoolName, address: AddressKind, id: MemberId) -> Member {
        let has = |tag: String| self.tagged(&tag).unwrap_or(false);
        let fallback = || MemberName(format!("droplet-{id}"));
        // Marked for removal from a pool that isn't its only one: it may have been given to the other.
        let shared = self.shared(pool).is_some();
        Member {
            name: self.name.clone().unwrap_or_else(fallback),
            created_at: self.created_at.unwrap_or(UnixMillis(0)),
            power: if shared || self.without_address(address).is_some() {
                Power::Unknown
            } else {
                self.power()
            },
            serving: has(serving_tag(pool)),
            draining: !shared && has(draining_tag(pool)),
            readiness: Readiness::Unknown,
            address: self.address(address),
            image: self.image.clone(),
            size: self.size.clone(),
            generation: self
                .tags
                .iter()
                .flatten()
                .filter_map(|tag| tags::generation_in(tag, pool))
                .max(),
            id,
        }
    }

    /// Whether it carries the pool's tag, or may do so as far as can be read.
    pub(super) fn may_belong_to(&self, pool: &PoolName) -> bool {
        self.tagged(&pool_tag(pool)).unwrap_or(true)
    }

    fn power(&self) -> Power {
        match self.status {
            _ if !self.oddities.is_empty() => Power::Unknown,
            None => Power::Unknown,
            Some(Status::New) => Power::Creating,
            Some(Status::Active) => Power::Running,
            Some(Status::Off) => Power::Off,
        }
    }

    fn address(&self, kind: AddressKind) -> Option<IpAddr> {
        let addresses = self.networks.as_ref()?;
        let found = addresses.iter().find(|address| address.kind == kind.name())?;
        Some(IpAddr::V4(found.ip))
    }
}

/// A field of this type; `null` and a missing one are `None`.
fn field<T: DeserializeOwned>(fields: &Fields, name: &str) -> Result<Option<T>, String> {
    match fields.get(name) {
        None => Ok(None),
        Some(text) => {
            serde_json::from_str(text.get()).map_err(|_| format!("its {name} is {}", quoted(text.get())))
        }
    }
}

fn read_id(fields: &Fields, noted: &mut impl FnMut(String)) -> Option<MemberId> {
    let digits = |text: &str| {
        let number: u64 = text.parse().ok()?;
        (number > 0).then(|| MemberId(number.to_string()))
    };
    let text = fields.get("id").map_or("missing", |text| text.get());
    if let Some(id) = digits(text) {
        return Some(id);
    }
    noted(format!("its id is {}", quoted(text)));
    // `"123"` and `123.0` can only mean one droplet.
    digits(text.trim_matches('"').trim_end_matches(".0"))
}

fn read_name(fields: &Fields, noted: &mut impl FnMut(String)) -> Option<MemberName> {
    match field::<String>(fields, "name") {
        Ok(Some(name)) if !name.is_empty() => Some(MemberName(name)),
        Ok(_) => {
            noted("its name is missing".to_owned());
            None
        }
        Err(problem) => {
            noted(problem);
            None
        }
    }
}

fn read_status(fields: &Fields, noted: &mut impl FnMut(String)) -> Option<Status> {
    let text = match field::<String>(fields, "status") {
        Ok(text) => text.unwrap_or_else(|| "missing".to_owned()),
        Err(problem) => {
            noted(problem);
            return None;
        }
    };
    let status = match text.as_str() {
        "new" => Some(Status::New),
        "active" => Some(Status::Active),
        "off" | "archive" => Some(Status::Off),
        _ => None,
    };
    if status.is_none() {
        noted(format!("its status is {}", quoted(&text)));
    }
    status
}

fn read_created_at(fields: &Fields, noted: &mut impl FnMut(String)) -> Option<UnixMillis> {
    let text = match field::<String>(fields, "created_at") {
        Ok(text) => text.unwrap_or_else(|| "missing".to_owned()),
        Err(problem) => {
            noted(problem);
            return None;
        }
    };
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => Some(UnixMillis(at.as_millisecond())),
        Err(_) => {
            noted(format!("its created_at is {}", quoted(&text)));
            None
        }
    }
}

/// The IPv4 addresses that can be read. IPv6 ones are not used.
fn read_networks(fields: &Fields, noted: &mut impl FnMut(String)) -> Option<Vec<Address>> {
    #[derive(Deserialize)]
    struct Entry {
        ip_address: Ipv4Addr,
        #[serde(rename = "type")]
        kind: String,
    }
    let entries = field::<Fields>(fields, "networks")
        .ok()
        .flatten()
        .and_then(|networks| field::<Vec<Box<RawValue>>>(&networks, "v4").ok().flatten());
    let Some(entries) = entries else {
        let text = fields.get("networks").map_or("missing", |text| text.get());
        noted(format!("its networks are {}", quoted(text)));
        return None;
    };
    let mut addresses = Vec::new();
    for entry in entries {
        match serde_json::from_str::<Entry>(entry.get()) {
            Ok(Entry { ip_address: ip, kind }) => addresses.push(Address { kind, ip }),
            Err(_) => noted(format!("an address is {}", quoted(entry.get()))),
        }
    }
    Some(addresses)
}

fn read_tags(fields: &Fields, noted: &mut impl FnMut(String)) -> Option<Vec<String>> {
    let items = field::<Vec<Box<RawValue>>>(fields, "tags").ok().flatten();
    let Some(items) = items else {
        let text = fields.get("tags").map_or("missing", |text| text.get());
        noted(format!("its tags are {}", quoted(text)));
        return None;
    };
    let mut tags = Vec::new();
    for item in items {
        match serde_json::from_str::<String>(item.get()) {
            Ok(tag) => tags.push(tag),
            Err(_) => noted(format!("a tag is {}", quoted(item.get()))),
        }
    }
    Some(tags)
}

/// The image's slug and number; it decides who goes first, so one that can't be read is merely another image.
fn read_image(fields: &Fields) -> Image {
    let image = field::<Fields>(fields, "image")
        .ok()
        .flatten()
        .unwrap_or_default();
    let slug = field::<String>(&image, "slug").ok().flatten();
    Image {
        number: field::<u64>(&image, "id").ok().flatten(),
        slug: slug.filter(|slug| !slug.is_empty()),
    }
}

/// A text of the provider's as it stands in messages: one line, and not long.
fn quoted(text: &str) -> String {
    super::refusal::one_line(text, QUOTE_CHARS_MAX)
}
