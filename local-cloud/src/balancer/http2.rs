//! A client's connection that speaks HTTP/2. Streams are pingora's; here it is closed when nothing comes or goes any more.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::wire::Wire;

/// How much longer than a member may be silent a connection may be: the answer that says so still has to go out.
const LONGER: Duration = Duration::from_secs(5);

/// Serves its streams until one side has enough, or nothing comes or goes for `idle`.
pub(super) async fn serve<A>(wire: Wire, app: &Arc<A>, idle: impl Fn() -> Duration, stop: &ShutdownWatch)
where
    A: ServerApp + Send + Sync + 'static,
{
    let activity = Arc::new(Activity::new());
    let stream = Http2Stream {
        wire,
        activity: Arc::clone(&activity),
    };
    tokio::select! {
        _ = app.process_new(Box::new(stream), stop) => {}
        () = activity.silence(|| idle() + LONGER) => {}
    }
}

/// When something last came or went.
#[derive(Debug)]
pub(super) struct Activity {
    begun: Instant,
    last_ms: AtomicU64,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            last_ms: AtomicU64::new(0),
        }
    }

    /// Something comes or goes.
    pub(super) fn note(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Relaxed);
    }

    /// Waits until there was nothing for so long.
    pub(super) async fn silence(&self, max: impl Fn() -> Duration) {
        loop {
            let last = self.begun + Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            let end = last + max();
            if Instant::now() >= end {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

#[derive(Debug)]
struct Http2Stream {
    wire: Wire,
    activity: Arc<Activity>,
}

impl Http2Stream {
    fn noted<T>(&self, poll: Poll<T>) -> Poll<T> {
        if poll.is_ready() {
            self.activity.note();
        }
        poll
    }
}

impl AsyncRead for Http2Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.wire).poll_read(context, buffer);
        self.noted(read)
    }
}

impl AsyncWrite for Http2Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.wire).poll_write(context, bytes);
        self.noted(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(context)
    }
}

#[async_trait]
impl Shutdown for Http2Stream {
    async fn shutdown(&mut self) {
        self.wire.end().await;
    }
}

impl UniqueID for Http2Stream {
    fn id(&self) -> UniqueIDType {
        self.wire.id()
    }
}

impl Ssl for Http2Stream {
    /// By this pingora knows what is spoken.
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        Some(ALPN::H2)
    }
}

impl Peek for Http2Stream {}

impl GetTimingDigest for Http2Stream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.wire.get_timing_digest()
    }
}

impl GetProxyDigest for Http2Stream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Http2Stream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.wire.get_socket_digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_begins_anew_with_every_byte() {
        let activity = Activity::new();
        let begun = Instant::now();
        let max = Duration::from_secs(60);
        let noting = async {
            tokio::time::sleep(Duration::from_secs(50)).await;
            activity.note();
        };
        tokio::join!(activity.silence(|| max), noting);
        assert_eq!(begun.elapsed().as_secs(), 110);
    }
}
