//! `/_local`: what the real one has not: faults on demand, and a look behind the curtain. Asks for a token only where
//! `--token` says which.

use std::time::Duration;

use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::app::App;
use super::call::{Answer, Call, Result};
use super::error::ApiError;
use super::faults::{FailCreates, RateLimited};
use super::records::droplet::{Droplet, status};
use super::views::set;
use crate::balancer::BalancerView;
use crate::balancer::member::MemberView;
use crate::hosts::{HostError, HostFault};
use crate::machines::addresses::{OPS_PORT, PUBLIC_PORT};
use crate::machines::faults::{BadMetadata, HangBoot, SlowBoot};
use crate::machines::{Machine, Power};

/// Longest that anything is made late: an hour.
const LATE_SECS_MAX: f64 = 3_600.0;
/// What a slow disk moves a second, unless it is said: as a worn memory card.
const SLOW_DISK_BYTES_PER_SEC: u64 = 1024 * 1024;
/// How long a droplet's ready address may take to answer.
const READY_WITHIN: Duration = Duration::from_millis(500);

/// `GET /_local/faults`
pub(crate) fn faults(app: &App) -> Result {
    Answer::ok(json!({"faults": armed(app)}))
}

/// `DELETE /_local/faults`
pub(crate) fn clear(app: &App) -> Result {
    app.faults.clear();
    app.fleet.faults.clear();
    Answer::no_content()
}

/// `POST /_local/faults/power-cut`
pub(crate) async fn power_cut(app: &App, call: &Call) -> Result {
    let id = droplet_of(app, call)?;
    // The processes first: nothing else may learn of it before they are dead.
    let cut = app.fleet.hosts.fail(id, HostFault::PowerCut).await;
    cut.map_err(|error| ApiError::server_error(error.to_string()))?;
    app.change(|cloud| {
        if let Some(machine) = cloud.machines.get_mut(id) {
            machine.power = Power::Off;
        }
        Ok(())
    })
    .await?;
    tracing::info!(droplet = id, "power cut");
    Answer::ok(json!({"droplet_id": id, "status": "off"}))
}

/// `POST /_local/faults/{freeze,partition,heal}`, and `slow-disk` when its rate is known.
pub(crate) async fn fail(app: &App, call: &Call, fault: HostFault) -> Result {
    let id = droplet_of(app, call)?;
    app.fleet
        .hosts
        .fail(id, fault)
        .await
        .map_err(|error| match error {
            HostError::Refused(reason) => ApiError::unprocessable(reason),
            other => ApiError::server_error(other.to_string()),
        })?;
    tracing::info!(droplet = id, ?fault, "fault");
    Answer::ok(json!({"droplet_id": id}))
}

fn droplet_of(app: &App, call: &Call) -> Result<u64> {
    let id = call.body.get("droplet_id").and_then(Value::as_u64);
    let id = id.ok_or_else(|| ApiError::unprocessable("droplet_id must be a droplet's id"))?;
    if app.read(|cloud| cloud.records.droplets.contains_key(&id)) {
        Ok(id)
    } else {
        Err(ApiError::not_found())
    }
}

/// `POST /_local/faults/slow-boot`
pub(crate) fn slow_boot(app: &App, call: &Call) -> Result {
    let fault: SlowBoot = fault(call)?;
    secs_are_sane(fault.secs)?;
    count_is_positive(fault.count)?;
    app.fleet.faults.arm_slow_boot(fault);
    faults(app)
}

/// `POST /_local/faults/hang-boot`
pub(crate) fn hang_boot(app: &App, call: &Call) -> Result {
    let fault: HangBoot = fault(call)?;
    count_is_positive(fault.count)?;
    app.fleet.faults.arm_hang_boot(fault);
    faults(app)
}

/// `POST /_local/faults/metadata`
pub(crate) fn metadata(app: &App, call: &Call) -> Result {
    let fault: BadMetadata = fault(call)?;
    secs_are_sane(fault.secs)?;
    count_is_positive(fault.count)?;
    match fault.status {
        Some(status) => status_is_failure(status)?,
        None if fault.secs == 0.0 => return Err(ApiError::unprocessable("secs or status is needed")),
        None => {}
    }
    app.fleet.faults.arm_metadata(fault);
    faults(app)
}

