//! Bounds of connections, headers, bodies and load.

use std::time::Duration;

use super::harness::{Connection, Folder, SOON, Server, wait_until};

const SECOND: [&str; 6] = [
    "--limits-header-timeout-secs",
    "1",
    "--limits-idle-timeout-secs",
    "1",
    "--limits-body-timeout-secs",
    "1",
];

#[test]
fn slow_headers_and_idle_connections_are_cut() {
    let folder = Folder::new();
    let server = Server::start(&folder, &SECOND);
    let mut half = Connection::open(server.public);
    half.write("GET /v1/collections HTTP/1.1\r\nHost: localhost\r\n");
    let mut silent = Connection::open(server.public);
    let mut idle = Connection::open(server.public);
    assert_eq!(idle.request("GET", "/v1/collections", None, None).status, 200);
    for connection in [&mut half, &mut silent, &mut idle] {
        assert!(connection.closed_within(Duration::from_secs(5)).is_some());
    }
    let cut = |reason| {
        server.metric(&format!(
            "tidepool_http_connections_cut_total{{reason=\"{reason}\"}}"
        ))
    };
    wait_until("the cuts are counted", SOON, || {
        cut("slow_headers") == Some(2.0) && cut("idle") == Some(1.0)
    });
}

#[test]
fn headers_that_drip_in_are_cut_too() {
    let folder = Folder::new();
    let server = Server::start(&folder, &SECOND);
    let mut drip = Connection::open(server.public);
    drip.write("GET /v1/collections HTTP/1.1\r\n");
    // 100 headers at most, one each 200 ms: more than the second that they may take altogether.
    let closed = (0..90).find_map(|round| {
        drip.write_if_open(&format!("X-{round}: y\r\n"));
        drip.closed_within(Duration::from_millis(200))
    });
    assert!(closed.is_some(), "a dripping client holds its connection");
}

#[test]
fn a_slow_body_is_answered_with_a_problem() {
    let folder = Folder::new();
    let server = Server::start(&folder, &SECOND);
    server.send("PUT", "/v1/collections/notes", None, Some("{}"));
    let mut slow = Connection::open(server.public);
    slow.write(
        "PUT /v1/collections/notes/documents/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"data\":",
    );
    let answer = slow.read_answer(false);
    assert_eq!((answer.status, answer.problem().as_str()), (400, "invalid-body"));
    assert!(slow.closed_within(Duration::from_secs(5)).is_some());
    assert_eq!(
        server
            .send("GET", "/v1/collections/notes/documents/a", None, None)
            .status,
        404
    );
}

#[test]
fn connections_beyond_the_limit_wait_for_their_turn() {
    let folder = Folder::new();
    let server = Server::start(&folder, &["--limits-connections-max", "2"]);
    let mut first = Connection::open(server.public);
    assert_eq!(first.request("GET", "/v1/collections", None, None).status, 200);
    let mut second = Connection::open(server.public);
    assert_eq!(second.request("GET", "/v1/collections", None, None).status, 200);
    assert_eq!(server.metric("tidepool_http_connections"), Some(2.0));

    let mut third = Connection::open(server.public);
    third.write("GET /v1/collections HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wait_until("the limit is reported", SOON, || {
        server.log().contains("as many connections as allowed")
    });
    assert_eq!(server.metric("tidepool_http_connections"), Some(2.0));
    assert_eq!(server.ops_get("/livez").status, 200);
    drop(first);
    assert_eq!(third.read_answer(false).status, 200);
    assert_eq!(second.request("GET", "/v1/collections", None, None).status, 200);
}

