//! A droplet's disk has the size's bound, and what becomes of it.

use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::room::{DEBIAN, Room};

/// What is left of the disk, but for 64 MiB, without writing any of it.
const FILL: &str =
    "fallocate -l $(( $(df --output=avail -B1 / | tail -1) - 64*1024*1024 )) /root/fill && echo filled";
/// Some more than that, and what then still fits in between.
const WRITE: &str = "dd if=/dev/zero of=/root/more bs=1M count=100 2>&1; sync; \
    dd if=/dev/zero of=/root/last bs=4k count=10000 conv=fsync 2>&1";
const SIZE_GIB: &str = "df --output=size -B1G / | tail -1 | tr -d ' '";

#[tokio::test]
async fn a_disk_that_fills_in_mid_build_is_full_for_that_host_alone() {
    let test = "systemd disks::a_disk_that_fills_in_mid_build";
    let Some(room) = Room::open_with(test, &["--packages"]).await else {
        return;
    };
    let full = room.droplet("full", json!(DEBIAN), "").await;
    let other = room.droplet("other", json!(DEBIAN), "").await;
    assert_eq!(room.ssh(full, SIZE_GIB).await, "25");
    room.ssh(full, "apt-get update -q").await;
    assert_eq!(room.ssh(full, FILL).await, "filled");
    let said = room.ssh(full, WRITE).await;
    assert!(said.contains("No space left on device"), "{said}");
    let install = "DEBIAN_FRONTEND=noninteractive apt-get install -y -q hello 2>&1; echo $?";
    let said = room.ssh(full, install).await;
    assert_eq!(said.lines().last(), Some("100"), "{said}");
    let said = room.ssh(other, WRITE).await;
    assert!(said.contains("100+0 records out"), "{said}");
    let volume = room
        .cloud
        .state_dir()
        .join(format!("droplets/{full}/volume.ext4"));
    let used = volume.metadata().unwrap().blocks() * 512;
    assert!(used < 2 << 30, "{used} bytes of this machine");
    room.ssh(full, "rm /root/fill /root/more /root/last").await;
    let said = room.ssh(full, install).await;
    assert_eq!(said.lines().last(), Some("0"), "{said}");
}

#[tokio::test]
async fn a_resize_with_its_disk_gives_it_the_new_room_and_keeps_its_files() {
    let Some(room) = Room::open("systemd disks::a_resize_with_its_disk").await else {
        return;
    };
    let id = room
        .droplet_of("web-1", json!({"size": "s-1vcpu-512mb-10gb"}))
        .await;
    assert_eq!(
        room.ssh(id, &format!("echo kept > /root/file; {SIZE_GIB}")).await,
        "10"
    );
    assert_eq!(room.act(id, json!({"type": "power_off"})).await, "completed");
    let order = json!({"type": "resize", "size": "s-1vcpu-1gb", "disk": true});
    assert_eq!(room.act(id, order).await, "completed");
    assert_eq!(room.act(id, json!({"type": "power_on"})).await, "completed");
    assert_eq!(
        room.ssh(id, &format!("cat /root/file; {SIZE_GIB}")).await,
        "kept\n25"
    );
}
