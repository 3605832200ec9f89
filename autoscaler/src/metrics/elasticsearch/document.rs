//! One document: the value that Elasticsearch has indexed for a field, and what tells its series from others.
//!
//! `_source` is read as the mapping reads it: a number that came as text, or alone in an array, is that number. What is not
//! in `_source` under its own name (an alias, a runtime field, a `null_value`) is taken from `fields`. Not from there alone:
//! an index without Metricbeat's template maps a ratio whose first value was 0 as an integer, and `fields` then says 0.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use tidepool_autoscaler_core::observe::UnixMillis;

use crate::metrics::fault::{Fault, words};
use crate::metrics::range::Range;
use crate::metrics::series::Point;

/// Where Metricbeat says how often a metricset is read, milliseconds.
pub(super) const PERIOD_FIELD: &str = "metricset.period";
/// Which droplet wrote a document (`add_cloud_metadata`).
pub(super) const INSTANCE_FIELD: &str = "cloud.instance.id";
/// Who wrote it.
pub(super) const AGENT_FIELD: &str = "agent.id";

/// A document in an answer.
#[derive(Debug, Deserialize)]
pub(super) struct Document {
    #[serde(rename = "_source", default)]
    source: Value,
    #[serde(default)]
    fields: Map<String, Value>,
    /// `@timestamp`, milliseconds, alone in a list.
    #[serde(default)]
    sort: Value,
}

/// A field that stands for another one where that is missing: a share that Metricbeat left to the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fallback {
    /// It is divided …
    pub(super) part: String,
    /// … by this.
    pub(super) whole: String,
}

/// What a field can be computed from. Metricbeat writes `norm` only where it is set to (`normalized_percentages`).
pub(super) fn fallback(field: &str) -> Option<Fallback> {
    let divided = |part: String, whole: &str| Fallback {
        part,
        whole: whole.to_owned(),
    };
    if let Some(state) = field
        .strip_prefix("system.cpu.")
        .and_then(|rest| rest.strip_suffix(".norm.pct"))
    {
        return Some(divided(format!("system.cpu.{state}.pct"), "system.cpu.cores"));
    }
    if let Some(minutes) = field.strip_prefix("system.load.norm.") {
        return Some(divided(format!("system.load.{minutes}"), "system.load.cores"));
    }
    (field == "system.memory.actual.used.pct").then(|| {
        divided(
            "system.memory.actual.used.bytes".to_owned(),
            "system.memory.total",
        )
    })
}

impl Document {
    /// When it was written, where that can be read.
    fn at(&self) -> Result<UnixMillis, Fault> {
        let ms = self.sort.get(0).and_then(Value::as_i64);
        ms.map(UnixMillis)
            .ok_or_else(|| Fault::Other("a document has no time that can be read".to_owned()))
    }

    /// The reading of `field`, if it has a time; `None` when the document has none.
    pub(super) fn point(&self, field: &str, range: Range) -> Option<Result<Point, Fault>> {
        let value = match self.number(field) {
            Some(value) => value,
            None => self.computed(&fallback(field)?)?,
        };
        let period = self.number(PERIOD_FIELD).and_then(Result::ok);
        Some(self.at().map(|at| Point {
            at,
            value: value.and_then(|value| range.check(value)),
            // A float to integer cast saturates at both ends, and only its size matters.
            period_ms: period.map(|ms| ms as i64),
        }))
    }

    /// Who wrote it.
    pub(super) fn agent(&self) -> Option<&str> {
        let mut found = Vec::new();
        leaves(&self.source, AGENT_FIELD, &mut found);
        found.first().and_then(|id| id.as_str())
    }

    /// Which droplets it says it is of: one, or none.
    pub(super) fn instances(&self) -> Vec<String> {
        let mut found = Vec::new();
        leaves(&self.source, INSTANCE_FIELD, &mut found);
        let text = |id: &&Value| id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        found.iter().map(text).collect()
    }