/// `POST /_local/faults/slow-disk`
pub(crate) async fn slow_disk(app: &App, call: &Call) -> Result {
    let bytes_per_sec = match call.body.get("bytes_per_sec") {
        None => Some(SLOW_DISK_BYTES_PER_SEC),
        Some(value) => value.as_u64().filter(|bytes| *bytes > 0),
    };
    let bytes_per_sec =
        bytes_per_sec.ok_or_else(|| ApiError::unprocessable("bytes_per_sec must be at least 1"))?;
    fail(app, call, HostFault::SlowDisk { bytes_per_sec }).await
}

/// `POST /_local/faults/fail-creates`
pub(crate) fn fail_creates(app: &App, call: &Call) -> Result {
    let fault: FailCreates = fault(call)?;
    status_is_failure(fault.status)?;
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
    let images = super::images_now(app).await?;
    let droplets: Vec<(Droplet, Machine)> = app.read(|cloud| {
        let found = cloud.droplets();
        found
            .map(|found| (found.droplet.clone(), found.machine.clone()))
            .collect()
    });
    let readiness = join_all(droplets.iter().map(|(_, machine)| async {
        let image = images.get(&machine.image)?;
        let url = image.ready_url.as_ref()?;
        let network = app.fleet.network(machine);
        Some(is_ready(app, &app.fleet.hosts.fill_in(url, machine, &network)).await)
    }))
    .await;
    let droplets: Vec<Value> = droplets
        .iter()
        .zip(readiness)
        .map(|((droplet, machine), ready)| {
            let mut view = machine_view(app, machine);
            set(&mut view, "tags", json!(droplet.tags));
            set(&mut view, "ready", json!(ready));
            view
        })
        .collect();
    let balancers = app.read(|cloud| cloud.records.balancers.values().cloned().collect::<Vec<_>>());
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
        "addresses": app.fleet.addresses.describe(),
        "name_server": app.settings.name_server.to_string(),
        "state_dir": app.state.path(),
        "droplets": droplets,
        "load_balancers": balancers,
        "registries": app.read(super::registries::state),
        "authority": Some(app.certificates.authority().root_file()).filter(|file| file.is_file()),
        "faults": armed(app),
    }))
}

fn machine_view(app: &App, machine: &Machine) -> Value {
    let network = app.fleet.network(machine);
    let endpoint = |port| network.endpoint(port).to_string();
    let host = app.fleet.hosts.view(machine.id);
    let processes: Vec<Value> = host
        .processes
        .iter()
        .map(|process| json!({"name": process.name, "pid": process.pid, "ended": process.ended}))
        .collect();
    let pids: Vec<i32> = host.processes.iter().filter_map(|process| process.pid).collect();
    json!({
        "id": machine.id, "name": machine.name, "status": status(machine.power),
        "ip": network.public.ip, "public": endpoint(PUBLIC_PORT), "ops": endpoint(OPS_PORT),
        "root": host.root, "logs": host.logs, "pids": pids, "processes": processes,
    })
}

/// Every fault that is armed, of machines and of the API.
fn armed(app: &App) -> Value {
    let (of_api, of_machines) = (app.faults.armed(), app.fleet.faults.armed());
    json!({
        "slow_boot": of_machines.slow_boot,
        "hang_boot": of_machines.hang_boot,
        "metadata": of_machines.metadata,
        "fail_creates": of_api.fail_creates,
        "rate_limit": of_api.rate_limit,
    })
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

fn status_is_failure(status: u16) -> Result<()> {
    if (400..600).contains(&status) {
        Ok(())
    } else {
        Err(ApiError::unprocessable("status must be 400 to 599"))
    }
}

fn secs_are_sane(secs: f64) -> Result<()> {
    if (0.0..=LATE_SECS_MAX).contains(&secs) {
        Ok(())
    } else {
        Err(ApiError::unprocessable(format!(
            "secs must be 0 to {LATE_SECS_MAX}"
        )))
    }
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
