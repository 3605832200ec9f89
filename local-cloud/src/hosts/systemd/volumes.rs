//! Volumes of hosts that are systems: each is a sparse file beside the machines' directories, and a loop device while a host that is
//! on has it. Inside, the device stands where DigitalOcean's does.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::container::{Bound, Run};
use super::disk_file;
use super::mounts::{DiskError, of_path};
use super::{Inner, SystemdHosts, command, failed, inside, loops, of_disk};
use crate::hosts::HostError;
use crate::hosts::volumes::{Attached, Filesystem, FilesystemKind, NewVolume, Volumes};
use crate::private_files;
use crate::state::dir::StateDir;

const GIB: u64 = 1024 * 1024 * 1024;
/// How long a host that was just powered on may take until devices can be given to it.
const INSIDE_WITHIN: Duration = Duration::from_secs(60);
/// How long the kernel may take to unmount what a machine that is off had mounted. It is not powered on again before.
const UNMOUNTED_WITHIN: Duration = Duration::from_secs(10);
/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The disks of all volumes, and who has them.
#[derive(Debug)]
pub(super) struct VolumeDisks {
    volumes: PathBuf,
    snapshots: PathBuf,
    /// By the volume's id. Held while devices come and go.
    table: Mutex<BTreeMap<String, Place>>,
}

/// Where a volume is attached.
#[derive(Debug, Clone)]
struct Place {
    machine: u64,
    name: String,
    /// Whether the machine has got it, at a boot or since.
    given: bool,
}

/// Where a host finds a volume: as on DigitalOcean, where it is a link to a disk, and the disk's own node here.
fn node(name: &str) -> PathBuf {
    PathBuf::from(format!("/dev/disk/by-id/scsi-0DO_Volume_{name}"))
}

/// The directory of volumes beside that of machines.
pub(super) fn beside(machines: &Path) -> PathBuf {
    StateDir::new(machines.parent().unwrap_or(machines)).volumes()
}

/// Lets every loop device of a cloud's volumes go; nothing of its hosts runs any more.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn end_all(machines: &Path) -> Result<(), DiskError> {
    for device in loops::below(&beside(machines))? {
        device.end()?;
    }
    Ok(())
}

impl VolumeDisks {
    pub(super) fn of(state: &StateDir) -> Self {
        Self {
            volumes: state.volumes(),
            snapshots: state.volume_snapshots(),
            table: Mutex::default(),
        }
    }

    /// The devices for a machine that boots now.
    ///
    /// # Errors
    /// When one can't be had.
    pub(super) fn bound(&self, machine: u64) -> Result<Vec<Bound>, DiskError> {
        let mut bound = Vec::new();
        for (id, place) in self
            .table()
            .iter_mut()
            .filter(|(_, place)| place.machine == machine)
        {
            let device = loops::of_file(&self.file(id))?;
            place.given = true;
            bound.push(Bound {
                device,
                node: node(&place.name),
            });
        }
        Ok(bound)
    }

    /// The machine is off: nobody has its devices.
    ///
    /// # Errors
    /// When one can't be let go.
    pub(super) fn off(&self, machine: u64) -> Result<(), DiskError> {
        let mut own = Vec::new();
        {
            let mut table = self.table();
            for (id, place) in table.iter_mut().filter(|(_, place)| place.machine == machine) {
                place.given = false;
                own.push(self.file(id));
            }
            self.let_idle_go(&table)?;
        }
        let deadline = Instant::now() + UNMOUNTED_WITHIN;
        while self.is_any_held(&own)? && Instant::now() < deadline {
            std::thread::sleep(LOOK_AGAIN);
            self.let_idle_go(&self.table())?;
        }
        Ok(())
    }

    /// Whether one of these files has a device.
    fn is_any_held(&self, files: &[PathBuf]) -> Result<bool, DiskError> {
        let devices = loops::below(&self.volumes)?;
        Ok(devices
            .iter()
            .any(|device| files.iter().any(|file| device.is_of(file))))
    }

    /// The machine is no more.
    pub(super) fn forget(&self, machine: u64) {
        self.table().retain(|_, place| place.machine != machine);
    }

    fn file(&self, volume: &str) -> PathBuf {
        self.volumes.join(volume).with_extension("img")
    }

