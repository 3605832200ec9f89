//! What HTTP demands of every request before any route is looked for (RFC 9110 and 9112): the same on every listener.

use std::borrow::Cow;

use http::header::{HOST, HeaderMap, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, StatusCode, Uri, Version};

use crate::host::Host;

/// An answer that no route is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Early {
    /// `OPTIONS *`: a ping of the server as a whole (RFC 9110 section 9.3.7).
    ServerOptions,
    /// No `Host` in HTTP/1.1 or HTTP/2.
    NoHost,
    /// More than one `Host`, or one that differs from `:authority`.
    TwoHosts,
    /// A `Host` that is not one.
    BadHost,
    /// A request target that is neither a path, nor an absolute http URI, nor `OPTIONS *`.
    BadTarget,
    /// `CONNECT`: this is not a proxy.
    Connect,
    /// A `Transfer-Encoding` other than `chunked`.
    TransferEncoding,
    /// What came is not HTTP.
    NotHttp,
    /// The request target is longer than any.
    TargetTooLong,
    /// The headers are larger than allowed, or too many.
    HeadersTooLarge,
    /// The body is declared to be longer than any that can be counted.
    BodyTooLarge,
    /// The clock is outside of what HTTP has dates for.
    NoDate,
    /// The service panicked.
    Defect,
}

impl Early {
    /// The answer's status.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::ServerOptions => StatusCode::NO_CONTENT,
            Self::NoHost | Self::TwoHosts | Self::BadHost | Self::BadTarget | Self::NotHttp => {
                StatusCode::BAD_REQUEST
            }
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::TransferEncoding => StatusCode::NOT_IMPLEMENTED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoDate | Self::Defect => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What was wrong, for the client.
    #[must_use]
    pub fn detail(self) -> &'static str {
        match self {
            Self::ServerOptions => "",
            Self::NoHost => "the request has no Host header",
            Self::TwoHosts => "the request names more than one host",
            Self::BadHost => "the Host header must be one host name or address with an optional port",
            Self::BadTarget => {
                "the request target must be a path or an absolute http URI, without a #; * is for OPTIONS"
            }
            Self::Connect => "this server is not a proxy",
            Self::TransferEncoding => "the only Transfer-Encoding that is supported is chunked",
            Self::NotHttp => "the request can't be read as HTTP/1.1",
            Self::TargetTooLong => "the request target is too long",
            Self::HeadersTooLarge => "the request's headers are too large or too many",
            Self::BodyTooLarge => "the body is too large",
            Self::NoDate => {
                "the clock of this machine is before 1970 or after 9999: nothing is served until it is set"
            }
            Self::Defect => "the server failed; its log says more",
        }
    }

    /// Whether the answer must list the methods that the server has at all.
    #[must_use]
    pub fn has_allow(self) -> bool {
        matches!(self, Self::ServerOptions | Self::Connect)
    }

    /// Whether nothing that comes after the request on its connection can be trusted.
    pub(crate) fn closes(self) -> bool {
        !matches!(self, Self::ServerOptions | Self::Defect)
    }
}

/// Most headers of a request: hyper's own bound on HTTP/1, which HTTP/2 does not have.
const HEADERS_MAX: usize = 100;

/// Checks a request's framing, target and host. Afterwards its `Host` is that of an absolute target or `:authority`, where
/// there is one: services look nowhere else.
///
/// # Errors
/// The answer that it gets instead of a route's.
pub(crate) fn examine<B>(request: &mut Request<B>) -> Result<(), Early> {
    // On HTTP/1 hyper counts them.
    if request.headers().len() > HEADERS_MAX {
        return Err(Early::HeadersTooLarge);
    }
    if request.headers().contains_key(TRANSFER_ENCODING) {
        demand_chunked(request.headers())?;
    }
    if request.method() == Method::CONNECT {
        return Err(Early::Connect);
    }
    let host = demand_host(request.headers(), request.version())?;
    if host.is_none() && request.version() == Version::HTTP_2 && request.uri().authority().is_none() {
        return Err(Early::NoHost);
    }
    let authority = match target_of(request.uri())? {
        Target::Path { authority } => authority,
        Target::Server if request.method() == Method::OPTIONS => return Err(Early::ServerOptions),
        Target::Server => return Err(Early::BadTarget),
    };
    if let Some(authority) = authority {
        let differs = host.is_some_and(|host| {
            !host
                .as_bytes()
                .eq_ignore_ascii_case(authority.as_str().as_bytes())
        });
        if differs && request.version() == Version::HTTP_2 {
            return Err(Early::TwoHosts);
        }
        let value = HeaderValue::from_str(authority.as_str()).map_err(|_| Early::BadTarget)?;
        request.headers_mut().insert(HOST, value);
    }
    Ok(())
}

