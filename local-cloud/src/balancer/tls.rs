//! TLS of clients, by rustls: 1.2 and 1.3, without renegotiation, which rustls does not have.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a handshake may take: as long as the head of a request, and for the same reason. How many there are at once is
/// bounded as connections are, of which each is one.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// As ALPN names them (RFC 7301, RFC 9113).
const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// Shows the same certificate whatever name is asked for, as DigitalOcean's balancers do with one certificate a rule: whether it
/// is the right one is the client's to say.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// What meets clients with this certificate; None when rustls has no protocol for it, which is a mistake in this program.
pub(super) fn server_config(key: Arc<CertifiedKey>, http2: bool) -> Option<Arc<ServerConfig>> {
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = match builder.with_protocol_versions(&versions) {
        Ok(builder) => builder,
        Err(error) => {
            tracing::error!(%error, "no TLS");
            return None;
        }
    };
    let mut config = builder
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(key)));
    let offered: &[&[u8]] = if http2 { &[HTTP2, HTTP1] } else { &[HTTP1] };
    config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
    Some(Arc::new(config))
}

/// Shakes hands with a client; None when it does not come to it, or not in time.
pub(super) async fn accept(
    config: &Arc<ServerConfig>,
    stream: TcpStream,
) -> Option<Box<TlsStream<TcpStream>>> {
    let acceptor = TlsAcceptor::from(Arc::clone(config));
    match tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "no handshake");
            None
        }
        Err(_) => {
            tracing::debug!("a handshake took too long");
            None
        }
    }
}

/// Whether HTTP/2 was agreed on.
pub(super) fn speaks_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP2)
}
