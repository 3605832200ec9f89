//! One tick: observe, decide, plan, apply, record. The story of the autoscaler, on one screen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidepool_autoscaler_core::decide::{Control, base, decide};
use tidepool_autoscaler_core::memory::{CreateOutcome, Memory};
use tidepool_autoscaler_core::observe::{Observation, PoolName, SignalReading, UnixMillis, Wait};
use tidepool_autoscaler_core::outcome::Decision;
use tidepool_autoscaler_core::outcome::Plan;
use tidepool_autoscaler_core::plan::plan;
use tidepool_autoscaler_core::progress::advance;
use tidepool_autoscaler_core::rollout::Rollout;
use tidepool_autoscaler_core::spec::PoolSpec;
use tokio::sync::OwnedMutexGuard;

use crate::apply::{Applied, Applier};
use crate::audit::{Audit, Inputs, Record};
use crate::config::PoolConfig;
use crate::meters::Meters;
use crate::metrics::{MetricSource, SignalQuery};
use crate::observe::{self, Sources};
use crate::provider::{ProviderError, ProviderErrorKind};
use crate::record::{self, StatusRecorder, TickReport};
use crate::signal_log::{Change, SignalLog};
use crate::state::{StateDir, Word};

/// A decision that changes nothing is recorded once in so long, seconds.
const RECORD_IDLE_SECS: u32 = 60;
/// A provider that wants more patience than an hour is asked after an hour all the same.
const WAIT_SECS_MAX: u64 = 3600;

/// One pool and all that its ticks need.
pub struct Pool {
    /// Its configuration.
    pub config: PoolConfig,
    /// Runs its steps.
    pub applier: Applier,
    /// What is shown of it.
    pub recorder: StatusRecorder,
    /// The operator's last word about the size.
    pub word: Mutex<Word>,
    /// What its ticks carry on. Locked for a whole tick: that is the single flight.
    pub tick_state: Arc<tokio::sync::Mutex<TickState>>,
}

/// What one tick leaves to the next.
#[derive(Debug, Default)]
pub struct TickState {
    /// The core's memory.
    pub memory: Memory,
    /// The provider wants no call meanwhile.
    pub wait: Option<Wait>,
    /// When a decision was recorded last.
    pub recorded_at: Option<UnixMillis>,
    /// What was logged of the signals.
    pub signal_log: SignalLog,
}

/// What all pools share.
pub struct Services {
    /// Where samples come from.
    pub source: Arc<dyn MetricSource>,
    /// Where memory is kept.
    pub state: StateDir,
    /// Where decisions are kept.
    pub audit: Audit,
    /// The autoscaler's own metrics.
    pub meters: Arc<Meters>,
}

