//! What SQLite would take up beside a database and isn't the database's own; and databases with several names.

use std::path::Path;

use nix::sys::signal::Signal;

use super::harness::{Folder, SOON, Server, run, stderr, stdout};
use super::store_files::{DOCUMENT, Mount, another_store, beside, database, names_in, put, serving};

/// A folder as a power cut leaves it: a store whose last writes are in its log.
fn crashed() -> Folder {
    let folder = Folder::new();
    let server = serving(&folder);
    put(&server, 2, 200);
    drop(server);
    assert!(std::fs::metadata(beside(&folder, "-wal")).unwrap().len() > 0);
    folder
}

/// A store that was stopped: all of it is in its file.
fn stopped() -> Folder {
    let folder = Folder::new();
    let server = serving(&folder);
    stop(server);
    folder
}

fn stop(mut server: Server) {
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(SOON).0.code(), Some(0), "{}", server.log());
}

/// Brings everything into the file, so that the log begins anew with the next write.
fn checkpoint(folder: &Folder) {
    let connection = rusqlite::Connection::open(database(folder)).unwrap();
    connection
        .query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))
        .unwrap();
    leave(connection);
}

/// Closes it without bringing the log into the file, as SQLite does by itself.
fn leave(connection: rusqlite::Connection) {
    let setting = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(setting, true).unwrap();
}

fn bytes(folder: &Folder) -> Vec<Option<Vec<u8>>> {
    let read = |suffix| std::fs::read(beside(folder, suffix)).ok();
    ["", "-wal", "-journal"].map(read).to_vec()
}

/// No command takes up what lies there, nor changes a byte of it; the server's words.
fn assert_refused(folder: &Folder, what: &str) -> String {
    let before = bytes(folder);
    let copy = folder.path("copy.db").display().to_string();
    let mut server = Server::spawn(folder, "127.0.0.1:0", &[]);
    let (status, _) = server.wait(SOON);
    assert_eq!(status.code(), Some(1), "{what}: {}", server.log());
    for arguments in [
        &["keys", "list", "--store", &folder.store][..],
        &["keys", "open", "--store", &folder.store],
        &["backup", "--store", &folder.store, &copy],
    ] {
        let output = run(arguments);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{what}, {arguments:?}: {}",
            stdout(&output)
        );
    }
    assert!(bytes(folder) == before, "{what}: something was changed");
    assert_eq!(names_in(folder, "copy.db"), [""; 0], "{what}");
    server.log()
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
}

#[test]
fn a_log_of_another_database_is_not_played_into_this_one() {
    let other = crashed();

    let folder = stopped();
    copy(&beside(&other, "-wal"), &beside(&folder, "-wal"));
    let log = assert_refused(&folder, "another store's log");
    assert!(log.contains("-wal"), "{log}");

    let folder = Folder::new();
    copy(&beside(&other, "-wal"), &beside(&folder, "-wal"));
    assert_refused(&folder, "a log without a database");
    std::fs::write(database(&folder), "").unwrap();
    assert_refused(&folder, "a log beside an empty file");

    // A backup that was put where a crash has left a log.
    let folder = crashed();
    let backup = folder.path("backup.db").display().to_string();
    let made = run(&["backup", "--store", &folder.store, &backup]);
    assert!(made.status.success(), "{}", stderr(&made));
    copy(Path::new(&backup), &database(&folder));
    std::fs::remove_file(&backup).unwrap();
    assert_refused(&folder, "a backup beside a log");
}

