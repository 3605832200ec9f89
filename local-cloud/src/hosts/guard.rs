//! The guard: a second process that does nothing but wait for the first one's end, however it comes, and then sweeps.
//! Its standard input is a pipe that only the first one holds; the kernel closes it even after `kill -9`. At an orderly end
//! the first one says so by a byte, and there is nothing to sweep. When the guard is killed, the first process starts another.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::process::launcher;
use super::{SweepError, sweep, sweep_marked};
use crate::state::dir::{DirError, HeldFor, StateDir};

/// How long the guard may take at an orderly end, when there is nothing left to sweep.
const GUARD_ENDS_WITHIN: Duration = Duration::from_secs(6);
/// How long the lock of a process that was killed may outlive its end of the pipe. The kernel closes a process's files one
/// after the other, in no order that one may rely on; that takes microseconds, on a loaded machine some more.
const LOCK_FREE_WITHIN: Duration = Duration::from_secs(10);
/// Pause between two attempts at the lock.
const LOCK_AGAIN: Duration = Duration::from_millis(10);
/// Pause before another attempt to start a guard, when the system refuses.
const START_AGAIN: Duration = Duration::from_secs(1);
/// The first process's word that it ends in order.
const ORDERLY: &[u8] = b".";

/// The guard, and another one should it end before its time.
#[derive(Debug)]
pub(crate) struct Guard {
    released: CancellationToken,
    kept: JoinHandle<()>,
}

/// A guard process and the pipe that it watches.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
}

impl Guard {
    /// Starts the guard of a state directory: this same program, with the hidden command `guard`.
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn start(state: &StateDir) -> std::io::Result<Self> {
        let process = Process::start(state)?;
        let released = CancellationToken::new();
        let kept = tokio::spawn(keep(process, state.clone(), released.clone()));
        Ok(Self { released, kept })
    }

    /// Lets the guard go, with nothing left to sweep, and waits until it is gone.
    pub(crate) async fn release(self) {
        self.released.cancel();
        if let Err(error) = self.kept.await {
            tracing::warn!(%error, "the guard could not be let go");
        }
    }
}

impl Process {
    fn start(state: &StateDir) -> std::io::Result<Self> {
        let mut child = Command::new(launcher::own_program()?)
            .arg0("tidepool-local-cloud")
            .arg("guard")
            .arg("--state")
            .arg(state.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own: Ctrl-C in the terminal must not end it before the first process.
            .process_group(0)
            .spawn()?;
        // Waiting for a child closes its input, which would be the signal to sweep.
        let input = child.stdin.take();
        Ok(Self { child, input })
    }

    async fn let_go(mut self) {
        if let Some(mut input) = self.input.take()
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

/// Keeps a guard running until it is released.
async fn keep(mut process: Process, state: StateDir, released: CancellationToken) {
    loop {
        tokio::select! {
            () = released.cancelled() => return process.let_go().await,
            _ = process.child.wait() => {}
        }
        tracing::warn!("the guard process has ended; starting another one");
        process = loop {
            match Process::start(&state) {
                Ok(process) => break process,
                Err(error) => tracing::error!(%error, "the guard process can't be started"),
            }
            tokio::select! {
                () = released.cancelled() => return,
                () = tokio::time::sleep(START_AGAIN) => {}
            }
        };
    }
}

/// The guard's own life: waits for the end of its input, then sweeps, unless the end was an orderly one or somebody else
/// took the directory over. Says how many processes were ended.
///
/// # Errors
/// When sweeping fails.
pub(crate) fn watch(state: &Path) -> Result<usize, SweepError> {
    let state = StateDir::new(state);
    // Read now: the directory may be gone by then, and must not be made anew.
    let instance = state.instance()?;
    if ended_orderly() {
        return Ok(0);
    }
    let deadline = Instant::now() + LOCK_FREE_WITHIN;
    loop {
        if !state.was_served() {
            return sweep_marked(&instance);
        }
        match state.try_lock(HeldFor::Sweeping) {
            Ok(_lock) => return sweep(&state),
            Err(DirError::InUse(_) | DirError::BeingSwept(_)) if Instant::now() < deadline => {
                std::thread::sleep(LOCK_AGAIN);
            }
            // A new `serve` holds it: it has swept by itself; or somebody sweeps for us.
            Err(DirError::InUse(_) | DirError::BeingSwept(_)) => return Ok(0),
            Err(error) => return Err(error.into()),
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
