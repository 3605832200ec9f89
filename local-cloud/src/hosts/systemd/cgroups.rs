//! Control groups: what bounds a host's CPU, memory, processes and devices, stops it as a whole, and says which processes
//! are its own. Both layouts of the kernel are known: one hierarchy for each controller (v1), or one for all (v2).

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::disk::Devices;
use super::disk_file::Device;
use crate::machines::Size;
use crate::machines::block::Block;

/// Where the kernel shows them.
pub(super) const MOUNT: &str = "/sys/fs/cgroup";
/// Controllers that a size needs.
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];
/// The same where each has a hierarchy of its own; there, keeping devices back and standing still are controllers, too.
const NEEDED_EACH: [&str; 5] = ["cpu", "devices", "freezer", "memory", "pids"];
/// Controllers that are used where there is one hierarchy for all; without `cpuset`, programs count the whole machine's processors.
const WANTED: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];
/// The period of a CPU's share, in microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;
/// Processes and threads of one host: Cassandra has some 300, a database and its neighbours fit well.
const PROCESSES_MAX: u64 = 4_096;
/// How long killed processes may take to be gone, and to let their group go.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Devices that a host may open (v1): null, zero, full, random, urandom, tty, console, ptmx, its terminals, tun, and loop devices, which its
/// volumes are. All loop devices: which ones are its own changes while it runs, and the groups that its systemd has made by then don't learn of a
/// device that is allowed later. Nodes are there for its own volumes alone, and it may make none (`container::CAPABILITIES_DROPPED`); root that
/// writes one into a volume's file system gets at its neighbours' disks, as the README says, and at none of this machine's.
const DEVICES: [&str; 13] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
    "c 10:200 rwm",
    "b 7:* rwm",
];

/// Files that bound how fast a device is read and written (v1).
const THROTTLES: [&str; 2] = [
    "blkio.throttle.read_bps_device",
    "blkio.throttle.write_bps_device",
];

/// How the kernel's groups are laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Layout {
    /// The hierarchies, each with its controllers' names.
    Each(Vec<PathBuf>),
    One(PathBuf),
}

/// The groups of one cloud.
#[derive(Debug, Clone)]
pub(super) struct Cgroups {
    layout: Layout,
    name: String,
}

impl Cgroups {
    /// Those of a block.
    ///
    /// # Errors
    /// A sentence that names what is missing.
    pub(super) fn of(block: Block, mount: &Path) -> Result<Self, String> {
        Ok(Self {
            layout: layout(mount)?,
            name: block.name().replacen("tpc", "tidepool-", 1),
        })
    }

