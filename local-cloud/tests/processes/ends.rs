//! Whatever a cloud started ends with it, however it ends: signals, `kill -9` of server and guard, a failed start, `sweep`.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::common::{Cloud, PROGRAM, all_gone, is_alive, marked, run};

#[tokio::test]
async fn signals_end_it_with_status_0_and_leave_nothing() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut cloud = Cloud::start(&[]);
        for nth in 0..3 {
            let id = cloud.droplet(&format!("web-{nth}"), "web", &[]).await;
            cloud.pids(id, 1).await;
        }
        assert_eq!(cloud.stop(signal), Some(0));
        assert!(marked(&cloud.state_dir()).is_empty());
    }
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_stubborn_droplets() {
    let mut cloud = Cloud::start(&["--stop-grace-secs", "600"]);
    let id = cloud.droplet("stubborn", "stubborn", &[]).await;
    cloud.pids(id, 2).await;
    cloud.signal(Signal::SIGINT);
    cloud
        .until("it has begun to stop", async || {
            crate::common::client().get(&cloud.url).send().await.is_err()
        })
        .await;
    assert_eq!(cloud.stop(Signal::SIGINT), Some(0));
    assert!(marked(&cloud.state_dir()).is_empty());
}

#[tokio::test]
async fn after_kill_9_the_guard_leaves_nothing() {
    let mut cloud = Cloud::start(&[]);
    let id = cloud.droplet("orphan", "stubborn", &[]).await;
    cloud.pids(id, 2).await;
    cloud
        .until("the shell's own children run", async || {
            marked(&cloud.state_dir()).len() == 4
        })
        .await;
    let pids = marked(&cloud.state_dir());
    cloud.stop(Signal::SIGKILL);
    all_gone(&pids);
}

/// A guard of a directory that is still locked, with one process to sweep.
struct Guarded {
    _dir: tempfile::TempDir,
    lock: Option<std::fs::File>,
    guard: std::process::Child,
    process: std::process::Child,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        for child in [&mut self.guard, &mut self.process] {
            // Ended and awaited already, unless the test has failed.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn guarded() -> Guarded {
    let dir = tempfile::tempdir().unwrap();
    // A mark of its own: a guard ends all that carry its mark, those of a test beside this one, too.
    let instance = dir.path().to_str().unwrap();
    std::fs::write(dir.path().join("instance"), instance).unwrap();
    let lock = std::fs::File::create(dir.path().join("lock")).unwrap();
    lock.try_lock().unwrap();
    let process = std::process::Command::new("/bin/sh")
        .args(["-c", "exec sleep 1000"])
        .env("TIDEPOOL_LOCAL_CLOUD_INSTANCE", instance)
        .process_group(0)
        .spawn()
        .unwrap();
    let guard = std::process::Command::new(PROGRAM)
        .args(["guard", "--state"])
        .arg(dir.path())
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    Guarded {
        _dir: dir,
        lock: Some(lock),
        guard,
        process,
    }
}

/// How often a process has gone to sleep.
fn naps(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn the_guard_waits_for_the_lock_of_a_killed_server() {
    let mut guarded = guarded();
    drop(guarded.guard.stdin.take());
    // Some attempts at the lock: the kernel may close a killed process's pipe before its lock. It sleeps between them.
    let before = naps(guarded.guard.id());
    let deadline = Instant::now() + crate::common::PATIENCE;
    while naps(guarded.guard.id()) < before + 10 {
        assert!(Instant::now() < deadline, "it does not try again");
        std::thread::yield_now();
    }
    assert!(guarded.guard.try_wait().unwrap().is_none(), "it gave up");
    guarded.lock = None;
    assert!(guarded.guard.wait().unwrap().success());
    // It was killed, by the guard: a child of ours, so its remains stay until it is awaited.
    assert_eq!(guarded.process.wait().unwrap().signal(), Some(9));
}

#[test]
fn the_guard_of_an_orderly_end_sweeps_nothing() {
    let mut guarded = guarded();
    guarded.lock = None;
    let mut input = guarded.guard.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b".").unwrap();
    drop(input);
    assert!(guarded.guard.wait().unwrap().success());
    assert!(guarded.process.try_wait().unwrap().is_none());
}

/// Kills server and guard, so that neither can do anything about the other's end.
fn kill_both(cloud: &mut Cloud) {
    cloud.signal(Signal::SIGSTOP);
    let guard = guard_of(cloud.child.id());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(guard), Signal::SIGKILL).unwrap();
    cloud.stop(Signal::SIGKILL);
}

