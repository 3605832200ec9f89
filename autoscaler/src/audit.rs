//! The record of decisions: a local file, one JSON object a line, and an Elasticsearch index where one is configured.
//!
//! Recording never holds a tick up: what doesn't fit the queue or can't be written is counted and reported once.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidepool_autoscaler_core::decide::Control;
use tidepool_autoscaler_core::memory::Memory;
use tidepool_autoscaler_core::observe::{Observation, PoolName, UnixMillis};
use tidepool_autoscaler_core::outcome::Decision;
use tidepool_autoscaler_core::spec::PoolSpec;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::AuditConfig;
use crate::files;
use crate::meters::Meters;
use crate::metrics::elasticsearch::{ConnectError, Writer};
use crate::status::StepStatus;

/// Records that wait at most: a minute of 50 pools that all change in each tick of 15 s.
const QUEUE_MAX: usize = 200;
/// The file is put aside at this size, over the one put aside before: two of them are kept.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// One decision with everything that went into it: the same inputs give the same decision again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When.
    #[serde(rename = "@timestamp")]
    pub at: UnixMillis,
    /// Which pool.
    pub pool: PoolName,
    /// The program's version.
    pub version: String,
    /// The decision.
    pub decision: Decision,
    /// Its plan's steps and what came of them.
    pub steps: Vec<StepStatus>,
    /// What an operator should know, a sentence each.
    #[serde(default)]
    pub problems: Vec<String>,
    /// What it was made from.
    pub inputs: Inputs,
}

/// What a decision is made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    /// The pool's settings.
    pub spec: PoolSpec,
    /// What was seen.
    pub observation: Observation,
    /// What was remembered, with the observation taken in.
    pub memory: Memory,
    /// Who decides about the size.
    pub control: Control,
}

/// Where records are handed in.
#[derive(Debug, Clone)]
pub struct Audit {
    queue: mpsc::Sender<Box<Record>>,
    sinks: Arc<Sinks>,
}

/// Where records go, and which of these places fail now.
#[derive(Debug)]
struct Sinks {
    meters: Arc<Meters>,
    failing: Mutex<BTreeMap<&'static str, String>>,
}

impl Audit {
    /// Opens the file and starts the writer, which ends when the last `Audit` is dropped.
    pub fn start(config: &AuditConfig, meters: Arc<Meters>) -> Result<(Audit, JoinHandle<()>), AuditError> {
        let file = AuditFile::open(&config.file)?;
        let index = match &config.index {
            None => None,
            Some(index) => Some(Index {
                writer: Writer::new(&index.server, &index.name)?,
                name: index.name.clone(),
            }),
        };
        let (queue, records) = mpsc::channel(QUEUE_MAX);
        let failing = Mutex::default();
        let sinks = Arc::new(Sinks { meters, failing });
        let task = tokio::spawn(write_all(file, index, records, Arc::clone(&sinks)));
        Ok((Audit { queue, sinks }, task))
    }

    /// Where decisions are not recorded now, and why, a sentence each.
    pub fn problems(&self) -> Vec<String> {
        self.sinks.failing().values().cloned().collect()
    }

    /// Hands a record in.
    pub fn record(&self, record: Record) {
        if self.queue.try_send(Box::new(record)).is_err() {
            self.sinks.meters.audit_failed("queue");
        }
    }
}

/// Why records can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file can't be written.
    #[error("the audit file {path} can't be written", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The Elasticsearch client can't be made.
    #[error("the audit index can't be used")]
    Index(#[from] ConnectError),
}

/// An index that records go to.
#[derive(Debug)]
struct Index {
    writer: Writer,
    name: String,
}

/// Writes records into the file, and hands each on to the index, which has a queue of its own: one that hangs costs the file
/// nothing.
async fn write_all(
    mut file: AuditFile,
    index: Option<Index>,
    mut records: mpsc::Receiver<Box<Record>>,
    sinks: Arc<Sinks>,
) {
    let (queue, handed_on) = mpsc::channel(QUEUE_MAX);
    let queue = index.is_some().then_some(queue);
    let to_index = async {
        if let Some(index) = index {
            write_to_index(&index, handed_on, &sinks).await;
        }
    };
    let to_file = async {
        let queue = queue;
        while let Some(record) = records.recv().await {
            let place = file.path.display().to_string();
            let result = file.append(&record).map_err(|error| error.to_string());
            sinks.report("file", &place, result);
            if let Some(queue) = &queue
                && queue.try_send(record).is_err()
            {
                sinks.meters.audit_failed("elasticsearch");
            }
        }
    };
    tokio::join!(to_file, to_index);
}

