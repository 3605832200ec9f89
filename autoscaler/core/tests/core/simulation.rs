//! A simulated pool with everything that goes wrong in a real one: the invariants hold in every tick, and when the faults
//! end the pool becomes what it should be, with no orphan and no duplicate.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tidepool_autoscaler_core::decide::{Control, decide};
use tidepool_autoscaler_core::memory::{CreateOutcome, Memory};
use tidepool_autoscaler_core::observe::{
    Member, MemberId, MemberName, Observation, Power, Readiness, Sample, SignalReading, UnixMillis,
};
use tidepool_autoscaler_core::outcome::{Decision, Plan, Reason, Step, StepKind};
use tidepool_autoscaler_core::plan::plan;
use tidepool_autoscaler_core::signal::Signal;
use tidepool_autoscaler_core::spec::PoolSpec;

use crate::support::{name, spec};

const TICK_SECS: i64 = 15;
/// Ticks without faults after which everything must be in order: the longest ways are a lost create (50 s), a boot timeout
/// (200 s), a drain with its bounds (130 s and 60 s), the in-window (300 s) and the breaker of repairs (600 s), one after
/// the other, and shrinking by two a minute.
const CALM_TICKS: usize = 140;

/// What goes wrong in one tick.
#[derive(Debug, Clone)]
struct Trouble {
    /// CPU of each serving member.
    cpu: f64,
    metric: Metric,
    create: Create,
    /// The autoscaler dies after so many steps, with or without its memory.
    crash: Option<(usize, bool)>,
    /// The power of the nth member fails.
    power_cut: Option<usize>,
    /// The nth member is not ready in this tick.
    unready: Option<usize>,
    /// New members take so long to get ready, seconds.
    boot_secs: i64,
    /// New droplets are not listed for so long, seconds.
    list_lag_secs: i64,
    /// What the list says in this tick of the nth member's power, or of everybody's.
    lie: Option<(Option<usize>, Power)>,
    /// The operator holds the pool at its size.
    hold: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Metric {
    Good,
    Failed,
    Old,
    Future,
    Half,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Create {
    Works,
    Fails,
    Quota,
    /// It happens, and the answer is lost.
    Lost,
    /// It doesn't happen, and the answer is lost.
    LostUndone,
}

fn trouble() -> impl Strategy<Value = Trouble> {
    let metric = prop_oneof![
        4 => Just(Metric::Good), 1 => Just(Metric::Failed), 1 => Just(Metric::Old), 1 => Just(Metric::Future),
        1 => Just(Metric::Half)
    ];
    let create = prop_oneof![
        4 => Just(Create::Works), 1 => Just(Create::Fails), 1 => Just(Create::Quota), 1 => Just(Create::Lost),
        1 => Just(Create::LostUndone)
    ];
    let rare = |range| prop_oneof![5 => Just(None), 1 => proptest::option::of(range)];
    let lie = (
        proptest::option::of(0..8_usize),
        prop_oneof![Just(Power::Off), Just(Power::Creating), Just(Power::Unknown)],
    );
    (
        0.0..1.2_f64,
        metric,
        create,
        prop_oneof![4 => Just(None), 1 => proptest::option::of((0..6_usize, any::<bool>()))],
        rare(0..8_usize),
        rare(0..8_usize),
        prop_oneof![3 => 0..60_i64, 1 => Just(10_000_i64)],
        prop_oneof![3 => Just(0_i64), 1 => 0..45_i64],
        prop_oneof![5 => Just(None), 1 => proptest::option::of(lie)],
        prop_oneof![6 => Just(false), 1 => Just(true)],
    )
        .prop_map(
            |(cpu, metric, create, crash, power_cut, unready, boot_secs, list_lag_secs, lie, hold)| Trouble {
                cpu,
                metric,
                create,
                crash,
                power_cut,
                unready,
                boot_secs,
                list_lag_secs,
                lie,
                hold,
            },
        )
}

fn calm(cpu: f64) -> Trouble {
    Trouble {
        cpu,
        metric: Metric::Good,
        create: Create::Works,
        crash: None,
        power_cut: None,
        unready: None,
        boot_secs: 20,
        list_lag_secs: 0,
        lie: None,
        hold: false,
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Droplet {
    member: Member,
    ready_at: UnixMillis,
    listed_at: UnixMillis,
    draining_asked: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct World {
    now: UnixMillis,
    droplets: BTreeMap<MemberId, Droplet>,
    next_id: u64,
}

impl World {
    fn observe(&self, trouble: &Trouble) -> Observation {
        let listed = self.droplets.values().filter(|d| d.listed_at <= self.now);
        let mut members: Vec<Member> = Vec::new();
        let mut drained = BTreeSet::new();
        for (n, droplet) in listed.enumerate() {
            let lied = trouble.lie.filter(|(who, _)| who.is_none_or(|who| who == n));
            let power = lied.map_or(droplet.member.power, |(_, power)| power);
            // Only who is said to run is asked.
            let running = droplet.member.power == Power::Running && power == Power::Running;
            let ready = running
                && droplet.ready_at <= self.now
                && trouble.unready != Some(n)
                && !droplet.draining_asked;
            let readiness = if ready {
                Readiness::Ready
            } else {
                Readiness::NotReady
            };
            if running && droplet.draining_asked {
                drained.insert(droplet.member.id.clone());
            }
            members.push(Member {
                readiness,
                power,
                ..droplet.member.clone()
            });
        }
        let serving: Vec<&Member> = members
            .iter()
            .filter(|m| m.serving && m.power == Power::Running)
            .collect();
        let half = serving.len().div_ceil(2);
        let shift = match trouble.metric {
            Metric::Good | Metric::Half | Metric::Failed => -5,
            Metric::Old => -600,
            Metric::Future => 600,
        };
        let answering = if trouble.metric == Metric::Half {
            half
        } else {
            serving.len()
        };
        let at = UnixMillis(self.now.0 + shift * 1000);
        let samples = serving
            .iter()
            .take(answering)
            .map(|m| Sample {
                host: m.name.clone(),
                value: trouble.cpu,
                at,
            })
            .collect::<Vec<_>>();
        let reading = match trouble.metric {
            Metric::Failed => SignalReading::Failed {
                reason: "503".to_owned(),
            },
            Metric::Good | Metric::Old | Metric::Future | Metric::Half => SignalReading::Read(samples.into()),
        };
        let signals = BTreeMap::from([("cpu".to_owned(), reading)]);
        Observation {
            at: self.now,
            members,
            unseen: 0,
            may_go_on: false,
            provider_ahead_millis: Some(0),
            missing: BTreeSet::new(),
            drained,
            signals,
        }
    }

    /// Runs one step as the provider does. `Err` means a create that surely failed.
    fn run(&mut self, step: &Step, trouble: &Trouble) -> Result<(), CreateOutcome> {
        let now = self.now;
        if let Step::Create { name, generation } = step {
            match trouble.create {
                Create::Fails => return Err(CreateOutcome::Failed),
                Create::Quota => return Err(CreateOutcome::QuotaReached),
                Create::LostUndone => return Ok(()),
                Create::Works | Create::Lost => {}
            }
            let id = MemberId(format!("{:06}", self.next_id));
            self.next_id += 1;
            let member = Member {
                id: id.clone(),
                name: name.clone(),
                created_at: now,
                power: Power::Running,
                serving: false,
                draining: false,
                readiness: Readiness::NotReady,
                address: Some([10, 0, 0, 1].into()),
                image: "new".into(),
                size: None,
                generation: generation.clone(),
            };
            let later = |secs: i64| UnixMillis(now.0 + secs * 1000);
            let (ready_at, listed_at) = (later(trouble.boot_secs), later(trouble.list_lag_secs));
            self.droplets.insert(
                id,
                Droplet {
                    member,
                    ready_at,
                    listed_at,
                    draining_asked: false,
                },
            );
            return Ok(());
        }
        let id = step.id().unwrap().clone();
        let Some(droplet) = self.droplets.get_mut(&id) else {
            return Ok(());
        };
        let member = &mut droplet.member;
        match step {
            Step::Create { .. } => {}
            Step::Admit { .. } => {
                assert!(
                    !member.draining,
                    "a member on its way out is never admitted again"
                );
                member.serving = true;
            }
            Step::MarkDraining { .. } => member.draining = true,
            Step::Withdraw { .. } => member.serving = false,
            Step::Drain { .. } => {
                assert!(!member.serving, "a member leaves the balancer before it drains");
                droplet.draining_asked = true;
            }
            Step::Shutdown { .. } | Step::PowerOff { .. } => {
                assert!(
                    !member.serving,
                    "a member leaves the balancer before it is stopped"
                );
                member.power = Power::Off;
            }
            Step::Destroy { .. } => {
                assert!(
                    !member.serving,
                    "a member leaves the balancer before it is destroyed"
                );
                self.droplets.remove(&id);
            }
        }
        Ok(())
    }
}

/// What must hold of every plan, whatever was seen.
fn check(spec: &PoolSpec, seen: &Observation, before: &Memory, (decision, plan): (&Decision, &Plan)) {
    check_removals(spec, seen, before, (decision, plan));
    let creates: Vec<_> = plan
        .steps
        .iter()
        .filter(|s| matches!(s, Step::Create { .. }))
        .collect();
    let created = u32::try_from(creates.len()).unwrap();
    // 2: names are absolute and not in use.
    let names: BTreeSet<_> = creates.iter().map(|s| s.name()).collect();
    assert_eq!(names.len(), creates.len());
    let known = |name: &MemberName| {
        seen.members.iter().any(|m| m.name == *name) || before.pending_creates.contains_key(name)
    };
    assert!(
        names.iter().all(|name| !known(name)),
        "a create repeats a name: {plan:?}"
    );
    // 3: inside the bounds and the step limits.
    assert!((spec.min..=spec.max).contains(&decision.desired));
    assert!(decision.actual + created <= spec.max.max(decision.actual));
    let since = |secs| {
        before
            .resizes
            .iter()
            .filter(move |r| !seen.at.is_past(r.at, secs))
    };
    let made: u32 = since(spec.limits.out_period_secs).map(|r| r.created).sum();
    let gone: u32 = since(spec.limits.in_period_secs).map(|r| r.removed).sum();
    assert!(
        made + created <= spec.limits.out_max.max(made),
        "{made} + {created}"
    );
    assert!(
        gone + plan.removed <= spec.limits.in_max.max(gone),
        "{gone} + {}",
        plan.removed
    );
    // 4: what can't be trusted never shrinks a pool, except to its maximum.
    let trusted = decision
        .proposals
        .iter()
        .all(|p| matches!(&p.basis, Some(basis) if matches!(basis.signal, Signal::Fresh { .. })));
    if !trusted && decision.control == Control::Auto {
        assert!(
            decision.desired >= decision.actual.min(spec.max),
            "{}",
            decision.reason()
        );
        assert!(plan.removed <= decision.actual.saturating_sub(spec.max));
    }
    // 6: only who is ready gets in.
    for step in &plan.steps {
        if let Step::Admit { id, .. } = step {
            let member = seen.members.iter().find(|m| m.id == *id).unwrap();
            assert!(
                member.readiness == Readiness::Ready && !member.draining && member.power == Power::Running
            );
        }
    }
}

/// Nobody is removed while the pool is held, without a reason, for what was said in this tick alone, or below the minimum.
fn check_removals(
    spec: &PoolSpec,
    seen: &Observation,
    before: &Memory,
    (decision, plan): (&Decision, &Plan),
) {
    let removing = |kind| {
        use StepKind::{Destroy, Drain, MarkDraining, PowerOff, Shutdown, Withdraw};
        matches!(
            kind,
            MarkDraining | Withdraw | Drain | Shutdown | PowerOff | Destroy
        )
    };
    let removals: Vec<&Step> = plan.steps.iter().filter(|s| removing(s.kind())).collect();
    if let Control::Hold { .. } = decision.control {
        assert!(removals.is_empty(), "{plan:?}");
    }
    let ids: BTreeSet<_> = removals.iter().filter_map(|step| step.id()).collect();
    let staying: Vec<&Member> = seen.members.iter().filter(|m| !m.draining).collect();
    let leaving = staying.iter().filter(|m| ids.contains(&m.id));
    for member in leaving.clone() {
        let explained = decision.planned < decision.actual
            || decision.reasons.iter().any(|reason| match reason {
                Reason::Repairs { members } => members.iter().any(|m| m.name == member.name),
                Reason::Copies { members } => members.iter().any(|m| m.0.starts_with(&member.name.0)),
                _ => false,
            });
        assert!(explained, "{} goes without a reason: {decision:?}", member.name);
        let new_power = before.members[&member.id].power_since == Some(seen.at);
        if plan.repaired.contains(&member.id) && member.power == Power::Off {
            assert!(!new_power, "{} is believed to be off at once", member.name);
        }
    }
    let created = plan.steps.iter().filter(|s| s.kind() == StepKind::Create).count();
    let after = staying.len() - leaving.count() + before.pending_creates.len() + created;
    let least = (spec.min as usize).min(staying.len());
    assert!(
        after >= least,
        "{after} of {least} are left: {decision:?} {plan:?}"
    );
}

/// 2: what a plan does, it does once, however often it is run. A create is recognised by its name.
fn check_twice(world: &World, plan: &Plan) {
    let run = |world: &mut World| {
        for step in &plan.steps {
            let exists = world.droplets.values().any(|d| d.member.name == *step.name());
            if !(matches!(step, Step::Create { .. }) && exists) {
                let gone = step.id().is_some_and(|id| !world.droplets.contains_key(id));
                if !gone {
                    world.run(step, &calm(0.5)).unwrap();
                }
            }
        }
    };
    let mut once = world.clone();
    run(&mut once);
    let mut twice = once.clone();
    run(&mut twice);
    assert_eq!(once, twice);
}

fn tick(spec: &PoolSpec, world: &mut World, memory: &mut Memory, trouble: &Trouble) {
    world.now = world.now.plus_secs(u32::try_from(TICK_SECS).unwrap());
    if let Some(droplet) = trouble.power_cut.and_then(|n| world.droplets.values_mut().nth(n)) {
        droplet.member.power = Power::Off;
    }
    let seen = world.observe(trouble);
    let taken_in = memory.observe(spec, &seen);
    let control = if trouble.hold {
        Control::Hold { size: 3 }
    } else {
        Control::Auto
    };
    let decision = decide(spec, &seen, &taken_in, control);
    let plan = plan(spec, &seen, &taken_in, &decision);
    check(spec, &seen, &taken_in, (&decision, &plan));
    check_twice(world, &plan);

    let mut next = taken_in.clone();
    next.intend(spec, &decision, &plan);
    let steps = trouble.crash.map_or(plan.steps.len(), |(steps, _)| steps);
    for step in plan.steps.iter().take(steps) {
        if let Err(outcome) = world.run(step, trouble) {
            next.create_failed(step.name(), seen.at, outcome);
        }
    }
    if let Some((_, true)) = trouble.crash {
        // The state directory is lost. What the journal says of creates is the shell's part, and tested there; here the
        // provider lists at once what it made.
        world
            .droplets
            .values_mut()
            .for_each(|d| d.listed_at = d.listed_at.min(world.now));
        next = Memory {
            ordinal_max: next.ordinal_max,
            ..Memory::default()
        };
    }
    *memory = next;
}

fn in_order(spec: &PoolSpec, world: &World, desired: u32) {
    let members: Vec<&Member> = world.droplets.values().map(|d| &d.member).collect();
    let names: BTreeSet<_> = members.iter().map(|m| &m.name).collect();
    assert_eq!(
        names.len(),
        members.len(),
        "two members have one name: {members:#?}"
    );
    assert_eq!(
        members.len(),
        desired as usize,
        "orphans, or too few: {members:#?}"
    );
    let serving = |m: &&Member| m.serving && !m.draining && m.power == Power::Running;
    assert!(members.iter().all(serving), "{members:#?}");
    assert!((spec.min..=spec.max).contains(&desired));
}

fn simulate(troubles: &[Trouble]) {
    let spec = spec();
    let mut world = World {
        now: UnixMillis(1_000_000_000),
        droplets: BTreeMap::new(),
        next_id: 1,
    };
    let mut memory = Memory::default();
    for trouble in troubles {
        tick(&spec, &mut world, &mut memory, trouble);
    }
    // No load is left, and nothing goes wrong any more: the pool becomes its minimum.
    for _ in 0..CALM_TICKS {
        tick(&spec, &mut world, &mut memory, &calm(0.01));
        for droplet in world.droplets.values_mut() {
            droplet.ready_at = droplet.ready_at.min(UnixMillis(world.now.0 + 300_000));
        }
    }
    in_order(&spec, &world, spec.min);
}

proptest! {
    #[test]
    fn whatever_goes_wrong_the_invariants_hold_and_the_pool_ends_in_order(
        troubles in proptest::collection::vec(trouble(), 1..60)
    ) {
        simulate(&troubles);
    }
}

#[test]
fn a_lost_create_that_shows_late_makes_no_second_member() {
    let mut troubles = vec![calm(0.5); 6];
    troubles[0] = Trouble {
        create: Create::Lost,
        list_lag_secs: 40,
        ..calm(0.5)
    };
    let spec = spec();
    let mut world = World {
        now: UnixMillis(1_000_000_000),
        droplets: BTreeMap::new(),
        next_id: 1,
    };
    let mut memory = Memory::default();
    for trouble in &troubles {
        tick(&spec, &mut world, &mut memory, trouble);
    }
    let names: Vec<_> = world.droplets.values().map(|d| d.member.name.clone()).collect();
    assert_eq!(names, [name("api-1"), name("api-2")]);
}

#[test]
fn a_lost_create_that_never_happened_is_made_after_a_while_under_the_same_name() {
    let mut troubles = vec![calm(0.5); 7];
    troubles[0] = Trouble {
        create: Create::LostUndone,
        ..calm(0.5)
    };
    let spec = spec();
    let mut world = World {
        now: UnixMillis(1_000_000_000),
        droplets: BTreeMap::new(),
        next_id: 1,
    };
    let mut memory = Memory::default();
    for trouble in &troubles {
        tick(&spec, &mut world, &mut memory, trouble);
    }
    let names: Vec<_> = world.droplets.values().map(|d| d.member.name.clone()).collect();
    assert_eq!(names, [name("api-1"), name("api-2")]);
}
