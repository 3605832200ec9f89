//! A closed loop: so many connections, one request at a time on each, for a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

/// Time before the clock starts: connections, caches and branch predictors settle.
const WARM_UP: Duration = Duration::from_millis(700);

/// One request: method, path and query, `If-Match`, body (empty: none).
#[derive(Debug, Clone)]
pub struct Call {
    /// The method.
    pub method: &'static str,
    /// Path and query.
    pub path: String,
    /// The condition, if any.
    pub if_match: Option<String>,
    /// The JSON body; empty: none.
    pub body: Vec<u8>,
}

/// Says what a connection asks next: connection, its request's number from 0, and the last answer's `ETag`.
pub type Script = Arc<dyn Fn(usize, u64, Option<&str>) -> Call + Send + Sync>;

/// What the clients saw.
#[derive(Debug)]
pub struct Seen {
    /// Answers of whatever status, after the warm-up.
    pub requests: u64,
    /// Those outside 2xx.
    pub failed: u64,
    /// Latencies, microseconds.
    pub histogram: Histogram<u64>,
}

/// A loop that can't go on.
#[derive(Debug, thiserror::Error)]
pub enum ClosedError {
    /// The connection failed.
    #[error("connecting failed")]
    Connect(#[source] std::io::Error),
    /// A request can't be sent, or its answer can't be read.
    #[error("{call} failed")]
    Exchange {
        /// Method and path.
        call: String,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// A call makes no valid request.
    #[error("{call} is not a valid request")]
    Request {
        /// Method and path.
        call: String,
        /// Why.
        #[source]
        source: hyper::http::Error,
    },
    /// The answer is not a success, although it had to be.
    #[error("{call}: {status}: {body}")]
    Refused {
        /// Method and path.
        call: String,
        /// The answer's status.
        status: hyper::StatusCode,
        /// The answer's body.
        body: String,
    },
    /// The histogram refuses a value.
    #[error("the latency histogram can't be used: {reason}")]
    Histogram {
        /// Why.
        reason: String,
    },
    /// The process could not be sampled.
    #[error("the process can't be sampled")]
    Sample(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A connection's task ended by a panic.
    #[error("a connection's task panicked")]
    Panicked(#[from] tokio::task::JoinError),
}

/// How hard, and how long.
#[derive(Debug, Clone)]
pub struct ClosedConfig {
    /// The server.
    pub address: SocketAddr,
    /// The key that it asks for.
    pub key: Option<String>,
    /// Connections at a time.
    pub connections: usize,
    /// Seconds after the warm-up.
    pub seconds: f64,
}

/// A document of about 300 bytes.
pub fn body(number: u64) -> Vec<u8> {
    format!(
        "{{\"title\":\"document {number}\",\"count\":{number},\"tags\":[\"tide\",\"pool\",\"bench\"],\"note\":\"{}\"}}",
        "x".repeat(200)
    )
    .into_bytes()
}

/// Runs the script on every connection; `sample` is called when the clock starts and when it stops.
///
/// # Errors
/// [`ClosedError`]; an answer outside 2xx is counted instead.
pub async fn drive<T, E>(
    config: &ClosedConfig,
    script: Script,
    mut sample: impl FnMut() -> Result<T, E>,
) -> Result<(Seen, T, T), ClosedError>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let start = Instant::now() + WARM_UP;
    let end = start + Duration::from_secs_f64(config.seconds);
    let mut tasks = tokio::task::JoinSet::new();
    for connection in 0..config.connections {
        let (script, config) = (Arc::clone(&script), config.clone());
        let clock = Clock { start, end };
        tasks.spawn(async move { connection_loop(&config, connection, clock, &script).await });
    }
    tokio::time::sleep_until(start.into()).await;
    let before = sample().map_err(|error| ClosedError::Sample(error.into()))?;
    tokio::time::sleep_until(end.into()).await;
    let after = sample().map_err(|error| ClosedError::Sample(error.into()))?;
    let mut seen = Seen::new()?;
    while let Some(task) = tasks.join_next().await {
        let one = task??;
        seen.requests += one.requests;
        seen.failed += one.failed;
        seen.histogram.add(one.histogram).map_err(histogram)?;
    }
    Ok((seen, before, after))
}

fn histogram(error: impl std::fmt::Display) -> ClosedError {
    ClosedError::Histogram {
        reason: error.to_string(),
    }
}

impl Seen {
    fn new() -> Result<Self, ClosedError> {
        Ok(Self {
            requests: 0,
            failed: 0,
            histogram: Histogram::new(3).map_err(histogram)?,
        })
    }
}

/// When requests count.
#[derive(Debug, Clone, Copy)]
struct Clock {
    start: Instant,
    end: Instant,
}

/// A connection that sends one call after the other.
struct Client {
    sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
    authorization: Option<String>,
}

impl Client {
    async fn connect(address: SocketAddr, key: Option<&str>) -> Result<Self, ClosedError> {
        let stream = tokio::net::TcpStream::connect(address)
            .await
            .map_err(ClosedError::Connect)?;
        stream.set_nodelay(true).map_err(ClosedError::Connect)?;
        let (sender, connection) =
            handshake(TokioIo::new(stream))
                .await
                .map_err(|source| ClosedError::Exchange {
                    call: "the handshake".to_owned(),
                    source,
                })?;
        tokio::spawn(connection);
        Ok(Self {
            sender,
            address,
            authorization: key.map(|key| format!("Bearer {key}")),
        })
    }

    /// Sends one call and waits for its answer; `ETag`, status and body.
    async fn call(&mut self, call: Call) -> Result<Response<Bytes>, ClosedError> {
        let what = format!("{} {}", call.method, call.path);
        let request = self.request(call).map_err(|source| ClosedError::Request {
            call: what.clone(),
            source,
        })?;
        let exchanged = async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
        };
        exchanged
            .await
            .map_err(|source| ClosedError::Exchange { call: what, source })
    }

    fn request(&self, call: Call) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let mut request = Request::builder()
            .method(call.method)
            .uri(call.path)
            .header("host", self.address.to_string());
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        if let Some(if_match) = call.if_match {
            request = request.header("if-match", if_match);
        }
        if !call.body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        request.body(Full::new(Bytes::from(call.body)))
    }
}

async fn connection_loop(
    config: &ClosedConfig,
    connection: usize,
    clock: Clock,
    script: &Script,
) -> Result<Seen, ClosedError> {
    let mut client = Client::connect(config.address, config.key.as_deref()).await?;
    let mut seen = Seen::new()?;
    let mut etag: Option<String> = None;
    let mut number = 0;
    while Instant::now() < clock.end {
        let call = script(connection, number, etag.as_deref());
        number += 1;
        let begun = Instant::now();
        let answer = client.call(call).await?;
        etag = answer
            .headers()
            .get("etag")
            .and_then(|tag| tag.to_str().ok())
            .map(str::to_owned);
        if begun >= clock.start {
            seen.requests += 1;
            seen.failed += u64::from(!answer.status().is_success());
            let micros = u64::try_from(begun.elapsed().as_micros()).map_err(histogram)?;
            seen.histogram.record(micros).map_err(histogram)?;
        }
    }
    Ok(seen)
}

/// One call on a connection of its own; anything but success is an error that shows the answer.
///
/// # Errors
/// [`ClosedError`].
pub async fn once(address: SocketAddr, key: Option<&str>, call: Call) -> Result<(), ClosedError> {
    all(address, key, std::iter::once(call)).await
}

/// Calls one after the other on one connection; anything but success is an error that shows the answer.
///
/// # Errors
/// [`ClosedError`].
pub async fn all(
    address: SocketAddr,
    key: Option<&str>,
    calls: impl Iterator<Item = Call>,
) -> Result<(), ClosedError> {
    let mut client = Client::connect(address, key).await?;
    for call in calls {
        let what = format!("{} {}", call.method, call.path);
        let answer = client.call(call).await?;
        if !answer.status().is_success() {
            return Err(ClosedError::Refused {
                call: what,
                status: answer.status(),
                body: String::from_utf8_lossy(answer.body()).into_owned(),
            });
        }
    }
    Ok(())
}
