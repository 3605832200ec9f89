//! Disks: each host's is a layer of its own on those of an image, put together by overlayfs. A snapshot is a copy of that
//! layer, and an image for other hosts from then on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::command::{self, CommandError};
use super::packages;
use crate::private_files;
use crate::state::dir::StateDir;

/// Characters with a meaning in the options of an overlay; no directory of ours may have them in its name.
const NOT_IN_PATHS: [char; 4] = [',', ':', '\\', '"'];
/// How the mounts of hosts' disks are listed.
const MOUNT_SOURCE: &str = "tidepool-local-cloud";

/// Where hosts' disks and snapshots stand.
#[derive(Debug, Clone)]
pub(super) struct Disks {
    machines: PathBuf,
    snapshots: PathBuf,
    /// Held while it is decided what stands on what.
    deciding: Arc<Mutex<()>>,
}

/// What a layer stands on, the topmost first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layers(pub(super) Vec<PathBuf>);

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
    #[error("machine {0} was never on: there is nothing on its disk")]
    NeverOn(u64),
}

impl Disks {
    pub(super) fn of(state: &StateDir) -> Self {
        Self {
            machines: state.hosts(),
            snapshots: state.path().join("snapshots"),
            deciding: Arc::default(),
        }
    }

    /// The directory of all machines.
    pub(super) fn machines(&self) -> &Path {
        &self.machines
    }

    pub(super) fn machine(&self, id: u64) -> PathBuf {
        self.machines.join(id.to_string())
    }

    /// A machine's file system, while it is on.
    pub(super) fn root(&self, id: u64) -> PathBuf {
        self.machine(id).join("root")
    }

    /// Makes a machine's empty layer, on what the snapshot stood on if it is made from one.
    ///
    /// # Errors
    /// When the disk fails or the snapshot is gone.
    pub(super) fn make(&self, id: u64, snapshot: Option<u64>) -> Result<(), DiskError> {
        let dir = self.machine(id);
        make_private(&dir)?;
        for name in ["work", "root"] {
            make_private(&dir.join(name))?;
        }
        // The layer's own directory becomes the host's `/`, which everybody in it may read.
        let layer = dir.join("disk");
        std::fs::create_dir_all(&layer).map_err(of_path(&layer))?;
        let Some(snapshot) = snapshot else { return Ok(()) };
        let _deciding = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        let from = self.snapshots.join(snapshot.to_string());
        if !from.join("disk").is_dir() || from.join("removed").exists() {
            return Err(DiskError::NoSnapshot(snapshot));
        }
        let mut layers = read_layers(&from)?.unwrap_or_default();
        layers.0.insert(0, from.join("disk"));
        write_layers(&dir, &layers)
    }

