//! The DigitalOcean adapter against answers in DigitalOcean's shapes: pages, limits, refusals, and answers that get lost.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tidepool_autoscaler::provider::digitalocean::{
    Account, AddressKind, ApiToken, DigitalOcean, DropletTemplate, ImageRef, SshKeyRef,
};
use tidepool_autoscaler::provider::{CreateMember, Provider, ProviderError, ProviderErrorKind};
use tidepool_autoscaler_core::observe::{
    Member, MemberId, MemberName, PoolName, Power, Readiness, UnixMillis,
};
use wiremock::matchers::{body_json, header, method, path, query_param};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

const T0: i64 = 1_800_000_000_000;
const TOKEN: &str = "dop_v1_not-a-real-token";

/// The time under test: it moves when a test says so.
#[derive(Clone, Default)]
struct Time(Arc<AtomicI64>);

impl Time {
    fn pass_secs(&self, secs: i64) {
        self.0.fetch_add(secs * 1000, Ordering::SeqCst);
    }
}

fn template() -> DropletTemplate {
    DropletTemplate {
        region: "fra1".to_owned(),
        size: "s-1vcpu-1gb".to_owned(),
        image: ImageRef::Slug("tidepool-api".to_owned()),
        ssh_keys: vec![],
        vpc_uuid: None,
        tags: vec![],
        user_data: None,
        address: AddressKind::Private,
    }
}

fn provider_at(uri: &str, time: &Time, template: DropletTemplate) -> DigitalOcean {
    let time = time.clone();
    let clock = Arc::new(move || UnixMillis(T0 + time.0.load(Ordering::SeqCst)));
    let account = Account::new(Some(uri), ApiToken::new(TOKEN).unwrap(), clock).unwrap();
    DigitalOcean::new(
        Arc::new(account.with_call_timeout(Duration::from_secs(2))),
        template,
    )
}

fn provider(server: &MockServer) -> DigitalOcean {
    provider_at(&server.uri(), &Time::default(), template())
}

fn web() -> PoolName {
    PoolName("web".to_owned())
}

fn create(name: &str) -> CreateMember {
    CreateMember {
        pool: web(),
        name: MemberName(name.to_owned()),
    }
}

fn id(number: u64) -> MemberId {
    MemberId(number.to_string())
}

fn droplet(id: u64, name: &str, status: &str, tags: &[&str]) -> Value {
    json!({
        "id": id, "name": name, "memory": 1024, "vcpus": 1, "disk": 25, "locked": false, "status": status, "kernel": null,
        "created_at": "2026-11-21T14:00:05Z", "features": ["private_networking"], "backup_ids": [53893572],
        "next_backup_window": null, "snapshot_ids": [67512819], "volume_ids": [], "size_slug": "s-1vcpu-1gb",
        "image": { "id": 7555620, "name": "Tidepool API", "distribution": "Debian", "slug": "tidepool-api", "public": false },
        "size": { "slug": "s-1vcpu-1gb", "price_hourly": 0.00893 },
        "networks": {
            "v4": [
                { "ip_address": "203.0.113.7", "netmask": "255.255.255.0", "gateway": "203.0.113.1", "type": "public" },
                { "ip_address": "10.114.0.7", "netmask": "255.255.240.0", "gateway": "", "type": "private" }
            ],
            "v6": []
        },
        "region": { "slug": "fra1", "name": "Frankfurt 1", "sizes": [], "features": [], "available": true },
        "tags": tags, "vpc_uuid": "5a4981aa-9653-4bd1-bef5-d6bff52042e4"
    })
}

fn one_page(droplets: &[Value]) -> Value {
    json!({ "droplets": droplets, "links": {}, "meta": { "total": droplets.len() } })
}

fn refusal(status: u16, id: &str, message: &str) -> ResponseTemplate {
    ResponseTemplate::new(status)
        .set_body_json(json!({ "id": id, "message": message, "request_id": "4d9d8375-3c56" }))
}

