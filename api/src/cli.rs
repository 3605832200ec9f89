//! The command line: what each command takes, and what it exits with.

mod backup;
mod flags;
mod help;
mod keys;

use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser, Subcommand};
use tidepool_logging::{chain, printable};

use crate::config::{Config, Problem, Sources};
use crate::domain::redact;
use crate::store::backup::Existing;
use crate::{http, run};
use flags::{ServeFlags, StoreFlags};

/// Everything went well.
pub const EXIT_OK: u8 = 0;
/// The command was understood and failed.
pub const EXIT_FAILURE: u8 = 1;
/// Arguments, environment or file are wrong (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;

/// How long blocking threads may still be busy (a stuck disk) when everything else is done.
const RUNTIME_END_MAX: std::time::Duration = std::time::Duration::from_millis(500);

/// A REST document database over Cassandra, ScyllaDB or one SQLite file.
#[derive(Debug, Parser)]
#[command(
    name = "tidepool-api",
    version,
    max_term_width = 100,
    long_about = help::LONG_ABOUT,
    after_long_help = help::AFTER,
    subcommand_required = true,
    arg_required_else_help = false
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the REST interface until SIGTERM.
    #[command(long_about = help::SERVE_ABOUT, after_long_help = help::SERVE_AFTER)]
    Serve(ServeFlags),
    /// Make, list and revoke the keys that clients send as `Authorization: Bearer`.
    #[command(subcommand, long_about = help::KEYS_ABOUT, after_long_help = help::KEYS_AFTER)]
    Keys(KeysCommand),
    /// Copy the SQLite file, also while servers write to it.
    #[command(long_about = help::BACKUP_ABOUT, after_long_help = help::BACKUP_AFTER)]
    Backup {
        #[command(flatten)]
        store: StoreFlags,
        /// Where the copy goes. It is made readable for its owner alone.
        file: PathBuf,
        /// Replace FILE if it exists. Without this the command fails then.
        #[arg(long)]
        force: bool,
    },
    /// Print the OpenAPI document.
    Openapi {
        /// full: all that is served. basic: for generators that know no merge patch, without PATCH, HEAD and 304.
        #[arg(long, default_value = "full", value_parser = clap::builder::PossibleValuesParser::new(http::OpenApiProfile::NAMES))]
        profile: String,
    },
    /// Print a completion script for a shell.
    #[command(after_long_help = help::COMPLETIONS_AFTER)]
    Completions {
        /// The shell to complete in.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one for each command, into a directory.
    #[command(after_long_help = help::MANUAL_AFTER)]
    Manual {
        /// The directory; it must exist.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a key and print it, alone, on standard output. It can't be shown again.
    Create {
        #[command(flatten)]
        store: StoreFlags,
        /// The key's name: 1 to 128 characters, unique in the store.
        #[arg(long, value_name = "NAME")]
        name: String,
        /// What the key may do: read, write or admin, a colon, and a pattern of collection names in which * stands for
        /// any run of characters. May be given several times.
        #[arg(long = "scope", value_name = "LEVEL:PATTERN", required = true)]
        scopes: Vec<String>,
        /// When the key ceases to count, such as 2030-01-01T00:00:00Z. Without it: never.
        #[arg(long, value_name = "RFC3339")]
        expires_at: Option<String>,
    },
    /// List the keys: name, scopes, when made, when they expire. The keys themselves are not kept.
    List {
        #[command(flatten)]
        store: StoreFlags,
        /// Print a JSON array instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key. Every instance refuses it within 10 seconds.
    Revoke {
        #[command(flatten)]
        store: StoreFlags,
        /// The key's name.
        #[arg(long, value_name = "NAME")]
        name: String,
    },
    /// Open a store that has no keys any more to everybody on the machine: the next server to start needs no key.
    ///
    /// From its first key on a store is closed, also when its last key was revoked: every request is refused. Only this
    /// command opens it again. Servers that run stay closed until they are started again.
    Open {
        #[command(flatten)]
        store: StoreFlags,
    },
}

/// How a command failed.
enum Failure {
    Usage(Vec<Problem>),
    Failed(String),
}

impl Failure {
    fn failed(error: &dyn std::error::Error) -> Self {
        Self::Failed(chain(error))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(problems) => {
                for problem in problems {
                    writeln!(f, "tidepool-api: {}", printable(&redact(&problem.to_string())))?;
                }
                Ok(())
            }
            Self::Failed(text) => writeln!(f, "tidepool-api: {}", printable(&redact(text))),
        }
    }
}

/// The whole program: arguments to exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Without descriptors or threads left, messages are written directly.
    let _direct = tidepool_logging::init_messages();
    let code = run_command(arguments);
    tidepool_logging::flush();
    ExitCode::from(code)
}

