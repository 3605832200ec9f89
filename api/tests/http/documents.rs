//! Points 1 to 13: documents.

use crate::support::{Api, JSON};

const DOC: &str = "/v1/collections/c/documents/a";
const DOCS: &str = "/v1/collections/c/documents";

#[tokio::test]
async fn contract_01_a_bare_document_is_refused_with_pointers() {
    let api = Api::with_collection().await;
    let answer = api
        .put(DOC, r#"{"title":"x","n":1}"#)
        .await
        .expect_problem(400, "invalid-body");
    assert_eq!(answer.pointers(), ["#/title", "#/n", "#/data"]);
    api.get(DOC).await.expect_problem(404, "document-not-found");
}

#[tokio::test]
async fn contract_01_what_is_not_built_yet_is_refused() {
    let api = Api::with_collection().await;
    let body = r#"{"data":{},"expires_at":"2030-01-01T00:00:00Z"}"#;
    assert_eq!(
        api.put(DOC, body).await.expect_status(400).pointers(),
        ["#/expires_at"]
    );
    assert_eq!(
        api.post(DOCS, body).await.expect_status(400).pointers(),
        ["#/expires_at"]
    );
    let headers = [("content-type", JSON), ("idempotency-key", "k")];
    for (method, path) in [("POST", DOCS), ("PUT", DOC)] {
        api.send(method, path, &headers, Some(r#"{"data":{}}"#.into()))
            .await
            .expect_problem(400, "invalid-request");
    }
}

#[tokio::test]
async fn contract_02_data_is_required_and_an_object() {
    let api = Api::with_collection().await;
    for body in [
        "{}",
        r#"{"data":null}"#,
        r#"{"data":[]}"#,
        r#"{"data":"x"}"#,
        r#"{"data":1}"#,
    ] {
        assert_eq!(
            api.put(DOC, body).await.expect_status(400).pointers(),
            ["#/data"],
            "{body}"
        );
        assert_eq!(
            api.post(DOCS, body).await.expect_status(400).pointers(),
            ["#/data"],
            "{body}"
        );
    }
    for body in ["[]", "null", "1", r#""x""#] {
        assert_eq!(
            api.put(DOC, body).await.expect_status(400).pointers(),
            ["#"],
            "{body}"
        );
    }
}

#[tokio::test]
async fn contract_03_unknown_envelope_members_are_refused_with_pointers() {
    let api = Api::with_collection().await;
    let body = r#"{"data":{},"ttl":1,"a/b":2,"ä":3}"#;
    assert_eq!(
        api.post(DOCS, body).await.expect_status(400).pointers(),
        ["#/ttl", "#/a~1b", "#/%C3%A4"]
    );
}

#[tokio::test]
async fn contract_04_put_back_what_get_gave() {
    let api = Api::with_collection().await;
    api.put(DOC, r#"{"data":{"n":1}}"#).await.expect_status(201);
    let got = api.get(DOC).await.expect_status(200);
    let put = api.put(DOC, got.text()).await.expect_status(200);
    assert_eq!(put.json()["data"], got.json()["data"]);
    assert_ne!(put.etag(), got.etag());
    let other = got.text().replace(r#""id":"a""#, r#""id":"b""#);
    let refused = api.put(DOC, other).await.expect_problem(400, "invalid-body");
    assert_eq!(refused.pointers(), ["#/id"]);
}

#[tokio::test]
async fn contract_05_post_may_carry_an_id_and_never_overwrites() {
    let api = Api::with_collection().await;
    let made = api
        .post(DOCS, r#"{"id":"mine","data":{"n":1}}"#)
        .await
        .expect_status(201);
    assert_eq!(made.json()["id"], "mine");
    assert_eq!(made.header("location"), Some("/v1/collections/c/documents/mine"));
    api.post(DOCS, r#"{"id":"mine","data":{"n":2}}"#)
        .await
        .expect_problem(409, "already-exists");
    assert_eq!(
        api.get("/v1/collections/c/documents/mine").await.json()["data"]["n"],
        1
    );
}

#[tokio::test]
async fn contract_05_post_without_an_id_makes_increasing_uuids_of_version_7() {
    let api = Api::with_collection().await;
    let mut last = String::new();
    for _ in 0..3 {
        let made = api.post(DOCS, r#"{"data":{}}"#).await.expect_status(201);
        let id = made.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7);
        assert!(id[..13] >= last[..last.len().min(13)]);
        let path = made.header("location").unwrap().to_owned();
        assert_eq!(path, format!("{DOCS}/{id}"));
        api.get(&path).await.expect_status(200);
        last = id;
    }
}

#[tokio::test]
async fn contract_06_put_creates_then_replaces_and_answers_with_the_envelope() {
    let api = Api::with_collection().await;
    let created = api.put(DOC, r#"{"data":{"n":1}}"#).await.expect_status(201);
    assert_eq!(created.header("location"), Some(DOC));
    let replaced = api.put(DOC, r#"{"data":{"n":2}}"#).await.expect_status(200);
    assert_eq!(replaced.header("location"), None);
    let patched = api.patch(DOC, r#"{"data":{"m":3}}"#).await.expect_status(200);
    for (answer, data) in [
        (&created, serde_json::json!({"n": 1})),
        (&replaced, serde_json::json!({"n": 2})),
        (&patched, serde_json::json!({"n": 2, "m": 3})),
    ] {
        let envelope = answer.json();
        let names: Vec<&String> = envelope.as_object().unwrap().keys().collect();
        assert_eq!(names.len(), 5, "{envelope}");
        assert_eq!(envelope["data"], data);
        assert_eq!(
            answer.etag(),
            format!("\"{}\"", envelope["version"].as_str().unwrap())
        );
        assert_eq!(answer.header("content-type"), Some(JSON));
    }
    assert_eq!(api.get(DOC).await.text(), patched.text());
}

#[tokio::test]
async fn contract_07_delete_is_204_without_a_body_and_404_when_missing() {
    let api = Api::with_collection().await;
    api.put(DOC, r#"{"data":{}}"#).await.expect_status(201);
    let deleted = api.delete(DOC).await.expect_status(204);
    assert!(deleted.body.is_empty());
    api.delete(DOC).await.expect_problem(404, "document-not-found");
    api.delete("/v1/collections/x/documents/a")
        .await
        .expect_problem(404, "collection-not-found");
    api.delete("/v1/collections/x")
        .await
        .expect_problem(404, "collection-not-found");
}

#[tokio::test]
async fn contract_08_patch_changes_data_only_and_never_creates() {
    let api = Api::with_collection().await;
    api.patch(DOC, r#"{"data":{}}"#)
        .await
        .expect_problem(404, "document-not-found");
    api.put(DOC, r#"{"data":{"z":1.0,"a":{"x":1,"y":2}}}"#)
        .await
        .expect_status(201);
    for (body, pointers) in [
        (r#"{"id":"a"}"#, vec!["#/id"]),
        (
            r#"{"version":null,"created_at":1}"#,
            vec!["#/version", "#/created_at"],
        ),
        (r#"{"data":null}"#, vec!["#/data"]),
        (r#"{"data":[]}"#, vec!["#/data"]),
        (r#"{"expires_at":null}"#, vec!["#/expires_at"]),
        (r#"{"title":"x"}"#, vec!["#/title"]),
        ("[]", vec!["#"]),
    ] {
        assert_eq!(
            api.patch(DOC, body)
                .await
                .expect_problem(400, "invalid-body")
                .pointers(),
            pointers,
            "{body}"
        );
    }
    let patched = api
        .patch(DOC, r#"{"data":{"a":{"x":null,"w":[null]},"b":null}}"#)
        .await
        .expect_status(200);
    assert!(
        patched
            .text()
            .ends_with(r#""data":{"z":1.0,"a":{"y":2,"w":[null]}}}"#),
        "{}",
        patched.text()
    );
}

#[tokio::test]
async fn contract_09_patch_takes_merge_patches_only() {
    let api = Api::with_collection().await;
    api.put(DOC, r#"{"data":{}}"#).await.expect_status(201);
    for media in [JSON, "application/json-patch+json", "text/plain"] {
        let answer = api
            .send("PATCH", DOC, &[("content-type", media)], Some("{}".into()))
            .await;
        let answer = answer.expect_problem(415, "unsupported-media-type");
        assert_eq!(
            answer.header("accept-patch"),
            Some("application/merge-patch+json")
        );
    }
}

#[tokio::test]
async fn contract_10_a_version_never_recurs_for_an_id() {
    let api = Api::with_collection().await;
    let mut seen = std::collections::HashSet::new();
    for round in 0..5 {
        let created = api.put(DOC, r#"{"data":{}}"#).await.expect_status(201);
        let replaced = api.put(DOC, r#"{"data":{}}"#).await.expect_status(200);
        assert!(
            seen.insert(created.etag()) && seen.insert(replaced.etag()),
            "round {round}"
        );
        assert!(!created.etag().starts_with("W/"));
        api.delete(DOC).await.expect_status(204);
    }
}

#[tokio::test]
async fn contract_11_created_at_survives_put_and_patch_but_not_delete() {
    let api = Api::with_collection().await;
    let created = api.put(DOC, r#"{"data":{}}"#).await.json();
    let put = api.put(DOC, r#"{"data":{}}"#).await.json();
    let patched = api.patch(DOC, "{}").await.json();
    assert_eq!(put["created_at"], created["created_at"]);
    assert_eq!(patched["created_at"], created["created_at"]);
    assert_ne!(put["version"], created["version"]);
    assert_ne!(
        patched["version"], put["version"],
        "also an empty patch is a write"
    );
    api.delete(DOC).await.expect_status(204);
    let recreated = loop {
        // Times are shown in milliseconds: ask until the clock has moved on.
        let again = api.put(DOC, r#"{"data":{}}"#).await.json();
        if again["created_at"] != created["created_at"] {
            break again;
        }
        api.delete(DOC).await.expect_status(204);
    };
    assert!(recreated["created_at"].as_str() > created["created_at"].as_str());
}

#[tokio::test]
async fn contract_12_times_are_utc_with_milliseconds() {
    let api = Api::with_collection().await;
    let document = api.put(DOC, r#"{"data":{}}"#).await.json();
    for name in ["created_at", "updated_at"] {
        let time = document[name].as_str().unwrap();
        assert!(
            time.ends_with('Z') && time.len() == "2026-01-01T00:00:00.000Z".len(),
            "{time}"
        );
        assert!(time.parse::<jiff::Timestamp>().is_ok());
    }
}

#[tokio::test]
async fn contract_13_collections_are_never_made_implicitly() {
    let api = Api::start().await;
    for answer in [
        api.put(DOC, r#"{"data":{}}"#).await,
        api.post(DOCS, r#"{"data":{}}"#).await,
        api.patch(DOC, "{}").await,
        api.delete(DOC).await,
        api.get(DOC).await,
        api.get(DOCS).await,
        api.get("/v1/collections/c").await,
    ] {
        answer.expect_problem(404, "collection-not-found");
    }
    assert_eq!(
        api.get("/v1/collections").await.json()["items"],
        serde_json::json!([])
    );
}
