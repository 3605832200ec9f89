//! The HTTP API: every route on one screen ([`route`]), and what all calls share: token, rate limit, decoding, errors.

pub(crate) mod app;
pub(crate) mod attachments;
mod call;
pub(crate) mod catalog;
mod certificates;
mod domain_record_request;
mod domains;
mod droplet_actions;
mod droplets;
mod error;
mod faults;
mod firewall_request;
mod firewalls;
mod images;
mod keys;
pub(crate) mod limits;
mod load_balancer_request;
mod load_balancers;
mod local;
mod names;
mod page;
mod projects;
pub(crate) mod records;
mod registries;
mod reserved_ips;
mod resources;
#[cfg(test)]
mod stand_in;
mod tags;
mod traffic;
mod views;
mod volume_actions;
mod volume_snapshots;
mod volumes;
mod vpcs;
mod zones;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use poem::{Body, Endpoint, Request, Response};
use serde_json::{Map, Value, json};
use tidepool_listener::{Early, Stranger};

use self::app::App;
use self::call::{Answer, Call, Result, decode, parse_query};
use self::error::ApiError;
use self::limits::Standing;
use self::load_balancers::Change;
use self::views::Scene;
use crate::hosts::HostFault;
use crate::manifests::Images;

/// Largest body: user data has 64 KiB, the rest is small.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The whole API as poem serves it.
#[derive(Debug, Clone)]
pub(crate) struct Api(pub(crate) Arc<App>);

impl Endpoint for Api {
    type Output = Response;

    #[expect(
        clippy::disallowed_methods,
        reason = "request ids and rate limits are by the wall's clock, as DigitalOcean's are"
    )]
    async fn call(&self, request: Request) -> poem::Result<Response> {
        let started = Instant::now();
        let request_id = uuid::Uuid::new_v4().to_string();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let (standing, result) = answer(&self.0, request).await;
        let response = respond(result, standing, &request_id);
        let (status, ms) = (response.status().as_u16(), started.elapsed().as_millis());
        tracing::debug!(%method, path, status, %request_id, ms, "answered");
        Ok(response)
    }
}

/// Token and rate limit first, then the call itself.
async fn answer(app: &Arc<App>, request: Request) -> (Option<Standing>, Result) {
    let mut standing = None;
    let local = request.uri().path().starts_with("/_local");
    let given = token(request.headers());
    if let Some(known) = &app.settings.token {
        if given != Some(known.reveal()) {
            return (None, Err(ApiError::unauthorized()));
        }
    } else if let Err(stranger) = admit(app, &request) {
        tracing::warn!(path = request.uri().path(), %stranger, "refused");
        return (None, Err(ApiError::forbidden(stranger.to_string())));
    }
    if !local {
        let Some(token) = given else {
            return (None, Err(ApiError::unauthorized()));
        };
        let mut counted = app.limits.call(token, Instant::now());
        if let Some(secs) = app.faults.next_call() {
            counted.remaining = 0;
            counted.retry_after = Some(Duration::from_secs(secs));
        }
        standing = Some(counted);
        if counted.retry_after.is_some() {
            return (standing, Err(ApiError::too_many_requests()));
        }
    }
    let result = match read(request).await {
        Ok(call) => to_its_end(app, call).await,
        Err(error) => Err(error),
    };
    (standing, result)
}

/// Runs the call to its end, although its client may go away: what it has begun is not left half done.
async fn to_its_end(app: &Arc<App>, call: Call) -> Result {
    let app = Arc::clone(app);
    let running = tokio::spawn(async move { route(&app, &call).await });
    running
        .await
        .unwrap_or_else(|error| Err(ApiError::server_error(error.to_string())))
}

/// Where any token is taken, a web page could make one up: it must be on this machine, and of this listener's own origin to
/// write.
fn admit(app: &App, request: &Request) -> std::result::Result<(), Stranger> {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let local = request.local_addr().as_socket_addr().copied().unwrap_or(nowhere);
    app.settings
        .trusted
        .admit(request.method(), request.headers(), local)
}

