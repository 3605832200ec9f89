//! The files of the SQLite store: who may read them, what is left at the end, and what happens when they go away under a
//! server.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use tidepool_logging::testing::with_file_size_limit;

use super::harness::{Folder, SOON, Server, program, run, stderr, stdout, wait_until};

pub(super) const DOCUMENT: &str = "/v1/collections/c/documents/a";

pub(super) fn database(folder: &Folder) -> PathBuf {
    folder.path("tide.db")
}

pub(super) fn beside(folder: &Folder, suffix: &str) -> PathBuf {
    folder.path(&format!("tide.db{suffix}"))
}

fn mode(file: &Path) -> u32 {
    std::fs::metadata(file).unwrap().permissions().mode() & 0o777
}

pub(super) fn serving(folder: &Folder) -> Server {
    let server = Server::start(folder, &[]);
    let made = server.send("PUT", "/v1/collections/c", None, Some("{}"));
    assert!(made.status < 300, "{made:?}");
    put(&server, 1, 201);
    server
}

pub(super) fn put(server: &Server, n: u32, expected: u16) {
    let answer = server.send(
        "PUT",
        DOCUMENT,
        None,
        Some(&format!("{{\"data\":{{\"n\":{n}}}}}")),
    );
    assert_eq!(answer.status, expected, "{}\n{}", answer.text(), server.log());
}

/// The documents that a copy of the database file alone has.
pub(super) fn documents_in(file: &Path) -> Vec<String> {
    let alone = tempfile::tempdir().unwrap();
    let copy = alone.path().join("copy.db");
    std::fs::copy(file, &copy).unwrap();
    let connection = rusqlite::Connection::open(&copy).unwrap();
    let mut statement = connection
        .prepare("SELECT data FROM documents ORDER BY id")
        .unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// Runs the program with a umask that takes nothing away, or everything.
fn with_umask(umask: &str, arguments: &[&str]) -> std::process::Output {
    let program = program(&[]);
    let mut shell = std::process::Command::new("sh");
    shell
        .arg("-c")
        .arg(format!("umask {umask}; exec \"$0\" \"$@\""))
        .arg(program.get_program())
        .args(arguments);
    shell.output().unwrap()
}

#[test]
fn files_are_made_for_their_owner_alone_whatever_the_umask() {
    for umask in ["000", "022", "777"] {
        let folder = Folder::new();
        let arguments = [
            "keys",
            "create",
            "--store",
            &folder.store,
            "--name",
            "a",
            "--scope",
            "read:*",
        ];
        let made = with_umask(umask, &arguments);
        assert!(made.status.success(), "{umask}: {}", stderr(&made));
        assert!(!stderr(&made).contains("chmod"), "{}", stderr(&made));
        let server = Server::start(&folder, &[]);
        for suffix in ["", "-wal", "-shm"] {
            assert_eq!(
                mode(&beside(&folder, suffix)),
                0o600,
                "umask {umask}, tide.db{suffix}"
            );
        }
        let copy = folder.path("copy.db").display().to_string();
        let copied = with_umask(umask, &["backup", "--store", &folder.store, &copy]);
        assert!(copied.status.success(), "{umask}: {}", stderr(&copied));
        assert_eq!(mode(Path::new(&copy)), 0o600, "umask {umask}, the backup");
        drop(server);
    }
}

#[test]
fn files_that_others_may_read_are_reported_and_left_so() {
    let folder = Folder::new();
    folder.key("a", &["read:*"]);
    std::fs::set_permissions(database(&folder), std::fs::Permissions::from_mode(0o644)).unwrap();
    let server = Server::start(&folder, &[]);
    assert!(
        server.log().contains("0644") && server.log().contains("chmod 0600"),
        "{}",
        server.log()
    );
    assert_eq!(mode(&database(&folder)), 0o644);
}

#[test]
fn commands_that_only_read_make_nothing() {
    let folder = Folder::new();
    let copy = folder.path("copy.db").display().to_string();
    let commands: [&[&str]; 4] = [
        &["keys", "list", "--store", &folder.store],
        &["keys", "revoke", "--store", &folder.store, "--name", "a"],
        &["keys", "open", "--store", &folder.store],
        &["backup", "--store", &folder.store, &copy],
    ];
    for arguments in commands {
        let output = run(arguments);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains("no such file"),
            "{arguments:?}: {}",
            stderr(&output)
        );
        let left: Vec<_> = std::fs::read_dir(folder.dir.path()).unwrap().collect();
        assert!(left.is_empty(), "{arguments:?} left {left:?}");
    }
    // Nor do they bring up to date what an older program has left, or what is not a database of ours.
    std::fs::write(database(&folder), "").unwrap();
    for arguments in [commands[0], commands[3]] {
        let output = run(arguments);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert_eq!(std::fs::metadata(database(&folder)).unwrap().len(), 0);
    }
}

