//! Domains and their records. The forms of what is sent and shown are those of recorded traffic of Terraform's provider (2026-11-27)
//! and of DigitalOcean's API document.

#![expect(clippy::unwrap_used, reason = "tests")]

use futures_util::future::join_all;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{Cloud, Reply};

/// A cloud with the domain `tidepool.example`.
async fn cloud_with_domain() -> Cloud {
    let cloud = Cloud::start(&[]);
    let body = json!({"name": "tidepool.example"});
    let reply = cloud.post("/v2/domains", body).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    cloud
}

async fn create(cloud: &Cloud, body: &Value) -> Reply {
    cloud
        .post("/v2/domains/tidepool.example/records", body.clone())
        .await
}

fn path(reply: &Reply) -> String {
    let id = reply.number("/domain_record/id");
    format!("/v2/domains/tidepool.example/records/{id}")
}

/// Status, id and message of an error.
fn error(reply: &Reply) -> (u16, String, String) {
    assert!(!reply.text("/request_id").is_empty());
    (reply.status, reply.text("/id"), reply.text("/message"))
}

#[tokio::test]
async fn a_domain_comes_with_the_records_that_the_real_one_makes() {
    let cloud = Cloud::start(&[]);
    let body = json!({"name": "a.example", "ip_address": "192.0.2.1"});
    let created = cloud.post("/v2/domains", body).await;
    assert_eq!(created.status, 201);
    assert_eq!(
        created.body,
        json!({"domain": {"name": "a.example", "ttl": 1800, "zone_file": null}})
    );
    let shown = cloud.get("/v2/domains/A.Example").await;
    let zone = shown.text("/domain/zone_file");
    let lines: Vec<&str> = zone.lines().collect();
    assert!(
        lines[2].starts_with("a.example. IN SOA ns1.digitalocean.com. hostmaster.a.example. "),
        "{zone}"
    );
    assert_eq!(lines[..2], ["$ORIGIN a.example.", "$TTL 1800"]);
    assert_eq!(
        lines[3..],
        [
            "a.example. 1800 IN NS ns1.digitalocean.com.",
            "a.example. 1800 IN NS ns2.digitalocean.com.",
            "a.example. 1800 IN NS ns3.digitalocean.com.",
            "a.example. 1800 IN A 192.0.2.1",
        ]
    );
    let records = cloud.get("/v2/domains/a.example/records").await;
    let all = records.at("/domain_records").as_array().unwrap();
    let said: Vec<(&Value, &Value)> = all
        .iter()
        .map(|record| (&record["type"], &record["data"]))
        .collect();
    let expected = [
        ("SOA", "1800"),
        ("NS", "ns1.digitalocean.com"),
        ("NS", "ns2.digitalocean.com"),
        ("NS", "ns3.digitalocean.com"),
        ("A", "192.0.2.1"),
    ];
    let expected = expected.map(|(kind, data)| (json!(kind), json!(data)));
    assert_eq!(
        said,
        expected
            .iter()
            .map(|(kind, data)| (kind, data))
            .collect::<Vec<_>>()
    );
    for record in all {
        assert_eq!(
            (
                &record["name"],
                &record["ttl"],
                &record["priority"],
                &record["tag"]
            ),
            (&json!("@"), &json!(1800), &Value::Null, &Value::Null)
        );
    }
    let list = cloud.get("/v2/domains").await;
    assert_eq!(
        (list.number("/meta/total"), list.at("/domains/0")),
        (1, shown.at("/domain"))
    );
    assert_eq!(
        error(&cloud.post("/v2/domains", json!({"name": "A.EXAMPLE"})).await),
        (422, "unprocessable_entity".into(), "name already exists".into())
    );
    let resources = cloud.get("/v2/projects/default/resources").await;
    assert_eq!(resources.text("/resources/0/urn"), "do:domain:a.example");
    let deleted = cloud.delete("/v2/domains/a.example").await;
    assert_eq!((deleted.status, deleted.body), (204, Value::Null));
    for gone in ["/v2/domains/a.example", "/v2/domains/a.example/records"] {
        assert_eq!(error(&cloud.get(gone).await).0, 404, "{gone}");
    }
    assert_eq!(cloud.delete("/v2/domains/a.example").await.status, 404);
}

