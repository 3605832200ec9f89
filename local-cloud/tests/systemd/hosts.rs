//! What a droplet is when it is a system.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use serde_json::json;

use crate::common::client;
use crate::room::{DEBIAN, Listening, Room, WEB, disk_of_machine, own_address};

#[tokio::test]
async fn a_droplet_is_a_system_with_its_own_size_that_the_accounts_key_opens() {
    let Some(room) = Room::open("systemd hosts::a_droplet_is_a_system").await else {
        return;
    };
    let user_data = "#cloud-config\nruncmd:\n- [sh, -c, 'echo told > /root/told']\n";
    let id = room.droplet("web-1", json!(DEBIAN), user_data).await;
    room.initialised(id).await;
    let (public, private) = (
        room.address(id, "public").await,
        room.address(id, "private").await,
    );
    let said = room
        .ssh(id, "cat /proc/1/comm; hostname; cat /root/told; ip -4 -o addr")
        .await;
    let mut lines = said.lines();
    assert_eq!(
        (lines.next(), lines.next(), lines.next()),
        (Some("systemd"), Some("web-1"), Some("told"))
    );
    let vpc = room.cloud.get("/v2/vpcs").await.text("/vpcs/0/ip_range");
    assert!(
        said.contains(&format!("{public}/24 ")) && public != private,
        "{said}"
    );
    let prefix = vpc.split_once('/').unwrap().1;
    assert!(said.contains(&format!("{private}/{prefix} ")), "{said} in {vpc}");
    let metadata = "curl -s http://169.254.169.254/metadata/v1";
    assert_eq!(room.ssh(id, &format!("{metadata}/id")).await, id.to_string());
    assert_eq!(
        room.ssh(id, &format!("{metadata}/user-data")).await,
        user_data.trim()
    );
    let memory = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max";
    assert_eq!(
        room.ssh(id, memory).await,
        (1_024_u64 * 1_024 * 1_024).to_string()
    );
    assert_eq!(room.ssh(id, "nproc").await, "1");
    let console = room
        .cloud
        .state_dir()
        .join(format!("droplets/{id}/log/console.log"));
    let console = std::fs::read_to_string(console).unwrap();
    assert!(console.contains("Welcome to Debian"), "{console}");
}

#[tokio::test]
async fn a_host_has_no_way_out_and_nothing_of_the_machines_own() {
    let Some(room) = Room::open("systemd hosts::a_host_has_no_way_out").await else {
        return;
    };
    let id = room.droplet("web-1", json!(DEBIAN), "").await;
    for refused in [
        "mknod /root/disk b 254 0",
        "date -s 2020-01-01",
        "echo 1 > /proc/sys/vm/drop_caches",
    ] {
        let said = room
            .ssh(id, &format!("{refused} 2>/dev/null && echo done || echo refused"))
            .await;
        assert_eq!(said.lines().last(), Some("refused"), "{refused}");
    }
    // What listens on this machine is not for hosts, neither on all of its addresses nor on one.
    let anywhere = Listening::on(Ipv4Addr::UNSPECIFIED);
    let mut listening = vec![];
    let public: Ipv4Addr = room.address(id, "public").await.parse().unwrap();
    let [a, b, c, _] = public.octets();
    for last in [1, 2, 77, 251] {
        listening.push(anywhere.at(Ipv4Addr::new(a, b, c + 1, last)));
    }
    let alone = own_address().map(Listening::on);
    if let Some(alone) = &alone {
        listening.extend([anywhere.at(alone.address()), alone.at(alone.address())]);
    } else {
        println!(
            "tidepool-skip: systemd hosts::a_host_has_no_way_out to another address: this machine has none"
        );
    }
    let metadata = SocketAddr::from(([169, 254, 169, 254], 80));
    assert_eq!(
        room.reached(id, &[metadata]).await,
        [metadata],
        "what is there is found"
    );
    let here = |address: &&SocketAddr| TcpStream::connect(address).is_ok();
    assert_eq!(listening.iter().filter(here).count(), listening.len());
    assert_eq!(room.reached(id, &listening).await, [] as [SocketAddr; 0]);
    let apt = room
        .ssh(
            id,
            "cat /etc/apt/sources.list; ls /etc/apt/sources.list.d /etc/apt/apt.conf.d",
        )
        .await;
    assert!(!apt.contains("http") && !apt.contains("mmdebstrap"), "{apt}");
}

