//! What the log says of a pool's signals: a warning when one can't be trusted in full, another when the cause changes, and a
//! line when it is in order again. Not one each tick.

use std::collections::BTreeMap;

use tidepool_autoscaler_core::outcome::Proposal;
use tidepool_autoscaler_core::signal::{Gaps, MissingReason, Signal};

/// What was logged last of each signal.
#[derive(Debug, Default)]
pub struct SignalLog {
    wrong: BTreeMap<String, String>,
}

/// Something to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A signal can't be trusted in full, for another cause than before.
    Wrong {
        /// The signal.
        signal: String,
        /// What is wrong, with the formula.
        reason: String,
    },
    /// It can again.
    InOrder {
        /// The signal.
        signal: String,
    },
}

impl SignalLog {
    /// What has changed since the last tick.
    pub fn changes(&mut self, proposals: &[Proposal]) -> Vec<Change> {
        let mut changes = Vec::new();
        for proposal in proposals {
            let Some(basis) = &proposal.basis else {
                continue;
            };
            let signal = proposal.policy.clone();
            match cause(&basis.signal) {
                Some(cause) if self.wrong.get(&signal) != Some(&cause) => {
                    self.wrong.insert(signal.clone(), cause);
                    changes.push(Change::Wrong {
                        signal,
                        reason: proposal.formula(),
                    });
                }
                Some(_) => {}
                None if self.wrong.remove(&signal).is_some() => changes.push(Change::InOrder { signal }),
                None => {}
            }
        }
        changes
    }
}

/// What is wrong with a signal, without the numbers that change from tick to tick.
fn cause(signal: &Signal) -> Option<String> {
    let of = |state: &str, gaps: &Gaps| {
        let named = gaps
            .named
            .iter()
            .map(|(host, cause)| format!("{host}: {}", without_numbers(&format!("{cause:?}"))));
        Some(format!("{state} {:?}", named.collect::<Vec<_>>()))
    };
    match signal {
        Signal::Fresh { .. } => None,
        Signal::Partial { gaps, .. } => of("partial", gaps),
        Signal::Stale { gaps, .. } => of("stale", gaps),
        Signal::Missing { reason, gaps, .. } => match reason {
            // A new pool, or a new daemon: nothing is wrong.
            MissingReason::NobodyWarm => None,
            MissingReason::Failed(reason) => of(&without_numbers(reason), gaps),
            MissingReason::NotRead | MissingReason::NoValues => of("missing", gaps),
        },
    }
}

fn without_numbers(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_digit() { '#' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use tidepool_autoscaler_core::observe::MemberName;
    use tidepool_autoscaler_core::outcome::{Basis, Verdict, Working};
    use tidepool_autoscaler_core::signal::GapCause;

    use super::*;

    fn proposal(signal: Signal) -> Proposal {
        Proposal {
            policy: "cpu".to_owned(),
            verdict: Verdict::Blind,
            working: Working::Unread,
            basis: Some(Basis {
                signal_name: "cpu".to_owned(),
                signal,
                value: None,
                target: Some(0.5),
            }),
        }
    }

    fn missing(host: &str, cause: &str) -> Proposal {
        let cause = GapCause::Reported(cause.to_owned());
        proposal(Signal::Missing {
            reason: MissingReason::NoValues,
            expected: 1,
            gaps: Gaps {
                named: [(MemberName(host.to_owned()), cause)].into(),
                more: 0,
            },
        })
    }

    #[test]
    fn a_cause_is_logged_once_until_it_changes() {
        let mut log = SignalLog::default();
        let mut logged = |proposal: Proposal| {
            let changes = log.changes(&[proposal]);
            changes
                .into_iter()
                .map(|change| match change {
                    Change::Wrong { reason, .. } => reason,
                    Change::InOrder { signal } => format!("{signal} is in order"),
                })
                .collect::<Vec<_>>()
        };
        let reason = "cpu is missing: no expected host has a value (api-1: a value of 161 is too large)";
        assert_eq!(logged(missing("api-1", "a value of 161 is too large")), [reason]);
        assert_eq!(logged(missing("api-1", "a value of 162 is too large")), [""; 0]);
        assert_eq!(logged(missing("api-2", "a value of 162 is too large")).len(), 1);
        assert_eq!(logged(missing("api-2", "HTTP 500")).len(), 1);
        let failed = |reason: &str| {
            proposal(Signal::Missing {
                reason: MissingReason::Failed(reason.to_owned()),
                expected: 1,
                gaps: Gaps::default(),
            })
        };
        assert_eq!(logged(failed("no answer within 5000 ms")).len(), 1);
        assert_eq!(logged(failed("no answer within 5000 ms")), [""; 0]);
        let new = proposal(Signal::Missing {
            reason: MissingReason::NobodyWarm,
            expected: 0,
            gaps: Gaps::default(),
        });
        assert_eq!(logged(new.clone()), ["cpu is in order"]);
        assert_eq!(logged(new), [""; 0]);
    }
}
