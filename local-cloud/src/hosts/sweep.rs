//! Ends what a local cloud left behind when it could not clean up itself (`kill -9`): the next start, the `sweep` command
//! and the guard process all do it here.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::identity;
use crate::private_files;

/// How long killed processes may take to be gone: SIGKILL needs milliseconds, a loaded machine some more.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// Pause between two looks at what is left.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Where things stand in a state directory.
#[derive(Debug, Clone)]
pub(crate) struct StateDir(PathBuf);

/// Holds the state directory; nobody else serves or sweeps it meanwhile.
#[derive(Debug)]
pub(crate) struct StateLock(
    #[expect(dead_code, reason = "held, not read: the lock lasts as long as the file")] File,
);

/// A droplet's processes as noted on disk.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PidFile {
    pub(crate) processes: Vec<PidEntry>,
}

/// One process as noted on disk.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PidEntry {
    pub(crate) name: String,
    pub(crate) pid: i32,
    pub(crate) started: u64,
}

/// Why a state directory can't be swept or served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SweepError {
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
    /// Something would not end.
    #[error("{0} processes did not end within 5 s")]
    StillThere(usize),
}

impl StateDir {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn cloud_file(&self) -> PathBuf {
        self.0.join("cloud.json")
    }

    pub(crate) fn droplet(&self, id: u64) -> PathBuf {
        self.0.join("droplets").join(id.to_string())
    }

    pub(crate) fn droplet_root(&self, id: u64) -> PathBuf {
        self.droplet(id).join("root")
    }

    pub(crate) fn droplet_logs(&self, id: u64) -> PathBuf {
        self.droplet(id).join("log")
    }

    pub(crate) fn pid_file(&self, id: u64) -> PathBuf {
        self.droplet(id).join("pids.json")
    }

    /// Whether a local cloud was served from here.
    pub(crate) fn was_served(&self) -> bool {
        self.0.join("instance").is_file()
    }

    /// Makes the directory of all droplets, or closes one to others that an earlier version has left open.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn make_droplets(&self) -> std::io::Result<()> {
        private_files::make_private_dir(&self.0.join("droplets"))
    }

    /// Makes a droplet's directories.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn make_droplet(&self, id: u64) -> std::io::Result<PathBuf> {
        let root = self.droplet_root(id);
        private_files::create_dir_all(&root)?;
        Ok(root)
    }

    /// Takes the directory, which exists, for this process.
    ///
    /// # Errors
    /// When another process has it, or the disk fails.
    pub(crate) fn lock(&self) -> Result<StateLock, SweepError> {
        let path = self.0.join("lock");
        let disk = |source| SweepError::Disk {
            path: path.clone(),
            source,
        };
        let file = private_files::create(&path).map_err(disk)?;
        match file.try_lock() {
            Ok(()) => Ok(StateLock(file)),
            Err(std::fs::TryLockError::WouldBlock) => Err(SweepError::InUse(self.0.clone())),
            Err(std::fs::TryLockError::Error(source)) => Err(disk(source)),
        }
    }

    /// The mark of this directory's processes; made on first use, when the directory exists.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn instance(&self) -> Result<String, SweepError> {
        let path = self.0.join("instance");
        let disk = |source| SweepError::Disk {
            path: path.clone(),
            source,
        };
        match std::fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
            Ok(_) => self.new_instance(&path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.new_instance(&path),
            Err(error) => Err(disk(error)),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a directory's mark must be unique on this machine"
    )]
    fn new_instance(&self, path: &Path) -> Result<String, SweepError> {
        let disk = |source| SweepError::Disk {
            path: path.to_owned(),
            source,
        };
        let instance = uuid::Uuid::new_v4().to_string();
        private_files::write(path, &instance).map_err(disk)?;
        Ok(instance)
    }
}

/// Ends every process that belongs to the directory; says how many there were. The caller holds the lock.
///
/// # Errors
/// When the disk fails or something does not end.
pub(crate) fn sweep(state: &StateDir) -> Result<usize, SweepError> {
    let instance = state.instance()?;
    let mut noted = Vec::new();
    for path in pid_files(state)? {
        let text = std::fs::read_to_string(&path).map_err(|source| SweepError::Disk {
            path: path.clone(),
            source,
        })?;
        if let Ok(file) = serde_json::from_str::<PidFile>(&text) {
            noted.extend(file.processes);
        }
    }
    let ended = end_all(&instance, &noted)?;
    for path in pid_files(state)? {
        std::fs::remove_file(&path).map_err(|source| SweepError::Disk { path, source })?;
    }
    Ok(ended)
}

/// Ends the processes that carry the mark and those that were noted; says how many there were.
///
/// # Errors
/// When something does not end.
pub(crate) fn end_all(instance: &str, noted: &[PidEntry]) -> Result<usize, SweepError> {
    let mut ended = std::collections::BTreeSet::new();
    let deadline = Instant::now() + GONE_WITHIN;
    loop {
        let mut alive = std::collections::BTreeSet::new();
        for entry in noted {
            if identity::signal_group(entry.pid, entry.started, Signal::SIGKILL) {
                alive.insert(entry.pid);
            }
        }
        for pid in identity::marked(instance).into_keys() {
            identity::kill_one(pid);
            alive.insert(pid);
        }
        if alive.is_empty() {
            return Ok(ended.len());
        }
        if Instant::now() > deadline {
            return Err(SweepError::StillThere(alive.len()));
        }
        ended.extend(alive);
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn pid_files(state: &StateDir) -> Result<Vec<PathBuf>, SweepError> {
    let dir = state.path().join("droplets");
    match std::fs::read_dir(&dir) {
        Ok(entries) => Ok(entries
            .flatten()
            .map(|entry| entry.path().join("pids.json"))
            .filter(|path| path.is_file())
            .collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(SweepError::Disk { path: dir, source }),
    }
}
