//! Points 14 to 17: ids and names.

use crate::support::Api;

const DOCS: &str = "/v1/collections/c/documents";

#[tokio::test]
async fn contract_14_dots_are_not_ids() {
    let api = Api::with_collection().await;
    for id in [".", "..", "%2e", "%2E%2e", ".%2e"] {
        assert_eq!(api.raw_status("GET", &format!("{DOCS}/{id}")).await, 400, "{id}");
        assert_eq!(
            api.raw_status("GET", &format!("/v1/collections/{id}")).await,
            400,
            "{id}"
        );
    }
    for id in [".", ".."] {
        let answer = api
            .post(DOCS, format!(r#"{{"id":"{id}","data":{{}}}}"#))
            .await
            .expect_status(400);
        assert_eq!(answer.pointers(), ["#/id"]);
    }
    api.put(&format!("{DOCS}/..."), r#"{"data":{}}"#)
        .await
        .expect_status(201);
}

#[tokio::test]
async fn contract_15_encoded_unreserved_characters_are_the_same_id() {
    let api = Api::with_collection().await;
    api.put(&format!("{DOCS}/a-b"), r#"{"data":{"n":1}}"#)
        .await
        .expect_status(201);
    for id in ["%61-b", "a%2db", "a%2Db", "%61%2d%62"] {
        let answer = api
            .raw(format!(
                "GET {DOCS}/{id} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            ))
            .await;
        assert!(answer.contains(r#""id":"a-b""#), "{id}: {answer}");
    }
}

#[tokio::test]
async fn contract_15_what_is_outside_the_alphabet_is_an_invalid_id() {
    let api = Api::with_collection().await;
    for id in [
        "a%20b",
        "a%2Fb",
        "%00",
        "%C3%A4",
        "a:b",
        "a*b",
        "%ff",
        "a@b",
        "a;b",
        &"x".repeat(129),
    ] {
        api.get(&format!("{DOCS}/{id}"))
            .await
            .expect_problem(400, "invalid-id");
        api.put(&format!("/v1/collections/{id}"), "{}")
            .await
            .expect_problem(400, "invalid-id");
        api.get(&format!("/v1/collections/{id}/documents"))
            .await
            .expect_problem(400, "invalid-id");
    }
    for id in ["%", "%z", "%zz", "a%2", "%%61"] {
        assert_eq!(api.raw_status("GET", &format!("{DOCS}/{id}")).await, 400, "{id}");
    }
    let longest = "x".repeat(128);
    api.put(&format!("{DOCS}/{longest}"), r#"{"data":{}}"#)
        .await
        .expect_status(201);
}

#[tokio::test]
async fn contract_16_ids_are_case_sensitive_and_no_word_is_special() {
    let api = Api::with_collection().await;
    for id in ["documents", "null", "-", "a", "A", "~", "_", "true"] {
        let path = format!("{DOCS}/{id}");
        api.put(&path, format!(r#"{{"data":{{"is":"{id}"}}}}"#))
            .await
            .expect_status(201);
    }
    for id in ["documents", "null", "-", "a", "A"] {
        assert_eq!(api.get(&format!("{DOCS}/{id}")).await.json()["data"]["is"], id);
    }
    api.put("/v1/collections/documents", "{}")
        .await
        .expect_status(201);
    api.put("/v1/collections/documents/documents/documents", r#"{"data":{}}"#)
        .await
        .expect_status(201);
}

#[tokio::test]
async fn contract_17_collection_names_follow_the_same_rule() {
    let api = Api::start().await;
    for name in ["a:b", "a*", "a b", "%C3%A4", &"x".repeat(129)] {
        api.put(&format!("/v1/collections/{name}"), "{}")
            .await
            .expect_problem(400, "invalid-id");
    }
    for name in ["A-Za-z0-9_.~-", "-", &"x".repeat(128)] {
        api.put(&format!("/v1/collections/{name}"), "{}")
            .await
            .expect_status(201);
    }
}
