//! What a pool should be.

use tidepool_autoscaler_core::decide::{Control, decide};
use tidepool_autoscaler_core::memory::{Memory, QUOTA_WAIT_SECS, Recommendation, Resize};
use tidepool_autoscaler_core::observe::{Member, Observation, Power, Readiness, SignalReading};
use tidepool_autoscaler_core::spec::{PoolSpec, StepLimits};

use crate::support::{
    NOW, at, booting, cpu, decided, draining, following, knowing, member, members, name, off, powered,
    reading, seen, spec, watched,
};

fn sizes(spec: &PoolSpec, seen: &Observation, memory: &Memory) -> (u32, u32, u32) {
    let decision = decided(spec, seen, memory);
    (decision.actual, decision.desired, decision.planned)
}

fn failed() -> SignalReading {
    SignalReading::Failed {
        reason: "no answer".to_owned(),
    }
}

#[test]
fn load_grows_a_pool_and_calm_shrinks_it() {
    assert_eq!(sizes(&spec(), &cpu(4, 0.7), &watched()), (4, 6, 6));
    assert_eq!(sizes(&spec(), &cpu(4, 0.5), &watched()), (4, 4, 4));
    assert_eq!(sizes(&spec(), &cpu(4, 0.3), &watched()), (4, 3, 3));
}

#[test]
fn reasons_say_what_and_why() {
    let grown = decided(&spec(), &cpu(4, 1.2), &watched());
    assert_eq!(
        grown.reason(),
        "grow from 4 to 10, by way of 8: cpu: ceil(4 hosts × mean 1.2000 / target 0.5) = 10; at most 4 more within 60 s"
    );
    let over = decided(&spec(), &cpu(8, 1.0), &watched());
    assert_eq!(
        over.reason(),
        "grow from 8 to 10: cpu: ceil(8 hosts × mean 1.0000 / target 0.5) = 16; 16 are over the maximum of 10"
    );
    let calm = decided(&spec(), &cpu(8, 0.1), &watched());
    assert_eq!(
        calm.reason(),
        "shrink from 8 to 2, by way of 6: cpu: ceil(8 hosts × mean 0.1000 / target 0.5) = 2; at most 2 fewer within 60 s"
    );
    let kept = decided(&spec(), &cpu(4, 0.5), &watched());
    assert_eq!(
        kept.reason(),
        "keep 4: cpu: ceil(4 hosts × mean 0.5000 / target 0.5) = 4"
    );
    let by_tick = StepLimits {
        out_max: 1,
        out_period_secs: 0,
        in_max: 1,
        in_period_secs: 0,
    };
    let limited = PoolSpec {
        limits: by_tick,
        ..spec()
    };
    assert!(
        decided(&limited, &cpu(4, 1.0), &watched())
            .reason()
            .ends_with("at most 1 more in a tick")
    );
    assert!(
        decided(&limited, &cpu(4, 0.1), &watched())
            .reason()
            .ends_with("at most 1 fewer in a tick")
    );
}

#[test]
fn out_if_any_policy_says_so_and_in_only_if_all_agree() {
    let spec = following(&[("cpu", 0.5), ("memory", 0.5)], spec());
    let all = |value| reading(&[(1, value), (2, value), (3, value), (4, value)]);
    // (cpu, memory) -> desired
    let table = [
        (all(0.7), all(0.1), 6),
        (all(0.1), all(0.7), 6),
        (all(0.7), all(0.9), 8),
        (all(0.7), failed(), 6),
        (all(0.1), all(0.5), 4),
        (all(0.1), all(0.3), 3),
        (all(0.1), failed(), 4),
        (failed(), all(0.1), 4),
        (all(0.1), reading(&[(1, 0.1), (2, 0.1)]), 4),
    ];
    for (n, (cpu, memory, desired)) in table.into_iter().enumerate() {
        let seen = seen(members(4), &[("cpu", cpu), ("memory", memory)]);
        assert_eq!(decided(&spec, &seen, &watched()).desired, desired, "row {n}");
    }
    let torn = seen(members(4), &[("cpu", all(0.1)), ("memory", failed())]);
    assert_eq!(
        decided(&spec, &torn, &watched()).reason(),
        "keep 4: memory is missing: no answer"
    );
}

