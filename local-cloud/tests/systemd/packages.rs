//! What a host installs where there is no way out: Debian's packages, from the cloud's own network.

use std::net::{Ipv4Addr, SocketAddr};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::room::{DEBIAN, Listening, Room, own_address};

/// A package without dependencies, whose program prints a line.
const INSTALL: &str =
    "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q hello >&2 && hello";
const SAID: &str = "Hello, world!";

/// As a builder of images does it: create with a key and tags, install, shut down, snapshot, destroy.
#[tokio::test]
async fn a_build_host_installs_packages_and_its_snapshot_has_them_and_nothing_else_of_it() {
    let test = "systemd packages::a_build_host_installs_packages";
    let Some(room) = Room::open_with(test, &["--packages"]).await else {
        return;
    };
    let build = room.droplet("packer-1", json!(DEBIAN), "").await;
    room.initialised(build).await;
    let said = room.ssh(build, INSTALL).await;
    assert_eq!(said.lines().last(), Some(SAID), "{said}");
    let gateway = gateway(&room, build).await;
    let addresses = room
        .ssh(build, "grep -rhoE '[a-z]+://[^/ ]+' /etc/apt | sort -u")
        .await;
    assert_eq!(
        addresses,
        format!("http://{gateway}"),
        "nothing of the machine's mirror"
    );
    assert_eq!(room.act(build, json!({"type": "shutdown"})).await, "completed");
    room.cloud.settled(build, "off").await;
    let order = json!({"type": "snapshot", "name": "built"});
    assert_eq!(room.act(build, order).await, "completed");
    let snapshots = room.cloud.get(&format!("/v2/droplets/{build}/snapshots")).await;
    let snapshot = snapshots.number("/snapshots/0/id");
    let layer = room.cloud.state_dir().join(format!("snapshots/{snapshot}/disk"));
    assert!(layer.join("usr/bin/hello").exists());
    let lists = std::fs::read_dir(layer.join("etc/apt/sources.list.d")).unwrap();
    assert_eq!(lists.count(), 0, "the cloud's own list is in the snapshot");
    assert_eq!(
        room.cloud.delete(&format!("/v2/droplets/{build}")).await.status,
        204
    );
    let clone = room.droplet("clone", json!(snapshot), "").await;
    assert_eq!(room.ssh(clone, "hello").await, SAID);
}

#[tokio::test]
async fn there_is_still_no_other_way_out_and_without_the_switch_none() {
    let test = "systemd packages::there_is_still_no_other_way_out";
    let Some(mut room) = Room::open_with(test, &["--packages"]).await else {
        return;
    };
    let traces = room.traces();
    let id = room.droplet("web-1", json!(DEBIAN), "").await;
    let gateway = gateway(&room, id).await;
    let status = "curl -s -m 2 -o /dev/null -w '%{http_code}' --path-as-is";
    for (path, expected) in [
        ("bookworm/dists/bookworm/InRelease", "200"),
        ("bookworm/pool/main/n/none/none_1_all.deb", "404"),
        ("bookworm/dists/../../../etc/passwd", "404"),
        ("", "404"),
    ] {
        let said = room.ssh(id, &format!("{status} http://{gateway}/{path}")).await;
        assert_eq!(said, expected, "{path}");
    }
    let packages: SocketAddr = format!("{gateway}:80").parse().unwrap();
    assert_eq!(room.reached(id, &[packages]).await, [packages]);
    let anywhere = Listening::on(Ipv4Addr::UNSPECIFIED);
    let [a, b, c, _] = gateway.parse::<Ipv4Addr>().unwrap().octets();
    let others = [Some(Ipv4Addr::new(a, b, c + 1, 77)), own_address()];
    for address in others.into_iter().flatten() {
        let other = anywhere.at(address);
        assert_eq!(room.reached(id, &[other]).await, [] as [SocketAddr; 0], "{other}");
    }
    assert_eq!(room.cloud.stop(Signal::SIGTERM), Some(0));
    assert_eq!(traces.found(), [] as [&str; 0]);
    room.cloud.start_again_without("--packages");
    let said = room.ssh(id, "ls /etc/apt/sources.list.d").await;
    assert_eq!(said, "");
    assert_eq!(room.reached(id, &[packages]).await, [] as [SocketAddr; 0]);
}

/// The address at which a host has its cloud.
async fn gateway(room: &Room, id: u64) -> String {
    let address = room.address(id, "public").await;
    let (network, _) = address.rsplit_once('.').unwrap();
    format!("{network}.1")
}
