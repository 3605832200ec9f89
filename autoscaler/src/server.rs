//! The status port: the status API, the operator's word, Prometheus metrics and the dashboard. Its types are in `status`.

mod rollouts;

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use poem::http::{Method, StatusCode, header};
use poem::web::{Data, Json, Path};
use poem::{Endpoint, EndpointExt, IntoResponse, Request, Response, Route, get, handler, post};
use serde_json::json;
use sha2::{Digest, Sha256};
use tidepool_autoscaler_core::decide::Control;
use tidepool_autoscaler_core::observe::UnixMillis;
use tidepool_listener::{Early, EndpointService, Limits, Rooms, Server, Stranger, TrustedHosts, WallClock};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::apply::Clock;
use crate::config::Secret;
use crate::meters::Meters;
use crate::record;
use crate::state::{StateDir, Word};
use crate::status::{ScaleRequest, Status};
use crate::tick::Pool;

/// Requests in flight have so long to finish at the end.
const CLOSE_MAX: Duration = Duration::from_secs(2);
/// A body is at most so large: a size has a few dozen bytes.
const BODY_BYTES_MAX: usize = 4096;

/// What the routes need.
#[derive(Clone)]
pub struct Shared {
    /// All pools.
    pub pools: Arc<Vec<Arc<Pool>>>,
    /// Where the operator's word is kept.
    pub state: StateDir,
    /// The autoscaler's own metrics.
    pub meters: Arc<Meters>,
    /// Seconds between ticks.
    pub tick_secs: u32,
    /// What the API wants as bearer token.
    pub token: Option<Secret>,
    /// The hosts that are served while there is no token.
    pub trusted: TrustedHosts,
    /// The time.
    pub clock: Clock,
}

/// Serves until `stop` is set.
pub async fn serve(listener: TcpListener, shared: Shared, limits: Limits, stop: CancellationToken) {
    let server = Server {
        name: "status",
        limits,
        rooms: Rooms::default(),
        stages: Arc::default(),
        metrics: None,
        tls: None,
        clock: wall_clock(Arc::clone(&shared.clock)),
    };
    let service = Arc::new(EndpointService::new(routes(shared), early));
    server
        .run_until((listener, service), stop.cancelled_owned(), CLOSE_MAX)
        .await;
}

/// The time as the listener asks for it.
fn wall_clock(clock: Clock) -> WallClock {
    Box::new(move || {
        let UnixMillis(millis) = clock();
        let since = Duration::from_millis(millis.unsigned_abs());
        let time = match millis < 0 {
            true => SystemTime::UNIX_EPOCH.checked_sub(since),
            false => SystemTime::UNIX_EPOCH.checked_add(since),
        };
        time.unwrap_or(SystemTime::UNIX_EPOCH)
    })
}

/// All routes of the status port.
pub fn routes(shared: Shared) -> impl Endpoint<Output = Response> {
    let api = Route::new()
        .at("/status", get(status_route))
        .at("/pools/:name/hold", post(hold_route))
        .at("/pools/:name/resume", post(resume_route))
        .at("/pools/:name/scale", post(scale_route))
        .at("/pools/:name/rollout", post(rollouts::order_route))
        .at("/pools/:name/rollout/:word", post(rollouts::word_route))
        .around(|api, request: Request| async move {
            match token_refusal(&request).or_else(|| foreign_write(&request)) {
                None => api.call(request).await.map(IntoResponse::into_response),
                Some(refusal) => Ok(refusal),
            }
        });
    let metrics = get(metrics_route).around(|metrics, request: Request| async move {
        match token_refusal(&request) {
            None => metrics.call(request).await.map(IntoResponse::into_response),
            Some(refusal) => Ok(refusal),
        }
    });
    Route::new()
        .nest("/api", api)
        .at("/metrics", metrics)
        .at("/livez", get(livez_route))
        .nest("/", crate::dashboard::page())
        .around(|routes, mut request: Request| async move {
            if let Some(refusal) = stranger_refusal(&request) {
                return Ok(refusal);
            }
            let allow = methods_of(request.uri().path());
            // A HEAD is answered as its GET; the listener leaves the body out.
            if request.method() == Method::HEAD {
                request.set_method(Method::GET);
            }
            match routes.call(request).await.map(IntoResponse::into_response) {
                Err(error) if error.status() == StatusCode::METHOD_NOT_ALLOWED => {
                    let refused = failure(error.status(), &format!("this path has {allow}"));
                    Ok(refused.with_header(header::ALLOW, allow).into_response())
                }
                answered => answered,
            }
        })
        .data(shared)
        .catch_all_error(|error: poem::Error| async move { failure(error.status(), &error.to_string()) })
        .map_to_response()
}

/// The methods of a path, for `Allow`.
fn methods_of(path: &str) -> &'static str {
    match path.starts_with("/api/pools/") {
        true => "POST",
        false => "GET, HEAD",
    }
}

/// What no route is asked for.
fn early(early: Early) -> Response {
    let mut answer = match early {
        Early::ServerOptions => Response::builder().status(early.status()).finish(),
        _ => failure(early.status(), early.detail()),
    };
    if early.has_allow() {
        let methods = header::HeaderValue::from_static("GET, HEAD, POST, OPTIONS");
        answer.headers_mut().insert(header::ALLOW, methods);
    }
    answer
}

