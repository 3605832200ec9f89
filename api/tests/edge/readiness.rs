//! What a service manager is notified of, and when.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use crate::harness::{Folder, SOON, Server, program, wait_until};

/// A socket as systemd has it, and a server that knows of it.
fn started(folder: &Folder, store: &str) -> (UnixDatagram, Server) {
    let path = folder.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut command: Command = program(&["serve", "--store", store, "--listen", "127.0.0.1:0"]);
    command.args(["--ops-listen", "127.0.0.1:0", "--log-format", "json"]);
    let server = Server::spawn_command(command.env("NOTIFY_SOCKET", path));
    (socket, server)
}

#[test]
fn the_service_manager_is_told_once_requests_are_served() {
    let folder = Folder::new();
    let (socket, mut server) = started(&folder, &folder.store);
    socket.set_read_timeout(Some(SOON)).unwrap();
    let mut state = [0; 64];
    let length = socket.recv(&mut state).unwrap();
    assert_eq!(&state[..length], b"READY=1");
    server.public = server.wait_for_address("listening");
    assert_eq!(server.send("GET", "/v1/collections", None, None).status, 200);
}

#[test]
fn a_server_that_waits_for_its_database_does_not_say_that_it_is_ready() {
    let folder = Folder::new();
    // Nobody listens on this port of an address that only this test uses.
    let (socket, mut server) = started(&folder, "cassandra://127.77.9.1:1/tide");
    socket.set_nonblocking(true).unwrap();
    server.ops = server.wait_for_address("operations listening");
    wait_until("it waits", SOON, || {
        server.log().contains("the database is not usable yet")
    });
    let refused = socket.recv(&mut [0; 64]).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
}
