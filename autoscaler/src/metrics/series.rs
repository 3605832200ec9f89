//! From the series of one host to its one value, and how much of the host that value is about. Pure; both sources end here.

use std::collections::{BTreeMap, BTreeSet};

use tidepool_autoscaler_core::observe::{MemberName, Reading, Sample, UnixMillis};

use super::counter;
use super::fault::Fault;
use super::range::InRange;
use super::{PerHost, SignalSpec};

/// A rate over less than this is noise: two scrapes at once, say by a dry run beside the daemon.
const RATE_SPAN_MS_MIN: i64 = 500;
/// When a series has ended: it is late by more than so many halves of its step, and its host was read so often since. One
/// or two readings may be late or lost; a label that is gone (a queue that was deleted) would otherwise be summed until the
/// window's end.
const ENDED: [(i64, usize); 2] = [(5, 3), (9, 2)];

/// Two readings of one series are not nearer to each other than this part of its step: nearer ones are several series' own,
/// read one after another. An agent that is restarted reads once in between.
const NEAR_PARTS: i64 = 20;
const NEAR_MIN: usize = 2;

const TELL_APART: &str = "name the field or label that tells them apart in `series_fields` or `filter`";

/// One reading of one series.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) at: UnixMillis,
    /// The value, or what is wrong with it.
    pub(super) value: Result<InRange, Fault>,
    /// How often the series is read, where its document says so.
    pub(super) period_ms: Option<i64>,
}

/// What is known of a host.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum HostValue {
    /// Nothing was wrong with any of its series.
    Whole {
        /// The value.
        value: f64,
        /// The time it is about.
        at: UnixMillis,
    },
    /// Some of it can't be read; the rest comes to so much.
    AtLeast {
        /// The value.
        value: f64,
        /// The time it is about.
        at: UnixMillis,
        /// What is wrong with the rest.
        fault: Fault,
    },
    /// It has no value; perhaps it is known why.
    None {
        /// What is wrong.
        fault: Option<Fault>,
    },
}

impl HostValue {
    /// The same value by another clock: the reader's instead of what the readings were counted by.
    pub(super) fn dated(self, clock: impl FnOnce(UnixMillis) -> UnixMillis) -> HostValue {
        match self {
            HostValue::Whole { value, at } => HostValue::Whole { value, at: clock(at) },
            HostValue::AtLeast { value, at, fault } => HostValue::AtLeast {
                value,
                at: clock(at),
                fault,
            },
            HostValue::None { fault } => HostValue::None { fault },
        }
    }

    /// Puts it into a source's reading as what it is: a sample, a lower bound with its cause, or the cause alone.
    pub(super) fn put(self, host: &MemberName, reading: &mut Reading) {
        let sample = |value, at| Sample {
            host: host.clone(),
            value,
            at,
        };
        let fault = match self {
            HostValue::Whole { value, at } => {
                reading.samples.push(sample(value, at));
                None
            }
            HostValue::AtLeast { value, at, fault } => {
                reading.at_least.push(sample(value, at));
                Some(fault)
            }
            HostValue::None { fault } => fault,
        };
        let cause = fault.map(|fault| (host.clone(), fault.to_string()));
        reading.causes.extend(cause);
    }
}

/// The series of one host within the window, by what tells them apart (labels, interface).
#[derive(Debug, Clone, Default)]
pub(super) struct HostSeries {
    series: BTreeMap<String, Series>,
    /// Something is wrong with a series of it that can't be named.
    fault: Option<Fault>,
    /// Nothing of it can be believed.
    refused: Option<Fault>,
}

/// When a host was read.
struct Pace {
    times: BTreeSet<UnixMillis>,
    /// The usual time between two readings.
    step_ms: Option<i64>,
}

/// One series: its values by time. What was delivered twice is there once.
#[derive(Debug, Clone, Default)]
struct Series {
    points: BTreeMap<UnixMillis, f64>,
    /// Times of which the value can't be read, and why.
    faults: BTreeMap<UnixMillis, Fault>,
    period_ms: Option<i64>,
    /// Who wrote it, where its documents say so.
    agent: Option<String>,
    /// It is still reported, however old it says that its values are.
    lives: bool,
}