#[tokio::test]
async fn domains_that_are_none_are_refused() {
    let cloud = Cloud::start(&[]);
    let long = format!("{}.example", "a.".repeat(130));
    // 243 characters: the mailbox of its start of authority would have too many.
    let no_mailbox = format!("{}example", "a.".repeat(118));
    for name in [
        "",
        " ",
        "example",
        "a.example.",
        ".example",
        "a..example",
        "-a.example",
        "a-.example",
        "a_b.example",
        "a b.example",
        "ü.example",
        "*.example",
        "a.example/records",
        "192.0.2.1",
        &long,
        &no_mailbox,
        &format!("{}.example", "a".repeat(64)),
    ] {
        let reply = cloud.post("/v2/domains", json!({"name": name})).await;
        assert_eq!(error(&reply).0, 422, "{name}");
    }
    for body in [
        json!({}),
        json!({"name": 5}),
        json!({"name": "a.example", "ip_address": "192.0.2.256"}),
        json!({"name": "a.example", "ip_address": "::1"}),
        json!({"name": "a.example", "ip_address": 1}),
    ] {
        assert_eq!(
            cloud.post("/v2/domains", body.clone()).await.status,
            422,
            "{body}"
        );
    }
    assert_eq!(cloud.get("/v2/domains").await.number("/meta/total"), 0);
}

/// What is sent (with the provider's zeros where the last is true), and what is shown of it where that is not null.
const FORMS: [(&str, &str, bool); 14] = [
    (
        r#"{"type": "CAA", "name": "@", "data": "letsencrypt.org.", "tag": "issue"}"#,
        r#"{"type": "CAA", "name": "@", "data": "letsencrypt.org", "flags": 0, "tag": "issue"}"#,
        true,
    ),
    (
        r#"{"type": "CAA", "name": "@", "data": "mailto:a@b.example", "tag": "iodef", "flags": 128}"#,
        r#"{"type": "CAA", "name": "@", "data": "mailto:a@b.example", "flags": 128, "tag": "iodef"}"#,
        true,
    ),
    (
        r#"{"type": "TXT", "name": "@", "data": "v=spf1 -all"}"#,
        r#"{"type": "TXT", "name": "@", "data": "v=spf1 -all"}"#,
        true,
    ),
    (
        r#"{"type": "CNAME", "name": "www", "data": "api.tidepool.example."}"#,
        r#"{"type": "CNAME", "name": "www", "data": "api.tidepool.example"}"#,
        true,
    ),
    (
        r#"{"type": "CNAME", "name": "shop", "data": "tidepool.example."}"#,
        r#"{"type": "CNAME", "name": "shop", "data": "@"}"#,
        true,
    ),
    (
        r#"{"type": "CNAME", "name": "home", "data": "@"}"#,
        r#"{"type": "CNAME", "name": "home", "data": "@"}"#,
        true,
    ),
    (
        r#"{"type": "A", "name": "seed-db-1.internal", "data": "10.20.0.6", "ttl": 30}"#,
        r#"{"type": "A", "name": "seed-db-1.internal", "data": "10.20.0.6", "ttl": 30}"#,
        true,
    ),
    (
        r#"{"type": "A", "name": "api.tidepool.example.", "data": "198.51.100.16"}"#,
        r#"{"type": "A", "name": "api", "data": "198.51.100.16"}"#,
        true,
    ),
    (
        r#"{"type": "A", "name": "tidepool.example.", "data": "198.51.100.17"}"#,
        r#"{"type": "A", "name": "@", "data": "198.51.100.17"}"#,
        true,
    ),
    (
        r#"{"type": "A", "name": "*.apps", "data": "198.51.100.18"}"#,
        r#"{"type": "A", "name": "*.apps", "data": "198.51.100.18"}"#,
        true,
    ),
    (
        r#"{"type": "AAAA", "name": "six", "data": "2001:DB8:0::1"}"#,
        r#"{"type": "AAAA", "name": "six", "data": "2001:DB8:0::1"}"#,
        true,
    ),
    (
        r#"{"type": "MX", "data": "mail.tidepool.example.", "priority": 10}"#,
        r#"{"type": "MX", "name": "@", "data": "mail.tidepool.example", "priority": 10}"#,
        false,
    ),
    (
        r#"{"type": "NS", "data": "ns.far.example.", "name": null, "priority": null, "port": null, "weight": null}"#,
        r#"{"type": "NS", "name": "@", "data": "ns.far.example"}"#,
        false,
    ),
    (
        r#"{"type": "SRV", "name": "_sip._tcp", "data": "sip.b.example.", "priority": 1, "weight": 2, "port": 5060}"#,
        r#"{"type": "SRV", "name": "_sip._tcp", "data": "sip.b.example", "priority": 1, "weight": 2, "port": 5060}"#,
        true,
    ),
];

