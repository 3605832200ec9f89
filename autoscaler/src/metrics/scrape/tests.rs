//! What the adapter makes of a member's texts, scraped at given times.

use std::collections::BTreeMap;

use tidepool_autoscaler_core::observe::{MemberName, Reading, UnixMillis};

use super::read_texts;
use crate::metrics::range::Range;
use crate::metrics::{PerHost, SignalQuery, SignalSpec, test_query};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn query(field: &str, per_host: PerHost) -> SignalQuery {
    let what = SignalSpec {
        field: field.to_owned(),
        filter: BTreeMap::new(),
        per_host,
        scale: 1.0,
        range: Range::NOT_NEGATIVE,
    };
    SignalQuery {
        what,
        ..test_query(&[("web-1", "1")])
    }
}

/// The reading of texts that were scraped so many milliseconds ago.
fn read(query: &SignalQuery, texts: &[(i64, String)]) -> Reading {
    let texts = texts.iter().map(|(ago_ms, text)| (*ago_ms, Some(text.clone())));
    let answers = [(MemberName("web-1".to_owned()), texts.collect())];
    read_texts(query, &answers.into(), NOW)
}

fn now(text: &str) -> Vec<(i64, String)> {
    vec![(0, text.to_owned())]
}

/// The whole value and its age in milliseconds; the lower bound; and the reason.
fn found(reading: &Reading) -> (Option<(f64, i64)>, Option<f64>, String) {
    let cause = reading.causes.values().next().cloned();
    (
        reading
            .samples
            .first()
            .map(|sample| (sample.value, NOW.0 - sample.at.0)),
        reading.at_least.first().map(|sample| sample.value),
        cause.unwrap_or_default(),
    )
}

const OLD: &str = "the time of a sample is too long ago: older than fresh_secs = 90";
const FUTURE: &str = "the time of a sample is in the future";

#[test]
fn a_sample_is_as_old_as_it_says() {
    let asked = query("m", PerHost::Last);
    let ms = |ago_ms: i64| (NOW.0 - ago_ms).to_string();
    for (time, value) in [
        (String::new(), Some((5.0, 0))),
        (ms(0), Some((5.0, 0))),
        (ms(2_000), Some((5.0, 2_000))),
        (ms(-2_000), Some((5.0, -2_000))),
        (ms(90_000), Some((5.0, 90_000))),
        // OpenMetrics writes seconds, which have a fraction or an exponent where they stand in the older format.
        (format!("{}.000", NOW.0 / 1000 - 2), Some((5.0, 2_000))),
        ("1.8e9".to_owned(), Some((5.0, 0))),
    ] {
        let (whole, at_least, cause) = found(&read(&asked, &now(&format!("m 5 {time}\n"))));
        assert_eq!((whole, at_least, cause.as_str()), (value, None, ""), "{time}");
    }
    for (time, cause) in [
        (ms(90_001), OLD),
        (ms(3_600_000), OLD),
        ("0".to_owned(), OLD),
        ("-1".to_owned(), OLD),
        ((NOW.0 / 1000).to_string(), OLD),
        (format!("{}.5", NOW.0 / 1000 - 900), OLD),
        (ms(-6_000), FUTURE),
        (ms(-3_600_000), FUTURE),
        ("9223372036854775807".to_owned(), FUTURE),
        ("1e300".to_owned(), FUTURE),
    ] {
        let (whole, at_least, why) = found(&read(&asked, &now(&format!("m 5 {time}\n"))));
        assert_eq!((whole, at_least, why.as_str()), (None, None, cause), "{time}");
    }
    for time in ["NaN", "inf", "-inf"] {
        let (whole, _, why) = found(&read(&asked, &now(&format!("m 5 {time}\n"))));
        assert_eq!(whole, None, "{time}");
        assert!(why.contains("can't be read"), "{why}");
    }
}

#[test]
fn a_series_whose_time_is_long_ago_leaves_the_others_as_a_bound() {
    let asked = query("queue", PerHost::Last);
    let text = format!("queue{{q=\"a\"}} 9 {}\nqueue{{q=\"b\"}} 3\n", NOW.0 - 600_000);
    let frozen = [(20_000, text.clone()), (10_000, text.clone()), (0, text)];
    assert_eq!(found(&read(&asked, &frozen)), (None, Some(3.0), OLD.to_owned()));
}

#[test]
fn a_sample_that_is_repeated_is_one_reading() {
    // Another program wrote the counter twice, and was read six times.
    let at = |ago_secs: i64, value: u32| format!("c_total {value} {}\n", NOW.0 - 1000 * ago_secs);
    let texts: Vec<(i64, String)> = (0..6)
        .rev()
        .map(|n| {
            let text = if n < 3 { at(5, 150) } else { at(35, 100) };
            (10_000 * n, text)
        })
        .collect();
    let reading = read(&query("c_total", PerHost::Rate), &texts);
    let (whole, ..) = found(&reading);
    assert_eq!(whole, Some((50.0 / 30.0, 5_000)), "{reading:?}");
    // A counter that stands still by its own time has no rate.
    let texts: Vec<(i64, String)> = (0..4).rev().map(|n| (10_000 * n, at(40, 100))).collect();
    let (whole, _, why) = found(&read(&query("c_total", PerHost::Rate), &texts));
    assert_eq!((whole, why.as_str()), (None, "a rate needs two scrapes"));
}

#[test]
fn a_filter_that_matches_nothing_is_named() {
    let mut asked = query("queue_depth", PerHost::Last);
    let text = "queue_depth{q=\"a\"} 9\nqueue_depth{q=\"b\",tenant=\"x\"} 3\n";
    for (filter, expected) in [
        (("q", "a"), Some(9.0)),
        // A label that is not there is empty, as it is for Prometheus.
        (("tenant", ""), Some(9.0)),
        (("tenant", "!"), Some(3.0)),
        (("tenant", "!x"), Some(9.0)),
        (("nothing", ""), Some(12.0)),
    ] {
        asked.what.filter = [(filter.0.to_owned(), filter.1.to_owned())].into();
        let (whole, _, why) = found(&read(&asked, &now(text)));
        assert_eq!(whole.map(|(value, _)| value), expected, "{filter:?}: {why}");
    }
    for (filter, expected) in [
        (
            ("tenant", "acme"),
            "\"queue_depth\" is in its /metrics, but never with tenant = \"acme\"",
        ),
        (
            ("nothing", "!"),
            "\"queue_depth\" is in its /metrics, but never with nothing = \"!\"",
        ),
    ] {
        asked.what.filter = [(filter.0.to_owned(), filter.1.to_owned())].into();
        assert_eq!(
            found(&read(&asked, &now(text))),
            (None, None, expected.to_owned())
        );
    }
}
