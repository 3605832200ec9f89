//! Droplets: what is created, shown, refused and listed.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::common::{Cloud, droplet_body};

#[tokio::test]
async fn a_created_droplet_has_every_field_that_clients_read() {
    let cloud = Cloud::start(&[]);
    let reply = cloud
        .post(
            "/v2/droplets",
            droplet_body("web-1", "tiny", &["env:prod", "a_b"]),
        )
        .await;
    assert_eq!(reply.status, 202);
    assert_eq!(reply.text("/droplet/status"), "new");
    assert_eq!(reply.at("/droplet/networks"), &json!({"v4": [], "v6": []}));
    let id = reply.number("/droplet/id");
    let action = reply.number("/links/actions/0/id");
    assert_eq!(reply.text("/links/actions/0/rel"), "create");
    assert_eq!(
        reply.text("/links/actions/0/href"),
        format!("{}/v2/actions/{action}", cloud.url)
    );
    cloud.settled(id, "active").await;
    let done = cloud.get(&format!("/v2/actions/{action}")).await;
    assert_eq!(done.text("/action/status"), "completed");
    assert_eq!(done.number("/action/resource_id"), id);
    let reply = cloud.get(&format!("/v2/droplets/{id}")).await;
    let droplet = reply.at("/droplet");
    assert_eq!(reply.text("/droplet/name"), "web-1");
    assert_eq!(reply.text("/droplet/networks/v4/0/type"), "public");
    assert_eq!(reply.text("/droplet/networks/v4/1/type"), "private");
    assert_eq!(reply.text("/droplet/region/slug"), "nyc3");
    assert_eq!(reply.text("/droplet/size/slug"), "s-1vcpu-1gb");
    assert_eq!(reply.text("/droplet/size_slug"), "s-1vcpu-1gb");
    assert!(droplet["size"]["price_hourly"].as_f64().unwrap() > 0.0);
    assert_eq!(reply.text("/droplet/image/slug"), "tiny");
    assert_eq!(
        (
            reply.number("/droplet/memory"),
            reply.number("/droplet/vcpus"),
            reply.number("/droplet/disk")
        ),
        (1024, 1, 25)
    );
    assert_eq!(droplet["locked"], false);
    let tags: BTreeSet<&str> = droplet["tags"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(tags, BTreeSet::from(["env:prod", "a_b"]));
    for list in ["features", "backup_ids", "snapshot_ids", "volume_ids"] {
        assert!(droplet[list].is_array(), "{list}");
    }
    let vpc = cloud
        .get(&format!("/v2/vpcs/{}", reply.text("/droplet/vpc_uuid")))
        .await;
    assert_eq!(vpc.at("/vpc/default"), &json!(true));
}

#[tokio::test]
async fn bad_requests_for_droplets_are_refused_and_nothing_is_made() {
    let cloud = Cloud::start(&[]);
    for (field, value) in [
        ("name", json!("")),
        ("name", json!(7)),
        ("name", json!("under_score")),
        ("name", json!("x y")),
        ("image", json!("unknown")),
        ("image", json!(1)),
        ("image", Value::Null),
        ("size", json!("")),
        ("size", json!("huge")),
        ("region", json!("mars1")),
        ("ssh_keys", json!([1])),
        ("ssh_keys", json!(["00:11"])),
        ("tags", json!(["sp ace"])),
        ("tags", json!([1])),
        ("tags", json!("x")),
        ("vpc_uuid", json!("nowhere")),
        ("volumes", json!(["none"])),
        (
            "names",
            json!((0..11).map(|nth| format!("n{nth}")).collect::<Vec<_>>()),
        ),
        ("names", json!([1])),
        ("backups", json!("yes")),
        ("backups", json!(true)),
        ("backup_policy", json!({"plan": "daily", "hour": 0})),
        ("ipv6", json!(true)),
        ("with_droplet_agent", json!(true)),
        ("with_droplet_agent", json!("no")),
        ("public_networking", json!(0)),
        ("private_networking", json!("yes")),
        ("monitoring", json!(1)),
        ("user_data", json!(["#cloud-config"])),
        ("region", json!("")),
        ("region", json!("ny")),
        ("region", json!(3)),
        ("volumes", json!("v")),
        ("names", json!(["other"])),
    ] {
        let mut body = droplet_body("ok", "tiny", &[]);
        body[field] = value.clone();
        let reply = cloud.post("/v2/droplets", body).await;
        assert_eq!(
            (reply.status, reply.text("/id")),
            (422, "unprocessable_entity".into()),
            "{field} {value}"
        );
    }
    assert_eq!(cloud.get("/v2/droplets").await.number("/meta/total"), 0);
    // No region, and no tags: the defaults.
    let mut body = droplet_body("ok", "tiny", &[]);
    body["region"] = Value::Null;
    body["tags"] = Value::Null;
    assert_eq!(cloud.post("/v2/droplets", body).await.status, 202);
}

#[tokio::test]
async fn two_droplets_may_have_one_name_and_several_come_by_names() {
    let cloud = Cloud::start(&[]);
    let (one, two) = (
        cloud.droplet("twin", "tiny", &[]).await,
        cloud.droplet("twin", "tiny", &[]).await,
    );
    assert_ne!(one, two);
    assert_eq!(cloud.get("/v2/droplets?name=TWIN").await.number("/meta/total"), 2);
    let mut body = droplet_body("", "tiny", &["many"]);
    body["names"] = json!(["a", "b", "a"]);
    let reply = cloud.post("/v2/droplets", body).await;
    assert_eq!(reply.status, 202);
    assert_eq!(reply.at("/droplets").as_array().unwrap().len(), 3);
    assert_eq!(reply.at("/links/actions").as_array().unwrap().len(), 3);
    assert_eq!(reply.text("/links/actions/0/rel"), "multiple_create");
    assert_eq!(cloud.delete("/v2/droplets?tag_name=many").await.status, 204);
    assert_eq!(cloud.get("/v2/droplets").await.number("/meta/total"), 2);
}

#[tokio::test]
async fn the_droplet_limit_is_the_quota_error() {
    let cloud = Cloud::start(&["--droplet-limit", "2"]);
    assert_eq!(cloud.get("/v2/account").await.number("/account/droplet_limit"), 2);
    let id = cloud.droplet("a", "tiny", &[]).await;
    let mut body = droplet_body("", "tiny", &[]);
    body["names"] = json!(["b", "c"]);
    let reply = cloud.post("/v2/droplets", body).await;
    assert_eq!(
        (reply.status, reply.text("/id")),
        (422, "unprocessable_entity".into())
    );
    assert_eq!(
        reply.text("/message"),
        "creating this/these droplet(s) will exceed your droplet limit"
    );
    cloud.droplet("b", "tiny", &[]).await;
    assert_eq!(
        cloud
            .post("/v2/droplets", droplet_body("c", "tiny", &[]))
            .await
            .status,
        422
    );
    cloud.delete(&format!("/v2/droplets/{id}")).await;
    cloud.droplet("c", "tiny", &[]).await;
}

#[tokio::test]
async fn more_than_200_droplets_are_paged_with_links_that_lead_on() {
    let cloud = Cloud::start(&[]);
    let mut made = BTreeSet::new();
    for batch in 0..21 {
        let mut body = droplet_body("", "tiny", &["pool:big"]);
        body["names"] = json!((0..10).map(|nth| format!("d-{batch}-{nth}")).collect::<Vec<_>>());
        let reply = cloud.post("/v2/droplets", body).await;
        made.extend(
            reply
                .at("/droplets")
                .as_array()
                .unwrap()
                .iter()
                .map(|droplet| droplet["id"].as_u64().unwrap()),
        );
    }
    cloud.droplet("other", "tiny", &[]).await;
    let mut url = "/v2/droplets?per_page=50&tag_name=pool%3Abig".to_owned();
    let mut seen = Vec::new();
    let mut pages = 0;
    loop {
        let reply = cloud.get(&url).await;
        pages += 1;
        assert_eq!(reply.number("/meta/total"), 210);
        seen.extend(
            reply
                .at("/droplets")
                .as_array()
                .unwrap()
                .iter()
                .map(|droplet| droplet["id"].as_u64().unwrap()),
        );
        match reply.at("/links/pages/next").as_str() {
            Some(next) => url = next.strip_prefix(&cloud.url).unwrap().to_owned(),
            None => break,
        }
    }
    assert_eq!(pages, 5);
    assert_eq!(seen.len(), 210);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), made);
    let first = cloud.get("/v2/droplets?page=1&per_page=200").await;
    assert_eq!(first.at("/droplets").as_array().unwrap().len(), 200);
    assert_eq!(
        first.text("/links/pages/last"),
        format!("{}/v2/droplets?per_page=200&page=2", cloud.url)
    );
    assert_eq!(
        cloud
            .get("/v2/droplets")
            .await
            .at("/droplets")
            .as_array()
            .unwrap()
            .len(),
        20
    );
    // Every one of them is a process.
    cloud
        .until("all run", async || {
            let state = cloud.get("/_local/state").await.body;
            state["droplets"]
                .as_array()
                .unwrap()
                .iter()
                .all(|droplet| droplet["pids"].as_array().unwrap().len() == 1)
        })
        .await;
    assert_eq!(crate::common::marked(&cloud.state_dir()).len(), 211);
    assert_eq!(cloud.delete("/v2/droplets?tag_name=pool:big").await.status, 204);
    assert_eq!(crate::common::marked(&cloud.state_dir()).len(), 1);
}

