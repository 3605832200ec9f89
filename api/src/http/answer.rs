//! Bodies of answers that hold documents: written piece by piece as the client takes them, so that a page is in memory
//! once, and less of it with each piece.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use poem::Body;

use super::held::Hold;

/// Size of a piece: what hyper holds of an answer at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// Slowest that a client may take a large answer, after [`GRACE`]: 32 KiB/s are 0.26 Mbit/s, and a page of 8 MiB takes
/// less than 5 minutes. Clients that take nothing at all are cut by the listener, after 30 s.
const BYTES_PER_SEC_MIN: u64 = 32 * 1024;

/// How long a client may take its time at first.
const GRACE: Duration = Duration::from_secs(10);

/// The text of an answer.
#[derive(Debug)]
pub(super) struct AnswerText {
    pieces: VecDeque<Bytes>,
    hold: Option<Hold>,
    bytes: usize,
}

impl From<Vec<u8>> for AnswerText {
    fn from(text: Vec<u8>) -> Self {
        let mut pieces = Pieces::with_capacity(0);
        pieces.text = text;
        pieces.finish(None)
    }
}

impl AnswerText {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(super) fn to_vec(&self) -> Vec<u8> {
        self.pieces.iter().flatten().copied().collect()
    }
}

impl From<AnswerText> for Body {
    fn from(mut text: AnswerText) -> Self {
        if text.pieces.len() <= 1 && text.bytes <= PIECE_BYTES && text.hold.is_none() {
            return Self::from_bytes(text.pieces.pop_front().unwrap_or_default());
        }
        Self::from(BoxBody::new(TextBody {
            left: text.bytes as u64,
            text,
            taken: 0,
            began: None,
        }))
    }
}

/// Puts a text together out of short pieces, which are copied, and long ones, which are not.
#[derive(Debug)]
pub(super) struct Pieces {
    whole: VecDeque<Bytes>,
    whole_bytes: usize,
    /// What comes after them.
    pub(super) text: Vec<u8>,
}

impl Pieces {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self {
            whole: VecDeque::new(),
            whole_bytes: 0,
            text: Vec::with_capacity(bytes),
        }
    }

    /// Adds bytes without copying them.
    pub(super) fn push(&mut self, bytes: Bytes) {
        let before = std::mem::take(&mut self.text);
        self.push_whole(before.into());
        self.push_whole(bytes);
    }

    /// Ends the present piece if it is this long.
    pub(super) fn cut(&mut self, bytes: usize) {
        if self.text.len() >= bytes {
            let piece = std::mem::take(&mut self.text);
            self.push_whole(piece.into());
        }
    }

    fn push_whole(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.whole_bytes += bytes.len();
            self.whole.push_back(bytes);
        }
    }

    /// The text. `hold` is given back as the client takes it.
    pub(super) fn finish(mut self, hold: Option<Hold>) -> AnswerText {
        let rest = std::mem::take(&mut self.text);
        self.push_whole(rest.into());
        AnswerText {
            bytes: self.whole_bytes,
            pieces: self.whole,
            hold,
        }
    }
}

struct TextBody {
    text: AnswerText,
    left: u64,
    taken: u64,
    /// When the first piece was asked for.
    began: Option<Instant>,
}

impl TextBody {
    fn next_piece(&mut self) -> Option<Bytes> {
        let first = self.text.pieces.front_mut()?;
        if first.len() > PIECE_BYTES {
            return Some(first.split_to(PIECE_BYTES));
        }
        self.text.pieces.pop_front()
    }

    /// The next piece is asked for when nearly all before it has been taken by the operating system.
    fn is_too_slow(&mut self, now: Instant) -> bool {
        let began = *self.began.get_or_insert(now);
        let bound = GRACE + Duration::from_secs(self.taken / BYTES_PER_SEC_MIN);
        now.saturating_duration_since(began) > bound
    }
}

impl HttpBody for TextBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.is_too_slow(Instant::now()) {
            let detail = "the client takes the answer too slowly";
            return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, detail))));
        }
        let Some(piece) = self.next_piece() else {
            return Poll::Ready(None);
        };
        let bytes = piece.len();
        self.taken += bytes as u64;
        self.left = self.left.saturating_sub(bytes as u64);
        let piece = match self.text.hold.as_mut().and_then(|hold| hold.split_off(bytes)) {
            // HTTP/2 keeps it until the client's window has room for it.
            Some(its_own) => its_own.keep(piece),
            None => piece,
        };
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::super::held::{HeldBytes, HeldLimits};
    use super::*;

    fn large() -> TextBody {
        let mut pieces = Pieces::with_capacity(0);
        pieces.push(Bytes::from(vec![b'x'; 40 * PIECE_BYTES]));
        of(pieces.finish(None))
    }

    fn of(text: AnswerText) -> TextBody {
        TextBody {
            left: text.bytes as u64,
            text,
            taken: 0,
            began: None,
        }
    }

    #[tokio::test]
    async fn a_piece_keeps_its_room_until_it_is_let_go() {
        let room = HeldBytes::new(HeldLimits {
            body_bytes_max: 0,
            answer_bytes_max: PIECE_BYTES,
        })
        .answers;
        let mut pieces = Pieces::with_capacity(0);
        pieces.text = vec![b'x'; PIECE_BYTES];
        let mut body = of(pieces.finish(room.try_take(PIECE_BYTES)));
        let piece = body.frame().await.unwrap().unwrap();
        drop(body);
        assert!(room.try_take(1).is_none(), "its client has not taken it yet");
        drop(piece);
        assert!(room.try_take(PIECE_BYTES).is_some());
    }

    /// Takes this many pieces at once, then one more after the time.
    async fn take(pieces: usize, then_after: Duration) -> Result<usize, io::Error> {
        let mut body = large();
        for _ in 0..pieces {
            body.frame().await.unwrap().unwrap();
        }
        body.began = Instant::now().checked_sub(then_after);
        body.frame()
            .await
            .unwrap()
            .map(|frame| frame.into_data().unwrap().len())
    }

    #[tokio::test]
    async fn a_client_that_takes_an_answer_below_the_lowest_rate_is_cut() {
        let second = Duration::from_secs(1);
        let cut = |taken: Result<usize, io::Error>| taken.unwrap_err().kind();
        assert_eq!(take(1, GRACE - second).await.unwrap(), PIECE_BYTES);
        assert_eq!(cut(take(1, GRACE + 5 * second).await), io::ErrorKind::TimedOut);
        // 64 KiB are two seconds' worth.
        assert_eq!(take(10, GRACE + 15 * second).await.unwrap(), PIECE_BYTES);
        assert_eq!(cut(take(10, GRACE + 25 * second).await), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn what_is_left_of_a_cut_answer_is_not_passed_off_as_its_end() {
        let mut body = large();
        body.began = Instant::now().checked_sub(GRACE + GRACE);
        body.frame().await.unwrap().unwrap_err();
        assert!(!body.is_end_stream() && body.size_hint().exact() == Some(40 * PIECE_BYTES as u64));
    }
}
