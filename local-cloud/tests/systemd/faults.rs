//! Faults that only whole systems have.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::json;

use crate::room::{DEBIAN, Room};

#[tokio::test]
async fn a_slow_disk_is_slow_until_it_is_healed_and_for_nobody_afterwards() {
    let Some(room) = Room::open("systemd faults::a_slow_disk").await else {
        return;
    };
    let bounds = || {
        let file = "/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device";
        std::fs::read_to_string(file).unwrap_or_default()
    };
    let before = bounds();
    let id = room.droplet("web-1", json!(DEBIAN), "").await;
    // In milliseconds, by the host's own clock.
    let write = "a=$(date +%s%N); dd if=/dev/zero of=/root/file bs=1M count=4 conv=fsync 2>/dev/null; \
                 b=$(date +%s%N); echo $(( (b - a) / 1000000 ))";
    room.ssh(id, write).await;
    let args = ["fault", "slow-disk", "web-1", "--bytes-per-sec", "1048576"];
    let failed = room.cloud.command(&args);
    assert!(failed.status.success(), "{failed:?}");
    let took: u64 = room.ssh(id, write).await.parse().unwrap();
    assert!(took > 2_500, "4 MiB at 1 MiB a second took {took} ms");
    let healed = room.cloud.command(&["fault", "heal", "web-1"]);
    assert!(healed.status.success(), "{healed:?}");
    assert_eq!(bounds(), before);
    room.cloud.command(&args);
    assert_eq!(room.act(id, json!({"type": "power_off"})).await, "completed");
    assert_eq!(bounds(), before, "nothing is left for who gets the device next");
}

#[tokio::test]
async fn a_host_asks_again_when_its_metadata_is_late_or_fails() {
    let Some(room) = Room::open("systemd faults::a_host_asks_again").await else {
        return;
    };
    let armed = room
        .cloud
        .command(&["fault", "metadata", "--status", "500", "--count", "3"]);
    assert!(armed.status.success(), "{armed:?}");
    let user_data = "#cloud-config\nruncmd:\n- [sh, -c, 'echo told > /root/told']\n";
    let failing = room.droplet("failing", json!(DEBIAN), user_data).await;
    room.initialised(failing).await;
    assert_eq!(room.ssh(failing, "cat /root/told").await, "told");
    let faults = room.cloud.get("/_local/faults").await;
    assert_eq!(faults.at("/faults/metadata"), &json!(null));
    let armed = room
        .cloud
        .command(&["fault", "metadata", "--secs", "4", "--count", "2"]);
    assert!(armed.status.success(), "{armed:?}");
    let late = room.droplet("late", json!(DEBIAN), user_data).await;
    room.initialised(late).await;
    assert_eq!(room.ssh(late, "cat /root/told").await, "told");
}

#[tokio::test]
async fn a_boot_that_hangs_is_active_answers_nobody_and_obeys_the_power_switch_alone() {
    let test = "systemd faults::a_boot_that_hangs";
    let Some(room) = Room::open_with(test, &["--stop-grace-secs", "2"]).await else {
        return;
    };
    let armed = room.cloud.command(&["fault", "hang-boot"]);
    assert!(armed.status.success(), "{armed:?}");
    let id = room.droplet("web-1", json!(DEBIAN), "").await;
    let console = room
        .cloud
        .state_dir()
        .join(format!("droplets/{id}/log/console.log"));
    room.cloud
        .until("it hangs", async || {
            std::fs::read_to_string(&console).is_ok_and(|text| text.contains("This boot hangs"))
        })
        .await;
    let address: SocketAddr = format!("{}:22", room.address(id, "public").await)
        .parse()
        .unwrap();
    TcpStream::connect_timeout(&address, Duration::from_secs(2)).unwrap_err();
    assert_eq!(room.act(id, json!({"type": "shutdown"})).await, "completed");
    let droplet = room.cloud.get(&format!("/v2/droplets/{id}")).await;
    assert_eq!(droplet.text("/droplet/status"), "active");
    assert_eq!(room.act(id, json!({"type": "power_cycle"})).await, "completed");
    assert_eq!(room.ssh(id, "hostname").await, "web-1");
}
