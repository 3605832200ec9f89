//! What this machine must have for systemd hosts. Everything that is missing is named at once, with the Debian package.

use std::path::Path;

use super::cgroups::{self, Cgroups};
use super::command::{self, SEARCH_PATH};
use super::disk;
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

/// Where things are looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine<'a> {
    pub(crate) root: bool,
    pub(crate) programs: &'a [&'a str],
    pub(crate) cgroups: &'a Path,
}

/// This machine.
pub(crate) fn this_machine() -> Machine<'static> {
    Machine {
        root: nix::unistd::geteuid().is_root(),
        programs: &SEARCH_PATH,
        cgroups: Path::new(cgroups::MOUNT),
    }
}

/// Notes all that is missing.
pub(crate) fn check(machine: Machine<'_>, state: &Path, problems: &mut Problems) {
    let place = "--hosts systemd";
    if !cfg!(target_os = "linux") {
        problems.add(place, "needs Linux");
        return;
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
    if !disk::is_usable(state) {
        problems.add(
            "--state",
            "a directory with `,`, `:`, `\\` or `\"` in its name can't hold the disks of systemd hosts",
        );
    }
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

    #[test]
    fn everything_that_is_missing_is_named_with_its_package() {
        let empty = tempfile::tempdir().unwrap();
        let directory = empty.path().to_str().unwrap();
        let mut problems = Problems::new();
        let machine = Machine {
            root: false,
            programs: &[directory],
            cgroups: empty.path(),
        };
        check(machine, Path::new("/tmp/a:b"), &mut problems);
        let text = problems.to_string();
        for expected in [
            "--hosts systemd: needs root",
            "`systemd-nspawn` is missing; on Debian: apt-get install systemd-container",
            "`nft` is missing; on Debian: apt-get install nftables",
            "control groups with the controller `cpu`",
            "--state: a directory with",
        ] {
            assert!(text.contains(expected), "{expected} is not in:\n{text}");
        }
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
