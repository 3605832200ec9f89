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
pub mod files;
pub mod journal;
pub mod meters;
pub mod metrics;
pub mod observe;
pub mod probe;
pub mod provider;
pub mod record;
pub mod server;
pub mod signal_log;
pub mod state;
pub mod status;
#[cfg(test)]
mod test_pool;
pub mod tick;
pub mod troubles;
pub mod versions;

pub use tidepool_logging::chain;
