//! Rollouts by the status port: what is refused before anything is made, and what comes of an order in whole rounds.

use serde_json::{Value, json};
use tidepool_autoscaler::provider::{ProviderErrorKind, UserData};
use tidepool_autoscaler::state::StateDir;
use tidepool_autoscaler::status::{PoolStatus, RolloutStatus};
use tidepool_autoscaler::versions::Versions;
use tidepool_autoscaler_core::decide::Control;
use tidepool_autoscaler_core::observe::{PoolName, UnixMillis};
use tidepool_autoscaler_core::rollout::Stage as Going;

use crate::operator::status_port;
use crate::stage::{FakeCloud, Says, Stage, metrics, stage};

/// Rounds in which a pool of four is replaced one by one: each takes a round to be made, admitted and ready for 30 s (four of
/// 10 s), and as many to leave.
const ROUNDS: u32 = 80;

async fn post(url: &str, path: &str, body: &Value) -> (u16, Value) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = http.post(format!("{url}/api/pools/{path}"));
    let request = if body.is_null() {
        request
    } else {
        request.json(body)
    };
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap())
}

async fn ordered(url: &str, body: &Value) -> RolloutStatus {
    let (status, answer) = post(url, "api/rollout", body).await;
    assert_eq!(status, 200, "{answer}");
    serde_json::from_value(answer).unwrap()
}

fn shown(stage: &Stage) -> PoolStatus {
    stage.pools.first().unwrap().recorder.status()
}

