//! Bodies on their way in and out: a request's with its deadline, an answer's that keeps its request in flight.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use super::activity::Activity;

/// A request's body. After its deadline reading fails with `TimedOut`, and `late` says so to whoever answers.
pub(super) struct RequestBody {
    inner: Incoming,
    deadline: Instant,
    // Made when the body first keeps us waiting: most come with their headers.
    clock: Option<Pin<Box<Sleep>>>,
    late: Arc<AtomicBool>,
    activity: Arc<Activity>,
    ended: bool,
}

impl RequestBody {
    pub(super) fn new(
        inner: Incoming,
        deadline: Instant,
        late: Arc<AtomicBool>,
        activity: Arc<Activity>,
    ) -> Self {
        Self {
            inner,
            deadline,
            clock: None,
            late,
            activity,
            ended: false,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(io::Error::other(error)))),
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(None)
            }
            Poll::Pending => {
                let deadline = self.deadline;
                let clock = self
                    .clock
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
                if clock.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.late.store(true, Ordering::Relaxed);
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
        if !self.ended && !self.inner.is_end_stream() {
            self.activity.body_left_unread();
        }
    }
}

/// An answer's body; what it holds is let go when the last byte has been taken or the client is gone.
pub struct AnswerBody<B, G> {
    inner: B,
    _held: G,
}

impl<B, G> AnswerBody<B, G> {
    /// Puts them together.
    pub fn new(inner: B, held: G) -> Self {
        Self { inner, _held: held }
    }
}

impl<B: Body + Unpin, G: Unpin> Body for AnswerBody<B, G> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
