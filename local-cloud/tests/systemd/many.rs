//! Many hosts at once, and what one takes that does nothing.

use std::collections::BTreeSet;

use serde_json::json;

use crate::room::Room;

/// Hosts of one create.
const HOSTS: usize = 10;
/// What a host may take that runs nothing but its system.
const IDLE_BYTES_MAX: u64 = 40_000_000;

#[tokio::test]
async fn ten_hosts_created_at_once_all_work_and_each_idles_in_40_megabytes() {
    let Some(room) = Room::open("systemd many::ten_hosts_created_at_once").await else {
        return;
    };
    let names: Vec<String> = (0..HOSTS).map(|nth| format!("web-{nth}")).collect();
    let body = room.body("", &json!({"names": names}));
    let reply = room.cloud.post("/v2/droplets", body).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let made = reply.at("/droplets").as_array().unwrap();
    let ids: Vec<u64> = made
        .iter()
        .map(|droplet| droplet["id"].as_u64().unwrap())
        .collect();
    let mut seen = BTreeSet::new();
    for (id, name) in ids.iter().zip(&names) {
        room.cloud.settled(*id, "active").await;
        room.initialised(*id).await;
        assert_eq!(&room.ssh(*id, "hostname").await, name);
        for own in [
            "cat /etc/machine-id",
            "cat /etc/ssh/ssh_host_ed25519_key.pub",
            "ip -4 -o addr show eth0",
            "ip -4 -o addr show eth1",
        ] {
            assert!(
                seen.insert(room.ssh(*id, own).await),
                "{name}: {own} is another one's, too"
            );
        }
    }
    assert_eq!(seen.len(), 4 * HOSTS);
    let traces = room.traces();
    let heavy = || {
        ids.iter()
            .filter(|id| traces.memory(**id) > IDLE_BYTES_MAX)
            .count()
    };
    // What the logins left ends a little later.
    room.cloud
        .until("each idles in 40 MB", async || heavy() == 0)
        .await;
}
