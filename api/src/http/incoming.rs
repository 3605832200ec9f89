//! What is read of a request beside its path: media type, body, query, conditions. Each reader checks one thing and
//! answers with the problem it found.

use std::borrow::Cow;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::Body as _;
use percent_encoding::percent_decode_str;
use poem::Body;

use super::error::{Problem, ProblemKind};
use super::held::{Budget, UNHELD_BYTES_MAX};
use crate::domain::json::{BODY_BYTES_MAX, PROBLEMS_MAX};
use crate::domain::{Precondition, conditions, redact};

/// How much of an unwanted body is discarded before the answer, so that the client reads the answer instead of
/// a broken pipe: four bodies of the largest size.
const DRAIN_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;

/// How long that may take: 4 MiB in 2 s are 17 Mbit/s.
const DRAIN_SECS_MAX: u64 = 2;

/// The media types of bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/json`
    Json,
    /// `application/merge-patch+json`
    MergePatch,
}

impl Media {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::MergePatch => "application/merge-patch+json",
        }
    }

    /// Demands this type, in UTF-8.
    pub(super) fn demand(self, headers: &HeaderMap) -> Result<(), Problem> {
        let mut lines = headers.get_all(header::CONTENT_TYPE).iter();
        let given = match (lines.next(), lines.next()) {
            (Some(line), None) => line.as_bytes(),
            _ => b"",
        };
        if is_media_type(given, self.as_str()) {
            return Ok(());
        }
        let problem = Problem::new(
            ProblemKind::UnsupportedMediaType,
            format!("the body must have the Content-Type {}, in UTF-8", self.as_str()),
        );
        Err(match self {
            Self::Json => problem,
            Self::MergePatch => problem.with_header(HeaderName::from_static("accept-patch"), self.as_str()),
        })
    }
}

/// Names of UTF-8 (the labels of the WHATWG Encoding Standard), and of ASCII, which is a part of it.
const UTF_8_LABELS: [&str; 8] = [
    "utf-8",
    "utf8",
    "unicode-1-1-utf-8",
    "unicode11utf8",
    "unicode20utf8",
    "x-unicode20utf8",
    "us-ascii",
    "ascii",
];

/// Whether a `Content-Type` is the wanted one, in UTF-8. JSON defines no `charset` (RFC 8259, 11), so only one that names
/// another encoding counts; an empty or malformed parameter, like any other, means nothing here.
fn is_media_type(given: &[u8], wanted: &str) -> bool {
    let mut parts = split_unquoted(given).map(<[u8]>::trim_ascii);
    let essence = parts.next().unwrap_or_default();
    essence.eq_ignore_ascii_case(wanted.as_bytes()) && parts.all(names_utf_8)
}

/// Whether a parameter is anything but a `charset` that names an encoding other than UTF-8.
fn names_utf_8(parameter: &[u8]) -> bool {
    let Some(equals) = parameter.iter().position(|byte| *byte == b'=') else {
        return true;
    };
    let (name, value) = parameter.split_at(equals);
    if !name.trim_ascii().eq_ignore_ascii_case(b"charset") {
        return true;
    }
    // Quotes, escapes and padding around the label; what remains of a label has none of these characters.
    let label: Vec<u8> = value
        .iter()
        .copied()
        .filter(|byte| !matches!(byte, b'=' | b'"' | b'\'' | b'\\' | b' ' | b'\t'))
        .collect();
    label.is_empty()
        || UTF_8_LABELS
            .iter()
            .any(|known| label.eq_ignore_ascii_case(known.as_bytes()))
}

/// The parts between semicolons, of which those in a quoted string don't count.
fn split_unquoted(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' => return !quoted,
            _ => {}
        }
        false
    })
}

/// Refuses encoded content; decoding comes later, bounded.
pub(super) fn refuse_content_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    if !headers.contains_key(header::CONTENT_ENCODING) {
        return Ok(());
    }
    Err(Problem::new(
        ProblemKind::UnsupportedMediaType,
        "content encodings are not supported; send the body as it is",
    )
    .with_header(header::ACCEPT_ENCODING, "identity"))
}

/// Refuses `Idempotency-Key` until it is built: ignoring it would promise what does not hold.
pub(super) fn refuse_idempotency_key(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key("idempotency-key") {
        return Err(Problem::new(
            ProblemKind::InvalidRequest,
            "the header Idempotency-Key is not supported yet",
        ));
    }
    Ok(())
}

/// The conditions in `If-Match` and `If-None-Match`.
pub(super) fn precondition(headers: &HeaderMap) -> Result<Precondition, Problem> {
    let field =
        |name: HeaderName| conditions::entity_tags(headers.get_all(name).iter().map(HeaderValue::as_bytes));
    Ok(Precondition {
        if_match: field(header::IF_MATCH).map_err(|problem| ("If-Match", problem))?,
        if_none_match: field(header::IF_NONE_MATCH).map_err(|problem| ("If-None-Match", problem))?,
    })
}

