//! Points in time as the store keeps them and clients read them.

use std::fmt;

/// Microseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Microseconds since the Unix epoch.
    #[must_use]
    pub fn micros(self) -> i64 {
        self.0
    }
}

/// RFC 3339 in UTC with `Z` and milliseconds: `2026-11-21T14:32:00.123Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Years 1970 to 9999; outside of it (a broken clock) the edge of the range is shown.
        const MICROS_MAX: i64 = 253_402_207_200_000_000;
        let micros = self.0.clamp(0, MICROS_MAX);
        match jiff::Timestamp::from_microsecond(micros) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => f.write_str("1970-01-01T00:00:00.000Z"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_utc_with_milliseconds() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            Timestamp(1_763_735_520_123_456).to_string(),
            "2025-11-21T14:32:00.123Z"
        );
        assert_eq!(
            Timestamp(i64::MAX).to_string().len(),
            "1970-01-01T00:00:00.000Z".len()
        );
    }
}
