//! Rounds over several pools, and what is recorded of them.

use std::sync::Arc;

use tidepool_autoscaler::audit::Record;
use tidepool_autoscaler::provider::ProviderErrorKind;
use tidepool_autoscaler_core::decide::decide;

use crate::stage::{Says, Stage, metrics, stage};

#[tokio::test]
async fn one_bad_pool_stops_no_other() {
    let stage = stage(
        &[("bad", 5), ("good", 5), ("blind", 5)],
        metrics(Says::Idle),
        "bad",
    );
    for _ in 0..4 {
        *stage.cloud("blind").list.lock().unwrap() = Some(ProviderErrorKind::Transient);
        stage.rounds(1).await;
    }
    let counts: Vec<usize> = ["bad", "good", "blind"]
        .map(|pool| stage.cloud(pool).count())
        .to_vec();
    assert_eq!(counts, [5, 2, 5]);
    assert_eq!(stage.error(0).unwrap(), "the tick panicked; the log says where");
    assert_eq!(stage.error(1), None);
    assert!(stage.error(2).unwrap().starts_with("the pool can't be observed"));
    let text = stage.metrics();
    assert!(
        text.contains(r#"tidepool_autoscaler_ticks_total{pool="bad",result="panicked"} 4"#),
        "{text}"
    );
    assert!(text.contains(r#"tidepool_autoscaler_ticks_total{pool="good",result="done"} 4"#));
    assert!(text.contains(r#"tidepool_autoscaler_ticks_total{pool="blind",result="failed"} 4"#));
    // It was only ill, and goes on when it is well.
    stage.rounds(3).await;
    assert_eq!(stage.cloud("blind").count(), 2);
}

#[tokio::test]
async fn a_pool_that_is_still_busy_is_left_out() {
    let stage = stage(&[("busy", 5), ("free", 5)], metrics(Says::Idle), "");
    let busy = Arc::clone(&stage.pools.first().unwrap().tick_state)
        .lock_owned()
        .await;
    stage.rounds(1).await;
    assert_eq!((stage.cloud("busy").count(), stage.cloud("free").count()), (5, 4));
    assert!(
        stage
            .metrics()
            .contains(r#"tidepool_autoscaler_ticks_total{pool="busy",result="skipped"} 1"#)
    );
    drop(busy);
    stage.rounds(1).await;
    assert_eq!(stage.cloud("busy").count(), 4);
}

#[tokio::test]
async fn what_was_recorded_gives_the_same_decision_again() {
    let Stage {
        pools,
        services,
        now,
        records,
        dir,
        clouds,
        ..
    } = {
        let stage = stage(&[("api", 4)], metrics(Says::Busy), "");
        stage.rounds(3).await;
        stage
    };
    drop((pools, services, now, clouds));
    records.await.unwrap();
    let text = std::fs::read_to_string(dir.path().join("audit.jsonl")).unwrap();
    let recorded: Vec<Record> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!recorded.is_empty());
    for Record { decision, inputs, .. } in recorded {
        assert_eq!(
            decide(&inputs.spec, &inputs.observation, &inputs.memory, inputs.control),
            decision
        );
    }
}