/// What no route is asked for.
#[expect(
    clippy::disallowed_methods,
    reason = "request ids are random, as DigitalOcean's are"
)]
pub(crate) fn early(early: Early) -> Response {
    let request_id = uuid::Uuid::new_v4().to_string();
    let error = ApiError::early(early);
    let allow = error.allow;
    let mut response = respond(Err(error), None, &request_id);
    if early == Early::ServerOptions {
        response = Response::builder().status(early.status()).finish();
        if let Some(allow) = allow {
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static(allow));
        }
    }
    response
}

/// Every route.
async fn route(app: &Arc<App>, call: &Call) -> Result {
    let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
    let method = call.method.as_str();
    match path.as_slice() {
        ["v2", "account"] if method == "GET" => images::account(app),
        ["v2", "account", "keys", rest @ ..] => keys_route(app, call, rest).await,
        ["v2", "regions"] if method == "GET" => images::regions(call),
        ["v2", "sizes"] if method == "GET" => images::sizes(call),
        ["v2", "images", rest @ ..] => images_route(app, call, rest).await,
        ["v2", "snapshots"] if method == "GET" => images::snapshots(app, call).await,
        ["v2", "snapshots", id] => snapshot_route(app, call, id).await,
        ["v2", "actions"] if method == "GET" => droplet_actions::list(app, call),
        ["v2", "actions", id] if method == "GET" => droplet_actions::get(app, id, None),
        ["v2", "tags", rest @ ..] => tags_route(app, call, rest).await,
        ["v2", "droplets", rest @ ..] => droplets_route(app, call, rest).await,
        ["v2", "certificates", rest @ ..] => certificates_route(app, call, rest).await,
        ["v2", "load_balancers", rest @ ..] => balancers_route(app, call, rest).await,
        ["v2", "firewalls", rest @ ..] => firewalls_route(app, call, rest).await,
        ["v2", "reserved_ips", rest @ ..] => reserved_ips_route(app, call, rest).await,
        ["v2", "domains", rest @ ..] => domains::route(app, call, rest).await,
        ["v2", "registry", rest @ ..] => registries::route_one(app, call, rest).await,
        ["v2", "registries", rest @ ..] => registries::route(app, call, rest).await,
        ["v2", "vpcs", rest @ ..] => vpcs_route(app, call, rest).await,
        ["v2", "volumes", rest @ ..] => volumes_route(app, call, rest).await,
        ["v2", "projects", rest @ ..] => projects_route(app, call, rest).await,
        ["_local", rest @ ..] => local_route(app, call, rest).await,
        ["v2", "account" | "regions" | "sizes" | "actions" | "snapshots"] | ["v2", "actions", _] => {
            Err(ApiError::method_not_allowed(GET))
        }
        _ => Err(ApiError::not_found()),
    }
}

const GET: &str = "GET, HEAD";
const GET_DELETE: &str = "GET, HEAD, DELETE";
const GET_POST: &str = "GET, HEAD, POST";
const GET_PUT_DELETE: &str = "GET, HEAD, PUT, DELETE";
const POST: &str = "POST";
const POST_DELETE: &str = "POST, DELETE";

async fn keys_route(app: &App, call: &Call, rest: &[&str]) -> Result {
    match (call.method.as_str(), rest) {
        ("GET", []) => keys::list(app, call),
        ("POST", []) => keys::create(app, call).await,
        ("GET", [id]) => keys::get(app, id),
        ("PUT", [id]) => keys::rename(app, id, call).await,
        ("DELETE", [id]) => keys::delete(app, id).await,
        (_, []) => Err(ApiError::method_not_allowed(GET_POST)),
        (_, [_]) => Err(ApiError::method_not_allowed(GET_PUT_DELETE)),
        _ => Err(ApiError::not_found()),
    }
}

async fn images_route(app: &App, call: &Call, rest: &[&str]) -> Result {
    match (call.method.as_str(), rest) {
        ("GET", []) => images::list(app, call).await,
        ("GET", [id]) => images::get(app, id).await,
        ("PUT", [id]) => images::update(app, id, call).await,
        ("DELETE", [id]) => images::delete(app, id).await,
        ("POST", [id, "actions"]) => images::act(app, id, call).await,
        ("GET", [id, "actions", action]) => droplet_actions::get(app, action, Some(id)),
        (_, [] | [_, "actions", _]) => Err(ApiError::method_not_allowed(GET)),
        (_, [_]) => Err(ApiError::method_not_allowed(GET_PUT_DELETE)),
        (_, [_, "actions"]) => Err(ApiError::method_not_allowed(POST)),
        _ => Err(ApiError::not_found()),
    }
}

