//! Names, as hosts resolve them with the resolver that their image has.

use reqwest::Method;
use serde_json::json;

use crate::room::{DEBIAN, Room};

#[tokio::test]
async fn a_host_resolves_the_clouds_names_by_itself_and_sees_a_change() {
    let Some(room) = Room::open("systemd names::a_host_resolves_the_clouds_names").await else {
        return;
    };
    let cloud = &room.cloud;
    cloud.post("/v2/domains", json!({"name": "a.example"})).await;
    let record = json!({"type": "A", "name": "api", "data": "192.0.2.1", "ttl": 30});
    let record = cloud.post("/v2/domains/a.example/records", record).await;
    let record = format!(
        "/v2/domains/a.example/records/{}",
        record.number("/domain_record/id")
    );
    let alias = json!({"type": "CNAME", "name": "www", "data": "api.a.example."});
    cloud.post("/v2/domains/a.example/records", alias).await;
    let id = room.droplet("web-1", json!(DEBIAN), "").await;
    let look_up = async |name: &str| {
        room.ssh(id, &format!("getent ahostsv4 {name} | head -n 1; true"))
            .await
    };
    for name in ["api.a.example", "www.a.example", "WWW.A.Example"] {
        let said = look_up(name).await;
        assert!(said.starts_with("192.0.2.1 "), "{name}: {said}");
    }
    assert_eq!(cloud.put(&record, json!({"data": "192.0.2.2"})).await.status, 200);
    let said = look_up("www.a.example").await;
    assert!(said.starts_with("192.0.2.2 "), "at once: {said}");
    // What is nowhere is said to be so, and so is what only others know: nothing hangs.
    for name in ["none.a.example", "example.com"] {
        let said = room
            .ssh(id, &format!("timeout 20 getent hosts {name}; echo $?"))
            .await;
        assert_eq!(said, "2", "getent's own number for: no such name; {name}");
    }
    let told = room
        .ssh(id, "curl -s http://169.254.169.254/metadata/v1/dns/nameservers")
        .await;
    assert_eq!(told, "67.207.67.2\n67.207.67.3");
    // This machine asks the same server from outside.
    let server = cloud.get("/_local/state").await.text("/name_server");
    assert!(server.starts_with("198.1") && server.ends_with(":53"), "{server}");
    // A file of the host's own stays over a boot, and the cloud's is written anew.
    room.ssh(id, "echo 'nameserver 192.0.2.53' > /etc/resolv.conf")
        .await;
    assert_eq!(room.act(id, json!({"type": "power_cycle"})).await, "completed");
    assert_eq!(
        room.ssh(id, "cat /etc/resolv.conf").await,
        "nameserver 192.0.2.53"
    );
    room.ssh(id, "rm /etc/resolv.conf").await;
    assert_eq!(room.act(id, json!({"type": "power_cycle"})).await, "completed");
    assert!(look_up("api.a.example").await.starts_with("192.0.2.2 "));
    let gone = cloud
        .call(Method::DELETE, "/v2/domains/a.example", json!(null))
        .await;
    assert_eq!(gone.status, 204);
    assert_eq!(look_up("api.a.example").await, "");
}

/// Such a host is spoken to by a neighbour.
#[tokio::test]
async fn a_host_without_public_networking_resolves_names_too() {
    let Some(room) = Room::open("systemd names::a_host_without_public_networking").await else {
        return;
    };
    room.cloud
        .post(
            "/v2/domains",
            json!({"name": "a.example", "ip_address": "192.0.2.1"}),
        )
        .await;
    let said = "#cloud-config\nruncmd:\n- [sh, -c, 'getent ahostsv4 a.example > /dev/console']\n";
    let fields = json!({"user_data": said, "public_networking": false});
    let id = room.droplet_of("private", fields).await;
    let console = room
        .cloud
        .state_dir()
        .join(format!("droplets/{id}/log/console.log"));
    room.cloud
        .until("it has resolved the name", async || {
            std::fs::read_to_string(&console)
                .unwrap_or_default()
                .contains("192.0.2.1")
        })
        .await;
}
