//! Firewalls of droplets.

use futures_util::future::join_all;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{Cloud, Reply};

/// A rule for ssh from everywhere.
fn ssh() -> Value {
    json!({"protocol": "tcp", "ports": "22", "sources": {"addresses": ["0.0.0.0/0", "::/0"]}})
}

fn body(name: &str) -> Value {
    json!({"name": name, "inbound_rules": [ssh()]})
}

async fn tag(cloud: &Cloud, name: &str) {
    assert_eq!(cloud.post("/v2/tags", json!({"name": name})).await.status, 201);
}

/// Creates a firewall; its path.
async fn create(cloud: &Cloud, body: Value) -> String {
    let reply = cloud.post("/v2/firewalls", body).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    format!("/v2/firewalls/{}", reply.text("/firewall/id"))
}

/// Names of the firewalls over a droplet.
async fn over(cloud: &Cloud, droplet: u64) -> Vec<String> {
    let reply = cloud.get(&format!("/v2/droplets/{droplet}/firewalls")).await;
    let firewalls = reply.at("/firewalls").as_array().cloned().unwrap_or_default();
    assert_eq!(reply.number("/meta/total"), firewalls.len() as u64);
    let name = |firewall: &Value| firewall["name"].as_str().unwrap_or_default().to_owned();
    firewalls.iter().map(name).collect()
}

fn refused(reply: &Reply, status: u16, says: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert!(reply.text("/message").contains(says), "{says}: {reply:?}");
    assert!(!reply.text("/request_id").is_empty());
}

/// What Terraform's provider was seen to send, and what it needs to find again so that its second plan is empty
/// (digitalocean/terraform-provider-digitalocean@401992a).
#[tokio::test]
async fn terraforms_firewalls_come_back_in_the_form_that_it_compares() {
    let cloud = Cloud::start(&[]);
    for name in ["tidepool-db", "serving:api", "tidepool-autoscaler"] {
        tag(&cloud, name).await;
    }
    let (balancer, _) = cloud.balancer("serving:api", json!({})).await;
    let droplet = cloud.droplet("db-1", "tiny", &["tidepool-db"]).await;
    let sent = json!({
        "name": "tidepool-db",
        "inbound_rules": [
            {"protocol": "tcp", "ports": "7000-7001", "sources": {"tags": ["tidepool-db"]}},
            {"protocol": "tcp", "ports": "22", "sources": {"addresses": ["203.0.113.7/32", "2001:db8::/48"]}},
            {"protocol": "tcp", "ports": "9042", "sources": {"tags": ["serving:api", "tidepool-autoscaler"]}},
            {"protocol": "tcp", "ports": "9090",
                "sources": {"addresses": ["10.20.0.0/20"], "load_balancer_uids": [balancer]}},
            {"protocol": "tcp", "ports": "5601", "sources": {"droplet_ids": [droplet]}},
            {"protocol": "icmp", "sources": {"addresses": ["10.20.0.0/20"]}},
        ],
        "outbound_rules": [
            {"protocol": "udp", "ports": "all", "destinations": {"addresses": ["0.0.0.0/0", "::/0"]}},
            {"protocol": "tcp", "ports": "1-65535", "destinations": {"addresses": ["0.0.0.0/0", "::/0"]}},
        ],
        "droplet_ids": null,
        "tags": ["tidepool-db"],
    });
    let created = cloud.post("/v2/firewalls", sent.clone()).await;
    assert_eq!(created.status, 202);
    let path = format!("/v2/firewalls/{}", created.text("/firewall/id"));
    let mut expected = sent.clone();
    expected["inbound_rules"][5]["ports"] = json!("0");
    expected["outbound_rules"][0]["ports"] = json!("0");
    expected["droplet_ids"] = json!([]);
    expected["id"] = created.at("/firewall/id").clone();
    expected["created_at"] = created.at("/firewall/created_at").clone();
    expected["status"] = json!("waiting");
    expected["pending_changes"] = json!([{"droplet_id": droplet, "removing": false, "status": "waiting"}]);
    assert_eq!(created.at("/firewall"), &expected);
    expected["status"] = json!("succeeded");
    expected["pending_changes"] = json!([]);
    assert_eq!(cloud.get(&path).await.at("/firewall"), &expected);
    // The whole again, and as it was read.
    for again in [sent, expected.clone()] {
        let put = cloud.put(&path, again).await;
        assert_eq!(put.status, 200, "{put:?}");
        assert_eq!(cloud.get(&path).await.at("/firewall"), &expected);
    }
    let fewer = json!({"name": "tidepool-db", "inbound_rules": [ssh()]});
    let put = cloud.put(&path, fewer).await;
    assert_eq!(
        put.at("/firewall/pending_changes"),
        &json!([{"droplet_id": droplet, "removing": true, "status": "waiting"}])
    );
    let shown = cloud.get(&path).await;
    assert_eq!(
        (shown.at("/firewall/tags"), shown.at("/firewall/outbound_rules")),
        (&json!([]), &json!([]))
    );
    assert_eq!(cloud.delete(&path).await.status, 204);
    for gone in [
        cloud.get(&path).await,
        cloud.delete(&path).await,
        cloud.put(&path, body("x-1")).await,
    ] {
        refused(&gone, 404, "could not be found");
    }
}

