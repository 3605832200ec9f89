//! Readers that stall, fail, come back and take lines in parts.

use std::io::{Error, ErrorKind};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

/// What the reader does with the next write.
enum Turn {
    Take,
    TakeBytes(usize),
    Fail(ErrorKind),
}

/// A sink that waits for each of its turns, and hands over what it took.
struct Scripted {
    turns: Receiver<Turn>,
    taken: Sender<String>,
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = match self.turns.recv() {
            Ok(Turn::Take) => bytes.len(),
            Ok(Turn::TakeBytes(count)) => count.min(bytes.len()),
            Ok(Turn::Fail(kind)) => return Err(kind.into()),
            // The test is over.
            Err(_) => return Err(Error::from(ErrorKind::BrokenPipe)),
        };
        let text = String::from_utf8(bytes[..count].to_vec()).unwrap();
        self.taken.send(text).unwrap();
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A queue, its reader's turns, and what the reader took. The thread lives as long as the test's process.
fn queue() -> (&'static Queue, Sender<Turn>, Receiver<String>) {
    let queue: &'static Queue = Box::leak(Box::new(Queue::new()));
    let (turns, next) = channel();
    let (taken, seen) = channel();
    std::thread::spawn(move || {
        // As in a program: the report of a loss is an event, and its line comes back to this thread.
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_writer(move || crate::writer::LineWriter::new(queue))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            queue.write_forever(Scripted { turns: next, taken });
        });
    });
    (queue, turns, seen)
}

const SOON: Duration = Duration::from_secs(20);

#[test]
fn lines_are_written_whole_and_in_order() {
    let (queue, turns, seen) = queue();
    for line in ["one\n", "two\n"] {
        queue.push(line.into());
        turns.send(Turn::Take).unwrap();
    }
    queue.flush(SOON);
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), ["one\n", "two\n"]);
    assert_eq!(queue.lines_lost(), 0);
}

#[test]
fn a_reader_that_stalls_costs_lines_and_their_number_is_reported_when_it_reads_again() {
    let (queue, turns, seen) = queue();
    let line = vec![b'x'; BYTES_MAX / 4];
    // One is being written, four wait; or, before the thread has taken the first, four wait.
    for _ in 0..20 {
        queue.push(line.clone());
    }
    let lost = queue.lines_lost();
    assert!((15..=16).contains(&lost), "{lost}");
    // Nobody reads: an end comes all the same.
    queue.flush(Duration::from_millis(1));
    for _ in 0..=20 - lost {
        turns.send(Turn::Take).unwrap();
    }
    queue.flush(SOON);
    let last = seen.try_iter().last().unwrap();
    assert!(
        last.contains(&format!("lines={lost}")) && last.contains("WARN"),
        "{last}"
    );
}

#[test]
fn a_full_disk_costs_lines_and_the_first_line_afterwards_is_followed_by_their_number() {
    let (queue, turns, seen) = queue();
    for kind in [
        ErrorKind::StorageFull,
        ErrorKind::BrokenPipe,
        ErrorKind::StorageFull,
    ] {
        queue.push("lost\n".into());
        turns.send(Turn::Fail(kind)).unwrap();
    }
    queue.flush(SOON);
    assert_eq!(queue.lines_lost(), 3);
    queue.push("kept\n".into());
    turns.send(Turn::Take).unwrap();
    turns.send(Turn::Take).unwrap();
    queue.flush(SOON);
    let seen: Vec<_> = seen.try_iter().collect();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert_eq!(seen[0], "kept\n");
    assert!(seen[1].contains("lines=3"), "{seen:?}");
    // Once is enough.
    queue.push("more\n".into());
    turns.send(Turn::Take).unwrap();
    queue.flush(SOON);
    assert_eq!(queue.lines_lost(), 3);
}

#[test]
fn a_line_that_was_cut_does_not_run_into_the_next() {
    let (queue, turns, seen) = queue();
    queue.push("a long line\n".into());
    turns.send(Turn::TakeBytes(6)).unwrap();
    turns.send(Turn::Fail(ErrorKind::StorageFull)).unwrap();
    queue.push("next\n".into());
    for _ in 0..3 {
        turns.send(Turn::Take).unwrap();
    }
    queue.flush(SOON);
    let text: String = seen.try_iter().collect();
    assert!(text.starts_with("a long\nnext\n"), "{text}");
}

#[test]
fn interruptions_and_a_non_blocking_pipe_cost_nothing() {
    let (queue, turns, seen) = queue();
    queue.push("kept\n".into());
    for turn in [
        Turn::Fail(ErrorKind::Interrupted),
        Turn::Fail(ErrorKind::WouldBlock),
        Turn::TakeBytes(2),
        Turn::Fail(ErrorKind::WouldBlock),
        Turn::Take,
    ] {
        turns.send(turn).unwrap();
    }
    queue.flush(SOON);
    assert_eq!(seen.try_iter().collect::<String>(), "kept\n");
    assert_eq!(queue.lines_lost(), 0);
}
