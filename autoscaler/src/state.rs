//! What outlives the daemon, beside the journal: each pool's memory and control. Small files, replaced whole.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidepool_autoscaler_core::decide::Control;
use tidepool_autoscaler_core::memory::Memory;
use tidepool_autoscaler_core::observe::{PoolName, UnixMillis};

use crate::files;

/// The state directory.
#[derive(Debug, Clone)]
pub struct StateDir {
    dir: PathBuf,
    access: Access,
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
    /// It is there and can't be understood.
    #[error("{path} is damaged: {reason}", path = .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A pool's memory as it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedMemory {
    /// The memory.
    pub memory: Memory,
    /// Why it is an empty one, if it ought not to be.
    pub damage: Option<String>,
}

/// What the state directory is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// To look only: nothing in it is changed.
    Look,
    /// By its one owner.
    Own,
}

/// The shape of a memory's file. A file of a higher version was written by a newer program.
const MEMORY_VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct MemoryFile<'a> {
    version: u32,
    #[serde(flatten)]
    memory: &'a Memory,
}

#[derive(Debug, Serialize, Deserialize)]
struct ControlFile {
    control: Control,
}

impl StateDir {
    /// The directory, made if it isn't there.
    pub fn open(dir: &Path) -> Result<StateDir, StateError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|source| StateError::Io {
            path: dir.to_owned(),
            source,
        })?;
        Ok(StateDir {
            dir: dir.to_owned(),
            access: Access::Own,
        })
    }

    /// The directory as it is, to look only.
    pub fn existing(dir: &Path) -> StateDir {
        StateDir {
            dir: dir.to_owned(),
            access: Access::Look,
        }
    }

    /// Takes the lease, or says that another daemon has it.
    pub fn lease(&self) -> Result<Lease, StateError> {
        let path = self.dir.join("lease");
        let failed = |source| StateError::Io {
            path: path.clone(),
            source,
        };
        let file = files::private()
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
    pub fn memory_load(&self, pool: &PoolName, now: UnixMillis) -> LoadedMemory {
        let path = self.memory(pool);
        let error = match load_memory(&path) {
            Ok(memory) => {
                return LoadedMemory {
                    memory: memory.unwrap_or_default(),
                    damage: None,
                };
            }
            Err(error) => error,
        };
        let why = crate::chain(&error);
        let kept = match self.access {
            Access::Look => "it is left as it is".to_owned(),
            Access::Own => match files::put_aside(&path, now) {
                Ok(aside) => format!("it is kept as {}", aside.display()),
                Err(error) => format!("and it can't be kept aside: {error}"),
            },
        };
        LoadedMemory {
            memory: Memory::default(),
            damage: Some(format!(
                "the pool's memory can't be used, so it begins anew: {why}; {kept}"
            )),
        }
    }

    /// Keeps a pool's memory.
    pub fn memory_save(&self, pool: &PoolName, memory: &Memory) -> Result<(), StateError> {
        let version = MEMORY_VERSION;
        save(&self.memory(pool), &MemoryFile { version, memory })
    }

    /// Who decides about a pool. A damaged file is an error: going on without it could resize a pool that is held.
    pub fn control_load(&self, pool: &PoolName) -> Result<Control, StateError> {
        let file: Option<ControlFile> = load(&self.control(pool)).map_err(|error| match error {
            StateError::Damaged { path, reason } => StateError::Damaged {
                path,
                reason: format!("{reason}; remove it to give the pool back to its policies"),
            },
            other => other,
        })?;
        Ok(file.map_or(Control::Auto, |file| file.control))
    }

    /// Keeps who decides about a pool.
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

fn load_memory(path: &Path) -> Result<Option<Memory>, StateError> {
    #[derive(Deserialize)]
    struct Versioned {
        #[serde(default)]
        version: u32,
    }
    let Some(fields) = load::<serde_json::Map<String, serde_json::Value>>(path)? else {
        return Ok(None);
    };
    let damaged = |reason: String| StateError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let fields = serde_json::Value::Object(fields);
    let Versioned { version } =
        Versioned::deserialize(&fields).map_err(|error| damaged(error.to_string()))?;
    if version > MEMORY_VERSION {
        return Err(damaged(format!(
            "it is of version {version}, and this program knows up to {MEMORY_VERSION}"
        )));
    }
    Memory::deserialize(&fields)
        .map(Some)
        .map_err(|error| damaged(error.to_string()))
}

fn save<T: Serialize>(path: &Path, value: &T) -> Result<(), StateError> {
    let write = || files::replace(path, &serde_json::to_vec(value)?);
    write().map_err(|source| StateError::Io {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_that_cannot_be_used_is_reported_and_kept_aside() {
        let newer = serde_json::json!({ "version": 2, "ordinal_max": 3 }).to_string();
        let damages: [&[u8]; 7] = [
            b"",
            b"{",
            b"[]",
            b"null",
            &[0xff, 0, 1],
            br#"{"ordinal_max":"x"}"#,
            newer.as_bytes(),
        ];
        for damage in damages {
            let dir = tempfile::tempdir().unwrap();
            let state = StateDir::open(dir.path()).unwrap();
            fs::write(state.memory(&pool()), damage).unwrap();
            let shown = String::from_utf8_lossy(damage);
            let looked = StateDir::existing(dir.path()).memory_load(&pool(), UnixMillis(0));
            assert!(looked.damage.unwrap().contains("left as it is"), "{shown}");
            let loaded = state.memory_load(&pool(), UnixMillis(1_700_000_000_000));
            assert_eq!(loaded.memory, Memory::default());
            assert!(loaded.damage.unwrap().contains("can't be used"), "{shown}");
            let aside = dir.path().join("api.memory.json.damaged-20231114T221320Z");
            assert_eq!(fs::read(aside).unwrap(), damage, "{shown}");
            state.memory_save(&pool(), &Memory::default()).unwrap();
            // A second one in the same second has a place of its own.
            fs::write(state.memory(&pool()), damage).unwrap();
            state.memory_load(&pool(), UnixMillis(1_700_000_000_000));
            assert!(
                dir.path()
                    .join("api.memory.json.damaged-20231114T221320Z-2")
                    .exists(),
                "{shown}"
            );
        }
    }

    #[test]
    fn a_memory_that_is_a_directory_is_kept_aside() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        fs::create_dir(state.memory(&pool())).unwrap();
        let loaded = state.memory_load(&pool(), UnixMillis(0));
        assert_eq!(loaded.memory, Memory::default());
        assert!(loaded.damage.unwrap().contains("kept as"));
        state.memory_save(&pool(), &Memory::default()).unwrap();
    }

    #[test]
    fn a_memory_of_an_older_version_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let old = br#"{"since":1,"last_tick":2,"size":3,"recommendations":[],"resizes":[],"members":{},
            "pending_creates":{"api-4":5},"retry_names":[],"repairs":{},"ordinal_max":4,"create_blocked_until":null}"#;
        fs::write(state.memory(&pool()), old).unwrap();
        let loaded = state.memory_load(&pool(), UnixMillis(0));
        assert_eq!(
            (loaded.damage, loaded.memory.ordinal_max, loaded.memory.size),
            (None, 4, Some(3))
        );
    }

    #[test]
    fn only_their_owner_can_read_the_files() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        let _lease = state.lease().unwrap();
        state.memory_save(&pool(), &Memory::default()).unwrap();
        state.control_save(&pool(), Control::Auto).unwrap();
        for entry in fs::read_dir(dir.path().join("state")).unwrap() {
            let path = entry.unwrap().path();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
    }

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
        assert_eq!(
            state.memory_load(&pool(), UnixMillis(1_700_000_000_000)).memory,
            memory
        );
        state.control_save(&pool(), Control::Hold { size: 3 }).unwrap();
        assert_eq!(state.control_load(&pool()).unwrap(), Control::Hold { size: 3 });

        fs::write(state.memory(&pool()), b"{").unwrap();
        assert_eq!(
            state.memory_load(&pool(), UnixMillis(1_700_000_000_000)).memory,
            Memory::default()
        );
        fs::write(state.control(&pool()), b"{").unwrap();
        assert!(matches!(
            state.control_load(&pool()),
            Err(StateError::Damaged { .. })
        ));
    }

    #[test]
    fn no_control_file_means_auto() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            StateDir::open(dir.path()).unwrap().control_load(&pool()).unwrap(),
            Control::Auto
        );
    }
}
