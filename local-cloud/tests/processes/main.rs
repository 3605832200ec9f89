//! Droplets are processes: started, stopped, cut off. How they end with their cloud is in `ends`, what a full
//! disk does in `disk`.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests"
)]

#[path = "../common/mod.rs"]
mod common;

mod disk;
mod ends;

use common::{Cloud, all_gone, droplet_body, is_alive, marked, run};
use serde_json::json;

#[tokio::test]
async fn a_droplet_is_its_images_process_on_an_address_of_its_own() {
    let cloud = Cloud::start(&[]);
    let one = cloud.droplet("one", "web", &[]).await;
    let two = cloud.droplet("two", "web", &[]).await;
    let (pid_one, pid_two) = (cloud.pids(one, 1).await[0], cloud.pids(two, 1).await[0]);
    assert_ne!(pid_one, pid_two);
    let reply = cloud.get(&format!("/v2/droplets/{one}")).await;
    let ip = reply.text("/droplet/networks/v4/0/ip_address");
    assert!(ip.starts_with("127."), "{ip}");
    assert_ne!(
        ip,
        cloud
            .get(&format!("/v2/droplets/{two}"))
            .await
            .text("/droplet/networks/v4/0/ip_address")
    );
    cloud
        .until("it serves", async || {
            common::client()
                .get(format!("http://{ip}:8080/"))
                .send()
                .await
                .is_ok()
        })
        .await;
    let answer = common::client()
        .get(format!("http://{ip}:8080/who"))
        .send()
        .await
        .unwrap();
    let answer = common::reply_of(answer).await;
    assert_eq!(answer.text("/name"), "one");
    assert_eq!(answer.number("/pid"), u64::try_from(pid_one).unwrap());
    let environment = std::fs::read_to_string(format!("/proc/{pid_one}/environ")).unwrap();
    let root = cloud.droplet_state(one).await["root"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(environment.contains(&format!("ROOT={root}\0")) && environment.contains(&format!("WHO={one}\0")));
    cloud
        .until("ready is shown", async || {
            cloud.droplet_state(one).await["ready"] == true
        })
        .await;
    assert_eq!(cloud.delete(&format!("/v2/droplets/{one}")).await.status, 204);
    assert!(!is_alive(pid_one) && is_alive(pid_two));
    assert_eq!(cloud.get(&format!("/v2/droplets/{one}")).await.status, 404);
    assert!(!std::path::Path::new(&root).exists());
}

#[tokio::test]
async fn write_files_are_in_the_droplets_directory() {
    let cloud = Cloud::start(&[]);
    let mut body = droplet_body("files", "tiny", &[]);
    body["user_data"] = json!(
        "#cloud-config\nwrite_files:\n- path: /etc/app/app.toml\n  content: |\n    x = 1\n  permissions: '0600'\n"
    );
    let id = cloud.post("/v2/droplets", body).await.number("/droplet/id");
    let root = cloud.droplet_state(id).await["root"].as_str().unwrap().to_owned();
    assert_eq!(
        std::fs::read_to_string(format!("{root}/etc/app/app.toml")).unwrap(),
        "x = 1\n"
    );
}

#[tokio::test]
async fn write_files_that_leave_the_directory_are_refused() {
    let cloud = Cloud::start(&[]);
    let outside = tempfile::tempdir().unwrap();
    // By a path.
    let mut body = droplet_body("out", "tiny", &[]);
    body["user_data"] = json!("#cloud-config\nwrite_files:\n- path: /etc/../../../x\n  content: x\n");
    let reply = cloud.post("/v2/droplets", body.clone()).await;
    assert_eq!(
        (reply.status, reply.text("/id")),
        (422, "unprocessable_entity".to_owned())
    );
    assert!(
        reply.text("/message").contains("leaves the droplet's directory"),
        "{reply:?}"
    );
    // By a link: ids are given in turn, so a directory with a link can wait for the next droplet.
    let id = cloud.droplet("first", "tiny", &[]).await;
    for next in id + 1..id + 5 {
        let root = cloud.state_dir().join(format!("droplets/{next}/root"));
        std::fs::create_dir_all(&root).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.join("etc")).unwrap();
    }
    body["user_data"] = json!("#cloud-config\nwrite_files:\n- path: /etc/x\n  content: x\n");
    let reply = cloud.post("/v2/droplets", body.clone()).await;
    assert_eq!(reply.status, 422, "{reply:?}");
    assert!(reply.text("/message").contains("link"), "{reply:?}");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(
        cloud.get("/v2/droplets").await.number("/meta/total"),
        1,
        "refused droplets are not made"
    );
    body["user_data"] = json!("#cloud-config\nwrite_files: 7\n");
    assert_eq!(cloud.post("/v2/droplets", body.clone()).await.status, 422);
    body["user_data"] = json!("x".repeat(70_000));
    assert_eq!(cloud.post("/v2/droplets", body).await.status, 422);
}

