//! The commands as others script them: exit codes, what is on standard output and error.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

fn run(args: &[&str], token: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidepool-autoscaler"));
    command
        .args(args)
        .env_remove("DIGITALOCEAN_TOKEN")
        .env_remove("TIDEPOOL_AUTOSCALER_CONFIG");
    if let Some(token) = token {
        command.env("DIGITALOCEAN_TOKEN", token);
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn example() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("example.toml")
        .to_str()
        .unwrap()
        .to_owned()
}

#[test]
fn check_accepts_the_example() {
    let output = run(&["check", "--config", &example()], Some("dop_v1_0"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).ends_with("is in order; pools: api\n"));
}

#[test]
fn check_tells_five_mistakes_at_once_and_ends_with_64() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.toml");
    let bad = "tick_secs = 0\nmetrics = \"guess\"\nspeed = 1\ndigitalocean = {}\n\
               pool = [{ name = \"api\", min = 1, max = 1 }]\nstate_dir = \"x\"\n";
    std::fs::write(&path, bad).unwrap();
    let output = run(&["check", "--config", path.to_str().unwrap()], None);
    assert_eq!(output.status.code(), Some(64));
    let told = text(&output.stderr);
    assert!(told.contains(": 5 problems\n"), "{told}");
    for place in [
        "tick_secs: ",
        "metrics: ",
        "speed: ",
        "digitalocean.token_env: ",
        "pool[0].digitalocean: ",
    ] {
        assert!(
            told.lines().any(|line| line.trim_start().starts_with(place)),
            "{place} is not in {told}"
        );
    }
    assert!(output.stdout.is_empty());
}

#[test]
fn a_wrong_command_line_or_a_missing_file_ends_with_64() {
    for args in [
        &["fly"][..],
        &[],
        &["run"],
        &["scale", "api", "many", "--config", "x"],
        &["check", "--config", "/nonexistent/autoscaler.toml"],
        &["check", "--config", "x", "--log-format", "loud"],
    ] {
        let output = run(args, None);
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn help_reads_like_a_manual_page() {
    let output = run(&["--help"], None);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    for word in [
        "run",
        "check",
        "plan",
        "status",
        "hold",
        "resume",
        "scale",
        "completions",
        "Exit codes:",
        "64",
    ] {
        assert!(help.contains(word), "{word} is not in the help");
    }
}

#[test]
fn completions_are_printed_for_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell], None);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("tidepool-autoscaler"), "{shell}");
    }
}

#[test]
fn asking_a_daemon_that_does_not_run_says_so() {
    // A port that was free a moment ago; nobody else listens on this address.
    let port = std::net::TcpListener::bind("127.77.3.9:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("autoscaler.toml");
    let config = std::fs::read_to_string(example()).unwrap();
    std::fs::write(
        &path,
        config.replace("127.0.0.1:7071", &format!("127.77.3.9:{port}")),
    )
    .unwrap();
    let config = path.to_str().unwrap();
    for args in [
        &["status", "--config", config][..],
        &["hold", "api", "--config", config],
        &["resume", "api", "--config", config],
        &["scale", "api", "3", "--config", config],
    ] {
        let output = run(args, None);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let told = text(&output.stderr);
        assert!(
            told.contains("no tidepool-autoscaler answers at 127.77.3.9:"),
            "{told}"
        );
    }
}
