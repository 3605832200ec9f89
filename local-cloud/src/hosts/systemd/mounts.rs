//! Mounts of this machine, and what goes wrong with disks.

use std::io;
use std::path::{Path, PathBuf};

use super::command::{self, CommandError};

/// Why something can't be done with a disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("{path}: {source}")]
    Disk {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error("snapshot {0} is gone")]
    NoSnapshot(u64),
    #[error("what the machine's disk stands on is gone: {0}")]
    NoLayer(PathBuf),
    #[error("machine {0} was never on: there is nothing on its disk")]
    NeverOn(u64),
}

/// Takes everything apart that is mounted below a directory, the innermost first.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn unmount_below(dir: &Path) -> Result<(), DiskError> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(of_path(Path::new("/proc/self/mountinfo")))?;
    for point in mount_points(&table, dir).into_iter().rev() {
        command::run("umount", &[&point.display().to_string()])?;
    }
    Ok(())
}

/// The mount points of a device's file systems, in the order mounted. The third field of a line is the device's number.
pub(super) fn points_of(table: &str, device: &str) -> Vec<PathBuf> {
    let lines = table
        .lines()
        .filter(|line| line.split(' ').nth(2) == Some(device));
    lines
        .flat_map(|line| mount_points(line, Path::new("/")))
        .collect()
}

/// The mount points below a directory, in the order mounted. The fifth field of a line, with `\040` for a space and so on.
fn mount_points(table: &str, dir: &Path) -> Vec<PathBuf> {
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let plain = |point: &str| {
        [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
            .iter()
            .fold(point.to_owned(), |point, (code, char)| point.replace(code, char))
    };
    let points = points.map(|point| PathBuf::from(plain(point)));
    points.filter(|point| point.starts_with(dir)).collect()
}

pub(super) fn of_path(path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError::Disk { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_directory() {
        let table = "22 1 0:5 / /a/b rw - proc proc rw\n23 1 0:6 / /a/b/c\\040d rw - x y rw\n24 1 0:6 / /a/bc rw - x y rw\n";
        assert_eq!(
            mount_points(table, Path::new("/a/b")),
            [PathBuf::from("/a/b"), PathBuf::from("/a/b/c d")]
        );
        assert_eq!(
            points_of(table, "0:6"),
            [PathBuf::from("/a/b/c d"), PathBuf::from("/a/bc")]
        );
        assert!(points_of(table, "0:7").is_empty());
    }
}