#[test]
fn a_copy_of_the_file_alone_is_whole_after_a_stop_and_after_a_command() {
    let folder = Folder::new();
    let mut server = serving(&folder);
    put(&server, 2, 200);
    server.signal(Signal::SIGTERM);
    let (status, _) = server.wait(SOON);
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert_eq!(documents_in(&database(&folder)), [r#"{"n":2}"#]);

    folder.key("one", &["read:*"]);
    let copied = Folder::new();
    std::fs::copy(database(&folder), database(&copied)).unwrap();
    let listed = run(&["keys", "list", "--store", &copied.store]);
    assert!(stdout(&listed).contains("one"), "{}", stderr(&listed));
}

/// What is done to the files, and what undoes it, if anything does.
struct Loss {
    name: &'static str,
    inflict: fn(&Folder),
    undo: Option<fn(&Folder)>,
}

fn rename(folder: &Folder, from: &str, to: &str) {
    std::fs::rename(folder.path(from), folder.path(to)).unwrap();
}

fn cut(folder: &Folder, bytes: u64) {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(database(folder))
        .unwrap();
    file.set_len(bytes).unwrap();
}

/// Writes over the file, whose name and inode stay: more bytes than it has.
fn overwrite(folder: &Folder, make: fn(&Path)) {
    let other = tempfile::tempdir().unwrap();
    let larger = other.path().join("tide.db");
    make(&larger);
    let bytes = |file: &Path| std::fs::metadata(file).unwrap().len();
    assert!(bytes(&larger) >= bytes(&database(folder)));
    let inode = |file: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(file).unwrap());
    let before = inode(&database(folder));
    std::fs::copy(&larger, database(folder)).unwrap();
    assert_eq!(inode(&database(folder)), before);
}

/// Makes a file large by writes of the program's own, as another store has them.
pub(super) fn another_store(file: &Path) {
    let folder = Folder {
        dir: tempfile::tempdir().unwrap(),
        store: format!("sqlite:{}", file.display()),
    };
    let mut server = serving(&folder);
    for n in 0..20 {
        let large = format!(r#"{{"data":{{"x":"{}"}}}}"#, "x".repeat(40_000));
        let made = server.send("PUT", &format!("{DOCUMENT}{n}"), None, Some(&large));
        assert_eq!(made.status, 201);
    }
    server.signal(Signal::SIGTERM);
    server.wait(SOON);
}

const LOSSES: [Loss; 12] = [
    Loss {
        name: "given a second name",
        inflict: |folder| std::fs::hard_link(database(folder), folder.path("second.db")).unwrap(),
        undo: Some(|folder| std::fs::remove_file(folder.path("second.db")).unwrap()),
    },
    Loss {
        name: "moved away and back",
        inflict: |folder| rename(folder, "tide.db", "elsewhere.db"),
        undo: Some(|folder| rename(folder, "elsewhere.db", "tide.db")),
    },
    Loss {
        name: "removed",
        inflict: |folder| std::fs::remove_file(database(folder)).unwrap(),
        undo: None,
    },
    Loss {
        name: "replaced by a copy",
        inflict: |folder| {
            std::fs::copy(database(folder), folder.path("copy.db")).unwrap();
            rename(folder, "copy.db", "tide.db");
        },
        undo: None,
    },
    Loss {
        name: "cut to nothing",
        inflict: |folder| cut(folder, 0),
        undo: None,
    },
    Loss {
        name: "cut in half",
        inflict: |folder| {
            let bytes = std::fs::metadata(database(folder)).unwrap().len();
            cut(folder, bytes / 2);
        },
        undo: None,
    },
    Loss {
        name: "its log removed",
        inflict: |folder| std::fs::remove_file(beside(folder, "-wal")).unwrap(),
        undo: None,
    },
    Loss {
        name: "removed with its log and index",
        inflict: |folder| {
            for suffix in ["", "-wal", "-shm"] {
                std::fs::remove_file(beside(folder, suffix)).unwrap();
            }
        },
        undo: None,
    },
    Loss {
        name: "overwritten by a larger text",
        inflict: |folder| {
            overwrite(folder, |file| {
                std::fs::write(file, "text ".repeat(400_000)).unwrap()
            })
        },
        undo: None,
    },
    Loss {
        name: "overwritten by another program's database",
        inflict: |folder| {
            overwrite(folder, |file| {
                let other = rusqlite::Connection::open(file).unwrap();
                let sql =
                    "PRAGMA journal_mode = WAL; CREATE TABLE a (b); INSERT INTO a VALUES (zeroblob(2000000))";
                other.execute_batch(sql).unwrap();
            });
        },
        undo: None,
    },
    Loss {
        name: "overwritten by another store",
        inflict: |folder| overwrite(folder, another_store),
        undo: None,
    },
    Loss {
        name: "its index moved away and back",
        inflict: |folder| rename(folder, "tide.db-shm", "elsewhere"),
        undo: Some(|folder| rename(folder, "elsewhere", "tide.db-shm")),
    },
];

#[test]
fn a_file_that_is_lost_under_the_server_stops_writes_and_readiness() {
    for Loss { name, inflict, undo } in LOSSES {
        let folder = Folder::new();
        let server = serving(&folder);
        assert_eq!(server.ops_get("/readyz").status, 200);
        // Everything into the file, so that cutting it cuts something.
        let connection = rusqlite::Connection::open(database(&folder)).unwrap();
        connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .unwrap();
        drop(connection);
        put(&server, 2, 200);
        inflict(&folder);
        let refused = server.send("PUT", DOCUMENT, None, Some(r#"{"data":{"n":3}}"#));
        assert_eq!(
            (refused.status, refused.problem().as_str()),
            (503, "store-unavailable"),
            "{name}"
        );
        assert!(refused.header("retry-after").is_some(), "{name}");
        // A collection that was never looked up is read from the file first.
        let unknown = DOCUMENT.replace("/c/", "/unknown/");
        let refused = server.send("PUT", &unknown, None, Some(r#"{"data":{}}"#));
        assert!([404, 503].contains(&refused.status), "{name}: {refused:?}");
        wait_until(name, SOON, || server.ops_get("/readyz").status == 503);
        assert_eq!(server.ops_get("/livez").status, 200, "{name}");
        wait_until(name, SOON, || server.log().contains("every write is refused"));
        if let Some(undo) = undo {
            undo(&folder);
            wait_until(name, SOON, || server.ops_get("/readyz").status == 200);
            put(&server, 4, 200);
        }
    }
}

#[test]
fn a_folder_that_is_moved_away_stops_writes_and_readiness() {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("data");
    std::fs::create_dir(&inner).unwrap();
    let folder = Folder {
        store: format!("sqlite:{}", inner.join("tide.db").display()),
        dir: outer,
    };
    let server = serving(&folder);
    std::fs::rename(&inner, folder.path("moved")).unwrap();
    put(&server, 2, 503);
    wait_until("not ready", SOON, || server.ops_get("/readyz").status == 503);
}

/// A file system of its own, unmounted when dropped.
pub(super) struct Mount(pub(super) tempfile::TempDir);

impl Mount {
    /// `None`, and a line that the runner counts, where that is not allowed.
    pub(super) fn new(test: &str) -> Option<Self> {
        let mount = Self(tempfile::tempdir().unwrap());
        match mount.command("mount", &["-t", "tmpfs", "-o", "size=64m", "tmpfs"]) {
            true => Some(mount),
            false => {
                println!("tidepool-skip: edge store_files::{test}: no file system can be mounted here");
                None
            }
        }
    }

    pub(super) fn command(&self, program: &str, arguments: &[&str]) -> bool {
        let mut command = std::process::Command::new(program);
        let output = command.args(arguments).arg(self.0.path()).output();
        output.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.command("umount", &["-l"]);
    }
}

#[test]
fn a_file_system_that_is_read_only_is_refused_at_the_start_with_the_reason() {
    let Some(mount) = Mount::new("a_file_system_that_is_read_only_is_refused_at_the_start_with_the_reason")
    else {
        return;
    };
    let folder = Folder {
        store: format!("sqlite:{}", mount.0.path().join("tide.db").display()),
        dir: tempfile::tempdir().unwrap(),
    };
    let mut server = serving(&folder);
    let read_only = ["-o", "remount,ro"];
    // The kernel keeps it writable as long as a server has its files open for writing.
    assert!(!mount.command("mount", &read_only));
    put(&server, 2, 200);
    server.signal(Signal::SIGTERM);
    server.wait(SOON);
    assert!(mount.command("mount", &read_only));
    let mut server = Server::spawn(&folder, "127.0.0.1:0", &[]);
    let (status, _) = server.wait(SOON);
    assert_eq!(status.code(), Some(1), "{}", server.log());
    assert!(server.log().to_lowercase().contains("read"), "{}", server.log());
    assert!(mount.command("mount", &["-o", "remount,rw"]));
    let server = Server::start(&folder, &[]);
    assert_eq!(server.send("GET", DOCUMENT, None, None).json()["data"]["n"], 2);
}

#[test]
fn a_disk_without_room_is_not_ready_until_there_is_room() {
    let folder = Folder::new();
    // As on a full disk: no file grows beyond 512 KiB.
    let mut shell = with_file_size_limit(program(&[]).get_program(), 512 * 1024);
    shell
        .args(["serve", "--store", &folder.store, "--listen", "127.0.0.1:0"])
        .args(["--ops-listen", "127.0.0.1:0", "--log-format", "json"]);
    let mut server = Server::spawn_command(&mut shell);
    server.ops = server.wait_for_address("operations listening");
    server.public = server.wait_for_address("listening");
    assert_eq!(
        server.send("PUT", "/v1/collections/c", None, Some("{}")).status,
        201
    );
    let large = format!(r#"{{"data":{{"x":"{}"}}}}"#, "x".repeat(40_000));
    let refused = (0..40).find_map(|n| {
        let path = format!("/v1/collections/c/documents/d{n}");
        let answer = server.send("PUT", &path, None, Some(&large));
        (answer.status != 201).then_some(answer)
    });
    let refused = refused.expect("a file of 512 KiB can't hold 4 MB");
    assert_eq!(refused.status, 503, "{refused:?}");
    wait_until("not ready", SOON, || server.ops_get("/readyz").status == 503);
    assert_eq!(
        server
            .send("GET", "/v1/collections/c/documents/d0", None, None)
            .status,
        200
    );
}

#[test]
fn commands_that_reach_the_limit_of_file_sizes_say_so_and_leave_nothing() {
    let folder = Folder::new();
    another_store(&database(&folder));
    let copy = folder.path("copy.db").display().to_string();
    let new = format!("sqlite:{}", folder.path("new.db").display());
    let commands: [&[&str]; 2] = [
        &["backup", "--store", &folder.store, &copy],
        &[
            "keys", "create", "--store", &new, "--name", "a", "--scope", "read:*",
        ],
    ];
    for arguments in commands {
        let mut command = with_file_size_limit(program(&[]).get_program(), 16 * 1024);
        let output = command.args(arguments).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.starts_with("tidepool-api: "), "{arguments:?}: {said}");
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
    assert_eq!(names_in(&folder, "copy.db"), [""; 0]);
}

/// What there is of this name or made from it.
pub(super) fn names_in(folder: &Folder, part: &str) -> Vec<String> {
    std::fs::read_dir(folder.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(part))
        .collect()
}

#[test]
fn a_backup_is_whole_while_a_server_writes() {
    let folder = Folder::new();
    let server = serving(&folder);
    let copy = folder.path("copy.db").display().to_string();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let body = format!(r#"{{"data":{{"n":{n},"x":"{}"}}}}"#, "x".repeat(5_000));
                let path = format!("/v1/collections/c/documents/d{n}");
                assert_eq!(server.send("PUT", &path, None, Some(&body)).status, 201);
                n += 1;
            }
        });
        wait_until("some documents", SOON, || {
            server
                .send("GET", "/v1/collections/c/documents/d20", None, None)
                .status
                == 200
        });
        let output = run(&["backup", "--store", &folder.store, &copy]);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        output
    });
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("whole and checked"),
        "{}",
        stderr(&output)
    );
    assert!(documents_in(Path::new(&copy)).len() > 20);
    for suffix in ["-wal", "-shm", "-journal"] {
        assert!(!Path::new(&format!("{copy}{suffix}")).exists(), "{suffix}");
    }
    let left: Vec<_> = std::fs::read_dir(folder.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("partial"))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    // A server on the copy serves it.
    let restored = Folder::new();
    std::fs::copy(&copy, database(&restored)).unwrap();
    let server = Server::start(&restored, &[]);
    assert_eq!(server.send("GET", DOCUMENT, None, None).json()["data"]["n"], 1);
}

#[test]
fn a_backup_replaces_nothing_unless_it_is_asked_to() {
    let folder = Folder::new();
    folder.key("one", &["read:*"]);
    let copy = folder.path("copy.db").display().to_string();
    std::fs::write(&copy, "something").unwrap();
    let refused = run(&["backup", "--store", &folder.store, &copy]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("--force"), "{}", stderr(&refused));
    assert_eq!(std::fs::read(&copy).unwrap(), b"something");
    let forced = run(&["backup", "--force", "--store", &folder.store, &copy]);
    assert!(forced.status.success(), "{}", stderr(&forced));
    let listed = run(&["keys", "list", "--store", &format!("sqlite:{copy}")]);
    assert!(stdout(&listed).contains("one"), "{}", stderr(&listed));

    let itself = database(&folder).display().to_string();
    let refused = run(&["backup", "--force", "--store", &folder.store, &itself]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("the database itself"),
        "{}",
        stderr(&refused)
    );
    let elsewhere = run(&["backup", "--store", "cassandra://127.0.0.1/tide", &copy]);
    assert_eq!(elsewhere.status.code(), Some(64));
    assert!(
        stderr(&elsewhere).contains("nodetool snapshot"),
        "{}",
        stderr(&elsewhere)
    );
}
