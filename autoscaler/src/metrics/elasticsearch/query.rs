//! The search of one signal.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tidepool_autoscaler_core::observe::UnixMillis;

use super::config::ElasticsearchConfig;
use super::document::{AGENT_FIELD, INSTANCE_FIELD, PERIOD_FIELD, fallback};
use super::fields::{self, Fields};
use super::hosts::Directory;
use crate::metrics::{MetricError, PerHost, SignalQuery};

/// Series a signal, over all its hosts: 100 hosts with 100 label sets each. (`search.max_buckets` allows 65,536.)
pub(super) const SERIES_MAX: usize = 10_000;
/// Documents a series: the most that Elasticsearch gives within a group (`index.max_inner_result_window`). At one document
/// in 10 s that is a window of 16 minutes; of a longer one the newest part counts.
pub(super) const DOCUMENTS_MAX: usize = 100;
/// Documents a series where the newest value is wanted: it, those that tell how often it is read, and each of them up to
/// four times, for delivery is at least once.
const DOCUMENTS_LAST: usize = 12;
/// Groups are made by no more fields than this; what they don't tell apart is told apart by `_source`.
const GROUP_FIELDS_MAX: usize = 32;

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
pub(super) struct Search {
    host: String,
    instance: Option<String>,
    /// Which spellings of the hosts' names are looked for.
    names: BTreeSet<String>,
    /// Field, value, and whether it must not have it.
    filter: Vec<(String, String, bool)>,
    groups: Vec<String>,
    /// Patterns of what `_source` must bring to tell series apart.
    pub(super) dimensions: Vec<String>,
}

impl Search {
    /// Resolves the fields of `query`.
    pub(super) fn new(
        query: &SignalQuery,
        config: &ElasticsearchConfig,
        fields: &Fields,
        directory: &Directory,
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
            instance: fields.instance(),
            names: directory.spellings(&query.hosts),
            filter,
            groups,
            dimensions: dimensions.into_iter().map(str::to_owned).collect(),
        })
    }

    /// The search's body.
    pub(super) fn body(&self, query: &SignalQuery, now: UnixMillis, config: &ElasticsearchConfig) -> Value {
        let since = now.0 - i64::from(query.window_secs) * 1000;
        let until = now.0 + i64::from(config.skew_secs) * 1000;
        let mut filter = vec![
            json!({ "range": { "@timestamp": { "gte": since, "lte": until, "format": "epoch_millis" } } }),
            any_of(self.whose(query)),
            any_of(has_value(&query.what.field)),
        ];
        let mut must_not = Vec::new();
        for (field, value, not) in &self.filter {
            let mut condition = json!({ "term": { field: value } });
            // As for Prometheus: what is not there is empty.
            if value.is_empty() {
                let absent = json!({ "bool": { "must_not": { "exists": { "field": field } } } });
                condition = any_of(vec![condition, absent]);
            }
            if *not { &mut must_not } else { &mut filter }.push(condition);
        }
        let mut sources = vec![json!({ "host": { "terms": { "field": self.host } } })];
        if let Some(instance) = &self.instance {
            sources.push(json!({ "instance": { "terms": { "field": instance, "missing_bucket": true } } }));
        }
        for (n, field) in self.groups.iter().enumerate() {
            sources.push(json!({ format!("g{n}"): { "terms": { "field": field, "missing_bucket": true } } }));
        }
        let mut source = vec![
            query.what.field.clone(),
            PERIOD_FIELD.to_owned(),
            AGENT_FIELD.to_owned(),
            INSTANCE_FIELD.to_owned(),
        ];
        source.extend(
            fallback(&query.what.field)
                .into_iter()
                .flat_map(|f| [f.part, f.whole]),
        );
        source.extend(self.dimensions.iter().cloned());
        json!({
            "size": 0,
            "track_total_hits": false,
            "timeout": config.server_timeout(),
            "query": { "bool": { "filter": filter, "must_not": must_not } },
            "aggs": { "series": {
                "composite": { "size": SERIES_MAX, "sources": sources },
                "aggs": { "newest": { "top_hits": {
                    "size": documents(query.what.per_host),
                    "sort": [{ "@timestamp": { "order": "desc", "numeric_type": "date" } }],
                    "_source": { "includes": source },
                    "fields": [query.what.field],
                } } },
            } },
        })
    }

    fn whose(&self, query: &SignalQuery) -> Vec<Value> {
        let mut any = vec![json!({ "terms": { &self.host: self.names } })];
        if let Some(instance) = &self.instance {
            let ids: Vec<&str> = query.hosts.values().map(|host| host.id.0.as_str()).collect();
            any.push(json!({ "terms": { instance: ids } }));
        }
        any
    }
}

fn any_of(conditions: Vec<Value>) -> Value {
    json!({ "bool": { "should": conditions, "minimum_should_match": 1 } })
}

/// Documents with the field, or with what it can be computed from; and those where it was not indexed because it is
/// malformed (`ignore_malformed`), which would otherwise pass for documents without it.
fn has_value(field: &str) -> Vec<Value> {
    let fields = [
        Some(field.to_owned()),
        fallback(field).map(|fallback| fallback.part),
    ];
    let has = |field: String| {
        [
            json!({ "exists": { "field": field } }),
            json!({ "term": { "_ignored": field } }),
        ]
    };
    fields.into_iter().flatten().flat_map(has).collect()
}

/// How many documents of a group are asked for.
pub(super) fn documents(per_host: PerHost) -> usize {
    match per_host {
        PerHost::Last => DOCUMENTS_LAST,
        PerHost::Avg | PerHost::Max | PerHost::Rate => DOCUMENTS_MAX,
    }
}
