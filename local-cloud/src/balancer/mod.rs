//! Load balancers: one listener a forwarding rule, embedded in this process on pingora. A balancer knows its members from
//! whom it is told of, and whether they are well from its own checks and connections alone: nobody reports a power cut to it.

mod connection;
mod counts;
pub(crate) mod firewall;
mod front;
mod health;
pub(crate) mod member;
pub(crate) mod spec;

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pingora::apps::HttpServerApp;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::{GetSocketDigest, SocketDigest};
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::connection::{ClientStream, Room};
use self::counts::{Counts, count};
use self::firewall::Firewall;
use self::front::Front;
use self::member::{Member, MemberView, Target};
use self::spec::{Algorithm, Check, Forward, Spec};

/// Pause after a connection that could not be accepted: out of descriptors, mostly, and trying at once again would only
/// use the processor.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Members that left and are still shown in the state, so that counts add up: 1,000 are some 200 kB.
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
    settings: Settings,
    room: Arc<Room>,
    all: Mutex<BTreeMap<String, Running>>,
}

/// What a balancer does, to be shown.
#[derive(Debug)]
pub(crate) struct BalancerView {
    pub(crate) ip: Ipv4Addr,
    pub(crate) ports: Vec<u16>,
    pub(crate) members: Vec<MemberView>,
    /// Those that left.
    pub(crate) past_members: Vec<MemberView>,
    /// Open ones of clients.
    pub(crate) connections: u64,
    pub(crate) counters: Value,
}

/// What holds for all balancers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Whether a request gets its one more try.
    pub(crate) retry: bool,
    /// Client connections of all together.
    pub(crate) connections_max: u64,
}

#[derive(Debug)]
struct Running {
    balancer: Arc<Balancer>,
    ip: Ipv4Addr,
    listeners: HashMap<Forward, DropGuard>,
}

/// One load balancer.
#[derive(Debug)]
pub(crate) struct Balancer {
    retry: bool,
    behaviour: Mutex<Arc<Behaviour>>,
    room: Arc<Room>,
    turn: AtomicUsize,
    roster: Mutex<Roster>,
    pub(crate) counts: Counts,
}

/// How a balancer behaves, as its configuration says now.
#[derive(Debug, Clone)]
pub(crate) struct Behaviour {
    /// How long a member or a client may be silent.
    pub(crate) idle_timeout: Duration,
    /// Whether connections to members are kept for the next request.
    pub(crate) backend_keepalive: bool,
    pub(crate) firewall: Firewall,
    algorithm: Algorithm,
    connections_max: u64,
}

