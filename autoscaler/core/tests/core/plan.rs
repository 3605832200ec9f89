//! The steps of a plan.

use tidepool_autoscaler_core::decide::{Control, decide};
use tidepool_autoscaler_core::memory::{MemberMemory, Memory, SentAgain};
use tidepool_autoscaler_core::observe::{Member, MemberId, Observation, Power, Readiness, SignalReading};
use tidepool_autoscaler_core::outcome::{DeadMember, DeathCause, Reason, Step, StepKind};
use tidepool_autoscaler_core::plan::plan;
use tidepool_autoscaler_core::spec::PoolSpec;

use crate::support::{
    NOW, at, booting, booting_for, cpu, decided, draining, knowing, member, members, name, of_member, off,
    planned, powered, reading, seen, spec, steps_of, watched,
};

fn steps(seen: &Observation, memory: &Memory) -> Vec<String> {
    steps_of(&planned(&spec(), seen, memory))
}

#[test]
fn growth_takes_the_next_numbers() {
    assert_eq!(steps(&cpu(4, 0.7), &watched()), ["create api-5", "create api-6"]);
    let memory = Memory {
        ordinal_max: 40,
        ..watched()
    };
    assert_eq!(steps(&cpu(4, 0.7), &memory), ["create api-41", "create api-42"]);
    assert_eq!(
        steps(&seen(vec![], &[]), &Memory::default()),
        ["create api-1", "create api-2"]
    );
}

#[test]
fn a_name_that_was_lost_is_tried_again_first() {
    let mut memory = Memory {
        ordinal_max: 40,
        ..watched()
    };
    memory.retry_names.insert(name("api-17"));
    assert_eq!(steps(&cpu(4, 0.7), &memory), ["create api-17", "create api-41"]);
}

#[test]
fn a_member_that_is_ready_is_admitted() {
    let ready = Member {
        readiness: Readiness::Ready,
        ..booting(3)
    };
    let plan = planned(
        &spec(),
        &seen(vec![member(1), member(2), ready, booting(4)], &[]),
        &watched(),
    );
    assert_eq!(
        plan.steps,
        [Step::Admit {
            id: MemberId("3".to_owned()),
            name: name("api-3")
        }]
    );
}

#[test]
fn shrinking_marks_and_withdraws_and_no_more() {
    let plan = planned(&spec(), &cpu(4, 0.3), &watched());
    assert_eq!(steps_of(&plan), ["mark_draining api-4", "withdraw api-4"]);
    assert_eq!(plan.removed, 1);
}

