//! What people ask for that can't be, can't be any more, or can't be finished.

use serde_json::json;

use crate::room::{DEBIAN, Room, WEB};

#[tokio::test]
async fn a_rebuilt_droplet_begins_anew_with_its_addresses_and_its_user_data() {
    let Some(room) = Room::open("systemd hard_cases::a_rebuilt_droplet").await else {
        return;
    };
    let user_data = "#cloud-config\nruncmd:\n- [sh, -c, 'echo told >> /root/told']\n";
    let id = room.droplet("web-1", json!(DEBIAN), user_data).await;
    room.initialised(id).await;
    room.ssh(id, "echo mine > /root/mine").await;
    let order = json!({"type": "snapshot", "name": "one"});
    assert_eq!(room.act(id, order).await, "completed");
    let snapshots = room.cloud.get(&format!("/v2/droplets/{id}/snapshots")).await;
    let snapshot = snapshots.number("/snapshots/0/id");
    let address = room.address(id, "public").await;
    for (image, expected) in [(json!(DEBIAN), "told"), (json!(snapshot), "mine\ntold")] {
        let order = json!({"type": "rebuild", "image": image});
        assert_eq!(room.act(id, order).await, "completed");
        room.cloud.settled(id, "active").await;
        room.initialised(id).await;
        let files = "cd /root; cat mine told 2>/dev/null";
        assert_eq!(room.ssh(id, files).await, expected, "from {image}");
        assert_eq!(room.address(id, "public").await, address);
    }
    // Onto what is no longer there: nothing changes.
    room.cloud.delete(&format!("/v2/snapshots/{snapshot}")).await;
    let order = json!({"type": "rebuild", "image": snapshot});
    let reply = room
        .cloud
        .post(&format!("/v2/droplets/{id}/actions"), order)
        .await;
    assert_eq!(reply.status, 422, "{reply:?}");
    assert_eq!(room.ssh(id, "cat /root/mine").await, "mine");
}

#[tokio::test]
async fn without_public_networking_a_droplet_is_in_its_private_network_alone() {
    let Some(room) = Room::open("systemd hard_cases::without_public_networking").await else {
        return;
    };
    let user_data = format!("{WEB}- [sh, -c, 'ip -4 -o addr > /srv/addresses']\n");
    let fields = json!({"public_networking": false, "user_data": user_data});
    let inner = room.droplet_of("inner", fields).await;
    let outer = room.droplet("outer", json!(DEBIAN), "").await;
    let shown = room.cloud.get(&format!("/v2/droplets/{inner}")).await;
    let networks = shown.at("/droplet/networks/v4").as_array().unwrap().clone();
    assert!(networks.iter().all(|network| network["type"] == "private"));
    let address = room.address(inner, "private").await;
    let ask =
        format!("curl -s --retry 30 --retry-connrefused --retry-delay 1 http://{address}:8080/addresses");
    let said = room.ssh(outer, &ask).await;
    assert!(said.contains("eth1") && !said.contains("eth0"), "{said}");
}

#[tokio::test]
async fn user_data_that_is_too_large_is_refused() {
    let Some(room) = Room::open("systemd hard_cases::user_data_that_is_too_large").await else {
        return;
    };
    let large = room.body("web-1", &json!({"user_data": "x".repeat(64 * 1024 + 1)}));
    let reply = room.cloud.post("/v2/droplets", large).await;
    assert_eq!(
        (reply.status, reply.text("/message")),
        (422, "User data cannot be larger than 64 KiB".to_owned())
    );
}

/// User data, and what becomes of it.
struct BadUserData {
    name: &'static str,
    user_data: &'static str,
    /// As cloud-init says it.
    status: &'static str,
    /// What is in its report (`cloud-init status --long`).
    report: &'static str,
    /// What is on the console.
    console: &'static str,
    /// Files of /root that it writes.
    done: &'static str,
}

const BAD_USER_DATA: [BadUserData; 5] = [
    BadUserData {
        name: "not-yaml",
        user_data: "#cloud-config\nruncmd: [unclosed\n",
        status: "done",
        report: "",
        console: "Failed loading yaml",
        done: "",
    },
    // What runs commands goes on after one that fails, and so does a shell.
    BadUserData {
        name: "fails-inside",
        user_data: "#cloud-config\nruncmd:\n- touch /root/before\n- [cat, /no/such/file]\n- touch /root/after\n",
        status: "done",
        report: "",
        console: "cat: /no/such/file: No such file or directory",
        done: "after before",
    },
    BadUserData {
        name: "stops-inside",
        user_data: "#cloud-config\nruncmd:\n- set -e\n- touch /root/before\n- [cat, /no/such/file]\n- touch /root/after\n",
        status: "error",
        report: "Runparts: 1 failures (runcmd) in 1 attempted commands",
        console: "cat: /no/such/file: No such file or directory",
        done: "before",
    },
    BadUserData {
        name: "script",
        user_data: "#!/bin/sh\ntouch /root/before\necho no room for it >&2\nexit 3\n",
        status: "error",
        report: "Runparts: 1 failures (part-001) in 1 attempted commands",
        console: "no room for it",
        done: "before",
    },
    BadUserData {
        name: "write-files",
        user_data: "#cloud-config\nwrite_files:\n- {path: /root/before, content: x}\n- {path: /proc/none/file, content: x}\n\
                    - {path: /root/after, content: x}\n",
        status: "error",
        report: "write-files",
        console: "Running module write-files",
        done: "before",
    },
];

