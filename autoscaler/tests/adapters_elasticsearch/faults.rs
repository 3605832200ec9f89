//! Answers that are errors, late, torn or garbage: none of them is ever taken for values.

use std::time::Duration;

use serde_json::{Value, json};
use tidepool_autoscaler::metrics::elasticsearch::{Auth, ElasticsearchConfig, ElasticsearchSource};
use tidepool_autoscaler::metrics::{MetricError, MetricSource};
use tidepool_autoscaler_core::observe::{MemberName, Reading, Sample, UnixMillis};
use wiremock::matchers::{header, method, path, path_regex};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::preset;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn source_at(uri: &str, auth: Auth) -> ElasticsearchSource {
    patient(uri, auth, Duration::from_secs(20))
}

fn patient(uri: &str, auth: Auth, timeout: Duration) -> ElasticsearchSource {
    ElasticsearchSource::new(ElasticsearchConfig {
        timeout,
        ..ElasticsearchConfig::new(uri.to_owned(), auth)
    })
    .unwrap()
}

fn fields() -> Value {
    let keyword = json!({ "keyword": { "type": "keyword", "searchable": true, "aggregatable": true } });
    json!({ "indices": ["metricbeat"], "fields": { "host.name": keyword } })
}

/// A whole answer to one search: web-1 at 50 %.
fn whole() -> Value {
    json!({
        "took": 3, "timed_out": false, "_shards": { "total": 1, "successful": 1, "skipped": 0, "failed": 0 }, "status": 200,
        "hits": { "max_score": null, "hits": [] },
        "aggregations": { "series": { "after_key": { "host": "web-1" }, "buckets": [{
            "key": { "host": "web-1" }, "doc_count": 1,
            "newest": { "hits": { "hits": [
                { "_source": { "system": { "cpu": { "total": { "norm": { "pct": 0.5 } } } } }, "sort": [NOW.0 - 1_000] }
            ] } }
        }] } }
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut answer = whole();
    match answer.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => answer[pointer.trim_start_matches('/')] = value,
    }
    answer
}

async fn server(search: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    let ok = ResponseTemplate::new(200).set_body_json(fields());
    Mock::given(method("POST"))
        .and(path_regex("/metricbeat-.*/_field_caps$"))
        .respond_with(ok)
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .and(path("/_msearch"))
        .respond_with(search)
        .mount(&server)
        .await;
    server
}

async fn reading(server: &MockServer) -> Result<Reading, MetricError> {
    source_at(&server.uri(), Auth::Anonymous)
        .read(&[preset("cpu", &["web-1"], 60)], NOW)
        .await
        .remove(0)
}

/// The whole values.
async fn read(server: &MockServer) -> Result<Vec<Sample>, MetricError> {
    reading(server).await.map(|reading| reading.samples)
}

fn responses(all: &[Value]) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({ "took": 5, "responses": all }))
}

fn failed<T: std::fmt::Debug>(outcome: Result<T, MetricError>) -> String {
    match outcome {
        Err(MetricError::Failed { reason, .. }) => reason,
        other => panic!("not failed: {other:?}"),
    }
}

fn incomplete<T: std::fmt::Debug>(outcome: Result<T, MetricError>) -> String {
    match outcome {
        Err(MetricError::Incomplete { reason, .. }) => reason,
        other => panic!("not incomplete: {other:?}"),
    }
}

#[tokio::test]
async fn a_whole_answer_is_read() {
    let samples = read(&server(responses(&[whole()])).await).await.unwrap();
    assert_eq!(samples.len(), 1);
    assert_eq!(
        (samples[0].value, samples[0].at),
        (0.5, UnixMillis(NOW.0 - 1_000))
    );
}

#[tokio::test]
async fn an_http_error_fails_with_its_reason() {
    let blocked = json!({ "error": { "type": "cluster_block_exception", "reason": "blocked by: state not recovered",
        "root_cause": [] }, "status": 503 });
    let down = ResponseTemplate::new(503).set_body_json(blocked);
    assert_eq!(
        failed(read(&server(down).await).await),
        "HTTP 503: cluster_block_exception: blocked by: state not recovered"
    );
    for status in [401, 403, 404, 429, 500, 502] {
        let reason = failed(read(&server(ResponseTemplate::new(status)).await).await);
        assert_eq!(reason, format!("HTTP {status}"));
    }
}

