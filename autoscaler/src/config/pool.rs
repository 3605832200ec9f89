//! One `[[pool]]`: its settings for the core, its droplets' template and where its signals are read.

use std::collections::BTreeMap;

use tidepool_autoscaler_core::observe::PoolName;
use tidepool_autoscaler_core::spec::{Across, Lifetimes, PoolSpec, RepairLimit, StepLimits, TargetPolicy};
use toml::{Table, Value};

use super::reader::Section;
use super::{OPS_PORT_DEFAULT, Surroundings};
use crate::metrics::presets::{SourceKind, resolve};
use crate::metrics::{PerHost, SignalSpec};
use crate::provider::digitalocean::{AddressKind, DropletTemplate, ImageRef, SshKeyRef};

/// Members in one pool at most: DigitalOcean's own bound for its autoscale pools.
const MEMBERS_MAX: u32 = 1000;
/// Windows, periods and life stages at most; the core's memory is sized for it.
const WINDOW_SECS_MAX: u32 = 3600;
/// A pool's name and `-` and a number of 20 digits make a host name of at most 63 characters.
const NAME_CHARS_MAX: usize = 42;
const POLICIES_MAX: usize = 20;

/// One pool.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// What the core knows of it.
    pub spec: PoolSpec,
    /// The port of the members' operations listener.
    pub ops_port: u16,
    /// What its droplets are made of.
    pub droplets: DropletTemplate,
    /// Where each policy's signal is read, in the policies' order.
    pub signals: Vec<SignalConfig>,
}

/// Where a signal is read.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalConfig {
    /// The policy's name.
    pub policy: String,
    /// What is read.
    pub what: SignalSpec,
    /// How far back.
    pub window_secs: u32,
}

pub(super) struct Context<'a> {
    pub(super) around: &'a Surroundings<'a>,
    pub(super) source_kind: SourceKind,
    pub(super) tick_secs: u32,
}

pub(super) fn read(mut section: Section<'_>, context: &Context<'_>) -> Option<PoolConfig> {
    let name = read_name(&mut section);
    let min = section.number("min", 1..=MEMBERS_MAX);
    let max = section.number("max", 1..=MEMBERS_MAX);
    if let Some((min, max)) = min.zip(max)
        && min > max
    {
        section.problem("min", format!("is {min}, over max = {max}"));
    }
    let ops_port = section.number_or("ops_port", 1..=65_535, OPS_PORT_DEFAULT);
    let has_droplets = section.has("digitalocean");
    let droplets = read_droplets(section.section("digitalocean"), context, has_droplets);
    let policies = section.sections("policy");
    let fixed = min.is_some() && min == max;
    if policies.is_empty() && !fixed {
        section.problem(
            "policy",
            "is missing; without one a pool can't follow anything (min = max needs none)",
        );
    } else if policies.len() > POLICIES_MAX {
        section.problem("policy", format!("at most {POLICIES_MAX} policies"));
    }
    let path = section.path.clone();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut read_policies = Vec::new();
    for (n, policy) in policies.into_iter().enumerate() {
        let read = read_policy(policy, context);
        if let Some((policy, _)) = &read
            && let Some(first) = names.insert(policy.name.clone(), n)
        {
            let message = format!("{} is policy[{first}]'s name already", policy.name);
            section.problems.add(format!("{path}.policy[{n}].name"), message);
        }
        read_policies.push(read);
    }
    let mut windows = section.section("windows");
    let out_window_secs = windows.number_or("out_secs", 0..=WINDOW_SECS_MAX, 0);
    let in_window_secs = windows.number_or("in_secs", 0..=WINDOW_SECS_MAX, 300);
    windows.finish();
    let limits = read_limits(section.section("limits"));
    let life = read_life(section.section("life"));
    let repair = read_repair(section.section("repair"));
    section.finish();

    let (policies, signals) = read_policies
        .into_iter()
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .unzip();
    let droplets = droplets?;
    let image = match &droplets.image {
        ImageRef::Id(id) => id.to_string(),
        ImageRef::Slug(slug) => slug.clone(),
    };
    let spec = PoolSpec {
        name: name?,
        min: min?,
        max: max?,
        image,
        policies,
        out_window_secs,
        in_window_secs,
        limits,
        life,
        repair,
    };
    Some(PoolConfig {
        spec,
        ops_port: u16::try_from(ops_port).ok()?,
        droplets,
        signals,
    })
}

