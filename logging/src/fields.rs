//! The fields of a line for people. Each value is on one line and steers no terminal, whatever it holds.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

use crate::printable;

/// The message, then ` name=value` for each field.
pub(crate) struct Printable;

impl<'writer> FormatFields<'writer> for Printable {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut line = Line {
            writer,
            is_empty: true,
            result: Ok(()),
        };
        fields.record(&mut line);
        line.result
    }
}

struct Line<'writer> {
    writer: Writer<'writer>,
    is_empty: bool,
    result: fmt::Result,
}

impl Line<'_> {
    fn write(&mut self, field: &Field, value: &str) -> fmt::Result {
        if !std::mem::take(&mut self.is_empty) {
            self.writer.write_char(' ')?;
        }
        // A backtrace is this program's own, and is many lines.
        let value = match field.name() {
            "backtrace" => value.into(),
            _ => printable(value),
        };
        match field.name() {
            "message" => self.writer.write_str(&value),
            // Italic, and dimmed, as tracing-subscriber's own.
            name if self.writer.has_ansi_escapes() => {
                write!(self.writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m{value}")
            }
            name => write!(self.writer, "{name}={value}"),
        }
    }
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.record_debug(field, &format_args!("{value}")),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // What `log` adds for itself.
        if self.result.is_ok() && !field.name().starts_with("log.") {
            self.result = self.write(field, &format!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(ansi: bool, event: impl FnOnce()) -> String {
        let lines = Lines::default();
        let sink = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || sink.clone())
            .with_ansi(ansi)
            .with_target(false)
            .without_time()
            .fmt_fields(Printable)
            .finish();
        tracing::subscriber::with_default(subscriber, event);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_is_one_line_and_steers_no_terminal_whatever_its_values_hold() {
        let path = "a\nERROR b\u{1b}[2Jc";
        let line = logged(
            false,
            || tracing::warn!(file = %path, text = path, n = 3, "no file {path}"),
        );
        let plain = "a\\nERROR b\\u{1b}[2Jc";
        assert_eq!(
            line.trim(),
            format!("WARN no file {plain} file={plain} text=\"{plain}\" n=3")
        );
        let colours = logged(true, || tracing::warn!(file = %path, "x"));
        assert!(
            colours.contains("\u{1b}[3mfile") && !colours.contains("\u{1b}[2J"),
            "{colours:?}"
        );
    }
}
