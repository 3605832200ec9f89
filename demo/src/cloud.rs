//! The local cloud seen from outside: DigitalOcean's API for the load balancer, `/_local` for what a real cloud wouldn't reveal.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use serde_json::{Value, json};

/// How long one call may take; the local cloud answers in milliseconds, unless the machine is very busy.
const CALL_MAX: Duration = Duration::from_secs(10);
/// How much of an answer's text goes into a message.
const SHOWN_CHARS_MAX: usize = 300;

/// Where the demo's droplets are; any region that the cloud has.
pub const REGION: &str = "nyc3";
/// Their size; a process has no size, the API wants one all the same.
pub const SIZE: &str = "s-1vcpu-1gb";

/// A call of the local cloud that failed.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// No answer.
    #[error("{what}: the local cloud does not answer")]
    Unreachable {
        /// What was asked.
        what: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// An answer of failure.
    #[error("{what}: the local cloud refused with status {status}: {body}")]
    Refused {
        /// What was asked.
        what: String,
        /// Its status.
        status: u16,
        /// Its words.
        body: String,
    },
    /// An answer that isn't understood.
    #[error("{what}: the answer is not understood: {reason}")]
    Odd {
        /// What was asked.
        what: String,
        /// Why.
        reason: String,
    },
}

/// A client of one local cloud.
#[derive(Debug, Clone)]
pub struct Cloud {
    base: String,
    token: String,
    client: Client,
}

/// `GET /_local/state`, as far as the demo reads it.
#[derive(Debug, Clone, Deserialize)]
pub struct State {
    /// All droplets.
    #[serde(default)]
    pub droplets: Vec<DropletState>,
    /// All load balancers.
    #[serde(default)]
    pub load_balancers: Vec<BalancerState>,
}

/// One droplet.
#[derive(Debug, Clone, Deserialize)]
pub struct DropletState {
    /// Its id.
    pub id: u64,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Where its operations listener is.
    #[serde(default)]
    pub ops: String,
}

/// One load balancer.
#[derive(Debug, Clone, Deserialize)]
pub struct BalancerState {
    /// Its id.
    #[serde(default)]
    pub id: String,
    /// Where it listens.
    pub ip: String,
    /// The first port it listens on.
    pub port: Option<u16>,
    /// Members that it has now.
    #[serde(default)]
    pub members: Vec<BalancerMember>,
    /// Members that it had.
    #[serde(default)]
    pub past_members: Vec<BalancerMember>,
    /// Requests, answers, retries.
    #[serde(default)]
    pub counters: Value,
}

/// A member of a load balancer.
#[derive(Debug, Clone, Deserialize)]
pub struct BalancerMember {
    /// The droplet's id.
    #[serde(alias = "droplet")]
    pub droplet_id: u64,
    /// `healthy`, `joining`, `unhealthy`, `draining` or `left`.
    #[serde(default)]
    pub state: String,
    /// Everything else that it reports, counters among it.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

impl BalancerState {
    /// Ids of the members that get traffic.
    pub fn healthy(&self) -> Vec<u64> {
        self.members
            .iter()
            .filter(|member| member.state == "healthy")
            .map(|member| member.droplet_id)
            .collect()
    }

    /// Requests that it counted.
    pub fn requests(&self) -> Option<u64> {
        self.counters.get("requests").and_then(Value::as_u64)
    }
}

impl Cloud {
    /// A client of the cloud at `base`, such as `http://127.0.0.1:7000`.
    pub fn new(base: String, token: String) -> Result<Self, CloudError> {
        let what = "setting up the client".to_owned();
        let client = Client::builder()
            .no_proxy()
            .timeout(CALL_MAX)
            .build()
            .map_err(|source| CloudError::Unreachable { what, source })?;
        Ok(Self { base, token, client })
    }

    /// Its address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Whether it answers.
    pub async fn is_up(&self) -> bool {
        self.call(
            "asking for the account",
            self.client.get(format!("{}/v2/account", self.base)),
        )
        .await
        .is_ok()
    }

