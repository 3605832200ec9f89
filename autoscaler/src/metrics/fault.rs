//! What can be wrong with a host's values, in words for the operator: short, stable from tick to tick, without secrets.

/// Foreign words are cut here.
pub(super) const WORDS_CHARS_MAX: usize = 200;

/// Why a value doesn't count.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum Fault {
    /// NaN or an infinity.
    #[error("a value is not a finite number")]
    NotFinite,
    /// What stands there is not a number.
    #[error("{0} is not a number")]
    NotANumber(String),
    /// The signal can't have it.
    #[error("a value of {value} is outside the signal's range ({range})")]
    OutOfRange {
        /// The value.
        value: f64,
        /// The range.
        range: String,
    },
    /// One document or line holds several.
    #[error("one document holds {0} values")]
    Several(usize),
    /// Two different values of one series at one time.
    #[error("two different values of one series at one time: {0}")]
    Conflict(&'static str),
    /// A counter fell by less than half: it may have been reset, or been read out of order.
    #[error("a counter went back from {before} to {after}")]
    WentBack {
        /// The larger value.
        before: f64,
        /// The value after it.
        after: f64,
    },
    /// A counter leapt, and its other readings don't bear that out.
    #[error("a counter leapt from {before} to {after}: it may be wrong, or two counters that answer in turn")]
    Leap {
        /// The value before.
        before: f64,
        /// The value after it.
        after: f64,
    },
    /// More than a machine counts to.
    #[error("a value of {0} is more than any counter comes to that didn't fall below zero")]
    TooLarge(f64),
    /// A sample says itself that it is from long ago.
    #[error("the time of a sample is too long ago: older than fresh_secs = {fresh_secs}")]
    Old {
        /// How old it may be.
        fresh_secs: u32,
    },
    /// A sample says itself that it is yet to come.
    #[error("the time of a sample is in the future")]
    Future,
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

/// Foreign text in a message: one line, cut.
pub(super) fn words(text: &str) -> String {
    let mut cut: String = text
        .split_whitespace()
        .flat_map(|word| [" ", word])
        .skip(1)
        .flat_map(str::chars)
        .filter(|c| !c.is_control())
        .take(WORDS_CHARS_MAX + 1)
        .collect();
    if cut.chars().count() > WORDS_CHARS_MAX {
        cut.pop();
        cut.push('…');
    }
    cut
}

/// The first words of an answer that is not what was asked for, to be appended to a message; empty for an empty answer.
pub(super) fn first_words(body: &[u8]) -> String {
    let head = body
        .get(..body.len().min(4 * WORDS_CHARS_MAX))
        .unwrap_or_default();
    let text = words(&String::from_utf8_lossy(head));
    if text.is_empty() {
        String::new()
    } else {
        format!(": {text}")
    }
}

/// The innermost cause: "connection refused" says more than "error sending request". The address is left out, for it may
/// hold a password.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    words(&innermost.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_words_are_one_short_line() {
        assert_eq!(words("  a\n\tb\u{0}c  "), "a bc");
        let long = words(&"word ".repeat(100));
        assert_eq!(long.chars().count(), WORDS_CHARS_MAX + 1);
        assert!(long.ends_with('…'));
        assert_eq!(first_words(b"<html>\n<body>"), ": <html> <body>");
        assert_eq!(first_words(b" \n"), "");
        assert_eq!(first_words(&[0xff, b'a']), ": \u{fffd}a");
    }
}
