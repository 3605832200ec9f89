//! Rollouts in a simulated pool: whatever goes wrong, no fewer serve than are wanted, no more are made than the maximum and
//! the surge (those on their way out not counted), and in the end all members are new, or all are old.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tidepool_autoscaler_core::decide::{Control, decide};
use tidepool_autoscaler_core::memory::{Memory, Vanished};
use tidepool_autoscaler_core::observe::{
    Member, MemberId, MemberName, Observation, Power, Readiness, Sample, SignalReading, UnixMillis,
};
use tidepool_autoscaler_core::outcome::{Decision, Plan, Step, StepKind};
use tidepool_autoscaler_core::plan::plan;
use tidepool_autoscaler_core::progress::advance;
use tidepool_autoscaler_core::recipe::{Generation, Recipe};
use tidepool_autoscaler_core::rollout::{Cause, Rollout, Stage};
use tidepool_autoscaler_core::roster::Roster;
use tidepool_autoscaler_core::spec::{Pace, PoolSpec, RepairLimit};

use crate::support::spec;

const TICK_SECS: u32 = 15;
/// Ticks without faults in which every rollout ends: ten members, one at a time, each with its boot, its time of being ready and
/// its way out (300 s), there and back again, and what the breaker of repairs (600 s) and a lost memory cost.
const CALM_TICKS: usize = 500;

/// How members of the new image do.
#[derive(Debug, Clone, Copy, PartialEq)]
enum New {
    Good,
    NeverReady,
    /// Ready at first, and not after so many seconds.
    FailsAfter(i64),
    /// Its creates are refused.
    Refused,
    /// Its creates are accepted, and nothing comes of them.
    Vanishes,
}

#[derive(Debug, Clone)]
struct Trouble {
    cpu: f64,
    /// The autoscaler dies after so many steps, with or without its memory.
    crash: Option<(usize, bool)>,
    power_cut: Option<usize>,
    unready: Option<usize>,
    blind: bool,
    hold: bool,
    /// What the operator says about the rollout.
    word: Option<Word>,
}

#[derive(Debug, Clone, Copy)]
enum Word {
    Pause,
    Resume,
    Undo,
}

fn calm() -> Trouble {
    Trouble {
        cpu: 0.5,
        crash: None,
        power_cut: None,
        unready: None,
        blind: false,
        hold: false,
        word: None,
    }
}

fn trouble() -> impl Strategy<Value = Trouble> {
    let rare = |range| prop_oneof![6 => Just(None), 1 => proptest::option::of(range)];
    let word = prop_oneof![
        30 => Just(None), 1 => Just(Some(Word::Pause)), 1 => Just(Some(Word::Resume)), 1 => Just(Some(Word::Undo))
    ];
    (
        prop_oneof![3 => Just(0.5), 1 => 0.0..1.2_f64],
        prop_oneof![5 => Just(None), 1 => proptest::option::of((0..6_usize, any::<bool>()))],
        rare(0..8_usize),
        rare(0..8_usize),
        prop_oneof![6 => Just(false), 1 => Just(true)],
        prop_oneof![8 => Just(false), 1 => Just(true)],
        word,
    )
        .prop_map(|(cpu, crash, power_cut, unready, blind, hold, word)| Trouble {
            cpu,
            crash,
            power_cut,
            unready,
            blind,
            hold,
            word,
        })
}

fn new() -> impl Strategy<Value = New> {
    prop_oneof![
        3 => Just(New::Good), 1 => Just(New::NeverReady), 1 => (0..400_i64).prop_map(New::FailsAfter),
        1 => Just(New::Refused), 1 => Just(New::Vanishes)
    ]
}

fn recipe(generation: Option<&str>, image: &str) -> Recipe {
    Recipe {
        generation: generation.map(|text| Generation(text.to_owned())),
        name: None,
        image: image.into(),
        size: None,
    }
}

fn first() -> Recipe {
    recipe(None, "api (1)")
}

fn second() -> Recipe {
    recipe(Some("2"), "api (2)")
}

#[derive(Debug, Clone)]
struct Droplet {
    member: Member,
    asked_to_drain: bool,
}

struct World {
    spec: PoolSpec,
    now: UnixMillis,
    droplets: BTreeMap<MemberId, Droplet>,
    next_id: u64,
    new: New,
    memory: Memory,
}

impl World {
    fn new(spec: PoolSpec, new: New) -> World {
        World {
            spec: PoolSpec {
                recipe: first(),
                ..spec
            },
            now: UnixMillis(1_000_000_000),
            droplets: BTreeMap::new(),
            next_id: 1,
            new,
            memory: Memory::default(),
        }
    }

    fn order(&mut self) {
        self.spec.rollout = Some(Rollout::new(second(), Some(first()), self.now));
    }

    fn rollout(&self) -> &Rollout {
        self.spec.rollout.as_ref().unwrap()
    }

    fn is_new(&self, member: &Member) -> bool {
        member.generation == second().generation
    }

