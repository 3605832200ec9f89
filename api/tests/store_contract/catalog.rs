//! What instances remember about collections.

use std::sync::Arc;
use std::time::Instant;

use tidepool_api::store::{COLLECTION_STALE_MAX, CollectionCatalog, CollectionPut, Delete, observed};

use crate::database::{Database, NO_CONDITION, made, some_name, stamp};

pub(crate) async fn a_dropped_collection_is_forgotten_by_every_instance(database: &Database) {
    let one = CollectionCatalog::new(database.open().await);
    let two = CollectionCatalog::new(database.open().await);
    let name = some_name();
    for _ in 0..3 {
        let put = one.put(&name, &NO_CONDITION, stamp()).await.unwrap();
        let CollectionPut::Created(current) = put else {
            panic!("expected a new collection")
        };
        // Asked for all the time, so that the other instance's memory is as fresh as can be.
        let asking = tokio::spawn({
            let (two, name) = (two.clone(), name.clone());
            async move { while two.collection(&name).await.unwrap().is_some() {} }
        });
        let seen = two.collection(&name).await.unwrap().unwrap();
        assert_eq!(seen.id, current.id);

        let began = Instant::now();
        assert_eq!(one.delete(&name, &NO_CONDITION).await.unwrap(), Delete::Deleted);
        assert!(began.elapsed() >= COLLECTION_STALE_MAX);
        assert_eq!(
            two.collection(&name).await.unwrap(),
            None,
            "remembered after the drop was answered"
        );
        assert_eq!(one.collection(&name).await.unwrap(), None);
        asking.await.unwrap();
    }
    assert_eq!(one.delete(&name, &NO_CONDITION).await.unwrap(), Delete::Missing);
}

pub(crate) async fn a_new_collection_can_be_used_at_once_everywhere(database: &Database) {
    let one = CollectionCatalog::new(database.open().await);
    let two = CollectionCatalog::new(database.open().await);
    for _ in 0..5 {
        let name = some_name();
        assert_eq!(two.collection(&name).await.unwrap(), None);
        let put = one.put(&name, &NO_CONDITION, stamp()).await.unwrap();
        let CollectionPut::Created(current) = put else {
            panic!("expected a new collection")
        };
        let seen = two.collection(&name).await.unwrap();
        assert_eq!(
            seen.map(|collection| collection.id),
            Some(current.id),
            "that it was missing was remembered"
        );
    }
}

pub(crate) async fn many_who_ask_at_once_cost_few_questions(database: &Database) {
    let registry = prometheus::Registry::new();
    let store = observed(database.open().await, &registry).unwrap();
    let name = some_name();
    made(&*store, &name).await;
    let catalog = CollectionCatalog::new(Arc::clone(&store));
    let began = Instant::now();
    let askers: Vec<_> = (0..200)
        .map(|_| {
            let (catalog, name) = (catalog.clone(), name.clone());
            tokio::spawn(async move { catalog.collection(&name).await.unwrap().unwrap() })
        })
        .collect();
    for asker in askers {
        asker.await.unwrap();
    }
    let asked = crate::others::calls(&registry, "collection_fetch");
    // One for the beginning, and one for every 100 ms that an entry is served without being fetched anew.
    let due = 2 + began.elapsed().as_millis() / 100;
    assert!(
        asked >= 1 && u128::from(asked) <= due,
        "{asked} questions, {due} at most"
    );
}
