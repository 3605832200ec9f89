//! Actions on droplets.

use serde_json::json;

use crate::common::Cloud;

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
