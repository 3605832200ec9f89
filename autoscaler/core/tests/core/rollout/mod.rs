//! Rollouts in a simulated pool: whatever goes wrong, no fewer serve than are wanted, no more are made than the maximum and
//! the surge (those on their way out not counted), and in the end all members are new, or all are old.

mod world;

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidepool_autoscaler_core::memory::Vanished;
use tidepool_autoscaler_core::observe::{Member, MemberId, Power};
use tidepool_autoscaler_core::outcome::{Step, StepKind};
use tidepool_autoscaler_core::recipe::Recipe;
use tidepool_autoscaler_core::rollout::{Cause, Rollout, Stage};
use tidepool_autoscaler_core::spec::Pace;

use world::*;

#[test]
fn members_are_replaced_one_at_a_time_and_never_fewer_serve() {
    for surge in [1, 2, 3, 5] {
        let mut world = started(New::Good, pace(surge));
        world.order();
        let (mut least, mut most) = (usize::MAX, 0);
        while world.rollout().stage != Stage::Done {
            world.tick(&calm());
            let ready = |d: &&Droplet| d.member.serving && world.is_ready(d);
            least = least.min(world.droplets.values().filter(ready).count());
            most = most.max(world.droplets.len());
            assert!(world.now.0 < 1_000_000_000 + 3_600_000, "surge {surge}");
        }
        world.in_order(&second());
        assert_eq!(world.droplets.len(), 3, "surge {surge}");
        assert_eq!(least, 3, "surge {surge}");
        assert_eq!(most, 3 + surge.min(3) as usize, "surge {surge}");
        assert_eq!(
            world.memory.size,
            Some(3),
            "the surge is not kept as the pool's size"
        );

        // And back again.
        world.spec.rollout.as_mut().unwrap().turn_back(Cause::ByHand);
        until_done(&mut world);
        world.in_order(&first());
        assert_eq!(world.droplets.len(), 3, "surge {surge}");
    }
}

#[test]
fn a_predecessor_goes_only_when_its_successor_has_been_ready_for_long_enough() {
    let mut world = started(New::Good, pace(1));
    world.spec.pace.min_ready_secs = 120;
    world.order();
    let (_, plan) = world.tick(&calm());
    assert_eq!(
        plan.steps.iter().map(Step::kind).collect::<Vec<_>>(),
        [StepKind::Create]
    );
    let mut admitted = None;
    let marked = loop {
        let (_, plan) = world.tick(&calm());
        let has = |kind| plan.steps.iter().any(|s| s.kind() == kind);
        if has(StepKind::Admit) {
            admitted.get_or_insert(world.now);
        }
        if has(StepKind::MarkDraining) {
            break world.now;
        }
    };
    assert_eq!(marked.secs_since(admitted.unwrap()), 120.0);
}

#[test]
fn new_members_that_never_get_ready_are_taken_back() {
    let mut world = started(New::NeverReady, pace(1));
    world.order();
    let mut most_new = 0;
    for _ in 0..CALM_TICKS {
        world.tick(&calm());
        most_new = most_new.max(world.new_ones());
        let old = world
            .droplets
            .values()
            .filter(|d| !world.is_new(&d.member) && d.member.serving);
        assert_eq!(old.count(), 3, "all old ones go on serving");
    }
    assert_eq!(most_new, 1);
    world.in_order(&first());
    let Some(Cause::NewOnesFail {
        failed,
        others_failed,
        ..
    }) = world.rollout().cause
    else {
        panic!("{:?}", world.rollout());
    };
    assert_eq!((failed, others_failed), (2, 0));
}

/// It would be in its place until the pool's own boot timeout otherwise, which is longer.
#[test]
fn a_new_member_that_is_not_ready_in_time_makes_room_for_the_next() {
    let ready_secs = 60;
    let pace = Pace {
        ready_secs,
        ..pace(1)
    };
    let mut world = started(New::NeverReady, pace);
    let boot_timeout_secs = 600;
    world.spec.life.boot_timeout_secs = boot_timeout_secs;
    world.order();
    let turns = |world: &mut World| {
        world.tick(&calm());
        world.rollout().back
    };
    let ticks = (1..CALM_TICKS).find(|_| turns(&mut world)).unwrap();
    assert!(ticks < (boot_timeout_secs / TICK_SECS) as usize, "{ticks}");
}

