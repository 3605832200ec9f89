//! Commands and their arguments; what they print and how they exit.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use tidepool_load::{LoadConfig, Shape};
use tidepool_logging::chain_of_lines;

use crate::files::Pool;
use crate::guard::{self, Watched};
use crate::mark::Mark;
use crate::scenario::{self, Options, RunError};
use crate::site::SiteError;
use crate::stop::Stop;
use crate::view::View;

/// Everything went as it should.
const EXIT_OK: u8 = 0;
/// Something failed, or clients noticed something.
const EXIT_FAILURE: u8 = 1;
/// Bad usage.
const EXIT_USAGE: u8 = 64;

/// The length of a tide when nobody says otherwise.
const TIDE_SECS: u64 = 150;
/// A shorter tide leaves the pool no time to follow: a member boots in 2 s and needs 3 s more until it serves, and the pool
/// comes back in steps.
const TIDE_SECS_MIN: u64 = 60;
/// A flat load of less shows nothing.
const FLAT_SECS_MIN: u64 = 20;
/// One day.
const SECONDS_MAX: u64 = 86_400;
/// More than one machine can serve to itself.
const RATE_MAX: f64 = 100_000.0;

const ABOUT: &str =
    "The whole of Tidepool on one machine: watch an API scale itself, and lose a member, unnoticed.";

const LONG_ABOUT: &str = "\
The whole of Tidepool on one machine.

It starts tidepool-local-cloud (DigitalOcean's API, with processes as droplets), makes a load balancer there, starts \
tidepool-autoscaler on a pool of droplets that run tidepool-api, and lets a tide of requests rise and fall over them. \
In the middle, a member that serves loses its power. Every answer is checked against what was written before.

The programs are looked for beside this one. Everything listens on loopback addresses; no root and no account is needed. \
Ctrl-C ends everything in order at any time, a second Ctrl-C at once; no process is left behind.";

const AFTER_HELP: &str = "\
OUTPUT
  Progress is shown on standard error. The last line of standard output is one JSON object:
    requests     requests that were due by the schedule
    failed       answers outside 2xx, wrong answers, broken connections, answers later than 5 s
    unknown      POSTs that were in flight on the member while its power was cut; each is read back and reported
    members_min, members_max, members_end
                 members that served: fewest, most, at the end
    scale_outs, scale_ins
                 decisions of the autoscaler for more, or fewer, members
    power_cuts   members whose power was cut
    p99_ms       99th percentile of the latencies, counted from when a request was due
    acknowledged, read_back, lost
                 only of `stack`: writes that were answered with success, found again at the end, not found

EXIT STATUS
  0   a success: nothing failed (stack: under 1 % failed, each with a problem answer or by being late, within 30 s of the
      node's kill, and nothing is lost); the tide made the pool grow by at least 3 members and come back, or the flat load made no scale-out
  1   something failed, or the run was interrupted before its time; the reason is on standard error
  64  bad usage

EXAMPLES
  tidepool-demo demo
  DEMO_SECONDS=150 tidepool-demo demo
  tidepool-demo demo --load flat --seconds 60
  tidepool-demo stack --services services --seconds 150
  tidepool-demo load --target http://127.0.0.1:8080 --per-sec 100 --seconds 30";

#[derive(Debug, Parser)]
#[command(name = "tidepool-demo", version, about = ABOUT, long_about = LONG_ABOUT, after_long_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// API on SQLite, autoscaler asking the members: needs nothing but these programs.
    Demo(RunArgs),
    /// API on three Cassandra nodes, Metricbeat beside each member, autoscaler reading Elasticsearch alone.
    ///
    /// A database node is killed in the middle, and every acknowledged write is read back at the end. Needs Java 17, Maven
    /// and Go besides; the servers are fetched the first time.
    Stack(StackArgs),
    /// The load generator alone, against an API that runs already.
    Load(LoadArgs),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Waits for the end of its parent, then ends what that had started. Started by `demo` and `stack`.
    #[command(hide = true)]
    Guard(GuardArgs),
}

/// How the load changes over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LoadKind {
    /// Low, rising, high, falling, low.
    Tide,
    /// Low all the time.
    Flat,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// End after so many seconds of load, with an exit status. Without: tides of 150 s follow each other until Ctrl-C.
    #[arg(long, value_name = "SECS", env = "DEMO_SECONDS", value_parser = clap::value_parser!(u64).range(FLAT_SECS_MIN..=SECONDS_MAX))]
    seconds: Option<u64>,
    /// The load.
    #[arg(long, value_name = "KIND", env = "DEMO_LOAD", default_value = "tide")]
    load: LoadKind,
    /// Requests a second at low water, and of a flat load.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    low_per_sec: Option<f64>,
    /// Requests a second at high water.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    high_per_sec: Option<f64>,
    /// Where the dashboard listens. Without: a free port, which is printed.
    #[arg(long, value_name = "ADDR", env = "DEMO_DASHBOARD")]
    dashboard: Option<SocketAddr>,
    /// Directory for configuration, data and logs. Without: a temporary one, removed after a success.
    #[arg(long, value_name = "DIR", env = "DEMO_WORK_DIR")]
    work_dir: Option<PathBuf>,
    /// Leave the temporary directory where it is, also after a success.
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Args)]
struct StackArgs {
    #[command(flatten)]
    run: RunArgs,
    /// The repository's folder with the services' scripts.
    #[arg(long, value_name = "DIR", env = "DEMO_SERVICES", default_value = "services")]
    services: PathBuf,
}

