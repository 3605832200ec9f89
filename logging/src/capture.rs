//! Where the lines of the queue's own thread go: back to that thread, which writes them itself.

use std::cell::RefCell;

thread_local! {
    /// This thread's lines, while it asks for them.
    static CAPTURED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Runs `event` and returns the lines that it logged, which went nowhere else.
pub(crate) fn captured(event: impl FnOnce()) -> Vec<u8> {
    CAPTURED.set(Some(Vec::new()));
    event();
    CAPTURED.take().unwrap_or_default()
}

/// Keeps the line if this thread asks for its lines; whether it does.
pub(crate) fn keep(line: &[u8]) -> bool {
    CAPTURED.with_borrow_mut(|captured| match captured {
        Some(lines) => {
            lines.extend_from_slice(line);
            true
        }
        None => false,
    })
}