async fn server_with(mocks: Vec<Mock>) -> MockServer {
    let server = MockServer::start().await;
    for mock in mocks {
        mock.mount(&server).await;
    }
    server
}

/// Answers as the n-th of a row, the last one again and again.
struct InTurn(Vec<ResponseTemplate>, AtomicI64);

impl InTurn {
    fn new(answers: Vec<ResponseTemplate>) -> Self {
        Self(answers, AtomicI64::new(0))
    }
}

impl Respond for InTurn {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        let turn = usize::try_from(self.1.fetch_add(1, Ordering::SeqCst)).unwrap();
        self.0[turn.min(self.0.len() - 1)].clone()
    }
}

async fn calls(server: &MockServer, verb: &str) -> usize {
    server
        .received_requests()
        .await
        .unwrap()
        .iter()
        .filter(|request| request.method.as_str() == verb)
        .count()
}

fn kind<T: std::fmt::Debug>(outcome: Result<T, ProviderError>) -> ProviderErrorKind {
    outcome.unwrap_err().kind
}

// ---- listing ---------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn every_page_is_read_and_the_token_goes_to_no_other_host() {
    let pages = |request: &Request| {
        let page: usize = request
            .url
            .query_pairs()
            .find(|(k, _)| k == "page")
            .unwrap()
            .1
            .parse()
            .unwrap();
        let (from, to) = ((page - 1) * 200, (page * 200).min(450));
        let droplets: Vec<Value> = (from..to)
            .map(|n| droplet(1000 + n as u64, &format!("web-{n}"), "active", &["pool:web"]))
            .collect();
        // As DigitalOcean does, the links name its own host; they must not lead away from the configured one.
        let next = format!(
            "https://api.digitalocean.com/v2/droplets?page={}&per_page=200&tag_name=pool%3Aweb",
            page + 1
        );
        let links = if to < 450 {
            json!({ "pages": { "next": next, "last": "x" } })
        } else {
            json!({ "pages": { "first": "x" } })
        };
        ResponseTemplate::new(200)
            .set_body_json(json!({ "droplets": droplets, "links": links, "meta": { "total": 450 } }))
    };
    let listing = Mock::given(method("GET"))
        .and(path("/v2/droplets"))
        .and(query_param("tag_name", "pool:web"))
        .and(query_param("per_page", "200"))
        .and(header("authorization", format!("Bearer {TOKEN}").as_str()));
    let server = server_with(vec![listing.respond_with(pages).expect(3)]).await;
    let members = provider(&server).members_list(&web()).await.unwrap();
    assert_eq!(members.len(), 450);
    assert_eq!(members[449].name.0, "web-449");
}

#[tokio::test]
async fn a_droplet_is_told_in_our_words() {
    let mut bare = droplet(5, "web-e", "new", &["pool:web"]);
    bare["networks"] = json!({ "v4": [], "v6": [] });
    bare["image"]["slug"] = Value::Null;
    let droplets = [
        droplet(1, "web-a", "active", &["pool:web", "serving:web"]),
        droplet(2, "web-b", "off", &["pool:web", "draining:web", "serving:other"]),
        droplet(3, "web-c", "archive", &["pool:web"]),
        droplet(4, "stranger", "active", &["pool:webshop"]),
        bare,
    ];
    let page = ResponseTemplate::new(200).set_body_json(one_page(&droplets));
    let server = server_with(vec![Mock::given(path("/v2/droplets")).respond_with(page)]).await;
    let members = provider(&server).members_list(&web()).await.unwrap();
    let expected = |number, name: &str, power, serving, draining| Member {
        id: id(number),
        name: MemberName(name.to_owned()),
        created_at: UnixMillis(1_795_269_605_000),
        power,
        serving,
        draining,
        readiness: Readiness::Unknown,
        address: Some("10.114.0.7".parse().unwrap()),
        image: "tidepool-api".to_owned(),
    };
    let no_address = Member {
        address: None,
        image: "7555620".to_owned(),
        ..expected(5, "web-e", Power::Creating, false, false)
    };
    assert_eq!(
        members,
        [
            expected(1, "web-a", Power::Running, true, false),
            expected(2, "web-b", Power::Off, false, true),
            expected(3, "web-c", Power::Off, false, false),
            no_address,
        ]
    );
    let public = provider_at(
        &server.uri(),
        &Time::default(),
        DropletTemplate {
            address: AddressKind::Public,
            ..template()
        },
    );
    assert_eq!(
        public.members_list(&web()).await.unwrap()[0].address,
        Some("203.0.113.7".parse().unwrap())
    );
}

