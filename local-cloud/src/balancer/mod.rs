//! Load balancers: one listener a forwarding rule, embedded in this process on pingora. A balancer knows its members from
//! whom it is told of, and whether they are well from its own checks and connections alone: nobody reports a power cut to it.

mod connection;
mod counts;
pub(crate) mod firewall;
mod framing;
mod front;
mod health;
mod http2;
mod listener;
pub(crate) mod member;
mod pool;
mod proxy_line;
mod redirect;
mod room;
mod rule;
pub(crate) mod spec;
mod sticky;
mod tcp;
mod tls;
mod wire;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::front::Front;
use self::listener::{ListenError, Shared, listen, serve};
use self::member::{MemberView, Target};
use self::pool::{Balancer, Behaviour};
use self::room::Room;
use self::rule::RuleCell;
use self::spec::Spec;

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
    /// By the port that clients connect to.
    listeners: BTreeMap<u16, Listening>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.balancer.end();
    }
}

/// A port that is listened on.
#[derive(Debug)]
struct Listening {
    rule: Arc<RuleCell>,
    _stop: DropGuard,
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
        for forward in &spec.forwards {
            let port = forward.entry_port;
            if known.is_none_or(|running| !running.listeners.contains_key(&port)) {
                fresh.push((forward, listen(SocketAddr::from((spec.ip, port)))?));
            }
        }
        let running = all.entry(spec.id.clone()).or_insert_with(|| Running {
            balancer: Arc::new(Balancer::new(self.settings.retry, Behaviour::of(spec))),
            ip: spec.ip,
            listeners: BTreeMap::new(),
        });
        running.balancer.configure(spec);
        let stays = |port: &u16| spec.forwards.iter().any(|forward| forward.entry_port == *port);
        running.listeners.retain(|port, _| stays(port));
        for forward in &spec.forwards {
            if let Some(listening) = running.listeners.get(&forward.entry_port) {
                listening.rule.set(forward);
            }
        }
        for (forward, listener) in fresh {
            let stop = CancellationToken::new();
            let rule = Arc::new(RuleCell::new(forward));
            let front = Front {
                balancer: Arc::clone(&running.balancer),
                rule: Arc::clone(&rule),
                entry_port: forward.entry_port,
            };
            let shared = Shared {
                room: Arc::clone(&self.room),
                connections_max: self.settings.connections_max,
                stop: stop.clone(),
            };
            tokio::spawn(serve(listener, front, shared));
            let listening = Listening {
                rule,
                _stop: stop.drop_guard(),
            };
            running.listeners.insert(forward.entry_port, listening);
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
        let (members, past) = running.balancer.members_view();
        Some(BalancerView {
            ip: running.ip,
            ports: running.listeners.keys().copied().collect(),
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