#[derive(Debug, Args)]
struct GuardArgs {
    #[arg(long)]
    mark: String,
    #[arg(long)]
    work_dir: PathBuf,
    #[arg(long)]
    services: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct LoadArgs {
    /// Base address of the API or of a load balancer before it.
    #[arg(long, value_name = "URL")]
    target: String,
    /// Collection to write to; made if it isn't there.
    #[arg(long, value_name = "NAME", default_value = "tide", value_parser = NonEmptyStringValueParser::new())]
    collection: String,
    /// API key, if the API wants one.
    #[arg(long, value_name = "KEY", env = "TIDEPOOL_KEY", hide_env_values = true)]
    key: Option<String>,
    /// Requests a second; of a tide, at high water.
    #[arg(long, value_name = "RATE", default_value = "50", value_parser = rate)]
    per_sec: f64,
    /// Requests a second at low water: makes the load a tide.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    low_per_sec: Option<f64>,
    /// How long.
    #[arg(long, value_name = "SECS", default_value = "30", value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    seconds: u64,
    /// Makes the schedule repeatable.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Read back every acknowledged write at the end, and report what is lost.
    #[arg(long)]
    read_back: bool,
}

/// A text that no other run has.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the source of the whole program"
)]
fn unique() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= RATE_MAX => Ok(rate),
        _ => Err(format!("a number above 0, at most {RATE_MAX}")),
    }
}

/// Runs the command that the arguments name.
pub async fn main() -> ExitCode {
    // Without descriptors or threads left, messages are written directly.
    let _direct = tidepool_logging::init_messages();
    let code = run_command().await;
    tidepool_logging::flush();
    ExitCode::from(code)
}

/// Arguments to exit status, with messages perhaps still on their way.
async fn run_command() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not mistakes.
            return match tidepool_logging::print_clap(&error) {
                Ok(()) if error.use_stderr() => EXIT_USAGE,
                Ok(()) => EXIT_OK,
                Err(_) => EXIT_FAILURE,
            };
        }
    };
    match cli.command {
        Command::Demo(args) => play(args, None).await,
        Command::Stack(args) => play(args.run, Some(args.services)).await,
        Command::Load(args) => load(args).await,
        Command::Guard(args) => guard(args).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tidepool-demo", &mut script);
            print(&String::from_utf8_lossy(&script), EXIT_OK)
        }
    }
}