#[tokio::test]
async fn a_droplet_is_under_a_firewall_by_its_id_or_by_a_tag_at_once() {
    let cloud = Cloud::start(&[]);
    tag(&cloud, "Web").await;
    let (one, two) = (
        cloud.droplet("one", "tiny", &[]).await,
        cloud.droplet("two", "tiny", &["web"]).await,
    );
    let path = create(
        &cloud,
        json!({"name": "fw", "outbound_rules": [
        {"protocol": "icmp", "ports": "0", "destinations": {"tags": ["web"]}}], "droplet_ids": [one, one]}),
    )
    .await;
    assert_eq!(cloud.get(&path).await.at("/firewall/droplet_ids"), &json!([one]));
    assert_eq!(
        (over(&cloud, one).await, over(&cloud, two).await),
        (vec!["fw".to_owned()], vec![])
    );
    let tags = format!("{path}/tags");
    for _again in 0..2 {
        assert_eq!(cloud.post(&tags, json!({"tags": ["WEB"]})).await.status, 204);
    }
    let shown = cloud.get(&path).await;
    assert_eq!(
        shown.at("/firewall/tags"),
        &json!(["Web"]),
        "the tag's own spelling, once"
    );
    assert_eq!(
        shown.at("/firewall/droplet_ids"),
        &json!([one]),
        "never those by tag"
    );
    assert_eq!(over(&cloud, two).await, ["fw"]);
    let resources = json!({"resources": [{"resource_id": two.to_string(), "resource_type": "droplet"}]});
    cloud
        .call(Method::DELETE, "/v2/tags/web/resources", resources.clone())
        .await;
    assert_eq!(over(&cloud, two).await, [] as [&str; 0]);
    cloud.post("/v2/tags/web/resources", resources).await;
    assert_eq!(over(&cloud, two).await, ["fw"]);
    for (method, list) in [
        (Method::POST, json!([two])),
        (Method::DELETE, json!([one, two])),
        (Method::DELETE, json!([one])),
    ] {
        let reply = cloud
            .call(method, &format!("{path}/droplets"), json!({"droplet_ids": list}))
            .await;
        assert_eq!((reply.status, &reply.body), (204, &Value::Null));
    }
    assert_eq!(
        (over(&cloud, one).await, over(&cloud, two).await),
        (vec![], vec!["fw".to_owned()])
    );
    // What a firewall names and is no more, it names no longer.
    assert_eq!(cloud.delete("/v2/tags/web").await.status, 204);
    let shown = cloud.get(&path).await;
    assert_eq!(shown.at("/firewall/tags"), &json!([]));
    assert_eq!(shown.at("/firewall/outbound_rules/0/destinations"), &json!({}));
    cloud
        .post(&format!("{path}/droplets"), json!({"droplet_ids": [one]}))
        .await;
    cloud.delete(&format!("/v2/droplets/{one}")).await;
    assert_eq!(cloud.get(&path).await.at("/firewall/droplet_ids"), &json!([]));
    refused(
        &cloud.get(&format!("/v2/droplets/{one}/firewalls")).await,
        404,
        "",
    );
}

