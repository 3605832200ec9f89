//! What the generator wrote, what was acknowledged, and therefore what a read may answer.
//!
//! The ledger sends nothing. It allows one write in flight for each document, so the acknowledged numbers of a document
//! are in order, and a read that begins after an acknowledgement must see that write or a later one of our own.

use rand::Rng;
use serde_json::{Map, Value, json};

/// Documents that are remembered. An endless run at 40 creates a second reaches it after 14 hours; from then on creates
/// are sent and counted, but their documents are not used again. 12 bytes each: 24 MB.
const DOCUMENTS_MAX: usize = 2_000_000;
/// Draws for a document without a write in flight, before a PUT is given up. With 200 documents and 100 PUTs in flight
/// the chance that 32 draws all meet busy ones is 1 in 4 billion.
const DRAWS_MAX: usize = 32;
/// Length of a document's text, so that a document has the size of a small real one (about 300 bytes).
const TEXT_CHARS: usize = 160;

/// Numbers one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DocumentIndex(u32);

/// A write that was handed out: the document, and which write of it this is (1 is its creation).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a write is acknowledged or doubted once its answer is known"]
pub struct Write {
    /// The document.
    pub index: DocumentIndex,
    /// The number that the document carries.
    pub number: u32,
}

/// A read that was handed out, with what was acknowledged when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// The document.
    pub index: DocumentIndex,
    /// The newest acknowledged write at the time.
    pub acknowledged: u32,
}

/// Why an answer contradicts the ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// The answer is not a document at all.
    #[error("the answer is not a document: {0}")]
    Shape(String),
    /// The document is not the one that was asked for, or its content was altered.
    #[error("document {id} holds something that was never written to it")]
    Content {
        /// The id.
        id: String,
    },
    /// An acknowledged write isn't there.
    #[error(
        "document {id} holds write {found}, but write {acknowledged} was acknowledged before it was read"
    )]
    Lost {
        /// The id.
        id: String,
        /// The number found.
        found: u32,
        /// The number that had been acknowledged.
        acknowledged: u32,
    },
    /// A write from nowhere.
    #[error("document {id} holds write {found}, but only {issued} were sent")]
    NeverSent {
        /// The id.
        id: String,
        /// The number found.
        found: u32,
        /// How many were sent.
        issued: u32,
    },
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    issued: u32,
    acknowledged: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Writing,
    /// A write's outcome isn't known: never written again, so that its number stays meaningful.
    Doubtful,
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    run: String,
    entries: Vec<Entry>,
    readable: Vec<u32>,
    page_token: Option<String>,
    creates_unremembered: u32,
}

impl Ledger {
    /// An empty ledger; `run` makes its ids and texts different from those of other runs.
    pub fn new(run: impl Into<String>) -> Self {
        Self {
            run: run.into(),
            entries: Vec::new(),
            readable: Vec::new(),
            page_token: None,
            creates_unremembered: 0,
        }
    }

    /// The id of a document, in the alphabet that the API allows.
    pub fn id(&self, index: DocumentIndex) -> String {
        format!("{}-{:07}", self.run, index.0)
    }

    /// The member `data` of a document as that write leaves it.
    pub fn data(&self, write: Write) -> Value {
        json!({
            "run": self.run,
            "index": write.index.0,
            "number": write.number,
            "text": text(write.index.0, write.number),
        })
    }

    /// A new document is about to be created.
    pub fn begin_create(&mut self) -> Write {
        let entry = Entry {
            issued: 1,
            acknowledged: 0,
            state: State::Writing,
        };
        let index = if self.entries.len() < DOCUMENTS_MAX {
            self.entries.push(entry);
            self.entries.len() - 1
        } else {
            self.creates_unremembered = self.creates_unremembered.saturating_add(1);
            DOCUMENTS_MAX + self.creates_unremembered as usize
        };
        Write {
            index: DocumentIndex(u32::try_from(index).unwrap_or(u32::MAX)),
            number: 1,
        }
    }

    /// A known document without a write in flight is about to be replaced; `None` if none was found.
    pub fn begin_update(&mut self, random: &mut impl Rng) -> Option<Write> {
        for _ in 0..DRAWS_MAX {
            let index = self.draw(random)?;
            let entry = self.entries.get_mut(index.0 as usize)?;
            if entry.state == State::Idle {
                entry.state = State::Writing;
                entry.issued += 1;
                return Some(Write {
                    index,
                    number: entry.issued,
                });
            }
        }
        None
    }

    /// A known document is about to be read; `None` if there is none.
    pub fn begin_read(&self, random: &mut impl Rng) -> Option<Read> {
        self.draw(random).map(|index| self.read_of(index))
    }

    /// The write was answered with success.
    pub fn acknowledge(&mut self, write: Write) {
        if let Some(entry) = self.entries.get_mut(write.index.0 as usize) {
            let first = entry.acknowledged == 0;
            entry.acknowledged = write.number;
            entry.state = State::Idle;
            if first {
                self.readable.push(write.index.0);
            }
        }
    }

