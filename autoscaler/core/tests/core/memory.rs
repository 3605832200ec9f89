//! What is remembered, and for how long.

use tidepool_autoscaler_core::decide::Control;
use tidepool_autoscaler_core::decide::decide;
use tidepool_autoscaler_core::memory::{
    CreateOutcome, GROWTH_WAIT_SECS_MAX, MemberMemory, Memory, QUOTA_WAIT_SECS, RECOMMENDATIONS_MAX,
    Recommendation, Resize, SentAgain, Vanished, ordinal_of,
};
use tidepool_autoscaler_core::observe::{Member, MemberId, Observation, Power, Readiness};
use tidepool_autoscaler_core::plan::plan;
use tidepool_autoscaler_core::spec::PoolSpec;

use crate::support::{
    NOW, at, booting, booting_for, cpu, draining, knowing, member, members, name, of_member, off, powered,
    seen, spec, watched,
};

fn taken_in(memory: &Memory, seen: &Observation) -> Memory {
    memory.observe(&spec(), seen)
}

#[test]
fn watching_begins_anew_after_a_gap() {
    let seen = cpu(2, 0.5);
    assert_eq!(taken_in(&Memory::default(), &seen).since, Some(at(NOW)));
    let memory = |last| Memory {
        last_tick: Some(at(last)),
        size: Some(4),
        ..watched()
    };
    let near = taken_in(&memory(NOW - 299), &seen);
    assert_eq!(
        (near.since, near.size, near.last_tick),
        (Some(at(NOW - 1000)), Some(4), Some(at(NOW)))
    );
    let far = taken_in(&memory(NOW - 300), &seen);
    assert_eq!((far.since, far.size), (Some(at(NOW)), None));
    let future = taken_in(&memory(NOW + 1), &seen);
    assert_eq!((future.since, future.size), (Some(at(NOW)), None));
    assert_eq!(taken_in(&memory(NOW), &seen).since, Some(at(NOW - 1000)));
    // Without a window a second counts as a gap, not every tick.
    let none = PoolSpec {
        in_window_secs: 0,
        ..spec()
    };
    assert_eq!(memory(NOW).observe(&none, &seen).since, Some(at(NOW - 1000)));
}

#[test]
fn a_member_that_is_gone_before_it_was_ready_is_a_create_that_came_to_nothing() {
    let vanished = |known: MemberMemory, there: bool| {
        let mut memory = knowing(watched(), &[3], known);
        memory.create_acknowledged(&name("api-3"), &MemberId("3".to_owned()), at(NOW - 90));
        // It was seen since, however it was.
        let followed = memory.followed.values_mut();
        followed.for_each(|known| known.acknowledged_at = None);
        let mut all = members(2);
        all.extend(there.then(|| booting(3)));
        let next = taken_in(&memory, &seen(all, &[]));
        (next.vanished.times, next.repairs.len())
    };
    for power in [Power::Creating, Power::Running, Power::Off] {
        let boots = MemberMemory {
            power: Some(power),
            ..booting_for(90)
        };
        assert_eq!(vanished(boots, false), (1, 1), "{power:?}");
        assert_eq!(vanished(boots, true), (0, 0), "{power:?}");
    }
    // One that was ready once is a member that is gone.
    assert_eq!(vanished(powered(Power::Running, 90), false), (0, 0));
}

#[test]
fn creates_that_came_to_nothing_are_forgotten_in_time() {
    let mut memory = watched();
    memory.vanished = Vanished {
        times: 20,
        at: Some(at(NOW - 3599)),
        ..Vanished::default()
    };
    assert_eq!(memory.growth_wait_secs(&spec()), GROWTH_WAIT_SECS_MAX);
    assert!(memory.growth_waits(&spec(), at(NOW)));
    assert!(!memory.growth_waits(&spec(), at(NOW + 1)));
    // By a clock that was set back it does not wait for ever either.
    memory.vanished.at = Some(at(NOW + 500));
    assert_eq!(taken_in(&memory, &cpu(3, 0.5)).vanished.at, Some(at(NOW)));
    memory.vanished.at = Some(at(NOW - 7199));
    assert_eq!(taken_in(&memory, &cpu(3, 0.5)).vanished.times, 20);
    memory.vanished.at = Some(at(NOW - 7200));
    assert_eq!(taken_in(&memory, &cpu(3, 0.5)).vanished, Vanished::default());
}

