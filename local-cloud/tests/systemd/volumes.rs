//! Volumes of droplets that are systems: disks that outlive them.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::room::{DEBIAN, Room, disk_of_machine};

/// Where a droplet finds the volume `data`, as on DigitalOcean.
const DEVICE: &str = "/dev/disk/by-id/scsi-0DO_Volume_data";
/// A mount unit that knows nothing of where it runs, and what has it mount at each boot.
const MOUNT_UNIT: &str = "printf '%s\\n' '[Unit]' 'Before=ssh.service' '[Mount]' \
    'What=/dev/disk/by-id/scsi-0DO_Volume_data' 'Where=/srv/data' 'Type=ext4' 'Options=noatime' \
    '[Install]' 'WantedBy=multi-user.target' > /etc/systemd/system/srv-data.mount && \
    systemctl daemon-reload && systemctl enable --now srv-data.mount 2>/dev/null; findmnt -no SOURCE,FSTYPE,OPTIONS /srv/data";

async fn volume(room: &Room, fields: Value) -> String {
    let mut body = json!({"name": "data", "region": "nyc3", "size_gigabytes": 1, "filesystem_type": "ext4",
        "filesystem_label": "dbdata"});
    for (field, value) in fields.as_object().unwrap() {
        body[field] = value.clone();
    }
    let reply = room.cloud.post("/v2/volumes", body).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.text("/volume/id")
}

