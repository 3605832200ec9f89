//! What outlives the daemon, beside the journal: each pool's memory and control. Small files, replaced whole.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidepool_autoscaler_core::decide::Control;
use tidepool_autoscaler_core::memory::Memory;
use tidepool_autoscaler_core::observe::{PoolName, UnixMillis};
use tidepool_listener::FileLock;

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
    #[expect(dead_code, reason = "held, not read: the lock lasts until it is dropped")]
    lock: FileLock,
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

/// What was kept of something, as it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded<V> {
    /// What was kept, if anything was.
    pub value: Option<V>,
    /// Why it can't be read, if it ought to be.
    pub damage: Option<String>,
}

/// Who decides about a pool, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedWord {
    /// The operator's last word.
    pub word: Word,
    /// Why it is lost, if it is.
    pub damage: Option<String>,
}

/// The operator's last word about a pool's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// As it was given; the policies decide where there is none.
    Given(Control),
    /// It can't be read any more. It may have been a hold, so the pool is held at the size that it is next seen with.
    Lost,
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
/// The shape of a control's file; one without a version is of the first.
const CONTROL_VERSION: u32 = 1;
/// The shape of a file about what was rolled out.
const VERSIONS_VERSION: u32 = 1;
/// A file at most: a memory of 1,000 members with an hour of recommendations has less than 1 MiB.
const FILE_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, Serialize)]
struct MemoryFile<'a> {
    version: u32,
    #[serde(flatten)]
    memory: &'a Memory,
}

#[derive(Debug, Serialize)]
struct ControlFile {
    version: u32,
    control: SavedWord,
}

