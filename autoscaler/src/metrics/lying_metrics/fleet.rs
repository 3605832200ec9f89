//! A fleet with steady loads, the lies that may be told of it, and what a policy makes of a reading.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use proptest::prelude::*;
use tidepool_autoscaler_core::decide::{Control, decide};
use tidepool_autoscaler_core::memory::Memory;
use tidepool_autoscaler_core::observe::{
    Member, MemberId, MemberName, Observation, Power, Readiness, Sample, SignalReading, UnixMillis,
};

use crate::config::{self, PoolConfig, Purpose, Surroundings};
use crate::metrics::presets::SourceKind;
use crate::metrics::{Host, SignalQuery};

/// The time of the reading.
pub(super) const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
/// Readings of a series within its window of a minute, and the time between two.
pub(super) const ROUNDS: usize = 7;
pub(super) const STEP_MS: i64 = 9_500;
/// A series' readings that may be lost while others of its host arrive.
pub(super) const LOST_MAX: usize = 2;

/// What a host should have; a CPU three times as busy is still within its range.
const CPU_TARGET: f64 = 0.301;
const QUEUE_TARGET: f64 = 60.1;
const REQUESTS_TARGET: f64 = 25.3;

/// Loads that are tried for a fleet of which a little less load is to want one member fewer.
const BUSY_TRIES: u64 = 24;
/// A load nearer to such an edge than this is on either side of it, by rounding.
const EDGE_MIN: f64 = 0.002;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A ratio of each host.
    Cpu,
    /// A gauge with labels.
    Queue,
    /// A counter with labels.
    Requests,
}

/// Hosts with a steady load each.
#[derive(Debug, Clone)]
pub(super) struct Fleet {
    pub(super) kind: Kind,
    pub(super) hosts: usize,
    pub(super) series: usize,
    /// Whether documents have the droplet's id.
    pub(super) has_ids: bool,
    /// How much of the target the hosts carry at most.
    busy: f64,
    dice: Dice,
}

/// Where a lie is told, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lie {
    pub(super) what: What,
    pub(super) host: usize,
    pub(super) series: usize,
    pub(super) round: usize,
    pub(super) amount: u8,
}

impl Lie {
    /// How many readings in a row are lost.
    pub(super) fn lost(&self) -> usize {
        1 + usize::from(self.amount) % LOST_MAX
    }
}

/// The lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// One reading is lost, or two in a row.
    Drop,
    /// A whole host is silent, or its newest rounds are.
    Silence,
    /// One reading is delivered twice or more.
    Duplicate,
    /// Everything arrives in another order.
    Reorder,
    NotANumber,
    Infinite,
    Text,
    /// From one reading on, a series has no numbers any more.
    Broken,
    Negative,
    Hundredfold,
    /// A reading is another host's.
    WrongHost,
    /// A series of long ago is still there.
    Ended,
    /// The host's clock is wrong.
    Skew,
    /// A reading says of itself that it is old, or yet to come.
    OldTime,
    /// A part of the answer is missing, and the answer says so in numbers alone.
    MissingShards,
    /// The host has fallen silent, and another machine writes in its name.
    Impostor,
    /// A reading is what a counter below zero shows, or another number that no machine counts to.
    Spike,
    /// A second worker answers some of the time.
    Workers,
    /// A reading is over its range by a little.
    SlightlyOver,
}

/// What a spike is; gauges have the first two.
pub(super) const SPIKES: [f64; 4] = [
    18_446_744_073_709_551_615.0,
    9_223_372_036_854_775_807.0,
    4_294_967_295.0,
    1e18,
];

pub(super) const WHATS: [What; 19] = [
    What::Drop,
    What::Silence,
    What::Duplicate,
    What::Reorder,
    What::NotANumber,
    What::Infinite,
    What::Text,
    What::Broken,
    What::Negative,
    What::Hundredfold,
    What::WrongHost,
    What::Ended,
    What::Skew,
    What::OldTime,
    What::MissingShards,
    What::Impostor,
    What::Spike,
    What::Workers,
    What::SlightlyOver,
];

/// One to six lies; most often one or two, since each is a chance that the signal can't be trusted at all.
pub(super) fn lies() -> impl Strategy<Value = Vec<Lie>> {
    let lie = (0..WHATS.len(), 0..3_usize, 0..2_usize, 0..ROUNDS, any::<u8>());
    let lie = lie.prop_map(|(what, host, series, round, amount)| Lie {
        what: WHATS[what],
        host,
        series,
        round,
        amount,
    });
    (1..=6_usize, 1..=6_usize)
        .prop_flat_map(move |(one, other)| proptest::collection::vec(lie.clone(), one.min(other)))
}

/// Numbers from a seed (splitmix64).
#[derive(Debug, Clone, Copy)]
struct Dice(u64);

