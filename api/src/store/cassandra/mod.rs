//! The store for Apache Cassandra and ScyllaDB.
//!
//! This folder is the only place with CQL; `statements` holds it, `api/schema` holds the tables. Every write of a
//! document is a lightweight transaction of its own partition (`cas`, `documents`), the list of a collection's documents
//! is a table of hints beside them (`list`). Any operation is answered within [`OPERATION_TIMEOUT`].

mod cas;
mod collections;
mod connect;
mod documents;
mod keys;
mod list;
mod schema;
mod statements;
mod sweep;
pub(super) mod tls;
mod turns;

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use scylla::client::session::Session;
use tokio::sync::Semaphore;

use self::cas::{Failure, Progress};
use self::statements::{Profiles, Statements};
use self::sweep::Sweeper;
use self::turns::Turns;
use super::{
    AccessOpen, Collection, CollectionPut, Cursor, Delete, DocumentCreate, DocumentPatched, DocumentPut,
    KeyCreate, KeyRecord, LargeWork, OpenError, OpenMode, OpenOptions, Page, PageLimits, PatchOrder, Store,
    StoreError, StoreErrorKind,
};
use crate::domain::{
    CollectionId, CollectionName, Document, DocumentId, JsonObject, Precondition, WriteStamp,
};

/// How long one operation may take, all its statements and repetitions together: three times the 3 s of a statement.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Most operations under way at once; more are refused right away. At 12 ms for an LWT this is 20,000 writes a second,
/// beyond what one instance serves; when the database stands still, it is what waits for 10 s.
const IN_FLIGHT_MAX: usize = 256;

/// Most sweeps and measurements of lists at once, beside the clients' operations.
const SWEEPS_MAX: usize = 4;

/// Collections whose list level is remembered: 24 bytes each.
const LEVELS_MAX: usize = 4096;

/// The partition of tables that have one for all.
const SPACE: &str = "default";

/// A store in a keyspace of a cluster. A clone is the same store.
#[derive(Clone)]
pub(super) struct CassandraStore {
    session: Arc<Session>,
    statements: Arc<Statements>,
    levels: Arc<Levels>,
    in_flight: Arc<Semaphore>,
    sweeps: Arc<Semaphore>,
    turns: Arc<Turns>,
    large: LargeWork,
    secret: [u8; 32],
    /// Ends with the last clone. Its own clone has none.
    sweeper: Option<Arc<Sweeper>>,
}

/// The highest list level of collections, as far as this instance knows. It may be too low: then a new document's row
/// goes to a partition that is fuller than it should be, which harms nothing.
#[derive(Default)]
struct Levels(RwLock<HashMap<CollectionId, u8>>);

impl Levels {
    fn get(&self, collection: CollectionId) -> Option<u8> {
        let levels = self.0.read().unwrap_or_else(PoisonError::into_inner);
        levels.get(&collection).copied()
    }

    fn set(&self, collection: CollectionId, level: u8) {
        if self.get(collection) == Some(level) {
            return;
        }
        let mut levels = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if levels.len() >= LEVELS_MAX {
            levels.clear();
        }
        levels.insert(collection, level);
    }
}

/// An operation under way.
type Work<'a, T> = BoxFuture<'a, Result<T, Failure>>;