#[test]
fn a_log_of_the_same_database_at_another_time_is_not_played_into_it() {
    let folder = stopped();
    let kept = Folder::new();
    copy(&database(&folder), &database(&kept));
    let server = Server::start(&folder, &[]);
    for n in 3..6 {
        put(&server, n, 200);
        checkpoint(&folder);
    }
    // The run of the log that 6 begins is marked before 7 is written.
    put(&server, 6, 200);
    put(&server, 7, 200);
    drop(server);
    // Its own is taken up.
    let there = Folder::new();
    copy(&database(&folder), &database(&there));
    copy(&beside(&folder, "-wal"), &beside(&there, "-wal"));
    let server = Server::start(&there, &[]);
    assert_eq!(server.send("GET", DOCUMENT, None, None).json()["data"]["n"], 7);
    drop(server);

    copy(&database(&kept), &database(&folder));
    assert_refused(&folder, "an older copy beside a later log");

    // The other way round: a log that is older than the file.
    let folder = crashed();
    let old = std::fs::read(beside(&folder, "-wal")).unwrap();
    let server = Server::start(&folder, &[]);
    for n in 3..6 {
        put(&server, n, 200);
        checkpoint(&folder);
    }
    stop(server);
    std::fs::write(beside(&folder, "-wal"), old).unwrap();
    assert_refused(&folder, "a later copy beside an older log");
}

#[test]
fn a_log_that_a_server_has_open_for_a_file_that_was_replaced_is_not_shared() {
    let folder = stopped();
    let replacement = folder.path("replacement.db");
    copy(&database(&folder), &replacement);
    let server = Server::start(&folder, &[]);
    let connection = rusqlite::Connection::open(database(&folder)).unwrap();
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    leave(connection);
    std::fs::rename(&replacement, database(&folder)).unwrap();
    let log = assert_refused(&folder, "a server has the log open");
    assert!(log.contains("another process"), "{log}");
    drop(server);
    drop(Server::start(&folder, &[]));
}

/// A log without a mark, as an older version has left it, or a server that was killed at its first write.
#[test]
fn a_log_without_a_mark_is_taken_up_where_the_database_is_whole_with_it() {
    let unmark = |folder: &Folder| {
        let connection = rusqlite::Connection::open(database(folder)).unwrap();
        connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .unwrap();
        connection
            .execute("DELETE FROM cluster WHERE name = 'log'", [])
            .unwrap();
        connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .unwrap();
        connection
            .execute("UPDATE documents SET data = '{\"n\":7}'", [])
            .unwrap();
        leave(connection);
    };
    let folder = stopped();
    unmark(&folder);
    let server = Server::start(&folder, &[]);
    assert_eq!(server.send("GET", DOCUMENT, None, None).json()["data"]["n"], 7);
    drop(server);

    let other = Folder::new();
    another_store(&database(&other));
    unmark(&other);
    copy(&beside(&other, "-wal"), &beside(&folder, "-wal"));
    let folder = stopped();
    copy(&beside(&other, "-wal"), &beside(&folder, "-wal"));
    assert_refused(&folder, "another store's log without a mark");
}

#[test]
fn a_rollback_journal_of_something_else_is_not_played_back() {
    let folder = stopped();
    let other = tempfile::tempdir().unwrap();
    let file = other.path().join("other.db");
    let connection = rusqlite::Connection::open(&file).unwrap();
    let rows = "CREATE TABLE a (b); WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) \
                INSERT INTO a SELECT zeroblob(1000) FROM n; PRAGMA cache_size = 5; BEGIN; UPDATE a SET b = zeroblob(1001)";
    connection.execute_batch(rows).unwrap();
    let journal = other.path().join("other.db-journal");
    copy(&journal, &beside(&folder, "-journal"));
    let log = assert_refused(&folder, "another database's journal");
    assert!(log.contains("-journal"), "{log}");

    std::fs::remove_file(database(&folder)).unwrap();
    assert_refused(&folder, "a journal without a database");
}

