//! The autoscaler's decision core: what a pool should be, and the named steps that lead there.
//!
//! Pure and synchronous: no tokio, clock, environment, file system or HTTP. Time, ids and randomness are arguments.

pub mod members;
pub mod observe;
