//! DigitalOcean's v2 API on one machine, with real hosts behind it: droplets are processes with addresses of their own,
//! load balancers really balance, and faults come on demand.
//!
//! The way of a call: `api` decodes it and chooses the route; a route changes the `cloud`'s records through
//! `app::App`, which writes them and updates the balancers; processes are started and ended by `hosts`.

mod address;
mod api;
mod app;
mod balancer;
mod cloud;
mod cloud_init;
mod descriptors;
mod faults;
mod hosts;
mod image;
mod ip_range;
mod limits;

pub mod cli;
mod fault_command;
mod private_files;
pub mod problems;
mod serve;
mod test_host;
