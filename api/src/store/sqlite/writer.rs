//! The one thread of this process that writes: it takes all waiting writes, runs them in one transaction, commits once
//! and then answers them all. One flush of the disk serves the whole group, so a create costs little more with
//! `synchronous=FULL` than without.
//!
//! Each write is isolated from the others of its group: it changes rows by one statement (SQLite undoes a failing
//! statement alone) or opens a savepoint of its own.
//!
//! A write is taken from the queue only when the transaction has begun. Until then the one who waits for it can take
//! it back, and it will never happen; after that, only the commit shows it.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::schema::is_locked;
use super::watch::{FileLost, FileWatch};

/// Most writes that wait. A group of 128 takes about 5 ms, so a full queue is 40 ms of work, or 10 s on a disk that
/// needs more than a second for a flush.
const QUEUE_MAX: usize = 1024;

/// Most bytes that wait: 64 bodies of the largest size (1 MiB).
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most writes in one transaction: a group of 128 costs some 3 ms beside its flush, so the first one of a group hardly
/// waits longer than for the flush alone.
const GROUP_MAX: usize = 128;

/// A group ends after this many bytes: about 2,000 pages of the log, twice what SQLite lets pile up before a checkpoint.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long a write may wait to be taken. Whoever waits longer takes it back.
const QUEUE_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long a write that was taken may take to be committed, a group of 8 MiB on a slow disk included. With
/// [`QUEUE_WAIT_MAX`] every write is answered within 15 s.
const COMMIT_WAIT_MAX: Duration = Duration::from_secs(10);

/// A lock held by another process is mentioned in the log once in this time.
const LOCK_LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Why a write has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteFailure {
    /// It did not happen, and never will.
    #[error("{0}")]
    NotWritten(String),
    /// Nobody knows.
    #[error("{0}")]
    Unknown(String),
    /// Its own statement failed, and it alone.
    #[error("the statement failed")]
    Statement(#[source] rusqlite::Error),
}

/// The sending side of the queue; the thread ends when the last one is dropped.
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Job>>,
    bytes_queued: Arc<AtomicUsize>,
    health: Arc<Health>,
}

/// Whether writes can be made at all, as the last group showed; read by readiness.
#[derive(Default)]
struct Health {
    failing: Mutex<Option<String>>,
}

impl Health {
    /// Says so in the log when it begins, and when it is over.
    fn note(&self, failure: Option<String>) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*failing, &failure) {
            (None, Some(reason)) => {
                tracing::error!(reason, "documents can't be written: every write is refused")
            }
            (Some(_), None) => tracing::info!("documents can be written again"),
            _ => {}
        }
        *failing = failure;
    }
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(connection: Connection, watch: Arc<FileWatch>) -> std::io::Result<Self> {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let health = Arc::new(Health::default());
        let desk = Desk {
            connection,
            watch: Some(watch),
            health: Arc::clone(&health),
        };
        std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || desk.run(waiting))?;
        Ok(Self {
            queue,
            bytes_queued: Arc::new(AtomicUsize::new(0)),
            health,
        })
    }

    /// Why the last group of writes could not be made; `None` if it could.
    pub(super) fn failing(&self) -> Option<String> {
        let failing = self.health.failing.lock();
        failing.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that the files were lost, before any write has met that.
    pub(super) fn note_lost(&self, lost: &FileLost) {
        self.health.note(Some(lost.to_string()));
    }

    /// Whether the thread is there to take writes.
    pub(super) fn is_alive(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Runs `statement` in the next group and answers when that is committed. `bytes` is about what it writes; `weigh`
    /// adds from its result what only that shows.
    pub(super) async fn write<T, F>(
        &self,
        bytes: usize,
        statement: F,
        weigh: fn(&T) -> usize,
    ) -> Result<T, WriteFailure>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let held = BytesHeld::take(&self.bytes_queued, bytes)
            .ok_or_else(|| not_written("too many bytes wait for the writer"))?;
        let ticket = Arc::new(Ticket::default());
        let (reply, mut answer) = oneshot::channel();
        let job = WriteJob {
            ticket: Arc::clone(&ticket),
            statement: Some(statement),
            weigh,
            outcome: None,
            reply,
            held,
        };
        self.queue.try_send(Box::new(job)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => not_written("too many writes wait for the writer"),
            mpsc::error::TrySendError::Closed(_) => not_written("the writer has ended"),
        })?;

        // Also when the caller goes away: what nobody waits for need not happen.
        let ticket = TakenBackOnDrop(ticket);
        match tokio::time::timeout(QUEUE_WAIT_MAX, &mut answer).await {
            Ok(Ok(result)) => return result,
            Ok(Err(_)) => return Err(ticket.0.failure_without_answer("the writer has ended")),
            Err(_) if ticket.0.take_back() => {
                return Err(not_written("the write waited too long for its turn"));
            }
            Err(_) => {}
        }
        match tokio::time::timeout(COMMIT_WAIT_MAX, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(WriteFailure::Unknown("the writer has ended".to_owned())),
            Err(_) => Err(WriteFailure::Unknown("the commit takes too long".to_owned())),
        }
    }
}

