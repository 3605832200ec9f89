//! Hosts as processes: a machine's programs run as children in groups of their own, with the machine's directory as home.
//! Starts, stops and watches them. A size is a label here, and a snapshot keeps no files.

mod cloud_init;
mod dirs;
pub(crate) mod identity;
pub(crate) mod launcher;
pub(crate) mod sweep;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use nix::sys::signal::Signal;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use self::cloud_init::FileToWrite;
use self::dirs::Dirs;
use self::launcher::Launcher;
use self::sweep::{PidEntry, PidFile};
use super::volumes::Volumes;
use super::{Boot, FirstBoot, HostError, HostFault, HostView, Hosts, ProcessView, Wanted};
use crate::machines::addresses::Network;
use crate::machines::{Machine, Power};
use crate::manifests::Program;
use crate::private_files;
use crate::state::dir::StateDir;

/// How long a killed process may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// Pause between two looks for what a machine's programs left behind.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Variables of local-cloud's own environment that programs get; everything else comes from the manifest.
const VARIABLES_KEPT: [&str; 4] = ["PATH", "LD_LIBRARY_PATH", "LANG", "TZ"];

/// All machines as processes.
#[derive(Debug, Clone)]
pub(crate) struct ProcessHosts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dirs: Dirs,
    instance: String,
    launcher: Launcher,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// Machines that were made and not destroyed: no other one is powered on.
    known: BTreeSet<u64>,
    runs: HashMap<u64, Run>,
}

/// One power-on of a machine: from boot until its last process is gone.
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

impl ProcessHosts {
    /// No machine yet. Called inside of the runtime that will wait for their programs.
    ///
    /// # Errors
    /// When the directory of the machines, or the thread that starts programs, can't be had.
    pub(crate) fn start(state: &StateDir, instance: String) -> io::Result<Self> {
        let dirs = Dirs::of(state);
        // One that an earlier version has left open is closed to others.
        private_files::make_private_dir(dirs.all())?;
        Ok(Self(Arc::new(Inner {
            dirs,
            instance,
            launcher: Launcher::start()?,
            table: Mutex::new(Table::default()),
        })))
    }

    /// Makes a machine's directory and writes into it; done aside, because disks are slow.
    async fn make(&self, id: u64, files: Vec<FileToWrite>) -> Result<(), HostError> {
        let root = self.0.dirs.root(id);
        aside(move || {
            private_files::create_dir_all(&root).map_err(disk("the machine's directory"))?;
            cloud_init::write(&root, &files).map_err(|error| HostError::Refused(error.to_string()))
        })
        .await?;
        self.0.table().known.insert(id);
        Ok(())
    }
}

/// A process sees this machine's devices: a volume is its record.
impl Volumes for ProcessHosts {}

#[async_trait]
impl Hosts for ProcessHosts {
    fn check(&self, wanted: &Wanted<'_>) -> Result<(), HostError> {
        if wanted.image.processes.is_empty() {
            return Err(HostError::Refused(format!(
                "image `{}` has no [[process]] table in its manifest, which --hosts process needs",
                wanted.image.slug
            )));
        }
        files_of(wanted.first_boot).map(|_| ())
    }

    async fn create(&self, machine: &Machine, first_boot: &FirstBoot) -> Result<(), HostError> {
        self.make(machine.id, files_of(first_boot)?).await
    }

    async fn adopt(&self, machine: &Machine) -> Result<(), HostError> {
        self.make(machine.id, Vec::new()).await
    }

    async fn power_on(&self, boot: Boot) -> Result<(), HostError> {
        self.0.power_on(boot);
        Ok(())
    }

    async fn power_off(&self, machine: u64) -> Result<(), HostError> {
        let Some(run) = self.0.end(machine) else {
            return Ok(());
        };
        run.signal(Signal::SIGKILL);
        self.0.await_end(machine, &run).await
    }

