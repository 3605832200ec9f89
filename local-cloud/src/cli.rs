//! Commands and their arguments.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use tidepool_listener::TrustedHosts;
use tidepool_logging::Secret;

use crate::fault_command::{EndpointArgs, FaultArgs};
use crate::hosts::process::launcher;
use crate::hosts::systemd::requirements;
use crate::hosts::{guard, sweep};
use crate::machines::addresses::AddressKind;
use crate::problems::Problems;
use crate::state::dir::{HeldFor, StateDir};
use crate::{fault_command, prepare, serve, test_host};

/// Ended by itself or by a signal, everything cleaned up.
const EXIT_OK: u8 = 0;
/// Something failed.
const EXIT_FAILURE: u8 = 1;
/// Bad usage or configuration; every problem is reported.
const EXIT_USAGE: u8 = 64;

const ABOUT: &str = "DigitalOcean's v2 API on this machine, with real processes behind it.";

const LONG_ABOUT: &str = "\
DigitalOcean's v2 API on this machine, with real processes behind it.

Point any client at it: doctl -u http://127.0.0.1:7780, godo, pydo (enforce_https=False in each call), Terraform \
(api_endpoint), Packer (api_url). Any bearer token is taken unless --token is given. A droplet is the image's \
programs, running as children on an address of their own in 127.0.0.0/8; a load balancer is a real one, with health \
checks and draining. Nothing leaves this machine and nothing costs money.";

const AFTER_HELP: &str = "\
EXIT STATUS
  0   ended as asked; no process is left behind
  1   something failed; the reason is on standard error
  64  bad usage or configuration; every problem is on standard error

ENVIRONMENT
  RUST_LOG            what is logged to standard error; default: info
  TIDEPOOL_LOCAL_CLOUD_ENDPOINT
                      where `fault` and `state` find the running local cloud
  TIDEPOOL_LOCAL_CLOUD_TOKEN
                      the only token that `serve` takes; `fault` and `state` send it
  any ${VARIABLE}     that an image manifest names

FILES
  IMAGES/<slug>/image.toml   an image: the programs that its droplets run
  STATE/cloud.json           droplets, tags, load balancers …; survives a restart
  STATE/droplets/<id>/root   a droplet's own directory; log/ beside it has its programs' output

EXAMPLES
  tidepool-local-cloud serve --images images --state /tmp/cloud
  doctl -u http://127.0.0.1:7780 -t any compute droplet create web-1 --image my-image --size s-1vcpu-1gb --region nyc3
  tidepool-local-cloud fault power-cut web-1
  tidepool-local-cloud state";

#[derive(Debug, Parser)]
#[command(name = "tidepool-local-cloud", version, about = ABOUT, long_about = LONG_ABOUT, after_long_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API until Ctrl-C, SIGTERM or SIGHUP; then end every droplet's processes.
    Serve(Box<ServeArgs>),
    /// Make a running local cloud fail, to see what becomes of what you built on it.
    Fault(FaultArgs),
    /// Print what a running local cloud does: droplets with pids, load balancers with counters (JSON).
    State {
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
    /// End processes that a local cloud left behind, if it was killed before it could.
    ///
    /// `serve` does this itself at its start. Refused while a local cloud serves that directory.
    Sweep {
        /// The state directory that `serve` was given.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
    },
    /// Make base images of systemd hosts that are not there yet, and start nothing; prints where they are. Needs root.
    ///
    /// `serve` makes them at its start, but for images with `at_start = false`.
    Prepare(PrepareArgs),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Write the manual pages, one for each command, into a directory.
    Manual {
        /// The directory; it must exist.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Waits for the end of its parent, then sweeps. Started by `serve`.
    #[command(hide = true)]
    Guard {
        #[arg(long)]
        state: PathBuf,
    },
    /// Becomes a droplet's program, which ends with its parent. Started by `serve`.
    #[command(hide = true)]
    Launch(launcher::LaunchArgs),
    /// A small server for tests and first steps, to be a droplet's program (`program = "self"` in a manifest).
    #[command(hide = true)]
    TestHost(test_host::TestHostArgs),
}

/// What droplets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HostsKind {
    /// The image's programs as child processes; needs no root.
    Process,
    /// Systems of their own: systemd as PID 1, a disk, addresses, ssh; needs root, and Debian's packages systemd-container,
    /// mmdebstrap and nftables.
    Systemd,
}

/// A switch on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnOff {
    /// Yes.
    On,
    /// No.
    Off,
}

/// Where images are.
#[derive(Debug, Args)]
struct ImagesArgs {
    /// Directory of images: each a directory with an `image.toml`.
    #[arg(long, value_name = "DIR", env = "TIDEPOOL_LOCAL_CLOUD_IMAGES")]
    images: PathBuf,
    /// Where base images of systemd hosts are kept, for all local clouds of this machine.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/cache/tidepool-local-cloud",
        env = "TIDEPOOL_LOCAL_CLOUD_BASE_IMAGES"
    )]
    base_images: PathBuf,
}

