//! The command line: what may be said, and what it does. The daemon itself is elsewhere.

mod rollout;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use tidepool_autoscaler_core::outcome::{Decision, Plan};
use tidepool_logging::Format;

use crate::client::{Client, ClientError, mode_text, rollout_text, status_text};
use crate::config::{self, Config, Problem, Purpose, Surroundings};
use crate::daemon::{self, DaemonError, Runtime};
use crate::journal::Journal;
use crate::metrics::PerHost;
use crate::observe;
use crate::state::StateDir;
use crate::tick::{Pool, Thought};

/// Everything went well.
pub const EXIT_OK: u8 = 0;
/// It was tried and failed.
pub const EXIT_FAILURE: u8 = 1;
/// The command line or the configuration is wrong.
pub const EXIT_USAGE: u8 = 64;

/// A configuration at most, bytes: 50 pools have less than 100 KiB.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// A file that the configuration names at most, bytes: a secret or a droplet's user data, of which DigitalOcean takes 64 KiB.
const NAMED_FILE_BYTES_MAX: u64 = 64 << 10;
/// A rate of scraped counters needs two readings; `plan` waits so long between them.
const RATE_GAP: Duration = Duration::from_secs(2);

/// `check` waits so long for the provider's tags.
const NAMES_MAX: Duration = Duration::from_secs(5);

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   it was tried and failed: the reason is on standard error
  64  the command line or the configuration is wrong: every problem is on standard error, with its path

Examples:
  tidepool-autoscaler check --config /etc/tidepool-autoscaler.toml
  tidepool-autoscaler plan --config autoscaler.toml --json
  tidepool-autoscaler scale api 5 --config autoscaler.toml
  tidepool-autoscaler resume api --config autoscaler.toml
  tidepool-autoscaler rollout api --image packer/manifests/digitalocean/api.json --config autoscaler.toml
  tidepool-autoscaler rollout api --undo --config autoscaler.toml";

/// Resizes pools of plain virtual machines by what their metrics say.
///
/// It reads what Metricbeat wrote into Elasticsearch (or asks the machines themselves), decides how many machines each pool
/// should have, and creates, admits, drains and destroys DigitalOcean droplets by named steps. A metric that is missing,
/// late or wrong never shrinks a pool; minimum and maximum hold without any metric. Dashboard, status API and Prometheus
/// metrics are on the status port.
#[derive(Debug, Parser)]
#[command(name = "tidepool-autoscaler", version, after_help = EXIT_CODES, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What to log on standard error: a level, or parts and levels such as `tidepool_autoscaler=debug`.
    #[arg(
        long,
        global = true,
        env = "TIDEPOOL_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub log: String,
    /// How a line of the log looks.
    #[arg(
        long,
        global = true,
        env = "TIDEPOOL_LOG_FORMAT",
        value_enum,
        default_value = "human"
    )]
    pub log_format: Format,
}

/// Where the configuration is.
#[derive(Debug, clap::Args)]
pub struct ConfigArg {
    /// The configuration, in TOML; a commented example comes with the program.
    #[arg(long, env = "TIDEPOOL_AUTOSCALER_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
}

/// What members shall be made of; what isn't said stays as it is.
#[derive(Debug, clap::Args)]
pub struct RolloutChange {
    /// The manifest of an image as `make image` leaves it (a file), an image's number, or its slug.
    #[arg(long, value_name = "MANIFEST|ID|SLUG")]
    pub image: Option<String>,
    /// A size, such as s-2vcpu-4gb.
    #[arg(long)]
    pub size: Option<String>,
    /// What cloud-init gets on new members.
    #[arg(long, value_name = "FILE")]
    pub user_data: Option<PathBuf>,
}

