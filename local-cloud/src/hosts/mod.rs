//! Hosts as processes: a droplet's programs run as children in groups of their own, with the droplet's directory as home.
//! Starts, stops and watches them. Knows nothing of the API.

pub(crate) mod guard;
pub(crate) mod identity;
pub(crate) mod launcher;
pub(crate) mod sweep;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use self::launcher::Launcher;
use self::sweep::{PidEntry, PidFile, StateDir};
use crate::manifests::Program;
use crate::private_files;

/// How long a killed process may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// Pause between two looks for what a droplet's programs left behind.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Variables of local-cloud's own environment that programs get; everything else comes from the manifest.
const VARIABLES_KEPT: [&str; 4] = ["PATH", "LD_LIBRARY_PATH", "LANG", "TZ"];

/// What to start for a droplet.
#[derive(Debug, Clone)]
pub(crate) struct Boot {
    pub(crate) droplet: u64,
    /// Simulated boot.
    pub(crate) after: Duration,
    /// Programs with everything substituted.
    pub(crate) programs: Vec<Program>,
}

/// What runs in a droplet, for `/_local/state`.
#[derive(Debug, Clone)]
pub(crate) struct ProcessView {
    pub(crate) name: String,
    pub(crate) pid: Option<i32>,
    /// How it ended, or why it could not start.
    pub(crate) ended: Option<String>,
}

/// All running droplets.
#[derive(Debug)]
pub(crate) struct Hosts {
    state: StateDir,
    instance: String,
    launcher: Launcher,
    runs: Mutex<HashMap<u64, Run>>,
}

/// One power-on of a droplet: from boot until its last process is gone.
#[derive(Debug, Clone)]
struct Run {
    /// Cancelled as soon as it is to end: no program starts any more.
    off: CancellationToken,
    processes: Vec<Arc<Process>>,
}

#[derive(Debug)]
struct Process {
    name: String,
    /// Pid and start time; `None` when it could not be started.
    born: Option<(i32, u64)>,
    gone: CancellationToken,
    ended: OnceLock<String>,
}

impl Hosts {
    pub(crate) fn new(state: StateDir, instance: String, launcher: Launcher) -> Self {
        Self {
            state,
            instance,
            launcher,
            runs: Mutex::new(HashMap::new()),
        }
    }

    /// Powers a droplet on: its programs start after the simulated boot. Does nothing when it is on.
    pub(crate) fn power_on(self: &Arc<Self>, boot: Boot) {
        let off = CancellationToken::new();
        {
            let mut runs = self.runs();
            if let Some(run) = runs.get(&boot.droplet) {
                if run.off.is_cancelled() {
                    tracing::warn!(
                        droplet = boot.droplet,
                        "powered on while its processes still end: stays off"
                    );
                }
                return;
            }
            runs.insert(
                boot.droplet,
                Run {
                    off: off.clone(),
                    processes: Vec::new(),
                },
            );
        }
        let hosts = Arc::clone(self);
        tokio::spawn(async move {
            tokio::select! {
                () = off.cancelled() => {}
                () = tokio::time::sleep(boot.after) => {
                    let started_by = Arc::clone(&hosts);
                    hosts.launcher.run(move || started_by.start_programs(&boot, &off));
                }
            }
        });
    }

    /// Cuts the power: every process of the droplet gets SIGKILL, at once. Returns when they are gone.
    pub(crate) async fn power_off(&self, droplet: u64) {
        let Some(run) = self.end(droplet) else { return };
        run.signal(Signal::SIGKILL);
        self.await_end(droplet, &run).await;
    }

    /// Asks the droplet's programs to end (SIGTERM), and cuts the power after `grace`.
    pub(crate) async fn shutdown(&self, droplet: u64, grace: Duration) {
        let Some(run) = self.end(droplet) else { return };
        run.signal(Signal::SIGTERM);
        let all_gone = async {
            for process in &run.processes {
                process.gone.cancelled().await;
            }
        };
        if tokio::time::timeout(grace, all_gone).await.is_err() {
            tracing::warn!(
                droplet,
                grace_secs = grace.as_secs(),
                "did not shut down in time: power off"
            );
        }
        run.signal(Signal::SIGKILL);
        self.await_end(droplet, &run).await;
    }

    /// What runs in a droplet now.
    pub(crate) fn view(&self, droplet: u64) -> Vec<ProcessView> {
        self.runs().get(&droplet).map_or_else(Vec::new, |run| {
            run.processes
                .iter()
                .map(|process| ProcessView {
                    name: process.name.clone(),
                    pid: process
                        .born
                        .map(|(pid, _)| pid)
                        .filter(|_| process.ended.get().is_none()),
                    ended: process.ended.get().cloned(),
                })
                .collect()
        })
    }

    fn runs(&self) -> MutexGuard<'_, HashMap<u64, Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the end of the run. It stays known until everything is gone, so that the power can be cut while it shuts
    /// down.
    fn end(&self, droplet: u64) -> Option<Run> {
        let run = self.runs().get(&droplet)?.clone();
        run.off.cancel();
        Some(run)
    }

