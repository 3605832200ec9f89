//! One document at a time.

use std::collections::HashSet;

use tidepool_api::domain::Version;
use tidepool_api::domain::json::BODY_BYTES_MAX;
use tidepool_api::store::{Delete, DocumentCreate, DocumentPatched, DocumentPut};

use crate::database::{
    Database, NO_CONDITION, id, if_absent, if_exists, if_match, json, merging, new_collection, some_json,
    stamp, stamp_at,
};

fn created(answer: DocumentCreate) -> tidepool_api::domain::DocumentMeta {
    match answer {
        DocumentCreate::Created(meta) => meta,
        DocumentCreate::AlreadyExists => panic!("expected a new document"),
    }
}

pub(crate) async fn a_document_comes_back_as_it_was_written(database: &Database) {
    let store = database.open().await;
    let collection = new_collection(&*store).await;
    let large = format!("{{\"x\": \"{}\"}}", "å".repeat(500_000));
    let texts = [
        "{}",
        "{ \"b\":1,\t\"a\" :18446744073709551615, \"ünï\": \"\\u0000 \u{1f30a}\" }",
        large.as_str(),
    ];
    for (text, name) in texts.into_iter().zip(["empty", "odd", "large"]) {
        let (id, written) = (id(name), stamp());
        let meta = created(
            store
                .document_create(collection, &id, &json(text), written)
                .await
                .unwrap(),
        );
        assert_eq!((meta.created_at, meta.updated_at), (written.now, written.now));

        let document = store.document_fetch(collection, &id).await.unwrap().unwrap();
        assert_eq!(document.id, id);
        assert_eq!(document.meta, meta);
        assert!(document.data == json(text), "{name} differs");
    }
    assert_eq!(store.document_fetch(collection, &id("none")).await.unwrap(), None);
    assert_eq!(
        store.document_fetch(collection, &id("Empty")).await.unwrap(),
        None,
        "ids are case-sensitive"
    );
}

pub(crate) async fn a_create_refuses_a_taken_id(database: &Database) {
    let store = database.open().await;
    let collection = new_collection(&*store).await;
    let (id, first) = (id("a"), some_json());
    let meta = created(
        store
            .document_create(collection, &id, &first, stamp())
            .await
            .unwrap(),
    );
    let second = store
        .document_create(collection, &id, &some_json(), stamp())
        .await
        .unwrap();
    assert_eq!(second, DocumentCreate::AlreadyExists);
    let document = store.document_fetch(collection, &id).await.unwrap().unwrap();
    assert_eq!((document.meta, document.data), (meta, first));
}

pub(crate) async fn a_put_creates_and_replaces_under_its_precondition(database: &Database) {
    let store = database.open().await;
    let collection = new_collection(&*store).await;
    let id = id("a");
    let put = async |precondition, data| {
        store
            .document_put(collection, &id, &data, &precondition, stamp())
            .await
            .unwrap()
    };

    assert_eq!(
        put(if_exists(), some_json()).await,
        DocumentPut::PreconditionFailed
    );
    let never = Version::first(stamp());
    assert_eq!(
        put(if_match(never), some_json()).await,
        DocumentPut::PreconditionFailed
    );
    assert_eq!(store.document_fetch(collection, &id).await.unwrap(), None);

    let DocumentPut::Created(first) = put(if_absent(), some_json()).await else {
        panic!("expected a new document")
    };
    assert_eq!(
        put(if_absent(), some_json()).await,
        DocumentPut::PreconditionFailed
    );
    let DocumentPut::Replaced(second) = put(if_match(first.version), some_json()).await else {
        panic!("expected a replaced document")
    };
    assert_ne!(second.version, first.version);
    assert_eq!(second.created_at, first.created_at);
    assert!(second.updated_at >= first.updated_at);
    assert_eq!(
        put(if_match(first.version), some_json()).await,
        DocumentPut::PreconditionFailed
    );

    let last = some_json();
    let DocumentPut::Replaced(third) = put(NO_CONDITION, last.clone()).await else {
        panic!("expected a replaced document")
    };
    let document = store.document_fetch(collection, &id).await.unwrap().unwrap();
    assert_eq!((document.meta, document.data), (third, last));
}