impl HostSeries {
    /// Adds a reading; the same one twice is one, two that differ at one time are none.
    pub(super) fn add(&mut self, key: String, point: Point) {
        let series = self.series.entry(key).or_default();
        series.period_ms = series.period_ms.max(point.period_ms);
        match point.value {
            Ok(value) => series.insert(point.at, value.get()),
            Err(fault) => {
                series.points.remove(&point.at);
                series.faults.insert(point.at, fault);
            }
        }
    }

    /// Something is wrong that concerns no series in particular.
    pub(super) fn doubt(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// Nothing of the host can be believed.
    pub(super) fn refuse(&mut self, fault: Fault) {
        self.refused.get_or_insert(fault);
    }

    /// Who wrote a reading of this series. Two that write one series are two hosts of one name.
    pub(super) fn written_by(&mut self, key: &str, agent: &str) {
        let series = self.series.entry(key.to_owned()).or_default();
        let known = series.agent.get_or_insert_with(|| agent.to_owned());
        if known != agent {
            self.refuse(Fault::Other(
                "two agents write the same series in its name: either two hosts have it, or its agent was installed anew"
                    .to_owned(),
            ));
        }
    }

    /// This series is reported now, so it hasn't ended.
    pub(super) fn lives(&mut self, key: &str) {
        self.series.entry(key.to_owned()).or_default().lives = true;
    }

    /// The newest time of any reading.
    fn newest(&self) -> Option<UnixMillis> {
        self.series.values().filter_map(Series::newest).max()
    }

    /// The host's value: each series that has not ended by the spec's `per_host`, then their sum.
    ///
    /// Parts that can't be read leave a lower bound where no part can be negative, and nothing otherwise.
    pub(super) fn value(&self, what: &SignalSpec) -> HostValue {
        let Some(newest) = self.newest().filter(|_| self.refused.is_none()) else {
            let fault = self.refused.as_ref().or(self.fault.as_ref());
            return HostValue::None {
                fault: fault.cloned(),
            };
        };
        if let Some(fault) = self.series.values().find_map(Series::crowd) {
            return HostValue::None { fault: Some(fault) };
        }
        let usual = Pace {
            times: self.series.values().flat_map(Series::times).collect(),
            step_ms: self.step_ms(),
        };
        let mut fault = self.fault.clone();
        let (mut sum, mut parts) = (0.0, 0_usize);
        let mut at = None;
        for series in self.series.values() {
            if series.has_ended(newest, &usual) {
                continue;
            }
            fault = fault.or_else(|| series.fault_of(what.per_host));
            if let Some(value) = series.value(what.per_host, &mut fault) {
                sum += value;
                parts += 1;
                at = at.max(series.points.keys().next_back().copied());
            }
        }
        match (at, fault) {
            (Some(at), None) => HostValue::Whole {
                value: sum * what.scale,
                at,
            },
            (Some(at), Some(fault)) if parts > 0 && what.range.never_negative() && what.scale > 0.0 => {
                HostValue::AtLeast {
                    value: sum * what.scale,
                    at,
                    fault,
                }
            }
            (_, fault) => HostValue::None { fault },
        }
    }

    /// The usual time between two readings of the host: the longest between two of one series. For a series of which only
    /// one reading is known.
    fn step_ms(&self) -> Option<i64> {
        self.series.values().filter_map(Series::step_ms).max()
    }
}

impl Series {
    fn insert(&mut self, at: UnixMillis, value: f64) {
        if self.faults.contains_key(&at) {
            return;
        }
        let before = self.points.insert(at, value);
        #[expect(clippy::float_cmp, reason = "the very same number, delivered twice")]
        if before.is_some_and(|before| before != value) {
            self.points.remove(&at);
            self.faults.insert(at, Fault::Conflict(TELL_APART));
        }
    }

