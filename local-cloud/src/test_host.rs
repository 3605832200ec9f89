//! A small HTTP server to be a droplet's program: for tests of local-cloud, and for a first droplet without an image of
//! one's own. It counts what it was asked, and can be slow.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use poem::listener::TcpListener;
use poem::{Endpoint, Request, Response, Server};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

/// Slowest answer: a minute.
const DELAY_MS_MAX: u64 = 60_000;
/// Largest body taken.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long requests under way may take after SIGTERM.
const DRAIN: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub(crate) struct TestHostArgs {
    /// Where it listens; without, it only waits for its end.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Where `/readyz` is.
    #[arg(long)]
    ops_listen: Option<SocketAddr>,
    /// What it calls itself in its answers.
    #[arg(long, default_value = "test-host")]
    name: String,
    /// Ignore SIGTERM.
    #[arg(long)]
    stubborn: bool,
}

/// Serves until SIGTERM.
pub(crate) async fn run(args: TestHostArgs) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let host = Host {
        name: args.name,
        seen: Arc::default(),
    };
    let stop = tokio_util::sync::CancellationToken::new();
    let mut servers = tokio::task::JoinSet::new();
    for address in [args.listen, args.ops_listen].into_iter().flatten() {
        let server = Server::new(TcpListener::bind(address));
        servers.spawn(server.run_with_graceful_shutdown(
            host.clone(),
            stop.clone().cancelled_owned(),
            Some(DRAIN),
        ));
    }
    loop {
        tokio::select! {
            _ = terminate.recv() => {
                if !args.stubborn {
                    break;
                }
            }
            // A listener that can't be had ends it, as it would a real program.
            Some(ended) = servers.join_next() => ended??,
        }
    }
    stop.cancel();
    while let Some(ended) = servers.join_next().await {
        ended??;
    }
    Ok(())
}

/// Requests by method and path.
type Seen = Arc<Mutex<BTreeMap<String, u64>>>;

#[derive(Clone)]
struct Host {
    name: String,
    seen: Seen,
}

impl Endpoint for Host {
    type Output = Response;

    /// `/readyz` is ready unless a file `unready` is in the working directory; `/seen` shows the counts; everything else
    /// is counted and answered after `?ms=`, with `?status=`.
    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/readyz" if std::path::Path::new("unready").exists() => {
                return Ok(Response::builder()
                    .status(http::StatusCode::SERVICE_UNAVAILABLE)
                    .finish());
            }
            "/readyz" => return Ok(Response::from("ready")),
            "/seen" => {
                let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                return Ok(Response::builder()
                    .content_type("application/json")
                    .body(json!(*seen).to_string()));
            }
            _ => {}
        }
        let query: BTreeMap<String, String> = request
            .uri()
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(pair)
            .collect();
        *self
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(format!("{} {path}", request.method()))
            .or_default() += 1;
        let body = request.take_body().into_bytes_limit(BODY_BYTES_MAX).await?;
        let delay_ms = query
            .get("ms")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
            .min(DELAY_MS_MAX);
        if delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        }
        let status = query
            .get("status")
            .and_then(|text| text.parse().ok())
            .unwrap_or(200);
        let peer = request.remote_addr().as_socket_addr().map(ToString::to_string);
        let seen = json!({
            "name": self.name, "peer": peer, "pid": std::process::id(), "method": request.method().as_str(), "path": path,
            "body_bytes": body.len(), "forwarded_for": request.header("x-forwarded-for"),
            "forwarded_proto": request.header("x-forwarded-proto"), "forwarded_port": request.header("x-forwarded-port"),
            "cookie": request.header("cookie"), "host": request.header("host"),
        });
        let status = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::OK);
        Ok(Response::builder()
            .status(status)
            .content_type("application/json")
            .body(seen.to_string()))
    }
}

fn pair(text: &str) -> Option<(String, String)> {
    text.split_once('=')
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
}
