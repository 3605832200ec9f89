//! Volumes: what is kept of them, what is done with them, and what is refused. On hosts that are processes they are records.

use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{Cloud, Reply, droplet_body};

/// A create as Terraform sends it: every key, those that are not set empty. Source: the provider's own traffic.
fn body(name: &str, gib: u64) -> Value {
    json!({"region": "nyc3", "name": name, "description": "", "size_gigabytes": gib, "snapshot_id": "",
        "filesystem_type": "", "filesystem_label": "", "tags": []})
}

async fn volume(cloud: &Cloud, body: Value) -> String {
    let reply = cloud.post("/v2/volumes", body).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.text("/volume/id")
}

async fn act(cloud: &Cloud, volume: &str, body: Value) -> Reply {
    cloud.post(&format!("/v2/volumes/{volume}/actions"), body).await
}

/// Does it, and waits for the end of the action.
async fn done(cloud: &Cloud, volume: &str, body: Value) -> Reply {
    let reply = act(cloud, volume, body).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    ended(cloud, &reply).await
}

async fn ended(cloud: &Cloud, begun: &Reply) -> Reply {
    let path = format!("/v2/actions/{}", begun.number("/action/id"));
    let mut last = None;
    cloud
        .until("the action has ended", async || {
            let reply = cloud.get(&path).await;
            let is_over = !reply.at("/action/completed_at").is_null();
            last = Some(reply);
            is_over
        })
        .await;
    last.unwrap()
}

#[tokio::test]
async fn a_volume_is_shown_as_it_was_asked_for() {
    let cloud = Cloud::start(&[]);
    let reply = cloud.post("/v2/volumes", body("db-1-commitlog", 10)).await;
    assert_eq!(reply.status, 201);
    let mut shown = reply.at("/volume").clone();
    let fields = shown.as_object_mut().unwrap();
    let region = fields.remove("region").unwrap();
    assert_eq!(region["slug"], "nyc3");
    for field in ["id", "created_at"] {
        assert!(fields.remove(field).unwrap().as_str().is_some(), "{field}");
    }
    assert_eq!(
        shown,
        json!({"name": "db-1-commitlog", "size_gigabytes": 10, "description": "", "droplet_ids": [],
            "filesystem_type": "", "filesystem_label": "", "tags": []})
    );
    let full = json!({"region": "nyc3", "name": "db-1-data", "description": "Cassandra data of db-1", "size_gigabytes": 100,
        "snapshot_id": "", "filesystem_type": "xfs", "filesystem_label": "dbdata", "tags": ["tidepool-db"]});
    let id = volume(&cloud, full).await;
    let reply = cloud.get(&format!("/v2/volumes/{id}")).await;
    for (field, value) in [
        ("filesystem_type", json!("xfs")),
        ("filesystem_label", json!("dbdata")),
        ("description", json!("Cassandra data of db-1")),
        ("tags", json!(["tidepool-db"])),
    ] {
        assert_eq!(reply.at(&format!("/volume/{field}")), &value, "{field}");
    }
    let tag = cloud.get("/v2/tags/tidepool-db").await;
    assert_eq!(tag.number("/tag/resources/volumes/count"), 1);
    assert_eq!(tag.number("/tag/resources/count"), 1);
    assert_eq!(
        tag.text("/tag/resources/volumes/last_tagged_uri"),
        format!("{}/v2/volumes/{id}", cloud.url)
    );
}