/// As gateways give it, of the whole request, of one search, and of what is asked beside.
#[tokio::test]
async fn an_error_with_the_status_200_fails_with_its_reason() {
    let error = json!({ "error": { "root_cause": [], "type": "security_exception", "reason": "missing credentials" }, "status": 401 });
    let whole_request = ResponseTemplate::new(200).set_body_json(&error);
    let expected = "the answer is an error: security_exception: missing credentials";
    assert_eq!(failed(read(&server(whole_request.clone()).await).await), expected);
    let beside = with("/error", error["error"].clone());
    let reason = failed(read(&server(responses(&[beside])).await).await);
    assert_eq!(reason, "security_exception: missing credentials");
    let server = MockServer::start().await;
    Mock::given(path_regex("_field_caps$"))
        .respond_with(whole_request)
        .mount(&server)
        .await;
    assert_eq!(failed(read(&server).await), expected);
}

#[tokio::test]
async fn documents_without_a_value_are_called_so() {
    let source = "/aggregations/series/buckets/0/newest/hits/hits/0/_source";
    let answer = with(source, json!(null));
    let reading = reading(&server(responses(&[answer])).await).await.unwrap();
    let cause = &reading.causes[&MemberName("web-1".to_owned())];
    assert_eq!(cause, "its documents hold no value of this signal");
}

#[tokio::test]
async fn an_answer_that_is_not_whole_is_incomplete() {
    let shards = json!({ "total": 5, "successful": 4, "failed": 1, "failures": [
        { "shard": 0, "reason": { "type": "node_disconnected_exception", "reason": "node left" } }] });
    let table = [
        (with("/timed_out", json!(true)), "the search timed out"),
        (
            with("/terminated_early", json!(true)),
            "the search was ended early",
        ),
        (
            with("/is_partial", json!(true)),
            "the answer says that it is partial",
        ),
        (
            with("/_shards", shards),
            "1 of 5 shards failed: node_disconnected_exception: node left",
        ),
        (
            with("/_clusters", json!({ "total": 3, "successful": 1, "skipped": 2 })),
            "2 remote clusters did not answer in full",
        ),
        // Shards that are missing are neither failed nor skipped.
        (
            with(
                "/_shards",
                json!({ "total": 2, "successful": 1, "skipped": 0, "failed": 0 }),
            ),
            "1 of 2 shards did not answer",
        ),
        (
            with(
                "/_shards",
                json!({ "total": 5, "successful": 0, "skipped": 4, "failed": 0 }),
            ),
            "5 of 5 shards did not answer",
        ),
        (
            with(
                "/_shards",
                json!({ "total": 2, "successful": 2, "failed": 0, "failures": [
                { "shard": 1, "reason": { "type": "circuit_breaking_exception", "reason": "Data too large" } }] }),
            ),
            "1 of 2 shards failed: circuit_breaking_exception: Data too large",
        ),
        (
            with("/_clusters", json!({ "total": 2, "successful": 1 })),
            "1 remote clusters did not answer in full",
        ),
        (
            with("/_clusters", json!({ "total": 2, "successful": 1, "running": 1 })),
            "1 remote clusters did not answer in full",
        ),
        (
            with(
                "/_clusters",
                json!({ "total": 2, "successful": 2, "details": {
                "eu": { "status": "successful", "timed_out": false },
                "us": { "status": "partial", "timed_out": true } } }),
            ),
            "1 remote clusters did not answer in full",
        ),
        (
            with(
                "/_clusters",
                json!({ "total": 1, "successful": 1, "details": {
                "eu": { "status": "successful", "_shards": { "total": 3, "successful": 2, "failed": 0 } } } }),
            ),
            "1 remote clusters did not answer in full",
        ),
        (
            with("/_clusters", json!({ "total": 1, "successful": 0, "partial": 1 })),
            "1 remote clusters did not answer in full",
        ),
    ];
    for (answer, expected) in table {
        assert_eq!(
            incomplete(read(&server(responses(&[answer])).await).await),
            expected
        );
    }
}

