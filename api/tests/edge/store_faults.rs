//! A store that is stuck, down at the start, or goes away in the middle.

#![expect(clippy::disallowed_methods, reason = "tests")]

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rusqlite::Connection as Database;

use super::harness::{Folder, SOON, Server, program, wait_until};

/// How soon a write must be answered while the store is stuck.
const STUCK_ANSWER_MAX: Duration = Duration::from_secs(25);

/// Making a keyspace and its tables, or gossip finding a node again, on a machine that is busy.
const CLUSTER_START_MAX: Duration = Duration::from_secs(90);

#[test]
fn writes_into_a_stuck_sqlite_file_are_503_in_time_and_reads_go_on() {
    let folder = Folder::new();
    let mut server = Server::start(&folder, &[]);
    let (document, beside) = (
        "/v1/collections/notes/documents/a",
        "/v1/collections/notes/documents/b",
    );
    server.send("PUT", "/v1/collections/notes", None, Some("{}"));
    assert_eq!(
        server
            .send("PUT", document, None, Some("{\"data\":{\"n\":1}}"))
            .status,
        201
    );

    let other = Database::open(folder.path("tide.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::scope(|scope| {
        let writes: Vec<_> = ["{\"data\":{\"n\":2}}", "{\"data\":{\"n\":3}}"]
            .map(|body| {
                let server = &server;
                scope.spawn(move || {
                    let began = Instant::now();
                    (server.send("PUT", document, None, Some(body)), began.elapsed())
                })
            })
            .into_iter()
            .collect();
        while writes.iter().any(|write| !write.is_finished()) {
            assert_eq!(server.send("GET", document, None, None).status, 200);
            assert_eq!(server.ops_get("/livez").status, 200);
            std::thread::sleep(Duration::from_millis(200));
        }
        for write in writes {
            let (answer, took) = write.join().unwrap();
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (503, "store-unavailable")
            );
            assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
            assert!(took < STUCK_ANSWER_MAX, "{took:?}");
        }
    });
    assert_eq!(server.send("GET", document, None, None).json()["data"]["n"], 1);
    other.execute_batch("ROLLBACK").unwrap();
    wait_until("writes go on", SOON, || {
        server
            .send("PUT", beside, None, Some("{\"data\":{\"n\":4}}"))
            .status
            == 201
    });
    // Writes happen in the order in which they came: those that were refused would have happened by now.
    assert_eq!(server.send("GET", document, None, None).json()["data"]["n"], 1);
    assert_eq!(server.send("GET", beside, None, None).json()["data"]["n"], 4);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(SOON).0.code(), Some(0));
}

#[test]
fn a_cluster_that_is_down_at_the_start_is_waited_for_and_given_up() {
    let began = Instant::now();
    let mut command = program(&[
        "serve",
        "--store",
        "cassandra://127.0.99.1:19042/tide",
        "--log-format",
        "json",
    ]);
    command.args([
        "--listen",
        "127.0.0.1:0",
        "--ops-listen",
        "127.0.0.1:0",
        "--startup-wait-secs",
        "4",
    ]);
    let mut server = Server::spawn_command(&mut command);
    server.ops = server.wait_for_address("operations listening");
    assert_eq!(server.ops_get("/livez").status, 200);
    assert_eq!(server.ops_get("/readyz").status, 503);
    let (status, _) = server.wait(SOON);
    assert_eq!(status.code(), Some(1), "{}", server.log());
    // It stops waiting when the next attempt would come too late.
    assert!(began.elapsed() >= Duration::from_secs(2), "it did not wait");
    let log = server.log();
    assert!(log.contains("127.0.99.1"), "{log}");
    assert!(log.contains("waiting for it"), "it waits without a word: {log}");
}

#[test]
fn a_signal_ends_the_wait_for_the_store() {
    let mut command = program(&[
        "serve",
        "--store",
        "cassandra://127.0.99.1:19042/tide",
        "--log-format",
        "json",
    ]);
    command.args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]);
    let mut server = Server::spawn_command(&mut command);
    server.ops = server.wait_for_address("operations listening");
    server.signal(Signal::SIGTERM);
    let (status, took) = server.wait(SOON);
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_missing_folder_is_reported_by_name() {
    let folder = Folder::new();
    let store = format!("sqlite:{}", folder.path("missing/tide.db").display());
    let output = program(&[
        "serve",
        "--store",
        &store,
        "--listen",
        "127.0.0.1:0",
        "--ops-listen",
        "127.0.0.1:0",
    ])
    .output()
    .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("missing/tide.db"));
}

/// Many more than the store takes at once from one instance, 256: the others are answered without waiting.
const CROWD: usize = 300;

/// An answer that did not wait for the database.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A real cluster, where the environment names one.
struct Cluster {
    store: String,
    nodes: Vec<Pid>,
}

