//! What a list says for a moment, or of all members at once, costs no member.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use tidepool_autoscaler::provider::ProviderErrorKind;
use tidepool_autoscaler_core::observe::{MemberId, MemberName, Power};

use crate::stage::{Says, metrics, stage};

#[tokio::test]
async fn members_that_share_a_name_are_members_like_any_other() {
    let stage = stage(&[("api", 3)], metrics(Says::Nothing), "");
    let cloud = stage.cloud("api");
    cloud.each(&[0, 1, 2], |member| member.name = MemberName("web".to_owned()));
    stage.rounds(10).await;
    assert_eq!(cloud.changes(), [""; 0]);
    assert_eq!(stage.pools.first().unwrap().recorder.status().serving, 3);
    let problems = stage.problems(0);
    let expected = "3 members are named web (0001, 0002, 0003)";
    assert!(problems.iter().any(|p| p.contains(expected)), "{problems:?}");
}

/// Each of them has its own values, so that the pool grows by the load of all.
#[tokio::test]
async fn members_that_share_a_name_are_measured_one_by_one() {
    let stage = stage(&[("api", 3)], metrics(Says::Busy), "");
    let cloud = stage.cloud("api");
    cloud.each(&[0, 1, 2], |member| member.name = MemberName("web".to_owned()));
    stage.rounds(1).await;
    let reason = stage.reason(0);
    assert!(
        reason.contains("ceil(3 hosts × mean 1.0000 / target 0.5) = 6"),
        "{reason}"
    );
    let members = stage.pools.first().unwrap().recorder.status().members;
    assert!(
        members.iter().all(|member| member.signals.len() == 1),
        "{members:?}"
    );
}

#[tokio::test]
async fn a_member_that_lists_call_off_and_that_runs_is_left_alone() {
    let stage = stage(&[("api", 3)], metrics(Says::Nothing), "");
    stage.rounds(1).await;
    let cloud = stage.cloud("api");
    for power in [Power::Off, Power::Creating] {
        let all: BTreeMap<_, _> = cloud.ids().into_iter().map(|id| (id, power)).collect();
        // One of them, and all at once.
        for listed_as in [all.clone().into_iter().take(1).collect(), all] {
            *cloud.listed_as.lock().unwrap() = listed_as;
            stage.rounds(2).await;
            cloud.listed_as.lock().unwrap().clear();
            stage.rounds(2).await;
            assert_eq!(cloud.changes(), [""; 0], "{power:?}");
        }
    }
    // For as long as lists may say so, when the member itself says that it runs.
    let first = MemberId("0001".to_owned());
    cloud.listed_as.lock().unwrap().insert(first, Power::Off);
    stage.rounds(50).await;
    assert_eq!(cloud.changes(), [""; 0]);
}

#[tokio::test]
async fn a_member_that_is_off_for_a_moment_by_its_own_id_is_left_alone_and_one_that_stays_off_is_replaced() {
    let stage = stage(&[("api", 3)], metrics(Says::Nothing), "");
    stage.rounds(1).await;
    let cloud = stage.cloud("api");
    for _ in 0..5 {
        cloud.each(&[1], |member| member.power = Power::Off);
        stage.rounds(5).await;
        cloud.each(&[1], |member| member.power = Power::Running);
        stage.rounds(1).await;
    }
    assert_eq!(cloud.changes(), [""; 0]);
    cloud.each(&[1], |member| member.power = Power::Off);
    stage.rounds(6).await;
    assert_eq!(cloud.changes(), [""; 0]);
    stage.rounds(1).await;
    assert_eq!(cloud.changes(), ["create api-4", "withdraw 0002", "destroy 0002"]);
    let reason = stage.reason(0);
    assert!(
        reason.contains("api-2 has been off for 60 s; replaced"),
        "{reason}"
    );
}