#[tokio::test]
async fn what_can_not_be_is_refused() {
    let cloud = Cloud::start(&[]);
    let id = volume(&cloud, body("taken", 1)).await;
    for (field, value, status) in [
        ("name", json!("taken"), 409),
        ("name", json!("Upper"), 422),
        ("name", json!("1st"), 422),
        ("name", json!("a_b"), 422),
        ("name", json!("a/../b"), 422),
        ("name", json!("x".repeat(65)), 422),
        ("name", json!(""), 422),
        ("name", json!(7), 422),
        ("size_gigabytes", json!(0), 422),
        ("size_gigabytes", json!(16_385), 422),
        ("size_gigabytes", json!(1.5), 422),
        ("size_gigabytes", json!("10"), 422),
        ("size_gigabytes", Value::Null, 422),
        ("region", json!("mars1"), 422),
        ("region", Value::Null, 422),
        ("filesystem_type", json!("btrfs"), 422),
        ("filesystem_label", json!("alone"), 422),
        ("snapshot_id", json!("none"), 422),
        ("tags", json!("one"), 422),
        ("tags", json!(["sp ace"]), 422),
        ("description", json!("x".repeat(256)), 422),
    ] {
        let mut body = body("other", 1);
        body[field] = value.clone();
        let reply = cloud.post("/v2/volumes", body).await;
        assert_eq!(reply.status, status, "{field} {value}: {reply:?}");
        assert!(!reply.text("/message").is_empty() && !reply.text("/request_id").is_empty());
    }
    for (kind, longest) in [("ext4", 16), ("xfs", 12)] {
        for (length, status) in [(longest, 201), (longest + 1, 422)] {
            let mut body = body(&format!("{kind}-{length}"), 1);
            body["filesystem_type"] = json!(kind);
            body["filesystem_label"] = json!("l".repeat(length));
            assert_eq!(
                cloud.post("/v2/volumes", body).await.status,
                status,
                "{kind} {length}"
            );
        }
    }
    // The same name in another region is another volume's.
    let mut elsewhere = body("taken", 16_384);
    elsewhere["region"] = json!("fra1");
    volume(&cloud, elsewhere).await;
    for (method, path, status) in [
        (Method::GET, "/v2/volumes/none".to_owned(), 404),
        (Method::DELETE, "/v2/volumes/none".to_owned(), 404),
        (Method::DELETE, "/v2/volumes".to_owned(), 422),
        (Method::DELETE, "/v2/volumes?name=taken".to_owned(), 422),
        (
            Method::DELETE,
            "/v2/volumes?name=none&region=nyc3".to_owned(),
            404,
        ),
        (Method::PUT, "/v2/volumes".to_owned(), 405),
        (Method::PUT, format!("/v2/volumes/{id}"), 405),
        (Method::GET, "/v2/volumes/none/actions".to_owned(), 404),
        (Method::GET, format!("/v2/volumes/{id}/actions/1"), 404),
        (Method::GET, "/v2/volumes/none/snapshots".to_owned(), 404),
        (Method::GET, "/v2/volumes/snapshots/none".to_owned(), 404),
        (Method::DELETE, "/v2/volumes/snapshots/none".to_owned(), 404),
        (Method::DELETE, "/v2/volumes/actions".to_owned(), 404),
        (Method::GET, format!("/v2/volumes/{id}/else"), 404),
    ] {
        let reply = cloud.call(method.clone(), &path, Value::Null).await;
        assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
    }
}

#[tokio::test]
async fn volumes_are_found_by_name_and_region_and_deleted_by_them() {
    let cloud = Cloud::start(&[]);
    for name in ["a", "b", "c"] {
        volume(&cloud, body(name, 1)).await;
    }
    let mut elsewhere = body("a", 1);
    elsewhere["region"] = json!("fra1");
    volume(&cloud, elsewhere).await;
    for (query, total) in [
        ("", 4),
        ("?name=a", 2),
        ("?region=nyc3", 3),
        ("?name=a&region=fra1", 1),
        ("?name=z", 0),
    ] {
        let reply = cloud.get(&format!("/v2/volumes{query}")).await;
        assert_eq!(reply.number("/meta/total"), total, "{query}");
    }
    let page = cloud.get("/v2/volumes?per_page=3").await;
    assert_eq!(page.at("/volumes").as_array().unwrap().len(), 3);
    assert!(page.text("/links/pages/next").contains("page=2"));
    let path = "/v2/volumes?name=a&region=nyc3";
    assert_eq!(cloud.delete(path).await.status, 204);
    assert_eq!(cloud.delete(path).await.status, 404);
    assert_eq!(cloud.get("/v2/volumes").await.number("/meta/total"), 3);
}