#[test]
fn a_number_that_no_name_of_ours_has_is_none_of_ours() {
    let ordinal = |text: &str| ordinal_of(&spec(), &name(text));
    assert_eq!(ordinal("api-7"), Some(7));
    assert_eq!(ordinal("api-1000000000000000"), Some(1_000_000_000_000_000));
    for other in [
        "api-1000000000000001",
        "api-18446744073709551615",
        "api-99999999999999999999999",
        "api-+7",
        "api-",
        "api",
    ] {
        assert_eq!(ordinal(other), None, "{other}");
    }
    // An earlier version remembered it.
    let memory = Memory {
        ordinal_max: u64::MAX,
        ..watched()
    };
    assert_eq!(taken_in(&memory, &cpu(3, 0.5)).ordinal_max, 3);
}

#[test]
fn what_is_past_or_from_the_future_is_forgotten() {
    let recommendation = |secs| Recommendation {
        at: at(secs),
        size: 3,
    };
    let resize = |secs| Resize {
        at: at(secs),
        created: 1,
        removed: 0,
    };
    let mut memory = watched();
    memory.recommendations = [NOW - 300, NOW - 299, NOW, NOW + 1].map(recommendation).to_vec();
    memory.resizes = [NOW - 60, NOW - 59, NOW, NOW + 1].map(resize).to_vec();
    for (id, secs) in [(1, NOW - 600), (2, NOW - 599), (3, NOW), (4, NOW + 1)] {
        memory.repairs.insert(member(id).id, at(secs));
    }
    let next = taken_in(&memory, &cpu(2, 0.5));
    assert_eq!(next.recommendations, [NOW - 299, NOW].map(recommendation));
    assert_eq!(next.resizes, [NOW - 59, NOW].map(resize));
    assert_eq!(
        next.repairs.values().copied().collect::<Vec<_>>(),
        [at(NOW - 599), at(NOW)]
    );
}

#[test]
fn recommendations_are_bounded() {
    let mut memory = watched();
    let recommendation = |n: usize| Recommendation {
        at: at(NOW),
        size: u32::try_from(n).unwrap(),
    };
    memory.recommendations = (0..RECOMMENDATIONS_MAX + 3).map(recommendation).collect();
    let next = taken_in(&memory, &cpu(2, 0.5));
    assert_eq!(
        (next.recommendations.len(), next.recommendations[0].size),
        (RECOMMENDATIONS_MAX, 3)
    );
}

#[test]
fn a_member_that_served_when_it_was_first_seen_has_served_since_it_was_made() {
    let first = taken_in(&watched(), &seen(vec![member(1), booting(2)], &[]));
    assert_eq!(
        first.members[&member(1).id].serving_since,
        Some(member(1).created_at)
    );
    assert_eq!(first.members[&member(2).id].serving_since, None);
    let second = first.observe(&spec(), &seen(vec![member(1), member(2)], &[]));
    assert_eq!(
        second.members[&member(1).id].serving_since,
        Some(member(1).created_at)
    );
    assert_eq!(second.members[&member(2).id].serving_since, Some(at(NOW)));
    let gone = second.observe(&spec(), &seen(vec![], &[]));
    assert!(gone.members.is_empty());
    let young = Member {
        created_at: at(NOW + 50),
        ..member(1)
    };
    let clock = taken_in(&watched(), &seen(vec![young.clone()], &[]));
    assert_eq!(clock.members[&young.id].serving_since, Some(at(NOW)));
}

