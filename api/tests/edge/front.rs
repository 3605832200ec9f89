//! What HTTP demands before any route, on both listeners; and who is served without a credential.

use std::net::SocketAddr;

use super::harness::{Answer, Connection, Folder, SOON, Server, program, wait_until};

/// Bytes on a connection of their own; the first answer.
fn asked(address: SocketAddr, request: &str) -> Answer {
    let mut connection = Connection::open(address);
    connection.write(request);
    connection.read_answer(request.starts_with("HEAD"))
}

/// A request as a browser or a client sends it.
fn sent(address: SocketAddr, method: &str, path: &str, lines: &[&str]) -> Answer {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    asked(
        address,
        &format!("{method} {path} HTTP/1.1\r\n{lines}Content-Length: 0\r\n\r\n"),
    )
}

/// Refused before any route, in problem+json with a request id on the public listener.
fn assert_problem(answer: &Answer, status: u16, of: &str) {
    assert_eq!(answer.status, status, "{of}");
    let body = answer.json();
    assert_eq!(body["status"], status, "{of}");
    assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"), "{of}");
    assert!(answer.header("x-request-id").is_some(), "{of}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{of}"
    );
}

#[test]
fn a_request_names_exactly_one_host() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    for (public, path) in [(true, "/v1/collections"), (false, "/livez")] {
        let address = if public { server.public } else { server.ops };
        for (version, hosts, status) in [
            ("1.1", "", 400),
            ("1.1", "Host: localhost\r\nHost: localhost\r\n", 400),
            ("1.1", "Host: localhost\r\nhost: evil.example\r\n", 400),
            ("1.0", "Host: localhost\r\nHost: localhost\r\n", 400),
            ("1.1", "Host: a b\r\n", 400),
            ("1.1", "Host:\r\n", 400),
            ("1.1", "Host: localhost, localhost\r\n", 400),
            ("1.1", "Host: localhost,localhost\r\n", 400),
            ("1.1", "Host: user@localhost\r\n", 400),
            ("1.1", "Host: localhost:port\r\n", 400),
            ("1.1", "Host: localhost:65536\r\n", 400),
            ("1.1", "Host: http://localhost\r\n", 400),
            ("1.1", "Host: ::1\r\n", 400),
            ("1.0", "Host: a b\r\n", 400),
            ("1.0", "", 200),
            ("1.1", "Host: LOCALHOST.:8080\r\n", 200),
            ("1.1", "Host: [::1]\r\n", 200),
            ("1.1", "Host: 127.0.0.1:\r\n", 200),
        ] {
            let request = format!("GET {path} HTTP/{version}\r\n{hosts}Connection: close\r\n\r\n");
            let answer = asked(address, &request);
            assert_eq!(answer.status, status, "{request}");
            if status == 400 {
                assert_eq!(answer.header("connection"), Some("close"), "{request}");
                if public {
                    assert_problem(&answer, 400, &request);
                }
            }
        }
    }
}

