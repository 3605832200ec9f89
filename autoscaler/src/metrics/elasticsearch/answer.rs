//! The answer to one signal's search: whether it is whole, and its samples.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use tidepool_autoscaler_core::observe::{MemberName, Sample, UnixMillis};

use super::cut;
use super::query::{Answer, DOCUMENTS_MAX, Plan, Problem, SERIES_MAX};
use crate::metrics::series::{HostSeries, Point};
use crate::metrics::{PerHost, SignalQuery};

#[derive(Debug, Deserialize)]
struct Response {
    timed_out: bool,
    #[serde(default)]
    terminated_early: bool,
    #[serde(rename = "_shards")]
    shards: Shards,
    #[serde(rename = "_clusters", default)]
    clusters: Clusters,
    /// Missing when no index matches the pattern.
    #[serde(default)]
    aggregations: Option<Aggregations>,
}

#[derive(Debug, Deserialize)]
struct Shards {
    total: u64,
    failed: u64,
    #[serde(default)]
    failures: Vec<ShardFailure>,
}

#[derive(Debug, Deserialize)]
struct ShardFailure {
    #[serde(default)]
    reason: Value,
}

#[derive(Debug, Default, Deserialize)]
struct Clusters {
    #[serde(default)]
    skipped: u64,
    #[serde(default)]
    partial: u64,
    #[serde(default)]
    failed: u64,
}

#[derive(Debug, Deserialize)]
struct Aggregations {
    series: Series,
}

#[derive(Debug, Deserialize)]
struct Series {
    buckets: Vec<Bucket>,
}

#[derive(Debug, Deserialize)]
struct Bucket {
    key: Key,
    doc_count: usize,
    newest: Newest,
}

#[derive(Debug, Deserialize)]
struct Key {
    host: String,
}

#[derive(Debug, Deserialize)]
struct Newest {
    hits: Hits,
}

#[derive(Debug, Deserialize)]
struct Hits {
    hits: Vec<Hit>,
}

#[derive(Debug, Deserialize)]
struct Hit {
    #[serde(rename = "_source")]
    source: Value,
    /// `@timestamp`, milliseconds.
    sort: (i64,),
}

/// Reads one signal's response.
pub(super) fn read(query: &SignalQuery, plan: &Plan, response: &Value) -> Answer {
    if let Some(error) = response.get("error") {
        return Err(Problem::Failed(
            error_reason(error).unwrap_or_else(|| "an error without a reason".to_owned()),
        ));
    }
    let response = Response::deserialize(response).map_err(|error| {
        Problem::Failed(format!("not the answer of a search: {}", cut(&error.to_string())))
    })?;
    if let Some(reason) = missing_part(&response) {
        return Err(Problem::Incomplete(reason));
    }
    let Some(aggregations) = response.aggregations else {
        // No index matches the pattern (yet): nothing was written, which is an answer.
        return if response.shards.total == 0 {
            Ok(Vec::new())
        } else {
            Err(Problem::Failed(
                "not the answer of a search: no aggregations".to_owned(),
            ))
        };
    };
    let buckets = aggregations.series.buckets;
    if buckets.len() >= SERIES_MAX {
        return Err(Problem::Incomplete(format!(
            "there are {SERIES_MAX} series or more; narrow the filter"
        )));
    }
    let mut hosts: BTreeMap<MemberName, HostSeries> = BTreeMap::new();
    for bucket in buckets {
        let host = MemberName(bucket.key.host.clone());
        if query.hosts.contains_key(&host) {
            add(hosts.entry(host).or_default(), bucket, query, plan)?;
        }
    }
    let sample = |(host, series): (MemberName, HostSeries)| {
        let Point { at, value } = series.value(query.what.per_host)?;
        Some(Sample {
            host,
            value: value * query.what.scale,
            at,
        })
    };
    Ok(hosts.into_iter().filter_map(sample).collect())
}

/// Adds the documents of one group to its host's series.
fn add(series: &mut HostSeries, bucket: Bucket, query: &SignalQuery, plan: &Plan) -> Result<(), Problem> {
    let mut keys = BTreeSet::new();
    let (host, documents, found) = (bucket.key.host, bucket.newest.hits.hits, bucket.doc_count);
    let cut_short = found > documents.len();
    for hit in documents {
        let Some(value) = lookup(&hit.source, &query.what.field).and_then(Value::as_f64) else {
            continue;
        };
        let key = series_key(&hit.source, &plan.dimensions);
        keys.insert(key.clone());
        let point = Point {
            at: UnixMillis(hit.sort.0),
            value,
        };
        series.add(key, point).map_err(|ambiguous| {
            Problem::Incomplete(format!(
                "host {host:?} has several series at {} that can't be told apart; name their field in `series_fields`",
                ambiguous.at.0
            ))
        })?;
    }
    // A label that is newer than what we know of the fields: several series share a group, and its newest documents
    // are not all of them. The next read asks about the fields again.
    if keys.len() > 1 && cut_short {
        let limit = if query.what.per_host == PerHost::Last {
            "newest"
        } else {
            "first"
        };
        return Err(Problem::Incomplete(format!(
            "host {host:?} has new series, of which only the {limit} {DOCUMENTS_MAX} documents at most were read"
        )));
    }
    Ok(())
}

