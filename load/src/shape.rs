//! How the offered load changes over time: a pure function of the position in the run.

use std::f64::consts::PI;

/// Where the tide begins to rise, as a share of the whole run.
const RISE_BEGINS: f64 = 0.10;
/// Where it stands at its height.
const HIGH_BEGINS: f64 = 0.28;
/// Where it begins to fall.
const FALL_BEGINS: f64 = 0.56;
/// Where it is low again. The rest is for the pool to come back to its minimum.
const LOW_BEGINS: f64 = 0.70;

/// The middle of the high water: where the power is cut.
pub const HIGH_MIDDLE: f64 = (HIGH_BEGINS + FALL_BEGINS) / 2.0;

/// The offered load in requests a second, over the run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// Low, rising, high, falling, low.
    Tide {
        /// Requests a second at low water.
        low_per_sec: f64,
        /// Requests a second at high water.
        high_per_sec: f64,
    },
    /// The same all the time.
    Flat {
        /// Requests a second.
        per_sec: f64,
    },
}

impl Shape {
    /// Requests a second at `position` of the run: 0 is its start, 1 its end; beyond 1 it begins anew.
    pub fn rate_at(&self, position: f64) -> f64 {
        match *self {
            Self::Flat { per_sec } => per_sec,
            Self::Tide {
                low_per_sec,
                high_per_sec,
            } => low_per_sec + (high_per_sec - low_per_sec) * tide(position.rem_euclid(1.0)),
        }
    }

    /// Requests a second at the highest point.
    pub fn rate_max(&self) -> f64 {
        match *self {
            Self::Flat { per_sec } => per_sec,
            Self::Tide {
                low_per_sec,
                high_per_sec,
            } => low_per_sec.max(high_per_sec),
        }
    }
}

/// The height of the water between 0 and 1; the slopes are half cosines, so that no step is in it.
fn tide(position: f64) -> f64 {
    let slope = |from: f64, to: f64| (1.0 - (PI * (position - from) / (to - from)).cos()) / 2.0;
    if position < RISE_BEGINS {
        0.0
    } else if position < HIGH_BEGINS {
        slope(RISE_BEGINS, HIGH_BEGINS)
    } else if position < FALL_BEGINS {
        1.0
    } else if position < LOW_BEGINS {
        1.0 - slope(FALL_BEGINS, LOW_BEGINS)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIDE: Shape = Shape::Tide {
        low_per_sec: 40.0,
        high_per_sec: 400.0,
    };

    #[test]
    fn the_tide_is_low_at_both_ends_and_high_in_the_middle() {
        for (position, expected) in [
            (0.0, 40.0),
            (0.05, 40.0),
            (HIGH_MIDDLE, 400.0),
            (0.71, 40.0),
            (0.999, 40.0),
        ] {
            assert_eq!(TIDE.rate_at(position), expected, "at {position}");
        }
    }

    #[test]
    fn the_tide_never_jumps() {
        let mut before = TIDE.rate_at(0.0);
        for step in 1..=1000 {
            let now = TIDE.rate_at(f64::from(step) / 1000.0);
            assert!((now - before).abs() < 5.0, "from {before} to {now} at {step}");
            before = now;
        }
    }

    #[test]
    fn a_second_tide_follows_the_first() {
        assert_eq!(TIDE.rate_at(1.0 + HIGH_MIDDLE), 400.0);
    }

    #[test]
    fn flat_is_flat() {
        let flat = Shape::Flat { per_sec: 60.0 };
        assert!((0..=100).all(|step| flat.rate_at(f64::from(step) / 100.0) == 60.0));
        assert_eq!(flat.rate_max(), 60.0);
    }
}