    /// Makes a host's group with what its size allows. The files that a process writes its id to, to be in it.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn make(&self, machine: u64, size: Size) -> io::Result<Vec<PathBuf>> {
        let groups = self.groups(Some(machine));
        for group in &groups {
            std::fs::create_dir_all(group)?;
        }
        match &self.layout {
            Layout::Each(hierarchies) => {
                for (hierarchy, group) in hierarchies.iter().zip(&groups) {
                    self.limit_each((hierarchy, group), machine, size)?;
                }
            }
            Layout::One(mount) => {
                let there = std::fs::read_to_string(mount.join("cgroup.controllers"))?;
                let wanted = there.split_whitespace().filter(|name| WANTED.contains(name));
                let controllers = wanted
                    .map(|name| format!("+{name}"))
                    .collect::<Vec<_>>()
                    .join(" ");
                for all in [mount.clone(), mount.join(&self.name)] {
                    std::fs::write(all.join("cgroup.subtree_control"), &controllers)?;
                }
                for group in &groups {
                    limit_one((mount, group), machine, size)?;
                }
            }
        }
        Ok(groups.iter().map(|group| group.join("cgroup.procs")).collect())
    }

    /// Whether a host can have one hierarchy for all: that of the layout, or one that is mounted beside those of the controllers.
    pub(super) fn has_one_for_all(&self) -> bool {
        match &self.layout {
            Layout::Each(hierarchies) => hierarchies
                .iter()
                .any(|hierarchy| hierarchy.join("cgroup.controllers").exists()),
            Layout::One(_) => true,
        }
    }

    /// Stops every process of a host where it is, or lets them go on.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn freeze(&self, machine: u64, frozen: bool) -> io::Result<()> {
        let word = match &self.layout {
            Layout::Each(_) if frozen => "FROZEN",
            Layout::Each(_) => "THAWED",
            Layout::One(_) if frozen => "1",
            Layout::One(_) => "0",
        };
        let Some(file) = self.freezer(machine) else {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the machine does not run",
            ));
        };
        std::fs::write(file, word)
    }

    /// Whether a machine is frozen, or is to be.
    pub(super) fn is_frozen(&self, machine: u64) -> bool {
        let text = self
            .freezer(machine)
            .and_then(|file| std::fs::read_to_string(file).ok());
        text.is_some_and(|text| !matches!(text.trim(), "THAWED" | "0"))
    }

    /// The file that stops and starts a machine; none when it doesn't run.
    fn freezer(&self, machine: u64) -> Option<PathBuf> {
        let name = match &self.layout {
            Layout::Each(_) => "freezer.state",
            Layout::One(_) => "cgroup.freeze",
        };
        let mut files = self
            .groups(Some(machine))
            .into_iter()
            .map(|group| group.join(name));
        files.find(|file| file.exists())
    }

    /// Bounds what a host moves from and to its disk in a second, each way; None ends that.
    ///
    /// # Errors
    /// The kernel's; `Unsupported` when it has no controller for it.
    pub(super) fn throttle(
        &self,
        machine: u64,
        devices: &Devices,
        bytes_per_sec: Option<u64>,
    ) -> io::Result<()> {
        let groups = self.groups(Some(machine));
        match &self.layout {
            Layout::Each(hierarchies) => {
                let both = hierarchies.iter().zip(&groups);
                let mut throttled = both.filter(|(_, group)| group.join(THROTTLES[0]).exists());
                let (hierarchy, group) = throttled.next().ok_or_else(no_throttle)?;
                for device in devices.own.iter().chain(&devices.shared) {
                    throttle_each(group, *device, bytes_per_sec)?;
                }
                // What stays in memory first is written by the kernel later, which is in no group; the device is the host's alone.
                devices
                    .own
                    .map_or(Ok(()), |own| throttle_each(hierarchy, own, bytes_per_sec))
            }
            Layout::One(mount) => {
                for all in [mount.clone(), mount.join(&self.name)] {
                    std::fs::write(all.join("cgroup.subtree_control"), "+io").map_err(|_| no_throttle())?;
                }
                let rate = bytes_per_sec.map_or_else(|| "max".to_owned(), |rate| rate.to_string());
                for (group, device) in groups.iter().flat_map(|group| {
                    devices
                        .own
                        .iter()
                        .chain(&devices.shared)
                        .map(move |device| (group, device))
                }) {
                    let line = format!("{}:{} rbps={rate} wbps={rate}", device.major, device.minor);
                    std::fs::write(group.join("io.max"), line)?;
                }
                Ok(())
            }
        }
    }

    /// Ends what [`Self::throttle`] set outside of the host's own group, which would bound the next one that gets the device.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn lift(&self, own: Device) -> io::Result<()> {
        let Layout::Each(hierarchies) = &self.layout else {
            return Ok(());
        };
        let name = format!("{}:{} ", own.major, own.minor);
        for hierarchy in hierarchies {
            let bounds = std::fs::read_to_string(hierarchy.join(THROTTLES[0])).unwrap_or_default();
            if bounds.lines().any(|line| line.starts_with(&name)) {
                throttle_each(hierarchy, own, None)?;
            }
        }
        Ok(())
    }

    /// Ends every process of a host, or of all of them; says how many there were. A process that is frozen is let go first.
    ///
    /// # Errors
    /// `TimedOut` when one does not end.
    pub(super) fn kill(&self, machine: Option<u64>) -> io::Result<usize> {
        let groups = self.groups(machine);
        let deadline = Instant::now() + GONE_WITHIN;
        let mut ended = BTreeSet::new();
        loop {
            let alive: BTreeSet<i32> = groups.iter().flat_map(|group| processes(group)).collect();
            for pid in &alive {
                // It may have ended in between.
                let _already_gone = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
            for group in &groups {
                thaw(group);
            }
            if alive.is_empty() {
                return Ok(ended.len());
            }
            ended.extend(alive);
            if Instant::now() > deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "a killed process is still there",
                ));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Removes the groups of a host, or of all of them, in which nothing runs any more.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn remove(&self, machine: Option<u64>) -> io::Result<()> {
        let deadline = Instant::now() + GONE_WITHIN;
        for group in self.groups(machine) {
            // A group is busy for a moment after its last process has ended.
            while let Err(error) = remove_tree(&group) {
                if Instant::now() > deadline {
                    return Err(error);
                }
                std::thread::sleep(LOOK_AGAIN);
            }
        }
        Ok(())
    }

    #[cfg(test)]
    fn group_names(&self) -> Vec<PathBuf> {
        self.groups(None)
    }

    fn groups(&self, machine: Option<u64>) -> Vec<PathBuf> {
        let below = |hierarchy: &PathBuf| {
            let all = hierarchy.join(&self.name);
            machine.map_or_else(|| all.clone(), |machine| all.join(machine.to_string()))
        };
        match &self.layout {
            Layout::Each(hierarchies) => hierarchies.iter().map(below).collect(),
            Layout::One(mount) => vec![below(mount)],
        }
    }

    /// Writes those limits that this hierarchy knows.
    fn limit_each(&self, (hierarchy, group): (&Path, &Path), machine: u64, size: Size) -> io::Result<()> {
        let write = |file: &str, text: String| std::fs::write(group.join(file), text);
        if hierarchy.join("cpuset.cpus").exists() {
            // A group without processors and memory nodes takes no process.
            for group in [hierarchy.join(&self.name), group.to_owned()] {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let all = std::fs::read(hierarchy.join(file))?;
                    std::fs::write(group.join(file), all)?;
                }
            }
            // As many processors as it has vCPUs, so that programs that count them start as many threads.
            let all = std::fs::read_to_string(hierarchy.join("cpuset.cpus"))?;
            write("cpuset.cpus", processors(&all, machine, size.vcpus))?;
        }
        if group.join("cpu.cfs_quota_us").exists() {
            write("cpu.cfs_period_us", CPU_PERIOD_US.to_string())?;
            write("cpu.cfs_quota_us", (size.vcpus * CPU_PERIOD_US).to_string())?;
        }
        if group.join("memory.limit_in_bytes").exists() {
            write("memory.limit_in_bytes", memory_bytes(size).to_string())?;
        }
        if group.join("pids.max").exists() {
            write("pids.max", PROCESSES_MAX.to_string())?;
        }
        if group.join("devices.deny").exists() {
            write("devices.deny", "a".to_owned())?;
            for device in DEVICES {
                write("devices.allow", device.to_owned())?;
            }
        }
        Ok(())
    }
}