/// Why a pool's tick ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum TickError {
    /// The provider could not be asked who is there.
    #[error("the pool can't be observed")]
    Observe(#[source] ProviderError),
    /// Observing took too long.
    #[error("the pool could not be observed within {} s", .0.as_secs())]
    Late(std::time::Duration),
    /// The memory can't be kept, so that nothing may be done.
    #[error("the pool's memory can't be kept, so nothing is done")]
    Memory(#[source] crate::state::StateError),
}

/// A pool that is being looked at: nobody else does so meanwhile.
pub struct Snapshot {
    tick_state: OwnedMutexGuard<TickState>,
    seen: Observation,
    problems: Vec<String>,
}

impl Snapshot {
    /// What an operator should know about the members, a sentence each.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The memory and the observation, for a tick that does nothing.
    pub fn into_parts(self, signals: BTreeMap<String, SignalReading>) -> (Memory, Observation) {
        let seen = Observation { signals, ..self.seen };
        (self.tick_state.memory.clone(), seen)
    }
}

/// What a tick comes to before it does anything.
#[derive(Debug)]
pub struct Thought {
    /// The rollout, as it was before.
    pub rollout_before: Option<Rollout>,
    /// The pool's settings, with the rollout as far as it is now.
    pub spec: PoolSpec,
    /// The memory, with what was seen.
    pub memory: Memory,
    /// Who decided about the size.
    pub control: Control,
    /// The decision.
    pub decision: Decision,
    /// Its steps.
    pub plan: Plan,
}

/// Who decides, by the operator's last word, about a pool of so many members.
pub fn control_of(word: Word, spec: &PoolSpec, size: u32) -> Control {
    match word {
        Word::Given(control) => control,
        Word::Lost => Control::Hold {
            size: size.max(spec.min).min(spec.max),
        },
    }
}

impl Pool {
    /// The pool's name.
    pub fn name(&self) -> &PoolName {
        &self.config.spec.name
    }

    /// Who decides about the size of a pool that was seen with so many members.
    fn control(&self, size: u32) -> Control {
        let word = self.word.lock().unwrap_or_else(PoisonError::into_inner);
        control_of(*word, &self.config.spec, size)
    }

    /// Keeps the hold of a pool whose operator's word was lost, unless there is a new one meanwhile.
    fn hold_settled(&self, state: &StateDir, control: Control) {
        let mut word = self.word.lock().unwrap_or_else(PoisonError::into_inner);
        if *word != Word::Lost {
            return;
        }
        let held = Word::Given(control);
        match state.control_save(self.name(), held) {
            Ok(()) => *word = held,
            // It stays lost, and the pool held.
            Err(error) => {
                let error = crate::chain(&error);
                tracing::warn!(pool = %self.name(), error, "the hold can't be kept");
            }
        }
    }

    /// First half of a tick: who is there. The signals are added when all pools have been looked at.
    pub async fn look(&self, tick_state: OwnedMutexGuard<TickState>) -> Result<Snapshot, TickError> {
        let Applier {
            provider,
            probe,
            ops_port,
            clock,
            ..
        } = &self.applier;
        let sources = Sources {
            provider: provider.as_ref(),
            probe: probe.as_ref(),
            ops_port: *ops_port,
        };
        let now = clock();
        let followed = tick_state.memory.followed_now(&self.config.spec, now);
        let mut observed = observe::members(&self.config.spec, &followed, sources, now)
            .await
            .map_err(TickError::Observe)?;
        let problems = std::mem::take(&mut observed.problems);
        let seen = observe::observation(clock(), observed, BTreeMap::new());
        Ok(Snapshot {
            tick_state,
            seen,
            problems,
        })
    }

    /// Which signals are wanted of those who are there.
    pub fn queries(&self, look: &Snapshot) -> Vec<SignalQuery> {
        observe::queries(self.name(), &self.config.signals, &look.seen.members)
    }

    /// Decides and plans from what was seen; touches nothing.
    pub fn think(&self, memory: &Memory, seen: &Observation) -> Thought {
        let mut spec = self.applier.versions.lock().put_into(&self.config.spec);
        let memory = memory.observe(&spec, seen);
        let base = base(&spec, seen, &memory);
        let control = self.control(memory.size.unwrap_or(base).max(base));
        let rollout_before = spec.rollout.clone();
        spec.rollout = advance(&spec, seen, &memory, control);
        let decision = decide(&spec, seen, &memory, control);
        let plan = plan(&spec, seen, &memory, &decision);
        Thought {
            rollout_before,
            spec,
            memory,
            control,
            decision,
            plan,
        }
    }

    /// Second half of a tick: decide, plan, apply, record.
    pub async fn act(
        &self,
        services: &Services,
        look: Snapshot,
        signals: BTreeMap<String, SignalReading>,
    ) -> Result<(), TickError> {
        let Snapshot {
            mut tick_state,
            mut seen,
            mut problems,
        } = look;
        problems.extend(services.audit.problems());
        seen.signals = signals;
        let Thought {
            rollout_before,
            spec,
            memory,
            control,
            decision,
            plan,
        } = self.think(&tick_state.memory, &seen);
        problems.extend(decision.alarms());
        self.hold_settled(&services.state, control);

        let mut next = memory.clone();
        next.intend(&spec, &decision, &plan);
        services
            .state
            .memory_save(self.name(), &next)
            .map_err(TickError::Memory)?;
        tick_state.memory = next;
        let versions = &self.applier.versions;
        versions
            .change(&services.state, self.name(), |versions| {
                versions.advance(rollout_before.as_ref(), spec.rollout.as_ref());
            })
            .map_err(TickError::Memory)?;
        self.journal_forget(&tick_state.memory);

        let applied = self.applier.apply(self.name(), &plan, &memory).await;
        take_in(&mut tick_state, &decision, &applied, (self.applier.clock)());
        services
            .state
            .memory_save(self.name(), &tick_state.memory)
            .map_err(TickError::Memory)?;

        versions
            .change(&services.state, self.name(), |versions| {
                for (generation, impossible) in applied.tried_creates() {
                    versions.create_ended(generation, impossible);
                }
            })
            .map_err(TickError::Memory)?;

        let report = TickReport {
            spec: &spec,
            seen: &seen,
            memory: &memory,
            control,
            decision: &decision,
            applied: &applied,
            problems: &problems,
        };
        self.record(services, &mut tick_state, &report);
        Ok(())
    }

    fn journal_forget(&self, memory: &Memory) {
        // Until a member is gone the journal knows it, too: a memory that gets damaged costs no member.
        let followed = memory.followed.values().map(|known| &known.name);
        let kept = memory
            .pending_creates
            .keys()
            .chain(memory.unsettled.keys())
            .chain(followed);
        let kept = kept.cloned().collect();
        let mut journal = self
            .applier
            .journal
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        journal.forget(self.name(), &kept);
    }

    fn record(&self, services: &Services, tick_state: &mut TickState, report: &TickReport<'_>) {
        let TickReport {
            decision, applied, ..
        } = *report;
        for change in tick_state.signal_log.changes(&decision.proposals) {
            match change {
                Change::Wrong { signal, reason } => {
                    tracing::warn!(pool = %self.name(), signal, reason, "a signal can't be trusted in full");
                }
                Change::InOrder { signal } => {
                    tracing::info!(pool = %self.name(), signal, "the signal is in order again");
                }
            }
        }
        let changes = self.recorder.ticked(report, (self.applier.clock)());
        changes.iter().for_each(|change| change.log(self.name()));
        let status = self.recorder.status();
        services
            .meters
            .decided(self.name(), decision, status.serving, status.min, status.max);
        services.meters.applied(self.name(), applied);
        let idle = applied.steps.is_empty() && decision.desired == decision.actual;
        let recently = tick_state
            .recorded_at
            .is_some_and(|at| at <= decision.at && !decision.at.is_past(at, RECORD_IDLE_SECS));
        if idle && recently && changes.is_empty() {
            return;
        }
        tick_state.recorded_at = Some(decision.at);
        if !idle {
            tracing::info!(pool = %self.name(), reason = decision.reason(), steps = applied.steps.len(), "decided");
        }
        services.audit.record(Record {
            at: decision.at,
            pool: self.name().clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            decision: decision.clone(),
            steps: record::steps(applied),
            problems: status.problems,
            inputs: Inputs {
                spec: report.spec.clone(),
                observation: report.seen.clone(),
                memory: report.memory.clone(),
                control: report.control,
            },
        });
    }
}

/// Takes the steps' outcomes into the memory: creates that did and that surely didn't happen, who is destroyed, and how long
/// the provider wants patience.
fn take_in(tick_state: &mut TickState, decision: &Decision, applied: &Applied, now: UnixMillis) {
    for (name, refusal) in applied.failed_creates() {
        let outcome = match refusal {
            Some(ProviderErrorKind::QuotaReached) => CreateOutcome::QuotaReached,
            Some(_) | None => CreateOutcome::Failed,
        };
        tick_state.memory.create_failed(name, decision.at, outcome);
    }
    for (name, id) in applied.acknowledged_creates() {
        tick_state.memory.create_acknowledged(name, id, decision.at);
    }
    for id in applied.destroyed() {
        tick_state.memory.destroyed(id);
    }
    tick_state.wait = applied.wait_secs.map(|secs| wait(now, secs));
}

/// How long a provider that asked for patience is not asked.
pub fn wait(now: UnixMillis, secs: u64) -> Wait {
    Wait::of_secs(now, u32::try_from(secs.min(WAIT_SECS_MAX)).unwrap_or(u32::MAX))
}
