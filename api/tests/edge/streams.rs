//! Standard error and standard output that can't be written: lines are lost, and nothing else.

#![expect(clippy::disallowed_methods, reason = "tests")]

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use tidepool_logging::testing::{
    Started, Stream, Unwritable, fails_with, nowhere, prints_for_whoever_reads,
    started_until_its_reader_leaves,
};

use super::harness::{Connection, Folder, program};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidepool-api");
const PUBLIC: Ipv4Addr = Ipv4Addr::LOCALHOST;
const OPERATIONS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn serve(command: &mut Command, folder: &Folder) {
    serve_on(command, folder, &format!("{PUBLIC}:0"));
}

fn serve_on(command: &mut Command, folder: &Folder, address: &str) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEPOOL_") {
            command.env_remove(name);
        }
    }
    command.args(["serve", "--store", &folder.store, "--listen"]);
    command.arg(address).arg("--ops-listen");
    command
        .arg(format!("{OPERATIONS}:0"))
        .args(["--log-level", "debug"]);
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut connection = Connection::open(address);
    let answer = connection.request("GET", path, None, None);
    (answer.status, answer.text())
}

/// It serves, says how many lines it lost, and obeys SIGTERM.
fn serves_and_ends(mut server: Started, what: &str) -> f64 {
    let public = server.listens_on(PUBLIC);
    for _ in 0..20 {
        assert_eq!(get(public, "/v1/collections").0, 200, "{what}");
    }
    let (status, metrics) = get(server.listens_on(OPERATIONS), "/metrics");
    assert_eq!(status, 200, "{what}");
    let lost = metrics
        .lines()
        .find_map(|line| line.strip_prefix("tidepool_log_lines_lost_total "))
        .unwrap_or_else(|| panic!("{what}: no count of lost lines in\n{metrics}"));
    let status = server.terminated();
    assert_eq!(status.code(), Some(0), "{what}: {status}");
    lost.parse().unwrap()
}

#[test]
fn serves_and_obeys_sigterm_whatever_becomes_of_standard_error() {
    for kind in Unwritable::ALL {
        let folder = Folder::new();
        let (mut command, _held) = kind.command(PROGRAM, Stream::Stderr);
        serve(&mut command, &folder);
        let lost = serves_and_ends(Started::spawn(command.stdout(nowhere())), &format!("{kind:?}"));
        // A stream that was closed is /dev/null by then (std sees to it), and a stalled one may yet be read.
        let counted = matches!(
            kind,
            Unwritable::Full | Unwritable::AtLimit | Unwritable::ReaderGone
        );
        assert_eq!(lost > 0.0, counted, "{kind:?}: {lost}");
    }
}

#[test]
fn serves_and_obeys_sigterm_when_the_reader_of_its_log_goes_away() {
    let folder = Folder::new();
    let mut command = Command::new(PROGRAM);
    serve(&mut command, &folder);
    let server = started_until_its_reader_leaves(&mut command, "operations listening");
    assert!(serves_and_ends(server, "reader gone in the middle") > 0.0);
}

#[test]
fn a_failure_exits_with_its_code_whatever_becomes_of_standard_error() {
    let folder = Folder::new();
    let taken = std::net::TcpListener::bind((PUBLIC, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fails_with(1, PROGRAM, |command| serve_on(command, &folder, &address));
}

#[test]
fn the_last_lines_before_an_exit_are_written() {
    let folder = Folder::new();
    let taken = std::net::TcpListener::bind((PUBLIC, 0)).unwrap();
    let mut command = program(&[]);
    serve_on(&mut command, &folder, &taken.local_addr().unwrap().to_string());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let last = text.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("tidepool-api: ") && last.contains("can't listen"),
        "{text}"
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_not_a_failure_and_a_full_disk_is_one() {
    let folder = Folder::new();
    folder.key("one", &["read:*"]);
    let list = ["keys", "list", "--store", &folder.store];
    for arguments in [
        &list[..],
        &["openapi"],
        &["completions", "bash"],
        &["--help"],
        &["--version"],
    ] {
        prints_for_whoever_reads(PROGRAM, |command| {
            command.args(arguments);
        });
    }
}
