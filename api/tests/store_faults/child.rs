//! The processes that the tests kill, and talking to them: a line of text for each thing that happened.

#![expect(clippy::disallowed_methods, reason = "tests")]

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use tidepool_api::store::{self, DocumentCreate, OpenOptions, StoreErrorKind};

use tidepool_logging::testing::with_file_size_limit;

use crate::values::{collection, id, json, stamp};

const ROLE: &str = "TIDEPOOL_TEST_CHILD_ROLE";
const FILE: &str = "TIDEPOOL_TEST_CHILD_FILE";
const NAME: &str = "TIDEPOOL_TEST_CHILD_NAME";

/// Writers at once in a child, so that commits are grouped.
const WRITERS: usize = 8;

/// Does nothing when it runs as a test of its own.
#[test]
fn the_others_child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    // As the program does at its start.
    tidepool_logging::outlive_file_size_limit().unwrap();
    let file = std::env::var(FILE).unwrap();
    let name = std::env::var(NAME).unwrap();
    match role.as_str() {
        "write" => write_until_killed(&file, &name, 20),
        "write-large" => write_until_killed(&file, &name, 50_000),
        "lock" => hold_the_lock(&file),
        other => panic!("no such role: {other}"),
    }
}

fn say(line: &str) {
    // Not println: the test harness would keep it.
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n#{line}").unwrap();
    out.flush().unwrap();
}

/// Creates documents and says so: `#ack ID` for each that was acknowledged. Ends by itself only when writes fail, after
/// saying `#failed KIND` and whether the documents can still be read.
fn write_until_killed(file: &str, name: &str, padding: usize) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = store::open(&format!("sqlite:{file}").parse().unwrap(), OpenOptions::default())
            .await
            .unwrap();
        let collection = collection(&*store, "faults").await;
        say("ready");
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (store, name) = (Arc::clone(&store), name.to_owned());
                tokio::spawn(async move {
                    for number in 0_u64.. {
                        let text = format!("{name}-{writer}-{number}");
                        let data = json(format!(
                            "{{\"id\": \"{text}\", \"x\": \"{}\"}}",
                            "x".repeat(padding)
                        ));
                        match store
                            .document_create(collection, &id(&text), &data, stamp())
                            .await
                        {
                            Ok(DocumentCreate::Created(_)) => say(&format!("ack {text}")),
                            Ok(DocumentCreate::AlreadyExists) => panic!("{text} exists"),
                            Err(error) => {
                                let kind = match error.kind {
                                    StoreErrorKind::Unavailable => "unavailable",
                                    StoreErrorKind::UnknownOutcome => "unknown",
                                    StoreErrorKind::Internal => "internal",
                                };
                                say(&format!("failed {kind} {text}"));
                                return;
                            }
                        }
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let read = store
            .document_fetch(collection, &id(&format!("{name}-0-0")))
            .await;
        say(&format!("read {}", read.unwrap().is_some()));
    });
}

/// Holds the file's write lock until a line comes in.
fn hold_the_lock(file: &str) {
    let connection = rusqlite::Connection::open(file).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    say("ready");
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();
    connection.execute_batch("ROLLBACK").unwrap();
    say("released");
}

/// A child process, killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) fn start(role: &str, file: &Path, name: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        Self::run(Command::new(program), role, file, name)
    }

    /// One that can't make files larger than this.
    pub(crate) fn start_limited(role: &str, file: &Path, name: &str, file_bytes_max: u64) -> Self {
        let program = std::env::current_exe().unwrap();
        Self::run(with_file_size_limit(program, file_bytes_max), role, file, name)
    }

    fn run(mut command: Command, role: &str, file: &Path, name: &str) -> Self {
        let mut child = command
            .args([
                "--exact",
                "child::the_others_child",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(ROLE, role)
            .env(FILE, file)
            .env(NAME, name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let stdin = child.stdin.take();
        Self { child, stdin, lines }
    }

    /// The next thing that happened; `None` when the process has ended.
    pub(crate) fn next(&mut self) -> Option<String> {
        loop {
            // What was written half when the process was killed is not a line.
            let line = self.lines.next()?.ok()?;
            if let Some(said) = line.strip_prefix('#') {
                return Some(said.to_owned());
            }
        }
    }

    pub(crate) fn expect(&mut self, said: &str) {
        assert_eq!(self.next().as_deref(), Some(said));
    }

    /// As a power cut does: no warning.
    pub(crate) fn kill_9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn go_on(&mut self) {
        self.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