#[tokio::test]
async fn a_host_loads_no_module_and_has_neither_memory_nor_disks_of_the_machine() {
    let Some(room) = Room::open("systemd hosts::a_host_loads_no_module").await else {
        return;
    };
    let id = room.droplet("web-1", json!(DEBIAN), "").await;
    let look =
        "find /dev -type b; ls /dev/mem /dev/kmem /dev/port /dev/loop-control 2>/dev/null; echo looked";
    assert_eq!(room.ssh(id, look).await, "looked");
    let mut attempts = vec![
        "echo this is no module > /root/none.ko; insmod /root/none.ko".to_owned(),
        "mknod /root/mem c 1 1".to_owned(),
        "mknod /root/port c 1 4".to_owned(),
        "mknod /root/loop-control c 10 237".to_owned(),
        "mknod /root/loop b 7 0".to_owned(),
    ];
    attempts.extend(disk_of_machine().map(|(major, minor)| format!("mknod /root/disk b {major} {minor}")));
    for attempt in attempts {
        let said = room.ssh(id, &format!("({attempt}) 2>&1; echo $?")).await;
        assert!(said.ends_with("Operation not permitted\n1"), "{attempt}: {said}");
    }
}

#[tokio::test]
async fn power_goes_on_and_off_from_outside_and_from_within() {
    let Some(room) = Room::open("systemd hosts::power_goes_on_and_off").await else {
        return;
    };
    let id = room.droplet("web-1", json!(DEBIAN), "").await;
    room.ssh(id, "echo kept > /root/file; sync").await;
    let boot = "cat /proc/sys/kernel/random/boot_id";
    let mut boots = vec![room.ssh(id, boot).await];
    for (order, status) in [
        ("power_off", "off"),
        ("power_on", "active"),
        ("power_cycle", "active"),
        ("shutdown", "off"),
        ("power_on", "active"),
        ("reboot", "active"),
    ] {
        assert_eq!(room.act(id, json!({"type": order})).await, "completed", "{order}");
        room.cloud.settled(id, status).await;
        if status == "active" {
            assert_eq!(room.ssh(id, "cat /root/file").await, "kept", "{order}");
            boots.push(room.ssh(id, boot).await);
        }
    }
    // ssh may still come in for a moment before it goes down.
    room.order(id, "systemctl reboot").await;
    let last = boots.last().unwrap().clone();
    room.cloud
        .until("it has booted again", async || room.ssh(id, boot).await != last)
        .await;
    boots.push(room.ssh(id, boot).await);
    assert_eq!(room.ssh(id, "cat /root/file").await, "kept");
    boots.sort();
    boots.dedup();
    assert_eq!(boots.len(), 6, "each boot is one of its own");
    room.order(id, "systemctl poweroff").await;
    room.cloud.settled(id, "off").await;
}

#[tokio::test]
async fn a_droplet_from_a_snapshot_has_its_files_and_keys_of_its_own() {
    let Some(room) = Room::open("systemd hosts::a_droplet_from_a_snapshot").await else {
        return;
    };
    let first = room.droplet("first", json!(DEBIAN), "").await;
    room.initialised(first).await;
    room.ssh(first, "echo kept > /root/file; rm /etc/issue").await;
    assert_eq!(
        room.act(first, json!({"type": "snapshot", "name": "one"})).await,
        "completed"
    );
    room.ssh(first, "echo later > /root/file").await;
    let snapshots = room.cloud.get(&format!("/v2/droplets/{first}/snapshots")).await;
    let snapshot = snapshots.number("/snapshots/0/id");
    let second = room.droplet("second", json!(snapshot), "").await;
    room.initialised(second).await;
    let look = "cat /root/file; ls /etc/issue 2>/dev/null; hostname";
    assert_eq!(room.ssh(second, look).await, "kept\nsecond");
    let key = "cat /etc/ssh/ssh_host_ed25519_key.pub";
    assert_ne!(room.ssh(first, key).await, room.ssh(second, key).await);
    // The snapshot goes, and its files stay for those who stand on them.
    assert_eq!(
        room.cloud
            .delete(&format!("/v2/snapshots/{snapshot}"))
            .await
            .status,
        204
    );
    assert_eq!(
        room.act(second, json!({"type": "power_cycle"})).await,
        "completed"
    );
    assert_eq!(room.ssh(second, look).await, "kept\nsecond");
    let layer = room.cloud.state_dir().join(format!("snapshots/{snapshot}"));
    assert!(layer.exists());
    assert_eq!(
        room.cloud.delete(&format!("/v2/droplets/{second}")).await.status,
        204
    );
    assert!(!layer.exists(), "nobody stands on it any more");
}

