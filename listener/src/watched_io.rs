//! A connection's bytes on their way to hyper and back: whatever happens is reported to the connection's [`Activity`].

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::activity::{Activity, Phase};
use crate::frames::Frames;

/// How much is read after an answer that came before the whole body; how long is the [`Activity`]'s business.
const LINGER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// hyper's own answers have a status line, a length, a date and perhaps `connection: close`: about 100 bytes.
const OWN_ANSWER_BYTES_MAX: usize = 256;

/// What a connection's bytes come from.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// Whether nothing more will come on it, whatever has come and isn't read yet: the client has closed its end, or reset it. A
    /// look by reading would see what came first, such as the words with which TLS ends.
    fn has_ended(&self) -> bool;
}

impl Wire for TcpStream {
    fn has_ended(&self) -> bool {
        // The kernel has told tokio when it happened.
        let ready = self.ready(Interest::READABLE).now_or_never();
        matches!(ready, Some(Ok(ready)) if ready.is_read_closed())
    }
}

impl Wire for TlsStream<TcpStream> {
    fn has_ended(&self) -> bool {
        self.get_ref().0.has_ended()
    }
}

#[cfg(test)]
impl Wire for tokio::io::DuplexStream {
    fn has_ended(&self) -> bool {
        false
    }
}

/// A socket that reports to its [`Activity`] what happens.
pub(crate) struct WatchedIo<T> {
    inner: T,
    activity: Arc<Activity>,
    /// Of HTTP/2 only.
    frames: Option<Frames>,
    linger_bytes_left: usize,
    withheld: Option<Vec<u8>>,
}

impl<T> WatchedIo<T> {
    pub(crate) fn new(inner: T, activity: Arc<Activity>) -> Self {
        Self {
            inner,
            frames: activity.is_http2().then(Frames::new),
            activity,
            linger_bytes_left: LINGER_BYTES_MAX,
            withheld: None,
        }
    }

    /// The bare answer that hyper wrote to a request it could not read. It was not sent: who has the connection now says it
    /// in the service's words.
    pub(crate) fn take_withheld(&mut self) -> Option<Vec<u8>> {
        self.withheld.take()
    }

    /// Withholds what hyper answers by itself, between requests only. It has no body, and no type of one: nothing of a
    /// service looks like that.
    fn withholds(&mut self, bytes: &[u8]) -> bool {
        let own = (bytes.starts_with(b"HTTP/1.1 4") || bytes.starts_with(b"HTTP/1.0 4"))
            && self.activity.phase() != Phase::Busy
            && bytes.len() <= OWN_ANSWER_BYTES_MAX
            && bytes.ends_with(b"\r\n\r\n")
            && contains(bytes, b"\r\ncontent-length: 0\r\n")
            && !contains(bytes, b"\r\ncontent-type:");
        if own {
            self.withheld = Some(bytes.to_vec());
        }
        own
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WatchedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.frames.is_some() && !self.activity.answers_have_room() {
            return no_room("there is no room for more answers that are not taken");
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        let came = buffer.filled().get(before..).unwrap_or_default();
        if came.is_empty() {
            return read;
        }
        let this = &mut *self;
        if let Some(frames) = &mut this.frames {
            this.activity.frames_came(frames.read(came));
        } else if !this.activity.bytes_came(came) {
            return no_room("there is no room for more unfinished requests");
        }
        read
    }
}

impl<T: Wire> AsyncWrite for WatchedIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.withholds(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let wrote = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.activity.wrote(wrote.is_pending());
        wrote
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        if let [only] = slices
            && self.withholds(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        let wrote = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.activity.wrote(wrote.is_pending());
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// hyper flushes whenever it is polled, also while it waits for an answer and doesn't read: that is where the supervisor's
    /// question is met.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if self.activity.is_asked_for_end() && self.inner.has_ended() {
            self.activity.note_end(Instant::now());
        }
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.activity.wrote(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if self.withheld.is_some() {
            // Not yet: the refusal in the service's words comes first.
            return Poll::Ready(Ok(()));
        }
        if self.activity.phase() != Phase::Lingering {
            ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
            self.activity.enter(Phase::Lingering, Instant::now());
        }
        if !self.activity.is_body_unread() {
            return Poll::Ready(Ok(()));
        }
        let mut scratch = [0_u8; 8 * 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buffer));
            let count = buffer.filled().len();
            let ended = read.is_err() || count == 0;
            self.linger_bytes_left = self.linger_bytes_left.saturating_sub(count);
            if ended || self.linger_bytes_left == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

fn no_room(detail: &'static str) -> Poll<std::io::Result<()>> {
    let error = std::io::Error::new(std::io::ErrorKind::QuotaExceeded, detail);
    Poll::Ready(Err(error))
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