impl CassandraStore {
    /// Waits for the cluster, makes keyspace and tables where they are missing, prepares the statements.
    pub(super) async fn open(
        store: &str,
        contact_points: &[String],
        keyspace: &str,
        options: &OpenOptions,
    ) -> Result<Self, OpenError> {
        let began = Instant::now();
        let session = connect::patiently(store, options, began, "connecting", || {
            connect::connect(contact_points, options).boxed()
        })
        .await?;
        let datacenter = connect::choose_datacenter(&session, contact_points, options).map_err(|source| {
            OpenError::Refused {
                store: store.to_owned(),
                detail: "its datacentre can't be chosen".to_owned(),
                source: Some(source),
            }
        })?;
        let keyspace_exists = session.get_cluster_state().get_keyspace(keyspace).is_some();
        if options.mode != OpenMode::Create && !keyspace_exists {
            return Err(OpenError::Refused {
                store: store.to_owned(),
                detail: "there is no such keyspace".to_owned(),
                source: None,
            });
        }
        if options.mode == OpenMode::Read {
            schema::check(&session, store, keyspace, options, began).await?;
        } else {
            connect::patiently(store, options, began, "its keyspace is being made", || {
                connect::make_keyspace(&session, keyspace, options).boxed()
            })
            .await?;
            schema::migrate(&session, store, keyspace, options, began).await?;
        }
        let profiles = Profiles::new(&datacenter);
        let statements = connect::patiently(store, options, began, "preparing statements", || {
            Statements::prepare(&session, keyspace, &profiles)
                .map_err(Into::into)
                .boxed()
        })
        .await?;
        let mut opened = Self {
            session: Arc::new(session),
            statements: Arc::new(statements),
            levels: Arc::default(),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
            sweeps: Arc::new(Semaphore::new(SWEEPS_MAX)),
            turns: Arc::default(),
            large: LargeWork::default(),
            secret: [0; 32],
            sweeper: None,
        };
        if options.mode == OpenMode::Read {
            return Ok(opened);
        }
        opened.secret = connect::patiently(store, options, began, "reading its secret", || {
            opened.secret().map_err(|failure| failure.source).boxed()
        })
        .await?;
        opened.sweeper = Some(Arc::new(Sweeper::start(opened.clone())));
        tracing::info!(store, datacenter, "the store is open");
        Ok(opened)
    }

    /// Runs an operation within its bounds. The work comes boxed: the driver's futures have 4 KB, and each function that
    /// takes one by value holds it two or three times and copies it on.
    async fn bounded<T>(
        &self,
        operation: &'static str,
        subject: &(dyn Display + Sync),
        progress: &Progress,
        work: Work<'_, T>,
    ) -> Result<T, StoreError> {
        let Ok(_permit) = self.in_flight.try_acquire() else {
            let kind = StoreErrorKind::Unavailable;
            return Err(StoreError::new(
                kind,
                operation,
                &subject,
                "too many operations are under way",
            ));
        };
        let failure = match tokio::time::timeout(OPERATION_TIMEOUT, work).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(failure)) => failure,
            Err(elapsed) => Failure::unavailable(elapsed),
        };
        let kind = match failure.kind {
            StoreErrorKind::Unavailable if progress.is_open() => StoreErrorKind::UnknownOutcome,
            kind => kind,
        };
        Err(StoreError::new(kind, operation, &subject, failure.source))
    }

    /// [`Self::bounded`] for operations that write nothing.
    async fn bounded_read<T>(
        &self,
        operation: &'static str,
        subject: &(dyn Display + Sync),
        work: Work<'_, T>,
    ) -> Result<T, StoreError> {
        self.bounded(operation, subject, &Progress::default(), work).await
    }
}

#[async_trait]
impl Store for CassandraStore {
    async fn ready(&self) -> Result<(), StoreError> {
        let work = async {
            let answer = self.session.execute_unpaged(&self.statements.ready, ()).await;
            answer.map(|_| ()).map_err(Failure::of_query)
        };
        self.bounded_read("ready", &"the store", work.boxed()).await
    }

    async fn cluster_secret(&self) -> Result<[u8; 32], StoreError> {
        Ok(self.secret)
    }

    async fn collection_put(
        &self,
        name: &CollectionName,
        precondition: &Precondition,
        stamp: WriteStamp,
    ) -> Result<CollectionPut, StoreError> {
        let progress = Progress::default();
        let work = self.put_collection(&progress, name, precondition, stamp).boxed();
        self.bounded("collection_put", name, &progress, work).await
    }

    async fn collection_fetch(&self, name: &CollectionName) -> Result<Option<Collection>, StoreError> {
        self.bounded_read("collection_fetch", name, self.fetch_collection(name).boxed())
            .await
    }

