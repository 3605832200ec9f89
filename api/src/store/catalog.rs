//! What an instance remembers about collections, so that the hot path asks no database which collection a name means.
//!
//! An entry counts for [`CACHE_AGE_MAX`] from *before* it was asked for, and dropping a collection waits
//! [`COLLECTION_STALE_MAX`], which is longer, before it answers. A write that took a dropped collection's id from here
//! therefore began before the drop was answered: the two overlap, and the write counts as the earlier one.
//! That a collection is missing is never remembered: a collection can be used as soon as its PUT has answered, on
//! every instance.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{COLLECTION_STALE_MAX, Collection, CollectionPut, Delete, Store, StoreError};
use crate::domain::{CollectionName, Precondition, WriteStamp};

/// How old an entry may be when it is used. 50 ms below [`COLLECTION_STALE_MAX`]: room for coarse timers.
const CACHE_AGE_MAX: Duration = Duration::from_millis(200);

/// An entry older than this is fetched again in the background while it still serves, so that no request of a busy
/// collection waits for the database. Half of the age leaves the fetch 100 ms.
const REFRESH_AGE: Duration = Duration::from_millis(100);

/// Most collections remembered: 4,096 entries of about 400 bytes are 1.6 MB. Beyond, expired ones make room; if there
/// are none, the newcomer is not remembered and costs a fetch each time.
const ENTRIES_MAX: usize = 4096;

/// Names to collections, remembered for a moment.
#[derive(Clone)]
pub struct CollectionCatalog {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    entries: RwLock<HashMap<CollectionName, Entry>>,
    flights: RwLock<HashMap<CollectionName, Flight>>,
    flights_begun: AtomicU64,
}

struct Entry {
    collection: Arc<Collection>,
    /// Taken before the store was asked.
    asked_at: Instant,
}

/// A fetch under way; those who come later wait for it instead of asking again.
#[derive(Clone)]
struct Flight {
    /// Tells flights of one name apart.
    number: u64,
    asked_at: Instant,
    answer: watch::Receiver<Option<Answer>>,
}

type Answer = Result<Option<Arc<Collection>>, Arc<StoreError>>;

impl CollectionCatalog {
    /// An empty catalog over a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            inner: Arc::new(Inner {
                store,
                entries: RwLock::default(),
                flights: RwLock::default(),
                flights_begun: AtomicU64::new(0),
            }),
        }
    }

    /// The collection of that name, at most [`COLLECTION_STALE_MAX`] old; `None` if there is none now.
    ///
    /// # Errors
    /// The store's, when it has to be asked.
    pub async fn collection(&self, name: &CollectionName) -> Result<Option<Arc<Collection>>, StoreError> {
        let now = Instant::now();
        if let Some((collection, age)) = self.inner.remembered(name, now) {
            if age >= REFRESH_AGE {
                self.inner.refresh(name);
            }
            return Ok(Some(collection));
        }
        self.inner.fetch(name, now).await
    }

    /// Makes a collection or replaces its settings; see [`Store::collection_put`].
    ///
    /// # Errors
    /// The store's.
    pub async fn put(
        &self,
        name: &CollectionName,
        precondition: &Precondition,
        stamp: WriteStamp,
    ) -> Result<CollectionPut, StoreError> {
        let put = self.inner.store.collection_put(name, precondition, stamp).await;
        self.inner.forget(name);
        put
    }

    /// Drops a collection and waits until no instance takes it for existing any more.
    ///
    /// # Errors
    /// The store's.
    pub async fn delete(
        &self,
        name: &CollectionName,
        precondition: &Precondition,
    ) -> Result<Delete, StoreError> {
        let deleted = self.inner.store.collection_delete(name, precondition).await;
        self.inner.forget(name);
        // Also after an unknown outcome: it may have happened.
        if !matches!(deleted, Ok(Delete::Missing | Delete::PreconditionFailed)) {
            tokio::time::sleep(COLLECTION_STALE_MAX).await;
        }
        deleted
    }
}

