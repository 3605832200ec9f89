//! tidepool-api: a REST document database over Cassandra, ScyllaDB or embedded SQLite.
//!
//! Dependencies point one way: `domain <- {store, http} <- main`. What each room may hold stands at its top.

pub mod cli;
pub mod config;
pub mod domain;
pub mod http;
pub mod keys;
pub mod lifecycle;
pub mod metrics;
pub mod operations;
pub mod public;
pub mod run;
pub mod store;
