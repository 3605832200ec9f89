//! Room for unfinished heads of requests: each is small and bounded, but ten thousand connections can each hold one.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::rooms::{HEADS_BYTES_MAX, Room};

/// A head up to here needs no room: nearly every head is smaller, and a connection costs as much by itself.
const FREE_BYTES: usize = 4 * 1024;

/// What the unfinished head of one connection takes of it.
#[derive(Debug)]
pub(crate) struct HeadHold {
    room: Room<HEADS_BYTES_MAX>,
    received: AtomicUsize,
    held: AtomicUsize,
}

impl HeadHold {
    pub(crate) fn new(room: Room<HEADS_BYTES_MAX>) -> Self {
        Self {
            room,
            received: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
        }
    }

    /// Whether nothing has come of the next head.
    pub(crate) fn is_empty(&self) -> bool {
        self.received.load(Ordering::Relaxed) == 0
    }

    /// Takes room for bytes that came; false if there is none.
    pub(crate) fn grow(&self, bytes: usize) -> bool {
        let received = self.received.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let wanted = received.saturating_sub(FREE_BYTES);
        let more = wanted.saturating_sub(self.held.load(Ordering::Relaxed));
        if more == 0 {
            return true;
        }
        let has_room = self.room.take(more);
        if has_room {
            self.held.store(wanted, Ordering::Relaxed);
        }
        has_room
    }

    /// The head is complete, or its connection has ended.
    #[inline]
    pub(crate) fn let_go(&self) {
        self.received.store(0, Ordering::Relaxed);
        // Most heads are small: nothing is held, and the room's cache line stays where it is.
        if self.held.load(Ordering::Relaxed) > 0 {
            self.room.give_back(self.held.swap(0, Ordering::Relaxed));
        }
    }
}

impl Drop for HeadHold {
    fn drop(&mut self) {
        self.let_go();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_heads_share_a_bound_and_give_it_back() {
        let room = Room::default();
        let head = || HeadHold::new(room.clone());
        let large = FREE_BYTES + 32 * 1024;
        let fit = HEADS_BYTES_MAX / (32 * 1024);
        let mut heads: Vec<_> = (0..fit).map(|_| head()).collect();
        assert!(heads.iter().all(|held| held.grow(large)));
        let one_more = head();
        assert!(one_more.grow(FREE_BYTES), "small ones are always taken");
        assert!(!one_more.grow(large - FREE_BYTES));
        heads.pop();
        assert!(one_more.grow(0), "there is room again");
        if let Some(complete) = heads.first() {
            complete.let_go();
        }
        assert!(head().grow(large));
        drop((heads, one_more));
        assert!(room.is_empty());
    }
}
