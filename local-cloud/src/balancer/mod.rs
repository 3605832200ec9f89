//! Load balancers: one listener a forwarding rule, embedded in this process on pingora. A balancer knows its members from
//! the cloud, and what they are worth from its own checks and connections alone: nobody tells it of a power cut.

mod counts;
mod front;
mod health;
pub(crate) mod member;

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pingora::apps::ServerApp;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::{GetSocketDigest, SocketDigest};
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::counts::Counts;
use self::front::Front;
use self::member::{Member, Target};
use crate::cloud::balancer_spec::{Algorithm, ForwardingRule, HealthCheck, LoadBalancer};

/// Client connections of one listener at most, as the smallest real balancer has.
const CONNECTIONS_MAX: usize = 10_000;
/// Members that left and are still told in the state, so that counts add up: 1,000 are some 200 kB.
const PAST_MAX: usize = 1_000;

/// Why a load balancer can't listen.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}: {source}")]
pub(crate) struct ListenError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// All load balancers that run.
#[derive(Debug)]
pub(crate) struct Balancers {
    retry: bool,
    all: Mutex<BTreeMap<String, Running>>,
}

#[derive(Debug)]
struct Running {
    balancer: Arc<Balancer>,
    ip: Ipv4Addr,
    listeners: HashMap<ForwardingRule, DropGuard>,
}

/// One load balancer.
#[derive(Debug)]
pub(crate) struct Balancer {
    retry: bool,
    idle_timeout_secs: AtomicU64,
    least_connections: AtomicBool,
    turn: AtomicUsize,
    roster: Mutex<Roster>,
    pub(crate) counts: Counts,
}

#[derive(Debug, Default)]
struct Roster {
    check: Option<HealthCheck>,
    present: BTreeMap<u64, Present>,
    past: Vec<Arc<Member>>,
}

#[derive(Debug)]
struct Present {
    member: Arc<Member>,
    _checks: DropGuard,
}

impl Balancers {
    /// No balancer yet; `retry` is whether a request gets its one more try.
    pub(crate) fn new(retry: bool) -> Self {
        Self {
            retry,
            all: Mutex::new(BTreeMap::new()),
        }
    }

    /// Starts a balancer, or brings a running one up to its new configuration.
    ///
    /// # Errors
    /// When a port can't be had; everything is as before then.
    pub(crate) fn apply(&self, spec: &LoadBalancer, ip: Ipv4Addr) -> Result<(), ListenError> {
        let mut all = self.lock();
        let known = all.get(&spec.id);
        let mut fresh = Vec::new();
        for rule in &spec.forwarding_rules {
            if known.is_none_or(|running| !running.listeners.contains_key(rule)) {
                fresh.push((*rule, listen(SocketAddr::from((ip, rule.entry_port)))?));
            }
        }
        let running = all.entry(spec.id.clone()).or_insert_with(|| Running {
            balancer: Arc::new(Balancer::new(self.retry)),
            ip,
            listeners: HashMap::new(),
        });
        running.balancer.configure(spec);
        running
            .listeners
            .retain(|rule, _| spec.forwarding_rules.contains(rule));
        for (rule, listener) in fresh {
            let stop = CancellationToken::new();
            let front = Front {
                balancer: Arc::clone(&running.balancer),
                target_port: rule.target_port,
                entry_port: rule.entry_port,
            };
            tokio::spawn(serve(listener, front, stop.clone()));
            running.listeners.insert(rule, stop.drop_guard());
        }
        Ok(())
    }

    /// Tells a balancer who is behind it.
    pub(crate) fn set_members(&self, id: &str, targets: Vec<Target>) {
        if let Some(running) = self.lock().get(id) {
            running.balancer.set_members(targets);
        }
    }

    /// Ends a balancer: no new connection; open ones finish their request.
    pub(crate) fn remove(&self, id: &str) {
        self.lock().remove(id);
    }

