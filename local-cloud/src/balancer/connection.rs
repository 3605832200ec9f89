//! A client's connection: the bounds that pingora does not set. A request's head has a deadline, an unused connection is
//! closed after a while, and there are only so many of them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Sleep;

/// How long the head of a request may take from its first byte, and a new client to send that byte. A head has at most
/// 1 MiB in pingora and mostly 1 KiB: at 1 kB/s, slower than any modem, that is a second.
pub(crate) const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// The stream of a client, with a deadline for the head of each request.
#[derive(Debug)]
pub(crate) struct ClientStream {
    inner: Stream,
    head: Option<Head>,
}

/// A head that is awaited or being read.
#[derive(Debug)]
struct Head {
    deadline: Pin<Box<Sleep>>,
    begun: bool,
    end: EndOfHead,
}

/// Finds the empty line that ends a head, however the bytes are cut.
#[derive(Debug, Default)]
struct EndOfHead {
    line_bytes: u64,
    any_line: bool,
}

impl EndOfHead {
    /// Whether the head ends in these bytes.
    fn is_in(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            match byte {
                b'\n' if self.line_bytes == 0 && self.any_line => return true,
                b'\n' => self.line_bytes = 0,
                b'\r' => {}
                _ => {
                    self.line_bytes += 1;
                    self.any_line = true;
                }
            }
        }
        false
    }
}

impl ClientStream {
    /// A new connection, from which a request is expected now.
    pub(crate) fn new(inner: Stream) -> Self {
        let mut stream = Self { inner, head: None };
        stream.expect_head(HEAD_WITHIN);
        stream
    }

    /// Serves its requests one after the other, until one side has enough.
    pub(crate) async fn serve<A>(self, app: &Arc<A>, idle: impl Fn() -> Duration, stop: &ShutdownWatch)
    where
        A: HttpServerApp + Send + Sync + 'static,
    {
        let mut session = ServerSession::new_http1(Box::new(self));
        // Without a bound of pingora's own: it begins anew with every byte.
        session.set_keepalive(Some(0));
        let mut reused = app.process_new_http(session, stop).await;
        while let Some((stream, settings)) = reused.map(ReusedHttpStream::consume) {
            let Ok(mut stream) = stream.into_any().downcast::<Self>() else {
                return;
            };
            stream.expect_head(idle());
            let mut session = ServerSession::new_http1(stream);
            if let Some(settings) = settings {
                settings.apply_to_session(&mut session);
            }
            reused = app.process_new_http(session, stop).await;
        }
    }

    /// The next request is expected to begin within `idle`.
    fn expect_head(&mut self, idle: Duration) {
        self.head = Some(Head {
            deadline: Box::pin(tokio::time::sleep(idle)),
            begun: false,
            end: EndOfHead::default(),
        });
    }

    /// Bytes came in.
    fn received(&mut self, bytes: &[u8]) {
        let Some(head) = self.head.as_mut().filter(|_| !bytes.is_empty()) else {
            return;
        };
        if head.end.is_in(bytes) {
            self.head = None;
        } else if !head.begun {
            head.begun = true;
            head.deadline
                .as_mut()
                .reset(tokio::time::Instant::now() + HEAD_WITHIN);
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut self.inner).poll_read(context, buffer) {
            let new = buffer.filled().get(before..).unwrap_or_default();
            self.received(new);
            // A head that comes byte by byte never leaves the stream pending for long: its deadline counts all the same.
            let late = self
                .head
                .as_mut()
                .is_some_and(|head| head.deadline.as_mut().poll(context).is_ready());
            return Poll::Ready(if late { Err(too_late()) } else { result });
        }
        match self.head.as_mut() {
            Some(head) => head.deadline.as_mut().poll(context).map(|()| Err(too_late())),
            None => Poll::Pending,
        }
    }
}

fn too_late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the request's head took too long")
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        Shutdown::shutdown(&mut self.inner).await;
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for ClientStream {}
impl Peek for ClientStream {}

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

/// Room for a balancer's connections; how much there is can change while it runs.
#[derive(Debug, Default)]
pub(crate) struct Room {
    open: AtomicU64,
    freed: Notify,
}

/// One connection's place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Room>);

impl Room {
    /// Waits until fewer than `max` connections are open, and takes a place.
    pub(crate) async fn take(self: &Arc<Self>, max: impl Fn() -> u64) -> Place {
        loop {
            // Registered before the look, so that a place that gets free in between is not missed.
            let freed = self.freed.notified();
            let below = |open: u64| (open < max()).then_some(open + 1);
            if self
                .open
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, below)
                .is_ok()
            {
                return Place(Arc::clone(self));
            }
            freed.await;
        }
    }

    /// How many are open.
    pub(crate) fn open(&self) -> u64 {
        self.open.load(Ordering::Acquire)
    }

    /// There may be more room now.
    pub(crate) fn changed(&self) {
        self.freed.notify_waiters();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_its_first_empty_line_however_it_is_cut() {
        let ends = |chunks: &[&str]| {
            let mut end = EndOfHead::default();
            chunks.iter().position(|chunk| end.is_in(chunk.as_bytes()))
        };
        assert_eq!(ends(&["GET / HTTP/1.1\r\nHost: a\r\n\r\n"]), Some(0));
        assert_eq!(ends(&["GET / HTTP/1.1\n\n"]), Some(0));
        assert_eq!(ends(&["GET / HTTP/1.1\r\n", "Host: a\r", "\n\r", "\n"]), Some(3));
        assert_eq!(
            ends(&["\r\n", "\r\n", "GET /"]),
            None,
            "empty lines before it are none of it"
        );
        assert_eq!(ends(&["GET / HTTP/1.1\r\nA: b\r\n"]), None);
    }

    #[tokio::test]
    async fn a_place_is_waited_for_and_room_can_grow() {
        let room = Arc::new(Room::default());
        let first = room.take(|| 1).await;
        let mut second = Box::pin(room.take(|| 1));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(first);
        let _second = second.await;
        let max = AtomicU64::new(1);
        let mut third = Box::pin(room.take(|| max.load(Ordering::Relaxed)));
        assert!(futures_util::poll!(third.as_mut()).is_pending());
        max.store(2, Ordering::Relaxed);
        room.changed();
        let _third = third.await;
        assert_eq!(room.open(), 2);
    }
}
