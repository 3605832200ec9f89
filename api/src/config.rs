//! From flags, environment and file to one checked [`Config`]: the only reader of the environment and of the TOML file.
//!
//! A setting stands once, in `settings`; its flag, variable, place in the file, default and help come from there. A
//! flag wins over the environment, the environment over the file, the file over the default. Every problem is found
//! before any is reported.

mod cassandra_tls;
mod file;
mod resolve;
mod settings;
mod values;
mod variables;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidepool_logging::Format;

use crate::store::{OpenOptions, StoreUrl};

pub use tidepool_listener::TlsFiles;
use tidepool_listener::TrustedHosts;

pub use settings::{CONFIG_ENV, SETTINGS, Setting, Use};

/// What `serve` runs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the documents are.
    pub store: StoreConfig,
    /// The public listener.
    pub listen: SocketAddr,
    /// The operations listener.
    pub ops_listen: SocketAddr,
    /// The hosts that are served without a credential.
    pub trusted: TrustedHosts,
    /// Certificate and key, if the public listener speaks TLS.
    pub tls: Option<TlsFiles>,
    /// What bounds connections and requests.
    pub limits: Limits,
    /// What may be held for all clients together.
    pub memory: MemoryLimits,
    /// How long requests in flight may take to finish after SIGTERM.
    pub drain: Duration,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Variables that look like settings and aren't any.
    pub unknown_variables: Vec<String>,
    /// The files with private keys, in which nobody else should be able to look.
    pub key_files: Vec<PathBuf>,
}

/// Which database, and how to open it.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Its address.
    pub url: StoreUrl,
    /// The rest.
    pub options: OpenOptions,
}

/// Most bytes that are held for all clients together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Of request bodies.
    pub body_bytes_held_max: usize,
    /// Of answers.
    pub answer_bytes_held_max: usize,
}

/// Bounds of the public listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Those of its connections.
    pub connections: tidepool_listener::Limits,
    /// Most GET, HEAD and OPTIONS requests at a time; more are answered 503 at once.
    pub reads_in_flight_max: usize,
    /// Most other requests at a time; counted apart, so that a store that can't write doesn't take the reads along.
    pub writes_in_flight_max: usize,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// The lines' form.
    pub format: Format,
    /// A level, or `tracing` directives such as `info,tidepool_api=debug`.
    pub level: String,
}

/// Something wrong with the configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The flag, the variable, or the file and the path in it.
    pub place: String,
    /// What is wrong; never a secret's value.
    pub detail: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.detail)
    }
}

/// What the configuration is read from; tests bring their own.
pub struct Sources<'a> {
    /// Flags by setting path, as given.
    pub flags: &'a [(&'static str, String)],
    /// `--config`, if given.
    pub config_flag: Option<&'a Path>,
    /// The environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The names of all variables in the environment.
    pub env_names: &'a dyn Fn() -> Vec<String>,
    /// Reads a regular file of at most so many bytes.
    pub read: &'a dyn Fn(&Path, u64) -> std::io::Result<String>,
}

impl<'a> Sources<'a> {
    /// Flags over the process's own environment and files.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "configuration is where the environment is read"
    )]
    pub fn of_process(flags: &'a [(&'static str, String)], config_flag: Option<&'a Path>) -> Self {
        Self {
            flags,
            config_flag,
            env: &|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()),
            env_names: &|| {
                std::env::vars_os()
                    .map(|(name, _)| name.to_string_lossy().into_owned())
                    .collect()
            },
            read: &tidepool_listener::read_text,
        }
    }
}

impl Config {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// All problems, in the order flags and variables, file, values.
    pub fn load(sources: &Sources<'_>) -> Result<Self, Vec<Problem>> {
        resolve::resolve(sources)
    }
}

#[cfg(test)]
mod tests;
