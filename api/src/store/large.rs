//! Work that may take over a millisecond: it leaves the threads that serve requests, and little of it runs at once.

use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// Up to this many bytes a text is worked on where it is. An estimate, not measured: at 20 MB/s for the dearest kind (tiny
/// members, each name with an escape) 16 KiB take 0.8 ms, and 0.1 ms if they are usual. Handing work to another thread and
/// waking up for its result is taken to cost some 20 us, which only larger texts are worth.
pub const INLINE_BYTES_MAX: usize = 16 * 1024;

/// How long large work may wait for its turn. A body of the largest size is estimated to take at most 0.1 s, so with two
/// turns some 100 are before it then: more than a machine does that answers in time.
const TURN_WAIT_MAX: Duration = Duration::from_secs(5);

/// Others' large work took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("other large texts took too long")]
pub struct TurnTimeout;

/// Takes turns at large work: as many as the machine has processors, so that the threads that serve requests always get
/// their share of them. A clone takes its turns from the same ones.
#[derive(Debug, Clone)]
pub struct LargeWork {
    turns: Arc<Semaphore>,
    wait_max: Duration,
}

impl Default for LargeWork {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            turns: Arc::new(Semaphore::new(processors)),
            wait_max: TURN_WAIT_MAX,
        }
    }
}

impl LargeWork {
    /// Does work on a text of this many bytes: here and now if it is small, else in its turn on another thread. Nothing is
    /// done when the caller goes away before its turn.
    ///
    /// # Errors
    /// [`TurnTimeout`]: nothing was done.
    pub async fn run<T, F>(&self, bytes: usize, work: F) -> Result<T, TurnTimeout>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        if bytes <= INLINE_BYTES_MAX {
            return Ok(work());
        }
        let turn = Arc::clone(&self.turns).acquire_owned();
        // The semaphore is never closed.
        let Ok(Ok(turn)) = tokio::time::timeout(self.wait_max, turn).await else {
            return Err(TurnTimeout);
        };
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        match done.await {
            Ok(done) => Ok(done),
            Err(error) => match error.try_into_panic() {
                // As if it had been done here.
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_cancelled) => Err(TurnTimeout),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_work_stays_and_large_work_leaves_the_thread() {
        let work = LargeWork::default();
        let here = std::thread::current().id();
        let there = || std::thread::current().id();
        assert_eq!(work.run(INLINE_BYTES_MAX, there).await, Ok(here));
        assert_ne!(work.run(INLINE_BYTES_MAX + 1, there).await, Ok(here));
    }

    #[tokio::test]
    async fn large_work_that_does_not_get_its_turn_is_not_done() {
        let work = LargeWork {
            wait_max: Duration::ZERO,
            ..LargeWork::default()
        };
        let all = u32::try_from(work.turns.available_permits()).unwrap();
        let _others = work.turns.acquire_many(all).await.unwrap();
        assert_eq!(work.run(usize::MAX, || ()).await, Err(TurnTimeout));
        assert_eq!(work.run(0, || ()).await, Ok(()));
    }
}
