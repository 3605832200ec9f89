//! What not every machine has: lxcfs, and a mirror with the next release.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::room::Room;

/// A base image takes minutes to make, once.
const BASE_IMAGE_PATIENCE: Duration = Duration::from_secs(900);

#[tokio::test]
async fn with_lxcfs_a_host_sees_its_own_memory_and_processors() {
    let test = "systemd variants::with_lxcfs";
    if !Path::new("/var/lib/lxcfs/proc/stat").exists() {
        println!("tidepool-skip: {test}: lxcfs does not run (apt-get install lxcfs)");
        return;
    }
    let Some(room) = Room::open(test).await else {
        return;
    };
    for (name, size, vcpus, mib) in [
        ("small", "s-1vcpu-1gb", 1_u64, 1_024_u64),
        ("large", "s-2vcpu-2gb", 2, 2_048),
    ] {
        if !has_processors(vcpus) {
            println!("tidepool-skip: {test} of {vcpus} processors: this machine has not so many");
            continue;
        }
        let id = room.droplet_of(name, json!({"size": size})).await;
        for (look, expected) in [
            ("awk '/^MemTotal:/ {print $2 / 1024}' /proc/meminfo", mib),
            ("free -m | awk '/^Mem:/ {print $2}'", mib),
            ("nproc", vcpus),
            ("grep -c ^processor /proc/cpuinfo", vcpus),
            ("grep -c '^cpu[0-9]' /proc/stat", vcpus),
        ] {
            assert_eq!(room.ssh(id, look).await, expected.to_string(), "{size}: {look}");
        }
    }
}

#[tokio::test]
async fn debian_13_boots_and_is_initialised_as_debian_12_is() {
    let test = "systemd variants::debian_13_boots";
    if !mirror_has("trixie") {
        println!("tidepool-skip: {test}: this machine's mirror has no trixie");
        return;
    }
    let Some(room) = Room::open(test).await else {
        return;
    };
    let image = room.cloud.dir.path().join("images/debian-13");
    std::fs::create_dir_all(&image).unwrap();
    let manifest = "slug = \"debian-13\"\ndistribution = \"Debian\"\n[system]\nsuite = \"trixie\"\n";
    std::fs::write(image.join("image.toml"), manifest).unwrap();
    let user_data = "#cloud-config\nruncmd:\n- [sh, -c, 'echo told > /root/told']\n";
    let body = room.body("web-1", &json!({"image": "debian-13", "user_data": user_data}));
    let reply = room.cloud.post("/v2/droplets", body).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let path = format!("/v2/droplets/{}", reply.number("/droplet/id"));
    let deadline = Instant::now() + BASE_IMAGE_PATIENCE;
    while room.cloud.get(&path).await.text("/droplet/status") == "new" {
        assert!(Instant::now() < deadline, "no base image");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let id = reply.number("/droplet/id");
    room.initialised(id).await;
    let look = ". /etc/os-release; echo $VERSION_CODENAME; cat /root/told; hostname";
    assert_eq!(room.ssh(id, look).await, "trixie\ntold\nweb-1");
}

fn has_processors(count: u64) -> bool {
    std::thread::available_parallelism().is_ok_and(|all| u64::try_from(all.get()).unwrap() >= count)
}

/// Whether the machine's mirror has a release of Debian.
fn mirror_has(suite: &str) -> bool {
    let format = "$(REPO_URI) $(RELEASE) $(ORIGIN)";
    let targets = Command::new("apt-get")
        .args(["indextargets", "--format", format, "Created-By: Packages"])
        .output();
    let Ok(targets) = targets else { return false };
    let targets = String::from_utf8_lossy(&targets.stdout).into_owned();
    let mirror = targets.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (uri, release) = (fields.next()?, fields.next()?);
        (fields.next() == Some("Debian") && !release.contains('-')).then(|| uri.to_owned())
    });
    let dir = tempfile::tempdir().unwrap();
    mirror.is_some_and(|mirror| {
        Command::new("/usr/lib/apt/apt-helper")
            .args(["-qq", "-o", "APT::Sandbox::User=root", "download-file"])
            .arg(format!("{mirror}dists/{suite}/InRelease"))
            .arg(dir.path().join("InRelease"))
            .status()
            .is_ok_and(|status| status.success())
    })
}
