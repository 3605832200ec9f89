//! The API as clients see it: fields, pages, errors, limits.

#![expect(clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::BTreeSet;

use common::{Cloud, told, wish};
use reqwest::Method;
use serde_json::{Value, json};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me\n";

#[tokio::test]
async fn a_token_is_needed_and_any_will_do_unless_one_is_set() {
    let cloud = Cloud::start(&[]);
    for token in [None, Some(""), Some(" ")] {
        let told = cloud
            .call_as(token, Method::GET, "/v2/account", &Value::Null)
            .await;
        assert_eq!(
            (told.status, told.text("/id")),
            (401, "unauthorized".into()),
            "{token:?}"
        );
        assert!(!told.text("/request_id").is_empty());
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
    // What the real one has not needs no token.
    assert_eq!(
        strict
            .call_as(None, Method::GET, "/_local/faults", &Value::Null)
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn unreadable_calls_are_told_why() {
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
        let told = cloud.call(method.clone(), path, Value::Null).await;
        assert_eq!(told.status, status, "{method} {path}: {told:?}");
        for field in ["/id", "/message", "/request_id"] {
            assert!(!told.text(field).is_empty(), "{method} {path} {field}");
        }
    }
    let http = common::client();
    for (body, status) in [("{", 400), ("[]", 400), ("7", 400), ("\"x\"", 400), ("", 422)] {
        let request = http
            .post(format!("{}/v2/droplets", cloud.url))
            .bearer_auth("t")
            .body(body);
        let answer = told(request.send().await.unwrap()).await;
        assert_eq!(answer.status, status, "{body:?}: {answer:?}");
    }
    let large = http
        .post(format!("{}/v2/droplets", cloud.url))
        .bearer_auth("t")
        .body("x".repeat(1_100_000));
    assert_eq!(large.send().await.unwrap().status(), 413);
}

#[tokio::test]
async fn a_created_droplet_has_every_field_that_clients_read() {
    let cloud = Cloud::start(&[]);
    let told = cloud
        .post("/v2/droplets", wish("web-1", "tiny", &["env:prod", "a_b"]))
        .await;
    assert_eq!(told.status, 202);
    assert_eq!(told.text("/droplet/status"), "new");
    assert_eq!(told.at("/droplet/networks"), &json!({"v4": [], "v6": []}));
    let id = told.number("/droplet/id");
    let action = told.number("/links/actions/0/id");
    assert_eq!(told.text("/links/actions/0/rel"), "create");
    assert_eq!(
        told.text("/links/actions/0/href"),
        format!("{}/v2/actions/{action}", cloud.url)
    );
    cloud.settled(id, "active").await;
    let done = cloud.get(&format!("/v2/actions/{action}")).await;
    assert_eq!(done.text("/action/status"), "completed");
    assert_eq!(done.number("/action/resource_id"), id);
    let told = cloud.get(&format!("/v2/droplets/{id}")).await;
    let droplet = told.at("/droplet");
    assert_eq!(told.text("/droplet/name"), "web-1");
    assert_eq!(told.text("/droplet/networks/v4/0/type"), "public");
    assert_eq!(told.text("/droplet/networks/v4/1/type"), "private");
    assert_eq!(told.text("/droplet/region/slug"), "nyc3");
    assert_eq!(told.text("/droplet/size/slug"), "s-1vcpu-1gb");
    assert_eq!(told.text("/droplet/size_slug"), "s-1vcpu-1gb");
    assert!(droplet["size"]["price_hourly"].as_f64().unwrap() > 0.0);
    assert_eq!(told.text("/droplet/image/slug"), "tiny");
    assert_eq!(
        (
            told.number("/droplet/memory"),
            told.number("/droplet/vcpus"),
            told.number("/droplet/disk")
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
        .get(&format!("/v2/vpcs/{}", told.text("/droplet/vpc_uuid")))
        .await;
    assert_eq!(vpc.at("/vpc/default"), &json!(true));
}

#[tokio::test]
async fn bad_wishes_for_droplets_are_refused_and_nothing_is_made() {
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
        ("volumes", json!(["v"])),
        (
            "names",
            json!((0..11).map(|nth| format!("n{nth}")).collect::<Vec<_>>()),
        ),
        ("names", json!([1])),
        ("backups", json!("yes")),
    ] {
        let mut body = wish("ok", "tiny", &[]);
        body[field] = value.clone();
        let told = cloud.post("/v2/droplets", body).await;
        assert_eq!(
            (told.status, told.text("/id")),
            (422, "unprocessable_entity".into()),
            "{field} {value}"
        );
    }
    assert_eq!(cloud.get("/v2/droplets").await.number("/meta/total"), 0);
    // As doctl sends it: no region given is an empty text, no tags are null.
    let mut body = wish("ok", "tiny", &[]);
    body["region"] = json!("");
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
    let mut body = wish("", "tiny", &["many"]);
    body["names"] = json!(["a", "b", "a"]);
    let told = cloud.post("/v2/droplets", body).await;
    assert_eq!(told.status, 202);
    assert_eq!(told.at("/droplets").as_array().unwrap().len(), 3);
    assert_eq!(told.at("/links/actions").as_array().unwrap().len(), 3);
    assert_eq!(told.text("/links/actions/0/rel"), "multiple_create");
    assert_eq!(cloud.delete("/v2/droplets?tag_name=many").await.status, 204);
    assert_eq!(cloud.get("/v2/droplets").await.number("/meta/total"), 2);
}

#[tokio::test]
async fn the_droplet_limit_is_the_quota_error() {
    let cloud = Cloud::start(&["--droplet-limit", "2"]);
    assert_eq!(cloud.get("/v2/account").await.number("/account/droplet_limit"), 2);
    let id = cloud.droplet("a", "tiny", &[]).await;
    let mut body = wish("", "tiny", &[]);
    body["names"] = json!(["b", "c"]);
    let told = cloud.post("/v2/droplets", body).await;
    assert_eq!(
        (told.status, told.text("/id")),
        (422, "unprocessable_entity".into())
    );
    assert_eq!(
        told.text("/message"),
        "creating this/these droplet(s) will exceed your droplet limit"
    );
    cloud.droplet("b", "tiny", &[]).await;
    assert_eq!(
        cloud.post("/v2/droplets", wish("c", "tiny", &[])).await.status,
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
        let mut body = wish("", "tiny", &["pool:big"]);
        body["names"] = json!((0..10).map(|nth| format!("d-{batch}-{nth}")).collect::<Vec<_>>());
        let told = cloud.post("/v2/droplets", body).await;
        made.extend(
            told.at("/droplets")
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
        let told = cloud.get(&url).await;
        pages += 1;
        assert_eq!(told.number("/meta/total"), 210);
        seen.extend(
            told.at("/droplets")
                .as_array()
                .unwrap()
                .iter()
                .map(|droplet| droplet["id"].as_u64().unwrap()),
        );
        match told.at("/links/pages/next").as_str() {
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
    assert_eq!(common::marked(&cloud.state_dir()).len(), 211);
    assert_eq!(cloud.delete("/v2/droplets?tag_name=pool:big").await.status, 204);
    assert_eq!(common::marked(&cloud.state_dir()).len(), 1);
}

#[tokio::test]
async fn tags_are_put_on_and_taken_off() {
    let cloud = Cloud::start(&[]);
    let id = cloud.droplet("a", "tiny", &[]).await;
    let unknown = json!({"resources": [{"resource_id": id.to_string(), "resource_type": "droplet"}]});
    assert_eq!(
        cloud
            .post("/v2/tags/pool:x/resources", unknown.clone())
            .await
            .status,
        404
    );
    for _ in 0..2 {
        let told = cloud.post("/v2/tags", json!({"name": "pool:x"})).await;
        assert_eq!((told.status, told.text("/tag/name")), (201, "pool:x".into()));
    }
    let told = cloud.post("/v2/tags", json!({"name": "POOL:X"})).await;
    assert_eq!(told.text("/tag/name"), "pool:x", "the first spelling counts");
    for bad in [
        json!(""),
        json!("sp ace"),
        json!("ä"),
        json!("x".repeat(256)),
        json!(1),
    ] {
        assert_eq!(
            cloud.post("/v2/tags", json!({"name": bad})).await.status,
            422,
            "{bad}"
        );
    }
    // Raw as godo sends it, escaped as pydo does.
    assert_eq!(
        cloud
            .post("/v2/tags/pool:x/resources", unknown.clone())
            .await
            .status,
        204
    );
    assert_eq!(
        cloud
            .post("/v2/tags/pool%3Ax/resources", unknown.clone())
            .await
            .status,
        204
    );
    let tag = cloud.get("/v2/tags/pool%3Ax").await;
    assert_eq!(tag.number("/tag/resources/count"), 1);
    assert_eq!(tag.number("/tag/resources/droplets/count"), 1);
    assert_eq!(
        tag.text("/tag/resources/droplets/last_tagged_uri"),
        format!("{}/v2/droplets/{id}", cloud.url)
    );
    for kind in ["images", "volumes", "volume_snapshots", "databases"] {
        assert_eq!(tag.number(&format!("/tag/resources/{kind}/count")), 0);
    }
    assert_eq!(
        cloud
            .get("/v2/droplets?tag_name=pool:x")
            .await
            .number("/meta/total"),
        1
    );
    for (bad, status) in [
        (
            json!({"resources": [{"resource_id": "1", "resource_type": "droplet"}]}),
            404,
        ),
        (
            json!({"resources": [{"resource_id": id.to_string(), "resource_type": "volume"}]}),
            404,
        ),
        (json!({"resources": [{"resource_id": id.to_string()}]}), 422),
        (json!({"resources": 1}), 422),
    ] {
        assert_eq!(
            cloud.post("/v2/tags/pool:x/resources", bad.clone()).await.status,
            status,
            "{bad}"
        );
    }
    let off = cloud
        .call(Method::DELETE, "/v2/tags/pool:x/resources", unknown)
        .await;
    assert_eq!(off.status, 204);
    assert_eq!(
        cloud
            .get("/v2/droplets?tag_name=pool:x")
            .await
            .number("/meta/total"),
        0
    );
    let b = cloud.droplet("b", "tiny", &["pool:x"]).await;
    assert_eq!(cloud.delete("/v2/tags/pool:x").await.status, 204);
    assert_eq!(
        cloud.get(&format!("/v2/droplets/{b}")).await.at("/droplet/tags"),
        &json!([])
    );
    assert_eq!(cloud.get("/v2/tags").await.number("/meta/total"), 0);
}

#[tokio::test]
async fn actions_are_checked_listed_and_come_by_tag() {
    let cloud = Cloud::start(&[]);
    let (a, b) = (
        cloud.droplet("a", "tiny", &["t"]).await,
        cloud.droplet("b", "tiny", &["t"]).await,
    );
    for id in [a, b] {
        cloud.settled(id, "active").await;
    }
    let path = format!("/v2/droplets/{a}/actions");
    for bad in [
        json!({}),
        json!({"type": "explode"}),
        json!({"type": "rename"}),
        json!({"type": "rename", "name": "x y"}),
        json!({"type": "resize", "size": "huge"}),
        json!({"type": "resize", "size": "s-2vcpu-2gb"}),
    ] {
        assert_eq!(cloud.post(&path, bad.clone()).await.status, 422, "{bad}");
    }
    assert_eq!(
        cloud
            .post("/v2/droplets/1/actions", json!({"type": "reboot"}))
            .await
            .status,
        404
    );
    assert_eq!(
        cloud
            .post(&path, json!({"type": "rename", "name": "renamed"}))
            .await
            .status,
        201
    );
    cloud
        .until("it is renamed", async || {
            cloud
                .get(&format!("/v2/droplets/{a}"))
                .await
                .text("/droplet/name")
                == "renamed"
        })
        .await;
    cloud.settled(a, "active").await;
    let told = cloud
        .post("/v2/droplets/actions?tag_name=t", json!({"type": "power_off"}))
        .await;
    assert_eq!(
        (told.status, told.at("/actions").as_array().unwrap().len()),
        (201, 2)
    );
    for id in [a, b] {
        cloud.settled(id, "off").await;
    }
    assert_eq!(
        cloud
            .post(&path, json!({"type": "resize", "size": "s-2vcpu-2gb"}))
            .await
            .status,
        201
    );
    cloud
        .until("it is resized", async || {
            cloud
                .get(&format!("/v2/droplets/{a}"))
                .await
                .text("/droplet/size_slug")
                == "s-2vcpu-2gb"
        })
        .await;
    let listed = cloud.get(&path).await;
    assert_eq!(listed.number("/meta/total"), 4);
    assert_eq!(listed.text("/actions/0/type"), "resize", "the newest first");
    let action = listed.number("/actions/0/id");
    assert_eq!(cloud.get(&format!("{path}/{action}")).await.status, 200);
    assert_eq!(
        cloud
            .get(&format!("/v2/droplets/{b}/actions/{action}"))
            .await
            .status,
        404
    );
    assert_eq!(
        cloud
            .get("/v2/actions?per_page=2")
            .await
            .at("/actions")
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn snapshots_are_images_and_droplets_are_made_from_them() {
    let cloud = Cloud::start(&[]);
    let id = cloud.droplet("a", "tiny", &[]).await;
    cloud.settled(id, "active").await;
    let told = cloud
        .post(
            &format!("/v2/droplets/{id}/actions"),
            json!({"type": "snapshot", "name": "snap"}),
        )
        .await;
    assert_eq!(told.status, 201);
    cloud
        .until("the snapshot is there", async || {
            cloud
                .get(&format!("/v2/droplets/{id}/snapshots"))
                .await
                .number("/meta/total")
                == 1
        })
        .await;
    let snapshot = cloud
        .get(&format!("/v2/droplets/{id}/snapshots"))
        .await
        .number("/snapshots/0/id");
    let image = cloud.get(&format!("/v2/images/{snapshot}")).await;
    assert_eq!(
        (image.text("/image/name"), image.text("/image/status")),
        ("snap".into(), "available".into())
    );
    assert_eq!(
        cloud.get("/v2/images?private=true").await.number("/meta/total"),
        1
    );
    assert_eq!(
        cloud
            .get("/v2/images?type=distribution")
            .await
            .number("/meta/total"),
        3
    );
    assert_eq!(
        cloud
            .get("/v2/images?type=application")
            .await
            .number("/meta/total"),
        0
    );
    assert_eq!(cloud.get("/v2/images").await.number("/meta/total"), 4);
    let by_slug = cloud.get("/v2/images/tiny").await;
    let by_id = cloud
        .get(&format!("/v2/images/{}", by_slug.number("/image/id")))
        .await;
    assert_eq!(by_slug.at("/image"), by_id.at("/image"));
    cloud.post("/v2/tags", json!({"name": "t"})).await;
    let resource = json!({"resources": [{"resource_id": snapshot.to_string(), "resource_type": "image"}]});
    assert_eq!(cloud.post("/v2/tags/t/resources", resource).await.status, 204);
    assert_eq!(
        cloud.get("/v2/images?tag_name=t").await.number("/images/0/id"),
        snapshot
    );
    assert_eq!(
        cloud
            .get("/v2/snapshots?resource_type=droplet")
            .await
            .text("/snapshots/0/id"),
        snapshot.to_string()
    );
    assert_eq!(
        cloud
            .get("/v2/snapshots?resource_type=volume")
            .await
            .number("/meta/total"),
        0
    );
    let moved = cloud
        .post(
            &format!("/v2/images/{snapshot}/actions"),
            json!({"type": "transfer", "region": "fra1"}),
        )
        .await;
    assert_eq!(
        (moved.status, moved.text("/action/resource_type")),
        (201, "image".into())
    );
    assert_eq!(
        cloud
            .put(&format!("/v2/images/{snapshot}"), json!({"name": "new"}))
            .await
            .text("/image/name"),
        "new"
    );
    let mut body = wish("b", "", &[]);
    body["image"] = json!(snapshot);
    let made = cloud.post("/v2/droplets", body).await;
    assert_eq!((made.status, made.number("/droplet/image/id")), (202, snapshot));
    cloud.pids(made.number("/droplet/id"), 1).await;
    assert_eq!(cloud.delete(&format!("/v2/images/{snapshot}")).await.status, 204);
    assert_eq!(cloud.get(&format!("/v2/snapshots/{snapshot}")).await.status, 404);
    assert_eq!(
        cloud.delete("/v2/images/tiny").await.status,
        404,
        "the directory's images stay"
    );
}

#[tokio::test]
async fn keys_are_found_by_id_and_fingerprint() {
    let cloud = Cloud::start(&[]);
    let told = cloud
        .post("/v2/account/keys", json!({"name": "me", "public_key": KEY}))
        .await;
    assert_eq!(told.status, 201);
    let (id, fingerprint) = (told.number("/ssh_key/id"), told.text("/ssh_key/fingerprint"));
    assert_eq!(told.text("/ssh_key/public_key"), KEY);
    assert_eq!(
        cloud
            .post("/v2/account/keys", json!({"name": "again", "public_key": KEY}))
            .await
            .status,
        422
    );
    assert_eq!(
        cloud
            .post(
                "/v2/account/keys",
                json!({"name": "bad", "public_key": "nonsense"})
            )
            .await
            .status,
        422
    );
    for wanted in [
        id.to_string(),
        fingerprint.clone(),
        fingerprint.replace(':', "%3A"),
    ] {
        assert_eq!(
            cloud
                .get(&format!("/v2/account/keys/{wanted}"))
                .await
                .number("/ssh_key/id"),
            id
        );
    }
    let renamed = cloud
        .put(&format!("/v2/account/keys/{fingerprint}"), json!({"name": "new"}))
        .await;
    assert_eq!(renamed.text("/ssh_key/name"), "new");
    let mut body = wish("a", "tiny", &[]);
    body["ssh_keys"] = json!([id, fingerprint]);
    assert_eq!(cloud.post("/v2/droplets", body).await.status, 202);
    assert_eq!(cloud.delete(&format!("/v2/account/keys/{id}")).await.status, 204);
    assert_eq!(cloud.get("/v2/account/keys").await.number("/meta/total"), 0);
}

#[tokio::test]
async fn networks_are_records_that_protect_their_members() {
    let cloud = Cloud::start(&[]);
    let told = cloud
        .post("/v2/vpcs", json!({"name": "net", "region": "nyc3"}))
        .await;
    assert_eq!(told.status, 201);
    let id = told.text("/vpc/id");
    assert!(told.text("/vpc/ip_range").starts_with("10."));
    assert_eq!(told.text("/vpc/urn"), format!("do:vpc:{id}"));
    for bad in [
        json!({"name": "net", "region": "nyc3"}),
        json!({"name": "x", "region": "mars1"}),
        json!({"region": "nyc3"}),
        json!({"name": "x", "region": "nyc3", "ip_range": "8.8.8.0/24"}),
        json!({"name": "x", "region": "nyc3", "ip_range": "10.0.0.0/8"}),
    ] {
        assert_eq!(cloud.post("/v2/vpcs", bad.clone()).await.status, 422, "{bad}");
    }
    let mut body = wish("a", "tiny", &[]);
    body["vpc_uuid"] = json!(id);
    let droplet = cloud.post("/v2/droplets", body).await.number("/droplet/id");
    let members = cloud.get(&format!("/v2/vpcs/{id}/members")).await;
    assert_eq!(members.text("/members/0/urn"), format!("do:droplet:{droplet}"));
    assert_eq!(cloud.delete(&format!("/v2/vpcs/{id}")).await.status, 403);
    let put = cloud
        .put(
            &format!("/v2/vpcs/{id}"),
            json!({"name": "new", "description": "d", "default": true}),
        )
        .await;
    assert_eq!(
        (put.text("/vpc/name"), put.at("/vpc/default").clone()),
        ("new".into(), json!(true))
    );
    assert_eq!(
        cloud.delete(&format!("/v2/vpcs/{id}")).await.status,
        403,
        "the default one stays"
    );
    let other = cloud
        .post("/v2/vpcs", json!({"name": "other", "region": "nyc3"}))
        .await
        .text("/vpc/id");
    cloud
        .call(
            Method::PATCH,
            &format!("/v2/vpcs/{other}"),
            json!({"default": true}),
        )
        .await;
    cloud.delete(&format!("/v2/droplets/{droplet}")).await;
    assert_eq!(cloud.delete(&format!("/v2/vpcs/{id}")).await.status, 204);
    assert_eq!(cloud.get("/v2/vpcs").await.number("/meta/total"), 1);
}

#[tokio::test]
async fn the_catalogue_has_what_clients_read() {
    let cloud = Cloud::start(&[]);
    let sizes = cloud.get("/v2/sizes").await;
    for field in [
        "slug",
        "memory",
        "vcpus",
        "disk",
        "transfer",
        "price_monthly",
        "price_hourly",
        "regions",
        "available",
        "description",
    ] {
        assert!(!sizes.at(&format!("/sizes/0/{field}")).is_null(), "{field}");
    }
    let regions = cloud.get("/v2/regions").await;
    for field in ["slug", "name", "features", "sizes", "available"] {
        assert!(!regions.at(&format!("/regions/0/{field}")).is_null(), "{field}");
    }
    let account = cloud.get("/v2/account").await;
    for field in [
        "droplet_limit",
        "floating_ip_limit",
        "email",
        "uuid",
        "email_verified",
        "status",
        "status_message",
        "team",
    ] {
        assert!(!account.at(&format!("/account/{field}")).is_null(), "{field}");
    }
}

#[tokio::test]
async fn rate_limits_are_told_and_kept() {
    let cloud = Cloud::start(&[]);
    let told = cloud.get("/v2/account").await;
    assert_eq!(told.header("ratelimit-limit"), Some(100_000));
    assert_eq!(told.header("ratelimit-remaining"), Some(99_999));
    assert!(told.header("ratelimit-reset").unwrap() > 1_700_000_000);
    assert!(told.headers.contains_key("x-request-id") && told.header("retry-after").is_none());
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