async fn tags_route(app: &App, call: &Call, rest: &[&str]) -> Result {
    match (call.method.as_str(), rest) {
        ("GET", []) => tags::list(app, call).await,
        ("POST", []) => tags::create(app, call).await,
        ("GET", [name]) => tags::get(app, name, call).await,
        ("DELETE", [name]) => tags::delete(app, name).await,
        ("POST", [name, "resources"]) => tags::add(app, name, call).await,
        ("DELETE", [name, "resources"]) => tags::remove(app, name, call).await,
        (_, []) => Err(ApiError::method_not_allowed(GET_POST)),
        (_, [_]) => Err(ApiError::method_not_allowed(GET_DELETE)),
        (_, [_, "resources"]) => Err(ApiError::method_not_allowed(POST_DELETE)),
        _ => Err(ApiError::not_found()),
    }
}

async fn droplets_route(app: &Arc<App>, call: &Call, rest: &[&str]) -> Result {
    match (call.method.as_str(), rest) {
        ("GET", []) => droplets::list(app, call).await,
        ("POST", []) => droplets::create(app, call).await,
        ("DELETE", []) => droplets::delete_by_tag(app, call).await,
        ("POST", ["actions"]) => droplet_actions::act_by_tag(app, call).await,
        ("GET", [id]) => droplets::get(app, id).await,
        ("DELETE", [id]) => droplets::delete(app, id).await,
        ("GET", [id, "actions"]) => droplet_actions::list_of_droplet(app, id, call),
        ("POST", [id, "actions"]) => droplet_actions::act(app, id, call).await,
        ("GET", [id, "actions", action]) => droplet_actions::get(app, action, Some(id)),
        ("GET", [id, "snapshots"]) => droplet_actions::snapshots(app, id, call).await,
        ("GET", [id, "backups"]) => droplet_actions::empty_list(app, id, "backups", call),
        ("GET", [id, "kernels"]) => droplet_actions::empty_list(app, id, "kernels", call),
        ("GET", [id, "neighbors"]) => droplet_actions::empty_list(app, id, "droplets", call),
        ("GET", [id, "firewalls"]) => firewalls::list_of_droplet(app, id, call),
        (_, []) => Err(ApiError::method_not_allowed("GET, HEAD, POST, DELETE")),
        (_, ["actions"]) => Err(ApiError::method_not_allowed(POST)),
        (_, [_]) => Err(ApiError::method_not_allowed(GET_DELETE)),
        (_, [_, "actions"]) => Err(ApiError::method_not_allowed(GET_POST)),
        (_, [_, "actions", _] | [_, "snapshots" | "backups" | "kernels" | "neighbors" | "firewalls"]) => {
            Err(ApiError::method_not_allowed(GET))
        }
        _ => Err(ApiError::not_found()),
    }
}

async fn certificates_route(app: &App, call: &Call, rest: &[&str]) -> Result {
    match (call.method.as_str(), rest) {
        ("GET", []) => certificates::list(app, call),
        ("POST", []) => certificates::create(app, call).await,
        ("GET", [id]) => certificates::get(app, id),
        ("DELETE", [id]) => certificates::delete(app, id).await,
        (_, []) => Err(ApiError::method_not_allowed(GET_POST)),
        (_, [_]) => Err(ApiError::method_not_allowed(GET_DELETE)),
        _ => Err(ApiError::not_found()),
    }
}

