//! The autoscaler's decision core: what a pool should be, and the named steps that lead there.
//!
//! Pure and synchronous: no tokio, clock, environment, file system or HTTP. Time, ids and randomness are arguments.
//!
//! A tick goes through it in this order: [`memory::Memory::observe`] takes in what was seen, [`roster::Roster::of`] says what
//! each member is, [`signal::assess`] how far each signal can be trusted, [`policy::propose`] what each policy wants,
//! [`decide::decide`] what the pool should be, and [`plan::plan`] by which named steps. What comes of it are values
//! ([`outcome`]); `words` turns them into text.

pub mod control;
mod copies;
pub mod decide;
pub mod members;
pub mod memory;
pub mod observe;
pub mod outcome;
pub mod plan;
pub mod policy;
pub mod progress;
pub mod recipe;
pub mod rollout;
pub mod roster;
pub mod signal;
pub mod spec;
mod states;
mod words;
