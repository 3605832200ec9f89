//! The answers of one HTTP/2 connection that its client has not taken yet: since when each of them waits, and the room that
//! they take together. An HTTP/1 connection has one answer at a time; here a client can have a hundred, leave their windows
//! shut, and have as much held on each of its connections.

use std::collections::BTreeMap;

use crate::rooms::{ANSWERS_BYTES_MAX, Room};

/// What an answer costs beside its bytes, a stream of h2's and a task: so it was measured with 8,600 of them, unoptimised.
const ANSWER_BYTES: usize = 12 * 1024;

/// Bytes of one answer that are counted. What is longer is counted by the service that made it: see
/// `docs/adr/0082-bytes-held-for-clients.md`.
const COUNTED_BYTES_MAX: u64 = 16 * 1024;

/// Up to here the answers of a connection need no room: as much as one connection of HTTP/1 has on its way.
const FREE_BYTES: usize = 64 * 1024;

/// Those of one connection; at most as many as it has streams.
#[derive(Debug)]
pub(crate) struct Answers {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    bytes: usize,
    room: Room<ANSWERS_BYTES_MAX>,
    held: usize,
    lacks_room: bool,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    /// Milliseconds since when nothing of it has been asked for.
    since_ms: u64,
    bytes: usize,
}

impl Answers {
    pub(crate) fn new(room: Room<ANSWERS_BYTES_MAX>) -> Self {
        Self {
            next: 0,
            waiting: BTreeMap::new(),
            bytes: 0,
            room,
            held: 0,
            lacks_room: false,
        }
    }

    /// One more waits; its number. `bytes` is its length, where that is known.
    pub(crate) fn begin(&mut self, bytes: Option<u64>, now_ms: u64) -> u64 {
        let counted = bytes.unwrap_or(COUNTED_BYTES_MAX).min(COUNTED_BYTES_MAX);
        let bytes = usize::try_from(counted)
            .unwrap_or(usize::MAX)
            .saturating_add(ANSWER_BYTES);
        let number = self.next;
        self.next += 1;
        let since_ms = now_ms;
        self.waiting.insert(number, Waiting { since_ms, bytes });
        self.bytes += bytes;
        let more = self.wanted().saturating_sub(self.held);
        if more > 0 {
            if self.room.take(more) {
                self.held += more;
            } else {
                self.lacks_room = true;
            }
        }
        number
    }

    /// The next piece of it was asked for: what came before has room in the client's window.
    pub(crate) fn asked_for_more(&mut self, number: u64, now_ms: u64) {
        if let Some(answer) = self.waiting.get_mut(&number) {
            answer.since_ms = now_ms;
        }
    }

    /// It was taken whole, or the client is gone.
    pub(crate) fn end(&mut self, number: u64) {
        let Some(ended) = self.waiting.remove(&number) else {
            return;
        };
        self.bytes = self.bytes.saturating_sub(ended.bytes);
        let less = self.held.saturating_sub(self.wanted());
        if less > 0 {
            self.held -= less;
            self.room.give_back(less);
        }
    }

    /// Since when the one waits that has waited longest.
    pub(crate) fn oldest_ms(&self) -> Option<u64> {
        self.waiting.values().map(|answer| answer.since_ms).min()
    }

    /// False for good once there was none: the connection is to be closed.
    pub(crate) fn have_room(&self) -> bool {
        !self.lacks_room
    }

    fn wanted(&self) -> usize {
        self.bytes.saturating_sub(FREE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untaken_answers_share_a_bound_and_give_it_back() {
        let room = Room::default();
        let connection = || Answers::new(room.clone());
        let mut stalled = Vec::new();
        while stalled.last().is_none_or(Answers::have_room) {
            let mut answers = connection();
            for _ in 0..100 {
                answers.begin(None, 0);
            }
            stalled.push(answers);
        }
        let bytes = stalled.len() * 100 * (ANSWER_BYTES + 16 * 1024);
        assert!(
            (ANSWERS_BYTES_MAX..2 * ANSWERS_BYTES_MAX).contains(&bytes),
            "{bytes}"
        );
        let mut other = connection();
        let few: Vec<_> = (0..FREE_BYTES / ANSWER_BYTES)
            .map(|_| other.begin(Some(0), 0))
            .collect();
        assert!(other.have_room(), "a few are always taken");
        let more: Vec<_> = (0..3).map(|_| other.begin(None, 0)).collect();
        assert!(!other.have_room());
        for number in few.into_iter().chain(more) {
            other.end(number);
        }
        for answers in &mut stalled {
            for number in 0..100 {
                answers.end(number);
            }
        }
        assert!(room.is_empty());
    }

    #[test]
    fn an_answer_counts_as_long_as_it_waits_and_no_more_than_its_service_leaves_to_it() {
        let room = Room::default();
        let mut answers = Answers::new(room.clone());
        let large: Vec<_> = (0..10).map(|_| answers.begin(Some(8 << 20), 5)).collect();
        assert_eq!(answers.held, 10 * (ANSWER_BYTES + 16 * 1024) - FREE_BYTES);
        answers.asked_for_more(0, 9);
        assert_eq!(answers.oldest_ms(), Some(5));
        for number in large {
            answers.end(number);
            answers.end(number);
        }
        assert!(room.is_empty() && answers.oldest_ms().is_none());
    }
}
