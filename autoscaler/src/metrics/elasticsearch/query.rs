//! The search of one signal.

use serde_json::{Value, json};
use tidepool_autoscaler_core::observe::{Sample, UnixMillis};

use super::ElasticsearchConfig;
use super::fields::{self, Fields};
use crate::metrics::{MetricError, PerHost, SignalQuery};

/// Series a signal, over all its hosts: 100 hosts with 100 label sets each. (`search.max_buckets` allows 65,536.)
pub(super) const SERIES_MAX: usize = 10_000;
/// Documents a series: the most that Elasticsearch gives within a group (`index.max_inner_result_window`). At one document
/// in 10 s that is a window of 16 minutes; of a longer one the newest part counts.
pub(super) const DOCUMENTS_MAX: usize = 100;
/// Groups are made by no more fields than this; what they don't tell apart is told apart by `_source`.
const GROUP_FIELDS_MAX: usize = 32;

/// One signal's answer.
pub(super) type Answer = Result<Vec<Sample>, Problem>;

/// What is wrong with one signal's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// There is no answer.
    Failed(String),
    /// There is one, but not all of it.
    Incomplete(String),
}

impl Problem {
    /// The port's error, for the signal it is about.
    pub(super) fn of(self, query: &SignalQuery) -> MetricError {
        let (pool, signal) = (query.pool.clone(), query.signal.clone());
        match self {
            Self::Failed(reason) => MetricError::Failed { pool, signal, reason },
            Self::Incomplete(reason) => MetricError::Incomplete { pool, signal, reason },
        }
    }
}

/// How one signal is searched, its fields resolved.
#[derive(Debug)]
pub(super) struct Plan {
    host: String,
    /// Field, value, and whether it must not have it.
    filter: Vec<(String, String, bool)>,
    groups: Vec<String>,
    /// Patterns of what `_source` must bring to tell series apart.
    pub(super) dimensions: Vec<String>,
}

impl Plan {
    /// Resolves the fields of `query`.
    pub(super) fn new(
        query: &SignalQuery,
        config: &ElasticsearchConfig,
        fields: &Fields,
    ) -> Result<Self, String> {
        let mut filter = Vec::new();
        for (name, value) in &query.what.filter {
            let exact = fields.exact(name)?;
            filter.push(match value.strip_prefix('!') {
                Some(unwanted) => (exact, unwanted.to_owned(), true),
                None => (exact, value.clone(), false),
            });
        }
        let dimensions = fields::dimensions(&query.what.field, config);
        let mut groups: Vec<String> = dimensions
            .iter()
            .flat_map(|pattern| fields.matching(pattern))
            .collect();
        groups.truncate(GROUP_FIELDS_MAX);
        Ok(Self {
            host: fields.exact(&config.host_field)?,
            filter,
            groups,
            dimensions: dimensions.into_iter().map(str::to_owned).collect(),
        })
    }

    /// The search's body.
    pub(super) fn body(&self, query: &SignalQuery, now: UnixMillis, config: &ElasticsearchConfig) -> Value {
        let since = now.0 - i64::from(query.window_secs) * 1000;
        let until = now.0 + i64::from(config.skew_secs) * 1000;
        let hosts: Vec<&str> = query.hosts.keys().map(|name| name.0.as_str()).collect();
        let mut filter = vec![
            json!({ "range": { "@timestamp": { "gte": since, "lte": until, "format": "epoch_millis" } } }),
            json!({ "terms": { &self.host: hosts } }),
            json!({ "exists": { "field": query.what.field } }),
        ];
        let mut must_not = Vec::new();
        for (field, value, not) in &self.filter {
            if *not { &mut must_not } else { &mut filter }.push(json!({ "term": { field: value } }));
        }
        let mut sources = vec![json!({ "host": { "terms": { "field": self.host } } })];
        for (n, field) in self.groups.iter().enumerate() {
            sources.push(json!({ format!("g{n}"): { "terms": { "field": field, "missing_bucket": true } } }));
        }
        let mut source = vec![query.what.field.clone()];
        source.extend(self.dimensions.iter().cloned());
        // The server stops a little before we do, so that it can say how far it came.
        let timeout_ms = config.timeout.as_millis() * 4 / 5;
        json!({
            "size": 0,
            "track_total_hits": false,
            "timeout": format!("{timeout_ms}ms"),
            "query": { "bool": { "filter": filter, "must_not": must_not } },
            "aggs": { "series": {
                "composite": { "size": SERIES_MAX, "sources": sources },
                "aggs": { "newest": { "top_hits": {
                    "size": documents(query.what.per_host),
                    "sort": [{ "@timestamp": { "order": "desc", "numeric_type": "date" } }],
                    "_source": { "includes": source },
                } } },
            } },
        })
    }
}

/// How many documents of a group are asked for. Two tell the newest value, and whether the series has ended.
fn documents(per_host: PerHost) -> usize {
    match per_host {
        PerHost::Last => 2,
        PerHost::Avg | PerHost::Max | PerHost::Rate => DOCUMENTS_MAX,
    }
}
