//! Stores under faults: processes killed, locks held, disks full, nodes gone. Nothing acknowledged may be lost.
//!
//! Some tests need a process of their own to kill: they start this very program again, with only the test
//! `child::the_others_child` and an environment variable that tells it what to do.
//!
//! The Cassandra faults need `TIDEPOOL_TEST_CASSANDRA` (hosts) and `TIDEPOOL_TEST_CASSANDRA_DIR` (the folder that
//! `services/cassandra/up` was given); else each prints a line `tidepool-skip: <name>: <reason>`.
#![expect(clippy::unwrap_used, reason = "tests")]

mod cassandra;
mod child;
mod sqlite;
mod values;
