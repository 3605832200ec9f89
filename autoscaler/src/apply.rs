//! Runs a plan's steps, one after the other, each written to the journal before and after. It chooses nothing and tries
//! nothing twice: what failed is planned again by the next tick, from what is then observed.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use tidepool_autoscaler_core::memory::Memory;
use tidepool_autoscaler_core::observe::{MemberId, MemberName, PoolName, UnixMillis};
use tidepool_autoscaler_core::outcome::{Plan, Step, StepKind};
use tidepool_autoscaler_core::recipe::Generation;
use tokio_util::sync::CancellationToken;

use crate::journal::{Journal, Line, Outcome};
use crate::probe::MemberProbe;
use crate::provider::{CreateMember, EarlierCreate, Made, Provider, ProviderError, ProviderErrorKind};
use crate::versions::SharedVersions;

/// A memory that is younger may follow one that was lost: names are looked up before they are given. It is how long a
/// provider may take to list what it has made, with room.
const YOUNG_MEMORY_SECS: u32 = 300;

/// Steps are begun within so long after the plan's first one, and the rest is left to the next tick, which looks again: of a plan
/// of many the last would otherwise go by what was seen many minutes ago. It is two calls more than a provider that hangs takes.
const BEGUN_WITHIN_SECS: u32 = 60;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> UnixMillis + Send + Sync>;

/// What a pool's steps are run with.
#[derive(Clone)]
pub struct Applier {
    /// The provider, configured for the pool.
    pub provider: Arc<dyn Provider>,
    /// The members' operations listeners.
    pub probe: Arc<dyn MemberProbe>,
    /// Their port.
    pub ops_port: u16,
    /// What members are made of.
    pub versions: SharedVersions,
    /// The daemon's journal.
    pub journal: Arc<Mutex<Journal>>,
    /// The time.
    pub clock: Clock,
    /// Set when the daemon is to stop: the running step is finished, the others are left to the next start.
    pub stop: CancellationToken,
    /// Where to die, for the crash tests.
    pub crash: Option<Arc<CrashPoint>>,
}

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepOutcome {
    /// The step.
    pub step: Step,
    /// How it ended.
    pub outcome: Outcome,
    /// The provider's words when it isn't done.
    pub detail: Option<String>,
    /// How the provider's refusal is taken, if it refused.
    pub refusal: Option<ProviderErrorKind>,
    /// The id that the provider gave a member that it made.
    pub created: Option<MemberId>,
}

/// Everything that became of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// A step each, in the plan's order.
    pub steps: Vec<StepOutcome>,
    /// The provider wants no call for so long, seconds.
    pub wait_secs: Option<u64>,
}

/// A step that could not be run.
struct Refused {
    outcome: Outcome,
    kind: Option<ProviderErrorKind>,
    detail: String,
}

impl Applier {
    /// Runs the steps of `pool`'s plan. `memory` is the one that the plan was made with.
    pub async fn apply(&self, pool: &PoolName, plan: &Plan, memory: &Memory) -> Applied {
        let mut applied = Applied::default();
        let mut given_up: BTreeSet<MemberId> = BTreeSet::new();
        let mut no_creates = None;
        let began = (self.clock)();
        for step in &plan.steps {
            let reason = if self.stop.is_cancelled() {
                Some("the autoscaler stops")
            } else if applied.wait_secs.is_some() {
                Some("the provider's rate limit is reached")
            } else if (self.clock)().is_past(began, BEGUN_WITHIN_SECS) {
                Some("the steps before it took a minute; the next tick goes on")
            } else if step.kind() == StepKind::Create && no_creates.is_some() {
                no_creates
            } else if step.id().is_some_and(|id| given_up.contains(id)) {
                Some("the step before it on the same member is not done")
            } else {
                None
            };
            if let Some(reason) = reason {
                applied.steps.push(skipped(step, reason));
                continue;
            }
            let outcome = self.run(pool, step, memory).await;
            if outcome.outcome != Outcome::Done {
                given_up.extend(step.id().cloned());
            }
            match outcome.refusal {
                Some(ProviderErrorKind::RateLimited { retry_after_secs }) => {
                    applied.wait_secs = Some(retry_after_secs);
                }
                Some(ProviderErrorKind::QuotaReached) => no_creates = Some("the account's limit is reached"),
                // They differ in their names alone: a size that is sold out is so for all of them.
                Some(ProviderErrorKind::Denied | ProviderErrorKind::Invalid)
                    if step.kind() == StepKind::Create =>
                {
                    no_creates = Some("the provider refused the one before it");
                }
                Some(
                    ProviderErrorKind::Transient
                    | ProviderErrorKind::NotFound
                    | ProviderErrorKind::Denied
                    | ProviderErrorKind::Invalid
                    | ProviderErrorKind::UnknownOutcome,
                )
                | None => {}
            }
            applied.steps.push(outcome);
        }
        applied
    }

