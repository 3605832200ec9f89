//! One power-on of a host: systemd-nspawn with systemd as PID 1, started again when the host reboots by itself. A thread of
//! its own waits for it; when this process ends, however it comes, the kernel ends the host.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio_util::sync::CancellationToken;

use super::console::Console;
use super::rules::NAME_SERVERS;
use super::{command, packages};

/// systemd-nspawn's exit status when the host asked for a reboot, and its supervisor is to do it.
const REBOOT: i32 = 133;
/// systemd of this version and later boots with one hierarchy of control groups for all (v2) alone.
const ONE_HIERARCHY_SINCE: u32 = 258;
/// What a host needs beyond what containers have: its own interfaces and firewall are its own business.
const CAPABILITIES_ADDED: &str = "CAP_NET_ADMIN";
/// What containers have and a host must not: making nodes of raw devices, and setting the kernel's audit rules. The clock,
/// modules and raw input and output are not among what containers have.
const CAPABILITIES_DROPPED: &str = "CAP_MKNOD,CAP_AUDIT_CONTROL";
/// Puts itself into the control groups whose files stand before `--`, then becomes what stands behind it.
const ENTER: &str = r#"while [ "$1" != -- ]; do echo $$ > "$1" || exit 1; shift; done; shift; exec "$@""#;
/// Where the first program of a host is, for the host.
const INIT_INSIDE: &str = "/run/tidepool-init";
/// The first program: makes the host's own control groups writable (v1), shows it its own size where lxcfs runs, tells apt where
/// packages are to be had and its resolver where names are, and becomes systemd. All of it inside of the host, whose links lead nowhere else there.
const INIT: &str = r#"#!/bin/sh
for group in cpu cpuacct cpuset memory pids blkio freezer devices; do
    if [ -d /sys/fs/cgroup/$group ]; then
        mount -o remount,rw,nosuid,nodev,noexec,bind /sys/fs/cgroup/$group
    fi
done
for file in cpuinfo loadavg meminfo stat uptime; do
    if [ -e /var/lib/lxcfs/proc/$file ]; then
        mount --bind /var/lib/lxcfs/proc/$file /proc/$file
    fi
done
PACKAGES
RESOLVER
exec /sbin/init "$@"
"#;
/// The first program of a boot that hangs: as one whose disk doesn't answer, it takes no notice of a power button.
pub(super) const HANGING_INIT: &str = "#!/bin/sh\necho 'This boot hangs: a fault that was asked for.'\n\
    while :; do sleep 3600; done\n";
/// The first line of a host's resolver's file that is written at each boot.
const RESOLVER_MARK: &str =
    "# Written by tidepool-local-cloud at each boot; without this line it stays as it is.";
/// Where lxcfs shows each group its own processors and memory.
const LXCFS: &str = "/var/lib/lxcfs";
/// What the host's systemd and cloud-init read where a real machine has its kernel's command line.
const KERNEL_ARGS: [&str; 3] = [
    "systemd.show_status=yes",
    "network-config=disabled",
    "ds=nocloud-net;s=http://169.254.169.254/nocloud/",
];

/// The text of the first program, with the list of sources for apt.
pub(super) fn init(sources: Option<&str>) -> String {
    let list = packages::LIST;
    let packages = match sources {
        Some(sources) => format!("mkdir -p \"$(dirname /{list})\" && cat >/{list} <<'END'\n{sources}END"),
        None => format!("rm -f /{list}"),
    };
    INIT.replace("PACKAGES", &packages)
        .replace("RESOLVER", &resolver())
}

/// Lines that tell a host's resolver where names are to be had: the one of glibc, and systemd's if the image has it. A file that
/// the image has of its own, and a link to what a resolver writes, stay as they are.
fn resolver() -> String {
    let servers = NAME_SERVERS.map(|address| address.to_string());
    let (listed, lines) = (servers.join(" "), servers.join("\nnameserver "));
    format!(
        "mkdir -p /run/systemd/resolved.conf.d\n\
         cat >/run/systemd/resolved.conf.d/tidepool-local-cloud.conf <<'END'\n[Resolve]\nDNS={listed}\nEND\n\
         if [ ! -L /etc/resolv.conf ] && {{ [ ! -s /etc/resolv.conf ] || grep -qxF '{RESOLVER_MARK}' /etc/resolv.conf; }}; then\n\
         cat >/etc/resolv.conf <<'END'\n{RESOLVER_MARK}\nnameserver {lines}\nEND\nfi"
    )
}

