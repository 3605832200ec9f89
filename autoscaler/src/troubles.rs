//! What is wrong with a pool until it is right again: steps that fail, and what was observed. Each is logged once when it
//! begins, and once when it is over.

use std::collections::{BTreeMap, BTreeSet};

use tidepool_autoscaler_core::members::MemberState;
use tidepool_autoscaler_core::observe::{MemberName, PoolName};
use tidepool_autoscaler_core::outcome::{Decision, StepKind};
use tidepool_autoscaler_core::roster::{Entry, Roster};

use crate::apply::{Applied, StepOutcome};
use crate::journal::Outcome;

/// What is wrong with one pool.
#[derive(Debug, Default)]
pub struct Troubles {
    /// Found at the start; it stays until the next one.
    notices: Vec<String>,
    /// Steps that were tried and not done, until they are done or nobody wants them any more.
    steps: BTreeMap<(MemberName, StepKind), String>,
    /// Steps of the last tick that were not tried.
    skipped: Vec<String>,
    /// What the last observation reported.
    observed: BTreeSet<String>,
}

/// A trouble that begins or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It wasn't there, or was another one.
    Begun(String),
    /// It is gone.
    Over(String),
}

/// What one tick came to.
#[derive(Debug, Clone, Copy)]
pub struct Outcomes<'a> {
    /// What was decided.
    pub decision: &'a Decision,
    /// Who is in the pool.
    pub roster: &'a Roster<'a>,
    /// What became of the plan.
    pub applied: &'a Applied,
    /// What the observation reported.
    pub problems: &'a [String],
}

impl Change {
    /// Logs it.
    pub fn log(&self, pool: &PoolName) {
        match self {
            Change::Begun(problem) => tracing::warn!(%pool, problem, "something is wrong with the pool"),
            Change::Over(problem) => tracing::info!(%pool, problem, "no longer wrong"),
        }
    }
}

impl Troubles {
    /// Notes what was found at the start.
    pub fn notice(&mut self, text: String) {
        self.notices.push(text);
    }

    /// What was found at the start.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The one that is shown first: a step that is not done.
    pub fn first(&self) -> Option<String> {
        let first = self.steps.values().chain(&self.skipped).next()?;
        let more = self.steps.len() + self.skipped.len() - 1;
        Some(match more {
            0 => first.clone(),
            more => format!("{first} (and {more} more)"),
        })
    }

    /// All the others.
    pub fn others(&self) -> Vec<String> {
        let steps = self.steps.values().skip(1);
        self.notices
            .iter()
            .chain(&self.observed)
            .chain(steps)
            .cloned()
            .collect()
    }

    /// Takes a tick in, and says what begins and what is over.
    pub fn update(&mut self, tick: &Outcomes<'_>) -> Vec<Change> {
        let mut changes = Vec::new();
        self.take_steps(tick, &mut changes);
        let observed: BTreeSet<String> = tick.problems.iter().cloned().collect();
        let known = |set: &BTreeSet<String>, text: &String| set.iter().any(|other| is_same(other, text));
        let begun = observed.iter().filter(|text| !known(&self.observed, text));
        changes.extend(begun.cloned().map(Change::Begun));
        let over = self.observed.iter().filter(|text| !known(&observed, text));
        changes.extend(over.cloned().map(Change::Over));
        self.observed = observed;
        changes
    }

    fn take_steps(&mut self, tick: &Outcomes<'_>, changes: &mut Vec<Change>) {
        self.skipped.clear();
        for step in &tick.applied.steps {
            let key = (step.step.name().clone(), step.step.kind());
            match step.outcome {
                Outcome::Done => self.over(changes, |(name, kind)| *name == key.0 && *kind <= key.1),
                Outcome::Failed | Outcome::Unknown => {
                    let text = text_of(step);
                    let known = self.steps.insert(key, text.clone());
                    if known.is_none_or(|known| !is_same(&known, &text)) {
                        changes.push(Change::Begun(text));
                    }
                }
                Outcome::Skipped if self.steps.contains_key(&key) => {}
                Outcome::Skipped => self.skipped.push(text_of(step)),
            }
        }
        let entries: BTreeMap<&MemberName, &Entry<'_>> = tick
            .roster
            .entries
            .iter()
            .map(|entry| (&entry.member.name, entry))
            .collect();
        self.over(changes, |(name, kind)| {
            !is_wanted(tick.decision, entries.get(name).copied(), *kind)
        });
    }

    fn over(&mut self, changes: &mut Vec<Change>, is_over: impl Fn(&(MemberName, StepKind)) -> bool) {
        let over = self.steps.extract_if(.., |key, _| is_over(key));
        changes.extend(over.map(|(_, text)| Change::Over(text)));
    }
}

/// Whether a step that was not done is still to be done.
fn is_wanted(decision: &Decision, entry: Option<&Entry<'_>>, kind: StepKind) -> bool {
    let Some(entry) = entry else {
        // Who is gone needs no step but its create.
        return kind == StepKind::Create && decision.actual < decision.desired;
    };
    match kind {
        StepKind::Create => false,
        StepKind::Admit => entry.state == MemberState::Ready,
        StepKind::MarkDraining
        | StepKind::Withdraw
        | StepKind::Drain
        | StepKind::Shutdown
        | StepKind::PowerOff
        | StepKind::Destroy => {
            let leaves = entry.state == MemberState::Draining || entry.repair || entry.duplicate;
            leaves || decision.planned < decision.actual
        }
    }
}

fn text_of(step: &StepOutcome) -> String {
    let detail = step.detail.as_deref().unwrap_or_default();
    let (kind, name) = (step.step.kind().name(), step.step.name());
    format!("{kind} {name}: {}: {detail}", step.outcome.name())
}

/// Whether two texts differ in the provider's id of the request at most.
fn is_same(one: &str, other: &str) -> bool {
    let without = |text: &str| text.split(" (request ").next().unwrap_or_default().to_owned();
    without(one) == without(other)
}