#[test]
fn minimum_and_maximum_hold_without_any_metric() {
    let blind = |count| seen(members(count), &[("cpu", failed())]);
    assert_eq!(sizes(&spec(), &blind(0), &watched()), (0, 2, 2));
    assert_eq!(sizes(&spec(), &blind(1), &watched()), (1, 2, 2));
    assert_eq!(sizes(&spec(), &blind(2), &watched()), (2, 2, 2));
    assert_eq!(sizes(&spec(), &blind(10), &watched()), (10, 10, 10));
    assert_eq!(sizes(&spec(), &blind(13), &watched()), (13, 10, 11));
    let fixed = PoolSpec {
        policies: Vec::new(),
        min: 3,
        max: 3,
        ..spec()
    };
    let decision = decided(&fixed, &blind(2), &watched());
    assert_eq!((decision.desired, decision.planned), (3, 3));
    assert_eq!(
        decision.reason(),
        "grow from 2 to 3: no policy, so the bounds alone decide; 2 are under the minimum of 3"
    );
}

#[test]
fn a_pool_that_was_not_watched_for_a_window_does_not_shrink() {
    let calm = cpu(4, 0.1);
    for since in [None, Some(at(NOW - 299))] {
        let memory = Memory { since, ..watched() };
        let decision = decided(&spec(), &calm, &memory);
        assert_eq!((decision.recommended, decision.desired), (1, 4));
    }
    let memory = Memory {
        since: Some(at(NOW - 300)),
        ..watched()
    };
    assert_eq!(decided(&spec(), &calm, &memory).desired, 2);
    // It grows at once.
    assert_eq!(decided(&spec(), &cpu(4, 0.7), &Memory::default()).desired, 6);
}

#[test]
fn shrinking_goes_to_the_most_that_was_needed_within_the_window() {
    let memory = |secs, size| Memory {
        recommendations: vec![Recommendation {
            at: at(NOW - secs),
            size,
        }],
        ..watched()
    };
    assert_eq!(decided(&spec(), &cpu(4, 0.1), &memory(299, 3)).desired, 3);
    assert_eq!(decided(&spec(), &cpu(4, 0.1), &memory(300, 3)).desired, 2);
    assert_eq!(decided(&spec(), &cpu(4, 0.1), &memory(10, 9)).desired, 4);
    assert_eq!(decided(&spec(), &cpu(4, 0.1), &memory(10, 1)).desired, 2);
    assert!(
        decided(&spec(), &cpu(4, 0.1), &memory(10, 3))
            .reason()
            .ends_with("within the last 300 s 3 were needed")
    );
    assert!(
        !decided(&spec(), &cpu(4, 0.1), &memory(10, 1))
            .reason()
            .contains("were needed")
    );
}

#[test]
fn growth_goes_to_the_least_that_was_enough_within_its_window() {
    let slow = PoolSpec {
        out_window_secs: 60,
        ..spec()
    };
    let memory = |secs, size| Memory {
        recommendations: vec![Recommendation {
            at: at(NOW - secs),
            size,
        }],
        ..watched()
    };
    assert_eq!(decided(&slow, &cpu(4, 0.7), &memory(59, 5)).desired, 5);
    assert_eq!(decided(&slow, &cpu(4, 0.7), &memory(60, 5)).desired, 6);
    assert_eq!(decided(&slow, &cpu(4, 0.7), &memory(10, 2)).desired, 4);
    assert_eq!(decided(&slow, &cpu(4, 0.7), &memory(10, 9)).desired, 6);
    assert!(
        decided(&slow, &cpu(4, 0.7), &memory(10, 5))
            .reason()
            .ends_with("within the last 60 s 5 were enough")
    );
    assert!(
        !decided(&slow, &cpu(4, 0.7), &memory(10, 6))
            .reason()
            .contains("were enough")
    );
}