/// What a backup turns into when a server opens it: killed in the middle, it leaves a journal of its own.
#[test]
fn a_rollback_journal_of_its_own_is_played_back() {
    let folder = stopped();
    let backup = folder.path("backup.db");
    let made = run(&["backup", "--store", &folder.store, &backup.display().to_string()]);
    assert!(made.status.success(), "{}", stderr(&made));
    let before = std::fs::read(&backup).unwrap();
    let mut journal = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7].to_vec();
    let pages = u32::try_from(before.len() / 4096).unwrap();
    for number in [1_u32, 77, pages, 512, 4096] {
        journal.extend(number.to_be_bytes());
    }
    journal.resize(512, 0);
    journal.extend(1_u32.to_be_bytes());
    journal.extend(&before[..4096]);
    let sum = (1..=20)
        .map(|n| before[4096 - 200 * n] as u32)
        .fold(77, u32::wrapping_add);
    journal.extend(sum.to_be_bytes());
    let mut half_switched = before;
    (half_switched[18], half_switched[19]) = (2, 2);
    half_switched[27] = half_switched[27].wrapping_add(1);
    std::fs::write(&backup, half_switched).unwrap();
    std::fs::write(folder.path("backup.db-journal"), journal).unwrap();
    let copied = Folder {
        store: format!("sqlite:{}", backup.display()),
        dir: folder.dir,
    };
    let server = Server::start(&copied, &[]);
    assert_eq!(server.send("GET", DOCUMENT, None, None).json()["data"]["n"], 1);
}

#[test]
fn looking_at_a_store_after_a_crash_leaves_its_files_as_they_are() {
    let folder = crashed();
    let before = bytes(&folder);
    let copy = folder.path("copy.db").display().to_string();
    for arguments in [
        &["keys", "list", "--store", &folder.store][..],
        &["backup", "--store", &folder.store, &copy],
    ] {
        let output = run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        assert!(bytes(&folder) == before, "{arguments:?}");
    }
    // What was stopped in order has nothing beside it afterwards either.
    let folder = stopped();
    let before = names_in(&folder, "");
    run(&["keys", "list", "--store", &folder.store]);
    assert_eq!(names_in(&folder, ""), before);
}

#[test]
fn a_file_with_a_second_name_is_refused_by_both() {
    let folder = stopped();
    let second = folder.path("second.db");
    std::fs::hard_link(database(&folder), &second).unwrap();
    let log = assert_refused(&folder, "its first name");
    assert!(log.contains("2 names"), "{log}");
    let by_second = Folder {
        store: format!("sqlite:{}", second.display()),
        dir: tempfile::tempdir().unwrap(),
    };
    assert_refused(&by_second, "its second name");
    std::fs::remove_file(&second).unwrap();
    // A symbolic link is followed: the log lies beside the file itself.
    std::os::unix::fs::symlink(database(&folder), &second).unwrap();
    let server = Server::start(&by_second, &[]);
    put(&server, 3, 200);
    assert!(beside(&folder, "-wal").exists() && !folder.path("second.db-wal").exists());
}

#[test]
fn a_file_that_is_mounted_by_itself_is_refused() {
    let Some(mount) = Mount::new("a_file_that_is_mounted_by_itself_is_refused") else {
        return;
    };
    let folder = stopped();
    let spaced = mount.0.path().join("my tide.db");
    std::fs::write(&spaced, "").unwrap();
    let bound = std::process::Command::new("mount")
        .arg("--bind")
        .args([&database(&folder), &spaced])
        .status()
        .unwrap();
    assert!(bound.success());
    let by_mount = Folder {
        store: format!("sqlite:{}", spaced.display()),
        dir: tempfile::tempdir().unwrap(),
    };
    let log = assert_refused(&by_mount, "mounted");
    assert!(log.contains("mount its folder"), "{log}");
    let unbound = std::process::Command::new("umount")
        .arg(&spaced)
        .status()
        .unwrap();
    assert!(unbound.success());
    drop(Server::start(&folder, &[]));
}

#[test]
fn a_disk_that_is_full_at_the_start_is_called_so() {
    let Some(mount) = Mount::new("a_disk_that_is_full_at_the_start_is_called_so") else {
        return;
    };
    let folder = Folder {
        store: format!("sqlite:{}", mount.0.path().join("tide.db").display()),
        dir: tempfile::tempdir().unwrap(),
    };
    stop(serving(&folder));
    let mut filler = std::fs::File::create(mount.0.path().join("filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[1; 4096]).is_ok() {}
    let mut server = Server::spawn(&folder, "127.0.0.1:0", &[]);
    assert_eq!(server.wait(SOON).0.code(), Some(1), "{}", server.log());
    assert!(
        server.log().contains("no room left on its disk"),
        "{}",
        server.log()
    );
}
