//! Disks: each host's is a layer of its own on those of an image, put together by overlayfs, and stands in a file of its size. A
//! snapshot is a copy of that layer, and an image for other hosts from then on.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::command;
use super::disk_file::{self, Device, DiskFile};
use super::mounts::{DiskError, of_path, unmount_below};
use super::packages;
use crate::machines::Machine;
use crate::private_files;
use crate::state::dir::StateDir;

/// Characters with a meaning in the options of an overlay; no directory of ours may have them in its name.
const NOT_IN_PATHS: [char; 4] = [',', ':', '\\', '"'];
/// In a directory of a machine or a snapshot: what its layer stands on.
const LAYERS: &str = "layers.json";
/// How the mounts of hosts' disks are listed.
const MOUNT_SOURCE: &str = "tidepool-local-cloud";

/// Where hosts' disks and snapshots stand.
#[derive(Debug, Clone)]
pub(super) struct Disks {
    machines: PathBuf,
    snapshots: PathBuf,
    /// Whether new disks stand in files of their size.
    bounded: bool,
    /// Held while it is decided what stands on what.
    deciding: Arc<Mutex<()>>,
    /// Machines whose disk is copied, changed or removed; one after the other.
    busy: Arc<(Mutex<BTreeSet<u64>>, Condvar)>,
}

/// What a layer stands on, the topmost first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layers(pub(super) Vec<PathBuf>);

/// What a machine's disk consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Devices {
    pub(super) own: Option<Device>,
    pub(super) shared: Vec<Device>,
}

/// A disk that is to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewDisk {
    pub(super) machine: u64,
    pub(super) snapshot: Option<u64>,
    pub(super) gib: u64,
}

impl NewDisk {
    pub(super) fn of(machine: &Machine) -> Self {
        Self {
            machine: machine.id,
            snapshot: machine.snapshot,
            gib: machine.size.disk_gb,
        }
    }
}

impl Disks {
    pub(super) fn of(state: &StateDir) -> Self {
        Self {
            machines: state.hosts(),
            snapshots: state.path().join("snapshots"),
            bounded: disk_file::are_possible(),
            deciding: Arc::default(),
            busy: Arc::default(),
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

    /// Makes mounts below the machines' directory end for everybody when they end here: a host that boots gets a copy of all that is mounted
    /// at that moment, its neighbours' disks among them, and would keep them in use.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn share(&self) -> Result<(), DiskError> {
        let machines = self.machines.display().to_string();
        command::run("mount", &["--bind", "--make-shared", &machines, &machines])?;
        Ok(())
    }

    /// Makes a machine's empty layer, on what the snapshot stood on if it is made from one.
    ///
    /// # Errors
    /// When the disk fails or the snapshot is gone.
    pub(super) fn make(&self, disk: NewDisk) -> Result<(), DiskError> {
        let dir = self.machine(disk.machine);
        make_private(&dir.join("root"))?;
        let file = DiskFile::of(&dir);
        if self.bounded {
            file.make(disk.gib)?;
        }
        let writable = writable(&dir);
        make_private(&writable.join("work"))?;
        // The layer's own directory becomes the host's `/`, which everybody in it may read.
        let layer = writable.join("disk");
        std::fs::create_dir_all(&layer).map_err(of_path(&layer))?;
        let Some(snapshot) = disk.snapshot else {
            return Ok(());
        };
        let _deciding = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        self.check(disk)?;
        let from = self.snapshots.join(snapshot.to_string());
        let mut layers = read_layers(&from)?.unwrap_or_default();
        layers.0.insert(0, from.join("disk"));
        write_layers(&dir, &layers)
    }

    /// Looks whether what the disk is to stand on is there.
    ///
    /// # Errors
    /// When its snapshot is gone.
    pub(super) fn check(&self, disk: NewDisk) -> Result<(), DiskError> {
        let Some(snapshot) = disk.snapshot else {
            return Ok(());
        };
        let from = self.snapshots.join(snapshot.to_string());
        if from.join("disk").is_dir() && !from.join("removed").exists() {
            Ok(())
        } else {
            Err(DiskError::NoSnapshot(snapshot))
        }
    }

    /// Makes a machine's layer anew; what else is in its directory stays.
    ///
    /// # Errors
    /// When the disk fails or the snapshot is gone.
    pub(super) fn remake(&self, disk: NewDisk) -> Result<(), DiskError> {
        let _turn = self.turn(disk.machine);
        let dir = self.machine(disk.machine);
        unmount_below(&dir)?;
        DiskFile::of(&dir).remove()?;
        for name in ["disk", "work"] {
            remove_all(&dir.join(name))?;
        }
        let noted = dir.join(LAYERS);
        match std::fs::remove_file(&noted) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(of_path(&noted)(error)),
            _ => {}
        }
        self.make(disk)?;
        self.collect()
    }

