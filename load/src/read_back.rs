//! After the load: is everything that was acknowledged there, and what became of the creates that were cut off?

use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::generator::Generator;
use super::ledger::{DocumentIndex, Read};
use super::wire::{Answer, NoAnswer, exchange};

/// Documents read at once.
const AT_ONCE: usize = 16;
/// Tries for one document: five, a second apart, outlive a node's restart or a balancer's health check.
const TRIES_MAX: u32 = 5;
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Losses that are reported one by one.
const NOTES_MAX: usize = 20;

/// Every acknowledged write, looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadBack {
    /// Writes that were answered with success.
    pub acknowledged: u64,
    /// Of these, the ones that were found: a document that holds its newest acknowledged write (or a later one that we
    /// sent) proves all the writes before it.
    pub read_back: u64,
    /// The rest.
    pub lost: u64,
    /// The first losses, in words.
    pub notes: Vec<String>,
}

/// What became of a create whose answer was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownFound {
    /// The document's id.
    pub id: String,
    /// `Some(true)`: it is there, whole. `Some(false)`: it isn't. `None`: nobody could tell, or it is damaged.
    pub stored: Option<bool>,
    /// In words.
    pub detail: String,
}

impl Generator {
    /// Reads the documents of all *unknown* creates.
    pub async fn unknown_found(&self) -> Vec<UnknownFound> {
        let unknown: Vec<DocumentIndex> = self.with_tally(|tally| tally.unknown().to_vec());
        stream::iter(unknown)
            .map(|index| self.find_unknown(index))
            .buffered(AT_ONCE)
            .collect()
            .await
    }

    async fn find_unknown(&self, index: DocumentIndex) -> UnknownFound {
        let (id, read) = {
            let ledger = self.shared.ledger();
            (ledger.id(index), ledger.read_of(index))
        };
        let (stored, detail) = match self.fetch(&id).await {
            Ok(Some(answer)) => match answer
                .json()
                .map(|json| self.shared.ledger().check_read(read, &json))
            {
                Ok(Ok(_)) => (Some(true), "it was stored, whole".to_owned()),
                Ok(Err(contradiction)) => (None, contradiction.to_string()),
                Err(reason) => (None, reason),
            },
            Ok(None) => (Some(false), "it was not stored".to_owned()),
            Err(reason) => (None, reason),
        };
        UnknownFound { id, stored, detail }
    }

    /// Reads every document that has an acknowledged write.
    pub async fn read_back(&self) -> ReadBack {
        let (documents, acknowledged) = {
            let ledger = self.shared.ledger();
            (ledger.acknowledged_documents(), ledger.acknowledged_writes())
        };
        let mut found = stream::iter(documents)
            .map(|read| self.find_acknowledged(read))
            .buffer_unordered(AT_ONCE);
        let mut report = ReadBack {
            acknowledged,
            ..ReadBack::default()
        };
        while let Some((read, outcome)) = found.next().await {
            match outcome {
                Ok(number) if number >= read.acknowledged => report.read_back += u64::from(read.acknowledged),
                Ok(number) => {
                    report.read_back += u64::from(number);
                    report.note(format!(
                        "write {} of {} is lost, {number} is there",
                        read.acknowledged,
                        self.id(read)
                    ));
                }
                Err(reason) => report.note(format!("{}: {reason}", self.id(read))),
            }
        }
        report.lost = report.acknowledged - report.read_back;
        report
    }

    async fn find_acknowledged(&self, read: Read) -> (Read, Result<u32, String>) {
        let outcome = match self.fetch(&self.id(read)).await {
            Ok(Some(answer)) => answer.json().and_then(|json| {
                // Any number will do here: the caller counts what is missing.
                let any = Read {
                    acknowledged: 0,
                    ..read
                };
                self.shared
                    .ledger()
                    .check_read(any, &json)
                    .map_err(|contradiction| contradiction.to_string())
            }),
            Ok(None) => Err("the document is missing".to_owned()),
            Err(reason) => Err(reason),
        };
        (read, outcome)
    }

    fn id(&self, read: Read) -> String {
        self.shared.ledger().id(read.index)
    }

    /// A document, or `None` if the API says that there is none.
    async fn fetch(&self, id: &str) -> Result<Option<Answer>, String> {
        let mut reason = String::new();
        for attempt in 0..TRIES_MAX {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            reason = match exchange(self.shared.wire.get(id), PATIENCE).await {
                Ok(answer) if answer.is_success() => return Ok(Some(answer)),
                Ok(answer) if answer.status == 404 => return Ok(None),
                Ok(answer) => answer.shown(),
                Err(NoAnswer::Broken(cause)) => cause,
                Err(NoAnswer::TimedOut) => format!("no answer within {} s", PATIENCE.as_secs()),
            };
        }
        Err(format!("it can't be read: {reason}"))
    }
}

impl ReadBack {
    fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        }
    }
}