async fn write_to_index(index: &Index, mut records: mpsc::Receiver<Box<Record>>, sinks: &Sinks) {
    while let Some(record) = records.recv().await {
        let result = match document(&record) {
            Ok(document) => index.writer.write(document).await,
            Err(error) => Err(error.to_string()),
        };
        sinks.report("elasticsearch", &index.name, result);
    }
}

impl Sinks {
    fn failing(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a failure; says it when it begins, and when it is over.
    fn report(&self, sink: &'static str, place: &str, result: Result<(), String>) {
        match result {
            Ok(()) => {
                if self.failing().remove(sink).is_some() {
                    tracing::info!(sink, "decisions are recorded again");
                }
            }
            Err(error) => {
                self.meters.audit_failed(sink);
                let problem = format!("decisions are not recorded in {place}: {error}");
                if self.failing().insert(sink, problem).is_none() {
                    tracing::warn!(sink, error, "decisions are not recorded");
                }
            }
        }
    }
}

/// The document for an index. The inputs are text in it: their keys are members' names, and would become a field each.
fn document(record: &Record) -> serde_json::Result<Value> {
    let inputs = serde_json::to_string(&record.inputs)?;
    let mut document = serde_json::to_value(record)?;
    if let Value::Object(fields) = &mut document {
        fields.insert("inputs".to_owned(), Value::String(inputs));
        if let Ok(at) = jiff::Timestamp::from_millisecond(record.at.0) {
            // As text, for an index without a mapping takes a number for a number.
            fields.insert("@timestamp".to_owned(), Value::String(at.to_string()));
        }
        if let Some(Value::Object(decision)) = fields.get_mut("decision") {
            let proposals = decision.remove("proposals").unwrap_or_default();
            let formulas = proposals
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|p| p.get("formula").cloned());
            let formulas: Vec<Value> = formulas.collect();
            decision.insert("formulas".to_owned(), Value::Array(formulas));
        }
    }
    Ok(document)
}

#[derive(Debug)]
struct AuditFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// Its last line may have no end: a disk that was full took half of it, or a crash cut it off.
    torn: bool,
}

