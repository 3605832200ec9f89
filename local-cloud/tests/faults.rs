//! Faults on demand, by HTTP and by command; and the command line itself.

#![expect(clippy::indexing_slicing, reason = "tests")]

mod common;

use std::time::{Duration, Instant};

use common::{Cloud, droplet_body, run};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn creates_fail_before_or_after_their_effect() {
    let cloud = Cloud::start(&[]);
    cloud
        .post("/_local/faults/fail-creates", json!({"count": 2, "status": 503}))
        .await;
    for _ in 0..2 {
        assert_eq!(
            cloud
                .post("/v2/droplets", droplet_body("a", "tiny", &[]))
                .await
                .status,
            503
        );
    }
    assert_eq!(cloud.get("/v2/droplets").await.number("/meta/total"), 0);
    cloud
        .post(
            "/_local/faults/fail-creates",
            json!({"count": 1, "status": 500, "after_effect": true}),
        )
        .await;
    let reply = cloud
        .post("/v2/droplets", droplet_body("lost", "tiny", &[]))
        .await;
    assert_eq!((reply.status, reply.text("/id")), (500, "server_error".into()));
    let listed = cloud.get("/v2/droplets").await;
    assert_eq!(
        (listed.number("/meta/total"), listed.text("/droplets/0/name")),
        (1, "lost".into())
    );
    cloud.pids(listed.number("/droplets/0/id"), 1).await;
    // Sent again, as clients do: a second one of the same name.
    cloud.droplet("lost", "tiny", &[]).await;
    assert_eq!(cloud.get("/v2/droplets").await.number("/meta/total"), 2);
    assert_eq!(
        cloud.get("/_local/faults").await.at("/faults/fail_creates"),
        &Value::Null
    );
    // A create that is refused anyway uses nothing up.
    cloud.post("/_local/faults/fail-creates", json!({})).await;
    assert_eq!(
        cloud
            .post("/v2/droplets", droplet_body("x", "nothing", &[]))
            .await
            .status,
        422
    );
    assert_eq!(
        cloud.get("/_local/faults").await.at("/faults/fail_creates/count"),
        &json!(1)
    );
}

#[tokio::test]
async fn a_slow_boot_starts_late_and_the_next_one_in_time() {
    let cloud = Cloud::start(&[]);
    cloud
        .post("/_local/faults/slow-boot", json!({"secs": 1.5, "count": 1}))
        .await;
    let created = Instant::now();
    let slow = cloud.droplet("slow", "tiny", &[]).await;
    let quick = cloud.droplet("quick", "tiny", &[]).await;
    cloud.settled(slow, "active").await;
    cloud.pids(quick, 1).await;
    cloud.pids(slow, 1).await;
    assert!(created.elapsed() >= Duration::from_millis(1_500));
    // One that is deleted before its boot never starts: the next one, which boots as long, is there and it is not.
    cloud
        .post("/_local/faults/slow-boot", json!({"secs": 0.5, "count": 2}))
        .await;
    let never = cloud.droplet("never", "tiny", &[]).await;
    cloud.delete(&format!("/v2/droplets/{never}")).await;
    let later = cloud.droplet("later", "tiny", &[]).await;
    cloud.pids(later, 1).await;
    assert_eq!(common::marked(&cloud.state_dir()).len(), 3);
}

#[tokio::test]
async fn calls_are_refused_with_429_as_often_as_armed() {
    let cloud = Cloud::start(&[]);
    cloud
        .post(
            "/_local/faults/rate-limit",
            json!({"count": 2, "retry_after_secs": 7}),
        )
        .await;
    for _ in 0..2 {
        let reply = cloud.get("/v2/droplets").await;
        assert_eq!((reply.status, reply.header("retry-after")), (429, Some(7)));
        assert_eq!(reply.header("ratelimit-remaining"), Some(0));
    }
    assert_eq!(cloud.get("/v2/droplets").await.status, 200);
}

#[tokio::test]
async fn malformed_faults_are_refused_and_faults_can_be_cleared() {
    let cloud = Cloud::start(&[]);
    for (path, body) in [
        ("power-cut", json!({})),
        ("power-cut", json!({"droplet_id": "x"})),
        ("slow-boot", json!({})),
        ("slow-boot", json!({"secs": -1})),
        ("slow-boot", json!({"secs": 1, "count": 0})),
        ("slow-boot", json!({"secs": 1, "colour": "red"})),
        ("fail-creates", json!({"status": 200})),
        ("fail-creates", json!({"count": "many"})),
        ("rate-limit", json!({"count": 0})),
        ("hang-boot", json!({"count": 0})),
        ("metadata", json!({})),
        ("metadata", json!({"status": 200})),
        ("metadata", json!({"secs": 1e9})),
        ("slow-disk", json!({"droplet_id": 1, "bytes_per_sec": 0})),
    ] {
        let reply = cloud.post(&format!("/_local/faults/{path}"), body.clone()).await;
        assert_eq!(reply.status, 422, "{path} {body}");
    }
    let none = json!({"slow_boot": null, "hang_boot": null, "metadata": null, "fail_creates": null,
        "rate_limit": null});
    assert_eq!(cloud.get("/_local/faults").await.at("/faults"), &none);
    cloud.post("/_local/faults/slow-boot", json!({"secs": 9})).await;
    assert_ne!(cloud.get("/_local/faults").await.at("/faults"), &none);
    assert_eq!(
        cloud
            .call(Method::DELETE, "/_local/faults", Value::Null)
            .await
            .status,
        204
    );
    assert_eq!(cloud.get("/_local/faults").await.at("/faults"), &none);
}

