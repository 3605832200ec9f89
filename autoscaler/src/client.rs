//! The commands that speak with a running daemon through its status port.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tidepool_autoscaler_core::rollout::Stage;

use crate::config::{Secret, StatusConfig};
use crate::status::{Mode, PoolStatus, RolloutRequest, RolloutStatus, ScaleRequest, Status};

/// A daemon on the same machine answers at once; over a network within this.
const TIMEOUT: Duration = Duration::from_secs(5);

/// An order of a rollout makes two reads of the provider, which take at most 46 s each.
const ORDER_TIMEOUT: Duration = Duration::from_secs(100);

/// Why the daemon's answer is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers.
    #[error(
        "no tidepool-autoscaler answers at {0}; is `tidepool-autoscaler run` running with this configuration?"
    )]
    Unreachable(SocketAddr, #[source] reqwest::Error),
    /// It answered something else than was asked.
    #[error("the answer of {0} can't be read")]
    Answer(SocketAddr, #[source] reqwest::Error),
    /// It refused.
    #[error("{0}")]
    Refused(String),
}

/// A client of one daemon.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    address: SocketAddr,
    token: Option<Secret>,
}

#[derive(serde::Deserialize)]
struct Failure {
    error: String,
}

impl Client {
    /// A client of the daemon that runs with this configuration.
    pub fn new(config: &StatusConfig) -> Result<Client, reqwest::Error> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        let mut address = config.listen;
        if address.ip().is_unspecified() {
            // A daemon that listens everywhere also listens here.
            let here = if address.is_ipv4() {
                IpAddr::V4(Ipv4Addr::LOCALHOST)
            } else {
                IpAddr::V6(Ipv6Addr::LOCALHOST)
            };
            address.set_ip(here);
        }
        Ok(Client {
            http,
            address,
            token: config.token.clone(),
        })
    }

    async fn send<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, ClientError> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        };
        let answer = request
            .send()
            .await
            .map_err(|error| ClientError::Unreachable(self.address, error))?;
        let status = answer.status();
        if status.is_success() {
            return answer
                .json()
                .await
                .map_err(|error| ClientError::Answer(self.address, error));
        }
        let failure: Result<Failure, _> = answer.json().await;
        Err(ClientError::Refused(failure.map_or_else(
            |_| format!("it answered {status}"),
            |failure| failure.error,
        )))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The status of all pools.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.send(self.http.get(self.url("/api/status"))).await
    }

    /// Holds a pool at its size.
    pub async fn hold(&self, pool: &str) -> Result<Mode, ClientError> {
        self.send(self.http.post(self.url(&format!("/api/pools/{pool}/hold"))))
            .await
    }

    /// Gives a pool back to its policies.
    pub async fn resume(&self, pool: &str) -> Result<Mode, ClientError> {
        self.send(self.http.post(self.url(&format!("/api/pools/{pool}/resume"))))
            .await
    }

    /// Orders that a pool's members are replaced.
    pub async fn rollout(&self, pool: &str, request: &RolloutRequest) -> Result<RolloutStatus, ClientError> {
        let url = self.url(&format!("/api/pools/{pool}/rollout"));
        // The provider is asked before it is answered.
        let request = self.http.post(url).timeout(ORDER_TIMEOUT).json(request);
        self.send(request).await
    }

    /// Pauses a rollout, resumes or undoes it.
    pub async fn rollout_word(&self, pool: &str, word: &str) -> Result<RolloutStatus, ClientError> {
        self.send(
            self.http
                .post(self.url(&format!("/api/pools/{pool}/rollout/{word}"))),
        )
        .await
    }

    /// Holds a pool at a size given by hand.
    pub async fn scale(&self, pool: &str, size: u32) -> Result<Mode, ClientError> {
        let request = self
            .http
            .post(self.url(&format!("/api/pools/{pool}/scale")))
            .json(&ScaleRequest { size });
        self.send(request).await
    }
}

/// Who decides about a pool's size, in words.
pub fn mode_text(mode: Mode) -> String {
    match mode {
        Mode::Auto => "follows its policies".to_owned(),
        Mode::Hold { size } => format!("held at {size}"),
        Mode::Manual { size } => format!("set to {size} by hand"),
    }
}

/// A rollout, in words.
pub fn rollout_text(rollout: &RolloutStatus) -> String {
    let RolloutStatus {
        to,
        from,
        stage,
        back,
        cause,
        left,
        ..
    } = rollout;
    let what = if *back { "rollback" } else { "rollout" };
    let stage_name = match stage {
        Stage::Running => "running",
        Stage::Paused => "paused",
        Stage::Done => "done",
    };
    let from = from
        .as_ref()
        .map_or_else(String::new, |from| format!(", from {from}"));
    let left = match (stage, left) {
        (Stage::Done, _) | (_, None) => String::new(),
        (Stage::Running | Stage::Paused, Some(1)) => "; 1 member is left to replace".to_owned(),
        (Stage::Running | Stage::Paused, Some(left)) => format!("; {left} members are left to replace"),
    };
    let cause = cause
        .as_ref()
        .map_or_else(String::new, |cause| format!("; {cause}"));
    format!("{what} to {to}{from}: {stage_name}{left}{cause}")
}

/// A status for people.
pub fn status_text(status: &Status) -> String {
    let mut text = String::new();
    for pool in &status.pools {
        // Writing into a String can't fail.
        let _ = pool_text(&mut text, pool, status);
    }
    text
}

fn pool_text(text: &mut String, pool: &PoolStatus, status: &Status) -> std::fmt::Result {
    let PoolStatus {
        name,
        actual,
        desired,
        serving,
        min,
        max,
        ..
    } = pool;
    writeln!(
        text,
        "{name}: {actual} members ({serving} serving), desired {desired}, {min} to {max}; {}",
        mode_text(pool.mode)
    )?;
    match pool.last_tick_at {
        None => writeln!(text, "  not looked at yet")?,
        Some(at) => writeln!(text, "  last tick {:.0} s ago", status.now.secs_since(at))?,
    }
    if let Some(error) = &pool.last_error {
        writeln!(text, "  failing: {error}")?;
    }
    for problem in &pool.problems {
        writeln!(text, "  problem: {problem}")?;
    }
    if let Some(rollout) = &pool.rollout {
        writeln!(text, "  {}", rollout_text(rollout))?;
    }
    for signal in &pool.signals {
        let value = signal
            .value
            .map_or_else(|| "no value".to_owned(), |value| format!("{value:.4}"));
        let state = format!("{:?}", signal.state).to_lowercase();
        let target = signal
            .target
            .map_or_else(String::new, |target| format!(", target {target}"));
        writeln!(text, "  signal {}: {value}{target}, {state}", signal.name)?;
    }
    for member in &pool.members {
        let state = format!("{:?}", member.state).to_lowercase();
        let address = member
            .address
            .map_or_else(|| "no address".to_owned(), |address| address.to_string());
        let age = status.now.secs_since(member.created_at);
        writeln!(
            text,
            "  member {} ({}): {state}, {address}, {age:.0} s old",
            member.name, member.id
        )?;
        for (signal, problem) in &member.signal_problems {
            writeln!(text, "    {signal}: {problem}")?;
        }
    }
    if let Some(decision) = pool.decisions.first() {
        writeln!(text, "  last decision: {}", decision.reason)?;
    }
    Ok(())
}
