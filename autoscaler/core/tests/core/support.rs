//! Pools, members and samples for tests, with as few words as possible.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr};

use serde::de::DeserializeOwned;
use tidepool_autoscaler_core::decide::{Control, decide};
use tidepool_autoscaler_core::memory::{MemberMemory, Memory};
use tidepool_autoscaler_core::observe::{
    Member, MemberId, MemberName, Observation, PoolName, Power, Readiness, Sample, SignalReading, UnixMillis,
};
use tidepool_autoscaler_core::outcome::Decision;
use tidepool_autoscaler_core::outcome::Plan;
use tidepool_autoscaler_core::plan::plan;
use tidepool_autoscaler_core::recipe::Recipe;
use tidepool_autoscaler_core::spec::{
    Across, Lifetimes, Pace, Policy, PoolSpec, RepairLimit, SignalSettings, StepLimits, TargetPolicy,
};

/// The time of most tests, seconds.
pub(crate) const NOW: i64 = 100_000;

pub(crate) fn at(secs: i64) -> UnixMillis {
    UnixMillis(secs * 1000)
}

pub(crate) fn name(text: &str) -> MemberName {
    MemberName(text.to_owned())
}

pub(crate) fn target(name: &str, target: f64) -> TargetPolicy {
    TargetPolicy {
        name: name.to_owned(),
        signal: name.to_owned(),
        target,
        tolerance: 0.1,
    }
}

pub(crate) fn signal(name: &str) -> SignalSettings {
    SignalSettings {
        name: name.to_owned(),
        across: Across::Avg,
        window_secs: 60,
        fresh_secs: 120,
    }
}

/// Follows these signals, each to its target.
pub(crate) fn following(targets: &[(&str, f64)], spec: PoolSpec) -> PoolSpec {
    PoolSpec {
        signals: targets.iter().map(|(name, _)| signal(name)).collect(),
        policies: targets
            .iter()
            .map(|(name, value)| Policy::Target(target(name, *value)))
            .collect(),
        ..spec
    }
}

/// 2 to 10 members that follow `cpu` to 0.5.
pub(crate) fn spec() -> PoolSpec {
    PoolSpec {
        name: PoolName("api".to_owned()),
        min: 2,
        max: 10,
        recipe: Recipe {
            image: "new".into(),
            ..Recipe::default()
        },
        tick_secs: 15,
        signals: vec![signal("cpu")],
        policies: vec![Policy::Target(target("cpu", 0.5))],
        out_window_secs: 0,
        in_window_secs: 300,
        limits: StepLimits {
            out_max: 4,
            out_period_secs: 60,
            in_max: 2,
            in_period_secs: 60,
        },
        life: Lifetimes {
            warm_up_secs: 60,
            boot_timeout_secs: 200,
            unready_secs: 45,
            create_settle_secs: 50,
            withdraw_settle_secs: 10,
            drain_secs: 120,
            shutdown_secs: 30,
        },
        repair: RepairLimit {
            max: 3,
            window_secs: 600,
        },
        pace: Pace::default(),
        rollout: None,
    }
}

/// A member that has served and been ready for long.
pub(crate) fn member(n: u32) -> Member {
    Member {
        id: MemberId(n.to_string()),
        name: name(&format!("api-{n}")),
        created_at: at(i64::from(n)),
        power: Power::Running,
        serving: true,
        draining: false,
        readiness: Readiness::Ready,
        address: Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, u8::try_from(n).unwrap_or(0)))),
        image: "new".into(),
        size: None,
        generation: None,
    }
}

/// A member that boots since a moment.
pub(crate) fn booting(n: u32) -> Member {
    Member {
        serving: false,
        readiness: Readiness::NotReady,
        created_at: at(NOW - 20),
        ..member(n)
    }
}

pub(crate) fn draining(n: u32) -> Member {
    Member {
        draining: true,
        serving: false,
        readiness: Readiness::NotReady,
        ..member(n)
    }
}

pub(crate) fn members(count: u32) -> Vec<Member> {
    (1..=count).map(member).collect()
}