impl Dice {
    /// A number below 1 that belongs to `place`.
    fn share(self, place: u64) -> f64 {
        let mut bits = self
            .0
            .wrapping_add(place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Fleet {
    pub(super) fn new(seed: u64) -> Fleet {
        let dice = Dice(seed);
        let kind = match seed % 3 {
            0 => Kind::Cpu,
            1 => Kind::Queue,
            _ => Kind::Requests,
        };
        let mut fleet = Fleet {
            kind,
            hosts: 3,
            series: if kind == Kind::Cpu { 1 } else { 2 },
            has_ids: dice.share(0) < 0.5,
            // Far below 2 the pool shrinks, far above it grows.
            busy: 0.4 + 2.9 * dice.share(1),
            dice,
        };
        if dice.share(2) < 0.75 {
            let tries = (0..BUSY_TRIES).map(|n| 0.4 + 2.9 * dice.share(1_000 + n));
            let with = |busy| Fleet {
                busy,
                ..fleet.clone()
            };
            let fleets = tries.map(with).filter_map(|one| Some((one.edge()?, one)));
            let nearest = fleets.min_by(|(a, _), (b, _)| a.total_cmp(b));
            fleet = nearest.map_or(fleet.clone(), |(_, nearest)| nearest);
        }
        fleet
    }

    /// By how much of one host's load the fleet is over what fewer members could carry, where losing that would show: it
    /// wants more than the least, and no more than there are.
    fn edge(&self) -> Option<f64> {
        let target = match self.kind {
            Kind::Cpu => CPU_TARGET,
            Kind::Queue => QUEUE_TARGET,
            Kind::Requests => REQUESTS_TARGET,
        };
        let all = (0..self.hosts).flat_map(|host| (0..self.series).map(move |series| (host, series)));
        let load = all.map(|(host, series)| self.level(host, series)).sum::<f64>() / target;
        let shows = 1.0 < load && load < self.hosts as f64 && load.fract() > EDGE_MIN;
        shows.then_some(load.fract())
    }

    /// The pool's size.
    pub(super) fn size(&self) -> u32 {
        u32::try_from(self.hosts).unwrap()
    }

    /// A host's name.
    pub(super) fn name(host: usize) -> String {
        format!("web-{host}")
    }

    /// What a series comes to, by the signal's own measure: a level, or a growth each second.
    fn level(&self, host: usize, series: usize) -> f64 {
        let load = self.busy * self.dice.share(16 + 16 * host as u64 + series as u64);
        match self.kind {
            Kind::Cpu => CPU_TARGET * load,
            Kind::Queue => (QUEUE_TARGET * load / 2.0).floor(),
            Kind::Requests => REQUESTS_TARGET * load / 2.0,
        }
    }

    /// The reading of a series in a round, 0 being the oldest: a steady level, or a steady growth.
    pub(super) fn value(&self, host: usize, series: usize, round: usize) -> f64 {
        let level = self.level(host, series);
        match self.kind {
            Kind::Cpu | Kind::Queue => level,
            // Counters of two hosts are far apart, and none is younger than the window.
            Kind::Requests => {
                let growth = level * STEP_MS as f64 / 1000.0;
                100_000.0 * 4_f64.powi(i32::try_from(host).unwrap()) + growth * round as f64
            }
        }
    }

    /// What a second worker of the host has counted, far from the first one's.
    pub(super) fn other_worker(&self, host: usize, series: usize, round: usize) -> Option<f64> {
        let first = self.value(host, series, 0);
        (self.kind == Kind::Requests).then(|| self.value(host, series, round) - 0.6 * first)
    }

    /// Those of the lies that can be known for such: of a counter the first one that climbs alone.
    pub(super) fn knowable(&self, lies: &[Lie]) -> Vec<Lie> {
        let climbs = |what| {
            self.kind == Kind::Requests
                && matches!(
                    what,
                    What::WrongHost | What::Hundredfold | What::Spike | What::Workers
                )
        };
        let mut climbed = false;
        let told = lies.iter().copied();
        told.filter(|lie| !climbs(lie.what) || !std::mem::replace(&mut climbed, true))
            .collect()
    }

    /// The most that the policy may want, whatever of these lies is true: as many as if every host were as busy as the
    /// busiest one is, or as it may be by a lie that could be the truth. A ratio can be anything up to its bound, a
    /// gauge a hundredfold; a counter never grows faster for a lie.
    pub(super) fn most(&self, lies: &[Lie]) -> u32 {
        let told = |whats: &[What]| lies.iter().any(|lie| whats.contains(&lie.what));
        let healthy = if told(&[What::WrongHost]) {
            // One series of it may be another host's.
            let busiest = |series| (0..self.hosts).map(move |host| self.level(host, series));
            (0..self.series)
                .map(|series| busiest(series).fold(0.0, f64::max))
                .sum()
        } else {
            (0..self.hosts).map(|host| self.load(host)).fold(0.0, f64::max)
        };
        let most = match self.kind {
            Kind::Cpu if told(&[What::Hundredfold, What::SlightlyOver]) => 1.0,
            // One value can be a hundredfold twice.
            Kind::Queue if told(&[What::Hundredfold]) => {
                let times = lies.iter().filter(|lie| lie.what == What::Hundredfold).count();
                100_f64.powi(i32::try_from(times).unwrap()) * healthy
            }
            Kind::Cpu | Kind::Queue | Kind::Requests => healthy,
        };
        // Values that were divided may differ in their last digits.
        let value = most * 1.000_001 + if told(&[What::Ended]) { 255.0 } else { 0.0 };
        let samples = (0..self.hosts).map(|host| Sample {
            host: MemberName(Self::name(host)),
            value,
            at: NOW,
        });
        self.wanted(SignalReading::Read(samples.collect::<Vec<_>>().into()))
    }

    /// A host's value.
    fn load(&self, host: usize) -> f64 {
        (0..self.series).map(|series| self.level(host, series)).sum()
    }

    /// The query of the fleet's signal.
    pub(super) fn query(&self, source: SourceKind) -> SignalQuery {
        let pool = settings(self.kind, source);
        let signal = &pool.signals[0];
        let hosts = (0..self.hosts).map(|host| {
            let known = Host {
                id: MemberId(format!("{}", 100 + host)),
                address: None,
            };
            (MemberName(Self::name(host)), known)
        });
        SignalQuery {
            pool: pool.spec.name.clone(),
            signal: "signal".to_owned(),
            hosts: hosts.collect(),
            what: signal.what.clone(),
            window_secs: signal.window_secs,
            fresh_secs: signal.fresh_secs,
        }
    }

    /// How many members the policy wants by a reading.
    pub(super) fn wanted(&self, reading: SignalReading) -> u32 {
        let pool = settings(self.kind, SourceKind::Scrape);
        let member = |host: usize| Member {
            id: MemberId(format!("{}", 100 + host)),
            name: MemberName(Self::name(host)),
            created_at: UnixMillis(NOW.0 - 10_000_000),
            power: Power::Running,
            serving: true,
            draining: false,
            readiness: Readiness::Ready,
            address: None,
            image: "api".into(),
            size: None,
            generation: None,
        };
        let signal = pool.signals[0].name.clone();
        let seen = Observation {
            at: NOW,
            members: (0..self.hosts).map(member).collect(),
            unseen: 0,
            may_go_on: false,
            provider_ahead_millis: Some(0),
            missing: BTreeSet::new(),
            drained: BTreeSet::new(),
            signals: BTreeMap::from([(signal, reading)]),
        };
        let memory = Memory::default().observe(&pool.spec, &seen);
        decide(&pool.spec, &seen, &memory, Control::Auto).recommended
    }

    /// The property.
    pub(super) fn judge(&self, healthy: u32, corrupted: SignalReading, lies: &[Lie]) {
        let wanted = self.wanted(corrupted.clone());
        let most = self.most(lies).max(self.size());
        assert!(
            wanted <= most,
            "{wanted}, over {most}: {lies:?} made {corrupted:#?}"
        );
        assert!(
            wanted >= healthy.min(self.size()),
            "{wanted} instead of {healthy}: {lies:?} made {corrupted:#?}"
        );
    }
}

/// A pool with one policy on the fleet's signal. Each is read once: a configuration makes an HTTP client.
fn settings(kind: Kind, source: SourceKind) -> Arc<PoolConfig> {
    static POOLS: Mutex<BTreeMap<(SourceKind, Kind), Arc<PoolConfig>>> = Mutex::new(BTreeMap::new());
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    let pool = pools
        .entry((source, kind))
        .or_insert_with(|| Arc::new(parsed(kind, source)));
    Arc::clone(pool)
}

fn parsed(kind: Kind, source: SourceKind) -> PoolConfig {
    // A source that has no preset for it reads a field of its own, within 0 and 1.
    let (cpu, field, server) = match source {
        SourceKind::Scrape => ("preset = \"cpu\"", "queue_depth", ""),
        SourceKind::Elasticsearch => (
            "preset = \"cpu\"",
            "prometheus.metrics.queue_depth",
            "elasticsearch.url = \"http://test:9200\"",
        ),
    };
    let metrics = source.name();
    let (signal, target) = match kind {
        Kind::Cpu => (cpu.to_owned(), CPU_TARGET),
        Kind::Queue => (
            format!("field = \"{field}\"\nper_host = \"last\"\nacross = \"sum\"\nrange = [0.0, inf]"),
            QUEUE_TARGET,
        ),
        Kind::Requests => (
            format!("field = \"{field}\"\nper_host = \"rate\""),
            REQUESTS_TARGET,
        ),
    };
    let text = format!(
        "state_dir = \"state\"\nmetrics = \"{metrics}\"\n{server}\ndigitalocean.token_env = \"TOKEN\"\n\
         [[pool]]\nname = \"web\"\nmin = 1\nmax = 30\n\
         digitalocean = {{ region = \"fra1\", size = \"s-1vcpu-1gb\", image = \"api\" }}\n\
         life.warm_up_secs = 0\n[[pool.policy]]\n{signal}\ntarget = {target:?}\ntolerance = 0.0\n"
    );
    let around = Surroundings {
        env: &|_| Some("token".to_owned()),
        read_file: &|_| Err(io::ErrorKind::NotFound.into()),
        base: Path::new("/"),
    };
    config::parse(&text, &around, Purpose::Act)
        .unwrap()
        .pools
        .remove(0)
}