    /// Whether it is ready, by its own word.
    fn is_ready(&self, droplet: &Droplet) -> bool {
        let age_secs = self.now.secs_since(droplet.member.created_at) as i64;
        let boots = age_secs < 20;
        let broken = self.is_new(&droplet.member)
            && match self.new {
                New::NeverReady => true,
                New::FailsAfter(secs) => age_secs > secs + 20,
                New::Good | New::Refused | New::Vanishes => false,
            };
        droplet.member.power == Power::Running && !boots && !broken && !droplet.asked_to_drain
    }

    fn observe(&self, trouble: &Trouble) -> Observation {
        let mut members = Vec::new();
        let mut drained = BTreeSet::new();
        for (n, droplet) in self.droplets.values().enumerate() {
            let ready = self.is_ready(droplet) && trouble.unready != Some(n);
            let readiness = if ready {
                Readiness::Ready
            } else {
                Readiness::NotReady
            };
            if droplet.asked_to_drain && droplet.member.power == Power::Running {
                drained.insert(droplet.member.id.clone());
            }
            members.push(Member {
                readiness,
                ..droplet.member.clone()
            });
        }
        let serving = members.iter().filter(|m| m.serving && m.power == Power::Running);
        // The load is spread over those that serve; `cpu` is what three of them have.
        let cpu = trouble.cpu * 3.0 / serving.clone().count().max(1) as f64;
        let samples: Vec<Sample> = serving
            .map(|m| Sample {
                host: m.name.clone(),
                value: cpu,
                at: UnixMillis(self.now.0 - 5000),
            })
            .collect();
        let reading = if trouble.blind {
            SignalReading::Failed {
                reason: "503".to_owned(),
            }
        } else {
            SignalReading::Read(samples.into())
        };
        Observation {
            at: self.now,
            members,
            unseen: 0,
            may_go_on: false,
            provider_ahead_millis: Some(0),
            missing: BTreeSet::new(),
            drained,
            signals: BTreeMap::from([("cpu".to_owned(), reading)]),
        }
    }

    fn create(&mut self, name: &MemberName, generation: Option<&Generation>) -> Result<(), ()> {
        let made_new = generation == second().generation.as_ref();
        if made_new && self.new == New::Refused {
            return Err(());
        }
        let id = MemberId(format!("{:06}", self.next_id));
        self.next_id += 1;
        if made_new && self.new == New::Vanishes {
            self.memory.create_acknowledged(name, &id, self.now);
            return Ok(());
        }
        let made_of = if made_new { second() } else { first() };
        let member = Member {
            id: id.clone(),
            name: name.clone(),
            created_at: self.now,
            power: Power::Running,
            serving: false,
            draining: false,
            readiness: Readiness::NotReady,
            address: Some("10.0.0.1".parse().unwrap()),
            image: made_of.image,
            size: None,
            generation: generation.cloned(),
        };
        let droplet = Droplet {
            member,
            asked_to_drain: false,
        };
        self.droplets.insert(id, droplet);
        Ok(())
    }

    fn run(&mut self, step: &Step) -> Result<(), ()> {
        if let Step::Create { name, generation } = step {
            return self.create(name, generation.as_ref());
        }
        let id = step.id().unwrap();
        let Some(droplet) = self.droplets.get_mut(id) else {
            return Ok(());
        };
        match step.kind() {
            StepKind::Create => {}
            StepKind::Admit => droplet.member.serving = true,
            StepKind::MarkDraining => droplet.member.draining = true,
            StepKind::Withdraw => droplet.member.serving = false,
            StepKind::Drain => droplet.asked_to_drain = true,
            StepKind::Shutdown | StepKind::PowerOff => droplet.member.power = Power::Off,
            StepKind::Destroy => {
                assert!(!droplet.member.serving, "it leaves the balancer first");
                self.droplets.remove(id);
            }
        }
        Ok(())
    }

    fn tick(&mut self, trouble: &Trouble) -> (Decision, Plan) {
        self.now = self.now.plus_secs(TICK_SECS);
        if let Some(droplet) = trouble.power_cut.and_then(|n| self.droplets.values_mut().nth(n)) {
            droplet.member.power = Power::Off;
        }
        self.say(trouble.word);
        let seen = self.observe(trouble);
        let memory = self.memory.observe(&self.spec, &seen);
        let control = if trouble.hold {
            Control::Hold { size: 3 }
        } else {
            Control::Auto
        };
        self.spec.rollout = advance(&self.spec, &seen, &memory, control);
        let decision = decide(&self.spec, &seen, &memory, control);
        let plan = plan(&self.spec, &seen, &memory, &decision);
        self.check(&seen, &memory, &decision, &plan);
        let mut next = memory.clone();
        next.intend(&self.spec, &decision, &plan);
        self.memory = next;
        let steps = trouble.crash.map_or(plan.steps.len(), |(steps, _)| steps);
        for step in plan.steps.iter().take(steps) {
            self.run_and_note(step, seen.at);
        }
        if let Some((_, true)) = trouble.crash {
            self.memory = Memory {
                ordinal_max: self.memory.ordinal_max,
                ..Memory::default()
            };
        }
        (decision, plan)
    }

