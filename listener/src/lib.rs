//! The listeners of all three programs: an accept loop of our own, because connections, headers, bodies, idleness and
//! draining need bounds that a framework's server does not give. One set of bounds for all of them.
//!
//! What a request means is a [`Service`]'s business; no routes, no configuration and no clock of a program here.

mod activity;
mod answers;
mod body;
mod connection;
mod descriptors;
mod endpoint;
mod file_lock;
mod files;
mod frames;
mod front;
mod heads;
mod host;
mod limits;
pub mod pem;
mod refusal;
mod rooms;
mod server;
mod service_manager;
mod socket;
mod stages;
#[cfg(feature = "testing")]
pub mod testing;
mod tls;
mod trusted;
mod watched_io;

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;

pub use activity::{Activity, Answering};
pub use body::{AnswerBody, Lateness, RequestBody};
pub use descriptors::{Room, make_room};
pub use endpoint::{EndpointService, poem_request};
pub use file_lock::FileLock;
pub use files::{open_regular, read_bytes, read_text};
pub use front::Early;
pub use limits::Limits;
pub use rooms::Rooms;
pub use server::{Server, WallClock};
pub use service_manager::ServiceManager;
pub use socket::BoundSocket;
pub use stages::{Stage, Stages};
pub use tls::{Tls, TlsError, TlsFiles};
pub use trusted::{NotAHost, Stranger, TrustedHosts};

/// Answers requests.
pub trait Service: Send + Sync + 'static {
    /// The answers' bodies.
    type Body: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + 'static;

    /// Answers one request of the connection that `peer` describes.
    fn answer(
        self: Arc<Self>,
        request: http::Request<RequestBody>,
        peer: Peer,
    ) -> impl Future<Output = http::Response<Self::Body>> + Send + 'static;

    /// Words an answer that no route is asked for. `asked` is what was, as far as it could be read. The listener adds
    /// `Connection: close` where the connection can't go on.
    fn answer_early(
        &self,
        early: Early,
        asked: Option<&http::request::Parts>,
        peer: &Peer,
    ) -> http::Response<Self::Body>;
}

/// Where a listener counts its connections.
pub trait ConnectionMetrics: Send + Sync {
    /// One more is open.
    fn opened(&self);
    /// One is not open any more.
    fn closed(&self);
    /// One was cut by us, for this reason.
    fn cut(&self, reason: &'static str);
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
        self.answering_since(Instant::now())
    }

    /// The same, for who has looked at the clock already.
    #[must_use]
    #[inline]
    pub fn answering_since(&self, began: Instant) -> Answering {
        Answering::begin(&self.activity, began)
    }

    /// The future's value, or `None` after the longest time that an answer may take (`activity::ANSWER_MAX`).
    ///
    /// On HTTP/1 the connection's supervisor watches the time and polls this again when it is over, so that no request
    /// arms a timer; an HTTP/2 stream is a task of its own and keeps one.
    pub async fn within_bound<F: Future>(&self, future: F) -> Option<F::Output> {
        if self.activity.is_http2() {
            return tokio::time::timeout(activity::ANSWER_MAX, future).await.ok();
        }
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if self.activity.is_overdue() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}