#[tokio::test]
async fn members_that_are_all_off_at_once_are_waited_for_and_then_replaced() {
    let stage = stage(&[("api", 3)], metrics(Says::Nothing), "");
    stage.rounds(1).await;
    let cloud = stage.cloud("api");
    cloud.each(&[0, 1, 2], |member| member.power = Power::Off);
    stage.rounds(50).await;
    assert_eq!(cloud.changes(), [""; 0]);
    let problems = stage.problems(0);
    let expected = "no repairs, for more than half of the members are off or not ready at once";
    assert!(problems.iter().any(|p| p.contains(expected)), "{problems:?}");
    // They don't start by themselves: the pool is not left without them for ever.
    stage.rounds(15).await;
    assert_eq!((cloud.count(), cloud.creates()), (3, 3));
}

#[tokio::test]
async fn a_member_that_may_be_off_and_cannot_be_asked_for_is_left_alone() {
    let stage = stage(&[("api", 3)], metrics(Says::Nothing), "");
    stage.rounds(1).await;
    let cloud = stage.cloud("api");
    cloud.each(&[0], |member| member.power = Power::Off);
    *cloud.get.lock().unwrap() = Some(ProviderErrorKind::Transient);
    stage.rounds(50).await;
    assert_eq!(cloud.changes(), [""; 0]);
    let problems = stage.problems(0);
    let expected = "api-1 (0001) is listed as off, and asking for it failed";
    assert!(problems.iter().any(|p| p.contains(expected)), "{problems:?}");
}

/// Of the five that the pool needs, one is counted and not shown: nobody is made in its place, and nobody goes for it.
#[tokio::test]
async fn members_that_are_counted_and_not_listed_are_not_made_again() {
    let stage = stage(&[("api", 2)], metrics(Says::Nothing), "");
    let cloud = stage.cloud("api");
    let first = MemberId("0001".to_owned());
    cloud.unlisted.lock().unwrap().insert(first.clone());
    cloud.unseen.store(1, Ordering::SeqCst);
    stage.rounds(5).await;
    assert_eq!(cloud.changes(), [""; 0]);
    let reason = stage.reason(0);
    assert!(
        reason.contains("the provider counts 1 more than it lists"),
        "{reason}"
    );
    // Once it was seen it is followed by its id, and stands for the one that is not shown.
    cloud.unlisted.lock().unwrap().clear();
    cloud.unseen.store(0, Ordering::SeqCst);
    stage.rounds(1).await;
    cloud.unlisted.lock().unwrap().insert(first);
    cloud.unseen.store(1, Ordering::SeqCst);
    cloud.each(&[1], |member| member.power = Power::Off);
    stage.rounds(7).await;
    assert_eq!(cloud.changes(), ["create api-3", "withdraw 0002", "destroy 0002"]);
}

/// The next number after it can't be given: the others' are gone on from.
#[tokio::test]
async fn a_name_with_the_largest_number_there_is_does_not_stop_growth() {
    for number in [
        "18446744073709551615",
        "9007199254740993",
        "99999999999999999999999",
    ] {
        let stage = stage(&[("api", 3)], metrics(Says::Busy), "");
        let cloud = stage.cloud("api");
        let odd = format!("api-{number}");
        cloud.each(&[1], |member| member.name = MemberName(odd.clone()));
        stage.rounds(1).await;
        assert_eq!(
            cloud.changes(),
            ["create api-4", "create api-5", "create api-6"],
            "{number}"
        );
        let problems = stage.problems(0);
        let expected = format!("{odd} (0002) has a number over 1000000000000000");
        assert!(problems.iter().any(|p| p.contains(&expected)), "{problems:?}");
    }
}