#[tokio::test]
async fn pages_that_do_not_add_up_are_read_again_and_never_believed() {
    let whole = one_page(&[droplet(1, "web-a", "active", &["pool:web"])]);
    let torn = json!({ "droplets": whole["droplets"], "links": {}, "meta": { "total": 2 } });
    let answers = |bodies: &[&Value]| {
        InTurn::new(
            bodies
                .iter()
                .map(|b| ResponseTemplate::new(200).set_body_json(b))
                .collect(),
        )
    };
    let server = server_with(vec![
        Mock::given(path("/v2/droplets")).respond_with(answers(&[&torn, &whole])),
    ])
    .await;
    assert_eq!(provider(&server).members_list(&web()).await.unwrap().len(), 1);
    let server = server_with(vec![
        Mock::given(path("/v2/droplets")).respond_with(answers(&[&torn])),
    ])
    .await;
    assert_eq!(
        kind(provider(&server).members_list(&web()).await),
        ProviderErrorKind::Transient
    );
}

#[tokio::test]
async fn pages_without_an_end_are_left() {
    let body = json!({ "droplets": [], "links": { "pages": { "next": "/v2/droplets?page=2" } }, "meta": { "total": 0 } });
    let server = server_with(vec![
        Mock::given(path("/v2/droplets")).respond_with(ResponseTemplate::new(200).set_body_json(body)),
    ])
    .await;
    let error = provider(&server).members_list(&web()).await.unwrap_err();
    assert!(error.detail.contains("more than 50 pages"), "{error}");
    assert_eq!(calls(&server, "GET").await, 50);
}

#[tokio::test]
async fn a_next_page_elsewhere_is_not_followed() {
    for next in [
        "https://evil.example/v2/account/keys",
        "/v2/account",
        "::",
        "http://[",
    ] {
        let body = json!({ "droplets": [], "links": { "pages": { "next": next } } });
        let page = ResponseTemplate::new(200).set_body_json(body);
        let server = server_with(vec![
            Mock::given(path("/v2/droplets")).respond_with(page).expect(1),
        ])
        .await;
        assert_eq!(
            kind(provider(&server).members_list(&web()).await),
            ProviderErrorKind::Transient,
            "{next}"
        );
    }
}

