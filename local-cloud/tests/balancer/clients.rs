//! What a balancer grants its clients, and what it refuses them: the firewall, kept connections, deadlines, HTTP.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::Pool;
use crate::common::{Cloud, PATIENCE, client};

/// What a raw request is answered with, until the connection ends; empty when it is refused.
async fn exchange(from: Ipv4Addr, address: &str, request: &str) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let address = address.strip_prefix("http://").unwrap().parse().unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let mut answer = Vec::new();
    // A refused connection may be reset before anything is written.
    if stream.write_all(request.as_bytes()).await.is_ok() {
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "the connection stays open");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: lb\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn the_firewall_is_shown_as_sent_and_kept_to() {
    let firewall = json!({"allow": ["cidr:127.0.0.0/24"], "deny": ["ip:127.0.0.9"]});
    let pool = Pool::start(&[], 1, json!({"firewall": firewall})).await;
    let path = format!("/v2/load_balancers/{}", pool.balancer);
    let shown = pool.cloud.get(&path).await;
    assert_eq!(shown.at("/load_balancer/firewall"), &firewall);
    let from = async |last| exchange(last, &pool.address, GET).await;
    assert!(
        from(Ipv4Addr::new(127, 0, 0, 1))
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert_eq!(from(Ipv4Addr::new(127, 0, 0, 9)).await, "", "denied");
    assert_eq!(from(Ipv4Addr::new(127, 0, 1, 1)).await, "", "not allowed");
    assert_eq!(pool.counters().await["refused_by_firewall"], 2);
    // A change holds for connections that are open, too.
    let mut kept = TcpStream::connect(pool.address.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    let request = "GET / HTTP/1.1\r\nHost: lb\r\n\r\n";
    kept.write_all(request.as_bytes()).await.unwrap();
    let mut begin = [0; 12];
    kept.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    let mut body = shown.at("/load_balancer").clone();
    body["region"] = json!("nyc3");
    body.as_object_mut().unwrap().remove("droplet_ids");
    body["firewall"] = json!({"deny": ["cidr:127.0.0.0/8"]});
    let put = pool.cloud.put(&path, body).await;
    assert_eq!(put.status, 200, "{put:?}");
    assert_eq!(
        put.at("/load_balancer/firewall"),
        &json!({"allow": [], "deny": ["cidr:127.0.0.0/8"]})
    );
    kept.write_all(request.as_bytes()).await.unwrap();
    let mut rest = String::new();
    kept.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("HTTP/1.1 403"), "{rest}");
    assert_eq!(exchange(Ipv4Addr::LOCALHOST, &pool.address, GET).await, "");
}

#[tokio::test]
async fn connections_to_members_are_kept_only_when_that_is_asked_for() {
    for keepalive in [false, true] {
        let pool = Pool::start(&[], 1, json!({"enable_backend_keepalive": keepalive})).await;
        let shown = pool
            .cloud
            .get(&format!("/v2/load_balancers/{}", pool.balancer))
            .await;
        assert_eq!(
            shown.at("/load_balancer/enable_backend_keepalive"),
            &json!(keepalive)
        );
        let mut ports = std::collections::BTreeSet::new();
        let http = client();
        for _ in 0..5 {
            let answer = http.get(format!("{}/x", pool.address)).send().await.unwrap();
            let answer = crate::common::reply_of(answer).await;
            ports.insert(answer.text("/peer"));
        }
        assert_eq!(
            ports.len(),
            if keepalive { 1 } else { 5 },
            "{keepalive}: {ports:?}"
        );
    }
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_not_passed_on() {
    let pool = Pool::start(&[], 1, json!({})).await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", "400"),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "501",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
            "400",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
            "400",
        ),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET /a\u{1}b HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 0\r\n\r\n", "400"),
        ("GET / HTTP/1.0\r\n\r\n", "200"),
        (GET, "200"),
    ] {
        let answer = exchange(Ipv4Addr::LOCALHOST, &pool.address, request).await;
        let begin = answer.lines().next().unwrap_or_default();
        assert!(begin.contains(status), "{request:?}: {answer:?}");
        if status != "200" {
            assert!(
                answer.to_ascii_lowercase().contains("connection: close"),
                "{request:?}: {answer:?}"
            );
        }
    }
    assert_eq!(pool.seen("GET").await, 2, "members saw none of the others");
}

#[tokio::test]
async fn a_request_that_comes_while_one_is_answered_waits_for_its_turn() {
    let pool = Pool::start(&[], 1, json!({})).await;
    let mut stream = TcpStream::connect(pool.address.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    let slow = "GET /slow?ms=1000 HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(slow.as_bytes()).await.unwrap();
    pool.cloud
        .until("a member has the first", async || {
            pool.seen("GET /slow").await == 1
        })
        .await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    let mut answers = String::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answers)).await;
    assert!(read.is_ok(), "the connection stays open: {answers}");
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
}