/// A [`Word`] in its file: a control, or a hold whose size is yet to be found.
#[derive(Debug, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "the control is neither auto, a hold nor a size given by hand"
)]
enum SavedWord {
    Given(Control),
    Lost(HoldAlone),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HoldAlone {
    kind: HoldKind,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum HoldKind {
    Hold,
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
        let mut options = files::private();
        options.create(true).truncate(false).write(true);
        let file = tidepool_listener::open_regular(&path, &mut options).map_err(failed)?;
        match FileLock::take(file) {
            Ok(lock) => Ok(Lease { lock }),
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
        let kept = self.put_away(&path, now);
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

    /// What a pool's members are made of, as it was ordered; `None` where nothing was kept yet. A damaged file is kept aside,
    /// and the pool goes by its configuration.
    pub fn versions_load<V: DeserializeOwned>(&self, pool: &PoolName, now: UnixMillis) -> Loaded<V> {
        let path = self.versions(pool);
        let error = match load(&path, VERSIONS_VERSION) {
            Ok(value) => return Loaded { value, damage: None },
            Err(error) => error,
        };
        Loaded {
            value: None,
            damage: Some(format!(
                "what was rolled out can't be read, so new members are made as the configuration says: {}; {}",
                crate::chain(&error),
                self.put_away(&path, now)
            )),
        }
    }

    /// Keeps what a pool's members are made of.
    pub fn versions_save<V: Serialize>(&self, pool: &PoolName, versions: &V) -> Result<(), StateError> {
        #[derive(Serialize)]
        struct VersionsFile<'v, V> {
            version: u32,
            #[serde(flatten)]
            versions: &'v V,
        }
        let version = VERSIONS_VERSION;
        save(&self.versions(pool), &VersionsFile { version, versions })
    }

    /// Whether files may be written, and not only looked at.
    pub fn is_own(&self) -> bool {
        self.access == Access::Own
    }

    fn versions(&self, pool: &PoolName) -> PathBuf {
        self.dir.join(format!("{pool}.rollout.json"))
    }

    /// Puts a damaged file out of the way, unless it is only looked at; says what became of it.
    fn put_away(&self, path: &Path, now: UnixMillis) -> String {
        match self.access {
            Access::Look => "it is left as it is".to_owned(),
            Access::Own => match files::put_aside(path, now) {
                Ok(aside) => format!("it is kept as {}", aside.display()),
                Err(error) => format!("and it can't be kept aside: {error}"),
            },
        }
    }

    /// Who decides about a pool. A damaged file holds the pool: going on without it could resize one that is held. It is kept
    /// aside, and the hold is in its place before that, or as it is put away.
    pub fn control_load(&self, pool: &PoolName, now: UnixMillis) -> LoadedWord {
        let path = self.control(pool);
        let error = match load_control(&path) {
            Ok(found) => {
                return LoadedWord {
                    word: found.unwrap_or(Word::Given(Control::Auto)),
                    damage: None,
                };
            }
            Err(error) => error,
        };
        let why = crate::chain(&error);
        let kept = match self.access {
            Access::Look => "the file is left as it is".to_owned(),
            Access::Own => {
                let aside = files::link_aside(&path, now).or_else(|_| files::put_aside(&path, now));
                let aside = match aside {
                    Ok(aside) => format!("the file is kept as {}", aside.display()),
                    Err(error) => format!("and the file can't be kept aside: {error}"),
                };
                match self.control_save(pool, Word::Lost) {
                    Ok(()) => aside,
                    Err(error) => format!("{aside}, and the hold can't be kept: {}", crate::chain(&error)),
                }
            }
        };
        LoadedWord {
            word: Word::Lost,
            damage: Some(format!(
                "whether the pool is held can't be read, so it is held at its present size until `resume`: {why}; {kept}"
            )),
        }
    }

    /// Keeps who decides about a pool.
    pub fn control_save(&self, pool: &PoolName, word: Word) -> Result<(), StateError> {
        let control = match word {
            Word::Given(control) => SavedWord::Given(control),
            Word::Lost => SavedWord::Lost(HoldAlone { kind: HoldKind::Hold }),
        };
        let version = CONTROL_VERSION;
        save(&self.control(pool), &ControlFile { version, control })
    }
}

fn load_memory(path: &Path) -> Result<Option<Memory>, StateError> {
    load(path, MEMORY_VERSION)
}

fn load_control(path: &Path) -> Result<Option<Word>, StateError> {
    #[derive(Deserialize)]
    struct Found {
        control: SavedWord,
    }
    let found: Option<Found> = load(path, CONTROL_VERSION)?;
    Ok(found.map(|found| match found.control {
        SavedWord::Given(control) => Word::Given(control),
        SavedWord::Lost(_) => Word::Lost,
    }))
}

/// Reads a file of a known version; without one it is of the first.
fn load<T: DeserializeOwned>(path: &Path, version_max: u32) -> Result<Option<T>, StateError> {
    #[derive(Deserialize)]
    struct Versioned {
        #[serde(default)]
        version: u32,
    }
    let text = match tidepool_listener::read_bytes(path, FILE_BYTES_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(StateError::Io {
                path: path.to_owned(),
                source,
            });
        }
    };
    let damaged = |reason: String| StateError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let misread = |error: serde_json::Error| damaged(error.to_string());
    let fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&text).map_err(misread)?;
    let fields = serde_json::Value::Object(fields);
    let Versioned { version } = Versioned::deserialize(&fields).map_err(misread)?;
    if version > version_max {
        return Err(damaged(format!(
            "it is of version {version}, and this program knows up to {version_max}"
        )));
    }
    T::deserialize(&fields).map(Some).map_err(misread)
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
        state.control_save(&pool(), Word::Given(Control::Auto)).unwrap();
        for entry in fs::read_dir(dir.path().join("state")).unwrap() {
            let path = entry.unwrap().path();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
    }

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

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
    fn memory_and_control_are_read_as_they_were_kept() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let memory = Memory {
            ordinal_max: 7,
            ..Memory::default()
        };
        state.memory_save(&pool(), &memory).unwrap();
        assert_eq!(state.memory_load(&pool(), NOW).memory, memory);
        for word in [
            Word::Given(Control::Hold { size: 3 }),
            Word::Given(Control::Manual { size: 4 }),
            Word::Given(Control::Auto),
            Word::Lost,
        ] {
            state.control_save(&pool(), word).unwrap();
            let found = LoadedWord { word, damage: None };
            assert_eq!(state.control_load(&pool(), NOW), found);
        }
        // As an earlier version wrote it.
        let old = br#"{"control":{"kind":"hold","size":3}}"#;
        fs::write(state.control(&pool()), old).unwrap();
        let found = state.control_load(&pool(), NOW);
        assert_eq!(
            (found.word, found.damage),
            (Word::Given(Control::Hold { size: 3 }), None)
        );
    }

    #[test]
    fn a_control_that_cannot_be_read_holds_its_pool_and_is_kept_aside() {
        let damages: [&[u8]; 9] = [
            b"",
            b"{",
            b"{}",
            b"null",
            &[0xff, 0, 1],
            br#"{"control":{"kind":"pause"}}"#,
            br#"{"control":{"kind":"hold","size":"x"}}"#,
            br#"{"control":{"kind":"manual"}}"#,
            br#"{"version":2,"control":{"kind":"auto"}}"#,
        ];
        for damage in damages {
            let shown = String::from_utf8_lossy(damage);
            let dir = tempfile::tempdir().unwrap();
            let state = StateDir::open(dir.path()).unwrap();
            fs::write(state.control(&pool()), damage).unwrap();
            let looked = StateDir::existing(dir.path()).control_load(&pool(), NOW);
            assert_eq!(looked.word, Word::Lost, "{shown}");
            assert!(looked.damage.unwrap().contains("left as it is"), "{shown}");
            let found = state.control_load(&pool(), NOW);
            assert_eq!(found.word, Word::Lost, "{shown}");
            let damaged = found.damage.unwrap();
            assert!(damaged.contains("held at its present size"), "{damaged}");
            let aside = dir.path().join("api.control.json.damaged-20231114T221320Z");
            assert!(damaged.contains(&aside.display().to_string()), "{damaged}");
            assert_eq!(fs::read(aside).unwrap(), damage, "{shown}");
            // Nor does the next start give it back to its policies.
            let again = state.control_load(&pool(), NOW);
            assert_eq!((again.word, again.damage), (Word::Lost, None), "{shown}");
        }
    }

    /// If one hung, the whole test would.
    #[test]
    fn what_is_not_a_file_costs_its_pool_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let fifo = |path: &Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::create_dir(state.control(&pool())).unwrap();
        let found = state.control_load(&pool(), NOW);
        assert_eq!(found.word, Word::Lost);
        assert!(found.damage.unwrap().contains("kept as"));
        assert_eq!(state.control_load(&pool(), NOW).damage, None);

        fs::remove_file(state.control(&pool())).unwrap();
        fifo(&state.control(&pool()));
        let found = state.control_load(&pool(), NOW);
        assert_eq!(found.word, Word::Lost);
        assert!(found.damage.unwrap().contains("not a regular file"));
        assert_eq!(state.control_load(&pool(), NOW).damage, None);

        fifo(&state.memory(&pool()));
        let found = state.memory_load(&pool(), NOW);
        assert!(found.damage.unwrap().contains("not a regular file"));
        state.memory_save(&pool(), &Memory::default()).unwrap();

        fifo(&dir.path().join("lease"));
        assert!(matches!(state.lease(), Err(StateError::Io { .. })));
    }

    #[test]
    fn no_control_file_means_auto() {
        let dir = tempfile::tempdir().unwrap();
        let found = StateDir::open(dir.path()).unwrap().control_load(&pool(), NOW);
        assert_eq!((found.word, found.damage), (Word::Given(Control::Auto), None));
    }
}
