//! Whole rounds of the daemon against a provider, members and metrics that fail in every way that is known: the pool never
//! shrinks on what can't be trusted, minimum and maximum hold, and one bad pool stops no other.

#![expect(clippy::unwrap_used, reason = "tests")]

mod lists;
mod operator;
mod recognition;
mod rollouts;
mod rounds;
mod signals;
mod stage;
mod status_port;
mod steps;
