//! Points in time as the store keeps them and clients read them.

use std::fmt;
use std::time::SystemTime;

use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;

/// The Unix epoch, UTC.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// 9999-12-31T23:59:59.999999Z: the last that four digits of a year can say.
const MICROS_MAX: i64 = 253_402_300_799_999_999;

/// Microseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// A clock's reading; before 1970 it is negative.
    #[must_use]
    pub fn of(time: SystemTime) -> Self {
        let micros = |since: std::time::Duration| i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        Self(match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => micros(since),
            Err(before) => -micros(before.duration()),
        })
    }

    /// Reads RFC 3339, up to its last second, 9999-12-31T23:59:59Z.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(time) = text.parse::<jiff::Timestamp>() {
            return Some(Self(time.as_microsecond()));
        }
        // jiff's points in time end a day before, so that any time zone can show them: with the date alone it goes on.
        let pieces = Pieces::parse(text).ok()?;
        let offset = i64::from(pieces.to_numeric_offset()?.seconds());
        let local = DateTime::from_parts(pieces.date(), pieces.time()?).duration_since(EPOCH);
        let micros = i64::try_from(local.as_micros()).ok()? - offset * 1_000_000;
        (0..=MICROS_MAX).contains(&micros).then_some(Self(micros))
    }

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
        let micros = self.0.clamp(0, MICROS_MAX);
        match jiff::Timestamp::from_microsecond(micros) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => match EPOCH.checked_add(SignedDuration::from_micros(micros)) {
                Ok(time) => write!(f, "{time:.3}Z"),
                Err(_) => f.write_str("1970-01-01T00:00:00.000Z"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    #[test]
    fn shows_and_reads_the_last_day_of_the_year_9999() {
        let last = Timestamp::of(SystemTime::UNIX_EPOCH + Duration::from_millis(253_402_300_790_500));
        assert_eq!(last.to_string(), "9999-12-31T23:59:50.500Z");
        for (text, shown) in [
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000Z"),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999Z"),
            ("9999-12-31T21:00:00-02:00", "9999-12-31T23:00:00.000Z"),
            ("9999-12-31T23:30:00+02:00", "9999-12-31T21:30:00.000Z"),
            ("9999-12-30T22:00:00Z", "9999-12-30T22:00:00.000Z"),
            ("2030-01-01T01:00:00+01:00", "2030-01-01T00:00:00.000Z"),
        ] {
            let read = Timestamp::parse(text).map(|time| time.to_string());
            assert_eq!(read.as_deref(), Some(shown), "{text}");
        }
        for text in [
            "",
            "soon",
            "2030-01-01",
            "2030-01-01T00:00:00",
            "9999-12-31T23:59:59",
            "9999-12-31T23:59:59-01:00",
            "10000-01-01T00:00:00Z",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_clock_before_1970_is_negative() {
        let time = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Timestamp::of(time), Timestamp(-1_000_000));
        assert_eq!(Timestamp(-1).to_string(), "1970-01-01T00:00:00.000Z");
    }
}
