//! The embedded store: one SQLite file in WAL mode, which several processes on one machine may share.
//!
//! This folder is the only place with SQL. `statements` holds it, `writer` groups commits, `reader` hands out
//! connections, `connect` and `schema` open the file and migrate it, `watch` sees whether it is still there (`unnoticed`), `backup` copies it to a `place`.
//! `one_name`, `beside`, `header`, `locks` and `lineage` refuse a file whose log would not be its own. Writes are answered within 15 s, reads within
//! 10 s.

pub mod backup;
pub(crate) mod beside;
mod connect;
mod disk;
mod header;
mod lineage;
mod locks;
mod one_name;
mod ownership;
mod place;
mod reader;
mod schema;
mod statements;
mod unnoticed;
mod watch;
mod writer;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode};

use self::reader::{ReadFailure, Readers, Size};
use self::statements::CollectionPutStep;
use self::watch::{FileLost, FileWatch};
use self::writer::{WriteFailure, Writer};
use super::{
    AccessOpen, COLLECTION_STALE_MAX, Collection, CollectionPut, Cursor, Delete, DocumentCreate,
    DocumentPatched, DocumentPut, KeyCreate, KeyRecord, OpenError, OpenMode, OpenOptions, Page, PageLimits,
    PatchOrder, Store, StoreError, StoreErrorKind,
};
use crate::domain::{
    CollectionId, CollectionName, Document, DocumentId, JsonObject, Precondition, WriteStamp,
};

/// What a write weighs in the queue beside its data: row, index and job.
const WRITE_BYTES: usize = 512;

/// A page of at most this many documents is read on the caller's thread, some 50 µs, as long as it has at most
/// [`SMALL_PAGE_BYTES_MAX`].
const SMALL_PAGE_MAX: usize = 100;

/// Reading this much takes some 0.2 ms. A page that turns out larger is begun again on a blocking thread.
const SMALL_PAGE_BYTES_MAX: usize = 256 * 1024;

/// How often dropped collections are looked for. Another process may have dropped them.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Pause between two sweeps that found something: at most 20 × 200 documents a second, some percent of the writer.
const SWEEP_PAUSE: Duration = Duration::from_millis(50);

/// How often putting a collection waits for a drop of the same name. Each time somebody else has made it and dropped it
/// again in between.
const RECREATE_ATTEMPTS_MAX: u32 = 4;

/// How long the checkpoint at the end waits for readers in other processes; what they keep from it stays in the log, which
/// loses nothing.
const CHECKPOINT_WAIT_MAX: Duration = Duration::from_secs(1);

/// A store in an SQLite file.
pub(super) struct SqliteStore {
    file: PathBuf,
    readers: Readers,
    /// `None`: the store was only opened to look at it.
    changes: Option<Changes>,
}

/// What it takes to change a store.
struct Changes {
    writer: Arc<Writer>,
    watch: Arc<FileWatch>,
}

impl SqliteStore {
    /// Opens the file, makes it if it is missing, and migrates it.
    pub(super) async fn open(file: &Path, options: &OpenOptions) -> Result<Self, OpenError> {
        let refused = |detail: &str, source: Box<dyn std::error::Error + Send + Sync>| OpenError::Refused {
            store: format!("sqlite:{}", file.display()),
            detail: detail.to_owned(),
            source: Some(source),
        };
        let (path, options) = (file.to_owned(), options.clone());
        if options.mode == OpenMode::Read {
            tokio::task::spawn_blocking(move || schema::open_to_look(&path))
                .await
                .map_err(|error| refused("opening was aborted", error.into()))??;
            return Ok(Self {
                file: file.to_owned(),
                readers: Readers::new(file.to_owned(), None),
                changes: None,
            });
        }
        let (connection, watch) = tokio::task::spawn_blocking(move || schema::open_writer(&path, &options))
            .await
            .map_err(|error| refused("opening was aborted", error.into()))??;
        let watch = Arc::new(watch);
        let writer = Writer::start(connection, Arc::clone(&watch))
            .map(Arc::new)
            .map_err(|error| refused("the writer's thread can't be started", error.into()))?;
        tokio::spawn(sweep(Arc::downgrade(&writer)));
        Ok(Self {
            file: file.to_owned(),
            readers: Readers::new(file.to_owned(), Some(Arc::clone(&watch))),
            changes: Some(Changes { writer, watch }),
        })
    }

