//! How far the process is on its way out, and what is still in flight. Shared by both listeners.
//!
//! The way has one direction: serving, draining (asked for by `POST /drain`: nothing is refused), stopping (SIGTERM: no
//! new connections), cutting (the drain's bound has passed).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use tidepool_listener::Stage;
use tidepool_listener::Stages;

/// The stage, what is in flight, and how much of it is still being worked on.
#[derive(Debug, Default)]
pub struct Lifecycle {
    stages: Arc<Stages>,
    in_flight: AtomicUsize,
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

    /// Requests in flight: until the last byte of their answer has been taken.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn counter(&self, kind: RequestKind) -> &AtomicUsize {
        match kind {
            RequestKind::Read => &self.reads,
            RequestKind::Write => &self.writes,
        }
    }
}

/// One request in flight, until dropped.
#[derive(Debug)]
pub struct InFlight {
    lifecycle: Arc<Lifecycle>,
}

impl InFlight {
    /// Counts a request.
    #[must_use]
    pub fn enter(lifecycle: &Arc<Lifecycle>) -> Self {
        lifecycle.in_flight.fetch_add(1, Ordering::Relaxed);
        let lifecycle = Arc::clone(lifecycle);
        Self { lifecycle }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.lifecycle.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One request that is being worked on, until dropped: when its answer is ready, however slowly the client takes it. Bounds
/// count these, or clients that don't read would shut out the others.
#[derive(Debug)]
pub struct Working<'a> {
    counter: &'a AtomicUsize,
}

impl<'a> Working<'a> {
    /// Counts a request, also beyond the bound (its refusal takes time, too), and says how many of its kind there are with
    /// it.
    #[must_use]
    pub fn enter(lifecycle: &'a Lifecycle, kind: RequestKind) -> (Self, usize) {
        let counter = lifecycle.counter(kind);
        let before = counter.fetch_add(1, Ordering::Relaxed);
        (Self { counter }, before + 1)
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.counter.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_flight_counts_every_request_and_lets_go() {
        let lifecycle = Arc::new(Lifecycle::default());
        let first = InFlight::enter(&lifecycle);
        let second = InFlight::enter(&lifecycle);
        assert_eq!(lifecycle.in_flight(), 2);
        drop(first);
        assert_eq!(lifecycle.in_flight(), 1);
        drop(second);
        assert_eq!(lifecycle.in_flight(), 0);
    }

    #[test]
    fn what_is_worked_on_is_counted_by_kind() {
        let lifecycle = Lifecycle::default();
        let (read, reads) = Working::enter(&lifecycle, RequestKind::Read);
        let (_write, writes) = Working::enter(&lifecycle, RequestKind::Write);
        assert_eq!((reads, writes), (1, 1));
        drop(read);
        let (_again, reads) = Working::enter(&lifecycle, RequestKind::Read);
        assert_eq!(reads, 1);
    }
}
