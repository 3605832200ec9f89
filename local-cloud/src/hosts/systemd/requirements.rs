//! What this machine must have for systemd hosts. Everything that is missing is named at once, with what to do about it: the Debian
//! package, the kernel's module. What hosts can do without is warned of.

use std::path::Path;

use super::cgroups::{self, Cgroups};
use super::command::{self, SEARCH_PATH};
use super::disk;
use super::kernel::{self, Part};
use crate::machines::block::Block;
use crate::problems::Problems;

/// Programs, and the Debian package of each.
const PROGRAMS: [(&str, &str); 17] = [
    ("apt-config", "apt"),
    ("apt-get", "apt"),
    ("blockdev", "util-linux"),
    ("cp", "coreutils"),
    ("e2fsck", "e2fsprogs"),
    ("grep", "grep"),
    ("ip", "iproute2"),
    ("losetup", "mount"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mmdebstrap", "mmdebstrap"),
    ("mount", "mount"),
    ("nft", "nftables"),
    ("resize2fs", "e2fsprogs"),
    ("setpriv", "util-linux"),
    ("systemd-nspawn", "systemd-container"),
    ("umount", "mount"),
    ("unshare", "util-linux"),
];

/// The kernel's bound on instances of inotify for all that root runs, hosts among it.
const INOTIFY_MAX: &str = "/proc/sys/fs/inotify/max_user_instances";
/// Instances that systemd and its services take in one host: 128, which is Linux's own bound, are enough for 17 hosts (tried).
const INOTIFY_A_HOST: usize = 7;
/// What the bound may well be.
const INOTIFY_ADVISED: usize = 1_024;

/// Where a system says what it is.
const RELEASE: &str = "/etc/os-release";
/// The oldest release of Debian that has all of what is needed, in a version that does it.
const DEBIAN_MIN: u32 = 12;

/// Where things are looked for.
#[derive(Clone, Copy)]
pub(crate) struct Machine<'a> {
    pub(crate) root: bool,
    pub(crate) programs: &'a [&'a str],
    pub(crate) cgroups: &'a Path,
    /// The file in which the system says what it is.
    pub(crate) release: &'a Path,
    /// Tries a part of the kernel out; what was said of it where it isn't there.
    pub(crate) kernel: &'a dyn Fn(Part) -> Result<(), String>,
}

/// This machine.
pub(crate) fn this_machine() -> Machine<'static> {
    Machine {
        root: nix::unistd::geteuid().is_root(),
        programs: &SEARCH_PATH,
        cgroups: Path::new(cgroups::MOUNT),
        release: Path::new(RELEASE),
        kernel: &kernel::try_out,
    }
}

/// Notes all that is missing.
pub(crate) fn check(machine: Machine<'_>, state: &Path, problems: &mut Problems) {
    let place = "--hosts systemd";
    if !cfg!(target_os = "linux") {
        problems.add(place, "needs Linux");
        return;
    }
    if let Err(reason) = check_release(machine.release) {
        problems.add(place, reason);
    }
    if !machine.root {
        problems.add(place, "needs root: start it with sudo, or use --hosts process");
    }
    for (program, package) in PROGRAMS {
        if command::find(program, machine.programs).is_none() {
            problems.add(
                place,
                format!("`{program}` is missing; on Debian: apt-get install {package}"),
            );
        }
    }
    if let Err(reason) = Cgroups::of(Block(0), machine.cgroups) {
        problems.add(place, reason);
    }
    if machine.root {
        for lack in lacks(machine, &Part::NEEDED) {
            problems.add(place, lack);
        }
    }
    if !disk::is_usable(state) {
        problems.add(
            "--state",
            "a directory with `,`, `:`, `\\` or `\"` in its name can't hold the disks of systemd hosts",
        );
    }
}

/// What hosts will lack on this machine, with what to do about it.
pub(super) fn warnings(machine: Machine<'_>) -> Vec<String> {
    lacks(machine, &Part::WANTED)
}

/// The parts of the kernel that are not there. Those whose programs are missing can't be tried out, nor any without namespaces.
fn lacks(machine: Machine<'_>, parts: &[Part]) -> Vec<String> {
    let is_there = |program: &&str| command::find(program, machine.programs).is_some();
    let mut lacks = Vec::new();
    for part in parts.iter().filter(|part| part.tried_by().iter().all(is_there)) {
        if let Err(said) = (machine.kernel)(*part) {
            lacks.push(format!("{} ({said})", part.lack()));
            if *part == Part::Namespaces {
                break;
            }
        }
    }
    lacks
}