#[tokio::test]
async fn a_volume_is_attached_to_one_droplet_and_outlives_it() {
    let cloud = Cloud::start(&[]);
    let droplet = cloud.droplet("db-1", "tiny", &[]).await;
    cloud.settled(droplet, "active").await;
    let id = volume(&cloud, body("data", 10)).await;
    let attach = json!({"type": "attach", "droplet_id": droplet, "region": "nyc3"});
    let begun = act(&cloud, &id, attach.clone()).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    for (field, value) in [
        ("type", json!("attach_volume")),
        ("status", json!("in-progress")),
        ("completed_at", Value::Null),
        ("resource_id", json!(droplet)),
        ("resource_type", json!("backend")),
        ("region_slug", json!("nyc3")),
    ] {
        assert_eq!(begun.at(&format!("/action/{field}")), &value, "{field}");
    }
    let over = ended(&cloud, &begun).await;
    assert_eq!(over.text("/action/status"), "completed");
    let path = format!("/v2/volumes/{id}");
    assert_eq!(
        cloud.get(&path).await.at("/volume/droplet_ids"),
        &json!([droplet])
    );
    let shown = cloud.get(&format!("/v2/droplets/{droplet}")).await;
    assert_eq!(shown.at("/droplet/volume_ids"), &json!([id]));
    assert_eq!(shown.at("/droplet/locked"), false);
    let twice = act(&cloud, &id, attach.clone()).await;
    assert_eq!(
        (twice.status, twice.text("/message")),
        (422, "This volume is already attached".into())
    );
    let refused = cloud.delete(&path).await;
    assert_eq!((refused.status, refused.text("/id")), (409, "conflict".into()));
    let resized = done(
        &cloud,
        &id,
        json!({"type": "resize", "size_gigabytes": 120, "region": "nyc3"}),
    )
    .await;
    assert_eq!(resized.text("/action/type"), "resize");
    assert_eq!(resized.text("/action/resource_type"), "volume");
    assert!(resized.at("/action/resource_id").is_null());
    assert_eq!(cloud.get(&path).await.number("/volume/size_gigabytes"), 120);
    let actions = cloud.get(&format!("{path}/actions")).await;
    assert_eq!(actions.number("/meta/total"), 2);
    let one = format!("{path}/actions/{}", actions.number("/actions/0/id"));
    assert_eq!(cloud.get(&one).await.text("/action/type"), "resize");
    let of_droplet = cloud.get(&format!("/v2/droplets/{droplet}/actions")).await;
    assert_eq!(of_droplet.text("/actions/0/type"), "attach_volume");
    for (bad, status) in [
        (json!({"type": "resize", "size_gigabytes": 5}), 422),
        (json!({"type": "resize", "size_gigabytes": 20_000}), 422),
        (
            json!({"type": "resize", "size_gigabytes": 200, "region": "fra1"}),
            422,
        ),
        (json!({"type": "detach", "droplet_id": 1}), 422),
        (json!({"type": "detach"}), 422),
        (json!({"type": "format"}), 422),
        (json!({}), 422),
    ] {
        assert_eq!(act(&cloud, &id, bad.clone()).await.status, status, "{bad}");
    }
    assert_eq!(cloud.delete(&format!("/v2/droplets/{droplet}")).await.status, 204);
    let left = cloud.get(&path).await;
    assert_eq!((left.status, left.at("/volume/droplet_ids")), (200, &json!([])));
    let gone = act(&cloud, &id, attach).await;
    assert_eq!(gone.status, 404, "there is no such droplet");
    assert_eq!(cloud.delete(&path).await.status, 204);
    assert_eq!(cloud.delete(&path).await.status, 404);
}

