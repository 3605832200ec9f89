//! The operations listener: probes, methods, metrics.

use super::harness::{Connection, Folder, SOON, Server, wait_until};

#[test]
fn probes_answer_and_everything_else_is_404_or_405() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    for (method, path, status) in [
        ("GET", "/livez", 200),
        ("HEAD", "/livez", 200),
        ("GET", "/readyz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/deploy/ready", 503),
        ("POST", "/livez", 405),
        ("PUT", "/readyz", 405),
        ("DELETE", "/metrics", 405),
        ("POST", "/deploy/ready", 405),
        ("GET", "/drain", 405),
        ("GET", "/", 404),
        ("GET", "/livez/", 404),
        ("GET", "/v1/collections", 404),
    ] {
        let answer = Connection::open(server.ops).request(method, path, None, None);
        assert_eq!(answer.status, status, "{method} {path}");
        let allow = match path {
            "/drain" => "POST",
            _ => "GET, HEAD",
        };
        assert_eq!(
            answer.header("allow"),
            (status == 405).then_some(allow),
            "{method} {path}"
        );
    }
    // Nor are they reachable from the public side.
    for path in ["/livez", "/readyz", "/metrics", "/deploy/ready", "/drain"] {
        assert_eq!(server.send("GET", path, None, None).status, 404, "{path}");
    }
}

#[test]
fn metrics_count_every_request_exactly_once_by_template() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    let document = |id: u32| format!("/v1/collections/notes/documents/{id}");
    assert_eq!(
        server
            .send("PUT", "/v1/collections/notes", None, Some("{}"))
            .status,
        201
    );
    let mut kept = Connection::open(server.public);
    for id in 0..10 {
        assert_eq!(
            kept.request("PUT", &document(id), None, Some("{\"data\":{}}"))
                .status,
            201
        );
        assert_eq!(kept.request("GET", &document(id), None, None).status, 200);
    }
    for id in 10..13 {
        assert_eq!(kept.request("GET", &document(id), None, None).status, 404);
    }
    for path in ["/a", "/b", "/v1/collections/"] {
        assert_eq!(server.send("GET", path, None, None).status, 404);
    }
    for method in ["BREW", "LOCK"] {
        assert_eq!(server.send(method, "/v1/collections", None, None).status, 405);
    }
    let count = |method: &str, route: &str, status: u16| {
        let labels = format!("{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}}");
        let requests = server.metric(&format!("tidepool_http_requests_total{labels}"));
        let observed = server.metric(&format!("tidepool_http_request_duration_seconds_count{labels}"));
        assert_eq!(requests, observed, "{labels}");
        requests
    };
    let template = "/v1/collections/{collection}/documents/{id}";
    assert_eq!(count("PUT", "/v1/collections/{collection}", 201), Some(1.0));
    assert_eq!(count("PUT", template, 201), Some(10.0));
    assert_eq!(count("GET", template, 200), Some(10.0));
    assert_eq!(count("GET", template, 404), Some(3.0));
    assert_eq!(count("GET", "unknown", 404), Some(3.0));
    assert_eq!(count("other", "/v1/collections", 405), Some(2.0));
    wait_until("nothing is in flight", SOON, || {
        server.metric("tidepool_http_requests_in_flight") == Some(0.0)
    });
    let text = server.ops_get("/metrics").text();
    let total: f64 = text
        .lines()
        .filter(|line| line.starts_with("tidepool_http_requests_total{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert!((total - 29.0).abs() < f64::EPSILON, "{text}");
    for name in [
        "tidepool_store_duration_seconds_count{",
        "process_cpu_seconds_total ",
        "process_resident_memory_bytes ",
        "tidepool_host_cpu_ratio ",
        "tidepool_host_memory_used_bytes ",
        "tidepool_host_memory_total_bytes ",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(name)),
            "{name} in {text}"
        );
    }
    let type_line = server.ops_get("/metrics");
    assert!(
        type_line
            .header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
}

#[test]
fn log_lines_carry_the_request_id_and_neither_keys_nor_queries() {
    let folder = Folder::new();
    let key = folder.key("one", &["admin:*"]);
    let server = Server::start(&folder, &["--log-level", "debug"]);
    let answer = server.send("GET", "/v1/collections?page_token=sesame", Some(&key), None);
    let id = answer.header("x-request-id").unwrap().to_owned();
    wait_until("the line is written", SOON, || server.log().contains(&id));
    let log = server.log();
    let line = log.lines().find(|line| line.contains(&id)).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(
        (&line["method"], &line["route"]),
        (&"GET".into(), &"/v1/collections".into())
    );
    assert_eq!(line["status"], answer.status);
    assert!(!log.contains(&key) && !log.contains("sesame"), "{log}");
}
