//! What outlives the daemon, beside the journal: each pool's memory and the operator's word. Small files, replaced whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidepool_autoscaler_core::decide::Control;
use tidepool_autoscaler_core::memory::Memory;
use tidepool_autoscaler_core::observe::PoolName;

/// The state directory.
#[derive(Debug, Clone)]
pub struct StateDir {
    dir: PathBuf,
}

/// The lock that only one daemon holds; let go when it is dropped, or when the process ends in any way.
#[derive(Debug)]
pub struct Lease {
    _file: File,
}

/// Why the state directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It can't be made, read or written.
    #[error("{path} can't be used: {source}", path = .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another daemon acts from it.
    #[error("another tidepool-autoscaler runs with the state directory {dir}; two would undo each other's work", dir = .0.display())]
    Leased(PathBuf),
    /// The operator's word is there, but can't be understood; going on without it could resize a held pool.
    #[error("{path} is damaged; remove it to give the pool back to its policies: {reason}", path = .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct ControlFile {
    control: Control,
}

impl StateDir {
    /// The directory, made if it isn't there.
    pub fn open(dir: &Path) -> Result<StateDir, StateError> {
        fs::create_dir_all(dir).map_err(|source| StateError::Io {
            path: dir.to_owned(),
            source,
        })?;
        Ok(StateDir { dir: dir.to_owned() })
    }

    /// The directory as it is, to look only.
    pub fn existing(dir: &Path) -> StateDir {
        StateDir { dir: dir.to_owned() }
    }

    /// Takes the lease, or says that another daemon has it.
    pub fn lease(&self) -> Result<Lease, StateError> {
        let path = self.dir.join("lease");
        let failed = |source| StateError::Io {
            path: path.clone(),
            source,
        };
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Lease { _file: file }),
            Err(fs::TryLockError::WouldBlock) => Err(StateError::Leased(self.dir.clone())),
            Err(fs::TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Where the journal is.
    pub fn journal(&self) -> PathBuf {
        self.dir.join("journal.jsonl")
    }

    fn memory(&self, pool: &PoolName) -> PathBuf {
        self.dir.join(format!("{pool}.memory.json"))
    }

    fn control(&self, pool: &PoolName) -> PathBuf {
        self.dir.join(format!("{pool}.control.json"))
    }

    /// A pool's memory. One that is lost or damaged is an empty one: it only adds restraint.
    pub fn memory_load(&self, pool: &PoolName) -> Memory {
        let path = self.memory(pool);
        match load(&path) {
            Ok(memory) => memory.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%pool, error = crate::chain(&error), "the pool's memory is lost; it begins anew");
                Memory::default()
            }
        }
    }

    /// Keeps a pool's memory.
    pub fn memory_save(&self, pool: &PoolName, memory: &Memory) -> Result<(), StateError> {
        save(&self.memory(pool), memory)
    }

    /// What the operator said last of a pool.
    pub fn control_load(&self, pool: &PoolName) -> Result<Control, StateError> {
        let file: Option<ControlFile> = load(&self.control(pool))?;
        Ok(file.map_or(Control::Auto, |file| file.control))
    }

    /// Keeps what the operator said.
    pub fn control_save(&self, pool: &PoolName, control: Control) -> Result<(), StateError> {
        save(&self.control(pool), &ControlFile { control })
    }
}

fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| StateError::Damaged {
                path: path.to_owned(),
                reason: error.to_string(),
            }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Writes beside the file and renames, so that a crash leaves the old one or the new one, never half of either.
fn save<T: Serialize>(path: &Path, value: &T) -> Result<(), StateError> {
    let new = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|source| StateError::Io {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> PoolName {
        PoolName("api".to_owned())
    }

    #[test]
    fn a_second_daemon_gets_no_lease_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let lease = state.lease().unwrap();
        assert!(matches!(state.lease(), Err(StateError::Leased(_))));
        drop(lease);
        state.lease().unwrap();
    }

    #[test]
    fn a_damaged_memory_is_an_empty_one_and_a_damaged_hold_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let memory = Memory {
            ordinal_max: 7,
            ..Memory::default()
        };
        state.memory_save(&pool(), &memory).unwrap();
        assert_eq!(state.memory_load(&pool()), memory);
        state.control_save(&pool(), Control::Hold { size: 3 }).unwrap();
        assert_eq!(state.control_load(&pool()).unwrap(), Control::Hold { size: 3 });

        fs::write(state.memory(&pool()), b"{").unwrap();
        assert_eq!(state.memory_load(&pool()), Memory::default());
        fs::write(state.control(&pool()), b"{").unwrap();
        assert!(matches!(
            state.control_load(&pool()),
            Err(StateError::Damaged { .. })
        ));
    }

    #[test]
    fn nothing_said_means_auto() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            StateDir::open(dir.path()).unwrap().control_load(&pool()).unwrap(),
            Control::Auto
        );
    }
}
