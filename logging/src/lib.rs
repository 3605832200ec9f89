//! What the programs write on standard error and standard output, so that neither can stop them.
//!
//! A line goes into a bounded queue and a thread of its own writes it: a reader that stalls, a full disk or a closed pipe costs
//! lines, never a request, a tick or a signal. Lost lines are counted ([`lines_lost`]), and the next line that can be written
//! says how many there were. [`flush`] waits for the queue before a program exits, for a bounded time.
//!
//! What must never be in a line: keys, tokens, passwords, bodies, query strings.

mod capture;
mod fields;
mod filter;
#[cfg(feature = "prometheus")]
mod metric;
mod queue;
mod secret;
#[cfg(feature = "testing")]
pub mod testing;
mod writer;

use std::borrow::Cow;
use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::ValueEnum;

pub use filter::{FilterError, check_filter};
#[cfg(feature = "prometheus")]
pub use metric::LostLines;
use queue::Queue;
pub use secret::Secret;
use writer::LineWriter;

/// How long [`flush`] waits for a reader that is slow. The API's drain and its last words take at most 12 s, and the contract
/// gives its exit 15 s.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// The queue before standard error, once it is started.
static QUEUE: OnceLock<&'static Queue> = OnceLock::new();

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Why logging can't be started.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The filter can't be read.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The system refuses a file descriptor or a thread.
    #[error("standard error can't be set up for logging")]
    System(#[from] std::io::Error),
}

/// Starts logging on standard error. `filter` is a level such as `info`, or directives such as `info,tidepool_api=debug`. A
/// second call changes nothing.
///
/// # Errors
/// [`InitError`].
pub fn init(format: Format, filter: &str) -> Result<(), InitError> {
    let filter = filter::parse(filter)?;
    let queue = start()?;
    let builder = tracing_subscriber::fmt()
        // Otherwise a failure of the writer is printed by `eprintln!`, which panics where standard error can't be written.
        .log_internal_errors(false)
        .with_writer(move || LineWriter::new(queue))
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter);
    let installed = match format {
        Format::Human => builder
            .with_target(false)
            .fmt_fields(fields::Printable)
            .try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    // Only tests in one process install it twice; the first one stays.
    drop(installed);
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(location = location(panic), %backtrace, "panic: {}", payload(panic));
    }));
    Ok(())
}

/// Starts the queue before standard error, so that messages can't block the program, and keeps the limit of file sizes from
/// ending it: call it first in `main`. Log lines need [`init`] besides.
///
/// # Errors
/// When the system refuses a signal's handler, a file descriptor or a thread.
pub fn init_messages() -> Result<(), InitError> {
    outlive_file_size_limit()?;
    start()?;
    std::panic::set_hook(Box::new(|panic| {
        report(&format!("panic at {}: {}", location(panic), payload(panic)));
    }));
    Ok(())
}

/// From now on a write beyond the limit of file sizes (`ulimit -f`, `LimitFSIZE=`) fails as on a full disk. Without this SIGXFSZ
/// ends the process.
///
/// The signal gets a handler that does nothing of use: unlike an ignored signal it is as before in the programs that this
/// one starts.
///
/// # Errors
/// When the system refuses the handler.
pub fn outlive_file_size_limit() -> std::io::Result<()> {
    let nobody_looks = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, nobody_looks).map(drop)
}

fn start() -> std::io::Result<&'static Queue> {
    if let Some(queue) = QUEUE.get() {
        return Ok(queue);
    }
    // A descriptor of its own: std's lock on standard error would be held for as long as a reader stalls.
    let stderr = std::fs::File::from(std::io::stderr().as_fd().try_clone_to_owned()?);
    let queue: &'static Queue = Box::leak(Box::new(Queue::new()));
    std::thread::Builder::new()
        .name("log-writer".to_owned())
        .spawn(|| queue.write_forever(stderr))?;
    Ok(QUEUE.get_or_init(|| queue))
}

fn location(panic: &std::panic::PanicHookInfo<'_>) -> String {
    panic.location().map(ToString::to_string).unwrap_or_default()
}