/// Most characters of a query parameter's name that a report quotes.
const QUERY_NAME_CHARS_MAX: usize = 64;

/// Refuses unknown and repeated query parameters: the first [`PROBLEMS_MAX`] of them at once.
pub(super) fn check_query(query: Option<&str>, known: &[&str]) -> Result<(), Problem> {
    let mut problems = Vec::new();
    let mut seen = Vec::new();
    for (name, _) in query_pairs(query) {
        if problems.len() == PROBLEMS_MAX {
            break;
        }
        if !known.contains(&&*name) {
            // Redacted before it is cut: a part of a key is not recognised as one.
            let name: String = redact(&name).chars().take(QUERY_NAME_CHARS_MAX).collect();
            problems.push(format!("the query parameter {name:?} is not known here"));
        } else if seen.contains(&name) {
            problems.push(format!("the query parameter {name} is given more than once"));
        } else {
            seen.push(name);
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Problem::new(ProblemKind::InvalidRequest, problems.join("; ")))
}

/// The value of a query parameter, if it is given.
pub(super) fn query_value<'q>(query: Option<&'q str>, wanted: &str) -> Option<Cow<'q, str>> {
    query_pairs(query)
        .find(|(name, _)| name == wanted)
        .map(|(_, value)| form_decode(value))
}

/// Names, decoded, and values, not yet.
fn query_pairs(query: Option<&str>) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    let pairs = query.unwrap_or_default().split('&');
    pairs.filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (form_decode(name), value)
    })
}

fn form_decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

/// A request's body, read at most once, and discarded if it is not wanted.
pub(super) struct PendingBody {
    body: BoxBody<Bytes, std::io::Error>,
}

impl PendingBody {
    pub(super) fn new(body: Body) -> Self {
        Self { body: body.into() }
    }

    /// Reads it whole; more than [`BODY_BYTES_MAX`] is refused, declared or not. A large one is read when there is room for
    /// it, and keeps that room as long as any of it is in use.
    pub(super) async fn read(&mut self, room: &Budget) -> Result<Bytes, Problem> {
        let too_large = || {
            Problem::new(
                ProblemKind::BodyTooLarge,
                format!("the body must have at most {BODY_BYTES_MAX} bytes"),
            )
        };
        let declared = usize::try_from(self.body.size_hint().lower()).unwrap_or(usize::MAX);
        if declared > BODY_BYTES_MAX {
            return Err(too_large());
        }
        let mut hold = match declared > UNHELD_BYTES_MAX {
            true => Some(room.take(declared).await?),
            false => None,
        };
        // A body that came in one piece is taken as it is.
        let whole = match self.next_piece().await? {
            None => return Ok(Bytes::new()),
            Some(first) if self.body.is_end_stream() => first,
            Some(first) => {
                let mut whole = BytesMut::with_capacity(declared.max(first.len()));
                whole.extend_from_slice(&first);
                while whole.len() <= BODY_BYTES_MAX {
                    if whole.len() > UNHELD_BYTES_MAX && hold.is_none() {
                        // Nobody has said how long it is going to be.
                        hold = Some(room.take(BODY_BYTES_MAX).await?);
                    }
                    match self.next_piece().await? {
                        Some(piece) => whole.extend_from_slice(&piece),
                        None => break,
                    }
                }
                whole.freeze()
            }
        };
        if whole.len() > BODY_BYTES_MAX {
            return Err(too_large());
        }
        Ok(match hold {
            Some(mut hold) if whole.len() > UNHELD_BYTES_MAX => {
                hold.shrink_to(whole.len());
                hold.keep(whole)
            }
            _ => whole,
        })
    }