    /// The power is cut after `grace`: programs that don't end are killed, so that the machine is always off.
    async fn shutdown(&self, machine: u64, grace: Duration) -> Result<Power, HostError> {
        let Some(run) = self.0.end(machine) else {
            return Ok(Power::Off);
        };
        run.signal(Signal::SIGTERM);
        let all_gone = async {
            for process in &run.processes {
                process.gone.cancelled().await;
            }
        };
        if tokio::time::timeout(grace, all_gone).await.is_err() {
            tracing::warn!(
                machine,
                grace_secs = grace.as_secs(),
                "did not shut down in time: power off"
            );
        }
        run.signal(Signal::SIGKILL);
        self.0.await_end(machine, &run).await?;
        Ok(Power::Off)
    }

    async fn snapshot(&self, _machine: &Machine, _snapshot: u64) -> Result<(), HostError> {
        Ok(())
    }

    async fn snapshot_remove(&self, _snapshot: u64) -> Result<(), HostError> {
        Ok(())
    }

    async fn resize(&self, _machine: &Machine) -> Result<(), HostError> {
        Ok(())
    }

    async fn destroy(&self, machine: u64) -> Result<(), HostError> {
        // First, so that it is not powered on again while it ends.
        self.0.table().known.remove(&machine);
        let ended = self.power_off(machine).await;
        let dir = self.0.dirs.machine(machine);
        aside(move || match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(disk("the machine's directory")(error))
            }
            _ => Ok(()),
        })
        .await?;
        ended
    }

    async fn fail(&self, machine: u64, fault: HostFault) -> Result<(), HostError> {
        match fault {
            HostFault::PowerCut => self.power_off(machine).await,
            HostFault::Freeze | HostFault::Partition | HostFault::SlowDisk { .. } | HostFault::Heal => {
                Err(HostError::Refused(
                    "droplets that are processes have no such fault: --hosts systemd has it".to_owned(),
                ))
            }
        }
    }

    fn view(&self, machine: u64) -> HostView {
        HostView {
            root: self.0.dirs.root(machine),
            logs: self.0.dirs.logs(machine),
            processes: self.0.processes(machine),
        }
    }

    fn fill_in(&self, text: &str, machine: &Machine, network: &Network) -> String {
        self.0.dirs.fill_in(text, machine, network)
    }
}

/// The keys of its root user, then the files of its user data.
fn files_of(first_boot: &FirstBoot) -> Result<Vec<FileToWrite>, HostError> {
    let mut files = Vec::new();
    if !first_boot.authorized_keys.is_empty() {
        files.push(FileToWrite::authorized_keys(first_boot.authorized_keys.clone()));
    }
    let of_user = cloud_init::files(&first_boot.user_data);
    files.extend(of_user.map_err(|error| HostError::Refused(error.to_string()))?);
    Ok(files)
}

fn disk(what: &'static str) -> impl FnOnce(io::Error) -> HostError {
    move |source| HostError::Disk { what, source }
}

/// Runs what waits for the disk outside of the tasks that serve.
async fn aside(work: impl FnOnce() -> Result<(), HostError> + Send + 'static) -> Result<(), HostError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| disk("the work on a machine's directory")(io::Error::other(error)))?
}

impl Inner {
    /// The programs start after the simulated boot.
    fn power_on(self: &Arc<Self>, boot: Boot) {
        let machine = boot.machine.id;
        let off = CancellationToken::new();
        {
            let mut table = self.table();
            if !table.known.contains(&machine) {
                return;
            }
            if let Some(run) = table.runs.get(&machine) {
                if run.off.is_cancelled() {
                    tracing::warn!(machine, "powered on while its processes still end: stays off");
                }
                return;
            }
            let run = Run {
                off: off.clone(),
                processes: Vec::new(),
            };
            table.runs.insert(machine, run);
        }
        let hosts = Arc::clone(self);
        let after = if boot.hangs { Duration::MAX } else { boot.after };
        tokio::spawn(async move {
            tokio::select! {
                () = off.cancelled() => {}
                () = tokio::time::sleep(after) => {
                    let started_by = Arc::clone(&hosts);
                    hosts.launcher.run(move || started_by.start_programs(&boot, &off));
                }
            }
        });
    }

