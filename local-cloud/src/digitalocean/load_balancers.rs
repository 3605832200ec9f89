//! Load balancers: records, and the balancers that run for them. What a body asks for is read in
//! `load_balancer_request`.

use serde_json::json;

use super::app::App;
use super::call::{Answer, Call, Result};
use super::error::ApiError;
use super::load_balancer_request::{Home, Identity, RULES_MAX, droplet_ids, parse, rules};
use super::records::Cloud;
use super::records::load_balancer::LoadBalancer;
use super::resources::{self, Kind, Urn};
use super::views::set;
use super::{page, views};

/// `GET /v2/load_balancers`
pub(crate) fn list(app: &App, call: &Call) -> Result {
    app.read(|cloud| {
        let mut all: Vec<&LoadBalancer> = cloud.records.balancers.values().collect();
        all.sort_by_key(|balancer| (&balancer.created_at, balancer.slot));
        page::answer(call, "load_balancers", &all, |balancer| {
            views::load_balancer(app, cloud, balancer)
        })
    })
}

/// `GET /v2/load_balancers/{id}`
pub(crate) fn get(app: &App, id: &str) -> Result {
    app.read(|cloud| {
        let balancer = cloud.records.balancers.get(id).ok_or_else(ApiError::not_found)?;
        Answer::ok(json!({"load_balancer": views::load_balancer(app, cloud, balancer)}))
    })
}

/// `POST /v2/load_balancers`
#[expect(clippy::disallowed_methods, reason = "ids are random, as DigitalOcean's are")]
pub(crate) async fn create(app: &App, call: &Call) -> Result {
    let now = app.now();
    let id = app
        .change(|cloud| {
            let project = resources::named_project(cloud, call)?;
            let slot = cloud.records.new_balancer_slot();
            let slot =
                slot.ok_or_else(|| ApiError::unprocessable("You have reached the load balancer limit."))?;
            let identity = Identity {
                id: uuid::Uuid::new_v4().to_string(),
                slot,
                created_at: now.clone(),
                home: None,
            };
            let balancer = parse(cloud, call, identity)?;
            let id = install(app, cloud, balancer)?;
            put_into(cloud, &id, project, &now);
            Ok(id)
        })
        .await?;
    let mut answer = get(app, &id)?;
    answer.status = http::StatusCode::ACCEPTED;
    // The real one needs a while: clients have to wait for `active`, and for the address.
    if let Some(shown) = answer
        .body
        .as_mut()
        .and_then(|body| body.get_mut("load_balancer"))
    {
        set(shown, "status", json!("new"));
        set(shown, "ip", json!(""));
    }
    Ok(answer)
}

/// `PUT /v2/load_balancers/{id}`: the whole configuration; what is not said goes back to its default.
pub(crate) async fn update(app: &App, id: &str, call: &Call) -> Result {
    let now = app.now();
    app.change(|cloud| {
        let project = resources::named_project(cloud, call)?;
        let old = cloud.records.balancers.get(id).ok_or_else(ApiError::not_found)?;
        let identity = Identity {
            id: old.id.clone(),
            slot: old.slot,
            created_at: old.created_at.clone(),
            home: Some(Home {
                region: old.region.clone(),
                vpc: old.vpc.clone(),
            }),
        };
        let balancer = parse(cloud, call, identity)?;
        let id = install(app, cloud, balancer)?;
        put_into(cloud, &id, project, &now);
        Ok(())
    })
    .await?;
    get(app, id)
}

/// `DELETE /v2/load_balancers/{id}`
pub(crate) async fn delete(app: &App, id: &str) -> Result {
    app.change(|cloud| {
        let removed = cloud.records.balancers.remove(id);
        removed.ok_or_else(ApiError::not_found)?;
        cloud.firewalls_forget_balancer(id);
        Ok(())
    })
    .await?;
    app.balancers.remove(id);
    Answer::no_content()
}

/// What becomes of the droplets or rules that a call names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Add,
    Remove,
}

/// `POST` and `DELETE /v2/load_balancers/{id}/droplets`
pub(crate) async fn change_droplets(app: &App, id: &str, call: &Call, change: Change) -> Result {
    app.change(|cloud| {
        call.needed_list("droplet_ids")?;
        let ids = droplet_ids(cloud, call)?;
        let balancer = cloud
            .records
            .balancers
            .get_mut(id)
            .ok_or_else(ApiError::not_found)?;
        if balancer.tag.is_some() {
            return Err(ApiError::unprocessable(
                "This load balancer gets its droplets by tag.",
            ));
        }
        balancer.droplet_ids.retain(|other| !ids.contains(other));
        if change == Change::Add {
            balancer.droplet_ids.extend(ids);
        }
        Answer::no_content()
    })
    .await
}

/// `POST` and `DELETE /v2/load_balancers/{id}/forwarding_rules`; a rule that is added takes the place of the one on its
/// port, and only a rule that is there can be removed.
pub(crate) async fn change_rules(app: &App, id: &str, call: &Call, change: Change) -> Result {
    app.change(|cloud| {
        let given = rules(cloud, call)?;
        let mut balancer = cloud
            .records
            .balancers
            .get(id)
            .cloned()
            .ok_or_else(ApiError::not_found)?;
        if change == Change::Remove
            && let Some(rule) = given
                .iter()
                .find(|rule| !balancer.forwarding_rules.contains(rule))
        {
            return Err(ApiError::unprocessable(format!(
                "forwarding_rules: there is no rule from port {} to port {}",
                rule.entry_port, rule.target_port
            )));
        }
        balancer
            .forwarding_rules
            .retain(|rule| !given.iter().any(|other| other.entry_port == rule.entry_port));
        if change == Change::Add {
            balancer.forwarding_rules.extend(given);
        }
        if balancer.forwarding_rules.is_empty() || balancer.forwarding_rules.len() > RULES_MAX {
            return Err(ApiError::unprocessable(format!(
                "A load balancer needs 1 to {RULES_MAX} forwarding rules."
            )));
        }
        install(app, cloud, balancer)?;
        Answer::no_content()
    })
    .await
}

/// Puts a balancer into the project that a call names, if it names one.
fn put_into(cloud: &mut Cloud, id: &str, project: Option<&str>, now: &str) {
    if let Some(project) = project {
        resources::assign(cloud, &Urn::new(Kind::LoadBalancer, &id), project, now);
    }
}

/// Lets the balancer run, then notes it: a port that can't be had refuses the change.
fn install(app: &App, cloud: &mut Cloud, balancer: LoadBalancer) -> Result<String> {
    let namesake = |other: &LoadBalancer| other.name == balancer.name && other.id != balancer.id;
    if cloud.records.balancers.values().any(namesake) {
        return Err(ApiError::unprocessable(
            "A load balancer with this name already exists.",
        ));
    }
    if balancer.redirect_http_to_https && balancer.https_port().is_none() {
        return Err(ApiError::unprocessable(
            "redirect_http_to_https needs a forwarding rule whose entry_protocol is https or http2",
        ));
    }
    let ip = app.fleet.addresses.balancer_ip(balancer.slot);
    app.balancers
        .apply(&balancer.spec(ip, &app.certificates))
        .map_err(|error| {
            let source = std::error::Error::source(&error)
                .map(ToString::to_string)
                .unwrap_or_default();
            ApiError::unprocessable(format!("forwarding_rules: {error}: {source}"))
        })?;
    let id = balancer.id.clone();
    cloud.records.balancers.insert(id.clone(), balancer);
    Ok(id)
}