    /// Ends all.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// A balancer's part of `/_local/state`.
    pub(crate) fn view(&self, id: &str) -> Option<Value> {
        let all = self.lock();
        let running = all.get(id)?;
        let mut ports: Vec<u16> = running.listeners.keys().map(|rule| rule.entry_port).collect();
        ports.sort_unstable();
        let (members, past) = running.balancer.members_view();
        Some(json!({
            "ip": running.ip,
            "ports": ports,
            "port": ports.first(),
            "members": members,
            "past_members": past,
            "counters": running.balancer.counts.view(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Balancer {
    fn new(retry: bool) -> Self {
        Self {
            retry,
            idle_timeout_secs: AtomicU64::new(60),
            least_connections: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
            roster: Mutex::new(Roster::default()),
            counts: Counts::default(),
        }
    }

    fn configure(&self, spec: &LoadBalancer) {
        self.idle_timeout_secs
            .store(spec.http_idle_timeout_secs, Ordering::Relaxed);
        self.least_connections
            .store(spec.algorithm == Algorithm::LeastConnections, Ordering::Relaxed);
        let mut roster = self.roster();
        if roster.check.as_ref() == Some(&spec.health_check) {
            return;
        }
        roster.check = Some(spec.health_check.clone());
        for present in roster.present.values_mut() {
            present._checks = watched(&present.member, &spec.health_check);
        }
    }

    fn set_members(&self, targets: Vec<Target>) {
        let mut roster = self.roster();
        let Some(check) = roster.check.clone() else { return };
        let mut before = std::mem::take(&mut roster.present);
        for target in targets {
            let known = before
                .remove(&target.droplet)
                .filter(|present| present.member.target == target);
            let present = known.unwrap_or_else(|| {
                let member = Arc::new(Member::new(target));
                let checks = watched(&member, &check);
                Present {
                    member,
                    _checks: checks,
                }
            });
            roster.present.insert(present.member.target.droplet, present);
        }
        roster
            .past
            .extend(before.into_values().map(|present| present.member));
        let surplus = roster.past.len().saturating_sub(PAST_MAX);
        roster.past.drain(..surplus);
    }

    /// Whether a request gets its one more try.
    pub(crate) fn retry(&self) -> bool {
        self.retry
    }

    /// How long a member may be silent.
    pub(crate) fn idle_timeout_secs(&self) -> u64 {
        self.idle_timeout_secs.load(Ordering::Relaxed)
    }

    /// The member for the next request, none of `without`.
    pub(crate) fn choose(&self, without: &[u64]) -> Option<Arc<Member>> {
        let roster = self.roster();
        let ready: Vec<&Arc<Member>> = roster
            .present
            .values()
            .map(|present| &present.member)
            .filter(|member| member.is_healthy() && !without.contains(&member.target.droplet))
            .collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let first = turn.checked_rem(ready.len())?;
        if !self.least_connections.load(Ordering::Relaxed) {
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

    fn members_view(&self) -> (Vec<Value>, Vec<Value>) {
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

fn watched(member: &Arc<Member>, check: &HealthCheck) -> DropGuard {
    let until = CancellationToken::new();
    tokio::spawn(health::watch(Arc::clone(member), check.clone(), until.clone()));
    until.drop_guard()
}

fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let error = |source| ListenError { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(error)?;
    listener.set_nonblocking(true).map_err(error)?;
    TcpListener::from_std(listener).map_err(error)
}

/// Accepts connections and hands each to pingora, until `stop`.
async fn serve(listener: TcpListener, front: Front, stop: CancellationToken) {
    let conf = Arc::new(ServerConf::default());
    let proxy = Arc::new(http_proxy(&conf, front));
    let (closing, shutdown) = watch::channel(false);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, mostly: pause, so that this is no busy loop.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        let mut stream = Stream::from(stream);
        stream.set_socket_digest(digest);
        let proxy = Arc::clone(&proxy);
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            let _place = place;
            proxy.process_new(Box::new(stream), &shutdown).await;
        });
    }
    drop(listener);
    closing.send_replace(true);
    proxy.cleanup().await;
}