fn not_written(detail: &str) -> WriteFailure {
    WriteFailure::NotWritten(detail.to_owned())
}

/// Counts the bytes of a waiting write for as long as it lives.
struct BytesHeld {
    counter: Arc<AtomicUsize>,
    bytes: usize,
}

impl BytesHeld {
    fn take(counter: &Arc<AtomicUsize>, bytes: usize) -> Option<Self> {
        let held = Self {
            counter: Arc::clone(counter),
            bytes,
        };
        let before = counter.fetch_add(bytes, Ordering::Relaxed);
        // Dropping `held` gives the bytes back.
        (before + bytes <= QUEUE_BYTES_MAX).then_some(held)
    }
}

impl Drop for BytesHeld {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Who has a write: the queue, the writer, or again the one who asked for it. Both sides move it on atomically.
#[derive(Default)]
struct Ticket(AtomicU8);

impl Ticket {
    const WAITS: u8 = 0;
    const TAKEN: u8 = 1;
    const TAKEN_BACK: u8 = 2;

    fn move_on(&self, to: u8) -> bool {
        self.0
            .compare_exchange(Self::WAITS, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn take(&self) -> bool {
        self.move_on(Self::TAKEN)
    }

    fn take_back(&self) -> bool {
        self.move_on(Self::TAKEN_BACK)
    }

    fn waits(&self) -> bool {
        self.0.load(Ordering::Acquire) == Self::WAITS
    }

    fn failure_without_answer(&self, detail: &str) -> WriteFailure {
        match self.0.load(Ordering::Acquire) {
            Self::TAKEN => WriteFailure::Unknown(detail.to_owned()),
            _ => not_written(detail),
        }
    }
}

struct TakenBackOnDrop(Arc<Ticket>);

impl Drop for TakenBackOnDrop {
    fn drop(&mut self) {
        self.0.take_back();
    }
}

/// What became of a group as a whole.
enum GroupEnd {
    Committed,
    NotWritten(String),
    Unknown(String),
}

/// A write of any result type, as the thread sees it.
trait Job: Send {
    /// What it wrote, about; asked when it has run.
    fn bytes(&self) -> usize;
    fn waits(&self) -> bool;
    fn take(&self) -> bool;
    fn run(&mut self, connection: &Connection);
    /// What the disk refused, if its statement failed for that.
    fn disk_failure(&self) -> Option<String>;
    fn answer(self: Box<Self>, end: &GroupEnd);
}

struct WriteJob<T, F> {
    ticket: Arc<Ticket>,
    statement: Option<F>,
    weigh: fn(&T) -> usize,
    outcome: Option<rusqlite::Result<T>>,
    reply: oneshot::Sender<Result<T, WriteFailure>>,
    held: BytesHeld,
}

impl<T, F> Job for WriteJob<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
{
    fn bytes(&self) -> usize {
        let done = self.outcome.as_ref().and_then(|outcome| outcome.as_ref().ok());
        self.held.bytes + done.map_or(0, self.weigh)
    }

    fn waits(&self) -> bool {
        self.ticket.waits()
    }

    fn take(&self) -> bool {
        self.ticket.take()
    }

    fn run(&mut self, connection: &Connection) {
        self.outcome = self.statement.take().map(|statement| statement(connection));
    }

    fn disk_failure(&self) -> Option<String> {
        match self.outcome.as_ref()? {
            Err(error) if is_of_the_disk(error) => Some(error.to_string()),
            _ => None,
        }
    }

    fn answer(self: Box<Self>, end: &GroupEnd) {
        let answer = match (end, self.outcome) {
            (_, Some(Err(error))) => Err(WriteFailure::Statement(error)),
            (GroupEnd::Committed, Some(Ok(value))) => Ok(value),
            (GroupEnd::NotWritten(detail), _) => Err(WriteFailure::NotWritten(detail.clone())),
            (GroupEnd::Unknown(detail), Some(Ok(_))) => Err(WriteFailure::Unknown(detail.clone())),
            (_, None) => Err(not_written("the transaction ended before the write's turn")),
        };
        // The one who asked may be gone: then nobody needs the answer.
        drop(self.reply.send(answer));
    }
}

/// What the thread works with.
struct Desk {
    connection: Connection,
    /// `None` in tests that have no file.
    watch: Option<Arc<FileWatch>>,
    health: Arc<Health>,
}

/// What is known of the files when a group begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Files {
    /// They were in order when the group before was acknowledged, and the next write waited by then.
    InOrder,
    Unknown,
}

enum Begin {
    Begun,
    NobodyWaits,
    Refused(String),
}

impl Desk {
    fn run(&self, mut waiting: mpsc::Receiver<Box<dyn Job>>) {
        let mut files = Files::Unknown;
        while let Some(first) = waiting.blocking_recv() {
            match self.begin(first.as_ref(), std::mem::replace(&mut files, Files::Unknown)) {
                Begin::Begun => {
                    files = self.write_group(first, &mut waiting);
                    if let Some(watch) = &self.watch {
                        watch.mark_log(&self.connection);
                    }
                }
                Begin::NobodyWaits => {}
                Begin::Refused(reason) => {
                    self.health.note(Some(reason.clone()));
                    if first.take() {
                        first.answer(&GroupEnd::NotWritten(reason));
                    }
                }
            }
        }
    }

