//! Against a real Elasticsearch. Each test has indices of its own, which it takes away.

#![expect(clippy::disallowed_methods, reason = "tests")]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tidepool_autoscaler::metrics::elasticsearch::{Auth, ElasticsearchConfig, ElasticsearchSource};
use tidepool_autoscaler::metrics::{MetricError, MetricSource, PerHost, SignalQuery};
use tidepool_autoscaler_core::observe::{MemberName, Reading, Sample, UnixMillis};

use super::documents::{PROMETHEUS, SYSTEM, at, cpu, moved, prometheus};
use super::{field, preset};

const REQUESTS: &str = "tidepool_http_requests_total";

/// One test's part of the server: indices that begin with a name of its own.
pub(super) struct Server {
    http: reqwest::Client,
    pub(super) url: String,
    pub(super) prefix: String,
    pub(super) now: i64,
}

impl Server {
    pub(super) fn source(&self, index: &str) -> ElasticsearchSource {
        ElasticsearchSource::new(self.config(index)).unwrap()
    }

    pub(super) fn config(&self, index: &str) -> ElasticsearchConfig {
        ElasticsearchConfig {
            index: format!("{}{index}", self.prefix),
            // These tests are about what it answers. Other tests and their servers want the processors meanwhile.
            timeout: Duration::from_secs(60),
            ..ElasticsearchConfig::new(self.url.clone(), Auth::Anonymous)
        }
    }

    /// An index whose names are keywords, as with Metricbeat's template.
    pub(super) async fn create_with_template(&self, index: &str) {
        let keywords =
            json!({ "match_mapping_type": "string", "mapping": { "type": "keyword", "ignore_above": 1024 } });
        let mappings = json!({
            "dynamic_templates": [{ "strings": keywords }],
            "properties": { "@timestamp": { "type": "date" } },
        });
        let request = self.http.put(format!("{}/{}{index}", self.url, self.prefix));
        let response = request
            .json(&json!({ "mappings": mappings }))
            .send()
            .await
            .unwrap();
        assert!(
            response.status().is_success(),
            "{}",
            response.text().await.unwrap()
        );
    }

    pub(super) async fn add(&self, index: &str, documents: &[Value]) {
        let lines: String = documents
            .iter()
            .map(|document| format!("{{\"create\":{{}}}}\n{document}\n"))
            .collect();
        let url = format!("{}/{}{index}/_bulk?refresh=true", self.url, self.prefix);
        let request = self
            .http
            .post(url)
            .header("content-type", "application/x-ndjson")
            .body(lines);
        let answer: Value =
            serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap();
        assert_eq!(answer["errors"], false, "{answer}");
    }

    /// What a search finds, once all that was written can be found.
    pub(super) async fn search(&self, index: &str, query: Value) -> Vec<Value> {
        let url = format!("{}/{index}", self.url);
        let refreshed = self.http.post(format!("{url}/_refresh")).send().await.unwrap();
        assert!(
            refreshed.status().is_success(),
            "{}",
            refreshed.text().await.unwrap()
        );
        let answer = self
            .http
            .post(format!("{url}/_search"))
            .json(&query)
            .send()
            .await
            .unwrap();
        let mut answer: Value = answer.json().await.unwrap();
        let Value::Array(hits) = answer["hits"]["hits"].take() else {
            panic!("{answer}");
        };
        hits.into_iter().map(|mut hit| hit["_source"].take()).collect()
    }

    /// The whole values.
    async fn read(
        &self,
        source: &ElasticsearchSource,
        query: SignalQuery,
    ) -> Result<Vec<Sample>, MetricError> {
        self.reading(source, query).await.map(|reading| reading.samples)
    }

    pub(super) async fn reading(
        &self,
        source: &ElasticsearchSource,
        query: SignalQuery,
    ) -> Result<Reading, MetricError> {
        let mut answers = source.read(&[query], UnixMillis(self.now)).await;
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }

    /// An index with these fields, among others.
    pub(super) async fn create(&self, index: &str, properties: Value) {
        let request = self.http.put(format!("{}/{}{index}", self.url, self.prefix));
        let response = request
            .json(&json!({ "mappings": { "properties": properties } }))
            .send()
            .await
            .unwrap();
        assert!(
            response.status().is_success(),
            "{}",
            response.text().await.unwrap()
        );
    }
}

