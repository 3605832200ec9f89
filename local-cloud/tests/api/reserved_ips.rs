//! Reserved addresses.

use futures_util::future::join_all;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{Cloud, Reply, droplet_body};

/// Reserves an address in nyc3; its path.
async fn reserve(cloud: &Cloud) -> String {
    let reply = cloud.post("/v2/reserved_ips", json!({"region": "nyc3"})).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    format!("/v2/reserved_ips/{}", reply.text("/reserved_ip/ip"))
}

async fn act(cloud: &Cloud, path: &str, body: Value) -> Reply {
    cloud.post(&format!("{path}/actions"), body).await
}

async fn settled_droplet(cloud: &Cloud, name: &str) -> u64 {
    let id = cloud.droplet(name, "tiny", &[]).await;
    cloud.settled(id, "active").await;
    id
}

fn refused(reply: &Reply, status: u16, says: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert!(reply.text("/message").contains(says), "{says}: {reply:?}");
    assert!(!reply.text("/request_id").is_empty());
}

/// The calls that Terraform's provider was seen to make, and what it reads of each answer
/// (digitalocean/terraform-provider-digitalocean@401992a).
#[tokio::test]
async fn terraforms_reserved_address_is_assigned_read_and_given_back() {
    let cloud = Cloud::start(&[]);
    let droplet = settled_droplet(&cloud, "monitoring").await;
    let created = cloud.post("/v2/reserved_ips", json!({"region": "NYC3"})).await;
    assert_eq!((created.status, created.at("/links")), (202, &json!({})));
    let ip = created.text("/reserved_ip/ip");
    let path = format!("/v2/reserved_ips/{ip}");
    let shown = cloud.get(&path).await;
    assert_eq!(shown.at("/reserved_ip"), created.at("/reserved_ip"));
    assert_eq!(
        (
            shown.text("/reserved_ip/region/slug"),
            shown.at("/reserved_ip/droplet")
        ),
        ("nyc3".to_owned(), &Value::Null)
    );
    assert_eq!(shown.at("/reserved_ip/locked"), &json!(false));
    assert!(!shown.text("/reserved_ip/project_id").is_empty());
    let assign = act(&cloud, &path, json!({"type": "assign", "droplet_id": droplet})).await;
    assert_eq!(assign.status, 201);
    for (field, value) in [
        ("status", json!("in-progress")),
        ("type", json!("assign_ip")),
        ("completed_at", Value::Null),
        ("resource_type", json!("reserved_ip")),
        ("region_slug", json!("nyc3")),
    ] {
        assert_eq!(assign.at(&format!("/action/{field}")), &value, "{field}");
    }
    let number: u32 = ip
        .parse::<std::net::Ipv4Addr>()
        .map(u32::from)
        .unwrap_or_default();
    assert_eq!(assign.number("/action/resource_id"), u64::from(number));
    let action = assign.number("/action/id");
    for path in [
        format!("{path}/actions/{action}"),
        format!("/v2/actions/{action}"),
    ] {
        let shown = cloud.get(&path).await;
        assert_eq!(shown.text("/action/status"), "completed");
        assert!(!shown.text("/action/completed_at").is_empty());
    }
    let shown = cloud.get(&path).await;
    let whole = cloud.get(&format!("/v2/droplets/{droplet}")).await;
    assert_eq!(shown.at("/reserved_ip/droplet"), whole.at("/droplet"));
    // The provider waits until none of the droplet's own actions is under way.
    let own = cloud
        .get(&format!("/v2/droplets/{droplet}/actions?per_page=50"))
        .await;
    assert_eq!(own.number("/meta/total"), 1, "its create");
    let unassign = act(&cloud, &path, json!({"type": "unassign"})).await;
    assert_eq!(
        (unassign.status, unassign.text("/action/type")),
        (201, "unassign_ip".to_owned())
    );
    assert_eq!(cloud.get(&path).await.at("/reserved_ip/droplet"), &Value::Null);
    assert_eq!(
        cloud.get(&format!("{path}/actions")).await.number("/meta/total"),
        2
    );
    assert_eq!(cloud.delete(&path).await.status, 204);
    for gone in [
        cloud.get(&path).await,
        cloud.delete(&path).await,
        cloud.get(&format!("{path}/actions")).await,
        cloud.get(&format!("{path}/actions/{action}")).await,
        act(&cloud, &path, json!({"type": "unassign"})).await,
    ] {
        refused(&gone, 404, "could not be found");
    }
    // The same address, and nothing of its earlier life.
    assert_eq!(reserve(&cloud).await, path);
    assert_eq!(
        cloud.get(&format!("{path}/actions")).await.number("/meta/total"),
        0
    );
    refused(&cloud.get(&format!("{path}/actions/{action}")).await, 404, "");
}

