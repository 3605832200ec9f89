//! The core's tests: tables of inputs and expected answers, and a simulated world in which the invariants must hold.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod decide;
mod memory;
mod plan;
mod policy;
mod recipe;
mod rollout;
mod roster;
mod signal;
mod simulation;
mod support;
mod times;
mod unknown;
mod words;
