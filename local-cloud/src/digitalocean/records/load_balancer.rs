//! A load balancer's record, and what the running balancer is told of it.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::firewall::Firewall;
use crate::balancer::spec::{self, Check, CheckBy, Entry, Forward, Spec, Thresholds};
use crate::certificates::Certificates;

/// Client connections that one unit of a balancer's size takes, as DigitalOcean documents it.
const CONNECTIONS_PER_UNIT: u64 = 10_000;
/// Where clients expect https.
const HTTPS_PORT: u16 = 443;
/// The named sizes, and how many units each has.
const NAMED_SIZES: [(&str, u64); 3] = [("lb-small", 1), ("lb-medium", 3), ("lb-large", 6)];

/// A load balancer as it survives a restart.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LoadBalancer {
    pub(crate) id: String,
    /// Its place among the balancers' addresses.
    pub(crate) slot: u32,
    pub(crate) name: String,
    pub(crate) created_at: String,
    /// None only in records of earlier versions.
    pub(crate) region: Option<String>,
    #[serde(rename = "size_unit")]
    pub(crate) size: Size,
    /// Whether it was asked for by its name, which is shown then, and only then.
    #[serde(default)]
    pub(crate) size_by_name: bool,
    pub(crate) algorithm: Algorithm,
    pub(crate) forwarding_rules: Vec<ForwardingRule>,
    pub(crate) health_check: HealthCheck,
    pub(crate) http_idle_timeout_secs: u64,
    /// Whether connections to members are kept for the next request.
    #[serde(default)]
    pub(crate) enable_backend_keepalive: bool,
    #[serde(default)]
    pub(crate) redirect_http_to_https: bool,
    #[serde(default)]
    pub(crate) enable_proxy_protocol: bool,
    #[serde(default)]
    pub(crate) sticky_sessions: Option<StickySessions>,
    /// Kept and shown; a balancer makes no records of the DNS here.
    #[serde(default)]
    pub(crate) disable_lets_encrypt_dns_records: bool,
    #[serde(default)]
    pub(crate) firewall: Firewall,
    /// Droplets with this tag are behind it …
    pub(crate) tag: Option<String>,
    /// … or else these.
    pub(crate) droplet_ids: Vec<u64>,
    pub(crate) vpc: String,
}

impl LoadBalancer {
    /// Whether one of its rules names this certificate.
    pub(crate) fn uses_certificate(&self, id: &str) -> bool {
        let mut named = self
            .forwarding_rules
            .iter()
            .map(|rule| rule.certificate_id.as_deref());
        named.any(|certificate| certificate == Some(id))
    }

    /// The port that http is sent to, with `redirect_http_to_https`: 443 if there is https, or else the first one with https.
    pub(crate) fn https_port(&self) -> Option<u16> {
        let secure = |rule: &&ForwardingRule| rule.entry_protocol.is_secure();
        let ports = || {
            self.forwarding_rules
                .iter()
                .filter(secure)
                .map(|rule| rule.entry_port)
        };
        ports()
            .find(|port| *port == HTTPS_PORT)
            .or_else(|| ports().next())
    }

    /// What the balancer at this address is to do, with these certificates.
    pub(crate) fn spec(&self, ip: Ipv4Addr, certificates: &Certificates) -> Spec {
        let forward = |rule: &ForwardingRule| Forward {
            entry_port: rule.entry_port,
            target_port: rule.target_port,
            entry: self.entry(rule, certificates),
        };
        Spec {
            id: self.id.clone(),
            ip,
            forwards: self.forwarding_rules.iter().map(forward).collect(),
            algorithm: match self.algorithm {
                Algorithm::RoundRobin => spec::Algorithm::RoundRobin,
                Algorithm::LeastConnections => spec::Algorithm::LeastConnections,
            },
            check: self.health_check.spec(),
            idle_timeout: Duration::from_secs(self.http_idle_timeout_secs),
            backend_keepalive: self.enable_backend_keepalive,
            firewall: self.firewall.rules(),
            sticky: self.sticky_sessions.as_ref().map(|sticky| spec::Sticky {
                cookie: sticky.cookie_name.clone(),
                ttl_secs: sticky.cookie_ttl_secs,
            }),
            proxy_protocol: self.enable_proxy_protocol,
            connections_max: self.size.connections_max(),
        }
    }

