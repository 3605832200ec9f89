//! Disk files: what bounds a host's disk. Each is a file system of the size's disk in a sparse file, mounted by a loop device as long as its
//! cloud runs; so what a host writes takes room on this machine, and a full disk is full for that host alone.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::command::{self, CommandError};
use super::mounts::{DiskError, of_path, unmount_below};
use crate::private_files;

/// Where the kernel gives loop devices.
const LOOP_CONTROL: &str = "/dev/loop-control";
/// No journal: what it is for, a power cut of this machine, ends everything anyway, and each sync would be written twice. The tables
/// of a sparse file need not be cleared. All of it is the host's: nothing is kept back for root.
const FORMAT: [&str; 9] = [
    "-q",
    "-F",
    "-m0",
    "-O",
    "^has_journal",
    "-E",
    "nodiscard,lazy_itable_init=1,assume_storage_prezeroed=1",
    "-L",
    "droplet",
];
const OPTIONS: &str = "loop,noatime,nodev,noinit_itable";
const GIB: u64 = 1024 * 1024 * 1024;

/// A disk file, and where it is mounted.
#[derive(Debug, Clone)]
pub(super) struct DiskFile {
    file: PathBuf,
    at: PathBuf,
}

/// A device, as the kernel numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) major: u64,
    pub(super) minor: u64,
}

/// Whether this machine can have such files.
pub(super) fn are_possible() -> bool {
    Path::new(LOOP_CONTROL).exists()
}

impl DiskFile {
    /// That of a machine's directory.
    pub(super) fn of(dir: &Path) -> Self {
        Self {
            file: dir.join("volume.ext4"),
            at: dir.join("volume"),
        }
    }

    /// Where it is mounted.
    pub(super) fn path(&self) -> &Path {
        &self.at
    }

    /// Whether there is one: machines of earlier versions have none.
    pub(super) fn exists(&self) -> bool {
        self.file.exists()
    }

    /// Makes it, empty, and mounts it.
    ///
    /// # Errors
    /// When the disk fails or the machine has no loop device left.
    pub(super) fn make(&self, gib: u64) -> Result<(), DiskError> {
        private_files::create_dir_all(&self.at).map_err(of_path(&self.at))?;
        // Under another name until it is whole.
        let draft = self.file.with_extension("new");
        private_files::create(&draft)
            .and_then(|file| file.set_len(gib * GIB))
            .map_err(of_path(&draft))?;
        let mut format = command::command("mkfs.ext4");
        format.args(FORMAT).arg(&draft);
        command::finish(format, "")?;
        std::fs::rename(&draft, &self.file).map_err(of_path(&self.file))?;
        self.mount()
    }

    /// Removes it, once it is not mounted; one that isn't there is no mistake.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn remove(&self) -> Result<(), DiskError> {
        match std::fs::remove_file(&self.file) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(of_path(&self.file)(error)),
            _ => Ok(()),
        }
    }

    /// Mounts it, unless it is.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn mount(&self) -> Result<(), DiskError> {
        if self.device()?.is_some() {
            return Ok(());
        }
        let (file, at) = (self.file.display().to_string(), self.at.display().to_string());
        command::run("mount", &["-t", "ext4", "-o", OPTIONS, &file, &at])?;
        Ok(())
    }

    /// Makes it larger, if it is smaller. Nobody uses it meanwhile: one that is in use grows only for those who may exceed every limit
    /// of the machine, which root in a container may not.
    ///
    /// # Errors
    /// When a program of the system refuses; it stays as it was then.
    pub(super) fn grow(&self, gib: u64) -> Result<(), DiskError> {
        let bytes = gib * GIB;
        let length = self.file.metadata().map_err(of_path(&self.file))?.len();
        if length >= bytes {
            return Ok(());
        }
        unmount_below(&self.at)?;
        let grown = self.grow_unmounted(bytes);
        self.mount()?;
        grown
    }

    fn grow_unmounted(&self, bytes: u64) -> Result<(), DiskError> {
        let file = self.file.display().to_string();
        match command::run("e2fsck", &["-f", "-p", &file]) {
            // 1: it has mended something.
            Err(CommandError::Failed { status, .. }) if status.code() == Some(1) => {}
            checked => drop(checked?),
        }
        File::options()
            .write(true)
            .open(&self.file)
            .and_then(|file| file.set_len(bytes))
            .map_err(of_path(&self.file))?;
        command::run("resize2fs", &[&file])?;
        Ok(())
    }

    /// The device below it; None while it is not mounted.
    ///
    /// # Errors
    /// When it can't be looked at.
    pub(super) fn device(&self) -> Result<Option<Device>, DiskError> {
        if !self.at.exists() {
            return Ok(None);
        }
        let above = self.at.parent().unwrap_or(&self.at);
        let device = device_of(&self.at)?;
        Ok(Some(device).filter(|device| device_of(above).is_ok_and(|above| above != *device)))
    }
}

/// The device that a node stands for.
///
/// # Errors
/// When it can't be looked at.
pub(super) fn device_at(node: &Path) -> Result<Device, DiskError> {
    let number = node.metadata().map_err(of_path(node))?.rdev();
    Ok(Device {
        major: nix::sys::stat::major(number),
        minor: nix::sys::stat::minor(number),
    })
}

/// The device on which a path is.
///
/// # Errors
/// When it can't be looked at.
pub(super) fn device_of(path: &Path) -> Result<Device, DiskError> {
    let number = path.metadata().map_err(of_path(path))?.dev();
    Ok(Device {
        major: nix::sys::stat::major(number),
        minor: nix::sys::stat::minor(number),
    })
}