#[tokio::test]
async fn what_a_droplet_was_asked_to_be_is_shown_and_kept_to() {
    let cloud = Cloud::start(&[]);
    let key = cloud
        .post(
            "/v2/account/keys",
            json!({"name": "me", "public_key": super::keys::KEY}),
        )
        .await;
    let mut body = droplet_body("hidden", "tiny", &[]);
    for (field, value) in [
        ("public_networking", json!(false)),
        ("monitoring", json!(true)),
        ("with_droplet_agent", json!(false)),
        ("ssh_keys", json!([key.number("/ssh_key/id")])),
        (
            "user_data",
            json!("#cloud-config\nwrite_files:\n- path: /etc/x\n  content: x\n"),
        ),
    ] {
        body[field] = value;
    }
    let id = cloud.post("/v2/droplets", body).await.number("/droplet/id");
    cloud.settled(id, "active").await;
    let shown = cloud.get(&format!("/v2/droplets/{id}")).await;
    assert_eq!(
        shown.at("/droplet/features"),
        &json!(["private_networking", "monitoring"])
    );
    let networks = shown.at("/droplet/networks/v4").as_array().unwrap();
    assert_eq!((networks.len(), &networks[0]["type"]), (1, &json!("private")));
    let root = cloud.droplet_state(id).await["root"].as_str().unwrap().to_owned();
    let keys = std::fs::read_to_string(format!("{root}/root/.ssh/authorized_keys")).unwrap();
    assert_eq!(keys, super::keys::KEY);
    // Without a word about it: the defaults.
    let plain = cloud.droplet("plain", "tiny", &[]).await;
    cloud.settled(plain, "active").await;
    let shown = cloud.get(&format!("/v2/droplets/{plain}")).await;
    assert_eq!(shown.at("/droplet/networks/v4").as_array().unwrap().len(), 2);
    assert_eq!(shown.at("/droplet/features"), &json!(["private_networking"]));
}

