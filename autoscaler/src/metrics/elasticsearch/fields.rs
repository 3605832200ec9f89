//! How the fields that we ask for are mapped. With Metricbeat's template a name is a `keyword`; without it Elasticsearch maps
//! texts dynamically, as `text` with a `keyword` beside it. Grouping and exact comparison need the keyword.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tidepool_autoscaler_core::observe::UnixMillis;

use super::config::ElasticsearchConfig;
use super::document::{INSTANCE_FIELD, fallback};
use crate::metrics::SignalQuery;

/// Fields of Metricbeat's modules that tell the series of one host apart: the beginning of the value's field, and theirs.
const DIMENSIONS: &[(&str, &str)] = &[
    ("prometheus.", "prometheus.labels.*"),
    ("system.network.", "system.network.name"),
    ("system.diskio.", "system.diskio.name"),
    ("system.filesystem.", "system.filesystem.mount_point"),
    ("system.core.", "system.core.id"),
    ("system.process.", "process.pid"),
    ("docker.", "container.id"),
    ("docker.network.", "docker.network.interface"),
    ("containerd.", "container.id"),
    ("containerd.", "containerd.namespace"),
    ("kubernetes.", "kubernetes.namespace"),
    ("kubernetes.", "kubernetes.pod.name"),
    ("kubernetes.container.", "kubernetes.container.name"),
    ("kubernetes.volume.", "kubernetes.volume.name"),
    ("haproxy.stat.", "haproxy.stat.proxy.name"),
    ("haproxy.stat.", "haproxy.stat.service_name"),
    ("kafka.", "kafka.topic.name"),
    ("kafka.", "kafka.partition.id"),
    ("mongodb.dbstats.", "mongodb.dbstats.db"),
    ("postgresql.database.", "postgresql.database.name"),
    ("rabbitmq.", "rabbitmq.vhost"),
    ("rabbitmq.queue.", "rabbitmq.queue.name"),
    ("redis.keyspace.", "redis.keyspace.id"),
    // Whichever module: two services of one kind on one host.
    ("", "service.address"),
];
/// Only indices with documents of the last hour are asked: an old index with another mapping can't disturb.
const RECENT_MS: i64 = 3_600_000;

/// Patterns of the fields that tell the series of `field` apart.
pub(super) fn dimensions<'a>(field: &str, config: &'a ElasticsearchConfig) -> Vec<&'a str> {
    let known = DIMENSIONS
        .iter()
        .filter(|(prefix, _)| field.starts_with(prefix))
        .map(|(_, pattern)| *pattern);
    known
        .chain(config.series_fields.iter().map(String::as_str))
        .collect()
}

/// Every field that has to be asked about, as patterns, each with its keyword.
pub(super) fn asked(queries: &[SignalQuery], config: &ElasticsearchConfig) -> BTreeSet<String> {
    let mut asked = BTreeSet::new();
    let mut ask = |name: &str| {
        asked.insert(name.to_owned());
        // `a.*` covers its keywords already.
        if !name.ends_with('*') {
            asked.insert(format!("{name}.keyword"));
        }
    };
    ask(&config.host_field);
    ask(INSTANCE_FIELD);
    for query in queries {
        ask(&query.what.field);
        if let Some(fallback) = fallback(&query.what.field) {
            ask(&fallback.part);
        }
        query.what.filter.keys().for_each(|name| ask(name));
        dimensions(&query.what.field, config)
            .into_iter()
            .for_each(&mut ask);
    }
    asked
}

/// The body of `_field_caps`.
pub(super) fn body(queries: &[SignalQuery], now: UnixMillis) -> Value {
    let windows = queries
        .iter()
        .map(|query| i64::from(query.window_secs) * 1000)
        .max()
        .unwrap_or(0);
    let since = now.0 - windows.max(RECENT_MS);
    serde_json::json!({
        "index_filter": { "range": { "@timestamp": { "gte": since, "format": "epoch_millis" } } }
    })
}

/// What the indices answered.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    asked: BTreeSet<String>,
    groups: BTreeMap<String, Groups>,
}

/// Whether documents can be grouped by a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Groups {
    Everywhere,
    Somewhere,
    Nowhere,
}

impl Fields {
    /// Reads an answer of `_field_caps`.
    pub(super) fn read(asked: BTreeSet<String>, body: &Value) -> Result<Self, String> {
        let fields = body
            .get("fields")
            .and_then(Value::as_object)
            .ok_or("the answer has no \"fields\"")?;
        let mut groups = BTreeMap::new();
        for (name, types) in fields {
            let types = types
                .as_object()
                .ok_or_else(|| format!("field {name:?} has no types"))?;
            // An object is not a field of its own: `prometheus.labels.*` brings them, too.
            if types.keys().any(|kind| kind == "object" || kind == "nested") {
                continue;
            }
            let can = |kind: &Value| kind.get("aggregatable").and_then(Value::as_bool) == Some(true);
            let place = match types.values().filter(|kind| can(kind)).count() {
                0 => Groups::Nowhere,
                all if all == types.len() => Groups::Everywhere,
                _ => Groups::Somewhere,
            };
            groups.insert(name.clone(), place);
        }
        Ok(Self { asked, groups })
    }

