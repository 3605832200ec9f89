//! What a client's bytes come by, as pingora wants it: a plain connection, or one with TLS that ends here.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pingora::protocols::l4::stream::Stream;
use pingora::protocols::{
    GetSocketDigest, GetTimingDigest, SocketDigest, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A client's connection.
#[derive(Debug)]
pub(super) enum Wire {
    Plain(Box<Stream>),
    Tls {
        stream: Box<TlsStream<TcpStream>>,
        digest: Arc<SocketDigest>,
    },
}

impl Wire {
    pub(super) fn plain(stream: TcpStream) -> Self {
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        let mut stream = Stream::from(stream);
        stream.set_socket_digest(digest);
        Self::Plain(Box::new(stream))
    }

    pub(super) fn tls(stream: Box<TlsStream<TcpStream>>) -> Self {
        let digest = SocketDigest::from_raw_fd(stream.get_ref().0.as_raw_fd());
        Self::Tls {
            stream,
            digest: Arc::new(digest),
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls { .. })
    }

    /// Ends it: TLS says so to the client first.
    pub(super) async fn end(&mut self) {
        let ended = match self {
            Self::Plain(stream) => stream.shutdown().await,
            Self::Tls { stream, .. } => stream.shutdown().await,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a client's connection is gone");
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls { stream, .. } => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls { stream, .. } => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls { stream, .. } => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls { stream, .. } => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls { stream, .. } => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls { stream, .. } => stream.is_write_vectored(),
        }
    }
}

impl UniqueID for Wire {
    fn id(&self) -> UniqueIDType {
        match self {
            Self::Plain(stream) => stream.id(),
            Self::Tls { stream, .. } => stream.get_ref().0.as_raw_fd(),
        }
    }
}

impl GetTimingDigest for Wire {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        match self {
            Self::Plain(stream) => stream.get_timing_digest(),
            Self::Tls { .. } => Vec::new(),
        }
    }
}

impl GetSocketDigest for Wire {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        match self {
            Self::Plain(stream) => stream.get_socket_digest(),
            Self::Tls { digest, .. } => Some(Arc::clone(digest)),
        }
    }
}
