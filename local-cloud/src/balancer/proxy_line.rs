//! The PROXY protocol, version 1: a line at the begin of a connection that says who the client is
//! (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>).

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::{Error, ErrorType};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

/// How long a new connection to a member may take; on one machine it is refused or made at once.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// Connects to a member and says for whom.
#[derive(Debug)]
pub(super) struct Introduced {
    pub(super) line: String,
    /// The address that the connection comes from; None where that doesn't matter.
    pub(super) from: Option<Ipv4Addr>,
}

/// The line for a client that is connected to this address of the balancer.
pub(super) fn line(client: SocketAddr, balancer: SocketAddr) -> String {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (client, balancer) = (canonical(client), canonical(balancer));
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    if client.is_ipv4() != balancer.is_ipv4() {
        return "PROXY UNKNOWN\r\n".to_owned();
    }
    let (from, to) = (client.ip(), balancer.ip());
    let (from_port, to_port) = (client.port(), balancer.port());
    format!("PROXY {family} {from} {to} {from_port} {to_port}\r\n")
}

/// A new connection to a member, within [`CONNECT_WITHIN`].
pub(super) async fn connect(to: SocketAddr, from: Option<Ipv4Addr>) -> std::io::Result<TcpStream> {
    let connecting = async {
        let socket = if to.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        if let Some(from) = from {
            socket.bind(SocketAddr::from((from, 0)))?;
        }
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let late = |_| Err(std::io::ErrorKind::TimedOut.into());
    tokio::time::timeout(CONNECT_WITHIN, connecting)
        .await
        .unwrap_or_else(late)
}

#[async_trait]
impl Connect for Introduced {
    async fn connect(&self, to: &PeerAddr) -> pingora::Result<Stream> {
        let address = to
            .as_inet()
            .ok_or_else(|| Error::explain(ErrorType::ConnectError, "not an address of the internet"))?;
        let failed = |error: std::io::Error| {
            let kind = match error.kind() {
                std::io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
                std::io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
                _ => ErrorType::ConnectError,
            };
            Error::because(kind, "a member", error)
        };
        let mut stream = connect(*address, self.from).await.map_err(failed)?;
        stream.write_all(self.line.as_bytes()).await.map_err(failed)?;
        Ok(stream.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_both_ends_in_the_family_they_share() {
        let line = |client: &str, balancer: &str| line(client.parse().unwrap(), balancer.parse().unwrap());
        assert_eq!(
            line("192.0.2.1:56324", "192.0.2.9:443"),
            "PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\r\n"
        );
        assert_eq!(
            line("[::ffff:192.0.2.1]:1", "192.0.2.9:443"),
            "PROXY TCP4 192.0.2.1 192.0.2.9 1 443\r\n"
        );
        assert_eq!(
            line("[2001:db8::1]:1", "[2001:db8::2]:2"),
            "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"
        );
        assert_eq!(line("[2001:db8::1]:1", "192.0.2.9:2"), "PROXY UNKNOWN\r\n");
    }
}
