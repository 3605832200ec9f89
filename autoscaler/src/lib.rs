//! tidepool-autoscaler: resizes pools of plain virtual machines by what their metrics say.
//!
//! Dependencies point one way: `core <- {metrics, provider, apply} <- tick <- daemon <- main`.

pub mod dashboard;
pub mod metrics;
pub mod provider;
pub mod status;