impl AuditFile {
    fn open(path: &Path) -> Result<AuditFile, AuditError> {
        let failed = |source| AuditError::File {
            path: path.to_owned(),
            source,
        };
        let file = open_to_append(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        Ok(AuditFile {
            path: path.to_owned(),
            torn: bytes > 0 && !ends_with_a_line(path, bytes).map_err(failed)?,
            file,
            bytes,
        })
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        if self.bytes > FILE_BYTES_MAX {
            std::fs::rename(&self.path, self.path.with_extension("jsonl.1"))?;
            self.file = open_to_append(&self.path)?;
            (self.bytes, self.torn) = (0, false);
        }
        let mut line = Vec::new();
        if self.torn {
            line.push(b'\n');
        }
        serde_json::to_writer(&mut line, record)?;
        line.push(b'\n');
        self.bytes += line.len() as u64;
        self.torn = true;
        self.file.write_all(&line)?;
        self.torn = false;
        Ok(())
    }
}

fn ends_with_a_line(path: &Path, bytes: u64) -> io::Result<bool> {
    let file = tidepool_listener::open_regular(path, OpenOptions::new().read(true))?;
    let mut last = [0];
    file.read_exact_at(&mut last, bytes.saturating_sub(1))?;
    Ok(last == [b'\n'])
}

fn open_to_append(path: &Path) -> io::Result<File> {
    tidepool_listener::open_regular(path, files::private().create(true).append(true))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use tidepool_autoscaler_core::decide::decide;
    use wiremock::matchers::{method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;
    use crate::config::AuditIndex;
    use crate::metrics::elasticsearch::{Auth, ElasticsearchConfig};

    fn record() -> Record {
        let spec = crate::test_pool::spec("api");
        let seen = Observation {
            at: UnixMillis(1_700_000_000_000),
            members: Vec::new(),
            unseen: 0,
            may_go_on: false,
            provider_ahead_millis: Some(0),
            missing: BTreeSet::new(),
            drained: BTreeSet::new(),
            signals: BTreeMap::new(),
        };
        let memory = Memory::default().observe(&spec, &seen);
        let decision = decide(&spec, &seen, &memory, Control::Auto);
        Record {
            at: seen.at,
            pool: spec.name.clone(),
            version: "0".to_owned(),
            decision,
            steps: Vec::new(),
            problems: Vec::new(),
            inputs: Inputs {
                spec,
                observation: seen,
                memory,
                control: Control::Auto,
            },
        }
    }

    async fn recorded(server: &MockServer, dir: &Path, count: usize) -> (Vec<Record>, String) {
        let meters = Arc::new(Meters::new().unwrap());
        let index = AuditIndex {
            name: "decisions".to_owned(),
            server: ElasticsearchConfig::new(server.uri(), Auth::Anonymous),
        };
        let file = dir.join("audit.jsonl");
        let config = AuditConfig {
            file: file.clone(),
            index: Some(index),
        };
        let (audit, task) = Audit::start(&config, Arc::clone(&meters)).unwrap();
        (0..count).for_each(|_| audit.record(record()));
        drop(audit);
        task.await.unwrap();
        let text = std::fs::read_to_string(file).unwrap();
        let records = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (records, String::from_utf8(meters.text().unwrap()).unwrap())
    }

    #[tokio::test]
    async fn a_decision_goes_to_the_file_whole_and_to_the_index_with_few_fields() {
        let (server, dir) = (MockServer::start().await, tempfile::tempdir().unwrap());
        let took = ResponseTemplate::new(201).set_body_raw("{}", "application/json");
        let index = Mock::given(method("POST")).and(path("/decisions/_doc"));
        index.respond_with(took).expect(1).mount(&server).await;
        let (records, meters) = recorded(&server, dir.path(), 1).await;
        assert_eq!(records, [record()]);
        assert!(
            !meters.contains("tidepool_autoscaler_audit_errors_total{"),
            "{meters}"
        );
        let requests = server.received_requests().await.unwrap();
        let document: Value = requests.first().unwrap().body_json().unwrap();
        assert_eq!(document.get("@timestamp").unwrap(), "2023-11-14T22:13:20Z");
        let inputs: Inputs = serde_json::from_str(document.get("inputs").unwrap().as_str().unwrap()).unwrap();
        assert_eq!(inputs, record().inputs);
        assert!(document.pointer("/decision/proposals").is_none());
        assert!(document.pointer("/decision/formulas").unwrap().is_array());
    }

    #[tokio::test]
    async fn an_index_that_fails_is_counted_and_holds_nothing_up() {
        let (server, dir) = (MockServer::start().await, tempfile::tempdir().unwrap());
        let full = Mock::given(method("POST")).respond_with(ResponseTemplate::new(503));
        full.mount(&server).await;
        let (records, meters) = recorded(&server, dir.path(), 2).await;
        assert_eq!(records.len(), 2);
        let counted = r#"tidepool_autoscaler_audit_errors_total{sink="elasticsearch"} 2"#;
        assert!(meters.contains(counted), "{meters}");
    }

    /// What Elasticsearch says, and not its status alone.
    #[tokio::test]
    async fn why_an_index_does_not_take_a_decision_is_told() {
        let (server, dir) = (MockServer::start().await, tempfile::tempdir().unwrap());
        let reason = r#"{"error":{"type":"security_exception","reason":"action [indices:data/write/index] is unauthorized"},"status":403}"#;
        let refused = ResponseTemplate::new(403).set_body_raw(reason, "application/json");
        Mock::given(method("POST"))
            .respond_with(refused)
            .mount(&server)
            .await;
        let audit = audit_to(&server, dir.path(), Duration::from_secs(5));
        audit.record(record());
        let problems = until(|| Some(audit.problems()).filter(|problems| !problems.is_empty())).await;
        let expected = "decisions are not recorded in decisions: HTTP 403: security_exception: action [indices:data/write/index] is unauthorized";
        assert_eq!(problems, [expected]);
    }

    /// The file takes all of them, though the index has not answered the first.
    #[tokio::test]
    async fn an_index_that_hangs_costs_the_file_nothing() {
        let (server, dir) = (MockServer::start().await, tempfile::tempdir().unwrap());
        let never = ResponseTemplate::new(201).set_delay(Duration::from_secs(600));
        Mock::given(method("POST"))
            .respond_with(never)
            .mount(&server)
            .await;
        let audit = audit_to(&server, dir.path(), Duration::from_secs(600));
        let count = QUEUE_MAX + 50;
        let lines = || {
            let text = std::fs::read_to_string(dir.path().join("audit.jsonl")).unwrap();
            text.lines().count()
        };
        for written in 1..=count {
            audit.record(record());
            until(|| (lines() == written).then_some(())).await;
        }
        assert_eq!(lines(), count);
    }

    fn audit_to(server: &MockServer, dir: &Path, timeout: Duration) -> Audit {
        let server = ElasticsearchConfig {
            timeout,
            ..ElasticsearchConfig::new(server.uri(), Auth::Anonymous)
        };
        let config = AuditConfig {
            file: dir.join("audit.jsonl"),
            index: Some(AuditIndex {
                name: "decisions".to_owned(),
                server,
            }),
        };
        Audit::start(&config, Arc::new(Meters::new().unwrap())).unwrap().0
    }

    /// What comes to be, within a deadline.
    async fn until<T>(come: impl Fn() -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(value) = come() {
                return value;
            }
            assert!(tokio::time::Instant::now() < deadline, "it did not come");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// After half a line of a full disk or of a crash the next one stands on its own.
    #[test]
    fn a_line_after_half_a_line_stands_on_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        std::fs::write(&path, "{\"@timestamp\":17").unwrap();
        let mut file = AuditFile::open(&path).unwrap();
        file.append(&record()).unwrap();
        file.file.write_all(b"{\"@time").unwrap();
        file.torn = true;
        file.append(&record()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let whole = text
            .lines()
            .filter(|line| serde_json::from_str::<Record>(line).is_ok());
        assert_eq!(whole.count(), 2, "{text}");
        // Nor is there an empty line where nothing was cut off.
        AuditFile::open(&path).unwrap().append(&record()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 5, "{text}");
    }

    #[tokio::test]
    async fn what_does_not_fit_the_queue_is_counted() {
        let (server, dir) = (MockServer::start().await, tempfile::tempdir().unwrap());
        // On one thread the writer doesn't run before the queue is full.
        let (records, meters) = recorded(&server, dir.path(), QUEUE_MAX + 3).await;
        assert_eq!(records.len(), QUEUE_MAX);
        assert!(
            meters.contains(r#"tidepool_autoscaler_audit_errors_total{sink="queue"} 3"#),
            "{meters}"
        );
    }

    #[test]
    fn a_large_file_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let mut file = AuditFile::open(&path).unwrap();
        file.append(&record()).unwrap();
        file.bytes = FILE_BYTES_MAX + 1;
        file.append(&record()).unwrap();
        let lines = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&path), lines(&dir.path().join("audit.jsonl.1"))), (1, 1));
    }