    /// What tells this document's series from others of the same host.
    pub(super) fn series_key(&self, dimensions: &[String]) -> String {
        let mut parts = BTreeMap::new();
        for pattern in dimensions {
            let path = pattern.strip_suffix(".*").unwrap_or(pattern);
            let mut found = Vec::new();
            leaves(&self.source, path, &mut found);
            for value in found {
                collect(path.to_owned(), value, &mut parts);
            }
        }
        parts
            .into_iter()
            .map(|(path, text)| format!("{path}={text}\u{1f}"))
            .collect()
    }

    fn computed(&self, fallback: &Fallback) -> Option<Result<f64, Fault>> {
        let part = self.number(&fallback.part)?;
        let Some(whole) = self.number(&fallback.whole) else {
            return Some(Err(Fault::Other(format!(
                "only {} is there, without {}; set `cpu.metrics: [normalized_percentages]` in Metricbeat's system module",
                fallback.part, fallback.whole
            ))));
        };
        Some(part.and_then(|part| Ok(part / Range::NOT_NEGATIVE.check(whole?)?.get())))
    }

    fn number(&self, field: &str) -> Option<Result<f64, Fault>> {
        let mut found = Vec::new();
        leaves(&self.source, field, &mut found);
        if found.is_empty() {
            flatten(self.fields.get(field)?, &mut found);
        }
        match found.as_slice() {
            [] => None,
            [one] => Some(number(one)),
            several => Some(Err(Fault::Several(several.len()))),
        }
    }
}

/// A number as a numeric mapping reads it (parameter `coerce`).
fn number(value: &Value) -> Result<f64, Fault> {
    let parsed = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    parsed.ok_or_else(|| Fault::NotANumber(words(&value.to_string())))
}

