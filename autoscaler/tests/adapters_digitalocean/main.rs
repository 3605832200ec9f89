//! The DigitalOcean adapter against answers in DigitalOcean's shapes: pages, limits, refusals, and answers that get lost.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod actions;
mod base_url;
mod creating;
mod limits;
mod listing;
mod odd_items;
mod recipes;
mod refusals;
mod support;
mod tags;