    /// Makes a load balancer for all droplets of a tag; returns its id.
    pub async fn create_balancer(
        &self,
        name: &str,
        tag: &str,
        entry_port: u16,
    ) -> Result<String, CloudError> {
        let body = json!({
            "name": name,
            "region": REGION,
            "tag": tag,
            "algorithm": "least_connections",
            // The default, a connection for each request, would measure connections.
            "enable_backend_keepalive": true,
            "forwarding_rules": [{
                "entry_protocol": "http", "entry_port": entry_port, "target_protocol": "http", "target_port": 8080,
            }],
            "health_check": {
                "protocol": "http", "port": 9090, "path": "/readyz", "check_interval_seconds": 3,
                "response_timeout_seconds": 3, "healthy_threshold": 2, "unhealthy_threshold": 2,
            },
        });
        let what = "making the load balancer";
        let answer = self
            .call(
                what,
                self.client
                    .post(format!("{}/v2/load_balancers", self.base))
                    .json(&body),
            )
            .await?;
        answer
            .pointer("/load_balancer/id")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| odd(what, "it has no load_balancer.id"))
    }

    /// Makes a tag, so that a load balancer may name it before any droplet has it.
    pub async fn create_tag(&self, name: &str) -> Result<(), CloudError> {
        let request = self
            .client
            .post(format!("{}/v2/tags", self.base))
            .json(&json!({ "name": name }));
        self.call("making a tag", request).await.map(drop)
    }

    /// Makes a droplet from an image; returns its id.
    pub async fn create_droplet(&self, body: &Value) -> Result<u64, CloudError> {
        let what = "making a droplet";
        let answer = self
            .call(
                what,
                self.client.post(format!("{}/v2/droplets", self.base)).json(body),
            )
            .await?;
        answer
            .pointer("/droplet/id")
            .and_then(Value::as_u64)
            .ok_or_else(|| odd(what, "it has no droplet.id"))
    }

    /// What the cloud says about itself.
    pub async fn state(&self) -> Result<State, CloudError> {
        let what = "asking for the cloud's state";
        let answer = self
            .call(what, self.client.get(format!("{}/_local/state", self.base)))
            .await?;
        serde_json::from_value(answer).map_err(|error| odd(what, &error.to_string()))
    }

    /// One load balancer's state.
    pub async fn balancer(&self, id: &str) -> Result<BalancerState, CloudError> {
        let state = self.state().await?;
        state
            .load_balancers
            .into_iter()
            .find(|balancer| balancer.id == id)
            .ok_or_else(|| odd("asking for the cloud's state", "the load balancer is gone"))
    }

    /// Cuts the power of a droplet; it is off when this returns.
    pub async fn power_cut(&self, droplet_id: u64) -> Result<(), CloudError> {
        let request = self
            .client
            .post(format!("{}/_local/faults/power-cut", self.base))
            .json(&json!({ "droplet_id": droplet_id }));
        self.call("cutting a droplet's power", request).await.map(drop)
    }

    async fn call(&self, what: &str, request: RequestBuilder) -> Result<Value, CloudError> {
        let unreachable = |source| CloudError::Unreachable {
            what: what.to_owned(),
            source,
        };
        let response = request
            .bearer_auth(&self.token)
            .send()
            .await
            .map_err(unreachable)?;
        let status = response.status();
        let body = response.bytes().await.map_err(unreachable)?;
        if !status.is_success() {
            let body = String::from_utf8_lossy(&body)
                .chars()
                .take(SHOWN_CHARS_MAX)
                .collect();
            return Err(CloudError::Refused {
                what: what.to_owned(),
                status: status.as_u16(),
                body,
            });
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| odd(what, &error.to_string()))
    }
}

fn odd(what: &str, reason: &str) -> CloudError {
    CloudError::Odd {
        what: what.to_owned(),
        reason: reason.to_owned(),
    }
}
