//! No message shows a secret, wherever it was given.

use super::harness::{Folder, Server, file, program, run, stderr, stdout};

const PASSWORD: &str = "s3same-0pen";

/// What a key looks like.
fn key() -> String {
    format!("tp_{}", "aB3_-".repeat(9).get(..43).unwrap())
}

#[track_caller]
fn assert_silent(output: &std::process::Output, what: &str) {
    let key = key();
    let said = format!("{}{}", stderr(output), stdout(output));
    assert!(!output.status.success(), "{what} is wrong");
    assert!(
        !said.contains(PASSWORD) && !said.contains(&key[3..]),
        "{what}: {said}"
    );
    assert!(!stderr(output).trim().is_empty(), "{what}: nobody knows why");
}

#[test]
fn an_argument_that_holds_a_secret_is_not_quoted() {
    let folder = Folder::new();
    let key = key();
    let stores = [
        format!("cassandra://tide:{PASSWORD}@db-1,db-2/tide"),
        format!("cassandra://tide:{PASSWORD}/tide"),
        format!("cassandra://db-1/tide?user=tide&password={PASSWORD}"),
        format!("cassandra://db-1:{PASSWORD}/tide"),
        format!("postgres://tide:{PASSWORD}@db-1/tide"),
        format!("scylla://tide:pass/w@rd-{PASSWORD}@db-1/tide"),
    ];
    for store in &stores {
        for command in [
            &["serve"][..],
            &["keys", "list"],
            &["keys", "revoke", "--name", "a"],
        ] {
            let mut arguments = command.to_vec();
            arguments.extend(["--store", store]);
            assert_silent(&run(&arguments), store);
        }
        let output = program(&["serve"]).env("TIDEPOOL_STORE", store).output().unwrap();
        assert_silent(&output, "TIDEPOOL_STORE");
        let config = file(folder.dir.path(), "api.toml", &format!("store = \"{store}\"\n"));
        assert_silent(&run(&["serve", "--config", &config]), "a file's store");
    }
    let cases: [&[&str]; 12] = [
        &["keys", "revoke", &key],
        &["keys", "list", PASSWORD],
        &["keys", "list", &format!("--cassandra-password={PASSWORD}")],
        &["keys", "list", "--cassandra-password", PASSWORD],
        &["serve", PASSWORD],
        &["serve", &format!("--listen=http://tide:{PASSWORD}@h")],
        &["serve", "--log-level", &key],
        &["serve", "--listen", &key],
        &["serve", "--drain-secs", &key],
        &[
            "keys",
            "create",
            "--store",
            &folder.store,
            "--name",
            "a",
            "--scope",
            &key,
        ],
        &[
            "keys",
            "create",
            "--store",
            &folder.store,
            "--name",
            "a",
            "--scope",
            "read:*",
            "--expires-at",
            &key,
        ],
        &[&key],
    ];
    for arguments in cases {
        assert_silent(&run(arguments), &format!("{arguments:?}"));
    }
    folder.key("one", &["read:*"]);
    let revoked = run(&["keys", "revoke", "--store", &folder.store, "--name", &key]);
    assert_silent(&revoked, "a key in place of its name");
}

/// A password that was put into another setting.
#[test]
fn the_value_of_a_setting_that_is_wrong_is_not_quoted() {
    for name in [
        "TIDEPOOL_LISTEN",
        "TIDEPOOL_OPS_LISTEN",
        "TIDEPOOL_DRAIN_SECS",
        "TIDEPOOL_LIMITS_CONNECTIONS_MAX",
        "TIDEPOOL_SQLITE_SYNCHRONOUS",
        "TIDEPOOL_CASSANDRA_REPLICATION_FACTOR",
        "TIDEPOOL_CASSANDRA_PASSWORD_FILE",
        "TIDEPOOL_LOG_FORMAT",
        "TIDEPOOL_LOG_LEVEL",
        "TIDEPOOL_TLS_KEY_FILE",
    ] {
        let output = program(&["serve"]).env(name, PASSWORD).output().unwrap();
        assert_silent(&output, name);
        let shown = stderr(&output);
        assert!(shown.contains(name), "{name} is not named: {shown}");
    }
}

#[test]
fn a_file_with_a_broken_line_does_not_show_the_line() {
    let folder = Folder::new();
    for text in [
        format!("[cassandra]\npassword = {PASSWORD}\n"),
        format!("store = \"sqlite:a.db\"\n[cassandra]\nusername = \"tide\" password = \"{PASSWORD}\"\n"),
        format!("[cassandra]\npassword = \"{PASSWORD}\"\n"),
        format!("pasword = \"{PASSWORD}\"\n"),
    ] {
        let config = file(folder.dir.path(), "api.toml", &text);
        let output = run(&["serve", "--config", &config]);
        assert_silent(&output, &text);
        assert!(stderr(&output).contains("api.toml"), "{}", stderr(&output));
    }
}

#[test]
fn a_key_that_was_sent_in_the_wrong_place_is_in_no_answer_and_no_log() {
    let folder = Folder::new();
    let key = key();
    let server = Server::start(&folder, &["--log-level", "debug"]);
    for path in [
        format!("/v1/collections?{key}"),
        format!("/v1/collections?{key}=1"),
        format!("/v1/collections?limit={key}"),
        format!("/v1/collections/{key}"),
        format!("/v1/collections/{key}/documents/a"),
        format!("/v1/collections/c/documents?page_token={key}"),
    ] {
        let answer = server.send("GET", &path, None, None);
        assert!(answer.status >= 400, "{path}");
        assert!(!answer.text().contains(&key[3..]), "{path}: {}", answer.text());
    }
    assert!(!server.log().contains(&key[3..]), "{}", server.log());
}
