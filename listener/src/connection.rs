//! One connection from its acceptance to its end: TLS, HTTP/1 or HTTP/2, the bounds of its [`Activity`], and draining.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use http::header::{CONNECTION, HeaderValue};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use crate::activity::{Activity, Cut, Phase};
use crate::front::{self, Unread};
use crate::refusal::{self, Refusal};
use crate::watched_io::{WatchedIo, Wire};
use crate::{ConnectionMetrics, Early, Peer, RequestBody, Server, Service, Stage, Stages};

/// How often a connection's state is looked at: a quarter of the shortest bound, at most this. A cut comes that much
/// later than its bound.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// While stopping: how long an idle connection may still bring a request that was on its way, and how often is looked.
const STOP_LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Bytes that hyper may hold of a connection: its largest header block and half a body's chunk.
const BUFFER_BYTES_MIN: usize = 64 * 1024;

/// Most streams of an HTTP/2 connection at a time.
const HTTP2_STREAMS_MAX: u32 = 100;

/// Bytes of bodies that an HTTP/2 client may send before they are read, on one stream and on all of a connection: a body of
/// the largest size takes four round trips. HTTP/1's buffer is a quarter of it; a thousand clients whose bodies wait for room
/// have 256 MiB here.
const HTTP2_WINDOW_BYTES: u32 = 256 * 1024;

/// Bytes of one answer that h2 takes before the client does: one piece of it. hyper would let it take 400 KB of each.
const HTTP2_SEND_BYTES_MAX: usize = 64 * 1024;

/// HTTP/2 pings: a peer that is gone is noticed within twice this.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);

/// What hyper's connections have in common.
type Ended = hyper::Result<()>;

/// Whether HTTP has a date for the time that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    Dates,
    NoDates,
}

impl Clock {
    /// HTTP's dates (RFC 9110, 5.6.7) have four digits for the year, and what writes them begins in 1970.
    pub(crate) fn at(now: SystemTime) -> Self {
        /// 10000-01-01T00:00:00Z.
        const SECS_END: u64 = 253_402_300_800;
        match now.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) if since.as_secs() < SECS_END => Self::Dates,
            _ => Self::NoDates,
        }
    }
}

