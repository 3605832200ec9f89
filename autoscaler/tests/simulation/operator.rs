//! Hold, scale and resume, and the status port.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidepool_autoscaler::config::Secret;
use tidepool_autoscaler::server::{Shared, serve};
use tidepool_autoscaler::state::Word;
use tidepool_autoscaler::status::Status;
use tidepool_autoscaler_core::decide::Control;
use tidepool_autoscaler_core::observe::{MemberId, PoolName, Power, UnixMillis};

use crate::stage::{Says, Stage, metrics, stage};

#[tokio::test]
async fn a_pool_that_is_held_keeps_its_size_and_replaces_what_is_gone() {
    let stage = stage(&[("api", 5)], metrics(Says::Idle), "");
    stage.control(Control::Hold { size: 5 });
    stage.rounds(3).await;
    assert_eq!(stage.cloud("api").count(), 5);
    let first = MemberId("0001".to_owned());
    stage.cloud("api").members.lock().unwrap().remove(&first);
    stage.rounds(3).await;
    let members = stage.cloud("api").members.lock().unwrap().clone();
    let names: BTreeSet<&str> = members.values().map(|m| m.name.0.as_str()).collect();
    assert_eq!(
        names.into_iter().collect::<Vec<_>>(),
        ["api-2", "api-3", "api-4", "api-5", "api-6"]
    );
    // The new one serves.
    assert!(members.values().all(|member| member.serving));
}

/// Off for a resize, out of the balancer, not ready: whatever the operator does to a member, it is left alone.
#[tokio::test]
async fn a_member_that_is_worked_on_while_the_pool_is_held_is_left_alone() {
    let stage = stage(&[("api", 3)], metrics(Says::Idle), "");
    stage.control(Control::Hold { size: 3 });
    stage.rounds(1).await;
    let cloud = stage.cloud("api");
    cloud.each(&[0], |member| member.power = Power::Off);
    cloud.each(&[1], |member| member.serving = false);
    stage.rounds(100).await;
    assert_eq!(cloud.changes(), [""; 0]);
    let reason = stage.reason(0);
    let expected = "api-1 has been off for 60 s; left alone while the pool is held";
    assert!(reason.contains(expected), "{reason}");
    // Given back while it is still off, it is replaced, and the other one is let in again.
    stage.control(Control::Manual { size: 3 });
    stage.rounds(1).await;
    assert_eq!(
        cloud.changes(),
        ["admit 0002", "create api-4", "withdraw 0001", "destroy 0001"]
    );
    let reason = stage.reason(0);
    assert!(
        reason.contains("api-1 has been off for 60 s; replaced"),
        "{reason}"
    );
}

/// The status port of a stage, on a free port; it closes when the stage's stop is set.
pub(crate) async fn status_port(stage: &Stage, token: Option<&str>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let clock = Arc::clone(&stage.now);
    let shared = Shared {
        pools: Arc::new(stage.pools.clone()),
        state: stage.services.state.clone(),
        meters: Arc::clone(&stage.services.meters),
        tick_secs: 10,
        token: token.map(|token| Secret::new(token.to_owned())),
        trusted: tidepool_listener::TrustedHosts::default(),
        clock: Arc::new(move || UnixMillis(clock.load(Ordering::SeqCst))),
    };
    tokio::spawn(serve(
        listener,
        shared,
        tidepool_listener::Limits::PRIVATE,
        stage.stop.clone(),
    ));
    url
}

async fn asked(request: reqwest::RequestBuilder) -> (u16, String) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn a_pool_whose_hold_cannot_be_read_is_held_as_it_is_found() {
    let stage = stage(&[("api", 5)], metrics(Says::Idle), "");
    let name = PoolName("api".to_owned());
    *stage.pools.first().unwrap().word.lock().unwrap() = Word::Lost;
    stage.rounds(3).await;
    assert_eq!(stage.cloud("api").count(), 5);
    // And it is an ordinary hold from then on.
    let kept = stage.services.state.control_load(&name, UnixMillis(0)).word;
    assert_eq!(kept, Word::Given(Control::Hold { size: 5 }));
    let url = status_port(&stage, None).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    asked(http.post(format!("{url}/api/pools/api/resume"))).await;
    stage.rounds(1).await;
    assert_eq!(stage.cloud("api").count(), 4);
}

