//! The status port as a listener: HTTP's own rules, methods, and who is served without a token.

use tidepool_listener::testing;

use crate::operator::status_port;
use crate::stage::{Says, metrics, stage};

/// The answer to a request, as it came.
async fn raw(url: &str, request: String) -> String {
    let url = url.to_owned();
    tokio::task::spawn_blocking(move || testing::exchange(&url, &request))
        .await
        .unwrap()
}

/// The status of a request with these header lines.
async fn status(url: &str, line: &str, lines: &[&str]) -> u16 {
    let (url, line) = (url.to_owned(), line.to_owned());
    let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    let asked = move || {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        testing::status(&url, &line, &lines)
    };
    tokio::task::spawn_blocking(asked).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn http_is_kept_to() {
    let stage = stage(&[("api", 4)], metrics(Says::Idle), "");
    let url = status_port(&stage, None).await;
    for case in testing::cases("/livez", "/api/pools/api/hold") {
        assert_eq!(
            status(&url, &case.line, case.lines).await,
            case.status,
            "{case:?}"
        );
    }
    tokio::task::spawn_blocking(move || testing::assert_an_early_answer_closes(&url, "/livez", 405))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn head_is_served_wherever_get_is_and_405_lists_the_methods() {
    let stage = stage(&[("api", 4)], metrics(Says::Idle), "");
    let url = status_port(&stage, None).await;
    stage.rounds(1).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for path in ["/", "/app.js", "/style.css", "/livez", "/metrics", "/api/status"] {
        let get = http.get(format!("{url}{path}")).send().await.unwrap();
        let head = http.head(format!("{url}{path}")).send().await.unwrap();
        assert_eq!(
            (get.status(), head.status()),
            (200.try_into().unwrap(), 200.try_into().unwrap()),
            "{path}"
        );
        assert_eq!(
            head.headers().get("content-type"),
            get.headers().get("content-type"),
            "{path}"
        );
        assert!(head.headers().get("content-length").unwrap() != "0", "{path}");
        let wrong = http.delete(format!("{url}{path}")).send().await.unwrap();
        assert_eq!(wrong.status(), 405, "{path}");
        assert_eq!(wrong.headers().get("allow").unwrap(), "GET, HEAD", "{path}");
    }
    for word in ["hold", "resume", "scale"] {
        for method in [reqwest::Method::GET, reqwest::Method::HEAD, reqwest::Method::PUT] {
            let wrong = http
                .request(method, format!("{url}/api/pools/api/{word}"))
                .send()
                .await
                .unwrap();
            assert_eq!(
                (
                    wrong.status().as_u16(),
                    wrong.headers().get("allow").unwrap().to_str().unwrap()
                ),
                (405, "POST")
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_no_web_page_is_obeyed_or_shown_anything() {
    let stage = stage(&[("api", 4)], metrics(Says::Busy), "");
    let url = status_port(&stage, None).await;
    stage.rounds(1).await;
    let own = url.replace("http://", "Host: ");
    let hold = "POST /api/pools/api/hold HTTP/1.1";
    // DNS rebinding: host and origin agree, and are not ours.
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "192.0.2.1",
    ] {
        let (line, origin) = (format!("Host: {host}"), format!("Origin: http://{host}"));
        for request in [
            hold,
            "GET /api/status HTTP/1.1",
            "GET / HTTP/1.1",
            "GET /metrics HTTP/1.1",
            "HEAD /api/status HTTP/1.1",
        ] {
            let lines = [
                line.as_str(),
                &origin,
                "Sec-Fetch-Site: same-origin",
                "X-Forwarded-Host: localhost",
            ];
            assert_eq!(status(&url, request, &lines).await, 403, "{request} {host}");
        }
        assert_eq!(status(&url, "GET /livez HTTP/1.1", &[&line]).await, 200);
    }
    for foreign in [
        "Origin: http://evil.example",
        "Origin: null",
        "Origin: http://127.0.0.1:1",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        assert_eq!(status(&url, hold, &[&own, foreign]).await, 403, "{foreign}");
    }
    let origin = url.replace("http://", "Origin: http://");
    for lines in [
        &[own.as_str()] as &[&str],
        &[&own, &origin, "Sec-Fetch-Site: same-origin"],
        &["Host: LOCALHOST."],
        &["Host: [::1]:1"],
    ] {
        assert_eq!(status(&url, hold, lines).await, 200, "{lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_ask_for_the_token_where_there_is_one() {
    let stage = stage(&[("api", 4)], metrics(Says::Busy), "");
    let url = status_port(&stage, Some("the-token")).await;
    let host = "Host: scaler.example.com";
    let token = "Authorization: Bearer the-token";
    assert_eq!(status(&url, "GET /metrics HTTP/1.1", &[host]).await, 401);
    assert_eq!(
        status(
            &url,
            "GET /metrics HTTP/1.1",
            &[host, "Authorization: Bearer other"]
        )
        .await,
        401
    );
    for token in [
        token,
        "Authorization: bearer the-token",
        "authorization: BEARER  the-token",
    ] {
        assert_eq!(
            status(&url, "GET /metrics HTTP/1.1", &[host, token]).await,
            200,
            "{token}"
        );
    }
    let foreign = "Origin: http://evil.example";
    let refused = raw(
        &url,
        format!(
            "POST /api/pools/api/hold HTTP/1.1\r\n{host}\r\n{token}\r\n{foreign}\r\nConnection: close\r\n\r\n"
        ),
    )
    .await;
    assert!(
        refused.starts_with("HTTP/1.1 403") && refused.contains("another origin"),
        "{refused}"
    );
    assert!(!refused.contains("credential"), "{refused}");
    assert_eq!(status(&url, "GET /livez HTTP/1.1", &[host]).await, 200);
}