    /// If it hung, the whole test would.
    #[test]
    fn what_is_not_a_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [path.as_path(), Path::new("/dev/full")] {
            let error = crate::chain(&AuditFile::open(path).unwrap_err());
            assert!(error.ends_with("can't be written: not a regular file"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_a_problem_of_the_status_until_it_is_over() {
        async fn problems_after(file: AuditFile, sinks: &Arc<Sinks>) -> Vec<String> {
            let (queue, records) = mpsc::channel(QUEUE_MAX);
            let audit = Audit {
                queue: queue.clone(),
                sinks: Arc::clone(sinks),
            };
            let written = tokio::spawn(write_all(file, None, records, Arc::clone(sinks)));
            audit.record(record());
            let Audit { queue: last, sinks } = audit;
            drop((queue, last));
            written.await.unwrap();
            let (queue, _) = mpsc::channel(1);
            Audit { queue, sinks }.problems()
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let sinks = Arc::new(Sinks {
            meters: Arc::new(Meters::new().unwrap()),
            failing: Mutex::default(),
        });
        let mut full = AuditFile::open(&path).unwrap();
        full.file = File::options().write(true).open("/dev/full").unwrap();
        let why = "No space left on device (os error 28)";
        let problem = format!("decisions are not recorded in {}: {why}", path.display());
        assert_eq!(problems_after(full, &sinks).await, [problem]);
        let emptied = AuditFile::open(&path).unwrap();
        assert_eq!(problems_after(emptied, &sinks).await, [""; 0]);
    }
}