#[tokio::test]
async fn the_operator_speaks_through_the_status_port() {
    let stage = stage(&[("api", 5)], metrics(Says::Idle), "");
    let url = status_port(&stage, None).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let say = |path: &str, body: &'static str| http.post(format!("{url}/api/pools/{path}")).body(body);
    let not_yet = r#"{"error":"the pool was not observed yet"}"#;
    assert_eq!(asked(say("api/hold", "")).await, (409, not_yet.to_owned()));
    stage.rounds(1).await;
    assert_eq!(stage.cloud("api").count(), 4);
    assert_eq!(
        asked(say("api/scale", r#"{"size":7}"#)).await,
        (200, r#"{"kind":"manual","size":7}"#.to_owned())
    );
    stage.rounds(4).await;
    assert_eq!(stage.cloud("api").count(), 7);
    assert_eq!(
        asked(say("api/hold", "")).await,
        (200, r#"{"kind":"hold","size":7}"#.to_owned())
    );
    // The word outlives the daemon.
    let name = PoolName("api".to_owned());
    assert_eq!(
        stage.services.state.control_load(&name, UnixMillis(0)).word,
        Word::Given(Control::Hold { size: 7 })
    );
    stage.rounds(2).await;
    assert_eq!(stage.cloud("api").count(), 7);
    assert_eq!(
        asked(say("api/resume", "")).await,
        (200, r#"{"kind":"auto"}"#.to_owned())
    );
    stage.rounds(1).await;
    assert_eq!(stage.cloud("api").count(), 6);

    let (status, answer) = asked(say("web/hold", "")).await;
    assert_eq!(
        (status, answer.as_str()),
        (404, r#"{"error":"there is no pool \"web\"; there are: api"}"#)
    );
    for (body, words) in [
        (r#"{"size":1}"#, "size must be within the pool's 2 and 10, not 1"),
        (
            r#"{"size":11}"#,
            "size must be within the pool's 2 and 10, not 11",
        ),
        (r#"{"size":-1}"#, "the body must be"),
        (r#"{"size":3,"now":true}"#, "unknown field `now`"),
        ("three", "the body must be"),
    ] {
        let (status, answer) = asked(say("api/scale", body)).await;
        assert!(
            status == 400 && answer.contains(words),
            "{body}: {status} {answer}"
        );
    }
    let (status, answer) = asked(http.get(format!("{url}/api/nothing"))).await;
    assert!(status == 404 && answer.contains("error"), "{status} {answer}");
}

#[tokio::test]
async fn the_status_port_shows_what_is_so() {
    let stage = stage(&[("api", 4)], metrics(Says::Busy), "");
    let url = status_port(&stage, None).await;
    stage.rounds(1).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let (_, text) = asked(http.get(format!("{url}/api/status"))).await;
    let status: Status = serde_json::from_str(&text).unwrap();
    let pool = status.pools.first().unwrap();
    assert_eq!(
        (
            pool.min,
            pool.max,
            pool.actual,
            pool.desired,
            pool.planned,
            pool.serving
        ),
        (2, 10, 4, 8, 8, 4)
    );
    assert_eq!(
        (pool.members.len(), pool.history.len(), pool.decisions.len()),
        (4, 1, 1)
    );
    let signal = pool.signals.first().unwrap();
    assert_eq!(
        (
            signal.value,
            signal.target,
            signal.hosts_fresh,
            signal.hosts_expected
        ),
        (Some(1.0), Some(0.5), 4, 4)
    );
    let decision = pool.decisions.first().unwrap();
    assert_eq!(
        decision.reason,
        "grow from 4 to 8: cpu: ceil(4 hosts × mean 1.0000 / target 0.5) = 8"
    );
    let steps: Vec<&str> = decision.steps.iter().map(|s| s.member.0.as_str()).collect();
    assert_eq!(steps, ["api-5", "api-6", "api-7", "api-8"]);
    // A thousand ticks make no more than an hour of points.
    stage.rounds(800).await;
    let pool = stage.pools.first().unwrap().recorder.status();
    assert!(
        pool.history.len() <= 360 && pool.decisions.len() <= 50,
        "{} {}",
        pool.history.len(),
        pool.decisions.len()
    );
    for (path, words) in [
        ("/metrics", "tidepool_autoscaler_members"),
        ("/livez", "alive"),
        ("/", "<html"),
    ] {
        let (code, text) = asked(http.get(format!("{url}{path}"))).await;
        assert!(code == 200 && text.contains(words), "{path}: {code}");
    }
}

#[tokio::test]
async fn who_has_no_token_or_comes_from_another_page_is_refused() {
    let stage = stage(&[("api", 4)], metrics(Says::Busy), "");
    let url = status_port(&stage, Some("the-token")).await;
    stage.rounds(1).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = || http.get(format!("{url}/api/status"));
    assert_eq!(asked(get()).await.0, 401);
    assert_eq!(asked(get().bearer_auth("another")).await.0, 401);
    assert_eq!(asked(get().bearer_auth("the-token")).await.0, 200);
    let hold = || {
        http.post(format!("{url}/api/pools/api/hold"))
            .bearer_auth("the-token")
    };
    assert_eq!(asked(hold().header("origin", "http://evil.example")).await.0, 403);
    assert_eq!(asked(hold().header("origin", url.clone())).await.0, 200);
    assert_eq!(asked(http.post(format!("{url}/api/pools/api/hold"))).await.0, 401);
}