#[tokio::test]
async fn a_droplet_has_seven_volumes_at_most_and_they_come_one_after_the_other() {
    let cloud = Cloud::start(&[]);
    let mut ids = Vec::new();
    for number in 0..8 {
        ids.push(volume(&cloud, body(&format!("v{number}"), 1)).await);
    }
    let mut wanted = droplet_body("many", "tiny", &[]);
    wanted["volumes"] = json!(ids);
    assert_eq!(cloud.post("/v2/droplets", wanted.clone()).await.status, 422);
    wanted["volumes"] = json!(&ids[..5]);
    let reply = cloud.post("/v2/droplets", wanted.clone()).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let droplet = reply.number("/droplet/id");
    assert_eq!(reply.at("/droplet/volume_ids").as_array().unwrap().len(), 5);
    cloud.settled(droplet, "active").await;
    // Both at once, as Terraform does: one is told to come again.
    let attach = json!({"type": "attach", "droplet_id": droplet});
    let both = tokio::join!(
        act(&cloud, &ids[5], attach.clone()),
        act(&cloud, &ids[6], attach.clone())
    );
    for (id, reply) in [(&ids[5], both.0), (&ids[6], both.1)] {
        if reply.status == 422 {
            assert_eq!(reply.text("/message"), "Droplet already has a pending event.");
            cloud.settled(droplet, "active").await;
            done(&cloud, id, attach.clone()).await;
        } else {
            ended(&cloud, &reply).await;
        }
    }
    let one_more = act(&cloud, &ids[7], attach).await;
    assert_eq!(one_more.status, 422);
    assert!(one_more.text("/message").contains("at most 7"), "{one_more:?}");
    for (field, value) in [
        ("volumes", json!(["none"])),
        ("volumes", json!([1])),
        ("volumes", json!([ids[0]])),
        ("volumes", json!("x")),
    ] {
        wanted[field] = value.clone();
        assert_eq!(
            cloud.post("/v2/droplets", wanted.clone()).await.status,
            422,
            "{value}"
        );
    }
    let mut elsewhere = droplet_body("far", "tiny", &[]);
    elsewhere["region"] = json!("fra1");
    elsewhere["volumes"] = json!([ids[7]]);
    assert_eq!(cloud.post("/v2/droplets", elsewhere).await.status, 422);
}

#[tokio::test]
async fn volumes_are_attached_and_detached_by_name() {
    let cloud = Cloud::start(&[]);
    let droplet = cloud.droplet("a", "tiny", &[]).await;
    cloud.settled(droplet, "active").await;
    let id = volume(&cloud, body("by-name", 1)).await;
    let order = |kind: &str| json!({"type": kind, "volume_name": "by-name", "region": "nyc3", "droplet_id": droplet, "tags": ["t"]});
    for (kind, attached) in [("attach", json!([droplet])), ("detach", json!([]))] {
        let reply = cloud.post("/v2/volumes/actions", order(kind)).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        assert_eq!(ended(&cloud, &reply).await.text("/action/status"), "completed");
        let shown = cloud.get(&format!("/v2/volumes/{id}")).await;
        assert_eq!(shown.at("/volume/droplet_ids"), &attached, "{kind}");
        assert_eq!(shown.at("/volume/tags"), &json!(["t"]));
    }
    let again = cloud.post("/v2/volumes/actions", order("detach")).await;
    assert_eq!(
        (again.status, again.text("/message")),
        (422, "Attachment not found".into())
    );
    let mut unknown = order("attach");
    unknown["volume_name"] = json!("none");
    assert_eq!(cloud.post("/v2/volumes/actions", unknown).await.status, 404);
}

