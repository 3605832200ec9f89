//! The container registry: records and credentials. Answers as in recorded traffic of Terraform's provider (2026-11-27).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};

use crate::common::Cloud;

fn basic() -> Value {
    json!({"name": "Basic", "slug": "basic", "included_repositories": 5, "included_storage_bytes": 5_368_709_120_u64,
        "allow_storage_overage": true, "included_bandwidth_bytes": 5_368_709_120_u64, "monthly_price_in_cents": 500,
        "storage_overage_price_in_cents": 2})
}

fn create_body() -> Value {
    json!({"name": "tidepool", "subscription_tier_slug": "basic", "region": "nyc3"})
}

#[tokio::test]
async fn a_registry_is_made_shown_and_deleted_as_the_provider_does_it() {
    let mut cloud = Cloud::start(&[]);
    for nothing in [
        "/v2/registry",
        "/v2/registries/tidepool",
        "/v2/registries/subscription",
        "/v2/registry/docker-credentials",
    ] {
        let reply = cloud.get(nothing).await;
        assert_eq!(
            (reply.status, reply.text("/id")),
            (404, "not_found".into()),
            "{nothing}"
        );
    }
    let created = cloud.post("/v2/registry", create_body()).await;
    assert_eq!(created.status, 201);
    let at = created.text("/registry/created_at");
    let subscription = json!({"tier": basic(), "created_at": at, "updated_at": at});
    assert_eq!(
        created.body,
        json!({"registry": {"name": "tidepool", "created_at": at, "region": "nyc3", "storage_usage_bytes": 0,
            "storage_usage_bytes_updated_at": at, "subscription": subscription}})
    );
    for path in ["/v2/registry", "/v2/registries/tidepool"] {
        assert_eq!(cloud.get(path).await.body, created.body, "{path}");
    }
    for path in ["/v2/registries/subscription", "/v2/registry/subscription"] {
        assert_eq!(
            cloud.get(path).await.body,
            json!({"subscription": subscription}),
            "{path}"
        );
    }
    assert_eq!(
        cloud.get("/v2/registries").await.at("/registries/0"),
        created.at("/registry")
    );
    cloud.stop(Signal::SIGKILL);
    cloud.start_again();
    assert_eq!(cloud.get("/v2/registry").await.body, created.body);
    let changed = cloud
        .post(
            "/v2/registries/subscription",
            json!({"tier_slug": "professional"}),
        )
        .await;
    assert_eq!(
        (changed.status, changed.text("/subscription/tier/slug")),
        (200, "professional".into())
    );
    assert_eq!(
        cloud
            .get("/v2/registry")
            .await
            .text("/registry/subscription/tier/slug"),
        "professional"
    );
    let deleted = cloud.delete("/v2/registries/tidepool").await;
    assert_eq!((deleted.status, deleted.body), (204, Value::Null));
    for path in ["/v2/registries/tidepool", "/v2/registry"] {
        assert_eq!(cloud.delete(path).await.status, 404, "{path}");
    }
    assert_eq!(cloud.get("/v2/registry/subscription").await.status, 404);
}

