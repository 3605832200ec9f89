//! Steps that fail, that are never heard of again, or that may not be begun.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tidepool_autoscaler::audit::Audit;
use tidepool_autoscaler::config::{AuditConfig, Purpose, Surroundings, parse};
use tidepool_autoscaler::daemon::{Runtime, pools, round};
use tidepool_autoscaler::journal::{Journal, Line};
use tidepool_autoscaler::meters::Meters;
use tidepool_autoscaler::provider::ProviderErrorKind;
use tidepool_autoscaler::state::StateDir;
use tidepool_autoscaler::tick::Services;
use tidepool_autoscaler_core::observe::{MemberName, PoolName, Power, UnixMillis};
use tidepool_autoscaler_core::outcome::Step;
use tokio_util::sync::CancellationToken;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::stage::{Says, metrics, stage};

#[tokio::test]
async fn a_create_whose_answer_is_lost_makes_no_second_member() {
    // It may be a while until the list shows what was made; up to 35 s are waited for.
    for listed_after_secs in [0, 25] {
        let stage = stage(&[("api", 0)], metrics(Says::Nothing), "");
        let cloud = stage.cloud("api");
        cloud.listed_after_secs.store(listed_after_secs, Ordering::SeqCst);
        *cloud.creates.lock().unwrap() = vec![ProviderErrorKind::UnknownOutcome; 2];
        stage.rounds(8).await;
        assert_eq!((cloud.count(), cloud.creates()), (2, 2), "{listed_after_secs}");
    }
}

