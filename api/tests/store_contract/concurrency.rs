//! Many writers, one document; many instances, one database.

use std::collections::HashSet;
use std::sync::Arc;

use tidepool_api::domain::Version;
use tidepool_api::store::{Delete, DocumentCreate, DocumentPatched, DocumentPut, StoreError, StoreErrorKind};

use crate::database::{
    Database, NO_CONDITION, id, if_match, json, merging, new_collection, some_json, stamp,
};
use crate::listing::{items, list_all, once};

/// Each version is replaced by exactly one of those who asked for it.
pub(crate) async fn one_writer_wins_each_version(database: &Database) {
    const WRITERS: usize = 6;
    const ROUNDS: usize = 5;
    let stores = [database.open().await, database.open().await];
    let collection = new_collection(&*stores[0]).await;
    let id = id("a");
    let made = stores[0]
        .document_create(collection, &id, &some_json(), stamp())
        .await
        .unwrap();
    let DocumentCreate::Created(mut current) = made else {
        panic!("expected a new document")
    };
    for _ in 0..ROUNDS {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (store, id) = (Arc::clone(&stores[writer % 2]), id.clone());
                let condition = if_match(current.version);
                tokio::spawn(async move {
                    store
                        .document_put(collection, &id, &some_json(), &condition, stamp())
                        .await
                        .unwrap()
                })
            })
            .collect();
        let mut won = Vec::new();
        for writer in writers {
            match writer.await.unwrap() {
                DocumentPut::Replaced(meta) => won.push(meta),
                DocumentPut::PreconditionFailed => {}
                DocumentPut::Created(_) => panic!("the document was there"),
            }
        }
        assert_eq!(won.len(), 1, "winners of one version");
        let stored = stores[1].document_fetch(collection, &id).await.unwrap().unwrap();
        assert_eq!(stored.meta, won[0]);
        current = won[0];
    }
}

pub(crate) async fn one_create_wins(database: &Database) {
    let stores = [database.open().await, database.open().await];
    let collection = new_collection(&*stores[0]).await;
    for round in 0..5 {
        let id = id(&format!("d{round}"));
        let creators: Vec<_> = (0..6)
            .map(|creator| {
                let (store, id) = (Arc::clone(&stores[creator % 2]), id.clone());
                let data = json(&format!("{{\"creator\": {creator}}}"));
                tokio::spawn(async move {
                    (
                        store
                            .document_create(collection, &id, &data, stamp())
                            .await
                            .unwrap(),
                        data,
                    )
                })
            })
            .collect();
        let mut won = Vec::new();
        for creator in creators {
            if let (DocumentCreate::Created(meta), data) = creator.await.unwrap() {
                won.push((meta, data));
            }
        }
        assert_eq!(won.len(), 1, "winners of one id");
        let stored = stores[1].document_fetch(collection, &id).await.unwrap().unwrap();
        assert_eq!((stored.meta, stored.data), won.pop().unwrap());
    }
    let listed = list_all(&*stores[0], collection, items(2)).await;
    assert_eq!(listed, once((0..5).map(|round| format!("d{round}"))));
}

pub(crate) async fn unconditional_puts_all_succeed(database: &Database) {
    let stores = [database.open().await, database.open().await];
    let collection = new_collection(&*stores[0]).await;
    let id = id("a");
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (store, id) = (Arc::clone(&stores[writer % 2]), id.clone());
            tokio::spawn(async move {
                store
                    .document_put(collection, &id, &some_json(), &NO_CONDITION, stamp())
                    .await
                    .unwrap()
            })
        })
        .collect();
    let (mut versions, mut created) = (HashSet::<Version>::new(), 0);
    for writer in writers {
        let meta = match writer.await.unwrap() {
            DocumentPut::Created(meta) => {
                created += 1;
                meta
            }
            DocumentPut::Replaced(meta) => meta,
            DocumentPut::PreconditionFailed => panic!("there was no precondition"),
        };
        assert!(versions.insert(meta.version), "two writes got one version");
    }
    assert_eq!(created, 1);
    let stored = stores[0].document_fetch(collection, &id).await.unwrap().unwrap();
    assert_eq!(
        Some(&stored.meta.version),
        versions.iter().max(),
        "the last one stays"
    );
}

