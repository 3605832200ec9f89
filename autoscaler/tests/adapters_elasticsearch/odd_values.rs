//! Values in other spellings than a number, and documents that are there more than once, in a real Elasticsearch.

use std::sync::Arc;

use serde_json::{Value, json};
use tidepool_autoscaler::metrics::PerHost;
use tidepool_autoscaler_core::observe::{MemberName, Reading};

use super::documents::{cpu, prometheus, timestamp};
use super::real::{Server, with_server};
use super::{field, preset};

const QUEUE: &str = "prometheus.metrics.queue_depth";

/// The value, the lower bound and the cause of host `web-1`.
fn found(reading: &Reading) -> (Option<f64>, Option<f64>, &str) {
    let value =
        |samples: &[tidepool_autoscaler_core::observe::Sample]| samples.first().map(|sample| sample.value);
    let cause = reading.causes.get(&MemberName("web-1".to_owned()));
    (
        value(&reading.samples),
        value(&reading.at_least),
        cause.map_or("", String::as_str),
    )
}

fn with_value(server: &Server, value: Value) -> Value {
    let mut document = cpu("web-1", server.now - 1_000, 0.0);
    document["system"]["cpu"]["total"]["norm"]["pct"] = value;
    document
}

#[tokio::test]
async fn numbers_are_read_as_they_are_indexed() {
    with_server(
        "numbers_are_read_as_they_are_indexed",
        async |server: Arc<Server>| {
            let share = json!({ "type": "double", "ignore_malformed": true });
            let pct = json!({ "properties": { "cpu": { "properties": { "total": { "properties": { "norm": {
            "properties": { "pct": share } } } } } } } });
            for (n, (value, expected)) in [
                (json!("0.9"), (Some(0.9), None, "")),
                (json!([0.9]), (Some(0.9), None, "")),
                (json!(["0.9"]), (Some(0.9), None, "")),
                (json!(" 0.9 "), (Some(0.9), None, "")),
                (json!("n/a"), (None, None, "\"n/a\" is not a number")),
                (json!("NaN"), (None, None, "a value is not a finite number")),
                (json!(true), (None, None, "true is not a number")),
                (json!([0.9, 0.1]), (None, None, "one document holds 2 values")),
                (
                    json!(161),
                    (
                        None,
                        None,
                        "a value of 161 is outside the signal's range (0 to 1)",
                    ),
                ),
                (
                    json!(-0.3),
                    (
                        None,
                        None,
                        "a value of -0.3 is outside the signal's range (0 to 1)",
                    ),
                ),
            ]
            .into_iter()
            .enumerate()
            {
                let index = format!("metricbeat-{n}");
                let properties = json!({ "@timestamp": { "type": "date" }, "system": pct });
                server.create(&index, properties).await;
                server.add(&index, &[with_value(&server, value.clone())]).await;
                let source = server.source(&index);
                let reading = server
                    .reading(&source, preset("cpu", &["web-1"], 60))
                    .await
                    .unwrap();
                assert_eq!(found(&reading), expected, "{value}");
            }
        },
    )
    .await;
}

#[tokio::test]
async fn aliases_and_values_for_null_are_read() {
    with_server(
        "aliases_and_values_for_null_are_read",
        async |server: Arc<Server>| {
            let properties = json!({
                "@timestamp": { "type": "date" },
                "depth": { "type": "long" },
                "other": { "type": "alias", "path": "depth" },
                "nothing": { "type": "double", "null_value": 0.25 },
                "text": { "type": "keyword" },
            });
            server.create("own", properties).await;
            let document = json!({ "@timestamp": timestamp(server.now - 1_000), "host": { "name": "web-1" },
            "depth": 7, "nothing": null, "text": "0.5" });
            server.add("own", &[document]).await;
            for (name, expected) in [("depth", 7.0), ("other", 7.0), ("nothing", 0.25), ("text", 0.5)] {
                let asked = field(name, PerHost::Last, &["web-1"], 60);
                let reading = server.reading(&server.source("own"), asked).await.unwrap();
                assert_eq!(found(&reading), (Some(expected), None, ""), "{name}");
            }
        },
    )
    .await;
}