#[test]
fn targets_are_paths_absolute_uris_or_the_servers_star() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    for (address, path) in [(server.public, "/v1/collections"), (server.ops, "/livez")] {
        for (line, status) in [
            (format!("GET http://localhost{path} HTTP/1.1"), 200),
            (format!("GET HTTP://127.0.0.1:1{path} HTTP/1.1"), 200),
            (format!("GET ftp://localhost{path} HTTP/1.1"), 400),
            (format!("GET http://user@localhost{path} HTTP/1.1"), 400),
            (format!("GET http://localhost:70000{path} HTTP/1.1"), 400),
            ("OPTIONS * HTTP/1.1".to_owned(), 204),
            ("OPTIONS * HTTP/1.0".to_owned(), 204),
            ("GET * HTTP/1.1".to_owned(), 400),
            ("PUT * HTTP/1.1".to_owned(), 400),
            ("HEAD * HTTP/1.0".to_owned(), 400),
            ("GET localhost:80 HTTP/1.1".to_owned(), 400),
            ("CONNECT localhost:80 HTTP/1.1".to_owned(), 405),
        ] {
            let answer = asked(address, &format!("{line}\r\nHost: localhost\r\n\r\n"));
            assert_eq!(answer.status, status, "{line}");
            let allow = answer.header("allow");
            assert_eq!(
                allow.is_some_and(|allow| allow.contains("GET, HEAD, POST")),
                [204, 405].contains(&status),
                "{line}"
            );
            if address == server.public {
                assert!(
                    answer.header("x-request-id").is_some_and(|id| id.len() == 32),
                    "{line}"
                );
            }
        }
        // The host is the target's, whatever the header says.
        let absolute = format!("GET http://localhost{path} HTTP/1.1\r\nHost: evil.example\r\n\r\n");
        assert_eq!(asked(address, &absolute).status, 200);
    }
    let foreign = "GET http://evil.example/v1/collections HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_problem(&asked(server.public, foreign), 403, foreign);
}

#[test]
fn transfer_codings_other_than_chunked_are_501() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    for (address, path) in [(server.public, "/v1/collections/c"), (server.ops, "/drain")] {
        for coding in [
            "gzip",
            "identity",
            "xchunked",
            "chunked, gzip",
            "gzip, chunked",
            "gzip\r\nTransfer-Encoding: chunked",
            "chunked\r\nTransfer-Encoding: gzip",
            "chunked, chunked",
        ] {
            let mut connection = Connection::open(address);
            connection.write(&format!(
                "PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: \
                 {coding}\r\n\r\n2\r\n{{}}\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
            ));
            let answer = connection.read_answer(false);
            assert_eq!(answer.status, 501, "{coding}");
            assert_eq!(answer.header("connection"), Some("close"), "{coding}");
            assert!(answer.header("date").is_some(), "{coding}");
            if address == server.public {
                assert_problem(&answer, 501, coding);
            }
            assert!(
                connection.try_read_answer(false).is_none(),
                "{coding}: the next is answered"
            );
        }
    }
    // What is no HTTP stays 400, also beside a coding.
    for request in [
        "GET / HTTP/1.0\r\nTransfer-Encoding: gzip\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\nbad name: x\r\n\r\n",
        "GET /\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        assert_problem(&asked(server.public, request), 400, request);
    }
    let chunked = "PUT /v1/collections/c HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: \
                   Chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    assert_eq!(asked(server.public, chunked).status, 201);
}

