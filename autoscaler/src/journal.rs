//! The intent journal: what is about to be done is on disk before it is done. Append-only JSON lines, synced one by one.
//!
//! After a crash it says which creates were begun, so that none is begun again while the provider may still show it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidepool_autoscaler_core::memory::{Memory, ordinal_of};
use tidepool_autoscaler_core::observe::{MemberId, MemberName, PoolName, UnixMillis};
use tidepool_autoscaler_core::outcome::{Step, StepKind};
use tidepool_autoscaler_core::spec::PoolSpec;

use crate::files;

/// Beyond this the journal is made short again: a line has about 200 bytes, so that it holds the last 20,000 steps.
const BYTES_MAX: u64 = 4 << 20;
/// So much of a file is read: a journal with its longest tail, many times over.
const READ_BYTES_MAX: u64 = 64 << 20;
/// A line at most, hundreds of times over: what is longer and has no end is not one that a crash cut off.
const LINE_BYTES_MAX: usize = 64 << 10;

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It took effect.
    Done,
    /// It surely didn't.
    Failed,
    /// It may have; the next observation shows it.
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
    /// The id that the provider gave a member that it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MemberId>,
}

/// The journal of one daemon.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// `None` when it was opened to look only.
    file: Option<File>,
    bytes: u64,
    /// The last write failed and may have left a part of its line.
    torn: bool,
    /// The newest line of each member's create that did not surely fail.
    creates: Creates,
    damage: Option<String>,
}

impl Journal {
    /// Opens the journal and reads what was begun. A last line that a crash cut off is not a line. Of a damaged journal the
    /// lines that can be read count, and a copy is kept beside it.
    pub fn open(path: &Path, now: UnixMillis) -> io::Result<Journal> {
        let (creates, damage) = match read(path) {
            Ok(Lines {
                creates,
                damage: None,
            }) => (creates, None),
            Ok(Lines {
                creates,
                damage: Some(damage),
            }) => {
                let aside = files::link_aside(path, now)?;
                (
                    creates,
                    Some(format!("{damage}; it is kept as {}", aside.display())),
                )
            }
            Err(error) => {
                let aside = files::put_aside(path, now).map_err(|_| error.kind())?;
                let damage = format!(
                    "the journal can't be read: {error}; it is kept as {}",
                    aside.display()
                );
                (Creates::new(), Some(damage))
            }
        };
        let (file, bytes) = rewrite(path, &creates)?;
        Ok(Journal {
            path: path.to_owned(),
            file: Some(file),
            bytes,
            torn: false,
            creates,
            damage,
        })
    }

    /// The journal to look at only, of a daemon that may run meanwhile.
    pub fn look(path: &Path) -> Journal {
        let lines = read(path).unwrap_or_else(|error| Lines {
            creates: Creates::new(),
            damage: Some(format!("the journal can't be read: {error}")),
        });
        Journal {
            path: path.to_owned(),
            file: None,
            bytes: 0,
            torn: false,
            creates: lines.creates,
            damage: lines.damage,
        }
    }

    /// What was wrong with the journal when it was opened.
    pub fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// Writes a line and waits until it is on the disk.
    pub fn write(&mut self, line: Line) -> io::Result<()> {
        if self.bytes > BYTES_MAX {
            let (file, bytes) = rewrite(&self.path, &self.creates)?;
            (self.file, self.bytes, self.torn) = (Some(file), bytes, false);
        }
        let Some(file) = &mut self.file else {
            return Err(io::Error::new(
                io::ErrorKind::ReadOnlyFilesystem,
                "opened to look only",
            ));
        };
        let mut text = Vec::new();
        if self.torn {
            // A disk that was full may have taken half a line; this one must not run into it.
            text.push(b'\n');
        }
        serde_json::to_writer(&mut text, &line)?;
        text.push(b'\n');
        self.torn = true;
        file.write_all(&text)?;
        file.sync_data()?;
        self.torn = false;
        self.bytes += text.len() as u64;
        keep_create(&mut self.creates, line);
        Ok(())
    }

    /// Adds to a pool's memory the creates that were begun since it was kept: those with an id are followed by it, those
    /// without one count for a while, and are looked up by name before they are made again.
    pub fn remind(&self, spec: &PoolSpec, memory: &mut Memory, now: UnixMillis) {
        let kept = memory.last_tick.unwrap_or(UnixMillis(i64::MIN));
        for ((pool, name), line) in self.creates.iter().filter(|((pool, _), _)| *pool == spec.name) {
            memory.ordinal_max = memory.ordinal_max.max(ordinal_of(spec, name).unwrap_or(0));
            if line.at < kept {
                continue;
            }
            if let Some(id) = &line.id {
                if !memory.followed.contains_key(id) {
                    memory.create_acknowledged(name, id, line.at);
                }
            } else if now.is_past(line.at, spec.life.create_settle_secs) {
                memory.retry_names.insert(name.clone());
                memory.unsettled.entry(name.clone()).or_insert(line.at);
            } else {
                tracing::info!(%pool, member = %name, "a create was begun before the last stop; it counts until it is seen");
                memory.pending_creates.entry(name.clone()).or_insert(line.at);
            }
        }
    }

