//! The daemon: timing, one tick of a pool at a time, pools kept apart from each other, an orderly end, one owner of the state.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidepool_autoscaler_core::decide::Control;
use tidepool_autoscaler_core::memory::Memory;
use tidepool_autoscaler_core::observe::{PoolName, SignalReading, UnixMillis};
use tidepool_listener::{Limits, ServiceManager};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::apply::{Applier, Clock, CrashPoint};
use crate::audit::{Audit, AuditError};
use crate::config::{Config, MetricsConfig, PoolConfig, Problem};
use crate::journal::Journal;
use crate::meters::Meters;
use crate::metrics::elasticsearch::ElasticsearchSource;
use crate::metrics::scrape::ScrapeSource;
use crate::metrics::{MetricSource, SignalQuery};
use crate::observe;
use crate::probe::{HttpProbe, MemberProbe};
use crate::provider::digitalocean::{Account, AccountError, DigitalOcean};
use crate::provider::{Provider, ProviderErrorKind};
use crate::record::StatusRecorder;
use crate::server::{self, Shared};
use crate::state::{Loaded, LoadedMemory, LoadedWord, StateDir, StateError};
use crate::tick::{Pool, Services, Snapshot, TickError, TickState, control_of, wait};
use crate::versions::{SharedVersions, Versions};

/// Running steps are waited for so long at the end: one call to a provider takes at most 15 s, a read with its repetitions
/// 46 s.
const STOP_MAX: Duration = Duration::from_secs(60);
/// A pool that can't be looked at within this time has no tick now: the others wait for it, because their signals are read
/// together. A full list of 1,000 members takes about 10 s.
const LOOK_MAX: Duration = Duration::from_secs(30);
/// A provider, a member or a source of metrics that does not answer holds a stop up for so long.
const LOOK_AT_STOP_MAX: Duration = Duration::from_secs(2);
/// The last records are waited for so long.
const RECORDS_MAX: Duration = Duration::from_secs(5);

/// The signals' readings, pool by pool.
type Readings = BTreeMap<PoolName, BTreeMap<String, SignalReading>>;