    fn times(&self) -> BTreeSet<UnixMillis> {
        self.points.keys().chain(self.faults.keys()).copied().collect()
    }

    fn newest(&self) -> Option<UnixMillis> {
        let points = self.points.keys().next_back();
        points.max(self.faults.keys().next_back()).copied()
    }

    /// How long it is between two readings: as the documents say, or the longest time between two that are known, so that
    /// a lost one doesn't make the next one late.
    fn step_ms(&self) -> Option<i64> {
        let times: Vec<i64> = self.times().into_iter().map(|at| at.0).collect();
        let gaps = times.iter().zip(times.iter().skip(1)).map(|(a, b)| b - a);
        self.period_ms.max(gaps.max()).filter(|step| *step > 0)
    }

    /// That several series are in this one. A text tells its series apart by itself.
    fn crowd(&self) -> Option<Fault> {
        let step_ms = self.step_ms().filter(|_| !self.lives)?;
        let times: Vec<i64> = self.times().into_iter().map(|at| at.0).collect();
        let gaps = times.iter().zip(times.iter().skip(1)).map(|(a, b)| b - a);
        let near = gaps
            .filter(|gap| gap.saturating_mul(NEAR_PARTS) < step_ms)
            .count();
        (near >= NEAR_MIN).then(|| {
            let hint = format!("several series in one, read one after another: {TELL_APART}");
            Fault::Other(hint)
        })
    }

    fn has_ended(&self, newest: UnixMillis, host: &Pace) -> bool {
        if self.lives {
            return false;
        }
        let Some(last) = self.newest() else {
            return true;
        };
        let Some(step_ms) = self.step_ms().or(host.step_ms) else {
            return false;
        };
        let late_ms = newest.0.saturating_sub(last.0);
        let missed = host.times.range(last..).filter(|at| **at > last).count();
        ENDED.iter().any(|(halves, times)| {
            late_ms.saturating_mul(2) > step_ms.saturating_mul(*halves) && missed >= *times
        })
    }

    /// What is wrong with the readings that `per_host` goes by.
    fn fault_of(&self, per_host: PerHost) -> Option<Fault> {
        let (at, fault) = self.faults.iter().next_back()?;
        let matters = match per_host {
            PerHost::Last => Some(at) > self.points.keys().next_back(),
            PerHost::Avg | PerHost::Max | PerHost::Rate => true,
        };
        matters.then(|| fault.clone())
    }

    fn value(&self, per_host: PerHost, fault: &mut Option<Fault>) -> Option<f64> {
        let values = || self.points.values().copied();
        match per_host {
            // A value that has a newer, unreadable one beside it is not the series' last.
            PerHost::Last if self.fault_of(per_host).is_some() => None,
            PerHost::Last => values().next_back(),
            PerHost::Avg => {
                #[expect(clippy::cast_precision_loss, reason = "at most a few thousand points")]
                let count = self.points.len() as f64;
                (count > 0.0).then(|| values().sum::<f64>() / count)
            }
            PerHost::Max => values().reduce(f64::max),
            PerHost::Rate => self.rate(fault),
        }
    }