/// Arguments to exit code, with messages perhaps still on their way.
fn run_command(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not errors, and go to standard output.
            if error.use_stderr() {
                tidepool_logging::report(usage_message(&error).trim_end());
                return EXIT_USAGE;
            }
            return match tidepool_logging::print_clap(&error) {
                Ok(()) => EXIT_OK,
                Err(_) => EXIT_FAILURE,
            };
        }
    };
    match dispatch(cli.command) {
        Ok(()) => EXIT_OK,
        Err(failure) => {
            let code = match failure {
                Failure::Usage(_) => EXIT_USAGE,
                Failure::Failed(_) => EXIT_FAILURE,
            };
            tidepool_logging::report(failure.to_string().trim_end());
            code
        }
    }
}

/// What clap says, without the texts that it quotes and that may be secrets: a password or a key that was given where no
/// argument belongs, in a URL, or in place of a name.
fn usage_message(error: &clap::Error) -> String {
    let mut message = error.render().to_string();
    let quoted = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(text) = quoted
        && !text.starts_with('-')
    {
        message = message.replace(&format!("'{text}'"), "[not shown]");
    }
    redact(&message)
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(flags) => {
            let config = load(&flags.0)?;
            install_logging(&config)?;
            block_on(async { run::serve(config).await.map_err(serve_failure) })
        }
        Command::Keys(command) => keys::run(command),
        Command::Backup { store, file, force } => {
            let existing = if force { Existing::Replace } else { Existing::Keep };
            backup::run(&store.0, &file, existing)
        }
        Command::Openapi { profile } => {
            let profile = http::OpenApiProfile::parse(&profile).unwrap_or(http::OpenApiProfile::Full);
            print(&http::openapi_document(profile))
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tidepool-api", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Command::Manual { directory } => {
            clap_mangen::generate_to(Cli::command(), &directory).map_err(|error| {
                Failure::Failed(format!(
                    "the manual can't be written into {}: {error}",
                    directory.display()
                ))
            })
        }
    }
}

fn serve_failure(error: run::ServeError) -> Failure {
    if error.is_usage() {
        return Failure::Usage(vec![Problem {
            place: "serve".to_owned(),
            detail: chain(&error),
        }]);
    }
    Failure::failed(&error)
}

fn load(flags: &flags::Given) -> Result<Config, Failure> {
    let sources = Sources::of_process(&flags.values, flags.config.as_deref());
    Config::load(&sources).map_err(Failure::Usage)
}

fn install_logging(config: &Config) -> Result<(), Failure> {
    tidepool_logging::init(config.log.format, &config.log.level).map_err(|error| Failure::failed(&error))?;
    if !config.unknown_variables.is_empty() {
        let variables = config.unknown_variables.join(" ");
        tracing::warn!(variables, "these variables are not settings, and are not read");
    }
    for file in config.key_files.iter().filter(|file| is_open_to_all(file)) {
        tracing::warn!(
            file = %file.display(),
            "the private key can be read by everybody on this machine: make it readable for the service alone (chmod 600)"
        );
    }
    Ok(())
}

fn is_open_to_all(file: &Path) -> bool {
    const OTHERS: u32 = 0o007;
    std::fs::metadata(file).is_ok_and(|found| found.permissions().mode() & OTHERS != 0)
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(&error))?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(RUNTIME_END_MAX);
    done
}

/// Prints to standard output. A reader that has seen enough (`| head`) is not a failure.
fn print(text: &str) -> Result<(), Failure> {
    tidepool_logging::print(text)
        .map_err(|error| Failure::Failed(format!("standard output can't be written: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// clap wraps lines that are too long without their indent, so none may be; paragraphs are for clap to wrap.
    #[test]
    fn indented_lines_of_the_help_fit_and_paragraphs_are_one_line() {
        const COLUMNS_MAX: usize = 78;
        let texts = [
            help::LONG_ABOUT,
            help::AFTER,
            help::SERVE_ABOUT,
            help::SERVE_AFTER,
            help::KEYS_ABOUT,
            help::KEYS_AFTER,
            help::COMPLETIONS_AFTER,
            help::MANUAL_AFTER,
        ];
        for text in texts {
            let mut before = "";
            for line in text.lines() {
                if line.starts_with(' ') {
                    assert!(line.chars().count() <= COLUMNS_MAX, "{line}");
                } else {
                    assert!(line.is_empty() || before.is_empty(), "broken by hand: {line}");
                }
                before = line;
            }
        }
    }

    #[test]
    fn the_help_names_every_setting_with_its_variable() {
        let help = Cli::command()
            .find_subcommand_mut("serve")
            .unwrap()
            .render_long_help()
            .to_string();
        for setting in crate::config::SETTINGS {
            assert!(help.contains(setting.env), "{}", setting.env);
            assert!(help.contains(&format!("--{}", setting.flag)), "{}", setting.flag);
        }
    }
}