/// Without a token: who calls this machine by a name that isn't its own, or writes from a web page of another origin, is
/// refused. `/livez` shows nothing and answers everybody.
fn stranger_refusal(request: &Request) -> Option<Response> {
    let shared = request.data::<Shared>()?;
    if shared.token.is_some() || request.uri().path() == "/livez" {
        return None;
    }
    let stranger = admit(shared, request).err()?;
    tracing::warn!(path = request.uri().path(), %stranger, "refused");
    Some(failure(StatusCode::FORBIDDEN, &stranger.to_string()))
}

/// With a token too, no web page of another origin writes.
fn foreign_write(request: &Request) -> Option<Response> {
    let shared = request.data::<Shared>()?;
    let foreign = shared.trusted.admit_origin(request.method(), request.headers());
    Some(failure(StatusCode::FORBIDDEN, &foreign.err()?.to_string()))
}

fn admit(shared: &Shared, request: &Request) -> Result<(), Stranger> {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let local = request.local_addr().as_socket_addr().copied().unwrap_or(nowhere);
    shared.trusted.admit(request.method(), request.headers(), local)
}

/// Why a request may not be answered: no token where one is wanted.
fn token_refusal(request: &Request) -> Option<Response> {
    let shared = request.data::<Shared>()?;
    let wanted = shared.token.as_ref()?;
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        // A scheme's name has no case (RFC 9110, 11.1).
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer"))
        .map_or("", |(_, token)| token.trim_start_matches(' '));
    // Hashes are compared, so that the time it takes reveals nothing about the token.
    if Sha256::digest(given.as_bytes()) == Sha256::digest(wanted.reveal().as_bytes()) {
        return None;
    }
    let refused = failure(
        StatusCode::UNAUTHORIZED,
        "the status port's token is missing or wrong",
    );
    Some(
        refused
            .with_header(header::WWW_AUTHENTICATE, "Bearer")
            .into_response(),
    )
}

fn failure(status: StatusCode, error: &str) -> Response {
    Json(json!({ "error": error }))
        .with_status(status)
        .into_response()
}

#[handler]
fn status_route(Data(shared): Data<&Shared>) -> Json<Status> {
    Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now: (shared.clock)(),
        tick_secs: shared.tick_secs,
        pools: shared.pools.iter().map(|pool| pool.recorder.status()).collect(),
    })
}

#[handler]
fn hold_route(Path(name): Path<String>, Data(shared): Data<&Shared>) -> Response {
    change(shared, &name, |pool| {
        let size = pool
            .recorder
            .base()
            .ok_or((StatusCode::CONFLICT, "the pool was not observed yet".to_owned()))?;
        // Dead members may leave a pool under its minimum for a moment; that is not what is meant to be held.
        let spec = &pool.config.spec;
        Ok(Control::Hold {
            size: size.max(spec.min).min(spec.max),
        })
    })
}

#[handler]
fn resume_route(Path(name): Path<String>, Data(shared): Data<&Shared>) -> Response {
    change(shared, &name, |_| Ok(Control::Auto))
}

#[handler]
async fn scale_route(Path(name): Path<String>, Data(shared): Data<&Shared>, body: poem::Body) -> Response {
    let Ok(body) = body.into_bytes_limit(BODY_BYTES_MAX).await else {
        return failure(StatusCode::BAD_REQUEST, "the body is too large");
    };
    let size = match serde_json::from_slice::<ScaleRequest>(&body) {
        Ok(request) => request.size,
        Err(error) => {
            return failure(
                StatusCode::BAD_REQUEST,
                &format!("the body must be {{\"size\": N}}: {error}"),
            );
        }
    };
    change(shared, &name, |pool| {
        let (min, max) = (pool.config.spec.min, pool.config.spec.max);
        if (min..=max).contains(&size) {
            Ok(Control::Manual { size })
        } else {
            Err((
                StatusCode::BAD_REQUEST,
                format!("size must be within the pool's {min} and {max}, not {size}"),
            ))
        }
    })
}

/// The pool of this name, or the answer that there is none.
#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
fn pool_named<'s>(shared: &'s Shared, name: &str) -> Result<&'s Arc<Pool>, Response> {
    let found = shared.pools.iter().find(|pool| pool.name().0 == name);
    found.ok_or_else(|| {
        let known = record::names(shared.pools.iter().map(|pool| pool.name()));
        failure(
            StatusCode::NOT_FOUND,
            &format!("there is no pool {name:?}; there are: {known}"),
        )
    })
}

/// Keeps the operator's word on the disk, then acts by it.
fn change(
    shared: &Shared,
    name: &str,
    control: impl FnOnce(&Pool) -> Result<Control, (StatusCode, String)>,
) -> Response {
    let pool = match pool_named(shared, name) {
        Ok(pool) => pool,
        Err(refusal) => return refusal,
    };
    let control = match control(pool) {
        Ok(control) => control,
        Err((status, error)) => return failure(status, &error),
    };
    let given = Word::Given(control);
    let mut word = pool.word.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = shared.state.control_save(pool.name(), given) {
        return failure(StatusCode::INTERNAL_SERVER_ERROR, &crate::chain(&error));
    }
    *word = given;
    pool.recorder.mode_set(control);
    tracing::info!(pool = %pool.name(), ?control, "the operator decides");
    Json(record::mode(control)).into_response()
}

#[handler]
fn metrics_route(Data(shared): Data<&Shared>) -> Response {
    match shared.meters.text() {
        Ok(text) => Response::builder()
            .content_type("text/plain; version=0.0.4")
            .body(text),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

#[handler]
fn livez_route() -> &'static str {
    "alive\n"
}
