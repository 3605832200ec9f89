//! Faults of the distributed store: a cluster that is down at the start, a node killed, nodes that stand still.

#![expect(clippy::disallowed_methods, reason = "tests")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tidepool_api::domain::{CollectionId, DocumentId, Version};
use tidepool_api::store::{
    self, DocumentCreate, DocumentPut, KeyCreate, KeyRecord, OpenError, OpenOptions, PageLimits, Store,
    StoreErrorKind,
};

use crate::values::{NO_CONDITION, collection, id, json, stamp};

/// One fault at a time: the tests share the cluster.
static CLUSTER: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Cluster {
    hosts: String,
    folder: PathBuf,
}

impl Cluster {
    fn find(test: &str) -> Option<Self> {
        let name = format!("store_faults cassandra::{test}");
        let missing = |variable: &str| {
            println!("SKIPPED: {name} needs a Cassandra cluster");
            println!("tidepool-skip: {name}: {variable} is not set");
        };
        let Ok(hosts) = std::env::var("TIDEPOOL_TEST_CASSANDRA") else {
            missing("TIDEPOOL_TEST_CASSANDRA");
            return None;
        };
        let Some(folder) = std::env::var_os("TIDEPOOL_TEST_CASSANDRA_DIR") else {
            missing("TIDEPOOL_TEST_CASSANDRA_DIR");
            return None;
        };
        Some(Self {
            hosts,
            folder: folder.into(),
        })
    }

    async fn open(&self) -> Arc<dyn Store> {
        let url = format!("cassandra://{}/tidepool_faults", self.hosts);
        store::open(&url.parse().unwrap(), OpenOptions::default())
            .await
            .unwrap()
    }

    fn script(&self, name: &str, node: usize) {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../services/cassandra")
            .join(name);
        let status = Command::new(script)
            .arg(&self.folder)
            .arg(node.to_string())
            .status()
            .unwrap();
        assert!(status.success(), "{name} {node}: {status}");
    }

    fn pid(&self, node: usize) -> Pid {
        let file = self.folder.join(format!("cassandra/node{node}/pid"));
        Pid::from_raw(std::fs::read_to_string(file).unwrap().trim().parse().unwrap())
    }
}

/// A node that is down, and is started again whatever becomes of the test.
struct Killed<'a> {
    cluster: &'a Cluster,
    node: usize,
}

impl Drop for Killed<'_> {
    fn drop(&mut self) {
        // The script returns when every node sees all others up.
        self.cluster.script("start-node", self.node);
    }
}

/// Nodes that stand still, and go on whatever becomes of the test.
struct Stopped(Vec<Pid>);

impl Stopped {
    fn stop(cluster: &Cluster, nodes: &[usize]) -> Self {
        let stopped = Self(nodes.iter().map(|node| cluster.pid(*node)).collect());
        for pid in &stopped.0 {
            kill(*pid, Signal::SIGSTOP).unwrap();
        }
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            kill(*pid, Signal::SIGCONT).unwrap();
        }
    }
}

#[tokio::test]
async fn a_cluster_that_is_down_at_the_start_is_waited_for_and_given_up() {
    let options = OpenOptions {
        startup_wait: Duration::from_secs(3),
        ..OpenOptions::default()
    };
    let began = Instant::now();
    // Port 1 of a loopback address that nobody uses: refused at once, each time.
    let opened = store::open(&"cassandra://127.0.0.66:1/tide".parse().unwrap(), options).await;
    let error = opened.map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.66:1"), "{error}");
    let waited = began.elapsed();
    assert!(
        waited >= Duration::from_secs(1) && waited < Duration::from_secs(10),
        "{waited:?}"
    );
}

/// What one writer knows of one document: the last acknowledged version, and whether a later write is unknown.
#[derive(Debug, Clone, Copy)]
struct Known {
    version: Version,
    unknown_since: bool,
}

