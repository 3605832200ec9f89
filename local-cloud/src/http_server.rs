//! How this program serves HTTP: the API's own listener, and those inside a cloud's network.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use poem::{Endpoint, Response};
use tidepool_listener::{EndpointService, Limits, Rooms, Server};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What listeners differ in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// For logs.
    pub(crate) name: &'static str,
    pub(crate) limits: Limits,
    /// How long answers under way may take at the end.
    pub(crate) answers_end_within: Duration,
}

/// Serves until `stop`; the task ends with the last answer.
///
/// # Errors
/// When the listener, which doesn't block, can't be used.
pub(crate) fn serve<E>(
    settings: Settings,
    listener: TcpListener,
    service: EndpointService<E>,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>>
where
    E: Endpoint<Output = Response> + 'static,
{
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let server = Server {
        name: settings.name,
        limits: settings.limits,
        rooms: Rooms::default(),
        stages: Arc::default(),
        metrics: None,
        tls: None,
        #[expect(
            clippy::disallowed_methods,
            reason = "whether answers can be dated is a question about this machine's clock"
        )]
        clock: Box::new(std::time::SystemTime::now),
    };
    let serving = (listener, Arc::new(service));
    Ok(tokio::spawn(server.run_until(
        serving,
        stop.cancelled_owned(),
        settings.answers_end_within,
    )))
}
