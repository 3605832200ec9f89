//! `serve`, from a checked configuration to the exit: the story of a process.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use tidepool_listener::{
    BoundSocket, Limits, Rooms, Server, ServiceManager, Stages, Tls, TlsError, WallClock,
};
use tidepool_logging::chain;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::config::{Config, StoreConfig};
use crate::domain::Timestamp;
use crate::http::{AppState, HeldBytes, HeldLimits, routes};
use crate::keys::{KeyFreshness, LoadedKeys, refresh_forever};
use crate::lifecycle::{Lifecycle, Stage};
use crate::metrics::Metrics;
use crate::operations::Operations;
use crate::public::{PublicService, PublicServiceParts};
use crate::store::{self, CollectionCatalog, LargeWork, OpenError, Store, StoreError};

/// How long connections that were cut may take to notice, and the operations listener to say its last word. The drain's
/// 10 s by default and twice this are 12 s, within the 15 s that the contract gives the exit.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// How long the store may take to bring its log into its file. Copying 64 MiB (SQLite's log is rarely longer) takes less
/// than this on a slow disk; with the drain and [`LAST_WORDS_MAX`] it stays within the contract's 15 s.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// Why `serve` ended in failure. `Display` leaves the source out.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The TLS files are of no use: a usage error.
    #[error("TLS can't be set up")]
    Tls(#[source] TlsError),
    /// A listener's address can't be taken.
    #[error("{listener} can't listen on {address}")]
    Listen {
        /// Which listener.
        listener: &'static str,
        /// Where.
        address: std::net::SocketAddr,
        /// What the kernel says.
        #[source]
        source: std::io::Error,
    },
    /// The store can't be opened.
    #[error("the store can't be used")]
    Open(#[source] OpenError),
    /// The store was opened, but the first questions failed.
    #[error("the store can't be used")]
    Store(#[source] StoreError),
    /// Nobody but this machine may be served without keys.
    #[error(
        "there is no key yet, and {0} is not loopback: make the first key with `tidepool-api keys create`, or listen on 127.0.0.1"
    )]
    NoKey(std::net::SocketAddr),
    /// Metrics or signals could not be set up: a defect of the program or of its surroundings.
    #[error("the process can't be set up")]
    SetUp(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A second signal came while requests were in flight.
    #[error("stopped at once by a second signal")]
    Hurried,
}

impl ServeError {
    /// Whether the operator's input is at fault (exit code 64).
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

/// The clock of the whole program.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the source of the whole program"
)]
pub fn now() -> Timestamp {
    Timestamp::of(std::time::SystemTime::now())
}

/// The same for the listeners.
#[must_use]
pub fn wall_clock() -> WallClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the source of the whole program"
    )]
    Box::new(std::time::SystemTime::now)
}

/// The random bits of the whole program, but for keys.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the source of the whole program"
)]
pub fn nonce() -> u64 {
    rand::random()
}

/// Opens the store of a configuration.
///
/// # Errors
/// [`OpenError`].
pub async fn open_store(config: &StoreConfig) -> Result<Arc<dyn Store>, OpenError> {
    store::open(&config.url, config.options.clone()).await
}