#[derive(Default)]
struct Tally {
    acknowledged: AtomicUsize,
    unknown: AtomicUsize,
    unavailable: AtomicUsize,
}

/// Creates documents, and changes each once, until it is told to stop.
async fn write(
    store: Arc<dyn Store>,
    collection: CollectionId,
    writer: usize,
    stop: Arc<AtomicBool>,
    tally: Arc<Tally>,
) -> BTreeMap<String, Known> {
    let mut known = BTreeMap::new();
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("w{writer}-{number}");
        let began = Instant::now();
        let created = store
            .document_create(collection, &id(&name), &json("{\"n\": 1}".to_owned()), stamp())
            .await;
        assert!(
            began.elapsed() < Duration::from_secs(12),
            "an answer after {:?}",
            began.elapsed()
        );
        match created {
            Ok(DocumentCreate::Created(meta)) => {
                tally.acknowledged.fetch_add(1, Ordering::Relaxed);
                let version = meta.version;
                known.insert(
                    name.clone(),
                    Known {
                        version,
                        unknown_since: false,
                    },
                );
            }
            Ok(DocumentCreate::AlreadyExists) => {
                panic!("{name}: our own create was taken for somebody else's")
            }
            Err(error) => {
                count(&tally, error.kind);
                continue;
            }
        }
        let data = json("{\"n\": 2}".to_owned());
        let put = store
            .document_put(collection, &id(&name), &data, &NO_CONDITION, stamp())
            .await;
        let entry = known.get_mut(&name).unwrap();
        match put {
            Ok(DocumentPut::Replaced(meta)) => {
                tally.acknowledged.fetch_add(1, Ordering::Relaxed);
                entry.version = meta.version;
            }
            Ok(other) => panic!("{name} was there, but its put answered {other:?}"),
            Err(error) => {
                count(&tally, error.kind);
                entry.unknown_since = error.kind == StoreErrorKind::UnknownOutcome;
            }
        }
    }
    known
}

fn count(tally: &Tally, kind: StoreErrorKind) {
    match kind {
        StoreErrorKind::UnknownOutcome => tally.unknown.fetch_add(1, Ordering::Relaxed),
        StoreErrorKind::Unavailable => tally.unavailable.fetch_add(1, Ordering::Relaxed),
        StoreErrorKind::Internal => panic!("an internal error"),
    };
}

/// Waits until that many more writes were acknowledged.
async fn progress(tally: &Tally, more: usize, within: Duration) {
    let (goal, deadline) = (
        tally.acknowledged.load(Ordering::Relaxed) + more,
        Instant::now() + within,
    );
    while tally.acknowledged.load(Ordering::Relaxed) < goal {
        assert!(
            Instant::now() < deadline,
            "no {more} more writes within {within:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_under_writes_loses_nothing_acknowledged() {
    let Some(cluster) = Cluster::find("a_node_killed_under_writes_loses_nothing_acknowledged") else {
        return;
    };
    let _one = CLUSTER.lock().await;
    let store = cluster.open().await;
    let collection = collection(&*store, &format!("kill{}", uuid::Uuid::new_v4().simple())).await;
    let (stop, tally) = (Arc::new(AtomicBool::new(false)), Arc::new(Tally::default()));
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (stop, tally) = (Arc::clone(&stop), Arc::clone(&tally));
            tokio::spawn(write(Arc::clone(&store), collection, writer, stop, tally))
        })
        .collect();
    progress(&tally, 200, Duration::from_secs(60)).await;
    cluster.script("kill-node", 2);
    let killed = Killed {
        cluster: &cluster,
        node: 2,
    };
    // Two of three are enough: after at most 30 s writes go on as before.
    progress(&tally, 50, Duration::from_secs(30)).await;
    progress(&tally, 200, Duration::from_secs(60)).await;
    stop.store(true, Ordering::Relaxed);
    let mut known = BTreeMap::new();
    for writer in writers {
        known.extend(writer.await.unwrap());
    }
    println!(
        "acknowledged {}, unknown {}, unavailable {}",
        tally.acknowledged.load(Ordering::Relaxed),
        tally.unknown.load(Ordering::Relaxed),
        tally.unavailable.load(Ordering::Relaxed),
    );
    assert_read_back(&*store, collection, &known).await;
    // With the node back, through whichever it may be read, it is the same.
    tokio::task::block_in_place(|| drop(killed));
    let again = cluster.open().await;
    assert_read_back(&*again, collection, &known).await;
}

