//! The public REST interface: from a request to domain values, to the store, to a response.
//!
//! No SQL, no CQL, no retries, no clock or randomness of its own. Error statuses stand in `error.rs` alone.
//!
//! A request passes: route (404, 405), key (401, 403), encoding and media type (415), body size (413), then names,
//! query, conditions and body (400), and only then the store (404, 412, 409). The table in `routes.rs` says what each
//! operation asks for. Handlers carry their OpenAPI description (`#[OpenApi]`), and are called from here: see
//! `docs/adr/0020-own-dispatch.md`.

pub mod access;
mod answer;
mod call;
mod collections;
mod docs;
pub mod documents;
pub mod error;
mod held;
mod incoming;
mod openapi;
mod page_token;
mod payload;
mod request_id;
mod route;
mod routes;
mod segments;

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use poem::http::{Method, StatusCode};
use poem::{Body, Endpoint, Request, Response};
use poem_openapi::Tags;

use crate::domain::{CollectionName, Timestamp, WriteStamp};
use crate::store::{CollectionCatalog, LargeWork, Store};
use access::{Access, AuthProblem, Grant};
use call::Call;
use error::{Problem, ProblemKind};
use incoming::PendingBody;
use route::RouteMatch;
use routes::{BodyMode, Operation, Requires};

pub use docs::Profile as OpenApiProfile;
pub use held::{HeldBytes, HeldLimits};
pub use openapi::document as openapi_document;
pub use request_id::RequestId;
pub use route::Route;

/// What every request may use. Made once, by `main`.
pub struct AppState {
    /// The database.
    pub store: Arc<dyn Store>,
    /// What this instance knows about collections.
    pub catalog: CollectionCatalog,
    /// Keys and what they may do.
    pub access: Arc<Access>,
    /// The time.
    pub clock: fn() -> Timestamp,
    /// 64 random bits; unpredictability is not needed, uniqueness is.
    pub nonce: fn() -> u64,
    /// [`Store::cluster_secret`]: page tokens are sealed with it.
    pub cluster_secret: [u8; 32],
    /// What may be held for all clients together.
    pub held: HeldBytes,
    /// Turns at working on large texts.
    pub large: LargeWork,
}

impl AppState {
    /// What a write takes along.
    #[must_use]
    pub fn stamp(&self) -> WriteStamp {
        WriteStamp {
            now: (self.clock)(),
            nonce: (self.nonce)(),
        }
    }
}

/// The groups of operations in the OpenAPI document.
#[derive(Tags)]
enum Tag {
    /// Named sets of documents.
    Collections,
    /// JSON documents with a version each.
    Documents,
}

/// The whole public interface as one endpoint; it never fails.
///
/// Every response carries its [`Route`] (the `route` label of metrics is its template) and its [`RequestId`] (for logs)
/// as extensions.
pub fn routes(state: Arc<AppState>) -> impl Endpoint<Output = Response> {
    PublicInterface { state }
}

struct PublicInterface {
    state: Arc<AppState>,
}

impl Endpoint for PublicInterface {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let request_id = RequestId::new(self.state.nonce);
        let mut body = PendingBody::new(request.take_body());
        let target = RouteMatch::resolve(request.uri().path());
        let route = target.route;
        let mut response = match answer(&self.state, &request, &target, &mut body).await {
            Ok(response) => response,
            Err(problem) => problem.respond(&request_id),
        };
        if !body.is_finished() {
            Box::pin(body.drain(request.headers().contains_key(header::EXPECT))).await;
        }
        if request.method() == Method::HEAD {
            strip_body(&mut response);
        }
        finish(&mut response, route, request_id);
        Ok(response)
    }
}

/// Gives an answer what every answer has: the request id, `nosniff`, `Cache-Control`, and what metrics and logs read.
pub(crate) fn finish(response: &mut Response, route: Route, request_id: RequestId) {
    const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, request_id.header_value());
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, no-cache"),
        );
    }
    response.extensions_mut().insert(route);
    response.extensions_mut().insert(request_id);
}

/// A HEAD's answer is that of GET with its length, but without the body.
fn strip_body(response: &mut Response) {
    let body = response.take_body();
    if response.status() == StatusCode::NOT_MODIFIED || response.status() == StatusCode::NO_CONTENT {
        return;
    }
    let length = hyper::body::Body::size_hint(&http_body_util::combinators::BoxBody::from(body)).exact();
    if let Some(length) = length {
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
}

async fn answer(
    state: &Arc<AppState>,
    request: &Request,
    target: &RouteMatch<'_>,
    body: &mut PendingBody,
) -> Result<Response, Problem> {
    let operation = match find(target.route, request.method())? {
        Found::Operation(operation) => operation,
        Found::Options => return Ok(options(target.route)),
    };
    let mut call = Call {
        state,
        request,
        segments: &target.segments,
        openapi: openapi::document,
        grant: Grant::Open,
        collection: None,
        id: None,
        body: bytes::Bytes::new(),
    };
    if operation.access != Requires::Nothing {
        call.grant = authenticate(state, request.headers())?;
        check_scope(operation, &mut call)?;
        incoming::refuse_content_encoding(request.headers())?;
        if let BodyMode::Whole(media) = operation.body {
            media.demand(request.headers())?;
            call.body = body.read(&state.held.bodies).await?;
        }
        call.check_path()?;
        incoming::check_query(call.query(), operation.query)?;
        if operation.writes() {
            incoming::refuse_idempotency_key(request.headers())?;
        }
    }
    (operation.handler)(call).await
}

/// What a method leads to on a route.
enum Found {
    Operation(&'static Operation),
    Options,
}

fn find(route: Route, method: &Method) -> Result<Found, Problem> {
    if route == Route::UNKNOWN {
        return Err(Problem::new(
            ProblemKind::NotFound,
            "no route has this path; /docs shows those there are",
        ));
    }
    if let Some(operation) = route.operation(method) {
        return Ok(Found::Operation(operation));
    }
    if *method == Method::OPTIONS {
        return Ok(Found::Options);
    }
    let problem = Problem::new(
        ProblemKind::MethodNotAllowed,
        format!("this path has {}", route.allow()),
    );
    Err(problem.with_header(header::ALLOW, route.allow()))
}

/// Whether the key may do this to the path's collection. A name that is not one is refused later, in its turn.
fn check_scope(operation: &Operation, call: &mut Call<'_>) -> Result<(), Problem> {
    let Requires::Scope(level) = operation.access else {
        return Ok(());
    };
    let collection = CollectionName::parse(call.segments.parameter("collection").unwrap_or_default());
    if let Ok(name) = &collection
        && !call.grant.allows(level, name)
    {
        return Err(Problem::new(
            ProblemKind::Forbidden,
            format!("the key needs the scope {}:{name}", level.as_str()),
        ));
    }
    call.collection = Some(collection);
    Ok(())
}

/// Who sent the request; two `Authorization` lines are malformed.
fn authenticate(state: &AppState, headers: &HeaderMap) -> Result<Grant, Problem> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let header = lines.next();
    if lines.next().is_some() {
        return Err(AuthProblem::Malformed.into());
    }
    Ok(state.access.authorise(header)?)
}

fn options(route: Route) -> Response {
    let mut response = Response::builder()
        .status(StatusCode::NO_CONTENT)
        .body(Body::empty());
    response.headers_mut().insert(header::ALLOW, route.allow_header());
    response
}