async fn balancers_route(app: &App, call: &Call, rest: &[&str]) -> Result {
    match (call.method.as_str(), rest) {
        ("GET", []) => load_balancers::list(app, call),
        ("POST", []) => load_balancers::create(app, call).await,
        ("GET", [id]) => load_balancers::get(app, id),
        ("PUT", [id]) => load_balancers::update(app, id, call).await,
        ("DELETE", [id]) => load_balancers::delete(app, id).await,
        ("POST", [id, "droplets"]) => load_balancers::change_droplets(app, id, call, Change::Add).await,
        ("DELETE", [id, "droplets"]) => load_balancers::change_droplets(app, id, call, Change::Remove).await,
        ("POST", [id, "forwarding_rules"]) => load_balancers::change_rules(app, id, call, Change::Add).await,
        ("DELETE", [id, "forwarding_rules"]) => {
            load_balancers::change_rules(app, id, call, Change::Remove).await
        }
        (_, []) => Err(ApiError::method_not_allowed(GET_POST)),
        (_, [_]) => Err(ApiError::method_not_allowed(GET_PUT_DELETE)),
        (_, [_, "droplets" | "forwarding_rules"]) => Err(ApiError::method_not_allowed(POST_DELETE)),
        _ => Err(ApiError::not_found()),
    }
}

async fn firewalls_route(app: &App, call: &Call, rest: &[&str]) -> Result {
    match (call.method.as_str(), rest) {
        ("GET", []) => firewalls::list(app, call),
        ("POST", []) => firewalls::create(app, call).await,
        ("GET", [id]) => firewalls::get(app, id),
        ("PUT", [id]) => firewalls::update(app, id, call).await,
        ("DELETE", [id]) => firewalls::delete(app, id).await,
        ("POST", [id, "droplets"]) => firewalls::change_droplets(app, id, call, Change::Add).await,
        ("DELETE", [id, "droplets"]) => firewalls::change_droplets(app, id, call, Change::Remove).await,
        ("POST", [id, "tags"]) => firewalls::change_tags(app, id, call, Change::Add).await,
        ("DELETE", [id, "tags"]) => firewalls::change_tags(app, id, call, Change::Remove).await,
        ("POST", [id, "rules"]) => firewalls::change_rules(app, id, call, Change::Add).await,
        ("DELETE", [id, "rules"]) => firewalls::change_rules(app, id, call, Change::Remove).await,
        (_, []) => Err(ApiError::method_not_allowed(GET_POST)),
        (_, [_]) => Err(ApiError::method_not_allowed(GET_PUT_DELETE)),
        (_, [_, "droplets" | "tags" | "rules"]) => Err(ApiError::method_not_allowed(POST_DELETE)),
        _ => Err(ApiError::not_found()),
    }
}

async fn reserved_ips_route(app: &App, call: &Call, rest: &[&str]) -> Result {
    match (call.method.as_str(), rest) {
        ("GET", []) => reserved_ips::list(app, call).await,
        ("POST", []) => reserved_ips::create(app, call).await,
        ("GET", [ip]) => reserved_ips::get(app, ip).await,
        ("DELETE", [ip]) => reserved_ips::delete(app, ip).await,
        ("GET", [ip, "actions"]) => reserved_ips::actions(app, ip, call),
        ("POST", [ip, "actions"]) => reserved_ips::act(app, ip, call).await,
        ("GET", [ip, "actions", action]) => reserved_ips::action(app, ip, action),
        (_, [] | [_, "actions"]) => Err(ApiError::method_not_allowed(GET_POST)),
        (_, [_]) => Err(ApiError::method_not_allowed(GET_DELETE)),
        (_, [_, "actions", _]) => Err(ApiError::method_not_allowed(GET)),
        _ => Err(ApiError::not_found()),
    }
}

async fn vpcs_route(app: &App, call: &Call, rest: &[&str]) -> Result {
    match (call.method.as_str(), rest) {
        ("GET", []) => vpcs::list(app, call),
        ("POST", []) => vpcs::create(app, call).await,
        ("GET", [id]) => vpcs::get(app, id),
        ("PUT" | "PATCH", [id]) => vpcs::update(app, id, call).await,
        ("DELETE", [id]) => vpcs::delete(app, id).await,
        ("GET", [id, "members"]) => vpcs::members(app, id, call),
        (_, []) => Err(ApiError::method_not_allowed(GET_POST)),
        (_, [_]) => Err(ApiError::method_not_allowed("GET, HEAD, PUT, PATCH, DELETE")),
        (_, [_, "members"]) => Err(ApiError::method_not_allowed(GET)),
        _ => Err(ApiError::not_found()),
    }
}

