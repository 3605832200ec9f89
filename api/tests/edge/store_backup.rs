//! Where a backup may go, what becomes of one that is interrupted, and putting one back.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::harness::{Folder, SOON, Server, program, run, stderr};
use super::store_files::{DOCUMENT, beside, database, documents_in, names_in, put, serving};

fn backup(folder: &Folder, target: &Path, flags: &[&str]) -> std::process::Output {
    let target = target.display().to_string();
    let mut arguments = vec!["backup", "--store", &folder.store, &target];
    arguments.extend(flags);
    run(&arguments)
}

fn assert_refused(folder: &Folder, target: &Path, flags: &[&str], words: &str) {
    let output = backup(folder, target, flags);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{}: {said}", target.display());
    assert!(said.contains(words), "{}: {said}", target.display());
}

#[test]
fn a_backup_does_not_go_where_a_log_waits_for_it() {
    let folder = Folder::new();
    let server = serving(&folder);
    let target = folder.path("day.db");
    for suffix in ["-wal", "-shm", "-journal"] {
        let stray = folder.path(&format!("day.db{suffix}"));
        std::fs::copy(beside(&folder, "-wal"), &stray).unwrap();
        assert_refused(&folder, &target, &[], suffix);
        assert_refused(&folder, &target, &["--force"], suffix);
        std::fs::remove_file(stray).unwrap();
    }
    assert_eq!(names_in(&folder, "day.db"), [""; 0]);
    put(&server, 2, 200);
}

#[test]
fn a_backup_does_not_take_the_place_of_a_databases_log() {
    let folder = Folder::new();
    let server = serving(&folder);
    for suffix in ["-wal", "-shm", "-journal"] {
        assert_refused(&folder, &beside(&folder, suffix), &["--force"], suffix);
        assert_refused(&folder, &folder.path(&format!("other.db{suffix}")), &[], suffix);
    }
    put(&server, 2, 200);
    drop(server);
    let server = Server::start(&folder, &[]);
    assert_eq!(server.send("GET", DOCUMENT, None, None).json()["data"]["n"], 2);
}

#[test]
fn a_backup_replaces_only_files() {
    let folder = Folder::new();
    folder.key("a", &["read:*"]);
    let (pipe, link, directory) = (folder.path("pipe"), folder.path("link"), folder.path("directory"));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    std::fs::create_dir(&directory).unwrap();
    for target in [pipe.as_path(), &link, &directory, Path::new("/dev/null")] {
        assert_refused(&folder, target, &["--force"], "not a regular file");
    }
    assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("nowhere"));
    let not_a_store = run(&["keys", "list", "--store", &format!("sqlite:{}", pipe.display())]);
    assert_eq!(not_a_store.status.code(), Some(1));
    assert!(
        stderr(&not_a_store).contains("not a regular file"),
        "{}",
        stderr(&not_a_store)
    );
}

#[test]
fn a_backup_is_put_back_where_a_crash_has_left_a_log() {
    let folder = Folder::new();
    let server = serving(&folder);
    let day = folder.path("day.db");
    assert!(backup(&folder, &day, &[]).status.success());
    put(&server, 2, 200);
    let from_day = Folder {
        store: format!("sqlite:{}", day.display()),
        dir: tempfile::tempdir().unwrap(),
    };
    assert_refused(
        &from_day,
        &database(&folder),
        &["--force"],
        "open in another process",
    );
    put(&server, 3, 200);
    drop(server);

    let restored = backup(&from_day, &database(&folder), &["--force"]);
    assert!(restored.status.success(), "{}", stderr(&restored));
    assert_eq!(names_in(&folder, "tide.db"), ["tide.db"]);
    assert_eq!(documents_in(&database(&folder)), [r#"{"n":1}"#]);
    let server = Server::start(&folder, &[]);
    assert_eq!(server.send("GET", DOCUMENT, None, None).json()["data"]["n"], 1);
    put(&server, 4, 200);
}

#[test]
fn a_backup_does_not_replace_a_database_beside_which_lies_anothers_log() {
    let folder = Folder::new();
    drop(serving(&folder));
    let other = Folder::new();
    drop(serving(&other));
    let day = other.path("day.db");
    assert!(backup(&other, &day, &[]).status.success());
    std::fs::copy(&day, database(&folder)).unwrap();
    let (file, log) = (database(&folder), beside(&folder, "-wal"));
    let before = (std::fs::read(&file).unwrap(), std::fs::read(&log).unwrap());
    assert_refused(&other, &file, &["--force"], "move it away first");
    assert!(before == (std::fs::read(&file).unwrap(), std::fs::read(&log).unwrap()));
}

/// Starts a backup and sends a signal as soon as its copy has begun; whether it ended by that.
fn interrupted(folder: &Folder, target: &Path, signal: Signal) -> bool {
    let target_text = target.display().to_string();
    let mut command = program(&["backup", "--force", "--store", &folder.store, &target_text]);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + SOON;
    while names_in(folder, ".partial").is_empty() && child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the copy does not begin");
        std::hint::spin_loop();
    }
    // It may have ended already.
    let _ended = kill(Pid::from_raw(child.id().try_into().unwrap()), signal);
    !ended(&mut child).success()
}

fn ended(child: &mut Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + SOON;
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status,
            None => assert!(Instant::now() < deadline, "the backup does not end"),
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_backup_that_is_interrupted_leaves_nothing_and_is_in_no_ones_way() {
    let folder = Folder::new();
    drop(serving(&folder));
    let connection = rusqlite::Connection::open(database(&folder)).unwrap();
    // Large enough that it is never done before the signal comes.
    let large = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60) INSERT INTO documents SELECT \
                 collection, 'large' || i, version, created_at, updated_at, hex(zeroblob(500000)) FROM documents, n";
    connection.execute(large, []).unwrap();
    drop(connection);
    let target = folder.path("latest.db");
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        assert!(interrupted(&folder, &target, signal), "{signal} came too late");
        assert_eq!(names_in(&folder, "latest.db"), [""; 0], "{signal}");
    }
    assert!(interrupted(&folder, &target, Signal::SIGKILL));
    assert!(!names_in(&folder, ".partial").is_empty());
    // What an older version has left, by the number of a process.
    std::fs::write(folder.path(".latest.db.1.partial"), "").unwrap();
    std::fs::write(folder.path(".latest.db.1.partial-journal"), "x").unwrap();
    std::fs::write(folder.path(".latest.db.notes.partial"), "somebody's").unwrap();
    let made = backup(&folder, &target, &[]);
    assert!(made.status.success(), "{}", stderr(&made));
    let mut left = names_in(&folder, "latest.db");
    left.sort();
    assert_eq!(left, [".latest.db.notes.partial", "latest.db"]);
}
