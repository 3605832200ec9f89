//! Tags in other spellings, GPU droplets, and creates that are looked up by name before they are sent again.

use serde_json::{Value, json};
use tidepool_autoscaler::provider::digitalocean::DropletTemplate;
use tidepool_autoscaler::provider::{CreateMember, EarlierCreate, Provider, ProviderErrorKind};
use tidepool_autoscaler_core::observe::{Member, Power, UnixMillis};
use wiremock::matchers::{body_json, method, path, query_param, query_param_is_missing};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::{
    T0, Time, calls, create, droplet, id, kind, one_page, provider, provider_at, server_with, template, web,
};

fn tags(names: &[&str]) -> Mock {
    let tags: Vec<Value> = names
        .iter()
        .map(|name| json!({ "name": name, "resources": {} }))
        .collect();
    let body = json!({ "tags": tags, "links": {}, "meta": { "total": tags.len() } });
    let answer = ResponseTemplate::new(200).set_body_json(body);
    Mock::given(method("GET"))
        .and(path("/v2/tags"))
        .respond_with(answer)
}

fn list(filter: (&str, &str), droplets: &[Value]) -> Mock {
    let answer = ResponseTemplate::new(200).set_body_json(one_page(droplets));
    Mock::given(method("GET"))
        .and(path("/v2/droplets"))
        .and(query_param(filter.0, filter.1))
        .respond_with(answer)
}

async fn names(server: &MockServer) -> Vec<String> {
    let listing = provider(server).members_list(&web()).await.unwrap();
    listing.members.into_iter().map(|member| member.name.0).collect()
}

#[tokio::test]
async fn members_are_found_by_the_accounts_own_spelling_of_their_tags() {
    let one = droplet(1, "web-a", "active", &["Pool:WEB", "SERVING:web", "draining:Web"]);
    let server = server_with(vec![
        tags(&["env:prod", "Pool:WEB", "SERVING:web"]),
        list(("tag_name", "Pool:WEB"), &[one]),
        list(("tag_name", "pool:web"), &[]),
    ])
    .await;
    let listing = provider(&server).members_list(&web()).await.unwrap();
    assert_eq!(listing.members.len(), 1);
    assert!(listing.members[0].serving && listing.members[0].draining);
    assert!(
        listing
            .problems
            .iter()
            .any(|problem| problem.contains("spells the tag pool:web as Pool:WEB")),
        "{:?}",
        listing.problems
    );
    let said = provider(&server).names_check(&web()).await.unwrap();
    assert_eq!(said.len(), 2, "{said:?}");
}

#[tokio::test]
async fn the_spelling_is_learned_from_a_create_where_tags_cannot_be_read() {
    let made = json!({ "droplet": droplet(7, "web-a", "new", &["POOL:web"]) });
    let server = server_with(vec![
        Mock::given(method("POST"))
            .and(path("/v2/droplets"))
            .respond_with(ResponseTemplate::new(202).set_body_json(made)),
        list(
            ("tag_name", "POOL:web"),
            &[droplet(7, "web-a", "new", &["POOL:web"])],
        ),
        list(("tag_name", "pool:web"), &[]),
    ])
    .await;
    let provider = provider(&server);
    assert_eq!(provider.members_list(&web()).await.unwrap().members, []);
    provider.member_create(&create("web-a")).await.unwrap();
    let listing = provider.members_list(&web()).await.unwrap();
    assert_eq!(listing.members.len(), 1);
    assert!(
        listing
            .problems
            .iter()
            .any(|problem| problem.contains("tags can't be read"))
    );
}

#[tokio::test]
async fn tagging_and_untagging_use_the_accounts_spelling() {
    let unknown = || ResponseTemplate::new(404).set_body_json(json!({ "id": "not_found", "message": "no" }));
    let resources = json!({ "resources": [{ "resource_id": "42", "resource_type": "droplet" }] });
    let server = server_with(vec![
        tags(&["SERVING:web"]),
        Mock::given(method("POST"))
            .and(path("/v2/tags"))
            .respond_with(
                ResponseTemplate::new(201).set_body_json(json!({ "tag": { "name": "SERVING:web" } })),
            )
            .expect(1),
        Mock::given(path("/v2/tags/serving:web/resources"))
            .respond_with(unknown())
            .expect(2),
        Mock::given(method("POST"))
            .and(path("/v2/tags/SERVING:web/resources"))
            .and(body_json(&resources))
            .respond_with(ResponseTemplate::new(204))
            .expect(2),
        Mock::given(method("DELETE"))
            .and(path("/v2/tags/SERVING:web/resources"))
            .and(body_json(&resources))
            .respond_with(ResponseTemplate::new(204))
            .expect(1),
    ])
    .await;
    let first = provider(&server);
    first.serving_admit(&web(), &id(42)).await.unwrap();
    // The second time it is known.
    first.serving_admit(&web(), &id(42)).await.unwrap();
    // Withdrawing is not done because the other spelling is unknown.
    provider(&server).serving_withdraw(&web(), &id(42)).await.unwrap();
}

