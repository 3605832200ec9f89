//! Where a request by http is sent that is to come by https.

use http::header;
use pingora::http::{RequestHeader, ResponseHeader};

/// Temporary, and with the method and body kept. DigitalOcean does not document its status: this one is never wrong for long,
/// because clients don't remember it.
pub(super) const STATUS: u16 = 307;

/// The same address by https on this port; None when the request does not say for which host it is.
pub(super) fn location(request: &RequestHeader, port: u16) -> Option<String> {
    let host = match request.uri.authority() {
        Some(authority) => authority.host(),
        None => without_port(request.headers.get(header::HOST)?.to_str().ok()?),
    };
    let path = request.uri.path_and_query().map_or("/", |path| path.as_str());
    let port = if port == 443 {
        String::new()
    } else {
        format!(":{port}")
    };
    (!host.is_empty()).then(|| format!("https://{host}{port}{path}"))
}

/// The answer that sends a client there.
///
/// # Errors
/// When the address can't stand in a header.
pub(super) fn answer(location: &str) -> pingora::Result<ResponseHeader> {
    let mut response = ResponseHeader::build(STATUS, Some(3))?;
    response.insert_header(header::LOCATION, location)?;
    response.insert_header(header::CONTENT_LENGTH, "0")?;
    response.insert_header(header::CACHE_CONTROL, "no-cache")?;
    Ok(response)
}

/// A host without its port; the colons of an IPv6 address stand in brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_target_are_kept_and_the_port_is_that_of_https() {
        let sent_to = |host: &str, target: &str, port| {
            let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
            request.insert_header(header::HOST, host).unwrap();
            location(&request, port)
        };
        for (host, target, port, expected) in [
            ("a.example", "/", 443, Some("https://a.example/")),
            ("a.example:80", "/x?y=z", 443, Some("https://a.example/x?y=z")),
            ("a.example:8000", "/x", 8443, Some("https://a.example:8443/x")),
            ("[::1]:80", "/", 443, Some("https://[::1]/")),
            ("[::1]", "/", 443, Some("https://[::1]/")),
            (
                "a.example",
                "//b.example/",
                443,
                Some("https://a.example//b.example/"),
            ),
            ("", "/", 443, None),
        ] {
            assert_eq!(
                sent_to(host, target, port).as_deref(),
                expected,
                "{host} {target}"
            );
        }
    }
}
