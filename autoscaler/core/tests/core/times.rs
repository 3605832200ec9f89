//! Settings and times that must fit each other: windows and ticks, values of the past, slow boots; and what older versions
//! saved.

use tidepool_autoscaler_core::decide::{Control, decide};
use tidepool_autoscaler_core::memory::{
    BOOT_TIMEOUT_FACTOR_MAX, BOOT_TIMEOUT_SECS_MAX, MemberMemory, Memory, Stay,
};
use tidepool_autoscaler_core::observe::{Member, Observation, Readiness, UnixMillis};
use tidepool_autoscaler_core::outcome::{Decision, Reason, Working};
use tidepool_autoscaler_core::plan::plan;
use tidepool_autoscaler_core::spec::{Across, Lifetimes, Policy, PoolSpec, SignalSettings};

use crate::support::{
    NOW, at, booting, booting_for, cpu, decided, following, knowing, member, members, name, off, reading,
    seen, signal, spec, target, watched,
};

/// One tick at `secs`, taken into the memory.
fn tick(spec: &PoolSpec, memory: &mut Memory, secs: i64, seen: &Observation) -> Decision {
    let shift = at(secs).0 - seen.at.0;
    let mut seen = Observation {
        at: at(secs),
        ..seen.clone()
    };
    for reading in seen.signals.values_mut() {
        if let tidepool_autoscaler_core::observe::SignalReading::Read(reading) = reading {
            reading
                .samples
                .iter_mut()
                .for_each(|s| s.at = UnixMillis(s.at.0 + shift));
        }
    }
    let observed = memory.observe(spec, &seen);
    let decision = decide(spec, &seen, &observed, Control::Auto);
    let plan = plan(spec, &seen, &observed, &decision);
    *memory = observed;
    memory.intend(spec, &decision, &plan);
    decision
}

#[test]
fn a_window_shorter_than_a_tick_is_not_a_gap() {
    for in_window_secs in [0, 1, 10, 15, 16, 45] {
        let spec = PoolSpec {
            in_window_secs,
            ..spec()
        };
        let mut memory = Memory::default();
        let mut last = None;
        for n in 0..8 {
            last = Some(tick(&spec, &mut memory, NOW + n * 15, &cpu(6, 0.1)));
        }
        let last = last.unwrap();
        assert_eq!(memory.since, Some(at(NOW)), "{in_window_secs}");
        assert!(
            last.desired < 6 && !matches!(last.reasons.last(), Some(Reason::NotWatched { .. })),
            "{in_window_secs}: {}",
            last.reason()
        );
        // What the pool is meant to have outlives the tick, too.
        assert!(memory.size.is_some());
        let blind = seen(members(3), &[]);
        assert!(
            tick(&spec, &mut memory, NOW + 8 * 15, &blind).kept >= 4,
            "{in_window_secs}"
        );
    }
}

#[test]
fn several_missed_ticks_are_a_gap_and_two_late_ones_are_not() {
    let mut memory = Memory::default();
    let spec = PoolSpec {
        in_window_secs: 1,
        ..spec()
    };
    tick(&spec, &mut memory, NOW, &cpu(4, 0.5));
    tick(&spec, &mut memory, NOW + 44, &cpu(4, 0.5));
    assert_eq!(memory.since, Some(at(NOW)));
    tick(&spec, &mut memory, NOW + 44 + 45, &cpu(4, 0.5));
    assert_eq!(memory.since, Some(at(NOW + 44 + 45)));
}

/// The hosts that a formula multiplies by.
fn hosts_of(decision: &Decision) -> f64 {
    let Working::Load { hosts, .. } = decision.proposals.first().unwrap().working else {
        panic!("{}", decision.reason());
    };
    hosts
}

fn serving_since(n: u32, since: i64) -> (tidepool_autoscaler_core::observe::MemberId, MemberMemory) {
    let known = MemberMemory {
        serving_since: Some(at(since)),
        ..MemberMemory::default()
    };
    (member(n).id, known)
}

