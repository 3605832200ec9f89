//! Standard error and standard output that can't be written: the demo loses lines, and leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "tests")]

mod left_behind;

use std::process::Stdio;
use std::time::{Duration, Instant};

use left_behind::left_behind;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tidepool_logging::testing::{Started, Stream, Unwritable, fails_with, nowhere, prints_for_whoever_reads};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidepool-demo");
/// Debug builds on a busy machine.
const DEADLINE: Duration = Duration::from_secs(90);

#[test]
fn ctrl_c_leaves_nothing_behind_whatever_becomes_of_standard_error() {
    for kind in Unwritable::ALL {
        let dir = tempfile::tempdir().unwrap();
        let (mut command, _held) = kind.command(PROGRAM, Stream::Stderr);
        command
            .args(["demo", "--load", "flat", "--work-dir"])
            .arg(dir.path())
            .env_remove("DEMO_SECONDS")
            .stdin(Stdio::null())
            .stdout(nowhere());
        let mut demo = Started::spawn(&mut command);
        let deadline = Instant::now() + DEADLINE;
        // Demo, local cloud, its guard, the autoscaler and two members.
        while left_behind(dir.path()).len() < 5 {
            assert_eq!(demo.child().try_wait().unwrap(), None, "{kind:?}: it ended");
            assert!(
                Instant::now() < deadline,
                "{kind:?}: {:?}",
                left_behind(dir.path())
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let pid = Pid::from_raw(demo.child().id().try_into().unwrap());
        kill(pid, Signal::SIGINT).unwrap();
        let status = demo.ended();
        assert!(matches!(status.code(), Some(0 | 1)), "{kind:?}: {status}");
        assert_eq!(left_behind(dir.path()), Vec::<String>::new(), "{kind:?}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_not_a_failure_and_a_full_disk_is_one() {
    for arguments in [&["completions", "bash"][..], &["--help"], &["--version"]] {
        prints_for_whoever_reads(PROGRAM, |command| {
            command.args(arguments);
        });
    }
}

#[test]
fn a_failure_exits_with_its_code_whatever_becomes_of_standard_error() {
    fails_with(64, PROGRAM, |command| {
        command.args(["demo", "--seconds", "30", "--load", "tide"]);
        command.env_remove("DEMO_LOAD");
    });
}
