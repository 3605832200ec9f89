//! Ends the processes that a local cloud left behind when it could not clean up itself (`kill -9`).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::identity;
use crate::hosts::SweepError;
use crate::state::dir::{DirError, StateDir};

/// How long killed processes may take to be gone: SIGKILL needs milliseconds, a loaded machine some more.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// Pause between two looks at what is left.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The processes of one machine have a few hundred bytes.
const PID_FILE_BYTES_MAX: u64 = 1 << 20;

/// A machine's processes as noted on disk.
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

/// Ends every process that belongs to the directory; says how many there were. The caller holds the lock.
///
/// # Errors
/// When the disk fails or something does not end.
pub(crate) fn sweep(state: &StateDir) -> Result<usize, SweepError> {
    let instance = state.instance()?;
    let mut noted = Vec::new();
    for path in pid_files(state)? {
        let text =
            tidepool_listener::read_text(&path, PID_FILE_BYTES_MAX).map_err(|source| DirError::Disk {
                path: path.clone(),
                source,
            })?;
        if let Ok(file) = serde_json::from_str::<PidFile>(&text) {
            noted.extend(file.processes);
        }
    }
    let ended = end_all(&instance, &noted)?;
    for path in pid_files(state)? {
        std::fs::remove_file(&path).map_err(|source| DirError::Disk { path, source })?;
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
    let dir = state.hosts();
    match std::fs::read_dir(&dir) {
        Ok(entries) => Ok(entries
            .flatten()
            .map(|entry| entry.path().join("pids.json"))
            .filter(|path| path.is_file())
            .collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(DirError::Disk { path: dir, source }.into()),
    }
}
