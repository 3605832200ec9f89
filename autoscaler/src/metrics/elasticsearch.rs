//! Samples out of what Metricbeat wrote into Elasticsearch. The only place with Metricbeat's field names.
//!
//! One `_msearch` reads all signals of all pools. A search groups the window's documents by host and by what tells a host's
//! series apart (labels, interface), and gives the newest documents of each group. `document.rs` reads a value as it is
//! indexed, `hosts.rs` knows whose documents are whose, and the arithmetic is ours (`series.rs`): resets, ended series and
//! what was delivered twice are handled alike for both sources.

mod answer;
mod config;
mod document;
mod fields;
mod hosts;
mod http;
mod query;
#[cfg(test)]
pub(super) mod test_server;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tidepool_autoscaler_core::observe::{MemberName, Reading, UnixMillis};

use self::answer::Answer;
pub use self::config::{
    Auth, ConnectError, ElasticsearchConfig, HOST_FIELD_DEFAULT, INDEX_DEFAULT, TIMEOUT_DEFAULT,
};
use self::fields::Fields;
use self::hosts::{Directory, Owners};
pub use self::http::Writer;
use self::http::{Http, Request, error_within, not_json};
use self::query::{Problem, Search};
use super::range::Range;
use super::{MetricError, MetricSource, PerHost, SignalQuery, SignalSpec};

/// How long the answers about fields and about hosts' names are believed: a new label splits into groups of its own, and a
/// host that names itself otherwise is found, within this time.
const KNOWLEDGE_TTL: Duration = Duration::from_secs(60);
/// Hosts of which it is looked for what became of their documents: comparing 10,000 names takes a millisecond each.
const EXPLAINED_MAX: usize = 10;

/// What a preset of `presets::PRESETS` means here.
pub(super) fn preset(name: &str) -> Option<SignalSpec> {
    let (field, per_host, range) = match name {
        "cpu" => ("system.cpu.total.norm.pct", PerHost::Avg, Range::RATIO),
        "memory" => ("system.memory.actual.used.pct", PerHost::Avg, Range::RATIO),
        "load" => ("system.load.norm.1", PerHost::Last, Range::NOT_NEGATIVE),
        "network" => ("system.network.in.bytes", PerHost::Rate, Range::NOT_NEGATIVE),
        "requests" => (
            "prometheus.metrics.tidepool_http_requests_total",
            PerHost::Rate,
            Range::NOT_NEGATIVE,
        ),
        "process_cpu" => (
            "prometheus.metrics.process_cpu_seconds_total",
            PerHost::Rate,
            Range::NOT_NEGATIVE,
        ),
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
        range,
    })
}

/// Elasticsearch as a source of samples.
#[derive(Debug)]
pub struct ElasticsearchSource {
    http: Http,
    config: ElasticsearchConfig,
    knowledge: Mutex<Option<Knowledge>>,
}

/// What was asked beside the samples, and when.
#[derive(Debug, Clone)]
struct Knowledge {
    at: Instant,
    fields: Fields,
    directory: Directory,
}

/// A failure of the whole request, which is then every signal's.
#[derive(Debug, Clone)]
struct WholeFailure(String);

#[derive(Debug, Deserialize)]
struct Responses<'a> {
    #[serde(borrow)]
    responses: Vec<&'a RawValue>,
}

impl ElasticsearchSource {
    /// A source; nothing is sent yet.
    pub fn new(config: ElasticsearchConfig) -> Result<Self, ConnectError> {
        Ok(Self {
            http: Http::new(&config)?,
            config,
            knowledge: Mutex::default(),
        })
    }

    /// What the indices say about the fields that the queries name, and who writes into them; asked once in
    /// [`KNOWLEDGE_TTL`].
    async fn knowledge(&self, queries: &[SignalQuery], now: UnixMillis) -> Result<Knowledge, WholeFailure> {
        let asked = fields::asked(queries, &self.config);
        let known = self
            .knowledge
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(known) = known
            && known.at.elapsed() < KNOWLEDGE_TTL
            && known.fields.answers(&asked)
        {
            return Ok(known);
        }
        let names: Vec<&str> = asked.iter().map(String::as_str).collect();
        let body = self
            .http
            .post(Request {
                path: &[&self.config.index_path(), "_field_caps"],
                query: &[("fields", &names.join(","))],
                lines: &[fields::body(queries, now)],
            })
            .await;
        let body = parsed(&body.map_err(WholeFailure)?)?;
        let fields = Fields::read(asked.clone(), &body);
        let fields = fields.map_err(|reason| WholeFailure(format!("_field_caps: {reason}")))?;
        let directory = self.directory(queries, &fields, now).await;
        let knowledge = Knowledge {
            at: Instant::now(),
            fields,
            directory,
        };
        // An index that holds nothing yet says nothing that could be kept.
        let kept = knowledge
            .fields
            .knows(&self.config.host_field)
            .then(|| knowledge.clone());
        *self.knowledge.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok(knowledge)
    }

