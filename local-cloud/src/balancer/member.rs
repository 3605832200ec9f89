//! One machine behind a load balancer: whether it gets traffic, and what it got.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pingora::connectors::l4::BindTo;
use serde_json::Value;

use super::counts::StatusCounts;
use super::spec::Thresholds;

/// Where a machine is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) machine: u64,
    pub(crate) ip: Ipv4Addr,
    /// Real endpoints of the two known ports; elsewhere than (`ip`, port) only without addresses of one's own.
    pub(crate) endpoints: [(u16, SocketAddr); 2],
    /// The address that connections to it come from; None where that doesn't matter.
    pub(crate) from: Option<Ipv4Addr>,
}

impl Target {
    /// What its connections are bound to, in pingora's words.
    pub(crate) fn bound(&self) -> Option<BindTo> {
        let mut bound = BindTo::default();
        bound.addr = Some(SocketAddr::from((self.from?, 0)));
        Some(bound)
    }

    /// Where `port` of the machine is.
    pub(crate) fn endpoint(&self, port: u16) -> SocketAddr {
        self.endpoints
            .iter()
            .find(|(known, _)| *known == port)
            .map_or_else(|| SocketAddr::from((self.ip, port)), |(_, endpoint)| *endpoint)
    }
}

/// What a member does, to be shown.
#[derive(Debug)]
pub(crate) struct MemberView {
    pub(crate) machine: u64,
    pub(crate) ip: Ipv4Addr,
    pub(crate) state: &'static str,
    /// The result of its last check, in words.
    pub(crate) last_check: String,
    pub(crate) in_flight: u64,
    pub(crate) requests: u64,
    pub(crate) failures: u64,
    pub(crate) answers: Value,
}

/// A member: lives from joining until it is forgotten; leaving only ends new requests.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) target: Target,
    health: Mutex<Health>,
    in_flight: AtomicU64,
    /// Requests sent to it, tries included.
    requests: AtomicU64,
    /// Tries that ended without an answer.
    failures: AtomicU64,
    pub(crate) answers: StatusCounts,
}

#[derive(Debug)]
struct Health {
    healthy: bool,
    /// Was healthy at some time: before, it is joining and checked more often.
    joined: bool,
    /// Equal results in a row that contradict `healthy`.
    against: u64,
    last: String,
}

/// A request under way at a member; ends when dropped.
#[derive(Debug)]
pub(crate) struct InFlight(pub(crate) Arc<Member>);

impl InFlight {
    pub(crate) fn start(member: Arc<Member>) -> Self {
        member.in_flight.fetch_add(1, Ordering::Relaxed);
        member.requests.fetch_add(1, Ordering::Relaxed);
        Self(member)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Member {
    /// A new member: no traffic before its checks passed.
    pub(crate) fn new(target: Target) -> Self {
        let health = Health {
            healthy: false,
            joined: false,
            against: 0,
            last: "not checked yet".to_owned(),
        };
        Self {
            target,
            health: Mutex::new(health),
            in_flight: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            answers: StatusCounts::default(),
        }
    }

    /// Whether it gets traffic.
    pub(crate) fn is_healthy(&self) -> bool {
        self.health().healthy
    }

    /// Whether it never got traffic yet.
    pub(crate) fn is_joining(&self) -> bool {
        !self.health().joined
    }

    /// Requests under way.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests sent to it.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Notes the result of a check; says whether the member turned.
    pub(crate) fn checked(&self, result: Result<(), String>, thresholds: Thresholds) -> bool {
        let mut health = self.health();
        let passed = result.is_ok();
        health.last = result.err().unwrap_or_else(|| "passed".to_owned());
        if passed == health.healthy {
            health.against = 0;
            return false;
        }
        health.against += 1;
        let needed = if passed {
            thresholds.healthy
        } else {
            thresholds.unhealthy
        };
        if health.against < needed {
            return false;
        }
        health.healthy = passed;
        health.joined |= passed;
        health.against = 0;
        true
    }

    /// A try ended without an answer.
    pub(crate) fn try_failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// No new connection can be had: out at once, until checks pass again.
    pub(crate) fn unreachable(&self, why: &str) {
        let mut health = self.health();
        if health.healthy {
            tracing::warn!(machine = self.target.machine, why, "member taken out");
        }
        health.healthy = false;
        health.against = 0;
        why.clone_into(&mut health.last);
    }

    /// What it does.
    pub(crate) fn view(&self, state: &'static str) -> MemberView {
        MemberView {
            machine: self.target.machine,
            ip: self.target.ip,
            state,
            last_check: self.health().last.clone(),
            in_flight: self.in_flight(),
            requests: self.requests(),
            failures: self.failures.load(Ordering::Relaxed),
            answers: self.answers.view(),
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Member {
        let endpoint = |port| (port, SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Member::new(Target {
            machine: 1,
            ip: Ipv4Addr::LOCALHOST,
            endpoints: [8080, 9090].map(endpoint),
            from: None,
        })
    }

    const THRESHOLDS: Thresholds = Thresholds {
        healthy: 2,
        unhealthy: 3,
    };

    #[test]
    fn it_takes_that_many_checks_in_a_row_to_turn() {
        let member = member();
        assert!(!member.checked(Ok(()), THRESHOLDS));
        assert!(!member.checked(Err("no".into()), THRESHOLDS));
        assert!(!member.checked(Ok(()), THRESHOLDS));
        assert!(member.checked(Ok(()), THRESHOLDS));
        assert!(member.is_healthy() && !member.is_joining());
        for turned in [false, false, true] {
            assert_eq!(member.checked(Err("no".into()), THRESHOLDS), turned);
        }
        assert!(!member.is_healthy());
    }

    #[test]
    fn an_unreachable_member_is_out_at_once_and_comes_back_by_checks() {
        let member = member();
        member.checked(Ok(()), THRESHOLDS);
        member.checked(Ok(()), THRESHOLDS);
        member.unreachable("refused");
        assert!(!member.is_healthy());
        assert!(!member.checked(Ok(()), THRESHOLDS));
        assert!(member.checked(Ok(()), THRESHOLDS));
    }
}
