//! Points 49 to 56: problems, headers, methods, paths, HTTP/1.0.

use crate::support::{Api, JSON, status_of};

const DOC: &str = "/v1/collections/c/documents/a";

const ROUTES: [(&str, &str); 9] = [
    ("/v1/collections", "GET, HEAD, OPTIONS"),
    ("/v1/collections/c", "GET, HEAD, PUT, DELETE, OPTIONS"),
    ("/v1/collections/c/documents", "GET, HEAD, POST, OPTIONS"),
    (DOC, "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
    ("/docs", "GET, HEAD, OPTIONS"),
    ("/docs/start.js", "GET, HEAD, OPTIONS"),
    ("/docs/swagger-ui.css", "GET, HEAD, OPTIONS"),
    ("/docs/swagger-ui-bundle.js", "GET, HEAD, OPTIONS"),
    ("/openapi.json", "GET, HEAD, OPTIONS"),
];

async fn with_document() -> Api {
    let api = Api::with_collection().await;
    api.put(DOC, r#"{"data":{"n":1}}"#).await.expect_status(201);
    api
}

// Points 49 and 51 are checked on every answer of every test, see `support::Answer::checked`.

#[tokio::test]
async fn contract_51_the_request_id_is_the_servers_and_always_another() {
    let api = with_document().await;
    let mut seen = std::collections::HashSet::new();
    for path in [DOC, DOC, "/v1/nowhere", "/docs"] {
        let answer = api.send("GET", path, &[("x-request-id", "mine")], None).await;
        assert!(seen.insert(answer.header("x-request-id").unwrap().to_owned()));
    }
    assert!(!seen.contains("mine"));
}

#[tokio::test]
async fn contract_52_wrong_and_unknown_methods_are_405_with_allow() {
    let api = with_document().await;
    for (path, allow) in ROUTES {
        for method in [
            "GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "TRACE", "BREW", "get",
        ] {
            if allow.split(", ").any(|allowed| allowed == method) {
                continue;
            }
            let answer = api
                .raw(format!(
                    "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                ))
                .await;
            assert_eq!(status_of(&answer), 405, "{method} {path}");
            assert!(
                answer
                    .to_ascii_lowercase()
                    .contains(&format!("allow: {}\r\n", allow.to_ascii_lowercase())),
                "{answer}"
            );
            assert!(
                answer.contains("urn:tidepool:problem:method-not-allowed"),
                "{answer}"
            );
        }
        let options = api.send("OPTIONS", path, &[], None).await.expect_status(204);
        assert_eq!(options.header("allow"), Some(allow));
    }
    let bad = api.send("OPTIONS", "/v1/nowhere", &[], None).await;
    bad.expect_problem(404, "not-found");
}

#[tokio::test]
async fn contract_52_head_is_served_wherever_get_is() {
    let api = with_document().await;
    for (path, _) in ROUTES {
        let get = api.get(path).await.expect_status(200);
        let head = api.send("HEAD", path, &[], None).await.expect_status(200);
        assert!(head.body.is_empty());
        for name in ["etag", "content-type", "cache-control"] {
            assert_eq!(head.header(name), get.header(name), "{path} {name}");
        }
        assert_eq!(
            head.header("content-length"),
            Some(get.body.len().to_string().as_str()),
            "{path}"
        );
    }
    let missing = api
        .send("HEAD", "/v1/collections/c/documents/b", &[], None)
        .await
        .expect_status(404);
    assert!(missing.body.is_empty());
}

#[tokio::test]
async fn the_root_leads_to_the_documentation() {
    let api = Api::start().await;
    let request = |method| {
        format!("{method} / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    };
    for method in ["GET", "HEAD"] {
        let answer = api.raw(request(method)).await;
        assert_eq!(status_of(&answer), 307, "{answer}");
        assert!(answer.contains("\r\nlocation: /docs\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "no body: {answer}");
    }
    let answer = api.raw(request("POST")).await;
    assert_eq!(status_of(&answer), 405);
    assert!(answer.contains("\r\nallow: GET, HEAD, OPTIONS\r\n"), "{answer}");
    let options = api.send("OPTIONS", "/", &[], None).await.expect_status(204);
    assert_eq!(options.header("allow"), Some("GET, HEAD, OPTIONS"));
    // Followed, it is the page.
    let page = api.get("/").await.expect_status(200);
    assert!(page.text().contains("Tidepool API"));
}

#[tokio::test]
async fn contract_53_trailing_and_doubled_slashes_are_404_without_redirect() {
    let api = with_document().await;
    for path in [
        "//",
        "/v1",
        "/v1/",
        "/v1/collections/",
        "//v1/collections",
        "/v1//collections",
        "/v1/collections/c/",
        "/v1/collections//documents",
        "/v1/collections/c/documents/",
        "/v1/collections/c/documents/a/",
        "/v1/collections/c//documents/a",
        "/v1/collections/c/documents//a",
        "/v1/collections/c/documents/a/b",
        "/docs/",
        "/docs/x.js",
        "/openapi.json/",
        "/livez",
        "/metrics",
        "/drain",
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let answer = api
                .raw(format!(
                    "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                ))
                .await;
            assert_eq!(status_of(&answer), 404, "{method} {path}");
            assert!(answer.contains("urn:tidepool:problem:not-found"), "{answer}");
        }
    }
}

#[tokio::test]
async fn contract_54_json_whatever_accept_says_and_415_without_a_content_type() {
    let api = with_document().await;
    for accept in ["text/html", "application/xml", "*/*;q=0", "nonsense"] {
        let answer = api
            .send("GET", DOC, &[("accept", accept)], None)
            .await
            .expect_status(200);
        assert_eq!(answer.header("content-type"), Some(JSON));
    }
    let body = || Some(r#"{"data":{}}"#.to_owned());
    api.send("PUT", DOC, &[], body())
        .await
        .expect_problem(415, "unsupported-media-type");
    for media in [
        "text/json",
        "application/json; charset=utf-16",
        "application/vnd.api+json",
        "application/merge-patch+json",
    ] {
        let answer = api.send("PUT", DOC, &[("content-type", media)], body()).await;
        answer.expect_problem(415, "unsupported-media-type");
    }
    for media in ["application/json; charset=UTF-8", "Application/JSON"] {
        api.send("PUT", DOC, &[("content-type", media)], body())
            .await
            .expect_status(200);
    }
    let twice = [("content-type", JSON), ("content-type", JSON)];
    api.send("PUT", DOC, &twice, body())
        .await
        .expect_problem(415, "unsupported-media-type");
}

/// RFC 8259, 11: JSON defines no charset, so naming UTF-8 by any of its labels has no effect.
#[tokio::test]
async fn a_charset_that_names_utf_8_in_any_spelling_changes_nothing() {
    let api = with_document().await;
    let parameters = [
        "charset=utf8",
        "charset=\"UTF8\"",
        "Charset=Unicode-1-1-UTF-8",
        "charset=unicode11utf8",
        "charset=unicode20utf8",
        "charset=x-unicode20utf8",
        "charset=",
        "charset=\"\"",
        "charset",
        "charset=\"utf-8",
        "profile=\"a; charset=latin1\"",
    ];
    for (method, path, media) in [
        ("PUT", DOC, JSON),
        ("PUT", "/v1/collections/c", JSON),
        ("POST", "/v1/collections/c/documents", JSON),
        ("PATCH", DOC, "application/merge-patch+json"),
    ] {
        let body = if path.ends_with("/c") {
            "{}"
        } else {
            r#"{"data":{}}"#
        };
        let send = async |media: String| {
            let headers = [("content-type", media.as_str())];
            api.send(method, path, &headers, Some(body.to_owned())).await
        };
        for parameter in parameters {
            let answer = send(format!("{media}; {parameter}")).await;
            let success = if method == "POST" { 201 } else { 200 };
            assert_eq!(answer.status, success, "{method} {media}; {parameter}");
        }
        for charset in ["utf-16", "\"latin1\"", "iso-8859-1"] {
            let answer = send(format!("{media};charset={charset}")).await;
            let answer = answer.expect_problem(415, "unsupported-media-type");
            let patch = (method == "PATCH").then_some(media);
            assert_eq!(answer.header("accept-patch"), patch, "{method}");
        }
    }
}

#[tokio::test]
async fn contract_55_documents_are_private_and_no_cors_is_granted() {
    let api = with_document().await;
    for path in [DOC, "/v1/collections/c/documents", "/v1/collections/c"] {
        let answer = api
            .send("GET", path, &[("origin", "https://example.org")], None)
            .await
            .expect_status(200);
        assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
        assert!(
            !answer
                .headers
                .keys()
                .any(|name| name.as_str().starts_with("access-control-"))
        );
    }
    let etag = api.get(DOC).await.etag();
    let not_modified = api
        .send("GET", DOC, &[("if-none-match", &etag)], None)
        .await
        .expect_status(304);
    assert_eq!(not_modified.header("cache-control"), Some("private, no-cache"));
    let preflight = [
        ("origin", "https://example.org"),
        ("access-control-request-method", "PUT"),
    ];
    let answer = api.send("OPTIONS", DOC, &preflight, None).await;
    assert!(
        !answer
            .headers
            .keys()
            .any(|name| name.as_str().starts_with("access-control-"))
    );
}

#[tokio::test]
async fn contract_56_http_1_0_is_served_and_never_chunked() {
    let api = with_document().await;
    for path in [DOC, "/v1/collections/c/documents", "/v1/nowhere", "/docs"] {
        let answer = api.raw(format!("GET {path} HTTP/1.0\r\n\r\n")).await;
        let head = answer.split("\r\n\r\n").next().unwrap().to_ascii_lowercase();
        assert!(
            head.starts_with("http/1.0 ") || head.starts_with("http/1.1 "),
            "{head}"
        );
        assert!(!head.contains("transfer-encoding"), "{head}");
        assert!(head.contains("content-length"), "{head}");
        assert_eq!(status_of(&answer), if path == "/v1/nowhere" { 404 } else { 200 });
    }
}

#[tokio::test]
async fn an_unwanted_body_does_not_break_the_answer_or_the_connection() {
    let api = with_document().await;
    // Answered without reading the body: the client still gets the answer, and the connection goes on.
    let body = "x".repeat(900_000);
    for _ in 0..3 {
        api.send("PUT", "/v1/nowhere", &[], Some(body.clone()))
            .await
            .expect_problem(404, "not-found");
        api.send("PUT", DOC, &[], Some(body.clone()))
            .await
            .expect_problem(415, "unsupported-media-type");
        api.send("GET", DOC, &[], Some("{}".into()))
            .await
            .expect_status(200);
    }
}
