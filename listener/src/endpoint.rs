//! poem's endpoints behind our accept loop.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::uri::Scheme;
use http_body_util::combinators::BoxBody;
use hyper::body::Body as _;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Addr, Body, Endpoint, Request, RequestParts, Response};

use crate::{AnswerBody, Answering, Early, Peer, RequestBody, Service};

/// A request as poem's endpoints take it.
#[must_use]
pub fn poem_request(request: http::Request<RequestBody>, peer: &Peer) -> Request {
    let (parts, body) = request.into_parts();
    let body = match body.is_end_stream() {
        true => Body::empty(),
        false => Body::from(BoxBody::new(body)),
    };
    let scheme = if peer.tls { Scheme::HTTPS } else { Scheme::HTTP };
    let parts = RequestParts::from((
        parts,
        LocalAddr(Addr::SocketAddr(peer.local)),
        RemoteAddr(Addr::SocketAddr(peer.remote)),
        scheme,
    ));
    Request::from_parts(parts, body)
}

/// Answers with an endpoint.
#[derive(Debug)]
pub struct EndpointService<E> {
    endpoint: E,
    early: fn(Early) -> Response,
}

impl<E: Endpoint<Output = Response> + 'static> EndpointService<E> {
    /// Around an endpoint whose errors are answers already; `early` words what no route is asked for.
    #[must_use]
    pub fn new(endpoint: E, early: fn(Early) -> Response) -> Self {
        Self { endpoint, early }
    }
}

impl<E: Endpoint<Output = Response> + 'static> Service for EndpointService<E> {
    type Body = AnswerBody<BoxBody<Bytes, io::Error>>;

    async fn answer(
        self: Arc<Self>,
        request: http::Request<RequestBody>,
        peer: Peer,
    ) -> http::Response<Self::Body> {
        let answering = peer.answering();
        let answered =
            AssertUnwindSafe(self.endpoint.get_response(poem_request(request, &peer))).catch_unwind();
        // The panic's own words are in the log already.
        let response = answered
            .await
            .unwrap_or_else(|_panic| (self.early)(Early::Defect));
        held(response, answering)
    }

    fn answer_early(
        &self,
        early: Early,
        _: Option<&http::request::Parts>,
        peer: &Peer,
    ) -> http::Response<Self::Body> {
        held((self.early)(early), peer.answering())
    }
}

fn held(response: Response, answering: Answering) -> http::Response<AnswerBody<BoxBody<Bytes, io::Error>>> {
    let response: http::Response<BoxBody<Bytes, io::Error>> = response.into();
    response.map(|body| AnswerBody::new(body, answering, ()))
}
