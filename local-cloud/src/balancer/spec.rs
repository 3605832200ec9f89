//! What a load balancer is to do, in its own words; whoever shows load balancers to clients translates to it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use rustls::sign::CertifiedKey;

use super::firewall::Firewall;

/// One load balancer.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// Names it as long as it runs.
    pub(crate) id: String,
    pub(crate) ip: Ipv4Addr,
    pub(crate) forwards: Vec<Forward>,
    pub(crate) algorithm: Algorithm,
    pub(crate) check: Check,
    /// How long a member or a client may be silent.
    pub(crate) idle_timeout: Duration,
    /// Whether connections to members are kept for the next request.
    pub(crate) backend_keepalive: bool,
    pub(crate) firewall: Firewall,
    pub(crate) sticky: Option<Sticky>,
    /// Whether members are told in the PROXY protocol, version 1, who the client is.
    pub(crate) proxy_protocol: bool,
    /// Client connections at once.
    pub(crate) connections_max: u64,
}

/// Who gets the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    RoundRobin,
    LeastConnections,
}

/// A cookie by which a client comes to the same member again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sticky {
    pub(crate) cookie: String,
    /// How long a client keeps it.
    pub(crate) ttl_secs: u64,
}

/// One port of the balancer and the members' port behind it.
#[derive(Debug, Clone)]
pub(crate) struct Forward {
    pub(crate) entry_port: u16,
    pub(crate) target_port: u16,
    pub(crate) entry: Entry,
}

/// What clients speak on a port. Behind it, HTTP is always HTTP/1.1 in the clear.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// HTTP/1.1; with a port, clients are sent to it instead, by https.
    Http { redirect_to: Option<u16> },
    /// HTTP/1.1 over TLS that ends here, and HTTP/2 where that is offered. Without a key no client gets in.
    Https {
        key: Option<Arc<CertifiedKey>>,
        http2: bool,
    },
    /// Bytes, which are not looked at.
    Tcp,
}

/// How members are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) by: CheckBy,
    pub(crate) port: u16,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) thresholds: Thresholds,
}

/// What a check speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CheckBy {
    /// A GET of this path, which 2xx and 3xx pass.
    Http { path: String },
    /// A connection.
    Tcp,
}

/// Thresholds of checks in a row that turn a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Thresholds {
    pub(crate) healthy: u64,
    pub(crate) unhealthy: u64,
}
