//! The answer to one signal's search: whether it is whole, and its samples.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use tidepool_autoscaler_core::observe::{MemberId, MemberName, Reading};

use super::document::Document;
use super::hosts::{Origin, Owner, Owners, contradicts, of_another_droplet};
use super::query::{Problem, SERIES_MAX, Search, documents};
use crate::metrics::fault::{Fault, words};
use crate::metrics::series::{HostSeries, HostValue};
use crate::metrics::{PerHost, SignalQuery};

/// One signal's reading, as far as its own search shows.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The samples, and why a host has none or only a part of one, where its documents say.
    pub(super) reading: Reading,
    /// Labels have appeared since the mappings were read.
    pub(super) has_new_series: bool,
}

#[derive(Debug, Deserialize)]
struct Response {
    timed_out: bool,
    #[serde(default)]
    terminated_early: bool,
    #[serde(default)]
    is_partial: bool,
    /// Beside what there is of an answer.
    #[serde(default)]
    error: Option<Value>,
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
    /// Those that were skipped because they hold nothing of the window are among them.
    successful: u64,
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
#[serde(default)]
struct Clusters {
    total: u64,
    successful: u64,
    skipped: u64,
    running: u64,
    partial: u64,
    failed: u64,
    details: BTreeMap<String, Value>,
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
    key: Value,
    doc_count: usize,
    newest: Newest,
}

#[derive(Debug, Deserialize)]
struct Newest {
    hits: Hits,
}

#[derive(Debug, Deserialize)]
struct Hits {
    hits: Vec<Document>,
}

/// Reads one signal's response.
pub(super) fn read(
    query: &SignalQuery,
    search: &Search,
    owners: &Owners<'_>,
    response: &str,
) -> Result<Answer, Problem> {
    let response: Response = match serde_json::from_str(response) {
        Ok(response) => response,
        Err(error) => return Err(not_a_search(response, &error)),
    };
    if let Some(error) = &response.error {
        return Err(Problem::Failed(reason_of(error)));
    }
    if let Some(reason) = missing_part(&response) {
        return Err(Problem::Incomplete(reason));
    }
    let Some(aggregations) = response.aggregations else {
        // No index matches the pattern (yet): nothing was written, which is an answer.
        return if response.shards.total == 0 {
            Ok(Answer::default())
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
    let buckets: Option<Vec<(Origin, Bucket)>> = buckets
        .into_iter()
        .map(|bucket| Some((Origin::of(&bucket.key)?, bucket)))
        .collect();
    let buckets = buckets
        .ok_or_else(|| Problem::Failed("not the answer of a search: a group without a host".to_owned()))?;
    Ok(answer(query, search, owners, buckets))
}

fn answer(
    query: &SignalQuery,
    search: &Search,
    owners: &Owners<'_>,
    buckets: Vec<(Origin, Bucket)>,
) -> Answer {
    let origins: BTreeSet<Origin> = buckets.iter().map(|(origin, _)| origin.clone()).collect();
    let assigned = owners.assign(&origins.iter().collect());
    let mut answer = Answer::default();
    let mut hosts: BTreeMap<&MemberName, HostSeries> = BTreeMap::new();
    for (origin, bucket) in buckets {
        match assigned.get(&origin) {
            Some(Owner::Member(member, id)) => {
                let Some(host) = query.hosts.get(*member) else {
                    continue;
                };
                // Another pool's member of the same name.
                if id.is_some_and(|id| *id != host.id) {
                    continue;
                }
                let series = hosts.entry(member).or_default();
                let own = origin.instance.is_none().then_some(&host.id);
                answer.has_new_series |= Group { query, search, own }.add(series, bucket);
            }
            Some(Owner::Another(members)) => {
                for (member, host) in members.iter().filter_map(|m| Some((*m, query.hosts.get(*m)?))) {
                    let id = origin.instance.as_deref().unwrap_or_default();
                    let cause = of_another_droplet(&host.id, id);
                    answer.reading.causes.insert(member.clone(), cause);
                }
            }
            Some(Owner::Unclear(members)) => {
                let names: Vec<&str> = members.iter().map(|member| member.0.as_str()).collect();
                let names = match names.as_slice() {
                    [one] => format!(
                        "members of two pools are named {one}, and the documents have no cloud.instance.id"
                    ),
                    several => several.join(" or "),
                };
                let cause = format!(
                    "it is not clear whose the documents of host {:?} are: {}",
                    origin.name,
                    words(&names)
                );
                for member in members.iter().filter(|member| query.hosts.contains_key(**member)) {
                    answer.reading.causes.insert((*member).clone(), cause.clone());
                }
            }
            Some(Owner::Nobody) | None => {}
        }
    }
    // Who has documents of its own doesn't care whose the others are.
    answer
        .reading
        .causes
        .retain(|member, _| !hosts.contains_key(member));
    for (member, series) in hosts {
        let value = match series.value(&query.what) {
            HostValue::None { fault: None } => HostValue::None {
                fault: Some(Fault::Other(no_value(query.what.per_host).to_owned())),
            },
            value => value,
        };
        value.put(member, &mut answer.reading);
    }
    answer
}

/// Why a host with documents has no value, where they don't say.
fn no_value(per_host: PerHost) -> &'static str {
    match per_host {
        PerHost::Rate => "a rate needs two documents of a series within the window",
        PerHost::Last | PerHost::Avg | PerHost::Max => "its documents hold no value of this signal",
    }
}

/// What the documents of one group are read with.
struct Group<'a> {
    query: &'a SignalQuery,
    search: &'a Search,
    /// Its host's own id, where the group doesn't show whose id the documents have.
    own: Option<&'a MemberId>,
}

impl Group<'_> {
    /// Adds the documents to their host's series; whether they hold what the mappings didn't tell apart yet.
    fn add(&self, series: &mut HostSeries, bucket: Bucket) -> bool {
        let Group { query, search, .. } = self;
        let mut keys = BTreeSet::new();
        let mut has_strangers = false;
        let (read, found) = (bucket.newest.hits.hits, bucket.doc_count);
        let expected = found.min(documents(query.what.per_host));
        if read.len() < expected {
            series.refuse(Fault::Other(format!(
                "{} of {expected} of its newest documents are in the answer",
                read.len()
            )));
        }
        for document in &read {
            let Some(point) = document.point(&query.what.field, query.what.range) else {
                continue;
            };
            if let Some(fault) = self.strange(document) {
                series.doubt(fault);
                has_strangers = true;
                continue;
            }
            let key = document.series_key(&search.dimensions);
            if let Some(agent) = document.agent() {
                series.written_by(&key, agent);
            }
            match point {
                Ok(point) => series.add(key.clone(), point),
                // Nobody can say of when it is: it may be the newest.
                Err(fault) => series.refuse(fault),
            }
            keys.insert(key);
        }
        // A label that is newer than what we know of the fields: several series share a group, and its newest documents
        // are not all of them. The next read asks about the fields again.
        let has_new_series = keys.len() > 1 && found > read.len();
        if has_new_series {
            let count = read.len();
            series.refuse(Fault::Other(format!(
                "it has new series, of which only the newest {count} documents were read"
            )));
        }
        has_new_series || has_strangers
    }

