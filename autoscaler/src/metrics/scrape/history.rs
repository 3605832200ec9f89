//! What was scraped of one member, and what a signal makes of it. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidepool_autoscaler_core::observe::UnixMillis;

use crate::metrics::fault::{Fault, first_words};
use crate::metrics::prometheus_text::{self, escaped};
use crate::metrics::range::{InRange, Range};
use crate::metrics::series::{HostSeries, HostValue, Point};
use crate::metrics::{SKEW_SECS_DEFAULT, SignalSpec, shown};

/// Scrapes kept of a member: an hour at one in 5 s. The window bounds them first.
const SCRAPES_MAX: usize = 720;
/// Values kept of a member, over all scrapes and families: about 3 MB at 150 bytes each.
const VALUES_MAX: usize = 20_000;
/// Series of one family of one member.
const SERIES_MAX: usize = 2_000;

/// A member's answer to `GET /metrics`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'a> {
    /// The text.
    pub(super) body: &'a [u8],
    /// It is in OpenMetrics' format, which ends with `# EOF`.
    pub(super) is_openmetrics: bool,
    /// The connection's end was the text's end, so that it may have been cut off.
    pub(super) ends_with_connection: bool,
}

/// One scrape: what was found of the wanted families.
#[derive(Debug, Default)]
pub(super) struct Scrape {
    /// By our own clock that never jumps, milliseconds since the source began.
    pub(super) ticks_ms: i64,
    series: Vec<Kept>,
    /// Why a family isn't whole.
    faults: BTreeMap<String, Fault>,
    /// Why a family isn't there at all, where that is known.
    missing: BTreeMap<String, String>,
}

/// One series in one scrape.
#[derive(Debug)]
struct Kept {
    family: String,
    labels: BTreeMap<String, String>,
    value: f64,
    /// Its own time, where it has one.
    at: Option<UnixMillis>,
}

/// Which values count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Those since then, by the clock that never jumps.
    pub(super) since_ms: i64,
    /// The newest scrape is of now.
    pub(super) now: UnixMillis,
    /// A value whose own time is longer ago is too old.
    pub(super) fresh_secs: u32,
}

/// What was scraped of one member.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Oldest first.
    scrapes: VecDeque<Scrape>,
    /// Families wanted of it, ever since it is known.
    pub(super) wanted: BTreeSet<String>,
}

/// The families of a field: one, or two with ` / ` between them, the first divided by the second.
pub(super) fn families(field: &str) -> impl Iterator<Item = &str> {
    field.splitn(2, " / ").map(str::trim)
}

impl Scrape {
    /// Reads what a member answered at `ticks_ms`.
    pub(super) fn read(
        answer: Answer<'_>,
        wanted: &BTreeSet<String>,
        ticks_ms: i64,
    ) -> Result<Scrape, String> {
        let spellings: BTreeMap<String, &String> = wanted
            .iter()
            .flat_map(|family| [(escaped(family), family), (family.clone(), family)])
            .collect();
        let asked = spellings.keys().cloned().collect();
        let found = prometheus_text::parse(answer.body, &asked, answer.ends_with_connection);
        if found.readable == 0 && found.samples.is_empty() && found.broken.is_empty() {
            return Err(format!(
                "its /metrics holds no metrics{}",
                first_words(answer.body)
            ));
        }
        let family_of = |name: &str| {
            spellings
                .get(name)
                .map_or(name, |family| family.as_str())
                .to_owned()
        };
        let mut scrape = Scrape {
            ticks_ms,
            ..Scrape::default()
        };
        for (name, line) in &found.broken {
            let fault = Fault::Other(format!("{name}: {line}"));
            scrape.faults.insert(family_of(name), fault);
        }
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for line in found.samples {
            let family = family_of(&line.name);
            let count = counts.entry(family.clone()).or_default();
            *count += 1;
            if *count > SERIES_MAX {
                let fault = Fault::Other(format!("{family} has more than {SERIES_MAX} series"));
                scrape.faults.insert(family, fault);
                continue;
            }
            scrape.series.push(Kept {
                family,
                labels: line.labels,
                value: line.value,
                at: line
                    .time
                    .map(|time| UnixMillis(time.unix_ms(answer.is_openmetrics))),
            });
        }
        for family in wanted {
            if answer.is_openmetrics && !found.ended {
                let cut = Fault::Other(
                    "its /metrics ends without \"# EOF\", so part of it may be missing".to_owned(),
                );
                scrape.faults.entry(family.clone()).or_insert(cut);
            }
            let near = found
                .near
                .get(family)
                .or_else(|| found.near.get(&escaped(family)));
            let missing = match (near, &found.nameless) {
                (Some(near), _) => format!("{family:?} is not in its /metrics, but {near:?} is"),
                (None, Some(line)) => format!("{family:?} is not in its /metrics; {line}"),
                (None, None) => format!("{family:?} is not in its /metrics"),
            };
            scrape.missing.insert(family.clone(), missing);
        }
        Ok(scrape)
    }
}

