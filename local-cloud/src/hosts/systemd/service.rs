//! Serves HTTP inside a cloud's network, for its hosts.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use poem::{Endpoint, Response};
use tidepool_listener::{Early, EndpointService, HeadRoom, Limits, Server};
use tokio_util::sync::CancellationToken;

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
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let service = Arc::new(EndpointService::new(endpoint, early));
    let server = Server {
        name,
        limits: Limits::PRIVATE,
        heads: HeadRoom::default(),
        stages: Arc::default(),
        metrics: None,
        tls: None,
        #[expect(
            clippy::disallowed_methods,
            reason = "whether answers can be dated is a question about this machine's clock"
        )]
        clock: Box::new(std::time::SystemTime::now),
    };
    tokio::spawn(server.run_until((listener, service), stop.cancelled_owned(), ANSWERS_END_WITHIN));
    Ok(())
}

fn early(early: Early) -> Response {
    Response::builder().status(early.status()).finish()
}
