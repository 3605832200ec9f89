//! Taking turns: writes of one row by one instance go one after the other.
//!
//! Lightweight transactions of one row that run at the same time push each other back, time out, and leave their
//! outcome open. Within an instance that is easily avoided; what is left is the contention between instances.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

type Slot = Arc<tokio::sync::Mutex<()>>;

/// Who writes which row now. It holds one entry per row that is being written: at most as many as operations are
/// under way.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<u64, Slot>>);

/// The right to write a row, until it is dropped.
pub(super) struct Turn {
    turns: Arc<Turns>,
    row: u64,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits until nobody else of this instance writes the row. Rows are told apart by 64 bits of hash: two that fall
    /// together only wait for each other.
    pub(super) async fn take(self: &Arc<Self>, row: u64) -> Turn {
        let slot = Arc::clone(
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(row)
                .or_default(),
        );
        // Made before the wait: it clears away the entry also when the wait is given up.
        let mut turn = Turn {
            turns: Arc::clone(self),
            row,
            guard: None,
        };
        turn.guard = Some(slot.lock_owned().await);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.guard.take();
        let mut turns = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One reference is the map's own; new ones are made only under its lock.
        if turns
            .get(&self.row)
            .is_some_and(|slot| Arc::strong_count(slot) == 1)
        {
            turns.remove(&self.row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_and_nothing_is_left() {
        let turns = Arc::new(Turns::default());
        let first = turns.take(7).await;
        let other = turns.take(8).await;
        let waiting = turns.take(7);
        let mut waiting = std::pin::pin!(waiting);
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        {
            // One that gives up.
            let given_up = turns.take(7);
            let mut given_up = std::pin::pin!(given_up);
            assert!(futures_util::poll!(given_up.as_mut()).is_pending());
        }
        drop(first);
        let second = waiting.await;
        assert_eq!(turns.0.lock().unwrap().len(), 2);
        drop((second, other));
        assert_eq!(turns.0.lock().unwrap().len(), 0);
    }
}
