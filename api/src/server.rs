//! The listeners: an accept loop of our own, because connections, headers, bodies, idleness and draining need bounds
//! that a framework's server does not give. What a request means is a [`Service`]'s business.

mod activity;
mod body;
mod connection;
mod public;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::config::Limits;
use crate::lifecycle::{Lifecycle, Stage};
use crate::metrics::Metrics;

pub use activity::{Activity, Answering};
pub use body::AnswerBody;
pub use public::{PublicService, PublicServiceParts};
pub use tls::{Tls, TlsError};

/// The kernel's queue of connections that nobody accepted yet; Linux cuts it to net.core.somaxconn (4,096).
const BACKLOG: u32 = 1_024;

/// Pause after a failed accept (usually: no file descriptors left), so that the loop does not spin. Doubles up to the
/// second value: connections that end meanwhile free descriptors.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Answers requests.
pub trait Service: Send + Sync + 'static {
    /// The answers' bodies.
    type Body: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + 'static;

    /// Answers one request of the connection that `peer` describes.
    fn answer(
        self: Arc<Self>,
        request: http::Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = http::Response<Self::Body>> + Send + 'static;
}

/// The connection that a request came on.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its clocks.
    pub activity: Arc<Activity>,
    /// Our end.
    pub local: SocketAddr,
    /// The client's end.
    pub remote: SocketAddr,
    /// Whether it speaks TLS.
    pub tls: bool,
}

impl Peer {
    /// Marks a request as being answered until the value is dropped; belongs into the answer's body.
    #[must_use]
    pub fn answering(&self) -> Answering {
        Answering::begin(&self.activity, Instant::now())
    }
}

/// A socket that has its address but takes no connections yet.
#[derive(Debug)]
pub struct BoundSocket {
    socket: TcpSocket,
    address: SocketAddr,
}

impl BoundSocket {
    /// Takes the address.
    ///
    /// # Errors
    /// The kernel's; most often the address is taken.
    pub fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// The address, with the port that port 0 became.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Opens it for connections.
    ///
    /// # Errors
    /// The kernel's; most often somebody else listens there by now.
    pub fn listen(self) -> std::io::Result<TcpListener> {
        self.socket.listen(BACKLOG)
    }
}

/// How a listener serves.
pub struct Server {
    /// For logs.
    pub name: &'static str,
    /// Bounds.
    pub limits: Limits,
    /// When to stop.
    pub lifecycle: Arc<Lifecycle>,
    /// Where connections are counted, if they are.
    pub metrics: Option<Arc<Metrics>>,
    /// TLS, if spoken.
    pub tls: Option<Arc<Tls>>,
}

impl Server {
    /// Serves until the lifecycle stops and every connection has ended.
    pub async fn run<S: Service>(self, listener: TcpListener, service: Arc<S>) {
        let server = Arc::new(self);
        let permits = Arc::new(Semaphore::new(server.limits.connections_max));
        let connections = TaskTracker::new();
        let spawn = |stream: TcpStream, remote: SocketAddr, permit: OwnedSemaphorePermit| {
            let server = Arc::clone(&server);
            let service = Arc::clone(&service);
            connections.spawn(async move {
                let _permit = permit;
                connection::serve(&server, service, stream, remote).await;
            });
        };
        let mut stopping = std::pin::pin!(server.lifecycle.reached(Stage::Stopping));
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