#[tokio::test]
async fn regions_are_taken_in_any_case_and_by_their_area() {
    let cloud = Cloud::start(&[]);
    for (wanted, slug) in [
        ("NYC3", "nyc3"),
        ("nyc", "nyc3"),
        ("Fra1", "fra1"),
        ("TOR", "tor1"),
    ] {
        let mut body = droplet_body("w", "tiny", &[]);
        body["region"] = json!(wanted);
        let reply = cloud.post("/v2/droplets", body).await;
        assert_eq!(reply.status, 202, "{wanted}: {reply:?}");
        assert_eq!(reply.text("/droplet/region/slug"), slug, "{wanted}");
        let vpc = cloud
            .post(
                "/v2/vpcs",
                json!({"name": format!("net-{wanted}"), "region": wanted}),
            )
            .await;
        assert_eq!(
            (vpc.status, vpc.text("/vpc/region")),
            (201, slug.into()),
            "{vpc:?}"
        );
    }
    // A network has one region, and `nyc` is that one, too.
    let vpc = cloud
        .post("/v2/vpcs", json!({"name": "one", "region": "nyc1"}))
        .await;
    for (region, status) in [("NYC1", 202), ("nyc", 202), ("nyc3", 422), ("fra", 422)] {
        let mut body = droplet_body("w", "tiny", &[]);
        (body["region"], body["vpc_uuid"]) = (json!(region), json!(vpc.text("/vpc/id")));
        let reply = cloud.post("/v2/droplets", body).await;
        assert_eq!(reply.status, status, "{region}: {reply:?}");
        if status == 202 {
            assert_eq!(reply.text("/droplet/region/slug"), "nyc1");
        }
    }
    let mut body = droplet_body("w", "tiny", &[]);
    body["size"] = json!("S-1VCPU-1GB");
    let reply = cloud.post("/v2/droplets", body).await;
    assert_eq!(reply.text("/droplet/size_slug"), "s-1vcpu-1gb");
}