/// Does an action on a volume to its end.
async fn act(room: &Room, volume: &str, body: Value) {
    let reply = room
        .cloud
        .post(&format!("/v2/volumes/{volume}/actions"), body)
        .await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let action = format!("/v2/actions/{}", reply.number("/action/id"));
    let mut status = String::new();
    room.cloud
        .until("the action ends", async || {
            status = room.cloud.get(&action).await.text("/action/status");
            status != "in-progress"
        })
        .await;
    assert_eq!(status, "completed");
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, in its order")]
async fn a_volume_is_a_disk_that_a_mount_unit_finds_and_that_outlives_its_droplets() {
    let test = "systemd volumes::a_volume_is_a_disk";
    let Some(mut room) = Room::open(test).await else {
        return;
    };
    let traces = room.traces();
    let data = volume(&room, json!({})).await;
    let id = room.droplet("db-1", json!(DEBIAN), "").await;
    assert_eq!(
        room.ssh(id, &format!("ls {DEVICE} 2>/dev/null; echo done")).await,
        "done"
    );
    act(&room, &data, json!({"type": "attach", "droplet_id": id})).await;
    let found = room
        .ssh(
            id,
            &format!("stat -c %F {DEVICE}; blkid -o value -s LABEL {DEVICE}"),
        )
        .await;
    assert_eq!(found, "block special file\ndbdata");
    let mounted = room.ssh(id, MOUNT_UNIT).await;
    assert!(
        mounted.starts_with(&format!("{DEVICE} ext4")) && mounted.contains("noatime"),
        "{mounted}"
    );
    assert_eq!(
        room.ssh(
            id,
            "echo kept > /srv/data/file; df --output=size -BM /srv/data | tail -1 | tr -dc 0-9"
        )
        .await
        .len(),
        3
    );
    // It has its disk at each boot, whoever asks for that, and after a rebuild.
    room.ssh(id, "cat /proc/sys/kernel/random/boot_id > /srv/data/boot")
        .await;
    assert_eq!(room.act(id, json!({"type": "power_cycle"})).await, "completed");
    let again = "cat /srv/data/file; cmp -s /srv/data/boot /proc/sys/kernel/random/boot_id || echo another";
    assert_eq!(room.ssh(id, again).await, "kept\nanother");
    room.ssh(id, "cat /proc/sys/kernel/random/boot_id > /srv/data/boot; sync")
        .await;
    room.order(id, "systemctl reboot").await;
    room.cloud
        .until("it has rebooted", async || {
            room.ssh(id, again).await == "kept\nanother"
        })
        .await;
    assert_eq!(
        room.act(id, json!({"type": "rebuild", "image": DEBIAN})).await,
        "completed"
    );
    let by_hand = format!("ls /srv; mkdir -p /mnt/data && mount {DEVICE} /mnt/data && cat /mnt/data/file");
    assert_eq!(room.ssh(id, &by_hand).await, "kept");
    // A snapshot holds what was written and not yet on the disk.
    room.ssh(id, "echo latest > /mnt/data/latest").await;
    let path = format!("/v2/volumes/{data}/snapshots");
    let snapshot = room.cloud.post(&path, json!({"name": "s"})).await;
    assert_eq!(snapshot.status, 201, "{snapshot:?}");
    act(&room, &data, json!({"type": "resize", "size_gigabytes": 2})).await;
    assert_eq!(
        room.ssh(id, &format!("blockdev --getsize64 {DEVICE}")).await,
        (2_u64 << 30).to_string()
    );
    // Taken away while it is in use, as it is with the real one.
    room.ssh(id, "systemd-run tail -f /mnt/data/file 2>/dev/null")
        .await;
    act(&room, &data, json!({"type": "detach", "droplet_id": id})).await;
    let gone = format!("ls {DEVICE} 2>/dev/null; findmnt -n /mnt/data; echo done");
    assert_eq!(room.ssh(id, &gone).await, "done");
    let path = format!("/v2/volumes/{data}");
    assert_eq!(room.cloud.get(&path).await.at("/volume/droplet_ids"), &json!([]));
    let copy = volume(
        &room,
        json!({"name": "copy", "size_gigabytes": 3, "snapshot_id": snapshot.text("/snapshot/id")}),
    )
    .await;
    let other = room.droplet_of("db-2", json!({"volumes": [data, copy]})).await;
    let read = format!(
        "mkdir /mnt/a /mnt/b; mount {DEVICE} /mnt/a && mount /dev/disk/by-id/scsi-0DO_Volume_copy /mnt/b && cat /mnt/a/file /mnt/b/latest"
    );
    assert_eq!(room.ssh(other, &read).await, "kept\nlatest");
    assert_eq!(room.cloud.delete(&path).await.status, 409);
    for droplet in [id, other] {
        assert_eq!(
            room.cloud.delete(&format!("/v2/droplets/{droplet}")).await.status,
            204
        );
    }
    for volume in [&data, &copy] {
        assert_eq!(
            room.cloud.delete(&format!("/v2/volumes/{volume}")).await.status,
            204
        );
    }
    let left = traces
        .found()
        .into_iter()
        .filter(|line| line.contains("/volumes/"));
    assert_eq!(left.collect::<Vec<String>>(), [] as [&str; 0]);
    let files = std::fs::read_dir(room.cloud.state_dir().join("volumes")).unwrap();
    assert_eq!(files.count(), 0);
    assert_eq!(room.cloud.stop(Signal::SIGTERM), Some(0));
    assert_eq!(traces.found(), [] as [&str; 0]);
}

#[tokio::test]
async fn after_kill_9_no_loop_device_is_left_and_the_next_start_has_the_disk() {
    let test = "systemd volumes::after_kill_9";
    let Some(mut room) = Room::open(test).await else {
        return;
    };
    let traces = room.traces();
    let data = volume(&room, json!({})).await;
    let id = room.droplet_of("db-1", json!({"volumes": [data]})).await;
    let mount = format!("mkdir -p /mnt/data && mount {DEVICE} /mnt/data");
    room.ssh(id, &format!("{mount} && echo kept > /mnt/data/file && sync"))
        .await;
    assert!(traces.found().iter().any(|line| line.contains("/volumes/")));
    room.cloud.stop(Signal::SIGKILL);
    traces.all_gone();
    std::fs::write(
        room.cloud.state_dir().join("volumes/left.new"),
        "of a create that was cut short",
    )
    .unwrap();
    room.cloud.start_again();
    assert_eq!(
        room.ssh(id, &format!("{mount}; cat /mnt/data/file")).await,
        "kept"
    );
    assert!(!room.cloud.state_dir().join("volumes/left.new").exists());
    assert_eq!(room.cloud.stop(Signal::SIGTERM), Some(0));
    assert_eq!(traces.found(), [] as [&str; 0]);
}

/// Root in a host writes a file system as it likes, with nodes of devices in it.
#[tokio::test]
async fn a_node_that_is_written_into_a_volume_opens_no_disk_of_the_machine() {
    let test = "systemd volumes::a_node_that_is_written_into_a_volume";
    if !std::path::Path::new("/sys/fs/cgroup/devices").exists() {
        println!("tidepool-skip: {test}: this machine's control groups know no devices");
        return;
    }
    let Some((major, minor)) = disk_of_machine() else {
        println!("tidepool-skip: {test}: this machine has no disk that can be opened");
        return;
    };
    let Some(room) = Room::open(test).await else {
        return;
    };
    let data = volume(&room, json!({})).await;
    let id = room.droplet_of("db-1", json!({"volumes": [data]})).await;
    let write = format!(
        "debugfs -w -R 'mknod disk b {major} {minor}' {DEVICE} >/dev/null 2>&1; mkdir -p /srv/data; mount {DEVICE} /srv/data; \
         stat -c %F /srv/data/disk; head -c 1 /srv/data/disk 2>&1 | tr -d '\\0'"
    );
    assert_eq!(
        room.ssh(id, &write).await,
        "block special file\nhead: cannot open '/srv/data/disk' for reading: Operation not permitted"
    );
}
