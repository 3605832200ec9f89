//! Rules whose bytes are not looked at, and the PROXY protocol.

use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::common::{PATIENCE, client, free_port};
use crate::{Pool, end};

const CHECK: &str = r#"{"protocol": "tcp", "port": 8080, "check_interval_seconds": 1, "response_timeout_seconds": 1,
    "healthy_threshold": 1, "unhealthy_threshold": 2}"#;

fn rules(protocol: &str, port: u16) -> Value {
    let check: Value = serde_json::from_str(CHECK).unwrap();
    json!({"health_check": check, "forwarding_rules": [{"entry_protocol": protocol, "entry_port": port,
        "target_protocol": protocol, "target_port": 8080, "tls_passthrough": protocol == "https"}]})
}

impl Pool {
    /// Takes the place of a droplet's program: that one goes, the address stays.
    async fn replaced(&self, id: u64) -> TcpListener {
        let state = self.cloud.droplet_state(id).await;
        let public = state["public"].as_str().unwrap().to_owned();
        self.kill(id).await;
        let mut listener = None;
        self.cloud
            .until("its address is free", async || {
                listener = TcpListener::bind(&public).await.ok();
                listener.is_some()
            })
            .await;
        listener.unwrap()
    }
}

/// A server that sends back what comes, after the line that introduces the client, if one is sent.
fn echo(listener: TcpListener) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ended = tokio::io::copy(&mut from, &mut to).await;
                let _ended = to.shutdown().await;
            });
        }
    })
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_side_may_be_done_first() {
    let port = free_port();
    let pool = Pool::start(&[], 1, rules("tcp", port)).await;
    let member = echo(pool.replaced(pool.ids[0]).await);
    pool.cloud.members_ready(&pool.balancer, 1).await;
    let mut stream = TcpStream::connect((pool.balancer_ip(), port)).await.unwrap();
    let sent: Vec<u8> = (0..1_000_000_u32)
        .map(|nth| u8::try_from(nth % 251).unwrap())
        .collect();
    let (mut from, mut to) = stream.split();
    let writing = async {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut came = Vec::new();
    let (read, ()) = tokio::join!(from.read_to_end(&mut came), writing);
    read.unwrap();
    assert_eq!(came, sent);
    // A connection that is open counts, and ends with the balancer.
    let mut kept = TcpStream::connect((pool.balancer_ip(), port)).await.unwrap();
    pool.cloud
        .until("it is tied", async || {
            pool.member(pool.ids[0]).await["in_flight"] == 1
        })
        .await;
    assert_eq!(pool.counters().await["tcp_connections"], 2);
    let path = format!("/v2/load_balancers/{}", pool.balancer);
    assert_eq!(pool.cloud.delete(&path).await.status, 204);
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, kept.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "it is still open");
    end(member).await;
}

#[tokio::test]
async fn a_member_that_can_t_be_reached_is_passed_over_and_without_one_the_door_is_shut() {
    let port = free_port();
    let pool = Pool::start(&[], 2, rules("tcp", port)).await;
    let address = format!("http://{}:{port}/", pool.balancer_ip());
    pool.kill(pool.ids[0]).await;
    for _ in 0..4 {
        assert_eq!(client().get(&address).send().await.unwrap().status(), 200);
    }
    pool.kill(pool.ids[1]).await;
    pool.cloud
        .until("nobody is left", async || {
            client().get(&address).send().await.is_err()
        })
        .await;
    assert!(pool.counters().await["tcp_without_member"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn tls_is_passed_through_to_the_member_that_has_the_key() {
    let port = free_port();
    let pool = Pool::start(&[], 1, rules("https", port)).await;
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["own.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let listener = pool.replaced(pool.ids[0]).await;
    let member = tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A check connects and says nothing.
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut head = [0; 4096];
                let _read = stream.read(&mut head).await;
                let _sent = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nown")
                    .await;
                let _ended = stream.shutdown().await;
            });
        }
    });
    pool.cloud.members_ready(&pool.balancer, 1).await;
    let ip: std::net::IpAddr = pool.balancer_ip().parse().unwrap();
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .tls_built_in_root_certs(false)
        .add_root_certificate(reqwest::Certificate::from_der(cert.der()).unwrap())
        .resolve("own.example", (ip, 0).into());
    let http = http.build().unwrap();
    let answer = http
        .get(format!("https://own.example:{port}/"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.text().await.unwrap(), "own");
    end(member).await;
}

#[tokio::test]
async fn members_are_told_in_the_proxy_protocol_who_the_client_is() {
    for protocol in ["http", "tcp"] {
        let port = free_port();
        let mut fields = rules(protocol, port);
        fields["enable_proxy_protocol"] = json!(true);
        fields["enable_backend_keepalive"] = json!(true);
        let pool = Pool::start(&[], 1, fields).await;
        let listener = pool.replaced(pool.ids[0]).await;
        let (lines, mut told) = tokio::sync::mpsc::unbounded_channel();
        let member = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let lines = lines.clone();
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let mut line = String::new();
                    let read = stream.read_line(&mut line).await;
                    if read.is_ok_and(|count| count > 0) {
                        let _told = lines.send(line);
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                        let _sent = stream.get_mut().write_all(answer).await;
                        let mut rest = [0; 4096];
                        let _read = stream.read(&mut rest).await;
                    }
                });
            }
        });
        pool.cloud.members_ready(&pool.balancer, 1).await;
        for _ in 0..3 {
            let mut stream = TcpStream::connect((pool.balancer_ip(), port)).await.unwrap();
            let own = stream.local_addr().unwrap();
            stream
                .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                .await
                .unwrap();
            let mut begin = [0; 12];
            stream.read_exact(&mut begin).await.unwrap();
            assert_eq!(&begin, b"HTTP/1.1 200");
            let (ip, own_port, to) = (own.ip(), own.port(), pool.balancer_ip());
            let line = format!("PROXY TCP4 {ip} {to} {own_port} {port}\r\n");
            assert_eq!(told.recv().await.unwrap(), line, "{protocol}");
        }
        end(member).await;
    }
}