/// Everything at a path, as Elasticsearch finds it: names may hold dots themselves, and arrays are looked into.
fn leaves<'v>(value: &'v Value, path: &str, found: &mut Vec<&'v Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| leaves(item, path, found)),
        Value::Object(object) => {
            if let Some(end) = object.get(path) {
                flatten(end, found);
            }
            for (head, tail) in path.match_indices('.').map(|(at, _)| path.split_at(at)) {
                if let (Some(inner), Some(rest)) = (object.get(head), tail.get(1..)) {
                    leaves(inner, rest, found);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The values of a field: those of an array, without `null` and empty text, which are not indexed.
fn flatten<'v>(value: &'v Value, found: &mut Vec<&'v Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| flatten(item, found)),
        Value::Null => {}
        Value::String(text) if text.is_empty() => {}
        one => found.push(one),
    }
}

fn collect(path: String, value: &Value, parts: &mut BTreeMap<String, String>) {
    match value.as_object() {
        Some(object) => object
            .iter()
            .for_each(|(name, inner)| collect(format!("{path}.{name}"), inner, parts)),
        None => {
            parts.insert(path, value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::range::InRange;
    use serde_json::json;

    fn document(source: Value, fields: Value) -> Document {
        serde_json::from_value(json!({ "_source": source, "fields": fields, "sort": [1000] })).unwrap()
    }

    /// The value, or what is wrong.
    fn read(source: Value, fields: Value, field: &str) -> Option<Result<f64, String>> {
        let point = document(source, fields).point(field, Range::ANY)?.unwrap();
        Some(point.value.map(InRange::get).map_err(|fault| fault.to_string()))
    }

    #[test]
    fn a_path_is_found_with_dots_in_names_and_within_arrays() {
        let source = json!({ "host": { "disk": { "read.bytes": 5 } }, "a.b": { "c": 1 }, "a": { "x": 2 }, "l": [{ "m": 3 }] });
        let read = |field| read(source.clone(), json!({}), field).map(Result::unwrap);
        assert_eq!(read("host.disk.read.bytes"), Some(5.0));
        assert_eq!(read("a.b.c"), Some(1.0));
        assert_eq!(read("a.x"), Some(2.0));
        assert_eq!(read("l.m"), Some(3.0));
        assert_eq!(read("a.y"), None);
        assert_eq!(read("host.disk.read.bytes.more"), None);
    }

    #[test]
    fn values_are_read_as_they_are_indexed() {
        for (value, expected) in [
            (json!(0.9), Some(Ok(0.9))),
            (json!("0.9"), Some(Ok(0.9))),
            (json!([0.9]), Some(Ok(0.9))),
            (json!(["0.9"]), Some(Ok(0.9))),
            (json!(" 12 "), Some(Ok(12.0))),
            (json!("1e2"), Some(Ok(100.0))),
            (json!([null, 0.9]), Some(Ok(0.9))),
            (json!(null), None),
            (json!(""), None),
            (json!([]), None),
            (json!("n/a"), Some(Err("\"n/a\" is not a number".to_owned()))),
            (json!(true), Some(Err("true is not a number".to_owned()))),
            (
                json!({ "x": 1 }),
                Some(Err("{\"x\":1} is not a number".to_owned())),
            ),
            (
                json!([0.9, 0.1]),
                Some(Err("one document holds 2 values".to_owned())),
            ),
            (
                json!("NaN"),
                Some(Err("a value is not a finite number".to_owned())),
            ),
            (
                json!("Infinity"),
                Some(Err("a value is not a finite number".to_owned())),
            ),
            (
                json!("1e999"),
                Some(Err("a value is not a finite number".to_owned())),
            ),
        ] {
            assert_eq!(
                read(json!({ "a": { "b": value } }), json!({}), "a.b"),
                expected,
                "{value}"
            );
        }
        // The same field twice, once with a dot in its name.
        assert!(
            read(json!({ "a.b": 1, "a": { "b": 2 } }), json!({}), "a.b")
                .unwrap()
                .is_err()
        );
    }

    #[test]
    fn what_source_does_not_have_is_taken_from_fields() {
        // An alias, a runtime field, a `null_value`.
        assert_eq!(read(json!({}), json!({ "al": [0.9] }), "al"), Some(Ok(0.9)));
        assert_eq!(
            read(json!({ "n": null }), json!({ "n": [0.25] }), "n"),
            Some(Ok(0.25))
        );
        // A ratio in an index that made an integer of it.
        assert_eq!(read(json!({ "l": 0.5 }), json!({ "l": [0] }), "l"), Some(Ok(0.5)));
    }

    #[test]
    fn a_share_that_is_missing_is_computed() {
        let cpu = |total: Value| json!({ "system": { "cpu": { "cores": 40, "total": total } } });
        let field = "system.cpu.total.norm.pct";
        assert_eq!(
            read(cpu(json!({ "pct": 24.5968 })), json!({}), field),
            Some(Ok(0.614_92))
        );
        let both = json!({ "pct": 24.0, "norm": { "pct": 0.5 } });
        assert_eq!(read(cpu(both), json!({}), field), Some(Ok(0.5)));
        let load = json!({ "system": { "load": { "1": 6.0, "cores": 4 } } });
        assert_eq!(read(load, json!({}), "system.load.norm.1"), Some(Ok(1.5)));
        let without = json!({ "system": { "cpu": { "total": { "pct": 1.5 } } } });
        let reason = read(without, json!({}), field).unwrap().unwrap_err();
        assert!(reason.contains("normalized_percentages"), "{reason}");
        let no_cores = json!({ "system": { "cpu": { "cores": 0, "total": { "pct": 1.5 } } } });
        let point = document(no_cores, json!({}))
            .point(field, Range::RATIO)
            .unwrap()
            .unwrap();
        assert_eq!(point.value, Err(Fault::NotFinite));
    }

    #[test]
    fn the_same_labels_in_another_order_are_the_same_series() {
        let dimensions = ["prometheus.labels.*".to_owned()];
        let key = |labels: &str| {
            let labels: Value = serde_json::from_str(labels).unwrap();
            document(json!({ "prometheus": { "labels": labels } }), json!({})).series_key(&dimensions)
        };
        assert_eq!(key(r#"{"a":"1","b":"2"}"#), key(r#"{"b":"2","a":"1"}"#));
        assert_ne!(key(r#"{"a":"1","b":"2"}"#), key(r#"{"a":"1","b":"3"}"#));
        assert_eq!(key("{}"), "");
    }
}
