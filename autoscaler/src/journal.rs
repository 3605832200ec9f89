//! The intent journal: what is about to be done is on disk before it is done. Append-only JSON lines, synced one by one.
//!
//! After a crash it says which creates were begun, so that none is begun again while the provider may still show it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidepool_autoscaler_core::memory::{Memory, ordinal_of};
use tidepool_autoscaler_core::observe::{MemberName, PoolName, UnixMillis};
use tidepool_autoscaler_core::outcome::Step;
use tidepool_autoscaler_core::spec::PoolSpec;

/// Beyond this the journal is made short again: a line has about 200 bytes, so that it holds the last 20,000 steps.
const BYTES_MAX: u64 = 4 << 20;

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It took effect.
    Done,
    /// It surely didn't.
    Failed,
    /// It may have; the next observation tells.
    Unknown,
    /// It was not tried.
    Skipped,
}

impl Outcome {
    /// Its name in JSON and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Failed => "failed",
            Outcome::Unknown => "unknown",
            Outcome::Skipped => "skipped",
        }
    }
}

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When it was written.
    pub at: UnixMillis,
    /// The pool.
    pub pool: PoolName,
    /// The step.
    pub step: Step,
    /// How it ended; `None`: it is about to begin.
    pub outcome: Option<Outcome>,
}

/// The journal of one daemon.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// `None` when it was opened to look only.
    file: Option<File>,
    bytes: u64,
    /// The newest line of each member's create that did not surely fail.
    creates: Creates,
}

impl Journal {
    /// Opens the journal and reads what was begun. A last line that a crash cut off is not a line.
    pub fn open(path: &Path) -> io::Result<Journal> {
        let creates = read(path)?;
        let (file, bytes) = rewrite(path, &creates)?;
        Ok(Journal {
            path: path.to_owned(),
            file: Some(file),
            bytes,
            creates,
        })
    }

    /// The journal to look at only, of a daemon that may run meanwhile.
    pub fn look(path: &Path) -> io::Result<Journal> {
        Ok(Journal {
            path: path.to_owned(),
            file: None,
            bytes: 0,
            creates: read(path)?,
        })
    }

    /// Writes a line and waits until it is on the disk.
    pub fn write(&mut self, line: Line) -> io::Result<()> {
        if self.bytes > BYTES_MAX {
            let (file, bytes) = rewrite(&self.path, &self.creates)?;
            (self.file, self.bytes) = (Some(file), bytes);
        }
        let Some(file) = &mut self.file else {
            return Err(io::Error::new(
                io::ErrorKind::ReadOnlyFilesystem,
                "opened to look only",
            ));
        };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        file.write_all(&text)?;
        file.sync_data()?;
        self.bytes += text.len() as u64;
        keep_create(&mut self.creates, line);
        Ok(())
    }

    /// Adds to a pool's memory the creates that were begun since it was kept. What is older is either known to the memory
    /// or long settled, and shows in the provider's list.
    pub fn remind(&self, spec: &PoolSpec, memory: &mut Memory, now: UnixMillis) {
        let kept = memory.last_tick.unwrap_or(UnixMillis(i64::MIN));
        for ((pool, name), line) in self.creates.iter().filter(|((pool, _), _)| *pool == spec.name) {
            memory.ordinal_max = memory.ordinal_max.max(ordinal_of(spec, name).unwrap_or(0));
            if line.at >= kept && !now.is_past(line.at, spec.life.create_settle_secs) {
                tracing::info!(%pool, member = %name, "a create was begun before the last stop; it counts until it is seen");
                memory.pending_creates.entry(name.clone()).or_insert(line.at);
            }
        }
    }

    /// Forgets creates whose member was observed, or which the pool's memory has given up; called with each tick's memory.
    pub fn forget(&mut self, pool: &PoolName, pending: &BTreeSet<MemberName>) {
        self.creates
            .retain(|(of, name), _| of != pool || pending.contains(name));
    }
}

type Creates = BTreeMap<(PoolName, MemberName), Line>;

