//! What a connection is doing and since when, so that each state has its bound. Its socket reports it: `watched_io.rs`.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::answers::Answers;
use crate::frames::{Seen, Unfinished};
use crate::front;
use crate::heads::HeadHold;
use crate::{Limits, Rooms};

/// Longest time that a client may leave an answer's bytes unread before it is cut: on HTTP/1 by not reading its socket, on
/// HTTP/2 also by giving a stream no window.
const WRITE_STALL_MAX: Duration = Duration::from_secs(30);

/// Longest time that a request may take from its headers to its answer. The store answers within 25 s (contract), a
/// body arrives within 20 s by default, a PATCH that meets other writers asks the store a few times: past this, the
/// handler hangs.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(90);

/// How long is read on after an answer that came before the whole body: a client that is still sending would otherwise get a
/// reset instead of the answer.
pub(crate) const LINGER_MAX: Duration = Duration::from_secs(2);

/// Longest time that a request is worked on whose client has closed its end. It may only have sent all and wait for the answer,
/// or it has gone, and its work would be in the way of others. Of requests that were sent ahead each has as long.
const GONE_MAX: Duration = Duration::from_secs(5);

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Waits for a request's first byte.
    Idle = 0,
    /// Has some of a request's headers.
    Reading = 1,
    /// Has at least one request that is not yet answered whole.
    Busy = 2,
    /// Is closed by us; what the client still sends is thrown away.
    Lingering = 3,
}

/// A connection's clocks, written by its socket and its requests, read by its supervisor. Everything is relaxed: on
/// HTTP/1 one task does all of it, and on HTTP/2 a late view only moves a cut by one look.
#[derive(Debug)]
pub struct Activity {
    born: Instant,
    http2: bool,
    phase: AtomicU8,
    since_ms: AtomicU64,
    requests: AtomicUsize,
    /// Milliseconds plus one since when writing is blocked; 0 when it is not.
    blocked_since_ms: AtomicU64,
    /// Of HTTP/1 only: milliseconds plus one since when the client was seen to have closed its end; 0 when it has not.
    gone_since_ms: AtomicU64,
    /// Of HTTP/1 only: the supervisor asks the socket whether the client has closed its end.
    look_for_end: AtomicBool,
    /// Of HTTP/1 only: the answer is ready. It is for the client to take, at its own pace, and who has gone is noticed by that.
    answered: AtomicBool,
    body_unread: AtomicBool,
    overdue: AtomicBool,
    /// Of HTTP/1 only: the target of the request that has begun has a fragment.
    fragment: AtomicBool,
    /// Of HTTP/1 only: the head of the request that has begun declares a body longer than any that can be counted.
    uncountable: AtomicBool,
    head: HeadHold,
    /// Of HTTP/2 only: what the client has begun to send and since when, as [`pack`] writes it; 0 when it is nothing.
    unfinished: AtomicU64,
    /// Of HTTP/2 only, where a client may read all but one answer.
    answers: Mutex<Answers>,
}

/// Who can tell when an answer has been taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// HTTP/1: an answer that isn't taken blocks the socket.
    BySocket,
    /// HTTP/2: each answer has a window of its own.
    ByStream,
}

/// Why a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Its headers took too long.
    SlowHeaders,
    /// No request came.
    Idle,
    /// The client does not read.
    SlowReader,
    /// The client has closed its end, and its answer isn't ready.
    Gone,
    /// It sent on after its answer.
    Lingered,
    /// The process ends.
    Stop,
}

impl Cut {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::SlowHeaders => "slow_headers",
            Self::Idle => "idle",
            Self::SlowReader => "slow_reader",
            Self::Gone => "gone",
            Self::Lingered => "lingered",
            Self::Stop => "stop",
        }
    }
}

impl Activity {
    pub(crate) fn new(http2: bool, rooms: &Rooms) -> Self {
        // An HTTP/2 connection's frames are not requests; only its streams count.
        let phase = if http2 { Phase::Idle } else { Phase::Reading };
        Self {
            born: Instant::now(),
            http2,
            phase: AtomicU8::new(phase as u8),
            since_ms: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
            blocked_since_ms: AtomicU64::new(0),
            gone_since_ms: AtomicU64::new(0),
            look_for_end: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            body_unread: AtomicBool::new(false),
            overdue: AtomicBool::new(false),
            fragment: AtomicBool::new(false),
            uncountable: AtomicBool::new(false),
            head: HeadHold::new(rooms.heads.clone()),
            // A connection begins with a preface.
            unfinished: AtomicU64::new(if http2 { pack(0, Unfinished::Head) } else { 0 }),
            answers: Mutex::new(Answers::new(rooms.answers.clone())),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Idle,
            1 => Phase::Reading,
            2 => Phase::Busy,
            _ => Phase::Lingering,
        }
    }

