//! Counting what clients noticed. No I/O; the clock is an argument.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::arrivals::Kind;
use super::ledger::DocumentIndex;

/// An answer later than this after the intended time counts as failed, whatever it says.
pub const LATE_AFTER: Duration = Duration::from_secs(5);
/// Why such an answer failed.
pub const LATE_REASON: &str = "answered later than 5 s";
/// Latencies are recorded up to this; the generator gives a request up earlier (its patience is at most 60 s).
const LATENCY_MAX_MICROS: u64 = 120_000_000;
/// How far back the moving figures of the view look.
const RECENT: Duration = Duration::from_secs(10);
/// Failures that are kept in words; the rest are counted by reason.
const NOTES_MAX: usize = 100;
/// Suspects at one time: every POST that may be in flight (the generator's bound of 2,048) would fit.
const SUSPECTS_MAX: usize = 4_096;

/// How a request ended, seen from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A right answer in time.
    Good,
    /// What a client would complain about.
    Failed {
        /// Why, in a few words without ids: failures are counted by it.
        reason: String,
        /// Whether the answer was `application/problem+json`.
        problem: bool,
    },
    /// A create that broke on its way; `Tally::settle` decides.
    Suspect {
        /// Why, as above.
        reason: String,
        /// Whether the answer was `application/problem+json`.
        problem: bool,
        /// The document that may or may not have been created.
        index: DocumentIndex,
        /// The droplet that the balancer blames, if it named one.
        member: Option<String>,
    },
}

/// One request that ended. All times are after the start of the run.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// What it was.
    pub kind: Kind,
    /// When it should have been sent.
    pub intended: Duration,
    /// When it was handed to the connection.
    pub sent: Duration,
    /// When its answer was complete, or it was given up.
    pub ended: Duration,
    /// How it went.
    pub verdict: Verdict,
}

/// A cut of one member's power. Times are after the start of the run.
#[derive(Debug, Clone, PartialEq)]
pub struct PowerCut {
    /// Just before it was asked for.
    pub begun: Duration,
    /// When the power was off for certain; `None` while that isn't known yet.
    pub done: Option<Duration>,
    /// The droplet's id.
    pub member: String,
}

impl PowerCut {
    /// Whether a request was on its way while the power went off, and, where the balancer names the member, on that one.
    fn may_have_hit(&self, ended: &Ended, member: Option<&str>) -> bool {
        let sent_before_off = self.done.is_none_or(|done| ended.sent <= done);
        let ended_after = ended.ended >= self.begun;
        sent_before_off && ended_after && member.is_none_or(|member| member == self.member)
    }
}

/// A failure in words.
#[derive(Debug, Clone, PartialEq)]
pub struct FailureNote {
    /// When it ended.
    pub at: Duration,
    /// What failed.
    pub kind: Kind,
    /// Why.
    pub reason: String,
}

/// Requests, counted.
#[derive(Debug)]
pub struct Tally {
    requests: u64,
    ended: u64,
    failed: u64,
    failed_without_problem: u64,
    last_failed_at: Option<Duration>,
    unknown: Vec<DocumentIndex>,
    reasons: BTreeMap<String, u64>,
    notes: Vec<FailureNote>,
    suspects: Vec<Ended>,
    cuts: Vec<PowerCut>,
    latencies: Histogram<u64>,
    recent: VecDeque<(Duration, u64)>,
}

