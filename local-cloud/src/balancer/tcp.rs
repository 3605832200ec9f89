//! Rules whose bytes are not looked at: TCP, and TLS that ends at the members.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::counts::count;
use super::front::TRIES_MAX;
use super::http2::Activity;
use super::member::InFlight;
use super::pool::Balancer;
use super::proxy_line;

/// Bytes on their way in one direction of a connection: 10,000 connections of one unit have 320 MB at most.
const BUFFER_BYTES: usize = 16 << 10;

/// Ties a client to a member until both sides are done, nothing comes or goes for the balancer's idle time, or the balancer ends.
pub(super) async fn serve(balancer: &Balancer, client: TcpStream, target_port: u16) {
    count(&balancer.counts.tcp_connections);
    let Some((member, _at)) = reach(balancer, &client, target_port).await else {
        count(&balancer.counts.tcp_without_member);
        return;
    };
    let idle = || balancer.behaviour().idle_timeout;
    tokio::select! {
        () = tie(client, member, idle) => {}
        () = balancer.ended() => {}
    }
}

/// A connection to a member; another one is tried when the first can't be had.
async fn reach(balancer: &Balancer, client: &TcpStream, port: u16) -> Option<(TcpStream, InFlight)> {
    let mut tried = Vec::new();
    while tried.len() < TRIES_MAX {
        let member = balancer.choose(&tried)?;
        tried.push(member.target.machine);
        let at = InFlight::start(Arc::clone(&member));
        let endpoint = member.target.endpoint(port);
        match open(balancer, client, (endpoint, member.target.from)).await {
            Ok(stream) => return Some((stream, at)),
            Err(error) => {
                member.try_failed();
                member.unreachable(&error.to_string());
            }
        }
    }
    None
}

async fn open(
    balancer: &Balancer,
    client: &TcpStream,
    (to, from): (SocketAddr, Option<std::net::Ipv4Addr>),
) -> io::Result<TcpStream> {
    let mut stream = proxy_line::connect(to, from).await?;
    if balancer.behaviour().proxy_protocol {
        let line = proxy_line::line(client.peer_addr()?, client.local_addr()?);
        stream.write_all(line.as_bytes()).await?;
    }
    Ok(stream)
}

/// Carries bytes both ways; one side may be done before the other.
async fn tie(mut client: TcpStream, mut member: TcpStream, idle: impl Fn() -> Duration) {
    let activity = Activity::new();
    let carried = async {
        let (from_client, to_client) = client.split();
        let (from_member, to_member) = member.split();
        tokio::try_join!(
            carry(from_client, to_member, &activity),
            carry(from_member, to_client, &activity)
        )
    };
    tokio::select! {
        carried = carried => {
            if let Err(error) = carried {
                tracing::debug!(%error, "a connection broke");
            }
        }
        () = activity.silence(idle) => {}
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    activity: &Activity,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        activity.note();
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..count).unwrap_or_default()).await?;
        activity.note();
    }
}
