//! The one owner of the state and of its file. A change is made in memory and answered when it is on disk; what readers see
//! is always what is on disk. A thread of its own writes, so that nobody who serves waits for a disk, and changes that wait
//! together are written once.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::file::StoreError;

/// The state, as everybody reads and changes it.
#[derive(Debug)]
pub(crate) struct Owner<S> {
    shared: Arc<Shared<S>>,
}

#[derive(Debug)]
struct Shared<S> {
    /// As it is on disk. Apart from the rest, so that nobody reads slower because changes are made.
    kept: Mutex<Arc<S>>,
    inner: Mutex<Inner<S>>,
    /// There is something to write, or the end has come.
    work: Condvar,
}

#[derive(Debug)]
struct Inner<S> {
    /// With every change that was accepted, written or not: the next one is made of it.
    latest: Arc<S>,
    /// Who waits for `latest` to be written.
    waiting: Vec<Waiting>,
    ended: bool,
}

type Waiting = oneshot::Sender<Result<(), NotKept>>;

/// Whoever has to know of every change.
pub(crate) trait Follower<S>: Send + 'static {
    /// The state is on disk; the changes that led to it are answered when this returns.
    fn kept(&mut self, state: &S);

    /// Changes could not be written, and the state is again as it was before them. None is accepted until this returns.
    fn undone(&mut self, state: &S);
}

/// Why a change is not kept.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum NotKept {
    #[error("the change is not kept: {0}")]
    Disk(Arc<StoreError>),
    #[error("the change is not kept: the local cloud ends")]
    Ended,
}

impl<S: Clone + Send + Sync + 'static> Owner<S> {
    /// Starts the thread that writes with `write` and tells `follower`; called inside of the runtime that the follower needs.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn start(
        state: S,
        write: impl FnMut(&S) -> Result<(), StoreError> + Send + 'static,
        follower: impl Follower<S>,
    ) -> std::io::Result<Self> {
        let state = Arc::new(state);
        let shared = Arc::new(Shared {
            kept: Mutex::new(Arc::clone(&state)),
            inner: Mutex::new(Inner {
                latest: state,
                waiting: Vec::new(),
                ended: false,
            }),
            work: Condvar::new(),
        });
        let runtime = tokio::runtime::Handle::current();
        let end = EndsWith(Arc::clone(&shared));
        std::thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || {
                let _runtime = runtime.enter();
                end.0.write_all(write, follower);
            })?;
        Ok(Self { shared })
    }

    /// The state as it is on disk.
    pub(crate) fn read(&self) -> Arc<S> {
        Arc::clone(&self.shared.kept())
    }

    /// Changes the state. It is on disk when this returns, or the change is not made: one that is refused leaves nothing
    /// of itself, whatever it did before. It is made at once, even if nobody waits for its end.
    ///
    /// # Errors
    /// Those of `change`, and [`NotKept`] when it can't be written.
    pub(crate) async fn change<T, E: From<NotKept>>(
        &self,
        change: impl FnOnce(&mut S) -> Result<T, E>,
    ) -> Result<T, E> {
        let (value, written) = self.shared.accept(change)?;
        written.await.unwrap_or(Err(NotKept::Ended))?;
        Ok(value)
    }
}

impl<S> Drop for Owner<S> {
    fn drop(&mut self) {
        self.shared.inner().ended = true;
        self.shared.work.notify_one();
    }
}

impl<S> Shared<S> {
    fn inner(&self) -> MutexGuard<'_, Inner<S>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, Arc<S>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Accepted<T> = (T, oneshot::Receiver<Result<(), NotKept>>);

impl<S: Clone> Shared<S> {
    fn accept<T, E: From<NotKept>>(
        &self,
        change: impl FnOnce(&mut S) -> Result<T, E>,
    ) -> Result<Accepted<T>, E> {
        let mut inner = self.inner();
        if inner.ended {
            return Err(NotKept::Ended.into());
        }
        let mut next = S::clone(&inner.latest);
        let value = change(&mut next)?;
        inner.latest = Arc::new(next);
        let (tell, written) = oneshot::channel();
        inner.waiting.push(tell);
        self.work.notify_one();
        Ok((value, written))
    }

    /// The thread's life.
    fn write_all(&self, mut write: impl FnMut(&S) -> Result<(), StoreError>, mut follower: impl Follower<S>) {
        while let Some((state, waiting)) = self.next() {
            let result = match write(&state) {
                Ok(()) => {
                    *self.kept() = Arc::clone(&state);
                    follower.kept(&state);
                    Ok(())
                }
                Err(error) => {
                    tracing::error!(%error, "changes are not kept");
                    Err(NotKept::Disk(Arc::new(error)))
                }
            };
            let mut told = waiting;
            if result.is_err() {
                let kept = Arc::clone(&self.kept());
                let mut inner = self.inner();
                inner.latest = Arc::clone(&kept);
                // Those that came meanwhile were made of what is undone.
                told.append(&mut inner.waiting);
                follower.undone(&kept);
            }
            for waiting in told {
                // Whoever went away meanwhile needs no answer.
                let _gone = waiting.send(result.clone());
            }
        }
    }