#[test]
fn new_members_that_fail_after_a_while_are_taken_back() {
    let mut world = started(New::FailsAfter(60), pace(2));
    world.order();
    for _ in 0..CALM_TICKS {
        world.tick(&calm());
    }
    world.in_order(&first());
    assert!(world.rollout().back);
}

#[test]
fn a_recipe_that_cannot_be_made_is_given_up() {
    for (new, vanished) in [(New::Refused, false), (New::Vanishes, true)] {
        let mut world = started(new, pace(1));
        world.order();
        for _ in 0..CALM_TICKS {
            world.tick(&calm());
        }
        world.in_order(&first());
        let cause = world.rollout().cause.clone().unwrap();
        assert_eq!(matches!(cause, Cause::Vanished { .. }), vanished, "{cause:?}");
        assert_eq!(world.new_ones(), 0);
    }
}

#[test]
fn an_outage_of_old_and_new_turns_nothing_round() {
    let mut world = started(New::Good, pace(1));
    world.spec.pace.failures_max = 0;
    world.order();
    while world.new_ones() < 2 {
        world.tick(&calm());
    }
    // What they share is down: nobody is ready for ten minutes.
    for droplet in world.droplets.values_mut() {
        droplet.asked_to_drain = true;
    }
    for _ in 0..40 {
        world.tick(&calm());
    }
    for droplet in world.droplets.values_mut().filter(|d| !d.member.draining) {
        droplet.asked_to_drain = false;
    }
    assert!(!world.rollout().back, "{:?}", world.rollout());
    until_done(&mut world);
    world.in_order(&second());
}

