//! Members that exist and that no list shows, or of which nothing can be known: they are never made again.

use std::sync::atomic::Ordering;

use tidepool_autoscaler::provider::{EarlierCreate, ProviderErrorKind};
use tidepool_autoscaler_core::decide::Control;
use tidepool_autoscaler_core::observe::MemberId;

use crate::stage::{Says, Stage, metrics, stage};

fn hidden() -> Stage {
    let stage = stage(&[("api", 0)], metrics(Says::Nothing), "");
    stage.cloud("api").lists_nothing_new.store(true, Ordering::SeqCst);
    stage
}

#[tokio::test]
async fn what_was_made_and_is_not_listed_is_followed_by_its_id_and_reported() {
    let stage = hidden();
    stage.rounds(20).await;
    let cloud = stage.cloud("api");
    assert_eq!((cloud.count(), cloud.creates()), (2, 2));
    // It serves like any other.
    assert_eq!(stage.pools.first().unwrap().recorder.status().serving, 2);
    let problems = stage.problems(0);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems
            .iter()
            .all(|problem| problem.contains("is followed by its id")),
        "{problems:?}"
    );
}

#[tokio::test]
async fn a_member_is_gone_only_when_the_provider_says_so() {
    let kinds = [
        ProviderErrorKind::Transient,
        ProviderErrorKind::Denied,
        ProviderErrorKind::Invalid,
        ProviderErrorKind::UnknownOutcome,
    ];
    for kind in kinds {
        let stage = stage(&[("api", 3)], metrics(Says::Idle), "");
        let cloud = stage.cloud("api");
        stage.rounds(1).await;
        let before = cloud.count();
        cloud
            .unlisted
            .lock()
            .unwrap()
            .extend(cloud.members.lock().unwrap().keys().cloned());
        *cloud.get.lock().unwrap() = Some(kind);
        stage.rounds(10).await;
        assert_eq!((cloud.count(), cloud.creates()), (before, 0), "{kind:?}");
        assert!(
            stage
                .problems(0)
                .iter()
                .all(|problem| problem.contains("asking for it failed"))
        );
        // Once it can be asked for, all goes on.
        *cloud.get.lock().unwrap() = None;
        cloud.unlisted.lock().unwrap().clear();
        stage.rounds(2).await;
        assert_eq!(stage.problems(0), [""; 0]);
    }
}

#[tokio::test]
async fn one_that_is_gone_for_certain_is_replaced() {
    let stage = hidden();
    let cloud = stage.cloud("api");
    stage.rounds(10).await;
    assert_eq!(cloud.count(), 2);
    let first = cloud.members.lock().unwrap().keys().next().unwrap().clone();
    cloud.members.lock().unwrap().remove(&first);
    stage.rounds(4).await;
    assert_eq!((cloud.count(), cloud.creates()), (2, 3));
}

/// The provider accepts creates, gives ids, and has no such members afterwards.
#[tokio::test]
async fn creates_that_come_to_nothing_are_reported_and_made_less_and_less_often() {
    let stage = stage(&[("api", 1)], metrics(Says::Nothing), "");
    let cloud = stage.cloud("api");
    cloud.makes_nothing.store(true, Ordering::SeqCst);
    let mut made_at = Vec::new();
    for round in 0..200 {
        let before = cloud.creates();
        stage.rounds(1).await;
        if cloud.creates() > before {
            made_at.push(round);
        }
    }
    // 35 s to find out, and then 35 s, 70 s, 140 s, 280 s and so on until the next one, in ticks of 10 s.
    let between: Vec<i32> = made_at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(between, [8, 11, 18, 32, 60], "{made_at:?}");
    let problems = stage.problems(0);
    let named = problems
        .iter()
        .find(|problem| problem.contains("gone before they were ready"));
    let named = named.unwrap_or_else(|| panic!("{problems:?}"));
    assert!(named.contains("api-2 (0002)"), "{named}");
    // Once one comes to a member it is over.
    cloud.makes_nothing.store(false, Ordering::SeqCst);
    stage.rounds(200).await;
    assert_eq!((cloud.count(), stage.problems(0)), (2, Vec::new()));
}

/// Many at once: the breaker of repairs stops them for its window.
#[tokio::test]
async fn creates_that_come_to_nothing_count_as_repairs() {
    let stage = stage(&[("api", 2)], metrics(Says::Nothing), "");
    let cloud = stage.cloud("api");
    cloud.makes_nothing.store(true, Ordering::SeqCst);
    stage.control(Control::Manual { size: 9 });
    stage.rounds(60).await;
    assert_eq!(cloud.creates(), 7);
}

