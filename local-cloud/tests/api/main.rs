//! The API as clients see it: fields, pages, errors, limits. A file by what is asked for.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;

mod actions;
mod calls;
mod catalogue;
mod certificates;
mod domains;
mod droplets;
mod firewalls;
mod images;
mod keys;
mod listener;
mod load_balancers;
mod name_server;
mod projects;
mod registries;
mod reserved_ips;
mod tags;
mod volumes;
mod vpcs;
