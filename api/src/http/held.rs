//! The bytes that are held for all clients together: bodies on their way to the store, answers on their way to the
//! client. Each has a budget of its own, so that clients that don't read their answers keep nobody from writing.
//!
//! Only what is larger than [`UNHELD_BYTES_MAX`] is counted: the rest is bounded by the number of requests in flight. Who
//! finds no room waits, holding nothing meanwhile, and is refused after [`ROOM_WAIT_MAX`]. Room is given back when the
//! last reference to the bytes is gone, which for an answer is when the operating system has taken them.
//! See `docs/adr/0082-bytes-held-for-clients.md`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{Problem, ProblemKind};
use crate::domain::{Document, JsonObject};

/// Texts up to this size are not counted: 3,072 requests in flight hold 48 MiB of them at most.
pub(super) const UNHELD_BYTES_MAX: usize = 16 * 1024;

/// Most bytes of data in one page; it ends early rather than exceed them.
pub(super) const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long a request may wait for room.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(5);

/// Budgets are counted in this many bytes, since tokio's semaphores take 32-bit numbers.
const UNIT_BYTES: usize = 1_024;

/// What all clients together may have held for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLimits {
    /// Most bytes of bodies: of PUT, POST and PATCH, from the first byte until the answer has been taken.
    pub body_bytes_max: usize,
    /// Most bytes of answers of GET.
    pub answer_bytes_max: usize,
}

/// The budgets of one server.
#[derive(Debug)]
pub struct HeldBytes {
    pub(super) bodies: Budget,
    pub(super) answers: Budget,
    /// Pages that are being read from the store, before anybody knows how large they are: as many as the answers' budget
    /// has room for.
    pages: Budget,
}

impl HeldBytes {
    /// Empty budgets.
    #[must_use]
    pub fn new(limits: HeldLimits) -> Self {
        Self {
            bodies: Budget::new(limits.body_bytes_max),
            answers: Budget::new(limits.answer_bytes_max),
            pages: Budget::new(limits.answer_bytes_max),
        }
    }

    /// Waits for a turn at reading a page from the store.
    pub(super) async fn page_turn(&self) -> Result<Hold, Problem> {
        self.pages.take(PAGE_BYTES_MAX).await
    }
}

/// Room for an answer whose size is known.
#[derive(Debug)]
pub(super) enum Room {
    /// So small that it is not counted.
    Unneeded,
    /// Taken.
    Taken(Hold),
    /// There is none at present: let the answer go, wait for room, read it again.
    Lacking,
}

/// The document, which keeps its room as long as its data is in use. A small one needs none.
pub(super) fn kept(document: Document, mut hold: Hold) -> Document {
    let data = document.data.as_bytes();
    if data.len() <= UNHELD_BYTES_MAX {
        return document;
    }
    hold.shrink_to(data.len());
    let data = JsonObject::from_checked(hold.keep(data.clone()));
    Document { data, ..document }
}

/// Room for some number of bytes.
#[derive(Debug)]
pub(super) struct Budget {
    room: Arc<Semaphore>,
    units: usize,
    wait_max: Duration,
}

/// Room that was taken, until dropped.
#[derive(Debug)]
pub(super) struct Hold {
    room: OwnedSemaphorePermit,
}

impl Budget {
    fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        Self {
            room: Arc::new(Semaphore::new(units)),
            units,
            wait_max: ROOM_WAIT_MAX,
        }
    }

    /// Nobody gets more than there is in all: a single one of the largest must find room some time.
    fn units_of(&self, bytes: usize) -> u32 {
        u32::try_from(units(bytes).min(self.units)).unwrap_or(u32::MAX)
    }

    /// Takes room if there is some and nobody waits for it.
    pub(super) fn try_take(&self, bytes: usize) -> Option<Hold> {
        let room = Arc::clone(&self.room).try_acquire_many_owned(self.units_of(bytes));
        room.ok().map(|room| Hold { room })
    }

    /// Takes room for this many bytes, if they are counted and there is some.
    pub(super) fn room_for(&self, bytes: usize) -> Room {
        if bytes <= UNHELD_BYTES_MAX {
            return Room::Unneeded;
        }
        self.try_take(bytes).map_or(Room::Lacking, Room::Taken)
    }

    /// Waits for room, in the order of coming.
    pub(super) async fn take(&self, bytes: usize) -> Result<Hold, Problem> {
        if let Some(hold) = self.try_take(bytes) {
            return Ok(hold);
        }
        let room = Arc::clone(&self.room).acquire_many_owned(self.units_of(bytes));
        // The semaphore is never closed.
        match tokio::time::timeout(self.wait_max, room).await {
            Ok(Ok(room)) => Ok(Hold { room }),
            _ => Err(Problem::new(
                ProblemKind::StoreUnavailable,
                "the server holds as many bytes for its clients as it may; nothing was done",
            )),
        }
    }
}

impl Hold {
    /// Gives back what goes beyond this many bytes.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.room.num_permits().saturating_sub(units(bytes));
        drop(self.room.split(surplus));
    }

    /// Takes a part of it out; all that is left, if that is less.
    pub(super) fn split_off(&mut self, bytes: usize) -> Option<Self> {
        let part = units(bytes).min(self.room.num_permits());
        self.room.split(part).map(|room| Self { room })
    }

    /// The bytes, which keep their room as long as there is a reference to any of them.
    pub(super) fn keep(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Kept { bytes, _hold: self })
    }
}

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT_BYTES)
}

struct Kept {
    bytes: Bytes,
    _hold: Hold,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1_024;

    #[test]
    fn room_comes_back_with_the_last_reference() {
        let budget = Budget::new(10 * KIB);
        let mut hold = budget.try_take(10 * KIB).unwrap();
        assert!(budget.try_take(1).is_none());
        hold.shrink_to(8 * KIB);
        let kept = hold
            .split_off(6 * KIB)
            .unwrap()
            .keep(Bytes::from(vec![b'x'; 6 * KIB]));
        drop(hold);
        assert!(budget.try_take(5 * KIB).is_none());
        let last = kept.slice(kept.len() - 1..);
        drop(kept);
        assert!(budget.try_take(5 * KIB).is_none(), "a slice is a reference");
        drop(last);
        assert!(budget.try_take(10 * KIB).is_some());
    }

    #[tokio::test]
    async fn who_finds_no_room_waits_and_is_refused_after_a_while() {
        let mut budget = Budget::new(10 * KIB);
        let hold = budget.take(10 * KIB).await.unwrap();
        budget.wait_max = Duration::ZERO;
        let refused = budget.take(KIB).await.unwrap_err();
        budget.wait_max = ROOM_WAIT_MAX;
        assert_eq!(refused.kind(), ProblemKind::StoreUnavailable);
        let (given, ()) = tokio::join!(budget.take(KIB), async { drop(hold) });
        drop(given.unwrap());
        assert!(budget.take(1_000 * KIB).await.is_ok(), "more than all is all");
    }
}
