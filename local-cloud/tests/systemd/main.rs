//! Systemd hosts, each test with a cloud of its own, as root. What is missing on this machine is said by a line
//! `tidepool-skip: <name>: <reason>`. Base images are kept in the repository's cache.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests"
)]

#[path = "../common/mod.rs"]
mod common;
mod disks;
mod ends;
mod faults;
mod firewalls;
mod hard_cases;
mod hosts;
mod many;
mod names;
mod networks;
mod packages;
mod prepare;
mod refusals;
mod room;
mod variants;
mod volumes;