    fn run_and_note(&mut self, step: &Step, at: UnixMillis) {
        let outcome = self.run(step);
        if let Step::Create { name, generation } = step {
            if outcome.is_err() {
                let failed = tidepool_autoscaler_core::memory::CreateOutcome::Failed;
                self.memory.create_failed(name, at, failed);
            }
            let rollout = self.spec.rollout.as_mut();
            if let Some(rollout) = rollout.filter(|rollout| rollout.to.generation == *generation) {
                rollout.create_ended(outcome.is_err());
            }
        }
    }

    fn say(&mut self, word: Option<Word>) {
        let Some(rollout) = self.spec.rollout.as_mut() else {
            return;
        };
        match word {
            Some(Word::Pause) => rollout.pause(),
            Some(Word::Resume) => rollout.resume(),
            Some(Word::Undo) => assert!(rollout.undo()),
            None => {}
        }
    }

    fn check(&self, seen: &Observation, memory: &Memory, decision: &Decision, plan: &Plan) {
        let roster = Roster::of(&self.spec, seen, memory).under(decision.control);
        let surge = self.spec.pace.surge;
        // No more than the maximum and the surge, without those that are on their way out.
        let created = plan.steps.iter().filter(|s| s.kind() == StepKind::Create).count();
        let created = u32::try_from(created).unwrap();
        assert!(
            created == 0 || decision.actual + created <= self.spec.max + surge,
            "{decision:?} {plan:?}"
        );
        assert!(decision.surge <= surge && decision.surplus <= surge);
        // No fewer serve than are wanted, by any step of ours.
        let leaves = |id: &MemberId| {
            let out = |s: &&Step| {
                matches!(
                    s.kind(),
                    StepKind::MarkDraining | StepKind::Withdraw | StepKind::Destroy
                )
            };
            plan.steps.iter().filter(out).any(|s| s.id() == Some(id))
        };
        let serving = roster
            .entries
            .iter()
            .filter(|e| e.state == tidepool_autoscaler_core::members::MemberState::Serving);
        let before = serving.clone().count();
        let after = serving.filter(|e| !leaves(&e.member.id)).count();
        assert!(
            after >= before.min(decision.desired as usize),
            "{after} of {before} go on serving: {decision:?} {plan:?}"
        );
        if let Control::Hold { .. } = decision.control {
            assert!(
                plan.steps
                    .iter()
                    .all(|s| matches!(s.kind(), StepKind::Create | StepKind::Admit)),
                "{plan:?}"
            );
        }
        let names: BTreeSet<_> = seen.members.iter().map(|m| &m.name).collect();
        assert!(
            plan.steps
                .iter()
                .filter(|s| s.kind() == StepKind::Create)
                .all(|s| !names.contains(s.name())),
            "a create repeats a name"
        );
    }

    fn new_ones(&self) -> usize {
        self.droplets.values().filter(|d| self.is_new(&d.member)).count()
    }

    /// Nothing is left to do.
    fn is_settled(&self) -> bool {
        let settled =
            |d: &Droplet| d.member.serving && !d.member.draining && d.member.power == Power::Running;
        self.rollout().stage == Stage::Done
            && self.droplets.len() >= self.spec.min as usize
            && self.droplets.values().all(settled)
    }

    /// All members serve, and all are of the same recipe.
    fn in_order(&self, of: &Recipe) {
        let all: Vec<&Member> = self.droplets.values().map(|d| &d.member).collect();
        let well = |m: &&Member| m.serving && !m.draining && m.power == Power::Running;
        assert!(all.iter().all(well), "{all:#?}");
        assert!(
            all.iter().all(|m| m.generation == of.generation),
            "{:#?} {all:#?}",
            self.rollout()
        );
        let names: BTreeSet<_> = all.iter().map(|m| &m.name).collect();
        assert_eq!(names.len(), all.len());
        let size = u32::try_from(all.len()).unwrap();
        assert!((self.spec.min..=self.spec.max).contains(&size), "{size}");
        assert_eq!(self.rollout().stage, Stage::Done, "{:#?}", self.rollout());
        assert_eq!(&self.rollout().to, of);
    }
}

/// Three members of the first image that serve, in a pool of 2 to 6.
fn started(new: New, pace: Pace) -> World {
    let mut world = World::new(
        PoolSpec {
            min: 3,
            max: 6,
            pace,
            repair: RepairLimit {
                max: 5,
                window_secs: 600,
            },
            ..spec()
        },
        new,
    );
    for _ in 0..6 {
        world.tick(&calm());
    }
    assert_eq!(world.droplets.len(), 3);
    world
}

fn pace(surge: u32) -> Pace {
    Pace {
        surge,
        ready_secs: 200,
        ..Pace::default()
    }
}

fn until_done(world: &mut World) -> usize {
    for n in 0..CALM_TICKS {
        world.tick(&calm());
        if world.rollout().stage == Stage::Done {
            return n;
        }
    }
    panic!("not done: {:#?} {:#?}", world.rollout(), world.droplets);
}

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