/// What to start.
#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) machine: u64,
    /// The container's name on this machine, and that of its network namespace.
    pub(super) name: String,
    pub(super) hostname: String,
    pub(super) root: PathBuf,
    /// The first program's file.
    pub(super) init: PathBuf,
    pub(super) console: Console,
    /// Files of the control groups that it is to be in.
    pub(super) groups: Vec<PathBuf>,
    /// How much later the first boot begins.
    pub(super) after: Duration,
}

/// A device that a host has from its boot on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) device: PathBuf,
    /// Where it stands for the host.
    pub(super) node: PathBuf,
}

/// What happens around each boot, in the thread that waits for the host.
pub(super) trait Surroundings: Send + 'static {
    /// Before each boot, one from within the host, too. The devices that the host is to have.
    ///
    /// # Errors
    /// When the host can't be booted.
    fn before_boot(&self) -> Result<Vec<Bound>, String>;

    /// After the last one, with nothing of the host running.
    fn after_off(&self);

    /// Once everybody can see that it is off.
    fn tell_off(&self);
}

/// A host that is on, or was.
#[derive(Debug)]
pub(super) struct Run {
    state: Mutex<State>,
    off: Condvar,
    gone: CancellationToken,
    ended: OnceLock<String>,
}

#[derive(Debug, Default)]
struct State {
    /// systemd-nspawn, while it runs.
    pid: Option<Pid>,
    /// It is not to boot again.
    off: bool,
}

