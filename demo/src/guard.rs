//! The guard: a second process that waits for the demo's end, however it comes, and then ends what the demo started.
//!
//! Its standard input is a pipe that only the demo holds; the kernel closes it even after `kill -9`. A child that is just being
//! started holds it too until it runs its own program, so none escapes. At an orderly end the demo says so by a byte.
//!
//! What the demo started carries a mark in its environment, and passes it on. Only the processes without a marked parent are
//! signalled: the local cloud ends its droplets itself, and a guard of its own does that if it has to be killed.

use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use crate::mark::Mark;
use crate::services::{Services, ServicesError};

/// The demo's word that it ends in order.
const ORDERLY: &[u8] = b".";
/// How long the guard may take at an orderly end, when there is nothing left to do.
const RELEASED_WITHIN: Duration = Duration::from_secs(5);
/// What a process without a marked parent is sent, and after how long. The local cloud cuts its droplets' power at the second
/// SIGTERM, and ends within its 5 s for calls under way.
const SIGNALS: [(Duration, Signal); 3] = [
    (Duration::ZERO, Signal::SIGTERM),
    (Duration::from_secs(3), Signal::SIGTERM),
    (Duration::from_secs(15), Signal::SIGKILL),
];
/// A process that SIGKILL does not end within 45 s waits for a disk, and nothing else can be done.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);
/// Between two looks at what is left.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The guard can't be started, or could not end everything.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The system refused.
    #[error("the guard process can't be started")]
    Start(#[source] std::io::Error),
    /// Processes that don't end.
    #[error("these processes did not end: {0:?}")]
    StillThere(Vec<i32>),
    /// The servers' scripts failed.
    #[error(transparent)]
    Services(#[from] ServicesError),
}

/// What a guard watches over.
#[derive(Debug)]
pub struct Watched {
    /// The run's mark.
    pub mark: Mark,
    /// Its directory.
    pub work_dir: PathBuf,
    /// The services' scripts, if it starts real servers.
    pub services: Option<PathBuf>,
}

/// A running guard.
#[derive(Debug)]
pub struct Guard(Child);

impl Guard {
    /// Starts it: this same program, with the hidden command `guard`. To be called before anything else is started.
    pub fn start(watched: &Watched, logs: &Path) -> Result<Self, GuardError> {
        let start = || {
            let log = std::fs::File::create(logs.join("guard.log"))?;
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["guard", "--mark", watched.mark.text(), "--work-dir"]);
            command.arg(&watched.work_dir);
            if let Some(services) = &watched.services {
                command.arg("--services").arg(services);
            }
            // A group of its own: Ctrl-C in the terminal must not end it before the demo.
            command.process_group(0);
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
        };
        start().map(Self).map_err(GuardError::Start)
    }

    /// Lets the guard go, with nothing left to end, and waits until it is gone. What it could not do is returned as text: it
    /// comes on top of whatever ended the run.
    pub async fn release(mut self) -> Option<String> {
        if let Some(mut input) = self.0.stdin.take()
            && let Err(error) = input.write_all(ORDERLY).await
        {
            return Some(format!("the guard process was gone already: {error}"));
        }
        match tokio::time::timeout(RELEASED_WITHIN, self.0.wait()).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(format!("the guard process can't be waited for: {error}")),
            Err(_) => Some("the guard process is still busy".to_owned()),
        }
    }
}

/// The guard's own life: waits for the end of its input, then ends what is left, unless the end was an orderly one.
pub async fn watch(watched: &Watched) -> Result<(), GuardError> {
    if tokio::task::spawn_blocking(ended_orderly).await.unwrap_or(false) {
        return Ok(());
    }
    let ended = end_marked(&watched.mark).await;
    if let Some(scripts) = &watched.services {
        let logs = watched.work_dir.join("logs");
        let services = Services::new(scripts, watched.work_dir.join("services"), &logs)?;
        services.down().await?;
    }
    ended
}

/// Waits for the end of the input; whether the demo has said a word before.
fn ended_orderly() -> bool {
    let mut word = [0_u8; 16];
    let mut said = false;
    let mut input = std::io::stdin().lock();
    loop {
        match input.read(&mut word) {
            Ok(0) => return said,
            Ok(_) => said = true,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return said,
        }
    }
}

/// Ends all processes of the mark.
async fn end_marked(mark: &Mark) -> Result<(), GuardError> {
    let began = Instant::now();
    let mut sent: HashMap<i32, usize> = HashMap::new();
    loop {
        let left = marked(mark);
        if left.is_empty() {
            return Ok(());
        }
        if began.elapsed() > GIVE_UP_AFTER {
            return Err(GuardError::StillThere(
                left.iter().map(|process| process.pid).collect(),
            ));
        }
        for pid in roots(&left) {
            let count = sent.entry(pid).or_default();
            if let Some((after, signal)) = SIGNALS.get(*count)
                && began.elapsed() >= *after
            {
                *count += 1;
                // It may have ended since; the next look says.
                let _ended = kill(Pid::from_raw(pid), *signal);
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A living process of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    /// A program's own guard: it ends by itself when its work is done.
    is_guard: bool,
}

/// Processes whose parent is not of the run.
fn roots(all: &[Process]) -> Vec<i32> {
    let pids: HashSet<i32> = all.iter().map(|process| process.pid).collect();
    let roots = all
        .iter()
        .filter(|process| !pids.contains(&process.parent) && !process.is_guard);
    roots.map(|process| process.pid).collect()
}

fn marked(mark: &Mark) -> Vec<Process> {
    let (name, value) = mark.variable();
    let variable = format!("{name}={value}");
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let found = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let pid: i32 = path.file_name()?.to_str()?.parse().ok()?;
        let environment = std::fs::read(path.join("environ")).ok()?;
        let is_ours = environment
            .split(|byte| *byte == 0)
            .any(|one| one == variable.as_bytes());
        if !is_ours {
            return None;
        }
        let parent = living_parent(&std::fs::read_to_string(path.join("stat")).ok()?)?;
        let command = std::fs::read(path.join("cmdline")).ok()?;
        let is_guard = command.split(|byte| *byte == 0).nth(1) == Some(b"guard");
        Some(Process {
            pid,
            parent,
            is_guard,
        })
    });
    found.collect()
}

/// The parent in a line of `/proc/<pid>/stat`; `None` for a process that has ended and waits to be reaped.
fn living_parent(stat: &str) -> Option<i32> {
    // The command's name is in parentheses and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_processes_without_a_parent_of_the_run_are_signalled() {
        let process = |pid, parent| Process {
            pid,
            parent,
            is_guard: false,
        };
        let guard = Process {
            is_guard: true,
            ..process(40, 1)
        };
        let all = [
            process(10, 1),
            process(11, 10),
            process(12, 11),
            process(20, 1),
            guard,
        ];
        assert_eq!(roots(&all), [10, 20]);
    }

    #[test]
    fn a_zombie_is_gone() {
        assert_eq!(living_parent("7 (a) b) S 3 7 7 0"), Some(3));
        assert_eq!(living_parent("7 (a) Z 3 7 7 0"), None);
        assert_eq!(living_parent("nothing"), None);
    }
}
