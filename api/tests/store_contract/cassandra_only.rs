//! What only the distributed store has: a list in levels, and rows of it that have no document.

#![expect(clippy::disallowed_methods, reason = "tests")]

use std::time::{Duration, Instant};

use scylla::client::session::Session;
use tidepool_api::domain::CollectionId;
use tidepool_api::store::{DocumentCreate, OpenError};

use crate::database::{
    Database, NO_CONDITION, id, made, new_collection, some_json, some_name, stamp, stamp_at,
};
use crate::listing::{fill, items, list_all, names, once};

fn database(name: &str) -> Option<Database> {
    Database::cassandra(&format!("store_contract cassandra_only::{name}"))
}

async fn rows(
    session: &Session,
    database: &Database,
    collection: CollectionId,
    level: i8,
    buckets: i32,
) -> Vec<String> {
    let mut found = Vec::new();
    for bucket in 0..buckets {
        let cql = format!(
            "SELECT id FROM {}.document_list WHERE collection = ? AND level = ? AND bucket = ?",
            database.keyspace()
        );
        let answer = session
            .query_unpaged(cql, (collection.0, level, bucket))
            .await
            .unwrap();
        let answer = answer.into_rows_result().unwrap();
        found.extend(answer.rows::<(String,)>().unwrap().map(|row| row.unwrap().0));
    }
    found
}

/// A list that gets another level keeps its order and its documents, and a cursor from before goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_may_grow_while_it_is_read() {
    let Some(database) = database("a_list_may_grow_while_it_is_read") else {
        return;
    };
    let (store, session) = (database.open().await, database.session().await);
    let collection = new_collection(&*store).await;
    let old = names("old", 30);
    fill(&*store, collection, &old).await;
    let begun = store.document_page(collection, None, items(7)).await.unwrap();

    let add = format!(
        "INSERT INTO {}.document_list_levels (collection, level) VALUES (?, ?)",
        database.keyspace()
    );
    session.query_unpaged(add, (collection.0, 1_i8)).await.unwrap();
    // The store that is open learns of the level by its next page; one that is opened now, by its first document.
    let new_store = database.open().await;
    let new = names("new", 30);
    fill(&*new_store, collection, &new).await;
    let on_level_1 = rows(&session, &database, collection, 1, 16).await;
    assert_eq!(on_level_1.len(), 30, "new documents go to the new level");

    let mut rest = Vec::new();
    let mut cursor = begun.next;
    while let Some(at) = cursor {
        let page = store
            .document_page(collection, Some(&at), items(7))
            .await
            .unwrap();
        rest.extend(
            page.documents
                .iter()
                .map(|document| document.id.as_str().to_owned()),
        );
        cursor = page.next;
    }
    let begun: Vec<_> = begun
        .documents
        .iter()
        .map(|document| document.id.as_str().to_owned())
        .collect();
    for name in &old {
        let times = begun.iter().chain(&rest).filter(|seen| *seen == name).count();
        assert_eq!(times, 1, "{name} in a listing that was under way");
    }

    let all = once(old.iter().chain(&new).cloned());
    for items_max in [1, 7, 59, 60, 1000] {
        assert_eq!(
            list_all(&*store, collection, items(items_max)).await,
            all,
            "{items_max} a page"
        );
    }
    for name in [&old[3], &new[3]] {
        store
            .document_delete(collection, &id(name), &NO_CONDITION, stamp())
            .await
            .unwrap();
    }
    // Made again it stands on the new level.
    fill(&*store, collection, &[old[3].clone()]).await;
    let mut left = all;
    left.remove(&new[3]);
    assert_eq!(list_all(&*store, collection, items(11)).await, left);
}

/// A creator that ended between the row and the document leaves a row; whoever lists skips it, and it is swept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_without_document_is_skipped_and_swept() {
    let Some(database) = database("a_row_without_document_is_skipped_and_swept") else {
        return;
    };
    let (store, session) = (database.open().await, database.session().await);
    let collection = new_collection(&*store).await;
    fill(&*store, collection, &["there".to_owned()]).await;
    // Its row is two hours old, so no creator can still be at work.
    let hours_ago = stamp_at(stamp().now.micros() - 2 * 3_600_000_000);
    let orphan = id("orphan");
    store
        .document_create(collection, &orphan, &some_json(), hours_ago)
        .await
        .unwrap();
    let forget = format!(
        "DELETE FROM {}.documents WHERE collection = ? AND id = 'orphan'",
        database.keyspace()
    );
    session.query_unpaged(forget, (collection.0,)).await.unwrap();
    assert_eq!(rows(&session, &database, collection, 0, 1).await.len(), 2);

    let there = once(["there".to_owned()]);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        assert_eq!(list_all(&*store, collection, items(100)).await, there);
        if rows(&session, &database, collection, 0, 1).await == ["there"] {
            break;
        }
        assert!(Instant::now() < deadline, "the row was not swept");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // An older clock than the sweeper's marker: the row must come back all the same.
    let made = store
        .document_create(collection, &orphan, &some_json(), hours_ago)
        .await
        .unwrap();
    assert!(
        matches!(made, DocumentCreate::Created(_)),
        "the sweeper's marker is not a document"
    );
    let all = ["there", "orphan"].map(str::to_owned);
    assert_eq!(list_all(&*store, collection, items(1)).await, once(all));
}

/// Documents of a collection that was dropped long ago are deleted; those of a live one are not, whatever is noted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_collection_is_swept() {
    let Some(database) = database("a_dropped_collection_is_swept") else {
        return;
    };
    let (store, session) = (database.open().await, database.session().await);
    let (gone, live) = (some_name(), some_name());
    let live_id = made(&*store, &live).await.id;
    // The identity of a collection that was dropped two hours ago.
    let old_id = CollectionId(uuid::Uuid::new_v4());
    for collection in [old_id, live_id] {
        fill(&*store, collection, &names("d", 12)).await;
    }
    let (keyspace, hours_ago) = (database.keyspace(), stamp().now.micros() - 2 * 3_600_000_000);
    for (id, name) in [(old_id, &gone), (live_id, &live)] {
        let note = format!(
            "INSERT INTO {keyspace}.dropped_collections (space, id, name) VALUES ('default', ?, ?)
             USING TIMESTAMP {hours_ago}"
        );
        session.query_unpaged(note, (id.0, name.as_str())).await.unwrap();
    }

    // Instances look soon after they start.
    let _sweeper = database.open().await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while !rows(&session, &database, old_id, 0, 1).await.is_empty() {
        assert!(Instant::now() < deadline, "the dropped collection was not swept");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(store.document_fetch(old_id, &id("d0")).await.unwrap(), None);
    assert_eq!(list_all(&*store, live_id, items(5)).await, once(names("d", 12)));
}

/// An older program leaves the tables of a newer one alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_programs_schema_is_refused() {
    let Some(database) = database("a_newer_programs_schema_is_refused") else {
        return;
    };
    let fresh = database.fresh();
    drop(fresh.open().await);
    let (session, keyspace) = (fresh.session().await, fresh.keyspace());
    let newer = format!(
        "INSERT INTO {keyspace}.schema_migrations (space, version, applied_at)
         VALUES ('default', 99, toTimestamp(now()))"
    );
    session.query_unpaged(newer, ()).await.unwrap();
    let refused = fresh.try_open().await.map(|_| ()).unwrap_err();
    assert!(
        matches!(refused, OpenError::SchemaTooNew { found: 99, .. }),
        "{refused}"
    );
    let drop_it = format!("DROP KEYSPACE {keyspace}");
    session.query_unpaged(drop_it, ()).await.unwrap();
}
