//! Regions, sizes and the account.

use crate::common::Cloud;

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
