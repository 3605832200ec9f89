//! What is shown of a tick: the pool's status with its history and last decisions.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use tidepool_autoscaler_core::decide::Control;
use tidepool_autoscaler_core::memory::Memory;
use tidepool_autoscaler_core::observe::{
    MemberName, Observation, PoolName, SignalReading, UnixMillis, count,
};
use tidepool_autoscaler_core::outcome::Decision;
use tidepool_autoscaler_core::outcome::Proposal;
use tidepool_autoscaler_core::rollout::{Cause, Rollout};
use tidepool_autoscaler_core::roster::Roster;
use tidepool_autoscaler_core::signal::Signal;
use tidepool_autoscaler_core::spec::PoolSpec;

use crate::apply::{Applied, StepOutcome};
use crate::status::{
    DECISIONS_MAX, DecisionStatus, Direction, HISTORY_POINTS_MAX, HistoryPoint, MemberStatus, Mode,
    PoolStatus, RolloutStatus, SignalPoint, SignalState, SignalStatus, StepStatus,
};
use crate::troubles::{Change, Outcomes, Troubles};

/// History goes back so far.
const HISTORY_MILLIS: i64 = 3_600_000;
/// Points are at least so far apart: [`HISTORY_POINTS_MAX`] of them make the hour.
const HISTORY_STEP_MILLIS: i64 = HISTORY_MILLIS / HISTORY_POINTS_MAX as i64;

/// Which way a decision goes.
pub fn direction(decision: &Decision) -> Direction {
    match decision.desired.cmp(&decision.base()) {
        std::cmp::Ordering::Greater => Direction::Out,
        std::cmp::Ordering::Less => Direction::In,
        std::cmp::Ordering::Equal => Direction::None,
    }
}

/// Steps and outcomes as they are shown.
pub fn steps(applied: &Applied) -> Vec<StepStatus> {
    let shown = |s: &StepOutcome| StepStatus {
        step: s.step.kind().name().to_owned(),
        member: s.step.name().clone(),
        outcome: s.outcome.name().to_owned(),
        detail: s.detail.clone(),
    };
    applied.steps.iter().map(shown).collect()
}

/// The status of one pool between ticks. Shared between the tick that writes it and the port that reads it.
#[derive(Debug)]
pub struct StatusRecorder {
    status: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    status: PoolStatus,
    /// The pool's size without the successors that a rollout made.
    base: u32,
    troubles: Troubles,
    history: VecDeque<HistoryPoint>,
    decisions: VecDeque<DecisionStatus>,
}

/// All that one tick did.
#[derive(Debug, Clone, Copy)]
pub struct TickReport<'a> {
    /// The pool's settings.
    pub spec: &'a PoolSpec,
    /// What was seen.
    pub seen: &'a Observation,
    /// The memory that the decision was made with.
    pub memory: &'a Memory,
    /// Who decides about the size.
    pub control: Control,
    /// The decision.
    pub decision: &'a Decision,
    /// What came of its plan.
    pub applied: &'a Applied,
    /// What the observation reported, a sentence each.
    pub problems: &'a [String],
}