pub(crate) async fn serve<S: Service>(
    server: &Server,
    service: Arc<S>,
    (stream, remote): (TcpStream, SocketAddr),
    clock: Clock,
) {
    let _counted = server.metrics.as_deref().map(Counted::enter);
    let Ok(local) = stream.local_addr() else { return };
    // Answers are written whole; waiting for more to send would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY can't be set");
    }
    let ends = Ends {
        local,
        remote,
        tls: server.tls.is_some(),
    };
    let Some(tls) = &server.tls else {
        return match clock {
            Clock::Dates => serve_http1(server, service, stream, ends).await,
            Clock::NoDates => refuse_without_date(server, &*service, stream, ends).await,
        };
    };
    if clock == Clock::NoDates {
        // TLS has no dates then, either.
        return;
    }
    match tokio::time::timeout(server.limits.header_timeout, tls.acceptor().accept(stream)).await {
        Ok(Ok(stream)) => {
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                serve_http2(server, service, stream, ends).await;
            } else {
                serve_http1(server, service, stream, ends).await;
            }
        }
        Ok(Err(error)) => tracing::debug!(%remote, %error, "TLS handshake failed"),
        Err(_) => {
            if let Some(metrics) = &server.metrics {
                metrics.cut("slow_handshake");
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Ends {
    local: SocketAddr,
    remote: SocketAddr,
    tls: bool,
}

async fn serve_http1<S: Service>(server: &Server, service: Arc<S>, stream: impl Wire + 'static, ends: Ends) {
    let activity = Arc::new(Activity::new(false, &server.rooms));
    let io = TokioIo::new(WatchedIo::new(stream, Arc::clone(&activity)));
    let peer = Peer {
        activity: Arc::clone(&activity),
        local: ends.local,
        remote: ends.remote,
        tls: ends.tls,
    };
    let body_timeout = server.limits.body_timeout;
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // Who closes its half has sent all, and may wait for the answer: see docs/adr/0131-half-closed-is-not-gone.md.
        .half_close(true)
        // The header timeout is ours: hyper's arms a timer for each request, and counts idle time as header time.
        .header_read_timeout(None)
        .max_header_size(server.limits.header_bytes_max)
        .max_buf_size(BUFFER_BYTES_MIN.max(server.limits.header_bytes_max * 2));
    let answering = (Arc::clone(&service), peer.clone());
    let mut connection = builder.serve_connection(
        io,
        service_fn(move |request: http::Request<Incoming>| {
            let (service, peer) = answering.clone();
            async move {
                let activity = Arc::clone(&peer.activity);
                let mut response = answer(service, peer, request, body_timeout).await;
                // Bytes of a body that nobody read can't be told from the next request.
                if activity.is_body_unread() {
                    response
                        .headers_mut()
                        .insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        }),
    );
    let supervisor = Supervisor::new(server, &activity);
    let ended = supervisor
        .drive(Pin::new(&mut connection), http1::Connection::graceful_shutdown)
        .await;
    if let Some(error) = ended {
        let parts = connection.into_parts();
        let mut io = parts.io.into_inner();
        let bare = io
            .take_withheld()
            .or_else(|| refusal::unanswered(&error, &activity));
        if let Some(bare) = bare {
            let unread = Unread {
                bytes: &parts.read_buf,
                header_bytes_max: server.limits.header_bytes_max,
                uncountable: activity.is_uncountable(),
            };
            let refusal = Refusal::of_error(&error, bare, unread);
            refusal::send(&*service, &peer, io, refusal).await;
        }
    }
}

/// Answers the first request of a connection, whatever it is.
async fn refuse_without_date<S: Service>(server: &Server, service: &S, stream: TcpStream, ends: Ends) {
    let asked = tokio::time::timeout(server.limits.header_timeout, stream.readable()).await;
    if !matches!(asked, Ok(Ok(()))) {
        return;
    }
    let activity = Arc::new(Activity::new(false, &server.rooms));
    let peer = Peer {
        activity: Arc::clone(&activity),
        local: ends.local,
        remote: ends.remote,
        tls: ends.tls,
    };
    let io = WatchedIo::new(stream, activity);
    refusal::send(service, &peer, io, Refusal::no_date()).await;
}

/// The service's answer, or the one that comes before any route.
///
/// The service's future is large. It is made where it is awaited, for each other place costs a copy of it a request.
async fn answer<S: Service>(
    service: Arc<S>,
    peer: Peer,
    request: http::Request<Incoming>,
    body_timeout: Duration,
) -> http::Response<S::Body> {
    let mut request = request.map(|body| RequestBody::of(body, body_timeout, &peer.activity));
    let examined = match peer.activity.take_fragment() {
        true => Err(Early::BadTarget),
        false => front::examine(&mut request),
    };
    match examined {
        Ok(()) => service.answer(request, peer).await,
        Err(early) => {
            let (asked, body) = request.into_parts();
            let mut response = service.answer_early(early, Some(&asked), &peer);
            drop(body);
            if early.closes() && !peer.activity.is_http2() {
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    }
}

async fn serve_http2<S: Service>(server: &Server, service: Arc<S>, stream: impl Wire + 'static, ends: Ends) {
    let activity = Arc::new(Activity::new(true, &server.rooms));
    let io = TokioIo::new(WatchedIo::new(stream, Arc::clone(&activity)));
    let peer = Peer {
        activity: Arc::clone(&activity),
        local: ends.local,
        remote: ends.remote,
        tls: true,
    };
    let header_bytes_max = u32::try_from(server.limits.header_bytes_max).unwrap_or(u32::MAX);
    let body_timeout = server.limits.body_timeout;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(header_bytes_max)
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .initial_stream_window_size(HTTP2_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_WINDOW_BYTES)
        .max_send_buf_size(HTTP2_SEND_BYTES_MAX)
        .keep_alive_interval(HTTP2_PING_INTERVAL)
        .keep_alive_timeout(HTTP2_PING_INTERVAL);
    let answering = (service, peer);
    let connection = builder.serve_connection(
        io,
        service_fn(move |request: http::Request<Incoming>| {
            let (service, peer) = answering.clone();
            async move { Ok::<_, Infallible>(answer(service, peer, request, body_timeout).await) }
        }),
    );
    let supervisor = Supervisor::new(server, &activity);
    let _cut_or_failed = supervisor
        .drive(pin!(connection), http2::Connection::graceful_shutdown)
        .await;
}

/// Holds a connection to its bounds and closes it when the process stops.
struct Supervisor<'a> {
    server: &'a Server,
    activity: &'a Activity,
    look_interval: Duration,
}

impl<'a> Supervisor<'a> {
    fn new(server: &'a Server, activity: &'a Activity) -> Self {
        let shortest = server.limits.header_timeout.min(server.limits.idle_timeout);
        Self {
            server,
            activity,
            look_interval: (shortest / 4).min(LOOK_INTERVAL_MAX),
        }
    }

    /// Polls the connection to its end; the error that it ended with, unless it was cut.
    ///
    /// The stage is polled only when it has changed: a request pays an atomic load for it. Its waker stays good because
    /// all of this is one task.
    async fn drive<C: Future<Output = Ended>>(
        &self,
        mut connection: Pin<&mut C>,
        close_gently: fn(Pin<&mut C>),
    ) -> Option<hyper::Error> {
        let stages: &Stages = &self.server.stages;
        let mut look = pin!(tokio::time::sleep(self.look_interval));
        let mut stop_asked = pin!(stages.reached(Stage::Stopping));
        let mut stage_seen = None;
        let mut stopping = Stopping::No;
        let ended = poll_fn(|cx| {
            loop {
                if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                    return Poll::Ready(Ok(ended));
                }
                let stage = stages.stage();
                if stopping == Stopping::No && stage_seen != Some(stage) {
                    stage_seen = Some(stage);
                    if stop_asked.as_mut().poll(cx).is_ready() {
                        stopping = Stopping::Asked;
                        look.as_mut()
                            .reset(tokio::time::Instant::now() + STOP_LOOK_INTERVAL);
                        if self.activity.phase() == Phase::Busy {
                            close_gently(connection.as_mut());
                            stopping = Stopping::Closing;
                            continue;
                        }
                    }
                }
                if look.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                let now = Instant::now();
                if let Some(cut) = self.verdict(now, stopping) {
                    return Poll::Ready(Err(cut));
                }
                let interval = match stopping {
                    Stopping::No => self.look_interval,
                    Stopping::Asked | Stopping::Closing => STOP_LOOK_INTERVAL,
                };
                look.as_mut().reset((now + interval).into());
                if stopping == Stopping::Asked {
                    close_gently(connection.as_mut());
                    stopping = Stopping::Closing;
                }
                self.activity.ask_for_end();
                // Round again: the connection may have become overdue or closable, the question about its end is met, and the
                // clock must be armed.
            }
        })
        .await;
        match ended {
            Ok(ended) => {
                log_end(&ended);
                ended.err()
            }
            Err(cut) => {
                if let Some(metrics) = &self.server.metrics {
                    metrics.cut(cut.as_str());
                }
                None
            }
        }
    }

    fn verdict(&self, now: Instant, stopping: Stopping) -> Option<Cut> {
        let still_writing = self.activity.is_write_blocked();
        let unfinished = self.activity.phase() == Phase::Busy || still_writing;
        if self.server.stages.stage() >= Stage::Cutting || (stopping == Stopping::Closing && !unfinished) {
            return Some(Cut::Stop);
        }
        self.activity.judge(now, &self.server.limits)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopping {
    No,
    /// An idle connection has a moment left for a request that is on its way.
    Asked,
    /// It closes after what it is doing.
    Closing,
}

/// A client that goes away, sends nonsense or is cut is daily business.
fn log_end(ended: &Ended) {
    if let Err(error) = ended {
        tracing::debug!(error = %chain(error), "connection ended early");
    }
}

/// An error with its causes.
fn chain(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        None => error.to_string(),
        Some(source) => format!("{error}: {source}"),
    }
}

/// Counts a connection until dropped.
struct Counted<'a>(&'a dyn ConnectionMetrics);

impl<'a> Counted<'a> {
    fn enter(metrics: &'a dyn ConnectionMetrics) -> Self {
        metrics.opened();
        Self(metrics)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.closed();
    }
}

#[cfg(test)]
mod tests;