    async fn run(&self, pool: &PoolName, step: &Step, memory: &Memory) -> StepOutcome {
        if let Err(error) = self.note(pool, step, None) {
            // Without the note a crash could make a second member; so nothing is done at all.
            return skipped(step, &format!("the journal can't be written: {error}"));
        }
        self.die_if_told(step.kind(), Moment::Before);
        let result = self.call(pool, step, memory).await;
        self.die_if_told(step.kind(), Moment::After);
        let outcome = match result {
            Ok(created) => StepOutcome {
                step: step.clone(),
                outcome: Outcome::Done,
                detail: None,
                refusal: None,
                created,
            },
            Err(Refused {
                outcome,
                kind,
                detail,
            }) => {
                // The one warning comes from the pool's status, which knows whether this is new.
                tracing::debug!(%pool, step = step.kind().name(), member = %step.name(), outcome = outcome.name(), detail,
                    "a step is not done");
                StepOutcome {
                    step: step.clone(),
                    outcome,
                    detail: Some(detail),
                    refusal: kind,
                    created: None,
                }
            }
        };
        if let Err(error) = self.note(pool, step, Some(&outcome)) {
            // The intent stands without its end, which is read as unknown: the safe side.
            tracing::error!(%pool, %error, "the journal can't be written");
        }
        outcome
    }

    fn note(&self, pool: &PoolName, step: &Step, outcome: Option<&StepOutcome>) -> std::io::Result<()> {
        let line = Line {
            at: (self.clock)(),
            pool: pool.clone(),
            step: step.clone(),
            outcome: outcome.map(|outcome| outcome.outcome),
            id: outcome.and_then(|outcome| outcome.created.clone()),
        };
        self.journal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(line)
    }

    /// Runs one step; a create gives the new member's id.
    async fn call(&self, pool: &PoolName, step: &Step, memory: &Memory) -> Result<Option<MemberId>, Refused> {
        let provider = &self.provider;
        let answer = match step {
            Step::Create { name, generation } => {
                let create = CreateMember {
                    pool: pool.clone(),
                    name: name.clone(),
                    earlier: self.earlier(name, memory),
                    made: self.made(generation.as_ref())?,
                };
                return provider.member_create(&create).await.map(Some).map_err(refused);
            }
            Step::Admit { id, .. } => provider.serving_admit(pool, id).await,
            Step::MarkDraining { id, .. } => provider.draining_mark(pool, id).await,
            Step::Withdraw { id, .. } => provider.serving_withdraw(pool, id).await,
            Step::Drain { address, .. } => {
                let answer = self.probe.drain(*address, self.ops_port).await;
                return answer.map(|()| None).map_err(|detail| Refused {
                    outcome: Outcome::Failed,
                    kind: None,
                    detail,
                });
            }
            Step::Shutdown { id, .. } => provider.member_shutdown(id).await,
            Step::PowerOff { id, .. } => provider.member_power_off(id).await,
            Step::Destroy { id, .. } => provider.member_destroy(id).await,
        };
        answer.map(|()| None).map_err(refused)
    }

    /// What a member of this generation is made of. Something else may have been ordered since the plan was made.
    fn made(&self, generation: Option<&Generation>) -> Result<Made, Refused> {
        let made = self.versions.lock().of_generation(generation).cloned();
        made.ok_or_else(|| Refused {
            outcome: Outcome::Skipped,
            kind: None,
            detail: "something else was ordered meanwhile; the next tick goes by that".to_owned(),
        })
    }

    /// What is known of earlier creates of this name. A pool that hasn't been watched for long may have had another memory.
    fn earlier(&self, name: &MemberName, memory: &Memory) -> EarlierCreate {
        let watched = |since: UnixMillis| (self.clock)().is_past(since, YOUNG_MEMORY_SECS);
        match memory.unsettled.get(name) {
            Some(begun) => EarlierCreate::Begun(*begun),
            None if memory.since.is_some_and(watched) => EarlierCreate::None,
            None => EarlierCreate::NotKnown,
        }
    }

