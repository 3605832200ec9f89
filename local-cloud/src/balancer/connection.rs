//! A client's connection: the bounds that pingora does not set. A request's head has a deadline, an unused connection is
//! closed after a while, and there are only so many of them.
//!
//! A client may send requests without waiting for the answers (RFC 9112, 9.3.2). What comes after a request is kept here until
//! that one is answered, so that pingora reads one at a time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use pingora::apps::{HttpServerApp, ReusedHttpStream};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::wire::Wire;

/// How long the head of a request may take from its first byte, and a new client to send that byte. A head has at most
/// 1 MiB in pingora and mostly 1 KiB: at 1 kB/s, slower than any modem, that is a second.
pub(crate) const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// How long a request is worked on whose client has closed its end. It may only have sent all and wait for the answer, or it
/// has gone. The listeners of the programs behind give up after as long.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// More than this is not kept of what comes after a request; its sender waits.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// The stream of a client, with a deadline for the head of each request.
#[derive(Debug)]
pub(crate) struct ClientStream {
    inner: Wire,
    head: Option<Head>,
    /// While a request is being answered whose client has closed its end: until when that is not passed on.
    end: Option<Pin<Box<Sleep>>>,
    /// What came and is not read yet: the rest of a body, or later requests.
    kept: BytesMut,
    current: Arc<CurrentRequest>,
    digest: Arc<ProxyDigest>,
}

/// What the stream and who answers know of the request that is being answered.
#[derive(Debug, Default)]
pub(crate) struct CurrentRequest {
    /// What of its body is not read yet; `u64::MAX` until its head says.
    body_bytes: AtomicU64,
    is_malformed: AtomicBool,
    is_tls: bool,
    may_be_awaited: AtomicBool,
}

impl CurrentRequest {
    /// The one of a session.
    pub(crate) fn of(session: &ServerSession) -> Option<&Arc<CurrentRequest>> {
        let digest = session.digest()?.proxy_digest.as_ref()?;
        digest.user_data.as_ref()?.downcast_ref()
    }

    /// Whether its first line is not a method, a target and a version with one space between them (RFC 9112, 3), which
    /// pingora mends and passes on.
    pub(crate) fn is_malformed(&self) -> bool {
        self.is_malformed.load(Ordering::Relaxed)
    }

    /// Whether it came by TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Who has sent it may close that half of the connection and wait for the answer (RFC 9112, 9.6).
    pub(crate) fn may_be_awaited(&self) {
        self.may_be_awaited.store(true, Ordering::Relaxed);
    }

    /// Its head said how long its body is; what follows is the next request.
    pub(crate) fn ends_after(&self, body_bytes: u64) {
        self.body_bytes.store(body_bytes, Ordering::Relaxed);
    }
}

/// A head that is awaited or being read.
#[derive(Debug)]
struct Head {
    deadline: Pin<Box<Sleep>>,
    begun: bool,
    end: EndOfHead,
}

/// Finds the empty line that ends a head, however the bytes are cut, and looks at its first line.
#[derive(Debug, Default)]
struct EndOfHead {
    line_bytes: u64,
    any_line: bool,
    /// The first line is over.
    has_first: bool,
    spaces: u8,
    has_control: bool,
}

impl EndOfHead {
    /// How many of these bytes belong to the head, if it ends in them.
    fn within(&mut self, bytes: &[u8]) -> Option<usize> {
        for (n, byte) in bytes.iter().enumerate() {
            match byte {
                b'\n' if self.line_bytes == 0 && self.any_line => return Some(n + 1),
                b'\n' => {
                    self.line_bytes = 0;
                    self.has_first = self.any_line;
                }
                b'\r' => {}
                _ => {
                    self.line_bytes += 1;
                    self.any_line = true;
                }
            }
            if !self.has_first {
                self.spaces = self.spaces.saturating_add(u8::from(*byte == b' '));
                self.has_control |= byte.is_ascii_control() && !matches!(byte, b'\r' | b'\n');
            }
        }
        None
    }

    fn is_malformed(&self) -> bool {
        self.has_control || self.spaces != 2
    }
}

impl ClientStream {
    /// A new connection, from which a request is expected now.
    ///
    /// # Errors
    /// Never in fact: pingora's digest wants the head of an answer, which can't be made of any number.
    pub(crate) fn new(inner: Wire) -> pingora::Result<Self> {
        let current = Arc::new(CurrentRequest {
            is_tls: inner.is_tls(),
            ..CurrentRequest::default()
        });
        let unused = ResponseHeader::build(200, Some(0))?;
        let mut stream = Self {
            inner,
            head: None,
            end: None,
            kept: BytesMut::new(),
            current: Arc::clone(&current),
            digest: Arc::new(ProxyDigest::new(Box::new(unused), Some(Box::new(current)))),
        };
        stream.expect_head(HEAD_WITHIN);
        Ok(stream)
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
        self.current.ends_after(u64::MAX);
        self.current.is_malformed.store(false, Ordering::Relaxed);
        self.current.may_be_awaited.store(false, Ordering::Relaxed);
        self.end = None;
        self.head = Some(Head {
            deadline: Box::pin(tokio::time::sleep(idle)),
            begun: false,
            end: EndOfHead::default(),
        });
    }