/// A reading with a fresh value for each of these.
pub(crate) fn reading(values: &[(u32, f64)]) -> SignalReading {
    let sample = |(n, value): &(u32, f64)| Sample {
        host: name(&format!("api-{n}")),
        value: *value,
        at: at(NOW - 5),
    };
    SignalReading::Read(values.iter().map(sample).collect::<Vec<_>>().into())
}

pub(crate) fn seen(members: Vec<Member>, signals: &[(&str, SignalReading)]) -> Observation {
    Observation {
        at: at(NOW),
        members,
        unseen: 0,
        may_go_on: false,
        provider_ahead_millis: Some(0),
        missing: BTreeSet::new(),
        drained: BTreeSet::new(),
        signals: signals
            .iter()
            .map(|(name, reading)| ((*name).to_owned(), reading.clone()))
            .collect::<BTreeMap<_, _>>(),
    }
}

/// `count` serving members that all have this CPU.
pub(crate) fn cpu(count: u32, value: f64) -> Observation {
    let values: Vec<(u32, f64)> = (1..=count).map(|n| (n, value)).collect();
    seen(members(count), &[("cpu", reading(&values))])
}

/// A memory that has watched for long enough to shrink.
pub(crate) fn watched() -> Memory {
    Memory {
        since: Some(at(NOW - 1000)),
        last_tick: Some(at(NOW - 10)),
        ..Memory::default()
    }
}

pub(crate) fn decided(spec: &PoolSpec, seen: &Observation, memory: &Memory) -> Decision {
    decide(spec, seen, &memory.observe(spec, seen), Control::Auto)
}

pub(crate) fn planned(spec: &PoolSpec, seen: &Observation, memory: &Memory) -> Plan {
    let memory = memory.observe(spec, seen);
    let decision = decide(spec, seen, &memory, Control::Auto);
    plan(spec, seen, &memory, &decision)
}

/// What is remembered of one member.
pub(crate) fn of_member(n: u32, memory: MemberMemory) -> Memory {
    Memory {
        members: BTreeMap::from([(MemberId(n.to_string()), memory)]),
        ..watched()
    }
}

/// A member that the provider calls off.
pub(crate) fn off(n: u32) -> Member {
    Member {
        power: Power::Off,
        readiness: Readiness::NotReady,
        ..member(n)
    }
}

/// What is remembered of a member that the provider has had this power of for so long.
pub(crate) fn powered(power: Power, secs: i64) -> MemberMemory {
    MemberMemory {
        power: Some(power),
        power_since: Some(at(NOW - secs)),
        ..MemberMemory::default()
    }
}

/// What is remembered of a member that has been booting for so long.
pub(crate) fn booting_for(secs: i64) -> MemberMemory {
    MemberMemory {
        known_since: Some(at(NOW - secs)),
        booting: true,
        is_new: true,
        ..MemberMemory::default()
    }
}

/// The same memory, with this known of these members.
pub(crate) fn knowing(memory: Memory, ns: &[u32], known: MemberMemory) -> Memory {
    let mut memory = memory;
    let ids = ns.iter().map(|n| MemberId(n.to_string()));
    memory.members.extend(ids.map(|id| (id, known)));
    memory
}

/// Steps as `create api-3`.
pub(crate) fn steps_of(plan: &Plan) -> Vec<String> {
    plan.steps
        .iter()
        .map(|step| format!("{} {}", step.kind().name(), step.name()))
        .collect()
}

/// Every kind that there is, as the refusal of an unknown one lists them.
pub(crate) fn kinds_of<T: DeserializeOwned + Debug>() -> BTreeSet<String> {
    let refusal = serde_json::from_str::<T>(r#"{"kind":"?"}"#)
        .unwrap_err()
        .to_string();
    // `unknown variant `?`, expected one of `a`, `b``: every second part stands in backquotes.
    let quoted = refusal.split('`').skip(1).step_by(2);
    quoted.filter(|name| *name != "?").map(str::to_owned).collect()
}