    fn die_if_told(&self, kind: StepKind, moment: Moment) {
        if self
            .crash
            .as_ref()
            .is_some_and(|crash| crash.is_reached(kind, moment))
        {
            // As sudden as kill -9: nothing is flushed, nothing is reported.
            std::process::abort();
        }
    }
}

fn refused(error: ProviderError) -> Refused {
    let outcome = match error.kind {
        ProviderErrorKind::UnknownOutcome => Outcome::Unknown,
        ProviderErrorKind::Transient
        | ProviderErrorKind::RateLimited { .. }
        | ProviderErrorKind::NotFound
        | ProviderErrorKind::Denied
        | ProviderErrorKind::Invalid
        | ProviderErrorKind::QuotaReached => Outcome::Failed,
    };
    Refused {
        outcome,
        kind: Some(error.kind),
        detail: crate::chain(&error),
    }
}

fn skipped(step: &Step, reason: &str) -> StepOutcome {
    StepOutcome {
        step: step.clone(),
        outcome: Outcome::Skipped,
        detail: Some(reason.to_owned()),
        refusal: None,
        created: None,
    }
}

impl Applied {
    /// The creates that the provider said it did, with the id that it gave.
    pub fn acknowledged_creates(&self) -> impl Iterator<Item = (&MemberName, &MemberId)> {
        self.steps
            .iter()
            .filter_map(|s| Some((s.step.name(), s.created.as_ref()?)))
    }

    /// The creates that were tried, by their generation, and whether the provider said that there can be none such.
    pub fn tried_creates(&self) -> impl Iterator<Item = (Option<&Generation>, bool)> {
        self.steps
            .iter()
            .filter_map(|s| match (&s.step, s.outcome, s.refusal) {
                (Step::Create { generation, .. }, Outcome::Done, _) => Some((generation.as_ref(), false)),
                (
                    Step::Create { generation, .. },
                    Outcome::Failed,
                    Some(ProviderErrorKind::Invalid | ProviderErrorKind::NotFound),
                ) => Some((generation.as_ref(), true)),
                _ => None,
            })
    }

    /// The members that the provider destroyed.
    pub fn destroyed(&self) -> impl Iterator<Item = &MemberId> {
        let destroyed = |s: &&StepOutcome| s.step.kind() == StepKind::Destroy && s.outcome == Outcome::Done;
        self.steps.iter().filter(destroyed).filter_map(|s| s.step.id())
    }

    /// The creates that surely didn't happen, with what the provider said.
    pub fn failed_creates(&self) -> impl Iterator<Item = (&MemberName, Option<ProviderErrorKind>)> {
        let failed = |s: &&StepOutcome| matches!(s.outcome, Outcome::Failed | Outcome::Skipped);
        let creates = self.steps.iter().filter(|s| s.step.kind() == StepKind::Create);
        creates.filter(failed).map(|s| (s.step.name(), s.refusal))
    }
}

/// Before or after a step's effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The intent is written, nothing is done.
    Before,
    /// It is done, and not written.
    After,
}

/// Where the process dies of its own accord, so that tests can begin from every crash there can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashPoint {
    kind: StepKind,
    moment: Moment,
}

impl CrashPoint {
    /// The environment variable that sets one, as `create:before` or `destroy:after`.
    pub const VARIABLE: &str = "TIDEPOOL_AUTOSCALER_CRASH_AT";

    /// Every crash point there is: two for each kind of step.
    pub fn all() -> impl Iterator<Item = CrashPoint> {
        StepKind::all()
            .flat_map(|kind| [Moment::Before, Moment::After].map(|moment| CrashPoint { kind, moment }))
    }

    /// The kind of step.
    pub const fn kind(self) -> StepKind {
        self.kind
    }

    fn is_reached(self, kind: StepKind, moment: Moment) -> bool {
        self == CrashPoint { kind, moment }
    }
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = match self.moment {
            Moment::Before => "before",
            Moment::After => "after",
        };
        write!(f, "{}:{moment}", self.kind.name())
    }
}

impl FromStr for CrashPoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        CrashPoint::all()
            .find(|point| point.to_string() == text)
            .ok_or_else(|| format!("{text:?} is not a crash point such as create:before"))
    }
}
