//! The public listener's service: around the REST interface, what every request needs and no route should know of.
//! Counting, metrics, the bounds of load, body and time, panics, and letting connections go while draining.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use http::header::{ALLOW, CONNECTION, HeaderValue};
use http::{Method, Version};
use http_body_util::combinators::BoxBody;
use poem::{Endpoint, Response};
use tidepool_listener::{
    AnswerBody, Answering, Early, Peer, RequestBody, Service, Stranger, TrustedHosts, poem_request,
};

use crate::config::Limits;
use crate::http::access::Access;
use crate::http::error::{Problem, ProblemKind};
use crate::http::{RequestId, Route, finish};
use crate::keys::KeyFreshness;
use crate::lifecycle::{InFlight, Lifecycle, RequestKind, Stage, Working};
use crate::metrics::Metrics;

/// The methods that some route has, for `OPTIONS *`.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// A request that takes longer is worth a line in the log.
const SLOW: Duration = Duration::from_secs(2);

/// What the public service is made of.
pub struct PublicServiceParts<E> {
    /// The REST interface.
    pub endpoint: E,
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
    /// Draining, and what is in flight.
    pub lifecycle: Arc<Lifecycle>,
    /// Whether keys may be trusted.
    pub freshness: Arc<KeyFreshness>,
    /// Bounds.
    pub limits: Limits,
    /// Who may come while there is no key.
    pub access: Arc<Access>,
    /// The hosts that are served without one.
    pub trusted: TrustedHosts,
    /// Random bits for the request ids of answers that no route gave.
    pub nonce: fn() -> u64,
}

/// Answers the public listener's requests.
pub struct PublicService<E> {
    parts: PublicServiceParts<E>,
}

impl<E: Endpoint<Output = Response> + 'static> PublicService<E> {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: PublicServiceParts<E>) -> Self {
        Self { parts }
    }

    /// Answers from the routes, or with the reason why they were not asked or gave nothing.
    async fn answered(
        &self,
        request: http::Request<RequestBody>,
        peer: &Peer,
        head: &Head,
    ) -> Result<Response, Refusal> {
        let parts = &self.parts;
        let most = match head.kind {
            RequestKind::Read => parts.limits.reads_in_flight_max,
            RequestKind::Write => parts.limits.writes_in_flight_max,
        };
        let (_working, of_its_kind) = Working::enter(&parts.lifecycle, head.kind);
        if of_its_kind > most {
            return Err(Refusal::Overloaded);
        }
        if parts.access.is_open() {
            let admitted = parts
                .trusted
                .admit(request.method(), request.headers(), peer.local);
            admitted.map_err(Refusal::Stranger)?;
        }
        if parts.freshness.is_stale() && request.uri().path().starts_with("/v1/") {
            return Err(Refusal::KeysUnknown);
        }
        let lateness = request.body().lateness();
        let request = poem_request(request, peer);
        // Pinned here: it is large, and would be copied on its way.
        let mut answering = pin!(AssertUnwindSafe(parts.endpoint.get_response(request)).catch_unwind());
        match peer.within_bound(answering.as_mut()).await {
            _ if lateness.is_late() => Err(Refusal::BodyTooSlow),
            Some(Ok(response)) => Ok(response),
            Some(Err(_panic)) => Err(Refusal::Defect),
            None => match head.kind {
                RequestKind::Read => Err(Refusal::Overdue),
                RequestKind::Write => Err(Refusal::WriteOverdue),
            },
        }
    }

    /// Counts a request from here on.
    fn begin(&self, method: Method, version: Version, peer: &Peer) -> (Head, Held) {
        let began = Instant::now();
        let kind = match method {
            Method::GET | Method::HEAD | Method::OPTIONS => RequestKind::Read,
            _ => RequestKind::Write,
        };
        let in_flight = InFlight::enter(&self.parts.lifecycle);
        let head = Head {
            method,
            version,
            kind,
            began,
        };
        (head, (in_flight, peer.answering_since(began)))
    }

    fn finish(&self, mut response: Response, head: &Head) -> Response {
        // HTTP/2 has GOAWAY for this.
        if self.parts.lifecycle.stage() >= Stage::Draining && head.version < Version::HTTP_2 {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let took = head.began.elapsed();
        let route = response.extensions().get().copied().unwrap_or(Route::UNKNOWN);
        self.parts
            .metrics
            .request_answered(&head.method, route, response.status(), took);
        log_answer(&response, route, head, took);
        response
    }
}

/// Why a request is answered here and not by its route.
#[derive(Debug)]
enum Refusal {
    Early(Early),
    Stranger(Stranger),
    Overloaded,
    KeysUnknown,
    BodyTooSlow,
    Defect,
    Overdue,
    WriteOverdue,
}

