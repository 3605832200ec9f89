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
fn check_reports_five_mistakes_at_once_and_ends_with_64() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.toml");
    let bad = "tick_secs = 0\nmetrics = \"guess\"\nspeed = 1\ndigitalocean = {}\n\
               pool = [{ name = \"api\", min = 1, max = 1 }]\nstate_dir = \"x\"\n";
    std::fs::write(&path, bad).unwrap();
    let output = run(&["check", "--config", path.to_str().unwrap()], None);
    assert_eq!(output.status.code(), Some(64));
    let message = text(&output.stderr);
    assert!(message.contains(": 5 problems\n"), "{message}");
    for place in [
        "tick_secs: ",
        "metrics: ",
        "speed: ",
        "digitalocean.token_env: ",
        "pool[0].digitalocean: ",
    ] {
        assert!(
            message.lines().any(|line| line.trim_start().starts_with(place)),
            "{place} is not in {message}"
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
        &["rollout", "api", "--config", "x"],
        &["rollout", "api", "--pause", "--undo", "--config", "x"],
        &["rollout", "api", "--image", "9002", "--undo", "--config", "x"],
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
fn the_manual_has_a_page_for_each_command() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(&["manual", dir.path().to_str().unwrap()], None);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for page in [
        "tidepool-autoscaler.1",
        "tidepool-autoscaler-run.1",
        "tidepool-autoscaler-scale.1",
    ] {
        assert!(dir.path().join(page).is_file(), "{page}");
    }
    let output = run(&["manual", "/nonexistent/man1"], None);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(
        message.contains("the manual can't be written into /nonexistent/man1"),
        "{message}"
    );
}

#[test]
fn check_accepts_a_configuration_without_pools_and_without_an_account() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.toml");
    std::fs::write(&path, "state_dir = \"state\"\nmetrics = \"scrape\"\npool = []\n").unwrap();
    let output = run(&["check", "--config", path.to_str().unwrap()], None);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stderr),
        "warning: pool: is empty: nothing is scaled\n"
    );
    assert!(text(&output.stdout).ends_with("is in order; pools: none\n"));
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
        let message = text(&output.stderr);
        assert!(
            message.contains("no tidepool-autoscaler answers at 127.77.3.9:"),
            "{message}"
        );
    }
}

const LEAST: &str = r#"
state_dir = "state"
metrics = "scrape"
status = { listen = "127.77.3.8:9" }
digitalocean = { base_url = "http://127.0.0.1:9", token_env = "DIGITALOCEAN_TOKEN" }
[[pool]]
name = "api"
min = 1
max = 1
digitalocean = { region = "fra1", size = "s-1vcpu-1gb", image = "host" }
"#;

/// A secret in a place where it does not belong is refused, and not shown.
#[test]
fn no_message_prints_a_secret_wherever_it_was_given() {
    const SECRET: &str = "dop_v1_0123456789abcdef0123456789abcdef";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("autoscaler.toml");
    let (line, token) = ("token_env = \"DIGITALOCEAN_TOKEN\"", SECRET);
    for change in [
        line.to_owned(),
        format!("token_env = \"{SECRET}\""),
        format!("token_file = \"{SECRET}\""),
        format!("token_file = 1, token_env = \"{SECRET}\""),
        format!("{line}, token = \"{SECRET}\""),
        format!("{line}, token = \"{SECRET}"),
        format!("{line}, token = {SECRET}"),
        format!("{line}, {SECRET}"),
    ] {
        std::fs::write(&path, LEAST.replace(line, &change)).unwrap();
        for command in ["check", "plan", "status"] {
            let output = run(&[command, "--config", path.to_str().unwrap()], Some(token));
            let said = text(&output.stdout) + &text(&output.stderr);
            assert!(!said.contains(SECRET), "{command} with {change}: {said}");
        }
    }
    let with_password = LEAST.replace(
        "http://127.0.0.1:9\"",
        &format!("http://tide:{SECRET}@127.0.0.1:9\""),
    );
    std::fs::write(&path, with_password).unwrap();
    let output = run(&["check", "--config", path.to_str().unwrap()], Some(token));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(64));
    assert!(said.contains("base_url") && !said.contains(SECRET), "{said}");
}

