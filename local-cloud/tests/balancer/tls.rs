//! TLS that ends at the balancer: certificates of the local authority, redirects, HTTP/2, rotation, and who attacks it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Pool;
use crate::common::{Cloud, PATIENCE, free_port, reply_of};

const NAME: &str = "api.tidepool.example";

/// A pool whose balancer speaks http, https and http2, each on a port.
pub(crate) struct Secure {
    pub(crate) pool: Pool,
    pub(crate) https: String,
    pub(crate) http2: String,
    http: String,
    ip: IpAddr,
    https_port: u16,
    certificate: String,
}

/// A certificate of the local authority for this name; its id.
async fn certificate(cloud: &Cloud, name: &str) -> String {
    let body = json!({"name": name, "type": "lets_encrypt", "dns_names": [NAME]});
    let made = cloud.post("/v2/certificates", body).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.text("/certificate/id")
}

impl Secure {
    pub(crate) async fn start(members: usize, more: Value) -> Self {
        let cloud = Cloud::start(&[]);
        let certificate = certificate(&cloud, "first").await;
        let [http_port, https_port, http2_port] = [free_port(), free_port(), free_port()];
        let rule = |protocol: &str, port: u16, certificate: &str| {
            json!({"entry_protocol": protocol, "entry_port": port, "target_protocol": "http", "target_port": 8080,
                "certificate_id": certificate})
        };
        let mut fields = json!({"forwarding_rules": [
            rule("http", http_port, ""),
            rule("https", https_port, &certificate),
            rule("http2", http2_port, &certificate),
        ]});
        let changed = fields.as_object_mut().unwrap();
        changed.extend(more.as_object().cloned().unwrap_or_default());
        let pool = Pool::start_in(cloud, members, fields).await;
        let ip = pool.balancer_ip().to_owned();
        Self {
            https: format!("https://{NAME}:{https_port}"),
            http2: format!("https://{NAME}:{http2_port}"),
            http: format!("http://{NAME}:{http_port}"),
            ip: ip.parse().unwrap(),
            https_port,
            certificate,
            pool,
        }
    }

    fn builder(&self) -> reqwest::ClientBuilder {
        let root = std::fs::read(self.pool.cloud.state_dir().join("authority/root.pem")).unwrap();
        reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .tls_built_in_root_certs(false)
            .add_root_certificate(reqwest::Certificate::from_pem(&root).unwrap())
            .resolve(NAME, (self.ip, 0).into())
            .redirect(reqwest::redirect::Policy::none())
    }

    pub(crate) fn client(&self) -> reqwest::Client {
        self.builder().build().unwrap()
    }

    fn https_address(&self) -> SocketAddr {
        (self.ip, self.https_port).into()
    }

    fn path(&self) -> String {
        format!("/v2/load_balancers/{}", self.pool.balancer)
    }

    /// The balancer as it is shown, as a PUT takes it.
    async fn shown(&self) -> Value {
        let mut body = self
            .pool
            .cloud
            .get(&self.path())
            .await
            .at("/load_balancer")
            .clone();
        body["region"] = json!("nyc3");
        body.as_object_mut().unwrap().remove("droplet_ids");
        body
    }

    /// Puts another certificate in place, and removes the one before.
    async fn rotate(&mut self, name: &str) {
        let cloud = &self.pool.cloud;
        let next = certificate(cloud, name).await;
        let mut body = self.shown().await;
        for rule in body["forwarding_rules"].as_array_mut().unwrap() {
            if rule["certificate_id"] != "" {
                rule["certificate_id"] = json!(next);
            }
        }
        let put = cloud.put(&self.path(), body).await;
        assert_eq!(put.status, 200, "{put:?}");
        let gone = cloud
            .delete(&format!("/v2/certificates/{}", self.certificate))
            .await;
        assert_eq!(gone.status, 204, "{gone:?}");
        self.certificate = next;
    }
}

#[tokio::test]
async fn https_ends_at_the_balancer_and_members_are_told_of_it() {
    let secure = Secure::start(1, json!({})).await;
    let http = secure.client();
    for (address, version, proto) in [
        (&secure.https, reqwest::Version::HTTP_11, "https"),
        (&secure.http2, reqwest::Version::HTTP_2, "https"),
        (&secure.http, reqwest::Version::HTTP_11, "http"),
    ] {
        for _ in 0..2 {
            let answer = http
                .post(format!("{address}/x"))
                .body(vec![b'x'; 100_000])
                .send()
                .await
                .unwrap();
            assert_eq!(answer.version(), version, "{address}");
            let reply = reply_of(answer).await;
            assert_eq!(reply.status, 200);
            assert_eq!(reply.text("/forwarded_proto"), proto);
            let (_, port) = address.rsplit_once(':').unwrap();
            assert_eq!(reply.text("/forwarded_port"), port);
            assert_eq!(reply.number("/body_bytes"), 100_000);
            assert!(reply.text("/host").starts_with(NAME));
        }
    }
    // One that knows nothing newer than TLS 1.2, and one that does not trust the authority.
    let old = secure.builder().max_tls_version(reqwest::tls::Version::TLS_1_2);
    let answer = old.build().unwrap().get(&secure.https).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let stranger = reqwest::Client::builder()
        .no_proxy()
        .resolve(NAME, (secure.ip, 0).into());
    assert!(stranger.build().unwrap().get(&secure.https).send().await.is_err());
}