#[tokio::test]
async fn the_fault_command_does_the_same() {
    let mut cloud = Cloud::start(&[]);
    let id = cloud.droplet("victim", "tiny", &[]).await;
    for _ in 0..2 {
        cloud.droplet("twin", "tiny", &[]).await;
    }
    let pid = cloud.pids(id, 1).await[0];
    let cut = cloud.command(&["fault", "power-cut", "victim"]);
    assert_eq!(cut.status.code(), Some(0), "{cut:?}");
    assert!(!common::is_alive(pid));
    for (args, why) in [
        (["fault", "power-cut", "twin"], "several droplets"),
        (["fault", "power-cut", "nobody"], "no droplet"),
        (["fault", "power-cut", "1"], "could not be found"),
    ] {
        let output = cloud.command(&args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(why),
            "{output:?}"
        );
    }
    for args in [
        &["fault", "slow-boot", "--secs", "2.5", "--count", "3"][..],
        &[
            "fault",
            "fail-creates",
            "--count",
            "4",
            "--status",
            "500",
            "--after-effect",
        ],
        &["fault", "rate-limit", "--retry-after-secs", "9"],
        &["fault", "hang-boot", "--count", "2"],
        &["fault", "metadata", "--secs", "1.5", "--status", "500"],
    ] {
        assert_eq!(cloud.command(args).status.code(), Some(0), "{args:?}");
    }
    let listed: Value = serde_json::from_slice(&cloud.command(&["fault", "list"]).stdout).unwrap();
    let armed = json!({"slow_boot": {"secs": 2.5, "count": 3}, "hang_boot": {"count": 2},
        "metadata": {"secs": 1.5, "status": 500, "count": 1},
        "fail_creates": {"count": 4, "status": 500, "after_effect": true},
        "rate_limit": {"count": 1, "retry_after_secs": 9}});
    assert_eq!(listed["faults"], armed);
    assert_eq!(cloud.command(&["fault", "clear"]).status.code(), Some(0));
    let state: Value = serde_json::from_slice(&cloud.command(&["state"]).stdout).unwrap();
    assert_eq!(state["droplets"].as_array().unwrap().len(), 3);
    cloud.stop(Signal::SIGTERM);
    let nobody = cloud.command(&["fault", "list"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("no local cloud answers"));
}

#[test]
fn every_problem_is_reported_at_once_with_status_64() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let file = dir.path().join("file");
    let file = file.to_str().unwrap();
    let output = run(
        &[
            "serve",
            "--images",
            file,
            "--state",
            file,
            "--token",
            " ",
            "--rate-limit-per-minute",
            "0",
            "--rate-limit-per-hour",
            "0",
        ],
        &[],
    );
    assert_eq!(output.status.code(), Some(64));
    let reply = String::from_utf8_lossy(&output.stderr).into_owned();
    for path in [
        "--images: ",
        "--state: ",
        "--token: ",
        "--rate-limit-per-minute: ",
        "--rate-limit-per-hour: ",
    ] {
        assert!(reply.contains(path), "{path} in {reply}");
    }
    let images = dir.path().join("images");
    for (slug, text) in [
        ("a", "slug = \"a\"\nbootsecs = 1\n"),
        ("b", "not toml"),
        (
            "c",
            "slug = \"c\"\n[[process]]\nname = \"x\"\nprogram = \"gone\"\n",
        ),
    ] {
        std::fs::create_dir_all(images.join(slug)).unwrap();
        std::fs::write(images.join(slug).join("image.toml"), text).unwrap();
    }
    let state = dir.path().join("state");
    let output = run(
        &[
            "serve",
            "--images",
            images.to_str().unwrap(),
            "--state",
            state.to_str().unwrap(),
        ],
        &[],
    );
    assert_eq!(output.status.code(), Some(64));
    let reply = String::from_utf8_lossy(&output.stderr).into_owned();
    for problem in [
        "a/image.toml: bootsecs: unknown field",
        "a/image.toml: process: ",
        "b/image.toml: toml, line 1, column 5: ",
        "c/image.toml: process[0].program: no such file",
    ] {
        assert!(reply.contains(problem), "{problem} in {reply}");
    }
    assert!(!state.exists(), "nothing is begun");
}

#[test]
fn usage_help_and_completions() {
    for args in [
        &["nonsense"][..],
        &["serve"],
        &["serve", "--hosts", "zones"],
        &["fault", "power-cut"],
        &["sweep", "--state", "/nonexistent"],
    ] {
        assert_eq!(run(args, &[]).status.code(), Some(64), "{args:?}");
    }
    let help = run(&["--help"], &[]);
    assert_eq!(help.status.code(), Some(0));
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    for part in [
        "EXIT STATUS",
        "ENVIRONMENT",
        "FILES",
        "EXAMPLES",
        "serve",
        "fault",
        "sweep",
        "completions",
    ] {
        assert!(text.contains(part), "{part}");
    }
    assert!(!text.contains("test-host") && !text.contains("guard"));
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell], &[]);
        assert_eq!(script.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&script.stdout).contains("tidepool-local-cloud"));
    }
}
