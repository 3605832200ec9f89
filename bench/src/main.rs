//! tidepool-bench: tidepool-api beside a minimal server, the raw driver and a bare handler, all in one run.
//!
//! Every server runs in a process of its own, so that its CPU time is read from the operating system and the load
//! generator's is left out. How to read the table: `docs/benchmarks.md`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark that meets an error has no result: it stops at once, with the place"
)]

mod minimal;
mod process;
mod raw;
mod report;
mod run;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Measures tidepool-api beside a minimal server, the raw driver and a bare handler.
///
/// Prints a table and writes a JSON file. Cassandra rows need a cluster that is empty: piled-up SSTables halve the reads.
/// Exit codes: 0 measured, 1 something failed, 64 wrong usage.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// Cassandra's addresses, `HOST[:PORT],HOST`; without it the Cassandra rows are left out, loudly.
    #[arg(long, env = "TIDEPOOL_BENCH_CASSANDRA")]
    cassandra: Option<String>,
    /// Seconds of each measurement.
    #[arg(long, env = "BENCH_SECONDS", default_value_t = 4.0)]
    seconds: f64,
    /// Rounds; each figure is the median of them.
    #[arg(long, env = "BENCH_ROUNDS", default_value_t = 3)]
    rounds: usize,
    /// Concurrent connections, each with one request at a time.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Documents in SQLite before the measuring begins; Cassandra gets a thousand.
    #[arg(long, env = "BENCH_DOCUMENTS", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    documents: u64,
    /// Only the operations whose name starts with this.
    #[arg(long)]
    only: Option<String>,
    /// Where the JSON goes.
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
    /// The tidepool-api program; default: beside this program.
    #[arg(long)]
    api: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one of the comparison servers (started by the benchmark itself).
    #[command(hide = true)]
    Serve {
        /// bare, sqlite:FILE or cassandra:HOSTS
        kind: String,
        /// Where to listen.
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Runs the raw driver (started by the benchmark itself); prints one JSON line.
    #[command(hide = true)]
    Raw {
        /// Cassandra's addresses.
        #[arg(long)]
        cassandra: String,
        /// Operation.
        #[arg(long)]
        operation: String,
        /// Seconds.
        #[arg(long)]
        seconds: f64,
        /// Concurrent requests.
        #[arg(long)]
        connections: usize,
    },
}

fn main() -> std::process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return std::process::ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a tokio runtime");
    let outcome = runtime.block_on(async {
        match cli.command {
            None => run::run(&cli.run).await,
            Some(Command::Serve { kind, listen }) => minimal::serve(&kind, listen).await,
            Some(Command::Raw {
                cassandra,
                operation,
                seconds,
                connections,
            }) => raw::run(&cassandra, &operation, seconds, connections).await,
        }
    });
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidepool-bench: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
