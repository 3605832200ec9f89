//! The API as a listener: HTTP's own rules, methods, and who is served without a token.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use reqwest::Method;
use serde_json::{Value, json};
use tidepool_listener::testing;

use crate::common::{Cloud, PATIENCE, by_systemd};

/// The status of a request with these header lines and any token.
fn status(cloud: &Cloud, line: &str, lines: &[&str]) -> u16 {
    testing::status(&cloud.url, line, &[&["Authorization: Bearer t"], lines].concat())
}

#[tokio::test]
async fn http_is_kept_to() {
    let cloud = Cloud::start(&[]);
    for case in testing::cases("/v2/account", "/v2/tags") {
        assert_eq!(status(&cloud, &case.line, case.lines), case.status, "{case:?}");
    }
    // For want of a token.
    testing::assert_an_early_answer_closes(&cloud.url, "/v2/droplets", 401);
}

#[tokio::test]
async fn head_is_served_wherever_get_is() {
    let cloud = Cloud::start(&[]);
    let id = cloud.droplet("web-1", "tiny", &["t"]).await;
    let http = crate::common::client();
    for path in [
        "/v2/account",
        "/v2/account/keys",
        "/v2/regions",
        "/v2/sizes",
        "/v2/images",
        "/v2/snapshots",
        "/v2/actions",
        "/v2/tags",
        "/v2/tags/t",
        "/v2/droplets",
        &format!("/v2/droplets/{id}"),
        &format!("/v2/droplets/{id}/actions"),
        "/v2/load_balancers",
        "/v2/vpcs",
        "/v2/domains",
        "/v2/registries",
        "/v2/registry",
        "/v2/registry/options",
        "/_local/state",
        "/_local/faults",
        "/v2/droplets/1234567",
    ] {
        let asked = |method| {
            http.request(method, format!("{}{path}", cloud.url))
                .bearer_auth("t")
        };
        let get = asked(Method::GET).send().await.unwrap();
        let head = asked(Method::HEAD).send().await.unwrap();
        assert_eq!(head.status(), get.status(), "{path}");
        assert_eq!(
            head.headers().get("content-type"),
            get.headers().get("content-type"),
            "{path}"
        );
        assert!(head.headers().get("content-length").unwrap() != "0", "{path}");
        let counted = path.starts_with("/v2");
        assert_eq!(
            head.headers().contains_key("ratelimit-remaining"),
            counted,
            "{path}"
        );
        assert!(head.bytes().await.unwrap().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn a_405_lists_the_methods_that_work() {
    let cloud = Cloud::start(&[]);
    let http = crate::common::client();
    for (path, allow) in [
        ("/v2/account", "GET, HEAD"),
        ("/v2/account/keys", "GET, HEAD, POST"),
        ("/v2/account/keys/1", "GET, HEAD, PUT, DELETE"),
        ("/v2/actions/1", "GET, HEAD"),
        ("/v2/snapshots/1", "GET, HEAD, DELETE"),
        ("/v2/images", "GET, HEAD"),
        ("/v2/images/1/actions", "POST"),
        ("/v2/tags/t/resources", "POST, DELETE"),
        ("/v2/droplets", "GET, HEAD, POST, DELETE"),
        ("/v2/droplets/1", "GET, HEAD, DELETE"),
        ("/v2/droplets/1/actions", "GET, HEAD, POST"),
        ("/v2/droplets/1/kernels", "GET, HEAD"),
        ("/v2/load_balancers/1/droplets", "POST, DELETE"),
        ("/v2/vpcs/1", "GET, HEAD, PUT, PATCH, DELETE"),
        ("/v2/domains", "GET, HEAD, POST"),
        ("/v2/domains/a.example", "GET, HEAD, DELETE"),
        ("/v2/domains/a.example/records", "GET, HEAD, POST"),
        ("/v2/domains/a.example/records/1", "GET, HEAD, PUT, PATCH, DELETE"),
        ("/v2/registry", "GET, HEAD, POST, DELETE"),
        ("/v2/registry/options", "GET, HEAD"),
        ("/v2/registry/docker-credentials", "GET, HEAD"),
        ("/v2/registries", "GET, HEAD, POST"),
        ("/v2/registries/subscription", "GET, HEAD, POST"),
        ("/v2/registries/validate-name", "POST"),
        ("/v2/registries/one", "GET, HEAD, DELETE"),
        ("/_local/state", "GET, HEAD"),
        ("/_local/faults", "GET, HEAD, DELETE"),
        ("/_local/faults/power-cut", "POST"),
    ] {
        for method in ["BREW", "OPTIONS", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
            if allow.split(", ").any(|allowed| allowed == method) {
                continue;
            }
            let method: Method = method.parse().unwrap();
            let answer = http
                .request(method.clone(), format!("{}{path}", cloud.url))
                .bearer_auth("t")
                .send()
                .await;
            let answer = answer.unwrap();
            assert_eq!(answer.status(), 405, "{method} {path}");
            assert_eq!(answer.headers().get("allow").unwrap(), allow, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn where_any_token_is_taken_no_web_page_is_obeyed_or_shown_anything() {
    let cloud = Cloud::start(&["--allowed-hosts", "cloud.example.com"]);
    let own = cloud.url.replace("http://", "Host: ");
    let clear = "DELETE /_local/faults HTTP/1.1";
    // DNS rebinding: host and origin agree, and are not ours.
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io"] {
        let (line, origin) = (format!("Host: {host}"), format!("Origin: http://{host}"));
        for request in [
            clear,
            "GET /_local/state HTTP/1.1",
            "GET /v2/droplets HTTP/1.1",
            "DELETE /v2/droplets/1 HTTP/1.1",
        ] {
            let lines = [
                line.as_str(),
                &origin,
                "Sec-Fetch-Site: same-origin",
                "X-Forwarded-Host: localhost",
            ];
            assert_eq!(status(&cloud, request, &lines), 403, "{request} {host}");
        }
    }
    for foreign in [
        "Origin: http://evil.example",
        "Origin: null",
        "Origin: http://127.0.0.1:1",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        assert_eq!(status(&cloud, clear, &[&own, foreign]), 403, "{foreign}");
    }
    for lines in [
        &[own.as_str()] as &[&str],
        &["Host: localhost"],
        &["Host: cloud.example.com"],
        &["Host: [::1]:1"],
    ] {
        assert_eq!(status(&cloud, clear, lines), 204, "{lines:?}");
    }
}

#[tokio::test]
async fn the_one_token_opens_faults_and_state_too() {
    let cloud = Cloud::start(&["--token", "right"]);
    let calls = [
        (Method::GET, "/_local/state", Value::Null),
        (Method::GET, "/_local/faults", Value::Null),
        (Method::DELETE, "/_local/faults", Value::Null),
        (Method::POST, "/_local/faults/rate-limit", json!({"count": 1})),
    ];
    for (method, path, body) in &calls {
        for token in [None, Some("wrong")] {
            let reply = cloud.call_as(token, method.clone(), path, body).await;
            assert_eq!(reply.status, 401, "{method} {path}");
        }
    }
    for (method, path, body) in &calls {
        let reply = cloud.call_as(Some("right"), method.clone(), path, body).await;
        assert!(reply.status < 300, "{method} {path}: {reply:?}");
    }
    let refused = cloud.command(&["fault", "list"]);
    assert_eq!(refused.status.code(), Some(1));
    for args in [
        &["fault", "list", "--token", "right"] as &[&str],
        &["fault", "clear", "--token", "right"],
        &["state", "--token", "right"],
    ] {
        assert!(cloud.command(args).status.success(), "{args:?}");
    }
}

#[tokio::test]
async fn half_sent_requests_are_cut_and_leave_room_for_others() {
    let cloud = Cloud::start(&[]);
    let hoard: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(cloud.url.trim_start_matches("http://")).unwrap();
            stream
                .write_all(b"GET /v2/account HTTP/1.1\r\nHost: local")
                .unwrap();
            stream
        })
        .collect();
    // As many as are allowed at a time are cut after their 10 s; then it is this one's turn.
    assert_eq!(cloud.get("/v2/account").await.status, 200);
    let mut first = hoard.first().unwrap();
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut rest = Vec::new();
    let ended = first.read_to_end(&mut rest);
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_create_is_done_to_its_end_although_its_client_goes_away() {
    let cloud = Cloud::start(&[]);
    let body = json!({"name": "gone", "image": "tiny", "size": "s-1vcpu-1gb", "region": "nyc3"}).to_string();
    let request = format!(
        "POST /v2/droplets HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer t\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // Many processes, or a few systems, which take longer.
    let clients = if by_systemd() { 4 } else { 40 };
    for _ in 0..clients {
        let mut stream = TcpStream::connect(cloud.url.trim_start_matches("http://")).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
    }
    cloud.droplet("last", "tiny", &[]).await;
    cloud
        .until("every droplet is done", async || {
            let listed = cloud
                .call(Method::GET, "/v2/droplets?per_page=200", Value::Null)
                .await;
            let droplets = listed.at("/droplets").as_array().unwrap();
            let done = |droplet: &Value| droplet["status"] == "active" && droplet["locked"] == false;
            droplets.len() > 1 && droplets.iter().all(done)
        })
        .await;
}
