//! Load balancers: who gets a request, what happens when a member dies, and whether the counts are true.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;

mod clients;
mod power_cut;
mod tcp;
mod tls;

use std::collections::BTreeMap;

use common::{Cloud, client, free_port, reply_of};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

/// Droplets with the tag `serving:web`, and a balancer over it that finds them healthy.
struct Pool {
    cloud: Cloud,
    ids: Vec<u64>,
    balancer: String,
    address: String,
}

impl Pool {
    async fn start(args: &[&str], members: usize, more: Value) -> Self {
        Self::start_in(Cloud::start(args), members, more).await
    }

    async fn start_in(cloud: Cloud, members: usize, more: Value) -> Self {
        let mut ids = Vec::new();
        for nth in 0..members {
            ids.push(
                cloud
                    .droplet(&format!("web-{nth}"), "web", &["serving:web"])
                    .await,
            );
        }
        let (balancer, address) = cloud.balancer("serving:web", more).await;
        cloud.members_ready(&balancer, members).await;
        Self {
            cloud,
            ids,
            balancer,
            address,
        }
    }

    fn balancer_ip(&self) -> &str {
        let (_, address) = self.address.split_once("//").unwrap();
        address.split(':').next().unwrap()
    }

    async fn counters(&self) -> Value {
        self.cloud.balancer_state(&self.balancer).await["counters"].clone()
    }

    async fn member(&self, id: u64) -> Value {
        let state = self.cloud.balancer_state(&self.balancer).await;
        let all = ["members", "past_members"]
            .map(|key| state[key].as_array().unwrap().clone())
            .concat();
        all.into_iter()
            .find(|member| member["droplet_id"] == json!(id))
            .unwrap_or(Value::Null)
    }

    /// Cuts the power behind everybody's back: the API doesn't know either.
    async fn kill(&self, id: u64) {
        let pid = self.cloud.pids(id, 1).await[0];
        let public = self.cloud.droplet_state(id).await["public"]
            .as_str()
            .unwrap()
            .to_owned();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        common::all_gone(&[pid]);
        // The first thread may be gone before the last one, and the sockets are.
        self.cloud
            .until("its port is closed", async || {
                tokio::net::TcpStream::connect(&public).await.is_err()
            })
            .await;
    }

    /// What the members' own counters say of a method, all together.
    async fn seen(&self, method: &str) -> u64 {
        let mut sum = 0;
        for id in &self.ids {
            let state = self.cloud.droplet_state(*id).await;
            let public = state["public"].as_str().unwrap_or_default().to_owned();
            let Ok(answer) = client().get(format!("http://{public}/seen")).send().await else {
                continue;
            };
            let seen: BTreeMap<String, u64> = serde_json::from_value(reply_of(answer).await.body).unwrap();
            sum += seen
                .iter()
                .filter(|(key, _)| key.starts_with(method))
                .map(|(_, count)| count)
                .sum::<u64>();
        }
        sum
    }
}

/// Ends a server that stands in a droplet's place. Before its cloud ends: another one may have the address then.
async fn end(member: JoinHandle<()>) {
    member.abort();
    let _aborted = member.await;
}

#[tokio::test]
async fn round_robin_gives_everybody_the_same_and_the_counts_are_true() {
    let pool = Pool::start(&[], 3, json!({})).await;
    let http = client();
    // This machine's address on the way to the balancer's.
    let own = if common::by_systemd() {
        pool.balancer_ip()
    } else {
        "127.0.0.1"
    };
    for nth in 0..30 {
        let method = if nth % 3 == 0 { Method::POST } else { Method::GET };
        let status = if nth % 10 == 9 { 404 } else { 200 };
        let answer = http
            .request(method, format!("{}/x?status={status}", pool.address))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(reply_of(answer).await.text("/forwarded_for"), own);
    }
    for id in &pool.ids {
        assert_eq!(pool.member(*id).await["requests"], 10);
    }
    let counters = pool.counters().await;
    assert_eq!(counters["requests"], 30);
    assert_eq!(counters["answers"]["2xx"], 27);
    assert_eq!(counters["answers"]["4xx"], 3);
    assert_eq!(counters["retries"], 0);
    assert_eq!(pool.seen("").await, 30);
}

