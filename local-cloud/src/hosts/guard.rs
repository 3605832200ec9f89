//! The guard: a second process that does nothing but wait for the first one's end, however it comes, and then sweeps.
//! Its standard input is a pipe that only the first one holds; the kernel closes it even after `kill -9`. At an orderly end
//! the first one says so by a byte, and there is nothing to sweep.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::sweep::{StateDir, SweepError, sweep};

/// How long the guard may take at an orderly end, when there is nothing left to sweep.
const GUARD_ENDS_WITHIN: Duration = Duration::from_secs(6);
/// How long the lock of a process that was killed may outlive its end of the pipe. The kernel closes a process's files one
/// after the other, in no order that one may rely on; that takes microseconds, on a loaded machine some more.
const LOCK_FREE_WITHIN: Duration = Duration::from_secs(10);
/// Pause between two attempts at the lock.
const LOCK_AGAIN: Duration = Duration::from_millis(10);
/// The first process's word that it ends in order.
const ORDERLY: &[u8] = b".";

/// A running guard.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
}

impl Guard {
    /// Starts the guard of a state directory: this same program, with the hidden command `guard`.
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn start(state: &StateDir) -> std::io::Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .arg("guard")
            .arg("--state")
            .arg(state.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own: Ctrl-C in the terminal must not end it before the first process.
            .process_group(0)
            .spawn()?;
        Ok(Self { child })
    }

    /// Lets the guard go, with nothing left to sweep, and waits until it is gone.
    pub(crate) async fn release(mut self) {
        if let Some(mut input) = self.child.stdin.take()
            && let Err(error) = input.write_all(ORDERLY).await
        {
            tracing::warn!(%error, "the guard was gone already");
        }
        match tokio::time::timeout(GUARD_ENDS_WITHIN, self.child.wait()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the guard could not be awaited"),
            Err(_) => tracing::warn!("the guard is still busy"),
        }
    }
}

/// The guard's own life: waits for the end of its input, then sweeps, unless the end was an orderly one or somebody else
/// took the directory over. Says how many processes were ended.
///
/// # Errors
/// When sweeping fails.
pub(crate) fn watch(state: &Path) -> Result<usize, SweepError> {
    if ended_orderly() {
        return Ok(0);
    }
    let state = StateDir::new(state);
    let deadline = Instant::now() + LOCK_FREE_WITHIN;
    loop {
        match state.lock() {
            Ok(_lock) => return sweep(&state),
            Err(SweepError::InUse(_)) if Instant::now() < deadline => std::thread::sleep(LOCK_AGAIN),
            // A new `serve` holds it: it has swept by itself.
            Err(SweepError::InUse(_)) => return Ok(0),
            Err(error) => return Err(error),
        }
    }
}

/// Waits for the end of the input; whether the first process has said a word before.
fn ended_orderly() -> bool {
    let mut word = [0_u8; 16];
    let mut said = false;
    let mut input = std::io::stdin().lock();
    loop {
        match input.read(&mut word) {
            Ok(0) => return said,
            Ok(_) => said = true,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return said,
        }
    }
}