#[tokio::test]
async fn a_document_without_a_time_makes_its_host_unreadable() {
    for sort in [json!([null]), json!(["soon"]), json!([]), json!(null)] {
        let answer = with("/aggregations/series/buckets/0/newest/hits/hits/0/sort", sort);
        let reading = reading(&server(responses(&[answer])).await).await.unwrap();
        assert_eq!((reading.samples.len(), reading.at_least.len()), (0, 0));
        let cause = &reading.causes[&MemberName("web-1".to_owned())];
        assert_eq!(cause, "a document has no time that can be read");
    }
}

#[tokio::test]
async fn documents_that_a_group_leaves_out_make_its_host_unreadable() {
    let answer = with("/aggregations/series/buckets/0/doc_count", json!(6));
    let reading = reading(&server(responses(&[answer])).await).await.unwrap();
    assert_eq!((reading.samples.len(), reading.at_least.len()), (0, 0));
    let cause = &reading.causes[&MemberName("web-1".to_owned())];
    assert_eq!(cause, "1 of 6 of its newest documents are in the answer");
}

#[tokio::test]
async fn garbage_is_not_an_answer() {
    let mut no_aggregations = whole();
    no_aggregations.as_object_mut().unwrap().remove("aggregations");
    let bodies = [
        String::new(),
        "<html>".to_owned(),
        "{}".to_owned(),
        "[]".to_owned(),
        json!({ "responses": [] }).to_string(),
        json!({ "responses": [whole(), whole()] }).to_string(),
        json!({ "responses": [{}] }).to_string(),
        json!({ "responses": [null] }).to_string(),
        json!({ "responses": [no_aggregations] }).to_string(),
        json!({ "responses": [with("/aggregations/series/buckets/0/key", json!({}))] }).to_string(),
        json!({ "responses": [with("/timed_out", json!("no"))] }).to_string(),
    ];
    for body in bodies {
        let answer = ResponseTemplate::new(200).set_body_raw(body.clone(), "application/json");
        let reason = failed(read(&server(answer).await).await);
        assert!(!reason.is_empty(), "{body}");
    }
}

#[tokio::test]
async fn values_that_can_not_be_are_not_samples() {
    for value in [
        json!(null),
        json!("half"),
        json!([0.5, 0.1]),
        json!({ "pct": 0.5 }),
        json!(161),
        json!(-0.3),
    ] {
        let answer = with(
            "/aggregations/series/buckets/0/newest/hits/hits/0/_source/system/cpu/total/norm/pct",
            value.clone(),
        );
        assert_eq!(
            read(&server(responses(&[answer])).await).await.unwrap(),
            [],
            "{value}"
        );
    }
}

#[tokio::test]
async fn hosts_that_nobody_asked_for_are_left_out() {
    let stranger = with("/aggregations/series/buckets/0/key/host", json!("db-1"));
    assert_eq!(read(&server(responses(&[stranger])).await).await.unwrap(), []);
}

#[tokio::test]
async fn one_bad_search_does_not_spoil_the_others() {
    let error = json!({ "status": 400, "error": { "type": "x_content_parse_exception", "reason": "[1:9] unknown field",
        "root_cause": [{ "type": "x_content_parse_exception", "reason": "[1:9] unknown field" }] } });
    let server = server(responses(&[whole(), error, with("/timed_out", json!(true))])).await;
    let queries = [
        preset("cpu", &["web-1"], 60),
        preset("cpu", &["web-1"], 60),
        preset("cpu", &["web-1"], 60),
    ];
    let mut answers = source_at(&server.uri(), Auth::Anonymous)
        .read(&queries, NOW)
        .await
        .into_iter();
    assert_eq!(answers.next().unwrap().unwrap().samples.len(), 1);
    assert_eq!(
        failed(answers.next().unwrap()),
        "x_content_parse_exception: [1:9] unknown field"
    );
    assert_eq!(incomplete(answers.next().unwrap()), "the search timed out");
    assert!(answers.next().is_none());
}

