//! One `[[pool]]`: its settings for the core, its droplets' template and where its signals are read.

use tidepool_autoscaler_core::observe::PoolName;
use tidepool_autoscaler_core::spec::{Lifetimes, Pace, PoolSpec, RepairLimit, StepLimits};
use toml::Value;

use super::OPS_PORT_DEFAULT;
use super::fit::{self, Place};
use super::follow::{self, Followed, SignalConfig};
use super::reader::{Context, Section, WINDOW_SECS_MAX};
use crate::provider::digitalocean::{AddressKind, DropletTemplate, ImageRef, SshKeyRef, listing_calls};

/// Members in one pool at most: DigitalOcean's own bound for its autoscale pools.
const MEMBERS_MAX: u32 = 1000;
/// A pool's name and `-` and a number of 20 digits make a host name of at most 63 characters.
const NAME_CHARS_MAX: usize = 42;

/// One pool.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// What the core knows of it.
    pub spec: PoolSpec,
    /// The port of the members' operations listener.
    pub ops_port: u16,
    /// What its droplets are made of.
    pub droplets: DropletTemplate,
    /// Where each signal is read.
    pub signals: Vec<SignalConfig>,
}

impl PoolConfig {
    /// Calls that listing its members takes in a tick, at most.
    pub(super) fn listing_calls(&self) -> u32 {
        listing_calls(&self.droplets, self.spec.max)
    }
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
    let followed = follow::read(&mut section, context);
    let fixed = min.is_some() && min == max;
    if followed.none && !fixed {
        section.problem(
            "policy",
            "is missing; without one a pool can't follow anything (min = max needs none)",
        );
    }
    let mut windows = section.section("windows");
    let out_window_secs = windows.number_or("out_secs", 0..=WINDOW_SECS_MAX, 0);
    let in_window_secs = windows.number_or("in_secs", 0..=WINDOW_SECS_MAX, 300);
    windows.finish();
    let limits = read_limits(section.section("limits"));
    let life = read_life(section.section("life"));
    let repair = read_repair(section.section("repair"));
    let pace = read_pace(section.section("rollout"), &life);
    let at = Place {
        pool: section.path.clone(),
        problems: section.problems,
    };
    section.finish();

    let Followed {
        policies,
        settings,
        signals,
        ..
    } = followed;
    let droplets = droplets?;
    let recipe = droplets.made().recipe;
    let pool = PoolConfig {
        spec: PoolSpec {
            name: name?,
            min: min?,
            max: max?,
            recipe,
            tick_secs: context.tick_secs,
            signals: settings,
            policies: policies?,
            out_window_secs,
            in_window_secs,
            limits,
            life,
            repair,
            pace,
            rollout: None,
        },
        ops_port: u16::try_from(ops_port).ok()?,
        droplets,
        signals,
    };
    fit::check(&pool.spec, &pool.signals, context.source_kind, &at);
    Some(pool)
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
        section.problem("name", format!("{name:?} is not a valid name; a name is {rule}"));
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

/// How a rollout goes on. A new member has as long to get ready as any other, unless it is said.
fn read_pace(mut section: Section<'_>, life: &Lifetimes) -> Pace {
    let Pace {
        surge,
        min_ready_secs,
        failures_max,
        ..
    } = Pace::default();
    let pace = Pace {
        surge: section.number_or("surge", 1..=MEMBERS_MAX, surge),
        min_ready_secs: section.number_or("min_ready_secs", 0..=WINDOW_SECS_MAX, min_ready_secs),
        ready_secs: section.number_or("ready_secs", 5..=WINDOW_SECS_MAX, life.boot_timeout_secs),
        failures_max: section.number_or("failures_max", 0..=MEMBERS_MAX, failures_max),
    };
    section.finish();
    pace
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