#[test]
fn a_load_is_spread_over_the_hosts_that_served_when_it_was_measured() {
    // Four of eight hosts began to serve ten seconds ago; the values are five seconds old and about a minute.
    let values = [(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.5)];
    let grown = seen(members(8), &[("cpu", reading(&values))]);
    let mut memory = watched();
    memory.members.extend((5..=8).map(|n| serving_since(n, NOW - 10)));
    let decision = decided(&spec(), &grown, &memory);
    let hosts = hosts_of(&decision);
    assert!((hosts - (4.0 + 4.0 * 5.0 / 60.0)).abs() < 1e-9, "{hosts}");
    assert_eq!(decision.recommended, 5, "{}", decision.reason());
    // As long as they have no value, and served all the time, they are as loaded as the others.
    let mut memory = watched();
    memory.members.extend((5..=8).map(|n| serving_since(n, NOW - 59)));
    assert!(hosts_of(&decided(&spec(), &grown, &memory)) > 7.0);
}

#[test]
fn hosts_that_left_since_carried_their_part_of_the_load() {
    let values: Vec<(u32, f64)> = (1..=4).map(|n| (n, 0.24)).collect();
    let shrunk = seen(members(4), &[("cpu", reading(&values))]);
    // Four hosts at 0.24 need two; but eight served when it was measured, and these need four.
    let alone = decided(&spec(), &shrunk, &watched());
    assert_eq!(alone.recommended, 2);
    let left = Stay {
        since: at(NOW - 900),
        until: at(NOW - 4),
    };
    let memory = Memory {
        stays: vec![left; 4],
        ..watched()
    };
    let decision = decided(&spec(), &shrunk, &memory);
    assert_eq!((hosts_of(&decision), decision.recommended), (8.0, 4));
    // Gone before it was measured, they carried nothing of it.
    let long_gone = Stay {
        until: at(NOW - 65),
        ..left
    };
    let memory = Memory {
        stays: vec![long_gone; 4],
        ..watched()
    };
    assert_eq!(decided(&spec(), &shrunk, &memory).recommended, 2);
}

#[test]
fn the_end_of_a_stay_is_remembered_whatever_ended_it() {
    let mut memory = Memory::default();
    tick(&spec(), &mut memory, NOW, &cpu(4, 0.5));
    assert!(memory.stays.is_empty());
    let withdrawn = Member {
        serving: false,
        draining: true,
        ..member(4)
    };
    let mut some = members(2);
    some.push(withdrawn);
    let next = seen(some, &[]);
    tick(&spec(), &mut memory, NOW + 15, &next);
    let until: Vec<UnixMillis> = memory.stays.iter().map(|s| s.until).collect();
    assert_eq!(until, [at(NOW + 15); 2]);
    tick(&spec(), &mut memory, NOW + 30, &next);
    assert_eq!(memory.stays.len(), 2);
}

/// A pool of 2 whose third member boots, since it was made at `NOW`.
fn with_one_that_boots(secs: i64, readiness: Readiness) -> Observation {
    let mut all = members(2);
    all.push(Member {
        created_at: at(NOW),
        readiness,
        ..booting(3)
    });
    Observation {
        at: at(NOW + secs),
        ..seen(all, &[])
    }
}

#[test]
fn a_boot_that_was_given_up_gives_the_next_one_twice_the_time() {
    let mut memory = Memory::default();
    tick(
        &spec(),
        &mut memory,
        NOW,
        &with_one_that_boots(0, Readiness::NotReady),
    );
    assert_eq!(memory.boot_timeout_secs(&spec()), 200);
    let decision = tick(
        &spec(),
        &mut memory,
        NOW + 200,
        &with_one_that_boots(200, Readiness::NotReady),
    );
    assert_eq!(decision.actual, 2);
    assert_eq!((memory.slow_boots, memory.boot_timeout_secs(&spec())), (1, 400));
    // The same member is counted once, though its removal takes a tick more.
    tick(
        &spec(),
        &mut memory,
        NOW + 400,
        &with_one_that_boots(400, Readiness::NotReady),
    );
    assert_eq!(memory.slow_boots, 1);
    let slow = tick(
        &spec(),
        &mut memory,
        NOW + 410,
        &with_one_that_boots(0, Readiness::NotReady),
    );
    assert!(
        slow.reasons.contains(&Reason::SlowBoots { times: 1, secs: 400 }),
        "{}",
        slow.reason()
    );
}

