//! The REST contract over real HTTP: routes, connection handling and SQLite as `serve` puts them together, one server
//! on a free port for each test. Tests are named after the contract's points.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

mod bodies;
mod collections;
mod conditions;
mod documents;
mod ids;
mod keys;
mod lists;
mod openapi;
mod protocol;
