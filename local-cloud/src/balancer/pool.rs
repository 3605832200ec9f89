//! One load balancer while it runs: how it behaves now, who is behind it, and who gets the next request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use super::counts::Counts;
use super::firewall::Firewall;
use super::health;
use super::member::{Member, MemberView, Target};
use super::room::Room;
use super::spec::{Algorithm, Check, Spec, Sticky};

/// Members that left and are still shown in the state, so that counts add up: 1,000 are some 200 kB.
const PAST_MAX: usize = 1_000;

/// One load balancer.
#[derive(Debug)]
pub(crate) struct Balancer {
    retry: bool,
    behaviour: Mutex<Arc<Behaviour>>,
    pub(super) room: Arc<Room>,
    turn: AtomicUsize,
    roster: Mutex<Roster>,
    pub(crate) counts: Counts,
    ended: CancellationToken,
}

/// How a balancer behaves, as its configuration says now.
#[derive(Debug, Clone)]
pub(crate) struct Behaviour {
    /// How long a member or a client may be silent.
    pub(crate) idle_timeout: Duration,
    /// Whether connections to members are kept for the next request.
    pub(crate) backend_keepalive: bool,
    pub(crate) firewall: Firewall,
    pub(crate) sticky: Option<Sticky>,
    /// Whether members are told in the PROXY protocol who the client is.
    pub(crate) proxy_protocol: bool,
    algorithm: Algorithm,
    pub(super) connections_max: u64,
}

impl Behaviour {
    pub(super) fn of(spec: &Spec) -> Self {
        Self {
            idle_timeout: spec.idle_timeout,
            backend_keepalive: spec.backend_keepalive,
            firewall: spec.firewall.clone(),
            sticky: spec.sticky.clone(),
            proxy_protocol: spec.proxy_protocol,
            algorithm: spec.algorithm,
            connections_max: spec.connections_max,
        }
    }
}

#[derive(Debug, Default)]
struct Roster {
    check: Option<Check>,
    present: BTreeMap<u64, Present>,
    past: Vec<Arc<Member>>,
}

#[derive(Debug)]
struct Present {
    member: Arc<Member>,
    _checks: DropGuard,
}

impl Balancer {
    pub(super) fn new(retry: bool, behaviour: Behaviour) -> Self {
        Self {
            retry,
            behaviour: Mutex::new(Arc::new(behaviour)),
            room: Arc::default(),
            turn: AtomicUsize::new(0),
            roster: Mutex::new(Roster::default()),
            counts: Counts::default(),
            ended: CancellationToken::new(),
        }
    }

    pub(super) fn configure(&self, spec: &Spec) {
        *self.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Behaviour::of(spec));
        self.room.changed();
        let mut roster = self.roster();
        if roster.check.as_ref() == Some(&spec.check) {
            return;
        }
        roster.check = Some(spec.check.clone());
        for present in roster.present.values_mut() {
            present._checks = watched(&present.member, &spec.check);
        }
    }

    pub(super) fn set_members(&self, targets: Vec<Target>) {
        let mut roster = self.roster();
        let Some(check) = roster.check.clone() else { return };
        let mut before = std::mem::take(&mut roster.present);
        for target in targets {
            let known = before
                .remove(&target.machine)
                .filter(|present| present.member.target == target);
            let present = known.unwrap_or_else(|| {
                let member = Arc::new(Member::new(target));
                let checks = watched(&member, &check);
                Present {
                    member,
                    _checks: checks,
                }
            });
            roster.present.insert(present.member.target.machine, present);
        }
        roster
            .past
            .extend(before.into_values().map(|present| present.member));
        let surplus = roster.past.len().saturating_sub(PAST_MAX);
        roster.past.drain(..surplus);
    }

    /// Ends connections that have no end of their own.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// Waits until the balancer ends.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Whether a request gets its one more try.
    pub(crate) fn retry(&self) -> bool {
        self.retry
    }

    /// How it behaves now.
    pub(crate) fn behaviour(&self) -> Arc<Behaviour> {
        Arc::clone(&self.behaviour.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// This machine, if it is a member that gets traffic.
    pub(crate) fn member(&self, machine: u64) -> Option<Arc<Member>> {
        let roster = self.roster();
        let member = &roster.present.get(&machine)?.member;
        Some(Arc::clone(member)).filter(|member| member.is_healthy())
    }

    /// The member for the next request, none of `without`.
    pub(crate) fn choose(&self, without: &[u64]) -> Option<Arc<Member>> {
        let roster = self.roster();
        let ready: Vec<&Arc<Member>> = roster
            .present
            .values()
            .map(|present| &present.member)
            .filter(|member| member.is_healthy() && !without.contains(&member.target.machine))
            .collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let first = turn.checked_rem(ready.len())?;
        if self.behaviour().algorithm == Algorithm::RoundRobin {
            return ready.get(first).copied().cloned();
        }
        // Starting at another one each time, so that equals take turns.
        let (behind, ahead) = ready.split_at(first);
        ahead
            .iter()
            .chain(behind)
            .min_by_key(|member| member.in_flight())
            .map(|member| Arc::clone(member))
    }

    pub(super) fn members_view(&self) -> (Vec<MemberView>, Vec<MemberView>) {
        let roster = self.roster();
        let present = roster.present.values().map(|present| {
            let state = match (present.member.is_healthy(), present.member.is_joining()) {
                (true, _) => "healthy",
                (false, true) => "joining",
                (false, false) => "unhealthy",
            };
            present.member.view(state)
        });
        let past = roster.past.iter().map(|member| {
            member.view(if member.in_flight() > 0 {
                "draining"
            } else {
                "left"
            })
        });
        (present.collect(), past.collect())
    }

    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn watched(member: &Arc<Member>, check: &Check) -> DropGuard {
    let until = CancellationToken::new();
    tokio::spawn(health::watch(Arc::clone(member), check.clone(), until.clone()));
    until.drop_guard()
}