/// As `nc -N` does, and clients that have one thing to ask.
#[test]
fn who_has_sent_all_and_closes_that_half_is_answered() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    let body = |body: &str| {
        let length = body.len();
        format!("Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let document = "/v1/collections/c/documents/a";
    for (address, line, rest, status) in [
        (server.public, "PUT /v1/collections/c", body("{}"), 201),
        (
            server.public,
            &format!("PUT {document}"),
            body(r#"{"data":{}}"#),
            201,
        ),
        (server.public, "GET /v1/collections", "\r\n".to_owned(), 200),
        (server.public, &format!("GET {document}"), "\r\n".to_owned(), 200),
        (
            server.public,
            &format!("DELETE {document}"),
            "\r\n".to_owned(),
            204,
        ),
        (server.public, "DELETE /v1/collections/c", "\r\n".to_owned(), 204),
        (server.ops, "GET /readyz", "\r\n".to_owned(), 200),
    ] {
        let mut connection = Connection::open(address);
        connection.write(&format!("{line} HTTP/1.1\r\nHost: localhost\r\n{rest}"));
        connection.end();
        let answer = connection.try_read_answer(false);
        assert_eq!(answer.map(|answer| answer.status), Some(status), "{line}");
        assert!(connection.closed_within(SOON).is_some(), "{line}");
    }
    let mut connection = Connection::open(server.public);
    connection.write(&format!("PUT {document} HTTP/1.1\r\nHost: localhost\r\n"));
    connection.write(&body(r#"{"data":{}}"#).replace("{}}", ""));
    connection.end();
    assert_eq!(connection.read_answer(false).status, 400, "half a body");
}

#[test]
fn a_refusal_that_leaves_the_body_unread_closes() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    let document = "PUT /v1/collections/c/documents/a";
    let next = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (address, line, lines, body, status) in [
        (
            server.public,
            document,
            "Content-Type: text/plain\r\nExpect: 100-continue\r\nContent-Length: 10\r\n",
            "",
            415,
        ),
        (
            server.public,
            document,
            "Content-Type: text/plain\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n",
            "",
            415,
        ),
        (
            server.public,
            "PUT /nowhere",
            "Expect: 100-Continue\r\nContent-Length: 10\r\n",
            "",
            404,
        ),
        (
            server.public,
            "POST /v1/collections/c/documents/a",
            "Expect: 100-continue\r\nContent-Length: 10\r\n",
            "",
            405,
        ),
        (
            server.public,
            document,
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n",
            "b\n{\"data\":{}}\n0\n\n",
            400,
        ),
        (server.ops, "POST /livez", "Content-Length: 10\r\n", "", 405),
        (
            server.ops,
            "POST /livez",
            "Content-Length: 10\r\n",
            "0123456789",
            405,
        ),
        (
            server.ops,
            "POST /nowhere",
            "Transfer-Encoding: chunked\r\n",
            "",
            404,
        ),
    ] {
        let mut connection = Connection::open(address);
        connection.write(&format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n{body}"
        ));
        let answer = connection.read_answer(false);
        assert_eq!(answer.status, status, "{line} {lines}");
        assert_eq!(answer.header("connection"), Some("close"), "{line} {lines}");
        connection.write_if_open(next);
        assert!(
            connection.try_read_answer(false).is_none(),
            "{line} {lines}: the next is answered"
        );
    }
    // A body that was read away leaves the connection as it was, and so does one that is taken.
    let mut kept = Connection::open(server.public);
    for (lines, status) in [
        ("Content-Type: text/plain\r\n", 415),
        ("Content-Type: application/json\r\nExpect: 100-continue\r\n", 404),
    ] {
        kept.write(&format!(
            "{document} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: 11\r\n\r\n{{\"data\":{{}}}}"
        ));
        let mut answer = kept.read_answer(false);
        if answer.status == 100 {
            answer = kept.read_answer(false);
        }
        assert_eq!((answer.status, answer.header("connection")), (status, None));
    }
    assert_eq!(kept.request("GET", "/v1/collections", None, None).status, 200);
}

#[test]
fn http2_without_tls_is_answered() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_problem(&asked(server.public, preface), 400, "HTTP/2");
    assert_eq!(asked(server.ops, preface).status, 400);
    // Also on a connection that was used before.
    let mut connection = Connection::open(server.public);
    connection.write("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_problem(&connection.read_answer(false), 404, "the first");
    connection.write(preface);
    assert_problem(&connection.read_answer(false), 400, "HTTP/2");
    assert!(connection.closed_within(SOON).is_some());
}

#[test]
fn what_cannot_be_read_is_a_problem_with_a_request_id() {
    let folder = Folder::new();
    let server = Server::start(&folder, &["--limits-header-bytes-max", "8192"]);
    let large = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "x".repeat(9_000)
    );
    assert_problem(&asked(server.public, &large), 431, "large headers");
    // Also after an answer, and with another request before it in the same bytes.
    let mut connection = Connection::open(server.public);
    connection.write("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\nnonsense\r\n\r\n");
    assert_problem(&connection.read_answer(false), 404, "the first");
    assert_problem(&connection.read_answer(false), 400, "nonsense");
    assert!(connection.closed_within(SOON).is_some());
    assert_eq!(server.send("GET", "/v1/collections", None, None).status, 200);
}

#[test]
fn a_length_that_cannot_be_counted_is_too_large() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    let head = |length: &str, more: &str| {
        format!(
            "PUT /v1/collections/c HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{more}Content-Length: \
             {length}\r\n\r\n"
        )
    };
    for length in [
        "1048577",
        "18446744073709551613",
        "18446744073709551614",
        "18446744073709551615",
        "18446744073709551616",
        "100000000000000000000",
        &"9".repeat(400),
    ] {
        for body in ["", "{}", "{\n", &"\n".repeat(2_000)] {
            let answer = asked(server.public, &format!("{}{body}", head(length, "")));
            assert_problem(&answer, 413, length);
            assert_eq!(answer.problem(), "body-too-large", "{length}");
        }
    }
    let largest = "18446744073709551615";
    assert_eq!(
        asked(server.ops, &head(largest, "")).status,
        413,
        "operations listener"
    );
    let mut connection = Connection::open(server.public);
    connection.write(&format!(
        "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n{}",
        head(largest, "")
    ));
    assert_problem(&connection.read_answer(false), 404, "the first");
    assert_problem(&connection.read_answer(false), 413, "after another");
    assert!(connection.closed_within(SOON).is_some());
    // Text that is not a number is not a large number either.
    for length in [
        "10000000000000000000x",
        "-100000000000000000000",
        "1 00000000000000000000",
        "",
    ] {
        assert_problem(&asked(server.public, &head(length, "")), 400, length);
    }
    // Heads that are too large stay what they are, whatever they declare.
    let large = format!("X: {}\r\n", "x".repeat(33_000));
    let many: String = (0..101).map(|number| format!("X-{number}: 1\r\n")).collect();
    for more in [large, many] {
        assert_problem(&asked(server.public, &head(largest, &more)), 431, &more[..6]);
    }
}

