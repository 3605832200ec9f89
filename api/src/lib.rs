//! tidepool-api: a REST document database over Cassandra, ScyllaDB or embedded SQLite.
//!
//! Dependencies point one way: `domain <- {store, http} <- main`. What each room may hold stands at its top.

pub mod domain;
pub mod metrics;
pub mod http;
pub mod store;
