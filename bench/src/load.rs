//! A closed loop: so many connections, one request at a time on each, for a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
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
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) if_match: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// Says what a connection asks next: connection, its request's number from 0, and the last answer's `ETag`.
pub(crate) type Script = Arc<dyn Fn(usize, u64, Option<&str>) -> Call + Send + Sync>;

/// What the clients saw.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) histogram: Histogram<u64>,
}

/// A document of about 300 bytes.
pub(crate) fn body(number: u64) -> Vec<u8> {
    format!(
        "{{\"title\":\"document {number}\",\"count\":{number},\"tags\":[\"tide\",\"pool\",\"bench\"],\"note\":\"{}\"}}",
        "x".repeat(200)
    )
    .into_bytes()
}

/// Runs the script on every connection; `sample` is called when the clock starts and when it stops.
pub(crate) async fn drive<T>(
    address: SocketAddr,
    key: Option<&str>,
    connections: usize,
    seconds: f64,
    script: Script,
    mut sample: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<(Seen, T, T)> {
    let start = Instant::now() + WARM_UP;
    let end = start + Duration::from_secs_f64(seconds);
    let mut tasks = tokio::task::JoinSet::new();
    for connection in 0..connections {
        let (script, key) = (Arc::clone(&script), key.map(|key| format!("Bearer {key}")));
        tasks.spawn(async move { connection_loop(address, key, connection, start, end, &script).await });
    }
    tokio::time::sleep_until(start.into()).await;
    let before = sample()?;
    tokio::time::sleep_until(end.into()).await;
    let after = sample()?;
    let mut seen = Seen {
        requests: 0,
        failed: 0,
        histogram: Histogram::new(3)?,
    };
    while let Some(task) = tasks.join_next().await {
        let one = task??;
        seen.requests += one.requests;
        seen.failed += one.failed;
        seen.histogram.add(one.histogram)?;
    }
    Ok((seen, before, after))
}

async fn connect(address: SocketAddr) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = tokio::net::TcpStream::connect(address)
        .await
        .context("connecting")?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn connection_loop(
    address: SocketAddr,
    key: Option<String>,
    connection: usize,
    start: Instant,
    end: Instant,
    script: &Script,
) -> anyhow::Result<Seen> {
    let mut sender = connect(address).await?;
    let mut seen = Seen {
        requests: 0,
        failed: 0,
        histogram: Histogram::new(3)?,
    };
    let mut etag: Option<String> = None;
    let mut number = 0;
    while Instant::now() < end {
        let call = script(connection, number, etag.as_deref());
        number += 1;
        let begun = Instant::now();
        let answer = send(&mut sender, address, key.as_deref(), call).await?;
        etag = answer
            .headers()
            .get("etag")
            .and_then(|tag| tag.to_str().ok())
            .map(str::to_owned);
        let good = answer.status().is_success();
        answer.into_body().collect().await.context("reading an answer")?;
        if begun >= start {
            seen.requests += 1;
            seen.failed += u64::from(!good);
            seen.histogram
                .record(u64::try_from(begun.elapsed().as_micros())?)?;
        }
    }
    Ok(seen)
}

/// Sends one call and waits for the head of its answer.
pub(crate) async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    address: SocketAddr,
    authorization: Option<&str>,
    call: Call,
) -> anyhow::Result<Response<hyper::body::Incoming>> {
    let mut request = Request::builder()
        .method(call.method)
        .uri(call.path)
        .header("host", address.to_string());
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    if let Some(if_match) = call.if_match {
        request = request.header("if-match", if_match);
    }
    if !call.body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    sender.ready().await?;
    sender
        .send_request(request.body(Full::new(Bytes::from(call.body)))?)
        .await
        .context("sending a request")
}

/// One call on a connection of its own; anything but success is an error that shows the answer.
pub(crate) async fn once(address: SocketAddr, key: Option<&str>, call: Call) -> anyhow::Result<()> {
    all(address, key, std::iter::once(call)).await
}

/// Calls one after the other on one connection; anything but success is an error that shows the answer.
pub(crate) async fn all(
    address: SocketAddr,
    key: Option<&str>,
    calls: impl Iterator<Item = Call>,
) -> anyhow::Result<()> {
    let mut sender = connect(address).await?;
    let authorization = key.map(|key| format!("Bearer {key}"));
    for call in calls {
        let what = format!("{} {}", call.method, call.path);
        let answer = send(&mut sender, address, authorization.as_deref(), call).await?;
        let status = answer.status();
        let text = answer.into_body().collect().await?.to_bytes();
        anyhow::ensure!(
            status.is_success(),
            "{what}: {status}: {}",
            String::from_utf8_lossy(&text)
        );
    }
    Ok(())
}