    /// Hands over what belongs to the request that is being read; what comes after it is kept.
    fn release(&mut self, buffer: &mut ReadBuf<'_>) {
        let mut count = self.kept.len().min(buffer.remaining());
        let bytes = self.kept.get(..count).unwrap_or_default();
        if let Some(head) = self.head.as_mut() {
            let began = !head.begun && count > 0;
            if let Some(head_bytes) = head.end.within(bytes) {
                count = head_bytes;
                let malformed = head.end.is_malformed();
                self.current.is_malformed.store(malformed, Ordering::Relaxed);
                self.head = None;
            } else if began {
                head.begun = true;
                head.deadline
                    .as_mut()
                    .reset(tokio::time::Instant::now() + HEAD_WITHIN);
            }
        } else {
            let left = self.current.body_bytes.load(Ordering::Relaxed);
            count = count.min(usize::try_from(left).unwrap_or(usize::MAX));
            if left != u64::MAX {
                self.current.ends_after(left.saturating_sub(count as u64));
            }
        }
        buffer.put_slice(&self.kept.split_to(count));
    }

    /// Whether the end that has come is kept back for now: the request is whole, as far as is known here, and its answer may be
    /// waited for. Of one in chunks it isn't known, so that half of such a one is refused that much later.
    fn keeps_end_back(&mut self, context: &mut Context<'_>) -> bool {
        let body_bytes = self.current.body_bytes.load(Ordering::Relaxed);
        let whole = self.head.is_none() && matches!(body_bytes, 0 | u64::MAX);
        if !whole || !self.current.may_be_awaited.load(Ordering::Relaxed) {
            return false;
        }
        let end = self
            .end
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(GONE_WITHIN)));
        end.as_mut().poll(context).is_pending()
    }

    /// Reads what has come, unless enough is kept already. Ready at the end of the stream and when something is there.
    fn poll_fill(&mut self, context: &mut Context<'_>, wanted: usize) -> Poll<io::Result<()>> {
        if !self.kept.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.kept.resize(wanted.min(KEPT_BYTES_MAX), 0);
        let mut room = ReadBuf::new(&mut self.kept);
        let read = Pin::new(&mut self.inner).poll_read(context, &mut room);
        let count = room.filled().len();
        self.kept.truncate(if read.is_ready() { count } else { 0 });
        read
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(result) = self.poll_fill(context, buffer.remaining()) {
            let ended = self.kept.is_empty();
            let before = buffer.filled().len();
            self.release(buffer);
            // A head that comes byte by byte never leaves the stream pending for long: its deadline counts all the same.
            let late = self
                .head
                .as_mut()
                .is_some_and(|head| head.deadline.as_mut().poll(context).is_ready());
            if !late && !ended && buffer.filled().len() == before {
                // The next request is there, and this one is being answered: nobody is woken before it is read.
                return Poll::Pending;
            }
            if ended && result.is_ok() && self.keeps_end_back(context) {
                return Poll::Pending;
            }
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
        self.inner.end().await;
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
        Some(Arc::clone(&self.digest))
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_its_first_empty_line_however_it_is_cut() {
        let ends = |chunks: &[&str]| {
            let mut end = EndOfHead::default();
            chunks
                .iter()
                .position(|chunk| end.within(chunk.as_bytes()).is_some())
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

    #[test]
    fn a_first_line_has_two_spaces_and_no_control_byte() {
        for (line, malformed) in [
            ("GET / HTTP/1.1", false),
            ("GET /a%20b HTTP/1.1", false),
            ("GET /\u{fc} HTTP/1.1", false),
            ("GET /a b HTTP/1.1", true),
            ("GET  / HTTP/1.1", true),
            ("GET / HTTP/1.1 ", true),
            ("GET /a\u{1}b HTTP/1.1", true),
            ("GET /a\tb HTTP/1.1", true),
            ("GET /", true),
        ] {
            let mut end = EndOfHead::default();
            let text = format!("\r\n{line}\r\nA: b c d\u{1}\r\n\r\nGET / HTTP/1.1\r\n");
            let head = text.len() - "GET / HTTP/1.1\r\n".len();
            assert_eq!(end.within(text.as_bytes()), Some(head));
            assert_eq!(end.is_malformed(), malformed, "{line:?}");
        }
    }
}
