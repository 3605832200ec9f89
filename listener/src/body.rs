//! Bodies on their way in and out: a request's with its deadline, an answer's that keeps its request in flight.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::activity::{Activity, Answering, Taken};

/// A request's body. After its deadline reading fails with `TimedOut`, and its [`Lateness`] says so to whoever answers.
pub struct RequestBody {
    inner: Incoming,
    // A body that is known to be empty has nothing to watch.
    watch: Option<Watch>,
}

struct Watch {
    deadline: Instant,
    // Made when the body first keeps us waiting: most come with their headers.
    clock: Option<Pin<Box<Sleep>>>,
    late: Arc<AtomicBool>,
    activity: Arc<Activity>,
    ended: bool,
    /// Whether it broke off; whoever asks on is told that it has ended.
    broken: bool,
}

/// Whether a request's body missed its deadline.
#[derive(Debug, Clone)]
pub struct Lateness(Option<Arc<AtomicBool>>);

impl Lateness {
    /// Whether it did so by now.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.0.as_ref().is_some_and(|late| late.load(Ordering::Relaxed))
    }
}

impl RequestBody {
    #[inline]
    pub(crate) fn of(inner: Incoming, timeout: Duration, activity: &Arc<Activity>) -> Self {
        let watch = (!inner.is_end_stream()).then(|| Watch {
            deadline: Instant::now() + timeout,
            clock: None,
            late: Arc::default(),
            activity: Arc::clone(activity),
            ended: false,
            broken: false,
        });
        Self { inner, watch }
    }

    /// Tells later, when the body has been read or dropped, whether it came in time.
    #[must_use]
    pub fn lateness(&self) -> Lateness {
        Lateness(self.watch.as_ref().map(|watch| Arc::clone(&watch.late)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        let Some(watch) = &mut self.watch else {
            return polled.map(|frame| frame.map(|frame| frame.map_err(io::Error::other)));
        };
        match polled {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(Some(Err(error))) => {
                watch.broken = true;
                Poll::Ready(Some(Err(io::Error::other(error))))
            }
            Poll::Ready(None) => {
                watch.ended = !watch.broken;
                Poll::Ready(None)
            }
            Poll::Pending => {
                let deadline = watch.deadline;
                let clock = watch
                    .clock
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
                if clock.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                watch.late.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch
            && !watch.ended
            && !self.inner.is_end_stream()
        {
            watch.activity.body_left_unread();
        }
    }
}

/// An answer's body; what it holds is let go when its last byte has been taken or the client is gone.
pub struct AnswerBody<B, G = ()> {
    inner: B,
    /// On HTTP/1 nothing more is asked for before the socket has taken most of what came before, and a socket that takes
    /// nothing is seen by itself.
    _with_the_body: Option<Kept<G>>,
    /// HTTP/2 takes a piece whole as soon as the client's window has room for a single byte, and the last piece ends the
    /// body. So each piece has a share in it, and is let go when it was sent.
    with_the_pieces: Option<Arc<Kept<G>>>,
}

/// What an answer keeps until it has been taken.
struct Kept<G> {
    answering: Answering,
    _held: G,
}

impl<B: Body, G> AnswerBody<B, G> {
    /// Puts them together.
    pub fn new(inner: B, mut answering: Answering, held: G) -> Self {
        let taken = answering.answered(inner.size_hint().exact(), std::time::Instant::now);
        let kept = Kept {
            answering,
            _held: held,
        };
        let (with_the_body, with_the_pieces) = match taken {
            Taken::BySocket => (Some(kept), None),
            Taken::ByStream => (None, Some(Arc::new(kept))),
        };
        Self {
            inner,
            _with_the_body: with_the_body,
            with_the_pieces,
        }
    }
}

/// A piece of an answer, with its share in what the answer keeps.
struct Piece<G> {
    bytes: Bytes,
    _share: Arc<Kept<G>>,
}

impl<G> AsRef<[u8]> for Piece<G> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<B, G> Body for AnswerBody<B, G>
where
    B: Body<Data = Bytes> + Unpin,
    G: Send + Sync + Unpin + 'static,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        let Some(kept) = &self.with_the_pieces else {
            return polled;
        };
        kept.answering.asked_for_more(std::time::Instant::now);
        let shared = |bytes| {
            Bytes::from_owner(Piece {
                bytes,
                _share: Arc::clone(kept),
            })
        };
        polled.map_ok(|frame| frame.map_data(shared))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use http_body_util::{BodyExt as _, Full};

    use super::*;
    use crate::Rooms;
    use crate::activity::Phase;

    /// An answer whose only piece was asked for, and what it holds.
    fn asked_for(activity: &Arc<Activity>) -> (Bytes, Arc<()>) {
        let held = Arc::new(());
        let answering = Answering::begin(activity, std::time::Instant::now());
        let text = Full::new(Bytes::from_static(b"low tide"));
        let mut body = AnswerBody::new(text, answering, Arc::clone(&held));
        let frame = body.frame().now_or_never().unwrap().unwrap();
        assert!(body.is_end_stream());
        (frame.unwrap().into_data().unwrap(), held)
    }

    #[test]
    fn an_http2_answer_is_held_until_the_last_of_its_last_piece_was_sent() {
        let activity = Arc::new(Activity::new(true, &Rooms::default()));
        let (mut piece, held) = asked_for(&activity);
        // As h2 does it where the window has room for a byte.
        let sent = piece.split_to(1);
        drop(sent);
        assert_eq!((Arc::strong_count(&held), activity.phase()), (2, Phase::Busy));
        drop(piece);
        assert_eq!((Arc::strong_count(&held), activity.phase()), (1, Phase::Idle));
    }

    #[test]
    fn an_http1_answer_is_held_until_its_end_was_asked_for() {
        let activity = Arc::new(Activity::new(false, &Rooms::default()));
        let (_piece, held) = asked_for(&activity);
        assert_eq!((Arc::strong_count(&held), activity.phase()), (1, Phase::Idle));
    }
}
