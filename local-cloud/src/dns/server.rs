//! The sockets: questions by UDP are answered one after the other, those by TCP connection by connection, so many at once, for
//! so long. A client that is slow, or asks much, is its own trouble.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Zones;
use super::answer::{Transport, answer};

/// Largest question. One has a name of at most 255 bytes and some options; clients send a few hundred.
const QUESTION_BYTES_MAX: usize = 4_096;
/// Connections of all clients together; they are within what is kept of the process's descriptors for others than balancers.
const CONNECTIONS_MAX: usize = 64;
/// Connections of one client, so that eight are needed to shut everybody out.
const CONNECTIONS_PER_CLIENT_MAX: usize = 8;
/// How long a client may take to send a whole question, from the last answer on (RFC 7766, section 6.2.3: a few seconds).
const QUESTION_WITHIN: Duration = Duration::from_secs(5);
/// How long a client may take to read an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection may last, whatever is asked.
const CONNECTION_WITHIN: Duration = Duration::from_secs(60);
/// Pause after the system refused something, so that a failure that lasts is not a busy loop.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Where questions come in: the same address and port both times.
#[derive(Debug)]
pub(crate) struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    /// Listens at an address.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let udp = UdpSocket::bind(address)?;
        let tcp = TcpListener::bind(udp.local_addr()?)?;
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        Ok(Self { udp, tcp })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system doesn't say.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }
}

/// Answers questions from zones; all sockets of a server share its bounds.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    zones: Zones,
    clients: Clients,
    stop: CancellationToken,
}

impl Server {
    pub(crate) fn new(zones: Zones, stop: CancellationToken) -> Self {
        Self {
            zones,
            clients: Clients::default(),
            stop,
        }
    }

    /// Answers at these sockets until the server stops. Called inside of the runtime.
    ///
    /// # Errors
    /// When a socket can't be used.
    pub(crate) fn serve(&self, sockets: Sockets) -> io::Result<()> {
        let udp = tokio::net::UdpSocket::from_std(sockets.udp)?;
        let tcp = tokio::net::TcpListener::from_std(sockets.tcp)?;
        let (server, stop) = (self.clone(), self.stop.clone());
        tokio::spawn(stop.run_until_cancelled_owned(async move { server.datagrams(&udp).await }));
        let (server, stop) = (self.clone(), self.stop.clone());
        tokio::spawn(stop.run_until_cancelled_owned(async move { server.connections(&tcp).await }));
        Ok(())
    }

    async fn datagrams(&self, socket: &tokio::net::UdpSocket) {
        // One byte more: what fills it was cut.
        let mut buffer = vec![0; QUESTION_BYTES_MAX + 1];
        loop {
            let (length, client) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(%error, "no question could be read");
                    tokio::time::sleep(AFTER_FAILURE).await;
                    continue;
                }
            };
            let question = buffer.get(..length).filter(|_| length <= QUESTION_BYTES_MAX);
            let reply = question.and_then(|question| answer(&self.zones, question, Transport::Udp));
            // A client whose answer doesn't go out asks again, as when it is lost on the way.
            if let Some(reply) = reply
                && let Err(error) = socket.try_send_to(&reply, client)
            {
                tracing::debug!(%client, %error, "an answer was not sent");
            }
        }
    }

    async fn connections(&self, listener: &tokio::net::TcpListener) {
        loop {
            let (stream, client) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "no connection could be accepted");
                    tokio::time::sleep(AFTER_FAILURE).await;
                    continue;
                }
            };
            let Some(place) = self.clients.place(client.ip()) else {
                tracing::debug!(%client, "closed: there are too many connections");
                continue;
            };
            let (server, stop) = (self.clone(), self.stop.clone());
            tokio::spawn(stop.run_until_cancelled_owned(async move {
                let served = timeout(CONNECTION_WITHIN, server.connection(stream)).await;
                drop(place);
                if let Ok(Err(error)) = served {
                    tracing::debug!(%client, %error, "a connection failed");
                }
            }));
        }
    }

    /// Answers the questions of a connection in their order, until the client closes it or is too slow.
    async fn connection(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let question = timeout(QUESTION_WITHIN, read(&mut stream)).await;
            let Ok(Some(question)) = question.unwrap_or(Ok(None)) else {
                return Ok(());
            };
            let Some(reply) = answer(&self.zones, &question, Transport::Tcp) else {
                return Ok(());
            };
            let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
            let framed = [&length.to_be_bytes(), reply.as_slice()].concat();
            timeout(ANSWER_WITHIN, stream.write_all(&framed)).await??;
        }
    }
}

/// The next question; None for one that is too long.
async fn read(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = usize::from(stream.read_u16().await?);
    if length > QUESTION_BYTES_MAX {
        return Ok(None);
    }
    let mut question = vec![0; length];
    stream.read_exact(&mut question).await?;
    Ok(Some(question))
}

/// How many connections each client has.
#[derive(Debug, Clone, Default)]
struct Clients(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Clients {
    /// A place for one more connection of a client, until it is dropped; None when there is none.
    fn place(&self, client: IpAddr) -> Option<Place> {
        let mut all = self.lock();
        let total: usize = all.values().sum();
        let own = all.get(&client).copied().unwrap_or(0);
        if total >= CONNECTIONS_MAX || own >= CONNECTIONS_PER_CLIENT_MAX {
            return None;
        }
        all.insert(client, own + 1);
        Some(Place {
            clients: self.clone(),
            client,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place.
#[derive(Debug)]
struct Place {
    clients: Clients,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.clients.lock();
        if let Some(own) = all.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                all.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_so_many_connections_and_all_together_so_many() {
        let clients = Clients::default();
        let address = |last: u8| IpAddr::from([127, 0, 0, last]);
        let mut places = Vec::new();
        for client in 0..8 {
            for _connection in 0..CONNECTIONS_PER_CLIENT_MAX {
                places.push(clients.place(address(client)).unwrap());
            }
            assert!(clients.place(address(client)).is_none(), "{client}");
        }
        assert!(clients.place(address(200)).is_none(), "all are taken");
        places.pop();
        assert!(clients.place(address(200)).is_some());
        places.clear();
        assert!(clients.lock().is_empty());
    }
}