async fn snapshot_route(app: &App, call: &Call, id: &str) -> Result {
    match (call.method.as_str(), volume_snapshots::is_one(app, id)) {
        ("GET", false) => images::snapshot(app, id).await,
        ("DELETE", false) => images::delete(app, id).await,
        ("GET", true) => volume_snapshots::get(app, id),
        ("DELETE", true) => volume_snapshots::delete(app, id).await,
        _ => Err(ApiError::method_not_allowed(GET_DELETE)),
    }
}

async fn volumes_route(app: &Arc<App>, call: &Call, rest: &[&str]) -> Result {
    match (call.method.as_str(), rest) {
        ("GET", []) => volumes::list(app, call),
        ("POST", []) => volumes::create(app, call).await,
        ("DELETE", []) => volumes::delete_by_name(app, call).await,
        ("POST", ["actions"]) => volume_actions::act_by_name(app, call).await,
        ("GET", ["snapshots", id]) => volume_snapshots::get(app, id),
        ("DELETE", ["snapshots", id]) => volume_snapshots::delete(app, id).await,
        ("GET", [id]) => volumes::get(app, id),
        ("DELETE", [id]) => volumes::delete(app, id).await,
        ("GET", [id, "snapshots"]) => volume_snapshots::list_of_volume(app, id, call),
        ("POST", [id, "snapshots"]) => volume_snapshots::create(app, id, call).await,
        ("GET", [id, "actions"]) => volume_actions::list(app, id, call),
        ("POST", [id, "actions"]) => volume_actions::act(app, id, call).await,
        ("GET", [id, "actions", action]) => volume_actions::get(app, id, action),
        (_, []) => Err(ApiError::method_not_allowed("GET, HEAD, POST, DELETE")),
        (_, ["actions"]) => Err(ApiError::method_not_allowed(POST)),
        (_, [_] | ["snapshots", _]) => Err(ApiError::method_not_allowed(GET_DELETE)),
        (_, [_, "snapshots" | "actions"]) => Err(ApiError::method_not_allowed(GET_POST)),
        (_, [_, "actions", _]) => Err(ApiError::method_not_allowed(GET)),
        _ => Err(ApiError::not_found()),
    }
}

async fn projects_route(app: &App, call: &Call, rest: &[&str]) -> Result {
    match (call.method.as_str(), rest) {
        ("GET", []) => projects::list(app, call),
        ("POST", []) => projects::create(app, call).await,
        ("GET", [id]) => projects::get(app, id),
        ("PUT" | "PATCH", [id]) => projects::update(app, id, call).await,
        ("DELETE", [id]) => projects::delete(app, id).await,
        ("GET", [id, "resources"]) => projects::resources(app, id, call),
        ("POST", [id, "resources"]) => projects::add(app, id, call).await,
        (_, []) => Err(ApiError::method_not_allowed(GET_POST)),
        (_, [_]) => Err(ApiError::method_not_allowed("GET, HEAD, PUT, PATCH, DELETE")),
        (_, [_, "resources"]) => Err(ApiError::method_not_allowed(GET_POST)),
        _ => Err(ApiError::not_found()),
    }
}

async fn local_route(app: &App, call: &Call, rest: &[&str]) -> Result {
    match (call.method.as_str(), rest) {
        ("GET", ["state"]) => local::state(app).await,
        ("GET", ["faults"]) => local::faults(app),
        ("DELETE", ["faults"]) => local::clear(app),
        ("POST", ["faults", "power-cut"]) => local::power_cut(app, call).await,
        ("POST", ["faults", "freeze"]) => local::fail(app, call, HostFault::Freeze).await,
        ("POST", ["faults", "partition"]) => local::fail(app, call, HostFault::Partition).await,
        ("POST", ["faults", "heal"]) => local::fail(app, call, HostFault::Heal).await,
        ("POST", ["faults", "slow-disk"]) => local::slow_disk(app, call).await,
        ("POST", ["faults", "slow-boot"]) => local::slow_boot(app, call),
        ("POST", ["faults", "hang-boot"]) => local::hang_boot(app, call),
        ("POST", ["faults", "metadata"]) => local::metadata(app, call),
        ("POST", ["faults", "fail-creates"]) => local::fail_creates(app, call),
        ("POST", ["faults", "rate-limit"]) => local::rate_limit(app, call),
        (_, ["state"]) => Err(ApiError::method_not_allowed(GET)),
        (_, ["faults"]) => Err(ApiError::method_not_allowed(GET_DELETE)),
        (
            _,
            [
                "faults",
                "power-cut" | "freeze" | "partition" | "heal" | "slow-boot" | "fail-creates" | "rate-limit",
            ],
        ) => Err(ApiError::method_not_allowed(POST)),
        _ => Err(ApiError::not_found()),
    }
}

