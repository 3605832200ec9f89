//! Room for client connections: how many there may be at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Room for a balancer's connections; how much there is can change while it runs.
#[derive(Debug, Default)]
pub(crate) struct Room {
    open: AtomicU64,
    freed: Notify,
}

/// One connection's place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Room>);

impl Room {
    /// Waits until fewer than `max` connections are open, and takes a place.
    pub(crate) async fn take(self: &Arc<Self>, max: impl Fn() -> u64) -> Place {
        loop {
            // Registered before the look, so that a place that gets free in between is not missed.
            let freed = self.freed.notified();
            let below = |open: u64| (open < max()).then_some(open + 1);
            if self
                .open
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, below)
                .is_ok()
            {
                return Place(Arc::clone(self));
            }
            freed.await;
        }
    }

    /// How many are open.
    pub(crate) fn open(&self) -> u64 {
        self.open.load(Ordering::Acquire)
    }

    /// There may be more room now.
    pub(crate) fn changed(&self) {
        self.freed.notify_waiters();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_waited_for_and_room_can_grow() {
        let room = Arc::new(Room::default());
        let first = room.take(|| 1).await;
        let mut second = Box::pin(room.take(|| 1));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(first);
        let _second = second.await;
        let max = AtomicU64::new(1);
        let mut third = Box::pin(room.take(|| max.load(Ordering::Relaxed)));
        assert!(futures_util::poll!(third.as_mut()).is_pending());
        max.store(2, Ordering::Relaxed);
        room.changed();
        let _third = third.await;
        assert_eq!(room.open(), 2);
    }
}
