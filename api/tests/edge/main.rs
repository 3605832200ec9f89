//! The program from outside: its command line, listeners, bounds, keys and end. Each test runs the real binary on ports
//! of its own and stops what it started.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod cassandra_tls;
mod clock;
mod commands;
mod drain;
mod front;
mod harness;
mod held;
mod keys;
mod limits;
mod operations;
mod readiness;
mod secrets;
mod service;
mod store_backup;
mod store_faults;
mod store_files;
mod store_lineage;
mod streams;
mod tls;
