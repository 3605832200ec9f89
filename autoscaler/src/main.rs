//! tidepool-autoscaler: arguments to configuration to daemon. No logic here.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tidepool_autoscaler::apply::CrashPoint;
use tidepool_autoscaler::cli::{self, Cli};
use tidepool_autoscaler::daemon::Runtime;
use tidepool_autoscaler_core::observe::UnixMillis;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What still runs on the blocking threads at the end is left after this.
const LEFTOVERS_MAX: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // Without descriptors or threads left, messages are written directly.
    let _direct = tidepool_logging::init_messages();
    let code = run_command();
    tidepool_logging::flush();
    code
}

/// Arguments to exit code, with messages perhaps still on their way.
fn run_command() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not mistakes.
            return ExitCode::from(match tidepool_logging::print_clap(&error) {
                Ok(()) if error.use_stderr() => cli::EXIT_USAGE,
                Ok(()) => cli::EXIT_OK,
                Err(_) => cli::EXIT_FAILURE,
            });
        }
    };
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::from(cli::EXIT_FAILURE)
        }
    }
}

fn complain(text: &str) {
    tidepool_logging::report(&format!("tidepool-autoscaler: {text}"));
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the source of the whole program"
)]
fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if let Err(error) = tidepool_logging::init(cli.log_format, &cli.log) {
        complain(&format!(
            "--log {:?}: {}",
            cli.log,
            tidepool_autoscaler::chain(&error)
        ));
        return Ok(ExitCode::from(cli::EXIT_USAGE));
    }
    let crash = match std::env::var(CrashPoint::VARIABLE)
        .ok()
        .map(|text| text.parse())
        .transpose()
    {
        Ok(crash) => crash,
        Err(error) => {
            complain(&format!("{}: {error}", CrashPoint::VARIABLE));
            return Ok(ExitCode::from(cli::EXIT_USAGE));
        }
    };
    let runtime = Runtime {
        clock: Arc::new(now),
        stop: CancellationToken::new(),
        crash,
    };
    let executor = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = executor.block_on(async {
        stop_on_signals(&runtime.stop)?;
        match cli::run(cli.command, runtime).await {
            Ok(()) => Ok(ExitCode::from(cli::EXIT_OK)),
            Err(error) => {
                error
                    .lines()
                    .iter()
                    .for_each(|line| tidepool_logging::report(line));
                Ok(error.exit_code())
            }
        }
    });
    // A name that is being looked up on a thread of its own must not hold the end up.
    executor.shutdown_timeout(LEFTOVERS_MAX);
    ended
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the source of the whole program"
)]
fn now() -> UnixMillis {
    UnixMillis(jiff::Timestamp::now().as_millisecond())
}

/// SIGTERM and SIGINT stop; SIGHUP changes nothing, for the configuration is read at the start, and a terminal that closes
/// is no reason to leave a pool alone.
fn stop_on_signals(stop: &CancellationToken) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => tracing::info!("SIGHUP: nothing to reload, the configuration is read at the start"),
            }
        }
        // First the stop, then the log: one that can't be written must not be in its way.
        stop.cancel();
        tracing::info!("stopping: the running step is finished first");
    });
    Ok(())
}
