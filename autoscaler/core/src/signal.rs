//! How far a signal can be trusted, host by host. Time is an argument; what is old, from the future or not a number does
//! not count, and what is missing is said, never guessed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::observe::{MemberName, Sample, SignalReading, UnixMillis, count};

/// A sample that claims to be later than this is from a wrong clock and does not count. Hosts that keep time by NTP are
/// within a second of each other; 15 s leave room for one that has just booted.
pub const CLOCK_SKEW_SECS_MAX: u32 = 15;

/// Hosts without a value that are named in a reason; of more only the number is given.
pub const HOSTS_NAMED_MAX: usize = 5;
/// A cause is cut here.
const CAUSE_CHARS_MAX: usize = 240;

/// Which hosts a signal is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts<'a> {
    /// Those that must have a value: they serve, and have done so for longer than the warm-up.
    pub expected: BTreeSet<&'a MemberName>,
    /// Those that serve, warming ones among them.
    pub serving: BTreeSet<&'a MemberName>,
}

/// A signal in one tick.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Signal {
    /// Every expected host has a fresh value.
    Fresh {
        /// The values.
        values: Values,
    },
    /// Some have.
    Partial {
        /// The values there are.
        values: Values,
        /// Hosts that should have one.
        expected: u32,
        /// What is wrong with the others.
        #[serde(default)]
        gaps: Gaps,
    },
    /// None has a fresh one; the newest is this old.
    Stale {
        /// Seconds.
        age_secs: f64,
        /// A value older than so many seconds does not count.
        #[serde(default)]
        fresh_secs: u32,
        /// Hosts that should have one.
        expected: u32,
        /// What is wrong with them.
        #[serde(default)]
        gaps: Gaps,
    },
    /// There is nothing to go by.
    Missing {
        /// Why.
        reason: MissingReason,
        /// Hosts that should have one.
        expected: u32,
        /// What is wrong with them.
        #[serde(default)]
        gaps: Gaps,
    },
}

/// Why a signal has no value at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingReason {
    /// It was not asked for.
    NotRead,
    /// No member has served for long enough to be measured.
    NobodyWarm,
    /// No expected host has a value; the gaps say why.
    NoValues,
    /// The source failed, in its own words.
    #[serde(untagged)]
    Failed(String),
}

/// Why expected hosts have no whole, fresh value.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Gaps {
    /// The first few of them, each with a cause.
    pub named: BTreeMap<MemberName, GapCause>,
    /// How many more there are.
    pub more: u32,
}

/// Why one host has no whole, fresh value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapCause {
    /// Nothing is known of it.
    Silent,
    /// Its newest value is too old.
    Stale,
    /// Its values claim to be from the future.
    Future,
    /// Its value is not a number.
    NotANumber,
    /// What the source says.
    #[serde(untagged)]
    Reported(String),
}

/// Fresh values by host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Values {
    /// Of expected hosts; never empty.
    pub warm: BTreeMap<MemberName, f64>,
    /// Those of them of which a part can't be read, so that the value is a lower bound.
    #[serde(default)]
    pub at_least: BTreeSet<MemberName>,
    /// Of hosts that serve, but have not done so for long.
    pub warming: BTreeMap<MemberName, f64>,
    /// Age of the oldest of the values of expected hosts, seconds.
    pub age_secs: f64,
}

impl Values {
    /// How many expected hosts have a whole value.
    pub fn whole(&self) -> u32 {
        count(self.warm.len() - self.at_least.len())
    }

    /// The expected hosts' total.
    pub fn total(&self) -> f64 {
        self.warm.values().sum()
    }

    /// The expected hosts' mean.
    pub fn mean(&self) -> f64 {
        self.total() / self.warm.len() as f64
    }