fn read_name(section: &mut Section<'_>) -> Option<PoolName> {
    let name: String = section.required("name")?;
    let fits = (1..=NAME_CHARS_MAX).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !fits {
        let rule = format!("1 to {NAME_CHARS_MAX} of a-z, 0-9 and -, beginning with a letter");
        section.problem("name", format!("{name:?} is no name; it is {rule}"));
    }
    fits.then_some(PoolName(name))
}

fn read_limits(mut section: Section<'_>) -> StepLimits {
    let limits = StepLimits {
        out_max: section.number_or("out_max", 1..=MEMBERS_MAX, 4),
        out_period_secs: section.number_or("out_period_secs", 0..=WINDOW_SECS_MAX, 60),
        in_max: section.number_or("in_max", 1..=MEMBERS_MAX, 1),
        in_period_secs: section.number_or("in_period_secs", 0..=WINDOW_SECS_MAX, 60),
    };
    section.finish();
    limits
}

fn read_life(mut section: Section<'_>) -> Lifetimes {
    let life = Lifetimes {
        warm_up_secs: section.number_or("warm_up_secs", 0..=WINDOW_SECS_MAX, 60),
        boot_timeout_secs: section.number_or("boot_timeout_secs", 5..=WINDOW_SECS_MAX, 300),
        unready_secs: section.number_or("unready_secs", 1..=WINDOW_SECS_MAX, 60),
        create_settle_secs: section.number_or("create_settle_secs", 1..=WINDOW_SECS_MAX, 60),
        withdraw_settle_secs: section.number_or("withdraw_settle_secs", 0..=WINDOW_SECS_MAX, 10),
        drain_secs: section.number_or("drain_secs", 0..=WINDOW_SECS_MAX, 120),
        shutdown_secs: section.number_or("shutdown_secs", 1..=WINDOW_SECS_MAX, 30),
    };
    section.finish();
    life
}

fn read_repair(mut section: Section<'_>) -> RepairLimit {
    let repair = RepairLimit {
        max: section.number_or("max", 0..=MEMBERS_MAX, 5),
        window_secs: section.number_or("window_secs", 1..=WINDOW_SECS_MAX, 600),
    };
    section.finish();
    repair
}

fn read_droplets(mut section: Section<'_>, context: &Context<'_>, present: bool) -> Option<DropletTemplate> {
    if !present {
        section.problems.add(
            section.path.clone(),
            "is missing; it says what the pool's droplets are made of",
        );
        return None;
    }
    let region: Option<String> = section.required("region");
    let size: Option<String> = section.required("size");
    let image = section.required::<Value>("image").and_then(|value| match value {
        Value::Integer(id) if id > 0 => u64::try_from(id).ok().map(ImageRef::Id),
        Value::String(slug) => Some(ImageRef::Slug(slug)),
        _ => {
            section.problem("image", "must be a slug or an image's number");
            None
        }
    });
    let keys: Vec<Value> = section.optional("ssh_keys").unwrap_or_default();
    let mut ssh_keys = Vec::new();
    for (n, key) in keys.into_iter().enumerate() {
        match key {
            Value::Integer(id) if id > 0 => ssh_keys.extend(u64::try_from(id).ok().map(SshKeyRef::Id)),
            Value::String(print) => ssh_keys.push(SshKeyRef::Fingerprint(print)),
            _ => section.problem(&format!("ssh_keys[{n}]"), "must be a key's number or fingerprint"),
        }
    }
    let user_data = section.optional::<String>("user_data_file").and_then(|file| {
        let read = (context.around.read_file)(&context.around.path_of(&file));
        read.map_err(|error| section.problem("user_data_file", format!("{file} can't be read: {error}")))
            .ok()
    });
    let vpc_uuid = section.optional("vpc_uuid");
    let tags = section.optional("tags").unwrap_or_default();
    let words = [("private", AddressKind::Private), ("public", AddressKind::Public)];
    let address = section.word("address", &words).unwrap_or_default();
    let template = DropletTemplate {
        region: region.clone().unwrap_or_else(|| "?".to_owned()),
        size: size.clone().unwrap_or_else(|| "?".to_owned()),
        image: image.clone().unwrap_or(ImageRef::Id(0)),
        ssh_keys,
        vpc_uuid,
        tags,
        user_data,
        address,
    };
    for (field, message) in template.problems() {
        section.problem(
            if field == "user_data" {
                "user_data_file"
            } else {
                &field
            },
            message,
        );
    }
    section.finish();
    (region.is_some() && size.is_some() && image.is_some()).then_some(template)
}