fn missing_part(response: &Response) -> Option<String> {
    let Response { shards, clusters, .. } = response;
    if response.timed_out {
        return Some("the search timed out".to_owned());
    }
    if response.terminated_early {
        return Some("the search was ended early".to_owned());
    }
    if shards.failed > 0 {
        let first = shards
            .failures
            .first()
            .and_then(|failure| error_reason(&failure.reason));
        let words = first.map(|words| format!(": {words}")).unwrap_or_default();
        return Some(format!(
            "{} of {} shards failed{words}",
            shards.failed, shards.total
        ));
    }
    let away = clusters.skipped + clusters.partial + clusters.failed;
    (away > 0).then(|| format!("{away} remote clusters did not answer in full"))
}

/// The words of an `error` object, or text, of Elasticsearch.
pub(super) fn error_reason(error: &Value) -> Option<String> {
    if let Some(text) = error.as_str() {
        return Some(cut(text));
    }
    let of = |value: &Value| {
        let (kind, reason) = (
            value.get("type").and_then(Value::as_str),
            value.get("reason").and_then(Value::as_str),
        );
        match (kind, reason) {
            (Some(kind), Some(reason)) => Some(format!("{kind}: {reason}")),
            (one, other) => one.or(other).map(str::to_owned),
        }
    };
    // The root cause says more than "all shards failed".
    let root = error
        .get("root_cause")
        .and_then(Value::as_array)
        .and_then(|causes| causes.first());
    root.and_then(of).or_else(|| of(error)).map(|words| cut(&words))
}

/// The value at a path; a member's name may hold dots itself.
fn lookup<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    let object = value.as_object()?;
    if let Some(found) = object.get(path) {
        return Some(found);
    }
    let splits = path.match_indices('.').map(|(at, _)| path.split_at(at));
    splits
        .filter_map(|(head, tail)| lookup(object.get(head)?, tail.get(1..)?))
        .next()
}

/// What tells this document's series from others of the same host.
fn series_key(source: &Value, dimensions: &[String]) -> String {
    let mut leaves = BTreeMap::new();
    for pattern in dimensions {
        let path = pattern.strip_suffix(".*").unwrap_or(pattern);
        if let Some(found) = lookup(source, path) {
            collect(path.to_owned(), found, &mut leaves);
        }
    }
    leaves
        .into_iter()
        .map(|(path, text)| format!("{path}={text}\u{1f}"))
        .collect()
}

fn collect(path: String, value: &Value, leaves: &mut BTreeMap<String, String>) {
    match value.as_object() {
        Some(object) => object
            .iter()
            .for_each(|(name, inner)| collect(format!("{path}.{name}"), inner, leaves)),
        None => {
            leaves.insert(path, value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_path_is_found_with_dots_in_names_too() {
        let source = json!({ "host": { "disk": { "read.bytes": 5 } }, "a.b": { "c": 1 }, "a": { "x": 2 } });
        assert_eq!(lookup(&source, "host.disk.read.bytes"), Some(&json!(5)));
        assert_eq!(lookup(&source, "a.b.c"), Some(&json!(1)));
        assert_eq!(lookup(&source, "a.x"), Some(&json!(2)));
        assert_eq!(lookup(&source, "a.y"), None);
        assert_eq!(lookup(&source, "host.disk.read.bytes.more"), None);
    }

    #[test]
    fn the_same_labels_in_another_order_are_the_same_series() {
        let dimensions = ["prometheus.labels.*".to_owned()];
        let one: Value = serde_json::from_str(r#"{"prometheus":{"labels":{"a":"1","b":"2"}}}"#).unwrap();
        let two: Value = serde_json::from_str(r#"{"prometheus":{"labels":{"b":"2","a":"1"}}}"#).unwrap();
        let other: Value = serde_json::from_str(r#"{"prometheus":{"labels":{"a":"1","b":"3"}}}"#).unwrap();
        assert_eq!(series_key(&one, &dimensions), series_key(&two, &dimensions));
        assert_ne!(series_key(&one, &dimensions), series_key(&other, &dimensions));
        assert_eq!(series_key(&json!({}), &dimensions), "");
    }

    #[test]
    fn the_root_cause_is_told() {
        let error = json!({ "type": "search_phase_execution_exception", "reason": "all shards failed",
            "root_cause": [{ "type": "illegal_argument_exception", "reason": "text fields are not optimised" }] });
        assert_eq!(
            error_reason(&error).unwrap(),
            "illegal_argument_exception: text fields are not optimised"
        );
        assert_eq!(error_reason(&json!("plain words")).unwrap(), "plain words");
        assert_eq!(error_reason(&json!({})), None);
    }
}