    /// Whether the files are still those that are open. Without it a commit may go where nobody will ever find it.
    fn check_files(&self) -> Result<(), FileLost> {
        match &self.watch {
            Some(watch) => watch.check(&self.connection),
            None => Ok(()),
        }
    }

    /// Waits for the file's write lock for as long as somebody waits for the first write. Files that
    /// were in order a moment ago are not looked at again unless the lock has to be waited for.
    fn begin(&self, first: &dyn Job, mut files: Files) -> Begin {
        let mut logged_at: Option<Instant> = None;
        loop {
            if !first.waits() {
                return Begin::NobodyWaits;
            }
            if std::mem::replace(&mut files, Files::Unknown) == Files::Unknown
                && let Err(lost) = self.check_files()
            {
                return Begin::Refused(lost.to_string());
            }
            match execute(&self.connection, "BEGIN IMMEDIATE") {
                Ok(()) => return Begin::Begun,
                Err(error) if is_locked(&error) => {
                    if logged_at.is_none_or(|at| at.elapsed() >= LOCK_LOG_INTERVAL) {
                        tracing::warn!("another process holds the SQLite file's write lock; waiting for it");
                        logged_at = Some(Instant::now());
                    }
                }
                Err(error) => return Begin::Refused(format!("SQLite can't begin to write: {error}")),
            }
        }
    }