    /// Forgets the creates of all members but these; called with each tick's memory.
    pub fn forget(&mut self, pool: &PoolName, kept: &BTreeSet<MemberName>) {
        self.creates
            .retain(|(of, name), _| of != pool || kept.contains(name));
    }
}

type Creates = BTreeMap<(PoolName, MemberName), Line>;

/// What a journal's file holds.
#[derive(Debug, Default)]
struct Lines {
    creates: Creates,
    damage: Option<String>,
}

fn read(path: &Path) -> io::Result<Lines> {
    let mut text = Vec::new();
    let bytes = match tidepool_listener::open_regular(path, OpenOptions::new().read(true)) {
        Ok(file) => {
            let bytes = file.metadata()?.len();
            file.take(READ_BYTES_MAX).read_to_end(&mut text)?;
            bytes
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lines::default()),
        Err(error) => return Err(error),
    };
    let (creates, bad) = read_lines(&text);
    let damage = if let Some(first) = bad.first() {
        let bad = bad.len();
        Some(format!(
            "{bad} of the journal's lines can't be read, the first is line {first}"
        ))
    } else if bytes > READ_BYTES_MAX {
        Some(format!(
            "the journal has {bytes} bytes, of which the first {READ_BYTES_MAX} were read"
        ))
    } else {
        None
    };
    Ok(Lines { creates, damage })
}

/// The creates that a journal's text holds, and the numbers of the lines that can't be read.
fn read_lines(text: &[u8]) -> (Creates, Vec<usize>) {
    let mut creates = Creates::new();
    let mut bad = Vec::new();
    let whole = text.ends_with(b"\n");
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    for (n, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
        match read_line(line) {
            Some(line) => keep_create(&mut creates, line),
            // A crash cut it off; what it was about had not begun.
            None if n + 1 == lines.len() && !whole && line.len() <= LINE_BYTES_MAX => {}
            None => bad.push(n + 1),
        }
    }
    (creates, bad)
}

/// A line, also one that a newer version wrote, as long as it says which member's create it is about.
fn read_line(text: &[u8]) -> Option<Line> {
    #[derive(Deserialize)]
    struct Create {
        at: UnixMillis,
        pool: PoolName,
        step: Named,
    }
    #[derive(Deserialize)]
    struct Named {
        step: String,
        name: MemberName,
    }
    if let Ok(line) = serde_json::from_slice(text) {
        return Some(line);
    }
    let Create { at, pool, step } = serde_json::from_slice(text).ok()?;
    (step.step == StepKind::Create.name()).then_some(Line {
        at,
        pool,
        step: Step::Create {
            name: step.name,
            generation: None,
        },
        outcome: None,
        id: None,
    })
}

