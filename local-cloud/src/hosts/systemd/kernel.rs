//! Parts of the kernel that hosts need. A kernel has no list of all that it can do or load: each part is tried out, in namespaces
//! that end with the trial and take with them what it has made.

use std::path::Path;

use super::command::{self, CommandError};
use super::{disk_file, network, rules};
use crate::machines::block::Block;

/// Makes an overlay, and nothing that anybody else sees: all of it is in the trial's own `/tmp`.
const OVERLAY: &str = "mount -t tmpfs none /tmp && mkdir /tmp/lower /tmp/upper /tmp/work /tmp/root && \
    mount -t overlay none -o lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work /tmp/root";

/// Something that a kernel has or lacks, or lets nobody use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Namespaces,
    Overlay,
    Veth,
    Bridge,
    NfTables,
    Loops,
    BridgeFilter,
}

impl Part {
    /// Without these there are no hosts. The first is what the others are tried out in.
    pub(super) const NEEDED: [Self; 5] = [
        Self::Namespaces,
        Self::Overlay,
        Self::Veth,
        Self::Bridge,
        Self::NfTables,
    ];
    /// Without these hosts lack something.
    pub(super) const WANTED: [Self; 2] = [Self::Loops, Self::BridgeFilter];

    /// The programs that try it out.
    pub(super) fn tried_by(self) -> &'static [&'static str] {
        match self {
            Self::Namespaces => &["unshare"],
            Self::Overlay => &["unshare", "mount"],
            Self::Veth | Self::Bridge => &["unshare", "ip"],
            Self::NfTables => &["unshare", "nft"],
            Self::Loops | Self::BridgeFilter => &[],
        }
    }

    /// What its lack means, and what to do.
    pub(super) fn lack(self) -> &'static str {
        match self {
            Self::Namespaces => {
                "namespaces can't be made, and hosts run in such: in a container, give it all capabilities (--privileged)"
            }
            Self::Overlay => {
                "the kernel has no overlayfs, which hosts' disks are put together by: modprobe overlay, or boot a kernel with \
                 CONFIG_OVERLAY_FS, as Debian's are"
            }
            Self::Veth => {
                "the kernel has no veth, which connects hosts: modprobe veth, or boot a kernel with CONFIG_VETH, as Debian's are"
            }
            Self::Bridge => {
                "the kernel has no bridges, which connect hosts: modprobe bridge, or boot a kernel with CONFIG_BRIDGE, as \
                 Debian's are"
            }
            Self::NfTables => {
                "the kernel's nf_tables can't hold the rules that keep hosts apart: modprobe nf_tables, or boot a kernel with \
                 CONFIG_NF_TABLES_INET, CONFIG_NF_TABLES_BRIDGE, CONFIG_NFT_CT, CONFIG_NFT_NAT and CONFIG_NFT_MASQ, as Debian's are"
            }
            Self::Loops => {
                "this machine has no loop devices: a host's disk is as large as the machine's, and there are no volumes; modprobe \
                 loop, or give /dev/loop-control to the container that this is"
            }
            Self::BridgeFilter => {
                "the kernel has no br_netfilter: firewalls are not held between hosts of one network, and all show `failed`; \
                 modprobe br_netfilter, or boot a kernel with CONFIG_BRIDGE_NETFILTER, as Debian's are"
            }
        }
    }
}

/// Tries a part out.
///
/// # Errors
/// What was said of it; nothing is left.
pub(super) fn try_out(part: Part) -> Result<(), String> {
    let there = |is_there: bool| is_there.then_some(()).ok_or_else(|| "it is not there".to_owned());
    match part {
        Part::Namespaces => trial(
            &["--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "true"],
            "",
        ),
        Part::Overlay => trial(&["--mount", "--propagation", "private", "sh", "-c", OVERLAY], ""),
        Part::Veth => trial(
            &[
                "--net", "ip", "link", "add", "one", "type", "veth", "peer", "name", "two",
            ],
            "",
        ),
        Part::Bridge => trial(&["--net", "ip", "link", "add", "one", "type", "bridge"], ""),
        Part::NfTables => trial(&["--net", "nft", "-f", "-"], &rules::of(Block(0))),
        Part::Loops => there(disk_file::are_possible()),
        Part::BridgeFilter => there(Path::new(network::BRIDGES_FILTER).exists()),
    }
}

fn trial(args: &[&str], input: &str) -> Result<(), String> {
    let mut unshare = command::command("unshare");
    unshare.args(args);
    match command::finish(unshare, input) {
        Ok(_) => Ok(()),
        // The first line says what, the others show where.
        Err(CommandError::Failed { complaint, .. }) => {
            Err(complaint.lines().next().unwrap_or("nothing").to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What trials have made that others see.
    fn traces() -> Vec<String> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let below = points.filter(|point| ["/tmp", "/tmp/root"].contains(point));
        let links = ["one", "two"].map(|link| format!("/sys/class/net/{link}"));
        let links = links.into_iter().filter(|link| Path::new(link).exists());
        below.map(str::to_owned).chain(links).collect()
    }

    #[test]
    fn a_trial_leaves_nothing_and_says_what_the_kernel_said() {
        if !nix::unistd::geteuid().is_root() {
            println!("tidepool-skip: kernel trials: not run as root");
            return;
        }
        let before = traces();
        for part in Part::NEEDED {
            if part
                .tried_by()
                .iter()
                .all(|program| command::find(program, &command::SEARCH_PATH).is_some())
            {
                assert_eq!(try_out(part), Ok(()), "{part:?}");
            }
        }
        assert_eq!(traces(), before);
        let said = trial(
            &["--mount", "sh", "-c", "echo first >&2; echo second >&2; exit 1"],
            "",
        );
        assert_eq!(said, Err("first".to_owned()));
    }
}
