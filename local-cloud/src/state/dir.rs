//! The state's directory: whose it is, and where things stand in it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tidepool_listener::FileLock;

use crate::private_files;

/// A mark has 36 bytes, and perhaps a line's end.
const INSTANCE_BYTES_MAX: u64 = 4096;
/// What the file of the lock says of whoever has it: one word.
const HOLDER_BYTES_MAX: u64 = 64;
/// How long a sweep may take: that of sixty systemd hosts took 4.2 s on two idle processors (docs/local-cloud.md), that of the
/// 251 of one cloud on a busy machine may take several times as long.
const SWEPT_WITHIN: Duration = Duration::from_secs(120);
/// Between the end of a killed process and the word of whoever sweeps after it.
const WORD_WITHIN: Duration = Duration::from_secs(1);
/// Pause between two attempts at the lock.
const LOCK_AGAIN: Duration = Duration::from_millis(10);

/// Where things stand in a state directory.
#[derive(Debug, Clone)]
pub(crate) struct StateDir(PathBuf);

/// Holds the state directory; nobody else serves or sweeps it meanwhile.
#[derive(Debug)]
pub(crate) struct StateLock(FileLock);

impl StateLock {
    fn say(&self, held_for: HeldFor) -> std::io::Result<()> {
        let mut file = self.0.file();
        file.set_len(0)?;
        file.write_all(held_for.word().as_bytes())
    }
}

/// What a state directory is held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeldFor {
    /// A cloud runs, until somebody ends it.
    Serving,
    /// What a cloud left is removed, which ends by itself.
    Sweeping,
}

impl HeldFor {
    const fn word(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Sweeping => "sweeping",
        }
    }
}

/// Why a state directory can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirError {
    /// Another local cloud serves this directory.
    #[error("{0} is in use by a running tidepool-local-cloud")]
    InUse(PathBuf),
    /// Another process removes what a killed cloud left there.
    #[error("{0} is being swept by another process: try again when that has ended")]
    BeingSwept(PathBuf),
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

    /// Where the disks of volumes are kept, which belong to no machine.
    pub(crate) fn volumes(&self) -> PathBuf {
        self.0.join("volumes")
    }

    /// Where what snapshots of volumes kept is.
    pub(crate) fn volume_snapshots(&self) -> PathBuf {
        self.0.join("volume-snapshots")
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

    /// Takes the directory, which exists, for this process. Waits for a sweep that is under way, as after `kill -9`.
    ///
    /// # Errors
    /// When another process has it, or the disk fails.
    pub(crate) fn lock(&self, held_for: HeldFor) -> Result<StateLock, DirError> {
        let began = Instant::now();
        loop {
            let waits = match self.try_lock(held_for) {
                Err(DirError::InUse(_)) => WORD_WITHIN,
                Err(DirError::BeingSwept(_)) => SWEPT_WITHIN,
                other => return other,
            };
            if began.elapsed() > waits {
                return self.try_lock(held_for);
            }
            std::thread::sleep(LOCK_AGAIN);
        }
    }

    /// As [`StateDir::lock`], without waiting.
    ///
    /// # Errors
    /// As those.
    pub(crate) fn try_lock(&self, held_for: HeldFor) -> Result<StateLock, DirError> {
        let path = self.0.join("lock");
        let disk = |source| DirError::Disk {
            path: path.clone(),
            source,
        };
        let file = private_files::append(&path).map_err(disk)?;
        let lock = match FileLock::take(file) {
            Ok(lock) => StateLock(lock),
            Err(std::fs::TryLockError::WouldBlock) => return Err(self.refused(&path)),
            Err(std::fs::TryLockError::Error(source)) => return Err(disk(source)),
        };
        lock.say(held_for).map_err(disk)?;
        Ok(lock)
    }

    /// By the word of whoever has the lock.
    fn refused(&self, path: &Path) -> DirError {
        let word = tidepool_listener::read_text(path, HOLDER_BYTES_MAX);
        if word.is_ok_and(|word| word == HeldFor::Sweeping.word()) {
            DirError::BeingSwept(self.0.clone())
        } else {
            DirError::InUse(self.0.clone())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_is_waited_for_and_a_running_cloud_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        let sweeping = state.lock(HeldFor::Sweeping).unwrap();
        assert!(matches!(
            state.try_lock(HeldFor::Serving),
            Err(DirError::BeingSwept(_))
        ));
        std::thread::scope(|scope| {
            let next = scope.spawn(|| state.lock(HeldFor::Serving));
            drop(sweeping);
            let serving = next.join().unwrap().unwrap();
            let refused = state.lock(HeldFor::Sweeping).unwrap_err();
            assert!(matches!(refused, DirError::InUse(_)), "{refused}");
            drop(serving);
        });
    }
}
