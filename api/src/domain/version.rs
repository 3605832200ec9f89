//! Versions: what a document's `ETag` is made of.

use std::fmt;

use super::Timestamp;

/// What a write brings along from outside the pure code: the time, and randomness that makes its version unique.
#[derive(Debug, Clone, Copy)]
pub struct WriteStamp {
    /// The writer's clock.
    pub now: Timestamp,
    /// 64 random bits.
    pub nonce: u64,
}

/// A document's version: a hybrid logical clock in microseconds, then the writer's nonce.
///
/// The clock part grows with every write of a document, also across instances whose clocks differ
/// (`max(previous + 1, now)`); the nonce makes a version unique, so that it never recurs for an id even when the clock's
/// history was lost with a deleted document, and so that a writer recognises its own write after a timeout.
/// Opaque to clients. Text: 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    clock_micros: u64,
    nonce: u64,
}

impl Version {
    /// The version of a first write.
    #[must_use]
    pub fn first(stamp: WriteStamp) -> Self {
        Self {
            clock_micros: u64::try_from(stamp.now.micros()).unwrap_or(0),
            nonce: stamp.nonce,
        }
    }

    /// The version of a write that follows `self`.
    #[must_use]
    pub fn next(self, stamp: WriteStamp) -> Self {
        let first = Self::first(stamp);
        Self {
            clock_micros: first.clock_micros.max(self.clock_micros.saturating_add(1)),
            ..first
        }
    }

    /// The hybrid logical clock, microseconds. Fit as a `USING TIMESTAMP` of rows that follow the document.
    #[must_use]
    pub fn clock_micros(self) -> i64 {
        i64::try_from(self.clock_micros).unwrap_or(i64::MAX)
    }

    /// 16 bytes, big-endian, ordered as the versions are.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        ((u128::from(self.clock_micros) << 64) | u128::from(self.nonce)).to_be_bytes()
    }

    /// The reverse of [`Version::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let whole = u128::from_be_bytes(bytes);
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
        Self {
            clock_micros: (whole >> 64) as u64,
            nonce: whole as u64,
        }
    }

    /// Reads the text form; anything else is not a version of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let canonical = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !canonical {
            return None;
        }
        u128::from_str_radix(text, 16)
            .ok()
            .map(|whole| Self::from_bytes(whole.to_be_bytes()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = hex_digits(self.to_bytes());
        // Hexadecimal digits are ASCII.
        f.write_str(std::str::from_utf8(&digits).unwrap_or_default())
    }
}

/// 16 bytes as 32 lower-case hexadecimal digits. Every answer holds several of these, so it is written without `core::fmt`.
#[must_use]
pub fn hex_digits(bytes: [u8; 16]) -> [u8; 32] {
    const fn digit(nibble: u8) -> u8 {
        if nibble < 10 {
            b'0' + nibble
        } else {
            b'a' + nibble - 10
        }
    }
    let mut digits = [b'0'; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        if let [high, low] = pair {
            (*high, *low) = (digit(byte >> 4), digit(byte & 0xf));
        }
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(now: i64, nonce: u64) -> WriteStamp {
        WriteStamp {
            now: Timestamp(now),
            nonce,
        }
    }

    #[test]
    fn grows_even_when_the_clock_steps_back() {
        let first = Version::first(stamp(1_000, 7));
        let second = first.next(stamp(10, 8));
        assert_eq!(second.clock_micros(), 1_001);
        assert_eq!(second.next(stamp(5_000, 9)).clock_micros(), 5_000);
    }

    #[test]
    fn text_is_what_the_standard_library_would_write() {
        for (clock, nonce) in [
            (0, 0),
            (1, 0x0123_4567_89ab_cdef),
            (u64::MAX, u64::MAX),
            (0xa0, 0x9f),
        ] {
            let version = Version {
                clock_micros: clock,
                nonce,
            };
            assert_eq!(version.to_string(), format!("{clock:016x}{nonce:016x}"));
        }
    }

    #[test]
    fn text_and_bytes_come_back() {
        let version = Version::first(stamp(1_763_735_520_123_456, u64::MAX - 3));
        assert_eq!(Version::parse(&version.to_string()), Some(version));
        assert_eq!(Version::from_bytes(version.to_bytes()), version);
        for bad in [
            "",
            "1",
            &"g".repeat(32),
            &"A".repeat(32),
            "+0000000000000000000000000000001",
        ] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }
}