#[test]
fn too_many_or_too_large_headers_are_431() {
    let folder = Folder::new();
    let server = Server::start(&folder, &["--limits-header-bytes-max", "8192"]);
    let large = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX-Large: {}\r\n\r\n",
        "x".repeat(9_000)
    );
    let lines: String = (0..101).map(|n| format!("X-{n}: y\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
    for text in [large, many] {
        let mut connection = Connection::open(server.public);
        connection.write(&text);
        assert_eq!(connection.read_answer(false).status, 431);
    }
    assert_eq!(server.send("GET", "/v1/collections", None, None).status, 200);
}

#[test]
fn http_1_0_is_served_and_never_chunked() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    for path in ["/v1/collections", "/openapi.json", "/docs", "/nothing"] {
        let mut connection = Connection::open(server.public);
        connection.write(&format!("GET {path} HTTP/1.0\r\n\r\n"));
        let answer = connection.read_answer(false);
        assert_eq!(
            answer.status,
            if path == "/nothing" { 404 } else { 200 },
            "{path}"
        );
        assert_eq!(answer.header("transfer-encoding"), None, "{path}");
        assert!(answer.version.starts_with("HTTP/1."), "{}", answer.version);
        assert!(connection.closed_within(SOON).is_some(), "{path}");
    }
    let mut kept = Connection::open(server.public);
    for _ in 0..2 {
        kept.write("GET /v1/collections HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(kept.read_answer(false).status, 200);
    }
}

#[test]
fn more_writes_than_allowed_are_503_at_once_and_reads_go_on() {
    let folder = Folder::new();
    let server = Server::start(&folder, &["--limits-writes-in-flight-max", "1"]);
    server.send("PUT", "/v1/collections/notes", None, Some("{}"));
    let path = "/v1/collections/notes/documents/a";
    let mut held = Connection::open(server.public);
    held.write(&format!(
        "PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{{\"data\""
    ));
    wait_until("the held request is in flight", SOON, || {
        server.metric("tidepool_http_requests_in_flight") == Some(1.0)
    });
    let refused = server.send("PUT", path, None, Some("{\"data\":{}}"));
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (503, "store-unavailable")
    );
    assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    assert_eq!(
        refused.json()["request_id"].as_str(),
        refused.header("x-request-id")
    );
    assert_eq!(server.send("GET", "/v1/collections", None, None).status, 200);
    held.write(":{}}");
    assert_eq!(held.read_answer(false).status, 201);
    assert_eq!(server.send("PUT", path, None, Some("{\"data\":{}}")).status, 200);
}

/// The program with limits on open files, `ulimit`'s arguments.
fn serve_with_open_files(folder: &Folder, ulimit: &str, more: &[&str]) -> Server {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &format!("{ulimit} && exec \"$0\" \"$@\"")]);
    command.arg(env!("CARGO_BIN_EXE_tidepool-api"));
    command.args(["serve", "--store", &folder.store, "--log-format", "json"]);
    command.args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]);
    let mut server = Server::spawn_command(command.args(more));
    server.ops = server.wait_for_address("operations listening");
    server.public = server.wait_for_address("listening");
    server
}

#[test]
fn the_limit_of_open_files_is_raised_to_what_connections_need() {
    let folder = Folder::new();
    let server = serve_with_open_files(
        &folder,
        "ulimit -Sn 60 && ulimit -Hn 2000",
        &["--limits-connections-max", "300"],
    );
    let mut hoard: Vec<_> = (0..150).map(|_| Connection::open(server.public)).collect();
    for connection in &mut hoard {
        assert_eq!(
            connection.request("GET", "/v1/collections", None, None).status,
            200
        );
    }
    assert!(!server.log().contains("limit of open files"), "{}", server.log());
}

#[test]
fn a_limit_of_open_files_that_is_too_low_is_reported_and_leaves_the_store_its_own() {
    let folder = Folder::new();
    let server = serve_with_open_files(&folder, "ulimit -n 200", &[]);
    assert!(
        server.log().contains("the limit of open files is too low"),
        "{}",
        server.log()
    );
    // Half a request each, on both listeners: more than the process may have files.
    let half = "GET /v1/collections HTTP/1.1\r\nHost: local";
    let hoard: Vec<_> = (0..150)
        .flat_map(|_| [server.public, server.ops])
        .map(|address| {
            let mut connection = Connection::open(address);
            connection.write(half);
            connection
        })
        .collect();
    wait_until("the limit of connections is reported", SOON, || {
        server.log().contains("as many connections as allowed")
    });
    let log = server.log();
    assert!(!log.contains("can't accept connections"), "{log}");
    drop(hoard);
    wait_until("it serves again", SOON, || {
        server.send("PUT", "/v1/collections/c", None, Some("{}")).status < 300
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    let mut connection = Connection::open(server.public);
    connection.write(
        "GET /v1/collections HTTP/1.1\r\nHost: localhost\r\n\r\nGET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\nHEAD /v1/collections HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
    assert_eq!(connection.read_answer(false).status, 200);
    assert_eq!(connection.read_answer(false).status, 404);
    assert_eq!(connection.read_answer(true).status, 200);
}

#[test]
fn a_client_that_is_still_sending_gets_its_413() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    server.send("PUT", "/v1/collections/notes", None, Some("{}"));
    let body = "x".repeat(6 * 1024 * 1024);
    for _ in 0..5 {
        let mut connection = Connection::open(server.public);
        let head = format!(
            "PUT /v1/collections/notes/documents/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        connection.write(&head);
        connection.write_if_open(&body);
        let answer = connection.read_answer(false);
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (413, "body-too-large")
        );
    }
}
