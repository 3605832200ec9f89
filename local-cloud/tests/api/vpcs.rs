//! Private networks.

use reqwest::Method;
use serde_json::json;

use crate::common::{Cloud, wish};

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