#[tokio::test]
async fn user_data_that_fails_says_why_on_the_console_and_in_cloud_inits_status() {
    let test = "systemd hard_cases::user_data_that_fails";
    let Some(room) = Room::open(test).await else {
        return;
    };
    for told in BAD_USER_DATA {
        let name = told.name;
        let id = room.droplet(name, json!(DEBIAN), told.user_data).await;
        let said = room.ssh(id, "cloud-init status --wait --long").await;
        let status = format!("status: {}", told.status);
        assert!(
            said.contains(&status) && said.contains(told.report),
            "{name}: {said}"
        );
        room.cloud
            .until(&format!("{name}: the console says why"), async || {
                room.console(id).contains(told.console)
            })
            .await;
        let done = room.ssh(id, "cd /root && echo $(ls)").await;
        assert_eq!(done, told.done, "{name}");
    }
}

#[tokio::test]
async fn an_image_that_goes_is_kept_for_who_stands_on_it_and_refused_to_others() {
    let Some(room) = Room::open("systemd hard_cases::an_image_that_goes").await else {
        return;
    };
    let id = room.droplet("web-1", json!(DEBIAN), "").await;
    room.ssh(id, "echo kept > /root/file; sync").await;
    // The image's folder goes while the droplet is off.
    assert_eq!(room.act(id, json!({"type": "power_off"})).await, "completed");
    let images = room.cloud.dir.path().join("images");
    std::fs::rename(images.join(DEBIAN), room.cloud.dir.path().join("aside")).unwrap();
    assert_eq!(room.act(id, json!({"type": "power_on"})).await, "errored");
    let droplet = room.cloud.get(&format!("/v2/droplets/{id}")).await;
    assert_eq!(droplet.text("/droplet/status"), "off");
    let body = json!({"name": "web-2", "image": DEBIAN, "region": "nyc3", "size": "s-1vcpu-1gb"});
    assert_eq!(room.cloud.post("/v2/droplets", body).await.status, 422);
    std::fs::rename(room.cloud.dir.path().join("aside"), images.join(DEBIAN)).unwrap();
    assert_eq!(room.act(id, json!({"type": "power_on"})).await, "completed");
    assert_eq!(room.ssh(id, "cat /root/file").await, "kept");
}

#[tokio::test]
async fn a_snapshot_of_a_droplet_that_is_being_deleted_is_whole_or_not_there() {
    let Some(room) = Room::open("systemd hard_cases::a_snapshot_of_a_droplet_that_is_being_deleted").await
    else {
        return;
    };
    let doomed = room.droplet("doomed", json!(DEBIAN), "").await;
    room.ssh(doomed, "true").await;
    let order = json!({"type": "snapshot", "name": "half"});
    let action = room
        .cloud
        .post(&format!("/v2/droplets/{doomed}/actions"), order)
        .await;
    let action = action.number("/action/id");
    assert_eq!(
        room.cloud.delete(&format!("/v2/droplets/{doomed}")).await.status,
        204
    );
    let path = format!("/v2/actions/{action}");
    let mut status = String::new();
    room.cloud
        .until("the snapshot ends", async || {
            status = room.cloud.get(&path).await.text("/action/status");
            status != "in-progress"
        })
        .await;
    let listed = room.cloud.get("/v2/snapshots").await.number("/meta/total");
    let kept = std::fs::read_dir(room.cloud.state_dir().join("snapshots")).map_or(0, Iterator::count);
    let expected = u64::from(status == "completed");
    assert_eq!(
        (listed, u64::try_from(kept).unwrap()),
        (expected, expected),
        "{status}"
    );
    let why = "the droplet was destroyed while its snapshot was made, and the snapshot is not kept";
    assert_eq!(room.cloud.log().contains(why), status == "errored");
    // Once it is gone, there is nothing to take a snapshot of.
    let order = json!({"type": "snapshot", "name": "late"});
    let late = room
        .cloud
        .post(&format!("/v2/droplets/{doomed}/actions"), order)
        .await;
    assert_eq!(
        (late.status, late.text("/message")),
        (404, "The resource you requested could not be found.".to_owned())
    );
}
