//! The configuration: TOML to values that can't be wrong. The only reader of files and environment.
//!
//! Every problem is reported at once with its path. There is no default for `min`, `max` or credentials.

mod fit;
mod follow;
mod pool;
mod reader;
mod secret;
mod sources;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::Table;

use tidepool_listener::TrustedHosts;

use crate::metrics::elasticsearch::ElasticsearchConfig;
use crate::metrics::presets::SourceKind;
use crate::provider::digitalocean::{self, ApiToken};
pub use follow::SignalConfig;
pub use pool::PoolConfig;
pub use reader::Problem;
use reader::{Problems, Section};
pub use secret::Secret;
use secret::SecretKeys;
pub use sources::MetricsConfig;
use sources::Sources;

/// Pools in one daemon at most: 50 listings a tick fit DigitalOcean's 5,000 calls an hour at a tick of 36 s; `check` warns of
/// a shorter one.
const POOLS_MAX: usize = 50;
/// A tick at most: an autoscaler that is slower than one step an hour is of no use.
const TICK_SECS_MAX: u32 = 3600;
const TICK_SECS_DEFAULT: u32 = 15;
const STATUS_LISTEN_DEFAULT: &str = "127.0.0.1:7071";
const OPS_PORT_DEFAULT: u32 = 9090;

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Seconds between two ticks.
    pub tick_secs: u32,
    /// Where journal, memory, lease and audit file live.
    pub state_dir: PathBuf,
    /// The status port.
    pub status: StatusConfig,
    /// Where decisions are written, beside the local file in the state directory.
    pub audit: AuditConfig,
    /// Where samples come from.
    pub metrics: MetricsConfig,
    /// DigitalOcean's API; `None` only where secrets were not wanted, or where there are no pools.
    pub digitalocean: Option<DigitalOceanConfig>,
    /// The pools, in the file's order.
    pub pools: Vec<PoolConfig>,
    /// What works, but hardly as it is meant.
    pub warnings: Vec<Problem>,
}

/// The status port.
#[derive(Debug, Clone)]
pub struct StatusConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What its API wants as bearer token; must be there off loopback.
    pub token: Option<Secret>,
    /// The hosts that are served while there is no token.
    pub trusted: TrustedHosts,
}

/// Where decisions are written.
#[derive(Debug, Clone)]
pub struct AuditConfig {
    /// The local file, one JSON object a line.
    pub file: PathBuf,
    /// The Elasticsearch index, if they go there, too.
    pub index: Option<AuditIndex>,
}

/// An index of decisions.
#[derive(Debug, Clone)]
pub struct AuditIndex {
    /// Its name.
    pub name: String,
    /// The server it is in.
    pub server: ElasticsearchConfig,
}

/// DigitalOcean's API.
#[derive(Debug, Clone)]
pub struct DigitalOceanConfig {
    /// Another address than DigitalOcean's own.
    pub base_url: Option<String>,
    /// The token.
    pub token: ApiToken,
}

/// What a configuration may ask of the world around it; given by `main`, and by tests.
pub struct Surroundings<'a> {
    /// The environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Files.
    pub read_file: &'a dyn Fn(&Path) -> io::Result<String>,
    /// What relative paths are relative to: the configuration's own directory.
    pub base: &'a Path,
}

impl Surroundings<'_> {
    pub(self) fn path_of(&self, text: &str) -> PathBuf {
        self.base.join(text)
    }
}

/// What the configuration is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To act: all secrets must be there.
    Act,
    /// To speak with a running daemon: only the status port's token must be there.
    Ask,
}

/// Reads a configuration. On failure every problem is in the list.
pub fn parse(text: &str, around: &Surroundings<'_>, purpose: Purpose) -> Result<Config, Vec<Problem>> {
    let table: Table = toml::from_str(text).map_err(|error| {
        vec![Problem {
            path: String::new(),
            // Without the line itself: it may hold what should have been in a file of its own.
            message: match error.span() {
                Some(span) => format!(
                    "this is not TOML: line {}: {}",
                    line_of(text, span.start),
                    error.message()
                ),
                None => format!("this is not TOML: {}", error.message()),
            },
        }]
    })?;
    let problems = Problems::default();
    let config = read(Section::root(table, &problems), around, purpose);
    let (problems, warnings) = problems.into_inner();
    match config {
        Some(config) if problems.is_empty() => Ok(Config { warnings, ..config }),
        Some(_) | None => Err(problems),
    }
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or_default();
    before.split(|byte| *byte == b'\n').count()
}