    /// Whether every write would fail: the writer has ended, the files were lost, or the last group failed and a write
    /// that is tried now fails as well.
    async fn check_writes(&self) -> Result<(), StoreError> {
        let Some(changes) = &self.changes else {
            return Ok(());
        };
        let unready = |reason: String| {
            Err(StoreError::new(
                StoreErrorKind::Unavailable,
                "ready",
                &"the store",
                reason,
            ))
        };
        if !changes.writer.is_alive() {
            return unready("the writer has ended".to_owned());
        }
        if let Err(lost) = changes.watch.check_names() {
            changes.writer.note_lost(&lost);
            return unready(lost.to_string());
        }
        // An answer to this question alone would not show when the disk has room again.
        if changes.writer.failing().is_some() {
            self.write("ready", &"the store", 0, statements::probe_write)
                .await?;
        }
        if let Some(reason) = changes.writer.failing() {
            return unready(reason);
        }
        Ok(())
    }

    async fn read<T, F>(
        &self,
        operation: &'static str,
        subject: &(dyn Display + Sync),
        size: Size,
        query: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.readers.read(size, query).await.map_err(|failure| {
            let kind = match &failure {
                ReadFailure::TooSlow(_) => StoreErrorKind::Unavailable,
                ReadFailure::Query(error) => kind_of(error),
            };
            StoreError::new(kind, operation, &subject, failure)
        })
    }

    async fn write<T, F>(
        &self,
        operation: &'static str,
        subject: &(dyn Display + Sync),
        bytes: usize,
        statement: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.write_weighed(operation, subject, bytes, statement, |_| 0)
            .await
    }

    /// [`Self::write`] for what is known to weigh more only when it is done; `weigh` says how much more.
    async fn write_weighed<T, F>(
        &self,
        operation: &'static str,
        subject: &(dyn Display + Sync),
        bytes: usize,
        statement: F,
        weigh: fn(&T) -> usize,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let Some(changes) = &self.changes else {
            return Err(StoreError::new(
                StoreErrorKind::Internal,
                operation,
                &subject,
                "the store was opened to look at it",
            ));
        };
        let written = changes.writer.write(WRITE_BYTES + bytes, statement, weigh).await;
        written.map_err(|failure| {
            let kind = match &failure {
                WriteFailure::NotWritten(_) => StoreErrorKind::Unavailable,
                WriteFailure::Unknown(_) => StoreErrorKind::UnknownOutcome,
                WriteFailure::Statement(error) => kind_of(error),
            };
            StoreError::new(kind, operation, &subject, failure)
        })
    }
}

/// Why the log could not be brought into the database file at the end.
#[derive(Debug, thiserror::Error)]
enum CloseFailure {
    #[error("the log can't be brought into the database file")]
    Checkpoint(#[from] rusqlite::Error),
    #[error("{0}")]
    Lost(#[from] FileLost),
}

/// How a caller should take an error of SQLite's that left nothing written.
fn kind_of(error: &rusqlite::Error) -> StoreErrorKind {
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted,
        ) => StoreErrorKind::Unavailable,
        _ => StoreErrorKind::Internal,
    }
}

