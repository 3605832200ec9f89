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

use crate::activity::{Activity, Answering};

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
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(io::Error::other(error)))),
            Poll::Ready(None) => {
                watch.ended = true;
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

/// An answer's body; what it holds is let go when the last byte has been taken or the client is gone.
pub struct AnswerBody<B, G = ()> {
    inner: B,
    answering: Answering,
    _held: G,
}

impl<B, G> AnswerBody<B, G> {
    /// Puts them together.
    pub fn new(inner: B, mut answering: Answering, held: G) -> Self {
        answering.answered(std::time::Instant::now);
        Self {
            inner,
            answering,
            _held: held,
        }
    }
}

impl<B: Body + Unpin, G: Unpin> Body for AnswerBody<B, G> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.answering.asked_for_more(std::time::Instant::now);
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
