//! SSH keys.

use serde_json::json;

use crate::common::{Cloud, droplet_body};

pub(crate) const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me\n";

#[tokio::test]
async fn keys_are_found_by_id_and_fingerprint() {
    let cloud = Cloud::start(&[]);
    let reply = cloud
        .post("/v2/account/keys", json!({"name": "me", "public_key": KEY}))
        .await;
    assert_eq!(reply.status, 201);
    let (id, fingerprint) = (reply.number("/ssh_key/id"), reply.text("/ssh_key/fingerprint"));
    assert_eq!(reply.text("/ssh_key/public_key"), KEY);
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
    let mut body = droplet_body("a", "tiny", &[]);
    body["ssh_keys"] = json!([id, fingerprint]);
    assert_eq!(cloud.post("/v2/droplets", body).await.status, 202);
    assert_eq!(cloud.delete(&format!("/v2/account/keys/{id}")).await.status, 204);
    assert_eq!(cloud.get("/v2/account/keys").await.number("/meta/total"), 0);
}
