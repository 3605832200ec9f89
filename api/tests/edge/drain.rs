//! SIGTERM and `POST /drain`.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::harness::{Connection, Folder, SOON, Server, wait_until};

/// Longest time from SIGTERM to the exit, with the default drain.
const EXIT_MAX: Duration = Duration::from_secs(15);

const DOCUMENT: &str = "/v1/collections/notes/documents/a";

fn server_with_notes(folder: &Folder, more: &[&str]) -> Server {
    let server = Server::start(folder, more);
    assert_eq!(
        server
            .send("PUT", "/v1/collections/notes", None, Some("{}"))
            .status,
        201
    );
    server
}

/// A PUT that is in flight: its headers and half of its body are sent.
fn half_a_put(server: &Server) -> Connection {
    let mut held = Connection::open(server.public);
    held.write(&format!(
        "PUT {DOCUMENT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{{\"data\""
    ));
    wait_until("the request is in flight", SOON, || {
        server.metric("tidepool_http_requests_in_flight") >= Some(1.0)
    });
    held
}

#[test]
fn idle_connections_and_half_requests_do_not_hold_the_exit() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let folder = Folder::new();
        let mut server = server_with_notes(&folder, &[]);
        let mut idle = Connection::open(server.public);
        assert_eq!(idle.request("GET", "/v1/collections", None, None).status, 200);
        let mut half = Connection::open(server.public);
        half.write("GET /v1/collections HTTP/1.1\r\nHost: ti");
        let mut silent = Connection::open(server.public);
        wait_until("all three are accepted", SOON, || {
            server.metric("tidepool_http_connections") == Some(3.0)
        });
        server.signal(signal);
        for connection in [&mut idle, &mut half, &mut silent] {
            assert!(connection.closed_within(Duration::from_secs(3)).is_some());
        }
        let (status, _) = server.wait(Duration::from_secs(3));
        assert_eq!(status.code(), Some(0), "{}", server.log());
    }
}

#[test]
fn a_request_in_flight_finishes_while_operations_answer() {
    let folder = Folder::new();
    let mut server = server_with_notes(&folder, &[]);
    let mut held = half_a_put(&server);
    server.signal(Signal::SIGTERM);
    wait_until("not ready", SOON, || server.ops_get("/readyz").status == 503);
    assert_eq!(server.ops_get("/livez").status, 200);
    assert_eq!(server.ops_get("/deploy/ready").status, 503);
    wait_until("nothing new is accepted", SOON, || {
        std::net::TcpStream::connect(server.public).is_err()
    });
    held.write(":{}}");
    let answer = held.read_answer(false);
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(held.closed_within(SOON).is_some());
    let (status, took) = server.wait(EXIT_MAX);
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(took < Duration::from_secs(4), "{took:?}");

    let server = Server::start(&folder, &[]);
    assert_eq!(server.send("GET", DOCUMENT, None, None).status, 200);
}

#[test]
fn a_hangup_without_tls_changes_nothing() {
    let folder = Folder::new();
    let mut server = server_with_notes(&folder, &[]);
    let mut held = half_a_put(&server);
    server.signal(Signal::SIGHUP);
    wait_until("it says so", SOON, || server.log().contains("nothing to reload"));
    held.write(":{}}");
    assert_eq!(held.read_answer(false).status, 201);
    assert_eq!(server.ops_get("/readyz").status, 200);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(EXIT_MAX).0.code(), Some(0), "{}", server.log());
}