/// Each writer changes a member of its own, a few times one after the other, through two instances: nobody is turned
/// away, and no change is lost to another one's. Only a cluster on a busy machine may be too slow to tell what became of
/// a patch; then it is sent again, as a client would.
pub(crate) async fn patches_of_many_writers_are_all_applied(database: &Database) {
    const WRITERS: usize = 12;
    const SENT_MAX: usize = 5;
    const ROUNDS: usize = 3;
    let is_cassandra = database.is_cassandra();
    let stores = [database.open().await, database.open().await];
    let collection = new_collection(&*stores[0]).await;
    let id = id("a");
    stores[0]
        .document_create(collection, &id, &json("{}"), stamp())
        .await
        .unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, id) = (Arc::clone(&stores[writer % 2]), id.clone());
            tokio::spawn(async move {
                for round in 0..ROUNDS {
                    let order = merging(&format!(r#"{{"w{writer}":{round}}}"#), NO_CONDITION);
                    for sent in 1.. {
                        match store.document_patch(collection, &id, &order, stamp()).await {
                            Ok(DocumentPatched::Patched(_)) => break,
                            Err(error) if is_cassandra && is_slow(&error) && sent < SENT_MAX => {
                                println!("sent again: {error:?}");
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let stored = stores[1].document_fetch(collection, &id).await.unwrap().unwrap();
    let mut expected = serde_json::Map::new();
    for writer in 0..WRITERS {
        expected.insert(format!("w{writer}"), (ROUNDS - 1).into());
    }
    let stored: serde_json::Map<_, _> = serde_json::from_slice(stored.data.as_bytes()).unwrap();
    assert_eq!(stored, expected);
}

/// Whether the database was too slow, and not the writer too unlucky.
fn is_slow(error: &StoreError) -> bool {
    let source = error.source.as_ref().map(ToString::to_string);
    error.kind == StoreErrorKind::UnknownOutcome || source.is_some_and(|source| source.contains("timed out"))
}

pub(crate) async fn one_delete_wins(database: &Database) {
    let stores = [database.open().await, database.open().await];
    let collection = new_collection(&*stores[0]).await;
    let id = id("a");
    stores[0]
        .document_create(collection, &id, &some_json(), stamp())
        .await
        .unwrap();
    let deleters: Vec<_> = (0..4)
        .map(|deleter| {
            let (store, id) = (Arc::clone(&stores[deleter % 2]), id.clone());
            tokio::spawn(async move {
                store
                    .document_delete(collection, &id, &NO_CONDITION, stamp())
                    .await
                    .unwrap()
            })
        })
        .collect();
    let mut deleted = 0;
    for deleter in deleters {
        match deleter.await.unwrap() {
            Delete::Deleted => deleted += 1,
            Delete::Missing => {}
            Delete::PreconditionFailed => panic!("there was no precondition"),
        }
    }
    assert_eq!(deleted, 1);
}

pub(crate) async fn instances_see_each_others_writes(database: &Database) {
    let (one, two) = (database.open().await, database.open().await);
    let collection = new_collection(&*one).await;
    for round in 0..10 {
        let (writer, reader) = match round % 2 {
            0 => (&one, &two),
            _ => (&two, &one),
        };
        let (id, data) = (id(&format!("d{round}")), some_json());
        writer
            .document_create(collection, &id, &data, stamp())
            .await
            .unwrap();
        let seen = reader.document_fetch(collection, &id).await.unwrap();
        assert_eq!(seen.map(|document| document.data), Some(data));
        let listed = list_all(&**reader, collection, items(100)).await;
        assert_eq!(listed.len(), round + 1);
        let data = some_json();
        writer
            .document_put(collection, &id, &data, &NO_CONDITION, stamp())
            .await
            .unwrap();
        let seen = reader.document_fetch(collection, &id).await.unwrap();
        assert_eq!(seen.map(|document| document.data), Some(data));
    }
}

/// A database that nobody has opened before: its tables are made once, by whoever comes first.
pub(crate) async fn ten_instances_may_open_at_once(database: &Database) {
    let fresh = Arc::new(database.fresh());
    let openers: Vec<_> = (0..10)
        .map(|_| {
            let fresh = Arc::clone(&fresh);
            tokio::spawn(async move { fresh.open().await })
        })
        .collect();
    let mut stores = Vec::new();
    for opener in openers {
        stores.push(opener.await.unwrap());
    }
    let secret = stores[0].cluster_secret().await.unwrap();
    let collection = new_collection(&*stores[0]).await;
    for (number, store) in stores.iter().enumerate() {
        assert_eq!(store.cluster_secret().await.unwrap(), secret);
        store
            .document_create(collection, &id(&format!("d{number}")), &some_json(), stamp())
            .await
            .unwrap();
    }
    for store in &stores {
        assert_eq!(list_all(&**store, collection, items(1000)).await.len(), 10);
    }
    drop(stores);
    if database.is_cassandra() {
        let session = fresh.session().await;
        let drop_it = format!("DROP KEYSPACE {}", fresh.keyspace());
        session.query_unpaged(drop_it, ()).await.unwrap();
    }
}