    /// The largest of the expected hosts' values.
    pub fn max(&self) -> f64 {
        self.warm.values().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

/// Judges what a source answered about a signal.
pub fn assess(
    reading: Option<&SignalReading>,
    hosts: &Hosts<'_>,
    fresh_secs: u32,
    now: UnixMillis,
) -> Signal {
    let expected = count(hosts.expected.len());
    let missing = |reason| Signal::Missing {
        reason,
        expected,
        gaps: Gaps::default(),
    };
    let reading = match reading {
        None => return missing(MissingReason::NotRead),
        Some(SignalReading::Failed { reason }) => return missing(MissingReason::Failed(reason.clone())),
        Some(SignalReading::Read(reading)) => reading,
    };
    if hosts.expected.is_empty() {
        return missing(MissingReason::NobodyWarm);
    }
    let judge = Judge { fresh_secs, now };
    let whole = judge.newest(&reading.samples);
    let bounds = judge.newest(&reading.at_least);

    let mut values = Values {
        warm: BTreeMap::new(),
        at_least: BTreeSet::new(),
        warming: BTreeMap::new(),
        age_secs: 0.0,
    };
    for host in &hosts.serving {
        let is_expected = hosts.expected.contains(host);
        match (whole.get(host), bounds.get(host)) {
            (Some(Ok((_, value))), _) if !is_expected => {
                values.warming.insert((*host).clone(), *value);
            }
            (Some(Ok((age_secs, value))), _) => {
                values.age_secs = values.age_secs.max(*age_secs);
                values.warm.insert((*host).clone(), *value);
            }
            // A lower bound of a host that warms up would make it look less busy than those that say nothing.
            (_, Some(Ok((age_secs, value)))) if is_expected => {
                values.age_secs = values.age_secs.max(*age_secs);
                values.warm.insert((*host).clone(), *value);
                values.at_least.insert((*host).clone());
            }
            _ => {}
        }
    }
    if values.whole() == expected {
        return Signal::Fresh { values };
    }

    let cause = |host: &MemberName| match reading.causes.get(host) {
        Some(words) => GapCause::Reported(words.chars().take(CAUSE_CHARS_MAX).collect()),
        None => match whole.get(host).or(bounds.get(host)) {
            Some(Err(Fault::Stale { .. })) => GapCause::Stale,
            Some(Err(Fault::Future)) => GapCause::Future,
            Some(Err(Fault::NotANumber)) => GapCause::NotANumber,
            Some(Ok(_)) | None => GapCause::Silent,
        },
    };
    let is_whole = |host: &MemberName| values.warm.contains_key(host) && !values.at_least.contains(host);
    let silent = hosts.expected.iter().filter(|host| !is_whole(host));
    let gaps = Gaps::of(silent.map(|host| ((*host).clone(), cause(host))));
    let ages = whole
        .values()
        .chain(bounds.values())
        .filter_map(|newest| match newest {
            Err(Fault::Stale { age_secs }) => Some(*age_secs),
            Ok(_) | Err(Fault::Future | Fault::NotANumber) => None,
        });
    let stale_age_secs = ages.fold(f64::INFINITY, f64::min);
    if !values.warm.is_empty() {
        Signal::Partial {
            values,
            expected,
            gaps,
        }
    } else if stale_age_secs.is_finite() {
        Signal::Stale {
            age_secs: stale_age_secs,
            fresh_secs,
            expected,
            gaps,
        }
    } else {
        Signal::Missing {
            reason: MissingReason::NoValues,
            expected,
            gaps,
        }
    }
}

/// Why a host's samples don't count.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Stale { age_secs: f64 },
    Future,
    NotANumber,
}

/// A host's age and value, or why it has none.
type Newest = Result<(f64, f64), Fault>;

struct Judge {
    fresh_secs: u32,
    now: UnixMillis,
}

impl Judge {
    /// The newest sample of each host that counts; where none does, what is wrong with the newest.
    fn newest<'a>(&self, samples: &'a [Sample]) -> BTreeMap<&'a MemberName, Newest> {
        let mut newest: BTreeMap<&MemberName, (UnixMillis, Newest)> = BTreeMap::new();
        for sample in samples {
            let judged = self.judged(sample);
            let better = match newest.get(&sample.host) {
                None => true,
                Some((_, Err(_))) if judged.is_ok() => true,
                Some((at, known)) => known.is_ok() == judged.is_ok() && *at < sample.at,
            };
            if better {
                newest.insert(&sample.host, (sample.at, judged));
            }
        }
        newest
            .into_iter()
            .map(|(host, (_, judged))| (host, judged))
            .collect()
    }

    fn judged(&self, sample: &Sample) -> Newest {
        let age_secs = self.now.secs_since(sample.at).max(0.0);
        if sample.at > self.now.plus_secs(CLOCK_SKEW_SECS_MAX) {
            Err(Fault::Future)
        } else if !sample.value.is_finite() {
            Err(Fault::NotANumber)
        } else if age_secs > f64::from(self.fresh_secs) {
            Err(Fault::Stale { age_secs })
        } else {
            Ok((age_secs, sample.value))
        }
    }
}

impl Gaps {
    fn of(causes: impl Iterator<Item = (MemberName, GapCause)>) -> Gaps {
        let mut gaps = Gaps::default();
        for (host, cause) in causes {
            if gaps.named.len() < HOSTS_NAMED_MAX {
                gaps.named.insert(host, cause);
            } else {
                gaps.more = gaps.more.saturating_add(1);
            }
        }
        gaps
    }
}
