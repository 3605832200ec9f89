//! From the series of one host to its one value. Pure; both sources end here.

use std::collections::BTreeMap;

use tidepool_autoscaler_core::observe::UnixMillis;

use super::PerHost;

/// A rate over less than this is noise: two scrapes at once, say by a dry run beside the daemon.
const RATE_SPAN_MS_MIN: i64 = 500;

/// A value at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) at: UnixMillis,
    pub(super) value: f64,
}

/// Two different values of what should be one series at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ambiguous {
    pub(super) at: UnixMillis,
}

/// The series of one host within the window, by what tells them apart (labels, interface).
#[derive(Debug, Clone, Default)]
pub(super) struct HostSeries {
    series: BTreeMap<String, BTreeMap<UnixMillis, f64>>,
}

impl HostSeries {
    /// Adds a value; `NaN` and infinities say nothing and are left out. The same value told twice is one.
    pub(super) fn add(&mut self, key: String, point: Point) -> Result<(), Ambiguous> {
        if !point.value.is_finite() {
            return Ok(());
        }
        let before = self.series.entry(key).or_default().insert(point.at, point.value);
        match before {
            #[expect(clippy::float_cmp, reason = "the very same number, told twice")]
            Some(value) if value != point.value => Err(Ambiguous { at: point.at }),
            _ => Ok(()),
        }
    }

    /// The host's value and the time it is about: each series by `per_host`, then their sum. `None` when there is nothing,
    /// or not enough for a rate.
    pub(super) fn value(&self, per_host: PerHost) -> Option<Point> {
        let at = *self
            .series
            .values()
            .filter_map(|points| points.keys().next_back())
            .max()?;
        let value = match per_host {
            PerHost::Last => self
                .series
                .values()
                .filter(|points| is_alive(points, at))
                .filter_map(last)
                .sum(),
            PerHost::Avg => self.series.values().filter_map(mean).sum(),
            PerHost::Max => self.series.values().filter_map(largest).sum(),
            PerHost::Rate => self.rate(at)?,
        };
        Some(Point { at, value })
    }

    /// Growth per second of all series together, over the time from the host's first value to its last. A series that begins
    /// within the window counts from its first value on: what it had before is not known to be new.
    fn rate(&self, at: UnixMillis) -> Option<f64> {
        if self.series.values().all(|points| points.len() < 2) {
            return None;
        }
        let first = *self
            .series
            .values()
            .filter_map(|points| points.keys().next())
            .min()?;
        let span_ms = at.0 - first.0;
        if span_ms < RATE_SPAN_MS_MIN {
            return None;
        }
        let growth: f64 = self.series.values().map(growth).sum();
        #[expect(clippy::cast_precision_loss, reason = "a window is far below 2^52 ms")]
        let span_secs = span_ms as f64 / 1000.0;
        Some(growth / span_secs)
    }
}

/// Whether a series still belongs to the host's newest values: it is late by no more than one and a half of its own steps. A
/// label that is told no more (an error that stopped) would otherwise be summed until the window's end.
fn is_alive(points: &BTreeMap<UnixMillis, f64>, newest: UnixMillis) -> bool {
    let mut back = points.keys().rev();
    match (back.next(), back.next()) {
        (Some(last), Some(before)) => 2 * (newest.0 - last.0) <= 3 * (last.0 - before.0),
        (last, _) => last.is_some(),
    }
}

fn last(points: &BTreeMap<UnixMillis, f64>) -> Option<f64> {
    points.values().next_back().copied()
}

fn mean(points: &BTreeMap<UnixMillis, f64>) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "at most a few thousand points")]
    let count = points.len() as f64;
    (!points.is_empty()).then(|| points.values().sum::<f64>() / count)
}

fn largest(points: &BTreeMap<UnixMillis, f64>) -> Option<f64> {
    points.values().copied().reduce(f64::max)
}