fn read(mut root: Section<'_>, around: &Surroundings<'_>, purpose: Purpose) -> Option<Config> {
    let tick_secs = root.number_or("tick_secs", 1..=TICK_SECS_MAX, TICK_SECS_DEFAULT);
    let state_dir: Option<String> = root.required("state_dir");
    if state_dir.as_ref().is_some_and(|dir| dir.trim().is_empty()) {
        root.problem("state_dir", "is empty");
    }
    let state_dir = state_dir.map(|dir| around.path_of(&dir));
    let status = read_status(root.section("status"), around);
    let Sources {
        kind: source_kind,
        metrics,
        has_server,
        server,
    } = sources::read(&mut root, around, purpose);
    let section = root.section("audit");
    if section.has("elasticsearch_index") && !has_server {
        section.problem("elasticsearch_index", "needs an [elasticsearch] table");
    }
    let audit = read_audit(section, around, state_dir.as_deref(), server.as_ref());
    refuse_among_samples(&root, audit.as_ref(), metrics.as_ref());
    let pools = pool_sections(&mut root);
    let provider = root.has("digitalocean");
    if !provider && !pools.is_empty() {
        root.problem("digitalocean", "is missing; the pools' provider needs it");
    }
    let section = root.section("digitalocean");
    let digitalocean = provider
        .then(|| read_digitalocean(section, around, purpose))
        .flatten();
    let context = reader::Context {
        around,
        source_kind: source_kind.unwrap_or(SourceKind::Elasticsearch),
        tick_secs,
    };
    let read_pools: Vec<Option<PoolConfig>> = pools
        .into_iter()
        .map(|section| pool::read(section, &context))
        .collect();
    for (n, pool) in read_pools.iter().enumerate() {
        let same = |other: &&PoolConfig| {
            pool.as_ref()
                .is_some_and(|pool| pool.spec.name == other.spec.name)
        };
        if let Some(twin) = read_pools.iter().take(n).flatten().find(same) {
            root.problem(
                &format!("pool[{n}].name"),
                format!("{} is another pool's name already", twin.spec.name),
            );
        }
    }
    let problems = root.problems;
    root.finish();
    let pools: Option<Vec<PoolConfig>> = read_pools.into_iter().collect();
    if let Some(pools) = &pools {
        let listing_calls = pools.iter().map(PoolConfig::listing_calls).sum();
        fit::calls(listing_calls, tick_secs, problems);
    }
    if let Some(metrics) = &metrics {
        fit::source_timeout(metrics, tick_secs, problems);
    }
    Some(Config {
        tick_secs,
        state_dir: state_dir?,
        status: status?,
        audit: audit?,
        metrics: metrics?,
        digitalocean,
        pools: pools?,
        warnings: Vec::new(),
    })
}

/// The pools' tables. `pool = []` says that there are none yet: a daemon that was just installed has no account either.
fn pool_sections<'p>(root: &mut Section<'p>) -> Vec<Section<'p>> {
    let given = root.has("pool");
    let pools = root.sections("pool");
    if !given {
        root.problem(
            "pool",
            "is missing; at least one [[pool]] is needed (pool = [] if there are none yet)",
        );
    } else if pools.is_empty() {
        root.warn("pool", "is empty: nothing is scaled");
    } else if pools.len() > POOLS_MAX {
        root.problem("pool", format!("at most {POOLS_MAX} pools"));
    }
    pools
}

fn read_status(mut section: Section<'_>, around: &Surroundings<'_>) -> Option<StatusConfig> {
    let text = section
        .optional("listen")
        .unwrap_or_else(|| STATUS_LISTEN_DEFAULT.to_owned());
    let listen: Option<SocketAddr> = text.parse().ok();
    if listen.is_none() {
        section.problem(
            "listen",
            format!("must be an address and a port such as {STATUS_LISTEN_DEFAULT}, not {text:?}"),
        );
    }
    let keyed = section.has("token_env") || section.has("token_file");
    let token = secret::read(
        &mut section,
        &SecretKeys {
            env: "token_env",
            file: "token_file",
        },
        around,
        Purpose::Act,
    );
    if listen.is_some_and(|listen| !listen.ip().is_loopback()) && !keyed {
        section.problem(
            "token_env",
            "or token_file is missing; off loopback the status port needs a token",
        );
    }
    let trusted = read_trusted(&mut section);
    section.finish();
    Some(StatusConfig {
        listen: listen?,
        token,
        trusted,
    })
}

