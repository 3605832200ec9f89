//! Which Elasticsearch is read, and how its documents are laid out.

use std::fmt;
use std::time::Duration;

use reqwest::Url;
use tidepool_logging::Secret;

use crate::metrics::SKEW_SECS_DEFAULT;

/// Where Metricbeat puts the host's name.
pub const HOST_FIELD_DEFAULT: &str = "host.name";
/// Metricbeat's indices and data streams.
pub const INDEX_DEFAULT: &str = "metricbeat-*";
/// A tick waits so long for metrics: half of the shortest sensible tick of 10 s.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// How to log in.
#[derive(Clone, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    Anonymous,
    /// By name and password.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
    /// By an API key, as Elasticsearch encodes it.
    ApiKey(String),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic([redacted])",
            Self::ApiKey(_) => "ApiKey([redacted])",
        })
    }
}

/// Which Elasticsearch, and how its documents are laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElasticsearchConfig {
    /// Its address, such as `https://es.example.com:9200`; it may hold a password.
    pub url: Secret,
    /// How to log in.
    pub auth: Auth,
    /// Index, alias, data stream or pattern; several with commas between.
    pub index: String,
    /// The field with the member's name.
    pub host_field: String,
    /// Fields that tell the series of one host apart, beside those that are known of Metricbeat's own modules.
    pub series_fields: Vec<String>,
    /// A read takes no longer.
    pub timeout: Duration,
    /// Documents from so far in the future still count, seconds.
    pub skew_secs: u32,
}

impl ElasticsearchConfig {
    /// Metricbeat's layout, at `url`.
    pub fn new(url: String, auth: Auth) -> Self {
        Self {
            url: Secret::new(url),
            auth,
            index: INDEX_DEFAULT.to_owned(),
            host_field: HOST_FIELD_DEFAULT.to_owned(),
            series_fields: Vec::new(),
            timeout: TIMEOUT_DEFAULT,
            skew_secs: SKEW_SECS_DEFAULT,
        }
    }

    /// Indices and patterns, one by one.
    pub(super) fn indices(&self) -> Vec<&str> {
        self.index.split(',').map(str::trim).collect()
    }

    /// The same as one segment of a path.
    pub(super) fn index_path(&self) -> String {
        self.indices().join(",")
    }

    /// The server stops a little before we do, so that it can say how far it came.
    pub(super) fn server_timeout(&self) -> String {
        format!("{}ms", self.timeout.as_millis() * 4 / 5)
    }
}

/// Why there can be no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It is not an address; it is not shown, for it may hold a password.
    #[error("must be an http or https address, such as https://elasticsearch.example.com:9200")]
    Url,
    /// The client could not be made.
    #[error("the HTTP client can't be made")]
    Http(#[source] reqwest::Error),
}

/// The configured address, checked.
pub(super) fn url(config: &ElasticsearchConfig) -> Result<Url, ConnectError> {
    Url::parse(config.url.reveal())
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or(ConnectError::Url)
}