    async fn collection_list(
        &self,
        after: Option<&CollectionName>,
        limit: usize,
    ) -> Result<Vec<Collection>, StoreError> {
        self.bounded_read(
            "collection_list",
            &"collections",
            self.list_collections(after, limit).boxed(),
        )
        .await
    }

    async fn collection_delete(
        &self,
        name: &CollectionName,
        precondition: &Precondition,
    ) -> Result<Delete, StoreError> {
        let progress = Progress::default();
        let work = self.delete_collection(&progress, name, precondition).boxed();
        self.bounded("collection_delete", name, &progress, work).await
    }

    async fn document_create(
        &self,
        collection: CollectionId,
        id: &DocumentId,
        data: &JsonObject,
        stamp: WriteStamp,
    ) -> Result<DocumentCreate, StoreError> {
        let progress = Progress::default();
        let work = self.create(&progress, collection, id, data, stamp).boxed();
        self.bounded("document_create", id, &progress, work).await
    }

    async fn document_fetch(
        &self,
        collection: CollectionId,
        id: &DocumentId,
    ) -> Result<Option<Document>, StoreError> {
        self.bounded_read("document_fetch", id, self.fetch(collection, id).boxed())
            .await
    }

    async fn document_put(
        &self,
        collection: CollectionId,
        id: &DocumentId,
        data: &JsonObject,
        precondition: &Precondition,
        stamp: WriteStamp,
    ) -> Result<DocumentPut, StoreError> {
        let progress = Progress::default();
        let work = self
            .put(&progress, collection, id, data, (precondition, stamp))
            .boxed();
        self.bounded("document_put", id, &progress, work).await
    }

    async fn document_patch(
        &self,
        collection: CollectionId,
        id: &DocumentId,
        order: &PatchOrder,
        stamp: WriteStamp,
    ) -> Result<DocumentPatched, StoreError> {
        let progress = Progress::default();
        let work = self.patch(&progress, collection, id, order, stamp).boxed();
        self.bounded("document_patch", id, &progress, work).await
    }

    async fn document_delete(
        &self,
        collection: CollectionId,
        id: &DocumentId,
        precondition: &Precondition,
        stamp: WriteStamp,
    ) -> Result<Delete, StoreError> {
        let progress = Progress::default();
        let work = self
            .delete(&progress, collection, id, precondition, stamp)
            .boxed();
        self.bounded("document_delete", id, &progress, work).await
    }

    async fn document_page(
        &self,
        collection: CollectionId,
        cursor: Option<&Cursor>,
        limits: PageLimits,
    ) -> Result<Page, StoreError> {
        self.bounded_read(
            "document_page",
            &collection,
            self.page(collection, cursor, limits).boxed(),
        )
        .await
    }

    async fn access_is_closed(&self) -> Result<bool, StoreError> {
        self.bounded_read("access_is_closed", &"the store", self.is_closed().boxed())
            .await
    }

    async fn access_close(&self) -> Result<(), StoreError> {
        let progress = Progress::default();
        let work = self.close_access(&progress).boxed();
        self.bounded("access_close", &"the store", &progress, work).await
    }

    async fn access_open(&self) -> Result<AccessOpen, StoreError> {
        let progress = Progress::default();
        let work = self.open_access(&progress).boxed();
        self.bounded("access_open", &"the store", &progress, work).await
    }

    /// Every acknowledged write is with the cluster already.
    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn key_create(&self, key: &KeyRecord) -> Result<KeyCreate, StoreError> {
        let progress = Progress::default();
        self.bounded(
            "key_create",
            &key.name,
            &progress,
            self.create_key(&progress, key).boxed(),
        )
        .await
    }

    async fn key_list(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.bounded_read("key_list", &"keys", self.list_keys().boxed())
            .await
    }

    async fn key_delete(&self, name: &str) -> Result<bool, StoreError> {
        let progress = Progress::default();
        self.bounded(
            "key_delete",
            &name,
            &progress,
            self.delete_key(&progress, name).boxed(),
        )
        .await
    }
}
