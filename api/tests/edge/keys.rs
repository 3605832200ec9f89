//! Keys from the command line, taking effect on a running server.

#![expect(clippy::disallowed_methods, reason = "tests")]

use std::time::Duration;

use super::harness::{Folder, SOON, Server, run, stderr, stdout, wait_until};

/// How soon a new, revoked or expired key must count.
const EFFECT_MAX: Duration = Duration::from_secs(10);

const COLLECTIONS: &str = "/v1/collections";

#[test]
fn a_key_is_printed_alone_and_only_its_hash_is_stored() {
    let folder = Folder::new();
    let output = run(&[
        "keys",
        "create",
        "--store",
        &folder.store,
        "--name",
        "ci",
        "--scope",
        "read:notes",
        "--scope",
        "write:notes-*",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let printed = stdout(&output);
    let key = printed.strip_suffix('\n').unwrap();
    let rest = key.strip_prefix("tp_").unwrap();
    assert!(rest.len() >= 20, "{key}");
    assert!(
        rest.chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    );
    assert!(!stderr(&output).contains(key));
    for entry in std::fs::read_dir(folder.dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let found = bytes.windows(key.len()).any(|window| window == key.as_bytes());
        assert!(!found, "the key's text is in the store");
    }
    let list = stdout(&run(&["keys", "list", "--store", &folder.store]));
    assert!(
        list.contains("ci") && list.contains("write:notes-*") && list.contains("never"),
        "{list}"
    );
    let json = stdout(&run(&["keys", "list", "--store", &folder.store, "--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["scopes"][1], "write:notes-*");
}

#[test]
fn names_are_unique_and_unknown_ones_can_not_be_revoked() {
    let folder = Folder::new();
    folder.key("one", &["read:*"]);
    let again = run(&[
        "keys",
        "create",
        "--store",
        &folder.store,
        "--name",
        "one",
        "--scope",
        "read:*",
    ]);
    assert_eq!((again.status.code(), stdout(&again).as_str()), (Some(1), ""));
    let unknown = run(&["keys", "revoke", "--store", &folder.store, "--name", "two"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr(&unknown).contains("two"));
    let known = run(&["keys", "revoke", "--store", &folder.store, "--name", "one"]);
    assert_eq!(known.status.code(), Some(0), "{}", stderr(&known));
}

#[test]
fn the_first_key_closes_an_open_server_and_revoking_it_does_not_open_it() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    assert!(server.log().contains("key"), "{}", server.log());
    assert_eq!(server.send("GET", COLLECTIONS, None, None).status, 200);

    let key = folder.key("one", &["admin:*"]);
    wait_until("the server closes", EFFECT_MAX, || {
        server.send("GET", COLLECTIONS, None, None).status == 401
    });
    let refused = server.send("GET", COLLECTIONS, None, None);
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    assert_eq!(refused.problem(), "unauthenticated");
    assert_eq!(server.send("GET", COLLECTIONS, Some(&key), None).status, 200);
    assert_eq!(
        server
            .send("GET", COLLECTIONS, Some("tp_aaaaaaaaaaaaaaaaaaaaaaaa"), None)
            .status,
        401
    );

    assert!(
        run(&["keys", "revoke", "--store", &folder.store, "--name", "one"])
            .status
            .success()
    );
    wait_until("the revoked key is refused", EFFECT_MAX, || {
        server.send("GET", COLLECTIONS, Some(&key), None).status == 401
    });
    assert_eq!(server.send("GET", COLLECTIONS, None, None).status, 401);
    assert_eq!(server.send("GET", "/openapi.json", None, None).status, 200);
    assert!(!server.log().contains(&key));
}

#[test]
fn scopes_and_expiry_bound_a_key() {
    let folder = Folder::new();
    let admin = folder.key("admin", &["admin:*"]);
    let reader = folder.key("reader", &["read:notes"]);
    let expires_at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(4);
    let output = run(&[
        "keys",
        "create",
        "--store",
        &folder.store,
        "--name",
        "guest",
        "--scope",
        "read:*",
        "--expires-at",
        &expires_at.to_string(),
    ]);
    let guest = stdout(&output).trim_end().to_owned();
    let server = Server::start(&folder, &[]);
    assert_eq!(
        server
            .send("PUT", "/v1/collections/notes", Some(&admin), Some("{}"))
            .status,
        201
    );
    let documents = "/v1/collections/notes/documents";
    assert_eq!(server.send("GET", documents, Some(&reader), None).status, 200);
    let refused = server.send("POST", documents, Some(&reader), Some("{\"data\":{}}"));
    assert_eq!((refused.status, refused.problem().as_str()), (403, "forbidden"));
    assert_eq!(
        server
            .send("GET", "/v1/collections/other", Some(&reader), None)
            .status,
        403
    );
    wait_until("the guest's key expires", SOON, || {
        server.send("GET", documents, Some(&guest), None).status == 401
    });
    assert!(jiff::Timestamp::now() >= expires_at, "it expired early");
}

#[test]
fn strangers_are_not_served_without_a_key() {
    let folder = Folder::new();
    let mut server = Server::spawn(&folder, "0.0.0.0:0", &[]);
    let (status, _) = server.wait(SOON);
    assert_eq!(status.code(), Some(1), "{}", server.log());
    assert!(server.log().contains("keys create"), "{}", server.log());

    let key = folder.key("one", &["admin:*"]);
    let mut server = Server::spawn(&folder, "0.0.0.0:0", &[]);
    let port = server.wait_for_address("listening").port();
    server.public = ([127, 0, 0, 1], port).into();
    assert_eq!(server.send("GET", COLLECTIONS, Some(&key), None).status, 200);
    assert_eq!(server.send("GET", COLLECTIONS, None, None).status, 401);
}

#[test]
fn a_store_that_had_keys_stays_closed_until_it_is_opened_by_name() {
    let folder = Folder::new();
    let key = folder.key("one", &["admin:*"]);
    let keys = |command: &str, more: &[&str]| {
        let mut arguments = vec!["keys", command, "--store", &folder.store];
        arguments.extend(more);
        run(&arguments)
    };
    let refused = keys("open", &[]);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("revoke"), "{}", stderr(&refused));
    assert!(keys("revoke", &["--name", "one"]).status.success());
    // Twice, so that the first start can't have forgotten it.
    for _ in 0..2 {
        let server = Server::start(&folder, &[]);
        for key in [None, Some(key.as_str())] {
            assert_eq!(server.send("GET", COLLECTIONS, key, None).status, 401);
        }
        assert!(server.log().contains("keys open"), "{}", server.log());
    }
    let server = Server::start(&folder, &[]);
    let opened = keys("open", &[]);
    assert!(opened.status.success(), "{}", stderr(&opened));
    assert!(stderr(&opened).contains("needs no key"), "{}", stderr(&opened));
    assert_eq!(
        server.send("GET", COLLECTIONS, None, None).status,
        401,
        "a server that runs stays closed"
    );
    drop(server);
    let server = Server::start(&folder, &[]);
    assert_eq!(server.send("GET", COLLECTIONS, None, None).status, 200);
    folder.key("two", &["admin:*"]);
    wait_until("the next key closes it again", EFFECT_MAX, || {
        server.send("GET", COLLECTIONS, None, None).status == 401
    });
}

#[test]
fn a_store_whose_last_key_has_expired_is_closed_also_after_a_restart() {
    let folder = Folder::new();
    let expires_at = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(1_500);
    let made = run(&[
        "keys",
        "create",
        "--store",
        &folder.store,
        "--name",
        "one",
        "--scope",
        "read:*",
        "--expires-at",
        &expires_at.to_string(),
    ]);
    assert!(made.status.success(), "{}", stderr(&made));
    wait_until("the key has expired", SOON, || {
        jiff::Timestamp::now() > expires_at
    });
    for _ in 0..2 {
        let server = Server::start(&folder, &[]);
        assert_eq!(server.send("GET", COLLECTIONS, None, None).status, 401);
    }
    assert!(
        run(&["keys", "revoke", "--store", &folder.store, "--name", "one"])
            .status
            .success()
    );
    let server = Server::start(&folder, &[]);
    assert_eq!(server.send("GET", COLLECTIONS, None, None).status, 401);
}

/// As a program from before the marker has left it: keys, and nothing that says there were.
#[test]
fn a_store_from_before_the_marker_is_closed_by_its_keys() {
    let folder = Folder::new();
    folder.key("one", &["admin:*"]);
    let connection = rusqlite::Connection::open(folder.path("tide.db")).unwrap();
    connection
        .execute("DELETE FROM cluster WHERE name = 'closed'", [])
        .unwrap();
    drop(Server::start(&folder, &[]));
    connection.execute("DELETE FROM keys", []).unwrap();
    let server = Server::start(&folder, &[]);
    assert_eq!(server.send("GET", COLLECTIONS, None, None).status, 401);
}

/// Each is a standard output of which nobody gets what is written.
#[test]
fn a_key_that_nobody_gets_is_not_made_and_closes_no_store() {
    use tidepool_logging::testing::{Stream, Unwritable};

    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    let program = env!("CARGO_BIN_EXE_tidepool-api");
    let create = |mut command: std::process::Command, what: &str| {
        command.args(["keys", "create", "--store", &folder.store, "--name", "a"]);
        command
            .args(["--scope", "read:*"])
            .stderr(std::process::Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{what}: {}", stderr(&output));
        assert!(
            stderr(&output).contains("no key was made"),
            "{what}: {}",
            stderr(&output)
        );
    };
    for kind in [
        Unwritable::Full,
        Unwritable::AtLimit,
        Unwritable::Closed,
        Unwritable::ReaderGone,
    ] {
        create(kind.command(program, Stream::Stdout).0, &format!("{kind:?}"));
    }
    let mut nowhere = std::process::Command::new(program);
    nowhere.stdout(tidepool_logging::testing::nowhere());
    create(nowhere, "/dev/null");

    let listed = stdout(&run(&["keys", "list", "--store", &folder.store, "--json"]));
    assert_eq!(listed.trim(), "[]");
    drop(server);
    let server = Server::start(&folder, &[]);
    assert_eq!(server.send("GET", COLLECTIONS, None, None).status, 200);
}
