//! How far a process is on its way out.
//!
//! The way has one direction: serving, draining (nothing is refused), stopping (no new connections), cutting (the
//! drain's bound has passed).

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::watch;

/// A stage of the process's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Before it can answer.
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
pub struct Stages {
    // The same value twice: reading a watch channel takes a lock, and every request asks.
    stage: AtomicU8,
    announced: watch::Sender<Stage>,
}

impl Default for Stages {
    fn default() -> Self {
        Self {
            stage: AtomicU8::new(Stage::Starting as u8),
            announced: watch::Sender::new(Stage::Starting),
        }
    }
}

impl Stages {
    /// Where the process is.
    #[must_use]
    #[inline]
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

    /// Waits until the stage is at least `stage`.
    pub async fn reached(&self, stage: Stage) {
        // The sender lives in self, so the channel can't close.
        let mut stages = self.announced.subscribe();
        let _unclosed = stages.wait_for(|now| *now >= stage).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stages_only_go_forward() {
        let stages = Stages::default();
        stages.advance(Stage::Stopping);
        stages.advance(Stage::Serving);
        assert_eq!(stages.stage(), Stage::Stopping);
        stages.reached(Stage::Draining).await;
    }
}
