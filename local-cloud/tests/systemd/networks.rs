//! Private networks are apart, and a host has its own addresses alone, whatever root in it sets.

use serde_json::json;

use crate::room::{DEBIAN, Room};

/// The other private network.
const RANGE: &str = "10.77.0.0/24";

/// What stands at the beginning of what sshd says at an address, or `no`.
fn greeting_of(address: &str) -> String {
    format!("timeout 2 bash -c 'head -c 4 </dev/tcp/{address}/22' 2>/dev/null || echo no")
}

#[tokio::test]
async fn root_in_a_host_reaches_no_other_private_network_by_a_route_or_an_address() {
    let test = "systemd networks::root_in_a_host_reaches_no_other_private_network";
    let Some(room) = Room::open(test).await else {
        return;
    };
    let vpc = json!({"name": "other", "region": "nyc3", "ip_range": RANGE});
    let vpc = room.cloud.post("/v2/vpcs", vpc).await.text("/vpc/id");
    let inside = room.droplet_of("inside", json!({"vpc_uuid": vpc})).await;
    let mate = room.droplet_of("mate", json!({"vpc_uuid": vpc})).await;
    let outside = room.droplet("outside", json!(DEBIAN), "").await;
    let (private, public) = (
        room.address(inside, "private").await,
        room.address(inside, "public").await,
    );
    room.ssh(inside, "true").await;
    assert_eq!(room.ssh(mate, &greeting_of(&private)).await, "SSH-");
    assert_eq!(room.ssh(outside, &greeting_of(&public)).await, "SSH-");
    let of_own = |address: String| address.rsplit_once('.').unwrap().0.to_owned() + ".1";
    let gateways = (
        of_own(room.address(outside, "public").await),
        of_own(room.address(outside, "private").await),
    );
    let mut across = Vec::new();
    for (what, is) in [
        ("route", format!("{RANGE} via {}", gateways.0)),
        ("route", format!("{RANGE} via {}", gateways.1)),
        ("route", format!("{RANGE} dev eth0")),
        ("route", format!("{RANGE} dev eth1")),
        ("addr", "10.77.0.200/24 dev eth0".to_owned()),
        ("addr", "10.77.0.200/24 dev eth1".to_owned()),
    ] {
        let greeting = greeting_of(&private);
        let attempt = format!("ip {what} add {is} || exit 1; {greeting}; ip {what} del {is}");
        if room.ssh(outside, &attempt).await != "no" {
            across.push(format!("ip {what} add {is}"));
        }
    }
    assert_eq!(across, [] as [&str; 0]);
}

#[tokio::test]
async fn a_host_that_takes_a_neighbours_address_is_told_nothing_of_the_neighbours() {
    let test = "systemd networks::a_host_that_takes_a_neighbours_address";
    let Some(room) = Room::open(test).await else {
        return;
    };
    let victim = room.droplet("victim", json!(DEBIAN), "").await;
    let thief = room.droplet("thief", json!(DEBIAN), "").await;
    let address = room.address(victim, "public").await;
    let own = room
        .ssh(thief, "curl -s http://169.254.169.254/metadata/v1/id")
        .await;
    assert_eq!(own, thief.to_string());
    // With the hardware address, too, the bridge takes it for the neighbour. Its own comes back before it says what it was told.
    let mac = room.ssh(victim, "cat /sys/class/net/eth0/address").await;
    let steal = format!(
        "own=$(cat /sys/class/net/eth0/address); ip link set eth0 address {mac}; ip addr add {address}/32 dev eth0 || exit 1; \
         said=$(curl -s -m 3 --interface {address} http://169.254.169.254/metadata/v1/id || echo nothing); \
         ip addr del {address}/32 dev eth0; ip link set eth0 address $own; echo $said"
    );
    assert_eq!(room.ssh(thief, &steal).await, "nothing");
    assert_eq!(room.ssh(victim, "hostname").await, "victim");
}
