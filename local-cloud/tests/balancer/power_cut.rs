//! What clients notice when members lose their power under load: nothing, whatever they speak.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use reqwest::Method;
use serde_json::json;

use crate::Pool;
use crate::common::client;
use crate::tls::Secure;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_is_not_noticed_by_gets_and_puts() {
    let pool = Pool::start(&[], 3, json!({})).await;
    is_not_noticed(&pool, &pool.address, client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_is_it_over_https() {
    let secure = Secure::start(3, json!({})).await;
    is_not_noticed(&secure.pool, &secure.https, || secure.client()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_is_it_over_http2() {
    let secure = Secure::start(3, json!({})).await;
    is_not_noticed(&secure.pool, &secure.http2, || secure.client()).await;
}

/// Load of GETs and PUTs while a member loses its power: no client may notice.
async fn is_not_noticed(pool: &Pool, address: &str, client: impl Fn() -> reqwest::Client) {
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let workers: Vec<_> = (0..12)
        .map(|nth| {
            let (stop, sent, address) = (Arc::clone(&stop), Arc::clone(&sent), address.to_owned());
            let method = [Method::GET, Method::PUT, Method::HEAD][nth % 3].clone();
            let http = client();
            tokio::spawn(async move {
                let mut failed = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    sent.fetch_add(1, Ordering::Relaxed);
                    let request = http.request(method.clone(), format!("{address}/x?ms=5"));
                    let request = if method == Method::PUT {
                        request.body(vec![b'x'; 20_000])
                    } else {
                        request
                    };
                    match request.send().await {
                        Ok(answer) if answer.status() == 200 => drop(answer.bytes().await.unwrap()),
                        other => failed.push(format!("{method}: {other:?}")),
                    }
                }
                failed
            })
        })
        .collect();
    for cut in 0..2 {
        let before = sent.load(Ordering::Relaxed);
        pool.cloud
            .until("load runs", async || sent.load(Ordering::Relaxed) > before + 300)
            .await;
        let reply = pool
            .cloud
            .post("/_local/faults/power-cut", json!({"droplet_id": pool.ids[cut]}))
            .await;
        assert_eq!(reply.status, 200);
    }
    let before = sent.load(Ordering::Relaxed);
    pool.cloud
        .until("load runs on", async || {
            sent.load(Ordering::Relaxed) > before + 300
        })
        .await;
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        assert_eq!(worker.await.unwrap(), Vec::<String>::new());
    }
    pool.cloud
        .until("every request is counted", async || {
            pool.counters().await["answers"]["2xx"] == json!(sent.load(Ordering::Relaxed))
        })
        .await;
    let counters = pool.counters().await;
    assert_eq!(counters["requests"], json!(sent.load(Ordering::Relaxed)));
    assert!(counters["retries"].as_u64().unwrap() > 0, "{counters}");
    assert_eq!(counters["own_502"], 0);
}
