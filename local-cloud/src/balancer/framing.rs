//! Whether a request may be passed on as it is, and where its body ends.

use http::uri::Authority;
use http::{Method, Version, header};
use pingora::http::RequestHeader;

/// The status that answers a request which is not passed on: its framing or its addressee would be a matter of opinion
/// (RFC 9112, 3.2 and 6.1). What pingora refuses itself never comes here.
pub(super) fn refusal(request: &RequestHeader) -> Option<u16> {
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let host_is_right = match (hosts.next(), hosts.next()) {
        // HTTP/2 has `:authority` in its place, and pingora checks that both say the same.
        (None, _) if request.version == Version::HTTP_2 => {
            let authority = request.uri.authority();
            authority.is_some_and(|authority| is_authority(authority.as_str().as_bytes()))
        }
        (None, _) => request.version < Version::HTTP_11,
        (Some(host), None) => is_authority(host.as_bytes()),
        (Some(_), Some(_)) => false,
    };
    let lengths: Vec<_> = request.headers.get_all(header::CONTENT_LENGTH).iter().collect();
    let length_is_right = match lengths.as_slice() {
        [] => true,
        [length] => length.as_bytes().iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let target_is_right = request.raw_path() != b"*" || request.method == Method::OPTIONS;
    if !(host_is_right && length_is_right && target_is_right) {
        return Some(400);
    }
    let codings = request.headers.get_all(header::TRANSFER_ENCODING);
    let chunked = |value: &http::HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    let known = codings.iter().all(chunked) && codings.iter().count() <= 1;
    (!known).then_some(501)
}

/// How long a request's body is, where its head says: not before the end of one in chunks, nor of what a connection is
/// upgraded to.
pub(super) fn body_bytes(request: &RequestHeader) -> Option<u64> {
    let headers = &request.headers;
    if headers.contains_key(header::TRANSFER_ENCODING) || headers.contains_key(header::UPGRADE) {
        return None;
    }
    match headers.get(header::CONTENT_LENGTH) {
        None => Some(0),
        Some(length) => length.to_str().ok()?.parse().ok(),
    }
}

/// A host with or without a port; an empty text, too, which says that there is none.
fn is_authority(text: &[u8]) -> bool {
    if text.is_empty() {
        return true;
    }
    let Ok(authority) = Authority::try_from(text) else {
        return false;
    };
    let port = authority.as_str().strip_prefix(authority.host());
    let port = port.and_then(|rest| {
        rest.strip_prefix(':')
            .or(Some(rest).filter(|rest| rest.is_empty()))
    });
    port.is_some_and(|port| port.is_empty() || port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_with_two_readings_are_refused() {
        let request = |target: &str, headers: &[(&'static str, &'static str)]| {
            let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
            for (name, value) in headers {
                request.append_header(*name, *value).unwrap();
            }
            request
        };
        for host in [
            "a",
            "a:80",
            "a:",
            "127.0.0.1:8000",
            "[::1]",
            "[::1]:80",
            "a_b.c-d",
            "",
        ] {
            assert_eq!(refusal(&request("/", &[("host", host)])), None, "{host}");
        }
        for host in ["a b", "a/b", "a@b", "a:b", "a:99999", "[::1", "a?b", "a#b"] {
            assert_eq!(refusal(&request("/", &[("host", host)])), Some(400), "{host}");
        }
        assert_eq!(refusal(&request("/", &[])), Some(400));
        assert_eq!(refusal(&request("/", &[("host", "a"), ("host", "a")])), Some(400));
        assert_eq!(refusal(&request("*", &[("host", "a")])), Some(400));
        for (target, status) in [
            ("https://a/", None),
            ("https://a:b/", Some(400)),
            ("/", Some(400)),
        ] {
            let mut sent = RequestHeader::build("GET", b"/", None).unwrap();
            sent.set_version(Version::HTTP_2);
            match target.parse() {
                Ok(uri) => sent.set_uri(uri),
                Err(_) => continue,
            }
            assert_eq!(refusal(&sent), status, "{target}");
        }
        let mut old = request("/", &[]);
        old.set_version(Version::HTTP_10);
        assert_eq!(refusal(&old), None);
        for (length, status) in [
            ("0", None),
            ("17", None),
            ("0, 0", Some(400)),
            ("+1", Some(400)),
            ("1;", Some(400)),
        ] {
            let sent = request("/", &[("host", "a"), ("content-length", length)]);
            assert_eq!(refusal(&sent), status, "{length}");
        }
        let twice = [("host", "a"), ("content-length", "0"), ("content-length", "0")];
        assert_eq!(refusal(&request("/", &twice)), Some(400));
        for (coding, status) in [
            ("chunked", None),
            ("Chunked", None),
            ("gzip, chunked", Some(501)),
            ("chunked, chunked", Some(501)),
            ("identity", Some(501)),
            ("xchunked", Some(501)),
        ] {
            let sent = request("/", &[("host", "a"), ("transfer-encoding", coding)]);
            assert_eq!(refusal(&sent), status, "{coding}");
        }
    }
}