#[test]
fn step_limits_hold_for_each_period() {
    let resized = |secs, created, removed| {
        let resize = Resize {
            at: at(NOW - secs),
            created,
            removed,
        };
        Memory {
            resizes: vec![resize],
            ..watched()
        }
    };
    assert_eq!(decided(&spec(), &cpu(4, 1.0), &watched()).planned, 8);
    assert_eq!(decided(&spec(), &cpu(4, 1.0), &resized(59, 3, 9)).planned, 5);
    assert_eq!(decided(&spec(), &cpu(4, 1.0), &resized(59, 9, 0)).planned, 4);
    assert_eq!(decided(&spec(), &cpu(4, 1.0), &resized(60, 3, 0)).planned, 8);
    assert_eq!(decided(&spec(), &cpu(8, 0.1), &resized(59, 9, 1)).planned, 7);
    assert_eq!(decided(&spec(), &cpu(8, 0.1), &resized(60, 9, 1)).planned, 6);
    let reason = decided(&spec(), &cpu(4, 0.7), &watched()).reason();
    assert!(!reason.contains("at most"), "{reason}");
}

#[test]
fn what_holds_nothing_back_is_not_a_reason() {
    let spec = PoolSpec {
        out_window_secs: 60,
        ..spec()
    };
    let kept = "keep 4: cpu: ceil(4 hosts × mean 0.5000 / target 0.5) = 4";
    for size in [2, 9] {
        let recommendation = Recommendation {
            at: at(NOW - 10),
            size,
        };
        let memory = Memory {
            recommendations: vec![recommendation],
            ..watched()
        };
        assert_eq!(decided(&spec, &cpu(4, 0.5), &memory).reason(), kept);
    }
    let blocked = Memory {
        create_blocked_until: Some(at(NOW + 1)),
        ..watched()
    };
    assert_eq!(decided(&spec, &cpu(4, 0.5), &blocked).reason(), kept);
    // Steps as long as the limits allow are not cut short; one more is.
    let grown = decided(&spec, &cpu(4, 1.0), &watched());
    assert_eq!(grown.planned, 8);
    assert!(!grown.reason().contains("at most"), "{}", grown.reason());
    let three_fewer = PoolSpec {
        limits: StepLimits {
            in_max: 3,
            ..spec.limits
        },
        ..spec
    };
    for (value, planned, is_shortened) in [(0.3125, 5, false), (0.25, 5, true)] {
        let shrunk = decided(&three_fewer, &cpu(8, value), &watched());
        assert_eq!(shrunk.planned, planned);
        assert_eq!(
            shrunk.reason().contains("at most 3 fewer"),
            is_shortened,
            "{}",
            shrunk.reason()
        );
    }
}

#[test]
fn a_full_account_blocks_growth_only() {
    let blocked = |secs| Memory {
        create_blocked_until: Some(at(NOW + secs)),
        ..watched()
    };
    let decision = decided(&spec(), &cpu(4, 0.7), &blocked(1));
    assert_eq!((decision.desired, decision.planned), (6, 4));
    assert!(
        decision
            .reason()
            .ends_with("the provider said that the account's limit is reached")
    );
    assert_eq!(decided(&spec(), &cpu(4, 0.7), &blocked(0)).planned, 6);
    assert_eq!(decided(&spec(), &cpu(4, 0.1), &blocked(1)).planned, 2);
    // A clock that was set back doesn't block for longer than the wait.
    let far = Memory {
        create_blocked_until: Some(at(NOW + 9_999)),
        ..watched()
    };
    let taken_in = far.observe(&spec(), &cpu(4, 0.7));
    assert_eq!(
        taken_in.create_blocked_until,
        Some(at(NOW + i64::from(QUOTA_WAIT_SECS)))
    );
}

#[test]
fn the_operator_comes_before_the_policies_but_not_before_the_bounds() {
    let said = |control, seen: &Observation| {
        let memory = watched().observe(&spec(), seen);
        let decision = decide(&spec(), seen, &memory, control);
        (
            decision.recommended,
            decision.desired,
            decision.planned,
            decision.reason(),
        )
    };
    let (recommended, desired, planned, reason) = said(Control::Hold { size: 4 }, &cpu(4, 0.7));
    assert_eq!((recommended, desired, planned), (6, 4, 4));
    assert_eq!(reason, "keep 4: held at 4 by the operator");
    let (_, desired, planned, reason) = said(Control::Manual { size: 9 }, &cpu(4, 0.1));
    assert_eq!((desired, planned), (9, 8));
    assert_eq!(
        reason,
        "grow from 4 to 9, by way of 8: set to 9 by hand; at most 4 more within 60 s"
    );
    assert_eq!(said(Control::Manual { size: 1 }, &cpu(4, 0.5)).1, 2);
    assert_eq!(said(Control::Hold { size: 11 }, &cpu(4, 0.5)).1, 10);
}

