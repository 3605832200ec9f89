//! What a load balancer is to do, in its own words; whoever shows load balancers to clients translates to it.

use std::net::Ipv4Addr;
use std::time::Duration;

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
    /// Client connections at once.
    pub(crate) connections_max: u64,
}

/// Who gets the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    RoundRobin,
    LeastConnections,
}

/// One port of the balancer and the members' port behind it. Both speak HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Forward {
    pub(crate) entry_port: u16,
    pub(crate) target_port: u16,
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
