//! The autoscaler seen from outside: its status API, and what a series of its answers shows.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Client;
use serde::Deserialize;

/// How long one look may take; a later one comes anyway.
const LOOK_MAX: Duration = Duration::from_secs(3);

/// `GET /api/status`, as far as the demo reads it.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// All pools.
    pub pools: Vec<Pool>,
}

/// One pool.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Lower limit.
    pub min: u32,
    /// What the last decision wants.
    pub desired: u32,
    /// What the last plan leads to.
    pub planned: u32,
    /// Members in the load balancer and ready.
    pub serving: u32,
    /// When the last tick ended, milliseconds; `None` before the first.
    pub last_tick_at: Option<i64>,
    /// Why the last tick failed.
    pub last_error: Option<String>,
    /// Its members, oldest first.
    #[serde(default)]
    pub members: Vec<Member>,
    /// Its last decisions, newest first.
    #[serde(default)]
    pub decisions: Vec<Decision>,
}

/// One member.
#[derive(Debug, Clone, Deserialize)]
pub struct Member {
    /// The provider's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `booting`, `ready`, `serving`, `unready`, `draining` or `dead`.
    pub state: String,
}

/// One decision.
#[derive(Debug, Clone, Deserialize)]
pub struct Decision {
    /// When, milliseconds since 1970.
    pub at: i64,
    /// `out`, `in` or `none`.
    pub direction: String,
    /// What it wants.
    pub desired: u32,
    /// What its plan leads to.
    pub planned: u32,
    /// Why.
    pub reason: String,
}

/// A client of one autoscaler's status port.
#[derive(Debug, Clone)]
pub struct Scaler {
    base: String,
    client: Client,
}

impl Scaler {
    /// `base` is its address, such as `http://127.0.0.1:7001`.
    pub fn new(base: String) -> Result<Self, reqwest::Error> {
        let client = Client::builder().no_proxy().timeout(LOOK_MAX).build()?;
        Ok(Self { base, client })
    }

    /// The pool as the autoscaler sees it now.
    pub async fn pool(&self, name: &str) -> Result<Pool, String> {
        let response = self.client.get(format!("{}/api/status", self.base)).send().await;
        let response = response
            .and_then(reqwest::Response::error_for_status)
            .map_err(|error| error.to_string())?;
        let status: Status = response.json().await.map_err(|error| error.to_string())?;
        status
            .pools
            .into_iter()
            .find(|pool| pool.name == name)
            .ok_or_else(|| format!("the autoscaler has no pool {name:?}"))
    }
}

/// Something worth a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The autoscaler wants more members than before.
    Out {
        /// Before.
        from: u32,
        /// Now.
        to: u32,
        /// Why.
        reason: String,
    },
    /// The autoscaler wants fewer members than before.
    In {
        /// Before.
        from: u32,
        /// Now.
        to: u32,
        /// Why.
        reason: String,
    },
    /// A member is new, or in another state than before.
    Member {
        /// Its name.
        name: String,
        /// Its state.
        state: String,
    },
    /// A member is not there any more.
    Gone {
        /// Its name.
        name: String,
    },
    /// A tick failed, with another reason than the one before.
    Error {
        /// Why.
        reason: String,
    },
}

/// What the demo counts from one look after the other. It knows nothing of the load.
#[derive(Debug)]
pub struct Observer {
    members: BTreeMap<String, String>,
    planned: u32,
    decided_at: i64,
    error: Option<String>,
    /// Fewest serving members seen.
    pub members_min: u32,
    /// Most serving members seen.
    pub members_max: u32,
    /// Serving members in the last look.
    pub members_end: u32,
    /// Decisions for more members.
    pub scale_outs: u32,
    /// Decisions for fewer members.
    pub scale_ins: u32,
}

impl Observer {
    /// Begins with the pool as it is now; earlier decisions are not counted.
    pub fn new(pool: &Pool) -> Self {
        Self {
            members: states(pool),
            planned: pool.planned,
            decided_at: pool
                .decisions
                .iter()
                .map(|decision| decision.at)
                .max()
                .unwrap_or(i64::MIN),
            error: pool.last_error.clone(),
            members_min: pool.serving,
            members_max: pool.serving,
            members_end: pool.serving,
            scale_outs: 0,
            scale_ins: 0,
        }
    }

    /// Takes one look into account and returns what changed.
    ///
    /// A scale-out is a decision whose plan leads to more members than the plan before it; replacing a member that died
    /// leads to as many as before and is not one.
    pub fn look(&mut self, pool: &Pool) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut decisions: Vec<&Decision> = pool
            .decisions
            .iter()
            .filter(|decision| decision.at > self.decided_at)
            .collect();
        decisions.sort_by_key(|decision| decision.at);
        for decision in decisions {
            self.decided_at = decision.at;
            changes.extend(self.decided(decision.planned, &decision.reason));
        }
        // The list holds what changed something; should it ever leave a change out, the figure itself shows it.
        changes.extend(self.decided(pool.planned, ""));

