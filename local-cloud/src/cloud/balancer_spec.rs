//! A load balancer's record: what the user asked for, checked. The balancer itself lives in `crate::balancer`.

use serde::{Deserialize, Serialize};

/// A load balancer as it survives a restart.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LoadBalancer {
    pub(crate) id: String,
    /// Its place among the balancers' addresses.
    pub(crate) slot: u32,
    pub(crate) name: String,
    pub(crate) created_at: String,
    pub(crate) region: Option<String>,
    pub(crate) size_unit: u64,
    pub(crate) algorithm: Algorithm,
    pub(crate) forwarding_rules: Vec<ForwardingRule>,
    pub(crate) health_check: HealthCheck,
    pub(crate) http_idle_timeout_secs: u64,
    /// Droplets with this tag are behind it …
    pub(crate) tag: Option<String>,
    /// … or else these.
    pub(crate) droplet_ids: Vec<u64>,
    pub(crate) vpc: String,
    pub(crate) project_id: String,
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

/// One port of the balancer and the members' port behind it. Both speak HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct ForwardingRule {
    pub(crate) entry_port: u16,
    pub(crate) target_port: u16,
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
