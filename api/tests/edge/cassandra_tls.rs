//! TLS to the cluster: a Cassandra that talks nothing else, and only to clients with a certificate of its authority; and
//! servers that stand in for a node as far as the handshake goes.

#![expect(clippy::disallowed_methods, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::harness::{Folder, Server, file, program, stderr, stdout, wait_until};

/// How long a server may take to open a keyspace that it has to make; a loaded machine is slow, not wrong.
const PATIENCE: Duration = Duration::from_secs(120);

/// An authority that signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// A certificate for these names, and its key.
    fn signs(&self, names: Vec<String>) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// One node; it is stopped and forgotten at the end.
struct Cluster {
    dir: TempDir,
    host: String,
    authority: Authority,
}

fn script(name: &str) -> Command {
    let services = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../services/cassandra");
    Command::new(services.join(name))
}

/// As a block of YAML, at the depth where it is used.
fn block(text: &str) -> String {
    text.lines().map(|line| format!("        {line}\n")).collect()
}

impl Cluster {
    /// `None`, loudly, where tests have no Cassandra.
    fn start() -> Option<Self> {
        if std::env::var_os("TIDEPOOL_TEST_CASSANDRA").is_none() {
            println!("SKIPPED: edge cassandra_tls needs Cassandra");
            println!("tidepool-skip: edge cassandra_tls: TIDEPOOL_TEST_CASSANDRA is not set");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        // The addresses that `up` chooses from: which one it is going to be, nobody knows yet.
        let names = (5..=250).map(|third| format!("127.0.{third}.1")).collect();
        let (certificate, key) = authority.signs(names);
        let settings = format!(
            "client_encryption_options:\n  enabled: true\n  optional: false\n  require_client_auth: true\n  \
             ssl_context_factory:\n    class_name: org.apache.cassandra.security.PEMBasedSslContextFactory\n    parameters:\n      \
             private_key: |\n{}      trusted_certificates: |\n{}",
            block(&format!("{key}{certificate}")),
            block(&authority.pem)
        );
        let settings = file(dir.path(), "settings.yaml", &settings);
        let mut up = script("up");
        up.arg(dir.path()).env("CASSANDRA_NODES", "1");
        up.env("CASSANDRA_HEAP", "384m")
            .env("CASSANDRA_SETTINGS", settings);
        let mut cluster = Self {
            host: String::new(),
            dir,
            authority,
        };
        let status = up.status().unwrap();
        assert!(status.success(), "services/cassandra/up: {status}");
        let endpoints = std::fs::read_to_string(cluster.dir.path().join("cassandra/endpoints.env")).unwrap();
        let host = endpoints
            .lines()
            .find_map(|line| line.strip_prefix("CASSANDRA_HOSTS="));
        cluster.host = host.unwrap().to_owned();
        Some(cluster)
    }

    fn file(&self, name: &str, text: &str) -> String {
        file(self.dir.path(), name, text)
    }

    fn serve(&self, arguments: &[&str]) -> Command {
        let store = format!("cassandra://{}/tide", self.host);
        let mut command = program(&["serve", "--store", &store, "--log-format", "json"]);
        command.args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]);
        command.args(arguments);
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let status = script("down").arg(self.dir.path()).status();
        assert!(
            std::thread::panicking() || status.is_ok_and(|status| status.success()),
            "services/cassandra/down"
        );
    }
}

#[test]
fn a_cluster_that_demands_tls_and_a_certificate_gets_them_or_the_reason_is_given() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let (certificate, key) = cluster.authority.signs(vec!["tidepool-api".to_owned()]);
    let ca = cluster.file("ca.pem", &cluster.authority.pem);
    let other_ca = cluster.file("other-ca.pem", &Authority::new().pem);
    let (certificate, key) = (
        cluster.file("api.pem", &certificate),
        cluster.file("api.key", &key),
    );
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (other_certificate, other_key) = Authority::new().signs(vec!["tidepool-api".to_owned()]);
    let other_certificate = cluster.file("other.pem", &other_certificate);
    let other_key = cluster.file("other.key", &other_key);

    let identity = [
        "--cassandra-tls-cert-file",
        &certificate,
        "--cassandra-tls-key-file",
        &key,
    ];
    let whole = [&["--cassandra-tls-ca-file", &ca][..], &identity].concat();
    serves(&cluster, &whole, &key);
    makes_a_key(&cluster, &whole);

    let wrong_authority = [&["--cassandra-tls-ca-file", &other_ca][..], &identity].concat();
    refused(
        &cluster,
        &wrong_authority,
        "is not signed by an authority of cassandra.tls.ca_file",
    );
    let words =
        "where it wants a client certificate, cassandra.tls.cert_file and cassandra.tls.key_file are needed";
    refused(&cluster, &["--cassandra-tls-ca-file", &ca], words);
    let stranger = [
        "--cassandra-tls-ca-file",
        &ca,
        "--cassandra-tls-cert-file",
        &other_certificate,
        "--cassandra-tls-key-file",
        &other_key,
    ];
    refused(
        &cluster,
        &stranger,
        "not seem to accept the certificate in cassandra.tls.cert_file",
    );
    refused(
        &cluster,
        &[],
        "where it expects TLS, cassandra.tls.ca_file is needed",
    );
}

