//! Documents whose host names itself otherwise than the droplet is named, in a real Elasticsearch.

use std::sync::Arc;

use serde_json::{Value, json};
use tidepool_autoscaler_core::observe::{MemberName, Reading};

use super::documents::timestamp;
use super::preset;
use super::real::{Server, with_server};

fn document(server: &Server, host: &str, instance: Option<&str>, value: f64) -> Value {
    let mut document = json!({
        "@timestamp": timestamp(server.now - 1_000),
        "host": { "name": host },
        "system": { "cpu": { "total": { "norm": { "pct": value } } } },
    });
    if let Some(id) = instance {
        document["cloud"] = json!({ "instance": { "id": id } });
    }
    document
}

async fn read(server: &Server, documents: &[Value], hosts: &[&str]) -> Reading {
    server.add("metricbeat", documents).await;
    let source = server.source("metricbeat");
    server.reading(&source, preset("cpu", hosts, 60)).await.unwrap()
}

fn values(reading: &Reading) -> Vec<(&str, f64)> {
    let samples = reading.samples.iter();
    samples
        .map(|sample| (sample.host.0.as_str(), sample.value))
        .collect()
}

fn cause<'a>(reading: &'a Reading, host: &str) -> &'a str {
    &reading.causes[&MemberName(host.to_owned())]
}

#[tokio::test]
async fn names_of_hosts_match_in_lower_case_short_and_fully_qualified() {
    with_server(
        "names_of_hosts_match_in_lower_case_short_and_fully_qualified",
        async |server: Arc<Server>| {
            for templated in [false, true] {
                if templated {
                    server.create_with_template("metricbeat-templated").await;
                }
                let index = if templated {
                    "metricbeat-templated"
                } else {
                    "metricbeat-plain"
                };
                let documents = [
                    document(&server, "web-a", None, 0.9),
                    document(&server, "web-b", None, 0.8),
                    document(&server, "WEB-C.example.com", None, 0.7),
                    document(&server, "web-dd", None, 0.6),
                ];
                server.add(index, &documents).await;
                let hosts = ["Web-A", "web-b.example.com", "web-c", "web-d"];
                let reading = server
                    .reading(&server.source(index), preset("cpu", &hosts, 60))
                    .await
                    .unwrap();
                assert_eq!(
                    values(&reading),
                    [("Web-A", 0.9), ("web-b.example.com", 0.8), ("web-c", 0.7)]
                );
                assert_eq!(
                    cause(&reading, "web-d"),
                    "no documents of it; the nearest host's name is \"web-dd\""
                );
            }
        },
    )
    .await;
}

#[tokio::test]
async fn the_droplets_id_goes_before_its_name() {
    with_server(
        "the_droplets_id_goes_before_its_name",
        async |server: Arc<Server>| {
            let documents = [
                // Its own documents, in another name; and those of a droplet that had its name.
                document(&server, "ip-10-0-0-1", Some("id-of-web-1"), 0.9),
                document(&server, "web-1", Some("77"), 0.1),
                document(&server, "web-a", Some("id-of-Web-A"), 0.8),
                document(&server, "web-a", Some("id-of-web-a"), 0.2),
            ];
            let reading = read(&server, &documents, &["web-1", "Web-A", "web-a"]).await;
            assert_eq!(values(&reading), [("Web-A", 0.8), ("web-1", 0.9), ("web-a", 0.2)]);
        },
    )
    .await;
}

#[tokio::test]
async fn droplets_that_differ_by_case_or_domain_alone_are_never_confused() {
    with_server(
        "droplets_that_differ_by_case_or_domain_alone_are_never_confused",
        async |server: Arc<Server>| {
            let documents = [
                document(&server, "web-a", None, 0.9),
                document(&server, "web-b", None, 0.9),
                document(&server, "web-c", None, 0.9),
            ];
            let hosts = [
                "Web-A",
                "web-a",
                "web-b.example.com",
                "web-b.example.net",
                "web-c",
            ];
            let reading = read(&server, &documents, &hosts).await;
            assert_eq!(values(&reading), [("web-c", 0.9)]);
            assert_eq!(
                cause(&reading, "Web-A"),
                "it is not clear whose the documents of host \"web-a\" are: Web-A or web-a"
            );
            assert_eq!(
                cause(&reading, "web-b.example.net")
                    .matches("web-b.example")
                    .count(),
                2
            );
        },
    )
    .await;
}

#[tokio::test]
async fn hosts_without_documents_of_the_signal_are_explained() {
    with_server(
        "hosts_without_documents_of_the_signal_are_explained",
        async |server: Arc<Server>| {
            let mut other = document(&server, "web-1", None, 0.0);
            other["system"] = json!({ "load": { "1": 0.5 } });
            let mut future = document(&server, "web-2", None, 0.5);
            future["@timestamp"] = json!(timestamp(server.now + 3_600_000));
            let fine = document(&server, "web-3", None, 0.5);
            let reading = read(
                &server,
                &[other, future, fine],
                &["web-1", "web-2", "web-3", "database"],
            )
            .await;
            assert_eq!(values(&reading), [("web-3", 0.5)]);
            assert_eq!(
                cause(&reading, "web-1"),
                "it writes documents, but none of this signal within the window"
            );
            assert_eq!(
                cause(&reading, "web-2"),
                "its documents claim to be from the future: its clock is wrong"
            );
            assert_eq!(
                cause(&reading, "database"),
                "no documents of it, among those of 3 hosts"
            );
        },
    )
    .await;
}