    /// Whether everything in `asked` was asked about.
    pub(super) fn answers(&self, asked: &BTreeSet<String>) -> bool {
        asked.is_subset(&self.asked)
    }

    /// Whether any index has the field.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.groups.contains_key(name)
    }

    /// Whether no index was written to lately.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The field with the droplet's id, if documents have one that they can be grouped by.
    pub(super) fn instance(&self) -> Option<String> {
        self.knows(INSTANCE_FIELD)
            .then(|| self.exact(INSTANCE_FIELD).ok())
            .flatten()
    }

    /// Why no document can have a value, as far as the mappings show.
    pub(super) fn explain(&self, field: &str, index: &str) -> Option<String> {
        if self.is_empty() {
            return Some(format!(
                "no index that matches {index:?} has documents of the last hour"
            ));
        }
        let fallback = fallback(field).is_some_and(|fallback| self.knows(&fallback.part));
        (!self.knows(field) && !fallback)
            .then(|| format!("no index that matches {index:?} has a field {field:?}"))
    }

    /// The field to group and compare by: itself, or its keyword. A field that no index has stands for itself: it matches
    /// nothing. `Err` when it is there but can't be grouped by.
    pub(super) fn exact(&self, name: &str) -> Result<String, String> {
        let keyword = format!("{name}.keyword");
        match self.groups.get(name) {
            None | Some(Groups::Everywhere) => Ok(name.to_owned()),
            Some(Groups::Nowhere) if self.groups.get(&keyword) == Some(&Groups::Everywhere) => Ok(keyword),
            // Were the keyword taken, documents of those indices that have none would be missed in silence.
            Some(_) => Err(format!(
                "field {name:?} is not a keyword in every index: load Metricbeat's template, or narrow `index`"
            )),
        }
    }

    /// Fields to group by that match `pattern`, in order.
    pub(super) fn matching(&self, pattern: &str) -> Vec<String> {
        let Some(prefix) = pattern.strip_suffix('*') else {
            return if self.knows(pattern) {
                self.exact(pattern).into_iter().collect()
            } else {
                Vec::new()
            };
        };
        let plain = self
            .groups
            .keys()
            .filter(|name| name.starts_with(prefix) && !self.is_keyword_of_another(name));
        plain.filter_map(|name| self.exact(name).ok()).collect()
    }

    fn is_keyword_of_another(&self, name: &str) -> bool {
        name.strip_suffix(".keyword")
            .is_some_and(|parent| self.groups.contains_key(parent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: Value) -> Fields {
        Fields::read(BTreeSet::new(), &serde_json::json!({ "fields": fields })).unwrap()
    }

    #[test]
    fn a_keyword_stands_for_itself_and_a_text_for_its_keyword() {
        let fields = read(serde_json::json!({
            "host.name": { "text": { "aggregatable": false } },
            "host.name.keyword": { "keyword": { "aggregatable": true } },
            "prometheus.labels": { "object": { "aggregatable": false } },
            "prometheus.labels.job": { "keyword": { "aggregatable": true } },
            "prometheus.labels.route": { "text": { "aggregatable": false } },
            "prometheus.labels.route.keyword": { "keyword": { "aggregatable": true } },
        }));
        assert_eq!(fields.exact("host.name").unwrap(), "host.name.keyword");
        assert_eq!(fields.exact("unmapped").unwrap(), "unmapped");
        assert_eq!(
            fields.matching("prometheus.labels.*"),
            ["prometheus.labels.job", "prometheus.labels.route.keyword"]
        );
        assert_eq!(fields.matching("host.name"), ["host.name.keyword"]);
        assert!(fields.matching("system.network.name").is_empty());
    }

    #[test]
    fn indices_that_disagree_are_reported() {
        let mixed = read(serde_json::json!({
            "host.name": { "text": { "aggregatable": false }, "keyword": { "aggregatable": true } },
            "host.name.keyword": { "keyword": { "aggregatable": true } },
        }));
        assert!(
            mixed
                .exact("host.name")
                .unwrap_err()
                .contains("not a keyword in every index")
        );
    }

    #[test]
    fn garbage_is_refused() {
        for body in [
            serde_json::json!({}),
            serde_json::json!({ "fields": 7 }),
            serde_json::json!({ "fields": { "a": 7 } }),
        ] {
            assert!(Fields::read(BTreeSet::new(), &body).is_err(), "{body}");
        }
    }
}
