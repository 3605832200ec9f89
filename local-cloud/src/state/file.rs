//! The state's file: written whole and put in place by a rename, so that a reader sees the old or the new one.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::State;
use crate::machines::Machine;
use crate::private_files;

/// A state at most, bytes: 10,000 droplets with the largest user data have less.
const STATE_BYTES_MAX: u64 = 1 << 30;

/// Why the file can't be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("{path}: {source}")]
    Disk {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is not a state that this version understands ({message}); move it away or use --fresh")]
    Content { path: PathBuf, message: String },
}

/// Reads the machines of a state that has them nowhere but among an API's records, as an earlier version wrote it.
pub(crate) type EarlierMachines = fn(&str) -> Result<Vec<Machine>, serde_json::Error>;

/// Reads the state; a missing file is an empty one.
///
/// # Errors
/// When the disk fails or the file is something else.
pub(crate) fn load<R>(path: &Path, earlier: EarlierMachines) -> Result<State<R>, StoreError>
where
    R: DeserializeOwned + Default,
{
    let text = match tidepool_listener::read_text(path, STATE_BYTES_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(State::default()),
        Err(source) => {
            return Err(StoreError::Disk {
                path: path.to_owned(),
                source,
            });
        }
    };
    parse(&text, earlier).map_err(|error| StoreError::Content {
        path: path.to_owned(),
        message: error.to_string(),
    })
}

fn parse<R: DeserializeOwned>(text: &str, earlier: EarlierMachines) -> Result<State<R>, serde_json::Error> {
    let mut state = State {
        machines: serde_json::from_str(text)?,
        records: serde_json::from_str(text)?,
    };
    let written: WrittenMachines = serde_json::from_str(text)?;
    if written.machines.is_none() {
        for machine in earlier(text)? {
            state.machines.insert(machine);
        }
    }
    Ok(state)
}

/// Whether machines have a place of their own in the file.
#[derive(Deserialize)]
struct WrittenMachines {
    machines: Option<IgnoredAny>,
}

/// Writes the state.
///
/// # Errors
/// When the disk fails; the old file stays then.
pub(crate) fn save(path: &Path, state: &impl Serialize) -> Result<(), StoreError> {
    let disk = |source| StoreError::Disk {
        path: path.to_owned(),
        source,
    };
    let text = serde_json::to_vec(state).map_err(|error| StoreError::Content {
        path: path.to_owned(),
        message: error.to_string(),
    })?;
    let beside = path.with_extension("json.new");
    let mut file = private_files::create(&beside).map_err(disk)?;
    file.write_all(&text).map_err(disk)?;
    std::fs::rename(&beside, path).map_err(disk)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// If one hung, the whole test would.
    #[test]
    fn what_is_not_a_file_is_not_a_state() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("state.json");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [fifo.as_path(), Path::new("/dev/zero"), dir.path()] {
            let error = load::<Value>(path, |_| Ok(Vec::new())).err().unwrap();
            assert_eq!(
                error.to_string(),
                format!("{}: not a regular file", path.display())
            );
        }
    }
}
