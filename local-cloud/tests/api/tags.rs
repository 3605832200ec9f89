//! Tags, and what has them.

use reqwest::Method;
use serde_json::json;

use crate::common::Cloud;

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, in its order")]
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
        let reply = cloud.post("/v2/tags", json!({"name": "pool:x"})).await;
        assert_eq!((reply.status, reply.text("/tag/name")), (201, "pool:x".into()));
    }
    let reply = cloud.post("/v2/tags", json!({"name": "POOL:X"})).await;
    assert_eq!(reply.text("/tag/name"), "pool:x", "the first spelling counts");
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
        (json!({}), 422),
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
async fn tags_are_compared_without_case_wherever_they_are_named() {
    let cloud = Cloud::start(&[]);
    cloud.post("/v2/tags", json!({"name": "pool:API"})).await;
    let id = cloud.droplet("a", "web", &["Pool:Api", "POOL:api"]).await;
    cloud.settled(id, "active").await;
    let shown = cloud.get(&format!("/v2/droplets/{id}")).await;
    assert_eq!(
        shown.at("/droplet/tags"),
        &json!(["pool:API"]),
        "the first spelling, once"
    );
    let total = async |path: &str| cloud.get(path).await.number("/meta/total");
    assert_eq!(total("/v2/droplets?tag_name=pool:api").await, 1);
    assert_eq!(cloud.get("/v2/tags/POOL:API").await.text("/tag/name"), "pool:API");
    let (balancer, _) = cloud.balancer("POOL:api", json!({})).await;
    let shown = cloud.get(&format!("/v2/load_balancers/{balancer}")).await;
    assert_eq!(shown.text("/load_balancer/tag"), "pool:API");
    assert_eq!(shown.at("/load_balancer/droplet_ids"), &json!([id]));
    let resource = json!({"resources": [{"resource_id": id.to_string(), "resource_type": "droplet"}]});
    let path = "/v2/tags/pool%3aapi/resources";
    assert_eq!(
        cloud.call(Method::DELETE, path, resource.clone()).await.status,
        204
    );
    assert_eq!(total("/v2/droplets?tag_name=pool:API").await, 0);
    assert_eq!(cloud.post(path, resource).await.status, 204);
    assert_eq!(total("/v2/droplets?tag_name=pool:API").await, 1);
    let acted = cloud
        .post(
            "/v2/droplets/actions?tag_name=POOL:API",
            json!({"type": "snapshot", "name": "s"}),
        )
        .await;
    assert_eq!(acted.at("/actions").as_array().unwrap().len(), 1);
    cloud.settled(id, "active").await;
    let snapshot = cloud.get("/v2/snapshots").await.text("/snapshots/0/id");
    let image = json!({"resources": [{"resource_id": snapshot, "resource_type": "image"}]});
    assert_eq!(cloud.post(path, image).await.status, 204);
    assert_eq!(total("/v2/images?tag_name=pool:api").await, 1);
    assert_eq!(cloud.delete("/v2/tags/pool:api").await.status, 204);
    assert_eq!(cloud.get("/v2/tags").await.number("/meta/total"), 0);
    let other = cloud.droplet("b", "tiny", &["pool:api"]).await;
    assert_eq!(cloud.delete("/v2/droplets?tag_name=POOL:API").await.status, 204);
    assert_eq!(cloud.get(&format!("/v2/droplets/{other}")).await.status, 404);
}

/// A balancer that names a tag before anybody has it, in another spelling than it gets.
#[tokio::test]
async fn a_balancer_finds_its_droplets_whatever_the_case_of_the_tag() {
    let cloud = Cloud::start(&[]);
    let (balancer, _) = cloud.balancer("serving:api", json!({})).await;
    let id = cloud.droplet("a", "tiny", &["serving:API"]).await;
    let shown = cloud.get(&format!("/v2/load_balancers/{balancer}")).await;
    assert_eq!(shown.at("/load_balancer/droplet_ids"), &json!([id]));
}