#[tokio::test]
async fn a_reached_quota_blocks_growth_only() {
    let source = metrics(Says::Busy);
    let stage = stage(&[("api", 4)], source.clone(), "");
    *stage.cloud("api").creates.lock().unwrap() = vec![ProviderErrorKind::QuotaReached];
    stage.rounds(1).await;
    // The first create is refused, and the others of the plan are not tried.
    assert_eq!((stage.cloud("api").count(), stage.cloud("api").creates()), (4, 1));
    assert!(stage.error(0).unwrap().contains("QuotaReached"));
    stage.rounds(3).await;
    assert_eq!(stage.cloud("api").creates(), 1);
    *source.0.lock().unwrap() = Says::Idle;
    stage.rounds(1).await;
    assert_eq!(stage.cloud("api").count(), 3);
    *source.0.lock().unwrap() = Says::Busy;
    stage.rounds(8).await;
    assert!(stage.cloud("api").count() > 4);
    assert!(
        stage
            .metrics()
            .contains(r#"tidepool_autoscaler_provider_errors_total{kind="quota_reached",pool="api"} 1"#)
    );
}

#[tokio::test]
async fn a_reached_quota_leaves_the_rest_of_the_plan_alone() {
    let stage = stage(&[("api", 4)], metrics(Says::Busy), "");
    let cloud = stage.cloud("api");
    cloud.each(&[0], |member| member.power = Power::Off);
    // It is off for long enough; the account has had no room meanwhile.
    *cloud.creates.lock().unwrap() = vec![ProviderErrorKind::QuotaReached; 2];
    stage.rounds(7).await;
    assert_eq!(
        cloud.changes(),
        ["create api-5", "create api-5", "withdraw 0001", "destroy 0001"]
    );
}

#[tokio::test]
async fn a_rate_limit_is_waited_for() {
    let stage = stage(&[("api", 0)], metrics(Says::Nothing), "");
    *stage.cloud("api").creates.lock().unwrap() =
        vec![ProviderErrorKind::RateLimited { retry_after_secs: 25 }];
    stage.rounds(1).await;
    assert_eq!(
        *stage.cloud("api").calls.lock().unwrap(),
        ["list", "create api-1"]
    );
    stage.rounds(2).await;
    assert_eq!(stage.cloud("api").calls.lock().unwrap().len(), 2);
    stage.rounds(1).await;
    assert_eq!(stage.cloud("api").count(), 2);

    *stage.cloud("api").list.lock().unwrap() = Some(ProviderErrorKind::RateLimited { retry_after_secs: 15 });
    stage.rounds(1).await;
    let calls = stage.cloud("api").calls.lock().unwrap().len();
    stage.rounds(1).await;
    assert_eq!(stage.cloud("api").calls.lock().unwrap().len(), calls);
    assert!(
        stage
            .error(0)
            .unwrap()
            .starts_with("the pool can't be observed: ")
    );
    stage.rounds(1).await;
    assert_eq!(stage.error(0), None);
}

#[tokio::test]
async fn steps_that_were_not_begun_when_it_stops_are_not_begun() {
    let stage = stage(&[("api", 5)], metrics(Says::Idle), "");
    stage.stop.cancel();
    stage.rounds(1).await;
    assert_eq!(*stage.cloud("api").calls.lock().unwrap(), ["list"]);
    assert!(stage.error(0).unwrap().contains("the autoscaler stops"));
}

#[tokio::test]
async fn a_state_that_cannot_be_written_stops_every_step() {
    let stage = stage(&[("api", 5)], metrics(Says::Idle), "");
    std::fs::create_dir(stage.dir.path().join("api.memory.new")).unwrap();
    stage.rounds(1).await;
    assert_eq!(*stage.cloud("api").calls.lock().unwrap(), ["list"]);
    assert!(
        stage
            .error(0)
            .unwrap()
            .starts_with("the pool's memory can't be kept, so nothing is done: ")
    );
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_stops_every_step() {
    let stage = stage(&[("api", 5)], metrics(Says::Idle), "");
    let to_look_at = Journal::look(&stage.services.state.journal());
    *stage.pools.first().unwrap().applier.journal.lock().unwrap() = to_look_at;
    stage.rounds(1).await;
    assert_eq!(*stage.cloud("api").calls.lock().unwrap(), ["list"]);
    assert!(stage.error(0).unwrap().contains("the journal can't be written"));
}

/// The list does not show the droplet yet, and the pool's memory was lost with the process: the journal alone knows.
#[tokio::test]
async fn a_create_that_was_begun_before_a_crash_is_not_begun_again() {
    let server = MockServer::start().await;
    let empty = r#"{"droplets":[],"links":{},"meta":{"total":0}}"#;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200).set_body_raw(empty, "application/json"))
        .mount(&server)
        .await;
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let now = Arc::new(AtomicI64::new(1_000_000_000));
    let begun = Line {
        at: UnixMillis(now.load(Ordering::SeqCst) - 3_000),
        pool: PoolName("api".to_owned()),
        step: Step::Create {
            name: MemberName("api-1".to_owned()),
            generation: None,
        },
        outcome: None,
        id: None,
    };
    Journal::open(&state.journal(), UnixMillis(0))
        .unwrap()
        .write(begun)
        .unwrap();
    let text = format!(
        r#"
            state_dir = "state"
            metrics = "scrape"
            digitalocean = {{ base_url = "{}", token_env = "T" }}
            [[pool]]
            name = "api"
            min = 1
            max = 1
            digitalocean = {{ region = "fra1", size = "s", image = "host" }}
            life = {{ create_settle_secs = 35 }}
        "#,
        server.uri()
    );
    let around = Surroundings {
        env: &|_| Some("token".to_owned()),
        read_file: &|_| Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
        base: Path::new("/"),
    };
    let clock = Arc::clone(&now);
    let runtime = Runtime {
        clock: Arc::new(move || UnixMillis(clock.load(Ordering::SeqCst))),
        stop: CancellationToken::new(),
        crash: None,
    };
    let config = parse(&text, &around, Purpose::Act).unwrap();
    let journal = Journal::open(&state.journal(), UnixMillis(0)).unwrap();
    let pools = pools(&config, &state, journal, &runtime).unwrap();
    let meters = Arc::new(Meters::new().unwrap());
    let audit = AuditConfig {
        file: dir.path().join("audit.jsonl"),
        index: None,
    };
    let (audit, _records) = Audit::start(&audit, Arc::clone(&meters)).unwrap();
    let services = Arc::new(Services {
        source: metrics(Says::Nothing),
        state,
        audit,
        meters,
    });
    let mut creates = Vec::new();
    for _ in 0..4 {
        round(Arc::clone(&services), pools.clone()).await;
        let asked = server.received_requests().await.unwrap();
        let names = asked.iter().filter(|request| request.method.as_str() == "POST");
        creates.push(
            names
                .map(|request| request.body_json::<CreateBody>().unwrap().name)
                .collect::<Vec<_>>(),
        );
        now.fetch_add(15_000, Ordering::SeqCst);
    }
    // 3, 18 and 33 s after it was begun it may still show; after 48 s it is made again, under the same name.
    assert_eq!(creates, [vec![], vec![], vec![], vec!["api-1".to_owned()]]);
}

#[derive(serde::Deserialize)]
struct CreateBody {
    name: String,
}

#[tokio::test]
async fn a_member_leaves_the_balancer_before_anything_else_and_is_destroyed_last() {
    let stage = stage(&[("api", 3)], metrics(Says::Idle), "");
    stage.rounds(8).await;
    let calls = stage.cloud("api").calls.lock().unwrap().clone();
    let steps: Vec<&String> = calls.iter().filter(|call| *call != "list").collect();
    assert_eq!(
        steps,
        ["mark 0001", "withdraw 0001", "shutdown 0001", "destroy 0001"]
    );
}

/// A wait of 25 s is none of a day because the clock is set back by one.
#[tokio::test]
async fn a_clock_that_is_set_back_makes_no_wait_longer() {
    let stage = stage(&[("api", 2)], metrics(Says::Nothing), "");
    let cloud = stage.cloud("api");
    let lists = || {
        cloud
            .calls
            .lock()
            .unwrap()
            .iter()
            .filter(|call| *call == "list")
            .count()
    };
    *cloud.list.lock().unwrap() = Some(ProviderErrorKind::RateLimited { retry_after_secs: 25 });
    stage.rounds(2).await;
    assert_eq!(lists(), 1);
    stage.now.fetch_sub(86_400_000, Ordering::SeqCst);
    stage.rounds(1).await;
    assert_eq!(lists(), 2);
}

/// One that was acknowledged, and that no list ever showed, is gone after `create_settle_secs` by any clock.
#[tokio::test]
async fn a_clock_that_is_set_back_keeps_no_create_that_came_to_nothing() {
    let stage = stage(&[("api", 1)], metrics(Says::Nothing), "");
    let cloud = stage.cloud("api");
    cloud.makes_nothing.store(true, Ordering::SeqCst);
    stage.rounds(1).await;
    assert_eq!(cloud.creates(), 1);
    cloud.makes_nothing.store(false, Ordering::SeqCst);
    stage.now.fetch_sub(86_400_000, Ordering::SeqCst);
    stage.rounds(12).await;
    assert_eq!((cloud.creates(), cloud.count()), (2, 2));
}

/// Decisions that change nothing are recorded once a minute, also after the clock was set back.
#[tokio::test]
async fn a_clock_that_is_set_back_does_not_stop_the_record() {
    let stage = stage(&[("api", 2)], metrics(Says::Nothing), "");
    stage.rounds(1).await;
    stage.now.fetch_sub(86_400_000, Ordering::SeqCst);
    stage.rounds(7).await;
    let file = stage.dir.path().join("audit.jsonl");
    drop((stage.pools, stage.services));
    stage.records.await.unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
}

/// A size that is sold out is so for each of them: one call a tick, and not as many as are wanted.
#[tokio::test]
async fn what_the_provider_refuses_of_one_create_is_not_tried_with_the_others() {
    for kind in [ProviderErrorKind::Invalid, ProviderErrorKind::Denied] {
        let stage = stage(&[("api", 4)], metrics(Says::Busy), "");
        let cloud = stage.cloud("api");
        *cloud.refuses_creates.lock().unwrap() = Some(kind);
        stage.rounds(3).await;
        assert_eq!(cloud.creates(), 3, "{kind:?}");
        let error = stage.error(0).unwrap();
        assert!(
            error.starts_with("create api-5: failed: ") && error.contains("more"),
            "{error}"
        );
        *cloud.refuses_creates.lock().unwrap() = None;
        stage.rounds(1).await;
        assert_eq!((cloud.count(), cloud.creates()), (8, 7), "{kind:?}");
    }
}

/// A provider that takes half a minute for each: a plan of four is not two minutes of not looking.
#[tokio::test]
async fn a_slow_plan_is_left_for_another_look() {
    let stage = stage(&[("api", 4)], metrics(Says::Busy), "");
    let cloud = stage.cloud("api");
    cloud.create_takes_secs.store(30, Ordering::SeqCst);
    stage.rounds(1).await;
    assert_eq!(cloud.creates(), 2);
    let error = stage.error(0).unwrap();
    assert!(error.contains("the next tick goes on"), "{error}");
    stage.rounds(1).await;
    assert_eq!((cloud.count(), cloud.creates()), (8, 4));
}
