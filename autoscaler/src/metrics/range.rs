//! Which values a signal can have at all. A value outside is a fault of what measured it, and counts as none.

use super::fault::Fault;

/// A value that is outside by no more than this share of the range's width is measuring noise, and counts as the bound: a
/// machine that is fully busy is measured at 100.04 %. A value further out is a fault.
const NOISE_SHARE: f64 = 0.05;
/// The same where the range is open, so that it has no width: as much as rounding to a few digits can make.
const ROUNDING: f64 = 1e-6;
/// Where a range is open, no value is so large: 2^63 less 2^32. Numbers below zero in 64 bits without a sign are larger, and so
/// is the largest number with one; both stand for errors, and no machine counts so far.
const OPEN_MAX: f64 = 9_223_372_032_559_808_512.0;

/// The least and the largest value that a signal can have; both belong to it, and either may be infinite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    low: f64,
    high: f64,
}

/// A finite value that its signal can have. Only [`Range::check`] makes one, so that no source can forget to check.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct InRange(f64);

impl InRange {
    /// The value.
    pub(super) fn get(self) -> f64 {
        self.0
    }
}

/// Why two numbers are not a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// The first is not below the second.
    #[error("the first must be below the second")]
    Order,
    /// Both ends are open.
    #[error("one of the two must be finite")]
    Open,
}

impl Range {
    /// Every number.
    pub const ANY: Range = Range {
        low: f64::NEG_INFINITY,
        high: f64::INFINITY,
    };
    /// A share of a whole.
    pub const RATIO: Range = Range { low: 0.0, high: 1.0 };
    /// A count, a load, a rate: 0 and above.
    pub const NOT_NEGATIVE: Range = Range {
        low: 0.0,
        high: f64::INFINITY,
    };

    /// From `low` to `high`.
    pub fn new(low: f64, high: f64) -> Result<Range, RangeError> {
        if low.is_nan() || high.is_nan() || low >= high {
            return Err(RangeError::Order);
        }
        if low.is_infinite() && high.is_infinite() {
            return Err(RangeError::Open);
        }
        Ok(Range { low, high })
    }

    /// The least and the largest value after scaling; infinite where there is none.
    pub(crate) fn scaled(self, scale: f64) -> (f64, f64) {
        let (a, b) = (self.low * scale, self.high * scale);
        (a.min(b), a.max(b))
    }

    /// Whether a sum is at least as large as each of its parts.
    pub(super) fn never_negative(self) -> bool {
        self.low >= 0.0
    }

    /// The value, if the signal can have it.
    pub(super) fn check(self, value: f64) -> Result<InRange, Fault> {
        if !value.is_finite() {
            return Err(Fault::NotFinite);
        }
        let open = if value < 0.0 { self.low } else { self.high };
        if open.is_infinite() && value.abs() >= OPEN_MAX {
            return Err(Fault::TooLarge(value));
        }
        let width = self.high - self.low;
        let slack = |bound: f64| {
            if width.is_finite() {
                NOISE_SHARE * width
            } else {
                ROUNDING * bound.abs().max(1.0)
            }
        };
        if value < self.low - slack(self.low) || value > self.high + slack(self.high) {
            return Err(Fault::OutOfRange {
                value,
                range: self.to_string(),
            });
        }
        Ok(InRange(value.clamp(self.low, self.high)))
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.low.is_finite(), self.high.is_finite()) {
            (true, true) => write!(f, "{} to {}", self.low, self.high),
            (true, false) => write!(f, "{} and above", self.low),
            (false, true) => write!(f, "{} and below", self.high),
            (false, false) => f.write_str("any number"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_outside_are_refused_and_noise_is_not() {
        const PERCENT: Range = Range {
            low: 0.0,
            high: 100.0,
        };
        for (range, value, expected) in [
            (Range::RATIO, 0.0, Some(0.0)),
            (Range::RATIO, 1.0, Some(1.0)),
            (Range::RATIO, 1.000_000_5, Some(1.0)),
            (Range::RATIO, -0.000_000_5, Some(0.0)),
            (Range::RATIO, 1.0003, Some(1.0)),
            (Range::RATIO, 1.05, Some(1.0)),
            (Range::RATIO, -0.05, Some(0.0)),
            (Range::RATIO, 1.051, None),
            (Range::RATIO, -0.051, None),
            (PERCENT, 104.9, Some(100.0)),
            (PERCENT, 105.1, None),
            (PERCENT, -4.9, Some(0.0)),
            (PERCENT, -5.1, None),
            // The width of an open range is not known.
            (Range::NOT_NEGATIVE, -0.001, None),
            (Range::NOT_NEGATIVE, -0.000_000_5, Some(0.0)),
            (Range::NOT_NEGATIVE, 4_294_967_295.0, Some(4_294_967_295.0)),
            (Range::NOT_NEGATIVE, 1e300, None),
            (Range::ANY, -1e300, None),
            // Numbers below zero in 64 bits without a sign, and the largest with one.
            (Range::NOT_NEGATIVE, 18_446_744_073_709_551_615.0, None),
            (Range::NOT_NEGATIVE, 18_446_744_073_709_551_616.0 - 1e6, None),
            (Range::ANY, 9_223_372_036_854_775_807.0, None),
            (Range::RATIO, 161.0, None),
            (Range::RATIO, -30.0, None),
            (Range::NOT_NEGATIVE, 9e18, Some(9e18)),
            (Range::NOT_NEGATIVE, -0.1, None),
            (Range::NOT_NEGATIVE, f64::INFINITY, None),
            (Range::ANY, -9e18, Some(-9e18)),
            (Range::ANY, f64::NAN, None),
            (Range::ANY, f64::NEG_INFINITY, None),
        ] {
            assert_eq!(
                range.check(value).ok().map(InRange::get),
                expected,
                "{value} of {range}"
            );
        }
    }

    #[test]
    fn what_is_not_a_range_is_refused() {
        assert_eq!(Range::new(1.0, 1.0), Err(RangeError::Order));
        assert_eq!(Range::new(1.0, 0.0), Err(RangeError::Order));
        assert_eq!(Range::new(f64::NAN, 0.0), Err(RangeError::Order));
        assert_eq!(
            Range::new(f64::NEG_INFINITY, f64::INFINITY),
            Err(RangeError::Open)
        );
        assert_eq!(Range::new(0.0, f64::INFINITY), Ok(Range::NOT_NEGATIVE));
    }
}