fn serves(cluster: &Cluster, tls: &[&str], key: &str) {
    let mut server = Server::spawn_command(&mut cluster.serve(tls));
    server.ops = server.wait_for_address_within("operations listening", PATIENCE);
    server.public = server.wait_for_address_within("listening", PATIENCE);
    assert_eq!(server.ops_get("/readyz").status, 200);
    assert_eq!(
        server.send("PUT", "/v1/collections/c", None, Some("{}")).status,
        201
    );
    let path = "/v1/collections/c/documents/a";
    let put = server.send("PUT", path, None, Some("{\"data\":{\"n\":1}}"));
    assert_eq!(put.status, 201, "{}", put.text());
    assert_eq!(server.send("GET", path, None, None).status, 200);
    assert!(
        server.log().contains("can be read by everybody"),
        "{}",
        server.log()
    );
    server.signal(Signal::SIGTERM);
    let (status, _) = server.wait(PATIENCE);
    assert_eq!(status.code(), Some(0), "{}", server.log());
    let text = std::fs::read_to_string(Path::new(key)).unwrap();
    let secret = text.lines().nth(1).unwrap();
    assert!(!server.log().contains(secret));
}

fn makes_a_key(cluster: &Cluster, tls: &[&str]) {
    let store = format!("cassandra://{}/tide", cluster.host);
    let mut command = program(&[
        "keys", "create", "--store", &store, "--name", "one", "--scope", "read:*",
    ]);
    let made = command.args(tls).output().unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    assert!(stdout(&made).starts_with("tp_"));
}

/// It says why, again and again, and isn't ready; it stops when asked to; and gives up after its time.
fn refused(cluster: &Cluster, tls: &[&str], words: &str) {
    let mut server = Server::spawn_command(&mut cluster.serve(tls));
    server.ops = server.wait_for_address_within("operations listening", PATIENCE);
    wait_until(words, PATIENCE, || server.log().contains(words));
    assert_eq!(server.ops_get("/readyz").status, 503);
    assert_eq!(server.ops_get("/livez").status, 200);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(PATIENCE).0.code(), Some(0), "{}", server.log());
    let ended = cluster
        .serve(&[tls, &["--startup-wait-secs", "10"]].concat())
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", stderr(&ended));
    let last = stderr(&ended).lines().next_back().unwrap_or_default().to_owned();
    assert!(
        last.contains("did not become usable within") && last.contains(words),
        "{last}"
    );
}

/// What it says to a node that it can't speak with, at its end.
fn end_with_node(port: u16, more: &[&str]) -> String {
    let store = format!("cassandra://127.0.0.1:{port}/tide");
    let mut command = program(&["serve", "--store", &store, "--startup-wait-secs", "1"]);
    command.args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]);
    let ended = command.args(more).output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", stderr(&ended));
    stderr(&ended).lines().next_back().unwrap_or_default().to_owned()
}

/// Another server's TLS will do.
#[test]
fn a_nodes_certificate_is_checked_against_authorities_and_address() {
    let folder = Folder::new();
    let path = |name: &str, text: &str| file(folder.dir.path(), name, text);
    let (authority, other) = (Authority::new(), Authority::new());
    let (certificate, key) = authority.signs(vec!["localhost".to_owned()]);
    let (certificate, key) = (path("node.pem", &certificate), path("node.key", &key));
    let (ca, other_ca) = (path("ca.pem", &authority.pem), path("other.pem", &other.pem));
    let node = Server::start(
        &folder,
        &["--tls-cert-file", &certificate, "--tls-key-file", &key],
    );
    let by_address = "does not name its IP address: cassandra.tls.verify_host = false would accept it";
    let unknown = "is not signed by an authority of cassandra.tls.ca_file";
    let lax = ["--cassandra-tls-verify-host", "false"];
    for (ca, more, words) in [
        (&ca, &[][..], by_address),
        (&other_ca, &[], unknown),
        (&other_ca, &lax, unknown),
        // Now it is asked for CQL, which it does not speak.
        (&ca, &lax, "ended the connection with the TLS handshake"),
    ] {
        let flags = [&["--cassandra-tls-ca-file", ca.as_str()][..], more].concat();
        let said = end_with_node(node.public.port(), &flags);
        assert!(said.contains(words), "{words} in {said}");
    }
}

#[test]
fn a_node_that_does_not_speak_tls_is_called_so() {
    let folder = Folder::new();
    let ca = file(folder.dir.path(), "ca.pem", &Authority::new().pem);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // A node's answer to what is not CQL; the thread ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = [0; 64];
            let _asked = stream.read(&mut asked);
            let _gone = stream.write_all(&[0x84, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 10, 0, 0]);
        }
    });
    let said = end_with_node(port, &["--cassandra-tls-ca-file", &ca]);
    assert!(said.contains("does not speak TLS on this port"), "{said}");
}