#[tokio::test]
async fn after_kill_9_of_guard_and_server_no_droplets_program_lives() {
    let mut cloud = Cloud::start(&[]);
    let mut pids = Vec::new();
    for (nth, image) in ["web", "tiny", "stubborn"].into_iter().enumerate() {
        let id = cloud.droplet(&format!("orphan-{nth}"), image, &[]).await;
        pids.extend(cloud.pids(id, if image == "stubborn" { 2 } else { 1 }).await);
    }
    kill_both(&mut cloud);
    all_gone(&pids);
    let swept = run(&["sweep", "--state", cloud.state_dir().to_str().unwrap()], &[]);
    assert_eq!(swept.status.code(), Some(0), "{swept:?}");
}

#[tokio::test]
async fn a_guard_that_is_killed_is_replaced() {
    let mut cloud = Cloud::start(&[]);
    let id = cloud.droplet("orphan", "stubborn", &[]).await;
    cloud.pids(id, 2).await;
    cloud
        .until("the shell's own children run", async || {
            marked(&cloud.state_dir()).len() == 4
        })
        .await;
    let pids = marked(&cloud.state_dir());
    let first = guard_of(cloud.child.id());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), Signal::SIGKILL).unwrap();
    let server = cloud.child.id();
    cloud
        .until("another guard watches", async || {
            guards_of(server).into_iter().any(|guard| guard != first)
        })
        .await;
    assert!(
        pids.iter().all(|pid| is_alive(*pid)),
        "a guard's end is not the cloud's"
    );
    cloud.stop(Signal::SIGKILL);
    all_gone(&pids);
}