pub(crate) async fn a_patch_changes_what_is_there_under_its_precondition(database: &Database) {
    let store = database.open().await;
    let collection = new_collection(&*store).await;
    let id = id("a");
    let patch = async |order| {
        store
            .document_patch(collection, &id, &order, stamp())
            .await
            .unwrap()
    };
    assert_eq!(
        patch(merging(r#"{"b":2}"#, NO_CONDITION)).await,
        DocumentPatched::Missing
    );
    assert_eq!(store.document_fetch(collection, &id).await.unwrap(), None);
    let first = created(
        store
            .document_create(collection, &id, &json(r#"{"a": 1.0, "b":1}"#), stamp())
            .await
            .unwrap(),
    );

    let DocumentPatched::Patched(second) = patch(merging(r#"{"b":2}"#, if_match(first.version))).await else {
        panic!("expected a patched document")
    };
    assert_eq!(second.data, json(r#"{"a":1.0,"b":2}"#));
    assert_eq!(second.meta.created_at, first.created_at);
    assert!(second.meta.version > first.version && second.meta.updated_at >= first.updated_at);
    assert_eq!(
        patch(merging(r#"{"b":3}"#, if_match(first.version))).await,
        DocumentPatched::PreconditionFailed
    );
    let large = format!(r#"{{"b":"{}"}}"#, "x".repeat(BODY_BYTES_MAX - 20));
    assert_eq!(
        patch(merging(&large, NO_CONDITION)).await,
        DocumentPatched::TooLarge
    );
    let stored = store.document_fetch(collection, &id).await.unwrap();
    assert_eq!(stored, Some(second), "a refused patch changed something");

    store
        .document_delete(collection, &id, &NO_CONDITION, stamp())
        .await
        .unwrap();
    assert_eq!(
        patch(merging(r#"{"b":4}"#, NO_CONDITION)).await,
        DocumentPatched::Missing
    );
    assert_eq!(store.document_fetch(collection, &id).await.unwrap(), None);
}

pub(crate) async fn a_delete_says_what_it_found(database: &Database) {
    let store = database.open().await;
    let collection = new_collection(&*store).await;
    let id = id("a");
    let delete = async |precondition| {
        store
            .document_delete(collection, &id, &precondition, stamp())
            .await
            .unwrap()
    };
    assert_eq!(delete(NO_CONDITION).await, Delete::Missing);
    assert_eq!(delete(if_exists()).await, Delete::Missing);

    let meta = created(
        store
            .document_create(collection, &id, &some_json(), stamp())
            .await
            .unwrap(),
    );
    assert_eq!(
        delete(if_match(Version::first(stamp()))).await,
        Delete::PreconditionFailed
    );
    assert!(store.document_fetch(collection, &id).await.unwrap().is_some());
    assert_eq!(delete(if_match(meta.version)).await, Delete::Deleted);
    assert_eq!(store.document_fetch(collection, &id).await.unwrap(), None);
    assert_eq!(delete(NO_CONDITION).await, Delete::Missing);
}

/// The clock stands still, and the document comes and goes.
pub(crate) async fn a_version_never_recurs(database: &Database) {
    let store = database.open().await;
    let collection = new_collection(&*store).await;
    let id = id("a");
    let now = stamp().now.micros();
    let mut seen = HashSet::new();
    for _ in 0..6 {
        let meta = created(
            store
                .document_create(collection, &id, &some_json(), stamp_at(now))
                .await
                .unwrap(),
        );
        assert!(seen.insert(meta.version), "a version came twice");
        assert_eq!(
            meta.created_at.micros(),
            now,
            "created_at does not survive a delete"
        );
        let put = store
            .document_put(collection, &id, &some_json(), &NO_CONDITION, stamp_at(now))
            .await
            .unwrap();
        let DocumentPut::Replaced(meta) = put else {
            panic!("expected a replaced document")
        };
        assert!(seen.insert(meta.version), "a version came twice");
        let deleted = store
            .document_delete(collection, &id, &if_match(meta.version), stamp_at(now))
            .await
            .unwrap();
        assert_eq!(deleted, Delete::Deleted);
    }
}

pub(crate) async fn versions_grow_when_the_clock_goes_back(database: &Database) {
    let store = database.open().await;
    let collection = new_collection(&*store).await;
    let id = id("a");
    let mut last: Option<Version> = None;
    for hours_back in 0..6 {
        let stamp = stamp_at(stamp().now.micros() - hours_back * 3_600_000_000);
        let put = store
            .document_put(collection, &id, &some_json(), &NO_CONDITION, stamp)
            .await
            .unwrap();
        let (DocumentPut::Created(meta) | DocumentPut::Replaced(meta)) = put else {
            panic!("an unconditional put can't fail")
        };
        assert!(last < Some(meta.version));
        last = Some(meta.version);
        let document = store.document_fetch(collection, &id).await.unwrap().unwrap();
        assert_eq!(document.meta, meta, "a write with an older clock was lost");
    }
}

/// Kinto#2343 and its kin: whoever polls by `updated_at` misses what was written with an older clock.
pub(crate) async fn updated_at_never_goes_back_with_the_clock(database: &Database) {
    let (one, two) = (database.open().await, database.open().await);
    let collection = new_collection(&*one).await;
    let id = id("a");
    let now = stamp().now.micros();
    let hours = |hours: i64| stamp_at(now + hours * 3_600_000_000);
    let first = created(
        one.document_create(collection, &id, &json("{}"), hours(0))
            .await
            .unwrap(),
    );
    let mut last = first.updated_at;
    // Back before it was made, forth, back behind the last write, and on another instance.
    for (store, clock) in [(&one, -1), (&two, 2), (&one, 1), (&two, -3), (&one, 3)] {
        let put = store
            .document_put(collection, &id, &json("{}"), &NO_CONDITION, hours(clock))
            .await
            .unwrap();
        let DocumentPut::Replaced(put) = put else {
            panic!("expected a replaced document")
        };
        assert_eq!(put.updated_at, last.max(hours(clock).now), "PUT at {clock} h");
        last = put.updated_at;
        let patch = merging(r#"{"b":2}"#, NO_CONDITION);
        let patched = store
            .document_patch(collection, &id, &patch, hours(clock - 1))
            .await
            .unwrap();
        let DocumentPatched::Patched(patched) = patched else {
            panic!("expected a patched document")
        };
        assert_eq!(patched.meta.updated_at, last, "PATCH at {clock} h - 1 h");
        let stored = one.document_fetch(collection, &id).await.unwrap().unwrap();
        assert_eq!(stored.meta, patched.meta, "what was answered is what is stored");
        assert_eq!(stored.meta.created_at, first.created_at);
    }
    // A document that was deleted and made again is another one: its times begin anew.
    for store in [&one, &two] {
        let deleted = store
            .document_delete(collection, &id, &NO_CONDITION, hours(0))
            .await;
        assert_eq!(deleted.unwrap(), Delete::Deleted);
        let put = store
            .document_put(collection, &id, &json("{}"), &NO_CONDITION, hours(-2))
            .await
            .unwrap();
        let DocumentPut::Created(fresh) = put else {
            panic!("expected a new document")
        };
        assert_eq!(fresh.created_at, hours(-2).now);
        assert_eq!(fresh.updated_at, fresh.created_at);
    }
}

pub(crate) async fn another_collections_documents_are_not_seen(database: &Database) {
    let store = database.open().await;
    let (one, two) = (new_collection(&*store).await, new_collection(&*store).await);
    let id = id("a");
    created(
        store
            .document_create(one, &id, &some_json(), stamp())
            .await
            .unwrap(),
    );
    assert_eq!(store.document_fetch(two, &id).await.unwrap(), None);
    created(
        store
            .document_create(two, &id, &some_json(), stamp())
            .await
            .unwrap(),
    );
    assert_eq!(
        store
            .document_delete(one, &id, &NO_CONDITION, stamp())
            .await
            .unwrap(),
        Delete::Deleted
    );
    assert!(store.document_fetch(two, &id).await.unwrap().is_some());
}