async fn guard(args: GuardArgs) -> u8 {
    let watched = Watched {
        mark: Mark::new(args.mark),
        work_dir: args.work_dir,
        services: args.services,
    };
    match guard::watch(&watched).await {
        Ok(()) => EXIT_OK,
        Err(error) => complain(EXIT_FAILURE, &chain_of_lines(&error)),
    }
}

async fn play(args: RunArgs, services: Option<PathBuf>) -> u8 {
    let options = match options(args, services) {
        Ok(options) => options,
        Err(problem) => return complain(EXIT_USAGE, &problem),
    };
    let stop = match Stop::on_signals() {
        Ok(stop) => stop,
        Err(error) => return complain(EXIT_FAILURE, &format!("signals can't be listened to: {error}")),
    };
    let mut view = View::new();
    let outcome = match scenario::run(&options, &stop, &mut view).await {
        Ok(outcome) => outcome,
        Err(RunError::Site(SiteError::Interrupted)) => {
            return complain(EXIT_FAILURE, "interrupted before the load began");
        }
        Err(error) => return complain(EXIT_FAILURE, &chain_of_lines(&error)),
    };
    for shortcoming in &outcome.shortcomings {
        tidepool_logging::report(&format!("error: {shortcoming}"));
    }
    let code = if outcome.shortcomings.is_empty() {
        EXIT_OK
    } else {
        EXIT_FAILURE
    };
    match outcome.summary.line() {
        Ok(line) => print(&format!("{line}\n"), code),
        Err(error) => complain(EXIT_FAILURE, &error.to_string()),
    }
}

fn options(args: RunArgs, services: Option<PathBuf>) -> Result<Options, String> {
    let stack = services.is_some();
    // Chosen so that two cores carry the generator, the balancer and six members; on the stack also three databases.
    let (low, high, target_per_sec) = if stack {
        (12.0, 64.0, 11.0)
    } else {
        (60.0, 330.0, 60.0)
    };
    let low_per_sec = args.low_per_sec.unwrap_or(low);
    let high_per_sec = args.high_per_sec.unwrap_or(high);
    let tide = args.load == LoadKind::Tide;
    if tide && args.seconds.is_some_and(|seconds| seconds < TIDE_SECS_MIN) {
        return Err(format!(
            "DEMO_SECONDS: a tide takes at least {TIDE_SECS_MIN} s; DEMO_LOAD=flat may be shorter"
        ));
    }
    if tide && high_per_sec < low_per_sec {
        return Err("--high-per-sec is below --low-per-sec".into());
    }
    let period_secs = args.seconds.unwrap_or(TIDE_SECS);
    // 10 s in a tide of 150 s; a shorter tide gives the pool less time to come back.
    let in_window_secs = u32::try_from((period_secs / 15).clamp(4, 10)).unwrap_or(10);
    Ok(Options {
        services,
        duration: args.seconds.map(Duration::from_secs),
        period: Duration::from_secs(period_secs),
        shape: if tide {
            Shape::Tide {
                low_per_sec,
                high_per_sec,
            }
        } else {
            Shape::Flat { per_sec: low_per_sec }
        },
        pool: Pool {
            min: 2,
            max: 6,
            target_per_sec,
            in_window_secs,
        },
        // Written at the rate of low water, in about 4 s.
        documents_before: if stack { 50 } else { 200 },
        dashboard: args.dashboard,
        work_dir: args.work_dir,
        keep: args.keep,
        mark: Mark::new(unique()),
    })
}

