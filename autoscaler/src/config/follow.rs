//! What a pool follows: its signals, each under its own name, and the policies that go by them.

use std::collections::BTreeMap;

use tidepool_autoscaler_core::spec::{Across, Policy, PolicyKind, SignalSettings, TargetPolicy};
use toml::{Table, Value};

use super::reader::{Context, Section, WINDOW_SECS_MAX};
use crate::metrics::presets::{SourceKind, resolve};
use crate::metrics::range::Range;
use crate::metrics::{PerHost, SignalSpec};

/// Policies of one pool at most.
const POLICIES_MAX: usize = 20;
/// Signals of one pool at most; a policy may bring its own.
const SIGNALS_MAX: usize = 20;
/// Six documents of a Metricbeat that reports every 10 s.
const WINDOW_SECS_DEFAULT: u32 = 60;
/// A target is at least so much: one event of a host in eleven days.
const TARGET_MIN: f64 = 1e-6;
/// And at most so much: beyond it, a double no longer tells two neighbouring whole numbers apart with room for sums.
const TARGET_MAX: f64 = 1e15;
/// Two missed reports of a minute each.
const FRESH_SECS_DEFAULT: u32 = 120;

/// Where a signal is read.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalConfig {
    /// The signal's name.
    pub name: String,
    /// What is read.
    pub what: SignalSpec,
    /// How far back.
    pub window_secs: u32,
    /// How old the newest value may be.
    pub fresh_secs: u32,
    /// Where its keys are: a table of its own, such as `signal[0]`, or its policy's, such as `policy[1]`.
    pub place: String,
}

/// Signals and policies as they were read.
pub(super) struct Followed {
    /// Whether there is no policy at all.
    pub(super) none: bool,
    /// `None` if one of them is wrong.
    pub(super) policies: Option<Vec<Policy>>,
    /// How the signals are judged.
    pub(super) settings: Vec<SignalSettings>,
    /// Where they are read, in the same order.
    pub(super) signals: Vec<SignalConfig>,
}

impl Followed {
    fn signal_add(&mut self, (settings, config): (SignalSettings, SignalConfig)) {
        self.settings.push(settings);
        self.signals.push(config);
    }
}

/// Characters of a name at most: it stands in every line about its signal.
const NAME_CHARS_MAX: usize = 100;

/// Reads `[[pool.signal]]` and `[[pool.policy]]`.
pub(super) fn read(pool: &mut Section<'_>, context: &Context<'_>) -> Followed {
    let (signals, policies) = (pool.sections("signal"), pool.sections("policy"));
    if signals.len() > SIGNALS_MAX {
        pool.problem("signal", format!("at most {SIGNALS_MAX} signals"));
    }
    if policies.len() > POLICIES_MAX {
        pool.problem("policy", format!("at most {POLICIES_MAX} policies"));
    }
    let mut followed = Followed {
        none: policies.is_empty(),
        policies: None,
        settings: Vec::new(),
        signals: Vec::new(),
    };
    let mut signal_names = Taken::default();
    let mut whole = true;
    for (n, mut section) in signals.into_iter().enumerate() {
        let signal = read_signal(&mut section, context, format!("signal[{n}]"));
        section.finish();
        whole &= signal.is_some();
        if let Some(signal) = signal {
            signal_names.take(pool, format!("signal[{n}]"), &signal.0.name);
            followed.signal_add(signal);
        }
    }
    let named: Vec<String> = followed.settings.iter().map(|s| s.name.clone()).collect();
    let mut policy_names = Taken::default();
    let mut read_policies: Vec<Policy> = Vec::new();
    for (n, section) in policies.into_iter().enumerate() {
        let reader = PolicyReader {
            context,
            named: &named,
            place: format!("policy[{n}]"),
        };
        let Some((policy, own)) = reader.read(section) else {
            whole = false;
            continue;
        };
        let is_new = policy_names.take(pool, format!("policy[{n}]"), policy.name());
        if let Some(own) = own {
            if is_new {
                signal_names.take(pool, format!("policy[{n}]"), policy.name());
            }
            followed.signal_add(own);
        }
        read_policies.push(policy);
    }
    for (n, name) in named.iter().enumerate() {
        if whole && !read_policies.iter().any(|policy| policy.signal() == Some(name)) {
            pool.warn(&format!("signal[{n}]"), format!("no policy goes by {name}"));
        }
    }
    followed.policies = whole.then_some(read_policies);
    followed
}

