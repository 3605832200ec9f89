//! What is wrong with a pool until it is right again: steps that fail, and what was observed. Each is logged once when it
//! begins, and once when it is over.

use std::collections::{BTreeMap, BTreeSet};

use tidepool_autoscaler_core::members::MemberState;
use tidepool_autoscaler_core::observe::{Member, PoolName, Power};
use tidepool_autoscaler_core::outcome::{Decision, Step, StepKind};
use tidepool_autoscaler_core::roster::{Entry, Roster};

use crate::apply::{Applied, StepOutcome};
use crate::journal::Outcome;

/// A step on a member, by its id, for members may share a name; a create has only the name.
type Key = (String, StepKind);

fn key_of(step: &Step) -> Key {
    let member = step.id().map_or(&step.name().0, |id| &id.0);
    (member.clone(), step.kind())
}

/// A tag is there or gone with the answer, and a list may lag behind it for a tick: what can't be seen when it was answered as
/// done so many times didn't happen.
const TAGGED_TIMES_MAX: u32 = 3;
/// A machine takes its time to stop or to be destroyed, up to a minute and more, which is a few ticks.
const STOPPED_TIMES_MAX: u32 = 10;

/// How many times a step of this kind is answered as done before it is one without effect. One that is repeated by design, or
/// that has another name each time, never is.
fn times_max(kind: StepKind) -> Option<u32> {
    match kind {
        StepKind::Admit | StepKind::MarkDraining | StepKind::Withdraw => Some(TAGGED_TIMES_MAX),
        StepKind::Shutdown | StepKind::PowerOff | StepKind::Destroy => Some(STOPPED_TIMES_MAX),
        StepKind::Create | StepKind::Drain => None,
    }
}

/// What is wrong with one pool.
#[derive(Debug, Default)]
pub struct Troubles {
    /// Found at the start; it stays until the next one.
    notices: Vec<String>,
    /// Steps that were tried and not done, until they are done or nobody wants them any more.
    steps: BTreeMap<Key, String>,
    /// How many times a step was answered as done and was not seen.
    done: BTreeMap<Key, u32>,
    /// Of these, the ones that had no effect.
    in_vain: BTreeMap<Key, String>,
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
        let all = || {
            self.steps
                .values()
                .chain(self.in_vain.values())
                .chain(&self.skipped)
        };
        let first = all().next()?;
        let more = all().count() - 1;
        Some(match more {
            0 => first.clone(),
            more => format!("{first} (and {more} more)"),
        })
    }

    /// All the others.
    pub fn others(&self) -> Vec<String> {
        let steps = self.steps.values().chain(self.in_vain.values()).skip(1);
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
        self.take_repeats(tick, &mut changes);
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
            let key = key_of(&step.step);
            match step.outcome {
                Outcome::Done => self.over(changes, |(member, kind)| *member == key.0 && *kind <= key.1),
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
        let entries = tick.roster.entries.iter();
        let by_id: BTreeMap<&str, &Entry<'_>> = entries.map(|e| (e.member.id.0.as_str(), e)).collect();
        let names: BTreeSet<&str> = by_id.values().map(|e| e.member.name.0.as_str()).collect();
        self.over(changes, |(member, kind)| match kind {
            StepKind::Create => {
                names.contains(member.as_str()) || tick.decision.actual >= tick.decision.desired
            }
            kind => !by_id
                .get(member.as_str())
                .is_some_and(|entry| is_wanted(tick.decision, entry, *kind)),
        });
    }

    /// Counts the steps that were answered as done, until what was asked for is seen.
    fn take_repeats(&mut self, tick: &Outcomes<'_>, changes: &mut Vec<Change>) {
        let entries = tick.roster.entries.iter();
        let members: BTreeMap<&str, &Member> = entries.map(|e| (e.member.id.0.as_str(), e.member)).collect();
        let is_seen = |(id, kind): &Key| members.get(id.as_str()).is_none_or(|m| has_come(m, *kind));
        self.done.retain(|key, _| !is_seen(key));
        let over = self.in_vain.extract_if(.., |key, _| is_seen(key));
        changes.extend(over.map(|(_, text)| Change::Over(text)));
        let steps = tick.applied.steps.iter();
        for StepOutcome { step, .. } in steps.filter(|step| step.outcome == Outcome::Done) {
            let (key, kind) = (key_of(step), step.kind());
            let Some(max) = times_max(kind) else { continue };
            let times = self.done.entry(key.clone()).or_default();
            *times = times.saturating_add(1);
            if *times < max {
                continue;
            }
            let (kind, name) = (kind.name(), step.name());
            let text = format!(
                "{kind} {name}: the provider answered {times} times that it was done, and nothing came of it"
            );
            if self.in_vain.insert(key, text.clone()).is_none() {
                changes.push(Change::Begun(text));
            }
        }
    }

    fn over(&mut self, changes: &mut Vec<Change>, is_over: impl Fn(&Key) -> bool) {
        let over = self.steps.extract_if(.., |key, _| is_over(key));
        changes.extend(over.map(|(_, text)| Change::Over(text)));
    }
}

/// Whether what a step asks for is seen on its member.
fn has_come(member: &Member, kind: StepKind) -> bool {
    match kind {
        StepKind::Admit => member.serving,
        StepKind::MarkDraining => member.draining,
        StepKind::Withdraw => !member.serving,
        StepKind::Shutdown | StepKind::PowerOff => member.power == Power::Off,
        StepKind::Create | StepKind::Drain | StepKind::Destroy => false,
    }
}

/// Whether a step on a member that was not done is still to be done.
fn is_wanted(decision: &Decision, entry: &Entry<'_>, kind: StepKind) -> bool {
    match kind {
        StepKind::Create => false,
        StepKind::Admit => entry.state == MemberState::Ready,
        StepKind::MarkDraining
        | StepKind::Withdraw
        | StepKind::Drain
        | StepKind::Shutdown
        | StepKind::PowerOff
        | StepKind::Destroy => {
            let leaves = entry.state == MemberState::Draining || entry.repair || entry.copy;
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
