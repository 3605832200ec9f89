//! The guard: a second process that does nothing but wait for the first one's end, however it comes, and then sweeps.
//! Its standard input is a pipe that only the first one holds; the kernel closes it even after `kill -9`.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::sweep::{StateDir, SweepError, sweep};

/// How long the guard may take at an orderly end, when there is nothing left to sweep.
const GUARD_ENDS_WITHIN: Duration = Duration::from_secs(6);

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

    /// Lets the guard go and waits until it is gone.
    pub(crate) async fn release(mut self) {
        drop(self.child.stdin.take());
        match tokio::time::timeout(GUARD_ENDS_WITHIN, self.child.wait()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the guard could not be awaited"),
            Err(_) => tracing::warn!("the guard is still busy"),
        }
    }
}

/// The guard's own life: waits for the end of its input, then sweeps, unless somebody else took the directory over.
///
/// # Errors
/// When sweeping fails.
pub(crate) fn watch(state: &Path) -> Result<usize, SweepError> {
    let mut nothing = [0_u8; 16];
    let mut input = std::io::stdin().lock();
    loop {
        match input.read(&mut nothing) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let state = StateDir::new(state);
    match state.lock() {
        Ok(_lock) => sweep(&state),
        // A new `serve` or an orderly end holds it: they sweep themselves.
        Err(SweepError::InUse(_)) => Ok(0),
        Err(error) => Err(error),
    }
}
