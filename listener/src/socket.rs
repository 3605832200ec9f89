//! A listener's address, taken before connections are.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// The kernel's queue of connections that nobody accepted yet; Linux cuts it to net.core.somaxconn (4,096).
const BACKLOG: u32 = 1_024;

/// A socket that has its address but takes no connections yet.
#[derive(Debug)]
pub struct BoundSocket {
    socket: TcpSocket,
    address: SocketAddr,
}

impl BoundSocket {
    /// Takes the address.
    ///
    /// # Errors
    /// The kernel's; most often the address is taken.
    pub fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// The address, with the port that port 0 became.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Opens it for connections.
    ///
    /// # Errors
    /// The kernel's; most often somebody else listens there by now.
    pub fn listen(self) -> std::io::Result<TcpListener> {
        self.socket.listen(BACKLOG)
    }
}
