//! Points 24 to 28: conditions and the order of checks.

use crate::support::{Answer, Api, JSON, MERGE_PATCH};

const DOC: &str = "/v1/collections/c/documents/a";
const BODY: &str = r#"{"data":{"n":2}}"#;

async fn put(api: &Api, path: &str, conditions: &[(&str, &str)]) -> Answer {
    let headers = [&[("content-type", JSON)], conditions].concat();
    api.send("PUT", path, &headers, Some(BODY.into())).await
}

/// A collection with the document `a`; and its ETag.
async fn with_document() -> (Api, String) {
    let api = Api::with_collection().await;
    let etag = api
        .put(DOC, r#"{"data":{"n":1}}"#)
        .await
        .expect_status(201)
        .etag();
    (api, etag)
}

#[tokio::test]
async fn contract_24_if_match_compares_strongly() {
    let (api, etag) = with_document().await;
    let weak = format!("W/{etag}");
    put(&api, DOC, &[("if-match", &weak)])
        .await
        .expect_problem(412, "precondition-failed");
    put(&api, DOC, &[("if-match", "\"other\"")])
        .await
        .expect_problem(412, "precondition-failed");
    assert_eq!(api.get(DOC).await.etag(), etag);
    let next = put(&api, DOC, &[("if-match", &etag)])
        .await
        .expect_status(200)
        .etag();
    put(&api, DOC, &[("if-match", &etag)])
        .await
        .expect_problem(412, "precondition-failed");
    put(&api, DOC, &[("if-match", "*")]).await.expect_status(200);
    assert_ne!(api.get(DOC).await.etag(), next);
}

#[tokio::test]
async fn contract_24_if_none_match_compares_weakly() {
    let (api, etag) = with_document().await;
    for tags in [
        etag.clone(),
        format!("W/{etag}"),
        "*".into(),
        format!("\"x\", W/{etag}"),
    ] {
        let answer = api
            .send("GET", DOC, &[("if-none-match", &tags)], None)
            .await
            .expect_status(304);
        assert_eq!(answer.etag(), etag);
        assert!(answer.body.is_empty());
        put(&api, DOC, &[("if-none-match", &tags)])
            .await
            .expect_problem(412, "precondition-failed");
    }
    api.send("GET", DOC, &[("if-none-match", "\"x\"")], None)
        .await
        .expect_status(200);
    put(&api, DOC, &[("if-none-match", "\"x\"")])
        .await
        .expect_status(200);
}

#[tokio::test]
async fn contract_24_lists_lines_and_empty_members_are_understood() {
    let (api, etag) = with_document().await;
    for lines in [
        vec![format!("\"x\", {etag}")],
        vec![format!(",, {etag} ,")],
        vec!["\"x\"".to_owned(), etag.clone()],
        vec![format!("\"a,b\",{etag}")],
    ] {
        let headers: Vec<(&str, &str)> = lines.iter().map(|line| ("if-match", line.as_str())).collect();
        api.send("GET", DOC, &headers, None).await.expect_status(200);
        let headers: Vec<(&str, &str)> = lines
            .iter()
            .map(|line| ("if-none-match", line.as_str()))
            .collect();
        api.send("GET", DOC, &headers, None).await.expect_status(304);
    }
}

#[tokio::test]
async fn contract_24_malformed_conditions_are_never_a_write() {
    let (api, etag) = with_document().await;
    let bare = etag.trim_matches('"').to_owned();
    for bad in [
        bare.as_str(),
        "\"x",
        "*, \"x\"",
        "w/\"x\"",
        ",",
        "",
        "\"x\" \"y\"",
    ] {
        for field in ["if-match", "if-none-match"] {
            for method in ["GET", "DELETE"] {
                api.send(method, DOC, &[(field, bad)], None)
                    .await
                    .expect_problem(400, "invalid-request");
            }
            put(&api, DOC, &[(field, bad)])
                .await
                .expect_problem(400, "invalid-request");
            let headers = [("content-type", MERGE_PATCH), (field, bad)];
            api.send("PATCH", DOC, &headers, Some("{}".into()))
                .await
                .expect_problem(400, "invalid-request");
        }
    }
    assert_eq!(api.get(DOC).await.etag(), etag);
}

/// RFC 9110, 13.1: there is a list, and no entity tag of it that anything else than `*` could match.
#[tokio::test]
async fn contract_24_a_list_has_no_version_so_only_a_star_matches_it() {
    let (api, etag) = with_document().await;
    for list in ["/v1/collections", "/v1/collections/c/documents"] {
        for method in ["GET", "HEAD"] {
            let send = async |headers: &[(&str, &str)]| api.send(method, list, headers, None).await;
            for (field, value, status) in [
                ("if-match", "*", 200),
                ("if-match", "\"x\"", 412),
                ("if-match", etag.as_str(), 412),
                ("if-none-match", "\"x\"", 200),
                ("if-none-match", &etag, 200),
                ("if-none-match", "*", 304),
                ("if-match", "x", 400),
                ("if-none-match", "", 400),
                ("if-none-match", "*, \"x\"", 400),
            ] {
                let answer = send(&[(field, value)]).await;
                assert_eq!(answer.status, status, "{method} {list} {field}: {value}");
            }
            let both = send(&[("if-match", "\"x\""), ("if-none-match", "*")]).await;
            assert_eq!(both.status, 412, "If-Match comes first");
            assert!(send(&[("if-none-match", "*")]).await.body.is_empty());
        }
    }
    // Existence comes before conditions, and what is malformed before that.
    let missing = "/v1/collections/x/documents";
    api.send("GET", missing, &[("if-match", "\"x\"")], None)
        .await
        .expect_problem(404, "collection-not-found");
    api.send("GET", missing, &[("if-match", "x")], None)
        .await
        .expect_problem(400, "invalid-request");
}

#[tokio::test]
async fn contract_25_if_match_on_what_does_not_exist() {
    let api = Api::with_collection().await;
    for tags in ["*", "\"x\""] {
        put(&api, DOC, &[("if-match", tags)])
            .await
            .expect_problem(412, "precondition-failed");
        api.send("DELETE", DOC, &[("if-match", tags)], None)
            .await
            .expect_problem(404, "document-not-found");
        let headers = [("content-type", MERGE_PATCH), ("if-match", tags)];
        api.send("PATCH", DOC, &headers, Some("{}".into()))
            .await
            .expect_problem(404, "document-not-found");
        api.send("GET", DOC, &[("if-match", tags)], None)
            .await
            .expect_problem(404, "document-not-found");
    }
    put(&api, DOC, &[("if-none-match", "*")]).await.expect_status(201);
}

#[tokio::test]
async fn contract_25_what_is_created_has_no_version_that_if_match_could_name() {
    let api = Api::with_collection().await;
    let create = async |condition: (&str, &str)| {
        let headers = [("content-type", "application/json"), condition];
        let body = Some(r#"{"id":"new","data":{}}"#.into());
        api.send("POST", "/v1/collections/c/documents", &headers, body)
            .await
    };
    for tags in ["*", "\"x\"", "W/\"x\""] {
        create(("if-match", tags))
            .await
            .expect_problem(412, "precondition-failed");
    }
    create(("if-match", "x")).await.expect_status(400);
    create(("if-none-match", "*")).await.expect_status(201);
    // Taken: what the condition says comes first.
    create(("if-match", "*"))
        .await
        .expect_problem(412, "precondition-failed");
    create(("if-none-match", "\"x\"")).await.expect_status(409);
}

#[tokio::test]
async fn contract_26_if_match_counts_on_get_and_comes_first() {
    let (api, etag) = with_document().await;
    for method in ["GET", "HEAD"] {
        let send = async |headers: &[(&str, &str)]| api.send(method, DOC, headers, None).await;
        send(&[("if-match", &etag)]).await.expect_status(200);
        assert_eq!(send(&[("if-match", "\"x\"")]).await.status, 412);
        assert_eq!(
            send(&[("if-match", "\"x\""), ("if-none-match", &etag)])
                .await
                .status,
            412
        );
        let not_modified = send(&[("if-match", &etag), ("if-none-match", &etag)])
            .await
            .expect_status(304);
        assert_eq!(not_modified.etag(), etag);
    }
    let headers = [("content-type", MERGE_PATCH), ("if-none-match", etag.as_str())];
    api.send("PATCH", DOC, &headers, Some("{}".into()))
        .await
        .expect_problem(412, "precondition-failed");
    api.send("DELETE", DOC, &[("if-none-match", &etag)], None)
        .await
        .expect_problem(412, "precondition-failed");
    api.send("DELETE", DOC, &[("if-match", &etag)], None)
        .await
        .expect_status(204);
}

#[tokio::test]
async fn contract_27_checks_come_in_one_order() {
    let api = Api::with_keys(&[("reader", &["read:c", "admin:mine"])]).await;
    let reader = api.as_key("reader");
    reader.put("/v1/collections/mine", "{}").await.expect_status(201);
    let everything_wrong = [("content-type", "text/plain"), ("if-match", "bad")];
    let body = || Some("x".repeat(2_000_000));
    // Route before key, key before scope, scope before media type, media type before size, size before content.
    api.send("PUT", "/v1/nowhere", &everything_wrong, body())
        .await
        .expect_problem(404, "not-found");
    api.send("POST", DOC, &everything_wrong, body())
        .await
        .expect_problem(405, "method-not-allowed");
    api.send("PUT", DOC, &everything_wrong, body())
        .await
        .expect_problem(401, "unauthenticated");
    reader
        .send("PUT", DOC, &everything_wrong, body())
        .await
        .expect_problem(403, "forbidden");
    let mine = "/v1/collections/mine/documents/a%20b?x=1";
    reader
        .send("PUT", mine, &everything_wrong, body())
        .await
        .expect_problem(415, "unsupported-media-type");
    let rest_wrong = [("content-type", JSON), ("if-match", "bad")];
    reader
        .send("PUT", mine, &rest_wrong, body())
        .await
        .expect_problem(413, "body-too-large");
    reader
        .send("PUT", mine, &rest_wrong, Some("x".into()))
        .await
        .expect_problem(400, "invalid-id");
    let missing = "/v1/collections/mine/documents/a";
    // Content before existence, existence before conditions.
    reader
        .patch(missing, "x")
        .await
        .expect_problem(400, "invalid-body");
    let headers = [("content-type", MERGE_PATCH), ("if-match", "\"x\"")];
    reader
        .send("PATCH", missing, &headers, Some("{}".into()))
        .await
        .expect_problem(404, "document-not-found");
}

#[tokio::test]
async fn contract_28_a_condition_on_a_put_into_a_missing_collection_is_404() {
    let api = Api::start().await;
    for condition in [("if-match", "*"), ("if-match", "\"x\""), ("if-none-match", "*")] {
        put(&api, DOC, &[condition])
            .await
            .expect_problem(404, "collection-not-found");
    }
}

#[tokio::test]
async fn conditional_puts_of_many_clients_never_lose_an_update() {
    let (api, _) = with_document().await;
    let writers = (0..8).map(|_| async {
        let mut won = 0;
        for _ in 0..10 {
            let got = api.get(DOC).await;
            let n = got.json()["data"]["n"].as_u64().unwrap();
            let headers = [("content-type", JSON), ("if-match", &got.etag())];
            let body = format!(r#"{{"data":{{"n":{}}}}}"#, n + 1);
            match api.send("PUT", DOC, &headers, Some(body)).await.status {
                200 => won += 1,
                412 => {}
                other => panic!("{other}"),
            }
        }
        won
    });
    let won: u64 = futures_util::future::join_all(writers).await.into_iter().sum();
    assert!(won > 0);
    assert_eq!(api.get(DOC).await.json()["data"]["n"], 1 + won);
}

#[tokio::test]
async fn patches_of_many_clients_are_all_applied() {
    // More than could all get through if each had to win a race against the others.
    const CLIENTS: usize = 40;
    let (api, _) = with_document().await;
    let writers = (0..CLIENTS).map(|writer| {
        let api = &api;
        async move {
            for round in 0..5 {
                let body = format!(r#"{{"data":{{"w{writer}":{round}}}}}"#);
                api.patch(DOC, body).await.expect_status(200);
            }
        }
    });
    futures_util::future::join_all(writers).await;
    let data = api.get(DOC).await.json()["data"].clone();
    for writer in 0..CLIENTS {
        assert_eq!(data[format!("w{writer}")], 4);
    }
}