/// Why the daemon can't run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The state directory can't be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The journal can't be read or written.
    #[error("the journal can't be used")]
    Journal(#[source] std::io::Error),
    /// The provider's account can't be used.
    #[error("digitalocean can't be used")]
    Account(#[from] AccountError),
    /// The source of metrics can't be used.
    #[error("elasticsearch can't be used")]
    Elasticsearch(#[from] crate::metrics::elasticsearch::ConnectError),
    /// An HTTP client can't be made.
    #[error("the HTTP client can't be made")]
    Http(#[from] reqwest::Error),
    /// Decisions can't be recorded.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The autoscaler's own metrics can't be registered.
    #[error("the metrics can't be registered")]
    Meters(#[from] prometheus::Error),
    /// The status port can't be opened.
    #[error("the status port {0} can't be opened")]
    Listen(std::net::SocketAddr, #[source] std::io::Error),
    /// The limit of open files can't be read.
    #[error("the limit of open files can't be read")]
    OpenFiles(#[source] std::io::Error),
    /// The configuration was read to ask only.
    #[error("the configuration holds no provider")]
    NoProvider,
}

/// What only `main` can give the daemon.
#[derive(Clone)]
pub struct Runtime {
    /// The time.
    pub clock: Clock,
    /// Set when the daemon is to stop.
    pub stop: CancellationToken,
    /// Where to die, for the crash tests.
    pub crash: Option<CrashPoint>,
}

/// Pools with their providers.
pub type PoolProviders<'c> = Vec<(&'c PoolConfig, Arc<dyn Provider>)>;

/// Each pool's provider.
pub fn providers<'c>(config: &'c Config, runtime: &Runtime) -> Result<PoolProviders<'c>, DaemonError> {
    if config.pools.is_empty() {
        return Ok(Vec::new());
    }
    let digitalocean = config.digitalocean.clone().ok_or(DaemonError::NoProvider)?;
    let account = Arc::new(Account::new(
        digitalocean.base_url.as_deref(),
        digitalocean.token,
        Arc::clone(&runtime.clock),
    )?);
    let provider = |pool: &'c PoolConfig| {
        let provider: Arc<dyn Provider> =
            Arc::new(DigitalOcean::new(Arc::clone(&account), pool.droplets.clone()));
        (pool, provider)
    };
    Ok(config.pools.iter().map(provider).collect())
}

/// The pools of a configuration, with their providers, ready for ticks.
pub fn pools(
    config: &Config,
    state: &StateDir,
    journal: Journal,
    runtime: &Runtime,
) -> Result<Vec<Arc<Pool>>, DaemonError> {
    let probe: Arc<dyn MemberProbe> = Arc::new(HttpProbe::new()?);
    let journal = Arc::new(Mutex::new(journal));
    let kept = Kept {
        state,
        journal: &journal,
        now: (runtime.clock)(),
    };
    let mut pools = Vec::new();
    for (pool, provider) in providers(config, runtime)? {
        let recorder = StatusRecorder::new(&pool.spec, Control::Auto);
        let applier = Applier {
            provider,
            versions: kept.versions(pool, &recorder)?,
            probe: Arc::clone(&probe),
            ops_port: pool.ops_port,
            journal: Arc::clone(&journal),
            clock: Arc::clone(&runtime.clock),
            stop: runtime.stop.clone(),
            crash: runtime.crash.map(Arc::new),
        };
        let LoadedWord { word, damage } = state.control_load(&pool.spec.name, kept.now);
        damage
            .into_iter()
            .for_each(|problem| notice(pool, &recorder, problem));
        let memory = kept.memory(pool, &recorder);
        recorder.mode_set(control_of(word, &pool.spec, memory.size.unwrap_or_default()));
        pools.push(Arc::new(Pool {
            config: pool.clone(),
            applier,
            recorder,
            word: Mutex::new(word),
            tick_state: Arc::new(tokio::sync::Mutex::new(TickState {
                memory,
                ..TickState::default()
            })),
        }));
    }
    Ok(pools)
}

/// What was kept of all pools when the daemon stopped last.
struct Kept<'a> {
    state: &'a StateDir,
    journal: &'a Mutex<Journal>,
    now: UnixMillis,
}

impl Kept<'_> {
    /// A pool's memory, with what the journal adds. What was damaged is reported.
    fn memory(&self, pool: &PoolConfig, recorder: &StatusRecorder) -> Memory {
        let journal = self
            .journal
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let LoadedMemory { mut memory, damage } = self.state.memory_load(&pool.spec.name, self.now);
        for problem in damage.into_iter().chain(journal.damage().map(str::to_owned)) {
            notice(pool, recorder, problem);
        }
        journal.remind(&pool.spec, &mut memory, self.now);
        memory
    }
}

impl Kept<'_> {
    /// What the pool's members are made of: as it was ordered, or as the configuration says where that was changed since.
    fn versions(&self, pool: &PoolConfig, recorder: &StatusRecorder) -> Result<SharedVersions, StateError> {
        let name = &pool.spec.name;
        let made = pool.droplets.made();
        let Loaded { value, damage } = self.state.versions_load::<Versions>(name, self.now);
        let found = value.is_some();
        let before = value.unwrap_or_else(|| Versions::configured(made.clone()));
        let mut versions = before.clone();
        let left = versions.read_again(&made, self.now);
        for problem in damage.into_iter().chain(left) {
            notice(pool, recorder, problem);
        }
        if self.state.is_own() && !(found && versions == before) {
            self.state.versions_save(name, &versions)?;
        }
        recorder.rollout_set(versions.rollout());
        Ok(SharedVersions::new(versions))
    }
}

fn notice(pool: &PoolConfig, recorder: &StatusRecorder, problem: String) {
    tracing::warn!(pool = %pool.spec.name, problem, "the pool's state is not as it was left");
    recorder.notice(problem);
}

/// The configured source of metrics.
pub fn source(config: &MetricsConfig) -> Result<Arc<dyn MetricSource>, DaemonError> {
    Ok(match config {
        MetricsConfig::Scrape(scrape) => Arc::new(ScrapeSource::new(scrape.clone())?),
        MetricsConfig::Elasticsearch(server) => Arc::new(ElasticsearchSource::new(server.clone())?),
    })
}