    fn entry(&self, rule: &ForwardingRule, certificates: &Certificates) -> Entry {
        match rule.entry_protocol {
            _ if rule.tls_passthrough => Entry::Tcp,
            Protocol::Tcp => Entry::Tcp,
            Protocol::Http => Entry::Http {
                redirect_to: self.redirect_http_to_https.then(|| self.https_port()).flatten(),
            },
            Protocol::Https | Protocol::Http2 => Entry::Https {
                key: rule.certificate_id.as_deref().and_then(|id| certificates.key(id)),
                http2: rule.entry_protocol == Protocol::Http2,
            },
        }
    }
}

/// A cookie by which a client comes to the same droplet again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StickySessions {
    pub(crate) cookie_name: String,
    pub(crate) cookie_ttl_secs: u64,
}

/// How large a balancer is, in units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Size {
    pub(crate) units: u64,
}

impl Size {
    /// The size of that name.
    pub(crate) fn named(slug: &str) -> Option<Self> {
        let found = NAMED_SIZES.iter().find(|(known, _)| *known == slug);
        found.map(|(_, units)| Self { units: *units })
    }

    /// Its name; empty when no name has so many units.
    pub(crate) fn name(self) -> &'static str {
        let found = NAMED_SIZES.iter().find(|(_, units)| *units == self.units);
        found.map_or("", |(slug, _)| slug)
    }

    /// Client connections at once.
    fn connections_max(self) -> u64 {
        self.units.saturating_mul(CONNECTIONS_PER_UNIT)
    }
}

/// Who gets the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Algorithm {
    RoundRobin,
    LeastConnections,
}

impl Algorithm {
    /// As the API writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastConnections => "least_connections",
        }
    }
}

/// One port of the balancer and the members' port behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ForwardingRule {
    #[serde(default)]
    pub(crate) entry_protocol: Protocol,
    pub(crate) entry_port: u16,
    #[serde(default)]
    pub(crate) target_protocol: Protocol,
    pub(crate) target_port: u16,
    /// With https that ends at the balancer, and only then.
    #[serde(default)]
    pub(crate) certificate_id: Option<String>,
    #[serde(default)]
    pub(crate) tls_passthrough: bool,
}

/// What is spoken at one end of a rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Protocol {
    /// As in records of versions that had nothing else.
    #[default]
    Http,
    Https,
    Http2,
    Tcp,
}

impl Protocol {
    /// As the API writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Http2 => "http2",
            Self::Tcp => "tcp",
        }
    }

    /// Whether it is TLS.
    pub(crate) fn is_secure(self) -> bool {
        matches!(self, Self::Https | Self::Http2)
    }
}

/// How members are checked. Field names and units are the API's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HealthCheck {
    pub(crate) protocol: CheckProtocol,
    pub(crate) port: u16,
    pub(crate) path: String,
    pub(crate) check_interval_secs: u64,
    pub(crate) response_timeout_secs: u64,
    pub(crate) unhealthy_threshold: u64,
    pub(crate) healthy_threshold: u64,
}

impl HealthCheck {
    fn spec(&self) -> Check {
        Check {
            by: match self.protocol {
                CheckProtocol::Http => CheckBy::Http {
                    path: self.path.clone(),
                },
                CheckProtocol::Tcp => CheckBy::Tcp,
            },
            port: self.port,
            interval: Duration::from_secs(self.check_interval_secs),
            timeout: Duration::from_secs(self.response_timeout_secs),
            thresholds: Thresholds {
                healthy: self.healthy_threshold,
                unhealthy: self.unhealthy_threshold,
            },
        }
    }
}

/// What a check speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CheckProtocol {
    Http,
    Tcp,
}

impl CheckProtocol {
    /// As the API writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}
