//! Points 34 to 39: lists and page tokens.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::support::Api;

const DOCS: &str = "/v1/collections/c/documents";

async fn fill(api: &Api, count: usize) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for n in 0..count {
        let id = format!("d{n:03}");
        api.put(&format!("{DOCS}/{id}"), format!(r#"{{"data":{{"n":{n}}}}}"#))
            .await
            .expect_status(201);
        ids.insert(id);
    }
    ids
}

/// Every item's member of that name, page by page, in the order seen; and how many pages there were.
async fn walk(api: &Api, path: &str, limit: usize, member: &str) -> (Vec<String>, usize) {
    let mut seen = Vec::new();
    let mut query = format!("?limit={limit}");
    for pages in 1..1_000 {
        let page = api.get(&format!("{path}{query}")).await.expect_status(200).json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= limit);
        seen.extend(items.iter().map(|item| item[member].as_str().unwrap().to_owned()));
        match page.get("next_page_token") {
            None => return (seen, pages),
            Some(token) => query = format!("?limit={limit}&page_token={}", token.as_str().unwrap()),
        }
    }
    panic!("no end of pages");
}

#[tokio::test]
async fn contract_34_a_list_holds_whole_envelopes() {
    let api = Api::with_collection().await;
    let empty = api.get(DOCS).await.expect_status(200);
    assert_eq!(empty.text(), r#"{"items":[]}"#);
    fill(&api, 2).await;
    let list = api.get(DOCS).await.json();
    assert_eq!(list.as_object().unwrap().len(), 1, "the last page has no token");
    for item in list["items"].as_array().unwrap() {
        let path = format!("{DOCS}/{}", item["id"].as_str().unwrap());
        assert_eq!(*item, api.get(&path).await.json());
    }
}

#[tokio::test]
async fn contract_34_a_page_ends_early_at_8_mebibytes() {
    let api = Api::with_collection().await;
    let text = "x".repeat(1_000_000);
    for n in 0..10 {
        api.put(&format!("{DOCS}/d{n}"), format!(r#"{{"data":{{"x":"{text}"}}}}"#))
            .await
            .expect_status(201);
    }
    let first = api.get(DOCS).await.expect_status(200);
    assert!(
        first.body.len() <= 8 * 1024 * 1024 + 16 * 1024,
        "{}",
        first.body.len()
    );
    let (ids, pages) = walk(&api, DOCS, 100, "id").await;
    assert_eq!((ids.len(), pages), (10, 2));
}

#[tokio::test]
async fn contract_35_limit_is_1_to_1000_and_not_clamped() {
    let api = Api::with_collection().await;
    for path in [DOCS, "/v1/collections"] {
        for bad in [
            "0",
            "1001",
            "-1",
            "+5",
            "1.5",
            "ten",
            "",
            "1&limit=2",
            "1&limit=1",
            "%20",
            "99999999999999999999",
        ] {
            api.get(&format!("{path}?limit={bad}"))
                .await
                .expect_problem(400, "invalid-request");
        }
        for good in ["1", "1000"] {
            api.get(&format!("{path}?limit={good}")).await.expect_status(200);
        }
    }
    fill(&api, 101).await;
    let default = api.get(DOCS).await.json();
    assert_eq!(default["items"].as_array().unwrap().len(), 100);
    assert!(default["next_page_token"].is_string());
}

#[tokio::test]
async fn contract_36_unknown_query_parameters_are_refused_everywhere() {
    let api = Api::with_collection().await;
    let doc = format!("{DOCS}/a");
    api.put(&doc, r#"{"data":{}}"#).await.expect_status(201);
    for query in [
        "filter=x",
        "order_by=x",
        "fields=id",
        "x",
        "Limit=1",
        "limit=1&offset=2",
    ] {
        api.get(&format!("{DOCS}?{query}"))
            .await
            .expect_problem(400, "invalid-request");
        api.get(&format!("/v1/collections?{query}"))
            .await
            .expect_problem(400, "invalid-request");
    }
    for path in [doc.as_str(), "/v1/collections/c"] {
        api.get(&format!("{path}?fields=id"))
            .await
            .expect_problem(400, "invalid-request");
        api.delete(&format!("{path}?force=true"))
            .await
            .expect_problem(400, "invalid-request");
    }
    api.put(&format!("{doc}?x=1"), r#"{"data":{}}"#)
        .await
        .expect_problem(400, "invalid-request");
    api.post(&format!("{DOCS}?limit=1"), r#"{"data":{}}"#)
        .await
        .expect_problem(400, "invalid-request");
    api.get(&doc).await.expect_status(200);
}

#[tokio::test]
async fn contract_37_a_document_that_exists_throughout_is_seen_exactly_once() {
    let api = Api::with_collection().await;
    let ids = fill(&api, 60).await;
    for limit in [1, 7, 60, 61] {
        let (seen, _) = walk(&api, DOCS, limit, "id").await;
        assert_eq!(seen.len(), ids.len(), "limit {limit}");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), ids, "limit {limit}");
    }
    // Others come and go between the pages.
    let mut seen = Vec::new();
    let mut query = String::from("?limit=10");
    for round in 0.. {
        let page = api.get(&format!("{DOCS}{query}")).await.json();
        let items = page["items"].as_array().unwrap().clone();
        seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        api.put(&format!("{DOCS}/a{round}"), r#"{"data":{}}"#).await;
        api.put(&format!("{DOCS}/z{round}"), r#"{"data":{}}"#).await;
        if round > 0 {
            api.delete(&format!("{DOCS}/z{}", round - 1)).await;
        }
        match page["next_page_token"].as_str() {
            Some(token) => query = format!("?limit=10&page_token={token}"),
            None => break,
        }
    }
    let throughout: Vec<String> = seen.into_iter().filter(|id| id.starts_with('d')).collect();
    assert_eq!(throughout.len(), ids.len());
    assert_eq!(throughout.into_iter().collect::<BTreeSet<_>>(), ids);
}

#[tokio::test]
async fn contract_38_tokens_are_good_on_every_instance_and_reusable_with_another_limit() {
    let api = Api::with_collection().await;
    fill(&api, 5).await;
    let token = api.get(&format!("{DOCS}?limit=2")).await.json()["next_page_token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(token.len() < 1_024);
    assert!(
        token
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b))
    );
    let another = api.another().await;
    let rest = async |instance: &Api| {
        instance
            .get(&format!("{DOCS}?limit=3&page_token={token}"))
            .await
            .expect_status(200)
            .json()
    };
    let page = rest(&api).await;
    assert_eq!(page["items"].as_array().unwrap().len(), 3);
    assert_eq!(rest(&api).await, page);
    assert_eq!(rest(&another).await, page);
}

#[tokio::test]
async fn contract_38_forged_tokens_and_those_of_other_lists_are_refused() {
    let api = Api::with_collection().await;
    api.put("/v1/collections/d", "{}").await.expect_status(201);
    fill(&api, 3).await;
    let token = api.get(&format!("{DOCS}?limit=1")).await.json()["next_page_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let flipped = if token.starts_with('A') { "B" } else { "A" };
    for bad in [
        "",
        "x",
        &format!("{token}AAAA"),
        &format!("{flipped}{}", &token[1..]),
        &"A".repeat(2_000),
        "%00",
        "a b",
    ] {
        let bad = bad.replace(' ', "%20");
        api.get(&format!("{DOCS}?page_token={bad}"))
            .await
            .expect_problem(400, "invalid-page-token");
        api.get(&format!("/v1/collections?page_token={bad}"))
            .await
            .expect_problem(400, "invalid-page-token");
    }
    for other in ["/v1/collections/d/documents", "/v1/collections"] {
        api.get(&format!("{other}?page_token={token}"))
            .await
            .expect_problem(400, "invalid-page-token");
    }
    let twice = format!("{DOCS}?page_token={token}&page_token={token}");
    api.get(&twice).await.expect_problem(400, "invalid-request");
}

#[tokio::test]
async fn contract_39_collections_are_paged_the_same_way() {
    let api = Api::start().await;
    let names: Vec<String> = (0..7).map(|n| format!("c{n}")).collect();
    for name in &names {
        api.put(&format!("/v1/collections/{name}"), "{}")
            .await
            .expect_status(201);
    }
    for limit in [1, 3, 7, 8] {
        assert_eq!(
            walk(&api, "/v1/collections", limit, "name").await.0,
            names,
            "limit {limit}"
        );
    }
    assert_eq!(
        walk(&api, "/v1/collections", 7, "name").await.1,
        1,
        "a full last page is the last"
    );
}

#[tokio::test]
async fn contract_39_a_key_sees_only_collections_where_it_has_some_scope() {
    let api = Api::with_keys(&[
        ("admin", &["admin:*"]),
        ("some", &["read:b*", "write:c3"]),
        ("none", &["read:zzz"]),
    ])
    .await;
    let admin = api.as_key("admin");
    for name in ["a-merger-in-2027", "a2", "b1", "b2", "c3", "d4"] {
        admin
            .put(&format!("/v1/collections/{name}"), "{}")
            .await
            .expect_status(201);
    }
    for limit in [1, 2, 10] {
        assert_eq!(
            walk(&api.as_key("some"), "/v1/collections", limit, "name")
                .await
                .0,
            ["b1", "b2", "c3"]
        );
        assert_eq!(walk(&admin, "/v1/collections", limit, "name").await.0.len(), 6);
        assert!(
            walk(&api.as_key("none"), "/v1/collections", limit, "name")
                .await
                .0
                .is_empty()
        );
    }
    // The token of a page that ends there doesn't show the name of a collection that its holder may not see.
    let page = admin.get("/v1/collections?limit=1").await.json();
    assert_eq!(page["items"][0]["name"], "a-merger-in-2027");
    let token = page["next_page_token"].as_str().unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
    assert!(
        !bytes.windows("merger".len()).any(|part| part == b"merger"),
        "{token}"
    );
    // A token is not bound to the key.
    let token = admin.get("/v1/collections?limit=3").await.json()["next_page_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let rest = api
        .as_key("some")
        .get(&format!("/v1/collections?page_token={token}"))
        .await
        .json();
    assert_eq!(rest["items"].as_array().unwrap().len(), 2);
}