#[test]
fn what_is_gone_is_replaced_also_without_metrics() {
    let memory = Memory {
        size: Some(4),
        ..watched()
    };
    let blind = seen(members(3), &[("cpu", failed())]);
    let decision = decided(&spec(), &blind, &memory);
    assert_eq!(
        (decision.actual, decision.kept, decision.desired, decision.planned),
        (3, 4, 4, 4)
    );
    assert_eq!(
        decision.reason(),
        "grow from 3 to 4: cpu is missing: no answer; 1 of 4 are gone and are replaced"
    );
    // What came from elsewhere is kept, for no metric says that it is too much.
    let more = seen(members(5), &[("cpu", failed())]);
    assert_eq!(decided(&spec(), &more, &memory).desired, 5);
    // A policy that wants fewer than before is not asked to replace what it doesn't want.
    let calm = decided(&spec(), &cpu(3, 0.1), &memory);
    assert_eq!((calm.recommended, calm.desired), (1, 2));
    let reason = decided(&spec(), &cpu(4, 0.5), &memory).reason();
    assert!(!reason.contains("gone"), "{reason}");
}

#[test]
fn members_that_boot_are_not_asked_for_again() {
    let mut four = members(2);
    four.extend([booting(3), booting(4)]);
    let loaded = seen(four, &[("cpu", reading(&[(1, 0.9), (2, 0.9)]))]);
    assert_eq!(sizes(&spec(), &loaded, &watched()), (4, 4, 4));
    let mut begun = watched();
    begun.pending_creates.insert(name("api-3"), at(NOW - 5));
    begun.pending_creates.insert(name("api-4"), at(NOW - 5));
    let loaded = seen(members(2), &[("cpu", reading(&[(1, 0.9), (2, 0.9)]))]);
    assert_eq!(sizes(&spec(), &loaded, &begun), (4, 4, 4));
}

#[test]
fn draining_members_do_not_count() {
    let mut some = members(3);
    some.push(draining(4));
    let loaded = seen(
        some,
        &[("cpu", reading(&[(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.0)]))],
    );
    assert_eq!(sizes(&spec(), &loaded, &watched()), (3, 3, 3));
}

#[test]
fn refused_repairs_are_reported() {
    let unready = |n| Member {
        readiness: Readiness::NotReady,
        ..member(n)
    };
    let outage = seen(vec![unready(1), unready(2), member(3)], &[("cpu", failed())]);
    let reason = decided(&spec(), &outage, &watched()).reason();
    assert!(
        reason.ends_with("no repairs, for more than half of the members are off or not ready at once"),
        "{reason}"
    );
    let dying = seen(
        (1..=4).map(off).chain((5..=8).map(member)).collect(),
        &[("cpu", failed())],
    );
    let memory = knowing(watched(), &[1, 2, 3, 4], powered(Power::Off, 45));
    let decision = decided(&spec(), &dying, &memory);
    assert!(
        decision
            .reason()
            .ends_with("no more repairs: at most 3 members are replaced within 600 s")
    );
    assert_eq!(decision.actual, 5);
}

#[test]
fn busyness_is_of_the_first_policy_that_can_be_read() {
    let spec = following(&[("cpu", 0.5), ("memory", 0.5)], spec());
    let seen = seen(
        members(2),
        &[("cpu", failed()), ("memory", reading(&[(1, 0.3), (2, 0.6)]))],
    );
    let busy = decided(&spec, &seen, &watched()).busyness();
    assert_eq!(
        busy.into_iter().collect::<Vec<_>>(),
        [(name("api-1"), 0.3), (name("api-2"), 0.6)]
    );
}
