//! Collections: made, replaced, listed, dropped, made again.

use std::sync::Arc;
use std::time::Instant;

use tidepool_api::domain::{CollectionName, Version};
use tidepool_api::store::{COLLECTION_STALE_MAX, CollectionPut, Delete};

use crate::database::{
    Database, LIMITS, NO_CONDITION, id, if_absent, if_exists, if_match, made, some_json, some_name, stamp,
    stamp_at,
};

pub(crate) async fn a_collection_is_made_and_its_settings_replaced(database: &Database) {
    let store = database.open().await;
    let name = some_name();
    assert_eq!(store.collection_fetch(&name).await.unwrap(), None);
    let written = stamp();
    let put = store.collection_put(&name, &NO_CONDITION, written).await.unwrap();
    let CollectionPut::Created(first) = put else {
        panic!("expected a new collection")
    };
    assert_eq!(first.name, name);
    assert_eq!((first.created_at, first.updated_at), (written.now, written.now));
    assert_eq!(store.collection_fetch(&name).await.unwrap(), Some(first.clone()));
    store
        .document_create(first.id, &id("a"), &some_json(), stamp())
        .await
        .unwrap();

    // An older clock: the version grows all the same.
    let put = store
        .collection_put(&name, &NO_CONDITION, stamp_at(1))
        .await
        .unwrap();
    let CollectionPut::Replaced(second) = put else {
        panic!("expected a replaced collection")
    };
    assert_eq!((second.id, second.created_at), (first.id, first.created_at));
    assert!(second.version > first.version);
    assert_eq!(second.updated_at, first.updated_at, "the time does not go back");
    assert_eq!(store.collection_fetch(&name).await.unwrap(), Some(second));
    assert!(
        store.document_fetch(first.id, &id("a")).await.unwrap().is_some(),
        "documents are kept"
    );
}

pub(crate) async fn collection_preconditions_hold_or_nothing_happens(database: &Database) {
    let store = database.open().await;
    let name = some_name();
    let put = async |condition| store.collection_put(&name, &condition, stamp()).await.unwrap();
    let delete = async |condition| store.collection_delete(&name, &condition).await.unwrap();
    assert_eq!(put(if_exists()).await, CollectionPut::PreconditionFailed);
    assert_eq!(delete(if_exists()).await, Delete::Missing);
    assert_eq!(store.collection_fetch(&name).await.unwrap(), None);
    let CollectionPut::Created(first) = put(if_absent()).await else {
        panic!("expected a new collection")
    };
    assert_eq!(put(if_absent()).await, CollectionPut::PreconditionFailed);
    let CollectionPut::Replaced(second) = put(if_match(first.version)).await else {
        panic!("expected a replaced collection")
    };
    assert_eq!(
        put(if_match(first.version)).await,
        CollectionPut::PreconditionFailed
    );
    assert_eq!(
        delete(if_match(Version::first(stamp()))).await,
        Delete::PreconditionFailed
    );
    assert_eq!(store.collection_fetch(&name).await.unwrap(), Some(second.clone()));
    assert_eq!(delete(if_match(second.version)).await, Delete::Deleted);
    assert_eq!(delete(NO_CONDITION).await, Delete::Missing);
    assert_eq!(store.collection_fetch(&name).await.unwrap(), None);
}

pub(crate) async fn collections_are_listed_by_name(database: &Database) {
    let store = database.open().await;
    // Names of this test only, whatever else the database holds.
    let prefix = some_name();
    let name = |suffix: &str| CollectionName::parse(&format!("{prefix}{suffix}")).unwrap();
    for suffix in ["c", "a", "B", "~", "b", "gone"] {
        made(&*store, &name(suffix)).await;
    }
    store
        .collection_delete(&name("gone"), &NO_CONDITION)
        .await
        .unwrap();
    let list = async |after: &CollectionName, limit| {
        let listed = store.collection_list(Some(after), limit).await.unwrap();
        listed
            .iter()
            .filter_map(|collection| Some(collection.name.as_str().strip_prefix(prefix.as_str())?.to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(list(&prefix, 5).await, ["B", "a", "b", "c", "~"]);
    assert_eq!(list(&prefix, 2).await, ["B", "a"]);
    assert_eq!(list(&name("a"), 2).await, ["b", "c"]);
    assert_eq!(list(&name("aa"), 1).await, ["b"]);
    let first = store.collection_list(None, 1).await.unwrap();
    assert_eq!(first.len(), 1, "without a name it begins at the first");
}

pub(crate) async fn a_collection_made_again_is_another_one(database: &Database) {
    let store = database.open().await;
    let name = some_name();
    let first = made(&*store, &name).await;
    store
        .document_create(first.id, &id("a"), &some_json(), stamp())
        .await
        .unwrap();
    assert_eq!(
        store.collection_delete(&name, &NO_CONDITION).await.unwrap(),
        Delete::Deleted
    );
    let second = made(&*store, &name).await;
    assert_ne!(second.id, first.id);
    assert_ne!(second.version, first.version);
    assert_eq!(store.document_fetch(second.id, &id("a")).await.unwrap(), None);
    let page = store.document_page(second.id, None, LIMITS).await.unwrap();
    assert!(page.documents.is_empty());
    let old = store
        .collection_put(&name, &if_match(first.version), stamp())
        .await
        .unwrap();
    assert_eq!(old, CollectionPut::PreconditionFailed, "an old ETag never holds");
}

pub(crate) async fn making_again_waits_until_nobody_remembers_the_dropped_one(database: &Database) {
    let store = database.open().await;
    let name = some_name();
    made(&*store, &name).await;
    let began = Instant::now();
    store.collection_delete(&name, &NO_CONDITION).await.unwrap();
    let after_drop = Instant::now();
    made(&*store, &name).await;
    // Measured from before the drop, so that the machine's pauses can only lengthen it.
    assert!(began.elapsed() >= COLLECTION_STALE_MAX);
    assert!(
        after_drop.elapsed() < COLLECTION_STALE_MAX * 20,
        "it waited far too long"
    );
}

pub(crate) async fn one_of_many_makes_the_collection(database: &Database) {
    let stores = [database.open().await, database.open().await];
    let name = some_name();
    let makers: Vec<_> = (0..6)
        .map(|maker| {
            let (store, name) = (Arc::clone(&stores[maker % 2]), name.clone());
            tokio::spawn(async move { store.collection_put(&name, &NO_CONDITION, stamp()).await.unwrap() })
        })
        .collect();
    let (mut created, mut ids) = (0, std::collections::HashSet::new());
    for maker in makers {
        match maker.await.unwrap() {
            CollectionPut::Created(collection) => {
                created += 1;
                ids.insert(collection.id);
            }
            CollectionPut::Replaced(collection) => {
                ids.insert(collection.id);
            }
            CollectionPut::PreconditionFailed => panic!("there was no precondition"),
        }
    }
    assert_eq!((created, ids.len()), (1, 1));
}