/// What to do with a rollout that is under way, or was.
#[derive(Debug, clap::Args)]
pub struct RolloutWord {
    /// Replace nobody until --resume; the pool is still scaled.
    #[arg(long, conflicts_with_all = ["image", "size", "user_data", "resume", "undo"])]
    pub pause: bool,
    /// Go on after --pause.
    #[arg(long, conflicts_with_all = ["image", "size", "user_data", "undo"])]
    pub resume: bool,
    /// Go back to what members were made of before, also after the rollout is done.
    #[arg(long, conflicts_with_all = ["image", "size", "user_data"])]
    pub undo: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon until SIGTERM or Ctrl-C; the step that runs then is finished.
    Run {
        /// Its configuration.
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Check a configuration; every problem is reported at once.
    Check {
        /// The configuration.
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Observe and decide once, print the decision and its steps, and do nothing.
    Plan {
        /// The configuration.
        #[command(flatten)]
        config: ConfigArg,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the pools of the running daemon.
    Status {
        /// The daemon's configuration.
        #[command(flatten)]
        config: ConfigArg,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Hold a pool at its present size until `resume`. Dead members are still replaced.
    Hold {
        /// Which pool.
        pool: String,
        /// The daemon's configuration.
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Give a pool back to its policies.
    Resume {
        /// Which pool.
        pool: String,
        /// The daemon's configuration.
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Hold a pool at a size, within its limits, until `resume`.
    Scale {
        /// Which pool.
        pool: String,
        /// How many members.
        #[arg(value_name = "N")]
        size: u32,
        /// The daemon's configuration.
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Replace a pool's members by ones of another image, size or user data, a few at a time, each only after its successor has
    /// been ready for a while. It goes back by itself when new members fail. `status` shows how far it is.
    #[command(group = clap::ArgGroup::new("what").required(true).multiple(true)
        .args(["image", "size", "user_data", "pause", "resume", "undo"]))]
    Rollout {
        /// Which pool.
        pool: String,
        /// What to change.
        #[command(flatten)]
        change: RolloutChange,
        /// What to do with the one that is under way.
        #[command(flatten)]
        word: RolloutWord,
        /// The daemon's configuration.
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Print a shell's completions.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one for each command, into a directory.
    Manual {
        /// The directory; it must exist.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// Why a command ended badly.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The configuration can't be read.
    #[error("{path} can't be read", path = .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The configuration is wrong.
    #[error("{}", counted(.path, .problems))]
    Config {
        /// Which file.
        path: PathBuf,
        /// Everything that is wrong.
        problems: Vec<Problem>,
    },
    /// The daemon can't run.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// What a rollout names can't be used.
    #[error("{path}: {problem}", path = .path.display())]
    Rollout {
        /// Which file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// The running daemon's answer is not to be had.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The HTTP client can't be made.
    #[error("the HTTP client can't be made")]
    Http(#[from] reqwest::Error),
    /// A pool can't be observed.
    #[error("pool {0} can't be planned")]
    Plan(String, #[source] crate::tick::TickError),
    /// The manual pages can't be written.
    #[error("the manual can't be written into {}", .0.display())]
    Manual(PathBuf, #[source] std::io::Error),
    /// The answer can't be written.
    #[error("standard output can't be written")]
    Output(#[from] std::io::Error),
    /// The answer can't be written as JSON.
    #[error("the answer can't be written as JSON")]
    Json(#[from] serde_json::Error),
}

impl CommandError {
    /// What is said of it, line by line: a line break within one is not one of these.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("tidepool-autoscaler: {}", crate::chain(self))];
        if let CommandError::Config { problems, .. } = self {
            lines.extend(problems.iter().map(|problem| format!("  {problem}")));
        }
        lines
    }

    /// Its exit code.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            CommandError::Unreadable { .. } | CommandError::Config { .. } | CommandError::Rollout { .. } => {
                EXIT_USAGE
            }
            CommandError::Daemon(_)
            | CommandError::Client(_)
            | CommandError::Http(_)
            | CommandError::Plan(..)
            | CommandError::Manual(..)
            | CommandError::Output(_)
            | CommandError::Json(_) => EXIT_FAILURE,
        })
    }
}

fn counted(path: &Path, problems: &[Problem]) -> String {
    let count = match problems.len() {
        1 => "1 problem".to_owned(),
        n => format!("{n} problems"),
    };
    format!("{}: {count}", path.display())
}

#[expect(
    clippy::disallowed_methods,
    reason = "configuration is where the environment is read"
)]
fn load(path: &Path, purpose: Purpose) -> Result<Config, CommandError> {
    let failed = |source| CommandError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let text = tidepool_listener::read_text(path, CONFIG_BYTES_MAX).map_err(failed)?;
    let path = std::path::absolute(path).map_err(failed)?;
    let around = Surroundings {
        env: &|name| std::env::var(name).ok(),
        read_file: &|path| tidepool_listener::read_text(path, NAMED_FILE_BYTES_MAX),
        base: path.parent().unwrap_or(Path::new("/")),
    };
    config::parse(&text, &around, purpose).map_err(|problems| CommandError::Config {
        path: path.clone(),
        problems,
    })
}

/// Does what was said. `runtime` is what only `main` can give.
pub async fn run(command: Command, runtime: Runtime) -> Result<(), CommandError> {
    match command {
        Command::Run { config } => Ok(daemon::run(load(&config.config, Purpose::Act)?, runtime).await?),
        Command::Check { config } => {
            let checked = load(&config.config, Purpose::Act)?;
            for note in names_checked(&checked, &runtime).await? {
                tidepool_logging::report(&format!("note: {note}"));
            }
            for warning in &checked.warnings {
                tidepool_logging::report(&format!("warning: {warning}"));
            }
            let pools = crate::record::names(checked.pools.iter().map(|pool| &pool.spec.name));
            let pools = if pools.is_empty() { "none" } else { &pools };
            print(&format!(
                "{} is in order; pools: {pools}",
                config.config.display()
            ))
        }
        Command::Plan { config, json } => plan(&load(&config.config, Purpose::Act)?, json, runtime).await,
        Command::Status { config, json } => {
            let status = client(&config)?.status().await?;
            let text = if json {
                serde_json::to_string_pretty(&status)?
            } else {
                status_text(&status)
            };
            print(text.trim_end())
        }
        Command::Hold { pool, config } => print_mode(&pool, client(&config)?.hold(&pool).await?),
        Command::Resume { pool, config } => print_mode(&pool, client(&config)?.resume(&pool).await?),
        Command::Scale { pool, size, config } => {
            print_mode(&pool, client(&config)?.scale(&pool, size).await?)
        }
        Command::Rollout {
            pool,
            change,
            word,
            config,
        } => {
            let client = client(&config)?;
            let rollout = match word.said() {
                Some(word) => client.rollout_word(&pool, word).await?,
                None => client.rollout(&pool, &rollout::request(&change)?).await?,
            };
            print(&format!("{pool}: {}", rollout_text(&rollout)))
        }
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tidepool-autoscaler", &mut text);
            Ok(tidepool_logging::print(&String::from_utf8_lossy(&text))?)
        }
        Command::Manual { directory } => clap_mangen::generate_to(Cli::command(), &directory)
            .map_err(|error| CommandError::Manual(directory, error)),
    }
}

fn client(config: &ConfigArg) -> Result<Client, CommandError> {
    Ok(Client::new(&load(&config.config, Purpose::Ask)?.status)?)
}

fn print_mode(pool: &str, mode: crate::status::Mode) -> Result<(), CommandError> {
    print(&format!("{pool}: {}", mode_text(mode)))
}

fn print(text: &str) -> Result<(), CommandError> {
    Ok(tidepool_logging::print(&format!("{text}\n"))?)
}

/// What `plan --json` shows of a pool.
#[derive(Debug, serde::Serialize)]
struct Planned {
    pool: String,
    decision: Decision,
    plan: Plan,
    problems: Vec<String>,
}

/// Asks the provider whether it spells the tags as the configuration does. A provider that can't be asked is not a mistake of
/// the configuration: it is noted.
async fn names_checked(config: &Config, runtime: &Runtime) -> Result<Vec<String>, CommandError> {
    let mut notes = Vec::new();
    for (pool, provider) in daemon::providers(config, runtime)? {
        let checked = tokio::time::timeout(NAMES_MAX, provider.names_check(&pool.spec.name)).await;
        let why = match checked {
            Ok(Ok(found)) => {
                notes.extend(
                    found
                        .into_iter()
                        .map(|note| format!("{}: {note}", pool.spec.name)),
                );
                continue;
            }
            Ok(Err(error)) => crate::chain(&error),
            Err(_) => format!("no answer within {} s", NAMES_MAX.as_secs()),
        };
        // All pools have one account: the next one would not be answered either.
        notes.push(format!("the tags' spelling was not checked: {why}"));
        break;
    }
    Ok(notes)
}

/// One dry tick of every pool: nothing is written, and nothing is done.
async fn plan(config: &Config, json: bool, runtime: Runtime) -> Result<(), CommandError> {
    let state = StateDir::existing(&config.state_dir);
    let journal = Journal::look(&state.journal());
    let pools = daemon::pools(config, &state, journal, &runtime)?;
    let source = daemon::source(&config.metrics)?;
    let mut planned = Vec::new();
    for pool in &pools {
        planned.push(plan_one(pool, source.as_ref(), config, &runtime).await?);
    }
    if json {
        return print(&serde_json::to_string_pretty(&planned)?);
    }
    for Planned {
        pool,
        decision,
        plan,
        problems,
    } in &planned
    {
        print(&format!("{pool}: {}", decision.reason()))?;
        for problem in problems {
            print(&format!("  problem: {problem}"))?;
        }
        for proposal in &decision.proposals {
            print(&format!("  {}", proposal.formula()))?;
        }
        for step in &plan.steps {
            print(&format!("  would {} {}", step.kind().name(), step.name()))?;
        }
    }
    Ok(())
}

async fn plan_one(
    pool: &Pool,
    source: &dyn crate::metrics::MetricSource,
    config: &Config,
    runtime: &Runtime,
) -> Result<Planned, CommandError> {
    let failed = |error| CommandError::Plan(pool.name().0.clone(), error);
    let tick_state = std::sync::Arc::clone(&pool.tick_state).lock_owned().await;
    let look = pool.look(tick_state).await.map_err(failed)?;
    let mut problems = pool.recorder.notices();
    problems.extend_from_slice(look.problems());
    let queries = pool.queries(&look);
    let of_the_moment = config.metrics.kind().is_of_the_moment();
    if of_the_moment && queries.iter().any(|query| query.what.per_host == PerHost::Rate) {
        source.read(&queries, (runtime.clock)()).await;
        tokio::time::sleep(RATE_GAP).await;
    }
    let mut readings = observe::readings(source, queries, (runtime.clock)()).await;
    let (memory, seen) = look.into_parts(readings.remove(pool.name()).unwrap_or_default());
    let Thought { decision, plan, .. } = pool.think(&memory, &seen);
    Ok(Planned {
        pool: pool.name().0.clone(),
        decision,
        plan,
        problems,
    })
}