/// Deletes the documents of dropped collections, a few at a time, for as long as the store is open.
async fn sweep(writer: std::sync::Weak<Writer>) {
    loop {
        let swept = match writer.upgrade() {
            Some(writer) => writer.write(WRITE_BYTES, statements::sweep, |_| 0).await,
            None => return,
        };
        let pause = match swept {
            Ok(true) => SWEEP_PAUSE,
            Ok(false) => SWEEP_INTERVAL,
            Err(failure) => {
                tracing::warn!(error = %failure, "dropped collections could not be swept; trying later");
                SWEEP_INTERVAL
            }
        };
        tokio::time::sleep(pause).await;
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn ready(&self) -> Result<(), StoreError> {
        self.check_writes().await?;
        self.read("ready", &"the store", Size::Small, statements::ready)
            .await
    }

    async fn cluster_secret(&self) -> Result<[u8; 32], StoreError> {
        self.read(
            "cluster_secret",
            &"the store",
            Size::Small,
            statements::cluster_secret,
        )
        .await
    }

    async fn collection_put(
        &self,
        name: &CollectionName,
        precondition: &Precondition,
        stamp: WriteStamp,
    ) -> Result<CollectionPut, StoreError> {
        let mut waited_for = None;
        for _ in 0..RECREATE_ATTEMPTS_MAX {
            let (owned, demanded) = (name.clone(), precondition.clone());
            let step = self
                .write("collection_put", name, 0, move |connection| {
                    statements::collection_put(connection, &owned, &demanded, stamp, waited_for)
                })
                .await?;
            match step {
                CollectionPutStep::Done(put) => return Ok(put),
                CollectionPutStep::DroppedJustNow(id) => {
                    tokio::time::sleep(COLLECTION_STALE_MAX).await;
                    waited_for = Some(id);
                }
            }
        }
        Err(StoreError::new(
            StoreErrorKind::Unavailable,
            "collection_put",
            name,
            "others keep making and dropping it",
        ))
    }

    async fn collection_fetch(&self, name: &CollectionName) -> Result<Option<Collection>, StoreError> {
        let owned = name.clone();
        self.read("collection_fetch", name, Size::Small, move |connection| {
            statements::collection_fetch(connection, &owned)
        })
        .await
    }

    async fn collection_list(
        &self,
        after: Option<&CollectionName>,
        limit: usize,
    ) -> Result<Vec<Collection>, StoreError> {
        let after = after.cloned();
        self.read(
            "collection_list",
            &"collections",
            Size::Large,
            move |connection| statements::collection_list(connection, after.as_ref(), limit),
        )
        .await
    }

    async fn collection_delete(
        &self,
        name: &CollectionName,
        precondition: &Precondition,
    ) -> Result<Delete, StoreError> {
        let (owned, demanded) = (name.clone(), precondition.clone());
        self.write("collection_delete", name, 0, move |connection| {
            statements::collection_delete(connection, &owned, &demanded)
        })
        .await
    }

    async fn document_create(
        &self,
        collection: CollectionId,
        id: &DocumentId,
        data: &JsonObject,
        stamp: WriteStamp,
    ) -> Result<DocumentCreate, StoreError> {
        let bytes = data.as_bytes().len();
        let (owned, data) = (id.clone(), data.clone());
        self.write("document_create", id, bytes, move |connection| {
            statements::document_create(connection, collection, &owned, &data, stamp)
        })
        .await
    }

    async fn document_fetch(
        &self,
        collection: CollectionId,
        id: &DocumentId,
    ) -> Result<Option<Document>, StoreError> {
        let owned = id.clone();
        self.read("document_fetch", id, Size::Small, move |connection| {
            statements::document_fetch(connection, collection, &owned)
        })
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
        let bytes = data.as_bytes().len();
        let (owned, data, demanded) = (id.clone(), data.clone(), precondition.clone());
        self.write("document_put", id, bytes, move |connection| {
            statements::document_put(connection, collection, &owned, &data, &demanded, stamp)
        })
        .await
    }

    /// The writer reads, merges and writes: nobody can come between. Merging takes some us, of a document of 1 MiB some
    /// ms, as its writing does.
    async fn document_patch(
        &self,
        collection: CollectionId,
        id: &DocumentId,
        order: &PatchOrder,
        stamp: WriteStamp,
    ) -> Result<DocumentPatched, StoreError> {
        let bytes = order.patch.bytes();
        let (owned, order) = (id.clone(), order.clone());
        let statement = move |connection: &Connection| {
            statements::document_patch(connection, collection, &owned, &order, stamp)
        };
        let weigh = |patched: &DocumentPatched| match patched {
            DocumentPatched::Patched(document) => document.data.as_bytes().len(),
            _ => 0,
        };
        self.write_weighed("document_patch", id, bytes, statement, weigh)
            .await
    }

    async fn document_delete(
        &self,
        collection: CollectionId,
        id: &DocumentId,
        precondition: &Precondition,
        // A row that is gone leaves no version behind here: the nonce alone keeps versions from recurring.
        _stamp: WriteStamp,
    ) -> Result<Delete, StoreError> {
        let (owned, demanded) = (id.clone(), precondition.clone());
        self.write("document_delete", id, 0, move |connection| {
            statements::document_delete(connection, collection, &owned, &demanded)
        })
        .await
    }

    async fn document_page(
        &self,
        collection: CollectionId,
        cursor: Option<&Cursor>,
        limits: PageLimits,
    ) -> Result<Page, StoreError> {
        let after = match cursor.map(statements::cursor_id) {
            None => None,
            Some(Some(id)) => Some(id),
            Some(None) => {
                return Ok(Page {
                    documents: Vec::new(),
                    next: None,
                });
            }
        };
        if limits.items_max <= SMALL_PAGE_MAX {
            let (after, bytes_max) = (after.clone(), limits.bytes_max.min(SMALL_PAGE_BYTES_MAX));
            let small = PageLimits { bytes_max, ..limits };
            let page = self
                .read("document_page", &collection, Size::Small, move |connection| {
                    statements::document_page(connection, collection, after.as_ref(), small)
                })
                .await?;
            let cut = page.next.is_some() && page.documents.len() < limits.items_max;
            if !cut || bytes_max == limits.bytes_max {
                return Ok(page);
            }
        }
        self.read("document_page", &collection, Size::Large, move |connection| {
            statements::document_page(connection, collection, after.as_ref(), limits)
        })
        .await
    }

    async fn access_is_closed(&self) -> Result<bool, StoreError> {
        self.read(
            "access_is_closed",
            &"the store",
            Size::Large,
            statements::access_is_closed,
        )
        .await
    }

    async fn access_close(&self) -> Result<(), StoreError> {
        self.write("access_close", &"the store", 0, statements::access_close)
            .await
    }

    async fn access_open(&self) -> Result<AccessOpen, StoreError> {
        self.write("access_open", &"the store", 0, statements::access_open)
            .await
    }

    /// Brings everything from the log into the database file, so that a copy of that file alone is whole.
    async fn close(&self) -> Result<(), StoreError> {
        let Some(changes) = &self.changes else {
            return Ok(());
        };
        let (file, watch) = (self.file.clone(), Arc::clone(&changes.watch));
        let checkpointed = tokio::task::spawn_blocking(move || -> Result<bool, CloseFailure> {
            let connection = connect::open_reader(&file)?;
            // Into another file than the one that was written it would be of no use.
            watch.check_names()?;
            connection.busy_timeout(CHECKPOINT_WAIT_MAX)?;
            connection.pragma_update(None, "query_only", false)?;
            let busy =
                connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))?;
            Ok(!busy)
        })
        .await;
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            StoreError::new(StoreErrorKind::Unavailable, "close", &"the store", error)
        };
        match checkpointed {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => {
                tracing::info!(
                    "other processes use the file: the last writes stay in its -wal file, which belongs to it"
                );
                Ok(())
            }
            Ok(Err(error)) => Err(failed(error.into())),
            Err(error) => Err(failed(error.into())),
        }
    }

    async fn key_create(&self, key: &KeyRecord) -> Result<KeyCreate, StoreError> {
        let owned = key.clone();
        self.write("key_create", &key.name, 0, move |connection| {
            statements::key_create(connection, &owned)
        })
        .await
    }

    async fn key_list(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.read("key_list", &"keys", Size::Large, statements::key_list)
            .await
    }

    async fn key_delete(&self, name: &str) -> Result<bool, StoreError> {
        let owned = name.to_owned();
        self.write("key_delete", &name, 0, move |connection| {
            statements::key_delete(connection, &owned)
        })
        .await
    }
}