#[tokio::test]
async fn names_follow_the_documented_grammar_at_create_in_lists_and_at_rename() {
    let cloud = Cloud::start(&[]);
    let id = cloud.droplet("a.b-C.9", "tiny", &[]).await;
    cloud.settled(id, "active").await;
    for bad in [
        "web-",
        "web.",
        "-",
        ".",
        "my_droplet",
        "a b",
        "ä",
        &"x".repeat(256),
    ] {
        assert_eq!(
            cloud
                .post("/v2/droplets", droplet_body(bad, "tiny", &[]))
                .await
                .status,
            422,
            "{bad}"
        );
        let mut body = droplet_body("", "tiny", &[]);
        body["names"] = json!(["good", bad]);
        assert_eq!(cloud.post("/v2/droplets", body).await.status, 422, "{bad}");
        let rename = json!({"type": "rename", "name": bad});
        let reply = cloud.post(&format!("/v2/droplets/{id}/actions"), rename).await;
        assert_eq!(reply.status, 422, "{bad}");
    }
    assert_eq!(cloud.get("/v2/droplets").await.number("/meta/total"), 1);
    assert_eq!(
        cloud
            .get(&format!("/v2/droplets/{id}"))
            .await
            .text("/droplet/name"),
        "a.b-C.9"
    );
}

#[tokio::test]
async fn droplets_with_a_gpu_are_listed_apart() {
    let cloud = Cloud::start(&[]);
    let plain = cloud.droplet("plain", "tiny", &["t"]).await;
    let mut body = droplet_body("gpu", "tiny", &["t"]);
    body["size"] = json!("gpu-h100x1-80gb");
    let gpu = cloud.post("/v2/droplets", body).await.number("/droplet/id");
    for (query, id) in [
        ("", plain),
        ("?tag_name=t", plain),
        ("?type=droplets", plain),
        ("?type=gpus", gpu),
        ("?type=gpus&tag_name=t", gpu),
    ] {
        let listed = cloud.get(&format!("/v2/droplets{query}")).await;
        assert_eq!(
            (listed.number("/meta/total"), listed.number("/droplets/0/id")),
            (1, id),
            "{query}"
        );
    }
    assert_eq!(cloud.get("/v2/droplets?type=cats").await.status, 422);
    assert_eq!(cloud.get(&format!("/v2/droplets/{gpu}")).await.status, 200);
    cloud.delete("/v2/droplets?tag_name=t").await;
    assert_eq!(cloud.get(&format!("/v2/droplets/{gpu}")).await.status, 404);
}