/// Looks whether the system is a Debian that is young enough. What has no version yet is younger than all that have.
fn check_release(file: &Path) -> Result<(), String> {
    let needed = format!("needs Debian {DEBIAN_MIN} or later, from whose mirror it makes base images");
    let advice = "use such a machine or container, or --hosts process";
    let Ok(text) = std::fs::read_to_string(file) else {
        return Err(format!("{needed}, and there is no {}: {advice}", file.display()));
    };
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        let found = lines.find(|(key, _)| *key == name);
        found.map(|(_, value)| value.trim_matches(['"', '\'']))
    };
    let version: Option<u32> =
        value("VERSION_ID").and_then(|version| version.split('.').next()?.parse().ok());
    if value("ID") == Some("debian") && version.is_none_or(|version| version >= DEBIAN_MIN) {
        return Ok(());
    }
    let name = value("PRETTY_NAME").or(value("ID")).unwrap_or("something else");
    Err(format!(
        "{needed}, and this is {name} (by {}): {advice}",
        file.display()
    ))
}

/// Why so many hosts at a time may not come up on this machine.
pub(super) fn too_many(hosts: usize) -> Option<String> {
    let bound = std::fs::read_to_string(INOTIFY_MAX).ok()?;
    too_many_for(bound.trim().parse().ok()?, hosts)
}