#[tokio::test]
async fn an_address_made_for_a_droplet_leads_there_and_moves_in_one_step() {
    let cloud = Cloud::start(&[]);
    let (one, two) = (
        settled_droplet(&cloud, "one").await,
        settled_droplet(&cloud, "two").await,
    );
    let created = cloud.post("/v2/reserved_ips", json!({"droplet_id": one})).await;
    assert_eq!(created.status, 202, "{created:?}");
    let action = created.number("/links/actions/0/id");
    assert_eq!(
        created.at("/links"),
        &json!({
            "droplets": [{"id": one, "rel": "droplet", "href": format!("{}/v2/droplets/{one}", cloud.url)}],
            "actions": [{"id": action, "rel": "assign_ip", "href": format!("{}/v2/actions/{action}", cloud.url)}],
        })
    );
    assert_eq!(
        (
            created.at("/reserved_ip/droplet"),
            created.at("/reserved_ip/locked")
        ),
        (&Value::Null, &json!(true))
    );
    let path = format!("/v2/reserved_ips/{}", created.text("/reserved_ip/ip"));
    let leads_to = async || cloud.get(&path).await.at("/reserved_ip/droplet/id").clone();
    assert_eq!(leads_to().await, json!(one));
    for (to, again) in [(two, false), (two, true), (one, false)] {
        let reply = act(&cloud, &path, json!({"type": "assign", "droplet_id": to})).await;
        assert_eq!(
            (reply.status, leads_to().await),
            (201, json!(to)),
            "again: {again}"
        );
    }
    cloud.delete(&format!("/v2/droplets/{one}")).await;
    assert_eq!(
        leads_to().await,
        Value::Null,
        "the address stays, and leads nowhere"
    );
    let moves =
        join_all((0..4).map(|_| act(&cloud, &path, json!({"type": "assign", "droplet_id": two})))).await;
    assert!(moves.iter().all(|reply| reply.status == 201), "{moves:?}");
    assert_eq!(cloud.delete(&path).await.status, 204, "though it leads somewhere");
    assert_eq!(
        cloud.get("/v2/reserved_ips").await.at("/reserved_ips"),
        &json!([])
    );
}

#[tokio::test]
async fn what_cannot_be_reserved_or_assigned_is_refused_with_the_reason() {
    let cloud = Cloud::start(&[]);
    let droplet = settled_droplet(&cloud, "here").await;
    let elsewhere = {
        let mut body = droplet_body("elsewhere", "tiny", &[]);
        body["region"] = json!("fra1");
        cloud.post("/v2/droplets", body).await.number("/droplet/id")
    };
    cloud.settled(elsewhere, "active").await;
    let inside = {
        let mut body = droplet_body("inside", "tiny", &[]);
        body["public_networking"] = json!(false);
        cloud.post("/v2/droplets", body).await.number("/droplet/id")
    };
    cloud.settled(inside, "active").await;
    for (body, says) in [
        (json!({}), "region or droplet_id is needed"),
        (json!({"region": null, "droplet_id": null}), "is needed"),
        (json!({"region": "mars1"}), "region is invalid"),
        (json!({"region": ""}), "region is invalid"),
        (json!({"region": 1}), "region must be a string"),
        (json!({"droplet_id": 1}), "no Droplet 1"),
        (json!({"droplet_id": droplet.to_string()}), "no Droplet"),
        (json!({"droplet_id": inside}), "no public interface"),
        (json!({"droplet_id": droplet, "region": "fra1"}), "another region"),
        (
            json!({"region": "nyc3", "project_id": 1}),
            "project_id must be a string",
        ),
    ] {
        refused(&cloud.post("/v2/reserved_ips", body).await, 422, says);
    }
    let path = reserve(&cloud).await;
    for (body, says) in [
        (json!({}), "type can't be blank"),
        (json!({"type": "lend"}), "not `lend`"),
        (json!({"type": "unassign"}), "is not assigned"),
        (json!({"type": "assign"}), "no Droplet null"),
        (json!({"type": "assign", "droplet_id": 1}), "no Droplet 1"),
        (
            json!({"type": "assign", "droplet_id": elsewhere}),
            "another region",
        ),
        (
            json!({"type": "assign", "droplet_id": inside}),
            "no public interface",
        ),
    ] {
        refused(&act(&cloud, &path, body).await, 422, says);
    }
    assert_eq!(
        cloud.get(&format!("{path}/actions")).await.number("/meta/total"),
        0
    );
    assert_eq!(
        act(&cloud, &path, json!({"type": "assign", "droplet_id": droplet}))
            .await
            .status,
        201
    );
    refused(
        &cloud
            .post("/v2/reserved_ips", json!({"droplet_id": droplet}))
            .await,
        422,
        "already has a reserved IP",
    );
    let other = reserve(&cloud).await;
    let second = act(&cloud, &other, json!({"type": "assign", "droplet_id": droplet})).await;
    refused(&second, 422, "already has a reserved IP");
}

