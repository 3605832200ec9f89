//! Arguments, environment, file, exit codes.

use std::net::TcpListener;

use super::harness::{Folder, SOON, Server, file, program, run, stderr, stdout};

#[test]
fn five_mistakes_are_five_messages_and_exit_64() {
    let folder = Folder::new();
    let config = file(
        folder.dir.path(),
        "api.toml",
        "lisen = \"127.0.0.1:1\"\n[limits]\nconnections_max = 0\n[log]\nformat = \"xml\"\n",
    );
    let output = program(&["serve", "--config", &config, "--drain-secs", "soon"])
        .env("TIDEPOOL_OPS_LISTEN", "nowhere")
        .output()
        .unwrap();
    let messages = stderr(&output);
    assert_eq!(output.status.code(), Some(64), "{messages}");
    assert_eq!(messages.lines().count(), 5, "{messages}");
    for place in [
        "api.toml: lisen: unknown field",
        "api.toml: limits.connections_max: ",
        "api.toml: log.format: ",
        "--drain-secs: ",
        "TIDEPOOL_OPS_LISTEN: ",
    ] {
        assert!(messages.contains(place), "{place} in {messages}");
    }
}

#[test]
fn bad_usage_exits_64_and_says_what() {
    let folder = Folder::new();
    let missing = folder.path("missing.pem").display().to_string();
    let cases: [(&[&str], &str); 13] = [
        (&[], "Usage"),
        (&["fly"], "fly"),
        (&["serve", "--wings", "2"], "--wings"),
        (&["serve", "--store", "postgres://x"], "sqlite:FILE"),
        (&["serve", "--listen", "somewhere"], "IP:PORT"),
        (&["serve", "--config", "/does/not/exist.toml"], "can't be read"),
        (&["serve", "--config", "/dev/zero"], "not a regular file"),
        (
            &[
                "serve",
                "--tls-cert-file",
                "/dev/zero",
                "--tls-key-file",
                "/dev/zero",
                "--store",
                &folder.store,
            ],
            "not a regular file",
        ),
        (&["serve", "--tls-cert-file", &missing], "tls.key_file"),
        (
            &[
                "serve",
                "--store",
                &folder.store,
                "--tls-cert-file",
                &missing,
                "--tls-key-file",
                &missing,
            ],
            "missing.pem",
        ),
        (
            &["keys", "create", "--store", &folder.store, "--name", "a"],
            "--scope",
        ),
        (
            &[
                "keys",
                "create",
                "--store",
                &folder.store,
                "--name",
                "a",
                "--scope",
                "fly:x",
            ],
            "fly",
        ),
        (
            &[
                "keys",
                "create",
                "--store",
                &folder.store,
                "--name",
                "a",
                "--scope",
                "read:x",
                "--expires-at",
                "2001-01-01T00:00:00Z",
            ],
            "past",
        ),
    ];
    for (arguments, word) in cases {
        let output = run(arguments);
        assert_eq!(
            output.status.code(),
            Some(64),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains(word),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn several_mistakes_in_keys_create_are_reported_together() {
    let output = run(&[
        "keys",
        "create",
        "--store",
        "nowhere",
        "--name",
        "",
        "--scope",
        "fly:x",
        "--scope",
        "read:",
        "--expires-at",
        "tomorrow",
    ]);
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(stderr(&output).lines().count(), 5, "{}", stderr(&output));
}

#[test]
fn a_taken_port_is_exit_1_and_named() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flags in [
        ["--listen", &address, "--ops-listen", "127.0.0.1:0"],
        ["--listen", "127.0.0.1:0", "--ops-listen", &address],
    ] {
        let mut arguments = vec!["serve", "--store", &folder.store];
        arguments.extend(flags);
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains(&address), "{}", stderr(&output));
    }
}

#[test]
fn help_reads_like_a_manual_and_exits_0() {
    for (arguments, words) in [
        (vec!["--help"], vec!["Exit status", "64", "Examples", "TOML"]),
        (
            vec!["serve", "--help"],
            vec![
                "TIDEPOOL_STORE",
                "--ops-listen",
                "Exit status",
                "[default: 127.0.0.1:8080]",
                "SIGTERM",
            ],
        ),
        (
            vec!["keys", "--help"],
            vec!["read", "write", "admin", "Exit status", "Examples"],
        ),
        (
            vec!["keys", "create", "--help"],
            vec!["--expires-at", "TIDEPOOL_STORE"],
        ),
        (vec!["--version"], vec![env!("CARGO_PKG_VERSION")]),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        for word in words {
            assert!(stdout(&output).contains(word), "{word} in {}", stdout(&output));
        }
    }
}

#[test]
fn the_manual_has_a_page_for_each_command_and_each_setting() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(&["manual", dir.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let page = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    assert!(page("tidepool-api.1").contains("tidepool\\-api\\-serve(1)"));
    assert!(page("tidepool-api-serve.1").contains("TIDEPOOL_LIMITS_CONNECTIONS_MAX"));
    assert!(page("tidepool-api-keys-create.1").contains("\\-\\-scope"));

    let output = run(&["manual", "/nonexistent/man1"]);
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    assert!(
        message.starts_with("tidepool-api: the manual can't be written into /nonexistent/man1: "),
        "{message}"
    );
}

#[test]
fn completions_and_the_openapi_document_go_to_standard_output() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success());
        assert!(stdout(&output).contains("tidepool-api"), "{shell}");
    }
    let output = run(&["openapi"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(document["paths"]["/v1/collections"].is_object());
}

#[test]
fn a_name_that_would_steer_a_terminal_is_escaped_wherever_it_is_shown() {
    let folder = Folder::new();
    let evil = folder.path("a\nERROR b\u{1b}[2Jc.db").display().to_string();
    let output = run(&["keys", "list", "--store", &format!("sqlite:{evil}")]);
    assert_eq!(output.status.code(), Some(64));
    let copied = run(&["backup", "--store", &folder.store, &evil]);
    assert_eq!(copied.status.code(), Some(1));
    folder.key("a", &["read:*"]);
    let made = run(&["backup", "--store", &folder.store, &evil]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    for output in [output, copied, made] {
        let said = stderr(&output);
        assert!(!said.contains('\u{1b}') && !said.contains("\nERROR"), "{said:?}");
    }
}

#[test]
fn a_wildcard_among_allowed_hosts_is_refused() {
    let folder = Folder::new();
    for hosts in ["*", "*.example.com", ".example.com", "a.example.com,*"] {
        let mut server = Server::spawn(&folder, "127.0.0.1:0", &["--allowed-hosts", hosts]);
        let (status, _) = server.wait(SOON);
        assert_eq!(status.code(), Some(64), "{hosts}");
        assert!(server.log().contains("wildcards"), "{hosts}: {}", server.log());
    }
}

#[test]
fn a_misspelt_variable_is_refused_and_an_unknown_one_reported() {
    let folder = Folder::new();
    folder.key("a", &["read:*"]);
    let list = |name: &str| {
        let mut command = program(&["keys", "list", "--store", &folder.store]);
        command.env(name, "127.0.0.1:1").output().unwrap()
    };
    let refused = list("TIDEPOOL_LISTN");
    assert_eq!(refused.status.code(), Some(64));
    assert!(
        stderr(&refused).contains("TIDEPOOL_LISTEN"),
        "{}",
        stderr(&refused)
    );
    let warned = list("TIDEPOOL_TLS_CERT");
    assert_eq!(warned.status.code(), Some(0), "{}", stderr(&warned));
    assert!(
        stderr(&warned).contains("TIDEPOOL_TLS_CERT"),
        "{}",
        stderr(&warned)
    );
}