fn throttle_each(group: &Path, device: Device, bytes_per_sec: Option<u64>) -> io::Result<()> {
    let line = format!("{}:{} {}", device.major, device.minor, bytes_per_sec.unwrap_or(0));
    for file in THROTTLES {
        std::fs::write(group.join(file), &line)?;
    }
    Ok(())
}

fn no_throttle() -> io::Error {
    let reason = "this machine's control groups have no controller for disks (blkio, or io)";
    io::Error::new(io::ErrorKind::Unsupported, reason)
}

fn limit_one((mount, group): (&Path, &Path), machine: u64, size: Size) -> io::Result<()> {
    let write = |file: &str, text: String| std::fs::write(group.join(file), text);
    if group.join("cpuset.cpus").exists() {
        let all = std::fs::read_to_string(mount.join("cpuset.cpus.effective"))?;
        write("cpuset.cpus", processors(&all, machine, size.vcpus))?;
    }
    write(
        "cpu.max",
        format!("{} {CPU_PERIOD_US}", size.vcpus * CPU_PERIOD_US),
    )?;
    write("memory.max", memory_bytes(size).to_string())?;
    write("pids.max", PROCESSES_MAX.to_string())
}

/// So many of the listed processors (`0-3,8`), beginning with another one for each machine.
fn processors(list: &str, machine: u64, count: u64) -> String {
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u64>().ok()?..=last.parse::<u64>().ok()?)
    });
    let all: Vec<u64> = ranges.flatten().collect();
    let begin = usize::try_from(machine).unwrap_or_default() % all.len().max(1);
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(all.len());
    let chosen = all.iter().cycle().skip(begin).take(count);
    chosen.map(u64::to_string).collect::<Vec<_>>().join(",")
}

