//! Pages of documents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tidepool_api::domain::CollectionId;
use tidepool_api::store::{CURSOR_BYTES_MAX, Cursor, DocumentCreate, PageLimits, Store};

use crate::database::{Database, LIMITS, NO_CONDITION, id, json, new_collection, some_json, stamp, stamp_at};

/// Every id of a collection, with how often it was listed.
pub(crate) async fn list_all(
    store: &dyn Store,
    collection: CollectionId,
    limits: PageLimits,
) -> BTreeMap<String, u32> {
    let mut listed = BTreeMap::new();
    let mut cursor: Option<Cursor> = None;
    loop {
        let page = store
            .document_page(collection, cursor.as_ref(), limits)
            .await
            .unwrap();
        assert!(page.documents.len() <= limits.items_max);
        for document in page.documents {
            *listed.entry(document.id.as_str().to_owned()).or_default() += 1;
        }
        let Some(next) = page.next else { return listed };
        assert!(next.0.len() <= CURSOR_BYTES_MAX);
        assert_ne!(Some(&next), cursor.as_ref(), "a listing that doesn't move on");
        cursor = Some(next);
    }
}

pub(crate) fn once(ids: impl IntoIterator<Item = String>) -> BTreeMap<String, u32> {
    ids.into_iter().map(|id| (id, 1)).collect()
}

pub(crate) fn items(items_max: usize) -> PageLimits {
    PageLimits { items_max, ..LIMITS }
}

pub(crate) async fn fill(store: &dyn Store, collection: CollectionId, ids: &[String]) {
    for name in ids {
        let made = store
            .document_create(collection, &id(name), &some_json(), stamp())
            .await
            .unwrap();
        assert!(matches!(made, DocumentCreate::Created(_)));
    }
}

pub(crate) fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n}")).collect()
}

pub(crate) async fn pages_hold_every_document_once(database: &Database) {
    let store = database.open().await;
    let collection = new_collection(&*store).await;
    assert!(list_all(&*store, collection, LIMITS).await.is_empty());
    let ids = names("d", 23);
    fill(&*store, collection, &ids).await;
    for items_max in [1, 5, 22, 23, 24, 1000] {
        assert_eq!(
            list_all(&*store, collection, items(items_max)).await,
            once(ids.clone()),
            "{items_max} a page"
        );
    }
    // A page that holds the last document is the last page.
    let page = store.document_page(collection, None, items(23)).await.unwrap();
    assert_eq!((page.documents.len(), page.next), (23, None));

    let page = store.document_page(collection, None, LIMITS).await.unwrap();
    for document in &page.documents {
        let fetched = store.document_fetch(collection, &document.id).await.unwrap();
        assert_eq!(fetched.as_ref(), Some(document));
    }
    let again = store.document_page(collection, None, LIMITS).await.unwrap();
    assert_eq!(again, page, "the order is stable");
}

pub(crate) async fn a_page_ends_at_its_bytes_but_holds_one_document(database: &Database) {
    let store = database.open().await;
    let collection = new_collection(&*store).await;
    let data = json(&format!("{{\"x\": \"{}\"}}", "x".repeat(991)));
    assert_eq!(data.as_bytes().len(), 1000);
    let ids = names("d", 7);
    for name in &ids {
        store
            .document_create(collection, &id(name), &data, stamp())
            .await
            .unwrap();
    }
    for (bytes_max, expected) in [(2999, 2), (3000, 3), (999, 1), (1, 1)] {
        let limits = PageLimits {
            items_max: 1000,
            bytes_max,
        };
        let page = store.document_page(collection, None, limits).await.unwrap();
        assert_eq!(page.documents.len(), expected, "{bytes_max} bytes");
        assert_eq!(list_all(&*store, collection, limits).await, once(ids.clone()));
    }
}

pub(crate) async fn an_unreadable_cursor_is_an_empty_page(database: &Database) {
    let store = database.open().await;
    let collection = new_collection(&*store).await;
    fill(&*store, collection, &names("d", 3)).await;
    let good = store
        .document_page(collection, None, items(1))
        .await
        .unwrap()
        .next
        .unwrap();
    let mut cut = good.clone();
    cut.0.pop();
    let mut other = good.clone();
    other.0[0] ^= 0x55;
    for cursor in [
        Cursor(Vec::new()),
        Cursor(vec![0xff; 40]),
        Cursor(b"''; --".to_vec()),
        other,
    ] {
        let page = store
            .document_page(collection, Some(&cursor), LIMITS)
            .await
            .unwrap();
        assert!(page.documents.is_empty(), "{cursor:?}");
        assert_eq!(page.next, None);
    }
    // Cut short it may still be readable; then it points somewhere else in the same collection.
    let page = store.document_page(collection, Some(&cut), LIMITS).await.unwrap();
    assert!(page.documents.len() <= 3);

    // A cursor holds a place, not a collection: in another one it shows nothing that is not there.
    let empty = new_collection(&*store).await;
    let page = store.document_page(empty, Some(&good), LIMITS).await.unwrap();
    assert!(page.documents.is_empty());
}

