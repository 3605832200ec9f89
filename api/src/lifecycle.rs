//! How far the process is on its way out, and what is still in flight. Shared by both listeners.
//!
//! The way has one direction: serving, draining (asked for by `POST /drain`: nothing is refused), stopping (SIGTERM: no
//! new connections), cutting (the drain's bound has passed).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use tidepool_listener::Stage;
use tidepool_listener::Stages;

/// The stage, and what is in flight.
#[derive(Debug, Default)]
pub struct Lifecycle {
    stages: Arc<Stages>,
    reads: AtomicUsize,
    writes: AtomicUsize,
}

/// Whether a request may change something; the two kinds are bounded apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// GET, HEAD, OPTIONS.
    Read,
    /// Everything else.
    Write,
}

impl Lifecycle {
    /// Where the process is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stages.stage()
    }

    /// Goes on to a later stage; going back does nothing.
    pub fn advance(&self, to: Stage) {
        self.stages.advance(to);
    }

    /// The stages alone, as the listeners take them.
    #[must_use]
    pub fn stages(&self) -> Arc<Stages> {
        Arc::clone(&self.stages)
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.reads.load(Ordering::Relaxed) + self.writes.load(Ordering::Relaxed)
    }

    fn counter(&self, kind: RequestKind) -> &AtomicUsize {
        match kind {
            RequestKind::Read => &self.reads,
            RequestKind::Write => &self.writes,
        }
    }
}

/// One request in flight, until dropped. It is counted also beyond the bound: its refusal takes time too.
#[derive(Debug)]
pub struct InFlight {
    lifecycle: Arc<Lifecycle>,
    kind: RequestKind,
}

impl InFlight {
    /// Counts a request, and says how many of its kind there are with it.
    #[must_use]
    pub fn enter(lifecycle: &Arc<Lifecycle>, kind: RequestKind) -> (Self, usize) {
        let before = lifecycle.counter(kind).fetch_add(1, Ordering::Relaxed);
        let lifecycle = Arc::clone(lifecycle);
        (Self { lifecycle, kind }, before + 1)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.lifecycle.counter(self.kind).fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_flight_counts_both_kinds_and_lets_go() {
        let lifecycle = Arc::new(Lifecycle::default());
        let (read, reads) = InFlight::enter(&lifecycle, RequestKind::Read);
        let (write, writes) = InFlight::enter(&lifecycle, RequestKind::Write);
        assert_eq!((reads, writes, lifecycle.in_flight()), (1, 1, 2));
        drop(read);
        assert_eq!(lifecycle.in_flight(), 1);
        drop(write);
        assert_eq!(lifecycle.in_flight(), 0);
    }
}