    #[inline]
    pub(crate) fn is_http2(&self) -> bool {
        self.http2
    }

    fn now_ms(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.born).as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn enter(&self, phase: Phase, now: Instant) {
        self.since_ms.store(self.now_ms(now), Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// A request's headers are complete.
    fn request_begun(&self, now: Instant) {
        if self.requests.fetch_add(1, Ordering::Relaxed) == 0 {
            self.head.let_go();
            self.answered.store(false, Ordering::Relaxed);
            self.enter(Phase::Busy, now);
        }
    }

    /// A request's answer has been handed over whole, or the request was dropped.
    fn request_ended(&self) {
        if self.requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.enter(Phase::Idle, Instant::now());
        }
    }

    /// A request's body was not read to its end.
    pub(crate) fn body_left_unread(&self) {
        self.body_unread.store(true, Ordering::Relaxed);
    }

    /// Whether a body was left unread: on HTTP/1 the connection can't go on then.
    #[inline]
    pub(crate) fn is_body_unread(&self) -> bool {
        self.body_unread.load(Ordering::Relaxed)
    }

    /// Whether the target of the request that came last had a fragment; asked once for each.
    #[inline]
    pub(crate) fn take_fragment(&self) -> bool {
        self.fragment.load(Ordering::Relaxed) && self.fragment.swap(false, Ordering::Relaxed)
    }

    /// Whether what could not be read declared a body longer than any that can be counted.
    pub(crate) fn is_uncountable(&self) -> bool {
        self.uncountable.load(Ordering::Relaxed)
    }

    /// Whether the request in flight has taken longer than [`ANSWER_MAX`] (HTTP/1 only).
    pub(crate) fn is_overdue(&self) -> bool {
        self.overdue.load(Ordering::Relaxed)
    }

    pub(crate) fn is_write_blocked(&self) -> bool {
        self.blocked_since_ms.load(Ordering::Relaxed) != 0
    }

    /// HTTP/1: asks the socket, which hyper owns, to look whether the client has closed its end when it is polled next.
    pub(crate) fn ask_for_end(&self) {
        let waits = self.phase() == Phase::Busy && !self.answered.load(Ordering::Relaxed);
        self.look_for_end.store(!self.http2 && waits, Ordering::Relaxed);
    }

    /// Whether the socket is to look for that, once.
    #[inline]
    pub(crate) fn is_asked_for_end(&self) -> bool {
        self.look_for_end.load(Ordering::Relaxed) && self.look_for_end.swap(false, Ordering::Relaxed)
    }

    /// The client has closed its end: an end doesn't become a beginning.
    pub(crate) fn note_end(&self, now: Instant) {
        if self.gone_since_ms.load(Ordering::Relaxed) == 0 {
            self.gone_since_ms.store(self.now_ms(now) + 1, Ordering::Relaxed);
        }
    }

    /// Since when the client of the request in flight has closed its end and waits for it.
    fn gone_ms(&self) -> Option<u64> {
        let gone = self.gone_since_ms.load(Ordering::Relaxed).checked_sub(1)?;
        let waits = !self.answered.load(Ordering::Relaxed);
        waits.then(|| gone.max(self.since_ms.load(Ordering::Relaxed)))
    }

    /// Judges the current state. Marks a request that hangs as overdue, for its own future to see.
    pub(crate) fn judge(&self, now: Instant, limits: &Limits) -> Option<Cut> {
        let now_ms = self.now_ms(now);
        let past = |since: u64, bound: Duration| Duration::from_millis(now_ms.saturating_sub(since)) >= bound;
        let blocked = self.blocked_since_ms.load(Ordering::Relaxed);
        if blocked != 0 && past(blocked - 1, WRITE_STALL_MAX) {
            return Some(Cut::SlowReader);
        }
        if self.http2
            && self
                .oldest_answer_ms()
                .is_some_and(|since| past(since, WRITE_STALL_MAX))
        {
            return Some(Cut::SlowReader);
        }
        let unfinished = unpack(self.unfinished.load(Ordering::Relaxed));
        if let Some((since, what)) = unfinished
            // While it can't write, h2 doesn't read either.
            && blocked == 0
            && past(since, limits.header_timeout)
            // A body has a deadline of its own, as long as somebody waits for it.
            && (what == Unfinished::Head || self.phase() != Phase::Busy)
        {
            return Some(Cut::SlowHeaders);
        }
        let since = self.since_ms.load(Ordering::Relaxed);
        match self.phase() {
            Phase::Idle => past(since, limits.idle_timeout).then_some(Cut::Idle),
            Phase::Reading => past(since, limits.header_timeout).then_some(Cut::SlowHeaders),
            Phase::Lingering => past(since, LINGER_MAX).then_some(Cut::Lingered),
            Phase::Busy => {
                if self.gone_ms().is_some_and(|gone| past(gone, GONE_MAX)) {
                    return Some(Cut::Gone);
                }
                if !self.http2 && past(since, ANSWER_MAX) {
                    self.overdue.store(true, Ordering::Relaxed);
                }
                None
            }
        }
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn oldest_answer_ms(&self) -> Option<u64> {
        self.answers().oldest_ms()
    }

    /// HTTP/2: whether there was room for all answers that wait for the client.
    pub(crate) fn answers_have_room(&self) -> bool {
        self.answers().have_room()
    }

    /// HTTP/2: takes note of what is unfinished now. The clock is looked at only where something has begun.
    pub(crate) fn frames_came(&self, seen: Seen) {
        let before = self.unfinished.load(Ordering::Relaxed);
        let after = match (seen.unfinished, unpack(before)) {
            (Unfinished::Nothing, _) => 0,
            (what, Some((since, _))) if !seen.anew => pack(since, what),
            (what, _) => pack(self.now_ms(Instant::now()), what),
        };
        if after != before {
            self.unfinished.store(after, Ordering::Relaxed);
        }
    }

    /// HTTP/1: whether there is room for them: an unfinished head takes some.
    pub(crate) fn bytes_came(&self, bytes: &[u8]) -> bool {
        match self.phase() {
            Phase::Idle => self.enter(Phase::Reading, Instant::now()),
            Phase::Reading => {}
            Phase::Busy | Phase::Lingering => return true,
        }
        if self.head.is_empty() {
            if front::has_a_fragment(bytes) {
                self.fragment.store(true, Ordering::Relaxed);
            }
            if front::has_an_uncountable_length(bytes) {
                self.uncountable.store(true, Ordering::Relaxed);
            }
        }
        self.head.grow(bytes.len())
    }

    pub(crate) fn wrote(&self, pending: bool) {
        let blocked = self.blocked_since_ms.load(Ordering::Relaxed) != 0;
        if pending && !blocked {
            let now_ms = self.now_ms(Instant::now());
            self.blocked_since_ms.store(now_ms + 1, Ordering::Relaxed);
        } else if !pending && blocked {
            self.blocked_since_ms.store(0, Ordering::Relaxed);
        }
    }
}

/// What is unfinished, and since when in milliseconds, in one number: so it is read and written at once.
fn pack(since_ms: u64, what: Unfinished) -> u64 {
    match what {
        Unfinished::Nothing => 0,
        Unfinished::Head => (since_ms + 1) << 1,
        Unfinished::Data => ((since_ms + 1) << 1) | 1,
    }
}

/// The reverse; `None` when nothing is.
fn unpack(packed: u64) -> Option<(u64, Unfinished)> {
    let since_ms = (packed >> 1).checked_sub(1)?;
    let what = if packed & 1 == 0 {
        Unfinished::Head
    } else {
        Unfinished::Data
    };
    Some((since_ms, what))
}

/// A request being answered on its connection, until dropped.
#[derive(Debug)]
pub struct Answering {
    activity: Arc<Activity>,
    /// Its answer's number, once there is one (HTTP/2 only).
    answer: Option<u64>,
}

impl Answering {
    pub(crate) fn begin(activity: &Arc<Activity>, now: Instant) -> Self {
        activity.request_begun(now);
        Self {
            activity: Arc::clone(activity),
            answer: None,
        }
    }

    /// The answer is ready, and waits for the client to take it. `bytes` is its length, where that is known.
    pub(crate) fn answered(&mut self, bytes: Option<u64>, now: impl FnOnce() -> Instant) -> Taken {
        if !self.activity.http2 {
            self.activity.answered.store(true, Ordering::Relaxed);
            return Taken::BySocket;
        }
        let now_ms = self.activity.now_ms(now());
        self.answer = Some(self.activity.answers().begin(bytes, now_ms));
        Taken::ByStream
    }

    /// The next piece of the answer is asked for: what came before it has room in the client's window.
    pub(crate) fn asked_for_more(&self, now: impl FnOnce() -> Instant) {
        if let Some(number) = self.answer {
            let now_ms = self.activity.now_ms(now());
            self.activity.answers().asked_for_more(number, now_ms);
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(number) = self.answer {
            self.activity.answers().end(number);
        }
        self.activity.request_ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(activity: &Activity, now: Instant) -> Option<Cut> {
        activity.judge(now, &Limits::PRIVATE)
    }

    /// Of a connection whose preface has come.
    fn of_http2() -> Arc<Activity> {
        let activity = Activity::new(true, &Rooms::default());
        activity.frames_came(Seen {
            unfinished: Unfinished::Nothing,
            anew: false,
        });
        Arc::new(activity)
    }

    #[test]
    fn an_http2_client_that_opens_no_window_for_one_of_its_answers_is_cut() {
        let began = Instant::now();
        let after = |secs| began + Duration::from_secs(secs);
        let activity = of_http2();
        let mut stalled = Answering::begin(&activity, began);
        let mut taken = Answering::begin(&activity, began);
        stalled.answered(Some(9), || began);
        taken.answered(Some(9), || began);
        taken.asked_for_more(|| after(29));
        assert_eq!(judged(&activity, after(29)), None);
        assert_eq!(judged(&activity, after(31)), Some(Cut::SlowReader));
        drop(stalled);
        assert_eq!(
            judged(&activity, after(31)),
            None,
            "the other one was asked for 2 s ago"
        );
        assert_eq!(judged(&activity, after(60)), Some(Cut::SlowReader));
        drop(taken);
        assert_eq!(judged(&activity, after(60)), None, "nothing waits any more");
    }

    #[test]
    fn a_request_is_given_up_some_seconds_after_its_client_has_closed_its_end() {
        let activity = Arc::new(Activity::new(false, &Rooms::default()));
        let after = |secs| activity.born + Duration::from_secs(secs);
        let request = Answering::begin(&activity, after(0));
        for secs in 3..8 {
            activity.note_end(after(secs));
            assert_eq!(judged(&activity, after(secs)), None);
        }
        assert_eq!(judged(&activity, after(8)), Some(Cut::Gone));
        drop(request);
        assert_eq!(judged(&activity, after(8)), None, "it was answered");
    }

    #[test]
    fn who_has_closed_its_end_takes_its_answer_as_slowly_as_others() {
        let activity = Arc::new(Activity::new(false, &Rooms::default()));
        let after = |secs| activity.born + Duration::from_secs(secs);
        let mut request = Answering::begin(&activity, after(0));
        activity.note_end(after(1));
        request.answered(None, || after(4));
        assert_eq!(judged(&activity, after(60)), None);
    }

    #[test]
    fn each_request_that_was_sent_ahead_of_the_end_has_its_time() {
        let activity = Arc::new(Activity::new(false, &Rooms::default()));
        let after = |secs| activity.born + Duration::from_secs(secs);
        for secs in [0, 4, 8] {
            let mut request = Answering::begin(&activity, after(secs));
            activity.note_end(after(secs + 1));
            assert_eq!(judged(&activity, after(secs + 4)), None, "{secs}");
            request.answered(None, || after(secs + 4));
        }
        let _hangs = Answering::begin(&activity, after(12));
        assert_eq!(judged(&activity, after(16)), None);
        assert_eq!(judged(&activity, after(17)), Some(Cut::Gone));
    }

    #[test]
    fn an_http2_client_that_does_not_finish_its_headers_is_cut() {
        let activity = Arc::new(Activity::new(true, &Rooms::default()));
        let came = |unfinished, anew| activity.frames_came(Seen { unfinished, anew });
        let after = |secs| activity.born + Duration::from_secs(secs);
        assert_eq!(judged(&activity, after(9)), None);
        assert_eq!(judged(&activity, after(11)), Some(Cut::SlowHeaders), "no preface");
        came(Unfinished::Nothing, true);
        assert_eq!(judged(&activity, after(11)), None);
        came(Unfinished::Head, true);
        came(Unfinished::Head, false);
        assert_eq!(judged(&activity, after(11)), Some(Cut::SlowHeaders));
        came(Unfinished::Data, false);
        assert_eq!(
            judged(&activity, after(11)),
            Some(Cut::SlowHeaders),
            "of no request that is known"
        );
        let busy = Answering::begin(&activity, Instant::now());
        assert_eq!(
            judged(&activity, after(11)),
            None,
            "its body has a deadline of its own"
        );
        came(Unfinished::Head, true);
        assert_eq!(judged(&activity, after(11)), Some(Cut::SlowHeaders));
        activity.wrote(true);
        assert_eq!(
            judged(&activity, after(11)),
            None,
            "nothing is read while nothing can be written"
        );
        drop(busy);
    }

    #[test]
    fn what_is_still_being_worked_on_is_not_the_clients_fault() {
        let began = Instant::now();
        let activity = of_http2();
        let _worked_on = Answering::begin(&activity, began);
        assert_eq!(judged(&activity, began + Duration::from_secs(60)), None);
    }
}