#[tokio::test]
async fn all_queries_go_in_one_search_and_fields_are_asked_about_once() {
    let server = server(responses(&[whole(), whole()])).await;
    let source = source_at(&server.uri(), Auth::Anonymous);
    let queries = [preset("cpu", &["web-1"], 60), preset("cpu", &["web-1"], 90)];
    for _ in 0..3 {
        source
            .read(&queries, NOW)
            .await
            .into_iter()
            .for_each(|answer| drop(answer.unwrap()));
    }
    let received = server.received_requests().await.unwrap();
    let count = |end: &str| {
        received
            .iter()
            .filter(|request| request.url.path().ends_with(end))
            .count()
    };
    assert_eq!(
        (
            count("_msearch"),
            count("_field_caps"),
            count("/_search"),
            received.len()
        ),
        (3, 1, 1, 5)
    );
    let lines = String::from_utf8(received.last().unwrap().body.clone()).unwrap();
    assert_eq!(lines.lines().count(), 4, "{lines}");
}

#[tokio::test]
async fn after_a_failure_fields_are_asked_about_again() {
    let server = server(responses(&[with("/timed_out", json!(true))])).await;
    let source = source_at(&server.uri(), Auth::Anonymous);
    for _ in 0..2 {
        incomplete(source.read(&[preset("cpu", &["web-1"], 60)], NOW).await.remove(0));
    }
    let received = server.received_requests().await.unwrap();
    assert_eq!(
        received
            .iter()
            .filter(|request| request.url.path().ends_with("_field_caps"))
            .count(),
        2
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_left_in_time() {
    let started = std::time::Instant::now();
    let slow = server(responses(&[whole()]).set_delay(Duration::from_secs(60))).await;
    let source = patient(&slow.uri(), Auth::Anonymous, Duration::from_millis(1_500));
    let mut answers = source.read(&[preset("cpu", &["web-1"], 60)], NOW).await;
    let reason = failed(answers.remove(0));
    assert!(
        reason.contains("within 1500 ms") || reason.contains("timed out"),
        "{reason}"
    );
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_server_that_is_down_fails_every_signal() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let source = source_at(&format!("http://user:secret@127.0.0.1:{port}"), Auth::Anonymous);
    let queries = [preset("cpu", &["web-1"], 60), preset("load", &["web-1"], 60)];
    let answers = source.read(&queries, NOW).await;
    assert_eq!(answers.len(), 2);
    for answer in answers {
        let reason = failed(answer);
        assert!(
            reason.contains("refused") && !reason.contains("secret"),
            "{reason}"
        );
    }
}

#[test]
fn an_address_with_a_password_is_never_printed() {
    let source = source_at("http://user:secret@127.0.0.1:9", Auth::Anonymous);
    let printed = format!("{source:?}");
    assert!(!printed.contains("secret"), "{printed}");
}

#[tokio::test]
async fn credentials_are_sent_and_never_printed() {
    let basic = Auth::Basic {
        username: "tide".to_owned(),
        password: "pool".to_owned(),
    };
    let key = Auth::ApiKey("VnVhQ2ZHY0JDZGJrUW0=".to_owned());
    for (auth, expected) in [
        (basic, "Basic dGlkZTpwb29s"),
        (key, "ApiKey VnVhQ2ZHY0JDZGJrUW0="),
    ] {
        let printed = format!(
            "{:?}",
            ElasticsearchConfig::new("http://es".to_owned(), auth.clone())
        );
        assert!(
            printed.contains("[redacted]") && !printed.contains("pool") && !printed.contains("VnVh"),
            "{printed}"
        );
        let server = MockServer::start().await;
        let caps = ResponseTemplate::new(200).set_body_json(fields());
        for (at, answer) in [
            ("/metricbeat-*/_field_caps", caps),
            ("/_msearch", responses(&[whole()])),
        ] {
            let at = path(at);
            Mock::given(header("authorization", expected))
                .and(at)
                .respond_with(answer)
                .mount(&server)
                .await;
        }
        let mut answers = source_at(&server.uri(), auth)
            .read(&[preset("cpu", &["web-1"], 60)], NOW)
            .await;
        let answer = answers.remove(0);
        if let Err(error) = answer {
            let paths: Vec<String> = server
                .received_requests()
                .await
                .unwrap()
                .iter()
                .map(|r| r.url.path().to_owned())
                .collect();
            panic!("{error}; asked: {paths:?}");
        }
    }
}

#[tokio::test]
async fn nothing_is_asked_when_nothing_is_wanted() {
    let server = MockServer::start().await;
    assert!(
        source_at(&server.uri(), Auth::Anonymous)
            .read(&[], NOW)
            .await
            .is_empty()
    );
    assert_eq!(server.received_requests().await.unwrap().len(), 0);
}

#[test]
fn an_invalid_address_is_refused() {
    for bad in ["", "localhost:9200", "ftp://es:9200", "http://"] {
        let config = ElasticsearchConfig::new(bad.to_owned(), Auth::Anonymous);
        assert!(ElasticsearchSource::new(config).is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn whoever_answers_in_elasticsearchs_place_is_quoted() {
    let page = "<html>\n<head><title>502 Bad Gateway</title></head>\n</html>";
    for (status, body, expected) in [
        (
            502,
            page,
            "HTTP 502: <html> <head><title>502 Bad Gateway</title></head> </html>",
        ),
        (
            503,
            "Server Temporarily Unavailable\n",
            "HTTP 503: Server Temporarily Unavailable",
        ),
        (
            200,
            page,
            "the answer is not the JSON that was asked for: <html> <head><title>502 Bad Gateway</title></head> </html>",
        ),
        (
            200,
            "{\"tagline\":\"You Know, for Search\"}",
            "the answer is not the JSON that was asked for: missing field `responses` at line 1 column 34",
        ),
    ] {
        let answer = ResponseTemplate::new(status).set_body_raw(body, "text/html");
        assert_eq!(failed(read(&server(answer).await).await), expected);
    }
}

#[tokio::test]
async fn a_refusal_that_repeats_the_credentials_is_not_quoted_with_them() {
    let auth = Auth::ApiKey("VnVhQ2ZHY0JDZGJrUW0=".to_owned());
    let echo = ResponseTemplate::new(401).set_body_string("bad header: ApiKey VnVhQ2ZHY0JDZGJrUW0=");
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(echo)
        .mount(&server)
        .await;
    let mut answers = source_at(&server.uri(), auth)
        .read(&[preset("cpu", &["web-1"], 60)], NOW)
        .await;
    assert_eq!(
        failed(answers.remove(0)),
        "HTTP 401: bad header: ApiKey [redacted]"
    );
}

#[tokio::test]
async fn an_answer_without_a_length_is_read_no_further_than_its_bound() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    // Never ends, and says no length.
    let sender = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        // Whatever came of the request: it is answered all the same.
        let _count = stream.read(&mut request).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let blank = vec![b' '; 1 << 20];
        let mut sent = 0_usize;
        while stream.write_all(&blank).await.is_ok() {
            sent += blank.len();
        }
        sent
    });
    let config = ElasticsearchConfig {
        timeout: Duration::from_secs(60),
        ..ElasticsearchConfig::new(uri, Auth::Anonymous)
    };
    let source = ElasticsearchSource::new(config).unwrap();
    let mut answers = source.read(&[preset("cpu", &["web-1"], 60)], NOW).await;
    assert_eq!(
        failed(answers.remove(0)),
        "the answer has more than 67108864 bytes"
    );
    let sent = sender.await.unwrap();
    assert!(sent < 96 << 20, "{sent}");
}

#[tokio::test]
async fn a_host_without_a_value_has_the_reason_beside_it() {
    for (field, value, expected) in [
        (
            "pct",
            json!(161),
            "a value of 161 is outside the signal's range (0 to 1)",
        ),
        ("pct", json!("half"), "\"half\" is not a number"),
        ("pct", json!([0.5, 0.1]), "one document holds 2 values"),
    ] {
        let pointer = "/aggregations/series/buckets/0/newest/hits/hits/0/_source/system/cpu/total/norm";
        let answer = with(pointer, json!({ field: value }));
        let reading = reading(&server(responses(&[answer])).await).await.unwrap();
        let causes: Vec<_> = reading.causes.into_iter().collect();
        assert_eq!(causes, [(MemberName("web-1".to_owned()), expected.to_owned())]);
    }
    let empty = with("/aggregations/series/buckets", json!([]));
    let reading = reading(&server(responses(&[empty])).await).await.unwrap();
    let cause = &reading.causes[&MemberName("web-1".to_owned())];
    assert_eq!(
        cause,
        "no index that matches \"metricbeat-*\" has a field \"system.cpu.total.norm.pct\""
    );
}
