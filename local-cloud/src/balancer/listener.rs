//! One port of a load balancer: connections are accepted here, as many as there is room for, and handed to pingora.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::HttpServerApp;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::{GetSocketDigest, SocketDigest};
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::connection::{ClientStream, Room};
use super::counts::count;
use super::front::Front;

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

/// Accepts connections, as many as there is room for, and hands each to pingora, until `stop`.
pub(super) async fn serve(listener: TcpListener, front: Front, shared: Shared) {
    let balancer = Arc::clone(&front.balancer);
    let proxy = Arc::new(http_proxy(&Arc::new(ServerConf::default()), front));
    let (closing, shutdown) = watch::channel(false);
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
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        let mut stream = Stream::from(stream);
        stream.set_socket_digest(digest);
        let (proxy, balancer, shutdown) = (Arc::clone(&proxy), Arc::clone(&balancer), shutdown.clone());
        tokio::spawn(async move {
            let _places = places;
            let idle = || balancer.behaviour().idle_timeout;
            match ClientStream::new(stream) {
                Ok(client) => client.serve(&proxy, idle, &shutdown).await,
                Err(error) => tracing::warn!(%error, "a connection can't be served"),
            }
        });
    }
    drop(listener);
    closing.send_replace(true);
    proxy.http_cleanup().await;
}