pub(crate) async fn the_longest_ids_fit_a_cursor(database: &Database) {
    let store = database.open().await;
    let collection = new_collection(&*store).await;
    let ids: Vec<String> = (0..3).map(|n| format!("{n}{}", "~".repeat(127))).collect();
    fill(&*store, collection, &ids).await;
    assert_eq!(list_all(&*store, collection, items(1)).await, once(ids));
}

/// Far longer than three writes take.
const WRITERS_START_WITHIN: Duration = Duration::from_secs(60);

/// Documents that exist throughout are seen once, whatever else comes and goes.
pub(crate) async fn a_listing_stays_stable_while_others_write(database: &Database) {
    let store = database.open().await;
    let collection = new_collection(&*store).await;
    let stable = names("stable", 40);
    fill(&*store, collection, &stable).await;
    let stop = Arc::new(AtomicBool::new(false));
    let rounds_written: Arc<[AtomicUsize; 3]> = Arc::default();
    let writers: Vec<_> = (0..rounds_written.len())
        .map(|writer| {
            let (store, stop, stable) = (Arc::clone(&store), Arc::clone(&stop), stable.clone());
            let rounds_written = Arc::clone(&rounds_written);
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let rounds = rounds_written[writer].load(Ordering::Relaxed);
                    let passing = id(&format!("passing{writer}-{}", rounds % 7));
                    store
                        .document_put(collection, &passing, &some_json(), &NO_CONDITION, stamp())
                        .await
                        .unwrap();
                    let lasting = id(&stable[rounds % stable.len()]);
                    store
                        .document_put(collection, &lasting, &some_json(), &NO_CONDITION, stamp())
                        .await
                        .unwrap();
                    store
                        .document_delete(collection, &passing, &NO_CONDITION, stamp())
                        .await
                        .unwrap();
                    rounds_written[writer].store(rounds + 1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    // On a busy machine the lists may be quicker than the first writes.
    let all_write = || {
        rounds_written
            .iter()
            .all(|rounds| rounds.load(Ordering::Relaxed) > 0)
    };
    let given_up_at = Instant::now() + WRITERS_START_WITHIN;
    for round in 0.. {
        if round >= 12 && all_write() {
            break;
        }
        assert!(Instant::now() < given_up_at, "a writer did nothing");
        let listed = list_all(&*store, collection, items(1 + round % 12)).await;
        for name in &stable {
            assert_eq!(listed.get(name), Some(&1), "{name} in round {round}");
        }
        for (name, times) in &listed {
            // A document that is deleted and made again at the same place may be met once, never twice.
            assert_eq!(*times, 1, "{name} in round {round}");
        }
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(
        list_all(&*store, collection, LIMITS).await,
        once(stable),
        "the passing ones are gone"
    );
}

/// The rows of a list must not depend on clocks that agree.
pub(crate) async fn a_recreated_document_is_listed_whatever_the_clock_says(database: &Database) {
    let store = database.open().await;
    let collection = new_collection(&*store).await;
    let (name, now) = (id("a"), stamp().now.micros());
    let listed = async || {
        list_all(&*store, collection, LIMITS)
            .await
            .into_keys()
            .collect::<BTreeSet<_>>()
    };
    for clock in [
        now,
        now - 3_600_000_000,
        1,
        now + 3_600_000_000,
        now - 7_200_000_000,
    ] {
        let made = store
            .document_create(collection, &name, &some_json(), stamp_at(clock))
            .await
            .unwrap();
        assert!(matches!(made, DocumentCreate::Created(_)));
        assert_eq!(
            listed().await,
            BTreeSet::from(["a".to_owned()]),
            "made at {clock}"
        );
        store
            .document_delete(collection, &name, &NO_CONDITION, stamp_at(clock - 5))
            .await
            .unwrap();
        assert_eq!(listed().await, BTreeSet::new(), "deleted at {clock}");
    }
}
