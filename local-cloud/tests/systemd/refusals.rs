//! What can't be, and how it is said.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::common::{PROGRAM, droplet_body};
use crate::room::{Room, missing, orphans};

/// `serve` with new images and state below `dir`, on a machine of which something is changed by a line of shell.
fn serve_where(change: &str, dir: &Path) -> Output {
    let image = dir.join("images/debian");
    std::fs::create_dir_all(&image).unwrap();
    std::fs::write(
        image.join("image.toml"),
        "slug = \"debian\"\n[system]\nsuite = \"bookworm\"\n",
    )
    .unwrap();
    Command::new("unshare")
        .args(["--mount", "--net", "sh", "-c"])
        .arg(format!("ip link set lo up && {change} && exec \"$0\" \"$@\""))
        .args([
            PROGRAM,
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--hosts",
            "systemd",
            "--images",
        ])
        .arg(dir.join("images"))
        .arg("--state")
        .arg(dir.join("state"))
        .arg("--base-images")
        .arg(dir.join("base"))
        .output()
        .unwrap()
}

#[tokio::test]
async fn what_cant_run_here_is_refused_with_a_reason() {
    let Some(room) = Room::open("systemd refusals::what_cant_run_here").await else {
        return;
    };
    let mut large = droplet_body("web-1", "debian", &[]);
    large["size"] = json!("gpu-h100x1-80gb");
    let of_processes = droplet_body("web-1", "web", &[]);
    for (body, reason) in [
        (large, "and this machine"),
        (of_processes, "has no [system] table"),
    ] {
        let reply = room.cloud.post("/v2/droplets", body).await;
        assert_eq!(reply.status, 422, "{reply:?}");
        assert!(reply.text("/message").contains(reason), "{reply:?}");
    }
    let droplets = room.cloud.get("/v2/droplets").await;
    assert_eq!(droplets.at("/droplets"), &json!([]));
}

#[test]
fn without_root_it_says_so() {
    if let Some(missing) = missing() {
        println!("tidepool-skip: systemd refusals::without_root_it_says_so: {missing}");
        return;
    }
    // A copy where everybody may run it.
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("local-cloud");
    std::fs::copy(PROGRAM, &program).unwrap();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), everybody).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(&program)
        .args(["serve", "--hosts", "systemd", "--images", "/", "--state"])
        .arg(dir.path().join("state"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("--hosts systemd: needs root"), "{said}");
}

#[test]
fn a_machine_that_lacks_something_is_told_all_of_it_and_what_to_install() {
    if let Some(missing) = missing() {
        println!("tidepool-skip: systemd refusals::a_machine_that_lacks_something: {missing}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let lacking =
        "mount -t tmpfs none /sys/fs/cgroup && mount --bind /dev/null \"$(command -v systemd-nspawn)\"";
    let output = serve_where(lacking, dir.path());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    for expected in [
        "`systemd-nspawn` is missing; on Debian: apt-get install systemd-container",
        "control groups with the controller `cpu` are not mounted at /sys/fs/cgroup",
    ] {
        assert!(said.contains(expected), "{expected} is not in {said}");
    }
    assert!(!dir.path().join("state").exists(), "nothing is begun");
}

/// Without a network, as far as the program can see.
#[test]
fn a_base_image_that_cant_be_fetched_ends_the_start_and_leaves_nothing() {
    if let Some(missing) = missing() {
        println!("tidepool-skip: systemd refusals::a_base_image_that_cant_be_fetched: {missing}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = serve_where("true", dir.path());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let reason = "the base image bookworm could not be made from this machine's Debian mirror";
    assert!(said.contains(reason), "{said}");
    let kept = std::fs::read_dir(dir.path().join("base")).unwrap().flatten();
    let kept = kept.filter(|entry| entry.path().extension().is_none_or(|name| name != "lock"));
    assert_eq!(kept.count(), 0, "half an image is left");
    let machines = dir.path().join("state/droplets");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(machines.to_str().unwrap()), "{mounts}");
    assert_eq!(orphans(), [] as [&str; 0]);
}

#[tokio::test]
async fn a_droplet_whose_base_image_cant_be_made_is_off_and_its_create_errored() {
    let test = "systemd refusals::a_droplet_whose_base_image_cant_be_made";
    let Some(room) = Room::open(test).await else {
        return;
    };
    let image = room.cloud.dir.path().join("images/future");
    std::fs::create_dir_all(&image).unwrap();
    std::fs::write(
        image.join("image.toml"),
        "slug = \"future\"\n[system]\nsuite = \"nosuchrelease\"\n",
    )
    .unwrap();
    let body = room.body("web-1", &json!({"image": "future"}));
    let reply = room.cloud.post("/v2/droplets", body).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let id = reply.number("/droplet/id");
    room.cloud.settled(id, "off").await;
    let action = format!("/v2/actions/{}", reply.number("/links/actions/0/id"));
    assert_eq!(room.cloud.get(&action).await.text("/action/status"), "errored");
    assert_eq!(room.cloud.delete(&format!("/v2/droplets/{id}")).await.status, 204);
    assert!(!room.cloud.state_dir().join(format!("droplets/{id}")).exists());
}
