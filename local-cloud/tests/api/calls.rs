//! What all calls share: the token, what is unreadable, rate limits.

use reqwest::Method;
use serde_json::Value;

use crate::common::{Cloud, reply_of};

#[tokio::test]
async fn a_token_is_needed_and_any_will_do_unless_one_is_set() {
    let cloud = Cloud::start(&[]);
    for token in [None, Some(""), Some(" ")] {
        let reply = cloud
            .call_as(token, Method::GET, "/v2/account", &Value::Null)
            .await;
        assert_eq!(
            (reply.status, reply.text("/id")),
            (401, "unauthorized".into()),
            "{token:?}"
        );
        assert!(!reply.text("/request_id").is_empty());
    }
    assert_eq!(
        cloud
            .call_as(Some("anything"), Method::GET, "/v2/account", &Value::Null)
            .await
            .status,
        200
    );
    let strict = Cloud::start(&["--token", "right"]);
    assert_eq!(
        strict
            .call_as(Some("wrong"), Method::GET, "/v2/account", &Value::Null)
            .await
            .status,
        401
    );
    assert_eq!(
        strict
            .call_as(Some("right"), Method::GET, "/v2/account", &Value::Null)
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn unreadable_requests_get_their_reason() {
    let cloud = Cloud::start(&[]);
    for (method, path, status) in [
        (Method::GET, "/", 404),
        (Method::GET, "/v2/nothing", 404),
        (Method::GET, "/v2/droplets/1", 404),
        (Method::GET, "/v2/droplets/abc", 404),
        (Method::GET, "/v2/actions/1", 404),
        (Method::GET, "/v2/tags/none", 404),
        (Method::DELETE, "/v2/tags/none", 404),
        (Method::GET, "/v2/load_balancers/none", 404),
        (Method::GET, "/v2/vpcs/none", 404),
        (Method::GET, "/v2/images/none", 404),
        (Method::GET, "/v2/account/keys/1", 404),
        (Method::GET, "/v2/snapshots/1", 404),
        (Method::DELETE, "/v2/droplets", 422),
        (Method::POST, "/v2/account", 405),
        (Method::PATCH, "/v2/droplets", 405),
        (Method::PUT, "/v2/tags", 405),
        (Method::POST, "/v2/regions", 405),
        (Method::PUT, "/_local/state", 405),
        (Method::GET, "/_local/else", 404),
    ] {
        let reply = cloud.call(method.clone(), path, Value::Null).await;
        assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
        for field in ["/id", "/message", "/request_id"] {
            assert!(!reply.text(field).is_empty(), "{method} {path} {field}");
        }
    }
    let http = crate::common::client();
    for (body, status) in [("{", 400), ("[]", 400), ("7", 400), ("\"x\"", 400), ("", 422)] {
        let request = http
            .post(format!("{}/v2/droplets", cloud.url))
            .bearer_auth("t")
            .body(body);
        let answer = reply_of(request.send().await.unwrap()).await;
        assert_eq!(answer.status, status, "{body:?}: {answer:?}");
    }
    let large = http
        .post(format!("{}/v2/droplets", cloud.url))
        .bearer_auth("t")
        .body("x".repeat(1_100_000));
    assert_eq!(large.send().await.unwrap().status(), 413);
}

#[tokio::test]
async fn rate_limits_are_shown_and_enforced() {
    let cloud = Cloud::start(&[]);
    let reply = cloud.get("/v2/account").await;
    assert_eq!(reply.header("ratelimit-limit"), Some(100_000));
    assert_eq!(reply.header("ratelimit-remaining"), Some(99_999));
    assert!(reply.header("ratelimit-reset").unwrap() > 1_700_000_000);
    assert!(reply.headers.contains_key("x-request-id") && reply.header("retry-after").is_none());
    // Later flags win over the harness's own.
    let tight = Cloud::start(&["--rate-limit-per-minute", "3"]);
    for _ in 0..3 {
        assert_eq!(tight.get("/v2/account").await.status, 200);
    }
    let refused = tight.get("/v2/account").await;
    assert_eq!(
        (refused.status, refused.text("/id")),
        (429, "too_many_requests".into())
    );
    assert_eq!(refused.header("ratelimit-remaining"), Some(0));
    let wait = refused.header("retry-after").unwrap();
    assert!((50..=60).contains(&wait), "{wait}");
    assert_eq!(
        tight
            .call_as(Some("other"), Method::GET, "/v2/account", &Value::Null)
            .await
            .status,
        200
    );
}