/// What is sent, and what is shown of it beside the id.
fn forms() -> impl Iterator<Item = (Value, Value)> {
    let zeros = json!({"priority": 0, "port": 0, "weight": 0, "flags": 0});
    let nothing =
        json!({"priority": null, "port": null, "ttl": 1800, "weight": null, "flags": null, "tag": null});
    let with = |base: &Value, text: &str| {
        let mut whole = base.as_object().unwrap().clone();
        let more: Value = serde_json::from_str(text).unwrap();
        whole.extend(more.as_object().unwrap().clone());
        Value::Object(whole)
    };
    FORMS.into_iter().map(move |(sent, shown, by_provider)| {
        let base = if by_provider { zeros.clone() } else { json!({}) };
        (with(&base, sent), with(&nothing, shown))
    })
}

#[tokio::test]
async fn records_are_shown_in_the_recorded_forms() {
    let cloud = cloud_with_domain().await;
    for (sent, shown) in forms() {
        let created = create(&cloud, &sent).await;
        assert_eq!(created.status, 201, "{sent}: {created:?}");
        let mut expected = shown;
        expected["id"] = created.at("/domain_record/id").clone();
        let expected = json!({"domain_record": expected});
        assert_eq!(created.body, expected, "{sent}");
        let path = path(&created);
        assert_eq!(cloud.get(&path).await.body, expected, "{sent}");
        // As Terraform's provider updates: the whole of it, without the type.
        let mut update = sent.clone();
        update.as_object_mut().unwrap().remove("type");
        let updated = cloud.put(&path, update).await;
        assert_eq!((updated.status, &updated.body), (200, &expected), "{sent}");
        let nothing = cloud.call(Method::PATCH, &path, json!({})).await;
        assert_eq!((nothing.status, nothing.body), (200, expected), "{sent}");
    }
}

