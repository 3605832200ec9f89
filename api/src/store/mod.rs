//! The port to the database: one trait, implemented by `sqlite` and `cassandra` under one contract suite
//! (`tests/store_contract.rs`).
//!
//! A store knows documents, versions and preconditions; it knows no HTTP, no keys' plain text and no scopes' meaning.
//! Only the two implementations hold SQL or CQL.

mod cassandra;
mod catalog;
mod large;
mod observe;
mod open;
mod patch;
mod sqlite;

use std::time::Duration;

use async_trait::async_trait;

pub use cassandra::tls::{ClientIdentity, ClusterTls, ClusterTlsError, ClusterTlsParts, NodeNames};
pub use catalog::CollectionCatalog;
pub use large::{INLINE_BYTES_MAX, LargeWork, TurnTimeout};
pub use observe::observed;
pub use open::{
    Credentials, InvalidStoreUrl, OpenError, OpenMode, OpenOptions, SqliteSynchronous, StoreUrl, open,
};
pub use patch::{DocumentPatched, PatchOrder};
pub use sqlite::backup;

use crate::domain::{
    CollectionId, CollectionName, Document, DocumentId, DocumentMeta, JsonObject, Precondition, Timestamp,
    Version, WriteStamp,
};

/// A collection, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// Identity; another one when the collection is made again.
    pub id: CollectionId,
    /// The clients' name for it.
    pub name: CollectionName,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its settings were last put; never before the time before it, whatever the clocks say.
    pub updated_at: Timestamp,
    /// Version of the settings, for `ETag`.
    pub version: Version,
}

impl Collection {
    /// The collection with its settings put anew.
    pub(crate) fn put_again(&self, stamp: WriteStamp) -> Self {
        Self {
            updated_at: stamp.now.max(self.updated_at).max(self.created_at),
            version: self.version.next(stamp),
            ..self.clone()
        }
    }
}

/// What became of putting a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CollectionPut {
    /// It is new.
    Created(Collection),
    /// It was there; its settings are replaced, its documents kept.
    Replaced(Collection),
    /// The precondition does not hold; nothing was written.
    PreconditionFailed,
}

/// What became of creating a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentCreate {
    /// It is new.
    Created(DocumentMeta),
    /// The id is taken; nothing was written.
    AlreadyExists,
}

/// What became of putting a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentPut {
    /// The id was free.
    Created(DocumentMeta),
    /// There was one; `created_at` is kept.
    Replaced(DocumentMeta),
    /// The precondition does not hold; nothing was written.
    PreconditionFailed,
}

/// What became of deleting a document or a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delete {
    /// It is gone.
    Deleted,
    /// There was none.
    Missing,
    /// The precondition does not hold; nothing was deleted.
    PreconditionFailed,
}

/// Where a listing goes on: the store's own bytes, at most [`CURSOR_BYTES_MAX`]. The HTTP layer seals it into a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub Vec<u8>);

/// Longest cursor: generation and bucket (8 + 8 bytes) and an id (128 bytes), with room to spare.
pub const CURSOR_BYTES_MAX: usize = 256;

/// How long any instance may go on using what it knows about a collection.
///
/// [`CollectionCatalog`] serves nothing older; dropping a collection waits this long before it answers, and making a
/// collection again waits this long before it writes. So no write is acknowledged into a dropped collection.
pub const COLLECTION_STALE_MAX: Duration = Duration::from_millis(250);

/// A collection that was dropped less than this ago counts as recently dropped: making it again waits
/// [`COLLECTION_STALE_MAX`]. 40 times that wait, so that coarse clocks of the database don't matter.
pub(crate) const RECENTLY_DROPPED_SECS: i64 = 10;

/// The identity of a collection that is made now: a UUIDv8 of time and nonce, so the stamp alone decides it.
pub(crate) fn new_collection_id(stamp: WriteStamp) -> CollectionId {
    let bytes = Version::first(stamp).to_bytes();
    CollectionId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// How much of a collection one page may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimits {
    /// Most documents.
    pub items_max: usize,
    /// Most bytes of data, summed; a page ends early rather than exceed it, but holds at least one document.
    pub bytes_max: usize,
}

/// A page of documents, in the collection's stable order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The documents.
    pub documents: Vec<Document>,
    /// Where the next page begins; `None` means the end.
    pub next: Option<Cursor>,
}

/// A stored key. The key itself is never stored, only its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The operator's name for it, unique.
    pub name: String,
    /// SHA-256 of the whole key text.
    pub hash: [u8; 32],
    /// Scopes as text, `read:notes-*`; their syntax was checked when the key was made.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ceases to count.
    pub expires_at: Option<Timestamp>,
}

/// What became of storing a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyCreate {
    /// Stored.
    Created,
    /// The name is taken; nothing was written.
    NameTaken,
}

/// What became of opening a store to everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessOpen {
    /// It is open: the next server to start on it needs no key.
    Opened,
    /// It was open before.
    WasOpen,
    /// There are keys, and as long as there are, it is closed; nothing was changed.
    HasKeys,
}

