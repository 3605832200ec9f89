//! Standard error and standard output that can't be written: lines are lost, and nothing else.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tidepool_logging::testing::{
    Started, Stream, Unwritable, fails_with, nowhere, prints_for_whoever_reads,
    started_until_its_reader_leaves,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidepool-autoscaler");
const STATUS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// A configuration whose provider is not there: each tick fails, and says so.
fn config(folder: &Path) -> PathBuf {
    let path = folder.join("autoscaler.toml");
    let text = format!(
        r#"
            tick_secs = 1
            state_dir = "state"
            metrics = "scrape"
            status.listen = "{STATUS}:0"
            digitalocean = {{ base_url = "http://127.0.0.1:1", token_env = "TOKEN" }}
            [[pool]]
            name = "web"
            min = 1
            max = 2
            digitalocean = {{ region = "fra1", size = "s-1vcpu-1gb", image = "web" }}
            policy = [{{ preset = "cpu", target = 0.5 }}]
        "#
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn run(command: &mut Command, folder: &Path) {
    command
        .arg("run")
        .arg("--config")
        .arg(config(folder))
        .env("TOKEN", "any");
}

fn metrics(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(20)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn value(metrics: &str, series: &str) -> f64 {
    let found = metrics
        .lines()
        .find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    found.unwrap_or_default()
}

/// It ticks, says how many lines it lost, and obeys SIGTERM.
fn ticks_and_ends(mut daemon: Started, what: &str) -> f64 {
    let address = daemon.listens_on(STATUS);
    let failed = "tidepool_autoscaler_ticks_total{pool=\"web\",result=\"failed\"}";
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let text = loop {
        let text = metrics(address);
        if value(&text, failed) >= 2.0 {
            break text;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{what}: it does not tick:\n{text}"
        );
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(
        text.contains("\ntidepool_log_lines_lost_total "),
        "{what}: {text}"
    );
    let status = daemon.terminated();
    assert_eq!(status.code(), Some(0), "{what}: {status}");
    value(&text, "tidepool_log_lines_lost_total ")
}

#[test]
fn ticks_and_obeys_sigterm_whatever_becomes_of_standard_error() {
    for kind in Unwritable::ALL {
        let folder = tempfile::tempdir().unwrap();
        let (mut command, _held) = kind.command(PROGRAM, Stream::Stderr);
        run(&mut command, folder.path());
        let lost = ticks_and_ends(Started::spawn(command.stdout(nowhere())), &format!("{kind:?}"));
        // A stream that was closed is /dev/null by then (std sees to it), and a stalled one may yet be read.
        let counted = matches!(
            kind,
            Unwritable::Full | Unwritable::AtLimit | Unwritable::ReaderGone
        );
        assert_eq!(lost > 0.0, counted, "{kind:?}: {lost}");
    }
}

#[test]
fn ticks_and_obeys_sigterm_when_the_reader_of_its_log_goes_away() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    run(&mut command, folder.path());
    let daemon = started_until_its_reader_leaves(&mut command, "");
    assert!(ticks_and_ends(daemon, "reader gone in the middle") > 0.0);
}

#[test]
fn a_wrong_configuration_exits_with_64_whatever_becomes_of_standard_error() {
    fails_with(64, PROGRAM, |command| {
        command.args(["check", "--config", "/nonexistent/autoscaler.toml"]);
    });
}

#[test]
fn a_reader_that_has_seen_enough_is_not_a_failure_and_a_full_disk_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let check = ["check", "--config", config.to_str().unwrap()];
    for arguments in [&check[..], &["completions", "bash"], &["--help"], &["--version"]] {
        prints_for_whoever_reads(PROGRAM, |command| {
            command.args(arguments).env("TOKEN", "any");
        });
    }
}

#[test]
fn a_filter_that_names_no_level_is_refused() {
    let output = Command::new(PROGRAM)
        .args(["completions", "bash", "--log", "loud"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
}