    fn snapshot_file(&self, snapshot: &str) -> PathBuf {
        self.snapshots.join(snapshot).with_extension("img")
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Place>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets devices go that no machine has. One that is still mounted somewhere waits for the end of that, and one that the
    /// kernel refuses to let go keeps no other.
    fn let_idle_go(&self, table: &BTreeMap<String, Place>) -> Result<(), DiskError> {
        for device in loops::below(&self.volumes)? {
            let in_use = |(id, place): (&String, &Place)| place.given && device.is_of(&self.file(id));
            if table.iter().any(in_use) {
                continue;
            }
            match device.let_go() {
                Ok(true) => {}
                Ok(false) => {
                    tracing::debug!(device = %device.device.display(), "is still mounted: it goes when that ends");
                }
                Err(error) => {
                    tracing::warn!(device = %device.device.display(), %error, "a volume's device can't be let go");
                }
            }
        }
        Ok(())
    }

    fn make(&self, wanted: &NewVolume) -> Result<(), DiskError> {
        private_files::create_dir_all(&self.volumes).map_err(of_path(&self.volumes))?;
        let file = self.file(&wanted.id);
        // Under another name until it is whole.
        let draft = file.with_extension("new");
        let made = self
            .draft(&draft, wanted)
            .and_then(|()| std::fs::rename(&draft, &file).map_err(of_path(&file)));
        if made.is_err() {
            remove_file(&draft)?;
        }
        made
    }

    fn draft(&self, draft: &Path, wanted: &NewVolume) -> Result<(), DiskError> {
        match &wanted.snapshot {
            Some(snapshot) => copy(&self.snapshot_file(snapshot), draft)?,
            None => drop(private_files::create(draft).map_err(of_path(draft))?),
        }
        set_length(draft, wanted.gib)?;
        wanted
            .filesystem
            .as_ref()
            .map_or(Ok(()), |filesystem| format(draft, filesystem))
    }

    fn grow(&self, volume: &str, gib: u64) -> Result<(), DiskError> {
        let file = self.file(volume);
        let _table = self.table();
        set_length(&file, gib)?;
        for device in loops::below(&file)? {
            device.refresh()?;
        }
        Ok(())
    }

    fn snapshot(&self, volume: &str, snapshot: &str) -> Result<(), DiskError> {
        private_files::create_dir_all(&self.snapshots).map_err(of_path(&self.snapshots))?;
        let (file, kept) = (self.file(volume), self.snapshot_file(snapshot));
        // What a file system on it has in memory only.
        for device in loops::below(&file)? {
            command::run("blockdev", &["--flushbufs", &device.device.display().to_string()])?;
        }
        let copied = copy(&file, &kept);
        if copied.is_err() {
            remove_file(&kept)?;
        }
        copied
    }
}

impl Inner {
    fn attach(&self, machine: u64, volume: &Attached) -> Result<(), HostError> {
        let place = Place {
            machine,
            name: volume.name.clone(),
            given: false,
        };
        if !self.table().known.contains(&machine) {
            return Err(HostError::Refused("the machine is gone".to_owned()));
        }
        self.volumes.table().insert(volume.id.clone(), place);
        let given = self.give(machine, volume);
        if given.is_err() {
            self.volumes.table().remove(&volume.id);
        }
        given
    }

