//! Reading: a few connections, handed out one per read.
//!
//! A read of one row runs right on the caller's thread: it takes a few µs, less than handing it to another thread would.
//! In the write-ahead log readers never wait for the writer. When the disk turns out slow, reads move to the runtime's
//! blocking threads for a while, so that a slow disk can't stop the threads that serve requests.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::connect::{open_looker, open_reader};
use super::watch::FileWatch;

/// Most idle connections kept. Reads on the caller's thread need one per runtime thread, those on blocking threads
/// [`BLOCKING_READS_MAX`]; each keeps up to 2 MB of pages.
const IDLE_MAX: usize = 32;

/// Most reads on blocking threads at once: a disk gains nothing from more.
const BLOCKING_READS_MAX: usize = 16;

/// A read that took longer than this shows a slow disk: a hot one takes some 10 µs, and 5 ms is more than a thread that
/// serves requests should ever stand still.
const SLOW_READ: Duration = Duration::from_millis(5);

/// Points that a slow read adds; a quick one takes one away. So one slow read in 16 or more makes the disk count as slow,
/// while single ones don't: on a busy machine a thread that is put aside in mid-read looks the same.
const SLOW_POINTS: u32 = 16;

/// From this many points on, four slow reads more than the quick ones make up for, the disk is slow.
const SLOW_POINTS_MAX: u32 = 64;

/// How long reads stay on blocking threads then.
const SLOW_HOLD: Duration = Duration::from_secs(1);

/// How long a read may take, the wait for its turn included.
const READ_WAIT_MAX: Duration = Duration::from_secs(10);

/// Why a read has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadFailure {
    /// The disk is too slow for what is asked of it.
    #[error("{0}")]
    TooSlow(&'static str),
    /// SQLite refused.
    #[error("the query failed")]
    Query(#[source] rusqlite::Error),
}

/// Where a read runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// One row, or some short ones: on the caller's thread while the disk is quick.
    Small,
    /// Up to megabytes: always on a blocking thread.
    Large,
}

/// The connections that read.
pub(super) struct Readers {
    pool: Arc<Pool>,
    blocking: Arc<Semaphore>,
    began: Instant,
    slow_points: AtomicU32,
    /// Milliseconds since `began` until which the disk counts as slow.
    slow_until_ms: AtomicU64,
}

struct Pool {
    file: PathBuf,
    /// `None`: the store was only opened to look at it.
    watch: Option<Arc<FileWatch>>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(file: PathBuf, watch: Option<Arc<FileWatch>>) -> Self {
        Self {
            pool: Arc::new(Pool {
                file,
                watch,
                idle: Mutex::default(),
            }),
            blocking: Arc::new(Semaphore::new(BLOCKING_READS_MAX)),
            began: Instant::now(),
            slow_points: AtomicU32::new(0),
            slow_until_ms: AtomicU64::new(0),
        }
    }

    /// Runs a query on one of the connections.
    pub(super) async fn read<T, F>(&self, size: Size, query: F) -> Result<T, ReadFailure>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let began = Instant::now();
        let now_ms = millis(began.saturating_duration_since(self.began));
        if size == Size::Small && now_ms >= self.slow_until_ms.load(Ordering::Relaxed) {
            let answer = self.pool.run(query);
            self.judge(began.elapsed(), now_ms);
            return answer.map_err(ReadFailure::Query);
        }
        let pool = Arc::clone(&self.pool);
        let blocking = Arc::clone(&self.blocking);
        let read = async move {
            let permit = blocking
                .acquire_owned()
                .await
                .map_err(|_| ReadFailure::TooSlow("the store is closed"))?;
            // The permit goes along: a stuck read counts until it ends, also when nobody waits for it any more.
            let answer = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                pool.run(query)
            });
            match answer.await {
                Ok(answer) => answer.map_err(ReadFailure::Query),
                Err(_) => Err(ReadFailure::TooSlow("the read was aborted")),
            }
        };
        match tokio::time::timeout(READ_WAIT_MAX, read).await {
            Ok(answer) => answer,
            Err(_) => Err(ReadFailure::TooSlow("the read takes too long")),
        }
    }
}

impl Readers {
    /// Counts a read on the caller's thread. Threads may count past each other: it is an estimate.
    fn judge(&self, took: Duration, now_ms: u64) {
        let points = self.slow_points.load(Ordering::Relaxed);
        if took <= SLOW_READ {
            if points > 0 {
                self.slow_points.store(points - 1, Ordering::Relaxed);
            }
        } else if points + SLOW_POINTS < SLOW_POINTS_MAX {
            self.slow_points.store(points + SLOW_POINTS, Ordering::Relaxed);
        } else {
            self.slow_points.store(0, Ordering::Relaxed);
            self.slow_until_ms
                .store(now_ms + millis(SLOW_HOLD), Ordering::Relaxed);
        }
    }
}

impl Pool {
    fn run<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let idle = self.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open()?,
        };
        // A lost file may be the reason for any failure, such as a malformed database.
        let answer = query(&connection).or_else(|error| self.check_files(Some(&connection)).and(Err(error)));
        let mut idle = self.lock();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
        answer
    }

    /// A connection to the file that the writer has open, and to no other that has its name by now.
    fn open(&self) -> rusqlite::Result<Connection> {
        let opened = match self.watch {
            Some(_) => open_reader(&self.file),
            None => open_looker(&self.file),
        };
        self.check_files(None)?;
        opened
    }

    /// Whether the files are still those that are open, and, asked of a connection, as long as they should be.
    fn check_files(&self, connection: Option<&Connection>) -> rusqlite::Result<()> {
        let Some(watch) = &self.watch else {
            return Ok(());
        };
        let checked = match connection {
            Some(connection) => watch.check(connection),
            None => watch.check_names().map(drop),
        };
        checked.map_err(|lost| {
            let cannot_open = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
            rusqlite::Error::SqliteFailure(cannot_open, Some(lost.to_string()))
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_slow(readers: &Readers) -> bool {
        readers.slow_until_ms.load(Ordering::Relaxed) > 0
    }

    #[test]
    fn a_slow_disk_is_noticed_and_a_busy_machine_is_not_one() {
        let (quick, slow) = (Duration::from_micros(10), Duration::from_millis(8));
        let busy = Readers::new(PathBuf::new(), None);
        for read in 0..10_000 {
            busy.judge(if read % 100 == 0 { slow } else { quick }, 1);
        }
        assert!(!is_slow(&busy));

        let disk = Readers::new(PathBuf::new(), None);
        for _ in 0..4 {
            assert!(!is_slow(&disk));
            disk.judge(slow, 1);
        }
        assert!(is_slow(&disk));
    }
}