    /// The write was not answered with success: it may be there or not.
    pub fn doubt(&mut self, write: Write) {
        if let Some(entry) = self.entries.get_mut(write.index.0 as usize) {
            entry.state = State::Doubtful;
        }
    }

    /// Checks the document that a read answered, and returns which write it holds.
    pub fn check_read(&self, read: Read, envelope: &Value) -> Result<u32, Contradiction> {
        let id = self.id(read.index);
        let found = self.check_envelope(read.index, &id, envelope)?;
        if found < read.acknowledged {
            return Err(Contradiction::Lost {
                id,
                found,
                acknowledged: read.acknowledged,
            });
        }
        Ok(found)
    }

    /// Checks the envelope that a write answered: it shows exactly that write.
    pub fn check_write(&self, write: Write, envelope: &Value) -> Result<(), Contradiction> {
        let id = self.id(write.index);
        if envelope.get("id").and_then(Value::as_str) == Some(id.as_str())
            && envelope.get("data") == Some(&self.data(write))
        {
            Ok(())
        } else {
            Err(Contradiction::Content { id })
        }
    }

    /// Checks a page of the collection and keeps its token for the next list. Returns the number of documents.
    pub fn check_page(&mut self, page: &Value) -> Result<usize, Contradiction> {
        let items = page
            .get("items")
            .and_then(Value::as_array)
            .ok_or_else(|| Contradiction::Shape("it has no list \"items\"".into()))?;
        for item in items {
            let index = item
                .pointer("/data/index")
                .and_then(Value::as_u64)
                .and_then(|index| u32::try_from(index).ok())
                .ok_or_else(|| Contradiction::Shape("a listed document is not one of this run".into()))?;
            let index = DocumentIndex(index);
            self.check_envelope(index, &self.id(index), item)?;
        }
        self.page_token = page
            .get("next_page_token")
            .and_then(Value::as_str)
            .map(str::to_owned);
        Ok(items.len())
    }

    /// The token for the next list, if the last page had one. It is handed out once.
    pub fn take_page_token(&mut self) -> Option<String> {
        self.page_token.take()
    }

    /// Every document with an acknowledged write, to be read back at the end.
    pub fn acknowledged_documents(&self) -> Vec<Read> {
        self.readable
            .iter()
            .map(|&index| self.read_of(DocumentIndex(index)))
            .collect()
    }

    /// How many writes were acknowledged in all.
    pub fn acknowledged_writes(&self) -> u64 {
        self.entries
            .iter()
            .map(|entry| u64::from(entry.acknowledged))
            .sum()
    }

    /// A read of one document that begins now.
    pub fn read_of(&self, index: DocumentIndex) -> Read {
        let acknowledged = self
            .entries
            .get(index.0 as usize)
            .map_or(0, |entry| entry.acknowledged);
        Read { index, acknowledged }
    }

    fn draw(&self, random: &mut impl Rng) -> Option<DocumentIndex> {
        if self.readable.is_empty() {
            return None;
        }
        self.readable
            .get(random.random_range(0..self.readable.len()))
            .copied()
            .map(DocumentIndex)
    }

    fn check_envelope(&self, index: DocumentIndex, id: &str, envelope: &Value) -> Result<u32, Contradiction> {
        let content = || Contradiction::Content { id: id.to_owned() };
        let found = envelope
            .pointer("/data/number")
            .and_then(Value::as_u64)
            .and_then(|number| u32::try_from(number).ok())
            .ok_or_else(|| {
                Contradiction::Shape(format!("document {id} has no number: {}", brief(envelope)))
            })?;
        self.check_write(Write { index, number: found }, envelope)?;
        // A document past the memory's bound was sent once and never again.
        let issued = self.entries.get(index.0 as usize).map_or(1, |entry| entry.issued);
        if found == 0 {
            return Err(content());
        }
        if found > issued {
            return Err(Contradiction::NeverSent {
                id: id.to_owned(),
                found,
                issued,
            });
        }
        Ok(found)
    }
}

/// The body of a write.
pub(super) fn body(id: Option<&str>, data: Value) -> Value {
    let mut body = Map::new();
    if let Some(id) = id {
        body.insert("id".into(), id.into());
    }
    body.insert("data".into(), data);
    Value::Object(body)
}

/// A text that only this write of this document has: splitmix64 of both, as hexadecimal digits.
fn text(index: u32, number: u32) -> String {
    let mut state = (u64::from(index) << 32) | u64::from(number);
    let mut text = String::with_capacity(TEXT_CHARS + 16);
    while text.len() < TEXT_CHARS {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        text.push_str(&format!("{mixed:016x}"));
    }
    text.truncate(TEXT_CHARS);
    text
}