fn memory_bytes(size: Size) -> u64 {
    size.memory_mb * 1024 * 1024
}

fn layout(mount: &Path) -> Result<Layout, String> {
    let unified = mount.join("cgroup.controllers");
    if let Ok(controllers) = std::fs::read_to_string(unified) {
        let have: Vec<&str> = controllers.split_whitespace().collect();
        return match NEEDED.iter().find(|needed| !have.contains(needed)) {
            Some(missing) => Err(format!(
                "the kernel's control groups have no controller `{missing}` ({} is where it would be named)",
                mount.join("cgroup.controllers").display()
            )),
            None => Ok(Layout::One(mount.to_owned())),
        };
    }
    let missing = NEEDED_EACH
        .iter()
        .find(|needed| !mount.join(needed).join("cgroup.procs").exists());
    if let Some(missing) = missing {
        return Err(format!(
            "control groups with the controller `{missing}` are not mounted at {}",
            mount.display()
        ));
    }
    // `cpu` and `cpuacct` may be two names of one hierarchy.
    let entries = std::fs::read_dir(mount).into_iter().flatten().flatten();
    let hierarchies: BTreeSet<PathBuf> = entries
        .filter_map(|entry| entry.path().canonicalize().ok())
        .filter(|path| path.join("cgroup.procs").exists())
        .collect();
    Ok(Layout::Each(hierarchies.into_iter().collect()))
}

/// The processes of a group and of those below it.
fn processes(group: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    // A process that the reader can't see is 0: signalling that would reach ourselves.
    found.retain(|pid| *pid > 1);
    for below in directories(group) {
        found.extend(processes(&below));
    }
    found
}

fn thaw(group: &Path) {
    for (file, word) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
        let file = group.join(file);
        if file.exists()
            && let Err(error) = std::fs::write(&file, word)
        {
            tracing::debug!(file = %file.display(), %error, "can't be let go");
        }
    }
    for below in directories(group) {
        thaw(&below);
    }
}