#[test]
fn commands_that_only_read_create_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("autoscaler.toml");
    std::fs::write(&path, LEAST).unwrap();
    for (command, code) in [("check", 0), ("plan", 1), ("status", 1), ("hold", 1)] {
        let mut args = vec![command, "--config", path.to_str().unwrap()];
        if command == "hold" {
            args.insert(1, "api");
        }
        let output = run(&args, Some("token-of-nobody"));
        assert_eq!(
            output.status.code(),
            Some(code),
            "{command}: {}",
            text(&output.stderr)
        );
        let left: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["autoscaler.toml"], "{command}");
    }
}

#[test]
fn run_logs_what_is_odd_in_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("autoscaler.toml");
    let odd = LEAST.replacen("[[pool]]", "[[pool]]\nwindows = { in_secs = 5 }", 1);
    std::fs::write(&path, odd).unwrap();
    // A file where the state directory should be: it ends by itself.
    std::fs::write(dir.path().join("state"), "").unwrap();
    let output = run(
        &["run", "--config", path.to_str().unwrap()],
        Some("token-of-nobody"),
    );
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    let warning = "pool[0].windows.in_secs: is 5, less than a tick of 15 s, so it has no effect";
    assert!(errors.contains("WARN") && errors.contains(warning), "{errors}");
}

/// If one were read, or waited for, the whole test would never end.
#[test]
fn files_without_an_end_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("autoscaler.toml");
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::write(dir.path().join("large"), vec![b'#'; (64 << 10) + 1]).unwrap();
    let image = "image = \"host\"";
    for (file, why) in [
        ("/dev/zero", "not a regular file"),
        ("fifo", "not a regular file"),
        ("large", "more than 65536 bytes"),
    ] {
        for config in [
            LEAST.replace(
                "token_env = \"DIGITALOCEAN_TOKEN\"",
                &format!("token_file = \"{file}\""),
            ),
            LEAST.replace(image, &format!("{image}, user_data_file = \"{file}\"")),
        ] {
            std::fs::write(&path, config).unwrap();
            let output = run(&["check", "--config", path.to_str().unwrap()], Some("token"));
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{said}");
            assert!(said.contains(why), "{file}: {said}");
        }
    }
    for config in [Path::new("/dev/zero"), &fifo] {
        let output = run(&["check", "--config", config.to_str().unwrap()], Some("token"));
        assert_eq!(output.status.code(), Some(64));
        let said = text(&output.stderr);
        assert!(said.contains("not a regular file"), "{said}");
    }
}

#[test]
fn a_manifest_that_is_none_is_refused_before_the_daemon_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let table = [
        (
            r#"{"image":"api","version":"1","cloud":"gce","id":"1"}"#,
            "it is an image of gce, and the pool's members are droplets",
        ),
        (
            r#"{"image":"api","cloud":"local","id":"fra1:1"}"#,
            "its id \"fra1:1\" is not an image's number",
        ),
        (
            r#"{"image":"api"}"#,
            "it is not the manifest of an image: missing field `id`",
        ),
        ("[]", "it is not the manifest of an image"),
    ];
    let path = dir.path().join("api.json");
    let rollout = |image: &Path| {
        run(
            &[
                "rollout",
                "api",
                "--image",
                image.to_str().unwrap(),
                "--config",
                &example(),
            ],
            None,
        )
    };
    for (manifest, words) in table {
        std::fs::write(&path, manifest).unwrap();
        let output = rollout(&path);
        assert_eq!(output.status.code(), Some(64), "{manifest}");
        let message = text(&output.stderr);
        assert!(message.contains(words), "{message}");
    }
    let output = rollout(&dir.path().join("missing.json"));
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("missing.json can't be read"));
}