#[test]
fn without_a_key_only_names_of_this_machine_are_served() {
    let folder = Folder::new();
    let server = Server::start(&folder, &["--allowed-hosts", "tide.example.com,203.0.113.9"]);
    let port = server.public.port();
    for host in [
        "localhost",
        "127.0.0.1",
        "tide.example.com",
        "203.0.113.9",
        "[::1]",
        "app.localhost",
    ] {
        let line = format!("Host: {host}:{port}");
        assert_eq!(
            sent(server.public, "GET", "/v1/collections", &[&line]).status,
            200,
            "{host}"
        );
        let own = format!("Origin: http://{host}:{port}");
        let write = sent(
            server.public,
            "DELETE",
            "/v1/collections/c",
            &[&line, &own, "Sec-Fetch-Site: same-origin"],
        );
        assert_eq!(write.status, 404, "{host}");
    }
    // DNS rebinding: the page's own name leads here, and its origin agrees.
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "192.0.2.1",
    ] {
        let lines = [
            format!("Host: {host}:{port}"),
            format!("Origin: http://{host}:{port}"),
        ];
        for (method, path) in [
            ("GET", "/v1/collections"),
            ("HEAD", "/v1/collections"),
            ("GET", "/docs"),
            ("OPTIONS", "/v1/collections"),
            ("PUT", "/v1/collections/c"),
            ("DELETE", "/v1/collections/c"),
        ] {
            let lines = [
                lines[0].as_str(),
                &lines[1],
                "X-Forwarded-Host: localhost",
                "Sec-Fetch-Site: same-origin",
            ];
            let answer = sent(server.public, method, path, &lines);
            assert_eq!(answer.status, 403, "{method} {path} {host}");
            if method != "HEAD" {
                assert_problem(&answer, 403, host);
                assert!(answer.text().contains("--allowed-hosts"), "{}", answer.text());
            }
        }
    }
    let host = format!("Host: localhost:{port}");
    for line in [
        "Origin: http://evil.example",
        "Origin: null",
        "Origin: http://localhost:1",
        "Origin: http://localhost",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        let write = sent(server.public, "DELETE", "/v1/collections/c", &[&host, line]);
        assert_problem(&write, 403, line);
        // A read shows nothing to a page of another origin: no CORS is granted.
        let read = sent(server.public, "GET", "/v1/collections", &[&host, line]);
        assert_eq!(read.status, 200, "{line}");
        assert_eq!(read.header("access-control-allow-origin"), None);
    }
}

