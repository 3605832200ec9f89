//! TLS from files, HTTP/1.1 and HTTP/2.

use std::time::Duration;

use nix::sys::signal::Signal;
use reqwest::{Certificate, Client, ClientBuilder, StatusCode, Version};

use super::harness::{Connection, Folder, SOON, Server, file, run, stderr, wait_until};

struct Files {
    cert: String,
    key: String,
    authority: Certificate,
}

fn make(folder: &Folder, name: &str) -> Files {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let pem = made.cert.pem();
    Files {
        cert: file(folder.dir.path(), &format!("{name}.pem"), &pem),
        key: file(
            folder.dir.path(),
            &format!("{name}.key"),
            &made.signing_key.serialize_pem(),
        ),
        authority: Certificate::from_pem(pem.as_bytes()).unwrap(),
    }
}

impl Files {
    /// A client of `server` that trusts their authority alone, and where it is asked.
    fn client(&self, server: &Server) -> (ClientBuilder, String) {
        let client = Client::builder()
            .tls_built_in_root_certs(false)
            .add_root_certificate(self.authority.clone())
            .resolve("localhost", server.public)
            .timeout(SOON);
        let url = format!("https://localhost:{}/v1/collections", server.public.port());
        (client, url)
    }

    /// Whether such a client gets an answer on a new connection.
    async fn is_trusted(&self, server: &Server) -> bool {
        let (client, url) = self.client(server);
        client.build().unwrap().get(url).send().await.is_ok()
    }
}

#[tokio::test]
async fn both_protocols_are_served_over_tls() {
    let folder = Folder::new();
    let files = make(&folder, "good");
    let flags = ["--tls-cert-file", &files.cert, "--tls-key-file", &files.key];
    let mut server = Server::start(&folder, &flags);
    let (client, url) = files.client(&server);
    let one = client.http1_only().build().unwrap();
    let two = files.client(&server).0.build().unwrap();
    let answer = one.get(&url).send().await.unwrap();
    assert_eq!(
        (answer.status(), answer.version()),
        (StatusCode::OK, Version::HTTP_11)
    );
    let answer = two.get(&url).send().await.unwrap();
    assert_eq!(
        (answer.status(), answer.version()),
        (StatusCode::OK, Version::HTTP_2)
    );
    assert!(answer.headers().contains_key("x-request-id"));
    let body = "x".repeat(1_048_577);
    let answer = two
        .put(format!("{url}/notes"))
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let mut many = two.get(&url);
    for number in 0..101 {
        many = many.header(format!("x-{number}"), "1");
    }
    let answer = many.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);

    // Both clients hold an idle connection.
    server.signal(Signal::SIGTERM);
    assert_eq!(
        server.wait(Duration::from_secs(4)).0.code(),
        Some(0),
        "{}",
        server.log()
    );
}

#[tokio::test]
async fn answers_that_http2_clients_do_not_take_shut_nobody_else_out() {
    let folder = Folder::new();
    let files = make(&folder, "good");
    let flags = [
        "--tls-cert-file",
        &files.cert,
        "--tls-key-file",
        &files.key,
        "--limits-reads-in-flight-max",
        "2",
    ];
    let server = Server::start(&folder, &flags);
    let (client, url) = files.client(&server);
    // Its streams have no window: the headers come, the text can't.
    let stalled = client.http2_initial_stream_window_size(0).build().unwrap();
    let mut answers = Vec::new();
    for _ in 0..8 {
        answers.push(stalled.get(&url).send().await.unwrap());
    }
    assert!(answers.iter().all(|answer| answer.status() == StatusCode::OK));
    let other = files.client(&server).0.build().unwrap();
    assert_eq!(other.get(&url).send().await.unwrap().status(), StatusCode::OK);
    drop(answers);
}