impl History {
    /// Adds a scrape.
    pub(super) fn push(&mut self, mut scrape: Scrape) {
        // Two scrapes within a millisecond are two all the same.
        let last_ms = self.newest_ms().unwrap_or(i64::MIN);
        scrape.ticks_ms = scrape.ticks_ms.max(last_ms.saturating_add(1));
        self.scrapes.push_back(scrape);
        let values = |scrapes: &VecDeque<Scrape>| scrapes.iter().map(|one| one.series.len()).sum::<usize>();
        while self.scrapes.len() > SCRAPES_MAX
            || (self.scrapes.len() > 2 && values(&self.scrapes) > VALUES_MAX)
        {
            self.scrapes.pop_front();
        }
    }

    /// Forgets scrapes from before `oldest_ms`.
    pub(super) fn forget(&mut self, oldest_ms: i64) {
        self.scrapes.retain(|scrape| scrape.ticks_ms >= oldest_ms);
    }

    /// When it was scraped last.
    pub(super) fn newest_ms(&self) -> Option<i64> {
        self.scrapes.back().map(|scrape| scrape.ticks_ms)
    }

    /// The member's value.
    pub(super) fn value(&self, what: &SignalSpec, window: Window) -> HostValue {
        let newest_ms = self.newest_ms().unwrap_or_default();
        let by_wall_clock = |at: UnixMillis| UnixMillis(window.now.0.saturating_add(at.0 - newest_ms));
        self.value_by_ticks(what, window).dated(by_wall_clock)
    }

    fn value_by_ticks(&self, what: &SignalSpec, window: Window) -> HostValue {
        let mut parts = families(&what.field);
        let (first, second) = (parts.next().unwrap_or_default(), parts.next());
        let Some(divisor) = second else {
            return self.family_value(first, what, window);
        };
        // The quotient is what the range and the scale are about. Two negative parts would pass for a positive one.
        let part = SignalSpec {
            scale: 1.0,
            range: if what.range.never_negative() {
                Range::NOT_NEGATIVE
            } else {
                Range::ANY
            },
            ..what.clone()
        };
        let upper = self.family_value(first, &part, window);
        let lower = self.family_value(divisor, &part, window);
        quotient(what, upper, lower)
    }

    fn family_value(&self, family: &str, what: &SignalSpec, window: Window) -> HostValue {
        let Some(newest) = self.scrapes.back() else {
            return HostValue::None { fault: None };
        };
        // Nothing in the newest scrape: what older ones said is not the host's value any more.
        if newest.wanted(family, &what.filter).next().is_none() {
            let missing = || newest.missing.get(family).cloned().map(Fault::Other);
            let filtered = || newest.filtered(family, &what.filter).map(Fault::Other);
            let fault = newest.faults.get(family).cloned();
            return HostValue::None {
                fault: fault.or_else(filtered).or_else(missing),
            };
        }
        let mut host = HostSeries::default();
        let older = self.scrapes.iter().take(self.scrapes.len() - 1);
        for scrape in older.filter(|scrape| scrape.ticks_ms >= window.since_ms) {
            for kept in scrape.wanted(family, &what.filter) {
                let at = kept.ticks_ms(scrape, newest, window);
                if (window.since_ms..=newest.ticks_ms).contains(&at) {
                    host.add(kept.key(), kept.point(at, what.range.check(kept.value)));
                }
            }
            if let Some(fault) = scrape.faults.get(family) {
                host.doubt(fault.clone());
            }
        }
        for kept in newest.wanted(family, &what.filter) {
            let at = kept.ticks_ms(newest, newest, window);
            let point = match kept.untimely(window) {
                Some(fault) => kept.point(newest.ticks_ms, Err(fault)),
                None => kept.point(at, what.range.check(kept.value)),
            };
            host.add(kept.key(), point);
            host.lives(&kept.key());
        }
        if let Some(fault) = newest.faults.get(family) {
            host.doubt(fault.clone());
        }
        match host.value(what) {
            HostValue::None { fault: None } => HostValue::None {
                fault: Some(Fault::Other("a rate needs two scrapes".to_owned())),
            },
            value => value,
        }
    }
}