/// Runs until `runtime.stop` is set; finishes the steps that run then.
pub async fn run(config: Config, runtime: Runtime) -> Result<(), DaemonError> {
    for Problem { path, message } in &config.warnings {
        tracing::warn!("configuration: {path}: {message}");
    }
    let state = StateDir::open(&config.state_dir)?;
    let _lease = state.lease()?;
    let journal = Journal::open(&state.journal(), (runtime.clock)()).map_err(DaemonError::Journal)?;
    let meters = Arc::new(Meters::new()?);
    let (audit, records) = Audit::start(&config.audit, Arc::clone(&meters))?;
    let pools = pools(&config, &state, journal, &runtime)?;
    let source = source(&config.metrics)?;
    let listener = tokio::net::TcpListener::bind(config.status.listen)
        .await
        .map_err(|error| DaemonError::Listen(config.status.listen, error))?;
    let shared = Shared {
        pools: Arc::new(pools.clone()),
        state: state.clone(),
        meters: Arc::clone(&meters),
        tick_secs: config.tick_secs,
        token: config.status.token.clone(),
        trusted: config.status.trusted.clone().on_this_machine(),
        clock: Arc::clone(&runtime.clock),
    };
    tracing::info!(listen = %config.status.listen, pools = pools.len(), "tidepool-autoscaler runs");
    let limits = status_limits()?;
    let port = tokio::spawn(server::serve(listener, shared, limits, runtime.stop.clone()));
    ServiceManager::of_process().ready();
    let services = Arc::new(Services {
        source,
        state,
        audit,
        meters,
    });
    ticks(&services, &pools, config.tick_secs, &runtime.stop).await;
    drop((services, pools));
    if let Err(error) = port.await {
        tracing::error!(%error, "the status port failed");
    }
    if tokio::time::timeout(RECORDS_MAX, records).await.is_err() {
        tracing::warn!("the last decisions are not all recorded");
    }
    tracing::info!("tidepool-autoscaler ends");
    Ok(())
}

/// The status port's limits, as far as file descriptors reach: a tick must always find some.
fn status_limits() -> Result<Limits, DaemonError> {
    let mut limits = Limits::PRIVATE;
    let room = tidepool_listener::make_room(limits.connections_max).map_err(DaemonError::OpenFiles)?;
    if room.connections < limits.connections_max {
        tracing::warn!(
            open_files_max = room.limit,
            connections = room.connections,
            "the limit of open files is low and can't be raised: the status port takes fewer connections"
        );
    }
    limits.connections_max = room.connections;
    Ok(limits)
}

/// Ticks until it is stopped. A round that takes longer than its time delays nobody: pools that are still busy are left
/// out of the next.
async fn ticks(services: &Arc<Services>, pools: &[Arc<Pool>], tick_secs: u32, stop: &CancellationToken) {
    let mut timer = tokio::time::interval(Duration::from_secs(u64::from(tick_secs)));
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rounds = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = timer.tick() => {}
        }
        rounds.spawn(round(Arc::clone(services), pools.to_vec()));
        while rounds.try_join_next().is_some() {}
    }
    let end = Instant::now() + STOP_MAX;
    loop {
        match tokio::time::timeout_at(end, rounds.join_next()).await {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(_) => {
                tracing::warn!(
                    "a step still runs after {} s; the next start goes on from what it finds",
                    STOP_MAX.as_secs()
                );
                break;
            }
        }
    }
}

/// One tick of every pool that is free: all are looked at side by side, their signals read together, and each acts by
/// itself. What fails or panics in one pool ends that pool's tick only.
pub async fn round(services: Arc<Services>, pools: Vec<Arc<Pool>>) {
    let began = Instant::now();
    let Some(Applier { stop, clock, .. }) = pools.first().map(|pool| &pool.applier) else {
        return;
    };
    // Until steps are run nothing is lost by leaving off.
    let looking = async {
        let seen = look_at_all(&services, &pools).await;
        let mut queries = Vec::new();
        for (pool, snapshot) in &seen {
            queries.extend(pool.queries(snapshot));
        }
        let readings = read_all(&services, queries, clock()).await;
        (seen, readings)
    };
    let (seen, readings) = tokio::select! {
        looked = looking => looked,
        () = left_off(stop) => return,
    };
    act_in_all(&services, seen, readings, began).await;
}

/// Ready when the daemon stops, and a while after it: an answer that comes at once is still taken.
async fn left_off(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LOOK_AT_STOP_MAX).await;
}