/// Serves until a signal, then drains.
///
/// # Errors
/// [`ServeError`]; an orderly end is none.
pub async fn serve(config: Config) -> Result<(), ServeError> {
    let mut signals = Signals::install()?;
    let room = make_room(&config)?;
    let tls = match &config.tls {
        Some(files) => Some(Arc::new(Tls::load(files.clone()).map_err(ServeError::Tls)?)),
        None => None,
    };
    let reloading = reload_on_hangup(tls.clone())?;
    let metrics = Arc::new(Metrics::new().map_err(|error| ServeError::SetUp(error.into()))?);
    let lifecycle = Arc::new(Lifecycle::default());
    metrics
        .watch_in_flight(Arc::clone(&lifecycle))
        .map_err(|error| ServeError::SetUp(error.into()))?;
    // Both addresses are taken before anything slow, so that a taken port is reported at once.
    let public_socket = bind("the public listener", config.listen)?;
    let trusted = config.trusted.clone().on_this_machine();
    let operations = Arc::new(Operations::new(
        Arc::clone(&lifecycle),
        Arc::clone(&metrics),
        trusted.clone(),
    ));
    let operations_task = OperationsTask::start(&config, &operations, room.operations)?;

    let opened = tokio::select! {
        opened = open(&config, &metrics) => opened?,
        () = signals.next() => {
            tracing::info!("stopped while waiting for the store");
            return Ok(());
        }
    };
    operations.store_opened(Arc::clone(&opened.store));
    check_open_to_nobody_else(&config, &opened.keys)?;

    let freshness = Arc::new(KeyFreshness::default());
    let access = Arc::clone(&opened.keys.access);
    let state = AppState {
        store: Arc::clone(&opened.store),
        catalog: CollectionCatalog::new(Arc::clone(&opened.store)),
        access: Arc::clone(&opened.keys.access),
        clock: now,
        nonce,
        cluster_secret: opened.cluster_secret,
        held: HeldBytes::new(HeldLimits {
            body_bytes_max: config.memory.body_bytes_held_max,
            answer_bytes_max: config.memory.answer_bytes_held_max,
        }),
        large: LargeWork::default(),
    };
    let store = Arc::clone(&opened.store);
    let refreshing = tokio::spawn(refresh_forever(opened.store, opened.keys, Arc::clone(&freshness)));
    let service = Arc::new(PublicService::new(PublicServiceParts {
        endpoint: routes(Arc::new(state)),
        metrics: Arc::clone(&metrics),
        lifecycle: Arc::clone(&lifecycle),
        freshness,
        limits: config.limits,
        access,
        trusted,
        nonce,
    }));
    let address = public_socket.address();
    let listener = public_socket.listen().map_err(|source| ServeError::Listen {
        listener: "the public listener",
        address,
        source,
    })?;
    let server = Server {
        name: "public",
        limits: room.public,
        rooms: Rooms::default(),
        stages: lifecycle.stages(),
        metrics: Some(metrics),
        tls,
        clock: wall_clock(),
    };
    tracing::info!(%address, tls = config.tls.is_some(), store = %config.store.url, "listening");
    lifecycle.advance(Stage::Serving);
    let public = tokio::spawn(server.run(listener, service));
    ServiceManager::of_process().ready();

    signals.next().await;
    let ended = drain(&lifecycle, public, config.drain, &mut signals).await;
    refreshing.abort();
    close(&*store).await;
    reloading.abort();
    operations_task.stop().await;
    ended
}

/// Leaves the store in order. Whatever fails here, every acknowledged write is safe where it is.
async fn close(store: &dyn Store) {
    match tokio::time::timeout(CLOSE_MAX, store.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error = %chain(&error), "the store could not be left in order"),
        Err(_) => tracing::warn!("leaving the store in order takes too long; the next start does it"),
    }
}

/// The listeners' limits, as far as file descriptors reach.
struct Room {
    public: Limits,
    operations: Limits,
}

/// Raises the limit of open files to what both listeners need; of a hard limit that is too low, operators' connections
/// get at most a quarter.
fn make_room(config: &Config) -> Result<Room, ServeError> {
    let (mut public, mut operations) = (config.limits.connections, Limits::PRIVATE);
    let wanted = public.connections_max + operations.connections_max;
    let room = tidepool_listener::make_room(wanted).map_err(|error| ServeError::SetUp(error.into()))?;
    if room.connections < wanted {
        operations.connections_max = operations.connections_max.min((room.connections / 4).max(1));
        let left = room.connections.saturating_sub(operations.connections_max).max(1);
        public.connections_max = public.connections_max.min(left);
    }
    if public.connections_max < config.limits.connections.connections_max {
        tracing::warn!(
            limits_connections_max = config.limits.connections.connections_max,
            open_files_max = room.limit,
            connections = public.connections_max,
            "the limit of open files is too low for as many connections as allowed, and can't be raised: fewer are taken"
        );
    }
    Ok(Room { public, operations })
}

fn bind(listener: &'static str, address: std::net::SocketAddr) -> Result<BoundSocket, ServeError> {
    BoundSocket::bind(address).map_err(|source| ServeError::Listen {
        listener,
        address,
        source,
    })
}

/// A store that is ready for use, and what was asked of it first.
struct Opened {
    store: Arc<dyn Store>,
    keys: LoadedKeys,
    cluster_secret: [u8; 32],
}

async fn open(config: &Config, metrics: &Metrics) -> Result<Opened, ServeError> {
    let store = open_store(&config.store).await.map_err(ServeError::Open)?;
    let store =
        store::observed(store, metrics.registry()).map_err(|error| ServeError::SetUp(error.into()))?;
    let cluster_secret = store.cluster_secret().await.map_err(ServeError::Store)?;
    let keys = LoadedKeys::load(&*store, now).await.map_err(ServeError::Store)?;
    Ok(Opened {
        store,
        keys,
        cluster_secret,
    })
}