#[tokio::test]
async fn shutdown_asks_and_then_cuts_and_power_comes_back() {
    let cloud = Cloud::start(&["--stop-grace-secs", "1"]);
    let kind = cloud.droplet("kind", "web", &[]).await;
    let stubborn = cloud.droplet("stubborn", "stubborn", &[]).await;
    let pids = [cloud.pids(kind, 1).await, cloud.pids(stubborn, 2).await].concat();
    let act = async |id: u64, kind: &str| {
        cloud
            .post(&format!("/v2/droplets/{id}/actions"), json!({"type": kind}))
            .await
    };
    let action = act(stubborn, "shutdown").await;
    assert_eq!(
        (action.status, action.text("/action/status")),
        (201, "in-progress".to_owned())
    );
    assert!(action.at("/action/completed_at").is_null());
    let again = act(stubborn, "shutdown").await;
    assert_eq!(
        (again.status, again.text("/message")),
        (422, "Droplet already has a pending event.".to_owned())
    );
    act(kind, "shutdown").await;
    for id in [kind, stubborn] {
        cloud.settled(id, "off").await;
    }
    assert!(!pids.iter().any(|pid| is_alive(*pid)));
    let done = cloud
        .get(&format!("/v2/actions/{}", action.number("/action/id")))
        .await;
    assert_eq!(done.text("/action/status"), "completed");
    assert!(!done.text("/action/completed_at").is_empty());
    // An off droplet may be shut down again, and comes back by power_on.
    assert_eq!(act(kind, "shutdown").await.status, 201);
    cloud.settled(kind, "off").await;
    assert_eq!(act(kind, "power_on").await.status, 201);
    let first = cloud.pids(kind, 1).await[0];
    cloud.settled(kind, "active").await;
    for order in ["reboot", "power_cycle"] {
        let before = cloud.pids(kind, 1).await[0];
        assert_eq!(act(kind, order).await.status, 201);
        cloud
            .until("another process runs", async || {
                cloud.pids(kind, 1).await[0] != before && !is_alive(before)
            })
            .await;
        cloud.settled(kind, "active").await;
    }
    assert!(!is_alive(first));
    act(kind, "power_off").await;
    cloud.settled(kind, "off").await;
    assert!(marked(&cloud.state_dir()).is_empty());
}

#[tokio::test]
async fn a_power_cut_kills_everything_at_once_and_the_droplet_stays_listed() {
    let cloud = Cloud::start(&[]);
    let id = cloud.droplet("cut", "stubborn", &[]).await;
    cloud.pids(id, 2).await;
    cloud
        .until("the shell's own children run", async || {
            marked(&cloud.state_dir()).len() == 4
        })
        .await;
    let reply = cloud
        .post("/_local/faults/power-cut", json!({"droplet_id": id}))
        .await;
    assert_eq!(reply.status, 200);
    assert!(marked(&cloud.state_dir()).is_empty());
    assert_eq!(
        cloud
            .get(&format!("/v2/droplets/{id}"))
            .await
            .text("/droplet/status"),
        "off"
    );
    let reply = cloud
        .post("/_local/faults/power-cut", json!({"droplet_id": 1}))
        .await;
    assert_eq!(reply.status, 404);
}

#[tokio::test]
async fn the_power_can_be_cut_during_a_shutdown() {
    let cloud = Cloud::start(&["--stop-grace-secs", "600"]);
    let id = cloud.droplet("slow", "stubborn", &[]).await;
    let pids = cloud.pids(id, 2).await;
    cloud
        .post(&format!("/v2/droplets/{id}/actions"), json!({"type": "shutdown"}))
        .await;
    assert!(is_alive(pids[0]));
    cloud
        .post("/_local/faults/power-cut", json!({"droplet_id": id}))
        .await;
    all_gone(&pids);
    cloud.settled(id, "off").await;
}