    /// Gives a machine that is on a device. One that is about to boot takes it by itself.
    fn give(&self, machine: u64, volume: &Attached) -> Result<(), HostError> {
        let deadline = Instant::now() + INSIDE_WITHIN;
        while let Some((run, nspawn)) = self.running(machine) {
            let mut table = self.volumes.table();
            let Some(place) = table.get_mut(&volume.id).filter(|place| !place.given) else {
                return Ok(());
            };
            if let Some(leader) = nspawn.and_then(|pid| inside::leader(pid, &self.disks.root(machine))) {
                let device = loops::of_file(&self.volumes.file(&volume.id)).map_err(of_disk)?;
                let number = disk_file::device_at(&device).map_err(of_disk)?;
                match inside::plug(leader, &node(&volume.name), number) {
                    Ok(()) => {
                        place.given = true;
                        return Ok(());
                    }
                    // It ended in the middle of it.
                    Err(_) if run.is_gone() => {}
                    Err(error) => return Err(failed("the device in the machine")(error)),
                }
            }
            drop(table);
            if Instant::now() > deadline {
                // A boot that is held up, or one that hangs: the next one takes it.
                return Ok(());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    fn detach(&self, machine: u64, volume: &str) -> Result<(), HostError> {
        let mut table = self.volumes.table();
        let Some(place) = table
            .get(volume)
            .filter(|place| place.machine == machine)
            .cloned()
        else {
            return Ok(());
        };
        if let Some((run, Some(nspawn))) = self.running(machine)
            && let Some(leader) = inside::leader(nspawn, &self.disks.root(machine))
        {
            let file = self.volumes.file(volume);
            for device in loops::below(&file).map_err(of_disk)? {
                let number = disk_file::device_at(&device.device).map_err(of_disk)?;
                match inside::unplug(leader, &node(&place.name), number) {
                    Err(error) if !run.is_gone() => return Err(failed("the device in the machine")(error)),
                    _ => {}
                }
            }
        }
        table.remove(volume);
        self.volumes.let_idle_go(&table).map_err(of_disk)
    }

    /// Copies a volume while the machine that has it stands still.
    fn snapshot_volume(&self, volume: &str, snapshot: &str) -> Result<(), HostError> {
        let machine = self.volumes.table().get(volume).map(|place| place.machine);
        self.while_still(machine, || self.volumes.snapshot(volume, snapshot))?
            .map_err(of_disk)
    }

    /// A machine's power-on, and the process that stands for it, if it is on.
    pub(super) fn running(&self, machine: u64) -> Option<(Arc<Run>, Option<i32>)> {
        let run = self.table().runs.get(&machine).cloned()?;
        let pid = run.pid();
        (!run.is_gone()).then_some((run, pid))
    }
}

#[async_trait]
impl Volumes for SystemdHosts {
    fn volume_check(&self, wanted: &NewVolume) -> Result<(), HostError> {
        let refused = |reason: String| Err(HostError::Refused(reason));
        if !disk_file::are_possible() {
            return refused("this machine has no loop devices, which volumes need".to_owned());
        }
        let Some(filesystem) = &wanted.filesystem else {
            return Ok(());
        };
        let (program, package) = program_of(filesystem.kind);
        if command::find(program, &command::SEARCH_PATH).is_none() {
            return refused(format!(
                "`{program}` is missing; on Debian: apt-get install {package}"
            ));
        }
        Ok(())
    }

    async fn volume_make(&self, wanted: &NewVolume) -> Result<(), HostError> {
        let wanted = wanted.clone();
        self.aside(move |inner| inner.volumes.make(&wanted).map_err(of_disk))
            .await
    }

    async fn volume_remove(&self, volume: &str) -> Result<(), HostError> {
        let volume = volume.to_owned();
        self.aside(move |inner| {
            let table = inner.volumes.table();
            inner.volumes.let_idle_go(&table).map_err(of_disk)?;
            remove_file(&inner.volumes.file(&volume)).map_err(of_disk)
        })
        .await
    }

    async fn volume_grow(&self, volume: &str, gib: u64) -> Result<(), HostError> {
        let volume = volume.to_owned();
        self.aside(move |inner| inner.volumes.grow(&volume, gib).map_err(of_disk))
            .await
    }

    async fn volume_attach(&self, machine: u64, volume: &Attached) -> Result<(), HostError> {
        let volume = volume.clone();
        self.aside(move |inner| {
            let _open = inner.open()?;
            inner.attach(machine, &volume)
        })
        .await
    }

    async fn volume_detach(&self, machine: u64, volume: &str) -> Result<(), HostError> {
        let volume = volume.to_owned();
        self.aside(move |inner| inner.detach(machine, &volume)).await
    }

    async fn volume_snapshot(&self, volume: &str, snapshot: &str) -> Result<(), HostError> {
        let (volume, snapshot) = (volume.to_owned(), snapshot.to_owned());
        self.aside(move |inner| inner.snapshot_volume(&volume, &snapshot))
            .await
    }

    async fn volume_snapshot_remove(&self, snapshot: &str) -> Result<(), HostError> {
        let snapshot = snapshot.to_owned();
        self.aside(move |inner| remove_file(&inner.volumes.snapshot_file(&snapshot)).map_err(of_disk))
            .await
    }

    async fn volumes_retain(&self, volumes: &[String], snapshots: &[String]) -> Result<(), HostError> {
        let (volumes, snapshots) = (volumes.to_vec(), snapshots.to_vec());
        self.aside(move |inner| {
            let disks = &inner.volumes;
            retain(&disks.volumes, &volumes).map_err(of_disk)?;
            retain(&disks.snapshots, &snapshots).map_err(of_disk)
        })
        .await
    }
}

/// The program that makes a file system, and its Debian package.
fn program_of(kind: FilesystemKind) -> (&'static str, &'static str) {
    match kind {
        FilesystemKind::Ext4 => ("mkfs.ext4", "e2fsprogs"),
        FilesystemKind::Xfs => ("mkfs.xfs", "xfsprogs"),
    }
}

fn format(file: &Path, filesystem: &Filesystem) -> Result<(), DiskError> {
    let mut format = command::command(program_of(filesystem.kind).0);
    format.arg("-q");
    if filesystem.kind == FilesystemKind::Ext4 {
        // The tables of a sparse file need not be cleared.
        format.args([
            "-F",
            "-E",
            "nodiscard,lazy_itable_init=1,assume_storage_prezeroed=1",
        ]);
    }
    if !filesystem.label.is_empty() {
        format.args(["-L", &filesystem.label]);
    }
    format.arg(file);
    command::finish(format, "")?;
    Ok(())
}

/// Makes it so long, unless it is longer: a run that was killed may have grown it before that was recorded.
fn set_length(file: &Path, gib: u64) -> Result<(), DiskError> {
    let bytes = gib * GIB;
    let lengthen = |opened: File| match opened.metadata()?.len() < bytes {
        true => opened.set_len(bytes),
        false => Ok(()),
    };
    let opened = File::options().write(true).open(file);
    opened.and_then(lengthen).map_err(of_path(file))
}

fn copy(from: &Path, to: &Path) -> Result<(), DiskError> {
    let (from, to) = (from.display().to_string(), to.display().to_string());
    command::run("cp", &["--sparse=always", "--reflink=auto", "--", &from, &to])?;
    Ok(())
}

fn remove_file(file: &Path) -> Result<(), DiskError> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(of_path(file)(error)),
        _ => Ok(()),
    }
}

/// Removes what is in a directory but the images of these.
fn retain(dir: &Path, ids: &[String]) -> Result<(), DiskError> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(of_path(dir))?,
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_kept = ids.iter().any(|id| path == dir.join(id).with_extension("img"));
        if !is_kept {
            tracing::warn!(file = %path.display(), "removed: it is no volume's");
            remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_volumes_goes_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.img", "b.img", "a.new"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        retain(dir.path(), &["a".to_owned()]).unwrap();
        let left: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(left, ["a.img"]);
        retain(&dir.path().join("none"), &[]).unwrap();
    }

