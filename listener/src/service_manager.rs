//! Tells the service manager (systemd, with `Type=notify`) that the process serves. The protocol is that of `sd_notify(3)`: one datagram
//! to the socket that `NOTIFY_SOCKET` names. Without that variable nobody is told.

use std::ffi::OsStr;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Who started the process, if it wants to hear from it.
#[derive(Debug, Clone)]
pub struct ServiceManager {
    socket: Option<SocketAddr>,
}

impl ServiceManager {
    /// The variable that names the socket: a path, or a name that begins with `@` (Linux: one without a file).
    pub const VARIABLE: &str = "NOTIFY_SOCKET";

    /// The manager behind this socket. A name that can't be one is logged, and nobody is told anything.
    #[must_use]
    pub fn new(socket: Option<&OsStr>) -> Self {
        let socket = socket.filter(|name| !name.is_empty());
        let address = socket.map(address_of).transpose();
        Self {
            socket: address.unwrap_or_else(|error| {
                tracing::warn!(%error, ?socket, "the service manager's socket can't be used");
                None
            }),
        }
    }

    /// The manager of this process.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "it is no setting: only the process's own environment can name the manager"
    )]
    pub fn of_process() -> Self {
        Self::new(std::env::var_os(Self::VARIABLE).as_deref())
    }

    /// The process serves: what waits for it may start. Sends without waiting. A manager that can't be reached is logged,
    /// for it is no reason not to serve.
    pub fn ready(&self) {
        let Some(address) = &self.socket else { return };
        let sent = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to_addr(b"READY=1", address)
        });
        if let Err(error) = sent {
            tracing::warn!(%error, "the service manager could not be told that the process serves");
        }
    }
}

fn address_of(name: &OsStr) -> std::io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::ffi::OsStrExt as _;

        if let Some(name) = name.as_bytes().strip_prefix(b"@") {
            return SocketAddr::from_abstract_name(name);
        }
    }
    SocketAddr::from_pathname(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The datagram that was sent before: sending doesn't wait, and neither does this.
    fn received(socket: &UnixDatagram) -> String {
        socket.set_nonblocking(true).unwrap();
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_socket_with_a_path_is_told() {
        let path = std::env::temp_dir().join(format!("tidepool-notify-{}", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        ServiceManager::new(Some(path.as_os_str())).ready();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(received(&socket), "READY=1");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_socket_without_a_file_is_told() {
        use std::os::linux::net::SocketAddrExt as _;

        let name = format!("tidepool-notify-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        ServiceManager::new(Some(OsStr::new(&format!("@{name}")))).ready();
        assert_eq!(received(&socket), "READY=1");
    }

    #[test]
    fn without_a_manager_or_with_one_that_is_gone_nothing_happens() {
        for socket in [None, Some(""), Some("/nowhere/notify"), Some("a\0b")] {
            ServiceManager::new(socket.map(OsStr::new)).ready();
        }
    }
}