/// Without any key everybody who can connect may do everything: that may only be this machine.
fn check_open_to_nobody_else(config: &Config, keys: &LoadedKeys) -> Result<(), ServeError> {
    if keys.any() {
        return Ok(());
    }
    if !config.listen.ip().is_loopback() {
        return Err(ServeError::NoKey(config.listen));
    }
    if keys.are_not_needed() {
        tracing::warn!(
            "there is no key yet: everybody on this machine may do everything, until the first key is made with \
             `tidepool-api keys create`"
        );
    } else {
        tracing::warn!(
            "there is no key any more: every request is refused, until one is made with `tidepool-api keys create`, or \
             the store is opened with `tidepool-api keys open` and the server started again"
        );
    }
    Ok(())
}

/// Lets requests in flight finish, within the bound; then cuts.
async fn drain(
    lifecycle: &Arc<Lifecycle>,
    mut public: JoinHandle<()>,
    bound: Duration,
    signals: &mut Signals,
) -> Result<(), ServeError> {
    tracing::info!(
        in_flight = lifecycle.in_flight(),
        drain_secs = bound.as_secs(),
        "stopping"
    );
    lifecycle.advance(Stage::Stopping);
    tokio::select! {
        _ended = &mut public => {
            tracing::info!("stopped: nothing was in flight any more");
            return Ok(());
        }
        () = tokio::time::sleep(bound) => {}
        () = signals.next() => {
            tracing::warn!(in_flight = lifecycle.in_flight(), "a second signal: stopped at once");
            return Err(ServeError::Hurried);
        }
    }
    tracing::warn!(
        in_flight = lifecycle.in_flight(),
        "the drain's bound has passed: cutting what is left"
    );
    lifecycle.advance(Stage::Cutting);
    if tokio::time::timeout(LAST_WORDS_MAX, public).await.is_err() {
        tracing::error!("connections did not end when cut");
    }
    Ok(())
}

/// The operations listener, with a life of its own: it goes on until the public one is done.
struct OperationsTask {
    stages: Arc<Stages>,
    task: JoinHandle<()>,
}

impl OperationsTask {
    fn start(config: &Config, operations: &Arc<Operations>, limits: Limits) -> Result<Self, ServeError> {
        let socket = bind("the operations listener", config.ops_listen)?;
        let address = socket.address();
        let listener = socket.listen().map_err(|source| ServeError::Listen {
            listener: "the operations listener",
            address,
            source,
        })?;
        tracing::info!(%address, "operations listening");
        let stages = Arc::new(Stages::default());
        let server = Server {
            name: "operations",
            limits,
            rooms: Rooms::default(),
            stages: Arc::clone(&stages),
            metrics: None,
            tls: None,
            clock: wall_clock(),
        };
        let task = tokio::spawn(server.run(listener, Arc::clone(operations)));
        Ok(Self { stages, task })
    }

    async fn stop(self) {
        self.stages.advance(Stage::Stopping);
        if tokio::time::timeout(LAST_WORDS_MAX, self.task).await.is_err() {
            tracing::debug!("operations connections were still open");
        }
    }
}

/// Starts reading the TLS files anew at each SIGHUP. Without TLS there is nothing to reload; the signal never ends the
/// process, for then no request in flight would finish.
fn reload_on_hangup(tls: Option<Arc<Tls>>) -> Result<JoinHandle<()>, ServeError> {
    let mut hangups = install(SignalKind::hangup())?;
    Ok(tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            let Some(tls) = tls.clone() else {
                tracing::info!("SIGHUP: nothing to reload, the public listener has no TLS files");
                continue;
            };
            match tokio::task::spawn_blocking(move || tls.reload()).await {
                Ok(Ok(())) => tracing::info!("the TLS files were read anew"),
                Ok(Err(error)) => {
                    let source = error.source().map(ToString::to_string);
                    tracing::error!(%error, source, "the TLS files are of no use: those read before stay in use");
                }
                Err(error) => tracing::error!(%error, "the TLS files could not be read anew"),
            }
        }
    }))
}

fn install(kind: SignalKind) -> Result<Signal, ServeError> {
    signal(kind).map_err(|error| ServeError::SetUp(error.into()))
}

/// SIGTERM and SIGINT, the same to us.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> Result<Self, ServeError> {
        Ok(Self {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _signal = self.terminate.recv() => {}
            _signal = self.interrupt.recv() => {}
        }
    }
}