#[test]
fn the_time_for_a_boot_has_a_bound_and_follows_what_boots_take() {
    let timeout = |slow_boots, boot_secs, boot_timeout_secs| {
        let spec = PoolSpec {
            life: Lifetimes {
                boot_timeout_secs,
                ..spec().life
            },
            ..spec()
        };
        let memory = Memory {
            slow_boots,
            boot_secs,
            ..Memory::default()
        };
        memory.boot_timeout_secs(&spec)
    };
    assert_eq!(timeout(0, 0, 200), 200);
    assert_eq!(timeout(0, 100, 200), 200);
    assert_eq!(timeout(0, 190, 200), 285);
    assert_eq!(timeout(2, 0, 200), 800);
    assert_eq!(timeout(60, 0, 200), 200 * BOOT_TIMEOUT_FACTOR_MAX);
    assert_eq!(timeout(0, u32::MAX, 200), 200 * BOOT_TIMEOUT_FACTOR_MAX);
    assert_eq!(timeout(60, 0, 1200), BOOT_TIMEOUT_SECS_MAX);
    assert_eq!(timeout(0, 0, 3600), 3600);

    // A boot that came to its end ends the row, and is remembered by and by less. It is timed by our own clock.
    let mut memory = Memory {
        slow_boots: 1,
        ..Memory::default()
    };
    tick(
        &spec(),
        &mut memory,
        NOW,
        &with_one_that_boots(-3600, Readiness::NotReady),
    );
    tick(
        &spec(),
        &mut memory,
        NOW + 385,
        &with_one_that_boots(385, Readiness::NotReady),
    );
    assert_eq!(memory.slow_boots, 1);
    tick(
        &spec(),
        &mut memory,
        NOW + 390,
        &with_one_that_boots(390, Readiness::Ready),
    );
    assert_eq!((memory.slow_boots, memory.boot_secs), (0, 390));
    assert_eq!(memory.boot_timeout_secs(&spec()), 585);
    tick(
        &spec(),
        &mut memory,
        NOW + 395,
        &with_one_that_boots(395, Readiness::Ready),
    );
    assert_eq!(memory.boot_secs, 390);
}

#[test]
fn a_member_without_power_is_not_a_slow_boot() {
    let mut all = members(2);
    all.push(Member {
        serving: false,
        ..off(3)
    });
    let mut memory = knowing(Memory::default(), &[3], booting_for(1000));
    tick(&spec(), &mut memory, NOW, &seen(all.clone(), &[]));
    tick(&spec(), &mut memory, NOW + 44, &seen(all.clone(), &[]));
    assert_eq!((memory.slow_boots, memory.repairs.len()), (0, 0));
    tick(&spec(), &mut memory, NOW + 45, &seen(all, &[]));
    assert_eq!((memory.slow_boots, memory.repairs.len()), (0, 1));
}

/// Whatever the provider's clock says: it may be hours from ours.
#[test]
fn a_boot_is_timed_by_our_own_clock() {
    for skew_secs in [-86_400, -3600, -360, 0, 360, 3600, 86_400] {
        let made = |readiness| Member {
            created_at: at(NOW + skew_secs),
            readiness,
            ..booting(3)
        };
        let with = |readiness| {
            let mut all = members(2);
            all.push(made(readiness));
            seen(all, &[])
        };
        let mut memory = watched();
        memory.create_acknowledged(&name("api-3"), &member(3).id, at(NOW - 30));
        let mut next = memory.clone();
        tick(&spec(), &mut next, NOW, &with(Readiness::NotReady));
        tick(&spec(), &mut next, NOW + 169, &with(Readiness::NotReady));
        assert_eq!(next.repairs.len(), 0, "{skew_secs}");
        let mut late = next.clone();
        tick(&spec(), &mut late, NOW + 170, &with(Readiness::NotReady));
        assert_eq!((late.repairs.len(), late.slow_boots), (1, 1), "{skew_secs}");
        tick(&spec(), &mut next, NOW + 170, &with(Readiness::Ready));
        assert_eq!((next.repairs.len(), next.boot_secs), (0, 200), "{skew_secs}");
    }
}