#[test]
fn with_a_key_the_key_decides() {
    let folder = Folder::new();
    let key = folder.key("one", &["admin:*"]);
    let server = Server::start(&folder, &[]);
    let key = format!("Authorization: Bearer {key}");
    for lines in [
        ["Host: tide.example.com", "Origin: https://app.example.com"],
        ["Host: 203.0.113.9", "Sec-Fetch-Site: cross-site"],
    ] {
        let lines = [lines[0], lines[1], &key];
        assert_eq!(
            sent(server.public, "DELETE", "/v1/collections/c", &lines).status,
            404
        );
        assert_eq!(
            sent(server.public, "DELETE", "/v1/collections/c", &lines[..2]).status,
            401
        );
    }
}

#[test]
fn no_web_page_drains_or_reads_metrics() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    let port = server.ops.port();
    let host = format!("Host: 127.0.0.1:{port}");
    for lines in [
        ["Host: evil.example", "Origin: http://evil.example"],
        [&host, "Origin: http://evil.example"],
        [&host, "Origin: null"],
        [&host, "Origin: http://127.0.0.1:3000"],
        [&host, "Sec-Fetch-Site: cross-site"],
        [&host, "Sec-Fetch-Site: same-site"],
    ] {
        let refused = sent(server.ops, "POST", "/drain", &lines);
        assert_eq!(refused.status, 403, "{lines:?}");
        assert_eq!(server.ops_get("/readyz").status, 200, "{lines:?} drained it");
    }
    for host in ["Host: evil.example", "Host: 127.0.0.1.nip.io"] {
        assert_eq!(sent(server.ops, "GET", "/metrics", &[host]).status, 403);
        for probe in ["/livez", "/readyz"] {
            assert_eq!(sent(server.ops, "GET", probe, &[host]).status, 200, "{probe}");
        }
    }
    assert_eq!(
        sent(server.ops, "GET", "/metrics", &["Host: 127.9.9.9:9090"]).status,
        200
    );
    assert_eq!(sent(server.ops, "POST", "/drain", &[&host]).status, 202);
    wait_until("it drains", SOON, || server.ops_get("/readyz").status == 503);
}

#[test]
fn addresses_of_the_machine_are_served_where_it_listens_on_all() {
    let folder = Folder::new();
    let key = folder.key("one", &["admin:*"]);
    let arguments = ["serve", "--store", &folder.store, "--log-format", "json"];
    let mut command = program(&arguments);
    let mut server =
        Server::spawn_command(command.args(["--listen", "127.0.0.1:0", "--ops-listen", "0.0.0.0:0"]));
    let port = server.wait_for_address("operations listening").port();
    server.public = server.wait_for_address("listening");
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    // No packet is sent: the kernel only says from which address one would be.
    let own = match socket.connect("192.0.2.1:9") {
        Ok(()) => socket.local_addr().unwrap().ip(),
        Err(_) => std::net::Ipv4Addr::new(127, 0, 0, 7).into(),
    };
    let address = SocketAddr::new(own, port);
    let host = format!("Host: {address}");
    assert_eq!(sent(address, "GET", "/metrics", &[&host]).status, 200, "{host}");
    assert_eq!(sent(address, "GET", "/metrics", &["Host: 0.0.0.0"]).status, 403);
    assert_eq!(sent(address, "POST", "/drain", &[&host]).status, 202, "{host}");
    drop(key);
}