#[tokio::test]
async fn http_is_sent_to_https_with_its_host_and_target() {
    let secure = Secure::start(1, json!({"redirect_http_to_https": true})).await;
    let http = secure.client();
    for method in [reqwest::Method::GET, reqwest::Method::POST, reqwest::Method::HEAD] {
        let answer = http
            .request(method.clone(), format!("{}/x?y=%20z", secure.http))
            .body(if method == reqwest::Method::POST {
                "body"
            } else {
                ""
            })
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 307, "{method}");
        let location = answer.headers()["location"].to_str().unwrap();
        assert_eq!(location, format!("{}/x?y=%20z", secure.https));
    }
    let counters = secure.pool.counters().await;
    assert_eq!(
        (&counters["redirects"], &counters["answers"]["3xx"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(secure.pool.seen("").await, 0, "no member saw them");
    let following = secure
        .builder()
        .redirect(reqwest::redirect::Policy::limited(1))
        .build()
        .unwrap();
    let reply = reply_of(following.post(&secure.http).body("12345").send().await.unwrap()).await;
    assert_eq!(
        (
            reply.text("/method"),
            reply.number("/body_bytes"),
            reply.text("/forwarded_proto")
        ),
        ("POST".into(), 5, "https".into())
    );
}

#[tokio::test]
async fn a_sticky_client_comes_to_its_member_as_long_as_that_is_well() {
    let sticky = json!({"type": "cookies", "cookie_name": "DO-LB", "cookie_ttl_seconds": 300});
    let secure = Secure::start(3, json!({"sticky_sessions": sticky})).await;
    let http = secure.client();
    let first = http
        .get(&secure.https)
        .header("cookie", "mine=1")
        .send()
        .await
        .unwrap();
    let cookie = first.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.ends_with("; Path=/; Max-Age=300; HttpOnly"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let member = reply_of(first).await.text("/name");
    for address in [&secure.https, &secure.http2, &secure.http]
        .into_iter()
        .cycle()
        .take(9)
    {
        let answer = http
            .get(address)
            .header("cookie", format!("a=b; {cookie}; c=d"))
            .send()
            .await
            .unwrap();
        assert!(!answer.headers().contains_key("set-cookie"));
        let reply = reply_of(answer).await;
        assert_eq!(
            (reply.text("/name"), reply.text("/cookie")),
            (member.clone(), "a=b; c=d".into())
        );
    }
    let without = http.get(&secure.https).send().await.unwrap();
    assert!(without.headers().contains_key("set-cookie"));
    // Its member loses its power: another one takes over, and the client is bound to that.
    let nth: usize = member.strip_prefix("web-").unwrap().parse().unwrap();
    secure.pool.kill(secure.pool.ids[nth]).await;
    let answer = http
        .get(&secure.https)
        .header("cookie", &cookie)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let next = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(!next.starts_with(&cookie));
    assert_ne!(reply_of(answer).await.text("/name"), member);
}

#[tokio::test]
async fn the_firewall_holds_before_any_handshake() {
    let secure = Secure::start(1, json!({"firewall": {"deny": ["ip:127.0.0.9"]}})).await;
    let from = |last| {
        let client = secure
            .builder()
            .local_address(IpAddr::from(Ipv4Addr::new(127, 0, 0, last)));
        client.build().unwrap().get(&secure.https)
    };
    assert_eq!(from(8).send().await.unwrap().status(), 200);
    assert!(from(9).send().await.is_err());
    let counters = secure.pool.counters().await;
    assert_eq!(
        (&counters["refused_by_firewall"], &counters["failed_handshakes"]),
        (&json!(1), &json!(0))
    );
}

/// Clients that connect anew for each request, and some that stay connected, while the certificate is replaced again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_that_the_certificate_is_replaced() {
    let mut secure = Secure::start(2, json!({})).await;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let workers: Vec<_> = (0..8)
        .map(|nth| {
            let builder = secure.builder();
            let builder = if nth % 4 == 0 {
                builder
            } else {
                builder.pool_max_idle_per_host(0)
            };
            let http = builder.build().unwrap();
            let address = if nth % 2 == 0 {
                secure.https.clone()
            } else {
                secure.http2.clone()
            };
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            tokio::spawn(async move {
                let mut failed = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    sent.fetch_add(1, Ordering::Relaxed);
                    match http.get(&address).send().await {
                        Ok(answer) if answer.status() == 200 => drop(answer.bytes().await.unwrap()),
                        other => failed.push(format!("{other:?}")),
                    }
                }
                failed
            })
        })
        .collect();
    let shown = async |secure: &Secure| {
        let http = secure.builder().tls_info(true).build().unwrap();
        let answer = http.get(&secure.https).send().await.unwrap();
        let info = answer.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
        info.peer_certificate().unwrap().to_vec()
    };
    let mut before = shown(&secure).await;
    for turn in 0..4 {
        let begun = sent.load(Ordering::Relaxed);
        secure
            .pool
            .cloud
            .until("load runs", async || sent.load(Ordering::Relaxed) > begun + 100)
            .await;
        secure.rotate(&format!("turn-{turn}")).await;
        let now = shown(&secure).await;
        assert_ne!(before, now, "a new connection is met by the new certificate");
        before = now;
    }
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        assert_eq!(worker.await.unwrap(), Vec::<String>::new());
    }
    assert_eq!(secure.pool.counters().await["failed_handshakes"], 0);
}

