//! The end of the tracing subscriber: an event's line goes into the queue, or, where the queue's own thread made the event,
//! back to that thread.

use std::cell::RefCell;
use std::io::Write;

use crate::queue::Queue;

thread_local! {
    /// Where this thread's lines go instead of into the queue.
    static CAPTURED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Runs `event` and returns the lines that it logged, which went nowhere else.
pub(crate) fn captured(event: impl FnOnce()) -> Vec<u8> {
    CAPTURED.set(Some(Vec::new()));
    event();
    CAPTURED.take().unwrap_or_default()
}

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
        let captured = CAPTURED.with_borrow_mut(|captured| match captured {
            Some(lines) => {
                lines.extend_from_slice(line);
                true
            }
            None => false,
        });
        if !captured {
            self.queue.push(line.to_vec());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