    #[test]
    fn a_disk_is_a_sparse_file_with_what_its_snapshot_kept() {
        let dir = tempfile::tempdir().unwrap();
        let disks = VolumeDisks::of(&StateDir::new(dir.path()));
        let wanted = |id: &str, gib, snapshot: Option<&str>| NewVolume {
            id: id.to_owned(),
            gib,
            snapshot: snapshot.map(str::to_owned),
            filesystem: None,
        };
        disks.make(&wanted("a", 1, None)).unwrap();
        let file = disks.file("a");
        assert_eq!(file.metadata().unwrap().len(), GIB);
        std::os::unix::fs::FileExt::write_at(&File::options().write(true).open(&file).unwrap(), b"kept", 0)
            .unwrap();
        disks.snapshot("a", "s").unwrap();
        disks.make(&wanted("b", 2, Some("s"))).unwrap();
        let mut begins = [0; 4];
        std::os::unix::fs::FileExt::read_exact_at(&File::open(disks.file("b")).unwrap(), &mut begins, 0)
            .unwrap();
        assert_eq!(
            (&begins, disks.file("b").metadata().unwrap().len()),
            (b"kept", 2 * GIB)
        );
        // As after a kill between the growth and its record.
        disks.grow("b", 3).unwrap();
        disks.grow("b", 2).unwrap();
        assert_eq!(disks.file("b").metadata().unwrap().len(), 3 * GIB);
        assert!(disks.make(&wanted("c", 2, Some("none"))).is_err());
        assert!(!disks.file("c").with_extension("new").exists());
    }
}