#[tokio::test]
async fn a_start_that_fails_leaves_nothing() {
    let mut cloud = Cloud::start(&["--stop-grace-secs", "1"]);
    let first = cloud.droplet("first", "stubborn", &[]).await;
    let second = cloud.droplet("second", "tiny", &[]).await;
    for id in [first, second] {
        cloud.settled(id, "active").await;
    }
    let root = cloud.droplet_state(second).await["root"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(cloud.stop(Signal::SIGTERM), Some(0));
    std::fs::remove_dir_all(&root).unwrap();
    std::fs::write(&root, "not a directory").unwrap();
    let images = cloud.dir.path().join("images");
    let state = cloud.state_dir();
    let args = ["serve", "--listen", "127.0.0.1:0", "--images"];
    let args = [
        &args[..],
        &[images.to_str().unwrap(), "--state", state.to_str().unwrap()],
    ]
    .concat();
    let failed = run(&args, &[]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    cloud
        .until("nothing is left", async || marked(&state).is_empty())
        .await;
}

#[tokio::test]
async fn nohup_keeps_it_running() {
    let dir = crate::common::images();
    let mut command = std::process::Command::new("/bin/sh");
    command
        .args(["-c", "trap '' HUP; exec \"$0\" \"$@\""])
        .arg(PROGRAM);
    let mut cloud = Cloud::start_by(command, dir, &[]);
    cloud.signal(Signal::SIGHUP);
    assert_eq!(cloud.get("/v2/account").await.status, 200);
    cloud.signal(Signal::SIGHUP);
    let id = cloud.droplet("a", "tiny", &[]).await;
    cloud.pids(id, 1).await;
    assert_eq!(cloud.stop(Signal::SIGTERM), Some(0));
}

#[tokio::test]
async fn nobody_has_to_read_where_it_listens() {
    let dir = crate::common::images();
    let address = format!("127.0.0.1:{}", crate::common::free_port());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = std::process::Command::new(PROGRAM)
        .args(["serve", "--listen", &address, "--images"])
        .arg(dir.path().join("images"))
        .arg("--state")
        .arg(dir.path().join("state"))
        .stdout(writer)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + crate::common::PATIENCE;
    let url = format!("http://{address}/v2/account");
    while crate::common::client()
        .get(&url)
        .bearer_auth("t")
        .send()
        .await
        .is_err()
    {
        assert_eq!(child.try_wait().unwrap(), None, "it ended");
        assert!(Instant::now() < deadline, "it does not serve");
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn commands_that_only_look_create_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let swept = run(&["sweep", "--state", path], &[]);
    assert_eq!(swept.status.code(), Some(64), "{swept:?}");
    let nobody = [("TIDEPOOL_LOCAL_CLOUD_ENDPOINT", "http://127.0.0.1:1")];
    for args in [
        &["state"][..],
        &["fault", "list"],
        &["--help"],
        &["completions", "bash"],
    ] {
        run(args, &nobody);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn sweep_ends_what_guard_and_server_left_and_only_that() {
    let mut cloud = Cloud::start(&[]);
    let id = cloud.droplet("orphan", "stubborn", &[]).await;
    cloud.pids(id, 2).await;
    cloud
        .until("the shell's own children run", async || {
            marked(&cloud.state_dir()).len() == 4
        })
        .await;
    let programs = cloud.pids(id, 2).await;
    let state = cloud.state_dir();
    let refused = run(&["sweep", "--state", state.to_str().unwrap()], &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("in use"));
    // The kernel ends the programs themselves, but nobody what they have started in turn.
    kill_both(&mut cloud);
    all_gone(&programs);
    let pids = marked(&state);
    assert_eq!(pids.len(), 2);
    // A pid file with a stranger's pid and another start time: the stranger must live.
    let mut stranger = std::process::Command::new("/bin/sh")
        .args(["-c", "exec sleep 1000"])
        // A group of its own, as our processes have: a signal to the group would reach it.
        .process_group(0)
        .spawn()
        .unwrap();
    let other = state.join("droplets/1");
    std::fs::create_dir_all(&other).unwrap();
    let entry = json!({"processes": [{"name": "x", "pid": stranger.id(), "started": 1}]});
    std::fs::write(other.join("pids.json"), entry.to_string()).unwrap();
    let swept = run(&["sweep", "--state", state.to_str().unwrap()], &[]);
    assert_eq!(swept.status.code(), Some(0), "{swept:?}");
    assert_eq!(String::from_utf8_lossy(&swept.stdout), "2 processes ended\n");
    all_gone(&pids);
    assert!(is_alive(i32::try_from(stranger.id()).unwrap()));
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn the_next_start_ends_orphans_and_boots_the_droplets_again() {
    let mut cloud = Cloud::start(&["--stop-grace-secs", "1"]);
    let kept = cloud.droplet("kept", "web", &["pool:a"]).await;
    let off = cloud.droplet("off", "tiny", &[]).await;
    let (before, _) = (cloud.pids(kept, 1).await, cloud.pids(off, 1).await);
    cloud
        .post("/_local/faults/power-cut", json!({"droplet_id": off}))
        .await;
    let root = cloud.droplet_state(kept).await["root"]
        .as_str()
        .unwrap()
        .to_owned();
    std::fs::write(format!("{root}/data"), "kept").unwrap();
    let (balancer, _) = cloud.balancer("pool:a", json!({})).await;
    let ip = cloud
        .get(&format!("/v2/droplets/{kept}"))
        .await
        .text("/droplet/networks/v4/0/ip_address");
    let leaver = cloud.droplet("leaver", "stubborn", &[]).await;
    cloud.pids(leaver, 2).await;
    cloud
        .until("the shell's own children run", async || {
            marked(&cloud.state_dir()).len() == 5
        })
        .await;
    kill_both(&mut cloud);
    all_gone(&before);
    let orphans = marked(&cloud.state_dir());
    assert_eq!(orphans.len(), 2, "what a program started in turn");
    cloud.start_again();
    all_gone(&orphans);
    cloud.pids(kept, 1).await;
    let reply = cloud.get(&format!("/v2/droplets/{kept}")).await;
    assert_eq!(reply.text("/droplet/status"), "active");
    assert_eq!(reply.text("/droplet/networks/v4/0/ip_address"), ip);
    assert_eq!(reply.at("/droplet/tags"), &json!(["pool:a"]));
    assert_eq!(std::fs::read_to_string(format!("{root}/data")).unwrap(), "kept");
    assert_eq!(
        cloud
            .get(&format!("/v2/droplets/{off}"))
            .await
            .text("/droplet/status"),
        "off"
    );
    assert_eq!(cloud.droplet_state(off).await["pids"], json!([]));
    cloud.members_ready(&balancer, 1).await;
    cloud.stop(Signal::SIGTERM);
    // --fresh forgets.
    let dir = std::mem::replace(&mut cloud.dir, tempfile::tempdir().unwrap());
    let fresh = Cloud::start_in(dir, &["--fresh"]);
    assert_eq!(fresh.get("/v2/droplets").await.number("/meta/total"), 0);
    assert_eq!(fresh.get("/v2/load_balancers").await.number("/meta/total"), 0);
    assert!(!std::path::Path::new(&root).exists());
}

/// The guard process of a server.
fn guard_of(server: u32) -> i32 {
    guards_of(server).into_iter().next().expect("a guard")
}

/// The children of a server with the command `guard` that live.
fn guards_of(server: u32) -> Vec<i32> {
    let children =
        std::fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap_or_default();
    let mut all: Vec<i32> = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect();
    // A child may have been forked by any thread of the server.
    for task in std::fs::read_dir(format!("/proc/{server}/task"))
        .unwrap()
        .flatten()
    {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all.extend(text.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    all.retain(|pid| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split('\0').nth(1) == Some("guard") && is_alive(*pid)
    });
    all
}
