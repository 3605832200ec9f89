//! Nothing is left, however a cloud ends; and what is kept is there again.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::room::{DEBIAN, Room};

#[tokio::test]
async fn after_an_orderly_end_nothing_is_left_and_the_next_start_boots_it_again() {
    let Some(mut room) = Room::open("systemd ends::after_an_orderly_end").await else {
        return;
    };
    let traces = room.traces();
    let id = room.droplet("web-1", json!(DEBIAN), "").await;
    room.ssh(id, "echo kept > /root/file").await;
    let address = room.address(id, "public").await;
    assert!(traces.found().len() > 5, "{:?}", traces.found());
    assert_eq!(room.cloud.stop(Signal::SIGTERM), Some(0));
    assert_eq!(traces.found(), [] as [&str; 0]);
    room.cloud.start_again();
    assert_eq!(room.ssh(id, "cat /root/file").await, "kept");
    assert_eq!(room.address(id, "public").await, address);
    assert_eq!(room.cloud.delete(&format!("/v2/droplets/{id}")).await.status, 204);
    assert!(!room.cloud.state_dir().join(format!("droplets/{id}")).exists());
    assert_eq!(room.cloud.stop(Signal::SIGINT), Some(0));
    assert_eq!(traces.found(), [] as [&str; 0]);
}

/// Creates that are under way when it ends come to nothing, or to hosts that end with it.
#[tokio::test]
async fn a_cloud_that_ends_in_the_middle_of_creates_leaves_nothing() {
    let test = "systemd ends::a_cloud_that_ends_in_the_middle";
    let Some(mut room) = Room::open_with(test, &["--stop-grace-secs", "0"]).await else {
        return;
    };
    let traces = room.traces();
    let names: Vec<String> = (0..8).map(|nth| format!("web-{nth}")).collect();
    let body = room.body("", &json!({"names": names}));
    let reply = room.cloud.post("/v2/droplets", body).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    assert_eq!(room.cloud.stop(Signal::SIGTERM), Some(0));
    assert_eq!(traces.found(), [] as [&str; 0]);
}

#[tokio::test]
async fn after_kill_9_the_guard_removes_everything() {
    let Some(mut room) = Room::open("systemd ends::after_kill_9").await else {
        return;
    };
    let traces = room.traces();
    let id = room.droplet("web-1", json!(DEBIAN), "").await;
    room.ssh(id, "true").await;
    room.cloud.stop(Signal::SIGKILL);
    traces.all_gone();
}

#[tokio::test]
async fn when_the_guard_is_killed_too_sweep_removes_everything() {
    let Some(mut room) = Room::open("systemd ends::when_the_guard_is_killed_too").await else {
        return;
    };
    let traces = room.traces();
    let id = room.droplet("web-1", json!(DEBIAN), "").await;
    room.ssh(id, "true").await;
    // The whole of it stands still first, so that no new guard is started.
    let guard = guard_of(room.cloud.child.id());
    room.cloud.signal(Signal::SIGSTOP);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(guard), Signal::SIGKILL).unwrap();
    room.cloud.stop(Signal::SIGKILL);
    assert!(!traces.found().is_empty());
    let state = room.cloud.state_dir();
    let swept = room.cloud.command(&["sweep", "--state", state.to_str().unwrap()]);
    assert!(swept.status.success(), "{swept:?}");
    assert_eq!(traces.found(), [] as [&str; 0]);
}

#[tokio::test]
async fn two_clouds_stand_side_by_side() {
    let test = "systemd ends::two_clouds_stand_side_by_side";
    let (Some(one), Some(mut two)) = (Room::open(test).await, Room::open(test).await) else {
        return;
    };
    let traces = two.traces();
    let of_one = one.droplet("one", json!(DEBIAN), "").await;
    let of_two = two.droplet("two", json!(DEBIAN), "").await;
    assert_eq!(
        one.address(of_one, "private").await,
        two.address(of_two, "private").await
    );
    assert_ne!(
        one.address(of_one, "public").await,
        two.address(of_two, "public").await
    );
    assert_eq!(two.ssh(of_two, "hostname").await, "two");
    two.cloud.stop(Signal::SIGKILL);
    traces.all_gone();
    assert_eq!(one.ssh(of_one, "hostname").await, "one");
}

/// The guard process of a cloud.
fn guard_of(cloud: u32) -> i32 {
    let children = format!("/proc/{cloud}/task");
    let tasks = std::fs::read_dir(children).unwrap().flatten();
    let children: Vec<i32> = tasks
        .flat_map(|task| {
            let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            list.split_whitespace()
                .map(|pid| pid.parse().unwrap())
                .collect::<Vec<i32>>()
        })
        .collect();
    let is_guard = |pid: &i32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split('\0').nth(1) == Some("guard")
    };
    children.into_iter().find(is_guard).unwrap()
}
