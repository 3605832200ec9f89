//! Clocks that are far off. The program gets its own by a preloaded library: the machine's stays as it is.

#![expect(clippy::disallowed_methods, reason = "tests")]

use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use super::harness::{Connection, Folder, SOON, Server, program, run, stderr, stdout, wait_until};

/// Stands in for the C library's: the clock of the wall is as far from the true one as a file says, in seconds.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long long off(void) {
    long long seconds = 0;
    FILE *file = fopen(getenv("OFF_FILE"), "r");
    if (file) {
        if (fscanf(file, "%lld", &seconds) != 1) seconds = 0;
        fclose(file);
    }
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += off();
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}
"#;

/// 1960-01-01T00:00:00Z.
const YEAR_1960_SECS: i64 = -315_619_200;
/// 9999-12-31T23:50:00Z.
const END_OF_9999_SECS: i64 = 253_402_300_200;
/// 10000-01-01T00:10:00Z.
const YEAR_10000_SECS: i64 = 253_402_301_400;

struct ClockOf {
    library: PathBuf,
    off: PathBuf,
}

impl ClockOf {
    fn new(folder: &Folder) -> Self {
        let (source, library) = (folder.path("clock.c"), folder.path("clock.so"));
        std::fs::write(&source, LIBRARY).unwrap();
        let mut compile = Command::new("cc");
        compile
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(&source);
        let compiled = compile
            .output()
            .expect("a C compiler, which the embedded SQLite needs, too");
        assert!(compiled.status.success(), "{}", stderr(&compiled));
        let clock = Self {
            library,
            off: folder.path("off"),
        };
        clock.set(None);
        clock
    }

    /// To so many seconds after the epoch, or to the true time.
    fn set(&self, secs: Option<i64>) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let off = secs.map_or(0, |secs| secs - i64::try_from(now.as_secs()).unwrap());
        // In one step: it is read all the time.
        let fresh = self.off.with_extension("fresh");
        std::fs::write(&fresh, off.to_string()).unwrap();
        std::fs::rename(fresh, &self.off).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(arguments);
        command
            .env("LD_PRELOAD", &self.library)
            .env("OFF_FILE", &self.off);
        command
    }

    fn serve(&self, folder: &Folder) -> Server {
        let mut command = self.command(&["serve", "--store", &folder.store, "--log-format", "json"]);
        command.args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]);
        let mut server = Server::spawn_command(&mut command);
        server.ops = server.wait_for_address("operations listening");
        server.public = server.wait_for_address("listening");
        server
    }
}

#[test]
fn a_clock_that_http_has_no_dates_for_is_reported_until_it_is_set() {
    let folder = Folder::new();
    let clock = ClockOf::new(&folder);
    for secs in [YEAR_1960_SECS, YEAR_10000_SECS] {
        clock.set(Some(secs));
        let server = clock.serve(&folder);
        for (address, path) in [(server.public, "/v1/collections"), (server.ops, "/livez")] {
            let answer = Connection::open(address).request("GET", path, None, None);
            assert_eq!(answer.status, 500, "{path}");
            assert!(
                answer.text().contains("clock of this machine"),
                "{}",
                answer.text()
            );
            assert_eq!(answer.header("date"), None, "there is none");
        }
        wait_until("it is reported", SOON, || {
            server
                .log()
                .contains("clock of this machine is before 1970 or after 9999")
        });
        assert!(!server.log().contains("panicked"), "{}", server.log());
        clock.set(None);
        wait_until("it serves again", SOON, || {
            server.ops_get("/readyz").status == 200
        });
        assert_eq!(
            server.send("PUT", "/v1/collections/c", None, Some("{}")).status / 100,
            2
        );
    }
}

#[test]
fn the_last_minutes_of_the_year_9999_are_times_like_others() {
    let folder = Folder::new();
    let clock = ClockOf::new(&folder);
    clock.set(Some(END_OF_9999_SECS));
    let server = clock.serve(&folder);
    assert_eq!(
        server.send("PUT", "/v1/collections/c", None, Some("{}")).status,
        201
    );
    let path = "/v1/collections/c/documents/a";
    let put = server.send("PUT", path, None, Some("{\"data\":{}}"));
    assert_eq!(put.status, 201, "{}", put.text());
    let updated_at = put.json()["updated_at"].as_str().unwrap().to_owned();
    assert!(updated_at.starts_with("9999-12-31T23:5"), "{updated_at}");
    assert!(put.header("date").unwrap().contains("31 Dec 9999 23:5"));
    let made = server.send("POST", "/v1/collections/c/documents", None, Some("{\"data\":{}}"));
    assert_eq!(made.status, 201, "{}", made.text());
}

#[test]
fn a_key_may_expire_in_the_last_second_of_the_year_9999() {
    let folder = Folder::new();
    let create = |name: &str, expires_at: &str| {
        run(&[
            "keys",
            "create",
            "--store",
            &folder.store,
            "--name",
            name,
            "--scope",
            "read:*",
            "--expires-at",
            expires_at,
        ])
    };
    let made = create("last", "9999-12-31T23:59:59Z");
    assert!(made.status.success(), "{}", stderr(&made));
    let listed = stdout(&run(&["keys", "list", "--store", &folder.store]));
    assert!(listed.contains("9999-12-31T23:59:59.000Z"), "{listed}");
    let refused = create("later", "9999-12-31T23:59:59-01:00");
    assert_eq!(refused.status.code(), Some(64));
    let key = stdout(&made);
    let server = Server::start(&folder, &[]);
    assert_eq!(
        server
            .send("GET", "/v1/collections", Some(key.trim_end()), None)
            .status,
        200
    );
}