/// Names and where each was given first.
#[derive(Default)]
struct Taken(BTreeMap<String, String>);

impl Taken {
    /// Whether the name is a new one; a second one is a problem.
    fn take(&mut self, pool: &Section<'_>, place: String, name: &str) -> bool {
        let first = self.0.get(name).cloned();
        if let Some(first) = &first {
            pool.problem(
                &format!("{place}.name"),
                format!("{name} is {first}'s name already"),
            );
        } else {
            self.0.insert(name.to_owned(), place);
        }
        first.is_none()
    }
}

type Signal = (SignalSettings, SignalConfig);

/// A policy's name and its signal's.
struct Names {
    name: String,
    signal: String,
    /// The signal itself, where the policy brings it.
    own: Option<Signal>,
}

/// What is known besides a policy's table.
struct PolicyReader<'a> {
    context: &'a Context<'a>,
    /// The signals that have tables of their own.
    named: &'a [String],
    place: String,
}

impl PolicyReader<'_> {
    /// A policy, with its own signal where it has one.
    fn read(self, mut section: Section<'_>) -> Option<(Policy, Option<Signal>)> {
        let words: Vec<_> = PolicyKind::all().map(|kind| (kind.name(), kind)).collect();
        let given = section.has("kind");
        let kind = section.word("kind", &words);
        let kind = if given { kind? } else { PolicyKind::Target };
        let policy = match kind {
            PolicyKind::Target => self.target(&mut section),
        };
        section.finish();
        policy
    }

    fn target(self, section: &mut Section<'_>) -> Option<(Policy, Option<Signal>)> {
        let target: Option<f64> = section.required("target");
        match target {
            Some(target) if !(target > 0.0 && target.is_finite()) => {
                section.problem("target", "must be above 0");
            }
            Some(target) if target < TARGET_MIN => section.problem(
                "target",
                format!("is {target:e}, so that the least load asks for the largest pool; it must be at least {TARGET_MIN:e}"),
            ),
            Some(target) if target > TARGET_MAX => section.problem(
                "target",
                format!("is {target:e}, so that no load asks for more than the smallest pool; it must be at most {TARGET_MAX:e}"),
            ),
            Some(_) | None => {}
        }
        let tolerance: f64 = section.optional("tolerance").unwrap_or(0.1);
        let tolerable = (0.0..=0.9).contains(&tolerance);
        if !tolerable {
            section.problem("tolerance", "must be within 0 and 0.9");
        }
        let Names { name, signal, own } = self.names(section)?;
        let policy = TargetPolicy {
            name,
            signal,
            target: target?,
            tolerance,
        };
        Some((Policy::Target(policy), own)).filter(|_| tolerable)
    }

    /// Which signal a policy goes by, for every kind that goes by one: a named one, or its own.
    fn names(self, section: &mut Section<'_>) -> Option<Names> {
        let PolicyReader {
            context,
            named,
            place,
        } = self;
        if !section.has("signal") {
            let own = read_signal(section, context, place)?;
            let name = own.0.name.clone();
            return Some(Names {
                name: name.clone(),
                signal: name,
                own: Some(own),
            });
        }
        let signal: Option<String> = section.optional("signal");
        let name = read_name(section);
        if let Some(signal) = signal.as_ref().filter(|signal| !named.contains(signal)) {
            let known = if named.is_empty() {
                "none".to_owned()
            } else {
                named.join(", ")
            };
            section.problem(
                "signal",
                format!("{signal:?} is not a [[pool.signal]]; there are: {known}"),
            );
        }
        let signal = signal?;
        Some(Names {
            name: name.unwrap_or_else(|| signal.clone()),
            signal,
            own: None,
        })
    }
}