impl StatusRecorder {
    /// A pool that was not looked at yet.
    pub fn new(spec: &PoolSpec, control: Control) -> StatusRecorder {
        let status = PoolStatus {
            name: spec.name.clone(),
            provider: "digitalocean".to_owned(),
            min: spec.min,
            max: spec.max,
            actual: 0,
            desired: 0,
            planned: 0,
            serving: 0,
            mode: mode(control),
            last_tick_at: None,
            last_error: None,
            problems: Vec::new(),
            rollout: None,
            members: Vec::new(),
            signals: Vec::new(),
            history: Vec::new(),
            decisions: Vec::new(),
        };
        let inner = Inner {
            status,
            base: 0,
            troubles: Troubles::default(),
            history: VecDeque::new(),
            decisions: VecDeque::new(),
        };
        StatusRecorder {
            status: Mutex::new(inner),
        }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The whole status.
    pub fn status(&self) -> PoolStatus {
        let inner = self.inner();
        let mut status = inner.status.clone();
        status.history = inner.history.iter().cloned().collect();
        status.decisions = inner.decisions.iter().rev().cloned().collect();
        status
    }

    /// Shows who decides about the size at once, before the next tick acts by it.
    pub fn mode_set(&self, control: Control) {
        self.inner().status.mode = mode(control);
    }

    /// Shows a rollout at once, before the next tick acts by it.
    pub fn rollout_set(&self, rollout: Option<&Rollout>) {
        let shown = rollout.map(|rollout| rollout_shown(rollout, None));
        self.inner().status.rollout = shown;
    }

    /// The pool's size without the successors that a rollout made, in the last tick; `None` before the first.
    pub fn base(&self) -> Option<u32> {
        let inner = self.inner();
        inner.status.last_tick_at.map(|_| inner.base)
    }

    /// Something that was found at the start, to be shown until the next one.
    pub fn notice(&self, text: String) {
        let mut inner = self.inner();
        inner.status.problems.push(text.clone());
        inner.troubles.notice(text);
    }

    /// What was found at the start.
    pub fn notices(&self) -> Vec<String> {
        self.inner().troubles.notices().to_vec()
    }

    /// A tick that failed before it decided; says whether the one before did not fail for the same reason.
    pub fn failed(&self, error: String) -> bool {
        let before = self.inner().status.last_error.replace(error.clone());
        before.as_ref() != Some(&error)
    }

    /// A tick that decided; gives what begins to be wrong and what no longer is.
    pub fn ticked(&self, report: &TickReport<'_>, ended: UnixMillis) -> Vec<Change> {
        let roster = Roster::of(report.spec, report.seen, report.memory).under(report.control);
        let TickReport { spec, decision, .. } = *report;
        let mut inner = self.inner();
        let changes = inner.troubles.update(&Outcomes {
            decision,
            roster: &roster,
            applied: report.applied,
            problems: report.problems,
        });
        inner.base = decision.base();
        let (last_error, problems) = (inner.troubles.first(), inner.troubles.others());
        let status = &mut inner.status;
        (status.last_error, status.problems) = (last_error, problems);
        (status.min, status.max) = (spec.min, spec.max);
        (status.actual, status.desired, status.planned) =
            (decision.actual, decision.desired, decision.planned);
        status.serving = roster.serving_ready();
        status.last_tick_at = Some(ended);
        status.members = members(&roster, decision);
        let left = status.members.iter().filter(|m| m.outdated).count();
        status.rollout = spec
            .rollout
            .as_ref()
            .map(|rollout| rollout_shown(rollout, Some(count(left))));
        status.signals = decision
            .proposals
            .iter()
            .filter_map(|p| signal(p, report.seen))
            .collect();
        let point = point(spec, decision, status.serving);
        inner.remember_point(point);
        inner.remember_decision(DecisionStatus {
            at: decision.at,
            direction: direction(decision),
            actual: decision.actual,
            desired: decision.desired,
            planned: decision.planned,
            reason: decision.reason(),
            formulas: decision.proposals.iter().map(Proposal::formula).collect(),
            steps: steps(report.applied),
        });
        changes
    }
}

impl Inner {
    fn remember_point(&mut self, point: HistoryPoint) {
        let now = point.at.0;
        self.history
            .retain(|p| p.at.0 <= now && p.at.0 > now - HISTORY_MILLIS);
        // The newest point is replaced while it is in the same slot as this one, so that short ticks make no more points.
        let slot = |at: i64| at.div_euclid(HISTORY_STEP_MILLIS);
        if self
            .history
            .back()
            .is_some_and(|last| slot(last.at.0) == slot(now))
        {
            self.history.pop_back();
        }
        self.history.push_back(point);
        while self.history.len() > HISTORY_POINTS_MAX {
            self.history.pop_front();
        }
    }

