//! DigitalOcean's v2 API on one machine, with real hosts behind it: droplets are processes with addresses of their own,
//! load balancers really balance, and faults come on demand.
//!
//! The way of a call: `digitalocean` decodes it and chooses the route; a route changes the machines and its `records` through
//! `digitalocean::app::App`, which writes them and updates the balancers; `fleet` has the `hosts` that machines run on.

mod balancer;
mod certificates;
mod descriptors;
mod digitalocean;
mod dns;
mod fleet;
mod hosts;
mod http_server;
mod ip_range;
mod machines;
mod manifests;
mod state;

pub mod cli;
mod fault_command;
mod prepare;
mod private_files;
pub mod problems;
mod serve;
mod test_host;