#[test]
fn stages_begin_once_and_end_when_they_are_over() {
    let running = MemberMemory {
        known_since: Some(at(4)),
        ..powered(Power::Running, 50)
    };
    let known = MemberMemory {
        booting: false,
        is_new: false,
        serving_since: Some(at(5)),
        unready_since: Some(at(NOW - 9)),
        withdrawn_since: Some(at(NOW - 8)),
        drain_since: Some(at(NOW - 7)),
        shutdown_since: Some(at(NOW - 6)),
        ..running
    };
    let unready = Member {
        readiness: Readiness::Unknown,
        ..member(1)
    };
    let after = |member: Member, known| {
        taken_in(&of_member(1, known), &seen(vec![member.clone()], &[])).members[&member.id]
    };
    let rest = MemberMemory {
        drain_since: known.drain_since,
        shutdown_since: known.shutdown_since,
        ..running
    };
    let serving = MemberMemory {
        booting: false,
        serving_since: Some(at(5)),
        ..rest
    };
    let ready = |secs| MemberMemory {
        ready_since: Some(at(NOW - secs)),
        ..serving
    };
    assert_eq!(after(member(1), known), ready(0));
    assert_eq!(after(member(1), MemberMemory { ..ready(30) }), ready(30));
    assert_eq!(
        after(unready.clone(), known),
        MemberMemory {
            unready_since: known.unready_since,
            ..serving
        }
    );
    assert_eq!(
        after(draining(1), known),
        MemberMemory {
            withdrawn_since: known.withdrawn_since,
            ..rest
        }
    );
    assert_eq!(
        after(draining(1), MemberMemory::default()).withdrawn_since,
        Some(at(NOW))
    );
    assert_eq!(
        after(unready, MemberMemory::default()).unready_since,
        Some(at(NOW))
    );
    let leaving = Member {
        serving: true,
        ..draining(1)
    };
    assert_eq!(after(leaving, MemberMemory::default()).withdrawn_since, None);
}

/// Times that a clock set back has left in the future count from now.
#[test]
fn stages_of_the_future_begin_now() {
    let after = |member: Member, known| {
        taken_in(&of_member(1, known), &seen(vec![member.clone()], &[])).members[&member.id]
    };
    let future = MemberMemory {
        known_since: Some(at(NOW + 9)),
        booting: false,
        is_new: false,
        power: Some(Power::Running),
        power_since: Some(at(NOW + 9)),
        serving_since: Some(at(NOW + 9)),
        ready_since: Some(at(NOW + 9)),
        unready_since: Some(at(NOW + 9)),
        withdrawn_since: Some(at(NOW + 9)),
        drain_since: Some(at(NOW + 9)),
        shutdown_since: Some(at(NOW + 9)),
    };
    let now = MemberMemory {
        known_since: Some(at(NOW)),
        drain_since: Some(at(NOW)),
        shutdown_since: Some(at(NOW)),
        ..powered(Power::Running, 0)
    };
    assert_eq!(
        after(draining(1), future),
        MemberMemory {
            withdrawn_since: Some(at(NOW)),
            ..now
        }
    );
    let serving = Member {
        readiness: Readiness::NotReady,
        ..member(1)
    };
    let both = MemberMemory {
        booting: false,
        serving_since: Some(at(NOW)),
        unready_since: Some(at(NOW)),
        ..now
    };
    assert_eq!(after(serving, future), both);
}

#[test]
fn a_create_counts_until_it_is_seen_or_given_up() {
    let mut memory = watched();
    memory.pending_creates.insert(name("api-2"), at(NOW - 5));
    memory.pending_creates.insert(name("api-7"), at(NOW - 49));
    memory.pending_creates.insert(name("api-8"), at(NOW - 50));
    memory.retry_names.insert(name("api-1"));
    let next = taken_in(&memory, &cpu(2, 0.5));
    assert_eq!(
        next.pending_creates.keys().cloned().collect::<Vec<_>>(),
        [name("api-7")]
    );
    assert_eq!(
        next.retry_names.iter().cloned().collect::<Vec<_>>(),
        [name("api-8")]
    );
    let mut future = watched();
    future.pending_creates.insert(name("api-7"), at(NOW + 500));
    assert_eq!(
        taken_in(&future, &cpu(2, 0.5)).pending_creates[&name("api-7")],
        at(NOW)
    );
}