impl Server {
    /// Deletes this test's indices; by name, since a server may refuse to delete by pattern.
    async fn take_away(&self) {
        let list = format!("{}/_cat/indices/{}*?format=json&h=index", self.url, self.prefix);
        let listed = self.http.get(list).send().await.unwrap().bytes().await.unwrap();
        let indices: Vec<Value> = serde_json::from_slice(&listed).unwrap();
        for index in indices {
            let url = format!("{}/{}", self.url, index["index"].as_str().unwrap());
            let answer = self.http.delete(url).send().await.unwrap();
            assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        }
    }
}

/// Runs `test` with a server, and takes its indices away whatever comes of it.
pub(super) async fn with_server<F: Future<Output = ()> + Send + 'static>(
    name: &str,
    test: impl FnOnce(Arc<Server>) -> F,
) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let Ok(url) = std::env::var("TIDEPOOL_TEST_ELASTICSEARCH") else {
        println!("tidepool-skip: {name}: TIDEPOOL_TEST_ELASTICSEARCH is not set");
        return;
    };
    let now = jiff::Timestamp::now().as_millisecond();
    let prefix = format!(
        "tidepool-test-{now}-{}-{}-",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::SeqCst)
    );
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = url.trim_end_matches('/').to_owned();
    let server = Arc::new(Server {
        http,
        url,
        prefix,
        now,
    });
    let outcome = tokio::spawn(test(Arc::clone(&server))).await;
    server.take_away().await;
    if let Err(error) = outcome {
        std::panic::resume_unwind(error.into_panic());
    }
}

fn by_host(samples: Vec<Sample>) -> Vec<(String, f64, i64)> {
    samples
        .into_iter()
        .map(|sample| (sample.host.0, sample.value, sample.at.0))
        .collect()
}

fn values(documents: &[Value], pointer: &str) -> Vec<(i64, f64)> {
    let mut found: Vec<(i64, f64)> = documents
        .iter()
        .filter_map(|one| Some((at(one), one.pointer(pointer)?.as_f64()?)))
        .collect();
    found.sort_by_key(|(at, _)| *at);
    found
}

fn assert_close(found: f64, expected: f64, what: &str) {
    assert!(
        (found - expected).abs() <= 1e-9 * expected.abs().max(1.0),
        "{what}: {found}, not {expected}"
    );
}

/// What the presets must say about the recorded minute, worked out from the documents themselves.
async fn read_recorded(server: &Server, index: &str) {
    let documents = moved(SYSTEM, server.now - 1_000, None);
    server.add(index, &documents).await;
    server
        .add(index, &moved(PROMETHEUS, server.now - 1_000, Some("web-7f3a")))
        .await;
    let hosts = ["web-7f3a", "web-unknown"];
    let names = ["cpu", "memory", "load", "network", "requests"];
    let queries: Vec<SignalQuery> = names.iter().map(|name| preset(name, &hosts, 120)).collect();
    let answers = server.source(index).read(&queries, UnixMillis(server.now)).await;
    let samples: Vec<(String, f64, i64)> = answers
        .into_iter()
        .flat_map(|answer| by_host(answer.unwrap().samples))
        .collect();
    assert_eq!(samples.len(), names.len(), "{samples:?}");
    assert!(samples.iter().all(|(host, ..)| host == "web-7f3a"));

    let mean = |pointer| {
        let found = values(&documents, pointer);
        (
            found.iter().map(|(_, value)| value).sum::<f64>() / found.len() as f64,
            found.last().unwrap().0,
        )
    };
    let (cpu, cpu_at) = mean("/system/cpu/total/norm/pct");
    assert_close(samples[0].1, cpu, "cpu");
    assert_eq!(samples[0].2, cpu_at);
    assert_close(samples[1].1, mean("/system/memory/actual/used/pct").0, "memory");
    assert_close(
        samples[2].1,
        values(&documents, "/system/load/norm/1").last().unwrap().1,
        "load",
    );

    let outside: Vec<Value> = documents
        .iter()
        .filter(|one| one.pointer("/system/network/name") != Some(&json!("lo")))
        .cloned()
        .collect();
    let mut growth = 0.0;
    let all = values(&outside, "/system/network/in/bytes");
    for interface in ["eth0", "ifb0", "ifb1"] {
        let of = |one: &&Value| one.pointer("/system/network/name") == Some(&json!(interface));
        let own: Vec<Value> = outside.iter().filter(of).cloned().collect();
        let own = values(&own, "/system/network/in/bytes");
        growth += own.last().unwrap().1 - own[0].1;
    }
    let secs = (all.last().unwrap().0 - all[0].0) as f64 / 1000.0;
    assert!(growth > 0.0);
    assert_close(samples[3].1, growth / secs, "network");
    assert_close(samples[4].1, 0.0, "requests");
}

