//! How far signals are trusted.

use std::collections::BTreeSet;

use tidepool_autoscaler_core::observe::{MemberName, Reading, Sample, SignalReading};
use tidepool_autoscaler_core::signal::{
    CLOCK_SKEW_SECS_MAX, GapCause, Gaps, HOSTS_NAMED_MAX, Hosts, MissingReason, Signal, assess,
};

use crate::support::{NOW, at, name, reading};

const FRESH_SECS: u32 = 120;

fn hosts(names: &[MemberName]) -> Hosts<'_> {
    Hosts {
        expected: names.iter().take(2).collect(),
        serving: names.iter().collect(),
    }
}

fn three() -> Vec<MemberName> {
    ["api-1", "api-2", "api-3"].map(name).to_vec()
}

fn judged(samples: Vec<(&str, f64, i64)>) -> Signal {
    let sample = |(host, value, secs)| Sample {
        host: name(host),
        value,
        at: at(secs),
    };
    let reading = SignalReading::Read(samples.into_iter().map(sample).collect::<Vec<_>>().into());
    assess(Some(&reading), &hosts(&three()), FRESH_SECS, at(NOW))
}

fn missing(signal: &Signal) -> &MissingReason {
    let Signal::Missing { reason, .. } = signal else {
        panic!("{signal:?} is not missing")
    };
    reason
}

fn gaps(named: &[(&str, GapCause)]) -> Gaps {
    Gaps {
        named: named
            .iter()
            .map(|(host, cause)| (name(host), cause.clone()))
            .collect(),
        more: 0,
    }
}

fn no_values(named: &[(&str, GapCause)]) -> Signal {
    Signal::Missing {
        reason: MissingReason::NoValues,
        expected: 2,
        gaps: gaps(named),
    }
}

#[test]
fn all_expected_hosts_with_a_fresh_value_make_it_fresh() {
    let signal = judged(vec![
        ("api-1", 0.2, NOW),
        ("api-2", 0.6, NOW - 120),
        ("api-3", 0.9, NOW - 1),
    ]);
    let Signal::Fresh { values } = signal else {
        panic!("{signal:?}")
    };
    assert_eq!(values.warm.values().copied().collect::<Vec<_>>(), [0.2, 0.6]);
    assert_eq!(values.warming.values().copied().collect::<Vec<_>>(), [0.9]);
    assert_eq!((values.total(), values.mean(), values.max()), (0.8, 0.4, 0.6));
    assert_eq!(values.age_secs, 120.0);
}

#[test]
fn a_host_that_only_warms_up_is_not_expected() {
    assert!(matches!(
        judged(vec![("api-1", 0.2, NOW), ("api-2", 0.6, NOW)]),
        Signal::Fresh { .. }
    ));
}

#[test]
fn one_expected_host_without_a_fresh_value_makes_it_partial() {
    for other in [
        vec![],
        vec![("api-2", 0.6, NOW - 121)],
        vec![("api-2", f64::NAN, NOW)],
        vec![("api-9", 0.6, NOW)],
    ] {
        let mut samples = vec![("api-1", 0.2, NOW)];
        samples.extend(other);
        let signal = judged(samples);
        let Signal::Partial { values, expected, .. } = &signal else {
            panic!("{signal:?}")
        };
        assert_eq!((values.warm.len(), *expected), (1, 2));
    }
}

#[test]
fn only_old_values_make_it_stale_and_the_newest_gives_the_age() {
    let signal = judged(vec![("api-1", 0.2, NOW - 500), ("api-2", 0.2, NOW - 400)]);
    assert_eq!(
        signal,
        Signal::Stale {
            age_secs: 400.0,
            fresh_secs: FRESH_SECS,
            expected: 2,
            gaps: gaps(&[("api-1", GapCause::Stale), ("api-2", GapCause::Stale)]),
        }
    );
}

#[test]
fn a_value_from_the_future_does_not_count_beyond_the_clocks_skew() {
    let skew = i64::from(CLOCK_SKEW_SECS_MAX);
    let within = judged(vec![("api-1", 0.2, NOW + skew), ("api-2", 0.2, NOW + 1)]);
    let Signal::Fresh { values } = &within else {
        panic!("{within:?}")
    };
    assert_eq!(values.age_secs, 0.0);
    let beyond = judged(vec![("api-1", 0.2, NOW + skew + 1), ("api-2", 0.2, NOW + 3600)]);
    assert_eq!(
        beyond,
        no_values(&[("api-1", GapCause::Future), ("api-2", GapCause::Future)])
    );
}

