//! The state's directory: whose it is, and where things stand in it.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::private_files;

/// A mark has 36 bytes, and perhaps a line's end.
const INSTANCE_BYTES_MAX: u64 = 4096;

/// Where things stand in a state directory.
#[derive(Debug, Clone)]
pub(crate) struct StateDir(PathBuf);

/// Holds the state directory; nobody else serves or sweeps it meanwhile.
#[derive(Debug)]
pub(crate) struct StateLock(File);

impl Drop for StateLock {
    fn drop(&mut self) {
        // Closing isn't enough: a program that is being started has the file, too, until it is executed. If it fails, the lock
        // goes with the last of those that have the file.
        let _ = self.0.unlock();
    }
}

/// Why a state directory can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirError {
    /// Another local cloud serves this directory.
    #[error("{0} is in use by a running tidepool-local-cloud")]
    InUse(PathBuf),
    /// The directory can't be read or written.
    #[error("{path}: {source}")]
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl StateDir {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The state itself.
    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("cloud.json")
    }

    /// Where hosts keep what belongs to one machine each. People's scripts know it by this name.
    pub(crate) fn hosts(&self) -> PathBuf {
        self.0.join("droplets")
    }

    /// Whether a local cloud was served from here.
    pub(crate) fn was_served(&self) -> bool {
        self.0.join("instance").is_file()
    }

    /// Whether it was the local cloud with this mark, and none since. What can't be read is as if it were.
    pub(crate) fn was_served_as(&self, instance: &str) -> bool {
        match tidepool_listener::read_text(&self.0.join("instance"), INSTANCE_BYTES_MAX) {
            Ok(text) => text.trim() == instance,
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        }
    }

    /// Takes the directory, which exists, for this process.
    ///
    /// # Errors
    /// When another process has it, or the disk fails.
    pub(crate) fn lock(&self) -> Result<StateLock, DirError> {
        let path = self.0.join("lock");
        let disk = |source| DirError::Disk {
            path: path.clone(),
            source,
        };
        let file = private_files::create(&path).map_err(disk)?;
        match file.try_lock() {
            Ok(()) => Ok(StateLock(file)),
            Err(std::fs::TryLockError::WouldBlock) => Err(DirError::InUse(self.0.clone())),
            Err(std::fs::TryLockError::Error(source)) => Err(disk(source)),
        }
    }

    /// The mark of what runs for this directory; made on first use, when the directory exists.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn instance(&self) -> Result<String, DirError> {
        let path = self.0.join("instance");
        match tidepool_listener::read_text(&path, INSTANCE_BYTES_MAX) {
            Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
            Ok(_) => new_instance(&path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => new_instance(&path),
            Err(source) => Err(DirError::Disk { path, source }),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a directory's mark must be unique on this machine"
)]
fn new_instance(path: &Path) -> Result<String, DirError> {
    let instance = uuid::Uuid::new_v4().to_string();
    private_files::write(path, &instance).map_err(|source| DirError::Disk {
        path: path.to_owned(),
        source,
    })?;
    Ok(instance)
}
