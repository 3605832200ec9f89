//! A store that times every operation of another one.

use std::sync::Arc;

use async_trait::async_trait;
use prometheus::{Histogram, HistogramOpts, HistogramVec, Registry};

use super::{
    AccessOpen, Collection, CollectionPut, Cursor, Delete, DocumentCreate, DocumentPatched, DocumentPut,
    KeyCreate, KeyRecord, Page, PageLimits, PatchOrder, Store, StoreError,
};
use crate::domain::{
    CollectionId, CollectionName, Document, DocumentId, JsonObject, Precondition, WriteStamp,
};

/// Upper edges in seconds. A hot SQLite read takes some 10 µs, an LWT some ms, the slowest answer 15 s.
const BUCKETS: [f64; 14] = [
    0.000_02, 0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0,
];

/// Wraps a store so that it records `tidepool_store_duration_seconds{operation}` in `registry`.
///
/// # Errors
/// The registry's, when it has such a metric already.
pub fn observed(store: Arc<dyn Store>, registry: &Registry) -> Result<Arc<dyn Store>, prometheus::Error> {
    let durations = HistogramVec::new(
        HistogramOpts::new(
            "tidepool_store_duration_seconds",
            "Time from calling the store to its answer, by operation; failed ones included.",
        )
        .buckets(BUCKETS.to_vec()),
        &["operation"],
    )?;
    registry.register(Box::new(durations.clone()))?;
    Ok(Arc::new(Observed {
        timers: Timers::new(&durations),
        store,
    }))
}

struct Observed {
    store: Arc<dyn Store>,
    timers: Timers,
}

/// Labels are looked up once: a lookup costs a hash and a lock, and this is the hot path.
macro_rules! timers {
    ($($operation:ident),* $(,)?) => {
        struct Timers {
            $($operation: Histogram,)*
        }

        impl Timers {
            fn new(durations: &HistogramVec) -> Self {
                Self { $($operation: durations.with_label_values(&[stringify!($operation)]),)* }
            }
        }
    };
}

timers! {
    ready, cluster_secret, collection_put, collection_fetch, collection_list, collection_delete, document_create,
    document_fetch, document_put, document_patch, document_delete, document_page, access_is_closed, access_close,
    access_open, close, key_create, key_list, key_delete,
}

/// Times one call; a timer records when it is dropped, so cancelled calls count too.
macro_rules! timed {
    ($self:ident . $operation:ident ( $($argument:expr),* )) => {{
        let _timer = $self.timers.$operation.start_timer();
        $self.store.$operation($($argument),*).await
    }};
}

#[async_trait]
impl Store for Observed {
    async fn ready(&self) -> Result<(), StoreError> {
        timed!(self.ready())
    }

    async fn cluster_secret(&self) -> Result<[u8; 32], StoreError> {
        timed!(self.cluster_secret())
    }

    async fn collection_put(
        &self,
        name: &CollectionName,
        precondition: &Precondition,
        stamp: WriteStamp,
    ) -> Result<CollectionPut, StoreError> {
        timed!(self.collection_put(name, precondition, stamp))
    }

    async fn collection_fetch(&self, name: &CollectionName) -> Result<Option<Collection>, StoreError> {
        timed!(self.collection_fetch(name))
    }

    async fn collection_list(
        &self,
        after: Option<&CollectionName>,
        limit: usize,
    ) -> Result<Vec<Collection>, StoreError> {
        timed!(self.collection_list(after, limit))
    }

    async fn collection_delete(
        &self,
        name: &CollectionName,
        precondition: &Precondition,
    ) -> Result<Delete, StoreError> {
        timed!(self.collection_delete(name, precondition))
    }

    async fn document_create(
        &self,
        collection: CollectionId,
        id: &DocumentId,
        data: &JsonObject,
        stamp: WriteStamp,
    ) -> Result<DocumentCreate, StoreError> {
        timed!(self.document_create(collection, id, data, stamp))
    }

    async fn document_fetch(
        &self,
        collection: CollectionId,
        id: &DocumentId,
    ) -> Result<Option<Document>, StoreError> {
        timed!(self.document_fetch(collection, id))
    }

    async fn document_put(
        &self,
        collection: CollectionId,
        id: &DocumentId,
        data: &JsonObject,
        precondition: &Precondition,
        stamp: WriteStamp,
    ) -> Result<DocumentPut, StoreError> {
        timed!(self.document_put(collection, id, data, precondition, stamp))
    }

    async fn document_patch(
        &self,
        collection: CollectionId,
        id: &DocumentId,
        order: &PatchOrder,
        stamp: WriteStamp,
    ) -> Result<DocumentPatched, StoreError> {
        timed!(self.document_patch(collection, id, order, stamp))
    }

    async fn document_delete(
        &self,
        collection: CollectionId,
        id: &DocumentId,
        precondition: &Precondition,
        stamp: WriteStamp,
    ) -> Result<Delete, StoreError> {
        timed!(self.document_delete(collection, id, precondition, stamp))
    }

    async fn document_page(
        &self,
        collection: CollectionId,
        cursor: Option<&Cursor>,
        limits: PageLimits,
    ) -> Result<Page, StoreError> {
        timed!(self.document_page(collection, cursor, limits))
    }

    async fn access_is_closed(&self) -> Result<bool, StoreError> {
        timed!(self.access_is_closed())
    }

    async fn access_close(&self) -> Result<(), StoreError> {
        timed!(self.access_close())
    }

    async fn access_open(&self) -> Result<AccessOpen, StoreError> {
        timed!(self.access_open())
    }

    async fn close(&self) -> Result<(), StoreError> {
        timed!(self.close())
    }

    async fn key_create(&self, key: &KeyRecord) -> Result<KeyCreate, StoreError> {
        timed!(self.key_create(key))
    }

    async fn key_list(&self) -> Result<Vec<KeyRecord>, StoreError> {
        timed!(self.key_list())
    }

    async fn key_delete(&self, name: &str) -> Result<bool, StoreError> {
        timed!(self.key_delete(name))
    }
}
