//! The programs that the demo starts: found beside its own, each with a log file, stopped in order and by pid.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// Lines of a log that are shown when a program ended too soon.
const TAIL_LINES: usize = 15;
/// How much of a log's end is read for it: 15 long lines.
const TAIL_BYTES: u64 = 16 * 1024;
/// How long a program may take after the second request; the local cloud then cuts the power of its droplets.
const ASKED_AGAIN: Duration = Duration::from_secs(5);
/// How long the kernel may take to end a killed process.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// A program that can't be started, or ended when it should not.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The executable isn't there.
    #[error("{program} is not beside {}: build it with `cargo build --release -p {program}`, or start this with `make demo`", .beside.display())]
    Missing {
        /// Its name.
        program: String,
        /// Where it was looked for.
        beside: PathBuf,
    },
    /// Our own place is unknown.
    #[error("the demo can't tell where its own executable is")]
    OwnPlace {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The log can't be made, for example because the disk is full.
    #[error("the log {} can't be written", .log.display())]
    Log {
        /// Its path.
        log: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The system refused.
    #[error("{program} can't be started")]
    Start {
        /// Its name.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It ended by itself.
    #[error("{program} ended by itself ({status}); the end of {}:\n{tail}", .log.display())]
    Died {
        /// Its name.
        program: String,
        /// How.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The last lines.
        tail: String,
    },
}

/// The path of a program that was built together with this one.
pub fn sibling(program: &str) -> Result<PathBuf, ChildError> {
    let path = sibling_dir()?.join(program);
    if path.is_file() {
        Ok(path)
    } else {
        Err(ChildError::Missing {
            program: program.to_owned(),
            beside: sibling_dir()?,
        })
    }
}

/// The directory of this executable. A test's own executable lies one deeper, in `deps`.
pub fn sibling_dir() -> Result<PathBuf, ChildError> {
    let own = std::env::current_exe().map_err(|source| ChildError::OwnPlace { source })?;
    let dir = own.parent().unwrap_or(Path::new("."));
    let dir = if dir.ends_with("deps") {
        dir.parent().unwrap_or(dir)
    } else {
        dir
    };
    Ok(dir.to_path_buf())
}

/// What to start.
#[derive(Debug)]
pub struct Program<'a> {
    /// Its name, for messages and the log file.
    pub name: &'a str,
    /// Its path.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables that it gets beside ours.
    pub env: Vec<(String, String)>,
    /// Where its log goes, as `<name>.log`.
    pub logs: &'a Path,
}

/// A program that runs.
#[derive(Debug)]
pub struct Running {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Running {
    /// Starts a program in a process group of its own, so that Ctrl-C in the terminal reaches only the demo, which then
    /// stops the others in order.
    pub fn start(program: Program<'_>) -> Result<Self, ChildError> {
        let log = program.logs.join(format!("{}.log", program.name));
        let open = |source| ChildError::Log {
            log: log.clone(),
            source,
        };
        let out = File::create(&log).map_err(open)?;
        let err = out.try_clone().map_err(open)?;
        let child = Command::new(&program.path)
            .args(&program.args)
            .envs(program.env)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| ChildError::Start {
                program: program.name.to_owned(),
                source,
            })?;
        Ok(Self {
            name: program.name.to_owned(),
            log,
            child,
        })
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its pid, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// An error if it ended by itself.
    pub fn check(&mut self) -> Result<(), ChildError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.died(status.to_string())),
            Err(error) => Err(self.died(error.to_string())),
        }
    }

    fn died(&self, status: String) -> ChildError {
        ChildError::Died {
            program: self.name.clone(),
            status,
            log: self.log.clone(),
            tail: tail(&self.log),
        }
    }

    /// Asks it to end (SIGTERM), asks again after `grace` or as soon as `hurry` is cancelled, and kills it when that doesn't
    /// help either. Returns how it ended, and `None` if it had to be killed.
    pub async fn stop(mut self, grace: Duration, hurry: &CancellationToken) -> Option<ExitStatus> {
        self.signal(Signal::SIGTERM);
        let mut ended = tokio::select! {
            ended = tokio::time::timeout(grace, self.child.wait()) => ended.ok().and_then(Result::ok),
            () = hurry.cancelled() => None,
        };
        if ended.is_none() {
            self.signal(Signal::SIGTERM);
            ended = tokio::time::timeout(ASKED_AGAIN, self.child.wait())
                .await
                .ok()
                .and_then(Result::ok);
        }
        if ended.is_none() {
            self.signal(Signal::SIGKILL);
            if tokio::time::timeout(KILLED_WITHIN, self.child.wait())
                .await
                .is_err()
            {
                tidepool_logging::report(&format!(
                    "{} is still there after SIGKILL, as process {:?}",
                    self.name,
                    self.child.id()
                ));
            }
        }
        ended
    }

    fn signal(&self, signal: Signal) {
        let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) else {
            return;
        };
        // Not reaped yet, so the pid is still its own.
        if let Err(error) = kill(Pid::from_raw(pid), signal) {
            tidepool_logging::report(&format!("{} could not be signalled: {error}", self.name));
        }
    }
}

/// The last lines of a log.
pub fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(TAIL_LINES);
            lines
                .iter()
                .skip(from)
                .map(|line| format!("  | {line}"))
                .collect::<Vec<_>>()
                .join("\n")
        }
        Err(error) => format!("  | (it can't be read: {error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell<'a>(name: &'a str, script: &str, logs: &'a Path) -> Program<'a> {
        Program {
            name,
            path: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: Vec::new(),
            logs,
        }
    }

    async fn ended(running: &mut Running) -> ChildError {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            match running.check() {
                Err(error) => return error,
                Ok(()) => assert!(tokio::time::Instant::now() < deadline, "it did not end"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_program_that_dies_is_reported_with_the_end_of_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let script = "for i in $(seq 50); do echo line $i; done; echo the cause >&2; exit 3";
        let mut running = Running::start(shell("dies", script, dir.path())).unwrap();
        let text = ended(&mut running).await.to_string();
        assert!(text.contains("dies ended by itself (exit status: 3)"), "{text}");
        assert!(text.ends_with("  | the cause"), "{text}");
        assert!(text.contains("line 50") && !text.contains("line 10\n"), "{text}");
    }

    #[tokio::test]
    async fn a_program_is_asked_before_it_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let script = "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done";
        let running = Running::start(shell("polite", script, dir.path())).unwrap();
        while !std::fs::read_to_string(running.log()).unwrap().contains("up") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let ended = running
            .stop(Duration::from_secs(10), &CancellationToken::new())
            .await;
        assert_eq!(ended.and_then(|status| status.code()), Some(7));
    }

    #[tokio::test]
    async fn a_program_that_does_not_listen_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let script = "trap '' TERM; echo up; while :; do sleep 0.05; done";
        let running = Running::start(shell("stubborn", script, dir.path())).unwrap();
        while !std::fs::read_to_string(running.log()).unwrap().contains("up") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let pid = Pid::from_raw(i32::try_from(running.pid().unwrap()).unwrap());
        let hurry = CancellationToken::new();
        hurry.cancel();
        assert_eq!(running.stop(Duration::from_secs(60), &hurry).await, None);
        assert!(kill(pid, None).is_err(), "it is still there");
    }

    #[test]
    fn a_program_that_is_not_there_is_reported_with_what_to_do() {
        let text = sibling("tidepool-nothing").unwrap_err().to_string();
        assert!(
            text.contains("tidepool-nothing is not beside") && text.contains("cargo build"),
            "{text}"
        );
    }
}
