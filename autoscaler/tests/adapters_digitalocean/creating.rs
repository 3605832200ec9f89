//! Creating, also when the answer is lost.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;
use tidepool_autoscaler::provider::digitalocean::{DropletTemplate, ImageRef, SshKeyRef};
use tidepool_autoscaler::provider::{CreateMember, Provider, ProviderErrorKind};
use wiremock::matchers::{body_json, method, path};
use wiremock::{Mock, ResponseTemplate};

use crate::support::{
    InTurn, Time, calls, create, droplet, id, kind, one_page, provider, provider_at, refusal, server_with,
    template, web,
};

#[tokio::test]
async fn a_create_says_everything_that_was_configured() {
    let configured = DropletTemplate {
        image: ImageRef::Id(7_555_620),
        ssh_keys: vec![
            SshKeyRef::Id(289_794),
            SshKeyRef::Fingerprint("3b:16:e4:bf:8b:00:8b:b8".to_owned()),
        ],
        vpc_uuid: Some("760e09ef-dc84-11e8-981e-3cfdfeaae000".to_owned()),
        tags: vec!["env:prod".to_owned()],
        user_data: Some("#cloud-config\n".to_owned()),
        ..template()
    };
    let expected = json!({
        "name": "web-a", "region": "fra1", "size": "s-1vcpu-1gb", "image": 7_555_620,
        "ssh_keys": [289_794, "3b:16:e4:bf:8b:00:8b:b8"], "backups": false, "ipv6": false, "monitoring": false,
        "tags": ["pool:web", "env:prod"], "user_data": "#cloud-config\n", "vpc_uuid": "760e09ef-dc84-11e8-981e-3cfdfeaae000"
    });
    let answer =
        json!({ "droplet": droplet(3_164_444, "web-a", "new", &["pool:web"]), "links": { "actions": [] } });
    let made = Mock::given(method("POST"))
        .and(path("/v2/droplets"))
        .and(body_json(expected));
    let server = server_with(vec![
        made.respond_with(ResponseTemplate::new(202).set_body_json(answer))
            .expect(1),
    ])
    .await;
    let creating = CreateMember {
        made: configured.made(),
        ..create("web-a")
    };
    let provider = provider_at(&server.uri(), &Time::default(), configured);
    assert_eq!(provider.member_create(&creating).await.unwrap(), id(3_164_444));
}

#[tokio::test]
async fn a_create_with_an_unknown_outcome_is_sent_once() {
    let answers = [
        refusal(500, "server_error", "Unexpected server-side error"),
        refusal(502, "bad_gateway", ""),
        ResponseTemplate::new(503),
        ResponseTemplate::new(504),
        ResponseTemplate::new(408),
        ResponseTemplate::new(202).set_body_raw("{\"droplet\": {\"id\":", "application/json"),
        ResponseTemplate::new(202),
    ];
    for answer in answers {
        let server = server_with(vec![Mock::given(method("POST")).respond_with(answer)]).await;
        let provider = provider(&server);
        for _ in 0..3 {
            assert_eq!(
                kind(provider.member_create(&create("web-a")).await),
                ProviderErrorKind::UnknownOutcome
            );
        }
        assert_eq!(calls(&server, "POST").await, 1);
    }
}

#[tokio::test]
async fn a_create_whose_connection_dies_is_unknown() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        use std::io::Read;
        let (mut stream, _) = listener.accept().unwrap();
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&seen).contains("web-a") {
            let read = stream.read(&mut buffer).unwrap();
            seen.extend_from_slice(&buffer[..read]);
        }
    });
    let error = provider_at(&uri, &Time::default(), template())
        .member_create(&create("web-a"))
        .await
        .unwrap_err();
    server.join().unwrap();
    assert_eq!(error.kind, ProviderErrorKind::UnknownOutcome);
    assert!(error.detail.contains("connection broke"), "{error}");
}

#[tokio::test]
async fn a_create_without_an_answer_in_time_is_unknown() {
    let slow = ResponseTemplate::new(202).set_delay(Duration::from_secs(60));
    let server = server_with(vec![Mock::given(method("POST")).respond_with(slow)]).await;
    let error = provider(&server)
        .member_create(&create("web-a"))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::UnknownOutcome);
    assert!(error.detail.contains("no answer in time"), "{error}");
}

#[tokio::test]
async fn a_create_that_was_never_sent_may_be_sent_again() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let provider = provider_at(&format!("http://127.0.0.1:{port}"), &Time::default(), template());
    for _ in 0..2 {
        assert_eq!(
            kind(provider.member_create(&create("web-a")).await),
            ProviderErrorKind::Transient
        );
    }
}

#[tokio::test]
async fn a_create_that_the_caller_left_waiting_is_not_sent_again() {
    let slow = ResponseTemplate::new(202).set_delay(Duration::from_secs(60));
    let server = server_with(vec![Mock::given(method("POST")).respond_with(slow)]).await;
    let provider = provider(&server);
    let creating = create("web-a");
    let left = tokio::time::timeout(Duration::from_millis(300), provider.member_create(&creating));
    left.await.unwrap_err();
    assert_eq!(
        kind(provider.member_create(&creating).await),
        ProviderErrorKind::UnknownOutcome
    );
    assert!(calls(&server, "POST").await <= 1);
}

#[tokio::test]
async fn a_lost_create_that_worked_is_found_and_not_repeated() {
    let listed = one_page(&[droplet(77, "web-a", "new", &["pool:web"])]);
    let server = server_with(vec![
        Mock::given(method("POST"))
            .respond_with(ResponseTemplate::new(503))
            .expect(1),
        Mock::given(method("GET")).respond_with(ResponseTemplate::new(200).set_body_json(listed)),
    ])
    .await;
    let provider = provider(&server);
    assert_eq!(
        kind(provider.member_create(&create("web-a")).await),
        ProviderErrorKind::UnknownOutcome
    );
    provider.members_list(&web()).await.unwrap();
    assert_eq!(provider.member_create(&create("web-a")).await.unwrap(), id(77));
}

#[tokio::test]
async fn a_lost_create_that_did_not_work_is_repeated_after_a_late_listing() {
    let made = json!({ "droplet": droplet(78, "web-a", "new", &["pool:web"]), "links": {} });
    let answers = vec![
        ResponseTemplate::new(503),
        ResponseTemplate::new(202).set_body_json(made),
    ];
    let server = server_with(vec![
        Mock::given(method("POST"))
            .respond_with(InTurn::new(answers))
            .expect(2),
        Mock::given(method("GET")).respond_with(ResponseTemplate::new(200).set_body_json(one_page(&[]))),
    ])
    .await;
    let time = Time::default();
    let provider = provider_at(&server.uri(), &time, template());
    assert_eq!(
        kind(provider.member_create(&create("web-a")).await),
        ProviderErrorKind::UnknownOutcome
    );
    provider.members_list(&web()).await.unwrap();
    assert_eq!(
        kind(provider.member_create(&create("web-a")).await),
        ProviderErrorKind::UnknownOutcome,
        "listed too soon"
    );
    time.pass_secs(10);
    provider.members_list(&web()).await.unwrap();
    assert_eq!(provider.member_create(&create("web-a")).await.unwrap(), id(78));
}