/// Records that can't be, and what is said of each.
const BAD: [(&str, &str); 41] = [
    (r#"{"name": "a", "data": "10.0.0.1"}"#, "Type can't be blank"),
    (
        r#"{"type": "PTR", "name": "a", "data": "b."}"#,
        "type PTR is not one of",
    ),
    (
        r#"{"type": 1, "name": "a", "data": "b."}"#,
        "type must be a string",
    ),
    (r#"{"type": "SOA", "name": "@", "data": "1800"}"#, "an SOA record"),
    (r#"{"type": "A", "name": "a"}"#, "Data can't be blank"),
    (r#"{"type": "A", "data": "10.0.0.1"}"#, "Name can't be blank"),
    (
        r#"{"type": "A", "name": "a", "data": "10.0.0.256"}"#,
        "IP address did not match IPv4 format (e.g. 127.0.0.1).",
    ),
    (
        r#"{"type": "A", "name": "a", "data": "10.0.0.01"}"#,
        "IP address did not match IPv4 format (e.g. 127.0.0.1).",
    ),
    (
        r#"{"type": "A", "name": "a", "data": "::1"}"#,
        "IP address did not match IPv4 format (e.g. 127.0.0.1).",
    ),
    (
        r#"{"type": "AAAA", "name": "a", "data": "10.0.0.1"}"#,
        "IP address did not match IPv6",
    ),
    (
        r#"{"type": "A", "name": "a b", "data": "10.0.0.1"}"#,
        "Name Only valid hostname characters are allowed. (a-z, A-Z, 0-9, ., _ and -)",
    ),
    (
        r#"{"type": "A", "name": "a..b", "data": "10.0.0.1"}"#,
        "Name Only valid hostname characters are allowed. (a-z, A-Z, 0-9, ., _ and -)",
    ),
    (
        r#"{"type": "A", "name": "a.*", "data": "10.0.0.1"}"#,
        "Name Only valid hostname characters are allowed. (a-z, A-Z, 0-9, ., _ and -)",
    ),
    (
        r#"{"type": "A", "name": "@.a", "data": "10.0.0.1"}"#,
        "Name Only valid hostname characters are allowed. (a-z, A-Z, 0-9, ., _ and -)",
    ),
    (
        r#"{"type": "A", "name": "ü", "data": "10.0.0.1"}"#,
        "Name Only valid hostname characters are allowed. (a-z, A-Z, 0-9, ., _ and -)",
    ),
    (
        r#"{"type": "A", "name": "a.elsewhere.example.", "data": "10.0.0.1"}"#,
        "is not in the domain",
    ),
    (
        r#"{"type": "A", "name": "atidepool.example.", "data": "10.0.0.1"}"#,
        "is not in the domain",
    ),
    (
        r#"{"type": "A", "name": "a", "data": "10.0.0.1", "ttl": 29}"#,
        "record ttl must be greater than 30",
    ),
    (
        r#"{"type": "A", "name": "a", "data": "10.0.0.1", "ttl": -1}"#,
        "ttl must be a number",
    ),
    (
        r#"{"type": "A", "name": "a", "data": "10.0.0.1", "ttl": "60"}"#,
        "ttl must be a number",
    ),
    (
        r#"{"type": "A", "name": "a", "data": "10.0.0.1", "ttl": 4294967296}"#,
        "record ttl must be at most",
    ),
    (
        r#"{"type": "A", "name": "a", "data": "10.0.0.1", "priority": 1}"#,
        "priority: only records of type MX and SRV",
    ),
    (
        r#"{"type": "A", "name": "a", "data": "10.0.0.1", "tag": "issue"}"#,
        "tag: only records of type CAA",
    ),
    (
        r#"{"type": "CNAME", "name": "a", "data": "b.example"}"#,
        "Data needs to end with a dot (.)",
    ),
    (
        r#"{"type": "CNAME", "name": "a", "data": "b c."}"#,
        "Data is invalid",
    ),
    (
        r#"{"type": "CNAME", "name": "a", "data": "."}"#,
        "Data is invalid",
    ),
    (
        r#"{"type": "CNAME", "name": "a", "data": "a.tidepool.example."}"#,
        "CNAME records cannot point to themselves",
    ),
    (
        r#"{"type": "CNAME", "name": "@", "data": "b.example."}"#,
        "CNAME records cannot share a name",
    ),
    (
        r#"{"type": "NS", "name": "a", "data": "b.example"}"#,
        "Data needs to end with a dot (.)",
    ),
    (
        r#"{"type": "MX", "data": "b.example."}"#,
        "Priority can't be blank",
    ),
    (
        r#"{"type": "MX", "data": "b.example.", "priority": 65536}"#,
        "priority must be a number from 0 to 65535",
    ),
    (
        r#"{"type": "MX", "data": "b.example.", "priority": "10"}"#,
        "priority must be a number",
    ),
    (
        r#"{"type": "SRV", "name": "_a._tcp", "data": "b.", "weight": 1, "priority": 1}"#,
        "Port can't be blank",
    ),
    (
        r#"{"type": "SRV", "name": "_a._tcp", "data": "b.", "port": 1, "priority": 1}"#,
        "Weight can't be blank",
    ),
    (
        r#"{"type": "SRV", "name": "_a._tcp", "data": "b.", "port": 1, "weight": 1}"#,
        "Priority can't be blank",
    ),
    (
        r#"{"type": "CAA", "name": "@", "data": "ca.example.", "tag": "issue"}"#,
        "Flags can't be blank",
    ),
    (
        r#"{"type": "CAA", "name": "@", "data": "ca.example.", "flags": 0}"#,
        "Tag can't be blank",
    ),
    (
        r#"{"type": "CAA", "name": "@", "data": "ca.example.", "flags": 256, "tag": "issue"}"#,
        "flags must be a number from 0 to 255",
    ),
    (
        r#"{"type": "CAA", "name": "@", "data": "ca.example.", "flags": 0, "tag": "other"}"#,
        "Tag must be one of",
    ),
    (
        r#"{"type": "CAA", "name": "@", "data": "ca.example", "flags": 0, "tag": "issue"}"#,
        "Data needs to end with a dot (.)",
    ),
    (
        r#"{"type": "TXT", "name": "@", "data": ["t"]}"#,
        "data must be a string",
    ),
];

#[tokio::test]
async fn records_that_can_not_be_are_refused_in_the_real_ones_words() {
    let cloud = cloud_with_domain().await;
    let name = |name: String| json!({"type": "A", "name": name, "data": "10.0.0.1"});
    let long = [
        (name("a".repeat(64)), "Name Only valid hostname characters"),
        (name(vec!["a".repeat(60); 4].join(".")), "Name is too long"),
        (
            json!({"type": "TXT", "name": "@", "data": "t".repeat(4_097)}),
            "Data is too long",
        ),
    ];
    let bad = BAD
        .iter()
        .map(|(body, message)| (serde_json::from_str(body).unwrap(), *message));
    let bad: Vec<(Value, &str)> = bad.chain(long).collect();
    for (body, message) in bad {
        let reply = create(&cloud, &body).await;
        let (status, id, said) = error(&reply);
        assert_eq!((status, id.as_str()), (422, "unprocessable_entity"), "{body}");
        assert!(said.contains(message), "{body}: {said}");
    }
    let records = cloud.get("/v2/domains/tidepool.example/records").await;
    assert_eq!(records.number("/meta/total"), 4, "nothing of them is left");
}

#[tokio::test]
async fn an_update_keeps_what_is_not_sent() {
    let cloud = cloud_with_domain().await;
    let body =
        json!({"type": "MX", "name": "in", "data": "mail.tidepool.example.", "priority": 10, "ttl": 600});
    let created = create(&cloud, &body).await;
    let path = path(&created);
    for (update, field, value) in [
        (json!({"ttl": 60}), "ttl", json!(60)),
        (json!({"name": "out"}), "name", json!("out")),
        (json!({"data": "other.example."}), "data", json!("other.example")),
        (json!({"priority": 20}), "priority", json!(20)),
        (json!({"priority": 0}), "priority", json!(0)),
        (
            json!({"type": "MX", "ttl": 0, "name": null, "data": ""}),
            "ttl",
            json!(60),
        ),
    ] {
        let before = cloud.get(&path).await.body;
        let reply = cloud.call(Method::PATCH, &path, update.clone()).await;
        let mut expected = before;
        expected["domain_record"][field] = value;
        assert_eq!((reply.status, &reply.body), (200, &expected), "{update}");
        assert_eq!(cloud.get(&path).await.body, expected, "{update}");
    }
    for bad in [
        json!({"type": "A"}),
        json!({"data": "other.example"}),
        json!({"port": 1}),
        json!({"ttl": 1}),
        json!({"name": "a b"}),
    ] {
        assert_eq!(cloud.put(&path, bad.clone()).await.status, 422, "{bad}");
    }
    let soa = cloud.get("/v2/domains/tidepool.example/records?type=SOA").await;
    let soa = format!(
        "/v2/domains/tidepool.example/records/{}",
        soa.number("/domain_records/0/id")
    );
    let changed = cloud.put(&soa, json!({"ttl": 900, "data": "60"})).await;
    assert_eq!(
        (
            changed.number("/domain_record/ttl"),
            changed.text("/domain_record/data")
        ),
        (900, "60".into())
    );
    for bad in [json!({"name": "a"}), json!({"data": "x"}), json!({"type": "NS"})] {
        assert_eq!(cloud.put(&soa, bad.clone()).await.status, 422, "{bad}");
    }
    assert_eq!(cloud.delete(&soa).await.status, 422);
    assert_eq!(cloud.delete(&path).await.status, 204);
    for gone in [&path, "/v2/domains/tidepool.example/records/abc"] {
        assert_eq!(cloud.get(gone).await.status, 404);
        assert_eq!(cloud.delete(gone).await.status, 404);
        assert_eq!(cloud.put(gone, json!({"ttl": 60})).await.status, 404);
    }
}

#[tokio::test]
async fn an_alias_is_alone_with_its_name() {
    let cloud = cloud_with_domain().await;
    let alias = json!({"type": "CNAME", "name": "www", "data": "b.example."});
    let a = json!({"type": "A", "name": "WWW", "data": "10.0.0.1"});
    assert_eq!(create(&cloud, &alias).await.status, 201);
    let message = "CNAME records cannot share a name with other records";
    for body in [&a, &alias] {
        assert_eq!(error(&create(&cloud, body).await).2, message);
    }
    let other = json!({"type": "A", "name": "api", "data": "10.0.0.1"});
    let other = path(&create(&cloud, &other).await);
    assert_eq!(error(&cloud.put(&other, json!({"name": "www"})).await).2, message);
    // Several of the others are no trouble, and one may be there twice.
    for _time in 0..2 {
        assert_eq!(
            create(&cloud, &json!({"type": "A", "name": "many", "data": "10.0.0.2"}))
                .await
                .status,
            201
        );
    }
}

#[tokio::test]
async fn records_are_found_by_name_and_type_and_page_by_page() {
    let cloud = cloud_with_domain().await;
    let create_one = async |nth: usize| {
        let body = json!({"type": "A", "name": format!("h{nth}"), "data": "10.0.0.1"});
        create(&cloud, &body).await.status
    };
    let statuses = join_all((0..25).map(create_one)).await;
    assert!(statuses.iter().all(|status| *status == 201), "{statuses:?}");
    let list = async |query: &str| {
        cloud
            .get(&format!("/v2/domains/tidepool.example/records?{query}"))
            .await
    };
    for (query, total) in [
        ("", 29),
        ("type=A", 25),
        ("type=a&name=h7.tidepool.example", 1),
        ("name=H7.tidepool.example", 1),
        ("name=h7.tidepool.example.&type=TXT", 0),
        ("name=h7", 0),
        ("name=tidepool.example", 4),
        ("type=NS", 3),
        ("type=NOPE", 0),
    ] {
        assert_eq!(list(query).await.number("/meta/total"), total, "{query}");
    }
    let page = list("type=A&per_page=10&page=2").await;
    assert_eq!(page.at("/domain_records").as_array().unwrap().len(), 10);
    assert!(
        page.text("/links/pages/next")
            .ends_with("type=A&per%5Fpage=10&page=3")
            || page.text("/links/pages/next").contains("page=3")
    );
    let ids = list("per_page=200").await;
    let mut ids: Vec<u64> = ids
        .at("/domain_records")
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["id"].as_u64().unwrap())
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), 29);
}

#[tokio::test]
async fn domains_are_kept_and_a_state_without_them_is_read() {
    let mut cloud = cloud_with_domain().await;
    for (sent, _) in forms() {
        assert_eq!(create(&cloud, &sent).await.status, 201);
    }
    let shown = async |cloud: &Cloud| {
        let records = cloud
            .get("/v2/domains/tidepool.example/records?per_page=200")
            .await
            .body;
        (cloud.get("/v2/domains/tidepool.example").await.body, records)
    };
    let before = shown(&cloud).await;
    cloud.stop(Signal::SIGKILL);
    cloud.start_again();
    assert_eq!(shown(&cloud).await, before);
    cloud.stop(Signal::SIGTERM);
    let file = cloud.state_dir().join("cloud.json");
    let mut state: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    for field in ["domains", "registries"] {
        assert!(state.as_object_mut().unwrap().remove(field).is_some(), "{field}");
    }
    std::fs::write(&file, state.to_string()).unwrap();
    cloud.start_again();
    assert_eq!(cloud.get("/v2/domains").await.number("/meta/total"), 0);
}
