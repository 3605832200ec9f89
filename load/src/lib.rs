//! Load on a server of documents, for the demo, the end-to-end tests and the benchmarks.
//!
//! The generator is an open loop: requests are sent when the schedule says, however slow the answers are, and latency counts
//! from the intended time. What is written is kept in a ledger, and every answer is checked against it. The benchmarks' loop
//! is [`closed`]: so many connections, one request at a time on each.

mod arrivals;
pub mod closed;
mod generator;
mod ledger;
mod read_back;
mod shape;
mod tally;
mod wire;

pub use arrivals::{Arrival, Arrivals, Kind};
pub use generator::{Generator, LoadConfig};
pub use ledger::{Contradiction, DocumentIndex, Ledger, Read, Write};
pub use read_back::{ReadBack, UnknownFound};
pub use shape::{HIGH_MIDDLE, Shape};
pub use tally::{Ended, FailureNote, Figures, LATE_AFTER, LATE_REASON, PowerCut, Tally, Verdict};

/// The generator can't begin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The target's address is unusable.
    #[error("the target {target:?} is not a usable address: {reason}")]
    Target {
        /// As given.
        target: String,
        /// Why.
        reason: String,
    },
    /// The HTTP client can't be built.
    #[error("the HTTP client can't be set up")]
    Client {
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The histogram can't be built.
    #[error("the latency histogram can't be set up: {reason}")]
    Histogram {
        /// Why.
        reason: String,
    },
    /// The collection or the first documents can't be written.
    #[error("{what} failed before the load began: {reason}")]
    Prepare {
        /// What was tried.
        what: String,
        /// What came back.
        reason: String,
    },
}