    /// That a document of the group is of another droplet.
    fn strange(&self, document: &Document) -> Option<Fault> {
        let own = self.own?;
        let written = document.instances();
        let strange = written.iter().find(|id| contradicts(own, id))?;
        (!written.contains(&own.0)).then(|| Fault::Other(of_another_droplet(own, strange)))
    }
}

/// What an answer is that can't be read: an error of Elasticsearch, or something else.
fn not_a_search(response: &str, problem: &serde_json::Error) -> Problem {
    let parsed: Option<Value> = serde_json::from_str(response).ok();
    let error = parsed.as_ref().and_then(|response| response.get("error"));
    Problem::Failed(match error {
        Some(error) => reason_of(error),
        None => format!("not the answer of a search: {}", words(&problem.to_string())),
    })
}

fn reason_of(error: &Value) -> String {
    error_reason(error).unwrap_or_else(|| "an error without a reason".to_owned())
}

fn missing_part(response: &Response) -> Option<String> {
    let Response { shards, clusters, .. } = response;
    if response.timed_out {
        return Some("the search timed out".to_owned());
    }
    if response.terminated_early {
        return Some("the search was ended early".to_owned());
    }
    if response.is_partial {
        return Some("the answer says that it is partial".to_owned());
    }
    let failed = shards.failed.max(shards.failures.len() as u64);
    if failed > 0 {
        let first = shards
            .failures
            .first()
            .and_then(|failure| error_reason(&failure.reason));
        let reason = first.map(|reason| format!(": {reason}")).unwrap_or_default();
        return Some(format!("{failed} of {} shards failed{reason}", shards.total));
    }
    if shards.successful < shards.total {
        let silent = shards.total - shards.successful;
        return Some(format!("{silent} of {} shards did not answer", shards.total));
    }
    let away = clusters.away();
    (away > 0).then(|| format!("{away} remote clusters did not answer in full"))
}

impl Clusters {
    /// How many did not answer in full, by whichever of the counts says most.
    fn away(&self) -> u64 {
        let counted = [self.skipped, self.running, self.partial, self.failed];
        let counted = counted.into_iter().fold(0, u64::saturating_add);
        let listed = self.details.values().filter(|one| !answered_in_full(one)).count();
        let missing = self.total.saturating_sub(self.successful);
        counted.max(missing).max(listed as u64)
    }
}

/// Whether one cluster's part of an answer is whole, by its own entry.
fn answered_in_full(cluster: &Value) -> bool {
    let number = |pointer| cluster.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let status = cluster.get("status").and_then(Value::as_str);
    status.is_none_or(|status| status == "successful")
        && cluster.get("timed_out").and_then(Value::as_bool) != Some(true)
        && number("/_shards/failed") == 0
        && number("/_shards/successful") >= number("/_shards/total")
}

/// The words of an `error` object, or text, of Elasticsearch.
pub(super) fn error_reason(error: &Value) -> Option<String> {
    if let Some(text) = error.as_str() {
        return Some(words(text));
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
    root.and_then(of).or_else(|| of(error)).map(|found| words(&found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_root_cause_is_reported() {
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