#[tokio::test]
async fn a_member_without_the_tag_counts_and_is_left_alone() {
    let stage = stage(&[("api", 2)], metrics(Says::Idle), "");
    let cloud = stage.cloud("api");
    stage.rounds(1).await;
    let id = MemberId("0001".to_owned());
    cloud.unlisted.lock().unwrap().insert(id.clone());
    cloud.untagged.lock().unwrap().insert(id.clone());
    stage.rounds(40).await;
    assert_eq!((cloud.count(), cloud.creates()), (2, 0));
    assert!(
        cloud
            .calls
            .lock()
            .unwrap()
            .iter()
            .all(|call| !call.contains("0001"))
    );
    assert!(
        stage
            .problems(0)
            .iter()
            .any(|problem| problem.contains("exists without the tag pool:api"))
    );
}

#[tokio::test]
async fn a_create_whose_end_was_never_learned_is_looked_up_before_it_is_sent_again() {
    let stage = stage(&[("api", 1)], metrics(Says::Nothing), "");
    let cloud = stage.cloud("api");
    *cloud.creates.lock().unwrap() = vec![ProviderErrorKind::UnknownOutcome];
    cloud.lists_nothing_new.store(true, Ordering::SeqCst);
    stage.rounds(8).await;
    let earlier = cloud.earlier.lock().unwrap().clone();
    assert_eq!(earlier.first(), Some(&EarlierCreate::NotKnown));
    assert!(
        matches!(earlier.get(1), Some(EarlierCreate::Begun(_))),
        "{earlier:?}"
    );
}

#[tokio::test]
async fn a_step_that_fails_is_shown_until_it_is_done() {
    let stage = stage(&[("api", 3)], metrics(Says::Idle), "");
    let cloud = stage.cloud("api");
    *cloud.shutdowns.lock().unwrap() = Some(ProviderErrorKind::Denied);
    *cloud.destroys.lock().unwrap() = Some(ProviderErrorKind::Denied);
    let called = |call: &str| cloud.calls.lock().unwrap().iter().any(|other| other == call);
    let mut first_shown = None;
    for round in 0..20 {
        stage.rounds(1).await;
        // From when it fails until its power is cut, and from when destroying fails for good.
        let error = stage.error(0).unwrap_or_default();
        let expected = if called("destroy 0001") {
            "destroy api-1: failed: "
        } else if called("power_off 0001") || first_shown.is_none() && error.is_empty() {
            ""
        } else {
            first_shown.get_or_insert(round);
            "shutdown api-1: failed: "
        };
        assert!(
            error.starts_with(expected),
            "{round}: {error:?} is not {expected:?}"
        );
    }
    assert!(first_shown.is_some() && called("destroy 0001"));
    *cloud.shutdowns.lock().unwrap() = None;
    *cloud.destroys.lock().unwrap() = None;
    stage.rounds(4).await;
    assert_eq!((stage.error(0), cloud.count()), (None, 2));
}

/// Tagging and untagging are answered as done, tick after tick, and nothing comes of them.
#[tokio::test]
async fn a_step_that_is_done_in_vain_again_and_again_is_reported() {
    for (says, members, step) in [
        (Says::Idle, 3, "mark_draining api-1"),
        (Says::Nothing, 1, "admit api-2"),
    ] {
        let stage = stage(&[("api", members)], metrics(says), "");
        let cloud = stage.cloud("api");
        cloud.tags_nothing.store(true, Ordering::SeqCst);
        stage.rounds(2).await;
        assert_eq!(stage.error(0), None, "{step}");
        stage.rounds(2).await;
        let error = stage.error(0).unwrap_or_default();
        let expected = format!("{step}: the provider answered ");
        assert!(
            error.starts_with(&expected) && error.contains("nothing came of it"),
            "{error}"
        );
        cloud.tags_nothing.store(false, Ordering::SeqCst);
        stage.rounds(3).await;
        assert_eq!(stage.error(0), None, "{step}");
    }
}

/// The reason reaches the person, host by host.
#[tokio::test]
async fn a_member_without_a_value_says_why() {
    let stage = stage(&[("api", 4)], metrics(Says::Half), "");
    stage.rounds(1).await;
    let members = stage.pools.first().unwrap().recorder.status().members;
    let silent = members.iter().filter(|member| member.signals.is_empty());
    let causes: Vec<&str> = silent
        .map(|member| {
            member
                .signal_problems
                .get("cpu")
                .map_or("no cause", String::as_str)
        })
        .collect();
    assert_eq!(causes, ["HTTP 500", "it has no value"]);
    let known = members.iter().filter(|member| !member.signals.is_empty());
    assert_eq!(
        known.filter(|member| member.signal_problems.is_empty()).count(),
        2
    );
}

#[tokio::test]
async fn a_provider_that_hangs_does_not_hold_a_stop_up() {
    let stage = stage(&[("api", 2)], metrics(Says::Idle), "");
    stage.cloud("api").hangs.store(true, Ordering::SeqCst);
    let (services, pools) = (stage.services.clone(), stage.pools.clone());
    let round = tokio::spawn(tidepool_autoscaler::daemon::round(services, pools));
    stage.stop.cancel();
    // A look by itself would be waited for for half a minute.
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), round).await;
    ended.unwrap().unwrap();
}