    async fn next_piece(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    // Trailers mean nothing here.
                    if let Ok(piece) = frame.into_data() {
                        return Ok(Some(piece));
                    }
                }
                Some(Err(_)) => {
                    return Err(Problem::new(
                        ProblemKind::InvalidRequest,
                        "the body ended too early or is badly framed",
                    ));
                }
            }
        }
    }

    /// Whether nothing is left to be read.
    pub(super) fn is_finished(&self) -> bool {
        self.body.is_end_stream()
    }

    /// Discards what is left, within bounds. A client that waits for `100 Continue` has sent nothing yet.
    pub(super) async fn drain(mut self, waits_for_continue: bool) {
        if waits_for_continue {
            return;
        }
        let drained = async {
            let mut bytes = 0;
            while bytes <= DRAIN_BYTES_MAX {
                match self.next_piece().await {
                    Ok(Some(piece)) => bytes += piece.len(),
                    Ok(None) | Err(_) => return,
                }
            }
        };
        // Too slow: the answer goes out all the same, and the connection is closed after it.
        let _ = tokio::time::timeout(Duration::from_secs(DRAIN_SECS_MAX), drained).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{HeldBytes, HeldLimits};
    use super::*;

    #[test]
    fn media_types_are_compared_whole_and_in_utf_8() {
        let json = "application/json";
        for good in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\" ; x=y",
            "application/json;",
            "application/json; charset=utf8",
            "application/json;CHARSET=\"UTF8\"",
            "application/json; charset=unicode-1-1-utf-8",
            "application/json; charset=x-unicode20utf8; version=1",
            "application/json; charset='utf-8'",
            "application/json; charset = utf-8",
            "application/json; charset=",
            "application/json; charset=\"\"",
            "application/json; charset",
            "application/json; charset=\"utf-8",
            "application/json; charset=\"utf\\-8\"",
            "application/json; charset=us-ascii",
            "application/json; profile=\"a; charset=latin1\"",
            "application/json; profile=\"a\\\"; charset=latin1\"; charset=utf8",
            "application/json; ; =; x",
        ] {
            assert!(is_media_type(good.as_bytes(), json), "{good}");
        }
        for bad in [
            "",
            "text/json",
            "application/problem+json",
            "application/jsonx",
            "application/json charset=utf-8",
            "application/json; charset=latin1",
            "application/json; charset=\"ISO-8859-1\"",
            "application/json; charset=utf-16",
            "application/json; charset=utf-16le",
            "application/json; charset=utf-7",
            "application/json; charset=utf-8; charset=utf-16",
            "application/json; charset=windows-1252",
            "application/json, text/plain",
        ] {
            assert!(!is_media_type(bad.as_bytes(), json), "{bad}");
        }
        assert!(is_media_type(b"application/json; x=\xff", json));
    }

    #[test]
    fn query_parameters_are_strict() {
        let query = Some("b=x%20y+z&&a=");
        check_query(query, &["a", "b"]).unwrap();
        assert_eq!(query_value(query, "a").as_deref(), Some(""));
        assert_eq!(query_value(query, "b").as_deref(), Some("x y z"));
        assert_eq!(query_value(None, "a"), None);
        for bad in ["c=1", "a=1&a=1", "a=1&%61=1", "c", "=1"] {
            let problem = check_query(Some(bad), &["a", "b"]).unwrap_err();
            assert_eq!(problem.kind(), ProblemKind::InvalidRequest, "{bad}");
        }
        assert!(check_query(Some(""), &[]).is_ok() && check_query(Some("a=1"), &[]).is_err());
    }

    #[test]
    fn a_report_of_query_parameters_is_bounded_in_number_and_length() {
        let many = vec!["unknown"; 30_000].join("&");
        let repeated = vec!["a"; 30_000].join("&");
        let long = "%01".repeat(20_000);
        for query in [many, repeated, long] {
            let problem = check_query(Some(&query), &["a"]).unwrap_err();
            let detail = problem.to_string();
            assert!(detail.len() < 4_096, "{} bytes", detail.len());
        }
    }

    async fn read(pieces: Vec<usize>) -> Result<Bytes, Problem> {
        let pieces = pieces
            .into_iter()
            .map(|length| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; length])));
        let held = HeldBytes::new(HeldLimits {
            body_bytes_max: BODY_BYTES_MAX,
            answer_bytes_max: 0,
        });
        PendingBody::new(Body::from_bytes_stream(futures_util::stream::iter(pieces)))
            .read(&held.bodies)
            .await
    }

    #[tokio::test]
    async fn bodies_are_read_up_to_the_limit() {
        assert_eq!(read(vec![]).await.unwrap().len(), 0);
        assert_eq!(read(vec![3, 4]).await.unwrap().len(), 7);
        assert_eq!(read(vec![BODY_BYTES_MAX]).await.unwrap().len(), BODY_BYTES_MAX);
        assert_eq!(
            read(vec![BODY_BYTES_MAX - 1, 1]).await.unwrap().len(),
            BODY_BYTES_MAX
        );
        for pieces in [vec![BODY_BYTES_MAX + 1], vec![BODY_BYTES_MAX, 1]] {
            assert_eq!(read(pieces).await.unwrap_err().kind(), ProblemKind::BodyTooLarge);
        }
        let declared = Body::from_bytes(Bytes::from(vec![b'x'; BODY_BYTES_MAX + 1]));
        let held = HeldBytes::new(HeldLimits {
            body_bytes_max: BODY_BYTES_MAX,
            answer_bytes_max: 0,
        });
        assert!(PendingBody::new(declared).read(&held.bodies).await.is_err());
    }
}