/// A counter's growth; one that falls was set to zero, and has grown to its present value since.
fn growth(points: &BTreeMap<UnixMillis, f64>) -> f64 {
    let mut values = points.values().copied();
    let Some(mut before) = values.next() else {
        return 0.0;
    };
    let mut sum = 0.0;
    for value in values {
        sum += if value >= before { value - before } else { value };
        before = value;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Series by key, each a list of seconds and values.
    fn host(series: &[(&str, &[(i64, f64)])]) -> HostSeries {
        let mut host = HostSeries::default();
        for (key, points) in series {
            for (secs, value) in *points {
                host.add(
                    (*key).to_owned(),
                    Point {
                        at: UnixMillis(secs * 1000),
                        value: *value,
                    },
                )
                .unwrap();
            }
        }
        host
    }

    fn value(series: &[(&str, &[(i64, f64)])], per_host: PerHost) -> Option<(i64, f64)> {
        host(series)
            .value(per_host)
            .map(|point| (point.at.0 / 1000, point.value))
    }

    #[test]
    fn one_series_by_each_way() {
        let cpu: &[(&str, &[(i64, f64)])] = &[("", &[(0, 0.2), (10, 0.6), (20, 0.4)])];
        assert_eq!(value(cpu, PerHost::Last), Some((20, 0.4)));
        assert_eq!(value(cpu, PerHost::Max), Some((20, 0.6)));
        let (at, mean) = value(cpu, PerHost::Avg).unwrap();
        assert_eq!(at, 20);
        assert!((mean - 0.4).abs() < 1e-9);
    }

    #[test]
    fn several_series_are_summed() {
        let counters: &[(&str, &[(i64, f64)])] =
            &[("a", &[(0, 100.0), (10, 200.0)]), ("b", &[(0, 0.0), (10, 50.0)])];
        assert_eq!(value(counters, PerHost::Rate), Some((10, 15.0)));
        assert_eq!(value(counters, PerHost::Last), Some((10, 250.0)));
    }

    #[test]
    fn a_reset_counts_from_zero() {
        let restarted: &[(&str, &[(i64, f64)])] =
            &[("", &[(0, 1000.0), (10, 1100.0), (20, 30.0), (30, 70.0)])];
        // 100 before the reset, 30 and 40 after it, in 30 s.
        let (_, rate) = value(restarted, PerHost::Rate).unwrap();
        assert!((rate - 170.0 / 30.0).abs() < 1e-9);
    }

    #[test]
    fn a_label_that_begins_in_the_window_counts_from_its_first_value() {
        let born: &[(&str, &[(i64, f64)])] = &[
            ("old", &[(0, 0.0), (10, 10.0), (20, 20.0)]),
            ("new", &[(10, 5000.0), (20, 5010.0)]),
        ];
        assert_eq!(value(born, PerHost::Rate), Some((20, 1.5)));
    }

    #[test]
    fn one_value_makes_no_rate_and_neither_do_two_at_once() {
        assert_eq!(
            value(&[("a", &[(0, 5.0)]), ("b", &[(10, 5.0)])], PerHost::Rate),
            None
        );
        let mut host = HostSeries::default();
        for ms in [0, RATE_SPAN_MS_MIN - 1] {
            host.add(
                String::new(),
                Point {
                    at: UnixMillis(ms),
                    value: 1.0,
                },
            )
            .unwrap();
        }
        assert_eq!(host.value(PerHost::Rate), None);
        assert_eq!(value(&[], PerHost::Last), None);
    }

    #[test]
    fn a_series_that_ended_is_not_in_the_newest_sum() {
        let ended: &[(&str, &[(i64, f64)])] = &[
            ("lives", &[(0, 1.0), (10, 1.0), (20, 1.0)]),
            ("ended", &[(-10, 7.0), (0, 7.0)]),
        ];
        assert_eq!(value(ended, PerHost::Last), Some((20, 1.0)));
        // Another endpoint of the same host, asked a little later, is not ended.
        let other: &[(&str, &[(i64, f64)])] = &[("a", &[(0, 1.0), (10, 1.0)]), ("b", &[(4, 2.0), (14, 2.0)])];
        assert_eq!(value(other, PerHost::Last), Some((14, 3.0)));
    }

    #[test]
    fn what_is_no_number_says_nothing() {
        let mut host = HostSeries::default();
        for value in [f64::NAN, f64::INFINITY] {
            host.add(
                String::new(),
                Point {
                    at: UnixMillis(0),
                    value,
                },
            )
            .unwrap();
        }
        assert_eq!(host.value(PerHost::Last), None);
    }

    #[test]
    fn two_values_at_one_time_are_no_series() {
        let mut host = HostSeries::default();
        let at = UnixMillis(7);
        assert_eq!(host.add(String::new(), Point { at, value: 1.0 }), Ok(()));
        assert_eq!(host.add(String::new(), Point { at, value: 1.0 }), Ok(()));
        assert_eq!(
            host.add(String::new(), Point { at, value: 2.0 }),
            Err(Ambiguous { at })
        );
    }
}
