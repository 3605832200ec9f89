//! The accept loop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::connection::{self, Clock};
use crate::{ConnectionMetrics, Limits, Rooms, Service, Stage, Stages, Tls};

/// Pause after a failed accept (usually: no file descriptors left), so that the loop does not spin. Doubles up to the
/// second value: connections that end meanwhile free descriptors.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How long connections that are cut may take to notice.
const CUT_MAX: Duration = Duration::from_secs(1);

/// Tells the time.
pub type WallClock = Box<dyn Fn() -> SystemTime + Send + Sync>;

/// How a listener serves.
pub struct Server {
    /// For logs.
    pub name: &'static str,
    /// Bounds.
    pub limits: Limits,
    /// What all its connections may hold together.
    pub rooms: Rooms,
    /// When to stop.
    pub stages: Arc<Stages>,
    /// Where connections are counted, if they are.
    pub metrics: Option<Arc<dyn ConnectionMetrics>>,
    /// TLS, if spoken.
    pub tls: Option<Arc<Tls>>,
    /// The time. Each connection looks at it once: where HTTP has no date for it, nothing is served.
    pub clock: WallClock,
}

impl Server {
    /// Serves until `stop` is done, then lets requests in flight finish within `drain`, and cuts what is left.
    pub async fn run_until<S: Service>(
        self,
        (listener, service): (TcpListener, Arc<S>),
        stop: impl Future<Output = ()>,
        drain: Duration,
    ) {
        let (name, stages) = (self.name, Arc::clone(&self.stages));
        let mut running = std::pin::pin!(self.run(listener, service));
        tokio::select! {
            () = &mut running => return,
            () = stop => {}
        }
        stages.advance(Stage::Stopping);
        if tokio::time::timeout(drain, &mut running).await.is_ok() {
            return;
        }
        stages.advance(Stage::Cutting);
        if tokio::time::timeout(CUT_MAX, running).await.is_err() {
            tracing::warn!(listener = name, "connections did not end when they were cut");
        }
    }

    /// Serves until the stage is [`Stage::Stopping`] and every connection has ended.
    pub async fn run<S: Service>(self, listener: TcpListener, service: Arc<S>) {
        let server = Arc::new(self);
        let permits = Arc::new(Semaphore::new(server.limits.connections_max));
        let connections = TaskTracker::new();
        let mut clock = Clock::Dates;
        let mut spawn = |stream: TcpStream, remote: SocketAddr, permit: OwnedSemaphorePermit| {
            let server = Arc::clone(&server);
            let service = Arc::clone(&service);
            clock = server.look_at_the_clock(clock);
            let clock = clock;
            connections.spawn(async move {
                let _permit = permit;
                connection::serve(&server, service, (stream, remote), clock).await;
            });
        };
        let mut stopping = std::pin::pin!(server.stages.reached(Stage::Stopping));
        let mut pause = ACCEPT_PAUSE.0;
        loop {
            let permit = tokio::select! {
                biased;
                () = &mut stopping => break,
                permit = server.permit(&permits) => permit,
            };
            let Some(permit) = permit else { break };
            let accepted = tokio::select! {
                biased;
                () = &mut stopping => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, remote)) => {
                    pause = ACCEPT_PAUSE.0;
                    spawn(stream, remote, permit);
                }
                Err(error) if is_one_connections(&error) => {}
                Err(error) => {
                    tracing::warn!(listener = server.name, %error, "can't accept connections for the moment");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(ACCEPT_PAUSE.1);
                }
            }
        }
        // Whoever is in the kernel's queue believes to be connected: take them in, they get one answer.
        while let Ok(permit) = Arc::clone(&permits).try_acquire_owned()
            && let Some(Ok((stream, remote))) = listener.accept().now_or_never()
        {
            spawn(stream, remote, permit);
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }

    /// Whether HTTP has a date for now; says so when that changes.
    fn look_at_the_clock(&self, before: Clock) -> Clock {
        let now = Clock::at((self.clock)());
        match (before, now) {
            (Clock::Dates, Clock::NoDates) => tracing::error!(
                listener = self.name,
                "the clock of this machine is before 1970 or after 9999: nothing is served until it is set"
            ),
            (Clock::NoDates, Clock::Dates) => {
                tracing::info!(
                    listener = self.name,
                    "the clock of this machine is set: serving again"
                );
            }
            _ => {}
        }
        now
    }

    /// Waits for room for one more connection, and says so when there is none.
    async fn permit(&self, permits: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
            return Some(permit);
        }
        tracing::warn!(
            listener = self.name,
            connections_max = self.limits.connections_max,
            "as many connections as allowed: more wait until one ends"
        );
        // The semaphore is never closed.
        Arc::clone(permits).acquire_owned().await.ok()
    }
}

/// Errors that concern the one connection that was about to be accepted, not the listener.
fn is_one_connections(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}
