//! What can't be, and how it is said.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::common::{PROGRAM, Reply, droplet_body};
use crate::room::{DEBIAN, Room, missing, orphans};

/// A size with more processors than a machine is likely to have.
const LARGE: &str = "gpu-h100x1-80gb";

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
async fn a_size_larger_than_the_machine_is_refused_at_a_create_and_at_a_resize() {
    let test = "systemd refusals::a_size_larger_than_the_machine";
    let Some(room) = Room::open(test).await else {
        return;
    };
    let is_refused = |reply: &Reply| {
        assert_eq!(reply.status, 422, "{reply:?}");
        let message = reply.text("/message");
        assert!(
            message.starts_with("the size has 20 vCPUs, and this machine ")
                && message.ends_with(": choose a smaller one"),
            "{message}"
        );
    };
    let mut large = droplet_body("web-1", DEBIAN, &[]);
    large["size"] = json!(LARGE);
    is_refused(&room.cloud.post("/v2/droplets", large).await);
    let droplets = room.cloud.get("/v2/droplets").await;
    assert_eq!(droplets.at("/droplets"), &json!([]));
    let id = room.droplet("web-1", json!(DEBIAN), "").await;
    assert_eq!(room.act(id, json!({"type": "power_off"})).await, "completed");
    let actions = format!("/v2/droplets/{id}/actions");
    let before = room.cloud.get(&actions).await.number("/meta/total");
    for disk in [true, false] {
        let order = json!({"type": "resize", "size": LARGE, "disk": disk});
        is_refused(&room.cloud.post(&actions, order).await);
    }
    assert_eq!(room.cloud.get(&actions).await.number("/meta/total"), before);
    let droplet = room.cloud.get(&format!("/v2/droplets/{id}")).await;
    assert_eq!(droplet.text("/droplet/size_slug"), "s-1vcpu-1gb");
    assert_eq!(room.act(id, json!({"type": "power_on"})).await, "completed");
}

#[tokio::test]
async fn an_image_of_processes_is_refused_with_what_it_lacks() {
    let Some(room) = Room::open("systemd refusals::an_image_of_processes").await else {
        return;
    };
    let body = droplet_body("web-1", "web", &[]);
    let reply = room.cloud.post("/v2/droplets", body).await;
    assert_eq!(reply.status, 422, "{reply:?}");
    assert!(
        reply.text("/message").contains("has no [system] table"),
        "{reply:?}"
    );
    let droplets = room.cloud.get("/v2/droplets").await;
    assert_eq!(droplets.at("/droplets"), &json!([]));
}

#[test]
fn without_root_it_says_so_and_leaves_nothing() {
    if let Some(missing) = missing() {
        println!("tidepool-skip: systemd refusals::without_root_it_says_so: {missing}");
        return;
    }
    // A copy where everybody may run it, and write what they like.
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("local-cloud");
    std::fs::copy(PROGRAM, &program).unwrap();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(dir.path(), everybody).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(&program)
        .args(["serve", "--hosts", "systemd", "--images", "/", "--state"])
        .arg(dir.path().join("state"))
        .arg("--base-images")
        .arg(dir.path().join("base"))
        .env("HOME", dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    let advice = "--hosts systemd: needs root: start it with sudo, or use --hosts process";
    assert!(said.contains(advice), "{said}");
    let left = std::fs::read_dir(dir.path()).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.path()).collect();
    assert_eq!(left, [program]);
    assert_eq!(orphans(), [] as [&str; 0]);
}

#[test]
fn a_machine_that_lacks_something_is_told_all_of_it_and_what_to_install() {
    if let Some(missing) = missing() {
        println!("tidepool-skip: systemd refusals::a_machine_that_lacks_something: {missing}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        (
            "os-release",
            "ID=debian\nVERSION_ID=\"11\"\nPRETTY_NAME=\"Debian GNU/Linux 11 (bullseye)\"\n",
        ),
        (
            "nft",
            "#!/bin/sh\necho 'Error: Could not process rule: Operation not supported' >&2; exit 1\n",
        ),
        (
            "mount",
            "#!/bin/sh\necho \"mount: unknown filesystem type 'overlay'.\" >&2; exit 32\n",
        ),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, everybody).unwrap();
    }
    let lacking = format!(
        "cd '{}' && mount -t tmpfs none /sys/fs/cgroup && mount --bind /dev/null \"$(command -v systemd-nspawn)\" && \
         mount --bind os-release \"$(realpath /etc/os-release)\" && mount --bind nft \"$(realpath \"$(command -v nft)\")\" && \
         mount --bind mount \"$(realpath \"$(command -v mount)\")\"",
        dir.path().display()
    );
    let output = serve_where(&lacking, dir.path());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    for expected in [
        "`systemd-nspawn` is missing; on Debian: apt-get install systemd-container",
        "control groups with the controller `cpu` are not mounted at /sys/fs/cgroup",
        "needs Debian 12 or later, from whose mirror it makes base images, and this is Debian GNU/Linux 11 (bullseye)",
        "the kernel has no overlayfs, which hosts' disks are put together by: modprobe overlay",
        "unknown filesystem type 'overlay'",
        "the kernel's nf_tables can't hold the rules that keep hosts apart: modprobe nf_tables",
        "Operation not supported",
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
    let reason = "the base image bookworm could not be made from this machine's Debian mirror: see that `apt-get update` works on this \
                  machine and that the mirror has bookworm, then try again";
    assert!(said.contains(reason), "{said}");
    // And what the one that made it said of that.
    assert!(said.contains("mmdebstrap") && said.contains("E: "), "{said}");
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
    let log = room.cloud.log();
    for expected in [
        "the base image nosuchrelease could not be made",
        "that the mirror has nosuchrelease, then try again",
        "mmdebstrap --quiet",
    ] {
        assert!(log.contains(expected), "{expected} is not in {log}");
    }
    assert_eq!(room.cloud.delete(&format!("/v2/droplets/{id}")).await.status, 204);
    assert!(!room.cloud.state_dir().join(format!("droplets/{id}")).exists());
}