    fn processes(&self, machine: u64) -> Vec<ProcessView> {
        self.table().runs.get(&machine).map_or_else(Vec::new, |run| {
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

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the end of the run. It stays known until everything is gone, so that the power can be cut while it shuts
    /// down.
    fn end(&self, machine: u64) -> Option<Run> {
        let run = self.table().runs.get(&machine)?.clone();
        run.off.cancel();
        Some(run)
    }

    /// Forgets the run that ended; a new one may begin.
    fn forget(&self, machine: u64) {
        let mut table = self.table();
        if table.runs.get(&machine).is_some_and(|run| run.off.is_cancelled()) {
            table.runs.remove(&machine);
        }
    }

    /// Starts on the launcher's thread, under the lock: a power-off comes before all of them or after all of them.
    fn start_programs(&self, boot: &Boot, off: &CancellationToken) {
        let machine = boot.machine.id;
        let mut table = self.table();
        let Some(run) = table.runs.get_mut(&machine).filter(|_| !off.is_cancelled()) else {
            return;
        };
        run.processes = boot
            .image
            .processes
            .iter()
            .map(|program| self.start(machine, &self.filled_in(program, boot)))
            .collect();
        let entries = run.processes.iter().filter_map(|process| {
            process.born.map(|(pid, started)| PidEntry {
                name: process.name.clone(),
                pid,
                started,
            })
        });
        let file = PidFile {
            processes: entries.collect(),
        };
        if let Err(error) = self.note(machine, &file) {
            tracing::error!(machine, %error, "could not note the machine's pids");
        }
    }

    fn filled_in(&self, program: &Program, boot: &Boot) -> Program {
        let fill_in = |text: &String| self.dirs.fill_in(text, &boot.machine, &boot.network);
        Program {
            name: program.name.clone(),
            program: program.program.clone(),
            args: program.args.iter().map(fill_in).collect(),
            env: program
                .env
                .iter()
                .map(|(key, text)| (key.clone(), fill_in(text)))
                .collect(),
        }
    }

    fn note(&self, machine: u64, file: &PidFile) -> io::Result<()> {
        let text = serde_json::to_string(file)?;
        private_files::write(&self.dirs.pid_file(machine), text)
    }

    fn start(&self, machine: u64, program: &Program) -> Arc<Process> {
        let process = |born| {
            Arc::new(Process {
                name: program.name.clone(),
                born,
                gone: CancellationToken::new(),
                ended: OnceLock::new(),
            })
        };
        let mut child = match self.spawn(machine, program) {
            Ok(child) => child,
            Err(error) => {
                tracing::error!(machine, process = program.name, %error, "could not start");
                let process = process(None);
                let _first = process.ended.set(format!("could not start: {error}"));
                process.gone.cancel();
                return process;
            }
        };
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        let process = process(Some((pid, identity::start_time(pid).unwrap_or(0))));
        tracing::debug!(machine, process = program.name, pid, "started");
        let watched = Arc::clone(&process);
        tokio::spawn(async move {
            let how = match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => format!("could not be awaited: {error}"),
            };
            tracing::info!(machine, process = watched.name, pid, how, "process ended");
            let _first = watched.ended.set(how);
            watched.gone.cancel();
        });
        process
    }

    fn spawn(&self, machine: u64, program: &Program) -> io::Result<Child> {
        let logs = self.dirs.logs(machine);
        private_files::create_dir_all(&logs)?;
        let log = private_files::append(&logs.join(format!("{}.log", program.name)))?;
        let second = log.try_clone()?;
        let root: PathBuf = self.dirs.root(machine);
        launcher::spawn(&program.program, &program.args, |command: &mut Command| {
            command
                .current_dir(&root)
                .env_clear()
                .envs(kept_variables())
                .env("HOME", &root)
                .envs(&program.env)
                .env(identity::INSTANCE_VARIABLE, &self.instance)
                .env(identity::MACHINE_VARIABLE, machine.to_string())
                .stdout(second)
                .stderr(log)
                .process_group(0);
        })
    }

    async fn await_end(&self, machine: u64, run: &Run) -> Result<(), HostError> {
        let all_gone = async {
            for process in &run.processes {
                process.gone.cancelled().await;
            }
        };
        if tokio::time::timeout(GONE_WITHIN, all_gone).await.is_err() {
            tracing::error!(machine, "a killed process is still there");
        }
        if run.processes.is_empty() {
            self.forget(machine);
            return Ok(());
        }
        let instance = self.instance.clone();
        let swept = tokio::task::spawn_blocking(move || end_marked(&instance, machine)).await;
        let path = self.dirs.pid_file(machine);
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "could not remove the pid file");
        }
        self.forget(machine);
        if matches!(swept, Ok(true)) {
            Ok(())
        } else {
            Err(HostError::StillThere(machine))
        }
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
    reason = "machines inherit some of the environment"
)]
fn kept_variables() -> BTreeMap<&'static str, std::ffi::OsString> {
    VARIABLES_KEPT
        .iter()
        .filter_map(|name| std::env::var_os(name).map(|value| (*name, value)))
        .collect()
}

