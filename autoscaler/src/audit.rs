//! The record of decisions: a local file, one JSON object a line, and an Elasticsearch index where one is configured.
//!
//! Recording never holds a tick up: what doesn't fit the queue or can't be written is counted and told once.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use elasticsearch::{Elasticsearch, IndexParts};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidepool_autoscaler_core::decide::{Control, Decision};
use tidepool_autoscaler_core::memory::Memory;
use tidepool_autoscaler_core::observe::{Observation, PoolName, UnixMillis};
use tidepool_autoscaler_core::spec::PoolSpec;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::AuditConfig;
use crate::meters::Meters;
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
    /// The operator's word.
    pub control: Control,
}

/// Where records are handed in.
#[derive(Debug, Clone)]
pub struct Audit {
    queue: mpsc::Sender<Box<Record>>,
    meters: Arc<Meters>,
}

impl Audit {
    /// Opens the file and starts the writer, which ends when the last `Audit` is dropped.
    pub fn start(config: &AuditConfig, meters: Arc<Meters>) -> Result<(Audit, JoinHandle<()>), AuditError> {
        let file = AuditFile::open(&config.file)?;
        let index = match &config.index {
            None => None,
            Some(index) => Some((
                crate::metrics::elasticsearch::connect(&index.server)?,
                index.name.clone(),
            )),
        };
        let (queue, records) = mpsc::channel(QUEUE_MAX);
        let task = tokio::spawn(write_all(file, index, records, Arc::clone(&meters)));
        Ok((Audit { queue, meters }, task))
    }

    /// Hands a record in.
    pub fn record(&self, record: Record) {
        if self.queue.try_send(Box::new(record)).is_err() {
            self.meters.audit_failed("queue");
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
    Index(#[from] crate::metrics::elasticsearch::ConnectError),
}

async fn write_all(
    mut file: AuditFile,
    index: Option<(Elasticsearch, String)>,
    mut records: mpsc::Receiver<Box<Record>>,
    meters: Arc<Meters>,
) {
    let (mut file_failing, mut index_failing) = (false, false);
    while let Some(record) = records.recv().await {
        let result = file.append(&record).map_err(|error| error.to_string());
        told(&meters, "file", &mut file_failing, result);
        if let Some((client, name)) = &index {
            let result = send(client, name, &record).await;
            told(&meters, "elasticsearch", &mut index_failing, result);
        }
    }
}

/// Counts a failure; says it when it begins, and when it is over.
fn told(meters: &Meters, sink: &'static str, failing: &mut bool, result: Result<(), String>) {
    match result {
        Ok(()) if *failing => {
            *failing = false;
            tracing::info!(sink, "decisions are recorded again");
        }
        Ok(()) => {}
        Err(error) => {
            meters.audit_failed(sink);
            if !*failing {
                *failing = true;
                tracing::warn!(sink, error, "decisions are not recorded");
            }
        }
    }
}

async fn send(client: &Elasticsearch, index: &str, record: &Record) -> Result<(), String> {
    let document = document(record).map_err(|error| error.to_string())?;
    let answer = client.index(IndexParts::Index(index)).body(document).send().await;
    let answer = answer.map_err(|error| crate::chain(&error))?;
    let status = answer.status_code();
    if status.is_success() {
        Ok(())
    } else {
        Err(format!("the index answered {status}"))
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
}

impl AuditFile {
    fn open(path: &Path) -> Result<AuditFile, AuditError> {
        let failed = |source| AuditError::File {
            path: path.to_owned(),
            source,
        };
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        Ok(AuditFile {
            path: path.to_owned(),
            file,
            bytes,
        })
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        if self.bytes > FILE_BYTES_MAX {
            std::fs::rename(&self.path, self.path.with_extension("jsonl.1"))?;
            self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            self.bytes = 0;
        }
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.bytes += line.len() as u64;
        self.file.write_all(&line)
    }
}