fn remove_tree(group: &Path) -> io::Result<()> {
    for below in directories(group) {
        remove_tree(&below)?;
    }
    match std::fs::remove_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn directories(group: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(group).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size {
        vcpus: 2,
        memory_mb: 512,
        disk_gb: 10,
    };

    #[test]
    fn with_one_hierarchy_the_limits_are_written_in_its_words() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("cgroup.controllers"),
            "cpuset cpu io memory pids\n",
        )
        .unwrap();
        // As the kernel has them.
        let group = dir.path().join("tidepool-7/10000001");
        std::fs::create_dir_all(&group).unwrap();
        std::fs::write(group.join("cpuset.cpus"), "").unwrap();
        std::fs::write(dir.path().join("cpuset.cpus.effective"), "0-3\n").unwrap();
        let cgroups = Cgroups::of(Block(7), dir.path()).unwrap();
        let files = cgroups.make(10_000_001, SIZE).unwrap();
        assert_eq!(files, [group.join("cgroup.procs")]);
        for all in [dir.path(), &dir.path().join("tidepool-7")] {
            let asked = std::fs::read_to_string(all.join("cgroup.subtree_control")).unwrap();
            assert_eq!(asked, "+cpuset +cpu +memory +pids");
        }
        let read = |file: &str| std::fs::read_to_string(group.join(file)).unwrap();
        assert_eq!(read("cpu.max"), "200000 100000");
        assert_eq!(read("memory.max"), "536870912");
        assert_eq!(read("pids.max"), "4096");
        assert_eq!(read("cpuset.cpus"), "1,2");
    }

    /// The kernel's own hierarchy for all, wherever it is mounted: with its controllers, or beside those of v1 without any.
    #[test]
    fn a_real_group_of_one_hierarchy_is_frozen_and_ended_and_removed() {
        let test = "cgroups::a_real_group_of_one_hierarchy";
        let mounts = [Path::new(MOUNT).to_owned(), Path::new(MOUNT).join("unified")];
        let Some(mount) = mounts
            .into_iter()
            .find(|mount| mount.join("cgroup.controllers").exists())
        else {
            println!("tidepool-skip: {test}: no cgroup2 is mounted at {MOUNT}");
            return;
        };
        let cgroups = Cgroups {
            layout: Layout::One(mount),
            name: format!("tidepool-test-{}", std::process::id()),
        };
        let group = cgroups.groups(Some(1)).remove(0);
        if let Err(error) = std::fs::create_dir_all(&group) {
            println!("tidepool-skip: {test}: {error}");
            return;
        }
        let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        std::fs::write(group.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
        let until = |line: &str| {
            let deadline = Instant::now() + GONE_WITHIN;
            while !std::fs::read_to_string(group.join("cgroup.events"))
                .unwrap()
                .contains(line)
            {
                assert!(Instant::now() < deadline, "never {line}");
                std::thread::yield_now();
            }
        };
        cgroups.freeze(1, true).unwrap();
        until("frozen 1");
        cgroups.freeze(1, false).unwrap();
        until("frozen 0");
        cgroups.freeze(1, true).unwrap();
        assert_eq!(cgroups.kill(Some(1)).unwrap(), 1);
        assert!(!sleeper.wait().unwrap().success());
        cgroups.remove(None).unwrap();
        assert!(!group.exists());
    }

    #[test]
    fn machines_get_processors_in_turn() {
        assert_eq!(processors("0-3\n", 10_000_001, 2), "1,2");
        assert_eq!(processors("0-1,5", 10_000_002, 2), "0,1");
        assert_eq!(processors("0-1,5", 10_000_001, 2), "5,0");
        assert_eq!(processors("0", 7, 4), "0");
    }

    #[test]
    fn a_missing_controller_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Cgroups::of(Block(7), dir.path()).unwrap_err();
        assert!(error.contains("`cpu`"), "{error}");
        std::fs::write(dir.path().join("cgroup.controllers"), "cpu pids\n").unwrap();
        let error = Cgroups::of(Block(7), dir.path()).unwrap_err();
        assert!(error.contains("`memory`"), "{error}");
    }

    #[test]
    fn with_a_hierarchy_each_two_names_of_one_are_one() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["cpu,cpuacct", "devices", "freezer", "memory", "pids"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("cgroup.procs"), "").unwrap();
        }
        for name in ["cpu", "cpuacct"] {
            std::os::unix::fs::symlink("cpu,cpuacct", dir.path().join(name)).unwrap();
        }
        let cgroups = Cgroups::of(Block(7), dir.path()).unwrap();
        assert_eq!(cgroups.group_names().len(), 5);
        assert!(!cgroups.has_one_for_all());
        let unified = dir.path().join("unified");
        std::fs::create_dir(&unified).unwrap();
        for file in ["cgroup.procs", "cgroup.controllers"] {
            std::fs::write(unified.join(file), "").unwrap();
        }
        assert!(Cgroups::of(Block(7), dir.path()).unwrap().has_one_for_all());
    }
}
