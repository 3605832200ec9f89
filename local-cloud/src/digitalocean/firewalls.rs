//! Firewalls of droplets. What a body asks for is read in `firewall_request`, and what it comes to for each droplet in
//! `traffic`. On process hosts they are records only.

use serde_json::{Map, Value, json};

use super::app::App;
use super::call::{Answer, Call, Result};
use super::droplets;
use super::error::ApiError;
use super::firewall_request::{self as request, DROPLETS_MAX, RULES_MAX, TAGS_MAX, Wanted, Way};
use super::load_balancers::Change;
use super::page;
use super::records::Cloud;
use super::records::cloud_firewall::{CloudFirewall, Peers, Rule};
use super::views::set;

/// Firewalls at most. DigitalOcean documents no number. Each has one body's bytes at most, 1 MiB, and is copied and read at every change.
const FIREWALLS_MAX: usize = 100;

/// `GET /v2/firewalls`
pub(crate) fn list(app: &App, call: &Call) -> Result {
    app.read(|cloud| {
        let all: Vec<&CloudFirewall> = cloud.records.firewalls.values().collect();
        page_of(app, call, all)
    })
}

/// `GET /v2/droplets/{id}/firewalls`
pub(crate) fn list_of_droplet(app: &App, id: &str, call: &Call) -> Result {
    app.read(|cloud| {
        let droplet = droplets::find(cloud, id)?.droplet;
        let all = cloud.records.firewalls.values();
        page_of(
            app,
            call,
            all.filter(|firewall| firewall.covers(droplet)).collect(),
        )
    })
}

/// `GET /v2/firewalls/{id}`
pub(crate) fn get(app: &App, id: &str) -> Result {
    app.read(|cloud| Answer::ok(json!({"firewall": view(app, find(cloud, id)?)})))
}

/// `POST /v2/firewalls`
#[expect(clippy::disallowed_methods, reason = "ids are random, as DigitalOcean's are")]
pub(crate) async fn create(app: &App, call: &Call) -> Result {
    let id = uuid::Uuid::new_v4().to_string();
    let created_at = app.now();
    let shown = app
        .change(|cloud| {
            if cloud.records.firewalls.len() >= FIREWALLS_MAX {
                return Err(ApiError::unprocessable(format!(
                    "there are {FIREWALLS_MAX} firewalls already"
                )));
            }
            let new = CloudFirewall {
                id,
                created_at,
                name: String::new(),
                inbound: Vec::new(),
                outbound: Vec::new(),
                droplet_ids: Vec::new(),
                tags: Vec::new(),
            };
            replace(app, cloud, new, request::whole(cloud, call)?)
        })
        .await?;
    Answer::accepted(json!({"firewall": shown}))
}

/// `PUT /v2/firewalls/{id}`: the whole of it; what is not said is empty.
pub(crate) async fn update(app: &App, id: &str, call: &Call) -> Result {
    let shown = app
        .change(|cloud| {
            let old = find(cloud, id)?.clone();
            replace(app, cloud, old, request::whole(cloud, call)?)
        })
        .await?;
    Answer::ok(json!({"firewall": shown}))
}

/// `DELETE /v2/firewalls/{id}`: its droplets are open, unless another firewall has them.
pub(crate) async fn delete(app: &App, id: &str) -> Result {
    app.change(|cloud| {
        let removed = cloud.records.firewalls.remove(id);
        removed.ok_or_else(ApiError::not_found)?;
        Answer::no_content()
    })
    .await
}

/// `POST` and `DELETE /v2/firewalls/{id}/droplets`; one that is not under it is no mistake to take away.
pub(crate) async fn change_droplets(app: &App, id: &str, call: &Call, change: Change) -> Result {
    edit(app, id, |cloud, firewall| {
        call.needed_list("droplet_ids")?;
        let ids = request::droplet_ids(cloud, call)?;
        firewall.droplet_ids.retain(|other| !ids.contains(other));
        if change == Change::Add {
            firewall.droplet_ids.extend(ids);
        }
        Ok(())
    })
    .await
}

/// `POST` and `DELETE /v2/firewalls/{id}/tags`; the same.
pub(crate) async fn change_tags(app: &App, id: &str, call: &Call, change: Change) -> Result {
    edit(app, id, |cloud, firewall| {
        call.needed_list("tags")?;
        let tags = request::tags(cloud, &call.body, "tags")?;
        firewall.tags.retain(|other| !tags.contains(other));
        if change == Change::Add {
            firewall.tags.extend(tags);
        }
        Ok(())
    })
    .await
}

/// `POST` and `DELETE /v2/firewalls/{id}/rules`; only a rule that is there can be removed, and one has to stay.
pub(crate) async fn change_rules(app: &App, id: &str, call: &Call, change: Change) -> Result {
    edit(app, id, |cloud, firewall| {
        let given = request::rules(cloud, call)?;
        change_list(&mut firewall.inbound, given.inbound, change)?;
        change_list(&mut firewall.outbound, given.outbound, change)
    })
    .await
}

fn change_list(rules: &mut Vec<Rule>, given: Vec<Rule>, change: Change) -> Result<()> {
    for rule in given {
        let at = rules.iter().position(|other| is_same(other, &rule));
        match (change, at) {
            (Change::Add, None) => rules.push(rule),
            (Change::Add, Some(_)) => {}
            (Change::Remove, Some(at)) => {
                rules.remove(at);
            }
            (Change::Remove, None) => {
                let (protocol, ports) = (rule.protocol.as_str(), rule.ports.as_str());
                return Err(ApiError::unprocessable(format!(
                    "the firewall has no such rule for {protocol} and ports {ports}"
                )));
            }
        }
    }
    Ok(())
}

