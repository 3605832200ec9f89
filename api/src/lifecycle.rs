//! How far the process is on its way out, and what is still in flight. Shared by both listeners.
//!
//! The way has one direction: serving, draining (asked for by `POST /drain`: nothing is refused), stopping (SIGTERM: no
//! new connections), cutting (the drain's bound has passed).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use tokio::sync::watch;

/// A stage of the process's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Before the store is open.
    Starting,
    /// Normal operation.
    Serving,
    /// Traffic should go elsewhere; what comes is still served.
    Draining,
    /// Nothing new is accepted; requests in flight finish.
    Stopping,
    /// Connections are cut.
    Cutting,
}

const STAGES: [Stage; 5] = [
    Stage::Starting,
    Stage::Serving,
    Stage::Draining,
    Stage::Stopping,
    Stage::Cutting,
];

/// The stage, and how to wait for the next one.
#[derive(Debug)]
pub struct Lifecycle {
    // The same value twice: reading a watch channel takes a lock, and every request asks.
    stage: AtomicU8,
    announced: watch::Sender<Stage>,
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

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            stage: AtomicU8::new(Stage::Starting as u8),
            announced: watch::Sender::new(Stage::Starting),
            reads: AtomicUsize::new(0),
            writes: AtomicUsize::new(0),
        }
    }
}

impl Lifecycle {
    /// Where the process is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        let index = usize::from(self.stage.load(Ordering::Relaxed));
        STAGES.get(index).copied().unwrap_or(Stage::Cutting)
    }

    /// Goes on to a later stage; going back does nothing.
    pub fn advance(&self, to: Stage) {
        self.announced.send_if_modified(|stage| {
            let forward = to > *stage;
            if forward {
                *stage = to;
                self.stage.store(to as u8, Ordering::Relaxed);
            }
            forward
        });
    }

    /// Tells every change of stage.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Stage> {
        self.announced.subscribe()
    }

    /// Waits until the stage is at least `stage`.
    pub async fn reached(&self, stage: Stage) {
        // The sender lives in self, so the channel can't close.
        let mut stages = self.subscribe();
        let _unclosed = stages.wait_for(|now| *now >= stage).await;
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

    #[tokio::test]
    async fn stages_only_go_forward() {
        let lifecycle = Lifecycle::default();
        lifecycle.advance(Stage::Stopping);
        lifecycle.advance(Stage::Serving);
        assert_eq!(lifecycle.stage(), Stage::Stopping);
        lifecycle.reached(Stage::Draining).await;
    }

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
