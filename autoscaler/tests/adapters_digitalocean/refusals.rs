//! Refusals, each taken as what it means.

use serde_json::json;
use tidepool_autoscaler::provider::{Provider, ProviderErrorKind};
use wiremock::matchers::{method, path};
use wiremock::{Mock, ResponseTemplate};

use crate::support::{TOKEN, create, id, kind, provider, refusal, server_with, web};

#[tokio::test]
async fn refusals_of_a_create_are_told_apart() {
    let table = [
        (
            401,
            "unauthorized",
            "Unable to authenticate you",
            ProviderErrorKind::Denied,
        ),
        (
            403,
            "forbidden",
            "You are not authorized to perform this operation",
            ProviderErrorKind::Denied,
        ),
        (
            403,
            "forbidden",
            "You have reached your droplet limit of 10.",
            ProviderErrorKind::QuotaReached,
        ),
        (
            422,
            "unprocessable_entity",
            "creating this/these droplet(s) will exceed your droplet limit",
            ProviderErrorKind::QuotaReached,
        ),
        (
            422,
            "unprocessable_entity",
            "Size is not available in this region.",
            ProviderErrorKind::Invalid,
        ),
        (400, "bad_request", "invalid JSON", ProviderErrorKind::Invalid),
        (
            409,
            "conflict",
            "another event is in progress",
            ProviderErrorKind::Transient,
        ),
    ];
    for (status, name, message, expected) in table {
        let server = server_with(vec![
            Mock::given(method("POST")).respond_with(refusal(status, name, message)),
        ])
        .await;
        let error = provider(&server)
            .member_create(&create("web-a"))
            .await
            .unwrap_err();
        assert_eq!(error.kind, expected, "{status} {message}");
        assert_eq!(
            error.detail,
            format!("{status} {name}: {message} (request 4d9d8375-3c56)")
        );
        assert!(!format!("{error:?}").contains(TOKEN));
    }
}

#[tokio::test]
async fn a_refusal_in_other_shapes_still_says_what_it_can() {
    let table = [
        (
            json!({ "error": "tag has invalid characters", "messages": null, "root_causes": [] }).to_string(),
            "400 tag has invalid characters (request r-7)",
        ),
        (
            "<html>Bad\r\nRequest</html>".to_owned(),
            "400 Bad Request (request r-7)",
        ),
        (String::new(), "400 (request r-7)"),
    ];
    for (body, expected) in table {
        let answer = ResponseTemplate::new(400)
            .set_body_raw(body, "text/html")
            .insert_header("x-request-id", "r-7");
        let server = server_with(vec![Mock::given(method("POST")).respond_with(answer)]).await;
        let error = provider(&server).serving_admit(&web(), &id(1)).await.unwrap_err();
        assert_eq!(
            (error.kind, error.detail.as_str()),
            (ProviderErrorKind::Invalid, expected)
        );
    }
}

/// B14: pages and texts of what stands between us and the provider.
#[tokio::test]
async fn a_refusal_that_is_not_json_shows_its_first_words() {
    let page = "<!DOCTYPE html><html><head><title>503</title><style>p{}</style></head>\n<body><h1>Server Temporarily\u{0}\nUnavailable</h1></body></html>";
    let long = format!("Too much {}", "of it ".repeat(50_000));
    for (body, mime, expected) in [
        (page, "text/html", "503 503 Server Temporarily Unavailable"),
        (
            "Server Temporarily Unavailable",
            "text/plain",
            "503 Server Temporarily Unavailable",
        ),
        (&long, "text/plain", "503 Too much of it"),
    ] {
        let answer = ResponseTemplate::new(503).set_body_raw(body, mime);
        let server = server_with(vec![Mock::given(path("/v2/droplets")).respond_with(answer)]).await;
        let provider = provider(&server);
        let listed = provider.members_list(&web()).await.unwrap_err();
        let created = provider.member_create(&create("web-a")).await.unwrap_err();
        for (error, kind) in [
            (listed, ProviderErrorKind::Transient),
            (created, ProviderErrorKind::UnknownOutcome),
        ] {
            assert_eq!(error.kind, kind);
            assert!(error.detail.starts_with(expected), "{error}");
            assert!(
                error.detail.len() < 1_000 && !error.detail.contains('\n'),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn a_refusal_that_repeats_the_token_does_not_print_it() {
    for body in [
        format!("bad header Authorization: Bearer {TOKEN}"),
        json!({ "id": "unauthorized", "message": format!("no such token {TOKEN}"), "request_id": TOKEN })
            .to_string(),
        format!("{}{TOKEN}", "x".repeat(190)),
    ] {
        let answer = ResponseTemplate::new(401).set_body_raw(body, "text/plain");
        let server = server_with(vec![Mock::given(path("/v2/droplets")).respond_with(answer)]).await;
        let error = provider(&server).members_list(&web()).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains(&TOKEN[..12]), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = ResponseTemplate::new(302).insert_header("location", "/v2/elsewhere");
    let server = server_with(vec![
        Mock::given(path("/v2/droplets"))
            .respond_with(elsewhere)
            .expect(1),
    ])
    .await;
    assert_eq!(
        kind(provider(&server).members_list(&web()).await),
        ProviderErrorKind::Invalid
    );
}