    /// What a machine's layer stands on; None for one that has not been on yet.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn layers(&self, id: u64) -> Result<Option<Layers>, DiskError> {
        read_layers(&self.machine(id))
    }

    /// Notes what a machine's layer stands on, which never changes afterwards.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn set_layers(&self, id: u64, layers: &Layers) -> Result<(), DiskError> {
        write_layers(&self.machine(id), layers)
    }

    /// Puts a machine's disk together.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn mount(&self, id: u64, layers: &Layers) -> Result<(), DiskError> {
        self.unmount(id)?;
        let dir = self.machine(id);
        let lower: Vec<String> = layers.0.iter().map(|layer| layer.display().to_string()).collect();
        let options = format!(
            "nodev,lowerdir={},upperdir={},workdir={}",
            lower.join(":"),
            dir.join("disk").display(),
            dir.join("work").display()
        );
        let root = self.root(id).display().to_string();
        command::run("mount", &["-t", "overlay", MOUNT_SOURCE, "-o", &options, &root])?;
        Ok(())
    }

    /// Takes a machine's disk apart; one that is not mounted stays as it is.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn unmount(&self, id: u64) -> Result<(), DiskError> {
        unmount_below(&self.machine(id))
    }

    /// Removes a machine's directory, and with it its layer.
    ///
    /// # Errors
    /// When something of it is still in use.
    pub(super) fn remove(&self, id: u64) -> Result<(), DiskError> {
        self.unmount(id)?;
        let dir = self.machine(id);
        remove_all(&dir)?;
        self.collect()
    }

    /// Copies a machine's layer, which nobody changes meanwhile, to be a snapshot.
    ///
    /// # Errors
    /// When the disk fails; nothing is left then.
    pub(super) fn snapshot(&self, id: u64, snapshot: u64) -> Result<(), DiskError> {
        let dir = self.snapshots.join(snapshot.to_string());
        let copied = self.copy(id, &dir);
        if copied.is_err()
            && let Err(error) = remove_all(&dir)
        {
            tracing::warn!(snapshot, %error, "something is left of a failed snapshot");
        }
        copied
    }

    /// Forgets a snapshot. Its layer stays as long as a machine or another snapshot stands on it.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn snapshot_remove(&self, snapshot: u64) -> Result<(), DiskError> {
        let dir = self.snapshots.join(snapshot.to_string());
        if !dir.is_dir() {
            return Ok(());
        }
        let mark = dir.join("removed");
        private_files::write(&mark, "").map_err(of_path(&mark))?;
        self.collect()
    }

    fn copy(&self, id: u64, dir: &Path) -> Result<(), DiskError> {
        let layers = self.layers(id)?.ok_or(DiskError::NeverOn(id))?;
        make_private(dir)?;
        write_layers(dir, &layers)?;
        let (from, to) = (self.machine(id).join("disk"), dir.join("disk"));
        let (from, to) = (from.display().to_string(), to.display().to_string());
        // With the marks of what was deleted or replaced, which are devices and extended attributes.
        let args = ["-a", "--reflink=auto", "--one-file-system", "--", &from, &to];
        command::run("cp", &args)?;
        // The cloud's own, which the next host gets of its own cloud.
        remove_inside(&dir.join("disk"), packages::LIST)
    }

    /// Removes the layers of forgotten snapshots on which nothing stands any more, one after the other down to the image.
    fn collect(&self) -> Result<(), DiskError> {
        let _deciding = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let snapshots = directories(&self.snapshots)?;
            let mut used = Vec::new();
            for dir in directories(&self.machines)?.iter().chain(&snapshots) {
                used.extend(read_layers(dir)?.unwrap_or_default().0);
            }
            let idle: Vec<&PathBuf> = snapshots
                .iter()
                .filter(|dir| dir.join("removed").exists() && !used.contains(&dir.join("disk")))
                .collect();
            if idle.is_empty() {
                return Ok(());
            }
            for dir in idle {
                remove_all(dir)?;
            }
        }
    }
}

/// Whether the directory's name can stand in the options of a mount.
pub(super) fn is_usable(path: &Path) -> bool {
    path.to_str().is_some_and(|path| !path.contains(NOT_IN_PATHS))
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

fn read_layers(dir: &Path) -> Result<Option<Layers>, DiskError> {
    let path = dir.join("layers.json");
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(io::Error::from)
            .map_err(of_path(&path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(of_path(&path)(error)),
    }
}

fn write_layers(dir: &Path, layers: &Layers) -> Result<(), DiskError> {
    let path = dir.join("layers.json");
    let text = serde_json::to_vec(layers).map_err(io::Error::from);
    text.and_then(|text| private_files::write(&path, text))
        .map_err(of_path(&path))
}

fn directories(dir: &Path) -> Result<Vec<PathBuf>, DiskError> {
    match std::fs::read_dir(dir) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(of_path(dir)(error)),
    }
}

fn make_private(dir: &Path) -> Result<(), DiskError> {
    private_files::create_dir_all(dir).map_err(of_path(dir))
}

fn remove_all(dir: &Path) -> Result<(), DiskError> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(of_path(dir)(error)),
        _ => Ok(()),
    }
}