#[test]
fn a_value_from_the_future_does_not_hide_a_good_one() {
    let signal = judged(vec![
        ("api-1", 9.0, NOW + 3600),
        ("api-1", 0.2, NOW),
        ("api-2", 0.4, NOW),
    ]);
    let Signal::Fresh { values } = &signal else {
        panic!("{signal:?}")
    };
    assert_eq!(values.warm[&name("api-1")], 0.2);
}

#[test]
fn the_newest_of_a_hosts_values_counts() {
    for (first, second) in [((0.2, NOW - 9), (0.7, NOW - 3)), ((0.7, NOW - 3), (0.2, NOW - 9))] {
        let signal = judged(vec![
            ("api-1", first.0, first.1),
            ("api-1", second.0, second.1),
            ("api-2", 0.1, NOW),
        ]);
        let Signal::Fresh { values } = &signal else {
            panic!("{signal:?}")
        };
        assert_eq!(values.warm[&name("api-1")], 0.7);
    }
}

#[test]
fn what_is_not_a_number_is_reported() {
    let signal = judged(vec![("api-1", f64::INFINITY, NOW), ("api-2", f64::NAN, NOW)]);
    assert_eq!(
        signal,
        no_values(&[("api-1", GapCause::NotANumber), ("api-2", GapCause::NotANumber)])
    );
}

#[test]
fn nothing_to_go_by_says_why() {
    let names = three();
    let reason = |reading: Option<&SignalReading>, hosts: &Hosts<'_>| {
        let signal = assess(reading, hosts, FRESH_SECS, at(NOW));
        missing(&signal).clone()
    };
    assert_eq!(reason(None, &hosts(&names)), MissingReason::NotRead);
    let failed = SignalReading::Failed {
        reason: "503".to_owned(),
    };
    assert_eq!(
        reason(Some(&failed), &hosts(&names)),
        MissingReason::Failed("503".to_owned())
    );
    assert_eq!(
        reason(Some(&reading(&[])), &hosts(&names)),
        MissingReason::NoValues
    );
    let nobody = Hosts {
        expected: BTreeSet::new(),
        serving: BTreeSet::new(),
    };
    assert_eq!(
        reason(Some(&reading(&[(1, 0.2)])), &nobody),
        MissingReason::NobodyWarm
    );
}

#[test]
fn a_host_of_which_a_part_is_known_never_counts_as_whole() {
    let names = three();
    let sample = |host: &str, value| Sample {
        host: name(host),
        value,
        at: at(NOW),
    };
    let reading = SignalReading::Read(Reading {
        samples: vec![sample("api-1", 0.2)],
        // The third one warms up: as a lower bound its value would make it look less busy than it is.
        at_least: vec![sample("api-2", 0.9), sample("api-3", 0.1)],
        causes: [(name("api-2"), "q is not a number".to_owned())].into(),
    });
    let signal = assess(Some(&reading), &hosts(&names), FRESH_SECS, at(NOW));
    let Signal::Partial {
        values,
        expected,
        gaps: found,
    } = &signal
    else {
        panic!("{signal:?}")
    };
    assert_eq!((values.whole(), *expected, values.warm.len()), (1, 2, 2));
    assert_eq!(values.warming.len(), 0);
    assert_eq!((values.total() * 10.0).round(), 11.0);
    let reported = GapCause::Reported("q is not a number".to_owned());
    assert_eq!(found, &gaps(&[("api-2", reported)]));
    // Nor if it is all there is.
    let bound = SignalReading::Read(Reading {
        at_least: vec![sample("api-1", 0.2), sample("api-2", 0.2)],
        ..Reading::default()
    });
    let signal = assess(Some(&bound), &hosts(&names), FRESH_SECS, at(NOW));
    assert!(matches!(signal, Signal::Partial { .. }), "{signal:?}");
}

#[test]
fn a_few_silent_hosts_are_named_and_the_rest_is_counted() {
    let names: Vec<MemberName> = (10..30).map(|n| name(&format!("api-{n}"))).collect();
    let all = Hosts {
        expected: names.iter().collect(),
        serving: names.iter().collect(),
    };
    let causes = names.iter().map(|host| (host.clone(), "x".repeat(1000)));
    let reading = SignalReading::Read(Reading {
        causes: causes.collect(),
        ..Reading::default()
    });
    let signal = assess(Some(&reading), &all, FRESH_SECS, at(NOW));
    let Signal::Missing { gaps, .. } = &signal else {
        panic!("{signal:?}")
    };
    assert_eq!((gaps.named.len(), gaps.more), (HOSTS_NAMED_MAX, 15));
    let words = gaps.words();
    assert!(
        words.starts_with("api-10, api-11, api-12, api-13, api-14: xxx"),
        "{words}"
    );
    assert!(
        words.ends_with("x; 15 more hosts") && words.len() < 400,
        "{words}"
    );
}