#[derive(Debug, Args)]
struct PrepareArgs {
    #[command(flatten)]
    images: ImagesArgs,
    /// Which images; all that are systems when none is named.
    #[arg(value_name = "SLUG")]
    slugs: Vec<String>,
}

#[derive(Debug, Args)]
#[command(args_override_self = true)]
struct ServeArgs {
    /// Where the API listens. Port 0 takes a free one, which is printed.
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:7780",
        env = "TIDEPOOL_LOCAL_CLOUD_LISTEN"
    )]
    listen: SocketAddr,
    /// What droplets are.
    #[arg(long, value_name = "KIND", default_value = "process")]
    hosts: HostsKind,
    #[command(flatten)]
    images: ImagesArgs,
    /// Let systemd hosts install Debian packages, which this machine's own apt fetches for them. Without it there is nothing
    /// to install from.
    #[arg(long)]
    packages: bool,
    /// Directory of everything that is kept. Droplets of an earlier run boot again from here.
    #[arg(long, value_name = "DIR", env = "TIDEPOOL_LOCAL_CLOUD_STATE")]
    state: PathBuf,
    /// Forget the earlier run: end what is left of it and start with an empty cloud.
    #[arg(long)]
    fresh: bool,
    /// How droplets are told apart.
    #[arg(long, value_name = "KIND", default_value = "auto")]
    addresses: AddressKind,
    /// Take only this bearer token; any is taken without.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "TIDEPOOL_LOCAL_CLOUD_TOKEN",
        hide_env_values = true
    )]
    token: Option<Secret>,
    /// A name of this machine that is served, besides localhost and its addresses, while any token is taken: other names
    /// could be a web page's that speaks through a browser here. May be given several times.
    #[arg(
        long,
        value_name = "HOST",
        env = "TIDEPOOL_LOCAL_CLOUD_ALLOWED_HOSTS",
        value_delimiter = ','
    )]
    allowed_hosts: Vec<String>,
    /// Droplets that the account may have.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    droplet_limit: u64,
    /// Calls an hour for each token, then 429.
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    rate_limit_per_hour: u64,
    /// Calls a minute for each token, then 429.
    #[arg(long, value_name = "N", default_value_t = 250)]
    rate_limit_per_minute: u64,
    /// Whether load balancers give a request one more try, at another member, when a connection dies: GET, HEAD, PUT
    /// without conditions, and what was not sent yet.
    #[arg(long, value_name = "ON", default_value = "on")]
    lb_retry: OnOff,
    /// Seconds that a shutdown may take before the power is cut.
    #[arg(long, value_name = "SECS", default_value_t = 30)]
    stop_grace_secs: u64,
}

/// Runs the command that the arguments name; the process's exit status.
#[must_use]
pub fn main() -> ExitCode {
    // Without descriptors or threads left, messages are written directly.
    let _direct = tidepool_logging::init_messages();
    let code = run_command();
    tidepool_logging::flush();
    ExitCode::from(code)
}

/// Arguments to exit status, with messages perhaps still on their way.
fn run_command() -> u8 {
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
    let result = match cli.command {
        Command::Serve(args) => serve_command(*args),
        Command::Fault(args) => block_on(fault_command::run(&args)),
        Command::State { endpoint } => block_on(fault_command::state(&endpoint)),
        Command::Sweep { state } => sweep_command(&state),
        Command::Prepare(args) => prepare_command(args),
        Command::Completions { shell } => completions(shell),
        Command::Manual { directory } => manual(&directory),
        Command::Guard { state } => guard::watch(&state).map(|_| ()).map_err(anyhow::Error::from),
        Command::Launch(args) => launcher::become_program(&args).map_err(anyhow::Error::from),
        Command::TestHost(args) => block_on(test_host::run(args)),
    };
    match result {
        Ok(()) => EXIT_OK,
        Err(error) => {
            let usage = error.downcast_ref::<Problems>().is_some();
            if usage {
                tidepool_logging::report(&error.to_string());
            } else {
                tidepool_logging::report(&format!("error: {error:#}"));
            }
            if usage { EXIT_USAGE } else { EXIT_FAILURE }
        }
    }
}