#[tokio::test]
async fn rules_are_added_and_removed_whole() {
    let cloud = Cloud::start(&[]);
    let path = create(&cloud, body("fw")).await;
    let rules = format!("{path}/rules");
    let web =
        json!({"protocol": "tcp", "ports": "all", "sources": {"addresses": ["10.0.0.0/8", "192.0.2.1"]}});
    let out = json!({"protocol": "udp", "ports": "53", "destinations": {"addresses": ["0.0.0.0/0"]}});
    let both = json!({"inbound_rules": [web, ssh()], "outbound_rules": [out]});
    for _again in 0..2 {
        assert_eq!(cloud.post(&rules, both.clone()).await.status, 204);
    }
    let shown = cloud.get(&path).await;
    let count = |pointer| shown.at(pointer).as_array().unwrap().len();
    assert_eq!(
        (
            count("/firewall/inbound_rules"),
            count("/firewall/outbound_rules")
        ),
        (2, 1)
    );
    // In another order, and in the normal form.
    let web = json!({"protocol": "tcp", "ports": "0", "sources": {"addresses": ["192.0.2.1", "10.0.0.0/8"]}});
    let remove = async |body: Value| cloud.call(Method::DELETE, &rules, body).await;
    assert_eq!(remove(json!({"inbound_rules": [web]})).await.status, 204);
    refused(
        &remove(json!({"inbound_rules": [web, ssh()]})).await,
        422,
        "no such rule for tcp",
    );
    assert_eq!(
        cloud.get(&path).await.at("/firewall/inbound_rules/0/ports"),
        "22",
        "nothing of it is done"
    );
    assert_eq!(remove(json!({"outbound_rules": [out]})).await.status, 204);
    refused(
        &remove(json!({"inbound_rules": [ssh()]})).await,
        422,
        "at least one rule",
    );
    refused(&remove(json!({})).await, 422, "at least one rule");
    refused(
        &cloud.post(&rules, json!({"inbound_rules": []})).await,
        422,
        "at least one rule",
    );
}