#[tokio::test]
async fn a_listing_that_can_not_be_read_is_no_empty_pool() {
    let broken_time = {
        let mut one = droplet(1, "web-a", "active", &["pool:web"]);
        one["created_at"] = json!("yesterday");
        one_page(&[one]).to_string()
    };
    for body in [
        "",
        "{",
        "<html>",
        "[]",
        "{}",
        r#"{"droplets":null}"#,
        r#"{"droplets":[{"id":"1"}]}"#,
        &broken_time,
    ] {
        let page = ResponseTemplate::new(200).set_body_raw(body, "application/json");
        let server = server_with(vec![Mock::given(path("/v2/droplets")).respond_with(page)]).await;
        assert_eq!(
            kind(provider(&server).members_list(&web()).await),
            ProviderErrorKind::Transient,
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_read_is_tried_again_a_few_times() {
    let down = || refusal(503, "service_unavailable", "Server is busy.");
    let page = || ResponseTemplate::new(200).set_body_json(one_page(&[]));
    let server = server_with(vec![
        Mock::given(path("/v2/droplets")).respond_with(InTurn::new(vec![down(), down(), page()])),
    ])
    .await;
    assert_eq!(provider(&server).members_list(&web()).await.unwrap(), []);
    let server = server_with(vec![
        Mock::given(path("/v2/droplets")).respond_with(down()).expect(3),
    ])
    .await;
    let error = provider(&server).members_list(&web()).await.unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::Transient);
    assert_eq!(
        error.to_string(),
        "members_list web failed (Transient): 503 service_unavailable: Server is busy. (request 4d9d8375-3c56)"
    );
}

// ---- creating --------------------------------------------------------------------------------------------------------

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
    let provider = provider_at(&server.uri(), &Time::default(), configured);
    assert_eq!(
        provider.member_create(&create("web-a")).await.unwrap(),
        id(3_164_444)
    );
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

// ---- refusals --------------------------------------------------------------------------------------------------------

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
async fn a_refusal_in_other_shapes_still_tells_what_it_can() {
    let table = [
        (
            json!({ "error": "tag has invalid characters", "messages": null, "root_causes": [] }).to_string(),
            "400 tag has invalid characters (request r-7)",
        ),
        ("<html>Bad\r\nRequest</html>".to_owned(), "400 (request r-7)"),
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

// ---- limits ----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_429_keeps_every_call_back_for_as_long_as_it_says() {
    let limited =
        refusal(429, "too_many_requests", "API rate limit exceeded.").insert_header("retry-after", "7");
    let page = ResponseTemplate::new(200).set_body_json(one_page(&[]));
    let server = server_with(vec![
        Mock::given(method("POST")).respond_with(limited).expect(1),
        Mock::given(method("GET")).respond_with(page).expect(1),
    ])
    .await;
    let time = Time::default();
    let provider = provider_at(&server.uri(), &time, template());
    let limit = |secs| ProviderErrorKind::RateLimited {
        retry_after_secs: secs,
    };
    assert_eq!(kind(provider.member_create(&create("web-a")).await), limit(7));
    time.pass_secs(3);
    assert_eq!(kind(provider.member_create(&create("web-a")).await), limit(4));
    assert_eq!(kind(provider.members_list(&web()).await), limit(4));
    time.pass_secs(4);
    provider.members_list(&web()).await.unwrap();
}

#[tokio::test]
async fn the_hours_last_calls_are_left_alone_until_the_reset() {
    let reset = T0 / 1000 + 120;
    let page = ResponseTemplate::new(200)
        .set_body_json(one_page(&[]))
        .insert_header("ratelimit-limit", "5000")
        .insert_header("ratelimit-remaining", "20")
        .insert_header("ratelimit-reset", reset.to_string().as_str());
    let server = server_with(vec![Mock::given(method("GET")).respond_with(page).expect(2)]).await;
    let time = Time::default();
    let provider = provider_at(&server.uri(), &time, template());
    provider.members_list(&web()).await.unwrap();
    let waits = kind(provider.members_list(&web()).await);
    assert_eq!(
        waits,
        ProviderErrorKind::RateLimited {
            retry_after_secs: 120
        }
    );
    time.pass_secs(120);
    provider.members_list(&web()).await.unwrap();
}

#[tokio::test]
async fn no_more_than_the_minutes_calls_are_sent() {
    let page = ResponseTemplate::new(200).set_body_json(one_page(&[]));
    let server = server_with(vec![Mock::given(method("GET")).respond_with(page).expect(240)]).await;
    let provider = provider(&server);
    for _ in 0..240 {
        provider.members_list(&web()).await.unwrap();
    }
    let waits = kind(provider.members_list(&web()).await);
    assert_eq!(waits, ProviderErrorKind::RateLimited { retry_after_secs: 60 });
}

// ---- tags and actions ------------------------------------------------------------------------------------------------

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
    for status in [204, 404] {
        let answer = || ResponseTemplate::new(status);
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
fn a_template_that_would_be_refused_is_told_in_full() {
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