#[tokio::test]
async fn own_tags_of_the_operator_go_out_in_the_accounts_spelling_and_are_checked() {
    let configured = DropletTemplate {
        tags: vec!["env:prod".to_owned()],
        ..template()
    };
    let made = json!({ "droplet": droplet(7, "web-a", "new", &["pool:web", "ENV:prod"]) });
    let server = server_with(vec![
        tags(&["ENV:prod"]),
        list(("tag_name", "pool:web"), &[]),
        Mock::given(method("POST"))
            .and(path("/v2/droplets"))
            .respond_with(ResponseTemplate::new(202).set_body_json(made)),
    ])
    .await;
    let provider = provider_at(&server.uri(), &Time::default(), configured);
    assert_eq!(provider.names_check(&web()).await.unwrap().len(), 1);
    provider.member_create(&create("web-a")).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    let sent: Value = requests
        .iter()
        .find(|r| r.method.as_str() == "POST")
        .unwrap()
        .body_json()
        .unwrap();
    assert_eq!(sent["tags"], json!(["pool:web", "ENV:prod"]));
    for (tags, problems) in [
        (vec!["POOL:web"], 1),
        (vec!["Serving:x", "DRAINING:y"], 2),
        (vec!["env:a", "ENV:A"], 1),
        (vec!["env:a", "env:b"], 0),
    ] {
        let tags = tags.into_iter().map(str::to_owned).collect();
        assert_eq!(DropletTemplate { tags, ..template() }.problems().len(), problems);
    }
}

#[tokio::test]
async fn gpu_droplets_are_looked_for_in_their_own_list() {
    let listed = Mock::given(method("GET"))
        .and(path("/v2/droplets"))
        .and(query_param("type", "gpus"))
        .and(query_param_is_missing("tag_name"))
        .respond_with(ResponseTemplate::new(200).set_body_json(one_page(&[
            droplet(1, "web-a", "active", &["pool:web"]),
            droplet(2, "stranger", "active", &["pool:other"]),
            // Of a stranger that can't be read nothing is known.
            json!({ "id": 3, "name": "odd" }),
        ])));
    let server = server_with(vec![
        list(
            ("tag_name", "pool:web"),
            &[droplet(4, "web-d", "active", &["pool:web"])],
        ),
        listed,
    ])
    .await;
    for (size, expected) in [
        ("gpu-h100x1-80gb", &["web-d", "web-a"][..]),
        ("GPU-h100x1-80gb", &["web-d", "web-a"]),
        ("s-1vcpu-1gb", &["web-d"]),
    ] {
        let template = DropletTemplate {
            size: size.to_owned(),
            ..template()
        };
        let provider = provider_at(&server.uri(), &Time::default(), template);
        let members = provider.members_list(&web()).await.unwrap().members;
        let names: Vec<String> = members.into_iter().map(|member| member.name.0).collect();
        assert_eq!(names, expected, "{size}");
    }
    assert_eq!(names(&server).await, ["web-d"]);
}

fn again(earlier: EarlierCreate) -> CreateMember {
    CreateMember {
        earlier,
        ..create("web-a")
    }
}

