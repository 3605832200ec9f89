//! One port of a load balancer: connections are accepted here, as many as there is room for, and
//! handed to what serves them: pingora where it is HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::HttpServerApp;
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::connection::ClientStream;
use super::counts::count;
use super::front::Front;
use super::pool::Balancer;
use super::room::Room;
use super::rule::{RuleCell, Speaks};
use super::wire::Wire;
use super::{http2, tcp, tls};

/// Pause after a connection that could not be accepted: out of descriptors, mostly, and trying at once again would only
/// use the processor.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Why a load balancer can't listen.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}: {source}")]
pub(crate) struct ListenError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// Takes the port.
pub(super) fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let error = |source| ListenError { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(error)?;
    listener.set_nonblocking(true).map_err(error)?;
    TcpListener::from_std(listener).map_err(error)
}

/// What a listener shares with others: the room with those of all balancers.
pub(super) struct Shared {
    pub(super) room: Arc<Room>,
    pub(super) connections_max: u64,
    pub(super) stop: CancellationToken,
}

/// What serves the connections of a listener.
struct Server {
    proxy: Arc<HttpProxy<Front>>,
    balancer: Arc<Balancer>,
    rule: Arc<RuleCell>,
    shutdown: watch::Receiver<bool>,
}

/// Accepts connections, as many as there is room for, and hands each to what serves it, until `stop`.
pub(super) async fn serve(listener: TcpListener, front: Front, shared: Shared) {
    let balancer = Arc::clone(&front.balancer);
    let (closing, shutdown) = watch::channel(false);
    let server = Arc::new(Server {
        balancer: Arc::clone(&balancer),
        rule: Arc::clone(&front.rule),
        proxy: Arc::new(http_proxy(&Arc::new(ServerConf::default()), front)),
        shutdown,
    });
    let places = async || {
        let of_all = shared.room.take(|| shared.connections_max).await;
        let of_balancer = balancer.room.take(|| balancer.behaviour().connections_max).await;
        (of_all, of_balancer)
    };
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        if !balancer.behaviour().firewall.admits(client.ip()) {
            count(&balancer.counts.refused_by_firewall);
            continue;
        }
        // Without room it waits here, and the next ones wait in the kernel's queue.
        let places = tokio::select! {
            () = shared.stop.cancelled() => break,
            places = places() => places,
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let _places = places;
            server.connection(stream).await;
        });
    }
    drop(listener);
    closing.send_replace(true);
    server.proxy.http_cleanup().await;
}

impl Server {
    /// Serves one connection to its end, as the rule says now.
    async fn connection(&self, stream: TcpStream) {
        let rule = self.rule.now();
        match &rule.speaks {
            Speaks::Tcp => tcp::serve(&self.balancer, stream, rule.target_port).await,
            Speaks::Http { .. } => self.http1(Wire::plain(stream)).await,
            Speaks::Https(tls) => {
                let shaken = match tls {
                    Some(tls) => tls::accept(&tls.config, stream).await,
                    None => None,
                };
                let Some(stream) = shaken else {
                    count(&self.balancer.counts.failed_handshakes);
                    return;
                };
                if tls::speaks_http2(&stream) {
                    let idle = || self.balancer.behaviour().idle_timeout;
                    http2::serve(Wire::tls(stream), &self.proxy, idle, &self.shutdown).await;
                } else {
                    self.http1(Wire::tls(stream)).await;
                }
            }
        }
    }

    async fn http1(&self, wire: Wire) {
        let idle = || self.balancer.behaviour().idle_timeout;
        match ClientStream::new(wire) {
            Ok(client) => client.serve(&self.proxy, idle, &self.shutdown).await,
            Err(error) => tracing::warn!(%error, "a connection can't be served"),
        }
    }
}