    /// Waits for something to write; None at the end.
    fn next(&self) -> Option<(Arc<S>, Vec<Waiting>)> {
        let mut inner = self.inner();
        while inner.waiting.is_empty() {
            if inner.ended {
                return None;
            }
            inner = self.work.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        Some((Arc::clone(&inner.latest), std::mem::take(&mut inner.waiting)))
    }
}

/// However the thread ends, nobody waits for it any more.
struct EndsWith<S>(Arc<Shared<S>>);

impl<S> Drop for EndsWith<S> {
    fn drop(&mut self) {
        let mut inner = self.0.inner();
        inner.ended = true;
        inner.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Notes what it is told.
    struct Noted(Arc<Mutex<Vec<String>>>);

    impl Follower<Vec<u32>> for Noted {
        fn kept(&mut self, state: &Vec<u32>) {
            self.0.lock().unwrap().push(format!("kept {state:?}"));
        }

        fn undone(&mut self, state: &Vec<u32>) {
            self.0.lock().unwrap().push(format!("undone to {state:?}"));
        }
    }

    /// An owner whose disk waits for a word before each write: whether it works.
    struct Bench {
        owner: Owner<Vec<u32>>,
        disk: mpsc::Sender<bool>,
        /// One for each write that began.
        begun: mpsc::Receiver<Vec<u32>>,
        noted: Arc<Mutex<Vec<String>>>,
    }

    fn bench() -> Bench {
        let (disk, words) = mpsc::channel();
        let (begin, begun) = mpsc::channel();
        let noted = Arc::new(Mutex::new(Vec::new()));
        let write = move |state: &Vec<u32>| {
            begin.send(state.clone()).unwrap();
            if words.recv().unwrap() {
                return Ok(());
            }
            Err(StoreError::Disk {
                path: "state".into(),
                source: std::io::Error::from(std::io::ErrorKind::StorageFull),
            })
        };
        let owner = Owner::start(Vec::new(), write, Noted(Arc::clone(&noted))).unwrap();
        Bench {
            owner,
            disk,
            begun,
            noted,
        }
    }

    impl Bench {
        async fn push(&self, number: u32) -> Result<(), NotKept> {
            let push = |state: &mut Vec<u32>| {
                state.push(number);
                Ok(())
            };
            self.owner.change(push).await
        }
    }

    #[tokio::test]
    async fn changes_that_wait_together_are_written_once_and_seen_when_they_are() {
        let bench = bench();
        let mut first = Box::pin(bench.push(1));
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        assert_eq!(bench.begun.recv().unwrap(), [1]);
        let mut others: Vec<_> = (2..=5).map(|number| Box::pin(bench.push(number))).collect();
        for other in &mut others {
            assert!(futures_util::poll!(other.as_mut()).is_pending());
        }
        assert!(bench.owner.read().is_empty(), "nothing is on disk yet");
        bench.disk.send(true).unwrap();
        first.await.unwrap();
        assert_eq!(bench.begun.recv().unwrap(), [1, 2, 3, 4, 5]);
        assert_eq!(*bench.owner.read(), [1]);
        bench.disk.send(true).unwrap();
        for other in others {
            other.await.unwrap();
        }
        assert_eq!(*bench.owner.read(), [1, 2, 3, 4, 5]);
        assert_eq!(*bench.noted.lock().unwrap(), ["kept [1]", "kept [1, 2, 3, 4, 5]"]);
    }

    #[tokio::test]
    async fn what_can_not_be_written_is_undone_with_all_that_was_built_on_it() {
        let bench = bench();
        bench.disk.send(true).unwrap();
        bench.push(1).await.unwrap();
        let mut lost = Box::pin(bench.push(2));
        assert!(futures_util::poll!(lost.as_mut()).is_pending());
        assert_eq!(bench.begun.recv().unwrap(), [1]);
        assert_eq!(bench.begun.recv().unwrap(), [1, 2]);
        let mut upon_it = Box::pin(bench.push(3));
        assert!(futures_util::poll!(upon_it.as_mut()).is_pending());
        bench.disk.send(false).unwrap();
        let reason = lost.await.unwrap_err().to_string();
        assert!(reason.contains("not kept: state: "), "{reason}");
        upon_it.await.unwrap_err();
        assert_eq!(*bench.owner.read(), [1]);
        bench.disk.send(true).unwrap();
        bench.push(4).await.unwrap();
        assert_eq!(*bench.owner.read(), [1, 4]);
        assert_eq!(
            *bench.noted.lock().unwrap(),
            ["kept [1]", "undone to [1]", "kept [1, 4]"]
        );
    }

    #[tokio::test]
    async fn a_refused_change_leaves_nothing_and_is_not_written() {
        let bench = bench();
        let refused: Result<(), NotKept> = bench
            .owner
            .change(|state| {
                state.push(1);
                Err(NotKept::Ended)
            })
            .await;
        refused.unwrap_err();
        bench.disk.send(true).unwrap();
        bench.push(2).await.unwrap();
        assert_eq!(bench.begun.recv().unwrap(), [2]);
    }
}