fn keep_create(creates: &mut Creates, line: Line) {
    let Step::Create { name, .. } = &line.step else {
        return;
    };
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
    let mut text = Vec::new();
    for line in creates.values() {
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
    }
    files::replace(path, &text)?;
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
            generation: None,
        };
        Line {
            at: UnixMillis(7_000),
            pool: PoolName("api".to_owned()),
            step,
            outcome,
            id: None,
        }
    }

    fn reminded(path: &Path) -> Memory {
        let mut memory = Memory::default();
        Journal::open(path, UnixMillis(8_000))
            .unwrap()
            .remind(&spec(), &mut memory, UnixMillis(8_000));
        memory
    }

    #[test]
    fn a_create_that_was_begun_is_remembered_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let mut journal = Journal::open(&path, UnixMillis(8_000)).unwrap();
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
        Journal::open(&path, UnixMillis(8_000))
            .unwrap()
            .write(line("api-3", Some(Outcome::Done)))
            .unwrap();
        let journal = Journal::open(&path, UnixMillis(8_000)).unwrap();
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
        let mut journal = Journal::open(&path, UnixMillis(8_000)).unwrap();
        journal.write(line("api-3", None)).unwrap();
        journal.write(line("api-3", Some(Outcome::Failed))).unwrap();
        assert_eq!(reminded(&path), Memory::default());
    }

    #[test]
    fn a_line_that_was_cut_off_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let mut journal = Journal::open(&path, UnixMillis(8_000)).unwrap();
        journal.write(line("api-3", None)).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(br#"{"at":7000,"pool":"api","step":{"step":"cre"#)
            .unwrap();
        let memory = reminded(&path);
        assert_eq!(memory.pending_creates.len(), 1);
        // And the next line does not run into it.
        Journal::open(&path, UnixMillis(8_000))
            .unwrap()
            .write(line("api-9", None))
            .unwrap();
        assert_eq!(reminded(&path).ordinal_max, 9);
        assert_eq!(reminded(&path).pending_creates.len(), 2);
    }

    #[test]
    fn what_was_observed_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let mut journal = Journal::open(&path, UnixMillis(8_000)).unwrap();
        journal.write(line("api-3", Some(Outcome::Done))).unwrap();
        journal.forget(&PoolName("other".to_owned()), &BTreeSet::new());
        assert_eq!(journal.creates.len(), 1);
        journal.forget(&PoolName("api".to_owned()), &BTreeSet::new());
        assert_eq!(journal.creates.len(), 0);
    }

    /// Each damage keeps the file aside, and the lines that can be read.
    #[test]
    fn a_damaged_journal_is_kept_aside_and_costs_no_member() {
        let good = serde_json::to_string(&line("api-3", None)).unwrap();
        let newer =
            r#"{"at":7000,"pool":"api","step":{"step":"create","name":"api-4","zone":1},"outcome":"paused"}"#;
        let table: [(Vec<u8>, &[&str], bool); 8] = [
            (format!("{good}\n").into_bytes(), &["api-3"], false),
            (format!("{good}\n{{\"at\":70").into_bytes(), &["api-3"], false),
            (Vec::new(), &[], false),
            (format!("{{\"at\":70\n{good}\n").into_bytes(), &["api-3"], true),
            (
                [&[0xff, 0, 0xfe, b'\n'][..], good.as_bytes(), b"\n"].concat(),
                &["api-3"],
                true,
            ),
            (
                format!("{good}\n{newer}\n").into_bytes(),
                &["api-3", "api-4"],
                false,
            ),
            (format!("[]\n{good}{good}\n").into_bytes(), &[], true),
            (
                format!("{{\"version\":9}}\n{good}\n").into_bytes(),
                &["api-3"],
                true,
            ),
        ];
        for (text, names, damaged) in table {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("journal.jsonl");
            std::fs::write(&path, &text).unwrap();
            // Who only looks changes nothing.
            assert_eq!(Journal::look(&path).damage().is_some(), damaged);
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
            let shown = String::from_utf8_lossy(&text);
            let mut journal = Journal::open(&path, UnixMillis(1_700_000_000_000)).unwrap();
            assert_eq!(journal.damage().is_some(), damaged, "{shown}");
            let aside = dir.path().join("journal.jsonl.damaged-20231114T221320Z");
            assert_eq!(
                std::fs::read(&aside).ok(),
                damaged.then(|| text.clone()),
                "{shown}"
            );
            let memory = reminded(&path);
            let pending: Vec<&str> = memory
                .pending_creates
                .keys()
                .map(|name| name.0.as_str())
                .collect();
            assert_eq!(pending, names, "{shown}");
            journal.write(line("api-9", None)).unwrap();
        }
    }

    #[test]
    fn a_journal_that_is_a_directory_is_kept_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        std::fs::create_dir(&path).unwrap();
        let mut journal = Journal::open(&path, UnixMillis(0)).unwrap();
        assert!(journal.damage().unwrap().contains("can't be read"));
        journal.write(line("api-1", None)).unwrap();
        assert_eq!(reminded(&path).pending_creates.len(), 1);
    }

    #[test]
    fn a_journal_that_is_a_fifo_or_has_no_line_end_is_kept_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(Journal::look(&path).damage().is_some());
        let mut journal = Journal::open(&path, UnixMillis(0)).unwrap();
        let damage = journal.damage().unwrap();
        assert!(damage.contains("not a regular file; it is kept as"), "{damage}");
        journal.write(line("api-1", None)).unwrap();

        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        std::fs::write(&path, &long).unwrap();
        let journal = Journal::open(&path, UnixMillis(1_700_000_000_000)).unwrap();
        assert!(journal.damage().unwrap().contains("the first is line 1"));
        let aside = dir.path().join("journal.jsonl.damaged-20231114T221320Z");
        assert_eq!(std::fs::read(aside).unwrap(), long);
    }

    #[test]
    fn a_line_after_a_failed_write_does_not_run_into_what_is_left_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let mut journal = Journal::open(&path, UnixMillis(8_000)).unwrap();
        // What a full disk takes of a line, and what the journal then knows.
        journal
            .file
            .as_mut()
            .unwrap()
            .write_all(br#"{"at":7000,"po"#)
            .unwrap();
        journal.torn = true;
        journal.write(line("api-3", None)).unwrap();
        journal.write(line("api-4", None)).unwrap();
        assert_eq!(reminded(&path).pending_creates.len(), 2);
    }

    #[test]
    fn the_id_of_a_create_outlives_a_lost_memory_and_a_long_stop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let mut journal = Journal::open(&path, UnixMillis(8_000)).unwrap();
        let acknowledged = Line {
            id: Some(MemberId("17".to_owned())),
            ..line("api-3", Some(Outcome::Done))
        };
        journal.write(acknowledged).unwrap();
        journal.write(line("api-4", None)).unwrap();
        let mut memory = Memory::default();
        let journal = Journal::open(&path, UnixMillis(8_000)).unwrap();
        journal.remind(&spec(), &mut memory, UnixMillis(7_000 + 86_400_000));
        let ids: Vec<&str> = memory.followed.keys().map(|id| id.0.as_str()).collect();
        assert_eq!(ids, ["17"]);
        assert!(memory.unsettled.contains_key(&MemberName("api-4".to_owned())));
        assert!(memory.retry_names.contains(&MemberName("api-4".to_owned())));
    }

    #[test]
    fn only_its_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        Journal::open(&path, UnixMillis(8_000)).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
