//! Starts machines' programs so that the kernel ends them with this process, even after `kill -9`: each is started by this
//! same program with the hidden command `launch`, which asks for SIGKILL at its parent's end and then becomes the program.
//!
//! The kernel means the end of the *thread* that started it. So one thread starts all of them, and lives as long as the
//! process does.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc;

use clap::Args;
use nix::unistd::{Pid, dup2_stdin, getppid};
use tokio::process::{Child, Command};

/// Longest reason that a program could not be started for; a system's message is some 50 bytes.
const REASON_BYTES_MAX: u64 = 4_096;

type Job = Box<dyn FnOnce() + Send>;

/// The thread that starts programs.
#[derive(Debug)]
pub(crate) struct Launcher {
    jobs: mpsc::Sender<Job>,
}

impl Launcher {
    /// Starts the thread; called inside of the runtime that will wait for the programs.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name("launcher".to_owned())
            .spawn(move || {
                let _runtime = runtime.enter();
                for job in queue {
                    // This thread's end would be the end of every machine.
                    if catch_unwind(AssertUnwindSafe(job)).is_err() {
                        tracing::error!("starting a machine's programs failed");
                    }
                }
            })?;
        Ok(Self { jobs })
    }

    /// Runs `job` on the thread, after those before it.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        if self.jobs.send(Box::new(job)).is_err() {
            tracing::error!("the thread that starts programs is gone");
        }
    }
}

/// This program's own file, also when another one has been put in its place since.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") {
        return Ok(PathBuf::from("/proc/self/exe"));
    }
    std::env::current_exe()
}

/// Starts a program by `launch`; to be called on the launcher's thread. `configure` sets all but program, arguments and
/// standard input, which is empty.
///
/// # Errors
/// When it can't be started; the reason is the program's own, as if it had been started directly.
pub(crate) fn spawn(
    program: &PathBuf,
    args: &[String],
    configure: impl FnOnce(&mut Command),
) -> io::Result<Child> {
    let (mut report, end) = io::pipe()?;
    let child = {
        let mut command = Command::new(own_program()?);
        command
            .arg0("tidepool-local-cloud")
            .arg("launch")
            .arg("--parent")
            .arg(std::process::id().to_string())
            .arg("--")
            .arg(program)
            .args(args);
        configure(&mut command);
        command.stdin(Stdio::from(end)).spawn()?
        // The command goes here, and with it this process's end of the pipe.
    };
    // Ends without a word once the program is in place.
    let mut reason = String::new();
    report
        .by_ref()
        .take(REASON_BYTES_MAX)
        .read_to_string(&mut reason)?;
    if reason.is_empty() {
        Ok(child)
    } else {
        Err(io::Error::other(reason))
    }
}

/// Arguments of the hidden command `launch`.
#[derive(Debug, Args)]
pub(crate) struct LaunchArgs {
    /// The process with which the program ends.
    #[arg(long)]
    parent: i32,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes the program; returns only when that fails. Standard input is the pipe on which the reason is reported.
///
/// # Errors
/// When the program can't be started.
pub(crate) fn become_program(args: &LaunchArgs) -> io::Result<()> {
    // A copy that is closed when the program takes over.
    let mut report = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let error = replace(args);
    write!(report, "{error}")?;
    Err(error)
}

fn replace(args: &LaunchArgs) -> io::Error {
    let prepared = (|| {
        end_with_parent()?;
        // It may have ended before that was asked for.
        if getppid() != Pid::from_raw(args.parent) {
            return Err(io::Error::other("the local cloud has ended"));
        }
        dup2_stdin(File::open("/dev/null")?).map_err(io::Error::from)
    })();
    match (prepared, args.command.split_first()) {
        (Err(error), _) => error,
        (Ok(()), None) => io::Error::other("no program was named"),
        (Ok(()), Some((program, args))) => std::process::Command::new(program).args(args).exec(),
    }
}

#[cfg(target_os = "linux")]
fn end_with_parent() -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(io::Error::from)
}

/// Elsewhere the kernel has no such signal: the guard alone ends what is left.
#[cfg(not(target_os = "linux"))]
fn end_with_parent() -> io::Result<()> {
    Ok(())
}