/// Which member of these goes first, when one has to go.
fn victim(all: Vec<Member>, values: &[(u32, f64)]) -> String {
    let count = u32::try_from(all.len()).unwrap();
    let spec = PoolSpec {
        min: 1,
        max: count - 1,
        ..spec()
    };
    let signal = if values.is_empty() {
        SignalReading::Failed {
            reason: String::new(),
        }
    } else {
        reading(values)
    };
    let plan = planned(&spec, &seen(all, &[("cpu", signal)]), &watched());
    let leaving = |step: &&Step| matches!(step.kind(), StepKind::MarkDraining | StepKind::Destroy);
    plan.steps
        .iter()
        .filter(leaving)
        .map(|step| step.name().0.clone())
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn the_victim_is_not_ready_of_another_image_least_busy_or_newest() {
    let old_image = Member {
        image: "old".into(),
        ..member(2)
    };
    let unready = Member {
        readiness: Readiness::NotReady,
        ..member(2)
    };
    let ready = Member {
        readiness: Readiness::Ready,
        ..booting(4)
    };
    // The newest, when nothing else tells them apart.
    assert_eq!(victim(members(3), &[]), "api-3");
    assert_eq!(victim(members(3), &[(1, 0.3), (2, 0.2), (3, 0.9)]), "api-2");
    assert_eq!(
        victim(
            vec![member(1), old_image.clone(), member(3)],
            &[(1, 0.1), (2, 0.9), (3, 0.3)]
        ),
        "api-2"
    );
    assert_eq!(
        victim(vec![member(1), unready.clone(), old_image.clone()], &[]),
        "api-2"
    );
    assert_eq!(victim(vec![member(1), unready.clone(), booting(3)], &[]), "api-3");
    assert_eq!(victim(vec![member(1), unready, ready.clone()], &[]), "api-4");
    assert_eq!(victim(vec![member(1), ready, booting(3)], &[]), "api-3");
    // A host without a value may be the busiest.
    assert_eq!(victim(members(3), &[(1, 0.3), (2, 0.4)]), "api-1");
    // Nothing at all to tell them apart: the smaller id.
    let same = |id: &str, n| Member {
        id: MemberId(id.to_owned()),
        created_at: at(3),
        ..member(n)
    };
    assert_eq!(
        victim(vec![same("b", 1), same("a", 2), same("c", 3)], &[]),
        "api-2"
    );
}

#[test]
fn a_dead_member_that_may_not_be_repaired_is_the_first_to_go() {
    let mut memory = knowing(watched(), &[1], powered(Power::Off, 45));
    for n in 20..23 {
        memory.repairs.insert(member(n).id, at(NOW - 5));
    }
    let spec = PoolSpec { max: 3, ..spec() };
    let plan = planned(
        &spec,
        &seen(vec![off(1), member(2), member(3), booting(4)], &[]),
        &memory,
    );
    assert_eq!(steps_of(&plan), ["mark_draining api-1", "withdraw api-1"]);
}

#[test]
fn victims_that_never_served_are_destroyed_at_once() {
    let spec = PoolSpec { max: 2, ..spec() };
    let ready = Member {
        readiness: Readiness::Ready,
        ..booting(3)
    };
    let plan = planned(
        &spec,
        &seen(vec![member(1), member(2), ready, booting(4)], &[]),
        &watched(),
    );
    assert_eq!(steps_of(&plan), ["destroy api-4", "destroy api-3"]);
    assert_eq!(plan.removed, 2);
}

#[test]
fn at_least_the_minimum_stays_in_the_balancer() {
    // Five are one too many; three of them serve, and all three must.
    let unready = |n| Member {
        readiness: Readiness::NotReady,
        ..member(n)
    };
    let spec = PoolSpec {
        min: 3,
        max: 3,
        policies: Vec::new(),
        ..spec()
    };
    let all = vec![member(1), member(2), member(3), unready(4), unready(5)];
    let plan = planned(&spec, &seen(all, &[]), &watched());
    assert_eq!(
        steps_of(&plan),
        [
            "mark_draining api-5",
            "withdraw api-5",
            "mark_draining api-4",
            "withdraw api-4"
        ]
    );
    let mut begun = watched();
    begun.pending_creates.insert(name("api-9"), at(NOW - 1));
    // A create that is not seen yet can't be taken back, and a serving member must not go for it.
    let plan = planned(&spec, &seen(members(3), &[]), &begun);
    assert_eq!((steps_of(&plan), plan.removed), (vec![], 0));
}

#[test]
fn the_life_of_a_member_that_leaves() {
    let of = |known| of_member(1, known);
    let withdrawn = |secs| MemberMemory {
        withdrawn_since: Some(at(NOW - secs)),
        ..MemberMemory::default()
    };
    let asked = |secs| MemberMemory {
        drain_since: Some(at(NOW - 3)),
        ..withdrawn(secs)
    };
    let shut = |secs| MemberMemory {
        shutdown_since: Some(at(NOW - secs)),
        ..withdrawn(60)
    };
    let serving = Member {
        serving: true,
        ..draining(1)
    };
    let off = Member {
        power: Power::Off,
        ..draining(1)
    };
    let stopped = |power, secs| MemberMemory {
        withdrawn_since: Some(at(NOW - 5)),
        ..powered(power, secs)
    };
    let creating = Member {
        power: Power::Creating,
        ..draining(1)
    };
    let nowhere = Member {
        address: None,
        ..draining(1)
    };
    // (member, memory, says it is drained) -> step
    let table: Vec<(Member, MemberMemory, bool, &str)> = vec![
        (serving, withdrawn(60), true, "withdraw"),
        // A list that calls it off, or new, for a moment doesn't cut it off from who it still serves.
        (off.clone(), withdrawn(0), false, ""),
        (off.clone(), stopped(Power::Off, 44), false, ""),
        (off.clone(), stopped(Power::Off, 45), false, "destroy"),
        (off.clone(), stopped(Power::Creating, 45), false, ""),
        (off, shut(0), false, "destroy"),
        (creating.clone(), withdrawn(0), false, ""),
        (creating, stopped(Power::Creating, 45), false, "destroy"),
        // The balancer needs a moment to notice.
        (draining(1), withdrawn(0), true, ""),
        (draining(1), withdrawn(9), true, ""),
        (draining(1), withdrawn(10), true, "drain"),
        (draining(1), withdrawn(10), false, "drain"),
        (draining(1), asked(10), true, "shutdown"),
        (draining(1), asked(129), false, "drain"),
        (draining(1), asked(130), false, "shutdown"),
        (draining(1), withdrawn(130), false, "shutdown"),
        (nowhere.clone(), withdrawn(60), false, ""),
        (nowhere.clone(), asked(60), true, "shutdown"),
        (nowhere, withdrawn(130), false, "shutdown"),
        (draining(1), shut(29), true, ""),
        (draining(1), shut(30), true, "power_off"),
        (draining(1), shut(59), true, "power_off"),
        (draining(1), shut(60), true, "destroy"),
    ];
    for (n, (leaving, known, drained, step)) in table.into_iter().enumerate() {
        let mut seen = seen(vec![leaving, member(2), member(3)], &[]);
        if drained {
            seen.drained.insert(MemberId("1".to_owned()));
        }
        let expected: Vec<String> = if step.is_empty() {
            vec![]
        } else {
            vec![format!("{step} api-1")]
        };
        assert_eq!(steps(&seen, &of(known)), expected, "row {n}");
    }
}

#[test]
fn drain_says_where() {
    let known = MemberMemory {
        withdrawn_since: Some(at(NOW - 20)),
        ..MemberMemory::default()
    };
    let plan = planned(
        &spec(),
        &seen(vec![draining(1), member(2), member(3)], &[]),
        &of_member(1, known),
    );
    let address = draining(1).address.unwrap();
    assert_eq!(
        plan.steps,
        [Step::Drain {
            id: MemberId("1".to_owned()),
            name: name("api-1"),
            address
        }]
    );
}

#[test]
fn the_dead_are_withdrawn_destroyed_and_replaced() {
    let memory = Memory {
        size: Some(4),
        ..knowing(watched(), &[2], powered(Power::Off, 45))
    };
    let memory = knowing(memory, &[3], booting_for(200));
    let there = seen(vec![member(1), off(2), booting(3), member(4)], &[]);
    let plan = planned(&spec(), &there, &memory);
    let expected = [
        "create api-5",
        "create api-6",
        "withdraw api-2",
        "destroy api-2",
        "destroy api-3",
    ];
    assert_eq!(steps_of(&plan), expected);
    assert_eq!(
        plan.repaired.iter().map(|id| id.0.as_str()).collect::<Vec<_>>(),
        ["2", "3"]
    );
    assert_eq!(plan.removed, 0);
    let dead = |name: &str, cause| DeadMember {
        name: crate::support::name(name),
        cause,
    };
    let members = vec![
        dead("api-2", DeathCause::Off { secs: 45 }),
        dead("api-3", DeathCause::NotInTime { secs: 200 }),
    ];
    let decision = decided(&spec(), &there, &memory);
    assert!(
        decision.reasons.contains(&Reason::Repairs { members }),
        "{decision:?}"
    );
    assert_eq!(
        decision.alarms(),
        ["api-2 has been off for 45 s, api-3 did not get ready within 200 s; replaced"]
    );
}

/// What is dead and can't be replaced now stays: destroyed it would surely not come back.
#[test]
fn a_repair_never_leads_below_the_minimum() {
    let mut memory = knowing(watched(), &[2, 3], powered(Power::Off, 45));
    memory.create_blocked_until = Some(at(NOW + 30));
    let of = |members, min| {
        let spec = PoolSpec { min, ..spec() };
        let plan = planned(&spec, &seen(members, &[]), &memory);
        assert_eq!(plan.repaired.len(), steps_of(&plan).len() / 2);
        steps_of(&plan)
    };
    let four = || vec![member(1), off(2), off(3), member(4)];
    assert_eq!(of(four(), 4), [""; 0]);
    assert_eq!(of(four(), 3), ["withdraw api-2", "destroy api-2"]);
    assert_eq!(of(four(), 2).len(), 4);
}

#[test]
fn while_a_pool_is_held_nobody_is_stopped_or_destroyed() {
    let withdrawn = MemberMemory {
        withdrawn_since: Some(at(NOW - 500)),
        ..MemberMemory::default()
    };
    let memory = knowing(watched(), &[1], powered(Power::Off, 500));
    let memory = knowing(memory, &[3], withdrawn);
    let worked_on = Member {
        readiness: Readiness::Ready,
        ..booting(4)
    };
    let memory = knowing(memory, &[4], powered(Power::Running, 500));
    let new = Member {
        readiness: Readiness::Ready,
        ..booting(5)
    };
    let memory = knowing(memory, &[5], booting_for(50));
    let seen = seen(vec![off(1), member(2), draining(3), worked_on, new], &[]);
    let steps = |control| {
        let memory = memory.observe(&spec(), &seen);
        let decision = decide(&spec(), &seen, &memory, control);
        steps_of(&plan(&spec(), &seen, &memory, &decision))
    };
    assert_eq!(steps(Control::Hold { size: 4 }), ["admit api-5"]);
    // One that is too many stays, too; one that is gone is made.
    assert_eq!(steps(Control::Hold { size: 2 }), ["admit api-5"]);
    assert_eq!(steps(Control::Hold { size: 5 }), ["admit api-5", "create api-6"]);
    let manual = [
        "admit api-4",
        "admit api-5",
        "create api-6",
        "withdraw api-1",
        "destroy api-1",
        "shutdown api-3",
    ];
    assert_eq!(steps(Control::Manual { size: 4 }), manual);
}

#[test]
fn copies_that_a_lost_create_made_go_and_others_of_one_name_stay() {
    let twin = |serving| Member {
        id: MemberId("77".to_owned()),
        serving,
        created_at: at(NOW - 3),
        ..member(2)
    };
    let all = |serving| seen(vec![member(1), member(2), member(3), twin(serving)], &[]);
    assert_eq!(steps(&all(true), &watched()), [""; 0]);
    assert_eq!(steps(&all(false), &watched()), ["admit api-2"]);
    let mut lost = watched();
    let since = at(NOW - 60);
    lost.sent_again
        .insert(name("api-2"), SentAgain { since, times: 1 });
    let spare = planned(&spec(), &all(false), &lost);
    assert_eq!(
        spare.steps,
        [Step::Destroy {
            id: MemberId("77".to_owned()),
            name: name("api-2")
        }]
    );
    assert_eq!(
        steps(&all(true), &lost),
        ["mark_draining api-2", "withdraw api-2"]
    );
    let members = vec![name("api-2 (77)")];
    let decision = decided(&spec(), &all(true), &lost);
    assert!(
        decision.reasons.contains(&Reason::Copies { members }),
        "{decision:?}"
    );
}

#[test]
fn every_kind_of_step_has_a_name_of_its_own() {
    let names: Vec<&str> = StepKind::all().map(StepKind::name).collect();
    let expected = [
        "admit",
        "create",
        "mark_draining",
        "withdraw",
        "drain",
        "shutdown",
        "power_off",
        "destroy",
    ];
    assert_eq!(names, expected);
    for kind in StepKind::all() {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
    }
}

#[test]
fn steps_name_their_kind_and_member() {
    let (id, name) = (MemberId("7".to_owned()), name("api-7"));
    let address = member(7).address.unwrap();
    let all = [
        Step::Admit {
            id: id.clone(),
            name: name.clone(),
        },
        Step::Create {
            name: name.clone(),
            generation: None,
        },
        Step::MarkDraining {
            id: id.clone(),
            name: name.clone(),
        },
        Step::Withdraw {
            id: id.clone(),
            name: name.clone(),
        },
        Step::Drain {
            id: id.clone(),
            name: name.clone(),
            address,
        },
        Step::Shutdown {
            id: id.clone(),
            name: name.clone(),
        },
        Step::PowerOff {
            id: id.clone(),
            name: name.clone(),
        },
        Step::Destroy {
            id: id.clone(),
            name: name.clone(),
        },
    ];
    assert_eq!(
        all.iter().map(Step::kind).collect::<Vec<_>>(),
        StepKind::all().collect::<Vec<_>>()
    );
    for step in &all {
        assert_eq!(step.name(), &name);
        assert_eq!(step.id(), (step.kind() != StepKind::Create).then_some(&id));
        assert_eq!(serde_json::to_value(step).unwrap()["step"], step.kind().name());
    }
}
