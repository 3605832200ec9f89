//! An Elasticsearch for tests, as far as one search goes: it keeps to the search's own window, names, clauses and sizes.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidepool_autoscaler_core::observe::{Reading, UnixMillis};

use super::answer;
use super::config::{Auth, ElasticsearchConfig};
use super::fields::{Fields, asked};
use super::hosts::{Directory, Owners};
use super::query::Search;
use crate::metrics::{MetricError, SignalQuery};

/// A document, as far as a search looks at it.
#[derive(Debug, Clone)]
pub(in crate::metrics) struct Stored {
    /// `host.name`.
    pub(in crate::metrics) host: String,
    /// `cloud.instance.id`.
    pub(in crate::metrics) instance: Option<String>,
    /// `@timestamp`.
    pub(in crate::metrics) at_ms: i64,
    /// The value of the only label, `prometheus.labels.q`.
    pub(in crate::metrics) label: String,
    /// `_source` as JSON.
    pub(in crate::metrics) source: String,
    /// Its value was not indexed, for it is malformed.
    pub(in crate::metrics) is_ignored: bool,
}

/// What the adapter makes of these documents.
pub(in crate::metrics) fn read(query: &SignalQuery, stored: &[Stored], now: UnixMillis) -> Reading {
    search(query, stored, now, 0).unwrap()
}

/// The same, where so many shards did not answer.
pub(in crate::metrics) fn search(
    query: &SignalQuery,
    stored: &[Stored],
    now: UnixMillis,
    missing: u32,
) -> Result<Reading, MetricError> {
    read_answer((query, std::slice::from_ref(query)), stored, now, |response| {
        response.replace("\"total\":1,", &format!("\"total\":{},", 1 + missing))
    })
}

/// The same, with `null` for the time of a host's newest document.
pub(in crate::metrics) fn read_without_times(
    query: &SignalQuery,
    stored: &[Stored],
    now: UnixMillis,
    host: &str,
) -> Reading {
    read_answer((query, std::slice::from_ref(query)), stored, now, |response| {
        let mut response: Value = serde_json::from_str(&response).unwrap();
        let buckets = response.pointer_mut("/aggregations/series/buckets").unwrap();
        for bucket in buckets.as_array_mut().unwrap() {
            if bucket["key"]["host"] == host {
                bucket["newest"]["hits"]["hits"][0]["sort"] = json!([null]);
            }
        }
        response.to_string()
    })
    .unwrap()
}

/// What the adapter makes of these documents for each of several queries that are read together.
pub(in crate::metrics) fn read_together(
    queries: &[SignalQuery],
    stored: &[Stored],
    now: UnixMillis,
) -> Vec<Reading> {
    let read = |query| read_answer((query, queries), stored, now, |response| response).unwrap();
    queries.iter().map(read).collect()
}

fn read_answer(
    (query, together): (&SignalQuery, &[SignalQuery]),
    stored: &[Stored],
    now: UnixMillis,
    told: impl Fn(String) -> String,
) -> Result<Reading, MetricError> {
    let config = ElasticsearchConfig::new("http://test".to_owned(), Auth::Anonymous);
    let queries = std::slice::from_ref(query);
    let keyword = || json!({ "keyword": { "aggregatable": true } });
    let caps = json!({ "fields": { "host.name": keyword(), "cloud.instance.id": keyword(), "prometheus.labels.q": keyword() } });
    let fields = Fields::read(asked(queries, &config), &caps).unwrap();
    let search = Search::new(query, &config, &fields, &Directory::default()).unwrap();
    let response = told(respond(&search.body(query, now, &config), stored));
    answer::read(query, &search, &Owners::of(together), &response)
        .map(|answer| answer.reading)
        .map_err(|problem| problem.of(query))
}

fn respond(body: &Value, stored: &[Stored]) -> String {
    let text = |pointer: &str| {
        body.pointer(pointer)
            .unwrap_or_else(|| panic!("{pointer} of {body}"))
    };
    let range = text("/query/bool/filter/0/range/@timestamp");
    let (since, until) = (range["gte"].as_i64().unwrap(), range["lte"].as_i64().unwrap());
    let whose = text("/query/bool/filter/1/bool/should");
    let names = whose[0]["terms"]["host.name"].as_array().unwrap();
    let ids = whose[1]["terms"]["cloud.instance.id"].as_array().unwrap();
    let takes_ignored = text("/query/bool/filter/2/bool/should")
        .to_string()
        .contains("_ignored");
    let size = text("/aggs/series/aggs/newest/top_hits/size").as_u64().unwrap();
    let is_in = |list: &[Value], text: &str| list.iter().any(|one| one == text);

    let mut groups: BTreeMap<(&str, Option<&str>, &str), Vec<&Stored>> = BTreeMap::new();
    for one in stored {
        let mine = is_in(names, &one.host) || one.instance.as_ref().is_some_and(|id| is_in(ids, id));
        if mine && (since..=until).contains(&one.at_ms) && (takes_ignored || !one.is_ignored) {
            let key = (one.host.as_str(), one.instance.as_deref(), one.label.as_str());
            groups.entry(key).or_default().push(one);
        }
    }
    let buckets = groups.into_iter().map(|((host, instance, _), mut group)| {
        group.sort_by_key(|one| -one.at_ms);
        let count = group.len();
        let hits = group.into_iter().take(usize::try_from(size).unwrap());
        let hits = hits.map(|one| format!("{{\"_source\":{},\"sort\":[{}]}}", one.source, one.at_ms));
        let hits = hits.collect::<Vec<_>>().join(",");
        let instance = instance.map_or_else(|| "null".to_owned(), |id| format!("\"{id}\""));
        format!(
            "{{\"key\":{{\"host\":\"{host}\",\"instance\":{instance}}},\"doc_count\":{count},\
             \"newest\":{{\"hits\":{{\"hits\":[{hits}]}}}}}}"
        )
    });
    let buckets = buckets.collect::<Vec<_>>().join(",");
    format!(
        "{{\"timed_out\":false,\"_shards\":{{\"total\":1,\"successful\":1,\"failed\":0}},\
         \"aggregations\":{{\"series\":{{\"buckets\":[{buckets}]}}}}}}"
    )
}