fn serve_command(args: ServeArgs) -> anyhow::Result<()> {
    start_log()?;
    let mut problems = Problems::new();
    if args.rate_limit_per_hour == 0 {
        problems.add("--rate-limit-per-hour", "at least 1");
    }
    if args.rate_limit_per_minute == 0 {
        problems.add("--rate-limit-per-minute", "at least 1");
    }
    if args
        .token
        .as_ref()
        .is_some_and(|token| token.reveal().trim().is_empty())
    {
        problems.add("--token", "is empty; leave it out to take any token");
    }
    check_images(&args.images, &mut problems);
    if args.state.exists() && !args.state.is_dir() {
        problems.add("--state", format!("{} is not a directory", args.state.display()));
    }
    let trusted = trusted_hosts(&args.allowed_hosts, &mut problems);
    if args.packages && args.hosts == HostsKind::Process {
        problems.add(
            "--packages",
            "only systemd hosts install packages: add --hosts systemd",
        );
    }
    if args.hosts == HostsKind::Systemd {
        requirements::check(requirements::this_machine(), &args.state, &mut problems);
    }
    let plan = serve::Plan {
        listen: args.listen,
        images: args.images.images,
        state: args.state,
        fresh: args.fresh,
        hosts: match args.hosts {
            HostsKind::Process => serve::HostsPlan::Process(args.addresses),
            HostsKind::Systemd => serve::HostsPlan::Systemd {
                base_images: args.images.base_images,
                packages: args.packages,
            },
        },
        token: args.token,
        trusted,
        droplet_limit: args.droplet_limit,
        rate_limit_per_hour: args.rate_limit_per_hour,
        rate_limit_per_minute: args.rate_limit_per_minute,
        lb_retry: args.lb_retry == OnOff::On,
        stop_grace_secs: args.stop_grace_secs,
    };
    block_on(serve::run(problems.or(plan)?))
}

/// The hosts that were given, and this machine's own name.
fn trusted_hosts(given: &[String], problems: &mut Problems) -> TrustedHosts {
    let given = given.iter().map(String::as_str);
    let trusted = TrustedHosts::new("--allowed-hosts", given).unwrap_or_else(|error| {
        problems.add("--allowed-hosts", error.to_string());
        TrustedHosts::default()
    });
    trusted.on_this_machine()
}

fn check_images(args: &ImagesArgs, problems: &mut Problems) {
    let images = &args.images;
    if !images.is_dir() {
        problems.add("--images", format!("{} is not a directory", images.display()));
    }
}

fn prepare_command(args: PrepareArgs) -> anyhow::Result<()> {
    start_log()?;
    let mut problems = Problems::new();
    check_images(&args.images, &mut problems);
    if !requirements::this_machine().root {
        problems.add("prepare", "needs root: start it with sudo");
    }
    problems.or(())?;
    block_on(prepare::run(prepare::Plan {
        images: args.images.images,
        base_images: args.images.base_images,
        slugs: args.slugs,
    }))
}

fn sweep_command(state: &std::path::Path) -> anyhow::Result<()> {
    let mut problems = Problems::new();
    if !state.is_dir() {
        problems.add("--state", format!("{} is not a directory", state.display()));
    }
    let path = state;
    let state = StateDir::new(path);
    if path.is_dir() && !state.was_served() {
        problems.add(
            "--state",
            format!("{} is not the state of a local cloud", path.display()),
        );
    }
    problems.or(())?;
    let _lock = state.lock(HeldFor::Sweeping)?;
    let ended = sweep(&state)?;
    tidepool_logging::print(&format!("{ended} processes ended\n"))?;
    Ok(())
}

fn completions(shell: Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tidepool-local-cloud", &mut script);
    tidepool_logging::print(&String::from_utf8_lossy(&script))?;
    Ok(())
}

fn manual(directory: &std::path::Path) -> anyhow::Result<()> {
    clap_mangen::generate_to(Cli::command(), directory)
        .with_context(|| format!("the manual can't be written into {}", directory.display()))
}

/// What `serve` logs unless `RUST_LOG` says otherwise: a load balancer's own lines are of no use to whoever tries one.
const LOG_FILTER: &str = "info,pingora=off,pingora_core=off,pingora_proxy=off";

/// `RUST_LOG` may be meant for other programs: what can't be read there is reported, and ours goes on.
#[expect(
    clippy::disallowed_methods,
    reason = "the command line is where the environment is read"
)]
fn start_log() -> anyhow::Result<()> {
    let wanted = std::env::var("RUST_LOG").ok();
    let refused = wanted
        .as_deref()
        .and_then(|filter| tidepool_logging::check_filter(filter).err());
    let filter = wanted
        .as_deref()
        .filter(|_| refused.is_none())
        .unwrap_or(LOG_FILTER);
    tidepool_logging::init(tidepool_logging::Format::Human, filter)?;
    if let Some(error) = refused {
        tracing::warn!(%error, "RUST_LOG can't be used: the default is");
    }
    Ok(())
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_token_is_never_printed() {
        for args in [
            &["serve", "--images", "i", "--state", "s", "--token", "tok-secret"][..],
            &["state", "--token", "tok-secret"],
            &["fault", "power-cut", "web-1", "--token", "tok-secret"],
        ] {
            let cli = Cli::try_parse_from(std::iter::once(&"tidepool-local-cloud").chain(args)).unwrap();
            let printed = format!("{cli:?}");
            assert!(!printed.contains("tok-secret"), "{printed}");
        }
    }
}