/// Runs with the cloud, and the images as they are now.
async fn scene<T>(app: &App, look: impl FnOnce(&Scene<'_>) -> Result<T>) -> Result<T> {
    let images = images_now(app).await?;
    scene_of(app, &images, look)
}

/// Runs with the cloud and these images.
fn scene_of<T>(app: &App, images: &Images, look: impl FnOnce(&Scene<'_>) -> Result<T>) -> Result<T> {
    app.read(|cloud| look(&Scene { app, cloud, images }))
}

/// The images' directory as it is now; read once a call.
///
/// # Errors
/// 500 with every problem of every manifest.
async fn images_now(app: &App) -> Result<Images> {
    app.fleet
        .manifests
        .read()
        .await
        .map_err(|problems| ApiError::server_error(problems.to_string()))
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

/// Decodes the request.
async fn read(mut request: Request) -> Result<Call> {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("localhost");
    let base = format!("http://{host}");
    let body = request.take_body();
    let uri = request.uri();
    let path: Vec<String> = uri
        .path()
        .trim_start_matches('/')
        .trim_end_matches('/')
        .split('/')
        .map(decode)
        .collect();
    let query = parse_query(uri.query().unwrap_or_default());
    // A HEAD is answered as its GET; the listener leaves the body out.
    let method = match *request.method() {
        Method::HEAD => Method::GET,
        ref method => method.clone(),
    };
    let body = if method == Method::GET {
        Map::new()
    } else {
        read_body(body).await?
    };
    Ok(Call {
        method,
        path,
        query,
        body,
        base,
    })
}

/// A JSON object, whatever the content type says; nothing at all is an empty one.
async fn read_body(body: Body) -> Result<Map<String, Value>> {
    let bytes = match body.into_bytes_limit(BODY_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(poem::error::ReadBodyError::PayloadTooLarge) => return Err(ApiError::too_large(BODY_BYTES_MAX)),
        Err(error) => return Err(ApiError::bad_request(error.to_string())),
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err(ApiError::bad_request("The body must be a JSON object.")),
        Err(error) => Err(ApiError::bad_request(format!("The body is not JSON: {error}"))),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "request ids and rate limits are by the wall's clock, as DigitalOcean's are"
)]
fn respond(result: Result, standing: Option<Standing>, request_id: &str) -> Response {
    let mut allow = None;
    let (status, body) = match result {
        Ok(Answer { status, body }) => (status, body),
        Err(error) => {
            let body = json!({"id": error.id, "message": error.message, "request_id": request_id});
            allow = error.allow;
            (error.status, Some(body))
        }
    };
    let mut response = match body {
        Some(body) => Response::builder()
            .content_type("application/json; charset=utf-8")
            .body(serde_json::to_vec(&body).unwrap_or_default()),
        None => Response::builder().finish(),
    };
    response.set_status(status);
    let headers = response.headers_mut();
    if let Some(allow) = allow {
        headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert("x-request-id", value);
    }
    if let Some(standing) = standing {
        let now = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
        headers.insert("ratelimit-limit", standing.limit.into());
        headers.insert("ratelimit-remaining", standing.remaining.into());
        headers.insert("ratelimit-reset", (now + standing.reset_after.as_secs()).into());
        if let Some(wait) = standing
            .retry_after
            .filter(|_| status == StatusCode::TOO_MANY_REQUESTS)
        {
            // Whole seconds, rounded up: coming back a moment early would be refused again.
            headers.insert(
                "retry-after",
                wait.as_millis()
                    .div_ceil(1_000)
                    .min(3_600)
                    .to_string()
                    .parse()
                    .unwrap_or_else(|_| HeaderValue::from_static("1")),
            );
        }
    }
    response
}