async fn load(args: LoadArgs) -> u8 {
    let stop = match Stop::on_signals() {
        Ok(stop) => stop,
        Err(error) => return complain(EXIT_FAILURE, &format!("signals can't be listened to: {error}")),
    };
    let duration = Duration::from_secs(args.seconds);
    let shape = match args.low_per_sec {
        Some(low_per_sec) => Shape::Tide {
            low_per_sec,
            high_per_sec: args.per_sec,
        },
        None => Shape::Flat {
            per_sec: args.per_sec,
        },
    };
    let config = LoadConfig {
        target: args.target,
        collection: args.collection,
        // A run of its own, so that ids of earlier runs are not in the way.
        run: unique(),
        key: args.key,
        shape,
        period: duration,
        duration: Some(duration),
        documents_before: 100,
        patience: Duration::from_secs(30),
        seed: args.seed,
    };
    let generator = tokio::select! {
        generator = scenario::load_only(config, &stop.gently) => match generator {
            Ok(generator) => generator,
            Err(error) => return complain(EXIT_FAILURE, &chain_of_lines(&error)),
        },
        () = stop.now.cancelled() => return complain(EXIT_FAILURE, "interrupted"),
    };
    let figures = generator.figures();
    generator.with_tally(|tally| {
        for (reason, count) in tally.reasons() {
            tidepool_logging::report(&format!("{count} × {reason}"));
        }
    });
    let mut line = serde_json::Map::new();
    line.insert("requests".into(), figures.requests.into());
    line.insert("failed".into(), figures.failed.into());
    line.insert("p99_ms".into(), ((figures.p99_ms * 10.0).round() / 10.0).into());
    let mut lost = 0;
    if args.read_back {
        let found = generator.read_back().await;
        lost = found.lost;
        for note in &found.notes {
            tidepool_logging::report(note);
        }
        for (name, count) in [
            ("acknowledged", found.acknowledged),
            ("read_back", found.read_back),
            ("lost", lost),
        ] {
            line.insert(name.into(), count.into());
        }
    }
    print(
        &format!("{}\n", serde_json::Value::Object(line)),
        if figures.failed + lost == 0 {
            EXIT_OK
        } else {
            EXIT_FAILURE
        },
    )
}

/// Prints on standard output; the exit status is `code` if that succeeds.
fn print(text: &str, code: u8) -> u8 {
    match tidepool_logging::print(text) {
        Ok(()) => code,
        Err(error) => complain(
            EXIT_FAILURE,
            &format!("standard output can't be written: {error}"),
        ),
    }
}

fn complain(code: u8, text: &str) -> u8 {
    tidepool_logging::report(&format!("error: {text}"));
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Options, String> {
        let cli = Cli::try_parse_from(args).map_err(|error| error.to_string())?;
        match cli.command {
            Command::Demo(args) => options(args, None),
            Command::Stack(args) => options(args.run, Some(args.services)),
            _ => Err("another command".into()),
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn seconds_and_load_are_taken() {
        let demo = parsed(&["x", "demo", "--seconds", "150", "--load", "tide"]).unwrap();
        assert_eq!(demo.duration, Some(Duration::from_secs(150)));
        assert!(matches!(demo.shape, Shape::Tide { .. }));
        let flat = parsed(&["x", "demo", "--seconds", "30", "--load", "flat"]).unwrap();
        assert!(matches!(flat.shape, Shape::Flat { .. }));
        let stack = parsed(&["x", "stack", "--seconds", "150", "--load", "tide"]).unwrap();
        assert_eq!(stack.services, Some(PathBuf::from("services")));
    }

    #[test]
    fn a_tide_too_short_to_follow_is_refused() {
        let error = parsed(&["x", "demo", "--seconds", "30", "--load", "tide"]).unwrap_err();
        assert!(error.contains("at least 60 s"), "{error}");
    }

    #[test]
    fn odd_values_are_refused() {
        for args in [
            ["x", "demo", "--seconds", "1"].as_slice(),
            &["x", "demo", "--load", "ebb"],
            &["x", "demo", "--low-per-sec", "0"],
            &["x", "demo", "--low-per-sec", "nan"],
            &[
                "x",
                "demo",
                "--load",
                "tide",
                "--low-per-sec",
                "100",
                "--high-per-sec",
                "50",
            ],
            &["x", "demo", "--dashboard", "here"],
            &["x", "demo", "--unknown"],
        ] {
            assert!(parsed(args).is_err(), "{args:?}");
        }
    }
}