#[tokio::test]
async fn what_a_registry_can_not_be_is_refused() {
    let cloud = Cloud::start(&[]);
    for body in [
        json!({"subscription_tier_slug": "basic"}),
        json!({"name": "tidepool"}),
        json!({"name": "Tidepool", "subscription_tier_slug": "basic"}),
        json!({"name": "tide_pool", "subscription_tier_slug": "basic"}),
        json!({"name": "a".repeat(64), "subscription_tier_slug": "basic"}),
        json!({"name": "subscription", "subscription_tier_slug": "basic"}),
        json!({"name": "tidepool", "subscription_tier_slug": "gold"}),
        json!({"name": "tidepool", "subscription_tier_slug": "basic", "region": "mars1"}),
        json!({"name": "tidepool", "subscription_tier_slug": "basic", "region": 1}),
    ] {
        assert_eq!(
            cloud.post("/v2/registry", body.clone()).await.status,
            422,
            "{body}"
        );
    }
    let validate = async |name: &str| {
        let reply = cloud
            .post("/v2/registry/validate-name", json!({"name": name}))
            .await;
        reply.status
    };
    assert_eq!((validate("tidepool").await, validate("Tide").await), (204, 422));
    assert_eq!(cloud.post("/v2/registry", create_body()).await.status, 201);
    assert_eq!(validate("tidepool").await, 409);
    let again = cloud.post("/v2/registry", create_body()).await;
    assert_eq!((again.status, again.text("/id")), (409, "conflict".into()));
    let second = json!({"name": "second", "region": "fra1"});
    assert_eq!(
        cloud.post("/v2/registries", second.clone()).await.status,
        422,
        "one for each account"
    );
    let tier = async |slug: &str| {
        let body = json!({"tier_slug": slug});
        cloud.post("/v2/registry/subscription", body).await.status
    };
    assert_eq!((tier("gold").await, tier("professional").await), (422, 200));
    assert_eq!(cloud.post("/v2/registries", second).await.status, 201);
    assert_eq!(tier("basic").await, 422, "there are two");
    assert_eq!(cloud.delete("/v2/registry").await.status, 422, "which one?");
    let options = cloud.get("/v2/registry/options").await;
    let eligible: Vec<&Value> = options
        .at("/options/subscription_tiers")
        .as_array()
        .unwrap()
        .iter()
        .map(|tier| &tier["eligible"])
        .collect();
    assert_eq!(eligible, [&json!(false), &json!(false), &json!(true)]);
    assert_eq!(
        options.at("/options/available_regions").as_array().unwrap().len(),
        5
    );
    let patch = cloud
        .call(Method::PATCH, "/v2/registries/second", json!({}))
        .await;
    assert_eq!(patch.status, 405);
}

#[tokio::test]
async fn credentials_are_dockers_configuration_and_their_secrets_are_not_kept() {
    let cloud = Cloud::start(&[]);
    cloud.post("/v2/registry", create_body()).await;
    let get = async |query: &str| {
        let path = format!("/v2/registries/tidepool/docker-credentials?{query}");
        let reply = cloud.get(&path).await;
        assert_eq!(reply.status, 200, "{query}: {reply:?}");
        let auth = reply.text("/auths/registry.digitalocean.com/auth");
        String::from_utf8(STANDARD.decode(auth).unwrap()).unwrap()
    };
    let mut all = Vec::new();
    for query in [
        "",
        "expiry_seconds=1576800000&read_write=false",
        "expiry_seconds=2592000&read_write=true",
    ] {
        let pair = get(query).await;
        let (user, password) = pair.split_once(':').unwrap();
        assert_eq!(user, password);
        all.push(user.to_owned());
    }
    let one = cloud.get("/v2/registry/docker-credentials?read_write=true").await;
    assert_eq!(one.status, 200);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 3, "each is its own");
    let state = cloud.get("/_local/state").await;
    let shown = state.at("/registries/0/credentials").as_array().unwrap();
    let rights: Vec<&Value> = shown.iter().map(|credential| &credential["read_write"]).collect();
    assert_eq!(rights, [&json!(false), &json!(false), &json!(true), &json!(true)]);
    assert!(shown[0]["expires_at"].is_null() && shown[3]["expires_at"].is_null());
    assert!(shown[1]["expires_at"].as_str() > shown[2]["expires_at"].as_str());
    let kept = std::fs::read_to_string(cloud.state_dir().join("cloud.json")).unwrap();
    assert!(!all.iter().any(|secret| kept.contains(secret)));
    for bad in [
        "read_write=yes",
        "expiry_seconds=-1",
        "expiry_seconds=soon",
        "expiry_seconds=99999999999",
    ] {
        let path = format!("/v2/registry/docker-credentials?{bad}");
        assert_eq!(cloud.get(&path).await.status, 422, "{bad}");
    }
    assert_eq!(
        cloud.get("/v2/registries/other/docker-credentials").await.status,
        404
    );
}