/// Ends what left its group; true when nothing of the machine is left.
fn end_marked(instance: &str, machine: u64) -> bool {
    let deadline = Instant::now() + GONE_WITHIN;
    loop {
        let mut left = false;
        for (pid, owner) in identity::marked(instance) {
            if owner == machine {
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::machines::Size;
    use crate::machines::addresses::Interface;
    use crate::manifests::Image;

    fn machine() -> Machine {
        Machine {
            id: 7,
            name: "seven".to_owned(),
            slot: 0,
            power: Power::New,
            image: "x".to_owned(),
            snapshot: None,
            size: Size {
                vcpus: 1,
                memory_mb: 1_024,
                disk_gb: 25,
            },
            public: true,
            private: None,
        }
    }

    fn boot() -> Boot {
        let interface = Interface {
            ip: Ipv4Addr::LOCALHOST,
            netmask: Ipv4Addr::new(255, 0, 0, 0),
            gateway: Ipv4Addr::LOCALHOST,
        };
        let endpoint = |port| (port, SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Boot {
            machine: machine(),
            network: Network {
                public: interface,
                private: interface,
                endpoints: [8080, 9090].map(endpoint),
            },
            image: Image {
                slug: "x".to_owned(),
                name: "X".to_owned(),
                distribution: "Unknown".to_owned(),
                boot_secs: 0.0,
                min_disk_gb: 1,
                ready_url: None,
                processes: vec![Program {
                    name: "true".to_owned(),
                    program: PathBuf::from("/bin/true"),
                    args: Vec::new(),
                    env: BTreeMap::new(),
                }],
                system: None,
            },
            after: Duration::from_secs(3_600),
            hangs: false,
        }
    }

    #[tokio::test]
    async fn a_machine_that_was_destroyed_is_not_powered_on_again_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        let hosts = ProcessHosts::start(&state, "instance".to_owned()).unwrap();
        let is_on = || !hosts.0.table().runs.is_empty();
        hosts.create(&machine(), &FirstBoot::default()).await.unwrap();
        hosts.power_on(boot()).await.unwrap();
        assert!(is_on());
        assert!(hosts.view(7).root.is_dir());
        hosts.destroy(7).await.unwrap();
        hosts.power_on(boot()).await.unwrap();
        assert!(!is_on());
        assert_eq!(std::fs::read_dir(state.hosts()).unwrap().count(), 0);
        hosts.destroy(7).await.unwrap();
    }

    #[tokio::test]
    async fn what_can_not_be_told_at_the_first_boot_is_refused_before_anything_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = ProcessHosts::start(&StateDir::new(dir.path()), "instance".to_owned()).unwrap();
        let first_boot = FirstBoot {
            authorized_keys: String::new(),
            user_data: "#cloud-config\nwrite_files:\n- path: ../x\n  content: x\n".to_owned(),
            ..FirstBoot::default()
        };
        let boot = boot();
        let wanted = Wanted {
            image: &boot.image,
            size: boot.machine.size,
            first_boot: &first_boot,
        };
        let Err(HostError::Refused(reason)) = hosts.check(&wanted) else {
            panic!("not refused");
        };
        assert!(!reason.contains("[[process]]"), "{reason}");
        assert!(matches!(
            hosts.create(&machine(), &first_boot).await,
            Err(HostError::Refused(_))
        ));
        assert!(!hosts.view(7).root.exists());
    }
}
