//! The members' own word: readiness, drained or not, and the request to drain, on their operations listeners.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use tidepool_autoscaler_core::observe::Readiness;

/// A member has so long to answer. Members are asked in parallel, so that a tick waits once.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks members. `address` is the member's own, `port` its operations listener's.
#[async_trait]
pub trait MemberProbe: Send + Sync + 'static {
    /// Whether it can serve.
    async fn readiness(&self, address: IpAddr, port: u16) -> Readiness;

    /// Whether it says that it may be stopped. No answer is no.
    async fn drained(&self, address: IpAddr, port: u16) -> bool;

    /// Asks it to drain; asking twice does no harm.
    async fn drain(&self, address: IpAddr, port: u16) -> Result<(), String>;
}

/// Members asked by HTTP: `GET /readyz`, `GET /deploy/ready`, `POST /drain`.
#[derive(Debug)]
pub struct HttpProbe {
    http: reqwest::Client,
}

impl HttpProbe {
    /// A probe; nothing is sent yet.
    pub fn new() -> Result<HttpProbe, reqwest::Error> {
        let builder = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            // Each question on a connection of its own: a kept one would say nothing about the listener.
            .pool_max_idle_per_host(0)
            .no_proxy();
        Ok(HttpProbe {
            http: builder.build()?,
        })
    }
}

fn url(address: IpAddr, port: u16, path: &str) -> String {
    format!("http://{}{path}", SocketAddr::new(address, port))
}

#[async_trait]
impl MemberProbe for HttpProbe {
    async fn readiness(&self, address: IpAddr, port: u16) -> Readiness {
        match self.http.get(url(address, port, "/readyz")).send().await {
            Ok(answer) if answer.status().is_success() => Readiness::Ready,
            Ok(_) => Readiness::NotReady,
            Err(error) if error.is_connect() && !error.is_timeout() => Readiness::NotReady,
            Err(_) => Readiness::Unknown,
        }
    }

    async fn drained(&self, address: IpAddr, port: u16) -> bool {
        let answer = self.http.get(url(address, port, "/deploy/ready")).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    async fn drain(&self, address: IpAddr, port: u16) -> Result<(), String> {
        let answer = self.http.post(url(address, port, "/drain")).send().await;
        let answer = answer.map_err(|error| crate::chain(&error))?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(format!("it answered {}", answer.status()))
        }
    }
}
