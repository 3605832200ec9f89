//! A simulated pool of droplets, old and new, and what befalls it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tidepool_autoscaler_core::decide::{Control, decide};
use tidepool_autoscaler_core::memory::Memory;
use tidepool_autoscaler_core::observe::{
    Member, MemberId, MemberName, Observation, Power, Readiness, Sample, SignalReading, UnixMillis,
};
use tidepool_autoscaler_core::outcome::{Decision, Plan, Step, StepKind};
use tidepool_autoscaler_core::plan::plan;
use tidepool_autoscaler_core::progress::advance;
use tidepool_autoscaler_core::recipe::{Generation, Recipe};
use tidepool_autoscaler_core::rollout::{Rollout, Stage};
use tidepool_autoscaler_core::roster::Roster;
use tidepool_autoscaler_core::spec::{Pace, PoolSpec, RepairLimit};

use crate::support::spec;

pub(super) const TICK_SECS: u32 = 15;
/// Ticks without faults in which every rollout ends: ten members, one at a time, each with its boot, its time of being ready and
/// its way out (300 s), there and back again, and what the breaker of repairs (600 s) and a lost memory cost.
pub(super) const CALM_TICKS: usize = 500;

/// How members of the new image do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum New {
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
pub(super) struct Trouble {
    pub(super) cpu: f64,
    /// The autoscaler dies after so many steps, with or without its memory.
    pub(super) crash: Option<(usize, bool)>,
    pub(super) power_cut: Option<usize>,
    pub(super) unready: Option<usize>,
    pub(super) blind: bool,
    pub(super) hold: bool,
    /// What the operator says about the rollout.
    pub(super) word: Option<Word>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Word {
    Pause,
    Resume,
    Undo,
}

pub(super) fn calm() -> Trouble {
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

pub(super) fn trouble() -> impl Strategy<Value = Trouble> {
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

pub(super) fn new() -> impl Strategy<Value = New> {
    prop_oneof![
        3 => Just(New::Good), 1 => Just(New::NeverReady), 1 => (0..400_i64).prop_map(New::FailsAfter),
        1 => Just(New::Refused), 1 => Just(New::Vanishes)
    ]
}

pub(super) fn recipe(generation: Option<&str>, image: &str) -> Recipe {
    Recipe {
        generation: generation.map(|text| Generation(text.to_owned())),
        name: None,
        image: image.into(),
        size: None,
    }
}

pub(super) fn first() -> Recipe {
    recipe(None, "api (1)")
}

pub(super) fn second() -> Recipe {
    recipe(Some("2"), "api (2)")
}

#[derive(Debug, Clone)]
pub(super) struct Droplet {
    pub(super) member: Member,
    pub(super) asked_to_drain: bool,
}

pub(super) struct World {
    pub(super) spec: PoolSpec,
    pub(super) now: UnixMillis,
    pub(super) droplets: BTreeMap<MemberId, Droplet>,
    pub(super) next_id: u64,
    pub(super) new: New,
    pub(super) memory: Memory,
}

impl World {
    pub(super) fn new(spec: PoolSpec, new: New) -> World {
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

    pub(super) fn order(&mut self) {
        self.spec.rollout = Some(Rollout::new(second(), Some(first()), self.now));
    }

    pub(super) fn rollout(&self) -> &Rollout {
        self.spec.rollout.as_ref().unwrap()
    }

    pub(super) fn is_new(&self, member: &Member) -> bool {
        member.generation == second().generation
    }

    /// Whether it is ready, by its own word.
    pub(super) fn is_ready(&self, droplet: &Droplet) -> bool {
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

    pub(super) fn observe(&self, trouble: &Trouble) -> Observation {
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

    pub(super) fn create(&mut self, name: &MemberName, generation: Option<&Generation>) -> Result<(), ()> {
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

    pub(super) fn run(&mut self, step: &Step) -> Result<(), ()> {
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

    pub(super) fn tick(&mut self, trouble: &Trouble) -> (Decision, Plan) {
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

    pub(super) fn run_and_note(&mut self, step: &Step, at: UnixMillis) {
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

    pub(super) fn say(&mut self, word: Option<Word>) {
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

    pub(super) fn check(&self, seen: &Observation, memory: &Memory, decision: &Decision, plan: &Plan) {
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

    pub(super) fn new_ones(&self) -> usize {
        self.droplets.values().filter(|d| self.is_new(&d.member)).count()
    }

    /// Nothing is left to do.
    pub(super) fn is_settled(&self) -> bool {
        let settled =
            |d: &Droplet| d.member.serving && !d.member.draining && d.member.power == Power::Running;
        self.rollout().stage == Stage::Done
            && self.droplets.len() >= self.spec.min as usize
            && self.droplets.values().all(settled)
    }

    /// All members serve, and all are of the same recipe.
    pub(super) fn in_order(&self, of: &Recipe) {
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
pub(super) fn started(new: New, pace: Pace) -> World {
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

pub(super) fn pace(surge: u32) -> Pace {
    Pace {
        surge,
        ready_secs: 200,
        ..Pace::default()
    }
}

pub(super) fn until_done(world: &mut World) -> usize {
    for n in 0..CALM_TICKS {
        world.tick(&calm());
        if world.rollout().stage == Stage::Done {
            return n;
        }
    }
    panic!("not done: {:#?} {:#?}", world.rollout(), world.droplets);
}
