//! DigitalOcean's v2 API on one machine, with real hosts behind it: droplets are processes with addresses of their own,
//! load balancers really balance, and faults come on demand.
//!
//! The way of a call: `digitalocean` decodes it and chooses the route; a route changes its `records` through
//! `digitalocean::app::App`, which writes them and updates the balancers; processes are started and ended by `hosts`.

mod balancer;
mod descriptors;
mod digitalocean;
mod hosts;
mod ip_range;
mod machines;
mod manifests;
mod store;

pub mod cli;
mod fault_command;
mod private_files;
pub mod problems;
mod serve;
mod test_host;