async fn assert_read_back(store: &dyn Store, collection: CollectionId, known: &BTreeMap<String, Known>) {
    for (name, known) in known {
        let found = store.document_fetch(collection, &id(name)).await.unwrap();
        let found = found.unwrap_or_else(|| panic!("{name} was acknowledged and is lost"));
        if known.unknown_since {
            assert!(found.meta.version >= known.version, "{name} went back");
        } else {
            assert_eq!(
                found.meta.version, known.version,
                "{name} is not what was acknowledged"
            );
        }
    }
    let limits = PageLimits {
        items_max: 500,
        bytes_max: 8 * 1024 * 1024,
    };
    let (mut listed, mut cursor) = (BTreeMap::<String, u32>::new(), None);
    loop {
        let page = store
            .document_page(collection, cursor.as_ref(), limits)
            .await
            .unwrap();
        for document in page.documents {
            *listed.entry(document.id.as_str().to_owned()).or_default() += 1;
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    for name in known.keys() {
        assert_eq!(listed.get(name), Some(&1), "{name} in the list");
    }
}

/// Waits until a document can be written.
async fn writes_go_on(store: &dyn Store, collection: CollectionId) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let data = json("{\"n\": 2}".to_owned());
        let put = store
            .document_put(collection, &id("there"), &data, &NO_CONDITION, stamp())
            .await;
        if put.is_ok() {
            break;
        }
        assert!(Instant::now() < deadline, "writes don't go on: {put:?}");
    }
}

/// Two of three nodes stand still: no answer takes long, and an answer that says "not written" is true for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_stand_still_are_answered_in_time() {
    let Some(cluster) = Cluster::find("nodes_that_stand_still_are_answered_in_time") else {
        return;
    };
    let _one = CLUSTER.lock().await;
    let store = cluster.open().await;
    let collection = collection(&*store, &format!("still{}", uuid::Uuid::new_v4().simple())).await;
    writes_go_on(&*store, collection).await;

    let stopped = Stopped::stop(&cluster, &[2, 3]);
    let writers: Vec<_> = (0..20)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let name = id(&format!("new{number}"));
                let began = Instant::now();
                let created = store
                    .document_create(collection, &name, &json("{}".to_owned()), stamp())
                    .await;
                assert!(
                    began.elapsed() < Duration::from_secs(12),
                    "an answer after {:?}",
                    began.elapsed()
                );
                (name, created.map_err(|error| error.kind))
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for writer in writers {
        outcomes.push(writer.await.unwrap());
    }
    let refused = outcomes.iter().filter(|(_, created)| created.is_err()).count();
    assert!(refused > 0, "a quorum of standing nodes accepted everything");
    drop(stopped);

    writes_go_on(&*store, collection).await;
    for (name, created) in outcomes {
        let found = store.document_fetch(collection, &name).await.unwrap();
        match created {
            Ok(_) => assert!(found.is_some(), "{name} was acknowledged and is lost"),
            Err(StoreErrorKind::Unavailable) => assert!(found.is_none(), "{name} was refused and is there"),
            Err(StoreErrorKind::UnknownOutcome) => {}
            Err(StoreErrorKind::Internal) => panic!("{name}: an internal error"),
        }
    }
}

