//! What this machine must have for systemd hosts. Everything that is missing is named at once, with the Debian package.

use std::path::Path;

use super::cgroups::{self, Cgroups};
use super::command::{self, SEARCH_PATH};
use super::disk;
use crate::machines::block::Block;
use crate::problems::Problems;

/// Programs, and the Debian package of each.
const PROGRAMS: [(&str, &str); 15] = [
    ("apt-config", "apt"),
    ("apt-get", "apt"),
    ("cp", "coreutils"),
    ("e2fsck", "e2fsprogs"),
    ("grep", "grep"),
    ("ip", "iproute2"),
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
}