    /// Forgets the run that ended; a new one may begin.
    fn forget(&self, droplet: u64) {
        let mut runs = self.runs();
        if runs.get(&droplet).is_some_and(|run| run.off.is_cancelled()) {
            runs.remove(&droplet);
        }
    }

    /// Starts on the launcher's thread, under the lock: a power-off comes before all of them or after all of them.
    fn start_programs(&self, boot: &Boot, off: &CancellationToken) {
        let mut runs = self.runs();
        let Some(run) = runs.get_mut(&boot.droplet).filter(|_| !off.is_cancelled()) else {
            return;
        };
        run.processes = boot
            .programs
            .iter()
            .map(|program| self.start(boot.droplet, program))
            .collect();
        let entries = run.processes.iter().filter_map(|process| {
            process.born.map(|(pid, started)| PidEntry {
                name: process.name.clone(),
                pid,
                started,
            })
        });
        if let Err(error) = self.note(
            boot.droplet,
            PidFile {
                processes: entries.collect(),
            },
        ) {
            tracing::error!(droplet = boot.droplet, %error, "could not note the droplet's pids");
        }
    }

    fn note(&self, droplet: u64, file: PidFile) -> std::io::Result<()> {
        let text = serde_json::to_string(&file)?;
        private_files::write(&self.state.pid_file(droplet), text)
    }

    fn start(&self, droplet: u64, program: &Program) -> Arc<Process> {
        let process = |born| {
            Arc::new(Process {
                name: program.name.clone(),
                born,
                gone: CancellationToken::new(),
                ended: OnceLock::new(),
            })
        };
        let mut child = match self.spawn(droplet, program) {
            Ok(child) => child,
            Err(error) => {
                tracing::error!(droplet, process = program.name, %error, "could not start");
                let process = process(None);
                let _first = process.ended.set(format!("could not start: {error}"));
                process.gone.cancel();
                return process;
            }
        };
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        let process = process(Some((pid, identity::start_time(pid).unwrap_or(0))));
        tracing::debug!(droplet, process = program.name, pid, "started");
        let watched = Arc::clone(&process);
        tokio::spawn(async move {
            let how = match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => format!("could not be awaited: {error}"),
            };
            tracing::info!(droplet, process = watched.name, pid, how, "process ended");
            let _first = watched.ended.set(how);
            watched.gone.cancel();
        });
        process
    }

    fn spawn(&self, droplet: u64, program: &Program) -> std::io::Result<Child> {
        let logs = self.state.droplet_logs(droplet);
        private_files::create_dir_all(&logs)?;
        let log = private_files::append(&logs.join(format!("{}.log", program.name)))?;
        let second = log.try_clone()?;
        let root: PathBuf = self.state.droplet_root(droplet);
        launcher::spawn(&program.program, &program.args, |command: &mut Command| {
            command
                .current_dir(&root)
                .env_clear()
                .envs(kept_variables())
                .env("HOME", &root)
                .envs(&program.env)
                .env(identity::INSTANCE_VARIABLE, &self.instance)
                .env(identity::DROPLET_VARIABLE, droplet.to_string())
                .stdout(second)
                .stderr(log)
                .process_group(0);
        })
    }

    async fn await_end(&self, droplet: u64, run: &Run) {
        let all_gone = async {
            for process in &run.processes {
                process.gone.cancelled().await;
            }
        };
        if tokio::time::timeout(GONE_WITHIN, all_gone).await.is_err() {
            tracing::error!(droplet, "a killed process is still there");
        }
        if run.processes.is_empty() {
            self.forget(droplet);
            return;
        }
        let instance = self.instance.clone();
        let swept = tokio::task::spawn_blocking(move || end_marked(&instance, droplet)).await;
        if !matches!(swept, Ok(true)) {
            tracing::error!(droplet, "a program left processes that don't end");
        }
        let path = self.state.pid_file(droplet);
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "could not remove the pid file");
        }
        self.forget(droplet);
    }
}

impl Run {
    fn signal(&self, signal: Signal) {
        for process in &self.processes {
            if let Some((pid, started)) = process.born {
                identity::signal_group(pid, started, signal);
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "droplets inherit some of the environment"
)]
fn kept_variables() -> BTreeMap<&'static str, std::ffi::OsString> {
    VARIABLES_KEPT
        .iter()
        .filter_map(|name| std::env::var_os(name).map(|value| (*name, value)))
        .collect()
}

/// Ends what left its group; true when nothing of the droplet is left.
fn end_marked(instance: &str, droplet: u64) -> bool {
    let deadline = Instant::now() + GONE_WITHIN;
    loop {
        let mut left = false;
        for (pid, owner) in identity::marked(instance) {
            if owner == droplet {
                identity::kill_one(pid);
                left = true;
            }
        }
        if !left {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}
