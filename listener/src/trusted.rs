//! Who may speak to a listener that asks for no credential: not every web page in a browser on this machine.
//!
//! A page of `evil.example` reaches a loopback listener in two ways. Its script sends a request to `127.0.0.1`: the
//! browser says whose page it is in `Origin` and `Sec-Fetch-Site`. Or its own name is rebound to 127.0.0.1 (DNS rebinding):
//! then origin and host agree, and only the host's name shows that it isn't ours. So hosts must name this machine, and
//! writes must come from the listener's own pages or from no page at all.
//!
//! Only `Host` counts, after the request target (see `front`); no `X-Forwarded-Host` and no `Forwarded` does.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use http::{HeaderValue, Method};

use crate::host::{Host, HostName};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The hosts that name this machine, beside loopback and the address that a connection came to.
#[derive(Debug, Clone, Default)]
pub struct TrustedHosts {
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    setting: &'static str,
}

/// A name in the configuration that is not a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be whole host names or IP addresses, without port and without wildcards, such as tide.example.com, is {0:?}"
)]
pub struct NotAHost(pub String);

/// Why a request without a credential is refused: 403.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    reason: Reason,
    setting: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    Host(String),
    Origin,
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::Host(host) => write!(
                f,
                "without a credential this listener answers only to names of its machine, and Host is {host:?}: call it by \
                 IP address or localhost, or allow the name with {}",
                self.setting
            ),
            Reason::Origin => f.write_str(
                "this listener takes writes from its own pages and from programs only; this one comes from a web page of \
                 another origin",
            ),
        }
    }
}

/// Whether clients call machines by such a name. A URL's host may hold other characters, such as the `*` of somebody who expects
/// a wildcard.
fn may_be_called(name: &HostName<'_>) -> bool {
    match name {
        HostName::Address(_) => true,
        HostName::Name(name) => name.trim_end_matches('.').split('.').all(|label| {
            let letters = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            !label.is_empty() && label.chars().all(letters)
        }),
    }
}

impl TrustedHosts {
    /// Hosts from the configuration; `setting` says where they are set, for whoever is refused.
    ///
    /// # Errors
    /// The first that is not a host.
    pub fn new<'a>(
        setting: &'static str,
        hosts: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, NotAHost> {
        let mut trusted = Self {
            setting,
            ..Self::default()
        };
        for text in hosts {
            // An IPv6 address may stand without brackets where no port can follow.
            match (text.parse(), Host::parse(text.as_bytes())) {
                (Ok(address), _) => trusted.addresses.push(IpAddr::to_canonical(&address)),
                (_, Some(Host { name, port: None })) if may_be_called(&name) && !text.ends_with(':') => {
                    trusted.add(name);
                }
                _ => return Err(NotAHost(text.to_owned())),
            }
        }
        Ok(trusted)
    }

    /// The same with this machine's own name, which nobody else can give to a page, where the kernel knows it.
    #[must_use]
    pub fn on_this_machine(self) -> Self {
        match std::fs::read_to_string("/proc/sys/kernel/hostname") {
            Ok(name) => self.with_name(name.trim()),
            // Elsewhere than on Linux, names are those that were configured.
            Err(_) => self,
        }
    }

    fn with_name(mut self, name: &str) -> Self {
        if let Some(Host { name, port: None }) = Host::parse(name.as_bytes()) {
            self.add(name);
        }
        self
    }

    fn add(&mut self, name: HostName<'_>) {
        match name {
            HostName::Address(address) => self.addresses.push(address),
            HostName::Name(name) => self.names.push(name.to_owned()),
        }
    }

    /// Whether a request without a credential may be answered. `local` is our end of its connection.
    ///
    /// # Errors
    /// The host is not ours, or a web page of another origin wants to write.
    pub fn admit(&self, method: &Method, headers: &HeaderMap, local: SocketAddr) -> Result<(), Stranger> {
        self.admit_host(headers, local)?;
        self.admit_origin(method, headers)
    }

    /// Whether no web page of another origin wants to write.
    ///
    /// # Errors
    /// One does.
    pub fn admit_origin(&self, method: &Method, headers: &HeaderMap) -> Result<(), Stranger> {
        let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
        if reads || is_of_own_origin(headers) {
            return Ok(());
        }
        Err(Stranger {
            reason: Reason::Origin,
            setting: self.setting,
        })
    }

    /// Whether the host is ours. A request without any is: it speaks HTTP/1.0, and no browser sent it.
    fn admit_host(&self, headers: &HeaderMap, local: SocketAddr) -> Result<(), Stranger> {
        let Some(value) = headers.get(HOST) else {
            return Ok(());
        };
        let ours = match Host::parse(value.as_bytes()).map(|host| host.name) {
            Some(HostName::Address(address)) => {
                address.is_loopback()
                    || address == local.ip().to_canonical()
                    || self.addresses.contains(&address)
            }
            Some(HostName::Name(name)) => {
                is_localhost(name) || self.names.iter().any(|known| known.eq_ignore_ascii_case(name))
            }
            None => false,
        };
        if ours {
            return Ok(());
        }
        Err(Stranger {
            reason: Reason::Host(String::from_utf8_lossy(value.as_bytes()).into_owned()),
            setting: self.setting,
        })
    }
}

/// `localhost` and the names below it, which resolvers keep on the machine and nobody can register (RFC 6761 section 6.3).
fn is_localhost(name: &str) -> bool {
    const LOCALHOST: &str = "localhost";
    let Some(at) = name.len().checked_sub(LOCALHOST.len()) else {
        return false;
    };
    let tail_is_it = name
        .get(at..)
        .is_some_and(|tail| tail.eq_ignore_ascii_case(LOCALHOST));
    tail_is_it && (at == 0 || name.get(..at).is_some_and(|head| head.ends_with('.')))
}

