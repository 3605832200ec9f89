//! Firewalls and reserved addresses of systems: who reaches what, from where. Each case by itself, without hosts that boot, is in
//! `src/hosts/systemd/network_tests.rs`.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::common::client;
use crate::room::{DEBIAN, Room};

/// How long nothing is taken for nothing.
const SILENCE: Duration = Duration::from_secs(2);
/// What is looked for: ssh, and the two that `SERVING` opens.
const PORTS: [u16; 3] = [22, 8080, 9090];
const SERVING: &str = "systemd-run -q python3 -m http.server 8080; systemd-run -q python3 -m http.server 9090; \
    until (echo >/dev/tcp/127.0.0.1/8080) && (echo >/dev/tcp/127.0.0.1/9090); do sleep 0.1; done 2>/dev/null";

/// The ports that answer this machine at an address.
fn here(address: &str) -> Vec<u16> {
    let answers = |port: &u16| {
        let address: SocketAddr = format!("{address}:{port}").parse().unwrap();
        TcpStream::connect_timeout(&address, SILENCE).is_ok()
    };
    PORTS.iter().copied().filter(answers).collect()
}

/// The ports that answer a droplet at an address.
async fn there(room: &Room, droplet: u64, address: &str) -> Vec<u16> {
    let scan = format!(
        "for port in 22 8080 9090; do timeout 2 bash -c \"echo >/dev/tcp/{address}/$port\" 2>/dev/null && echo $port; done; true"
    );
    let said = room.ssh(droplet, &scan).await;
    said.lines().map(|port| port.parse().unwrap()).collect()
}

fn tcp(ports: &str, sources: Value) -> Value {
    json!({"protocol": "tcp", "ports": ports, "sources": sources})
}

#[tokio::test]
async fn a_scan_finds_the_ports_that_the_firewalls_of_a_droplet_allow() {
    let Some(room) = Room::open("systemd firewalls::a_scan_finds_the_ports").await else {
        return;
    };
    let vpc = json!({"name": "other", "region": "nyc3", "ip_range": "10.77.0.0/24"});
    let vpc = room.cloud.post("/v2/vpcs", vpc).await.text("/vpc/id");
    let guarded = room.droplet("guarded", json!(DEBIAN), "").await;
    let mate = room.droplet("mate", json!(DEBIAN), "").await;
    let outside = room.droplet_of("outside", json!({"vpc_uuid": vpc})).await;
    let public = room.address(guarded, "public").await;
    let private = room.address(guarded, "private").await;
    room.ssh(guarded, SERVING).await;
    let boot = "cat /proc/sys/kernel/random/boot_id";
    let booted = room.ssh(guarded, boot).await;
    assert_eq!(here(&public), PORTS);
    room.cloud.post("/v2/tags", json!({"name": "guarded"})).await;
    let firewall = json!({"name": "fw", "tags": ["guarded"], "inbound_rules": [
        tcp("22", json!({"addresses": ["0.0.0.0/0"]})),
        tcp("9090", json!({"droplet_ids": [mate]})),
    ]});
    let made = room.cloud.post("/v2/firewalls", firewall).await;
    assert_eq!(made.status, 202, "{made:?}");
    let path = format!("/v2/firewalls/{}", made.text("/firewall/id"));
    assert_eq!(here(&public), PORTS, "nobody has the tag yet");
    let resources = json!({"resources": [{"resource_id": guarded.to_string(), "resource_type": "droplet"}]});
    room.cloud
        .post("/v2/tags/guarded/resources", resources.clone())
        .await;
    let shown = room.cloud.get(&path).await;
    assert_eq!(shown.text("/firewall/status"), "succeeded");
    assert_eq!(here(&public), [22]);
    assert_eq!(there(&room, mate, &public).await, [22, 9090]);
    assert_eq!(there(&room, mate, &private).await, [22, 9090]);
    assert_eq!(there(&room, outside, &public).await, [22]);
    assert_eq!(there(&room, outside, &private).await, [] as [u16; 0]);
    // It may begin nothing, but is told what it is.
    let mate_private = room.address(mate, "private").await;
    assert_eq!(there(&room, guarded, &mate_private).await, [] as [u16; 0]);
    let metadata = "curl -s -m 5 http://169.254.169.254/metadata/v1/id";
    assert_eq!(room.ssh(guarded, metadata).await, guarded.to_string());
    // Another firewall allows more, and a change needs no boot. The balancer connects as itself, not as this machine.
    let check = json!({"protocol": "http", "port": 8080, "path": "/", "check_interval_seconds": 1,
        "response_timeout_seconds": 1, "healthy_threshold": 1, "unhealthy_threshold": 2});
    let (balancer, url) = room
        .cloud
        .balancer("serving:web", json!({"health_check": check}))
        .await;
    let more = json!({"name": "more", "droplet_ids": [guarded],
        "inbound_rules": [tcp("8080", json!({"load_balancer_uids": [balancer]}))],
        "outbound_rules": [{"protocol": "tcp", "ports": "all", "destinations": {"tags": ["serving:web"]}}]});
    assert_eq!(room.cloud.post("/v2/firewalls", more).await.status, 202);
    room.cloud.members_ready(&balancer, 1).await;
    assert_eq!(client().get(&url).send().await.unwrap().status(), 200);
    assert_eq!(here(&public), [22]);
    assert_eq!(there(&room, guarded, &mate_private).await, [22]);
    // It holds from the first moment of the next boot on.
    let cycled = room.act(guarded, json!({"type": "power_cycle"})).await;
    assert_eq!(cycled, "completed");
    room.ssh(guarded, SERVING).await;
    assert_ne!(room.ssh(guarded, boot).await, booted);
    assert_eq!(here(&public), [22]);
    room.cloud.members_ready(&balancer, 1).await;
    let untag = "/v2/tags/guarded/resources";
    room.cloud.call(reqwest::Method::DELETE, untag, resources).await;
    assert_eq!(here(&public), [] as [u16; 0]);
    room.cloud.delete(&path).await;
    let firewalls = room.cloud.get("/v2/firewalls").await.text("/firewalls/0/id");
    room.cloud.delete(&format!("/v2/firewalls/{firewalls}")).await;
    assert_eq!(here(&public), PORTS, "open again");
}