    /// Keeps a decision that changed something. One that changed nothing, like the one before it, takes its place.
    fn remember_decision(&mut self, decision: DecisionStatus) {
        let idle = |d: &DecisionStatus| d.direction == Direction::None && d.steps.is_empty();
        if idle(&decision) && self.decisions.back().is_some_and(idle) {
            self.decisions.pop_back();
        }
        self.decisions.push_back(decision);
        while self.decisions.len() > DECISIONS_MAX {
            self.decisions.pop_front();
        }
    }
}

/// A rollout as it is shown.
pub fn rollout_shown(rollout: &Rollout, left: Option<u32>) -> RolloutStatus {
    RolloutStatus {
        to: rollout.to.to_string(),
        from: rollout.from.as_ref().map(ToString::to_string),
        stage: rollout.stage,
        back: rollout.back,
        cause: rollout.cause.as_ref().map(Cause::words),
        ordered_at: rollout.ordered_at,
        left,
    }
}

/// Who decides about the size, as it is shown.
pub fn mode(control: Control) -> Mode {
    match control {
        Control::Auto => Mode::Auto,
        Control::Hold { size } => Mode::Hold { size },
        Control::Manual { size } => Mode::Manual { size },
    }
}

fn members(roster: &Roster<'_>, decision: &Decision) -> Vec<MemberStatus> {
    let mut values: BTreeMap<&MemberName, BTreeMap<String, f64>> = BTreeMap::new();
    for proposal in &decision.proposals {
        let signal = proposal.basis.as_ref().map(|basis| &basis.signal);
        let Some(Signal::Fresh { values: fresh } | Signal::Partial { values: fresh, .. }) = signal else {
            continue;
        };
        for (host, value) in fresh.warm.iter().chain(&fresh.warming) {
            values
                .entry(host)
                .or_default()
                .insert(proposal.policy.clone(), *value);
        }
    }
    let problems = signal_problems(decision);
    let shown = |entry: &tidepool_autoscaler_core::roster::Entry<'_>| MemberStatus {
        id: entry.member.id.clone(),
        name: entry.member.name.clone(),
        state: entry.state,
        created_at: entry.member.created_at,
        address: entry.member.address,
        image: entry.member.image.to_string(),
        outdated: entry.outdated,
        signals: values.get(&entry.host).cloned().unwrap_or_default(),
        signal_problems: problems.get(&entry.host).cloned().unwrap_or_default(),
    };
    roster.entries.iter().map(shown).collect()
}

/// Why hosts have no whole, fresh value, by host and policy.
fn signal_problems(decision: &Decision) -> BTreeMap<&MemberName, BTreeMap<String, String>> {
    let mut problems: BTreeMap<&MemberName, BTreeMap<String, String>> = BTreeMap::new();
    for proposal in &decision.proposals {
        let gaps = match proposal.basis.as_ref().map(|basis| &basis.signal) {
            None | Some(Signal::Fresh { .. }) => continue,
            Some(
                Signal::Partial { gaps, .. } | Signal::Stale { gaps, .. } | Signal::Missing { gaps, .. },
            ) => gaps,
        };
        for (host, cause) in &gaps.named {
            let words = cause.words().to_owned();
            problems
                .entry(host)
                .or_default()
                .insert(proposal.policy.clone(), words);
        }
    }
    problems
}

fn signal(proposal: &Proposal, seen: &Observation) -> Option<SignalStatus> {
    let basis = proposal.basis.as_ref()?;
    let (state, age_secs, fresh, expected) = match &basis.signal {
        Signal::Fresh { values } => (
            SignalState::Fresh,
            Some(values.age_secs),
            values.whole(),
            values.whole(),
        ),
        Signal::Partial { values, expected, .. } => (
            SignalState::Partial,
            Some(values.age_secs),
            values.whole(),
            *expected,
        ),
        Signal::Stale {
            age_secs, expected, ..
        } => (SignalState::Stale, Some(*age_secs), 0, *expected),
        Signal::Missing { expected, .. } => (SignalState::Missing, None, 0, *expected),
    };
    let newest = match seen.signals.get(&basis.signal_name) {
        Some(SignalReading::Read(reading)) => reading.samples.iter().map(|s| s.at).max(),
        Some(SignalReading::Failed { .. }) | None => None,
    };
    Some(SignalStatus {
        name: proposal.policy.clone(),
        state,
        value: basis.value,
        target: basis.target,
        age_secs: age_secs.or_else(|| newest.map(|at| seen.at.secs_since(at))),
        hosts_fresh: fresh,
        hosts_expected: expected,
        detail: (state != SignalState::Fresh).then(|| proposal.formula()),
    })
}

fn point(spec: &PoolSpec, decision: &Decision, serving: u32) -> HistoryPoint {
    let signals = decision.proposals.iter().filter_map(|p| {
        let basis = p.basis.as_ref()?;
        let point = SignalPoint {
            value: basis.value?,
            target: basis.target,
        };
        Some((p.policy.clone(), point))
    });
    HistoryPoint {
        at: decision.at,
        actual: decision.actual,
        desired: decision.desired,
        serving,
        min: spec.min,
        max: spec.max,
        signals: signals.collect(),
    }
}

/// Which pools' names are known, for messages.
pub fn names<'a>(pools: impl Iterator<Item = &'a PoolName>) -> String {
    pools.map(|name| name.0.as_str()).collect::<Vec<_>>().join(", ")
}
