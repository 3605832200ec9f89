//! Droplets that are odd in some way: each stays a member, and the others are seen as ever.

use serde_json::{Value, json};
use tidepool_autoscaler::provider::{Provider, ProviderErrorKind};
use tidepool_autoscaler_core::observe::{Member, MemberId, Power};
use wiremock::matchers::{method, path};
use wiremock::{Mock, ResponseTemplate};

use crate::support::{create, droplet, id, kind, provider, server_with, web};

async fn listed(items: &str) -> (Vec<Member>, Vec<String>) {
    let body = format!(r#"{{"droplets":[{items}],"links":{{}},"meta":{{}}}}"#);
    let page = ResponseTemplate::new(200).set_body_raw(body, "application/json");
    let server = server_with(vec![Mock::given(path("/v2/droplets")).respond_with(page)]).await;
    let listing = provider(&server).members_list(&web()).await.unwrap();
    let problems = listing
        .problems
        .into_iter()
        .filter(|problem| problem.starts_with("droplet "));
    (listing.members, problems.collect())
}

fn with(field: &str, value: Value) -> Value {
    let mut one = droplet(2, "web-b", "active", &["pool:web", "serving:web"]);
    one[field] = value;
    one
}

fn without(field: &str) -> Value {
    let mut one = droplet(2, "web-b", "active", &["pool:web", "serving:web"]);
    one.as_object_mut().unwrap().remove(field);
    one
}

#[tokio::test]
async fn an_odd_droplet_is_a_member_of_unknown_state_and_the_others_are_as_ever() {
    let fine = droplet(1, "web-a", "active", &["pool:web"]);
    let v4 = |entry: Value| json!({ "v4": [entry] });
    let odd = [
        with("networks", json!(null)),
        with("networks", json!({})),
        with("networks", json!([])),
        with("networks", json!("none")),
        with("networks", json!({ "v4": null })),
        with("networks", json!({ "v4": [] })),
        with("networks", v4(json!(null))),
        with("networks", v4(json!({ "ip_address": "", "type": "private" }))),
        with(
            "networks",
            v4(json!({ "ip_address": "10.0.0.999", "type": "private" })),
        ),
        with("networks", v4(json!({ "ip_address": "10.0.0.9" }))),
        with("status", json!("migrating")),
        with("status", json!(null)),
        with("status", json!(7)),
        with("created_at", json!("yesterday")),
        with("created_at", json!(1_700_000_000)),
        with("created_at", json!(null)),
        with("tags", json!(null)),
        with("tags", json!("pool:web")),
        with("tags", json!(["pool:web", 7])),
        with("id", json!("2")),
        with("name", json!(null)),
        with("name", json!(["web-b"])),
        without("networks"),
        without("status"),
        without("created_at"),
        without("tags"),
        without("name"),
    ];
    for odd in odd {
        let (members, problems) = listed(&format!("{fine},{odd}")).await;
        assert_eq!(members.len(), 2, "{odd}");
        let healthy = members.iter().find(|member| member.id == id(1)).unwrap();
        assert_eq!(healthy.power, Power::Running, "{odd}");
        let member = members.iter().find(|member| member.id == id(2)).unwrap();
        assert_eq!(member.power, Power::Unknown, "{odd}");
        assert_eq!(problems.len(), 1, "{odd} {problems:?}");
        assert!(problems[0].starts_with("droplet 2"), "{problems:?}");
    }
}

#[tokio::test]
async fn fields_that_nobody_needs_may_be_anything() {
    for (field, value) in [
        ("image", json!(null)),
        ("image", json!("debian")),
        ("image", json!({ "slug": 7, "id": "x" })),
        ("memory", json!("much")),
        ("region", json!(null)),
        ("invented_later", json!({ "deep": [1, { "er": null }] })),
    ] {
        let (members, problems) = listed(&with(field, value.clone()).to_string()).await;
        assert_eq!((members.len(), problems), (1, vec![]), "{field} {value}");
        assert_eq!(members[0].power, Power::Running);
    }
    // Numbers and texts that JSON allows and a parser of values refuses.
    for raw in [r#""disk":1e999"#, r#""locked":"\ud800""#, r#""\ud800":1"#] {
        let one = droplet(2, "web-b", "active", &["pool:web"]).to_string();
        let (members, _) = listed(&format!("{{{raw},{}", &one[1..])).await;
        assert_eq!(members.len(), 1, "{raw}");
    }
}

#[tokio::test]
async fn one_that_is_made_has_no_address_yet_and_is_not_odd() {
    let mut new = droplet(2, "web-b", "new", &["pool:web"]);
    new["networks"] = json!({ "v4": [], "v6": [] });
    let (members, problems) = listed(&new.to_string()).await;
    assert_eq!(
        (members[0].power, members[0].address, problems),
        (Power::Creating, None, vec![])
    );
}

#[tokio::test]
async fn one_without_a_usable_id_is_counted_and_never_called_by_it() {
    for item in [
        without("id").to_string(),
        with("id", json!(null)).to_string(),
        with("id", json!(0)).to_string(),
        with("id", json!(-3)).to_string(),
        with("id", json!(2.5)).to_string(),
        with("id", json!("two")).to_string(),
        with("id", json!("../account")).to_string(),
        "null".to_owned(),
        "7".to_owned(),
        r#""web-b""#.to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
    ] {
        let (members, problems) = listed(&format!("{item},{item}")).await;
        assert_eq!(members.len(), 2, "{item}");
        assert!(
            members.iter().all(|member| member.power == Power::Unknown),
            "{item}"
        );
        assert_ne!(members[0].id, members[1].id);
        assert_eq!(problems.len(), 2, "{item}");
        let server = server_with(vec![]).await;
        let called = provider(&server).member_destroy(&members[0].id).await;
        assert_eq!(kind(called), ProviderErrorKind::Invalid);
    }
}

#[tokio::test]
async fn a_create_is_done_when_its_answer_has_an_id_whatever_else_is_odd() {
    let mut odd = droplet(78, "web-a", "new", &["pool:web"]);
    odd["networks"] = json!(null);
    odd["created_at"] = json!(7);
    for body in [
        json!({ "droplet": odd, "links": null }),
        json!({ "droplet": { "id": 78 } }),
        json!({ "droplet": { "id": "78" } }),
        json!({ "droplets": [odd] }),
    ] {
        let made = ResponseTemplate::new(202).set_body_json(&body);
        let server = server_with(vec![Mock::given(method("POST")).respond_with(made)]).await;
        let made = provider(&server).member_create(&create("web-a")).await;
        assert_eq!(made.unwrap(), id(78), "{body}");
    }
}

#[tokio::test]
async fn only_the_providers_own_word_makes_a_droplet_gone() {
    let not_found = json!({ "id": "not_found", "message": "The resource you requested could not be found." });
    for (answer, expected) in [
        (ResponseTemplate::new(404).set_body_json(not_found), Ok(false)),
        (ResponseTemplate::new(404), Err(ProviderErrorKind::Transient)),
        (
            ResponseTemplate::new(404)
                .set_body_json(json!({ "message": "no Route matched with those values" })),
            Err(ProviderErrorKind::Transient),
        ),
        (
            ResponseTemplate::new(404).set_body_json(json!({ "id": "no_route", "message": "no" })),
            Err(ProviderErrorKind::Transient),
        ),
        (
            ResponseTemplate::new(404).set_body_raw("<html>nginx</html>", "text/html"),
            Err(ProviderErrorKind::Transient),
        ),
        (ResponseTemplate::new(503), Err(ProviderErrorKind::Transient)),
        (ResponseTemplate::new(403), Err(ProviderErrorKind::Denied)),
        (
            ResponseTemplate::new(200).set_body_json(json!({ "droplet": null })),
            Err(ProviderErrorKind::Transient),
        ),
        (
            ResponseTemplate::new(200)
                .set_body_json(json!({ "droplet": droplet(5, "web-e", "active", &["POOL:web"]) })),
            Ok(true),
        ),
    ] {
        let server = server_with(vec![Mock::given(path("/v2/droplets/5")).respond_with(answer)]).await;
        let got = provider(&server).member_get(&web(), &id(5)).await;
        let got = got
            .map(|found| found.is_some_and(|found| found.tagged))
            .map_err(|error| error.kind);
        assert_eq!(got, expected);
    }
    let server = server_with(vec![]).await;
    let odd = MemberId("unidentified-1".to_owned());
    assert_eq!(
        kind(provider(&server).member_get(&web(), &odd).await),
        ProviderErrorKind::Invalid
    );
}

/// Destroying is done when the provider says that there is none, not when a gateway knows no such route.
#[tokio::test]
async fn a_gateways_404_destroys_nothing() {
    let answer =
        ResponseTemplate::new(404).set_body_json(json!({ "message": "no Route matched with those values" }));
    let server = server_with(vec![Mock::given(method("DELETE")).respond_with(answer)]).await;
    let provider = provider(&server);
    let withdrawn = provider.serving_withdraw(&web(), &id(5)).await;
    for outcome in [provider.member_destroy(&id(5)).await, withdrawn] {
        assert_eq!(outcome.unwrap_err().kind, ProviderErrorKind::UnknownOutcome);
    }
}

/// As a cache in between may give it.
#[tokio::test]
async fn an_answer_about_another_droplet_is_none() {
    let other = json!({ "droplet": droplet(2, "web-b", "off", &["pool:web"]) });
    let answer = |status| ResponseTemplate::new(status).set_body_json(&other);
    let server = server_with(vec![
        Mock::given(method("GET"))
            .and(path("/v2/droplets/1"))
            .respond_with(answer(200)),
        Mock::given(method("POST"))
            .and(path("/v2/droplets"))
            .respond_with(answer(202)),
    ])
    .await;
    let provider = provider(&server);
    assert_eq!(
        kind(provider.member_get(&web(), &id(1)).await),
        ProviderErrorKind::Transient
    );
    let made = provider.member_create(&create("web-a")).await;
    assert_eq!(kind(made), ProviderErrorKind::UnknownOutcome);
}

/// Nobody can ask it whether it is ready, which is no reason to replace it.
#[tokio::test]
async fn a_droplet_without_an_address_of_the_kind_that_is_asked_is_of_unknown_state() {
    let public = json!({ "v4": [{ "ip_address": "203.0.113.7", "type": "public" }] });
    let (members, problems) = listed(&with("networks", public).to_string()).await;
    let states: Vec<Power> = members.iter().map(|member| member.power).collect();
    assert_eq!(states, [Power::Unknown]);
    let expected = "droplet 2 (web-b): it has no private address, by which it would be asked; it counts";
    assert!(
        problems.iter().any(|problem| problem.starts_with(expected)),
        "{problems:?}"
    );
    // One that is being made may get it later.
    let mut new = with(
        "networks",
        json!({ "v4": [{ "ip_address": "203.0.113.7", "type": "public" }] }),
    );
    new["status"] = json!("new");
    let (members, problems) = listed(&new.to_string()).await;
    assert_eq!((members[0].power, problems), (Power::Creating, Vec::new()));
}
