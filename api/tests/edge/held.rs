//! What is held for all clients together: large answers that nobody reads, large bodies, and bodies that are wrong all
//! over.

use super::harness::{Connection, Folder, SOON, Server, wait_until};

const COLLECTION: &str = "/v1/collections/c";
const LIST: &str = "/v1/collections/c/documents";

/// The smallest bounds that the program takes.
const BOUNDS: [&str; 4] = [
    "--limits-answer-bytes-held-max",
    "16777216",
    "--limits-body-bytes-held-max",
    "16777216",
];

/// Clients that stand still. Each would have a page of 8 MiB held for it.
const STALLED: usize = 40;

/// Both bounds, pages that are being read (as much as answers), and what the program takes by itself when it is not
/// optimised. Without bounds 40 pages alone are 320 MiB, twice that while they are put together.
const RESIDENT_KIB_MAX: u64 = 220 * 1024;

/// A server with a page of 8 MiB in one collection, and a small document in another.
fn with_large_page(folder: &Folder) -> Server {
    let server = Server::start(folder, &BOUNDS);
    for collection in [COLLECTION, "/v1/collections/small"] {
        assert_eq!(server.send("PUT", collection, None, Some("{}")).status, 201);
    }
    let large = format!(r#"{{"data":{{"x":"{}"}}}}"#, "x".repeat(1_000_000));
    for n in 0..9 {
        let made = server.send("PUT", &format!("{LIST}/d{n}"), None, Some(&large));
        assert_eq!(made.status, 201, "{}", made.text());
    }
    let small = server.send(
        "PUT",
        "/v1/collections/small/documents/a",
        None,
        Some(r#"{"data":{}}"#),
    );
    assert_eq!(small.status, 201);
    server
}

#[test]
fn clients_that_do_not_read_share_a_bound_and_shut_nobody_else_out() {
    let folder = Folder::new();
    let server = with_large_page(&folder);
    let mut stalled: Vec<_> = (0..STALLED).map(|_| Connection::open(server.public)).collect();
    for connection in &mut stalled {
        connection.write(&format!("GET {LIST} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    }
    // No room is left for another page; what is small needs none.
    wait_until("a page is refused", SOON, || {
        let refused = server.send("GET", LIST, None, None);
        refused.status == 503 && refused.header("retry-after").is_some()
    });
    for path in [
        "/v1/collections/small/documents/a",
        "/v1/collections/small/documents",
    ] {
        let answer = server.send("GET", path, None, None);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let written = server.send(
        "PUT",
        "/v1/collections/small/documents/b",
        None,
        Some(r#"{"data":{}}"#),
    );
    assert_eq!(written.status, 201);
    assert_eq!(server.ops_get("/livez").status, 200);
    let resident = server.resident_kib_max();
    assert!(
        resident < RESIDENT_KIB_MAX,
        "{} MiB were resident",
        resident / 1024
    );
    drop(stalled);
    wait_until("pages are served again", SOON, || {
        server.send("GET", LIST, None, None).status == 200
    });
}

#[test]
fn an_answer_that_is_read_is_whole() {
    let folder = Folder::new();
    let server = with_large_page(&folder);
    // More than one after another has room, each read whole.
    for _ in 0..4 {
        let page = server.send("GET", LIST, None, None);
        assert_eq!(page.status, 200);
        let items = page.json()["items"].as_array().unwrap().len();
        assert_eq!(items, 8, "8 of 1 MB fit a page of 8 MiB");
    }
    let head = Connection::open(server.public).request("HEAD", LIST, None, None);
    let length = server.send("GET", LIST, None, None).body.len();
    assert_eq!(head.header("content-length"), Some(length.to_string().as_str()));
    let one = server.send("GET", &format!("{LIST}/d0"), None, None);
    assert_eq!(one.json()["data"]["x"].as_str().unwrap().len(), 1_000_000);
}

#[test]
fn large_bodies_that_come_slowly_share_a_bound() {
    let folder = Folder::new();
    let server = Server::start(&folder, &BOUNDS);
    assert_eq!(server.send("PUT", COLLECTION, None, Some("{}")).status, 201);
    let head = |name: &str| {
        format!(
            "PUT {LIST}/{name} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
        )
    };
    let mut slow: Vec<_> = (0..20).map(|_| Connection::open(server.public)).collect();
    for connection in &mut slow {
        connection.write(&head("slow"));
    }
    let large = format!(r#"{{"data":{{"x":"{}"}}}}"#, "x".repeat(1_000_000));
    wait_until("a large body is refused", SOON, || {
        let refused = server.send("PUT", &format!("{LIST}/a"), None, Some(&large));
        refused.status == 503 && refused.header("retry-after").is_some()
    });
    assert_eq!(
        server
            .send("PUT", &format!("{LIST}/b"), None, Some(r#"{"data":{}}"#))
            .status,
        201
    );
    drop(slow);
    wait_until("large bodies are taken again", SOON, || {
        server
            .send("PUT", &format!("{LIST}/a"), None, Some(&large))
            .status
            < 300
    });
}

#[test]
fn a_body_that_is_wrong_all_over_is_answered_shortly() {
    let folder = Folder::new();
    let server = Server::start(&folder, &[]);
    assert_eq!(server.send("PUT", COLLECTION, None, Some("{}")).status, 201);
    let repeated = vec![r#""a":0"#; 60_000].join(",");
    let long = "n".repeat(300_000);
    for body in [
        format!(r#"{{"data":{{{repeated}}}}}"#),
        format!(r#"{{"data":{{"{long}":{{{repeated}}}}}}}"#),
        format!(r#"{{"{long}":0,"{long}":1}}"#),
        format!(r#"{{"{long}":0,"data":{{}}}}"#),
    ] {
        let answer = server.send("PUT", &format!("{LIST}/a"), None, Some(&body));
        assert_eq!((answer.status, answer.problem().as_str()), (400, "invalid-body"));
        assert!(answer.body.len() < 64 * 1024, "{} bytes", answer.body.len());
    }
}