    fn write_group(&self, first: Box<dyn Job>, waiting: &mut mpsc::Receiver<Box<dyn Job>>) -> Files {
        let mut group = Vec::with_capacity(GROUP_MAX.min(waiting.len() + 1));
        let mut bytes = 0;
        let mut next = Some(first);
        let (mut lost, mut disk_failure) = (None, None);
        while let Some(mut job) = next {
            if job.take() {
                job.run(&self.connection);
                bytes += job.bytes();
                disk_failure = disk_failure.or_else(|| job.disk_failure());
                group.push(job);
                // A full disk or a failing one may make SQLite undo the whole transaction by itself.
                if self.connection.is_autocommit() {
                    lost = Some("SQLite undid the group of writes after an error".to_owned());
                    break;
                }
            }
            next = match group.len() < GROUP_MAX && bytes < GROUP_BYTES_MAX {
                true => waiting.try_recv().ok(),
                false => None,
            };
        }
        let end = match lost {
            Some(detail) => GroupEnd::NotWritten(detail),
            None => self.commit(),
        };
        let failure = match &end {
            GroupEnd::Committed => disk_failure,
            GroupEnd::NotWritten(reason) | GroupEnd::Unknown(reason) => {
                Some(disk_failure.unwrap_or_else(|| reason.clone()))
            }
        };
        self.health.note(failure);
        let files = match end {
            GroupEnd::Committed if !waiting.is_empty() => Files::InOrder,
            _ => Files::Unknown,
        };
        for job in group {
            job.answer(&end);
        }
        files
    }

    /// Commits. When that fails, the log may hold the group's last frame all the same, and a recovery after a crash could
    /// find it there: so the outcome is unknown, except where SQLite did not come as far as writing.
    ///
    /// A commit into files that have lost their names is not acknowledged either: whether anybody will find it depends on
    /// what becomes of them.
    fn commit(&self) -> GroupEnd {
        let Err(error) = execute(&self.connection, "COMMIT") else {
            return match self.check_files() {
                Ok(()) => GroupEnd::Committed,
                Err(lost) => GroupEnd::Unknown(lost.to_string()),
            };
        };
        tracing::error!(error = %error, "SQLite could not commit a group of writes");
        if !self.connection.is_autocommit()
            && let Err(error) = execute(&self.connection, "ROLLBACK")
        {
            tracing::error!(error = %error, "SQLite could not roll back a group of writes");
            return GroupEnd::Unknown(error.to_string());
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::ReadOnly) => GroupEnd::NotWritten(error.to_string()),
            _ => GroupEnd::Unknown(error.to_string()),
        }
    }
}

/// Whether every other write would fail as well.
fn is_of_the_disk(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::DatabaseCorrupt
        )
    )
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_group_ends_at_its_bytes_also_those_that_only_results_tell() {
        const EACH: usize = GROUP_BYTES_MAX / 4;
        let (queue, mut waiting) = mpsc::channel(QUEUE_MAX);
        let writer = Writer {
            queue,
            bytes_queued: Arc::default(),
            health: Arc::default(),
        };
        let mut writes: Vec<_> = (0..6)
            .map(|_| Box::pin(writer.write(0, |_| Ok(EACH), |written| *written)))
            .collect();
        for write in &mut writes {
            assert!(futures_util::poll!(write).is_pending());
        }

        let desk = Desk {
            connection: Connection::open_in_memory().unwrap(),
            watch: None,
            health: Arc::default(),
        };
        let first = waiting.try_recv().unwrap();
        assert!(matches!(desk.begin(first.as_ref(), Files::Unknown), Begin::Begun));
        desk.write_group(first, &mut waiting);

        assert_eq!(waiting.len(), 2);
        for write in writes.drain(..4) {
            assert_eq!(write.await.unwrap(), EACH);
        }
        for write in &mut writes {
            assert!(futures_util::poll!(write).is_pending());
        }
    }
}