#[test]
fn numbers_are_never_given_twice() {
    assert_eq!(ordinal_of(&spec(), &name("api-7")), Some(7));
    for other in ["api7", "web-7", "api-", "api-x", "api-7-2", "7"] {
        assert_eq!(ordinal_of(&spec(), &name(other)), None, "{other}");
    }
    let next = taken_in(
        &Memory {
            ordinal_max: 3,
            ..watched()
        },
        &cpu(5, 0.5),
    );
    assert_eq!(next.ordinal_max, 5);
    let next = taken_in(
        &Memory {
            ordinal_max: 30,
            ..watched()
        },
        &cpu(5, 0.5),
    );
    assert_eq!(next.ordinal_max, 30);
}

fn intended(memory: &Memory, seen: &Observation, control: Control) -> Memory {
    let memory = taken_in(memory, seen);
    let decision = decide(&spec(), seen, &memory, control);
    let mut next = memory.clone();
    next.intend(&spec(), &decision, &plan(&spec(), seen, &memory, &decision));
    next
}

#[test]
fn a_plan_is_remembered_before_it_is_run() {
    let mut memory = Memory {
        ordinal_max: 8,
        ..watched()
    };
    memory.retry_names.insert(name("api-6"));
    let next = intended(&memory, &cpu(4, 0.7), Control::Auto);
    assert_eq!(
        next.pending_creates.keys().cloned().collect::<Vec<_>>(),
        [name("api-6"), name("api-9")]
    );
    assert_eq!(next.pending_creates[&name("api-9")], at(NOW));
    assert!(next.retry_names.is_empty());
    assert_eq!(next.ordinal_max, 9);
    assert_eq!(
        next.resizes,
        [Resize {
            at: at(NOW),
            created: 2,
            removed: 0
        }]
    );
    assert_eq!(next.recommendations, [Recommendation { at: at(NOW), size: 6 }]);
    assert_eq!(next.size, Some(6));
    let calm = intended(&watched(), &cpu(8, 0.1), Control::Auto);
    assert_eq!(
        calm.resizes,
        [Resize {
            at: at(NOW),
            created: 0,
            removed: 2
        }]
    );
    assert_eq!(calm.size, Some(6));
    assert_eq!(intended(&watched(), &cpu(4, 0.5), Control::Auto).resizes, []);
}

#[test]
fn the_size_is_kept_as_far_as_growth_was_planned() {
    let size = |memory: &Memory, seen: &Observation, control| intended(memory, seen, control).size;
    // Ten are wanted, eight are planned: two more are not promised.
    assert_eq!(size(&watched(), &cpu(4, 1.2), Control::Auto), Some(8));
    // Six died of eight: four can be made now, and all eight stay promised.
    let eight = Memory {
        size: Some(8),
        ..watched()
    };
    let blind = seen(members(2), &[]);
    assert_eq!(size(&eight, &blind, Control::Auto), Some(8));
    assert_eq!(size(&eight, &blind, Control::Manual { size: 3 }), Some(3));
}

#[test]
fn drains_shutdowns_and_repairs_are_remembered_with_their_first_time() {
    let known = MemberMemory {
        withdrawn_since: Some(at(NOW - 20)),
        ..MemberMemory::default()
    };
    let asked = intended(&of_member(1, known), &seen(vec![draining(1)], &[]), Control::Auto);
    assert_eq!(asked.members[&member(1).id].drain_since, Some(at(NOW)));
    let again = MemberMemory {
        drain_since: Some(at(NOW - 5)),
        ..known
    };
    let asked = intended(&of_member(1, again), &seen(vec![draining(1)], &[]), Control::Auto);
    assert_eq!(asked.members[&member(1).id].drain_since, Some(at(NOW - 5)));
    let late = MemberMemory {
        withdrawn_since: Some(at(NOW - 200)),
        ..known
    };
    let asked = intended(&of_member(1, late), &seen(vec![draining(1)], &[]), Control::Auto);
    assert_eq!(asked.members[&member(1).id].shutdown_since, Some(at(NOW)));
    let seen = seen(vec![off(1), member(2), member(3)], &[]);
    let stopped = knowing(watched(), &[1], powered(Power::Off, 45));
    assert_eq!(
        intended(&stopped, &seen, Control::Auto).repairs[&member(1).id],
        at(NOW)
    );
    let mut begun = stopped;
    begun.repairs.insert(member(1).id, at(NOW - 100));
    assert_eq!(
        intended(&begun, &seen, Control::Auto).repairs[&member(1).id],
        at(NOW - 100)
    );
}