#[test]
fn two_policies_go_by_one_signal() {
    let mut both = following(&[("cpu", 0.5)], spec());
    both.policies
        .push(Policy::Target(tidepool_autoscaler_core::spec::TargetPolicy {
            name: "cpu-high".to_owned(),
            ..target("cpu", 0.25)
        }));
    let decision = decided(&both, &cpu(4, 0.5), &watched());
    assert_eq!(decision.recommended, 8, "{}", decision.reason());
    let names: Vec<&str> = decision
        .proposals
        .iter()
        .map(|p| p.basis.as_ref().unwrap().signal_name.as_str())
        .collect();
    assert_eq!(names, ["cpu", "cpu"]);
}

/// As version 0.1.0 wrote it.
const OLD_SPEC: &str = r#"{"name":"api","min":2,"max":10,"image":"new",
    "policies":[{"name":"requests","target":200.0,"tolerance":0.1,"across":"sum","fresh_secs":90}],
    "out_window_secs":0,"in_window_secs":300,
    "limits":{"out_max":4,"out_period_secs":60,"in_max":1,"in_period_secs":60},
    "life":{"warm_up_secs":60,"boot_timeout_secs":300,"unready_secs":60,"create_settle_secs":60,"withdraw_settle_secs":10,
            "drain_secs":120,"shutdown_secs":30},
    "repair":{"max":5,"window_secs":600}}"#;

/// As version 0.1.0 wrote it.
const OLD_MEMORY: &str = r#"{"since":99000000,"last_tick":99990000,"size":4,"recommendations":[{"at":99990000,"size":4}],
    "resizes":[{"at":99900000,"created":1,"removed":0}],
    "members":{"1":{"serving_since":99000000,"unready_since":null,"withdrawn_since":null,"drain_since":null,
                    "shutdown_since":null}},
    "pending_creates":{"api-5":99990000},"retry_names":["api-6"],"repairs":{"9":99900000},"ordinal_max":6,
    "create_blocked_until":null}"#;

#[test]
fn settings_and_memory_of_an_older_version_can_be_read() {
    let old: PoolSpec = serde_json::from_str(OLD_SPEC).unwrap();
    assert_eq!(
        old.signals,
        [SignalSettings {
            name: "requests".to_owned(),
            across: Across::Sum,
            fresh_secs: 90,
            ..signal("requests")
        }]
    );
    assert_eq!(old.policies, [Policy::Target(target("requests", 200.0))]);
    let again: PoolSpec = serde_json::from_str(&serde_json::to_string(&old).unwrap()).unwrap();
    assert_eq!(again, old);

    let memory: Memory = serde_json::from_str(OLD_MEMORY).unwrap();
    assert_eq!(
        (memory.size, memory.ordinal_max, memory.slow_boots),
        (Some(4), 6, 0)
    );
    assert_eq!(memory.members.len(), 1);
    let again: Memory = serde_json::from_str(&serde_json::to_string(&memory).unwrap()).unwrap();
    assert_eq!(again, memory);
    assert_eq!(serde_json::from_str::<Memory>("{}").unwrap(), Memory::default());
}

/// How long a member that serves when it is first seen has done so: since it was made, by the clock of whoever says when.
#[test]
fn how_long_a_member_served_that_was_just_found_is_judged_by_the_providers_clock() {
    for (ahead_secs, made, since) in [
        (Some(0), NOW - 500, NOW - 500),
        (Some(3600), NOW - 500 + 3600, NOW - 500),
        (Some(-3600), NOW - 30 - 3600, NOW - 30),
        // Made a moment before the provider gave the time, which is in whole seconds.
        (Some(0), NOW + 1, NOW),
        // Nobody can say.
        (None, NOW - 500, NOW),
    ] {
        let mut found = seen(members(1), &[]);
        found.provider_ahead_millis = ahead_secs.map(|secs: i64| secs * 1000);
        found.members.iter_mut().for_each(|m| m.created_at = at(made));
        let memory = Memory::default().observe(&spec(), &found);
        let known = memory.members.get(&member(1).id).unwrap();
        assert_eq!(known.serving_since, Some(at(since)), "{ahead_secs:?} {made}");
    }
}
