//! Samples out of what Metricbeat wrote into Elasticsearch. The only place with Metricbeat's field names.
//!
//! One `_msearch` reads all signals of all pools. A search groups the window's documents by host and by what tells a host's
//! series apart (labels, interface), and gives the newest documents of each group; values are taken from `_source`, since an
//! index without Metricbeat's template maps a ratio whose first value was 0 as an integer. The arithmetic is ours
//! (`series.rs`): resets and ended series are handled alike for both sources.

mod answer;
mod fields;
mod query;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::elasticsearch::auth::Credentials;
use ::elasticsearch::http::request::JsonBody;
use ::elasticsearch::http::response::Response;
use ::elasticsearch::http::transport::{SingleNodeConnectionPool, TransportBuilder};
use ::elasticsearch::{Elasticsearch, FieldCapsParts, MsearchParts};
use async_trait::async_trait;
use serde_json::Value;
use tidepool_autoscaler_core::observe::{Sample, UnixMillis};

use self::fields::Fields;
use super::{MetricError, MetricSource, PerHost, SignalQuery, SignalSpec};

/// Where Metricbeat puts the host's name.
pub const HOST_FIELD_DEFAULT: &str = "host.name";
/// Metricbeat's indices and data streams.
pub const INDEX_DEFAULT: &str = "metricbeat-*";
/// A tick waits so long for metrics: half of the shortest sensible tick of 10 s.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// Documents that a host's clock puts so far into the future still count.
pub const SKEW_SECS_DEFAULT: u32 = 5;

/// How long the answer about fields is believed: a new label splits into groups of its own within this time.
const FIELDS_TTL: Duration = Duration::from_secs(60);
/// Answers that say that they are larger are not read: 10,000 series with 100 documents of 60 bytes make 60 MB.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Words of an answer are cut here in messages.
const REASON_CHARS_MAX: usize = 300;

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
    /// Its address, such as `https://es.example.com:9200`.
    pub url: String,
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
            url,
            auth,
            index: INDEX_DEFAULT.to_owned(),
            host_field: HOST_FIELD_DEFAULT.to_owned(),
            series_fields: Vec::new(),
            timeout: TIMEOUT_DEFAULT,
            skew_secs: SKEW_SECS_DEFAULT,
        }
    }
}

/// Why there can be no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is none.
    #[error("{0:?} is not an http or https address")]
    Url(String),
    /// The HTTP client could not be made.
    #[error("the Elasticsearch client can't be made")]
    Client(#[source] ::elasticsearch::http::transport::BuildError),
}

/// A client of the configured Elasticsearch; nothing is sent yet.
pub fn connect(config: &ElasticsearchConfig) -> Result<Elasticsearch, ConnectError> {
    let url = reqwest::Url::parse(&config.url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| ConnectError::Url(config.url.clone()))?;
    let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(url))
        .disable_proxy()
        .timeout(config.timeout);
    builder = match &config.auth {
        Auth::Anonymous => builder,
        Auth::Basic { username, password } => {
            builder.auth(Credentials::Basic(username.clone(), password.clone()))
        }
        Auth::ApiKey(key) => builder.auth(Credentials::EncodedApiKey(key.clone())),
    };
    Ok(Elasticsearch::new(builder.build().map_err(ConnectError::Client)?))
}

/// What a preset of `presets::PRESETS` means here.
pub(super) fn preset(name: &str) -> Option<SignalSpec> {
    let (field, per_host) = match name {
        "cpu" => ("system.cpu.total.norm.pct", PerHost::Avg),
        "memory" => ("system.memory.actual.used.pct", PerHost::Avg),
        "load" => ("system.load.norm.1", PerHost::Last),
        "network" => ("system.network.in.bytes", PerHost::Rate),
        "requests" => ("prometheus.metrics.tidepool_http_requests_total", PerHost::Rate),
        "process_cpu" => ("prometheus.metrics.process_cpu_seconds_total", PerHost::Rate),
        _ => return None,
    };
    let filter = if name == "network" {
        [("system.network.name".to_owned(), "!lo".to_owned())].into()
    } else {
        [].into()
    };
    Some(SignalSpec {
        field: field.to_owned(),
        filter,
        per_host,
        scale: 1.0,
    })
}

/// Elasticsearch as a source of samples.
#[derive(Debug)]
pub struct ElasticsearchSource {
    client: Elasticsearch,
    config: ElasticsearchConfig,
    fields: Mutex<Option<(Instant, Fields)>>,
}

/// A failure of the whole request, which is then every signal's.
#[derive(Debug, Clone)]
struct WholeFailure(String);

impl ElasticsearchSource {
    /// A source; nothing is sent yet.
    pub fn new(config: ElasticsearchConfig) -> Result<Self, ConnectError> {
        Ok(Self {
            client: connect(&config)?,
            config,
            fields: Mutex::default(),
        })
    }