#[tokio::test]
async fn shares_that_metricbeat_left_to_the_reader_are_computed() {
    with_server("shares_that_metricbeat_left_to_the_reader_are_computed", async |server: Arc<Server>| {
        let document = |cpu: Value| {
            json!({ "@timestamp": timestamp(server.now - 1_000), "host": { "name": "web-1" }, "system": { "cpu": cpu } })
        };
        server.add("whole", &[document(json!({ "cores": 40, "total": { "pct": 24.5968 } }))]).await;
        let asked = || preset("cpu", &["web-1"], 60);
        let reading = server.reading(&server.source("whole"), asked()).await.unwrap();
        assert_eq!(found(&reading), (Some(24.5968 / 40.0), None, ""));
        server.add("half", &[document(json!({ "total": { "pct": 1.5 } }))]).await;
        let reading = server.reading(&server.source("half"), asked()).await.unwrap();
        let (value, bound, cause) = found(&reading);
        assert_eq!((value, bound), (None, None));
        assert!(cause.contains("cpu.metrics: [normalized_percentages]"), "{cause}");
    })
    .await;
}

#[tokio::test]
async fn a_series_that_ended_does_not_come_back_with_doubled_documents() {
    with_server(
        "a_series_that_ended_does_not_come_back_with_doubled_documents",
        async |server: Arc<Server>| {
            let gauge = |queue: &str, value: f64, ago_secs: i64| {
                let at = server.now - ago_secs * 1_000;
                prometheus("web-1", at, "queue_depth", value, &json!({ "q": queue }))
            };
            let now = [gauge("new", 1.0, 20), gauge("new", 1.0, 10), gauge("new", 1.0, 0)];
            // With two documents left of it, and with one.
            for (index, ended) in [
                ("two", vec![gauge("old", 7.0, 59), gauge("old", 7.0, 50)]),
                ("one", vec![gauge("old", 7.0, 50)]),
            ] {
                for copies in 1..=3 {
                    let index = format!("{index}-{copies}");
                    let documents: Vec<Value> = ended.iter().chain(&now).cloned().collect();
                    for _ in 0..copies {
                        server.add(&index, &documents).await;
                    }
                    let asked = field(QUEUE, PerHost::Last, &["web-1"], 60);
                    let reading = server.reading(&server.source(&index), asked).await.unwrap();
                    assert_eq!(found(&reading), (Some(1.0), None, ""), "{index}");
                }
            }
        },
    )
    .await;
}

#[tokio::test]
async fn a_malformed_series_beside_a_good_one_leaves_a_lower_bound() {
    with_server(
        "a_malformed_series_beside_a_good_one_leaves_a_lower_bound",
        async |server: Arc<Server>| {
            let depth = json!({ "type": "double", "ignore_malformed": true });
            let metrics = json!({ "properties": { "metrics": { "properties": { "queue_depth": depth } } } });
            server
                .create(
                    "metricbeat",
                    json!({ "@timestamp": { "type": "date" }, "prometheus": metrics }),
                )
                .await;
            let at = server.now - 1_000;
            let mut bad = prometheus("web-1", at, "queue_depth", 0.0, &json!({ "q": "a" }));
            bad["prometheus"]["metrics"]["queue_depth"] = json!("NaN");
            let good = prometheus("web-1", at, "queue_depth", 3.0, &json!({ "q": "b" }));
            server.add("metricbeat", &[bad, good]).await;
            let asked = field(QUEUE, PerHost::Last, &["web-1"], 60);
            let reading = server.reading(&server.source("metricbeat"), asked).await.unwrap();
            assert_eq!(
                found(&reading),
                (None, Some(3.0), "a value is not a finite number")
            );
        },
    )
    .await;
}

#[tokio::test]
async fn two_agents_that_write_one_series_are_not_believed() {
    with_server(
        "two_agents_that_write_one_series_are_not_believed",
        async |server: Arc<Server>| {
            let own = cpu("web-1", server.now - 1_000, 0.9);
            let mut other = cpu("web-1", server.now - 2_000, 0.1);
            other["agent"]["id"] = json!("another");
            server.add("metricbeat", &[own, other]).await;
            let source = server.source("metricbeat");
            let reading = server
                .reading(&source, preset("cpu", &["web-1"], 60))
                .await
                .unwrap();
            let (value, bound, cause) = found(&reading);
            assert_eq!((value, bound), (None, None));
            assert!(cause.contains("two agents"), "{cause}");
        },
    )
    .await;
}
