//! Standard error and standard output that can't be written: lines are lost, and nothing else.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tidepool_logging::testing::{
    Started, Stream, Unwritable, fails_with, nowhere, prints_for_whoever_reads,
    started_until_its_reader_leaves,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidepool-local-cloud");
const API: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);

fn serve(command: &mut Command, folder: &Path) {
    std::fs::create_dir_all(folder.join("images")).unwrap();
    command.args(["serve", "--addresses", "loopback", "--listen"]);
    command.arg(format!("{API}:0"));
    command.arg("--images").arg(folder.join("images"));
    command
        .arg("--state")
        .arg(folder.join("state"))
        .env_remove("RUST_LOG");
}

fn status(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(20)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer any\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_whitespace().nth(1).unwrap_or_default().to_owned()
}

fn serves_and_ends(mut cloud: Started, what: &str) {
    let address = cloud.listens_on(API);
    assert_eq!(status(address, "/v2/droplets"), "200", "{what}");
    let status = cloud.terminated();
    assert_eq!(status.code(), Some(0), "{what}: {status}");
}

#[test]
fn serves_and_obeys_sigterm_whatever_becomes_of_its_streams() {
    for stream in [Stream::Stderr, Stream::Stdout] {
        for kind in Unwritable::ALL {
            let folder = tempfile::tempdir().unwrap();
            let (mut command, _held) = kind.command(PROGRAM, stream);
            serve(&mut command, folder.path());
            if stream == Stream::Stderr {
                command.stdout(nowhere());
            } else {
                command.stderr(nowhere());
            }
            serves_and_ends(Started::spawn(&mut command), &format!("{stream:?} {kind:?}"));
        }
    }
}

#[test]
fn serves_and_obeys_sigterm_when_the_reader_of_its_log_goes_away() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    serve(&mut command, folder.path());
    serves_and_ends(
        started_until_its_reader_leaves(&mut command, "serving"),
        "reader gone in the middle",
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_not_a_failure_and_a_full_disk_is_one() {
    let folder = tempfile::tempdir().unwrap();
    // A folder from which a local cloud was served.
    std::fs::write(folder.path().join("instance"), "test").unwrap();
    let sweep = ["sweep", "--state", folder.path().to_str().unwrap()];
    for arguments in [&sweep[..], &["completions", "bash"], &["--help"], &["--version"]] {
        prints_for_whoever_reads(PROGRAM, |command| {
            command.args(arguments);
        });
    }
}

#[test]
fn a_failure_exits_with_its_code_whatever_becomes_of_standard_error() {
    fails_with(64, PROGRAM, |command| {
        command
            .args(["sweep", "--state", "/nonexistent"])
            .stdout(nowhere());
    });
}
