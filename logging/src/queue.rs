//! The bounded queue before standard error, and the thread that empties it.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::capture::captured;

/// Most bytes that wait: some 20,000 lines of 200 bytes, which is a second of the API's busiest log (a line for each request).
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Under a load that loses lines all the time, at most one line in so many says so.
const REPORT_EVERY_LINES: u32 = 1_000;

/// Pause before the next attempt at a non-blocking standard error whose reader stalls.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// Lines on their way to standard error.
pub(crate) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    written: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// A line was taken and is being written.
    writing: bool,
    lost: u64,
    lost_unreported: u64,
}

impl State {
    fn lose(&mut self) {
        self.lost += 1;
        self.lost_unreported += 1;
    }
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            arrived: Condvar::new(),
            written: Condvar::new(),
        }
    }

    /// Nothing panics while it holds the lock, and every state is a good one.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line, or loses and counts it where the queue is full. Never waits for the reader.
    pub(crate) fn push(&self, line: Vec<u8>) {
        let mut state = self.state();
        if state.bytes + line.len() > BYTES_MAX {
            state.lose();
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line);
        drop(state);
        self.arrived.notify_one();
    }

    /// Waits until everything is written or lost, within the bound.
    pub(crate) fn flush(&self, bound: Duration) {
        let busy = |state: &mut State| state.writing || !state.lines.is_empty();
        let waited = self.written.wait_timeout_while(self.state(), bound, busy);
        // Whether the bound has passed changes nothing: the program exits either way.
        drop(waited);
    }

    pub(crate) fn lines_lost(&self) -> u64 {
        self.state().lost
    }

    /// The thread: writes line by line, and counts those that can't be written.
    pub(crate) fn write_forever(&self, sink: impl Write) {
        let mut sink = Sink { sink, torn: false };
        let mut since_report = 0;
        loop {
            let line = self.next();
            if sink.write(&line).is_err() {
                self.state().lose();
                continue;
            }
            since_report += 1;
            let (lost, idle) = {
                let state = self.state();
                (state.lost_unreported, state.lines.is_empty())
            };
            if lost > 0 && (idle || since_report >= REPORT_EVERY_LINES) {
                since_report = 0;
                self.report_loss(lost, &mut sink);
            }
        }
    }

    /// The next line. Asking for it says that the one before is done with.
    fn next(&self) -> Vec<u8> {
        let mut state = self.state();
        state.writing = false;
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= line.len();
                state.writing = true;
                return line;
            }
            self.written.notify_all();
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn report_loss(&self, lost: u64, sink: &mut Sink<impl Write>) {
        let line = captured(|| {
            tracing::warn!(
                lines = lost,
                "log lines were lost: standard error could not be written"
            )
        });
        // Empty where the filter leaves warnings out.
        if !line.is_empty() && sink.write(&line).is_ok() {
            self.state().lost_unreported -= lost;
        }
    }
}

/// Where lines end up.
struct Sink<W> {
    sink: W,
    /// The last line was written in part.
    torn: bool,
}

impl<W: Write> Sink<W> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        if self.torn {
            self.sink.write_all(b"\n")?;
            self.torn = false;
        }
        let mut rest = line;
        while !rest.is_empty() {
            match self.sink.write(rest) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    rest = rest.get(count..).unwrap_or_default();
                    self.torn = !rest.is_empty();
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // Whoever shares the pipe may have made it non-blocking; this thread has nothing else to do than to wait.
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => std::thread::sleep(TRY_AGAIN),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