/// A token of another team: an empty list, and `not_found` for each id.
#[tokio::test]
async fn members_of_which_none_exists_all_at_once_are_not_made_anew_all_at_once() {
    let stage = stage(&[("api", 3)], metrics(Says::Nothing), "");
    let cloud = stage.cloud("api");
    stage.rounds(2).await;
    let all = std::mem::take(&mut *cloud.members.lock().unwrap());
    stage.rounds(5).await;
    assert_eq!(cloud.changes(), [""; 0]);
    let problems = stage.problems(0);
    let expected = "api-1 (0001), api-2 (0002), api-3 (0003): the token may be another team's";
    assert!(problems.iter().any(|p| p.contains(expected)), "{problems:?}");
    // With the right token all is as it was.
    *cloud.members.lock().unwrap() = all;
    stage.rounds(2).await;
    assert_eq!((cloud.changes(), stage.problems(0)), (Vec::new(), Vec::new()));
    // If they are truly gone they are replaced after ten times `unready_secs`, one in a tick.
    cloud.members.lock().unwrap().clear();
    stage.rounds(60).await;
    assert_eq!(cloud.creates(), 0);
    for made in [1, 2, 3, 3, 3] {
        stage.rounds(1).await;
        assert_eq!(cloud.creates(), made);
    }
}

/// One of several, with the others there: it is gone.
#[tokio::test]
async fn one_member_that_does_not_exist_is_replaced_at_once() {
    let stage = stage(&[("api", 3)], metrics(Says::Nothing), "");
    let cloud = stage.cloud("api");
    stage.rounds(2).await;
    for gone in ["0002", "0003"] {
        cloud.members.lock().unwrap().remove(&MemberId(gone.to_owned()));
    }
    stage.rounds(1).await;
    assert_eq!(cloud.creates(), 2);
}

/// The only member there is: gone, where the account knows the pool's tag, and made anew at once. Where it doesn't, the token
/// is another team's.
#[tokio::test]
async fn the_only_member_is_made_anew_unless_the_account_never_heard_of_the_pool() {
    for knows_no_pool in [false, true] {
        let stage = stage(&[("api", 1)], metrics(Says::Nothing), "");
        let cloud = stage.cloud("api");
        // The second one, which `min` asks for, can't be made: the pool has one member.
        *cloud.creates.lock().unwrap() = vec![ProviderErrorKind::QuotaReached];
        stage.rounds(2).await;
        let all = std::mem::take(&mut *cloud.members.lock().unwrap());
        cloud.knows_no_pool.store(knows_no_pool, Ordering::SeqCst);
        let before = cloud.creates();
        stage.rounds(6).await;
        let made = if knows_no_pool { 1 } else { 2 };
        assert_eq!(cloud.creates() - before, made, "{knows_no_pool}");
        let problems = stage.problems(0);
        let expected = "still says so of api-1 (0001): the token may be another team's";
        let reported = problems.iter().any(|problem| problem.contains(expected));
        assert_eq!(reported, knows_no_pool, "{problems:?}");
        drop(all);
    }
}

/// A daemon that was stopped with the wrong token for an hour, and is started with it again, has not looked all the while.
#[tokio::test]
async fn members_that_are_missing_are_not_believed_to_be_after_a_stop() {
    let stage = stage(&[("api", 3)], metrics(Says::Nothing), "");
    let cloud = stage.cloud("api");
    stage.rounds(2).await;
    cloud.members.lock().unwrap().clear();
    stage.rounds(2).await;
    stage.now.fetch_add(7_200_000, Ordering::SeqCst);
    stage.rounds(5).await;
    assert_eq!(cloud.creates(), 0);
    stage.rounds(57).await;
    assert!(cloud.creates() > 0);
}

/// Pages that are all the same: what is there is managed, and nobody knows whether `min` is held.
#[tokio::test]
async fn none_are_made_while_the_list_may_go_on() {
    let stage = stage(&[("api", 1)], metrics(Says::Busy), "");
    let cloud = stage.cloud("api");
    cloud.may_go_on.store(true, Ordering::SeqCst);
    stage.rounds(5).await;
    assert_eq!(cloud.changes(), [""; 0]);
    let reason = stage.reason(0);
    let expected = "the provider's list may go on beyond what it shows, so none are made";
    assert!(reason.contains(expected), "{reason}");
    cloud.may_go_on.store(false, Ordering::SeqCst);
    stage.rounds(1).await;
    assert!(cloud.creates() > 0);
}