fn read_policy(mut section: Section<'_>, context: &Context<'_>) -> Option<(TargetPolicy, SignalConfig)> {
    let preset: Option<String> = section.optional("preset");
    let field: Option<String> = section.optional("field");
    let base = match (&preset, &field) {
        (Some(_), Some(_)) => {
            section.problem("preset", "stands beside field; one of them must go");
            None
        }
        (None, None) => {
            section.problem("preset", "or field is missing");
            None
        }
        (Some(preset), None) => resolve(preset, context.source_kind)
            .map_err(|error| section.problem("preset", error.to_string()))
            .ok(),
        (None, Some(field)) => Some(SignalSpec {
            field: field.clone(),
            filter: BTreeMap::new(),
            per_host: PerHost::Avg,
            scale: 1.0,
        }),
    };
    let name = section
        .optional("name")
        .or_else(|| preset.clone())
        .or_else(|| field.clone());
    let target: Option<f64> = section.required("target");
    if target.is_some_and(|target| !(target > 0.0 && target.is_finite())) {
        section.problem("target", "must be above 0");
    }
    let tolerance: f64 = section.optional("tolerance").unwrap_or(0.1);
    if !(0.0..=0.9).contains(&tolerance) {
        section.problem("tolerance", "must be within 0 and 0.9");
    }
    let per_host_words = [
        ("last", PerHost::Last),
        ("avg", PerHost::Avg),
        ("max", PerHost::Max),
        ("rate", PerHost::Rate),
    ];
    let per_host = section.word("per_host", &per_host_words);
    let across_words = [("avg", Across::Avg), ("sum", Across::Sum), ("max", Across::Max)];
    let across = section.word("across", &across_words);
    let scale: Option<f64> = section.optional("scale");
    if scale.is_some_and(|scale| scale == 0.0 || !scale.is_finite()) {
        section.problem("scale", "must be a number other than 0");
    }
    let filter = read_filter(&mut section);
    let window_secs = section.number_or("window_secs", 1..=WINDOW_SECS_MAX, 60);
    // Old enough for two missed reports of a minute each, or for three ticks.
    let fresh_default = 120.max(context.tick_secs.saturating_mul(3)).min(WINDOW_SECS_MAX);
    let fresh_secs = section.number_or("fresh_secs", 1..=WINDOW_SECS_MAX, fresh_default);
    section.finish();
    let (mut what, name) = (base?, name?);
    what.per_host = per_host.unwrap_or(what.per_host);
    what.scale = scale.unwrap_or(what.scale);
    what.filter.extend(filter);
    // A rate is a share of the pool's total, anything else is a level of each host.
    let across_default = if what.per_host == PerHost::Rate {
        Across::Sum
    } else {
        Across::Avg
    };
    let across = across.unwrap_or(across_default);
    let policy = TargetPolicy {
        name: name.clone(),
        target: target?,
        tolerance,
        across,
        fresh_secs,
    };
    Some((
        policy,
        SignalConfig {
            policy: name,
            what,
            window_secs,
        },
    ))
}

fn read_filter(section: &mut Section<'_>) -> BTreeMap<String, String> {
    let table: Table = section.optional("filter").unwrap_or_default();
    let mut filter = BTreeMap::new();
    for (key, value) in table {
        match value {
            Value::String(text) => {
                filter.insert(key, text);
            }
            Value::Integer(number) => {
                filter.insert(key, number.to_string());
            }
            _ => section.problem(&format!("filter.{key}"), "must be text or a whole number"),
        }
    }
    filter
}