#[tokio::test]
async fn a_program_that_can_not_be_started_says_why() {
    let cloud = Cloud::start(&[]);
    let image = cloud.dir.path().join("images/broken");
    std::fs::create_dir_all(&image).unwrap();
    std::fs::write(image.join("program"), "not executable").unwrap();
    let manifest = "slug = \"broken\"\n[[process]]\nname = \"p\"\nprogram = \"program\"\n";
    std::fs::write(image.join("image.toml"), manifest).unwrap();
    let id = cloud.droplet("a", "broken", &[]).await;
    cloud
        .until("it says why", async || {
            let state = cloud.droplet_state(id).await;
            state["processes"][0]["ended"]
                .as_str()
                .is_some_and(|ended| ended.contains("could not start: Permission denied"))
        })
        .await;
}

#[tokio::test]
async fn the_state_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    // One that an earlier version has left open is closed.
    let dir = common::images();
    let droplets = dir.path().join("state/droplets");
    std::fs::create_dir_all(&droplets).unwrap();
    std::fs::set_permissions(&droplets, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(dir.path().join("state"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let cloud = Cloud::start_in(dir, &[]);
    let mut body = droplet_body("files", "tiny", &[]);
    body["user_data"] =
        json!("#cloud-config\nwrite_files:\n- path: /etc/secret\n  content: x\n  permissions: '0644'\n");
    let id = cloud.post("/v2/droplets", body).await.number("/droplet/id");
    cloud.pids(id, 1).await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let state = cloud.state_dir();
    let droplet = state.join(format!("droplets/{id}"));
    for file in ["cloud.json", "lock", "instance"].map(|name| state.join(name)) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    for file in ["pids.json", "log/sleep.log"].map(|name| droplet.join(name)) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    for directory in [
        state.join("droplets"),
        droplet.clone(),
        droplet.join("root"),
        droplet.join("log"),
        state,
    ] {
        assert_eq!(mode(&directory), 0o700, "{}", directory.display());
    }
}

#[tokio::test]
async fn two_clouds_at_once_have_different_addresses_and_one_state_has_one_cloud() {
    let (one, two) = (Cloud::start(&[]), Cloud::start(&[]));
    let mut ips = Vec::new();
    for cloud in [&one, &two] {
        let id = cloud.droplet("web", "web", &[]).await;
        cloud.settled(id, "active").await;
        ips.push(
            cloud
                .get(&format!("/v2/droplets/{id}"))
                .await
                .text("/droplet/networks/v4/0/ip_address"),
        );
        cloud
            .until("it is ready", async || {
                cloud.droplet_state(id).await["ready"] == true
            })
            .await;
    }
    assert_ne!(ips[0], ips[1]);
    let images = one.dir.path().join("images");
    let args = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--images",
        images.to_str().unwrap(),
        "--state",
    ];
    let second = run(&[&args[..], &[one.state_dir().to_str().unwrap()]].concat(), &[]);
    assert_eq!(second.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&second.stderr).contains("in use"),
        "{second:?}"
    );
}

#[tokio::test]
async fn with_ports_instead_of_addresses_everything_is_on_127_0_0_1() {
    let cloud = Cloud::start(&["--addresses", "ports"]);
    let id = cloud.droplet("web", "web", &["a"]).await;
    cloud
        .until("it is ready", async || {
            cloud.droplet_state(id).await["ready"] == true
        })
        .await;
    let reply = cloud.get(&format!("/v2/droplets/{id}")).await;
    assert_eq!(reply.text("/droplet/networks/v4/0/ip_address"), "127.0.0.1");
    let (balancer, address) = cloud.balancer("a", json!({})).await;
    cloud.members_ready(&balancer, 1).await;
    assert!(address.starts_with("http://127.0.0.1:"));
    assert_eq!(common::client().get(address).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_service_manager_is_told_once_calls_are_taken() {
    let dir = common::images();
    let path = dir.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let mut command = std::process::Command::new(common::PROGRAM);
    command.env("NOTIFY_SOCKET", &path);
    let cloud = Cloud::start_by(command, dir, &[]);
    let mut state = [0; 64];
    let length = manager.recv(&mut state).unwrap();
    assert_eq!(&state[..length], b"READY=1");
    assert_eq!(cloud.get("/v2/droplets").await.status, 200);
}