#[tokio::test]
async fn snapshots_of_volumes_are_listed_with_the_others_and_become_volumes() {
    let cloud = Cloud::start(&[]);
    let mut wanted = body("origin", 10);
    wanted["filesystem_type"] = json!("ext4");
    let id = volume(&cloud, wanted).await;
    let path = format!("/v2/volumes/{id}/snapshots");
    let made = cloud
        .post(&path, json!({"name": "first", "tags": ["keep"]}))
        .await;
    assert_eq!(made.status, 201, "{made:?}");
    let snapshot = made.text("/snapshot/id");
    for (field, value) in [
        ("name", json!("first")),
        ("resource_id", json!(id)),
        ("resource_type", json!("volume")),
        ("min_disk_size", json!(10)),
        ("regions", json!(["nyc3"])),
        ("tags", json!(["keep"])),
    ] {
        assert_eq!(made.at(&format!("/snapshot/{field}")), &value, "{field}");
    }
    assert_eq!(cloud.post(&path, json!({"name": "first"})).await.status, 409);
    assert_eq!(cloud.post(&path, json!({})).await.status, 422);
    for list in [
        path.as_str(),
        "/v2/snapshots",
        "/v2/snapshots?resource_type=volume",
    ] {
        assert_eq!(cloud.get(list).await.text("/snapshots/0/id"), snapshot, "{list}");
    }
    assert_eq!(
        cloud
            .get("/v2/snapshots?resource_type=droplet")
            .await
            .number("/meta/total"),
        0
    );
    assert_eq!(
        cloud
            .get(&format!("/v2/snapshots/{snapshot}"))
            .await
            .text("/snapshot/name"),
        "first"
    );
    assert_eq!(
        cloud
            .get("/v2/tags/keep")
            .await
            .number("/tag/resources/volume_snapshots/count"),
        1
    );
    assert_eq!(cloud.delete(&format!("/v2/volumes/{id}")).await.status, 204);
    let mut again = json!({"name": "again", "size_gigabytes": 9, "snapshot_id": snapshot});
    assert_eq!(
        cloud.post("/v2/volumes", again.clone()).await.status,
        422,
        "too small"
    );
    again["size_gigabytes"] = json!(20);
    let reply = cloud.post("/v2/volumes", again).await;
    assert_eq!(
        (reply.status, reply.text("/volume/filesystem_type")),
        (201, "ext4".into()),
        "{reply:?}"
    );
    assert_eq!(reply.text("/volume/region/slug"), "nyc3");
    assert_eq!(
        cloud.delete(&format!("/v2/snapshots/{snapshot}")).await.status,
        204
    );
    assert_eq!(
        cloud
            .get(&format!("/v2/volumes/snapshots/{snapshot}"))
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn volumes_are_tagged_and_survive_a_restart() {
    let mut cloud = Cloud::start(&[]);
    let droplet = cloud.droplet("a", "tiny", &[]).await;
    cloud.settled(droplet, "active").await;
    let id = volume(&cloud, body("kept", 3)).await;
    done(&cloud, &id, json!({"type": "attach", "droplet_id": droplet})).await;
    cloud.post("/v2/tags", json!({"name": "Role:DB"})).await;
    let resources = json!({"resources": [{"resource_id": id, "resource_type": "volume"}]});
    for _ in 0..2 {
        let reply = cloud.post("/v2/tags/role:db/resources", resources.clone()).await;
        assert_eq!(reply.status, 204);
    }
    assert_eq!(cloud.stop(nix::sys::signal::Signal::SIGKILL), None);
    cloud.start_again();
    let shown = cloud.get(&format!("/v2/volumes/{id}")).await;
    assert_eq!(shown.at("/volume/droplet_ids"), &json!([droplet]));
    assert_eq!(shown.at("/volume/tags"), &json!(["Role:DB"]));
    let reply = cloud
        .call(Method::DELETE, "/v2/tags/role:db/resources", resources)
        .await;
    assert_eq!(reply.status, 204);
    let shown = cloud.get(&format!("/v2/volumes/{id}")).await;
    assert_eq!(shown.at("/volume/tags"), &json!([]));
}
