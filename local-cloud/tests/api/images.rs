//! Images and snapshots.

use serde_json::json;

use crate::common::{Cloud, droplet_body};

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, in its order")]
async fn snapshots_are_images_and_droplets_are_made_from_them() {
    let cloud = Cloud::start(&[]);
    let id = cloud.droplet("a", "tiny", &[]).await;
    cloud.settled(id, "active").await;
    let reply = cloud
        .post(
            &format!("/v2/droplets/{id}/actions"),
            json!({"type": "snapshot", "name": "snap"}),
        )
        .await;
    assert_eq!(reply.status, 201);
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
    let mut body = droplet_body("b", "", &[]);
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
async fn an_update_of_an_image_keeps_to_every_field() {
    let cloud = Cloud::start(&[]);
    let id = cloud.droplet("a", "tiny", &[]).await;
    cloud.settled(id, "active").await;
    let path = format!("/v2/droplets/{id}/actions");
    cloud
        .post(&path, json!({"type": "snapshot", "name": "snap"}))
        .await;
    cloud.settled(id, "active").await;
    let snapshot = cloud.get("/v2/snapshots").await.text("/snapshots/0/id");
    let path = format!("/v2/images/{snapshot}");
    let shown = cloud.get(&path).await;
    assert_eq!(
        shown.text("/image/distribution"),
        "Unknown",
        "one of the documented ones"
    );
    let shown = cloud
        .put(&path, json!({"distribution": "Debian", "description": "nightly"}))
        .await;
    assert_eq!(
        (
            shown.text("/image/name"),
            shown.text("/image/distribution"),
            shown.text("/image/description")
        ),
        ("snap".into(), "Debian".into(), "nightly".into())
    );
    let shown = cloud.put(&path, json!({"description": ""})).await;
    assert_eq!(shown.text("/image/description"), "");
    for bad in [
        json!({"name": ""}),
        json!({"name": 1}),
        json!({"distribution": "Tidepool"}),
        json!({"description": 1}),
    ] {
        assert_eq!(cloud.put(&path, bad.clone()).await.status, 422, "{bad}");
    }
    cloud.post("/v2/tags", json!({"name": "t"})).await;
    let resource = json!({"resources": [{"resource_id": snapshot, "resource_type": "image"}]});
    cloud.post("/v2/tags/t/resources", resource).await;
    let shown = cloud.get(&format!("/v2/snapshots/{snapshot}")).await;
    assert_eq!(shown.at("/snapshot/tags"), &json!(["t"]));
    for (order, status) in [
        (json!({"type": "transfer", "region": "FRA1"}), 201),
        (json!({"type": "transfer", "region": ""}), 422),
        (json!({"type": "transfer"}), 422),
        (json!({"type": "convert"}), 422),
    ] {
        let reply = cloud.post(&format!("{path}/actions"), order.clone()).await;
        assert_eq!(reply.status, status, "{order}");
    }
    assert_eq!(
        cloud.get(&path).await.at("/image/regions"),
        &json!(["nyc3", "fra1"])
    );
}