impl Inner {
    fn remembered(&self, name: &CollectionName, now: Instant) -> Option<(Arc<Collection>, Duration)> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(name)?;
        let age = now.saturating_duration_since(entry.asked_at);
        (age < CACHE_AGE_MAX).then(|| (Arc::clone(&entry.collection), age))
    }

    /// Asks the store, or waits for whoever is asking. An answer that was asked for before `arrived` may be older than
    /// what this caller has seen; that the collection is missing is believed only from a fetch begun after.
    async fn fetch(
        self: &Arc<Self>,
        name: &CollectionName,
        arrived: Instant,
    ) -> Result<Option<Arc<Collection>>, StoreError> {
        loop {
            let mut flight = self.flight(name);
            let answer = match flight.answer.wait_for(Option::is_some).await {
                Ok(answer) => answer.clone(),
                // The task that asked is gone without an answer (the runtime shuts down).
                Err(_) => None,
            };
            match answer {
                Some(Ok(Some(collection))) if flight.asked_at.elapsed() < CACHE_AGE_MAX => {
                    return Ok(Some(collection));
                }
                // Too old to be used: the database took longer than an entry may live. This caller's own answer is
                // as good as a direct question, for it was asked after the caller arrived.
                Some(Ok(found)) if flight.asked_at >= arrived => return Ok(found),
                Some(Err(error)) if flight.asked_at >= arrived => return Err(copy_of(&error)),
                None => return Err(copy_of(&aborted(name))),
                Some(_) => {}
            }
        }
    }

    fn refresh(self: &Arc<Self>, name: &CollectionName) {
        drop(self.flight(name));
    }

    /// The fetch under way for a name; a new one if there is none.
    fn flight(self: &Arc<Self>, name: &CollectionName) -> Flight {
        if let Some(flight) = self
            .flights
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
        {
            return flight.clone();
        }
        let mut flights = self.flights.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(name) {
            return flight.clone();
        }
        let (sender, answer) = watch::channel(None);
        let flight = Flight {
            number: self.flights_begun.fetch_add(1, Ordering::Relaxed),
            asked_at: Instant::now(),
            answer,
        };
        flights.insert(name.clone(), flight.clone());
        drop(flights);
        let landing = Landing {
            inner: Arc::clone(self),
            name: name.clone(),
            number: flight.number,
        };
        let asked_at = flight.asked_at;
        tokio::spawn(async move {
            let fetched = landing.inner.store.collection_fetch(&landing.name).await;
            let answer = match fetched {
                Ok(found) => {
                    let found = found.map(Arc::new);
                    landing.remember(found.as_ref(), asked_at);
                    Ok(found)
                }
                Err(error) => Err(Arc::new(error)),
            };
            // First off the board, then answered: whoever asks again after the answer starts a new fetch.
            drop(landing);
            sender.send_replace(Some(answer));
        });
        flight
    }

    fn remember(&self, name: &CollectionName, entry: Entry) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let known = entries.contains_key(name);
        if entries.len() >= ENTRIES_MAX && !known {
            entries.retain(|_, entry| entry.asked_at.elapsed() < CACHE_AGE_MAX);
        }
        if known || entries.len() < ENTRIES_MAX {
            entries.insert(name.clone(), entry);
        }
    }

    fn forget(&self, name: &CollectionName) {
        // First the fetch under way, which may carry the state from before: then it can't be remembered after.
        self.flights
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
        self.entries
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }
}

/// Takes its flight off the board, also when the task is cancelled or panics.
struct Landing {
    inner: Arc<Inner>,
    name: CollectionName,
    number: u64,
}

impl Landing {
    /// Remembers what was found, unless the collection was written here since the fetch began.
    fn remember(&self, found: Option<&Arc<Collection>>, asked_at: Instant) {
        let flights = self.inner.flights.read().unwrap_or_else(PoisonError::into_inner);
        if flights.get(&self.name).map(|flight| flight.number) != Some(self.number) {
            return;
        }
        match found {
            Some(collection) => {
                let collection = Arc::clone(collection);
                self.inner.remember(&self.name, Entry { collection, asked_at });
            }
            None => {
                self.inner
                    .entries
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&self.name);
            }
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut flights = self.inner.flights.write().unwrap_or_else(PoisonError::into_inner);
        if flights.get(&self.name).map(|flight| flight.number) == Some(self.number) {
            flights.remove(&self.name);
        }
    }
}

fn aborted(name: &CollectionName) -> StoreError {
    StoreError::new(
        super::StoreErrorKind::Unavailable,
        "collection_fetch",
        name,
        "the fetch was aborted",
    )
}

/// Every caller who waited for a failed fetch gets the error; the source stays shared.
fn copy_of(error: &StoreError) -> StoreError {
    StoreError {
        kind: error.kind,
        operation: error.operation,
        subject: error.subject.clone(),
        source: error.source.as_ref().map(|source| source.to_string().into()),
    }
}