#[test]
fn a_stuck_request_is_cut_at_the_bound() {
    let folder = Folder::new();
    let mut server = server_with_notes(&folder, &["--drain-secs", "1"]);
    let mut held = half_a_put(&server);
    server.signal(Signal::SIGTERM);
    let (status, took) = server.wait(Duration::from_secs(6));
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(took >= Duration::from_millis(900), "{took:?}");
    assert!(held.closed_within(SOON).is_some());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let folder = Folder::new();
    let mut server = server_with_notes(&folder, &[]);
    let _held = half_a_put(&server);
    server.signal(Signal::SIGTERM);
    wait_until("it drains", SOON, || server.ops_get("/readyz").status == 503);
    server.signal(Signal::SIGTERM);
    let (status, took) = server.wait(Duration::from_secs(5));
    assert_eq!(status.code(), Some(1), "{}", server.log());
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn post_drain_refuses_nothing_and_says_when_it_may_be_stopped() {
    let folder = Folder::new();
    let mut server = server_with_notes(&folder, &[]);
    assert_eq!(server.ops_get("/readyz").status, 200);
    assert_eq!(server.ops_get("/deploy/ready").status, 503);
    let mut held = half_a_put(&server);
    let mut kept = Connection::open(server.public);
    assert_eq!(kept.request("GET", "/v1/collections", None, None).status, 200);
    for _ in 0..2 {
        let drain = Connection::open(server.ops).request("POST", "/drain", None, None);
        assert_eq!(drain.status, 202);
    }
    assert_eq!(server.ops_get("/readyz").status, 503);
    assert_eq!(server.ops_get("/livez").status, 200);
    assert_eq!(server.ops_get("/deploy/ready").status, 503);
    let answer = kept.request("GET", "/v1/collections", None, None);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(
        server
            .send("PUT", &format!("{DOCUMENT}2"), None, Some("{\"data\":{}}"))
            .status,
        201
    );
    held.write(":{}}");
    assert_eq!(held.read_answer(false).status, 201);
    wait_until("it may be stopped", SOON, || {
        server.ops_get("/deploy/ready").status == 200
    });
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(EXIT_MAX).0.code(), Some(0));
}

#[test]
fn a_large_answer_is_delivered_whole_to_a_slow_reader_while_stopping() {
    let folder = Folder::new();
    let mut server = server_with_notes(&folder, &[]);
    let text = "x".repeat(900_000);
    let body = format!("{{\"data\":{{\"text\":\"{text}\"}}}}");
    for id in 0..7 {
        let path = format!("/v1/collections/notes/documents/{id}");
        assert_eq!(server.send("PUT", &path, None, Some(&body)).status, 201);
    }
    let mut half = Connection::open(server.public);
    half.write("GET /v1/collections HTTP/1.1\r\nHost: ti");
    let mut slow = Connection::open(server.public);
    slow.write("GET /v1/collections/notes/documents HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wait_until("the answer is on its way", SOON, || {
        let list = "tidepool_http_requests_total{method=\"GET\",route=\"/v1/collections/{collection}/documents\",status=\"200\"}";
        server.metric(list) == Some(1.0)
    });
    server.signal(Signal::SIGTERM);
    wait_until("it stops", SOON, || {
        std::net::TcpStream::connect(server.public).is_err()
    });
    // A request that is not whole is given up first; from then on only answers under way hold the exit.
    assert!(half.closed_within(SOON).is_some());
    let answer = slow.read_answer(false);
    assert_eq!(answer.json()["items"].as_array().unwrap().len(), 7);
    assert_eq!(server.wait(EXIT_MAX).0.code(), Some(0), "{}", server.log());
}

#[test]
fn no_request_on_a_busy_connection_is_lost() {
    let folder = Folder::new();
    let mut server = server_with_notes(&folder, &[]);
    let answered = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = Connection::open(server.public);
                    loop {
                        // Whatever is asked is answered; the last answer says that there will be no more.
                        let answer = connection.request("GET", "/v1/collections/notes", None, None);
                        assert_eq!(answer.status, 200);
                        answered.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if answer.header("connection") == Some("close") {
                            break;
                        }
                    }
                })
            })
            .collect();
        wait_until("the clients are busy", SOON, || {
            answered.load(std::sync::atomic::Ordering::Relaxed) > 500
        });
        server.signal(Signal::SIGTERM);
        for client in clients {
            client.join().unwrap();
        }
    });
    let (status, took) = server.wait(EXIT_MAX);
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(3), "{took:?}");
}