#[tokio::test]
async fn least_connections_avoids_the_busy_member() {
    let pool = Pool::start(&[], 2, json!({"algorithm": "least_connections"})).await;
    let slow = tokio::spawn(client().get(format!("{}/slow?ms=3000", pool.address)).send());
    pool.cloud
        .until("the slow one is under way", async || {
            pool.member(pool.ids[0]).await["in_flight"] == 1
                || pool.member(pool.ids[1]).await["in_flight"] == 1
        })
        .await;
    let busy = if pool.member(pool.ids[0]).await["in_flight"] == 1 {
        pool.ids[0]
    } else {
        pool.ids[1]
    };
    for _ in 0..10 {
        assert_eq!(
            client()
                .get(format!("{}/quick", pool.address))
                .send()
                .await
                .unwrap()
                .status(),
            200
        );
    }
    assert_eq!(pool.member(busy).await["requests"], 1);
    assert_eq!(slow.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn without_members_it_answers_503_itself_and_new_members_wait_for_their_check() {
    let cloud = Cloud::start(&[]);
    let (balancer, address) = cloud.balancer("serving:web", json!({})).await;
    let answer = client().get(&address).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    let counters = cloud.balancer_state(&balancer).await["counters"].clone();
    assert_eq!(
        (&counters["requests"], &counters["own_503"]),
        (&json!(1), &json!(1))
    );
    // A member that is not ready joins, but gets nothing.
    let mut body = common::droplet_body("web", "web", &["serving:web"]);
    body["user_data"] = json!(common::web_user_data("- path: /unready\n  content: ''\n"));
    let id = cloud.post("/v2/droplets", body).await.number("/droplet/id");
    cloud
        .until("its check failed", async || {
            let state = cloud.balancer_state(&balancer).await;
            state["members"][0]["last_check"] == "status 503"
        })
        .await;
    assert_eq!(client().get(&address).send().await.unwrap().status(), 503);
    let root = cloud.droplet_state(id).await["root"].as_str().unwrap().to_owned();
    std::fs::remove_file(format!("{root}/unready")).unwrap();
    cloud.members_ready(&balancer, 1).await;
    assert_eq!(client().get(&address).send().await.unwrap().status(), 200);
    std::fs::write(format!("{root}/unready"), "").unwrap();
    cloud.members_ready(&balancer, 0).await;
    assert_eq!(client().get(&address).send().await.unwrap().status(), 503);
}

#[tokio::test]
async fn a_member_that_leaves_the_tag_finishes_what_it_has_and_gets_nothing_new() {
    let pool = Pool::start(&[], 2, json!({})).await;
    let slow: Vec<_> = (0..2)
        .map(|_| {
            tokio::spawn(
                client()
                    .post(format!("{}/slow?ms=1500", pool.address))
                    .body("x")
                    .send(),
            )
        })
        .collect();
    pool.cloud
        .until("both are busy", async || {
            pool.member(pool.ids[0]).await["in_flight"] == 1
                && pool.member(pool.ids[1]).await["in_flight"] == 1
        })
        .await;
    let leaver = pool.ids[0];
    let body = json!({"resources": [{"resource_id": leaver.to_string(), "resource_type": "droplet"}]});
    let gone = pool
        .cloud
        .call(Method::DELETE, "/v2/tags/serving%3Aweb/resources", body)
        .await;
    assert_eq!(gone.status, 204);
    assert_eq!(pool.member(leaver).await["state"], "draining");
    for _ in 0..10 {
        assert_eq!(client().get(&pool.address).send().await.unwrap().status(), 200);
    }
    assert_eq!(pool.member(leaver).await["requests"], 1);
    for answer in slow {
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
    pool.cloud
        .until("it is drained", async || {
            pool.member(leaver).await["state"] == "left"
        })
        .await;
    let listed = pool
        .cloud
        .get(&format!("/v2/load_balancers/{}", pool.balancer))
        .await;
    assert_eq!(listed.at("/load_balancer/droplet_ids"), &json!([pool.ids[1]]));
}

#[tokio::test]
async fn what_may_have_had_its_effect_is_not_sent_twice() {
    for (method, condition) in [
        (Method::POST, None),
        (Method::DELETE, None),
        (Method::PATCH, None),
        (Method::PUT, Some("if-match")),
        (Method::PUT, Some("if-none-match")),
    ] {
        let pool = Pool::start(&[], 2, json!({})).await;
        let (address, sent) = (pool.address.clone(), method.clone());
        let under_way = tokio::spawn(async move {
            let mut request = client()
                .request(sent, format!("{address}/effect?ms=20000"))
                .body("x");
            if let Some(condition) = condition {
                request = request.header(condition, "\"1\"");
            }
            request.send().await
        });
        let mut at = 0;
        pool.cloud
            .until("it is under way", async || {
                for id in &pool.ids {
                    if pool.member(*id).await["in_flight"] == 1 {
                        at = *id;
                    }
                }
                at != 0 && pool.seen("").await == 1
            })
            .await;
        pool.kill(at).await;
        let answer = under_way.await.unwrap().unwrap();
        assert_eq!(answer.status(), 502, "{method}");
        let blamed = answer.headers()["x-lb-member"].to_str().unwrap();
        assert_eq!(blamed, at.to_string(), "{method}: the member that died is named");
        assert_eq!(pool.seen("").await, 0, "{method}: the other member never saw it");
        let counters = pool.counters().await;
        assert_eq!(
            (&counters["own_502"], &counters["retries"]),
            (&json!(1), &json!(0))
        );
    }
}

#[tokio::test]
async fn what_was_not_sent_yet_goes_to_another_member_whatever_it_is() {
    let pool = Pool::start(
        &[],
        2,
        json!({"health_check": {"protocol": "http", "port": 9090, "path": "/readyz",
        "check_interval_seconds": 300, "healthy_threshold": 1}}),
    )
    .await;
    pool.kill(pool.ids[0]).await;
    for _ in 0..4 {
        let answer = client().post(&pool.address).body("x").send().await.unwrap();
        let state = pool.cloud.balancer_state(&pool.balancer).await;
        assert_eq!(answer.status(), 200, "{state}");
    }
    assert_eq!(
        pool.counters().await["retries"],
        1,
        "out after the first refused connection"
    );
    assert_eq!(pool.member(pool.ids[0]).await["state"], "unhealthy");
    pool.kill(pool.ids[1]).await;
    assert_eq!(client().get(&pool.address).send().await.unwrap().status(), 502);
    let nobody = client().get(&pool.address).send().await.unwrap();
    assert_eq!(nobody.status(), 503);
    assert!(
        !nobody.headers().contains_key("x-lb-member"),
        "there was nobody to blame"
    );
}

#[tokio::test]
async fn without_retry_the_client_sees_the_dead_connection() {
    let pool = Pool::start(&["--lb-retry", "off"], 2, json!({})).await;
    let slow: Vec<_> = (0..2)
        .map(|_| tokio::spawn(client().get(format!("{}/slow?ms=2000", pool.address)).send()))
        .collect();
    pool.cloud
        .until("both are under way", async || pool.seen("GET").await == 2)
        .await;
    pool.kill(pool.ids[0]).await;
    let mut statuses = Vec::new();
    for answer in slow {
        statuses.push(answer.await.unwrap().unwrap().status().as_u16());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 502]);
}

/// A server that closes each kept connection a moment after its answer, so that the balancer's pool is always stale.
#[tokio::test]
async fn a_kept_connection_that_the_member_closed_is_not_an_error() {
    let pool = Pool::start(&[], 1, json!({"enable_backend_keepalive": true})).await;
    let id = pool.ids[0];
    let state = pool.cloud.droplet_state(id).await;
    let public = state["public"].as_str().unwrap().to_owned();
    // In the droplet's place: its program goes, the address stays.
    pool.kill(id).await;
    let mut listener = None;
    pool.cloud
        .until("its address is free", async || {
            listener = tokio::net::TcpListener::bind(&public).await.ok();
            listener.is_some()
        })
        .await;
    let listener = listener.unwrap();
    let member = tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else {
                return;
            };
            tokio::spawn(async move {
                let mut buffer = vec![0_u8; 4096];
                let Ok(read) = stream.read(&mut buffer).await else {
                    return;
                };
                if read == 0 {
                    return;
                }
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok";
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
                // The next request is read, and the connection closed without an answer: as if it had been idle.
                let _unanswered = stream.read(&mut buffer).await;
            });
        }
    });
    // The check went with the program: a TCP check on the public port instead.
    let reply = pool
        .cloud
        .get(&format!("/v2/load_balancers/{}", pool.balancer))
        .await;
    let mut body = reply.at("/load_balancer").clone();
    body["region"] = json!("nyc3");
    body.as_object_mut().unwrap().remove("droplet_ids");
    body["health_check"] = json!({"protocol": "tcp", "port": 8080, "check_interval_seconds": 1,
        "response_timeout_seconds": 1, "healthy_threshold": 1, "unhealthy_threshold": 10});
    let put = pool
        .cloud
        .put(&format!("/v2/load_balancers/{}", pool.balancer), body)
        .await;
    assert_eq!(put.status, 200, "{put:?}");
    pool.cloud.members_ready(&pool.balancer, 1).await;
    let http = client();
    for nth in 0..20 {
        let method = if nth % 2 == 0 { Method::GET } else { Method::POST };
        let answer = http.request(method.clone(), &pool.address).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{method} {nth}");
    }
    let counters = pool.counters().await;
    assert_eq!(counters["answers"]["2xx"], 20);
    assert!(counters["retries"].as_u64().unwrap() > 0, "{counters}");
    end(member).await;
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, in its order")]
async fn configuration_is_checked_and_changes_while_it_runs() {
    let pool = Pool::start(&[], 1, json!({})).await;
    let (cloud, path) = (&pool.cloud, format!("/v2/load_balancers/{}", pool.balancer));
    let shown = cloud.get(&path).await;
    assert_eq!(shown.text("/load_balancer/status"), "active");
    assert_eq!(shown.text("/load_balancer/tag"), "serving:web");
    let rule = |port: u16| json!({"entry_protocol": "http", "entry_port": port, "target_protocol": "http", "target_port": 8080});
    let (old, new) = (
        shown.number("/load_balancer/forwarding_rules/0/entry_port"),
        free_port(),
    );
    // One more rule, then without the first.
    let rules = format!("{path}/forwarding_rules");
    assert_eq!(
        cloud
            .post(&rules, json!({"forwarding_rules": [rule(new)]}))
            .await
            .status,
        204
    );
    let moved = pool.address.replace(&format!(":{old}"), &format!(":{new}"));
    assert_eq!(client().get(&moved).send().await.unwrap().status(), 200);
    let old_rule = json!({"forwarding_rules": [rule(u16::try_from(old).unwrap())]});
    assert_eq!(cloud.call(Method::DELETE, &rules, old_rule).await.status, 204);
    cloud
        .until("the old port is closed", async || {
            client().get(&pool.address).send().await.is_err()
        })
        .await;
    let last = json!({"forwarding_rules": [rule(new)]});
    assert_eq!(cloud.call(Method::DELETE, &rules, last).await.status, 422);
    // By droplets instead of by tag; a PUT is the whole configuration.
    let put = cloud
        .put(
            &path,
            json!({"name": "lb", "region": "nyc3", "forwarding_rules": [rule(new)]}),
        )
        .await;
    assert_eq!(put.status, 200);
    assert!(put.at("/load_balancer/tag").is_null());
    assert_eq!(put.at("/load_balancer/droplet_ids"), &json!([]));
    assert_eq!(
        put.number("/load_balancer/health_check/check_interval_seconds"),
        10
    );
    assert_eq!(client().get(&moved).send().await.unwrap().status(), 503);
    let droplets = json!({"droplet_ids": [pool.ids[0]]});
    assert_eq!(
        cloud
            .post(&format!("{path}/droplets"), droplets.clone())
            .await
            .status,
        204
    );
    assert_eq!(
        cloud.get(&path).await.at("/load_balancer/droplet_ids"),
        &json!([pool.ids[0]])
    );
    assert_eq!(
        cloud
            .call(Method::DELETE, &format!("{path}/droplets"), droplets)
            .await
            .status,
        204
    );
    // Mistakes.
    let good = json!({"name": "lb", "region": "nyc3", "forwarding_rules": [rule(new)]});
    for (field, value) in [
        ("name", json!("")),
        ("region", json!("mars1")),
        ("algorithm", json!("random")),
        ("forwarding_rules", json!([])),
        ("forwarding_rules", json!([rule(0)])),
        ("forwarding_rules", json!([rule(new), rule(new)])),
        (
            "forwarding_rules",
            json!([{"entry_protocol": "https", "entry_port": 443, "target_protocol": "http", "target_port": 80}]),
        ),
        ("droplet_ids", json!([1])),
        ("droplet_ids", json!("x")),
        ("health_check", json!({"protocol": "smtp"})),
        ("health_check", json!({"path": "no-slash"})),
        ("health_check", json!({"check_interval_seconds": 1000})),
        ("sticky_sessions", json!({"type": "cookies"})),
        ("vpc_uuid", json!("nowhere")),
    ] {
        let mut bad = good.clone();
        bad[field] = value.clone();
        let reply = cloud.put(&path, bad).await;
        assert_eq!(
            (reply.status, reply.text("/id")),
            (422, "unprocessable_entity".into()),
            "{field} {value}"
        );
    }
    // A port that somebody has.
    let taken = tokio::net::TcpListener::bind((cloud.get(&path).await.text("/load_balancer/ip"), 0))
        .await
        .unwrap();
    let mut bad = good.clone();
    bad["forwarding_rules"] = json!([rule(taken.local_addr().unwrap().port())]);
    let reply = cloud.put(&path, bad).await;
    assert_eq!(reply.status, 422);
    assert!(reply.text("/message").contains("can't listen"), "{reply:?}");
    assert_eq!(
        client().get(&moved).send().await.unwrap().status(),
        503,
        "as it was before"
    );
    assert_eq!(cloud.delete(&path).await.status, 204);
    assert_eq!(cloud.delete(&path).await.status, 404);
    cloud
        .until("it is closed", async || {
            client().get(&moved).send().await.is_err()
        })
        .await;
}