/// Looks at every pool that is free.
async fn look_at_all(services: &Services, pools: &[Arc<Pool>]) -> Vec<(Arc<Pool>, Snapshot)> {
    let mut looks = JoinSet::new();
    let mut names = BTreeMap::new();
    for pool in pools {
        let Ok(tick_state) = Arc::clone(&pool.tick_state).try_lock_owned() else {
            services.meters.tick_ended(pool.name(), "skipped");
            continue;
        };
        let now = (pool.applier.clock)();
        if tick_state.wait.is_some_and(|wait| wait.left_secs(now).is_some()) {
            services.meters.tick_ended(pool.name(), "waiting");
            continue;
        }
        let looked_at = Arc::clone(pool);
        let look = async move {
            let look = tokio::time::timeout(LOOK_MAX, looked_at.look(tick_state)).await;
            look.unwrap_or(Err(TickError::Late(LOOK_MAX)))
        };
        let task = looks.spawn(look);
        names.insert(task.id(), Arc::clone(pool));
    }
    let mut seen = Vec::new();
    while let Some(ended) = looks.join_next_with_id().await {
        match ended {
            Ok((id, result)) => {
                let Some(pool) = names.get(&id) else { continue };
                match result {
                    Ok(snapshot) => seen.push((Arc::clone(pool), snapshot)),
                    Err(error) => tick_failed(services, pool, &error).await,
                }
            }
            Err(error) => {
                if let Some(pool) = names.get(&error.id()) {
                    tick_panicked(services, pool);
                }
            }
        }
    }
    seen
}

/// Reads all pools' signals at once. In a task of its own: a source that panics is one that failed, and min and max still
/// hold.
async fn read_all(services: &Services, queries: Vec<SignalQuery>, now: UnixMillis) -> Readings {
    let source = Arc::clone(&services.source);
    let read = tokio::spawn(async move { observe::readings(source.as_ref(), queries, now).await }).await;
    read.unwrap_or_else(|error| {
        tracing::error!(%error, "the source of metrics panicked");
        BTreeMap::new()
    })
}

/// Lets every pool that was looked at act.
async fn act_in_all(
    services: &Arc<Services>,
    seen: Vec<(Arc<Pool>, Snapshot)>,
    mut readings: Readings,
    began: Instant,
) {
    let mut acts = JoinSet::new();
    let mut acting = BTreeMap::new();
    for (pool, snapshot) in seen {
        let signals = readings.remove(pool.name()).unwrap_or_default();
        let (actor, services) = (Arc::clone(&pool), Arc::clone(services));
        let task = acts.spawn(async move { actor.act(&services, snapshot, signals).await });
        acting.insert(task.id(), pool);
    }
    while let Some(ended) = acts.join_next_with_id().await {
        match ended {
            Ok((id, Ok(()))) => {
                if let Some(pool) = acting.get(&id) {
                    services.meters.tick_ended(pool.name(), "done");
                    services.meters.tick_took(began.elapsed().as_secs_f64());
                }
            }
            Ok((id, Err(error))) => {
                if let Some(pool) = acting.get(&id) {
                    tick_failed(services, pool, &error).await;
                }
            }
            Err(error) => {
                if let Some(pool) = acting.get(&error.id()) {
                    tick_panicked(services, pool);
                }
            }
        }
    }
}

async fn tick_failed(services: &Services, pool: &Pool, error: &TickError) {
    let text = crate::chain(error);
    if pool.recorder.failed(text.clone()) {
        tracing::warn!(pool = %pool.name(), error = text, "the pool's tick failed");
    } else {
        tracing::debug!(pool = %pool.name(), error = text, "the pool's tick failed again");
    }
    services.meters.tick_ended(pool.name(), "failed");
    if let TickError::Observe(error) = error {
        services.meters.provider_failed(pool.name(), error.kind);
        if let ProviderErrorKind::RateLimited { retry_after_secs } = error.kind {
            let wait = wait((pool.applier.clock)(), retry_after_secs);
            pool.tick_state.lock().await.wait = Some(wait);
        }
    }
}

fn tick_panicked(services: &Services, pool: &Pool) {
    // The panic's own words are in the log already.
    tracing::error!(pool = %pool.name(), "the pool's tick panicked; the others go on");
    services.meters.tick_ended(pool.name(), "panicked");
    pool.recorder
        .failed("the tick panicked; the log says where".to_owned());
}
