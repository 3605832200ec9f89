//! How far a signal can be trusted, host by host. Time is an argument; what is old, from the future or not a number does
//! not count, and what is missing is said, never guessed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::observe::{MemberName, SignalReading, UnixMillis, count};

/// A sample that claims to be later than this is from a wrong clock and does not count. Hosts that keep time by NTP are
/// within a second of each other; 15 s leave room for one that has just booted.
pub const CLOCK_SKEW_SECS_MAX: u32 = 15;

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
    },
    /// There is nothing to go by.
    Missing {
        /// Why.
        reason: MissingReason,
        /// Hosts that should have one.
        expected: u32,
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
    /// Every sample claims to be from the future.
    Future {
        /// So many.
        samples: u32,
    },
    /// The samples are not numbers.
    NotNumbers {
        /// So many.
        samples: u32,
    },
    /// No expected host has a value.
    NoValues,
    /// The source failed, in its own words.
    #[serde(untagged)]
    Failed(String),
}

/// Fresh values by host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Values {
    /// Of expected hosts; never empty.
    pub warm: BTreeMap<MemberName, f64>,
    /// Of hosts that serve, but have not done so for long.
    pub warming: BTreeMap<MemberName, f64>,
    /// Age of the oldest of the values of expected hosts, seconds.
    pub age_secs: f64,
}

impl Values {
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
    let missing = |reason| Signal::Missing { reason, expected };
    let samples = match reading {
        None => return missing(MissingReason::NotRead),
        Some(SignalReading::Failed { reason }) => return missing(MissingReason::Failed(reason.clone())),
        Some(SignalReading::Samples(samples)) => samples,
    };
    if hosts.expected.is_empty() {
        return missing(MissingReason::NobodyWarm);
    }

    let (mut future, mut not_a_number) = (0_u32, 0_u32);
    let mut newest: BTreeMap<&MemberName, (UnixMillis, f64)> = BTreeMap::new();
    for sample in samples.iter().filter(|s| hosts.serving.contains(&s.host)) {
        if sample.at > now.plus_secs(CLOCK_SKEW_SECS_MAX) {
            future += 1;
        } else if !sample.value.is_finite() {
            not_a_number += 1;
        } else if newest.get(&sample.host).is_none_or(|(at, _)| *at < sample.at) {
            newest.insert(&sample.host, (sample.at, sample.value));
        }
    }

    let mut values = Values {
        warm: BTreeMap::new(),
        warming: BTreeMap::new(),
        age_secs: 0.0,
    };
    let mut stale_age_secs = f64::INFINITY;
    for (host, (at, value)) in newest {
        let age_secs = now.secs_since(at).max(0.0);
        let warm = hosts.expected.contains(host);
        if age_secs > f64::from(fresh_secs) {
            stale_age_secs = stale_age_secs.min(age_secs);
        } else if warm {
            values.age_secs = values.age_secs.max(age_secs);
            values.warm.insert(host.clone(), value);
        } else {
            values.warming.insert(host.clone(), value);
        }
    }

    if values.warm.len() == hosts.expected.len() {
        Signal::Fresh { values }
    } else if !values.warm.is_empty() {
        Signal::Partial { values, expected }
    } else if stale_age_secs.is_finite() {
        Signal::Stale {
            age_secs: stale_age_secs,
            fresh_secs,
            expected,
        }
    } else if future > 0 {
        missing(MissingReason::Future { samples: future })
    } else if not_a_number > 0 {
        missing(MissingReason::NotNumbers {
            samples: not_a_number,
        })
    } else {
        missing(MissingReason::NoValues)
    }
}
