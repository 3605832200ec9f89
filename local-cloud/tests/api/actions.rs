//! Actions on droplets.

use serde_json::{Value, json};

use crate::common::{Cloud, droplet_body};

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, in its order")]
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
        json!({"type": "enable_ipv6"}),
        json!({"type": "enable_backups", "backup_policy": {"plan": "daily", "hour": 0}}),
        json!({"type": "change_backup_policy", "backup_policy": {"plan": "daily", "hour": 0}}),
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
    let reply = cloud
        .post("/v2/droplets/actions?tag_name=t", json!({"type": "power_off"}))
        .await;
    assert_eq!(
        (reply.status, reply.at("/actions").as_array().unwrap().len()),
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
async fn a_disk_grows_only_when_asked_and_never_shrinks() {
    let cloud = Cloud::start(&[]);
    let mut body = droplet_body("a", "tiny", &[]);
    body["size"] = json!("s-1vcpu-1gb");
    let id = cloud.post("/v2/droplets", body).await.number("/droplet/id");
    cloud.settled(id, "active").await;
    let act = async |order: Value| cloud.post(&format!("/v2/droplets/{id}/actions"), order).await;
    act(json!({"type": "power_off"})).await;
    cloud.settled(id, "off").await;
    // Processor and memory alone: the disk stays, and the way back is open.
    let resize = async |size: &str, disk: Value| {
        let answer = act(json!({"type": "resize", "size": size, "disk": disk})).await;
        if answer.status == 201 {
            cloud.settled(id, "off").await;
        }
        let shown = cloud.get(&format!("/v2/droplets/{id}")).await;
        (
            answer.status,
            shown.text("/droplet/size_slug"),
            shown.number("/droplet/disk"),
        )
    };
    assert_eq!(
        resize("s-2vcpu-4gb", json!(false)).await,
        (201, "s-2vcpu-4gb".into(), 25)
    );
    assert_eq!(
        resize("s-1vcpu-1gb", json!(false)).await,
        (201, "s-1vcpu-1gb".into(), 25)
    );
    assert_eq!(
        resize("s-2vcpu-4gb", json!(true)).await,
        (201, "s-2vcpu-4gb".into(), 80)
    );
    for disk in [json!(true), json!(false), Value::Null] {
        assert_eq!(resize("s-1vcpu-1gb", disk).await, (422, "s-2vcpu-4gb".into(), 80));
    }
    assert_eq!(resize("s-4vcpu-8gb", json!("yes")).await.0, 422);
    assert_eq!(
        resize("gpu-h100x1-80gb", json!(true)).await.0,
        422,
        "no way to a GPU"
    );
    let reply = act(json!({"type": "resize", "size": "s-1vcpu-1gb", "disk": true})).await;
    assert_eq!(
        reply.text("/message"),
        "Size can not decrease size of Droplet's disk image."
    );
}

#[tokio::test]
async fn only_some_actions_are_for_all_droplets_with_a_tag() {
    let cloud = Cloud::start(&[]);
    let id = cloud.droplet("a", "tiny", &["t"]).await;
    cloud.settled(id, "active").await;
    for order in [
        json!({"type": "rename", "name": "b"}),
        json!({"type": "resize", "size": "s-2vcpu-2gb"}),
        json!({"type": "reboot"}),
        json!({"type": "enable_ipv6"}),
    ] {
        let reply = cloud.post("/v2/droplets/actions?tag_name=t", order.clone()).await;
        assert_eq!(reply.status, 422, "{order}");
    }
}
