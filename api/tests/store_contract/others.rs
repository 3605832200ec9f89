//! Keys, the secret, readiness and timing.

#![expect(clippy::disallowed_methods, reason = "tests")]

use prometheus::Registry;
use tidepool_api::domain::Timestamp;
use tidepool_api::store::{AccessOpen, KeyCreate, KeyRecord, observed};

use crate::database::{Database, id, new_collection, some_name};

fn key(name: &str, expires_at: Option<Timestamp>) -> KeyRecord {
    KeyRecord {
        name: name.to_owned(),
        hash: rand::random(),
        scopes: vec!["read:*".to_owned(), "write:notes-\"*".to_owned()],
        created_at: Timestamp(1_763_735_520_123_456),
        expires_at,
    }
}

pub(crate) async fn keys_are_kept_by_name(database: &Database) {
    let (one, two) = (database.open().await, database.open().await);
    let prefix = some_name();
    let name = |suffix: &str| format!("{prefix} {suffix}");
    let late = key(&name("b"), Some(Timestamp(-5)));
    let early = key(&name("a"), None);
    assert_eq!(one.key_create(&late).await.unwrap(), KeyCreate::Created);
    assert_eq!(two.key_create(&early).await.unwrap(), KeyCreate::Created);
    assert_eq!(
        two.key_create(&key(&name("b"), None)).await.unwrap(),
        KeyCreate::NameTaken
    );
    let ours = async || {
        let mut keys = one.key_list().await.unwrap();
        keys.retain(|key| key.name.starts_with(prefix.as_str()));
        keys
    };
    assert_eq!(
        ours().await,
        [early.clone(), late.clone()],
        "all, by name, the expired one too"
    );

    assert!(two.key_delete(&late.name).await.unwrap());
    assert!(!two.key_delete(&late.name).await.unwrap());
    assert!(!one.key_delete(&name("never")).await.unwrap());
    assert_eq!(ours().await, std::slice::from_ref(&early));
    let again = key(&late.name, None);
    assert_eq!(one.key_create(&again).await.unwrap(), KeyCreate::Created);
    assert_eq!(ours().await, [early.clone(), again.clone()]);
    for key in [early, again] {
        assert!(one.key_delete(&key.name).await.unwrap());
    }
}

pub(crate) async fn a_store_that_had_keys_is_closed_until_it_is_opened(database: &Database) {
    // Of its own: other tests make keys.
    let database = database.fresh();
    let (one, two) = (database.open().await, database.open().await);
    assert!(!one.access_is_closed().await.unwrap());
    assert_eq!(one.access_open().await.unwrap(), AccessOpen::WasOpen);
    let only = key("only", Some(Timestamp(1)));
    one.key_create(&only).await.unwrap();
    assert!(two.access_is_closed().await.unwrap());
    assert_eq!(two.access_open().await.unwrap(), AccessOpen::HasKeys);
    assert!(two.key_delete("only").await.unwrap());
    assert!(
        one.access_is_closed().await.unwrap(),
        "removing the last key opens nothing"
    );
    let later = database.open().await;
    assert!(later.access_is_closed().await.unwrap());
    assert_eq!(later.access_open().await.unwrap(), AccessOpen::Opened);
    assert!(!one.access_is_closed().await.unwrap());
    one.access_close().await.unwrap();
    one.access_close().await.unwrap();
    assert!(two.access_is_closed().await.unwrap());
    one.close().await.unwrap();
}

pub(crate) async fn the_secret_is_one_for_all(database: &Database) {
    let (one, two) = (database.open().await, database.open().await);
    let secret = one.cluster_secret().await.unwrap();
    assert_eq!(two.cluster_secret().await.unwrap(), secret);
    assert_ne!(secret, [0; 32]);
    if !database.is_cassandra() {
        let other = database.fresh().open().await.cluster_secret().await.unwrap();
        assert_ne!(other, secret, "every database has its own");
    }
}

pub(crate) async fn a_store_that_works_is_ready(database: &Database) {
    database.open().await.ready().await.unwrap();
}

/// How often an operation was timed.
pub(crate) fn calls(registry: &Registry, operation: &str) -> u64 {
    let families = registry.gather();
    let family = families
        .iter()
        .find(|family| family.name() == "tidepool_store_duration_seconds")
        .unwrap();
    let metric = family
        .get_metric()
        .iter()
        .find(|metric| metric.get_label().iter().any(|label| label.value() == operation))
        .unwrap();
    metric.get_histogram().get_sample_count()
}

pub(crate) async fn operations_are_timed(database: &Database) {
    let registry = Registry::new();
    let store = observed(database.open().await, &registry).unwrap();
    let collection = new_collection(&*store).await;
    for _ in 0..3 {
        store.document_fetch(collection, &id("a")).await.unwrap();
    }
    assert_eq!(calls(&registry, "document_fetch"), 3);
    assert_eq!(calls(&registry, "collection_put"), 1);
    assert_eq!(
        calls(&registry, "document_delete"),
        0,
        "operations without calls are there too"
    );
}