/// The hosts of `allowed_hosts`.
fn read_trusted(section: &mut Section<'_>) -> TrustedHosts {
    const SETTING: &str = "allowed_hosts in [status]";
    let hosts: Vec<String> = section.optional("allowed_hosts").unwrap_or_default();
    TrustedHosts::new(SETTING, hosts.iter().map(String::as_str)).unwrap_or_else(|error| {
        section.problem("allowed_hosts", error.to_string());
        TrustedHosts::default()
    })
}

fn read_audit(
    mut section: Section<'_>,
    around: &Surroundings<'_>,
    state_dir: Option<&Path>,
    server: Option<&ElasticsearchConfig>,
) -> Option<AuditConfig> {
    let file: Option<String> = section.optional("file");
    let name: Option<String> = section.optional("elasticsearch_index");
    if let Some(name) = name.as_ref().filter(|name| !is_index(name)) {
        section.problem(
            "elasticsearch_index",
            format!("{name:?} is not the name of one index or data stream"),
        );
    }
    if file.as_ref().is_some_and(|file| file.trim().is_empty()) {
        section.problem("file", "is empty");
    }
    let index = name
        .zip(server.cloned())
        .map(|(name, server)| AuditIndex { name, server });
    let given = file.map(|file| around.path_of(&file));
    let is_state = |file: &PathBuf| {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        let ours = [".memory.json", ".control.json", ".rollout.json"]
            .iter()
            .any(|end| name.ends_with(end));
        file.parent() == state_dir && (ours || name == "journal.jsonl" || name == "lease")
    };
    if given.as_ref().is_some_and(is_state) {
        section.problem("file", "is a file of the state itself");
    }
    section.finish();
    let file = given.or_else(|| state_dir.map(|dir| dir.join("audit.jsonl")));
    Some(AuditConfig { file: file?, index })
}

/// Whether documents can be written into an index of this name. One with a date in it is Elasticsearch's to judge.
fn is_index(name: &str) -> bool {
    let refused = |c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, '*' | '?' | ',' | '\\' | '"' | '|' | '#')
    };
    let plain = || !name.contains(['/', '<', '>', ':']) && !name.contains(char::is_uppercase);
    !name.is_empty()
        && !name.contains(refused)
        && !name.starts_with(['-', '_', '+'])
        && (name.starts_with('<') || plain())
}

/// Decisions would be read as samples.
fn refuse_among_samples(root: &Section<'_>, audit: Option<&AuditConfig>, metrics: Option<&MetricsConfig>) {
    let index = audit.and_then(|audit| audit.index.as_ref());
    let samples = metrics.and_then(MetricsConfig::index);
    if let (Some(index), Some(samples)) = (index, samples)
        && sources::is_among(&index.name, samples)
    {
        root.problem(
            "audit.elasticsearch_index",
            format!("is among the indices that samples are read from ({samples})"),
        );
    }
}

fn read_digitalocean(
    mut section: Section<'_>,
    around: &Surroundings<'_>,
    purpose: Purpose,
) -> Option<DigitalOceanConfig> {
    let base_url: Option<String> = section.optional("base_url");
    let keyed = section.has("token_env") || section.has("token_file");
    let keys = SecretKeys {
        env: "token_env",
        file: "token_file",
    };
    let token_key = if section.has(keys.file) {
        keys.file
    } else {
        keys.env
    };
    let token = secret::read(&mut section, &keys, around, purpose);
    if !keyed {
        section.problem(
            "token_env",
            "or token_file is missing; there is no default for credentials",
        );
    }
    match base_url.as_deref().map(digitalocean::in_clear) {
        Some(None) => section.problem(
            "base_url",
            "must be an http or https address, without a user name, a password, a query or a fragment",
        ),
        Some(Some(true)) => section.warn(
            "base_url",
            "is http://, so the token crosses the network unencrypted",
        ),
        Some(Some(false)) | None => {}
    }
    let token = token.and_then(|token| match ApiToken::new(token.reveal()) {
        Ok(token) => Some(token),
        Err(error) => {
            section.problem(token_key, error.to_string());
            None
        }
    });
    section.finish();
    token.map(|token| DigitalOceanConfig { base_url, token })
}
