//! Loop devices: files as disks. Which there are is asked of the kernel, so that a run that was killed leaves nothing unknown.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::command;
use super::mounts::{DiskError, of_path};

/// Where the kernel shows them.
const BLOCK_DEVICES: &str = "/sys/block";
/// How the kernel marks the name of a file that was removed.
const REMOVED: &str = " (deleted)";

/// A loop device that is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loop {
    /// Its node in `/dev`.
    pub(super) device: PathBuf,
    file: PathBuf,
    /// It is let go as soon as nobody has it open.
    ends_by_itself: bool,
}

/// The loop device of a file, made if there is none.
///
/// # Errors
/// When the machine has none left.
pub(super) fn of_file(file: &Path) -> Result<PathBuf, DiskError> {
    // One that ends by itself may end, and be another file's, at any moment.
    let lasting = below(file)?
        .into_iter()
        .find(|one| one.file == file && !one.ends_by_itself);
    if let Some(lasting) = lasting {
        return Ok(lasting.device);
    }
    let file = file.display().to_string();
    let device = command::run("losetup", &["--find", "--show", &file])?;
    Ok(PathBuf::from(device.trim()))
}

/// The loop devices of files below a directory, or of one file.
///
/// # Errors
/// When the kernel's list can't be read.
pub(super) fn below(dir: &Path) -> Result<Vec<Loop>, DiskError> {
    let devices = Path::new(BLOCK_DEVICES);
    let entries = std::fs::read_dir(devices).map_err(of_path(devices))?;
    let found = entries.flatten().filter_map(|entry| {
        let shown = entry.path().join("loop");
        // It may have ended in between.
        let file = std::fs::read_to_string(shown.join("backing_file")).ok()?;
        let file = file.trim_end_matches('\n');
        let autoclear = std::fs::read_to_string(shown.join("autoclear")).unwrap_or_default();
        Some(Loop {
            device: Path::new("/dev").join(entry.file_name()),
            file: PathBuf::from(file.strip_suffix(REMOVED).unwrap_or(file)),
            ends_by_itself: autoclear.trim() == "1",
        })
    });
    Ok(found.filter(|one| one.file.starts_with(dir)).collect())
}

impl Loop {
    /// Whether it is of this file.
    pub(super) fn is_of(&self, file: &Path) -> bool {
        self.file == file
    }

    /// Makes it as large as its file.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn refresh(&self) -> Result<(), DiskError> {
        command::run("losetup", &["--set-capacity", &self.device.display().to_string()])?;
        Ok(())
    }

    /// Lets it go, unless it is still mounted somewhere: says whether it did.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn let_go(&self) -> Result<bool, DiskError> {
        if self.is_mounted() {
            return Ok(false);
        }
        self.end()?;
        Ok(true)
    }

    /// Lets it go as soon as nobody uses it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn end(&self) -> Result<(), DiskError> {
        match command::run("losetup", &["--detach", &self.device.display().to_string()]) {
            // It ended by itself meanwhile.
            Err(_) if !below(&self.file)?.contains(self) => Ok(()),
            ended => Ok(ended.map(|_| ())?),
        }
    }

    /// A file system has its device for itself, in whatever namespace it is mounted.
    fn is_mounted(&self) -> bool {
        let alone = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_EXCL.bits())
            .open(&self.device);
        alone.is_err_and(|error: io::Error| error.kind() == io::ErrorKind::ResourceBusy)
    }
}