/// Lists are sets here: Terraform sends them in another order each time.
fn is_same(one: &Rule, other: &Rule) -> bool {
    fn sets<T: PartialEq>(one: &[T], other: &[T]) -> bool {
        one.len() == other.len() && one.iter().all(|item| other.contains(item))
    }
    let (a, b) = (&one.peers, &other.peers);
    (one.protocol, &one.ports) == (other.protocol, &other.ports)
        && sets(&a.addresses, &b.addresses)
        && sets(&a.droplet_ids, &b.droplet_ids)
        && sets(&a.tags, &b.tags)
        && sets(&a.load_balancer_uids, &b.load_balancer_uids)
}

async fn edit(app: &App, id: &str, change: impl FnOnce(&Cloud, &mut CloudFirewall) -> Result<()>) -> Result {
    app.change(|cloud| {
        let mut firewall = find(cloud, id)?.clone();
        change(cloud, &mut firewall)?;
        within_limits(&firewall)?;
        cloud.records.firewalls.insert(id.to_owned(), firewall);
        Answer::no_content()
    })
    .await
}

/// Sets all of it. Shown as it is while the change is on its way, as by the real one: with the droplets that it is on its way to.
fn replace(app: &App, cloud: &mut Cloud, old: CloudFirewall, wanted: Wanted) -> Result<Value> {
    let namesake = |other: &CloudFirewall| other.name == wanted.name && other.id != old.id;
    if cloud.records.firewalls.values().any(namesake) {
        // Its words, as clients report them: harmony-one/harmony-ops#390.
        return Err(ApiError::conflict("duplicate name"));
    }
    let before = cloud.covered(&old);
    let firewall = CloudFirewall {
        name: wanted.name,
        inbound: wanted.rules.inbound,
        outbound: wanted.rules.outbound,
        droplet_ids: wanted.droplet_ids,
        tags: wanted.tags,
        ..old
    };
    within_limits(&firewall)?;
    let after = cloud.covered(&firewall);
    let gone = before.iter().filter(|id| !after.contains(id));
    let pending: Vec<Value> = after
        .iter()
        .map(|id| (id, false))
        .chain(gone.map(|id| (id, true)))
        .map(|(id, removing)| json!({"droplet_id": id, "removing": removing, "status": "waiting"}))
        .collect();
    let mut shown = view(app, &firewall);
    set(&mut shown, "status", json!("waiting"));
    set(&mut shown, "pending_changes", json!(pending));
    cloud.records.firewalls.insert(firewall.id.clone(), firewall);
    Ok(shown)
}

fn within_limits(firewall: &CloudFirewall) -> Result<()> {
    let rules = firewall.inbound.len() + firewall.outbound.len();
    if rules == 0 {
        return Err(ApiError::unprocessable("a firewall needs at least one rule"));
    }
    for (count, max, what) in [
        (rules, RULES_MAX, "rules"),
        (firewall.droplet_ids.len(), DROPLETS_MAX, "Droplets"),
        (firewall.tags.len(), TAGS_MAX, "tags"),
    ] {
        if count > max {
            return Err(ApiError::unprocessable(format!(
                "a firewall may have at most {max} {what}"
            )));
        }
    }
    Ok(())
}

fn find<'a>(cloud: &'a Cloud, id: &str) -> Result<&'a CloudFirewall> {
    cloud.records.firewalls.get(id).ok_or_else(ApiError::not_found)
}

fn page_of(app: &App, call: &Call, mut firewalls: Vec<&CloudFirewall>) -> Result {
    firewalls.sort_by_key(|firewall| (&firewall.created_at, &firewall.name));
    page::answer(call, "firewalls", &firewalls, |firewall| view(app, firewall))
}

fn view(app: &App, firewall: &CloudFirewall) -> Value {
    let rules = |rules: &[Rule], way: Way| {
        rules
            .iter()
            .map(|rule| rule_view(rule, way))
            .collect::<Vec<Value>>()
    };
    json!({
        "id": firewall.id,
        "name": firewall.name,
        "status": if app.traffic_is_held() { "succeeded" } else { "failed" },
        "created_at": firewall.created_at,
        "inbound_rules": rules(&firewall.inbound, Way::In),
        "outbound_rules": rules(&firewall.outbound, Way::Out),
        "droplet_ids": firewall.droplet_ids,
        "tags": firewall.tags,
        "pending_changes": [],
    })
}

fn rule_view(rule: &Rule, way: Way) -> Value {
    let mut view = json!({"protocol": rule.protocol.as_str(), "ports": rule.ports.as_str()});
    set(&mut view, way.peers(), peers_view(&rule.peers));
    view
}

/// Only the kinds that there are, as with the real one.
fn peers_view(peers: &Peers) -> Value {
    let addresses: Vec<&str> = peers.addresses.iter().map(|address| address.as_str()).collect();
    let kinds = [
        ("addresses", json!(addresses)),
        ("droplet_ids", json!(peers.droplet_ids)),
        ("tags", json!(peers.tags)),
        ("load_balancer_uids", json!(peers.load_balancer_uids)),
    ];
    let given = kinds
        .into_iter()
        .filter(|(_, list)| list.as_array().is_some_and(|list| !list.is_empty()));
    Value::Object(
        given
            .map(|(name, list)| (name.to_owned(), list))
            .collect::<Map<_, _>>(),
    )
}