fn brief(value: &Value) -> String {
    value.to_string().chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn envelope(ledger: &Ledger, write: Write) -> Value {
        json!({"id": ledger.id(write.index), "version": "v", "data": ledger.data(write)})
    }

    fn with_one_document() -> (Ledger, Write, StdRng) {
        let mut ledger = Ledger::new("t");
        let write = ledger.begin_create();
        ledger.acknowledge(write);
        (ledger, write, StdRng::seed_from_u64(1))
    }

    #[test]
    fn nothing_is_read_or_replaced_before_it_is_acknowledged() {
        let mut ledger = Ledger::new("t");
        let mut random = StdRng::seed_from_u64(1);
        let write = ledger.begin_create();
        assert_eq!(ledger.begin_read(&mut random), None);
        assert_eq!(ledger.begin_update(&mut random), None);
        ledger.acknowledge(write);
        assert_eq!(
            ledger.begin_read(&mut random),
            Some(Read {
                index: write.index,
                acknowledged: 1
            })
        );
    }

    #[test]
    fn one_write_is_in_flight_for_each_document() {
        let (mut ledger, _, mut random) = with_one_document();
        let update = ledger.begin_update(&mut random).unwrap();
        assert_eq!(update.number, 2);
        assert_eq!(ledger.begin_update(&mut random), None);
        ledger.acknowledge(update);
        assert_eq!(ledger.begin_update(&mut random).unwrap().number, 3);
    }

    #[test]
    fn a_read_during_a_write_may_see_either() {
        let (mut ledger, first, mut random) = with_one_document();
        let read = ledger.begin_read(&mut random).unwrap();
        let second = ledger.begin_update(&mut random).unwrap();
        assert_eq!(ledger.check_read(read, &envelope(&ledger, first)), Ok(1));
        assert_eq!(ledger.check_read(read, &envelope(&ledger, second)), Ok(2));
    }

    #[test]
    fn a_read_after_an_acknowledgement_must_see_it() {
        let (mut ledger, first, mut random) = with_one_document();
        let second = ledger.begin_update(&mut random).unwrap();
        ledger.acknowledge(second);
        let read = ledger.begin_read(&mut random).unwrap();
        let id = ledger.id(first.index);
        assert_eq!(
            ledger.check_read(read, &envelope(&ledger, first)),
            Err(Contradiction::Lost {
                id,
                found: 1,
                acknowledged: 2
            })
        );
    }

    #[test]
    fn a_doubtful_document_is_read_but_never_written_again() {
        let (mut ledger, first, mut random) = with_one_document();
        let second = ledger.begin_update(&mut random).unwrap();
        ledger.doubt(second);
        assert_eq!(ledger.begin_update(&mut random), None);
        let read = ledger.begin_read(&mut random).unwrap();
        assert_eq!(ledger.check_read(read, &envelope(&ledger, first)), Ok(1));
        assert_eq!(ledger.check_read(read, &envelope(&ledger, second)), Ok(2));
        assert_eq!(ledger.acknowledged_writes(), 1);
    }

    #[test]
    fn altered_foreign_and_unsent_documents_are_reported() {
        let (ledger, first, mut random) = with_one_document();
        let read = ledger.begin_read(&mut random).unwrap();
        let id = ledger.id(first.index);

        let mut altered = envelope(&ledger, first);
        altered["data"]["text"] = "other".into();
        assert_eq!(
            ledger.check_read(read, &altered),
            Err(Contradiction::Content { id: id.clone() })
        );

        let mut other_id = envelope(&ledger, first);
        other_id["id"] = "t-9999999".into();
        assert_eq!(
            ledger.check_read(read, &other_id),
            Err(Contradiction::Content { id: id.clone() })
        );

        let unsent = envelope(
            &ledger,
            Write {
                index: first.index,
                number: 9,
            },
        );
        assert_eq!(
            ledger.check_read(read, &unsent),
            Err(Contradiction::NeverSent {
                id,
                found: 9,
                issued: 1
            })
        );

        assert!(matches!(
            ledger.check_read(read, &json!({"x": 1})),
            Err(Contradiction::Shape(_))
        ));
    }

    #[test]
    fn a_page_is_checked_and_its_token_used_once() {
        let (mut ledger, first, _) = with_one_document();
        let page = json!({"items": [envelope(&ledger, first)], "next_page_token": "abc"});
        assert_eq!(ledger.check_page(&page), Ok(1));
        assert_eq!(ledger.take_page_token().as_deref(), Some("abc"));
        assert_eq!(ledger.take_page_token(), None);
        assert!(
            ledger
                .check_page(&json!({"items": [{"id": "x", "data": {}}]}))
                .is_err()
        );
        assert!(ledger.check_page(&json!([])).is_err());
    }

    #[test]
    fn texts_differ_by_document_and_write() {
        let texts: std::collections::HashSet<_> = (0..50)
            .flat_map(|index| (1..50).map(move |number| text(index, number)))
            .collect();
        assert_eq!(texts.len(), 50 * 49);
    }
}
