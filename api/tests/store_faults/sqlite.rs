//! Faults of the embedded store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidepool_api::store::{self, OpenError, OpenOptions, PageLimits, Store, StoreErrorKind};

use crate::child::Running;
use crate::values::{NO_CONDITION, collection, id, json, stamp};

struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("tide.db")
    }
}

async fn try_open(file: &Path) -> Result<Arc<dyn Store>, OpenError> {
    let url = store::StoreUrl::Sqlite {
        file: file.to_owned(),
    };
    store::open(&url, OpenOptions::default()).await
}

async fn open(file: &Path) -> Arc<dyn Store> {
    try_open(file).await.unwrap()
}

/// Every acknowledged document is there, whole, and listed once; what was not acknowledged may be there too.
async fn assert_all_there(file: &Path, acknowledged: &[String]) {
    let store = open(file).await;
    let connection = rusqlite::Connection::open(file).unwrap();
    let pragma = |name: &str| {
        let answer = connection.pragma_query_value(None, name, |row| row.get::<_, String>(0));
        answer.unwrap()
    };
    assert_eq!(pragma("integrity_check"), "ok");
    // A commit is torn only now and then; a log on the disk is what makes that harmless each time.
    assert_eq!(pragma("journal_mode"), "wal");
    let collection = collection(&*store, "faults").await;
    for name in acknowledged {
        let document = store.document_fetch(collection, &id(name)).await.unwrap();
        let document = document.unwrap_or_else(|| panic!("{name} was acknowledged and is lost"));
        let text = std::str::from_utf8(document.data.as_bytes()).unwrap();
        assert!(
            text.contains(&format!("\"{name}\"")) && text.ends_with("\"}"),
            "{name} is damaged"
        );
    }
    let limits = PageLimits {
        items_max: 1000,
        bytes_max: 1024 * 1024,
    };
    let (mut listed, mut cursor) = (Vec::new(), None);
    loop {
        let page = store
            .document_page(collection, cursor.as_ref(), limits)
            .await
            .unwrap();
        listed.extend(
            page.documents
                .iter()
                .map(|document| document.id.as_str().to_owned()),
        );
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    for name in acknowledged {
        let times = listed.iter().filter(|listed| *listed == name).count();
        assert_eq!(times, 1, "{name} in the list");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_a_kill_in_mid_write() {
    let folder = Folder::new();
    let mut acknowledged = Vec::new();
    for round in 0_u64..16 {
        // Large documents make a commit long enough to be killed in its middle, a little later in each round.
        let role = if round.is_multiple_of(2) {
            "write"
        } else {
            "write-large"
        };
        let later = Duration::from_micros(round * 190);
        let mut child = Running::start(role, &folder.file(), &format!("r{round}"));
        child.expect("ready");
        let mut killed = false;
        let mut in_this_round = 0;
        while let Some(said) = child.next() {
            acknowledged.push(
                said.strip_prefix("ack ")
                    .expect("only acknowledgements")
                    .to_owned(),
            );
            in_this_round += 1;
            if in_this_round == 50 + round * 17 && !killed {
                std::thread::sleep(later);
                child.kill_9();
                killed = true;
                // What it still said before the end counts as well: those were acknowledged.
            }
        }
        assert!(killed, "the child ended by itself");
        assert_all_there(&folder.file(), &acknowledged).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_a_file() {
    let folder = Folder::new();
    let mut children: Vec<_> = ["one", "two", "three"]
        .iter()
        .map(|name| Running::start("write", &folder.file(), name))
        .collect();
    let mut acknowledged = Vec::new();
    for child in &mut children {
        child.expect("ready");
    }
    for child in &mut children {
        for _ in 0..100 {
            let said = child.next().expect("the child ended");
            acknowledged.push(
                said.strip_prefix("ack ")
                    .expect("only acknowledgements")
                    .to_owned(),
            );
        }
    }
    for child in &mut children {
        child.kill_9();
        while let Some(said) = child.next() {
            acknowledged.push(
                said.strip_prefix("ack ")
                    .expect("only acknowledgements")
                    .to_owned(),
            );
        }
    }
    assert_all_there(&folder.file(), &acknowledged).await;
}

/// Contract: writes are refused in time, are never written later, and reads go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_held_by_another_process_refuses_writes_and_nothing_else() {
    let folder = Folder::new();
    let store = open(&folder.file()).await;
    let collection = collection(&*store, "faults").await;
    let there = id("there");
    store
        .document_create(collection, &there, &json("{}".to_owned()), stamp())
        .await
        .unwrap();
    let mut child = Running::start("lock", &folder.file(), "");
    child.expect("ready");

    let began = Instant::now();
    // More than the queue holds: the first ones wait their time, the others are refused at once.
    let writers: Vec<_> = (0..1200)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let (id, data) = (id(&format!("late{number}")), json("{}".to_owned()));
                let began = Instant::now();
                let error = store
                    .document_create(collection, &id, &data, stamp())
                    .await
                    .unwrap_err();
                assert_eq!(error.kind, StoreErrorKind::Unavailable, "{error:?}");
                began.elapsed()
            })
        })
        .collect();
    let mut slowest_read = Duration::ZERO;
    for _ in 0..200 {
        let began = Instant::now();
        assert!(store.document_fetch(collection, &there).await.unwrap().is_some());
        store.ready().await.unwrap();
        slowest_read = slowest_read.max(began.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(
        slowest_read < Duration::from_secs(1),
        "a read took {slowest_read:?}"
    );
    let mut at_once = 0;
    for writer in writers {
        let waited = writer.await.unwrap();
        at_once += usize::from(waited < Duration::from_secs(4));
    }
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "refused after {:?}",
        began.elapsed()
    );
    assert!(
        (100..=300).contains(&at_once),
        "{at_once} of 1200 were refused at once"
    );

    child.go_on();
    child.expect("released");
    // The writes that were taken back leave the queue when the writer next looks.
    let deadline = Instant::now() + Duration::from_secs(5);
    let data = json("{\"n\": 2}".to_owned());
    while let Err(error) = store
        .document_put(collection, &there, &data, &NO_CONDITION, stamp())
        .await
    {
        assert!(Instant::now() < deadline, "writes don't go on: {error:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The queue is served in order: now that this one is through, everything before it has had its turn.
    let limits = PageLimits {
        items_max: 1000,
        bytes_max: 1024 * 1024,
    };
    let page = store.document_page(collection, None, limits).await.unwrap();
    assert_eq!(page.documents.len(), 1, "a refused write was written later");
}

/// Files can't grow beyond a limit, as on a full or failing disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_refuses_to_grow_loses_nothing_acknowledged() {
    let folder = Folder::new();
    drop(open(&folder.file()).await);
    let mut child = Running::start_limited("write-large", &folder.file(), "full", 6 * 1024 * 1024);
    child.expect("ready");
    let (mut acknowledged, mut refused, mut read) = (Vec::new(), 0, None);
    while let Some(said) = child.next() {
        match said.split_once(' ').unwrap() {
            ("ack", name) => {
                acknowledged.push(name.to_owned());
                // The file and its log together hold 12 MiB: some 250 documents of 50 kB.
                assert!(acknowledged.len() < 500, "acknowledged, and no room for it");
            }
            ("failed", what) => {
                assert!(!what.starts_with("internal"), "{what}");
                refused += 1;
            }
            ("read", answer) => read = Some(answer == "true"),
            other => panic!("{other:?}"),
        }
    }
    assert!(
        acknowledged.len() >= 20,
        "{} documents before the limit",
        acknowledged.len()
    );
    assert_eq!(refused, 8, "every writer was refused in the end");
    assert_eq!(read, Some(true), "documents can be read on");
    // Without the limit it goes on.
    assert_all_there(&folder.file(), &acknowledged).await;
    let store = open(&folder.file()).await;
    let collection = collection(&*store, "faults").await;
    store
        .document_create(collection, &id("after"), &json("{}".to_owned()), stamp())
        .await
        .unwrap();
}

async fn refusal(file: &Path) -> String {
    match try_open(file).await {
        Ok(_) => panic!("{} was opened", file.display()),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_file_that_is_not_our_database_is_refused_and_left_alone() {
    let folder = Folder::new();
    let garbage = folder.folder.path().join("garbage.db");
    std::fs::write(
        &garbage,
        b"not a database at all, but long enough to look like one. ".repeat(100),
    )
    .unwrap();
    assert!(refusal(&garbage).await.contains("can't be read as a database"));
    assert!(std::fs::read(&garbage).unwrap().starts_with(b"not a database"));

    let other = folder.folder.path().join("other.db");
    let connection = rusqlite::Connection::open(&other).unwrap();
    connection
        .execute_batch("CREATE TABLE somebody (elses INTEGER)")
        .unwrap();
    assert!(refusal(&other).await.contains("another program's database"));
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tables, 1);

    assert!(refusal(folder.folder.path()).await.contains("folder"));
    assert!(
        refusal(&folder.folder.path().join("no/such/folder.db"))
            .await
            .contains("can't be opened or made")
    );
}

#[tokio::test]
async fn a_newer_programs_schema_is_refused() {
    let folder = Folder::new();
    drop(open(&folder.file()).await);
    let connection = rusqlite::Connection::open(folder.file()).unwrap();
    connection
        .execute(
            "INSERT INTO schema_migrations (version, applied_at) VALUES (99, datetime('now'))",
            [],
        )
        .unwrap();
    let refused = try_open(&folder.file()).await.map(|_| ()).unwrap_err();
    assert!(
        matches!(refused, OpenError::SchemaTooNew { found: 99, .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("newer program"));
}

/// Pages overwritten behind SQLite's back: an error, not somebody's data.
#[tokio::test]
async fn a_damaged_file_answers_with_an_error() {
    let folder = Folder::new();
    {
        let store = open(&folder.file()).await;
        let collection = collection(&*store, "faults").await;
        for number in 0..200 {
            let data = json(format!("{{\"x\": \"{}\"}}", "x".repeat(2000)));
            store
                .document_create(collection, &id(&format!("d{number}")), &data, stamp())
                .await
                .unwrap();
        }
    }
    let connection = rusqlite::Connection::open(folder.file()).unwrap();
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    drop(connection);
    let mut bytes = std::fs::read(folder.file()).unwrap();
    let begin = bytes.len() / 8;
    bytes[begin..].fill(0x5a);
    std::fs::write(folder.file(), bytes).unwrap();

    let failed = match try_open(&folder.file()).await {
        Err(OpenError::Refused { .. }) => true,
        Err(other) => panic!("{other}"),
        Ok(store) => {
            let mut failed = false;
            match store.collection_list(None, 10).await {
                Err(error) => failed = error.kind == StoreErrorKind::Internal,
                Ok(found) => {
                    for number in 0..200 {
                        let fetched = store
                            .document_fetch(found[0].id, &id(&format!("d{number}")))
                            .await;
                        failed |= fetched.is_err_and(|error| error.kind == StoreErrorKind::Internal);
                    }
                }
            }
            failed
        }
    };
    assert!(failed, "nothing noticed the damage");
}
