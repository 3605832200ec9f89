//! tidepool-autoscaler: arguments to configuration to daemon. No logic here.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tidepool_autoscaler::apply::CrashPoint;
use tidepool_autoscaler::cli::{self, Cli};
use tidepool_autoscaler::daemon::Runtime;
use tidepool_autoscaler::logging;
use tidepool_autoscaler_core::observe::UnixMillis;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What still runs on the blocking threads at the end is left after this.
const LEFTOVERS_MAX: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A failure to print has nowhere to be told; help and version are no mistakes.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() {
                cli::EXIT_USAGE
            } else {
                cli::EXIT_OK
            });
        }
    };
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidepool-autoscaler: {error:#}");
            ExitCode::from(cli::EXIT_FAILURE)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if let Err(error) = logging::start(cli.log_format, &cli.log) {
        eprintln!("tidepool-autoscaler: {error}");
        return Ok(ExitCode::from(cli::EXIT_USAGE));
    }
    let crash = match std::env::var(CrashPoint::VARIABLE)
        .ok()
        .map(|text| text.parse())
        .transpose()
    {
        Ok(crash) => crash,
        Err(error) => {
            eprintln!("tidepool-autoscaler: {}: {error}", CrashPoint::VARIABLE);
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
                eprintln!("tidepool-autoscaler: {}", tidepool_autoscaler::chain(&error));
                Ok(error.exit_code())
            }
        }
    });
    // A name that is being looked up on a thread of its own must not hold the end up.
    executor.shutdown_timeout(LEFTOVERS_MAX);
    ended
}

fn now() -> UnixMillis {
    UnixMillis(jiff::Timestamp::now().as_millisecond())
}

fn stop_on_signals(stop: &CancellationToken) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // First the stop, then the log: one that can't be written must not be in its way.
        stop.cancel();
        tracing::info!("stopping: the running step is finished first");
    });
    Ok(())
}