/// Whether no web page sent the request, or one of the listener's own.
fn is_of_own_origin(headers: &HeaderMap) -> bool {
    let sites = headers.get_all(SEC_FETCH_SITE);
    let mut origins = headers.get_all(ORIGIN).iter();
    let host = headers.get(HOST).and_then(|value| Host::parse(value.as_bytes()));
    sites.iter().all(|site| site == "same-origin" || site == "none")
        && origins.all(|origin| host.is_some_and(|host| is_origin_of(origin, host)))
}

/// Whether an origin is the host's. The scheme is not compared: behind a proxy that speaks TLS, pages are https and this
/// listener is not. It says which port is meant where none is written.
fn is_origin_of(origin: &HeaderValue, host: Host<'_>) -> bool {
    let bytes = origin.as_bytes();
    let (rest, default_port) = match (bytes.strip_prefix(b"http://"), bytes.strip_prefix(b"https://")) {
        (Some(rest), _) => (rest, 80),
        (_, Some(rest)) => (rest, 443),
        _ => return false,
    };
    let port = |host: Host<'_>| host.port.unwrap_or(default_port);
    Host::parse(rest).is_some_and(|origin| origin.name == host.name && port(origin) == port(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn admits(method: Method, lines: &[(&'static str, &str)]) -> bool {
        let trusted = TrustedHosts::new("allowed_hosts", ["tide.example.com", "203.0.113.9"])
            .unwrap()
            .with_name("box-1");
        let local = ([192, 0, 2, 7], 8080).into();
        trusted.admit(&method, &headers(lines), local).is_ok()
    }

    #[test]
    fn hosts_that_name_this_machine_are_ours_in_every_spelling() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "localhost.",
            "app.localhost:1",
            "127.0.0.1",
            "127.44.0.9:80",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
            "127.1",
            "2130706433",
            "192.0.2.7:8080",
            "[::ffff:192.0.2.7]",
            "Tide.Example.com.:443",
            "203.0.113.9",
            "box-1:9090",
        ] {
            assert!(admits(Method::GET, &[("host", host)]), "{host}");
            assert!(admits(Method::PUT, &[("host", host)]), "{host}");
        }
        assert!(admits(Method::GET, &[]));
    }

    #[test]
    fn hosts_of_others_are_not_whatever_else_is_said() {
        for host in [
            "evil.example",
            "localhost.evil.example",
            "evillocalhost",
            "127.0.0.1.nip.io",
            "127.0.0.1.evil.example",
            "tide.example.com.evil.example",
            "xtide.example.com",
            "example.com",
            "192.0.2.8",
            "0.0.0.0",
            "[::]",
            "[2001:db8::1]",
            "0x7f000001.evil.example",
            "box-1.evil.example",
        ] {
            let origin = format!("http://{host}");
            for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::POST] {
                assert!(!admits(method.clone(), &[("host", host)]), "{host}");
                let lines = [
                    ("host", host),
                    ("origin", origin.as_str()),
                    ("sec-fetch-site", "same-origin"),
                    ("x-forwarded-host", "localhost"),
                    ("forwarded", "host=localhost"),
                ];
                assert!(!admits(method, &lines), "{host}");
            }
        }
    }

    #[test]
    fn writes_of_other_origins_are_refused() {
        let own = [
            ("http://localhost:8080", "localhost:8080"),
            ("http://LocalHost", "localhost:80"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("https://tide.example.com", "tide.example.com"),
            ("https://tide.example.com", "tide.example.com:443"),
        ];
        for (origin, host) in own {
            assert!(
                admits(Method::POST, &[("host", host), ("origin", origin)]),
                "{origin}"
            );
        }
        for origin in [
            "null",
            "",
            "http://evil.example",
            "http://localhost:3000",
            "http://localhost",
            "https://localhost",
            "http://127.0.0.1:8080",
            "http://localhost:8080.evil.example",
            "http://localhost:8080@evil.example",
            "file://localhost:8080",
            "chrome-extension://localhost:8080",
            "localhost:8080",
            "http://localhost:8080/",
            "http://localhost:8080, http://localhost:8080",
        ] {
            let lines = [("host", "localhost:8080"), ("origin", origin)];
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                assert!(!admits(method, &lines), "{origin}");
            }
            let odd = Method::from_bytes(b"BREW").unwrap();
            assert!(!admits(odd, &lines), "{origin}");
            assert!(admits(Method::GET, &lines), "{origin}");
        }
        for site in ["cross-site", "same-site", "", "something-new"] {
            let lines = [("host", "localhost:8080"), ("sec-fetch-site", site)];
            assert!(!admits(Method::POST, &lines), "{site}");
        }
        let twice = [
            ("host", "localhost:8080"),
            ("origin", "http://localhost:8080"),
            ("origin", "http://evil.example"),
        ];
        assert!(!admits(Method::POST, &twice));
        assert!(!admits(Method::POST, &[("origin", "http://localhost:8080")]));
    }

    #[test]
    fn what_is_configured_must_be_hosts() {
        let wrong = ["", "a b", "http://a", "a:80", "a:", "[::1]:80", "user@a"];
        // A star is a legal character of a URL's host, and no pattern here: it would only ever match itself.
        let wildcards = ["*", "*.a", ".a", "a..b"];
        for text in wrong.into_iter().chain(wildcards) {
            assert!(TrustedHosts::new("allowed_hosts", [text]).is_err(), "{text:?}");
        }
        assert!(
            TrustedHosts::new(
                "allowed_hosts",
                ["::1", "[::1]", "a.", "10.0.0.1", "a_b-1.example"]
            )
            .is_ok()
        );
    }
}