/// A droplet by name: the normal list or that of GPU droplets, tagged or not.
#[tokio::test]
async fn a_create_that_may_have_been_sent_before_is_looked_up_by_name_first() {
    let made_at = |at: &str, tags: &[&str]| {
        let mut one = droplet(77, "web-a", "new", tags);
        one["created_at"] = json!(at);
        one
    };
    // T0 is 2027-01-15T08:00:00Z, and that is when it was begun.
    let begun = EarlierCreate::Begun(UnixMillis(T0));
    let (before, after) = ("2027-01-15T07:58:00Z", "2027-01-15T08:00:05Z");
    let now = "Fri, 15 Jan 2027 08:00:10 GMT";
    let (an_hour_behind, an_hour_ahead) = ("Fri, 15 Jan 2027 07:00:10 GMT", "Fri, 15 Jan 2027 09:00:10 GMT");
    let table = [
        (begun, now, made_at(after, &["POOL:web"]), true),
        (begun, now, made_at(before, &["pool:WEB"]), true),
        (begun, now, made_at(after, &[]), true),
        (begun, now, json!({ "id": 77, "name": "web-a" }), true),
        // Somebody else's of the same name was there before.
        (begun, now, made_at(before, &[]), false),
        // By the provider's own clock, whatever ours says.
        (begun, an_hour_behind, made_at("2027-01-15T07:00:05Z", &[]), true),
        (begun, an_hour_behind, made_at("2027-01-15T06:58:00Z", &[]), false),
        (begun, an_hour_ahead, made_at("2027-01-15T09:00:05Z", &[]), true),
        (begun, an_hour_ahead, made_at("2027-01-15T08:30:00Z", &[]), false),
        // Which doesn't tell the time.
        (begun, "today", made_at(before, &[]), true),
        (EarlierCreate::NotKnown, now, made_at(after, &["pool:web"]), true),
        (EarlierCreate::NotKnown, now, made_at(after, &[]), false),
        // A name that is new is not looked up.
        (EarlierCreate::None, now, made_at(after, &["pool:web"]), false),
    ];
    for (earlier, date, found, is_it) in table {
        for gpu in [false, true] {
            let named = |droplets: &[Value]| {
                ResponseTemplate::new(200)
                    .set_body_json(one_page(droplets))
                    .insert_header("date", date)
            };
            let (normal, gpus) = if gpu {
                (vec![], vec![found.clone()])
            } else {
                (vec![found.clone()], vec![])
            };
            let by_name = || Mock::given(path("/v2/droplets")).and(query_param("name", "web-a"));
            let made = json!({ "droplet": droplet(78, "web-a", "new", &["pool:web"]) });
            let server = server_with(vec![
                by_name()
                    .and(query_param_is_missing("type"))
                    .respond_with(named(&normal)),
                by_name()
                    .and(query_param("type", "gpus"))
                    .respond_with(named(&gpus)),
                Mock::given(method("POST")).respond_with(ResponseTemplate::new(202).set_body_json(made)),
            ])
            .await;
            let got = provider(&server).member_create(&again(earlier)).await.unwrap();
            let expected = id(if is_it { 77 } else { 78 });
            assert_eq!(got, expected, "{earlier:?} {date} {found} {gpu}");
            assert_eq!(calls(&server, "POST").await, usize::from(!is_it));
        }
    }
}

#[tokio::test]
async fn a_create_that_may_have_been_sent_before_is_not_sent_while_nobody_can_say() {
    let busy = ResponseTemplate::new(503);
    let server = server_with(vec![
        Mock::given(method("GET")).respond_with(busy),
        Mock::given(method("POST"))
            .respond_with(ResponseTemplate::new(202))
            .expect(0),
    ])
    .await;
    let begun = EarlierCreate::Begun(UnixMillis(T0));
    assert_eq!(
        kind(provider(&server).member_create(&again(begun)).await),
        ProviderErrorKind::Transient
    );
}

/// Each of two pools would drain it and destroy it: it counts in both, and neither touches it.
#[tokio::test]
async fn a_droplet_of_two_pools_is_a_member_of_unknown_state_and_reported() {
    let all = [
        droplet(1, "web-a", "active", &["pool:web", "serving:web", "Pool:shop"]),
        droplet(2, "web-b", "off", &["pool:shop", "draining:web", "POOL:web"]),
        droplet(
            3,
            "web-c",
            "active",
            &["pool:web", "serving:web", "pool:", "pools:shop"],
        ),
    ];
    let mut mocks: Vec<Mock> = all
        .iter()
        .map(|one| {
            Mock::given(method("GET"))
                .and(path(format!("/v2/droplets/{}", one["id"])))
                .respond_with(ResponseTemplate::new(200).set_body_json(json!({ "droplet": one })))
        })
        .collect();
    mocks.extend([tags(&[]), list(("tag_name", "pool:web"), &all)]);
    let server = server_with(mocks).await;
    let provider = provider(&server);
    let listing = provider.members_list(&web()).await.unwrap();
    let is = |member: &Member| (member.power, member.serving, member.draining);
    let expected = [
        (Power::Unknown, true, false),
        (Power::Unknown, false, false),
        (Power::Running, true, false),
    ];
    assert_eq!(listing.members.iter().map(is).collect::<Vec<_>>(), expected);
    let problems = [
        "droplet 1 (web-a): it has the tag Pool:shop beside pool:web, so it is not known whose it is; it counts as a \
         member, and nothing is done with it",
        "droplet 2 (web-b): it has the tag pool:shop beside pool:web, so it is not known whose it is; it counts as a \
         member, and nothing is done with it",
    ];
    assert_eq!(listing.problems, problems);
    assert_eq!(provider.names_check(&web()).await.unwrap(), problems);
    // The same by its own id.
    for (n, expected) in expected.iter().enumerate() {
        let found = provider.member_get(&web(), &id(n as u64 + 1)).await.unwrap();
        assert_eq!(is(&found.unwrap().member), *expected);
    }
}

#[tokio::test]
async fn an_account_that_has_no_tag_of_the_pool_does_not_know_it() {
    for (names, known) in [
        (&["pool:api", "env:a"][..], false),
        (&[], false),
        (&["env:a", "Pool:WEB"], true),
    ] {
        let server = server_with(vec![tags(names)]).await;
        assert_eq!(
            provider(&server).pool_is_known(&web()).await.unwrap(),
            known,
            "{names:?}"
        );
    }
}
