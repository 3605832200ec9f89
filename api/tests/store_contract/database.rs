//! Where a test's documents are kept, and the small values that tests write.

#![expect(clippy::disallowed_methods, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tidepool_api::domain::{
    CollectionId, CollectionName, DocumentId, DocumentPatch, EntityTag, EntityTags, JsonObject, Precondition,
    Timestamp, Version, WriteStamp,
};
use tidepool_api::store::{
    self, Collection, CollectionPut, OpenError, OpenOptions, PageLimits, PatchOrder, Store,
};
use uuid::Uuid;

pub(crate) const NO_CONDITION: Precondition = Precondition {
    if_match: None,
    if_none_match: None,
};

/// The HTTP layer's limits.
pub(crate) const LIMITS: PageLimits = PageLimits {
    items_max: 1000,
    bytes_max: 8 * 1024 * 1024,
};

/// A database of one kind; any number of instances may open it.
pub(crate) struct Database {
    url: String,
    /// Removed with the test.
    _folder: Option<tempfile::TempDir>,
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            url: format!("sqlite:{}", folder.path().join("tide.db").display()),
            _folder: Some(folder),
        }
    }

    /// A keyspace that all tests share: they keep apart by names that are random.
    pub(crate) fn cassandra(test: &str) -> Option<Self> {
        Self::cassandra_keyspace(test, "tidepool_contract")
    }

    pub(crate) fn cassandra_keyspace(test: &str, keyspace: &str) -> Option<Self> {
        let Ok(hosts) = std::env::var("TIDEPOOL_TEST_CASSANDRA") else {
            println!("SKIPPED: {test} needs a Cassandra cluster");
            println!("tidepool-skip: {test}: TIDEPOOL_TEST_CASSANDRA is not set");
            return None;
        };
        Some(Self {
            url: format!("cassandra://{hosts}/{keyspace}"),
            _folder: None,
        })
    }

    pub(crate) fn is_cassandra(&self) -> bool {
        self.url.starts_with("cassandra:")
    }

    /// The same kind of database, but one that nobody has opened yet.
    pub(crate) fn fresh(&self) -> Self {
        if !self.is_cassandra() {
            return Self::sqlite();
        }
        let (cluster, _) = self.url.rsplit_once('/').unwrap();
        Self {
            url: format!("{cluster}/tidepool_fresh_{}", Uuid::new_v4().simple()),
            _folder: None,
        }
    }

    pub(crate) fn keyspace(&self) -> &str {
        self.url.rsplit_once('/').unwrap().1
    }

    pub(crate) async fn try_open(&self) -> Result<Arc<dyn Store>, OpenError> {
        store::open(&self.url.parse().unwrap(), OpenOptions::default()).await
    }

    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        self.try_open().await.unwrap()
    }

    /// A connection beside the store's.
    pub(crate) async fn session(&self) -> scylla::client::session::Session {
        let hosts = self
            .url
            .trim_start_matches("cassandra://")
            .split_once('/')
            .unwrap()
            .0;
        scylla::client::session_builder::SessionBuilder::new()
            .known_nodes(hosts.split(','))
            .build()
            .await
            .unwrap()
    }
}

/// The present, and a nonce of its own.
pub(crate) fn stamp() -> WriteStamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    stamp_at(i64::try_from(now.as_micros()).unwrap())
}

pub(crate) fn stamp_at(now_micros: i64) -> WriteStamp {
    WriteStamp {
        now: Timestamp(now_micros),
        nonce: rand::random(),
    }
}

pub(crate) fn json(text: &str) -> JsonObject {
    JsonObject::from_checked(Bytes::copy_from_slice(text.as_bytes()))
}

/// Data that differs from call to call.
pub(crate) fn some_json() -> JsonObject {
    static NEXT: AtomicI64 = AtomicI64::new(0);
    json(&format!("{{\"n\": {}}}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

pub(crate) fn id(text: &str) -> DocumentId {
    DocumentId::parse(text).unwrap()
}

/// A collection name that no other test uses.
pub(crate) fn some_name() -> CollectionName {
    CollectionName::parse(&format!("c{}", Uuid::new_v4().simple())).unwrap()
}

pub(crate) async fn new_collection(store: &dyn Store) -> CollectionId {
    made(store, &some_name()).await.id
}

pub(crate) async fn made(store: &dyn Store, name: &CollectionName) -> Collection {
    match store.collection_put(name, &NO_CONDITION, stamp()).await.unwrap() {
        CollectionPut::Created(collection) => collection,
        other => panic!("expected a new collection, got {other:?}"),
    }
}

/// A PATCH that merges this into the data.
pub(crate) fn merging(data: &str, precondition: Precondition) -> PatchOrder {
    let body = Bytes::from(format!(r#"{{"data":{data}}}"#));
    PatchOrder {
        patch: DocumentPatch::parse(&body).unwrap(),
        precondition,
    }
}

pub(crate) fn if_match(version: Version) -> Precondition {
    Precondition {
        if_match: Some(EntityTags::List(vec![EntityTag { version, weak: false }])),
        if_none_match: None,
    }
}

pub(crate) fn if_exists() -> Precondition {
    Precondition {
        if_match: Some(EntityTags::Any),
        if_none_match: None,
    }
}

pub(crate) fn if_absent() -> Precondition {
    Precondition {
        if_match: None,
        if_none_match: Some(EntityTags::Any),
    }
}