#[tokio::test]
async fn what_a_firewall_cannot_be_is_refused_with_its_place() {
    let cloud = Cloud::start(&[]);
    let path = create(&cloud, body("fw")).await;
    refused(
        &cloud.post("/v2/firewalls", body("fw")).await,
        409,
        "duplicate name",
    );
    let other = create(&cloud, body("fw-2")).await;
    refused(&cloud.put(&other, body("fw")).await, 409, "duplicate name");
    assert_eq!(
        cloud.put(&path, body("fw")).await.status,
        200,
        "its own name is no other's"
    );
    for name in ["", "a", "-a", ".a", "a_b", "a b", "ä-b", &"a".repeat(256)] {
        assert_eq!(
            cloud.post("/v2/firewalls", body(name)).await.status,
            422,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_rule_that_cannot_be_is_refused_with_its_place() {
    let cloud = Cloud::start(&[]);
    let path = create(&cloud, body("fw")).await;
    for (rule, says) in [
        (json!("x"), "[0]: a rule must be an object"),
        (json!({}), "protocol must be"),
        (json!({"protocol": "sctp"}), "protocol must be"),
        (json!({"protocol": "TCP", "ports": "1"}), "protocol must be"),
        (json!({"protocol": 6, "ports": "1"}), "protocol must be a string"),
        (
            json!({"protocol": "tcp", "sources": {"addresses": ["::/0"]}}),
            "ports are needed",
        ),
        (json!({"protocol": "udp", "ports": ""}), "ports are needed"),
        (json!({"protocol": "tcp", "ports": 22}), "ports must be a string"),
        (
            json!({"protocol": "tcp", "ports": "22,80"}),
            "`22,80` names no ports",
        ),
        (json!({"protocol": "tcp", "ports": "0-100"}), "names no ports"),
        (json!({"protocol": "tcp", "ports": "90-80"}), "names no ports"),
        (json!({"protocol": "tcp", "ports": "65536"}), "names no ports"),
        (json!({"protocol": "icmp", "ports": "8"}), "icmp has none"),
        (json!({"protocol": "tcp", "ports": "22"}), "sources must name"),
        (
            json!({"protocol": "tcp", "ports": "22", "destinations": {"addresses": ["::/0"]}}),
            "sources must name",
        ),
        (
            json!({"protocol": "tcp", "ports": "22", "sources": []}),
            "sources must name",
        ),
        (
            json!({"protocol": "tcp", "ports": "22", "sources": {}}),
            "sources must name",
        ),
        (
            json!({"protocol": "tcp", "ports": "22", "sources": {"addresses": []}}),
            "sources must name",
        ),
        (
            json!({"protocol": "tcp", "ports": "22", "sources": {"addresses": "::/0"}}),
            "addresses must be a list",
        ),
        (
            json!({"protocol": "tcp", "ports": "22", "sources": {"addresses": [1]}}),
            "a list of strings",
        ),
        (
            json!({"protocol": "tcp", "ports": "22", "sources": {"addresses": ["10.0.0.0/33"]}}),
            "`10.0.0.0/33` is not",
        ),
        (
            json!({"protocol": "tcp", "ports": "22", "sources": {"addresses": ["web"]}}),
            "`web` is not",
        ),
        (
            json!({"protocol": "tcp", "ports": "22", "sources": {"tags": ["none"]}}),
            "no tag `none`",
        ),
        (
            json!({"protocol": "tcp", "ports": "22", "sources": {"droplet_ids": [1]}}),
            "no Droplet 1",
        ),
        (
            json!({"protocol": "tcp", "ports": "22", "sources": {"droplet_ids": ["1"]}}),
            "no Droplet \"1\"",
        ),
        (
            json!({"protocol": "tcp", "ports": "22", "sources": {"load_balancer_uids": ["x"]}}),
            "no load balancer `x`",
        ),
        (
            json!({"protocol": "tcp", "ports": "22", "sources": {"kubernetes_ids": ["x"]}}),
            "kubernetes_ids",
        ),
    ] {
        let reply = cloud
            .put(&path, json!({"name": "fw", "inbound_rules": [rule]}))
            .await;
        refused(&reply, 422, says);
    }
    let shown = cloud.get(&path).await;
    assert_eq!(
        shown.at("/firewall/inbound_rules"),
        &json!([ssh()]),
        "nothing of that was done"
    );
}

#[tokio::test]
async fn a_body_or_a_method_that_cannot_be_is_refused() {
    let cloud = Cloud::start(&[]);
    let path = create(&cloud, body("fw")).await;
    for (field, value, says) in [
        ("inbound_rules", json!({}), "inbound_rules must be a list"),
        ("inbound_rules", json!([]), "at least one rule"),
        ("inbound_rules", Value::Null, "at least one rule"),
        ("droplet_ids", json!([7]), "no Droplet 7"),
        ("droplet_ids", json!(7), "must be a list"),
        ("tags", json!(["none"]), "no tag `none`"),
        ("tags", json!([1]), "tags must be a list of strings"),
    ] {
        let mut body = body("fw");
        body[field] = value;
        refused(&cloud.put(&path, body).await, 422, says);
    }
    for (part, body) in [
        ("droplets", json!({})),
        ("tags", json!({})),
        ("tags", json!({"tags": "x"})),
        ("droplets", json!({"droplet_ids": [1]})),
    ] {
        let reply = cloud.post(&format!("{path}/{part}"), body).await;
        assert_eq!(reply.status, 422, "{reply:?}");
    }
    for (method, path, allowed) in [
        (Method::PATCH, path.clone(), "GET, HEAD, PUT, DELETE"),
        (Method::PUT, "/v2/firewalls".to_owned(), "GET, HEAD, POST"),
        (Method::GET, format!("{path}/rules"), "POST, DELETE"),
    ] {
        let reply = cloud.call(method, &path, Value::Null).await;
        assert_eq!(
            (reply.status, reply.headers["allow"].to_str().unwrap()),
            (405, allowed)
        );
    }
    let shown = cloud.get(&path).await;
    assert_eq!(
        shown.at("/firewall/inbound_rules"),
        &json!([ssh()]),
        "nothing of that was done"
    );
}

#[tokio::test]
async fn the_documented_limits_hold_at_creates_and_at_changes() {
    let cloud = Cloud::start(&[]);
    let mut droplets = Vec::new();
    for nth in 0..11 {
        droplets.push(cloud.droplet(&format!("d{nth}"), "tiny", &[]).await);
    }
    let tags: Vec<String> = (0..6).map(|nth| format!("t{nth}")).collect();
    for name in &tags {
        tag(&cloud, name).await;
    }
    let rules = |range: std::ops::Range<u32>| {
        let rule = |port: u32| json!({"protocol": "tcp", "ports": port.to_string(), "sources": {"addresses": ["::1"]}});
        range.map(rule).collect::<Vec<Value>>()
    };
    let outbound = json!([{"protocol": "icmp", "destinations": {"addresses": ["::/0"]}}]);
    for (field, value, says) in [
        ("droplet_ids", json!(droplets), "at most 10 Droplets"),
        ("tags", json!(tags), "at most 5 tags"),
        ("inbound_rules", json!(rules(1..51)), "at most 50 rules"),
    ] {
        let mut body = body("fw");
        body["outbound_rules"] = outbound.clone();
        body[field] = value;
        refused(&cloud.post("/v2/firewalls", body).await, 422, says);
    }
    let addresses: Vec<String> = (0..1_001)
        .map(|nth| format!("10.0.{}.{}", nth / 256, nth % 256))
        .collect();
    let many = |count: usize| json!({"protocol": "tcp", "ports": "22", "sources": {"addresses": addresses[..count]}});
    refused(
        &cloud
            .post(
                "/v2/firewalls",
                json!({"name": "fw", "inbound_rules": [many(1_001)]}),
            )
            .await,
        422,
        "at most 1000 entries",
    );
    let inbound = [vec![many(1_000)], rules(1..49)].concat();
    let full = json!({"name": "fw", "inbound_rules": inbound,
        "outbound_rules": outbound, "droplet_ids": droplets[..10], "tags": tags[..5]});
    let path = create(&cloud, full).await;
    for (part, body) in [
        ("droplets", json!({"droplet_ids": [droplets[10]]})),
        ("tags", json!({"tags": [tags[5]]})),
        ("rules", json!({"inbound_rules": rules(99..100)})),
    ] {
        refused(&cloud.post(&format!("{path}/{part}"), body).await, 422, "at most");
    }
}

#[tokio::test]
async fn lists_page_and_calls_at_once_lose_nothing() {
    let cloud = Cloud::start(&[]);
    let creates = (0..7).map(|nth| cloud.post("/v2/firewalls", body(&format!("fw-{nth}"))));
    let created = join_all(creates).await;
    assert!(created.iter().all(|reply| reply.status == 202));
    let same = join_all((0..5).map(|_| cloud.post("/v2/firewalls", body("same")))).await;
    let mut statuses: Vec<u16> = same.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 409, 409, 409, 409]);
    let page = cloud.get("/v2/firewalls?per_page=3&page=2").await;
    assert_eq!(
        (
            page.at("/firewalls").as_array().unwrap().len(),
            page.number("/meta/total")
        ),
        (3, 8)
    );
    assert!(
        page.text("/links/pages/last")
            .ends_with("/v2/firewalls?per_page=3&page=3")
    );
    let path = format!("/v2/firewalls/{}", created[0].text("/firewall/id"));
    let rules = (1..=20).map(|port: u32| {
        let rule = json!({"protocol": "udp", "ports": port.to_string(), "sources": {"addresses": ["::/0"]}});
        let path = format!("{path}/rules");
        let cloud = &cloud;
        async move { cloud.post(&path, json!({"inbound_rules": [rule]})).await.status }
    });
    assert_eq!(join_all(rules).await, [204; 20]);
    assert_eq!(
        cloud
            .get(&path)
            .await
            .at("/firewall/inbound_rules")
            .as_array()
            .unwrap()
            .len(),
        21
    );
}

#[tokio::test]
async fn firewalls_outlive_the_cloud_and_a_state_without_them_is_read() {
    let mut cloud = Cloud::start(&[]);
    tag(&cloud, "web").await;
    let droplet = cloud.droplet("web-1", "tiny", &["web"]).await;
    let mut whole = body("fw");
    whole["tags"] = json!(["web"]);
    whole["outbound_rules"] =
        json!([{"protocol": "tcp", "ports": "8000-9000", "destinations": {"droplet_ids": [droplet]}}]);
    let path = create(&cloud, whole).await;
    let before = cloud.get(&path).await.body;
    cloud.stop(Signal::SIGKILL);
    cloud.start_again();
    assert_eq!(cloud.get(&path).await.body, before);
    assert_eq!(over(&cloud, droplet).await, ["fw"]);
    assert_eq!(cloud.stop(Signal::SIGTERM), Some(0));
    let file = cloud.state_dir().join("cloud.json");
    let mut state: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let removed = state.as_object_mut().unwrap().remove("firewalls");
    assert!(removed.is_some_and(|firewalls| firewalls.as_object().unwrap().len() == 1));
    std::fs::write(&file, state.to_string()).unwrap();
    cloud.start_again();
    assert_eq!(cloud.get("/v2/firewalls").await.number("/meta/total"), 0);
    assert_eq!(over(&cloud, droplet).await, [] as [&str; 0]);
}