    /// Who writes into the indices. Without an answer only names that are spelled alike are found.
    async fn directory(&self, queries: &[SignalQuery], fields: &Fields, now: UnixMillis) -> Directory {
        let listed = async {
            let search = Directory::body(queries, now, &self.config, fields)?;
            let request = Request {
                path: &[&self.config.index_path(), "_search"],
                query: &[("pre_filter_shard_size", "1")],
                lines: &[search],
            };
            let body = self.http.post(request).await?;
            let answer = parsed(&body).map_err(|WholeFailure(reason)| reason)?;
            Ok::<_, String>(Directory::read(&answer))
        };
        listed
            .await
            .inspect_err(|reason| tracing::debug!(reason, "hosts' names can't be listed"))
            .unwrap_or_default()
    }

    async fn search(
        &self,
        queries: &[SignalQuery],
        now: UnixMillis,
    ) -> Result<Vec<Result<Reading, Problem>>, WholeFailure> {
        let knowledge = self.knowledge(queries, now).await?;
        let Knowledge {
            fields, directory, ..
        } = &knowledge;
        let mut searches = Vec::with_capacity(queries.len());
        let mut lines = Vec::with_capacity(2 * queries.len());
        for one in queries {
            let search = Search::new(one, &self.config, fields, directory).map_err(WholeFailure)?;
            lines.push(json!({ "index": self.config.indices() }));
            lines.push(search.body(one, now, &self.config));
            searches.push(search);
        }
        let body = self
            .http
            .post(Request {
                path: &["_msearch"],
                // Shards without documents of the window are passed over, for speed, and because an old index may be
                // mapped otherwise.
                query: &[("pre_filter_shard_size", "1")],
                lines: &lines,
            })
            .await
            .map_err(WholeFailure)?;
        let responses: Responses<'_> =
            serde_json::from_slice(&body).map_err(|error| WholeFailure(not_json(&body, &error)))?;
        if responses.responses.len() != queries.len() {
            let reason = "_msearch: the answer does not have one response for each search";
            return Err(WholeFailure(reason.to_owned()));
        }
        let owners = Owners::of(queries);
        let mut readings = Vec::with_capacity(queries.len());
        for ((one, search), response) in queries.iter().zip(&searches).zip(responses.responses) {
            let answer = answer::read(one, search, &owners, response.get());
            readings.push(answer.map(|answer| self.explained(one, answer, &knowledge, now)));
        }
        Ok(readings)
    }

    /// Adds why hosts have no value where their documents don't say, and asks anew next time if some have none.
    fn explained(
        &self,
        query: &SignalQuery,
        answer: Answer,
        knowledge: &Knowledge,
        now: UnixMillis,
    ) -> Reading {
        let mut reading = answer.reading;
        let mut silent: BTreeSet<&MemberName> = query.hosts.keys().collect();
        for heard in reading.samples.iter().map(|sample| &sample.host) {
            silent.remove(heard);
        }
        silent.retain(|name| !reading.causes.contains_key(*name));
        if answer.has_new_series || !silent.is_empty() {
            self.forget();
        }
        let until = now.plus_secs(self.config.skew_secs);
        let no_field = knowledge.fields.explain(&query.what.field, &self.config.index);
        for (n, name) in silent.into_iter().enumerate() {
            let cause = match &no_field {
                Some(cause) => cause.clone(),
                // Names are compared for about as many as are reported.
                None if n < EXPLAINED_MAX => knowledge.directory.explain(name, query, until),
                None => "no documents of this signal within the window".to_owned(),
            };
            reading.causes.insert(name.clone(), cause);
        }
        reading
    }

    fn forget(&self) {
        *self.knowledge.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[async_trait]
impl MetricSource for ElasticsearchSource {
    async fn read(&self, queries: &[SignalQuery], now: UnixMillis) -> Vec<Result<Reading, MetricError>> {
        if queries.is_empty() {
            return Vec::new();
        }
        // The client's own bound holds for each of the requests; this one for all.
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
                    self.forget();
                }
                queries
                    .iter()
                    .zip(answers)
                    .map(|(one, answer)| answer.map_err(|problem| problem.of(one)))
                    .collect()
            }
            Err(WholeFailure(reason)) => {
                self.forget();
                queries
                    .iter()
                    .map(|one| Err(Problem::Failed(reason.clone()).of(one)))
                    .collect()
            }
        }
    }
}

fn parsed(body: &[u8]) -> Result<Value, WholeFailure> {
    let parsed = serde_json::from_slice(body).map_err(|error| WholeFailure(not_json(body, &error)))?;
    error_within(&parsed).map_or(Ok(parsed), |reason| Err(WholeFailure(reason)))
}