        let states = states(pool);
        for (name, state) in &states {
            if self.members.get(name) != Some(state) {
                changes.push(Change::Member {
                    name: name.clone(),
                    state: state.clone(),
                });
            }
        }
        for name in self.members.keys().filter(|name| !states.contains_key(*name)) {
            changes.push(Change::Gone { name: name.clone() });
        }
        self.members = states;
        if pool.last_error != self.error {
            self.error.clone_from(&pool.last_error);
            changes.extend(self.error.clone().map(|reason| Change::Error { reason }));
        }
        self.members_min = self.members_min.min(pool.serving);
        self.members_max = self.members_max.max(pool.serving);
        self.members_end = pool.serving;
        changes
    }

    fn decided(&mut self, planned: u32, reason: &str) -> Option<Change> {
        let from = std::mem::replace(&mut self.planned, planned);
        let reason = reason.to_owned();
        match planned.cmp(&from) {
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => {
                self.scale_outs += 1;
                Some(Change::Out {
                    from,
                    to: planned,
                    reason,
                })
            }
            std::cmp::Ordering::Less => {
                self.scale_ins += 1;
                Some(Change::In {
                    from,
                    to: planned,
                    reason,
                })
            }
        }
    }
}

fn states(pool: &Pool) -> BTreeMap<String, String> {
    pool.members
        .iter()
        .map(|member| (member.name.clone(), member.state.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(serving: u32, planned: u32) -> Pool {
        let members = (0..serving)
            .map(|number| Member {
                id: number.to_string(),
                name: format!("m{number}"),
                state: "serving".into(),
            })
            .collect();
        Pool {
            name: "api".into(),
            min: 2,
            desired: planned,
            planned,
            serving,
            members,
            ..Pool::default()
        }
    }

    fn decision(at: i64, planned: u32) -> Decision {
        Decision {
            at,
            direction: "out".into(),
            desired: planned,
            planned,
            reason: format!("because {at}"),
        }
    }

    #[test]
    fn each_decision_is_counted_once_however_often_it_is_seen() {
        let mut observer = Observer::new(&pool(2, 2));
        let mut later = pool(2, 4);
        later.decisions = vec![decision(20, 4), decision(10, 3)];
        let changes = observer.look(&later);
        assert_eq!(
            changes,
            [
                Change::Out {
                    from: 2,
                    to: 3,
                    reason: "because 10".into()
                },
                Change::Out {
                    from: 3,
                    to: 4,
                    reason: "because 20".into()
                },
            ]
        );
        assert_eq!(observer.look(&later), []);
        assert_eq!((observer.scale_outs, observer.scale_ins), (2, 0));
    }

    #[test]
    fn decisions_from_before_are_not_counted() {
        let mut first = pool(2, 2);
        first.decisions = vec![decision(10, 2)];
        let mut observer = Observer::new(&first);
        assert_eq!(observer.look(&first), []);
        assert_eq!(observer.scale_outs, 0);
    }

    #[test]
    fn replacing_a_dead_member_is_not_a_scale_out() {
        let mut observer = Observer::new(&pool(3, 3));
        let mut cut = pool(3, 3);
        cut.serving = 2;
        cut.members[1].state = "dead".into();
        cut.decisions = vec![decision(10, 3)];
        assert_eq!(
            observer.look(&cut),
            [Change::Member {
                name: "m1".into(),
                state: "dead".into()
            }]
        );
        let mut replaced = pool(3, 3);
        replaced.members[1].name = "m9".into();
        assert_eq!(
            observer.look(&replaced),
            [
                Change::Member {
                    name: "m9".into(),
                    state: "serving".into()
                },
                Change::Gone { name: "m1".into() },
            ]
        );
        assert_eq!((observer.scale_outs, observer.scale_ins), (0, 0));
        assert_eq!(
            (observer.members_min, observer.members_max, observer.members_end),
            (2, 3, 3)
        );
    }

    #[test]
    fn a_scale_in_and_a_lost_entry_are_counted() {
        let mut observer = Observer::new(&pool(4, 4));
        let changes = observer.look(&pool(3, 3));
        assert_eq!(
            changes[0],
            Change::In {
                from: 4,
                to: 3,
                reason: String::new()
            }
        );
        assert_eq!((observer.scale_outs, observer.scale_ins), (0, 1));
    }

    #[test]
    fn an_error_is_reported_once() {
        let mut observer = Observer::new(&pool(2, 2));
        let mut failing = pool(2, 2);
        failing.last_error = Some("no answer".into());
        assert_eq!(
            observer.look(&failing),
            [Change::Error {
                reason: "no answer".into()
            }]
        );
        assert_eq!(observer.look(&failing), []);
        assert_eq!(observer.look(&pool(2, 2)), []);
    }
}
