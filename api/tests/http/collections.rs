//! Points 29 to 33: collections.

use crate::support::{Api, JSON};

const C: &str = "/v1/collections/c";

#[tokio::test]
async fn contract_29_put_makes_then_replaces_and_keeps_documents() {
    let api = Api::start().await;
    let made = api.put(C, "{}").await.expect_status(201);
    assert_eq!(made.header("location"), Some(C));
    api.put("/v1/collections/c/documents/a", r#"{"data":{"n":1}}"#)
        .await
        .expect_status(201);
    let again = api.put(C, "{}").await.expect_status(200);
    assert_eq!(again.header("location"), None);
    assert_ne!(again.etag(), made.etag());
    assert_eq!(
        api.get("/v1/collections/c/documents/a").await.json()["data"]["n"],
        1
    );
    let only_new = [("content-type", JSON), ("if-none-match", "*")];
    api.send("PUT", C, &only_new, Some("{}".into()))
        .await
        .expect_problem(412, "precondition-failed");
    api.send("PUT", "/v1/collections/d", &only_new, Some("{}".into()))
        .await
        .expect_status(201);
}

#[tokio::test]
async fn contract_29_a_body_is_required() {
    let api = Api::start().await;
    api.put(C, "").await.expect_problem(400, "invalid-body");
    api.send("PUT", C, &[], None)
        .await
        .expect_problem(415, "unsupported-media-type");
    api.get(C).await.expect_problem(404, "collection-not-found");
}

#[tokio::test]
async fn contract_30_a_collection_has_a_name_and_times() {
    let api = Api::start().await;
    let made = api.put(C, "{}").await.expect_status(201);
    let collection = made.json();
    let mut names: Vec<&String> = collection.as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["created_at", "name", "updated_at"]);
    assert_eq!(collection["name"], "c");
    let got = api.get(C).await.expect_status(200);
    assert_eq!((got.text(), got.etag()), (made.text(), made.etag()));
    let put_back = api.put(C, got.text()).await.expect_status(200);
    assert_eq!(put_back.json()["created_at"], collection["created_at"]);
    let other = api
        .put("/v1/collections/d", got.text())
        .await
        .expect_problem(400, "invalid-body");
    assert_eq!(other.pointers(), ["#/name"]);
}

#[tokio::test]
async fn contract_31_settings_that_are_not_supported_are_refused() {
    let api = Api::start().await;
    for setting in [
        "schema",
        "indexes",
        "default_ttl_seconds",
        "consistency",
        "id",
        "x",
    ] {
        let answer = api
            .put(C, format!(r#"{{"{setting}":null}}"#))
            .await
            .expect_problem(400, "invalid-body");
        assert_eq!(answer.pointers(), [format!("#/{setting}")]);
    }
    for body in ["[]", "null", "1"] {
        assert_eq!(api.put(C, body).await.expect_status(400).pointers(), ["#"]);
    }
    api.get(C).await.expect_problem(404, "collection-not-found");
}

#[tokio::test]
async fn contract_32_a_dropped_collection_is_gone_at_once_on_every_instance() {
    let api = Api::with_collection().await;
    let another = api.another().await;
    let doc = "/v1/collections/c/documents/a";
    let docs = "/v1/collections/c/documents";
    for id in ["a", "b", "d"] {
        api.put(&format!("{docs}/{id}"), r#"{"data":{}}"#)
            .await
            .expect_status(201);
    }
    let old = another.get(doc).await.expect_status(200).etag();
    let page = another.get(&format!("{docs}?limit=1")).await.json();
    let token = page["next_page_token"].as_str().unwrap().to_owned();

    api.delete(C).await.expect_status(204);
    for instance in [&api, &another] {
        instance
            .get(doc)
            .await
            .expect_problem(404, "collection-not-found");
        instance
            .put(doc, r#"{"data":{}}"#)
            .await
            .expect_problem(404, "collection-not-found");
        instance.get(C).await.expect_problem(404, "collection-not-found");
    }

    another.put(C, "{}").await.expect_status(201);
    for instance in [&api, &another] {
        instance.get(doc).await.expect_problem(404, "document-not-found");
        assert_eq!(instance.get(docs).await.json()["items"], serde_json::json!([]));
    }
    let old_page = api.get(&format!("{docs}?page_token={token}")).await;
    old_page.expect_problem(400, "invalid-page-token");
    api.put(doc, r#"{"data":{}}"#).await.expect_status(201);
    let if_old = [("content-type", JSON), ("if-match", old.as_str())];
    api.send("PUT", doc, &if_old, Some(r#"{"data":{}}"#.into()))
        .await
        .expect_problem(412, "precondition-failed");
    api.send("GET", doc, &[("if-none-match", &old)], None)
        .await
        .expect_status(200);
}

#[tokio::test]
async fn contract_32_no_write_is_acknowledged_into_a_dropped_collection() {
    let api = Api::with_collection().await;
    let another = api.another().await;
    let docs = "/v1/collections/c/documents";
    let first = tokio::sync::Notify::new();
    let writing = async {
        let mut acknowledged = Vec::new();
        loop {
            let answer = another.post(docs, r#"{"data":{}}"#).await;
            match answer.status {
                201 => {
                    acknowledged.push(std::time::Instant::now());
                    first.notify_one();
                }
                404 => return acknowledged,
                other => panic!("{other}: {}", answer.text()),
            }
        }
    };
    let dropping = async {
        first.notified().await;
        api.delete(C).await.expect_status(204);
        std::time::Instant::now()
    };
    let (acknowledged, dropped_at) = tokio::join!(writing, dropping);
    assert!(
        acknowledged.iter().all(|at| *at <= dropped_at),
        "acknowledged after the drop was answered"
    );
}

#[tokio::test]
async fn contract_33_patch_of_a_collection_is_405() {
    let api = Api::with_collection().await;
    let answer = api.patch(C, "{}").await.expect_problem(405, "method-not-allowed");
    assert_eq!(answer.header("allow"), Some("GET, HEAD, PUT, DELETE, OPTIONS"));
}

#[tokio::test]
async fn conditions_hold_for_collections_too() {
    let api = Api::with_collection().await;
    let etag = api.get(C).await.etag();
    let answer = api
        .send("GET", C, &[("if-none-match", &etag)], None)
        .await
        .expect_status(304);
    assert_eq!(answer.etag(), etag);
    api.send("GET", C, &[("if-match", "\"x\"")], None)
        .await
        .expect_problem(412, "precondition-failed");
    api.send("DELETE", C, &[("if-match", "\"x\"")], None)
        .await
        .expect_problem(412, "precondition-failed");
    api.send("DELETE", C, &[("if-match", &etag)], None)
        .await
        .expect_status(204);
}