impl Scrape {
    /// That a family is there, and the filter lets nothing of it pass.
    fn filtered(&self, family: &str, filter: &BTreeMap<String, String>) -> Option<String> {
        let is_there = self.series.iter().any(|kept| kept.family == family);
        is_there.then(|| format!("{family:?} is in its /metrics, but never with {}", shown(filter)))
    }

    /// The series of a family that pass the filter.
    fn wanted<'a>(
        &'a self,
        family: &'a str,
        filter: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a Kept> {
        let kept = self.series.iter().filter(move |kept| kept.family == family);
        kept.filter(move |kept| kept.passes(filter))
    }
}

/// One part of a host divided by another, both as far as they are known.
fn quotient(what: &SignalSpec, upper: HostValue, lower: HostValue) -> HostValue {
    let (upper, at, doubt) = match upper {
        HostValue::Whole { value, at } => (value, at, None),
        HostValue::AtLeast { value, at, fault } => (value, at, Some(fault)),
        HostValue::None { .. } => return upper,
    };
    let (lower, at) = match lower {
        HostValue::Whole { value, at: other } => (value, at.min(other)),
        // A divisor that may be larger makes no lower bound.
        HostValue::AtLeast { fault, .. } => return HostValue::None { fault: Some(fault) },
        HostValue::None { .. } => return lower,
    };
    match (what.range.check(upper / lower), doubt) {
        (Err(fault), _) => HostValue::None { fault: Some(fault) },
        (Ok(value), None) => HostValue::Whole {
            value: value.get() * what.scale,
            at,
        },
        (Ok(value), Some(fault)) => HostValue::AtLeast {
            value: value.get() * what.scale,
            at,
            fault,
        },
    }
}

impl Kept {
    fn key(&self) -> String {
        format!("{:?}", self.labels)
    }

    fn point(&self, at_ms: i64, value: Result<InRange, Fault>) -> Point {
        Point {
            at: UnixMillis(at_ms),
            value,
            period_ms: None,
        }
    }

    /// When it was measured, by the clock that never jumps: when it was scraped, or at its own time. That is counted from
    /// the newest scrape, so that one sample has one time in all scrapes that repeat it.
    fn ticks_ms(&self, scrape: &Scrape, newest: &Scrape, window: Window) -> i64 {
        let age_ms = self.at.map(|at| window.now.0.saturating_sub(at.0));
        age_ms.map_or(scrape.ticks_ms, |age_ms| newest.ticks_ms.saturating_sub(age_ms))
    }

    /// Why its own time is none of now.
    fn untimely(&self, window: Window) -> Option<Fault> {
        let age_ms = window.now.0.saturating_sub(self.at?.0);
        if age_ms < -i64::from(SKEW_SECS_DEFAULT) * 1000 {
            return Some(Fault::Future);
        }
        let fresh_secs = window.fresh_secs;
        (age_ms > i64::from(fresh_secs) * 1000).then_some(Fault::Old { fresh_secs })
    }

    fn passes(&self, filter: &BTreeMap<String, String>) -> bool {
        filter.iter().all(|(name, wanted)| {
            let value = self.labels.get(name).or_else(|| self.labels.get(&escaped(name)));
            // A label that is not there is an empty one.
            let value = value.map_or("", String::as_str);
            match wanted.strip_prefix('!') {
                Some(unwanted) => value != unwanted,
                None => value == wanted,
            }
        })
    }
}