    /// Growth per second over the series' own time: what it had before its first reading is not known to be new.
    fn rate(&self, fault: &mut Option<Fault>) -> Option<f64> {
        let (first, last) = (self.points.keys().next()?, self.points.keys().next_back()?);
        let span_ms = last.0 - first.0;
        if span_ms < RATE_SPAN_MS_MIN {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a window is far below 2^52 ms")]
        let span_secs = span_ms as f64 / 1000.0;
        match counter::growth(&self.points) {
            Ok(growth) => Some(growth / span_secs),
            Err(doubt) => {
                fault.get_or_insert(doubt);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::range::Range;
    use super::*;

    fn spec(per_host: PerHost, range: Range) -> SignalSpec {
        SignalSpec {
            field: "m".to_owned(),
            filter: BTreeMap::new(),
            per_host,
            scale: 1.0,
            range,
        }
    }

    fn point(ms: i64, value: Result<InRange, Fault>) -> Point {
        Point {
            at: UnixMillis(ms),
            value,
            period_ms: None,
        }
    }

    /// Series by key, each a list of seconds and values; NaN stands for a value that can't be read.
    fn host(series: &[(&str, &[(i64, f64)])]) -> HostSeries {
        let mut host = HostSeries::default();
        for (key, points) in series {
            for (secs, value) in *points {
                host.add((*key).to_owned(), point(secs * 1000, Range::ANY.check(*value)));
            }
        }
        host
    }

    fn whole(series: &[(&str, &[(i64, f64)])], per_host: PerHost) -> Option<(i64, f64)> {
        match host(series).value(&spec(per_host, Range::NOT_NEGATIVE)) {
            HostValue::Whole { value, at } => Some((at.0 / 1000, value)),
            HostValue::AtLeast { .. } | HostValue::None { .. } => None,
        }
    }

    fn at_least(series: &[(&str, &[(i64, f64)])], per_host: PerHost) -> Option<f64> {
        match host(series).value(&spec(per_host, Range::NOT_NEGATIVE)) {
            HostValue::AtLeast { value, .. } => Some(value),
            HostValue::Whole { .. } | HostValue::None { .. } => None,
        }
    }

    #[test]
    fn one_series_by_each_way() {
        let cpu: &[(&str, &[(i64, f64)])] = &[("", &[(0, 0.2), (10, 0.6), (20, 0.4)])];
        assert_eq!(whole(cpu, PerHost::Last), Some((20, 0.4)));
        assert_eq!(whole(cpu, PerHost::Max), Some((20, 0.6)));
        let (at, mean) = whole(cpu, PerHost::Avg).unwrap();
        assert_eq!(at, 20);
        assert!((mean - 0.4).abs() < 1e-9);
    }

    #[test]
    fn several_series_are_summed() {
        let counters: &[(&str, &[(i64, f64)])] =
            &[("a", &[(0, 100.0), (10, 200.0)]), ("b", &[(0, 0.0), (10, 50.0)])];
        assert_eq!(whole(counters, PerHost::Rate), Some((10, 15.0)));
        assert_eq!(whole(counters, PerHost::Last), Some((10, 250.0)));
    }

    #[test]
    fn a_reset_counts_from_zero() {
        let restarted: &[(&str, &[(i64, f64)])] =
            &[("", &[(0, 1000.0), (10, 1100.0), (20, 30.0), (30, 70.0)])];
        // 100 before the reset, 30 and 40 after it, in 30 s.
        let (_, rate) = whole(restarted, PerHost::Rate).unwrap();
        assert!((rate - 170.0 / 30.0).abs() < 1e-9);
    }

    #[test]
    fn a_counter_that_goes_back_a_little_is_not_reset_and_is_not_trusted() {
        let back: &[(&str, &[(i64, f64)])] = &[("", &[(0, 1000.0), (10, 999.0), (20, 1010.0)])];
        let none = host(back).value(&spec(PerHost::Rate, Range::NOT_NEGATIVE));
        let HostValue::None { fault: Some(fault) } = none else {
            panic!()
        };
        assert_eq!(fault.to_string(), "a counter went back from 1000 to 999");
    }

    /// A counter that was read every ten seconds; what is known of its rate, and the reason.
    fn counter(values: &[f64]) -> (Option<f64>, Option<f64>, String) {
        let points: Vec<(i64, f64)> = (0..).step_by(10).zip(values.iter().copied()).collect();
        match host(&[("", &points)]).value(&spec(PerHost::Rate, Range::NOT_NEGATIVE)) {
            HostValue::Whole { value, .. } => (Some(value), None, String::new()),
            HostValue::AtLeast { value, fault, .. } => (None, Some(value), fault.to_string()),
            HostValue::None { fault } => (None, None, fault.unwrap().to_string()),
        }
    }

    #[test]
    fn a_jump_that_no_counter_makes_is_never_growth() {
        let wrapped = 18_446_744_073_709_551_615.0;
        for lie in [
            wrapped,
            9_223_372_036_854_775_807.0,
            4_294_967_295.0,
            1e18,
            1e300,
            1e6,
            15_000.0,
        ] {
            for place in 0..7 {
                let mut values: Vec<f64> = (0..7).map(|n| 5_000.0 + 50.0 * f64::from(n)).collect();
                values[place] = lie;
                let (whole, at_least, why) = counter(&values);
                assert_eq!(whole, None, "{values:?}");
                assert!(
                    at_least.is_none_or(|rate| rate <= 5.0),
                    "{values:?}: {at_least:?}"
                );
                assert!(why.contains("counter"), "{why}");
            }
        }
        // It may stay for two readings, or for good.
        for values in [
            [1000.0, 1010.0, 1e9, 1e9, 1020.0, 1030.0],
            [1000.0, 1010.0, 1e9, 1e9 + 10.0, 1e9 + 20.0, 1e9 + 30.0],
            [1e9, 1e9, 1e9, 1000.0, 1010.0, 1020.0],
        ] {
            let (whole, at_least, _) = counter(&values);
            assert_eq!(whole, None, "{values:?}");
            assert!(
                at_least.is_none_or(|rate| rate <= 1.0),
                "{values:?}: {at_least:?}"
            );
        }
    }

    #[test]
    fn workers_that_answer_in_turn_are_not_one_counter() {
        let (a, b) = (
            [10_000.0, 10_005.0, 10_010.0, 10_015.0],
            [3_000.0, 3_005.0, 3_010.0, 3_015.0],
        );
        for turns in [
            "ab", "ba", "abab", "baba", "aabb", "bbaa", "abba", "baab", "aba", "bab", "aab", "abb", "babb",
            "aaab",
        ] {
            let (mut next_a, mut next_b) = (a.into_iter(), b.into_iter());
            let values: Vec<f64> = turns
                .chars()
                .map(|turn| if turn == 'a' { next_a.next() } else { next_b.next() })
                .map(Option::unwrap)
                .collect();
            let (whole, at_least, why) = counter(&values);
            assert_eq!(whole, None, "{turns}: {values:?}");
            assert!(at_least.is_none_or(|rate| rate <= 0.5), "{turns}: {at_least:?}");
            assert!(why.contains("counter"), "{turns}: {why}");
        }
    }

    #[test]
    fn restarts_and_surges_are_believed() {
        for (values, growth) in [
            // A restart, early and late in the window, and of a young process.
            (vec![1e6, 1e6 + 500.0, 400.0, 900.0, 1_400.0], 1_900.0),
            (vec![1e6, 200.0, 700.0, 1_200.0], 1_200.0),
            (vec![1e6, 1e6 + 500.0, 1e6 + 1_000.0, 300.0], 1_300.0),
            (vec![1e6, 30.0], 30.0),
            (vec![100.0, 140.0, 10.0, 50.0, 90.0, 130.0, 170.0], 210.0),
            // A surge of an old counter, and one of a young one that lasts.
            (vec![1e6, 1e6 + 10.0, 1e6 + 20.0, 1e6 + 5_020.0], 5_020.0),
            (vec![10.0, 20.0, 30.0, 5_030.0, 10_030.0], 10_020.0),
            // A young counter, and one that hardly counts.
            (vec![0.0, 300.0, 600.0], 600.0),
            (vec![0.0, 0.0, 0.0, 7.0, 7.0], 7.0),
            (vec![100.0, 200.0], 100.0),
        ] {
            let span_secs = 10.0 * (values.len() - 1) as f64;
            let (whole, _, why) = counter(&values);
            let whole = whole.unwrap_or_else(|| panic!("{values:?}: {why}"));
            assert!((whole - growth / span_secs).abs() < 1e-6, "{values:?}: {whole}");
        }
    }

    #[test]
    fn series_that_are_read_together_are_several() {
        // Four containers in one key, a few milliseconds apart, at the period that their documents tell or at none.
        for period_ms in [None, Some(10_000)] {
            for per_host in [PerHost::Last, PerHost::Avg, PerHost::Max] {
                let mut host = HostSeries::default();
                for round in 0..5 {
                    for (nth, value) in [0.9, 0.02, 0.02, 0.03].into_iter().enumerate() {
                        let at = UnixMillis(round * 10_000 + 3 * nth as i64);
                        host.add(
                            String::new(),
                            Point {
                                at,
                                value: Range::RATIO.check(value),
                                period_ms,
                            },
                        );
                    }
                }
                let HostValue::None { fault: Some(fault) } = host.value(&spec(per_host, Range::RATIO)) else {
                    panic!("{per_host:?}")
                };
                assert!(fault.to_string().contains("series_fields"), "{fault}");
            }
        }
        // An agent that was restarted reads once more in between.
        let restarted: &[(&str, &[(i64, f64)])] =
            &[("", &[(0, 0.2), (100, 0.2), (101, 0.4), (201, 0.4), (301, 0.4)])];
        assert!(whole(restarted, PerHost::Avg).is_some());
    }

    #[test]
    fn each_series_grows_over_its_own_time() {
        let born: &[(&str, &[(i64, f64)])] = &[
            ("old", &[(0, 0.0), (10, 10.0), (20, 20.0)]),
            ("new", &[(10, 5000.0), (20, 5010.0)]),
        ];
        assert_eq!(whole(born, PerHost::Rate), Some((20, 2.0)));
        // First readings that were lost change nothing.
        let lost: &[(&str, &[(i64, f64)])] = &[
            ("a", &[(0, 0.0), (10, 10.0), (20, 20.0)]),
            ("b", &[(10, 10.0), (20, 20.0)]),
        ];
        assert_eq!(whole(lost, PerHost::Rate), Some((20, 2.0)));
    }

    #[test]
    fn one_value_makes_no_rate_and_neither_do_two_at_once() {
        let apart: &[(&str, &[(i64, f64)])] = &[("a", &[(0, 5.0)]), ("b", &[(10, 5.0)])];
        assert_eq!(whole(apart, PerHost::Rate), None);
        let mut host = HostSeries::default();
        for ms in [0, RATE_SPAN_MS_MIN - 1] {
            host.add(String::new(), point(ms, Range::ANY.check(1.0)));
        }
        let none = HostValue::None { fault: None };
        assert_eq!(host.value(&spec(PerHost::Rate, Range::NOT_NEGATIVE)), none);
        assert_eq!(
            HostSeries::default().value(&spec(PerHost::Last, Range::ANY)),
            none
        );
    }

    #[test]
    fn a_series_that_ended_is_not_in_the_newest_sum() {
        for per_host in [PerHost::Last, PerHost::Avg, PerHost::Max] {
            let ended: &[(&str, &[(i64, f64)])] = &[
                ("lives", &[(0, 1.0), (10, 1.0), (20, 1.0)]),
                ("ended", &[(-20, 7.0), (-10, 7.0)]),
            ];
            assert_eq!(whole(ended, per_host), Some((20, 1.0)));
            // With a single reading left in the window the host's own pace decides.
            let one_left: &[(&str, &[(i64, f64)])] = &[
                ("lives", &[(0, 1.0), (10, 1.0), (20, 1.0)]),
                ("ended", &[(-10, 7.0)]),
            ];
            assert_eq!(whole(one_left, per_host), Some((20, 1.0)));
            // One or two documents may be late.
            let late: &[(&str, &[(i64, f64)])] = &[
                ("lives", &[(0, 1.0), (10, 1.0), (20, 1.0)]),
                ("late", &[(-10, 7.0), (0, 7.0)]),
            ];
            assert_eq!(whole(late, per_host), Some((20, 8.0)));
        }
        // Another endpoint of the same host, read a little later, has not ended.
        let other: &[(&str, &[(i64, f64)])] = &[("a", &[(0, 1.0), (10, 1.0)]), ("b", &[(4, 2.0), (14, 2.0)])];
        assert_eq!(whole(other, PerHost::Last), Some((14, 3.0)));
    }

    #[test]
    fn a_slow_series_that_says_how_slow_it_is_has_not_ended() {
        let mut host = host(&[("fast", &[(0, 1.0), (10, 1.0), (20, 1.0), (30, 1.0), (40, 1.0)])]);
        let slow = |period_ms| Point {
            at: UnixMillis(0),
            value: Range::ANY.check(7.0),
            period_ms,
        };
        let what = spec(PerHost::Last, Range::NOT_NEGATIVE);
        let mut unsaid = host.clone();
        unsaid.add("slow".to_owned(), slow(None));
        assert!(matches!(unsaid.value(&what), HostValue::Whole { value: 1.0, .. }));
        host.add("slow".to_owned(), slow(Some(60_000)));
        assert!(matches!(host.value(&what), HostValue::Whole { value: 8.0, .. }));
    }

    #[test]
    fn what_was_delivered_twice_counts_once() {
        let doubled: &[(&str, &[(i64, f64)])] = &[
            ("old", &[(-60, 7.0), (-60, 7.0), (-50, 7.0), (-50, 7.0)]),
            (
                "new",
                &[(-20, 1.0), (-20, 1.0), (-10, 1.0), (-10, 1.0), (0, 1.0), (0, 1.0)],
            ),
        ];
        assert_eq!(whole(doubled, PerHost::Last), Some((0, 1.0)));
    }

    #[test]
    fn a_host_with_an_unreadable_series_is_not_whole() {
        for per_host in [PerHost::Last, PerHost::Avg, PerHost::Max] {
            let part: &[(&str, &[(i64, f64)])] = &[("a", &[(0, f64::NAN)]), ("b", &[(0, 3.0)])];
            assert_eq!(at_least(part, per_host), Some(3.0));
            // Where parts may be negative the rest is not even a lower bound.
            let unbounded = host(part).value(&spec(per_host, Range::ANY));
            assert_eq!(
                unbounded,
                HostValue::None {
                    fault: Some(Fault::NotFinite)
                }
            );
        }
    }

    #[test]
    fn an_unreadable_value_spoils_the_last_one_until_a_newer_one_comes() {
        let newest: &[(&str, &[(i64, f64)])] = &[("", &[(0, 0.5), (10, f64::NAN)])];
        assert_eq!(
            (whole(newest, PerHost::Last), at_least(newest, PerHost::Last)),
            (None, None)
        );
        let older: &[(&str, &[(i64, f64)])] = &[("", &[(0, f64::NAN), (10, 0.5)])];
        assert_eq!(whole(older, PerHost::Last), Some((10, 0.5)));
        // A mean is about the whole window.
        assert_eq!(at_least(older, PerHost::Avg), Some(0.5));
    }

    #[test]
    fn two_agents_of_one_series_are_not_believed() {
        let mut host = host(&[("a", &[(0, 0.9)]), ("b", &[(0, 0.1)])]);
        let what = spec(PerHost::Last, Range::NOT_NEGATIVE);
        host.written_by("a", "one");
        host.written_by("b", "other");
        assert!(matches!(host.value(&what), HostValue::Whole { value: 1.0, .. }));
        host.written_by("a", "other");
        assert!(matches!(host.value(&what), HostValue::None { fault: Some(_) }));
    }

    #[test]
    fn two_values_at_one_time_are_none() {
        let twice: &[(&str, &[(i64, f64)])] = &[("", &[(0, 1.0), (0, 2.0), (0, 1.0)])];
        assert_eq!(whole(twice, PerHost::Last), None);
        let HostValue::None { fault: Some(fault) } =
            host(twice).value(&spec(PerHost::Last, Range::NOT_NEGATIVE))
        else {
            panic!()
        };
        assert!(fault.to_string().contains("series_fields"), "{fault}");
    }
}