/// Removes a file of a layer, unless the way to it leads through a link: that would lead out of the layer.
fn remove_inside(layer: &Path, file: &str) -> Result<(), DiskError> {
    let path = layer.join(file);
    let above: Vec<&Path> = path
        .ancestors()
        .skip(1)
        .take_while(|above| *above != layer)
        .collect();
    let is_directory = |path: &&Path| path.symlink_metadata().is_ok_and(|found| found.is_dir());
    if !above.iter().all(is_directory) {
        return Ok(());
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(of_path(&path)(error)),
        _ => Ok(()),
    }
}

fn of_path(path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError::Disk { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disks(dir: &Path) -> Disks {
        Disks::of(&StateDir::new(dir))
    }

    #[test]
    fn a_forgotten_snapshot_stays_while_something_stands_on_it() {
        let dir = tempfile::tempdir().unwrap();
        let disks = disks(dir.path());
        disks.make(1, None).unwrap();
        disks
            .set_layers(1, &Layers(vec![PathBuf::from("/base")]))
            .unwrap();
        std::fs::write(disks.machine(1).join("disk/file"), "of one").unwrap();
        disks.snapshot(1, 100).unwrap();
        disks.make(2, Some(100)).unwrap();
        let layer = dir.path().join("snapshots/100/disk");
        assert_eq!(
            disks.layers(2).unwrap(),
            Some(Layers(vec![layer.clone(), PathBuf::from("/base")]))
        );
        disks.snapshot(2, 200).unwrap();
        disks.snapshot_remove(100).unwrap();
        assert_eq!(std::fs::read_to_string(layer.join("file")).unwrap(), "of one");
        assert!(matches!(
            disks.make(3, Some(100)),
            Err(DiskError::NoSnapshot(100))
        ));
        disks.remove(2).unwrap();
        assert!(layer.exists(), "another snapshot stands on it");
        disks.snapshot_remove(200).unwrap();
        disks.remove(3).unwrap();
        assert!(!layer.exists() && !dir.path().join("snapshots/200").exists());
    }

    #[test]
    fn a_snapshot_has_no_list_of_the_clouds_packages() {
        let dir = tempfile::tempdir().unwrap();
        let disks = disks(dir.path());
        for (machine, snapshot) in [(1, 100), (2, 200)] {
            disks.make(machine, None).unwrap();
            disks.set_layers(machine, &Layers::default()).unwrap();
            let outside = dir.path().join("outside").join("tidepool-local-cloud.list");
            std::fs::create_dir_all(outside.parent().unwrap()).unwrap();
            std::fs::write(&outside, "of somebody else").unwrap();
            let list = disks.machine(machine).join("disk").join(packages::LIST);
            std::fs::create_dir_all(list.parent().unwrap()).unwrap();
            if machine == 1 {
                std::fs::write(&list, "deb http://198.18.0.1/bookworm bookworm main").unwrap();
            } else {
                std::fs::remove_dir(list.parent().unwrap()).unwrap();
                std::os::unix::fs::symlink(outside.parent().unwrap(), list.parent().unwrap()).unwrap();
            }
            disks.snapshot(machine, snapshot).unwrap();
            assert!(list.exists() && outside.exists());
            let kept = dir.path().join(format!("snapshots/{snapshot}/disk/etc/apt"));
            let files = std::fs::read_dir(kept.join("sources.list.d")).unwrap().count();
            assert_eq!(files, usize::from(machine == 2), "{kept:?}");
        }
    }

    #[test]
    fn mounts_are_found_by_directory() {
        let table = "22 1 0:5 / /a/b rw - proc proc rw\n23 1 0:6 / /a/b/c\\040d rw - x y rw\n24 1 0:7 / /a/bc rw - x y rw\n";
        assert_eq!(
            mount_points(table, Path::new("/a/b")),
            [PathBuf::from("/a/b"), PathBuf::from("/a/b/c d")]
        );
    }

    #[test]
    fn names_that_mean_something_to_a_mount_are_not_usable() {
        assert!(is_usable(Path::new("/var/lib/cloud 1")));
        assert!(!is_usable(Path::new("/tmp/a:b")) && !is_usable(Path::new("/tmp/a,b")));
    }
}