/// Moving and total figures at one time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Requests that were due so far.
    pub requests: u64,
    /// Requests without an end yet.
    pub in_flight: u64,
    /// Failed so far.
    pub failed: u64,
    /// Unknown so far.
    pub unknown: u64,
    /// Ends a second, over the last ten seconds.
    pub ended_per_sec: f64,
    /// Median of the last ten seconds.
    pub recent_p50_ms: f64,
    /// 99th percentile of the last ten seconds.
    pub recent_p99_ms: f64,
    /// 99th percentile of the whole run.
    pub p99_ms: f64,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new() -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self {
            requests: 0,
            ended: 0,
            failed: 0,
            failed_without_problem: 0,
            last_failed_at: None,
            unknown: Vec::new(),
            reasons: BTreeMap::new(),
            notes: Vec::new(),
            suspects: Vec::new(),
            cuts: Vec::new(),
            latencies: Histogram::new_with_bounds(1, LATENCY_MAX_MICROS, 3)?,
            recent: VecDeque::new(),
        })
    }

    /// A request is due.
    pub fn begin(&mut self) {
        self.requests += 1;
    }

    /// A request ended.
    pub fn end(&mut self, ended: Ended) {
        let latency = ended.ended.saturating_sub(ended.intended);
        let micros = u64::try_from(latency.as_micros())
            .unwrap_or(u64::MAX)
            .clamp(1, LATENCY_MAX_MICROS);
        self.latencies.saturating_record(micros);
        self.recent.push_back((ended.ended, micros));
        while self
            .recent
            .front()
            .is_some_and(|(at, _)| *at + RECENT < ended.ended)
        {
            self.recent.pop_front();
        }
        self.ended += 1;
        match &ended.verdict {
            // Failed, but answered: what it lacks is speed, not a problem that says why.
            Verdict::Good if latency > LATE_AFTER => self.fail(&ended, LATE_REASON.to_owned(), true),
            Verdict::Good => {}
            Verdict::Failed { reason, problem } => self.fail(&ended, reason.clone(), *problem),
            Verdict::Suspect { reason, problem, .. } if self.suspects.len() >= SUSPECTS_MAX => {
                self.fail(&ended, reason.clone(), *problem);
            }
            Verdict::Suspect { .. } => self.suspects.push(ended),
        }
        self.settle();
    }

    /// A member's power is about to be cut.
    pub fn power_cut_begins(&mut self, member: String, at: Duration) {
        self.cuts.push(PowerCut {
            begun: at,
            done: None,
            member,
        });
    }

    /// The power is off, or the cut was refused.
    pub fn power_cut_done(&mut self, at: Duration) {
        if let Some(cut) = self.cuts.last_mut() {
            cut.done = Some(at);
        }
        self.settle();
    }

    /// Decides about the suspects: *unknown* if a power cut may have hit them, failed if not. While a cut is going on
    /// nothing is decided.
    fn settle(&mut self) {
        if self.cuts.iter().any(|cut| cut.done.is_none()) {
            return;
        }
        for suspect in std::mem::take(&mut self.suspects) {
            let Verdict::Suspect {
                reason,
                problem,
                index,
                member,
            } = &suspect.verdict
            else {
                continue;
            };
            if self
                .cuts
                .iter()
                .any(|cut| cut.may_have_hit(&suspect, member.as_deref()))
            {
                self.unknown.push(*index);
            } else {
                self.fail(&suspect, reason.clone(), *problem);
            }
        }
    }

    /// `answered`: with a problem that says why, or with what was asked for, though late.
    fn fail(&mut self, ended: &Ended, reason: String, answered: bool) {
        self.failed += 1;
        self.failed_without_problem += u64::from(!answered);
        self.last_failed_at = self.last_failed_at.max(Some(ended.ended));
        if self.notes.len() < NOTES_MAX {
            self.notes.push(FailureNote {
                at: ended.ended,
                kind: ended.kind,
                reason: reason.clone(),
            });
        }
        *self
            .reasons
            .entry(format!("{}: {reason}", ended.kind.word()))
            .or_default() += 1;
    }

    /// The figures as of `now`.
    pub fn figures(&self, now: Duration) -> Figures {
        let since = now.saturating_sub(RECENT);
        let mut recent: Vec<u64> = self
            .recent
            .iter()
            .filter(|(at, _)| *at >= since)
            .map(|(_, micros)| *micros)
            .collect();
        recent.sort_unstable();
        let span = now.min(RECENT).as_secs_f64();
        let quantile_ms = |share: f64| {
            let rank = (recent.len() as f64 * share) as usize;
            recent
                .get(rank.min(recent.len().saturating_sub(1)))
                .map_or(0.0, |micros| *micros as f64 / 1_000.0)
        };
        Figures {
            requests: self.requests,
            in_flight: self.requests.saturating_sub(self.ended),
            failed: self.failed,
            unknown: self.unknown.len() as u64,
            ended_per_sec: if span > 0.0 {
                recent.len() as f64 / span
            } else {
                0.0
            },
            recent_p50_ms: quantile_ms(0.5),
            recent_p99_ms: quantile_ms(0.99),
            p99_ms: self.latencies.value_at_quantile(0.99) as f64 / 1_000.0,
        }
    }

    /// Failures in words, the first hundred.
    pub fn notes(&self) -> &[FailureNote] {
        &self.notes
    }

    /// Failures by kind and reason.
    pub fn reasons(&self) -> &BTreeMap<String, u64> {
        &self.reasons
    }

    /// The documents whose creation was cut off.
    pub fn unknown(&self) -> &[DocumentIndex] {
        &self.unknown
    }

    /// Failures without a complete answer, with a wrong one, or with an error that is not `application/problem+json`. A right
    /// answer that came late is a failure of another kind.
    pub fn failed_without_problem(&self) -> u64 {
        self.failed_without_problem
    }

    /// When the newest failure ended.
    pub fn last_failed_at(&self) -> Option<Duration> {
        self.last_failed_at
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Ledger;
    use super::*;

    fn secs(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    fn ended(sent: f64, ended: f64, verdict: Verdict) -> Ended {
        Ended {
            kind: Kind::Post,
            intended: secs(sent),
            sent: secs(sent),
            ended: secs(ended),
            verdict,
        }
    }

    fn suspect(member: Option<&str>) -> Verdict {
        let index = Ledger::new("t").begin_create().index;
        let member = member.map(str::to_owned);
        Verdict::Suspect {
            reason: "status 502".into(),
            problem: false,
            index,
            member,
        }
    }

    fn counted(tally: &Tally) -> (u64, u64) {
        let figures = tally.figures(secs(100.0));
        (figures.failed, figures.unknown)
    }

    #[test]
    fn a_late_right_answer_is_failed() {
        assert!(LATE_REASON.ends_with(&format!("{} s", LATE_AFTER.as_secs())));
        let mut tally = Tally::new().unwrap();
        for latency in [4.9, 5.1] {
            tally.begin();
            tally.end(ended(1.0, 1.0 + latency, Verdict::Good));
        }
        assert_eq!(counted(&tally), (1, 0));
        assert_eq!(tally.figures(secs(7.0)).requests, 2);
        assert_eq!(
            tally.failed_without_problem(),
            0,
            "an answer came, and the right one"
        );
    }

    #[test]
    fn a_create_in_flight_during_the_cut_is_unknown_and_others_are_failed() {
        // The power goes off between 10.0 and 10.1.
        for (sent, end, expected) in [
            (9.9, 10.05, (0, 1)),
            (10.05, 10.2, (0, 1)),
            (9.0, 9.99, (1, 0)),
            (10.11, 10.2, (1, 0)),
        ] {
            let mut tally = Tally::new().unwrap();
            tally.power_cut_begins("7".into(), secs(10.0));
            tally.power_cut_done(secs(10.1));
            tally.end(ended(sent, end, suspect(None)));
            assert_eq!(counted(&tally), expected, "sent {sent}, ended {end}");
        }
    }

    #[test]
    fn nothing_is_decided_while_the_cut_goes_on() {
        let mut tally = Tally::new().unwrap();
        tally.power_cut_begins("7".into(), secs(10.0));
        tally.end(ended(10.2, 10.3, suspect(None)));
        assert_eq!(counted(&tally), (0, 0));
        tally.power_cut_done(secs(10.1));
        assert_eq!(counted(&tally), (1, 0));
    }

    #[test]
    fn a_create_on_another_member_is_failed() {
        for (member, expected) in [("7", (0, 1)), ("8", (1, 0))] {
            let mut tally = Tally::new().unwrap();
            tally.power_cut_begins("7".into(), secs(10.0));
            tally.power_cut_done(secs(10.1));
            tally.end(ended(9.9, 10.05, suspect(Some(member))));
            assert_eq!(counted(&tally), expected, "member {member}");
        }
    }

    #[test]
    fn without_a_cut_a_suspect_is_failed() {
        let mut tally = Tally::new().unwrap();
        tally.end(ended(1.0, 1.1, suspect(None)));
        assert_eq!(counted(&tally), (1, 0));
        assert_eq!(tally.reasons().get("POST: status 502"), Some(&1));
    }

    #[test]
    fn latency_counts_from_the_intended_time() {
        let mut tally = Tally::new().unwrap();
        let late_start = Ended {
            kind: Kind::Get,
            intended: secs(1.0),
            sent: secs(3.0),
            ended: secs(3.001),
            verdict: Verdict::Good,
        };
        tally.begin();
        tally.end(late_start);
        let p99_ms = tally.figures(secs(4.0)).p99_ms;
        assert!((2_000.0..2_003.0).contains(&p99_ms), "{p99_ms}");
    }

    #[test]
    fn recent_figures_forget() {
        let mut tally = Tally::new().unwrap();
        tally.begin();
        tally.end(ended(1.0, 2.0, Verdict::Good));
        assert_eq!(tally.figures(secs(5.0)).recent_p50_ms, 1_000.0);
        assert_eq!(tally.figures(secs(20.0)).recent_p50_ms, 0.0);
    }
}
