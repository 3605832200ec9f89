//! The small values that these tests write.

#![expect(clippy::disallowed_methods, reason = "tests")]

use bytes::Bytes;
use tidepool_api::domain::{
    CollectionId, CollectionName, DocumentId, JsonObject, Precondition, Timestamp, WriteStamp,
};
use tidepool_api::store::{CollectionPut, Store};

pub(crate) const NO_CONDITION: Precondition = Precondition {
    if_match: None,
    if_none_match: None,
};

pub(crate) fn stamp() -> WriteStamp {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    WriteStamp {
        now: Timestamp(i64::try_from(now.as_micros()).unwrap()),
        nonce: rand::random(),
    }
}

pub(crate) fn id(text: &str) -> DocumentId {
    DocumentId::parse(text).unwrap()
}

pub(crate) fn json(text: String) -> JsonObject {
    JsonObject::from_checked(Bytes::from(text))
}

/// Makes the collection, or takes the one that is there.
pub(crate) async fn collection(store: &dyn Store, name: &str) -> CollectionId {
    let name = CollectionName::parse(name).unwrap();
    match store.collection_put(&name, &NO_CONDITION, stamp()).await.unwrap() {
        CollectionPut::Created(collection) | CollectionPut::Replaced(collection) => collection.id,
        CollectionPut::PreconditionFailed => panic!("there was no precondition"),
    }
}