    /// Makes the disk of an earlier run usable.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn adopt(&self, id: u64) -> Result<(), DiskError> {
        let file = DiskFile::of(&self.machine(id));
        if file.exists() { file.mount() } else { Ok(()) }
    }

    /// Makes a machine's disk as large as its size says, if it is smaller.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn grow(&self, id: u64, gib: u64) -> Result<(), DiskError> {
        let _turn = self.turn(id);
        let file = DiskFile::of(&self.machine(id));
        if file.exists() { file.grow(gib) } else { Ok(()) }
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
        for layer in &layers.0 {
            if !layer.is_dir() {
                return Err(DiskError::NoLayer(layer.clone()));
            }
        }
        let writable = writable(&self.machine(id));
        let lower: Vec<String> = layers.0.iter().map(|layer| layer.display().to_string()).collect();
        let options = format!(
            "nodev,lowerdir={},upperdir={},workdir={}",
            lower.join(":"),
            writable.join("disk").display(),
            writable.join("work").display()
        );
        let root = self.root(id).display().to_string();
        command::run("mount", &["-t", "overlay", MOUNT_SOURCE, "-o", &options, &root])?;
        Ok(())
    }

    /// The devices that a machine's disk is read from and written to: its own, if it has one, and those that everybody uses.
    ///
    /// # Errors
    /// When they can't be looked at.
    pub(super) fn devices(&self, id: u64, layers: &Layers) -> Result<Devices, DiskError> {
        let mut shared = Vec::new();
        for layer in &layers.0 {
            shared.push(disk_file::device_of(layer)?);
        }
        let own = DiskFile::of(&self.machine(id)).device()?;
        shared.dedup();
        Ok(Devices { own, shared })
    }

    /// Takes a machine's disk apart; one that is not mounted stays as it is.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn unmount(&self, id: u64) -> Result<(), DiskError> {
        unmount_below(&self.root(id))
    }

    /// Removes a machine's directory, and with it its layer.
    ///
    /// # Errors
    /// When something of it is still in use.
    pub(super) fn remove(&self, id: u64) -> Result<(), DiskError> {
        let _turn = self.turn(id);
        let dir = self.machine(id);
        unmount_below(&dir)?;
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
        let _turn = self.turn(id);
        let layers = self.layers(id)?.ok_or(DiskError::NeverOn(id))?;
        make_private(dir)?;
        write_layers(dir, &layers)?;
        let (from, to) = (writable(&self.machine(id)).join("disk"), dir.join("disk"));
        let (from, to) = (from.display().to_string(), to.display().to_string());
        // With the marks of what was deleted or replaced, which are devices and extended attributes.
        let args = ["-a", "--reflink=auto", "--one-file-system", "--", &from, &to];
        command::run("cp", &args)?;
        // The cloud's own, which the next host gets of its own cloud.
        remove_inside(&dir.join("disk"), packages::LIST)
    }

    /// Waits until nobody else is at that machine's disk: one that is being copied can't be taken away.
    fn turn(&self, id: u64) -> Turn<'_> {
        let (busy, free) = &*self.busy;
        let busy = busy.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = free.wait_while(busy, |busy| busy.contains(&id));
        waited.unwrap_or_else(PoisonError::into_inner).insert(id);
        Turn { disks: self, id }
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

/// Where a machine's own layer is.
fn writable(dir: &Path) -> PathBuf {
    let file = DiskFile::of(dir);
    if file.exists() {
        file.path().to_owned()
    } else {
        dir.to_owned()
    }
}

/// A turn at a machine's disk.
struct Turn<'a> {
    disks: &'a Disks,
    id: u64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let (busy, free) = &*self.disks.busy;
        busy.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
        free.notify_all();
    }
}

/// Whether the directory's name can stand in the options of a mount.
pub(super) fn is_usable(path: &Path) -> bool {
    path.to_str().is_some_and(|path| !path.contains(NOT_IN_PATHS))
}

fn read_layers(dir: &Path) -> Result<Option<Layers>, DiskError> {
    let path = dir.join(LAYERS);
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
    let path = dir.join(LAYERS);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Without files of their size, which need root.
    fn disks(dir: &Path) -> Disks {
        Disks {
            bounded: false,
            ..Disks::of(&StateDir::new(dir))
        }
    }

    fn new(machine: u64, snapshot: Option<u64>) -> NewDisk {
        NewDisk {
            machine,
            snapshot,
            gib: 10,
        }
    }

    #[test]
    fn a_forgotten_snapshot_stays_while_something_stands_on_it() {
        let dir = tempfile::tempdir().unwrap();
        let disks = disks(dir.path());
        disks.make(new(1, None)).unwrap();
        disks
            .set_layers(1, &Layers(vec![PathBuf::from("/base")]))
            .unwrap();
        std::fs::write(disks.machine(1).join("disk/file"), "of one").unwrap();
        disks.snapshot(1, 100).unwrap();
        disks.make(new(2, Some(100))).unwrap();
        let layer = dir.path().join("snapshots/100/disk");
        assert_eq!(
            disks.layers(2).unwrap(),
            Some(Layers(vec![layer.clone(), PathBuf::from("/base")]))
        );
        disks.snapshot(2, 200).unwrap();
        disks.snapshot_remove(100).unwrap();
        assert_eq!(std::fs::read_to_string(layer.join("file")).unwrap(), "of one");
        assert!(matches!(
            disks.make(new(3, Some(100))),
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
            disks.make(new(machine, None)).unwrap();
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
    fn names_that_mean_something_to_a_mount_are_not_usable() {
        assert!(is_usable(Path::new("/var/lib/cloud 1")));
        assert!(!is_usable(Path::new("/tmp/a:b")) && !is_usable(Path::new("/tmp/a,b")));
    }
}