impl Run {
    /// Boots the host.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(super) fn start(container: Container, around: impl Surroundings) -> io::Result<Arc<Self>> {
        let run = Arc::new(Self {
            state: Mutex::default(),
            off: Condvar::new(),
            gone: CancellationToken::new(),
            ended: OnceLock::new(),
        });
        let watched = Arc::clone(&run);
        std::thread::Builder::new()
            .name(container.name.clone())
            .spawn(move || {
                let ended = watched.boot_until_off(&container, &around);
                tracing::info!(machine = container.machine, ended, "the host is off");
                around.after_off();
                let _first = watched.ended.set(ended);
                watched.gone.cancel();
                around.tell_off();
            })?;
        Ok(run)
    }

    /// The process on this machine that stands for the host.
    pub(super) fn pid(&self) -> Option<i32> {
        self.state().pid.map(Pid::as_raw)
    }

    /// How it ended.
    pub(super) fn ended(&self) -> Option<String> {
        self.ended.get().cloned()
    }

    /// Whether nothing of it runs any more.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// Waits until nothing of it runs any more.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Asks the host's systemd to power off, as the power button does.
    pub(super) fn ask_to_power_off(&self) {
        signal(self.state().pid, Signal::SIGTERM);
    }

    /// Cuts the power of systemd-nspawn; the rest of the host ends by its control group.
    pub(super) fn cut(&self) {
        let mut state = self.state();
        state.off = true;
        signal(state.pid, Signal::SIGKILL);
        self.off.notify_all();
    }

    fn boot_until_off(&self, container: &Container, around: &impl Surroundings) -> String {
        let waited = self
            .off
            .wait_timeout_while(self.state(), container.after, |state| !state.off);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        loop {
            let bound = match around.before_boot() {
                Ok(bound) => bound,
                Err(reason) => return reason,
            };
            let status = match self.boot(container, &bound) {
                Ok(Some(status)) => status,
                Ok(None) => return "powered off before it booted".to_owned(),
                Err(error) => return format!("could not start: {error}"),
            };
            if status.code() != Some(REBOOT) || self.state().off {
                return describe(status);
            }
            tracing::info!(machine = container.machine, "the host reboots");
        }
    }

    /// Runs it once; None when it was to be off before it began.
    fn boot(&self, container: &Container, bound: &[Bound]) -> io::Result<Option<ExitStatus>> {
        let mut child = {
            // Under the lock: a power-off comes before it is started or when its process is known.
            let mut state = self.state();
            if state.off {
                return Ok(None);
            }
            let child = command_of(container, bound)?.spawn()?;
            state.pid = i32::try_from(child.id()).ok().map(Pid::from_raw);
            child
        };
        let status = child.wait();
        self.state().pid = None;
        status.map(Some)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes what systemd-nspawn leaves of a host when it is killed. The host's disk is still mounted.
pub(super) fn forget(name: &str, root: &Path) {
    let runtime = Path::new("/run/systemd/nspawn");
    let propagated = runtime.join("propagate").join(name);
    let mut left = vec![std::fs::remove_dir(&propagated)];
    if let Ok(root) = root.metadata() {
        let lock = format!("inode-{}:{}", root.dev(), root.ino());
        left.push(std::fs::remove_file(runtime.join("locks").join(lock)));
    }
    for error in left.into_iter().filter_map(Result::err) {
        if error.kind() != io::ErrorKind::NotFound {
            tracing::warn!(container = name, %error, "systemd-nspawn's own remains are left");
        }
    }
}

/// Whether the systemd on that disk refuses control groups in hierarchies of their own, which systemd-nspawn gives a host where the machine has
/// them.
pub(super) fn needs_one_hierarchy(root: &Path) -> bool {
    systemd_version(root).is_some_and(|version| version >= ONE_HIERARCHY_SINCE)
}

/// The version of a disk's systemd, by the name of its library, which is how systemd-nspawn knows it, too.
fn systemd_version(root: &Path) -> Option<u32> {
    let below = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
    let names = below(&root.join("usr/lib"))
        .flat_map(|entry| below(&entry.path().join("systemd")))
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let versions = names.filter_map(|name| {
        let version = name.strip_prefix("libsystemd-shared-")?;
        version
            .split(|char: char| !char.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    });
    versions.max()
}

fn signal(pid: Option<Pid>, signal: Signal) {
    if let Some(pid) = pid {
        // It may have ended in between.
        let _already_gone = kill(pid, signal);
    }
}

fn describe(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("power cut (signal {signal})"),
        None if status.success() => "powered off".to_owned(),
        None => format!("systemd-nspawn: {status}; the console's log says why"),
    }
}

fn command_of(container: &Container, bound: &[Bound]) -> io::Result<Command> {
    let console = container.console.writer()?;
    let mut command = command::command("setpriv");
    // The parent is the thread that waits for it.
    command.args(["--pdeathsig", "KILL", "--", "sh", "-c", ENTER, "sh"]);
    command.args(&container.groups);
    command.arg("--").args(nspawn(container, bound));
    if needs_one_hierarchy(&container.root) {
        // Its own bounds are those of the groups that it is in, on whatever hierarchies.
        command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
    }
    command
        .env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network")
        .stdin(Stdio::null())
        .stdout(console.try_clone()?)
        .stderr(console);
    Ok(command)
}

fn nspawn(container: &Container, bound: &[Bound]) -> Vec<String> {
    let name = &container.name;
    let mut line: Vec<String> = [
        "systemd-nspawn",
        "--quiet",
        "--register=no",
        "--keep-unit",
        "--console=read-only",
        "--kill-signal=SIGRTMIN+3",
        // Nothing of this machine's own settings.
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--setenv=TERM=dumb",
    ]
    .map(str::to_owned)
    .to_vec();
    line.extend([
        format!("--capability={CAPABILITIES_ADDED}"),
        format!("--drop-capability={CAPABILITIES_DROPPED}"),
        format!("--directory={}", container.root.display()),
        format!("--machine={name}"),
        format!("--hostname={}", container.hostname),
        format!("--network-namespace-path=/run/netns/{name}"),
        format!("--bind-ro={}:{INIT_INSIDE}", container.init.display()),
    ]);
    let binds = bound.iter();
    line.extend(binds.map(|bound| format!("--bind={}:{}", bound.device.display(), bound.node.display())));
    if PathBuf::from(LXCFS).join("proc/stat").exists() {
        line.push(format!("--bind={LXCFS}:{LXCFS}"));
    }
    line.extend(["--".to_owned(), INIT_INSIDE.to_owned()]);
    line.extend(KERNEL_ARGS.map(str::to_owned));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_systemd_that_knows_one_hierarchy_alone_is_recognised() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!needs_one_hierarchy(dir.path()), "there is no systemd");
        let libraries = dir.path().join("usr/lib/x86_64-linux-gnu/systemd");
        std::fs::create_dir_all(&libraries).unwrap();
        for (name, needs) in [
            ("libsystemd-core-300.so", false),
            ("libsystemd-shared-257.so", false),
            ("libsystemd-shared-258.so", true),
            ("libsystemd-shared-259.1-2.so", true),
        ] {
            let library = libraries.join(name);
            std::fs::write(&library, "").unwrap();
            assert_eq!(needs_one_hierarchy(dir.path()), needs, "{name}");
            std::fs::remove_file(library).unwrap();
        }
    }
}
