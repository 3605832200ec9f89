//! The last line: what clients saw and what the pool did, and whether that is a success.

use serde::Serialize;

/// By how much a tide makes the pool grow at least.
pub const GROWTH_MIN: u32 = 3;
/// How many requests of a stack's run must succeed: over 99 of 100.
const SUCCESS_SHARE_MIN: f64 = 0.99;
/// How long after a database node was killed requests may still fail.
pub const RECOVERED_WITHIN_SECS: f64 = 30.0;

/// The JSON object of the last line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Requests that were due.
    pub requests: u64,
    /// Answers outside 2xx, broken connections, wrong answers, answers later than 5 s.
    pub failed: u64,
    /// Creates that were in flight on the member whose power was cut.
    pub unknown: u64,
    /// Fewest members that served.
    pub members_min: u32,
    /// Most members that served.
    pub members_max: u32,
    /// Members that served at the end.
    pub members_end: u32,
    /// Decisions for more members.
    pub scale_outs: u32,
    /// Decisions for fewer members.
    pub scale_ins: u32,
    /// Members whose power was cut.
    pub power_cuts: u32,
    /// 99th percentile of all latencies, from the intended time.
    pub p99_ms: f64,
    /// Only of a stack.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
}

/// What became of acknowledged writes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Durability {
    /// Writes answered with success.
    pub acknowledged: u64,
    /// Of these, found at the end.
    pub read_back: u64,
    /// The rest.
    pub lost: u64,
}

/// What the summary is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    /// Whether the load was a tide; else it was flat.
    pub tide: bool,
    /// The pool's minimum.
    pub pool_min: u32,
    /// Of a stack: what is expected of the killed database node.
    pub node_kill: Option<NodeKill>,
}

/// What was seen around the kill of a database node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NodeKill {
    /// Seconds from the kill to the last failure; `None` if none came after it.
    pub last_failure_after_secs: Option<f64>,
    /// Failures that came without a problem answer, other than right answers that came late.
    pub failed_without_problem: u64,
}

impl Summary {
    /// Everything that keeps this run from being a success; empty if it is one.
    pub fn shortcomings(&self, expected: &Expected) -> Vec<String> {
        let mut found = Vec::new();
        let mut want = |holds: bool, text: String| {
            if !holds {
                found.push(text);
            }
        };
        want(self.requests > 0, "no request was sent".into());
        want(
            self.power_cuts == 1,
            format!("{} power cuts instead of 1", self.power_cuts),
        );
        if expected.tide {
            let growth = self.members_max.saturating_sub(self.members_min);
            want(
                growth >= GROWTH_MIN,
                format!("the pool grew by {growth} instead of at least {GROWTH_MIN}"),
            );
            want(
                self.members_end == expected.pool_min,
                format!(
                    "{} members at the end instead of {}",
                    self.members_end, expected.pool_min
                ),
            );
        } else {
            want(
                self.scale_outs == 0,
                format!("{} scale-outs under a flat load", self.scale_outs),
            );
        }
        match expected.node_kill {
            None => want(self.failed == 0, format!("{} requests failed", self.failed)),
            Some(kill) => self.after_node_kill(kill, &mut want),
        }
        if let Some(durability) = self.durability {
            want(
                durability.lost == 0,
                format!("{} acknowledged writes are lost", durability.lost),
            );
        }
        found
    }

    fn after_node_kill(&self, kill: NodeKill, want: &mut impl FnMut(bool, String)) {
        let share = 1.0 - self.failed as f64 / self.requests.max(1) as f64;
        want(
            share > SUCCESS_SHARE_MIN,
            format!("only {:.2} % of the requests succeeded", share * 100.0),
        );
        let last = kill.last_failure_after_secs.unwrap_or(0.0);
        want(
            last <= RECOVERED_WITHIN_SECS,
            format!("a request failed {last:.1} s after the database node was killed"),
        );
        let without = kill.failed_without_problem;
        want(
            without == 0,
            format!("{without} requests failed without a problem answer"),
        );
    }

    /// The line.
    pub fn line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Summary = Summary {
        requests: 1_000,
        failed: 0,
        unknown: 2,
        members_min: 2,
        members_max: 6,
        members_end: 2,
        scale_outs: 3,
        scale_ins: 2,
        power_cuts: 1,
        p99_ms: 12.5,
        durability: None,
    };
    const TIDE: Expected = Expected {
        tide: true,
        pool_min: 2,
        node_kill: None,
    };

    #[test]
    fn the_line_has_exactly_the_documented_members() {
        assert_eq!(
            GOOD.line().unwrap(),
            r#"{"requests":1000,"failed":0,"unknown":2,"members_min":2,"members_max":6,"members_end":2,"scale_outs":3,"scale_ins":2,"power_cuts":1,"p99_ms":12.5}"#
        );
        let durability = Some(Durability {
            acknowledged: 9,
            read_back: 9,
            lost: 0,
        });
        assert!(
            Summary { durability, ..GOOD }
                .line()
                .unwrap()
                .ends_with(r#","p99_ms":12.5,"acknowledged":9,"read_back":9,"lost":0}"#)
        );
    }

    #[test]
    fn each_shortcoming_is_named() {
        assert_eq!(GOOD.shortcomings(&TIDE), Vec::<String>::new());
        let flat = Expected { tide: false, ..TIDE };
        for (summary, expected, needle) in [
            (Summary { failed: 1, ..GOOD }, TIDE, "1 requests failed"),
            (
                Summary {
                    members_max: 4,
                    ..GOOD
                },
                TIDE,
                "grew by 2",
            ),
            (
                Summary {
                    members_end: 3,
                    ..GOOD
                },
                TIDE,
                "3 members at the end",
            ),
            (
                Summary {
                    power_cuts: 0,
                    ..GOOD
                },
                TIDE,
                "0 power cuts",
            ),
            (Summary { requests: 0, ..GOOD }, TIDE, "no request"),
            (GOOD, flat, "3 scale-outs"),
        ] {
            let found = summary.shortcomings(&expected);
            assert!(
                found.len() == 1 && found[0].contains(needle),
                "{found:?}, {needle}"
            );
        }
    }

    #[test]
    fn after_a_node_was_killed_a_few_may_fail_for_a_while_with_a_problem() {
        let durability = Some(Durability {
            acknowledged: 9,
            read_back: 9,
            lost: 0,
        });
        let good = Summary {
            failed: 9,
            durability,
            ..GOOD
        };
        let kill = NodeKill {
            last_failure_after_secs: Some(29.0),
            failed_without_problem: 0,
        };
        let stack = |kill| Expected {
            node_kill: Some(kill),
            ..TIDE
        };
        assert_eq!(good.shortcomings(&stack(kill)), Vec::<String>::new());
        let late = NodeKill {
            last_failure_after_secs: Some(31.0),
            ..kill
        };
        assert_eq!(good.shortcomings(&stack(late)).len(), 1);
        let silent = NodeKill {
            failed_without_problem: 1,
            ..kill
        };
        assert_eq!(good.shortcomings(&stack(silent)).len(), 1);
        let many = Summary {
            failed: 10,
            ..good.clone()
        };
        assert_eq!(many.shortcomings(&stack(kill)).len(), 1);
        let lost = Summary {
            durability: Some(Durability {
                acknowledged: 9,
                read_back: 8,
                lost: 1,
            }),
            ..good
        };
        assert_eq!(lost.shortcomings(&stack(kill)).len(), 1);
    }
}