#[tokio::test]
async fn a_reserved_address_leads_to_its_droplet_until_it_is_moved_and_leaves_nothing() {
    let test = "systemd firewalls::a_reserved_address_leads_to_its_droplet";
    let Some(mut room) = Room::open(test).await else {
        return;
    };
    let one = room.droplet("one", json!(DEBIAN), "").await;
    let two = room.droplet("two", json!(DEBIAN), "").await;
    room.ssh(two, "true").await;
    let made = room
        .cloud
        .post("/v2/reserved_ips", json!({"droplet_id": one}))
        .await;
    assert_eq!(made.status, 202, "{made:?}");
    let ip = made.text("/reserved_ip/ip");
    let path = format!("/v2/reserved_ips/{ip}/actions");
    assert_eq!(room.ssh_at(&ip, "hostname").await, "one");
    let active = "curl -s http://169.254.169.254/metadata/v1/reserved_ip/ipv4/active";
    assert_eq!(
        (room.ssh(one, active).await, room.ssh(two, active).await),
        ("true".to_owned(), "false".to_owned())
    );
    assert_eq!(there(&room, two, &ip).await, [22]);
    assert_eq!(room.act(one, json!({"type": "power_cycle"})).await, "completed");
    assert_eq!(room.ssh_at(&ip, "hostname").await, "one");
    let moved = room
        .cloud
        .post(&path, json!({"type": "assign", "droplet_id": two}))
        .await;
    assert_eq!(moved.status, 201, "{moved:?}");
    assert_eq!(room.ssh_at(&ip, "hostname").await, "two");
    let firewall = json!({"name": "fw", "droplet_ids": [two], "inbound_rules": [tcp("9090", json!({"addresses": ["0.0.0.0/0"]}))]});
    assert_eq!(room.cloud.post("/v2/firewalls", firewall).await.status, 202);
    assert_eq!(here(&ip), [] as [u16; 0]);
    // The machine reboots: both hold again before anything else does.
    let traces = room.traces();
    room.cloud.stop(Signal::SIGKILL);
    traces.all_gone();
    room.cloud.start_again();
    let address = room
        .cloud
        .get("/v2/reserved_ips")
        .await
        .text("/reserved_ips/0/ip");
    room.ssh(one, "true").await;
    assert_eq!(here(&address), [] as [u16; 0]);
    let firewalls = room.cloud.get("/v2/firewalls").await.text("/firewalls/0/id");
    assert_eq!(
        room.cloud
            .delete(&format!("/v2/firewalls/{firewalls}"))
            .await
            .status,
        204
    );
    assert_eq!(room.ssh_at(&address, "hostname").await, "two");
    let traces = room.traces();
    assert_eq!(room.cloud.stop(Signal::SIGTERM), Some(0));
    traces.all_gone();
}
