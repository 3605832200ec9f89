//! When requests are due, and of which kind each is: decided by the schedule and a seed, never by earlier answers.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::shape::Shape;

/// A gap is never longer than this, so that a rate near zero can't put the schedule to sleep over a rising tide.
const GAP_MAX: Duration = Duration::from_secs(1);

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Reads one document that is known to exist.
    Get,
    /// Replaces one document that is known to exist.
    Put,
    /// Reads one page of the collection.
    List,
    /// Creates one document under an id of our choosing.
    Post,
}

impl Kind {
    /// The word shown to people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::List => "list",
            Self::Post => "POST",
        }
    }
}

/// One request that is due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    /// When, after the start of the run.
    pub at: Duration,
    /// What.
    pub kind: Kind,
}

/// Poisson arrivals with the rate of a [`Shape`]: an endless iterator, the same one for the same seed.
#[derive(Debug)]
pub struct Arrivals {
    shape: Shape,
    period: Duration,
    at: Duration,
    random: StdRng,
}

impl Arrivals {
    /// Arrivals from zero on; the shape is stretched over `period` and begins anew after it.
    pub fn new(shape: Shape, period: Duration, seed: u64) -> Self {
        Self {
            shape,
            period,
            at: Duration::ZERO,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// 60 % GET, 20 % PUT, 10 % lists, 10 % POST.
    fn kind(&mut self) -> Kind {
        match self.random.random_range(0..10) {
            0..=5 => Kind::Get,
            6..=7 => Kind::Put,
            8 => Kind::List,
            _ => Kind::Post,
        }
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        loop {
            let rate = self
                .shape
                .rate_at(self.at.as_secs_f64() / self.period.as_secs_f64());
            // The gap of a Poisson process: exponential with mean 1/rate. The rate hardly changes within one gap.
            let uniform: f64 = self.random.random();
            let gap_secs = -(1.0 - uniform).ln() / rate;
            if gap_secs > GAP_MAX.as_secs_f64() {
                // The process has no memory: waiting a while and drawing anew is the same distribution.
                self.at += GAP_MAX;
                continue;
            }
            self.at += Duration::from_secs_f64(gap_secs);
            return Some(Arrival {
                at: self.at,
                kind: self.kind(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(100);

    #[test]
    fn the_rate_is_the_shapes() {
        let shape = Shape::Tide {
            low_per_sec: 50.0,
            high_per_sec: 500.0,
        };
        let expected: f64 = (0..100)
            .map(|second| shape.rate_at((f64::from(second) + 0.5) / 100.0))
            .sum();
        let count = Arrivals::new(shape, PERIOD, 1)
            .take_while(|arrival| arrival.at < PERIOD)
            .count() as f64;
        assert!(
            (count / expected - 1.0).abs() < 0.03,
            "{count} arrivals, {expected} expected"
        );
    }

    #[test]
    fn the_mix_is_as_documented() {
        let arrivals: Vec<_> = Arrivals::new(Shape::Flat { per_sec: 100.0 }, PERIOD, 2)
            .take(20_000)
            .collect();
        for (kind, share) in [
            (Kind::Get, 0.6),
            (Kind::Put, 0.2),
            (Kind::List, 0.1),
            (Kind::Post, 0.1),
        ] {
            let found = arrivals.iter().filter(|arrival| arrival.kind == kind).count() as f64 / 20_000.0;
            assert!(
                (found - share).abs() < 0.015,
                "{kind:?}: {found}, {share} expected"
            );
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        let schedule = |seed| {
            Arrivals::new(Shape::Flat { per_sec: 100.0 }, PERIOD, seed)
                .take(500)
                .collect::<Vec<_>>()
        };
        assert_eq!(schedule(7), schedule(7));
        assert_ne!(schedule(7), schedule(8));
    }

    #[test]
    fn a_low_rate_is_kept_over_long_gaps() {
        let count = Arrivals::new(Shape::Flat { per_sec: 0.5 }, PERIOD, 3)
            .take_while(|arrival| arrival.at < PERIOD * 40)
            .count() as f64;
        assert!(
            (count / 2_000.0 - 1.0).abs() < 0.1,
            "{count} arrivals, 2000 expected"
        );
    }
}
