//! Tags and actions.

use serde_json::json;
use tidepool_autoscaler::provider::digitalocean::{DropletTemplate, ImageRef};
use tidepool_autoscaler::provider::{Provider, ProviderErrorKind};
use tidepool_autoscaler_core::observe::MemberId;
use wiremock::matchers::{body_json, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::{InTurn, droplet, id, kind, provider, refusal, server_with, template, web};

#[tokio::test]
async fn admitting_makes_the_tag_when_nobody_has_yet() {
    let resources = json!({ "resources": [{ "resource_id": "42", "resource_type": "droplet" }] });
    let unknown = || refusal(404, "not_found", "The resource you requested could not be found.");
    let tagging = Mock::given(method("POST"))
        .and(path("/v2/tags/serving:web/resources"))
        .and(body_json(resources));
    let making = Mock::given(method("POST"))
        .and(path("/v2/tags"))
        .and(body_json(json!({ "name": "serving:web" })));
    let server = server_with(vec![
        tagging
            .respond_with(InTurn::new(vec![unknown(), ResponseTemplate::new(204)]))
            .expect(3),
        making
            .respond_with(
                ResponseTemplate::new(201).set_body_json(json!({ "tag": { "name": "serving:web" } })),
            )
            .expect(1),
    ])
    .await;
    let provider = provider(&server);
    provider.serving_admit(&web(), &id(42)).await.unwrap();
    provider.serving_admit(&web(), &id(42)).await.unwrap();
}

#[tokio::test]
async fn admitting_a_droplet_that_is_gone_says_so() {
    let gone = refusal(404, "not_found", "The resource you requested could not be found.");
    let server = server_with(vec![
        Mock::given(path("/v2/tags/draining:web/resources"))
            .respond_with(gone)
            .expect(2),
        Mock::given(path("/v2/tags")).respond_with(ResponseTemplate::new(201).set_body_json(json!({}))),
    ])
    .await;
    assert_eq!(
        kind(provider(&server).draining_mark(&web(), &id(42)).await),
        ProviderErrorKind::NotFound
    );
}

#[tokio::test]
async fn withdrawing_and_destroying_succeed_on_what_is_gone() {
    let resources = json!({ "resources": [{ "resource_id": "42", "resource_type": "droplet" }] });
    let gone = refusal(404, "not_found", "The resource you requested could not be found.");
    for answer in [ResponseTemplate::new(204), gone] {
        let answer = || answer.clone();
        let server = server_with(vec![
            Mock::given(method("DELETE"))
                .and(path("/v2/tags/serving:web/resources"))
                .and(body_json(&resources))
                .respond_with(answer())
                .expect(1),
            Mock::given(method("DELETE"))
                .and(path("/v2/droplets/42"))
                .respond_with(answer())
                .expect(1),
        ])
        .await;
        let provider = provider(&server);
        provider.serving_withdraw(&web(), &id(42)).await.unwrap();
        provider.member_destroy(&id(42)).await.unwrap();
    }
}

#[tokio::test]
async fn an_id_that_is_none_is_never_sent() {
    let server = MockServer::start().await;
    let provider = provider(&server);
    for odd in ["", "1/actions", "..", "7?tag_name=x", "abc"] {
        assert_eq!(
            kind(provider.member_destroy(&MemberId(odd.to_owned())).await),
            ProviderErrorKind::Invalid
        );
        assert_eq!(
            kind(provider.member_shutdown(&MemberId(odd.to_owned())).await),
            ProviderErrorKind::Invalid
        );
    }
    assert_eq!(server.received_requests().await.unwrap().len(), 0);
}

#[tokio::test]
async fn stopping_succeeds_on_what_is_off() {
    let already = || refusal(422, "unprocessable_entity", "Droplet is already powered off.");
    let pending = || {
        refusal(
            422,
            "unprocessable_entity",
            "Droplet already has a pending event.",
        )
    };
    let started = || {
        ResponseTemplate::new(201).set_body_json(json!({ "action": { "id": 1, "status": "in-progress" } }))
    };
    let table = [
        (started(), "active", Ok(())),
        (already(), "off", Ok(())),
        (already(), "active", Err(ProviderErrorKind::Invalid)),
        (pending(), "active", Err(ProviderErrorKind::Transient)),
        (
            refusal(404, "not_found", "gone"),
            "active",
            Err(ProviderErrorKind::NotFound),
        ),
        (
            refusal(500, "server_error", "oops"),
            "active",
            Err(ProviderErrorKind::UnknownOutcome),
        ),
    ];
    for (answer, status, expected) in table {
        for action in ["shutdown", "power_off"] {
            let one = json!({ "droplet": droplet(42, "web-a", status, &["pool:web"]) });
            let acting = Mock::given(method("POST"))
                .and(path("/v2/droplets/42/actions"))
                .and(body_json(json!({ "type": action })));
            let server = server_with(vec![
                acting.respond_with(answer.clone()).expect(1),
                Mock::given(method("GET"))
                    .and(path("/v2/droplets/42"))
                    .respond_with(ResponseTemplate::new(200).set_body_json(one)),
            ])
            .await;
            let provider = provider(&server);
            let outcome = match action {
                "shutdown" => provider.member_shutdown(&id(42)).await,
                _ => provider.member_power_off(&id(42)).await,
            };
            assert_eq!(
                outcome.map_err(|error| error.kind),
                expected,
                "{action} of one that is {status}"
            );
        }
    }
}

#[test]
fn a_template_that_would_be_refused_is_reported_in_full() {
    let wrong = DropletTemplate {
        region: String::new(),
        image: ImageRef::Slug(String::new()),
        tags: vec![
            "fine:tag_1-a".to_owned(),
            "no blanks".to_owned(),
            "serving:web".to_owned(),
        ],
        user_data: Some("x".repeat((64 << 10) + 1)),
        ..template()
    };
    let fields: Vec<String> = wrong.problems().into_iter().map(|(field, _)| field).collect();
    assert_eq!(fields, ["region", "image", "tags[1]", "tags[2]", "user_data"]);
    assert_eq!(template().problems(), []);
}