fn payload<'a>(panic: &'a std::panic::PanicHookInfo<'_>) -> &'a str {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

/// Writes a message and a line break on standard error, in order with the log lines. Without a started queue it is written at
/// once; a failure has nowhere to be reported, and is ignored.
pub fn report(message: &str) {
    let line = format!("{message}\n").into_bytes();
    match QUEUE.get() {
        Some(queue) => queue.push(line),
        None => drop(std::io::stderr().write_all(&line)),
    }
}

/// Waits until everything is written, for at most a second: call it last in `main`.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(FLUSH_MAX);
    }
}

/// How many log lines this process has lost.
#[must_use]
pub fn lines_lost() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.lines_lost())
}

/// Writes on standard output what somebody must get: a reader that is gone is a failure here.
///
/// # Errors
/// When standard output can't be written.
pub fn print_to_somebody(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
}

/// Whether standard output is `/dev/null`, which Rust's runtime also opens in place of one that was closed.
#[must_use]
pub fn stdout_goes_nowhere() -> bool {
    let found = std::io::stdout().as_fd().try_clone_to_owned();
    let found = found.and_then(|stdout| std::fs::File::from(stdout).metadata());
    let (Ok(found), Ok(null)) = (found, std::fs::metadata("/dev/null")) else {
        return false;
    };
    found.file_type().is_char_device() && found.rdev() == null.rdev()
}

/// Writes on standard output. A reader that has seen enough (`| head`) is not a failure.
///
/// # Errors
/// When standard output can't be written for another reason, such as a full disk.
pub fn print(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints what clap has to say: help and versions on standard output, mistakes on standard error.
///
/// # Errors
/// As [`print()`]; a mistake on standard error is not one.
pub fn print_clap(error: &clap::Error) -> std::io::Result<()> {
    let styled = error.render();
    let is_terminal = if error.use_stderr() {
        std::io::stderr().is_terminal()
    } else {
        std::io::stdout().is_terminal()
    };
    let text = if is_terminal {
        styled.ansi().to_string()
    } else {
        styled.to_string()
    };
    if error.use_stderr() {
        report(text.trim_end());
        return Ok(());
    }
    print(&text)
}

/// An error with its causes, on one line. A cause whose words are in the text already is left out: the errors of some
/// libraries repeat those of their causes.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    printable(&causes(error)).into_owned()
}

/// The same for errors that quote another program's lines: each of them stays a line.
#[must_use]
pub fn chain_of_lines(error: &dyn std::error::Error) -> String {
    let causes = causes(error);
    let lines: Vec<_> = causes.lines().map(printable).collect();
    lines.join("\n")
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// A text with its control characters written as escapes, so that what a name, a path or an error holds neither steers a terminal
/// nor begins another line.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    // Those two break lines as well, for some readers.
    let steers = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match steers(c) {
            true => plain.extend(c.escape_default()),
            false => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        #[source]
        source: Option<Box<Link>>,
    }

    fn link(text: &'static str, source: Option<Link>) -> Link {
        let source = source.map(Box::new);
        Link { text, source }
    }

    #[test]
    fn a_chain_names_every_cause_once() {
        let disk = link("no space left", None);
        let repeated = link("writing failed: no space left", Some(disk));
        let error = link("the store can't be used", Some(repeated));
        assert_eq!(
            chain(&error),
            "the store can't be used: writing failed: no space left"
        );
        assert_eq!(chain(&link("alone", None)), "alone");
    }

    #[test]
    fn what_would_steer_a_terminal_is_escaped_and_nothing_else() {
        assert_eq!(
            printable("a\n\u{1b}[31mb\u{9b}c\u{2028}\r"),
            "a\\n\\u{1b}[31mb\\u{9b}c\\u{2028}\\r"
        );
        assert!(matches!(printable("Käse \"x\" \\ 東"), Cow::Borrowed(_)));
        let error = link("ended: \n | \u{1b}[31mred", None);
        assert_eq!(chain(&error), "ended: \\n | \\u{1b}[31mred");
        assert_eq!(chain_of_lines(&error), "ended: \n | \\u{1b}[31mred");
    }
}