#[test]
fn growth_and_repairs_are_made_of_what_is_known_to_serve_until_the_new_one_is() {
    let mut world = started(New::NeverReady, pace(1));
    world.order();
    world.tick(&calm());
    world.tick(&calm());
    assert_eq!(world.new_ones(), 1);
    let busy = Trouble { cpu: 0.9, ..calm() };
    let (decision, plan) = world.tick(&busy);
    assert_eq!(
        (decision.desired, decision.surge),
        (6, 1),
        "{}",
        decision.reason()
    );
    let made: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Create { generation, .. } => Some(generation.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(made, [None, None, None], "{}", decision.reason());

    let mut world = started(New::NeverReady, pace(1));
    world.order();
    world.tick(&calm());
    world.tick(&calm());
    world.droplets.values_mut().next().unwrap().member.power = Power::Off;
    for _ in 0..8 {
        world.tick(&calm());
    }
    let old = world.droplets.values().filter(|d| !world.is_new(&d.member));
    assert_eq!(old.count(), 3, "the dead one was replaced by one of its kind");
}

#[test]
fn a_paused_rollout_replaces_nobody_and_goes_on_when_it_is_resumed() {
    let mut world = started(New::Good, pace(1));
    world.order();
    while world.new_ones() == 0 || world.droplets.len() > 3 {
        world.tick(&calm());
    }
    world.say(Some(Word::Pause));
    let before = world.new_ones();
    for _ in 0..60 {
        let (decision, _) = world.tick(&calm());
        assert!(decision.reason().contains("paused"), "{}", decision.reason());
    }
    assert!(world.new_ones() <= before + 1);
    assert!(world.droplets.len() <= 4);
    world.say(Some(Word::Resume));
    until_done(&mut world);
    world.in_order(&second());
}

#[test]
fn a_rollout_under_way_waits_while_the_pool_is_held() {
    let mut world = started(New::Good, pace(1));
    world.order();
    while world.new_ones() < 2 {
        world.tick(&calm());
    }
    let before: Vec<MemberId> = world.droplets.keys().cloned().collect();
    for _ in 0..60 {
        let held = Trouble { hold: true, ..calm() };
        let (decision, _) = world.tick(&held);
        assert!(decision.reason().contains("waits while"), "{}", decision.reason());
    }
    let after: Vec<MemberId> = world.droplets.keys().cloned().collect();
    assert_eq!(before, after);
    until_done(&mut world);
    world.in_order(&second());
    assert_eq!(world.droplets.len(), 3);
}

#[test]
fn what_is_of_it_already_is_not_replaced() {
    let mut world = started(New::Good, pace(1));
    let to = first();
    world.spec.rollout = Some(Rollout::new(to.clone(), None, world.now));
    let ids: Vec<MemberId> = world.droplets.keys().cloned().collect();
    assert_eq!(until_done(&mut world), 0);
    assert_eq!(ids, world.droplets.keys().cloned().collect::<Vec<_>>());
    // Another size is another recipe; a member whose size isn't known is taken for one of this size.
    let larger = Recipe {
        size: Some("s-2vcpu-2gb".to_owned()),
        ..to
    };
    let rollout = Rollout::new(larger, None, world.now);
    let member = |size: Option<&str>| Member {
        size: size.map(str::to_owned),
        image: "api (1)".into(),
        ..crate::support::member(1)
    };
    assert!(rollout.replaces(&member(Some("s-1vcpu-1gb"))));
    assert!(!rollout.replaces(&member(Some("s-2vcpu-2gb"))));
    assert!(!rollout.replaces(&member(None)));
}

#[test]
fn without_anything_to_go_back_to_a_failing_rollout_is_paused() {
    let mut world = started(New::NeverReady, pace(1));
    world.spec.rollout = Some(Rollout::new(second(), None, world.now));
    for _ in 0..CALM_TICKS {
        world.tick(&calm());
    }
    assert_eq!(world.rollout().stage, Stage::Paused);
    assert!(!world.rollout().back && world.rollout().cause.is_some());
    let old = world.droplets.values().filter(|d| !world.is_new(&d.member));
    assert_eq!(old.count(), 3);
}

fn until_paused(world: &mut World) {
    for _ in 0..CALM_TICKS {
        world.tick(&calm());
        if world.rollout().stage == Stage::Paused {
            return;
        }
    }
    panic!("not paused: {:#?}", world.rollout());
}

#[test]
fn resumed_after_new_members_vanished_it_goes_on_and_is_paused_again_only_when_as_many_vanish_again() {
    let mut world = started(New::Vanishes, pace(1));
    world.spec.rollout = Some(Rollout::new(second(), None, world.now));
    for _ in 0..2 {
        until_paused(&mut world);
        assert_eq!(world.rollout().cause, Some(Cause::Vanished { times: 2 }));
        world.say(Some(Word::Resume));
        world.tick(&calm());
        assert_eq!(world.rollout().stage, Stage::Running);
    }
    until_paused(&mut world);
    // What was at fault is mended.
    world.new = New::Good;
    world.say(Some(Word::Resume));
    until_done(&mut world);
    world.in_order(&second());
}

#[test]
fn what_vanished_before_a_rollout_is_not_held_against_it() {
    let mut world = started(New::Vanishes, pace(1));
    world.memory.vanished = Vanished {
        times: 3,
        at: Some(world.now),
        members: BTreeMap::new(),
    };
    world.order();
    for _ in 0..CALM_TICKS {
        world.tick(&calm());
    }
    assert_eq!(world.rollout().cause, Some(Cause::Vanished { times: 2 }));
}

proptest! {
    #[test]
    fn whatever_goes_wrong_all_members_end_up_new_or_all_old(
        new in new(),
        surge in 1..4_u32,
        before in proptest::collection::vec(trouble(), 0..6),
        troubles in proptest::collection::vec(trouble(), 1..80),
    ) {
        let mut world = started(new, pace(surge));
        for trouble in &before {
            world.tick(trouble);
        }
        world.order();
        for trouble in &troubles {
            world.tick(trouble);
        }
        world.say(Some(Word::Resume));
        for _ in 0..CALM_TICKS {
            world.tick(&calm());
            world.say(Some(Word::Resume));
            if world.is_settled() {
                break;
            }
        }
        let to = world.rollout().to.clone();
        prop_assert!(to == first() || to == second());
        if new != New::Good && !matches!(new, New::FailsAfter(_)) {
            prop_assert_eq!(&to, &first());
        }
        world.in_order(&to);
    }
}