#[tokio::test]
async fn a_hangup_reads_the_files_anew_and_useless_ones_change_nothing() {
    let folder = Folder::new();
    let (used, next) = (make(&folder, "used"), make(&folder, "next"));
    let flags = ["--tls-cert-file", &used.cert, "--tls-key-file", &used.key];
    let server = Server::start(&folder, &flags);
    assert!(used.is_trusted(&server).await);

    // The certificate without its key: half of a change.
    std::fs::copy(&next.cert, &used.cert).unwrap();
    server.signal(Signal::SIGHUP);
    wait_until("the log says so", SOON, || {
        server.log().contains("those read before stay in use")
    });
    assert!(server.log().contains("used.key"), "{}", server.log());
    assert!(used.is_trusted(&server).await);
    assert!(!next.is_trusted(&server).await);

    std::fs::copy(&next.key, &used.key).unwrap();
    server.signal(Signal::SIGHUP);
    wait_until("the log says so", SOON, || {
        server.log().contains("the TLS files were read anew")
    });
    assert!(next.is_trusted(&server).await);
    assert!(!used.is_trusted(&server).await);
}

#[test]
fn plain_http_and_silence_on_a_tls_port_are_cut() {
    let folder = Folder::new();
    let files = make(&folder, "good");
    let flags = [
        "--tls-cert-file",
        &files.cert,
        "--tls-key-file",
        &files.key,
        "--limits-header-timeout-secs",
        "1",
    ];
    let server = Server::start(&folder, &flags);
    let mut plain = Connection::open(server.public);
    plain.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(plain.closed_within(SOON).is_some());
    let mut silent = Connection::open(server.public);
    assert!(silent.closed_within(Duration::from_secs(5)).is_some());
    assert_eq!(server.ops_get("/livez").status, 200);
}

#[test]
fn files_that_make_no_tls_are_named() {
    let folder = Folder::new();
    let (good, other) = (make(&folder, "good"), make(&folder, "other"));
    let nonsense = file(folder.dir.path(), "nonsense.pem", "hello");
    for (cert, key, word) in [
        (&nonsense, &good.key, "nonsense.pem holds no certificate"),
        (&good.cert, &nonsense, "nonsense.pem holds no private key"),
        (&good.cert, &other.key, "other.key"),
    ] {
        let output = run(&[
            "serve",
            "--store",
            &folder.store,
            "--listen",
            "127.0.0.1:0",
            "--ops-listen",
            "127.0.0.1:0",
            "--tls-cert-file",
            cert,
            "--tls-key-file",
            key,
        ]);
        assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
        assert!(stderr(&output).contains(word), "{}", stderr(&output));
    }
}

#[test]
fn a_key_that_everybody_can_read_is_reported() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = Folder::new();
    let files = make(&folder, "good");
    let flags = ["--tls-cert-file", &files.cert, "--tls-key-file", &files.key];
    for (mode, reported) in [(0o644, true), (0o640, false), (0o600, false)] {
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(mode)).unwrap();
        let server = Server::start(&folder, &flags);
        let log = server.log();
        let line = log.lines().find(|line| line.contains("can be read by everybody"));
        assert_eq!(
            line.is_some_and(|line| line.contains(&files.key)),
            reported,
            "{mode:o}: {log}"
        );
    }
}

#[test]
fn a_key_that_is_encrypted_is_called_so() {
    let folder = Folder::new();
    let files = make(&folder, "good");
    let body = "-----\nMIIBvTBXBgkqhkiG9w0BBQ0wSjApBgkqhkiG9w0BBQwwHAQI\n";
    for (name, label, headers) in [
        ("pkcs8", "ENCRYPTED PRIVATE KEY", ""),
        (
            "older",
            "RSA PRIVATE KEY",
            "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,0A0B\n\n",
        ),
    ] {
        let (begin, rest) = body.split_once('\n').unwrap();
        let pem = format!("-----BEGIN {label}{begin}\n{headers}{rest}-----END {label}-----\n");
        let key = file(folder.dir.path(), name, &pem);
        let output = run(&[
            "serve",
            "--store",
            &folder.store,
            "--tls-cert-file",
            &files.cert,
            "--tls-key-file",
            &key,
        ]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains("is encrypted") && said.contains(&key), "{said}");
        assert!(!said.contains("base64"), "{said}");
    }
}