    fn indices(&self) -> Vec<&str> {
        self.config.index.split(',').map(str::trim).collect()
    }

    /// What the indices say about the fields that the queries name; asked once in [`FIELDS_TTL`].
    async fn fields(&self, queries: &[SignalQuery], now: UnixMillis) -> Result<Fields, WholeFailure> {
        let asked = fields::asked(queries, &self.config);
        let known = self.fields.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, fields)) = known
            && at.elapsed() < FIELDS_TTL
            && fields.answers(&asked)
        {
            return Ok(fields);
        }
        let names: Vec<&str> = asked.iter().map(String::as_str).collect();
        let response = self
            .client
            .field_caps(FieldCapsParts::Index(&self.indices()))
            .fields(&names)
            .body(fields::body(queries, now))
            .send()
            .await;
        let fields = Fields::read(asked.clone(), &json(response).await?);
        let fields = fields.map_err(|reason| WholeFailure(format!("_field_caps: {reason}")))?;
        // An index that holds nothing yet says nothing that could be kept.
        let kept = fields
            .knows(&self.config.host_field)
            .then(|| (Instant::now(), fields.clone()));
        *self.fields.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok(fields)
    }

    async fn search(
        &self,
        queries: &[SignalQuery],
        now: UnixMillis,
    ) -> Result<Vec<query::Answer>, WholeFailure> {
        let fields = self.fields(queries, now).await?;
        let mut plans = Vec::with_capacity(queries.len());
        let mut lines: Vec<JsonBody<Value>> = Vec::with_capacity(2 * queries.len());
        for one in queries {
            let plan = query::Plan::new(one, &self.config, &fields).map_err(WholeFailure)?;
            lines.push(serde_json::json!({ "index": self.indices() }).into());
            lines.push(plan.body(one, now, &self.config).into());
            plans.push(plan);
        }
        // Shards without documents of the window are passed over, for speed, and because an old index may be mapped otherwise.
        let search = self.client.msearch(MsearchParts::None).pre_filter_shard_size(1);
        let response = search.body(lines).send().await;
        let body = json(response).await?;
        let responses = body
            .get("responses")
            .and_then(Value::as_array)
            .filter(|responses| responses.len() == queries.len())
            .ok_or_else(|| WholeFailure("_msearch: the answer has no response for each search".to_owned()))?;
        let answers = queries.iter().zip(&plans).zip(responses);
        Ok(answers
            .map(|((one, plan), response)| answer::read(one, plan, response))
            .collect())
    }

    fn forget_fields(&self) {
        *self.fields.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[async_trait]
impl MetricSource for ElasticsearchSource {
    async fn read(&self, queries: &[SignalQuery], now: UnixMillis) -> Vec<Result<Vec<Sample>, MetricError>> {
        if queries.is_empty() {
            return Vec::new();
        }
        // The transport's own bound holds for each of the two requests; this one for both.
        let outcome = match tokio::time::timeout(self.config.timeout, self.search(queries, now)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(WholeFailure(format!(
                "no answer within {} ms",
                self.config.timeout.as_millis()
            ))),
        };
        match outcome {
            Ok(answers) => {
                if answers.iter().any(Result::is_err) {
                    self.forget_fields();
                }
                queries
                    .iter()
                    .zip(answers)
                    .map(|(one, answer)| answer.map_err(|e| e.of(one)))
                    .collect()
            }
            Err(WholeFailure(reason)) => {
                self.forget_fields();
                queries
                    .iter()
                    .map(|one| Err(query::Problem::Failed(reason.clone()).of(one)))
                    .collect()
            }
        }
    }
}

/// The JSON of a 2xx, or what is wrong.
async fn json(response: Result<Response, ::elasticsearch::Error>) -> Result<Value, WholeFailure> {
    let response = response.map_err(|error| WholeFailure(cause(&error)))?;
    let status = response.status_code();
    if let Some(bytes) = response
        .content_length()
        .filter(|bytes| *bytes > ANSWER_BYTES_MAX)
    {
        return Err(WholeFailure(format!(
            "the answer has {bytes} bytes, more than {ANSWER_BYTES_MAX}"
        )));
    }
    let body = response
        .bytes()
        .await
        .map_err(|error| WholeFailure(cause(&error)))?;
    let parsed: Result<Value, _> = serde_json::from_slice(&body);
    if !status.is_success() {
        let reason = parsed
            .ok()
            .and_then(|body| answer::error_reason(body.get("error")?));
        return Err(WholeFailure(format!(
            "HTTP {}{}",
            status.as_u16(),
            reason.map(|r| format!(": {r}")).unwrap_or_default()
        )));
    }
    parsed.map_err(|error| WholeFailure(format!("the answer is no JSON: {error}")))
}

/// An error with its causes in one line, without the address (it may hold a password).
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    cut(&innermost.to_string())
}

fn cut(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(REASON_CHARS_MAX)
        .collect()
}