/// Whether bytes begin with a request line of HTTP/1 whose target has a fragment. It has no place there (RFC 9112, 3.2), and
/// `http::Uri` leaves it out without a word: DELETE of `/notes#1` would be that of `/notes`.
pub(crate) fn has_a_fragment(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    method.is_some_and(|method| method.iter().all(u8::is_ascii_alphanumeric))
        && target.is_some_and(|target| target.contains(&b'#'))
        && version.is_some_and(|version| version.starts_with(b"HTTP/1."))
}

/// Whether bytes begin with a head whose `Content-Length` is a number that is too large for hyper, which answers 400 as for text.
/// GET and HEAD have no body, and are not looked at.
pub(crate) fn has_an_uncountable_length(bytes: &[u8]) -> bool {
    /// As many digits can be counted, whichever they are.
    const COUNTED_DIGITS: usize = 19;
    if matches!(bytes.first(), None | Some(b'G' | b'H')) {
        return false;
    }
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_at_checked(b"content-length:".len()))
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"content-length:"))
        .map(|(_, length)| length.trim_ascii_start())
        .any(|length| {
            length.len() > COUNTED_DIGITS
                && length.iter().all(u8::is_ascii_digit)
                && std::str::from_utf8(length).is_ok_and(|length| length.parse::<u64>().is_err())
        })
}

enum Target {
    Path { authority: Option<Authority> },
    Server,
}

fn target_of(uri: &Uri) -> Result<Target, Early> {
    if let Some(authority) = uri.authority() {
        let http = uri.scheme_str().is_some_and(|scheme| {
            scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
        });
        if !http || Host::parse(authority.as_str().as_bytes()).is_none() {
            return Err(Early::BadTarget);
        }
    }
    let path = uri.path();
    if path == "*" {
        return Ok(Target::Server);
    }
    if !path.starts_with('/') {
        return Err(Early::BadTarget);
    }
    Ok(Target::Path {
        authority: uri.authority().cloned(),
    })
}

/// Exactly one valid `Host`; none is enough in HTTP/1.0, and in HTTP/2 where `:authority` says it.
fn demand_host(headers: &HeaderMap, version: Version) -> Result<Option<&HeaderValue>, Early> {
    let mut lines = headers.get_all(HOST).iter();
    let Some(host) = lines.next() else {
        return match version {
            Version::HTTP_10 | Version::HTTP_2 => Ok(None),
            _ => Err(Early::NoHost),
        };
    };
    if lines.next().is_some() {
        return Err(Early::TwoHosts);
    }
    match Host::parse(host.as_bytes()) {
        Some(_) => Ok(Some(host)),
        None => Err(Early::BadHost),
    }
}

fn demand_chunked(headers: &HeaderMap) -> Result<(), Early> {
    let mut lines = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = lines
        .next()
        .is_some_and(|line| line.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    if chunked && lines.next().is_none() {
        Ok(())
    } else {
        Err(Early::TransferEncoding)
    }
}

/// What hyper had read and not yet taken in when it gave up.
#[derive(Clone, Copy)]
pub(crate) struct Unread<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) header_bytes_max: usize,
    /// Its head declared a body longer than any that can be counted.
    pub(crate) uncountable: bool,
}

impl Unread<'_> {
    /// Whether a request's head is among it: hyper takes in a head whole, after it has found it small enough.
    fn holds_a_head(&self) -> bool {
        let first_line = self.bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let is_request_line = [&b" HTTP/1.1"[..], b" HTTP/1.0"]
            .iter()
            .any(|version| first_line.trim_ascii_end().ends_with(version));
        is_request_line || self.bytes.len() > self.header_bytes_max
    }
}

/// Which of hyper's own refusals an error stands for; `status` is what hyper would have answered.
///
/// hyper says nothing finer than `is_parse` about a transfer coding that does not end in `chunked`, so its words are
/// compared; `api/tests/edge/front.rs` holds them to it. Of a head that is too large and of a `Content-Length` that is, it says
/// the same: what is left unread tells them apart. hyper takes a `Content-Length` from 2^64 on for text that is not a number.
pub(crate) fn of_parse_error(error: &hyper::Error, status: &[u8], unread: Unread<'_>) -> Early {
    let words: Cow<'_, str> = error.to_string().into();
    match status {
        b"431" if !unread.holds_a_head() => Early::BodyTooLarge,
        b"431" => Early::HeadersTooLarge,
        b"414" => Early::TargetTooLong,
        _ if words == "invalid transfer-encoding parsed" => Early::TransferEncoding,
        _ if words == "invalid content-length parsed" && unread.uncountable => Early::BodyTooLarge,
        _ => Early::NotHttp,
    }
}