/// Documents are being written when the nodes stop, and keys, whose transactions read nothing first, are sent to nodes
/// that stand still already. The nodes may carry out either when they go on; then it must not have been called refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_nodes_carry_out_when_they_go_on_was_not_called_refused() {
    let Some(cluster) = Cluster::find("a_write_that_nodes_carry_out_when_they_go_on_was_not_called_refused")
    else {
        return;
    };
    let _one = CLUSTER.lock().await;
    let store = cluster.open().await;
    let run = uuid::Uuid::new_v4().simple();
    let collection = collection(&*store, &format!("open{run}")).await;
    let written = Arc::new(AtomicUsize::new(0));
    let puts: Vec<_> = (0..20)
        .map(|number| {
            let (store, written) = (Arc::clone(&store), Arc::clone(&written));
            tokio::spawn(put_until_refused(
                store,
                collection,
                id(&format!("old{number}")),
                written,
            ))
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    while written.load(Ordering::Relaxed) < 200 {
        assert!(Instant::now() < deadline, "no 200 writes within 60 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let stopped = Stopped::stop(&cluster, &[2, 3]);
    let keys: Vec<_> = (0..6)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let key = some_key(format!("key{number}-{run}"));
                let created = store.key_create(&key).await;
                (key, created.map_err(|error| error.kind))
            })
        })
        .collect();
    let (mut put, mut created) = (Vec::new(), Vec::new());
    for one in puts {
        put.push(one.await.unwrap());
    }
    for key in keys {
        created.push(key.await.unwrap());
    }
    drop(stopped);

    writes_go_on(&*store, collection).await;
    for (id, acknowledged, refused) in put {
        let found = store.document_fetch(collection, &id).await.unwrap();
        let version = found.map(|document| document.meta.version);
        match refused {
            StoreErrorKind::Unavailable => {
                assert_eq!(version, acknowledged, "{id} was refused and is written");
            }
            StoreErrorKind::UnknownOutcome => assert!(version >= acknowledged, "{id} went back"),
            StoreErrorKind::Internal => panic!("{id}: an internal error"),
        }
    }
    let found = store.key_list().await.unwrap();
    for (key, created) in created {
        let is_there = found.contains(&key);
        let name = &key.name;
        match created {
            Ok(KeyCreate::Created) => assert!(is_there, "{name} was acknowledged and is lost"),
            Ok(KeyCreate::NameTaken) => panic!("{name}: nobody else made it"),
            Err(StoreErrorKind::Unavailable) => assert!(!is_there, "{name} was refused and is there"),
            Err(StoreErrorKind::UnknownOutcome) => {}
            Err(StoreErrorKind::Internal) => panic!("{name}: an internal error"),
        }
        // All keys are one partition, where the nodes may still be busy with what they were sent before they stopped.
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = store.key_delete(name).await {
            assert!(Instant::now() < deadline, "{name} can't be deleted: {error:?}");
        }
    }
}

/// Puts a document again and again; the last version that was acknowledged, and why there is no later one.
async fn put_until_refused(
    store: Arc<dyn Store>,
    collection: CollectionId,
    id: DocumentId,
    written: Arc<AtomicUsize>,
) -> (DocumentId, Option<Version>, StoreErrorKind) {
    let mut acknowledged = None;
    let data = json("{\"n\": 2}".to_owned());
    loop {
        match store
            .document_put(collection, &id, &data, &NO_CONDITION, stamp())
            .await
        {
            Ok(DocumentPut::Created(meta) | DocumentPut::Replaced(meta)) => {
                acknowledged = Some(meta.version);
                written.fetch_add(1, Ordering::Relaxed);
            }
            Ok(DocumentPut::PreconditionFailed) => panic!("there was no precondition"),
            Err(error) => return (id, acknowledged, error.kind),
        }
    }
}

fn some_key(name: String) -> KeyRecord {
    KeyRecord {
        name,
        hash: rand::random(),
        scopes: vec!["read:notes".to_owned()],
        created_at: stamp().now,
        expires_at: None,
    }
}
