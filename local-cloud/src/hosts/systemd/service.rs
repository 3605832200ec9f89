//! Serves HTTP inside a cloud's network, for its hosts.

use std::net::TcpListener;
use std::time::Duration;

use poem::{Endpoint, Response};
use tidepool_listener::{Early, EndpointService, Limits};
use tokio_util::sync::CancellationToken;

use crate::http_server::{self, Settings};

/// How long answers under way may take at the end.
const ANSWERS_END_WITHIN: Duration = Duration::from_secs(1);

/// Serves until `stop`.
///
/// # Errors
/// When the listener can't be used.
pub(super) fn serve<E>(
    (name, endpoint): (&'static str, E),
    listener: TcpListener,
    stop: CancellationToken,
) -> std::io::Result<()>
where
    E: Endpoint<Output = Response> + 'static,
{
    let settings = Settings {
        name,
        limits: Limits::PRIVATE,
        answers_end_within: ANSWERS_END_WITHIN,
    };
    http_server::serve(settings, listener, EndpointService::new(endpoint, early), stop).map(drop)
}

fn early(early: Early) -> Response {
    Response::builder().status(early.status()).finish()
}
