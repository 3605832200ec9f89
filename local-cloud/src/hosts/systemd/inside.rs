//! What is done inside of a host that is on: devices come and go there. By the kernel's calls alone, made in the host's own mount
//! namespace, where each link leads to where it leads for the host: nothing of the host is run for it.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::disk_file::Device;

/// The process of a host that stands for all of it, once it has its own root: a child of systemd-nspawn.
pub(super) fn leader(nspawn: i32, root: &Path) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    let root = root.metadata().ok()?;
    let has_root = |pid: &i32| {
        let own = std::fs::metadata(format!("/proc/{pid}/root/"));
        own.is_ok_and(|own| (own.dev(), own.ino()) == (root.dev(), root.ino()))
    };
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .find(has_root)
}

/// Makes a device's node, unless it is there.
///
/// # Errors
/// The kernel's.
pub(super) fn plug(leader: i32, node: &Path, device: Device) -> io::Result<()> {
    let node = node.to_owned();
    enter(leader, move || {
        if is_node_of(&node, device) {
            return Ok(());
        }
        if let Some(above) = node.parent() {
            std::fs::create_dir_all(above)?;
        }
        remove(&node)?;
        let number = makedev(device.major, device.minor);
        Ok(mknod(
            &node,
            SFlag::S_IFBLK,
            Mode::S_IRUSR | Mode::S_IWUSR,
            number,
        )?)
    })
}

/// Takes a device away: what is mounted of it, and its node. Whoever has a file open on it keeps that.
///
/// # Errors
/// The kernel's.
pub(super) fn unplug(leader: i32, node: &Path, device: Device) -> io::Result<()> {
    let table = std::fs::read_to_string(format!("/proc/{leader}/mountinfo"))?;
    let points = super::mounts::points_of(&table, &format!("{}:{}", device.major, device.minor));
    let node = node.to_owned();
    enter(leader, move || {
        for point in points.iter().rev() {
            detach(point)?;
        }
        remove(&node)
    })
}

/// Removes a node, which may be one that was bound there.
fn remove(node: &Path) -> io::Result<()> {
    detach(node)?;
    match std::fs::remove_file(node) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Unmounts, at once for everybody who looks and at last for those who use it. What is not mounted is no mistake.
fn detach(point: &Path) -> io::Result<()> {
    match umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn is_node_of(node: &Path, device: Device) -> bool {
    node.symlink_metadata().is_ok_and(|found| {
        found.file_type().is_block_device() && found.rdev() == makedev(device.major, device.minor)
    })
}

/// Works in a host's mount namespace. A thread of its own: it alone enters, and ends there.
fn enter(leader: i32, work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    let namespace = File::open(PathBuf::from(format!("/proc/{leader}/ns/mnt")))?;
    let thread = std::thread::Builder::new()
        .name("inside".to_owned())
        .spawn(move || {
            // A thread that shares its directories with others can't go elsewhere.
            unshare(CloneFlags::CLONE_FS)?;
            setns(namespace, CloneFlags::CLONE_NEWNS)?;
            work()
        })?;
    let ended = thread.join();
    ended.unwrap_or_else(|_panic| Err(io::Error::other("the thread inside of the host failed")))
}
