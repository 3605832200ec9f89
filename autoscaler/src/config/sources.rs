//! Where samples come from: `metrics`, and the table of each kind of source.

use std::time::Duration;

use super::follow::field_problem;
use super::reader::Section;
use super::secret::{self, SecretKeys};
use super::{Purpose, Surroundings};
use crate::metrics::elasticsearch::{Auth, ElasticsearchConfig, ElasticsearchSource};
use crate::metrics::presets::SourceKind;
use crate::metrics::scrape::ScrapeConfig;

/// Where samples come from.
#[derive(Debug, Clone)]
pub enum MetricsConfig {
    /// The members themselves.
    Scrape(ScrapeConfig),
    /// Elasticsearch.
    Elasticsearch(ElasticsearchConfig),
}

impl MetricsConfig {
    /// Which kind of source it is.
    pub const fn kind(&self) -> SourceKind {
        match self {
            MetricsConfig::Scrape(_) => SourceKind::Scrape,
            MetricsConfig::Elasticsearch(_) => SourceKind::Elasticsearch,
        }
    }

    /// The indices that are read, if any are.
    pub(super) fn index(&self) -> Option<&str> {
        match self {
            MetricsConfig::Scrape(_) => None,
            MetricsConfig::Elasticsearch(server) => Some(&server.index),
        }
    }
}

/// The sources' settings as they were read.
pub(super) struct Sources {
    /// What `metrics` says; `None` if it says nothing that is known.
    pub(super) kind: Option<SourceKind>,
    /// The source of that kind; `None` if its settings are wrong.
    pub(super) metrics: Option<MetricsConfig>,
    /// Whether there is an `[elasticsearch]` table, for whatever it is used.
    pub(super) has_server: bool,
    /// What it says; `None` if it is wrong.
    pub(super) server: Option<ElasticsearchConfig>,
}

/// Whether an index is one of those that a list of names and patterns stands for, as Elasticsearch reads it: `*` is any text,
/// and what begins with `-` is taken out again.
pub(super) fn is_among(index: &str, patterns: &str) -> bool {
    let mut among = false;
    for pattern in patterns.split(',').map(str::trim) {
        match pattern.strip_prefix('-') {
            Some(without) if matches(without, index) => among = false,
            Some(_) => {}
            None => among |= pattern == "_all" || matches(pattern, index),
        }
    }
    among
}

fn matches(pattern: &str, text: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    text.strip_prefix(begin)
        .is_some_and(|tail| (0..=tail.len()).any(|at| tail.get(at..).is_some_and(|tail| matches(rest, tail))))
}

/// Reads `metrics` and every source's table, the chosen one's and the others'.
pub(super) fn read(root: &mut Section<'_>, around: &Surroundings<'_>, purpose: Purpose) -> Sources {
    let kind = source_kind(root);
    let has_server = root.has("elasticsearch");
    let section = root.section("elasticsearch");
    let server = has_server
        .then(|| read_elasticsearch(section, around, purpose))
        .flatten();
    let scrape = read_scrape(root.section("scrape"));
    let metrics = kind.and_then(|kind| match kind {
        SourceKind::Scrape => Some(MetricsConfig::Scrape(scrape)),
        SourceKind::Elasticsearch => {
            if !has_server {
                root.problem(
                    "elasticsearch",
                    "is missing; metrics = \"elasticsearch\" needs it",
                );
            }
            server.clone().map(MetricsConfig::Elasticsearch)
        }
    });
    Sources {
        kind,
        metrics,
        has_server,
        server,
    }
}

fn source_kind(root: &mut Section<'_>) -> Option<SourceKind> {
    if !root.has("metrics") {
        return root.required::<String>("metrics").and(None);
    }
    let words: Vec<_> = SourceKind::all().map(|kind| (kind.name(), kind)).collect();
    root.word("metrics", &words)
}

fn read_scrape(mut section: Section<'_>) -> ScrapeConfig {
    let default = ScrapeConfig::default();
    let port = section.number_or("port", 1..=65_535, u32::from(default.port));
    let timeout_ms_default = u32::try_from(default.timeout.as_millis()).unwrap_or(2_000);
    let timeout_ms = section.number_or("timeout_ms", 10..=60_000, timeout_ms_default);
    section.finish();
    ScrapeConfig {
        port: u16::try_from(port).unwrap_or(default.port),
        timeout: Duration::from_millis(u64::from(timeout_ms)),
    }
}

fn read_elasticsearch(
    mut section: Section<'_>,
    around: &Surroundings<'_>,
    purpose: Purpose,
) -> Option<ElasticsearchConfig> {
    let url: Option<String> = section.required("url");
    let username: Option<String> = section.optional("username");
    let keyed = section.has("password_env") || section.has("password_file");
    let password = secret::read(
        &mut section,
        &SecretKeys {
            env: "password_env",
            file: "password_file",
        },
        around,
        purpose,
    );
    let api_key = secret::read(
        &mut section,
        &SecretKeys {
            env: "api_key_env",
            file: "api_key_file",
        },
        around,
        purpose,
    );
    if username.is_some() != keyed {
        section.problem("username", "and password_env or password_file go together");
    }
    if username.is_some() && api_key.is_some() {
        section.problem("username", "stands beside an API key; one of them must go");
    }
    let auth = match (username, password, api_key) {
        (Some(username), Some(password), _) => Auth::Basic {
            username,
            password: password.reveal().to_owned(),
        },
        (_, _, Some(key)) => Auth::ApiKey(key.reveal().to_owned()),
        _ => Auth::Anonymous,
    };
    let mut config = ElasticsearchConfig::new(url.clone().unwrap_or_default(), auth);
    if let Some(index) = section.optional::<String>("index") {
        // Patterns, aliases, remote clusters and dates are Elasticsearch's to judge.
        let is_one =
            |one: &str| !one.is_empty() && !one.contains(|c: char| c.is_whitespace() || c.is_control());
        if !index.split(',').map(str::trim).all(is_one) {
            section.problem(
                "index",
                format!("{index:?} is not an index or a pattern, or several with commas between"),
            );
        }
        config.index = index;
    }
    if let Some(field) = section.optional::<String>("host_field") {
        if let Some(problem) = field_problem(&field, SourceKind::Elasticsearch) {
            section.problem("host_field", problem);
        }
        config.host_field = field;
    }
    if let Some(fields) = section.optional::<Vec<String>>("series_fields") {
        for (n, field) in fields.iter().enumerate() {
            let name = field.strip_suffix(".*").unwrap_or(field);
            if let Some(problem) = field_problem(name, SourceKind::Elasticsearch) {
                section.problem(&format!("series_fields[{n}]"), problem);
            }
        }
        config.series_fields = fields;
    }
    let timeout_secs = u32::try_from(config.timeout.as_secs()).unwrap_or(10);
    config.timeout = Duration::from_secs(u64::from(section.number_or("timeout_secs", 1..=60, timeout_secs)));
    if url.is_some()
        && let Err(error) = ElasticsearchSource::new(config.clone())
    {
        section.problem("url", error.to_string());
    }
    section.finish();
    url.map(|_| config)
}
