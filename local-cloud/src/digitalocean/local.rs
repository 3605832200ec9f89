//! `/_local`: what the real one has not: faults on demand, and a look behind the curtain. Asks for a token only where
//! `--token` says which.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::app::App;
use super::call::{Answer, Call, Result};
use super::error::ApiError;
use super::records::droplet::Status;
use super::views::set;
use crate::balancer::BalancerView;
use crate::balancer::member::MemberView;
use crate::machines::faults::{FailCreates, RateLimited, SlowBoot};

/// Longest fault of a slow boot: an hour.
const SLOW_BOOT_SECS_MAX: f64 = 3_600.0;
/// How long a droplet's ready address may take to answer.
const READY_WITHIN: Duration = Duration::from_millis(500);

/// `GET /_local/faults`
pub(crate) fn faults(app: &App) -> Result {
    Answer::ok(json!({"faults": app.faults.armed()}))
}

/// `DELETE /_local/faults`
pub(crate) fn clear(app: &App) -> Result {
    app.faults.clear();
    Answer::no_content()
}

/// `POST /_local/faults/power-cut`
pub(crate) async fn power_cut(app: &App, call: &Call) -> Result {
    let id = call.body.get("droplet_id").and_then(Value::as_u64);
    let id = id.ok_or_else(|| ApiError::unprocessable("droplet_id must be a droplet's id"))?;
    if !app.read(|cloud| cloud.droplets.contains_key(&id)) {
        return Err(ApiError::not_found());
    }
    // The processes first: nothing else may learn of it before they are dead.
    app.hosts.power_off(id).await;
    app.change(|cloud| {
        if let Some(droplet) = cloud.droplets.get_mut(&id) {
            droplet.status = Status::Off;
        }
    });
    tracing::info!(droplet = id, "power cut");
    Answer::ok(json!({"droplet_id": id, "status": "off"}))
}

/// `POST /_local/faults/slow-boot`
pub(crate) fn slow_boot(app: &App, call: &Call) -> Result {
    let fault: SlowBoot = fault(call)?;
    if !(0.0..=SLOW_BOOT_SECS_MAX).contains(&fault.secs) {
        return Err(ApiError::unprocessable(format!(
            "secs must be 0 to {SLOW_BOOT_SECS_MAX}"
        )));
    }
    count_is_positive(fault.count)?;
    app.faults.arm_slow_boot(fault);
    faults(app)
}

/// `POST /_local/faults/fail-creates`
pub(crate) fn fail_creates(app: &App, call: &Call) -> Result {
    let fault: FailCreates = fault(call)?;
    if !(400..600).contains(&fault.status) {
        return Err(ApiError::unprocessable("status must be 400 to 599"));
    }
    count_is_positive(fault.count)?;
    app.faults.arm_fail_creates(fault);
    faults(app)
}

/// `POST /_local/faults/rate-limit`
pub(crate) fn rate_limit(app: &App, call: &Call) -> Result {
    let fault: RateLimited = fault(call)?;
    count_is_positive(fault.count)?;
    app.faults.arm_rate_limit(fault);
    faults(app)
}

/// `GET /_local/state`
pub(crate) async fn state(app: &App) -> Result {
    let images = super::images_now(app)?;
    let droplets = app.read(|cloud| cloud.droplets.values().cloned().collect::<Vec<_>>());
    let readiness = futures_util::future::join_all(droplets.iter().map(|droplet| async {
        let url = images
            .get(&droplet.base_slug)
            .and_then(|image| image.ready_url.as_ref())?;
        Some(is_ready(app, &app.substitute(url, droplet)).await)
    }))
    .await;
    let droplets: Vec<Value> = droplets
        .iter()
        .zip(readiness)
        .map(|(droplet, ready)| {
            let endpoint = |port| app.addresses.droplet_endpoint(droplet.slot, port).to_string();
            let processes: Vec<Value> = app
                .hosts
                .view(droplet.id)
                .into_iter()
                .map(|process| json!({"name": process.name, "pid": process.pid, "ended": process.ended}))
                .collect();
            let pids: Vec<&Value> = processes.iter().filter_map(|process| process.get("pid")).filter(|pid| !pid.is_null()).collect();
            json!({
                "id": droplet.id, "name": droplet.name, "status": droplet.status.as_str(), "tags": droplet.tags,
                "ip": app.addresses.droplet_ip(droplet.slot),
                "public": endpoint(crate::machines::addresses::PUBLIC_PORT), "ops": endpoint(crate::machines::addresses::OPS_PORT),
                "root": app.state.droplet_root(droplet.id), "logs": app.state.droplet_logs(droplet.id),
                "ready": ready, "pids": pids, "processes": processes,
            })
        })
        .collect();
    let balancers = app.read(|cloud| cloud.balancers.values().cloned().collect::<Vec<_>>());
    let balancers: Vec<Value> = balancers
        .iter()
        .map(|balancer| {
            let mut view = app
                .balancers
                .view(&balancer.id)
                .map_or_else(|| json!({}), |view| balancer_view(&view));
            set(&mut view, "id", json!(balancer.id));
            set(&mut view, "name", json!(balancer.name));
            set(&mut view, "tag", json!(balancer.tag));
            view
        })
        .collect();
    Answer::ok(json!({
        "addresses": app.addresses.describe(),
        "state_dir": app.state.path(),
        "droplets": droplets,
        "load_balancers": balancers,
        "faults": app.faults.armed(),
    }))
}

fn balancer_view(view: &BalancerView) -> Value {
    let members = |list: &[MemberView]| list.iter().map(member_view).collect::<Vec<Value>>();
    json!({
        "ip": view.ip,
        "ports": view.ports,
        "port": view.ports.first(),
        "members": members(&view.members),
        "past_members": members(&view.past_members),
        "connections": view.connections,
        "counters": view.counters,
    })
}

fn member_view(member: &MemberView) -> Value {
    json!({
        "droplet_id": member.machine,
        "ip": member.ip,
        "state": member.state,
        "last_check": member.last_check,
        "in_flight": member.in_flight,
        "requests": member.requests,
        "failures": member.failures,
        "answers": member.answers,
    })
}

fn fault<T: DeserializeOwned>(call: &Call) -> Result<T> {
    serde_json::from_value(Value::Object(call.body.clone()))
        .map_err(|error| ApiError::unprocessable(error.to_string()))
}

fn count_is_positive(count: u64) -> Result<()> {
    if count > 0 {
        Ok(())
    } else {
        Err(ApiError::unprocessable("count must be at least 1"))
    }
}

async fn is_ready(app: &App, url: &str) -> bool {
    let answer = app.probe.get(url).timeout(READY_WITHIN).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}
