//! Signals that can't be trusted.

use std::sync::Arc;
use std::time::Duration;

use tidepool_autoscaler::metrics::MetricSource;
use tidepool_autoscaler::metrics::elasticsearch::{Auth, ElasticsearchConfig, ElasticsearchSource};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::stage::{Says, metrics, stage};

#[tokio::test]
async fn a_signal_that_can_be_trusted_shrinks_and_grows_the_pool() {
    // Without this, the tests that nothing shrinks would prove nothing.
    let source = metrics(Says::Idle);
    let stage = stage(&[("api", 5)], source.clone(), "");
    stage.rounds(5).await;
    assert_eq!(stage.cloud("api").count(), 2);
    *source.0.lock().unwrap() = Says::Busy;
    stage.rounds(20).await;
    assert_eq!(stage.cloud("api").count(), 10);
}

/// Never shrinks, never grows for nothing, and the bounds hold.
async fn holds(source: &Arc<dyn MetricSource>, what: &str) {
    let pools = [("low", 1), ("right", 5), ("high", 12)];
    let stage = stage(&pools, Arc::clone(source), "");
    stage.rounds(12).await;
    let counts: Vec<usize> = ["low", "right", "high"]
        .map(|pool| stage.cloud(pool).count())
        .to_vec();
    assert_eq!(counts, [2, 5, 10], "{what}");
}

#[tokio::test]
async fn a_signal_that_cannot_be_trusted_never_shrinks_a_pool_and_the_bounds_hold() {
    for says in [
        Says::Failed,
        Says::Incomplete,
        Says::Nothing,
        Says::Old,
        Says::Future,
        Says::Half,
        Says::NotNumbers,
        Says::Panic,
    ] {
        let source: Arc<dyn MetricSource> = metrics(says);
        holds(&source, &format!("{says:?}")).await;
    }
}

fn elasticsearch(url: String) -> Arc<dyn MetricSource> {
    let config = ElasticsearchConfig {
        timeout: Duration::from_secs(2),
        ..ElasticsearchConfig::new(url, Auth::Anonymous)
    };
    Arc::new(ElasticsearchSource::new(config).unwrap())
}

#[tokio::test]
async fn an_elasticsearch_that_is_down_never_shrinks_a_pool_and_the_bounds_hold() {
    // A port that was free a moment ago, on an address that nobody else uses.
    let port = std::net::TcpListener::bind("127.77.3.10:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    holds(&elasticsearch(format!("http://127.77.3.10:{port}")), "down").await;
}

#[tokio::test]
async fn an_elasticsearch_that_answers_errors_never_shrinks_a_pool_and_the_bounds_hold() {
    let shards = r#"{"total":2,"successful":1,"skipped":0,"failed":1}"#;
    let empty = r#"{"took":1,"timed_out":true,"_shards":{"total":1,"successful":1,"skipped":0,"failed":0},"hits":{"hits":[]}}"#;
    let torn = format!(r#"{{"took":1,"timed_out":false,"_shards":{shards},"hits":{{"hits":[]}}}}"#);
    for (status, body) in [
        (503, "{}".to_owned()),
        (503, "<html>".to_owned()),
        (429, "{}".to_owned()),
        (200, "{}".to_owned()),
        (
            200,
            format!(r#"{{"took":1,"responses":[{empty},{empty},{empty}]}}"#),
        ),
        (200, format!(r#"{{"took":1,"responses":[{torn},{torn},{torn}]}}"#)),
    ] {
        let server = MockServer::start().await;
        let answer = ResponseTemplate::new(status).set_body_raw(body.clone(), "application/json");
        Mock::given(any()).respond_with(answer).mount(&server).await;
        holds(&elasticsearch(server.uri()), &format!("{status} {body}")).await;
        assert!(!server.received_requests().await.unwrap().is_empty());
    }
}