#[tokio::test]
async fn a_frozen_or_cut_off_host_answers_nobody_until_it_is_healed() {
    let Some(room) = Room::open("systemd hosts::a_frozen_or_cut_off_host").await else {
        return;
    };
    let id = room.droplet("web-1", json!(DEBIAN), WEB).await;
    room.initialised(id).await;
    let url = format!("http://{}:8080/readyz", room.address(id, "public").await);
    let answers = async || {
        let client = client();
        let asked = client
            .get(&url)
            .timeout(std::time::Duration::from_secs(1))
            .send()
            .await;
        asked.is_ok_and(|answer| answer.status() == 200)
    };
    room.cloud.until("it answers", answers).await;
    for fault in ["freeze", "partition"] {
        let failed = room.cloud.command(&["fault", fault, "web-1"]);
        assert!(failed.status.success(), "{failed:?}");
        assert!(!answers().await, "{fault}");
        let healed = room.cloud.command(&["fault", "heal", "web-1"]);
        assert!(healed.status.success(), "{healed:?}");
        room.cloud.until("it answers again", answers).await;
    }
    // A frozen host can be powered off, and there is nothing to freeze then.
    room.cloud
        .post("/_local/faults/freeze", json!({"droplet_id": id}))
        .await;
    assert_eq!(room.act(id, json!({"type": "power_off"})).await, "completed");
    let reply = room
        .cloud
        .post("/_local/faults/freeze", json!({"droplet_id": id}))
        .await;
    assert_eq!(
        (reply.status, reply.text("/message")),
        (422, "the droplet is off".to_owned())
    );
}

#[tokio::test]
async fn a_load_balancer_reaches_it_by_their_private_network() {
    let Some(room) = Room::open("systemd hosts::a_load_balancer_reaches_it").await else {
        return;
    };
    // Nothing but ssh is taken at the public address.
    let close = "nft 'add table inet t; add chain inet t i { type filter hook input priority 0; }; \
                 add rule inet t i iifname eth0 tcp dport { 8080, 9090 } drop'";
    let user_data = format!("{WEB}- [sh, -c, \"{}\"]\n", close.replace('"', "\\\""));
    let open = room.droplet("open", json!(DEBIAN), &user_data).await;
    let hidden = room
        .droplet_of("hidden", json!({"public_networking": false, "user_data": WEB}))
        .await;
    let (balancer, url) = room.cloud.balancer("serving:web", json!({})).await;
    room.cloud.members_ready(&balancer, 2).await;
    for _ in 0..4 {
        let answer = client().get(format!("{url}/readyz")).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "ready");
    }
    room.initialised(open).await;
    let direct = format!("http://{}:8080/readyz", room.address(open, "public").await);
    let asked = client()
        .get(direct)
        .timeout(std::time::Duration::from_secs(1))
        .send()
        .await;
    assert!(asked.is_err(), "{asked:?}");
    // With the power of one cut, the other one answers all.
    room.cloud
        .post("/_local/faults/power-cut", json!({"droplet_id": hidden}))
        .await;
    let answer = client().get(format!("{url}/readyz")).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "ready");
}

#[tokio::test]
async fn a_load_balancer_checks_and_reaches_it() {
    let Some(room) = Room::open("systemd hosts::a_load_balancer_checks").await else {
        return;
    };
    let id = room.droplet("web-1", json!(DEBIAN), WEB).await;
    let (balancer, url) = room.cloud.balancer("serving:web", json!({})).await;
    room.cloud.members_ready(&balancer, 1).await;
    let answer = client().get(format!("{url}/readyz")).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "ready");
    // And another host reaches the balancer.
    let answer = room.ssh(id, &format!("curl -s {url}/readyz")).await;
    assert_eq!(answer, "ready");
}

#[tokio::test]
async fn neighbours_reach_each_other_by_both_addresses() {
    let Some(room) = Room::open("systemd hosts::neighbours_reach_each_other").await else {
        return;
    };
    let [first, second] = [
        room.droplet("web-1", json!(DEBIAN), "").await,
        room.droplet("web-2", json!(DEBIAN), "").await,
    ];
    for kind in ["public", "private"] {
        let address = room.address(second, kind).await;
        let answer = room
            .ssh(
                first,
                &format!("timeout 20 bash -c 'head -c 4 </dev/tcp/{address}/22'"),
            )
            .await;
        assert_eq!(answer, "SSH-", "{kind} address {address}");
    }
}
