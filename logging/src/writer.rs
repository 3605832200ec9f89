//! The end of the tracing subscriber: an event's line goes into the queue, or, where the queue's own thread made the event,
//! back to that thread.

use std::io::Write;

use crate::capture;
use crate::queue::Queue;

/// Takes the lines of one event. The subscriber hands each over whole.
pub(crate) struct LineWriter {
    queue: &'static Queue,
}

impl LineWriter {
    pub(crate) fn new(queue: &'static Queue) -> Self {
        Self { queue }
    }
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        if !capture::keep(line) {
            self.queue.push(line.to_vec());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