impl Refusal {
    fn respond(self, request_id: RequestId, route: Route) -> Response {
        let refusal = format!("{self:?}");
        let (kind, detail): (_, Cow<'static, str>) = match self {
            Self::Early(early) => (kind_of(early), early.detail().into()),
            Self::Stranger(stranger) => (ProblemKind::Forbidden, stranger.to_string().into()),
            Self::Overloaded => (
                ProblemKind::StoreUnavailable,
                "too many requests wait for the database; nothing was done".into(),
            ),
            Self::KeysUnknown => (
                ProblemKind::StoreUnavailable,
                "the database has not said for too long which keys count; nothing was done".into(),
            ),
            Self::BodyTooSlow => (ProblemKind::InvalidBody, "the body did not arrive in time".into()),
            Self::Defect => (ProblemKind::Internal, Early::Defect.detail().into()),
            Self::Overdue => (
                ProblemKind::StoreUnavailable,
                "the database did not answer in time".into(),
            ),
            Self::WriteOverdue => (
                ProblemKind::OutcomeUnknown,
                "the write may or may not have happened; read the document to find out".into(),
            ),
        };
        let mut response = Problem::new(kind, detail).respond(&request_id);
        tracing::warn!(
            request_id = request_id.as_str(),
            route = route.template(),
            refusal,
            "refused"
        );
        finish(&mut response, route, request_id);
        response
    }
}

/// The problem of an answer that no route is asked for.
fn kind_of(early: Early) -> ProblemKind {
    match early {
        Early::Connect => ProblemKind::MethodNotAllowed,
        Early::TransferEncoding => ProblemKind::NotImplemented,
        Early::TargetTooLong => ProblemKind::TargetTooLong,
        Early::HeadersTooLarge => ProblemKind::HeadersTooLarge,
        Early::BodyTooLarge => ProblemKind::BodyTooLarge,
        Early::NoDate | Early::Defect => ProblemKind::Internal,
        Early::ServerOptions
        | Early::NoHost
        | Early::TwoHosts
        | Early::BadHost
        | Early::BadTarget
        | Early::NotHttp => ProblemKind::InvalidRequest,
    }
}

/// What is remembered of a request while it is answered.
struct Head {
    method: Method,
    version: Version,
    kind: RequestKind,
    began: Instant,
}

impl<E: Endpoint<Output = Response> + 'static> Service for PublicService<E> {
    type Body = AnswerBody<BoxBody<bytes::Bytes, std::io::Error>, InFlight>;

    async fn answer(
        self: Arc<Self>,
        request: http::Request<RequestBody>,
        peer: Peer,
    ) -> http::Response<Self::Body> {
        let (head, held) = self.begin(request.method().clone(), request.version(), &peer);
        let uri = request.uri().clone();
        let response = match self.answered(request, &peer, &head).await {
            Ok(response) => response,
            Err(refusal) => refusal.respond(RequestId::new(self.parts.nonce), Route::of(uri.path())),
        };
        hold(self.finish(response, &head), held)
    }

    fn answer_early(
        &self,
        early: Early,
        asked: Option<&http::request::Parts>,
        peer: &Peer,
    ) -> http::Response<Self::Body> {
        let request_id = RequestId::new(self.parts.nonce);
        let (method, version) = match asked {
            Some(asked) => (asked.method.clone(), asked.version),
            // What could not be read counts under `other`, as methods do that nobody knows.
            None => (
                Method::from_bytes(b"UNREADABLE").unwrap_or_default(),
                Version::HTTP_11,
            ),
        };
        let (head, held) = self.begin(method, version, peer);
        let mut response = match early {
            Early::ServerOptions => {
                let mut response = Response::builder().status(early.status()).finish();
                finish(&mut response, Route::UNKNOWN, request_id);
                response
            }
            _ => Refusal::Early(early).respond(request_id, Route::UNKNOWN),
        };
        if early.has_allow() {
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static(METHODS));
        }
        hold(self.finish(response, &head), held)
    }
}

/// What an answer keeps until its last byte is taken.
type Held = (InFlight, Answering);

fn hold(
    response: Response,
    held: Held,
) -> http::Response<AnswerBody<BoxBody<bytes::Bytes, std::io::Error>, InFlight>> {
    let response: http::Response<BoxBody<bytes::Bytes, std::io::Error>> = response.into();
    let (in_flight, answering) = held;
    response.map(|body| AnswerBody::new(body, answering, in_flight))
}

/// A line for each request at debug, for slow ones at info. Failures are logged where they are handled.
fn log_answer(response: &Response, route: Route, head: &Head, took: Duration) {
    let slow = took >= SLOW;
    if !slow && !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let request_id = response.extensions().get::<RequestId>();
    let request_id = request_id.map(RequestId::as_str).unwrap_or_default();
    let (method, route, status) = (&head.method, route.template(), response.status().as_u16());
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    if slow {
        tracing::info!(request_id, %method, route, status, took_ms, "slow request");
    } else {
        tracing::debug!(request_id, %method, route, status, took_ms, "request");
    }
}