/// Why a store's operation gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// The database can't be reached, is overloaded or too slow; nothing was written. Trying later may help.
    Unavailable,
    /// A write may or may not have happened, and asking for it did not settle it.
    UnknownOutcome,
    /// The database answered something that the store can't make sense of: a defect, or a foreign hand in the tables.
    Internal,
}

impl StoreError {
    /// An error of `operation` on `subject`, caused by `source`.
    pub(crate) fn new(
        kind: StoreErrorKind,
        operation: &'static str,
        subject: &dyn std::fmt::Display,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            operation,
            subject: subject.to_string(),
            source: Some(source.into()),
        }
    }
}

/// A failed store operation. `Display` leaves the source out; log the whole chain.
#[derive(Debug, thiserror::Error)]
#[error("{operation} of {subject} failed ({kind:?})")]
pub struct StoreError {
    /// How the caller should take it.
    pub kind: StoreErrorKind,
    /// The trait's method.
    pub operation: &'static str,
    /// Which collection, document or key.
    pub subject: String,
    /// What the driver said.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A database of collections, documents and keys.
///
/// A write that returns `Ok` is durable and seen by every later read through any instance. A write that returns
/// [`StoreErrorKind::Unavailable`] did not happen and never will. Every method gives an answer within the store's own
/// time bound (see the implementations), so that callers don't pile up.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Asks the database for a sign of life with the cheapest real query.
    async fn ready(&self) -> Result<(), StoreError>;

    /// 32 random bytes, made once and the same for every instance on this database; page tokens are sealed with it.
    async fn cluster_secret(&self) -> Result<[u8; 32], StoreError>;

    /// Makes a collection or replaces its settings. One that was dropped just now is made again only after
    /// [`COLLECTION_STALE_MAX`], so this may take that much longer.
    async fn collection_put(
        &self,
        name: &CollectionName,
        precondition: &Precondition,
        stamp: WriteStamp,
    ) -> Result<CollectionPut, StoreError>;

    /// One collection, never from a cache.
    async fn collection_fetch(&self, name: &CollectionName) -> Result<Option<Collection>, StoreError>;

    /// Collections ordered by name, after the given name, at most `limit`.
    async fn collection_list(
        &self,
        after: Option<&CollectionName>,
        limit: usize,
    ) -> Result<Vec<Collection>, StoreError>;

    /// Drops a collection in O(1); its documents are cleaned up lazily. Whoever answers a client waits
    /// [`COLLECTION_STALE_MAX`] first; [`CollectionCatalog::delete`] does.
    async fn collection_delete(
        &self,
        name: &CollectionName,
        precondition: &Precondition,
    ) -> Result<Delete, StoreError>;

    /// Creates a document whose id must be free.
    async fn document_create(
        &self,
        collection: CollectionId,
        id: &DocumentId,
        data: &JsonObject,
        stamp: WriteStamp,
    ) -> Result<DocumentCreate, StoreError>;

    /// One document.
    async fn document_fetch(
        &self,
        collection: CollectionId,
        id: &DocumentId,
    ) -> Result<Option<Document>, StoreError>;

    /// Creates or replaces a document if the precondition holds, atomically.
    async fn document_put(
        &self,
        collection: CollectionId,
        id: &DocumentId,
        data: &JsonObject,
        precondition: &Precondition,
        stamp: WriteStamp,
    ) -> Result<DocumentPut, StoreError>;

    /// Changes a document by a patch if the precondition holds, atomically. Others that write it at the same time don't
    /// make this fail: their changes are kept, and this one comes before or after.
    async fn document_patch(
        &self,
        collection: CollectionId,
        id: &DocumentId,
        order: &PatchOrder,
        stamp: WriteStamp,
    ) -> Result<DocumentPatched, StoreError>;

    /// Deletes a document if the precondition holds, atomically.
    async fn document_delete(
        &self,
        collection: CollectionId,
        id: &DocumentId,
        precondition: &Precondition,
        stamp: WriteStamp,
    ) -> Result<Delete, StoreError>;

    /// One page of documents in an unspecified but stable order: a document that exists throughout the listing is seen
    /// exactly once. Every page costs the same, however deep. A cursor that this store can't read is an empty page.
    async fn document_page(
        &self,
        collection: CollectionId,
        cursor: Option<&Cursor>,
        limits: PageLimits,
    ) -> Result<Page, StoreError>;

    /// Whether the store is closed: it had a key since it was made, or since [`Store::access_open`].
    async fn access_is_closed(&self) -> Result<bool, StoreError>;

    /// Closes the store, as making a key and removing one do by themselves.
    async fn access_close(&self) -> Result<(), StoreError>;

    /// Opens a store that has no keys to everybody, until the next key is made.
    async fn access_open(&self) -> Result<AccessOpen, StoreError>;

    /// Leaves the store in order for whoever looks at it next, when everything that was asked of it is done.
    async fn close(&self) -> Result<(), StoreError>;

    /// Stores a key.
    async fn key_create(&self, key: &KeyRecord) -> Result<KeyCreate, StoreError>;

    /// All keys, expired ones included, ordered by name.
    async fn key_list(&self) -> Result<Vec<KeyRecord>, StoreError>;

    /// Removes a key by name; false if there was none.
    async fn key_delete(&self, name: &str) -> Result<bool, StoreError>;
}