fn images(cloud: &FakeCloud) -> Vec<String> {
    let members = cloud.members.lock().unwrap();
    members.values().map(|m| m.image.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_rolled_out_is_refused_before_anything_is_made() {
    let stage = stage(&[("api", 4)], metrics(Says::Failed), "");
    let url = status_port(&stage, None).await;
    stage.rounds(1).await;
    let long = "x".repeat((64 << 10) + 1);
    let table = [
        (
            "api/rollout",
            json!({ "image": "missing" }),
            400,
            "the account has no image missing; nothing was changed",
        ),
        (
            "api/rollout",
            json!({ "image": "down" }),
            502,
            "can't be asked for the image",
        ),
        ("api/rollout", json!({}), 400, "none is given"),
        ("api/rollout", json!({ "image": "" }), 400, "image is empty"),
        (
            "api/rollout",
            json!({ "image": "../account" }),
            400,
            "is not a slug",
        ),
        (
            "api/rollout",
            json!({ "image": 7 }),
            400,
            "the body must be an object",
        ),
        (
            "api/rollout",
            json!({ "image": "a", "speed": 1 }),
            400,
            "the body must be an object",
        ),
        (
            "api/rollout",
            json!({ "name": "api 2", "size": "s-2" }),
            400,
            "there is no image",
        ),
        (
            "api/rollout",
            json!({ "image": "a", "name": "x\ny" }),
            400,
            "not one line",
        ),
        (
            "api/rollout",
            json!({ "user_data": long }),
            400,
            "larger than 65536 bytes",
        ),
        (
            "web/rollout",
            json!({ "image": "a" }),
            404,
            "there is no pool \"web\"; there are: api",
        ),
        ("web/rollout/undo", Value::Null, 404, "there is no pool"),
        ("api/rollout/stop", Value::Null, 404, "pause, resume and undo"),
        (
            "api/rollout/pause",
            Value::Null,
            409,
            "no rollout of the pool is under way",
        ),
        (
            "api/rollout/resume",
            Value::Null,
            409,
            "no rollout of the pool is under way",
        ),
        ("api/rollout/undo", Value::Null, 409, "nothing was rolled out"),
    ];
    for (path, body, wanted, words) in table {
        let (status, answer) = post(&url, path, &body).await;
        let error = answer.get("error").and_then(Value::as_str).unwrap_or_default();
        assert_eq!(status, wanted, "{path}: {answer}");
        assert!(error.contains(words), "{path}: {error}");
    }
    stage.rounds(3).await;
    assert_eq!(shown(&stage).rollout, None);
    assert_eq!(stage.cloud("api").creates(), 0);
}

/// By the rules of the configuration.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_wrong_in_several_ways_is_told_all_of_them() {
    let stage = stage(&[("api", 4)], metrics(Says::Failed), "");
    let url = status_port(&stage, None).await;
    stage.rounds(1).await;
    let order = json!({ "image": "api (1)", "size": "", "user_data": "" });
    let slug = "is not a slug: a-z, 0-9, '-', '_' and '.'";
    let (status, answer) = post(&url, "api/rollout", &order).await;
    let words = format!("size is empty; image \"api (1)\" {slug}; user_data is empty");
    assert_eq!((status, answer), (400, json!({ "error": words })));
    let (status, answer) = post(&url, "api/rollout", &json!({ "image": "+7" })).await;
    let words = format!("image \"+7\" {slug}");
    assert_eq!((status, answer), (400, json!({ "error": words })));
    assert_eq!(shown(&stage).rollout, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_replaced_and_replaced_again_by_undo_and_the_order_is_kept() {
    let stage = stage(&[("api", 4)], metrics(Says::Failed), "");
    let url = status_port(&stage, None).await;
    stage.rounds(1).await;
    let order = json!({ "image": "9002", "name": "api 0.3.2", "user_data": "canary-secret" });
    let rollout = ordered(&url, &order).await;
    assert_eq!(rollout.to, "api 0.3.2 (image 9002, s)");
    assert_eq!(rollout.from.as_deref(), Some("image host, s"));
    assert_eq!(
        (rollout.stage, rollout.back, rollout.left),
        (Going::Running, false, None)
    );
    stage.rounds(1).await;
    // Kept with the user data, which nothing shows.
    let name = PoolName("api".to_owned());
    let kept = StateDir::existing(stage.dir.path()).versions_load::<Versions>(&name, UnixMillis(0));
    let kept = kept.value.unwrap();
    assert_eq!(
        kept.current().user_data,
        Some(UserData("canary-secret".to_owned()))
    );
    // Asking for the same again, at once and by many, changes nothing.
    let (one, two) = tokio::join!(ordered(&url, &order), ordered(&url, &order));
    assert_eq!(
        (one.ordered_at, two.ordered_at),
        (rollout.ordered_at, rollout.ordered_at)
    );
    stage.rounds(ROUNDS).await;
    assert_eq!(images(stage.cloud("api")), ["9002"; 4]);
    let status = shown(&stage);
    let done = status.rollout.clone().unwrap();
    assert_eq!(
        (done.stage, done.left, done.cause.clone()),
        (Going::Done, Some(0), None)
    );
    assert_eq!((status.actual, status.desired, status.serving), (4, 4, 4));
    let text = serde_json::to_string(&status).unwrap();
    assert!(!text.contains("canary-secret"));
    let audit = std::fs::read_to_string(stage.dir.path().join("audit.jsonl")).unwrap();
    assert!(audit.contains("rollout to api 0.3.2") && !audit.contains("canary-secret"));

    let (status, answer) = post(&url, "api/rollout/undo", &Value::Null).await;
    assert_eq!(
        (status, answer.get("back").cloned()),
        (200, Some(json!(true))),
        "{answer}"
    );
    stage.rounds(ROUNDS).await;
    assert_eq!(images(stage.cloud("api")), ["host"; 4]);
    let made = stage.cloud("api").made.lock().unwrap().clone();
    assert_eq!(made.len(), 8, "each was made once");
    assert!(made.iter().skip(4).all(|made| made.user_data.is_none()));
    assert_eq!(shown(&stage).rollout.unwrap().stage, Going::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_whose_slug_the_configuration_names_replaces_the_members_of_an_earlier_one() {
    let stage = stage(&[("api", 4)], metrics(Says::Failed), "");
    let url = status_port(&stage, None).await;
    stage.rounds(1).await;
    let cloud = stage.cloud("api");
    for (n, member) in cloud.members.lock().unwrap().values_mut().enumerate() {
        // One is of the newer image already.
        member.image = if n == 0 { "host (9101)" } else { "host (9100)" }.into();
    }
    let rollout = ordered(&url, &json!({ "image": "9101" })).await;
    assert_eq!(rollout.to, "image host (9101), s");
    assert_eq!(rollout.from, None);
    stage.rounds(ROUNDS).await;
    assert_eq!(images(cloud), ["host (9101)"; 4]);
    assert_eq!(cloud.creates(), 3);
    assert_eq!(shown(&stage).rollout.unwrap().stage, Going::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_rollout_and_a_held_pool_replace_nobody() {
    let stage = stage(&[("api", 4)], metrics(Says::Failed), "");
    let url = status_port(&stage, None).await;
    stage.rounds(1).await;
    ordered(&url, &json!({ "size": "s-2" })).await;
    stage.rounds(2).await;
    for _ in 0..2 {
        let (status, answer) = post(&url, "api/rollout/pause", &Value::Null).await;
        assert_eq!(
            (status, answer.get("stage").cloned()),
            (200, Some(json!("paused")))
        );
    }
    stage.rounds(20).await;
    assert_eq!(stage.cloud("api").creates(), 1);
    assert_eq!(stage.cloud("api").count(), 5);
    // A pool is held at its size, which the successor doesn't count to.
    let (status, answer) = post(&url, "api/hold", &Value::Null).await;
    assert_eq!((status, answer), (200, json!({ "kind": "hold", "size": 4 })));
    let (status, _) = post(&url, "api/rollout/resume", &Value::Null).await;
    assert_eq!(status, 200);
    stage.rounds(20).await;
    assert_eq!(stage.cloud("api").creates(), 1);
    assert!(
        stage.reason(0).contains("waits while the pool is held"),
        "{}",
        stage.reason(0)
    );
    stage.control(Control::Auto);
    stage.rounds(ROUNDS).await;
    assert_eq!(stage.cloud("api").count(), 4);
    assert_eq!(shown(&stage).rollout.unwrap().stage, Going::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_refuses_to_make_is_given_up() {
    let stage = stage(&[("api", 4)], metrics(Says::Failed), "");
    let url = status_port(&stage, None).await;
    stage.rounds(1).await;
    *stage.cloud("api").refuses_creates.lock().unwrap() = Some(ProviderErrorKind::Invalid);
    ordered(&url, &json!({ "image": "9002" })).await;
    stage.rounds(10).await;
    let rollout = shown(&stage).rollout.unwrap();
    assert!(rollout.back, "{rollout:?}");
    assert_eq!(
        rollout.cause.as_deref(),
        Some("the provider refused to make new members, 3 times")
    );
    assert_eq!(rollout.stage, Going::Done);
    assert_eq!((stage.cloud("api").creates(), stage.cloud("api").count()), (3, 4));
}