#[tokio::test]
async fn recorded_documents_are_read_without_a_template() {
    with_server(
        "recorded_documents_are_read_without_a_template",
        async |server: Arc<Server>| {
            read_recorded(&server, "metricbeat").await;
        },
    )
    .await;
}

#[tokio::test]
async fn recorded_documents_are_read_with_a_template() {
    with_server(
        "recorded_documents_are_read_with_a_template",
        async |server: Arc<Server>| {
            server.create_with_template("metricbeat").await;
            read_recorded(&server, "metricbeat").await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_ratio_whose_first_value_was_zero_is_read() {
    with_server(
        "a_ratio_whose_first_value_was_zero_is_read",
        async |server: Arc<Server>| {
            // Without a template the field is an integer from then on; what was written is a ratio all the same.
            let mut first = cpu("web-1", server.now - 20_000, 0.0);
            first["system"]["cpu"]["total"]["norm"]["pct"] = json!(0);
            server.add("metricbeat", &[first]).await;
            server
                .add("metricbeat", &[cpu("web-1", server.now - 10_000, 0.5)])
                .await;
            let last = field("system.cpu.total.norm.pct", PerHost::Last, &["web-1"], 60);
            let samples = server.read(&server.source("metricbeat"), last).await.unwrap();
            assert_eq!(by_host(samples), [("web-1".to_owned(), 0.5, server.now - 10_000)]);
        },
    )
    .await;
}

#[tokio::test]
async fn counters_of_several_labels_and_hosts_become_rates() {
    with_server(
        "counters_of_several_labels_and_hosts_become_rates",
        async |server: Arc<Server>| {
            let mut documents = Vec::new();
            for step in 0..=10_i64 {
                let at = server.now - 30_000 + step * 2_000;
                let get =
                    json!({ "method": "GET", "route": "/v1/collections/{collection}", "status": "200" });
                let put =
                    json!({ "method": "PUT", "route": "/v1/collections/{collection}", "status": "200" });
                let grown = step as f64;
                documents.push(prometheus("web-1", at, REQUESTS, 1_000.0 + 20.0 * grown, &get));
                documents.push(prometheus("web-1", at, REQUESTS, 500.0 + 10.0 * grown, &put));
                // Restarted after its fifth scrape: 3 a step, from zero again.
                let restarted = if step < 5 {
                    700.0 + 3.0 * grown
                } else {
                    3.0 * (grown - 5.0)
                };
                documents.push(prometheus("web-2", at, REQUESTS, restarted, &get));
            }
            // Stopped a while ago: its newest value is given with its time, and judged by others.
            documents.push(prometheus(
                "web-3",
                server.now - 50_000,
                REQUESTS,
                1.0,
                &json!({ "status": "200" }),
            ));
            documents.push(prometheus(
                "web-3",
                server.now - 40_000,
                REQUESTS,
                11.0,
                &json!({ "status": "200" }),
            ));
            server.add("metricbeat", &documents).await;
            let hosts = ["web-1", "web-2", "web-3", "web-4"];
            let samples = server
                .read(&server.source("metricbeat"), preset("requests", &hosts, 60))
                .await
                .unwrap();
            let [one, two, three] = &by_host(samples)[..] else {
                panic!("not three hosts")
            };
            assert_close(one.1, 15.0, "20 and 10 each 2 s");
            assert_eq!(one.2, server.now - 10_000);
            // 4 steps of 3 before the restart, nothing known at it, 5 steps of 3 after it; in 20 s.
            assert_close(two.1, 27.0 / 20.0, "restarted");
            assert_eq!(
                (three.0.as_str(), three.1, three.2),
                ("web-3", 1.0, server.now - 40_000)
            );
        },
    )
    .await;
}

#[tokio::test]
async fn a_label_that_appears_later_makes_no_false_rate() {
    with_server(
        "a_label_that_appears_later_makes_no_false_rate",
        async |server: Arc<Server>| {
            let source = server.source("metricbeat");
            let step = |n: i64| server.now - 30_000 + n * 2_000;
            let plain = json!({ "job": "prometheus" });
            let before: Vec<Value> = (0..3)
                .map(|n| prometheus("web-1", step(n), REQUESTS, 10.0 * n as f64, &plain))
                .collect();
            server.add("metricbeat", &before).await;
            let asked = || preset("requests", &["web-1"], 60);
            assert_close(
                server.read(&source, asked()).await.unwrap()[0].value,
                5.0,
                "before",
            );
            // The field `route` did not exist when the source asked about fields. Two routes now, far apart in value.
            let after: Vec<Value> = (3..8)
                .flat_map(|n| {
                    ["/a", "/b"].map(|route| {
                        let base = if route == "/a" { 0.0 } else { 1e9 };
                        prometheus(
                            "web-1",
                            step(n),
                            REQUESTS,
                            base + 10.0 * n as f64,
                            &json!({ "job": "prometheus", "route": route }),
                        )
                    })
                })
                .collect();
            server.add("metricbeat", &after).await;
            let rate = server.read(&source, asked()).await.unwrap()[0].value;
            // The old series has ended; each new one grows by 10 every 2 s.
            assert_close(rate, 10.0, "after");
        },
    )
    .await;
}

#[tokio::test]
async fn new_labels_in_more_documents_than_were_read_cost_the_host_one_reading() {
    with_server(
        "new_labels_in_more_documents_than_were_read_cost_the_host_one_reading",
        async |server: Arc<Server>| {
            let source = server.source("metricbeat");
            server
                .add(
                    "metricbeat",
                    &[prometheus(
                        "web-1",
                        server.now - 55_000,
                        REQUESTS,
                        1.0,
                        &json!({ "job": "p" }),
                    )],
                )
                .await;
            let asked = || preset("requests", &["web-1"], 60);
            server.read(&source, asked()).await.unwrap();
            let many: Vec<Value> = (0..25)
                .flat_map(|n| (0..5).map(move |route| (n, route)))
                .map(|(n, route)| {
                    let labels = json!({ "job": "p", "route": format!("/{route}") });
                    prometheus(
                        "web-1",
                        server.now - 50_000 + n * 2_000,
                        REQUESTS,
                        (1000 * route + n) as f64,
                        &labels,
                    )
                })
                .collect();
            server.add("metricbeat", &many).await;
            let first = server.reading(&source, asked()).await.unwrap();
            assert!(first.samples.is_empty() && first.at_least.is_empty(), "{first:?}");
            let cause = &first.causes[&MemberName("web-1".to_owned())];
            assert!(cause.contains("new series"), "{cause}");
            // By then the fields were asked about again: five routes, each one more every 2 s.
            let rate = server.read(&source, asked()).await.unwrap()[0].value;
            assert_close(rate, 2.5, "rate");
        },
    )
    .await;
}

#[tokio::test]
async fn only_the_windows_documents_count() {
    with_server("only_the_windows_documents_count", async |server: Arc<Server>| {
        let documents = [
            cpu("old", server.now - 61_000, 0.9),
            cpu("edge", server.now - 59_000, 0.8),
            cpu("future", server.now + 60_000, 0.1),
            cpu("ahead", server.now + 3_000, 0.4),
            cpu("both", server.now - 1_000, 0.5),
            cpu("both", server.now + 60_000, 0.1),
            cpu("stranger", server.now - 1_000, 0.9),
        ];
        server.add("metricbeat", &documents).await;
        let asked = preset("cpu", &["old", "edge", "future", "ahead", "both"], 60);
        let samples = by_host(server.read(&server.source("metricbeat"), asked).await.unwrap());
        let expected = [
            ("ahead".to_owned(), 0.4, server.now + 3_000),
            ("both".to_owned(), 0.5, server.now - 1_000),
            ("edge".to_owned(), 0.8, server.now - 59_000),
        ];
        assert_eq!(samples, expected);
    })
    .await;
}

#[tokio::test]
async fn filters_are_exact_and_can_exclude() {
    with_server(
        "filters_are_exact_and_can_exclude",
        async |server: Arc<Server>| {
            let gauge = |value, queue| {
                prometheus(
                    "web-1",
                    server.now - 1_000,
                    "queue",
                    value,
                    &json!({ "queue": queue }),
                )
            };
            server
                .add(
                    "metricbeat",
                    &[gauge(1.0, "in box"), gauge(2.0, "in"), gauge(4.0, "out")],
                )
                .await;
            let source = server.source("metricbeat");
            for (filter, expected) in [("in", 2.0), ("!in", 5.0), ("in box", 1.0)] {
                let mut asked = field("prometheus.metrics.queue", PerHost::Last, &["web-1"], 60);
                asked
                    .what
                    .filter
                    .insert("prometheus.labels.queue".to_owned(), filter.to_owned());
                assert_close(
                    server.read(&source, asked).await.unwrap()[0].value,
                    expected,
                    filter,
                );
            }
        },
    )
    .await;
}

#[tokio::test]
async fn a_series_of_more_documents_than_are_read_is_cut_to_its_newest() {
    with_server(
        "a_series_of_more_documents_than_are_read_is_cut_to_its_newest",
        async |server: Arc<Server>| {
            let documents: Vec<Value> = (0..150)
                .map(|n| cpu("web-1", server.now - n * 1_000, if n < 100 { 0.5 } else { 0.9 }))
                .collect();
            server.add("metricbeat", &documents).await;
            let samples = server
                .read(&server.source("metricbeat"), preset("cpu", &["web-1"], 600))
                .await
                .unwrap();
            assert_close(samples[0].value, 0.5, "mean of the newest hundred");
        },
    )
    .await;
}

#[tokio::test]
async fn series_that_can_not_be_told_apart_have_no_value() {
    with_server(
        "series_that_can_not_be_told_apart_have_no_value",
        async |server: Arc<Server>| {
            let sensor = |name: &str, value| {
                let mut document = cpu("web-1", server.now - 1_000, 0.0);
                document["sensor"] = json!({ "name": name, "celsius": value });
                document
            };
            server
                .add("metricbeat", &[sensor("a", 40.5), sensor("b", 50.5)])
                .await;
            let asked = || field("sensor.celsius", PerHost::Last, &["web-1"], 60);
            let blind = server
                .reading(&server.source("metricbeat"), asked())
                .await
                .unwrap();
            assert!(blind.samples.is_empty() && blind.at_least.is_empty(), "{blind:?}");
            let cause = &blind.causes[&MemberName("web-1".to_owned())];
            assert!(cause.contains("series_fields"), "{cause}");
            let config = ElasticsearchConfig {
                series_fields: vec!["sensor.name".to_owned()],
                ..server.config("metricbeat")
            };
            let seeing = ElasticsearchSource::new(config).unwrap();
            assert_close(
                server.read(&seeing, asked()).await.unwrap()[0].value,
                91.0,
                "sum of both",
            );
        },
    )
    .await;
}

#[tokio::test]
async fn an_index_that_is_not_there_is_empty_by_pattern_and_an_error_by_name() {
    with_server("an_index_that_is_not_there_is_empty_by_pattern_and_an_error_by_name", async |server: Arc<Server>| {
        let asked = || preset("cpu", &["web-1"], 60);
        assert_eq!(server.read(&server.source("none-*"), asked()).await.unwrap(), []);
        let named = server.read(&server.source("none"), asked()).await;
        assert!(matches!(&named, Err(MetricError::Failed { reason, .. }) if reason.contains("index_not_found")), "{named:?}");
    })
    .await;
}

#[tokio::test]
async fn indices_that_disagree_about_the_host_fail_while_both_are_recent() {
    with_server(
        "indices_that_disagree_about_the_host_fail_while_both_are_recent",
        async |server: Arc<Server>| {
            server.create_with_template("metricbeat-new").await;
            server
                .add("metricbeat-new", &[cpu("web-1", server.now - 1_000, 0.5)])
                .await;
            server
                .add("metricbeat-old", &[cpu("web-1", server.now - 7_200_000, 0.9)])
                .await;
            let asked = || preset("cpu", &["web-1"], 60);
            // The old index has nothing of the last hour, so its mapping is nobody's trouble.
            assert_close(
                server
                    .read(&server.source("metricbeat-*"), asked())
                    .await
                    .unwrap()[0]
                    .value,
                0.5,
                "old index",
            );
            server
                .add("metricbeat-old", &[cpu("web-2", server.now - 1_000, 0.9)])
                .await;
            let both = server.read(&server.source("metricbeat-*"), asked()).await;
            assert!(
                matches!(&both, Err(MetricError::Failed { reason, .. }) if reason.contains("not a keyword")),
                "{both:?}"
            );
        },
    )
    .await;
}
