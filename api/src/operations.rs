//! The private operations listener: `/livez`, `/readyz`, `/metrics`, `/deploy/ready`, `POST /drain`.
//!
//! For load balancers, deployers and Prometheus; no keys, no documents. What shows or changes more than health is only for
//! callers that use this machine's name or address, and never for a web page of another origin. It answers from the first
//! moment until the last request of the public listener is done.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use tidepool_listener::{AnswerBody, Early, Peer, RequestBody, Service, TrustedHosts};
use tidepool_logging::chain;
use tokio::sync::Mutex;

use crate::http::error::PlainRefusal;
use crate::lifecycle::{Lifecycle, Stage};
use crate::metrics::Metrics;
use crate::store::Store;

/// How long the store may take to say that it is well. Health checkers commonly wait 5 s: this leaves them an answer.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the store's answer is reused, so that many checkers are one question.
const READY_AGE_MAX: Duration = Duration::from_millis(500);

/// What the operations listener answers from.
pub struct Operations {
    lifecycle: Arc<Lifecycle>,
    metrics: Arc<Metrics>,
    store: OnceLock<Arc<dyn Store>>,
    health: Mutex<Option<StoreHealth>>,
    trusted: TrustedHosts,
}

/// The store's last answer.
struct StoreHealth {
    at: Instant,
    problem: Option<String>,
}

impl Operations {
    /// Starts without a store: not ready.
    #[must_use]
    pub fn new(lifecycle: Arc<Lifecycle>, metrics: Arc<Metrics>, trusted: TrustedHosts) -> Self {
        Self {
            lifecycle,
            metrics,
            store: OnceLock::new(),
            health: Mutex::new(None),
            trusted,
        }
    }

    /// Sets the store whose health is checked. Only the first call counts.
    pub fn store_opened(&self, store: Arc<dyn Store>) {
        let _first = self.store.set(store);
    }

    /// Probes are answered whatever host they name, for they show nothing but health; the rest only to who may.
    async fn answer_path(&self, asked: &http::Request<RequestBody>, peer: &Peer) -> Response<Full<Bytes>> {
        let (method, path) = (asked.method(), asked.uri().path());
        if matches!(path, "/metrics" | "/drain")
            && let Err(stranger) = self.trusted.admit(method, asked.headers(), peer.local)
        {
            tracing::warn!(path, %stranger, "refused");
            return refuse(PlainRefusal::Forbidden, format!("{stranger}\n"));
        }
        let reads = [Method::GET, Method::HEAD].contains(method);
        match path {
            "/livez" if reads => text(StatusCode::OK, "alive\n"),
            "/readyz" if reads => self.ready().await,
            "/metrics" if reads => self.metrics(),
            "/deploy/ready" if reads => self.may_be_stopped(),
            "/drain" if method == Method::POST => self.drain(),
            "/livez" | "/readyz" | "/metrics" | "/deploy/ready" => refuse_method("GET, HEAD"),
            "/drain" => refuse_method("POST"),
            _ => refuse(
                PlainRefusal::NotFound,
                "here are /livez, /readyz, /metrics, /deploy/ready and POST /drain\n",
            ),
        }
    }

    /// 200 when requests should be sent here: serving, and the store answers.
    async fn ready(&self) -> Response<Full<Bytes>> {
        match self.lifecycle.stage() {
            Stage::Starting => return refuse(PlainRefusal::NotReady, "starting\n"),
            Stage::Serving => {}
            Stage::Draining | Stage::Stopping | Stage::Cutting => {
                return refuse(PlainRefusal::NotReady, "draining\n");
            }
        }
        match self.store_problem().await {
            None => text(StatusCode::OK, "ready\n"),
            Some(problem) => refuse(PlainRefusal::NotReady, problem),
        }
    }

    /// Asks the store, unless it was asked just now. Requests that come meanwhile wait for the same answer.
    async fn store_problem(&self) -> Option<String> {
        let mut health = self.health.lock().await;
        if let Some(known) = &*health
            && known.at.elapsed() < READY_AGE_MAX
        {
            return known.problem.clone();
        }
        let was_well = health.as_ref().is_none_or(|known| known.problem.is_none());
        let problem = match self.store.get() {
            None => Some("the store is not open yet\n".to_owned()),
            Some(store) => match tokio::time::timeout(READY_TIMEOUT, store.ready()).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => {
                    if was_well {
                        tracing::warn!(error = %chain(&error), "not ready: the store fails");
                    }
                    Some("the store fails\n".to_owned())
                }
                Err(_) => {
                    if was_well {
                        tracing::warn!("not ready: the store does not answer");
                    }
                    Some(format!(
                        "the store did not answer within {} s\n",
                        READY_TIMEOUT.as_secs()
                    ))
                }
            },
        };
        if problem.is_none() && !was_well {
            tracing::info!("ready again");
        }
        *health = Some(StoreHealth {
            at: Instant::now(),
            problem: problem.clone(),
        });
        problem
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match self.metrics.render() {
            Ok(rendered) => {
                let mut response = Response::new(Full::new(rendered.into()));
                let exposition = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, exposition);
                response
            }
            Err(error) => {
                tracing::error!(%error, "metrics can't be rendered");
                refuse(PlainRefusal::Defect, "metrics can't be rendered\n")
            }
        }
    }

    /// 200 when nothing would be lost by stopping this process.
    fn may_be_stopped(&self) -> Response<Full<Bytes>> {
        let draining = self.lifecycle.stage() >= Stage::Draining;
        match (draining, self.lifecycle.in_flight()) {
            (false, _) => refuse(PlainRefusal::NotReady, "drain was not asked for\n"),
            (true, 0) => text(StatusCode::OK, "may be stopped\n"),
            (true, n) => refuse(PlainRefusal::NotReady, format!("{n} requests in flight\n")),
        }
    }

    fn drain(&self) -> Response<Full<Bytes>> {
        if self.lifecycle.stage() < Stage::Draining {
            tracing::info!("draining: not ready any more, requests are still served");
        }
        self.lifecycle.advance(Stage::Draining);
        text(StatusCode::ACCEPTED, "draining\n")
    }
}

impl Service for Operations {
    type Body = AnswerBody<Full<Bytes>>;

    async fn answer(
        self: Arc<Self>,
        request: http::Request<RequestBody>,
        peer: Peer,
    ) -> Response<Self::Body> {
        let answering = peer.answering();
        let response = self.answer_path(&request, &peer).await;
        response.map(|body| AnswerBody::new(body, answering, ()))
    }

    fn answer_early(
        &self,
        early: Early,
        _: Option<&http::request::Parts>,
        peer: &Peer,
    ) -> Response<Self::Body> {
        let mut response = match early {
            Early::ServerOptions => text(early.status(), ""),
            _ => text(early.status(), format!("{}\n", early.detail())),
        };
        if early.has_allow() {
            let methods = HeaderValue::from_static("GET, HEAD, POST, OPTIONS");
            response.headers_mut().insert(ALLOW, methods);
        }
        response.map(|body| AnswerBody::new(body, peer.answering(), ()))
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refuse(refusal: PlainRefusal, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    text(refusal.status(), body)
}

fn refuse_method(allow: &'static str) -> Response<Full<Bytes>> {
    let mut response = refuse(PlainRefusal::MethodNotAllowed, format!("only {allow}\n"));
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allow));
    response
}