/// The keys of a signal, in a table of its own or in a policy's.
fn read_signal(section: &mut Section<'_>, context: &Context<'_>, place: String) -> Option<Signal> {
    let preset: Option<String> = section.optional("preset");
    let field: Option<String> = section.optional("field");
    if let Some(problem) = field
        .as_deref()
        .and_then(|field| field_problem(field, context.source_kind))
    {
        section.problem("field", problem);
    }
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
            range: Range::ANY,
        }),
    };
    let name = read_name(section).or_else(|| preset.clone()).or(field);
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
    let range = read_range(section);
    let filter = read_filter(section);
    // A rate of what the members are asked at each tick needs two of them.
    let window_default = WINDOW_SECS_DEFAULT
        .max(context.tick_secs.saturating_mul(2))
        .min(WINDOW_SECS_MAX);
    let window_secs = section.number_or("window_secs", 1..=WINDOW_SECS_MAX, window_default);
    // Old enough for two missed reports of a minute each, or for three ticks.
    let fresh_default = FRESH_SECS_DEFAULT
        .max(context.tick_secs.saturating_mul(3))
        .min(WINDOW_SECS_MAX);
    let fresh_secs = section.number_or("fresh_secs", 1..=WINDOW_SECS_MAX, fresh_default);
    let (mut what, name) = (base?, name?);
    what.per_host = per_host.unwrap_or(what.per_host);
    what.scale = scale.unwrap_or(what.scale);
    // A counter counts up from 0, whatever it counts.
    let counts = what.per_host == PerHost::Rate && what.range == Range::ANY;
    what.range = range.unwrap_or(if counts { Range::NOT_NEGATIVE } else { what.range });
    what.filter.extend(filter);
    // A rate is a share of the pool's total, anything else is a level of each host.
    let across_default = if what.per_host == PerHost::Rate {
        Across::Sum
    } else {
        Across::Avg
    };
    let settings = SignalSettings {
        name: name.clone(),
        across: across.unwrap_or(across_default),
        window_secs: if what.per_host == PerHost::Last {
            0
        } else {
            window_secs
        },
        fresh_secs,
    };
    let config = SignalConfig {
        name,
        place,
        what,
        window_secs,
        fresh_secs,
    };
    Some((settings, config))
}

/// The name of a signal or a policy: it stands in messages, in metrics and on the dashboard.
fn read_name(section: &mut Section<'_>) -> Option<String> {
    let name: String = section.optional("name")?;
    let fits = !name.trim().is_empty() && name.chars().count() <= NAME_CHARS_MAX;
    if !fits || name.contains(char::is_control) {
        section.problem(
            "name",
            format!("must be 1 to {NAME_CHARS_MAX} characters, and no control characters"),
        );
    }
    Some(name)
}

/// What is wrong with a field's name. Elasticsearch's may not hold blanks, stars or empty parts; of `/metrics` it is one family, or
/// two of which the first is divided by the second.
pub(super) fn field_problem(field: &str, source: SourceKind) -> Option<String> {
    let parts: Vec<&str> = match source {
        SourceKind::Elasticsearch => vec![field],
        SourceKind::Scrape => field.split(" / ").collect(),
    };
    let is_name = |part: &&str| {
        let blank = |c: char| c.is_whitespace() || c.is_control();
        !part.is_empty() && !part.contains(blank)
    };
    let is_path = |part: &&str| !part.contains('*') && part.split('.').all(|name| !name.is_empty());
    let problem = match source {
        SourceKind::Elasticsearch if !parts.iter().all(|part| is_name(part) && is_path(part)) => {
            "is not the name of a field, such as \"system.load.norm.5\""
        }
        SourceKind::Scrape if parts.len() > 2 || !parts.iter().all(is_name) => {
            "must be one metric's name, or two with \" / \" between them"
        }
        SourceKind::Elasticsearch | SourceKind::Scrape => return None,
    };
    Some(format!("{field:?} {problem}"))
}

/// `range = [low, high]`; an end is open where it is `-inf` or `inf`.
fn read_range(section: &mut Section<'_>) -> Option<Range> {
    let ends: Vec<Value> = section.optional("range")?;
    let number = |value: &Value| match value {
        Value::Float(number) => Some(*number),
        // Whole numbers of a range are far below 2^53.
        Value::Integer(number) => Some(*number as f64),
        _ => None,
    };
    let numbers: Option<Vec<f64>> = ends.iter().map(number).collect();
    let range = match numbers.as_deref() {
        Some([low, high]) => Range::new(*low, *high).map_err(|error| error.to_string()),
        _ => Err("must be two numbers, such as [0.0, 1.0] or [0.0, inf]".to_owned()),
    };
    range.map_err(|message| section.problem("range", message)).ok()
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