#[test]
fn a_create_that_surely_failed_is_taken_back() {
    let mut memory = intended(&watched(), &cpu(4, 0.7), Control::Auto);
    memory.create_failed(&name("api-5"), at(NOW), CreateOutcome::Failed);
    assert_eq!(
        memory.pending_creates.keys().cloned().collect::<Vec<_>>(),
        [name("api-6")]
    );
    assert_eq!(
        memory.retry_names.iter().cloned().collect::<Vec<_>>(),
        [name("api-5")]
    );
    assert_eq!(
        memory.resizes,
        [Resize {
            at: at(NOW),
            created: 1,
            removed: 0
        }]
    );
    assert_eq!(memory.create_blocked_until, None);
    memory.create_failed(&name("api-6"), at(NOW), CreateOutcome::QuotaReached);
    assert_eq!(
        memory.create_blocked_until,
        Some(at(NOW + i64::from(QUOTA_WAIT_SECS)))
    );
    assert_eq!(
        memory.resizes,
        [Resize {
            at: at(NOW),
            created: 0,
            removed: 0
        }]
    );
    // A name that nobody waits for is not tried again.
    memory.create_failed(&name("api-70"), at(NOW - 1), CreateOutcome::Failed);
    assert_eq!(memory.retry_names.len(), 2);
}

#[test]
fn it_survives_being_written_down() {
    let memory = intended(&watched(), &cpu(4, 0.7), Control::Auto);
    let text = serde_json::to_string(&memory).unwrap();
    assert_eq!(serde_json::from_str::<Memory>(&text).unwrap(), memory);
}

/// What a name was given for is remembered, so that a copy of ours can be told from a member of somebody else.
#[test]
fn a_name_that_is_given_again_is_remembered_with_its_first_time() {
    let mut memory = watched();
    memory.retry_names.insert(name("api-5"));
    memory.unsettled.insert(name("api-5"), at(NOW - 70));
    // The number has been given, however little is remembered of it.
    assert_eq!(memory.ordinal_max, 0);
    let next = intended(&memory, &cpu(4, 0.7), Control::Auto);
    let again = |times| SentAgain {
        since: at(NOW - 70),
        times,
    };
    assert_eq!(next.sent_again, [(name("api-5"), again(1))].into());
    let mut memory = next;
    memory.pending_creates.clear();
    memory.retry_names.insert(name("api-5"));
    memory.resizes.clear();
    let next = intended(&memory, &cpu(4, 0.7), Control::Auto);
    assert_eq!(next.sent_again, [(name("api-5"), again(2))].into());
    let mut past = next;
    past.sent_again.insert(
        name("api-8"),
        SentAgain {
            since: at(NOW - 86_400),
            times: 1,
        },
    );
    past.sent_again.insert(
        name("api-9"),
        SentAgain {
            since: at(NOW + 5),
            times: 1,
        },
    );
    let kept = taken_in(&past, &cpu(4, 0.5)).sent_again;
    assert_eq!(
        kept.into_keys().collect::<Vec<_>>(),
        [name("api-5"), name("api-9")]
    );
}

/// After a gap nobody knows how long a state has lasted.
#[test]
fn what_lasted_before_a_gap_counts_from_now() {
    let unready = Member {
        readiness: Readiness::NotReady,
        ..member(1)
    };
    let mut memory = knowing(watched(), &[1, 2], powered(Power::Off, 900));
    memory.members.get_mut(&member(1).id).unwrap().unready_since = Some(at(NOW - 900));
    memory.last_tick = Some(at(NOW - 400));
    let next = taken_in(&memory, &seen(vec![unready, off(2)], &[]));
    assert_eq!(next.members[&member(1).id].unready_since, Some(at(NOW)));
    assert_eq!(next.members[&member(2).id].power_since, Some(at(NOW)));
}
