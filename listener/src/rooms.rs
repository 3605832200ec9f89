//! Room that all connections of a listener share: what one of them may hold is small and bounded, but ten thousand can each
//! hold it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of unfinished heads that are held for all connections of a listener together; hyper's buffers take up to twice as
/// much. A thousand heads of 32 KiB.
pub(crate) const HEADS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes that untaken answers of all connections of a listener take, beyond what each has free: 5,000 refusals, or 2,300
/// documents. At most 3,072 requests are worked on at a time, and who reads takes each answer in moments.
pub(crate) const ANSWERS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The rooms of one listener.
#[derive(Debug, Clone, Default)]
pub struct Rooms {
    /// For unfinished heads of requests.
    pub(crate) heads: Room<HEADS_BYTES_MAX>,
    /// For answers that HTTP/2 clients have not taken.
    pub(crate) answers: Room<ANSWERS_BYTES_MAX>,
}

/// Room for this many bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Room<const BYTES_MAX: usize> {
    held: Arc<AtomicUsize>,
}

impl<const BYTES_MAX: usize> Room<BYTES_MAX> {
    /// Takes some of it; false if there is not as much.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let taken = |held: usize| held.checked_add(bytes).filter(|after| *after <= BYTES_MAX);
        self.held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken)
            .is_ok()
    }

    /// Gives back what was taken.
    pub(crate) fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.held.load(Ordering::Relaxed) == 0
    }
}