fn too_many_for(bound: usize, hosts: usize) -> Option<String> {
    let needed = hosts * INOTIFY_A_HOST;
    let advised = needed.next_power_of_two().max(INOTIFY_ADVISED);
    (needed > bound).then(|| {
        format!(
            "{hosts} hosts are on, and their systemd may fail with \"Too many open files\": this machine lets root have {bound} \
             instances of inotify, some {INOTIFY_A_HOST} a host; sysctl fs.inotify.max_user_instances={advised}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that has everything, but for what a test takes away.
    struct Trial {
        dir: tempfile::TempDir,
        lacking: &'static [Part],
    }

    impl Trial {
        fn lacking(lacking: &'static [Part]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for program in PROGRAMS.map(|(program, _)| program) {
                std::fs::write(dir.path().join(program), "").unwrap();
            }
            std::fs::write(
                dir.path().join("cgroup.controllers"),
                "cpu cpuset io memory pids\n",
            )
            .unwrap();
            let trial = Self { dir, lacking };
            trial.is("ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n");
            trial
        }

        fn is(&self, release: &str) {
            std::fs::write(self.dir.path().join("os-release"), release).unwrap();
        }

        fn look<T>(&self, look: impl FnOnce(Machine<'_>) -> T) -> T {
            let path = self.dir.path();
            let kernel = |part: Part| match self.lacking.contains(&part) {
                true => Err("the kernel's words".to_owned()),
                false => Ok(()),
            };
            look(Machine {
                root: true,
                programs: &[path.to_str().unwrap()],
                cgroups: path,
                release: &path.join("os-release"),
                kernel: &kernel,
            })
        }

        /// What is said of it.
        fn problems(&self) -> Vec<String> {
            let mut problems = Problems::new();
            self.look(|machine| check(machine, Path::new("/tmp"), &mut problems));
            problems
                .list()
                .iter()
                .map(|problem| problem.message.clone())
                .collect()
        }

        fn warnings(&self) -> Vec<String> {
            self.look(warnings)
        }
    }

    #[test]
    fn a_machine_that_has_everything_is_told_nothing() {
        let trial = Trial::lacking(&[]);
        assert_eq!(trial.problems(), [] as [&str; 0]);
        assert_eq!(trial.warnings(), [] as [&str; 0]);
    }

    #[test]
    fn everything_that_is_missing_is_named_with_its_package() {
        let empty = tempfile::tempdir().unwrap();
        let directory = empty.path().to_str().unwrap();
        let mut problems = Problems::new();
        let machine = Machine {
            root: false,
            programs: &[directory],
            cgroups: empty.path(),
            release: &empty.path().join("os-release"),
            kernel: &|_| Ok(()),
        };
        check(machine, Path::new("/tmp/a:b"), &mut problems);
        let text = problems.to_string();
        for expected in [
            "--hosts systemd: needs root",
            "--hosts systemd: needs Debian 12 or later",
            "`systemd-nspawn` is missing; on Debian: apt-get install systemd-container",
            "`nft` is missing; on Debian: apt-get install nftables",
            "control groups with the controller `cpu`",
            "--state: a directory with",
        ] {
            assert!(text.contains(expected), "{expected} is not in:\n{text}");
        }
    }

    #[test]
    fn a_kernel_without_overlayfs_is_refused_with_what_to_do() {
        assert_eq!(
            Trial::lacking(&[Part::Overlay]).problems(),
            [
                "the kernel has no overlayfs, which hosts' disks are put together by: modprobe overlay, or boot a kernel with \
              CONFIG_OVERLAY_FS, as Debian's are (the kernel's words)"
            ]
        );
    }

    #[test]
    fn a_kernel_without_nf_tables_is_refused_with_what_to_do() {
        let said = Trial::lacking(&[Part::NfTables]).problems();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with(
                "the kernel's nf_tables can't hold the rules that keep hosts apart: modprobe nf_tables"
            ),
            "{said:?}"
        );
        assert!(said[0].ends_with("(the kernel's words)"), "{said:?}");
    }

    #[test]
    fn a_kernel_without_veth_and_bridges_is_told_both() {
        let said = Trial::lacking(&[Part::Veth, Part::Bridge]).problems();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said[0].contains("modprobe veth") && said[1].contains("modprobe bridge"),
            "{said:?}"
        );
    }

    #[test]
    fn without_namespaces_nothing_else_of_the_kernel_is_tried() {
        let said = Trial::lacking(&Part::NEEDED).problems();
        assert_eq!(
            said,
            [
                "namespaces can't be made, and hosts run in such: in a container, give it all capabilities (--privileged) \
              (the kernel's words)"
            ]
        );
    }

    #[test]
    fn what_is_tried_by_a_program_that_is_missing_is_not_named_twice() {
        let trial = Trial::lacking(&[Part::NfTables]);
        std::fs::remove_file(trial.dir.path().join("nft")).unwrap();
        assert_eq!(
            trial.problems(),
            ["`nft` is missing; on Debian: apt-get install nftables"]
        );
    }

    #[test]
    fn another_system_and_an_older_debian_are_refused_and_a_younger_one_is_not() {
        let needed = "needs Debian 12 or later, from whose mirror it makes base images, and this is ";
        let trial = Trial::lacking(&[]);
        for (release, name) in [
            (
                "ID=debian\nVERSION_ID=\"11\"\nPRETTY_NAME=\"Debian GNU/Linux 11 (bullseye)\"\n",
                "Debian GNU/Linux 11 (bullseye)",
            ),
            (
                "PRETTY_NAME='Ubuntu 24.04 LTS'\nID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\n",
                "Ubuntu 24.04 LTS",
            ),
            ("ID=alpine\n", "alpine"),
            ("", "something else"),
        ] {
            trial.is(release);
            let said = trial.problems();
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said[0].starts_with(&format!("{needed}{name} (by ")), "{said:?}");
            assert!(
                said[0].ends_with("use such a machine or container, or --hosts process"),
                "{said:?}"
            );
        }
        for release in [
            "ID=debian\nVERSION_ID=\"13\"\n",
            "ID=debian\nVERSION_ID=12\n",
            "PRETTY_NAME=\"Debian GNU/Linux forky/sid\"\nID=debian\n",
        ] {
            trial.is(release);
            assert_eq!(trial.problems(), [] as [&str; 0], "{release}");
        }
    }

    #[test]
    fn control_groups_without_a_controller_are_refused() {
        let trial = Trial::lacking(&[]);
        std::fs::write(trial.dir.path().join("cgroup.controllers"), "cpu pids\n").unwrap();
        let said = trial.problems();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("no controller `memory`"), "{said:?}");
    }

    #[test]
    fn without_loop_devices_it_is_warned_that_disks_have_no_bound_and_volumes_are_not_there() {
        let trial = Trial::lacking(&[Part::Loops]);
        assert_eq!(trial.problems(), [] as [&str; 0]);
        assert_eq!(
            trial.warnings(),
            [
                "this machine has no loop devices: a host's disk is as large as the machine's, and there are no volumes; modprobe loop, \
              or give /dev/loop-control to the container that this is (the kernel's words)"
            ]
        );
    }

    #[test]
    fn without_br_netfilter_it_is_warned_that_neighbours_are_not_filtered() {
        let trial = Trial::lacking(&[Part::BridgeFilter]);
        assert_eq!(trial.problems(), [] as [&str; 0]);
        let said = trial.warnings();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with(
                "the kernel has no br_netfilter: firewalls are not held between hosts of one network"
            ) && said[0].contains("modprobe br_netfilter"),
            "{said:?}"
        );
    }

    #[test]
    fn more_hosts_than_the_kernels_inotify_has_room_for_are_warned_of() {
        assert_eq!(too_many_for(128, 17), None);
        let warned = too_many_for(128, 19).unwrap();
        assert!(
            warned.ends_with("sysctl fs.inotify.max_user_instances=1024"),
            "{warned}"
        );
        assert_eq!(too_many_for(1_024, 19), None);
        let warned = too_many_for(1_024, 200).unwrap();
        assert!(warned.ends_with("=2048"), "{warned}");
    }
}
