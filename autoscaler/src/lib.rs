//! tidepool-autoscaler: resizes pools of plain virtual machines by what their metrics say.
//!
//! Dependencies point one way: `core <- {metrics, provider, apply} <- tick <- daemon <- main`.

pub mod apply;
pub mod audit;
pub mod cli;
pub mod client;
pub mod config;
pub mod daemon;
pub mod dashboard;
pub mod journal;
pub mod logging;
pub mod meters;
pub mod metrics;
pub mod observe;
pub mod probe;
pub mod provider;
pub mod record;
pub mod server;
pub mod state;
pub mod status;
#[cfg(test)]
mod test_pool;
pub mod tick;

/// An error with everything below it, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
