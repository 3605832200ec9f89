//! Points 18 to 23: JSON and bodies.

use tidepool_api::domain::json::BODY_BYTES_MAX;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Api, DEADLINE, JSON, status_of};

const DOC: &str = "/v1/collections/c/documents/a";
const DOCS: &str = "/v1/collections/c/documents";

fn nested(depth: usize) -> String {
    // The envelope and data are two levels.
    let inner = depth - 2;
    format!(r#"{{"data":{{"x":{}{}}}}}"#, "[".repeat(inner), "]".repeat(inner))
}

fn sized(bytes: usize) -> String {
    let envelope = r#"{"data":{"x":""}}"#.len();
    format!(r#"{{"data":{{"x":"{}"}}}}"#, "y".repeat(bytes - envelope))
}

#[tokio::test]
async fn contract_18_numbers_come_back_exactly() {
    let api = Api::with_collection().await;
    let data = r#"{"min":-9223372036854775808,"max":18446744073709551615,"beyond":340282366920938463463374607431768211456,"e":1E400000,"d":0.1000000000000000055511151231257827,"z":-0,"one":1.0,"exp":1e5}"#;
    let answer = api.put(DOC, format!(r#"{{"data":{data}}}"#)).await;
    // What no double can hold the magnitude of is refused, never altered.
    assert_eq!(
        answer.expect_problem(400, "invalid-body").pointers(),
        ["#/data/e"]
    );
    let data = data.replace(r#""e":1E400000,"#, "");
    api.put(DOC, format!(r#"{{"data":{data}}}"#))
        .await
        .expect_status(201);
    let expected = format!(r#""data":{data}}}"#);
    assert!(api.get(DOC).await.text().ends_with(&expected));
    assert!(api.get(DOCS).await.text().contains(&expected));
    let patched = api
        .patch(DOC, r#"{"data":{"new":1.50}}"#)
        .await
        .expect_status(200);
    let expected = format!(r#""data":{},"new":1.50}}}}"#, &data[..data.len() - 1]);
    assert!(patched.text().ends_with(&expected), "{}", patched.text());
    assert_eq!(api.get(DOC).await.text(), patched.text());
}

#[tokio::test]
async fn contract_19_duplicate_members_are_refused_at_every_level() {
    let api = Api::with_collection().await;
    let body = r#"{"data":{"a":1,"b":[{"c":1,"c":2}],"\u0061":2}}"#;
    assert_eq!(
        api.put(DOC, body).await.expect_status(400).pointers(),
        ["#/data/b/0/c", "#/data/a"]
    );
    assert_eq!(
        api.put(DOC, r#"{"data":{},"data":{}}"#)
            .await
            .expect_status(400)
            .pointers(),
        ["#/data"]
    );
    api.put(DOC, r#"{"data":{}}"#).await.expect_status(201);
    assert_eq!(
        api.patch(DOC, r#"{"data":{"a":1,"a":2}}"#)
            .await
            .expect_status(400)
            .pointers(),
        ["#/data/a"]
    );
}

#[tokio::test]
async fn contract_20_depth_64_in_65_out() {
    let api = Api::with_collection().await;
    api.put(DOC, nested(64)).await.expect_status(201);
    api.put(DOC, nested(65)).await.expect_problem(400, "invalid-body");
    api.post(DOCS, nested(65))
        .await
        .expect_problem(400, "invalid-body");
    api.patch(DOC, nested(64)).await.expect_status(200);
    api.patch(DOC, nested(65))
        .await
        .expect_problem(400, "invalid-body");
    assert!(api.get(DOC).await.text().contains(&"[".repeat(62)));
}

#[tokio::test]
async fn contract_21_a_mebibyte_is_inclusive_chunked_or_not() {
    let api = Api::with_collection().await;
    let largest = sized(BODY_BYTES_MAX);
    assert_eq!(largest.len(), 1_048_576);
    api.put(DOC, largest.clone()).await.expect_status(201);
    assert_eq!(
        api.get(DOC).await.json()["data"]["x"].as_str().unwrap().len(),
        largest.len() - 17
    );
    api.put(DOC, sized(BODY_BYTES_MAX + 1))
        .await
        .expect_problem(413, "body-too-large");
    // Far more is read away before the answer, so that the client reads it.
    api.put(DOC, sized(3 * BODY_BYTES_MAX))
        .await
        .expect_problem(413, "body-too-large");
    for (bytes, status) in [(BODY_BYTES_MAX, 200), (BODY_BYTES_MAX + 1, 413)] {
        let body = sized(bytes);
        let (first, second) = body.split_at(700_000);
        let request = format!(
            "PUT {DOC} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {JSON}\r\n\
             Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
            first.len(),
            second.len()
        );
        assert_eq!(status_of(&api.raw(request).await), status, "{bytes} bytes");
    }
}

#[tokio::test]
async fn contract_21_a_patch_whose_result_would_be_too_large_changes_nothing() {
    let api = Api::with_collection().await;
    let created = api.put(DOC, sized(BODY_BYTES_MAX - 100)).await.expect_status(201);
    let patch = format!(r#"{{"data":{{"y":"{}"}}}}"#, "z".repeat(200));
    api.patch(DOC, patch).await.expect_problem(413, "body-too-large");
    assert_eq!(api.get(DOC).await.etag(), created.etag());
    api.patch(DOC, r#"{"data":{"x":null,"y":1}}"#)
        .await
        .expect_status(200);
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_is_not_asked_for_a_body_too_large() {
    let api = Api::with_collection().await;
    let head = format!(
        "PUT {DOC} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {JSON}\r\nExpect: 100-continue\r\nContent-Length: 2000000\r\n\r\n"
    );
    let mut stream = tokio::net::TcpStream::connect(api.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 64];
    let read = tokio::time::timeout(DEADLINE, stream.read(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(
        answer[..read].starts_with(b"HTTP/1.1 413"),
        "{:?}",
        String::from_utf8_lossy(&answer[..read])
    );
}

#[tokio::test]
async fn contract_22_member_order_is_kept_and_lone_surrogates_are_refused() {
    let api = Api::with_collection().await;
    let data = r#"{ "z":1, "a" : "\ud83d\ude00é", "m":{"y":1,"b":2} }"#;
    api.put(DOC, format!(r#"{{"data":{data}}}"#))
        .await
        .expect_status(201);
    assert!(
        api.get(DOC)
            .await
            .text()
            .ends_with(&format!(r#""data":{data}}}"#))
    );
    for text in [r"\ud800", r"\udc00", r"\ud800\u0061", r"x\udfff"] {
        let body = format!(r#"{{"data":{{"a":"{text}"}}}}"#);
        assert_eq!(
            api.put(DOC, body).await.expect_status(400).pointers(),
            ["#/data/a"],
            "{text}"
        );
        api.put(DOC, format!(r#"{{"data":{{"{text}":1}}}}"#))
            .await
            .expect_problem(400, "invalid-body");
    }
}

#[tokio::test]
async fn bodies_that_are_not_json_are_refused_and_change_nothing() {
    let api = Api::with_collection().await;
    for body in [
        "",
        "{",
        "{\"data\":{}",
        "{\"data\":{}}x",
        "data={}",
        "{\"data\":{\"a\":01}}",
        "{'data':{}}",
    ] {
        api.put(DOC, body).await.expect_problem(400, "invalid-body");
        api.post(DOCS, body).await.expect_problem(400, "invalid-body");
    }
    let body = b"{\"data\":{\"a\":\"\xff\"}}";
    let head = format!(
        "PUT {DOC} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {JSON}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let bytes = [head.as_bytes(), body].concat();
    assert_eq!(status_of(&api.raw(&bytes).await), 400);
    api.get(DOC).await.expect_problem(404, "document-not-found");
}

#[tokio::test]
async fn contract_23_encoded_content_is_refused() {
    let api = Api::with_collection().await;
    for encoding in ["gzip", "identity", "br"] {
        let headers = [("content-type", JSON), ("content-encoding", encoding)];
        let answer = api
            .send("PUT", DOC, &headers, Some(r#"{"data":{}}"#.into()))
            .await;
        let answer = answer.expect_problem(415, "unsupported-media-type");
        assert_eq!(answer.header("accept-encoding"), Some("identity"));
    }
    api.get(DOC).await.expect_problem(404, "document-not-found");
}