#[tokio::test]
async fn a_droplet_with_an_action_under_way_and_other_methods_are_refused() {
    let cloud = Cloud::start(&[]);
    let path = reserve(&cloud).await;
    let busy = cloud.droplet("busy", "stubborn", &[]).await;
    cloud.settled(busy, "active").await;
    cloud.pids(busy, 2).await;
    // It ignores SIGTERM, so its shutdown lasts until the power is cut.
    let shutdown = json!({"type": "shutdown"});
    cloud
        .post(&format!("/v2/droplets/{busy}/actions"), shutdown)
        .await;
    let reply = act(&cloud, &path, json!({"type": "assign", "droplet_id": busy})).await;
    refused(&reply, 422, "Droplet already has a pending event.");
    for gone in ["192.0.2.9", "nonsense", "198.18.0.300"] {
        refused(&cloud.get(&format!("/v2/reserved_ips/{gone}")).await, 404, "");
    }
    for (method, path, allowed) in [
        (Method::PUT, path.clone(), "GET, HEAD, DELETE"),
        (Method::DELETE, "/v2/reserved_ips".to_owned(), "GET, HEAD, POST"),
        (Method::DELETE, format!("{path}/actions"), "GET, HEAD, POST"),
        (Method::POST, format!("{path}/actions/1"), "GET, HEAD"),
    ] {
        let reply = cloud.call(method, &path, Value::Null).await;
        let allow = reply.headers.get("allow").and_then(|value| value.to_str().ok());
        assert_eq!((reply.status, allow), (405, Some(allowed)));
    }
}

#[tokio::test]
async fn an_account_has_three_of_them_which_outlive_the_cloud() {
    let mut cloud = Cloud::start(&[]);
    let account = cloud.get("/v2/account").await;
    assert_eq!(account.number("/account/reserved_ip_limit"), 3);
    let all = join_all((0..6).map(|_| cloud.post("/v2/reserved_ips", json!({"region": "nyc3"})))).await;
    let (made, over): (Vec<&Reply>, Vec<&Reply>) = all.iter().partition(|reply| reply.status == 202);
    assert_eq!((made.len(), over.len()), (3, 3));
    for reply in over {
        refused(reply, 422, "limit of 3 reserved IPs");
    }
    let page = cloud.get("/v2/reserved_ips?per_page=2").await;
    assert_eq!(
        (
            page.number("/meta/total"),
            page.at("/reserved_ips/1/ip").is_string()
        ),
        (3, true)
    );
    assert!(
        page.text("/links/pages/next")
            .ends_with("/v2/reserved_ips?per_page=2&page=2")
    );
    let droplet = settled_droplet(&cloud, "kept").await;
    let path = format!("/v2/reserved_ips/{}", page.text("/reserved_ips/1/ip"));
    act(&cloud, &path, json!({"type": "assign", "droplet_id": droplet})).await;
    let actions = cloud.get(&format!("{path}/actions")).await.body;
    cloud.stop(Signal::SIGKILL);
    cloud.start_again();
    assert_eq!(cloud.get("/v2/reserved_ips").await.number("/meta/total"), 3);
    assert_eq!(cloud.get(&path).await.number("/reserved_ip/droplet/id"), droplet);
    let again = cloud.get(&format!("{path}/actions")).await.body;
    assert_eq!(again["actions"], actions["actions"]);
    assert_eq!(cloud.stop(Signal::SIGTERM), Some(0));
    let file = cloud.state_dir().join("cloud.json");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let mut state: Value = serde_json::from_str(&text).unwrap_or_default();
    let removed = state
        .as_object_mut()
        .and_then(|state| state.remove("reserved_ips"));
    assert!(removed.is_some());
    assert!(std::fs::write(&file, state.to_string()).is_ok());
    cloud.start_again();
    assert_eq!(cloud.get("/v2/reserved_ips").await.number("/meta/total"), 0);
}