impl Cluster {
    fn find(test: &str) -> Option<Self> {
        let missing = |variable: &str| {
            println!("SKIPPED: edge store_faults::{test} needs a Cassandra cluster");
            println!("tidepool-skip: edge store_faults::{test}: {variable} is not set");
        };
        let Ok(hosts) = std::env::var("TIDEPOOL_TEST_CASSANDRA") else {
            missing("TIDEPOOL_TEST_CASSANDRA");
            return None;
        };
        let Some(folder) = std::env::var_os("TIDEPOOL_TEST_CASSANDRA_DIR") else {
            missing("TIDEPOOL_TEST_CASSANDRA_DIR");
            return None;
        };
        let nodes = (1..=hosts.split(',').count()).map(|node| {
            let file = std::path::Path::new(&folder).join(format!("cassandra/node{node}/pid"));
            Pid::from_raw(std::fs::read_to_string(file).unwrap().trim().parse().unwrap())
        });
        Some(Self {
            store: format!("cassandra://{hosts}/tidepool_edge"),
            nodes: nodes.collect(),
        })
    }
}

/// Nodes that stand still, and go on whatever becomes of the test.
struct Stopped<'a>(&'a [Pid]);

impl<'a> Stopped<'a> {
    fn stop(nodes: &'a [Pid]) -> Self {
        for node in nodes {
            kill(*node, Signal::SIGSTOP).unwrap();
        }
        Self(nodes)
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        for node in self.0 {
            kill(*node, Signal::SIGCONT).unwrap();
        }
    }
}

#[test]
fn a_cluster_that_stands_still_is_503_in_time_and_taken_up_again() {
    let Some(cluster) = Cluster::find("a_cluster_that_stands_still_is_503_in_time_and_taken_up_again") else {
        return;
    };
    let mut command = program(&["serve", "--store", &cluster.store, "--log-format", "json"]);
    command.args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]);
    let mut server = Server::spawn_command(&mut command);
    server.ops = server.wait_for_address("operations listening");
    server.public = server.wait_for_address_within("listening", CLUSTER_START_MAX);
    let path = "/v1/collections/edge/documents/a";
    assert!(
        [200, 201].contains(
            &server
                .send("PUT", "/v1/collections/edge", None, Some("{}"))
                .status
        )
    );
    assert!(
        [200, 201].contains(
            &server
                .send("PUT", path, None, Some("{\"data\":{\"n\":1}}"))
                .status
        )
    );
    wait_until("ready", SOON, || server.ops_get("/readyz").status == 200);

    let stopped = Stopped::stop(&cluster.nodes);
    std::thread::scope(|scope| {
        let requests = [("GET", None), ("PUT", Some("{\"data\":{\"n\":2}}"))].map(|(method, body)| {
            let server = &server;
            scope.spawn(move || {
                let began = Instant::now();
                (server.send(method, path, None, body), began.elapsed())
            })
        });
        while requests.iter().any(|request| !request.is_finished()) {
            assert_eq!(server.ops_get("/livez").status, 200);
            std::thread::sleep(Duration::from_millis(200));
        }
        for request in requests {
            let (answer, took) = request.join().unwrap();
            assert_eq!(answer.status, 503, "{answer:?}");
            let problem = answer.problem();
            assert!(
                ["store-unavailable", "outcome-unknown"].contains(&problem.as_str()),
                "{problem}"
            );
            assert!(took < STUCK_ANSWER_MAX, "{took:?}");
        }
    });
    assert_eq!(server.ops_get("/readyz").status, 503);
    let at_once: usize = std::thread::scope(|scope| {
        let crowd: Vec<_> = (0..CROWD)
            .map(|_| {
                let server = &server;
                scope.spawn(move || {
                    let began = Instant::now();
                    let answer = server.send("GET", "/v1/collections/edge", None, None);
                    assert_eq!(
                        (answer.status, answer.problem().as_str()),
                        (503, "store-unavailable")
                    );
                    assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
                    let took = began.elapsed();
                    assert!(took < STUCK_ANSWER_MAX, "{took:?}");
                    usize::from(took < AT_ONCE)
                })
            })
            .collect();
        crowd.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert!(
        at_once >= CROWD - 256,
        "only {at_once} of {CROWD} were answered at once"
    );
    drop(stopped);
    wait_until("it serves again", CLUSTER_START_MAX, || {
        server.ops_get("/readyz").status == 200
            && server
                .send("PUT", path, None, Some("{\"data\":{\"n\":3}}"))
                .status
                == 200
    });
    assert_eq!(server.send("GET", path, None, None).json()["data"]["n"], 3);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(SOON).0.code(), Some(0), "{}", server.log());
}
