//! The status port as a listener: HTTP's own rules, methods, and who is served without a token.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::operator::status_port;
use crate::stage::{Says, metrics, stage};

/// How long an answer may take.
const SOON: Duration = Duration::from_secs(20);

/// Bytes to the port, and everything that comes back until it closes.
async fn raw(url: &str, request: String) -> String {
    let address = url.trim_start_matches("http://").to_owned();
    let exchange = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::task::spawn_blocking(exchange).await.unwrap()
}

/// The status of a request with these header lines.
async fn status(url: &str, line: &str, lines: &[&str]) -> u16 {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let answer = raw(url, format!("{line}\r\n{lines}Connection: close\r\n\r\n")).await;
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn http_is_kept_to() {
    let stage = stage(&[("api", 4)], metrics(Says::Idle), "");
    let url = status_port(&stage, None).await;
    let host = "Host: localhost";
    for (line, lines, expected) in [
        ("GET /livez HTTP/1.1", &[] as &[&str], 400),
        ("GET /livez HTTP/1.1", &[host, host], 400),
        ("GET /livez HTTP/1.1", &["Host: a b"], 400),
        ("GET /livez HTTP/1.0", &[], 200),
        ("GET http://localhost/livez HTTP/1.1", &[host], 200),
        ("OPTIONS * HTTP/1.1", &[host], 204),
        ("OPTIONS * HTTP/1.0", &[], 204),
        ("GET * HTTP/1.1", &[host], 400),
        (
            "POST /api/pools/api/hold HTTP/1.1",
            &[host, "Transfer-Encoding: gzip"],
            501,
        ),
        (
            "POST /api/pools/api/hold HTTP/1.1",
            &[host, "Transfer-Encoding: gzip, chunked"],
            501,
        ),
    ] {
        assert_eq!(status(&url, line, lines).await, expected, "{line} {lines:?}");
    }
    // An answer before the body closes, and what follows is not taken for a request.
    let early = "POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\nGET /livez \
                 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = raw(&url, early.to_owned()).await.to_ascii_lowercase();
    assert!(
        answer.starts_with("http/1.1 405") && answer.contains("connection: close\r\n"),
        "{answer}"
    );
    assert_eq!(answer.matches("http/1.1 ").count(), 1, "{answer}");
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
