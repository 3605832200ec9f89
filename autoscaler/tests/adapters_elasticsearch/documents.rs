//! Metricbeat's documents: the recorded ones, moved to another time and host, and more of their shape.

use serde_json::{Value, json};

/// Documents of Metricbeat's system module; 11 to 16 of each kind, five seconds apart.
pub(crate) const SYSTEM: &str = include_str!("../data/metricbeat-system.ndjson");
/// Documents of its prometheus module.
pub(crate) const PROMETHEUS: &str = include_str!("../data/metricbeat-prometheus.ndjson");

/// Recorded documents, moved so that the newest is `newest_ms`; with the host's name, if one is given.
pub(crate) fn moved(recorded: &str, newest_ms: i64, host: Option<&str>) -> Vec<Value> {
    let mut documents: Vec<Value> = recorded
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let newest = documents.iter().map(at).max().unwrap();
    for document in &mut documents {
        document["@timestamp"] = json!(timestamp(at(document) + newest_ms - newest));
        if let Some(host) = host {
            document["host"]["name"] = json!(host);
        }
    }
    documents
}

/// A document's time, milliseconds.
pub(crate) fn at(document: &Value) -> i64 {
    document["@timestamp"]
        .as_str()
        .unwrap()
        .parse::<jiff::Timestamp>()
        .unwrap()
        .as_millisecond()
}

/// A time as Metricbeat writes it.
pub(crate) fn timestamp(ms: i64) -> String {
    format!("{:.3}", jiff::Timestamp::from_millisecond(ms).unwrap())
}

/// A document of the prometheus module.
pub(crate) fn prometheus(host: &str, at_ms: i64, metric: &str, value: f64, labels: &Value) -> Value {
    let mut document: Value = serde_json::from_str(PROMETHEUS.lines().next().unwrap()).unwrap();
    document["@timestamp"] = json!(timestamp(at_ms));
    document["host"]["name"] = json!(host);
    document["prometheus"] = json!({ "metrics": { metric: value }, "labels": labels });
    document
}

/// A document of the system module's cpu.
pub(crate) fn cpu(host: &str, at_ms: i64, value: f64) -> Value {
    let line = SYSTEM
        .lines()
        .find(|line| line.contains("\"system.cpu\""))
        .unwrap();
    let mut document: Value = serde_json::from_str(line).unwrap();
    document["@timestamp"] = json!(timestamp(at_ms));
    document["host"]["name"] = json!(host);
    document["system"]["cpu"]["total"]["norm"]["pct"] = json!(value);
    document
}
