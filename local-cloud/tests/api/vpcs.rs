//! Private networks.

use reqwest::Method;
use serde_json::json;

use crate::common::{Cloud, droplet_body};

#[tokio::test]
async fn networks_are_records_that_protect_their_members() {
    let cloud = Cloud::start(&[]);
    let reply = cloud
        .post("/v2/vpcs", json!({"name": "net", "region": "nyc3"}))
        .await;
    assert_eq!(reply.status, 201);
    let id = reply.text("/vpc/id");
    assert!(reply.text("/vpc/ip_range").starts_with("10."));
    assert_eq!(reply.text("/vpc/urn"), format!("do:vpc:{id}"));
    for bad in [
        json!({"name": "net", "region": "nyc3"}),
        json!({"name": "x", "region": "mars1"}),
        json!({"region": "nyc3"}),
        json!({"name": "x", "region": "nyc3", "ip_range": "8.8.8.0/24"}),
        json!({"name": "x", "region": "nyc3", "ip_range": "10.0.0.0/8"}),
        json!({"name": "x", "region": "nyc3", "ip_range": "10.9.0.1/16"}),
        json!({"name": "x", "region": "nyc3", "ip_range": "10.9.0.0"}),
        json!({"name": "x", "region": ""}),
        json!({"name": "under_score", "region": "nyc3"}),
        json!({"name": "x y", "region": "nyc3"}),
        json!({"name": "x", "region": "nyc3", "description": "d".repeat(256)}),
        json!({"name": "x", "region": "nyc3", "default": true}),
    ] {
        assert_eq!(cloud.post("/v2/vpcs", bad.clone()).await.status, 422, "{bad}");
    }
    let mut body = droplet_body("a", "tiny", &[]);
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
async fn ranges_of_networks_never_overlap() {
    let cloud = Cloud::start(&[]);
    let create = async |name: &str, region: &str, range: Option<&str>| {
        let body = json!({"name": name, "region": region, "ip_range": range});
        cloud.post("/v2/vpcs", body).await
    };
    assert_eq!(create("a", "nyc3", Some("10.10.0.0/16")).await.status, 201);
    for range in ["10.10.10.0/24", "10.10.0.0/16", "10.10.255.240/28"] {
        let refused = create("b", "ams3", Some(range)).await;
        assert_eq!(
            (refused.status, refused.text("/id")),
            (422, "unprocessable_entity".into())
        );
        assert!(refused.text("/message").contains("overlaps"), "{refused:?}");
    }
    assert_eq!(create("b", "ams3", Some("10.11.0.0/16")).await.status, 201);
    // Over what would be chosen next.
    assert_eq!(create("c", "ams3", Some("10.100.0.0/16")).await.status, 201);
    let (one, two) = futures_util::future::join(create("d", "nyc3", None), create("e", "nyc3", None)).await;
    assert_eq!((one.status, two.status), (201, 201));
    let ranges = [one.text("/vpc/ip_range"), two.text("/vpc/ip_range")];
    assert_ne!(ranges[0], ranges[1]);
    // A default network is made by use, and is kept clear, too.
    let droplet = cloud.droplet("x", "tiny", &[]).await;
    let shown = cloud.get(&format!("/v2/droplets/{droplet}")).await;
    let default = cloud
        .get(&format!("/v2/vpcs/{}", shown.text("/droplet/vpc_uuid")))
        .await
        .text("/vpc/ip_range");
    assert!(
        !ranges.contains(&default) && !default.starts_with("10.100."),
        "{default}"
    );
    let refused = create("f", "fra1", Some(&default)).await;
    assert_eq!(refused.status, 422);
}

#[tokio::test]
async fn an_update_of_a_network_keeps_to_every_field_or_refuses_it() {
    let cloud = Cloud::start(&[]);
    let create = json!({"name": "a", "region": "nyc3", "description": "d"});
    let id = cloud.post("/v2/vpcs", create).await.text("/vpc/id");
    cloud
        .post("/v2/vpcs", json!({"name": "b", "region": "nyc3"}))
        .await;
    let path = format!("/v2/vpcs/{id}");
    for bad in [
        json!({"name": "b"}),
        json!({"name": "under_score"}),
        json!({"name": ""}),
        json!({"default": "yes"}),
        json!({"region": "fra1"}),
        json!({"ip_range": "10.200.0.0/20"}),
    ] {
        assert_eq!(cloud.put(&path, bad.clone()).await.status, 422, "{bad}");
    }
    let shown = cloud.put(&path, json!({"name": "a", "description": ""})).await;
    assert_eq!(
        (shown.status, shown.text("/vpc/description")),
        (200, String::new())
    );
    let shown = cloud.put(&path, json!({"name": "a", "default": true})).await;
    assert_eq!(shown.at("/vpc/default"), &json!(true));
    let refused = cloud.put(&path, json!({"name": "a", "default": false})).await;
    assert_eq!(refused.status, 422, "a region keeps its default network");
    let whole = cloud.get(&path).await.at("/vpc").clone();
    assert_eq!(cloud.put(&path, whole).await.status, 200, "as it was read");
}