impl Behaviour {
    fn of(spec: &Spec) -> Self {
        Self {
            idle_timeout: spec.idle_timeout,
            backend_keepalive: spec.backend_keepalive,
            firewall: spec.firewall.clone(),
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

impl Balancers {
    /// No balancer yet.
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            room: Arc::default(),
            all: Mutex::new(BTreeMap::new()),
        }
    }

    /// Starts a balancer, or brings a running one up to its new configuration.
    ///
    /// # Errors
    /// When a port can't be had; everything is as before then.
    pub(crate) fn apply(&self, spec: &Spec) -> Result<(), ListenError> {
        let mut all = self.lock();
        let known = all.get(&spec.id);
        let mut fresh = Vec::new();
        for rule in &spec.forwards {
            if known.is_none_or(|running| !running.listeners.contains_key(rule)) {
                fresh.push((*rule, listen(SocketAddr::from((spec.ip, rule.entry_port)))?));
            }
        }
        let running = all.entry(spec.id.clone()).or_insert_with(|| Running {
            balancer: Arc::new(Balancer::new(self.settings.retry, Behaviour::of(spec))),
            ip: spec.ip,
            listeners: HashMap::new(),
        });
        running.balancer.configure(spec);
        running.listeners.retain(|rule, _| spec.forwards.contains(rule));
        for (rule, listener) in fresh {
            let stop = CancellationToken::new();
            let front = Front {
                balancer: Arc::clone(&running.balancer),
                target_port: rule.target_port,
                entry_port: rule.entry_port,
            };
            let shared = Shared {
                room: Arc::clone(&self.room),
                connections_max: self.settings.connections_max,
                stop: stop.clone(),
            };
            tokio::spawn(serve(listener, front, shared));
            running.listeners.insert(rule, stop.drop_guard());
        }
        Ok(())
    }

    /// Sets who is behind a balancer.
    pub(crate) fn set_members(&self, id: &str, targets: Vec<Target>) {
        if let Some(running) = self.lock().get(id) {
            running.balancer.set_members(targets);
        }
    }

    /// Ends a balancer: no new connection; open ones finish their request.
    pub(crate) fn remove(&self, id: &str) {
        self.lock().remove(id);
    }

    /// Ends those that are not to stay.
    pub(crate) fn retain(&self, stays: impl Fn(&str) -> bool) {
        self.lock().retain(|id, _| stays(id));
    }

    /// Ends all.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// What a balancer does.
    pub(crate) fn view(&self, id: &str) -> Option<BalancerView> {
        let all = self.lock();
        let running = all.get(id)?;
        let mut ports: Vec<u16> = running.listeners.keys().map(|rule| rule.entry_port).collect();
        ports.sort_unstable();
        let (members, past) = running.balancer.members_view();
        Some(BalancerView {
            ip: running.ip,
            ports,
            members,
            past_members: past,
            connections: running.balancer.room.open(),
            counters: running.balancer.counts.view(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Balancer {
    fn new(retry: bool, behaviour: Behaviour) -> Self {
        Self {
            retry,
            behaviour: Mutex::new(Arc::new(behaviour)),
            room: Arc::default(),
            turn: AtomicUsize::new(0),
            roster: Mutex::new(Roster::default()),
            counts: Counts::default(),
        }
    }

    fn configure(&self, spec: &Spec) {
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

    fn set_members(&self, targets: Vec<Target>) {
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

    /// Whether a request gets its one more try.
    pub(crate) fn retry(&self) -> bool {
        self.retry
    }

    /// How it behaves now.
    pub(crate) fn behaviour(&self) -> Arc<Behaviour> {
        Arc::clone(&self.behaviour.lock().unwrap_or_else(PoisonError::into_inner))
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

    fn members_view(&self) -> (Vec<MemberView>, Vec<MemberView>) {
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

fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let error = |source| ListenError { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(error)?;
    listener.set_nonblocking(true).map_err(error)?;
    TcpListener::from_std(listener).map_err(error)
}

/// What a listener shares with others: the room with those of all balancers.
struct Shared {
    room: Arc<Room>,
    connections_max: u64,
    stop: CancellationToken,
}

/// Accepts connections, as many as there is room for, and hands each to pingora, until `stop`.
async fn serve(listener: TcpListener, front: Front, shared: Shared) {
    let balancer = Arc::clone(&front.balancer);
    let proxy = Arc::new(http_proxy(&Arc::new(ServerConf::default()), front));
    let (closing, shutdown) = watch::channel(false);
    let places = async || {
        let of_all = shared.room.take(|| shared.connections_max).await;
        let of_balancer = balancer.room.take(|| balancer.behaviour().connections_max).await;
        (of_all, of_balancer)
    };
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        if !balancer.behaviour().firewall.admits(client.ip()) {
            count(&balancer.counts.refused_by_firewall);
            continue;
        }
        // Without room it waits here, and the next ones wait in the kernel's queue.
        let places = tokio::select! {
            () = shared.stop.cancelled() => break,
            places = places() => places,
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        let mut stream = Stream::from(stream);
        stream.set_socket_digest(digest);
        let (proxy, balancer, shutdown) = (Arc::clone(&proxy), Arc::clone(&balancer), shutdown.clone());
        tokio::spawn(async move {
            let _places = places;
            let idle = || balancer.behaviour().idle_timeout;
            match ClientStream::new(stream) {
                Ok(client) => client.serve(&proxy, idle, &shutdown).await,
                Err(error) => tracing::warn!(%error, "a connection can't be served"),
            }
        });
    }
    drop(listener);
    closing.send_replace(true);
    proxy.http_cleanup().await;
}
