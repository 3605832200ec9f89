//! What a tick saw: members, and samples of a signal by host. Adapters produce these; decisions start from them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::recipe::{Generation, Image};

/// Milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// Whole and broken seconds from `earlier` to this time; negative if `earlier` is later.
    pub fn secs_since(self, earlier: UnixMillis) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1000.0
    }

    /// Whether at least `secs` have passed since `earlier`.
    pub fn is_past(self, earlier: UnixMillis, secs: u32) -> bool {
        self.0.saturating_sub(earlier.0) >= i64::from(secs) * 1000
    }

    /// This time, `secs` later.
    pub fn plus_secs(self, secs: u32) -> UnixMillis {
        UnixMillis(self.0.saturating_add(i64::from(secs) * 1000))
    }
}

/// A wait by a clock that may be set meanwhile: it lasts from when it began until its end, and is over before it began, too.
/// A clock that was set back by a day must not make an hour's wait one of 25.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    since: UnixMillis,
    until: UnixMillis,
}

impl Wait {
    /// From now on for so long.
    pub fn of_secs(now: UnixMillis, secs: u32) -> Wait {
        Wait {
            since: now,
            until: now.plus_secs(secs),
        }
    }

    /// What is left of it, whole seconds rounded up; `None` when it is over.
    pub fn left_secs(self, now: UnixMillis) -> Option<u32> {
        let lasts = self.since <= now && now < self.until;
        // At most what it was made of, so that it fits.
        lasts.then(|| u32::try_from((self.until.0 - now.0 + 999) / 1000).unwrap_or(u32::MAX))
    }
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_type! {
    /// A pool's name, as in the configuration.
    PoolName
}
text_type! {
    /// A member's name. Those that the autoscaler gives are unique within a pool; the provider allows duplicates, and
    /// members that were taken in may share one.
    MemberName
}
text_type! {
    /// The provider's id of a member.
    MemberId
}

/// What the provider says about a member's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// Being made; it has no address yet, or does not run yet.
    Creating,
    /// Running, as far as the provider knows.
    Running,
    /// Stopped: shut down, powered off, or lost its power.
    Off,
    /// What the provider says about it can't be understood, or it isn't listed though it exists. It counts as a member,
    /// and nothing is done with it.
    Unknown,
}

/// What the member's own readiness check answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// It answered that it can serve.
    Ready,
    /// It answered that it can't, or refused the connection.
    NotReady,
    /// Nobody could be asked, or no answer came in time.
    Unknown,
}

/// One droplet or instance of a pool, as observed in this tick.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The provider's id.
    pub id: MemberId,
    /// Our name for it.
    pub name: MemberName,
    /// When the provider made it.
    pub created_at: UnixMillis,
    /// Power, by the provider's word.
    pub power: Power,
    /// Whether the load balancer sends it traffic (tag `serving:<pool>`).
    pub serving: bool,
    /// Whether it is marked for removal (tag `draining:<pool>`): chosen as a victim, never to be admitted again.
    pub draining: bool,
    /// Readiness, by its own word.
    pub readiness: Readiness,
    /// Where it is reached; `None` while it has no address.
    pub address: Option<IpAddr>,
    /// The image it was made from, by each name that the provider gives it.
    pub image: Image,
    /// Its size, as the provider names it; `None` where it isn't known.
    #[serde(default)]
    pub size: Option<String>,
    /// The generation that it was made as (tag `generation:<pool>:<generation>`).
    #[serde(default)]
    pub generation: Option<Generation>,
}

/// A name for each member that keeps its values apart from others': its own, and with its id behind it where an older
/// member has the same name.
pub fn hosts_of(members: &[Member]) -> BTreeMap<&MemberId, MemberName> {
    let mut oldest_first: Vec<&Member> = members.iter().collect();
    oldest_first.sort_by_key(|m| (m.draining, m.created_at, &m.id));
    let mut taken = BTreeSet::new();
    let host = |member: &'_ Member| {
        if taken.insert(member.name.clone()) {
            member.name.clone()
        } else {
            MemberName(format!("{} ({})", member.name, member.id))
        }
    };
    let hosts: Vec<MemberName> = oldest_first.iter().copied().map(host).collect();
    oldest_first.into_iter().map(|m| &m.id).zip(hosts).collect()
}

/// One host's newest value of a signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The host, by member name.
    pub host: MemberName,
    /// The value, in the signal's own unit.
    pub value: f64,
    /// The time the value is about (for a rate: the end of its window).
    pub at: UnixMillis,
}

/// What a source read of a signal, host by host.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Reading {
    /// Values of whole hosts.
    pub samples: Vec<Sample>,
    /// Lower bounds of hosts of which a part can't be read.
    #[serde(default)]
    pub at_least: Vec<Sample>,
    /// Why a host has no value, or only a lower bound: a few words, the same ones for as long as nothing changes.
    #[serde(default)]
    pub causes: BTreeMap<MemberName, String>,
}

impl From<Vec<Sample>> for Reading {
    fn from(samples: Vec<Sample>) -> Reading {
        Reading {
            samples,
            ..Reading::default()
        }
    }
}

/// What a source of metrics answered for one signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalReading {
    /// It answered; hosts may be missing from it.
    Read(Reading),
    /// It didn't, or says itself that its answer is incomplete.
    Failed {
        /// Why, for the operator.
        reason: String,
    },
}

/// Everything that one tick saw of one pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// When it was seen.
    pub at: UnixMillis,
    /// Every member, in no order to rely on.
    pub members: Vec<Member>,
    /// How many more the provider counts and doesn't show: they count where members are made, and nowhere else.
    #[serde(default)]
    pub unseen: u32,
    /// The list may go on beyond what it shows, and nobody says how far: none are made then.
    #[serde(default)]
    pub may_go_on: bool,
    /// By how many milliseconds the provider's clock is ahead of ours; `None` while it has not given the time.
    #[serde(default)]
    pub provider_ahead_millis: Option<i64>,
    /// Members of unknown state of which the provider says that there are none. It is not believed, for it says so of all
    /// at once.
    #[serde(default)]
    pub missing: BTreeSet<MemberId>,
    /// Draining members that say themselves that they may be stopped.
    pub drained: BTreeSet<MemberId>,
    /// What was read of each policy's signal, by the policy's name.
    pub signals: BTreeMap<String, SignalReading>,
}

impl Observation {
    /// A time that the provider gave, by our own clock.
    pub fn by_our_clock(&self, theirs: UnixMillis) -> Option<UnixMillis> {
        let ahead = self.provider_ahead_millis?;
        Some(UnixMillis(theirs.0.saturating_sub(ahead)))
    }
}

/// A count as a number of members; more than 4 billion don't exist.
pub fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}