/// Requests that come before their turn are answered in it.
#[tokio::test]
async fn requests_sent_without_waiting_are_all_answered_in_their_order() {
    let pool = Pool::start(&[], 1, json!({})).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let put = "PUT /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody".to_owned();
    let last = "GET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned();
    let chunked = "PUT /4 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    for last in [last, format!("{chunked}{}", get("/5"))] {
        let requests = [get("/1"), put.clone(), get("/3"), last].concat();
        // At once, and cut within a head, a body and between two requests.
        for cut in [
            requests.len(),
            20,
            get("/1").len() + put.len() - 2,
            get("/1").len() + put.len(),
        ] {
            let (begin, rest) = requests.split_at(cut);
            let mut stream = TcpStream::connect(pool.address.strip_prefix("http://").unwrap())
                .await
                .unwrap();
            stream.set_nodelay(true).unwrap();
            stream.write_all(begin.as_bytes()).await.unwrap();
            stream.write_all(rest.as_bytes()).await.unwrap();
            let mut answer = String::new();
            let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
            assert!(read.is_ok(), "the connection stays open: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 200").count(), 4, "{cut}: {answer}");
            let closing = answer.to_ascii_lowercase().matches("connection: close").count();
            assert_eq!(closing, 1, "{cut}: {answer}");
        }
    }
}

/// As `nc -N` does, and clients that have one thing to ask.
#[tokio::test]
async fn who_has_sent_all_and_closes_that_half_is_answered() {
    let pool = Pool::start(&[], 1, json!({})).await;
    let slow = "GET /slow?ms=300 HTTP/1.1\r\nHost: a\r\n\r\n";
    let put = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    let chunked = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    for (requests, answers) in [
        (GET.to_owned(), 1),
        (slow.to_owned(), 1),
        (put.to_owned(), 1),
        (chunked.to_owned(), 1),
        ([slow, put, slow].concat(), 3),
    ] {
        let mut stream = TcpStream::connect(pool.address.strip_prefix("http://").unwrap())
            .await
            .unwrap();
        stream.write_all(requests.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
        assert!(read.is_ok(), "the connection stays open: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1 200").count(),
            answers,
            "{requests}: {answer}"
        );
    }
    // Half a body is none, and who has gone is in nobody's way for long.
    let half = put.replace("body", "b");
    let mut stream = TcpStream::connect(pool.address.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    stream.write_all(half.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
    let mut gone = TcpStream::connect(pool.address.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    let hangs = "GET /slow?ms=600000 HTTP/1.1\r\nHost: a\r\n\r\n";
    gone.write_all(hangs.as_bytes()).await.unwrap();
    pool.cloud
        .until("a member has it", async || {
            pool.member(pool.ids[0]).await["in_flight"] == 1
        })
        .await;
    drop(gone);
    pool.cloud
        .until("it is given up", async || {
            pool.member(pool.ids[0]).await["in_flight"] == 0
                && pool.cloud.balancer_state(&pool.balancer).await["connections"] == 0
        })
        .await;
}

#[tokio::test]
async fn a_body_that_is_not_framed_as_said_is_refused_in_those_words() {
    let pool = Pool::start(&[], 1, json!({})).await;
    let request = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n";
    let answer = exchange(Ipv4Addr::LOCALHOST, &pool.address, request).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(
        answer.contains("its body is not framed as its head says"),
        "{answer}"
    );
}

/// A head that never ends, byte by byte or after a beginning, ends with the connection, and takes no place for ever.
#[tokio::test]
async fn heads_that_never_end_are_cut_off() {
    let pool = Pool::start(&[], 1, json!({})).await;
    let address = pool.address.strip_prefix("http://").unwrap().to_owned();
    let silent = TcpStream::connect(&address).await.unwrap();
    let mut half = TcpStream::connect(&address).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n").await.unwrap();
    let (mut trickle_in, trickle_out) = TcpStream::connect(&address).await.unwrap().into_split();
    let trickle = tokio::spawn(async move {
        let mut out = trickle_out;
        out.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        // Each byte comes long before any timeout between two reads.
        while out.write_all(b"X-A: b\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    // A connection that was used already, and then begins a request that it does not end.
    let mut used = TcpStream::connect(&address).await.unwrap();
    used.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut begin = [0; 12];
    used.read_exact(&mut begin).await.unwrap();
    used.write_all(b"GET / HT").await.unwrap();
    let mut answer = Vec::new();
    for mut stream in [silent, half, used] {
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "a connection stays open");
    }
    let ended = tokio::time::timeout(PATIENCE, trickle_in.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the trickling connection stays open");
    trickle.await.unwrap();
    pool.cloud
        .until("no connection is left", async || {
            pool.cloud.balancer_state(&pool.balancer).await["connections"] == 0
        })
        .await;
    assert_eq!(client().get(&pool.address).send().await.unwrap().status(), 200);
}

/// With few descriptors there are few connections, and the rest waits instead of taking the API down.
#[tokio::test]
async fn connections_are_bounded_by_what_the_process_may_open() {
    let cloud = Cloud::start_with_descriptors(700, &["--droplet-limit", "10"]);
    let (balancer, address) = cloud.balancer("serving:web", json!({})).await;
    let address = address.strip_prefix("http://").unwrap().to_owned();
    let mut open = Vec::new();
    for _ in 0..200 {
        open.push(TcpStream::connect(&address).await.unwrap());
    }
    cloud
        .until("there is no more room", async || {
            cloud.balancer_state(&balancer).await["connections"] == 74
        })
        .await;
    assert_eq!(cloud.get("/v2/account").await.status, 200);
    drop(open);
    assert_eq!(
        client()
            .get(format!("http://{address}/"))
            .send()
            .await
            .unwrap()
            .status(),
        503,
        "served again, by no member"
    );
}