#[tokio::test]
async fn a_rule_is_replaced_under_a_connection_that_stays() {
    let secure = Secure::start(1, json!({})).await;
    let mut kept = TcpStream::connect((secure.ip, port_of(&secure.http)))
        .await
        .unwrap();
    let request = "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n";
    let answered = async |kept: &mut TcpStream, end: &str| {
        kept.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        while !text.ends_with(end) {
            let mut part = [0; 4096];
            let count = kept.read(&mut part).await.unwrap();
            assert_ne!(count, 0, "it was closed after {text:?}");
            text.push_str(&String::from_utf8_lossy(&part[..count]));
        }
        text
    };
    assert!(answered(&mut kept, "ready").await.starts_with("HTTP/1.1 200"));
    let mut body = secure.shown().await;
    body["redirect_http_to_https"] = json!(true);
    let put = secure.pool.cloud.put(&secure.path(), body).await;
    assert_eq!(put.status, 200, "{put:?}");
    let answer = answered(&mut kept, "\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 307"),
        "the same connection, the new rule: {answer}"
    );
}

fn port_of(address: &str) -> u16 {
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// What comes back, until the connection ends.
async fn sent(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let mut answer = Vec::new();
    if stream.write_all(bytes).await.is_ok() {
        // It may be reset: what was sent is not read to its end.
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "the connection stays open");
    }
    answer
}

#[tokio::test]
async fn what_is_no_handshake_is_turned_away_and_nobody_else_notices() {
    let secure = Secure::start(1, json!({})).await;
    let to = secure.https_address();
    // Clients that say nothing, or begin and stop.
    let mut silent = Vec::new();
    for begin in [&b""[..], &[22, 3, 1], &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(to).await.unwrap();
            stream.write_all(begin).await.unwrap();
            silent.push(stream);
        }
    }
    let http = secure.client();
    assert_eq!(http.get(&secure.https).send().await.unwrap().status(), 200);
    let huge = [&[22, 3, 1, 255, 255][..], &[1; 70_000]].concat();
    let old = [22, 3, 0, 0, 47, 1, 0, 0, 43, 3, 0]
        .iter()
        .copied()
        .chain([7; 41])
        .collect::<Vec<u8>>();
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        &[0; 1000],
        &[255; 1000],
        &huge,
        &old,
    ] {
        let answer = sent(to, bytes).await;
        assert!(!answer.starts_with(b"HTTP"), "nothing is said in the clear");
        assert!(
            answer.is_empty() || answer[0] == 21,
            "an alert at most: {answer:?}"
        );
    }
    assert_eq!(http.get(&secure.https).send().await.unwrap().status(), 200);
    for mut stream in silent {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "a half handshake ends by itself");
    }
    assert_eq!(secure.pool.counters().await["failed_handshakes"], 65);
    secure
        .pool
        .cloud
        .until("they have given their places back", async || {
            let state = secure.pool.cloud.balancer_state(&secure.pool.balancer).await;
            state["connections"].as_u64().is_some_and(|open| open <= 1)
        })
        .await;
}

#[tokio::test]
async fn a_client_that_asks_for_another_name_is_shown_the_certificate_and_may_judge() {
    let secure = Secure::start(1, json!({})).await;
    let other = "other.example";
    let address = secure.https.replace(NAME, other);
    let builder = || secure.builder().resolve(other, (secure.ip, 0).into());
    assert!(builder().build().unwrap().get(&address).send().await.is_err());
    let careless = builder().danger_accept_invalid_certs(true).build().unwrap();
    let answer = careless
        .get(&address)
        .timeout(Duration::from_secs(60))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
}
