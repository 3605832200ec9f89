//! Ctrl-C at any time: everything that was started is gone afterwards. The real programs, told apart from others on this
//! machine by the run's own directory in their command lines.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod left_behind;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use left_behind::left_behind;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

/// Debug builds on a busy machine.
const DEADLINE: Duration = Duration::from_secs(90);

struct Demo {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Demo {
    fn start(dir: &Path, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidepool-demo"))
            .args(["demo", "--load", "flat", "--work-dir"])
            .arg(dir)
            .args(args)
            .env_remove("DEMO_SECONDS")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads on until a line holds `needle`.
    async fn says(&mut self, needle: &str) {
        self.says_what(needle, |line| line.contains(needle)).await;
    }

    /// Reads on until a line says that the load has run for five seconds, or, on a machine that was busy just then, more.
    async fn runs_for_5_secs(&mut self) {
        let clock = |line: &str| {
            let time = line.split_whitespace().next()?;
            let (minutes, seconds) = time.split_once(':')?;
            Some(minutes.parse::<u32>().ok()? * 60 + seconds.parse::<u32>().ok()?)
        };
        let late = |line: &str| clock(line).is_some_and(|secs| secs >= 5);
        self.says_what("a time of 00:05 or more", late).await;
    }

    async fn says_what(&mut self, what: &str, is_it: impl Fn(&str) -> bool) {
        let mut said = Vec::new();
        let found = timeout(DEADLINE, async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if is_it(&line) {
                    return true;
                }
                said.push(line);
            }
            false
        });
        let found = found.await;
        assert_eq!(
            found,
            Ok(true),
            "it did not say {what:?} (false: it ended), but:\n{}",
            said.join("\n")
        );
    }

    fn interrupt(&self) {
        self.signal(Signal::SIGINT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Waits for the end; the exit status and the last line of standard output.
    async fn ends(mut self) -> (Option<i32>, String) {
        let drained = tokio::spawn(async move { while let Ok(Some(_)) = self.lines.next_line().await {} });
        let output = timeout(DEADLINE, self.child.wait_with_output())
            .await
            .expect("it ends in time")
            .unwrap();
        drained.await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (
            output.status.code(),
            text.lines().last().unwrap_or_default().to_owned(),
        )
    }
}

#[tokio::test]
async fn ctrl_c_under_load_prints_the_result_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(dir.path(), &[]);
    demo.says("Dashboard").await;
    demo.runs_for_5_secs().await;
    assert!(
        left_behind(dir.path()).len() >= 5,
        "demo, local cloud, its guard, autoscaler, two members"
    );
    demo.interrupt();
    let (code, last) = demo.ends().await;
    assert_eq!(left_behind(dir.path()), Vec::<String>::new());
    assert_eq!(code, Some(0), "a run without an end is ended by Ctrl-C: {last}");
    let summary: serde_json::Value = serde_json::from_str(&last).unwrap();
    assert_eq!(summary["failed"], 0, "{last}");
    assert_eq!(summary["scale_outs"], 0, "{last}");
    assert!(summary["requests"].as_u64().unwrap() > 100, "{last}");
}

#[tokio::test]
async fn ctrl_c_while_it_starts_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(dir.path(), &["--seconds", "30"]);
    demo.says("Starting").await;
    demo.interrupt();
    let (code, _) = demo.ends().await;
    assert_eq!(left_behind(dir.path()), Vec::<String>::new());
    assert_eq!(code, Some(1));
}

#[tokio::test]
async fn a_second_ctrl_c_is_quick_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(dir.path(), &["--seconds", "30"]);
    demo.runs_for_5_secs().await;
    demo.interrupt();
    demo.says("Stopping").await;
    demo.interrupt();
    let (code, _) = demo.ends().await;
    assert_eq!(left_behind(dir.path()), Vec::<String>::new());
    assert_eq!(code, Some(1), "it was interrupted before its time");
}

#[tokio::test]
async fn kill_9_at_any_moment_leaves_nothing_behind() {
    for moment in ["Logs", "Starting", "Dashboard", "under load"] {
        let dir = tempfile::tempdir().unwrap();
        let mut demo = Demo::start(dir.path(), &[]);
        if moment == "under load" {
            demo.runs_for_5_secs().await;
        } else {
            demo.says(moment).await;
        }
        demo.signal(Signal::SIGKILL);
        all_gone(dir.path(), moment).await;
    }
}

#[tokio::test]
async fn a_terminal_that_is_closed_ends_everything_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let command = format!(
        "{} demo --load flat --work-dir {}",
        env!("CARGO_BIN_EXE_tidepool-demo"),
        dir.path().display()
    );
    // `script` gives it a terminal of its own, which the kernel closes with it.
    let mut terminal = Command::new("script")
        .args(["--quiet", "--command", &command, "/dev/null"])
        .env_remove("DEMO_SECONDS")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while left_behind(dir.path()).len() < 7 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{:?}",
            left_behind(dir.path())
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    terminal.kill().await.unwrap();
    all_gone(dir.path(), "the terminal was closed").await;
}

/// Waits until no process of the run is left.
async fn all_gone(dir: &Path, what: &str) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !left_behind(dir).is_empty() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{what}: {:?}",
            left_behind(dir)
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_work_dir_may_be_used_again() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut demo = Demo::start(dir.path(), &[]);
        demo.runs_for_5_secs().await;
        demo.interrupt();
        let (code, last) = demo.ends().await;
        assert_eq!(code, Some(0), "{last}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_reported_with_the_log_of_who_needed_it() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut demo = Demo::start(dir.path(), &["--seconds", "30", "--dashboard", &address]);
    demo.says("error: autoscaler ended by itself").await;
    demo.says(&address).await;
    let (code, _) = demo.ends().await;
    assert_eq!(left_behind(dir.path()), Vec::<String>::new());
    assert_eq!(code, Some(1));
}
