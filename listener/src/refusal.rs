//! Answers without hyper: to requests that it could not read, and where it can't be asked. It would send a bare status; here
//! the service words it like any other refusal, and what the client still sends is read away so that it sees the answer.

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt as _;
use tokio::io::AsyncWriteExt as _;

use crate::activity::{Activity, LINGER_MAX, Phase};
use crate::front::{self, Unread};
use crate::watched_io::{WatchedIo, Wire};
use crate::{Early, Peer, Service};

/// What stands in for hyper's bare answer where it has none: to a client that begins HTTP/2 without TLS.
pub(crate) fn unanswered(error: &hyper::Error, activity: &Activity) -> Option<Vec<u8>> {
    let unread = error.is_parse() && activity.phase() != Phase::Busy;
    unread.then(|| b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_vec())
}

/// What is answered without hyper.
pub(crate) struct Refusal {
    early: Early,
    /// The same without the service's words.
    bare: Vec<u8>,
}

impl Refusal {
    /// In place of what hyper would have answered to a request that it could not read.
    pub(crate) fn of_error(error: &hyper::Error, bare: Vec<u8>, unread: Unread<'_>) -> Self {
        let status = bare.get(b"HTTP/1.1 ".len()..).and_then(|rest| rest.get(..3));
        let early = front::of_parse_error(error, status.unwrap_or_default(), unread);
        Self { early, bare }
    }

    /// Where hyper would panic, for it dates every answer.
    pub(crate) fn no_date() -> Self {
        let bare = b"HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        Self {
            early: Early::NoDate,
            bare: bare.to_vec(),
        }
    }
}

/// Sends the service's words in place of hyper's, and closes.
pub(crate) async fn send<S: Service>(
    service: &S,
    peer: &Peer,
    mut io: WatchedIo<impl Wire>,
    refusal: Refusal,
) {
    let Refusal { early, bare } = refusal;
    let bytes = match written(service.answer_early(early, None, peer), &bare).await {
        Some(bytes) => bytes,
        None => bare,
    };
    let sending = async {
        io.write_all(&bytes).await?;
        peer.activity.body_left_unread();
        io.shutdown().await
    };
    // Who does not read its refusal goes without.
    let _sent = tokio::time::timeout(LINGER_MAX, sending).await;
}

/// The answer as HTTP/1.1 writes it; `None` if its body fails.
async fn written<B>(answer: Response<B>, withheld: &[u8]) -> Option<Vec<u8>>
where
    B: hyper::body::Body<Data = bytes::Bytes>,
{
    let (mut parts, body) = answer.into_parts();
    let body = std::pin::pin!(body).collect().await.ok()?.to_bytes();
    let headers = &mut parts.headers;
    headers.remove(TRANSFER_ENCODING);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if let Some(date) = date_of(withheld) {
        headers.insert(DATE, date);
    }
    let reason = parts.status.canonical_reason().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", parts.status.as_str()).into_bytes();
    write_headers(&mut bytes, &parts.headers);
    bytes.extend_from_slice(&body);
    Some(bytes)
}

fn write_headers(bytes: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
}

/// hyper's own date.
fn date_of(withheld: &[u8]) -> Option<HeaderValue> {
    let text = std::str::from_utf8(withheld).ok()?;
    let date = text.lines().find_map(|line| line.strip_prefix("date: "))?;
    HeaderValue::from_str(date).ok()
}