fn read(path: &Path) -> io::Result<Creates> {
    let mut creates = Creates::new();
    match File::open(path) {
        Ok(file) => {
            for line in BufReader::new(file).split(b'\n') {
                if let Ok(line) = serde_json::from_slice::<Line>(&line?) {
                    keep_create(&mut creates, line);
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(creates)
}

fn keep_create(creates: &mut Creates, line: Line) {
    let Step::Create { name } = &line.step else { return };
    let key = (line.pool.clone(), name.clone());
    match line.outcome {
        Some(Outcome::Failed | Outcome::Skipped) => {
            creates.remove(&key);
        }
        None | Some(Outcome::Done | Outcome::Unknown) => {
            creates.insert(key, line);
        }
    }
}

/// A new file with what must not be forgotten, put in the old one's place in one go.
fn rewrite(path: &Path, creates: &Creates) -> io::Result<(File, u64)> {
    let new = path.with_extension("new");
    let mut text = Vec::new();
    for line in creates.values() {
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
    }
    let mut file = File::create(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    Ok((OpenOptions::new().append(true).open(path)?, text.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> PoolSpec {
        crate::test_pool::spec("api")
    }

    fn line(name: &str, outcome: Option<Outcome>) -> Line {
        let step = Step::Create {
            name: MemberName(name.to_owned()),
        };
        Line {
            at: UnixMillis(7_000),
            pool: PoolName("api".to_owned()),
            step,
            outcome,
        }
    }

    fn reminded(path: &Path) -> Memory {
        let mut memory = Memory::default();
        Journal::open(path)
            .unwrap()
            .remind(&spec(), &mut memory, UnixMillis(8_000));
        memory
    }

    #[test]
    fn a_create_that_was_begun_is_remembered_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        journal.write(line("api-3", None)).unwrap();
        journal.write(line("api-4", None)).unwrap();
        journal.write(line("api-4", Some(Outcome::Unknown))).unwrap();
        let memory = reminded(&path);
        let pending: Vec<&str> = memory
            .pending_creates
            .keys()
            .map(|name| name.0.as_str())
            .collect();
        assert_eq!(pending, ["api-3", "api-4"]);
        assert_eq!(memory.ordinal_max, 4);
    }

    #[test]
    fn a_create_that_the_memory_knows_or_that_is_long_settled_is_not_pending_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        Journal::open(&path)
            .unwrap()
            .write(line("api-3", Some(Outcome::Done)))
            .unwrap();
        let journal = Journal::open(&path).unwrap();
        let mut memory = Memory {
            last_tick: Some(UnixMillis(7_001)),
            ..Memory::default()
        };
        journal.remind(&spec(), &mut memory, UnixMillis(8_000));
        assert_eq!((memory.pending_creates.len(), memory.ordinal_max), (0, 3));
        let mut memory = Memory::default();
        journal.remind(&spec(), &mut memory, UnixMillis(7_000 + 60_000));
        assert_eq!((memory.pending_creates.len(), memory.ordinal_max), (0, 3));
    }

    #[test]
    fn a_create_that_failed_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        journal.write(line("api-3", None)).unwrap();
        journal.write(line("api-3", Some(Outcome::Failed))).unwrap();
        assert_eq!(reminded(&path), Memory::default());
    }

    #[test]
    fn a_line_that_was_cut_off_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        journal.write(line("api-3", None)).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(br#"{"at":7000,"pool":"api","step":{"step":"cre"#)
            .unwrap();
        let memory = reminded(&path);
        assert_eq!(memory.pending_creates.len(), 1);
        // And the next line does not run into it.
        Journal::open(&path).unwrap().write(line("api-9", None)).unwrap();
        assert_eq!(reminded(&path).ordinal_max, 9);
        assert_eq!(reminded(&path).pending_creates.len(), 2);
    }

    #[test]
    fn what_was_observed_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        journal.write(line("api-3", Some(Outcome::Done))).unwrap();
        journal.forget(&PoolName("other".to_owned()), &BTreeSet::new());
        assert_eq!(journal.creates.len(), 1);
        journal.forget(&PoolName("api".to_owned()), &BTreeSet::new());
        assert_eq!(journal.creates.len(), 0);
    }
}
