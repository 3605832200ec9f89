//! Points 41 to 44 and 48: keys and scopes.

use crate::support::{Answer, Api};

const KEYS: &[(&str, &[&str])] = &[
    ("reader-0123456789abcdef", &["read:notes-*"]),
    ("writer-0123456789abcdef", &["write:notes-a", "read:other"]),
    ("admin-0123456789abcdef", &["admin:notes-*", "admin:other"]),
    ("expired-0123456789abcdef", &["admin:*"]),
];

struct Keys {
    anonymous: Api,
    reader: Api,
    writer: Api,
    admin: Api,
    expired: Api,
}

async fn start() -> Keys {
    let api = Api::with_keys(KEYS).await;
    let keys = Keys {
        reader: api.as_key("reader-0123456789abcdef"),
        writer: api.as_key("writer-0123456789abcdef"),
        admin: api.as_key("admin-0123456789abcdef"),
        expired: api.as_key("expired-0123456789abcdef"),
        anonymous: api,
    };
    for name in ["notes-a", "notes-b", "other"] {
        keys.admin
            .put(&format!("/v1/collections/{name}"), "{}")
            .await
            .expect_status(201);
    }
    keys
}

/// Every operation on a collection and a document `x` in it, in an order in which each can succeed.
async fn everything(api: &Api, collection: &str) -> Vec<(&'static str, Answer)> {
    let collection = format!("/v1/collections/{collection}");
    let docs = format!("{collection}/documents");
    let doc = format!("{docs}/x");
    let data = r#"{"data":{}}"#;
    vec![
        ("get collection", api.get(&collection).await),
        ("list", api.get(&docs).await),
        ("put", api.put(&doc, data).await),
        ("get", api.get(&doc).await),
        ("patch", api.patch(&doc, "{}").await),
        ("delete", api.delete(&doc).await),
        ("post", api.post(&docs, data).await),
        ("put collection", api.put(&collection, "{}").await),
        ("delete collection", api.delete(&collection).await),
    ]
}

async fn allowed(api: &Api, collection: &str) -> Vec<&'static str> {
    let answers = everything(api, collection).await;
    let mut allowed = Vec::new();
    for (what, answer) in answers {
        match answer.status {
            403 => drop(answer.expect_problem(403, "forbidden")),
            _ => allowed.push(what),
        }
    }
    allowed
}

#[tokio::test]
async fn contract_41_admin_includes_write_includes_read() {
    let keys = start().await;
    let reads = ["get collection", "list", "get"];
    let writes = ["get collection", "list", "put", "get", "patch", "delete", "post"];
    assert_eq!(allowed(&keys.reader, "notes-a").await, reads);
    assert_eq!(allowed(&keys.writer, "notes-a").await, writes);
    assert_eq!(allowed(&keys.admin, "notes-a").await.len(), 9);
}

#[tokio::test]
async fn contract_42_patterns_are_literal_with_stars() {
    let keys = start().await;
    keys.reader
        .get("/v1/collections/notes-b")
        .await
        .expect_status(200);
    keys.writer
        .get("/v1/collections/notes-b")
        .await
        .expect_problem(403, "forbidden");
    keys.reader
        .get("/v1/collections/Notes-a")
        .await
        .expect_problem(403, "forbidden");
    keys.reader
        .get("/v1/collections/notes")
        .await
        .expect_problem(403, "forbidden");
}

#[tokio::test]
async fn contract_43_only_admin_makes_and_drops_collections() {
    let keys = start().await;
    for api in [&keys.reader, &keys.writer] {
        api.put("/v1/collections/notes-a", "{}")
            .await
            .expect_problem(403, "forbidden");
        api.delete("/v1/collections/notes-a")
            .await
            .expect_problem(403, "forbidden");
    }
    keys.admin
        .put("/v1/collections/elsewhere", "{}")
        .await
        .expect_problem(403, "forbidden");
    keys.admin
        .delete("/v1/collections/notes-a")
        .await
        .expect_status(204);
}

#[tokio::test]
async fn contract_44_out_of_scope_is_403_whether_or_not_it_exists() {
    let keys = start().await;
    for collection in ["other", "missing"] {
        for (what, answer) in everything(&keys.reader, collection).await {
            assert_eq!(answer.status, 403, "{what} {collection}");
        }
    }
    // The collection is in scope, writing into it is not.
    for collection in ["notes-a", "notes-missing"] {
        let path = format!("/v1/collections/{collection}/documents/x");
        keys.reader
            .put(&path, r#"{"data":{}}"#)
            .await
            .expect_problem(403, "forbidden");
    }
    keys.reader
        .get("/v1/collections/notes-missing")
        .await
        .expect_problem(404, "collection-not-found");
}

#[tokio::test]
async fn contract_44_without_a_valid_key_401_asks_for_bearer() {
    let keys = start().await;
    let unknown = keys.anonymous.as_key("unknown-0123456789abcdef");
    for api in [&keys.anonymous, &unknown, &keys.expired] {
        for (what, answer) in everything(api, "notes-a").await {
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{what}");
            answer.expect_problem(401, "unauthenticated");
        }
        api.get("/v1/collections")
            .await
            .expect_problem(401, "unauthenticated");
    }
    let good = "Bearer tp_reader-0123456789abcdef";
    for bad in [
        vec!["tp_reader-0123456789abcdef"],
        vec!["Basic tp_reader-0123456789abcdef"],
        vec!["Bearer tp_reader-0123456789abcdeF"],
        vec!["Bearer"],
        vec![""],
        vec![good, good],
    ] {
        let headers: Vec<(&str, &str)> = bad.iter().map(|value| ("authorization", *value)).collect();
        let answer = keys
            .anonymous
            .send("GET", "/v1/collections", &headers, None)
            .await;
        answer.expect_problem(401, "unauthenticated");
    }
    keys.anonymous
        .send("GET", "/v1/collections", &[("authorization", good)], None)
        .await
        .expect_status(200);
}

#[tokio::test]
async fn contract_48_docs_need_no_key() {
    let keys = start().await;
    keys.anonymous.get("/docs").await.expect_status(200);
    keys.anonymous.get("/openapi.json").await.expect_status(200);
    keys.anonymous
        .send("OPTIONS", "/v1/collections", &[], None)
        .await
        .expect_status(204);
    keys.anonymous
        .get("/v1/nowhere")
        .await
        .expect_problem(404, "not-found");
}
