//! What DigitalOcean's routes share: the fleet, the records, the balancers before it. Every change goes through
//! [`App::change`]: it is answered when it is on disk and the balancers know it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tidepool_listener::TrustedHosts;
use tidepool_logging::Secret;

use super::call::Result;
use super::faults::Faults;
use super::limits::RateLimits;
use super::records::{ActionState, Cloud};
use super::traffic;
use super::zones::Published;
use crate::balancer::Balancers;
use crate::balancer::member::Target;
use crate::certificates::Certificates;
use crate::dns::Zones;
use crate::fleet::Fleet;
use crate::machines::Power;
use crate::machines::traffic::Traffic;
use crate::state::dir::StateDir;
use crate::state::file;
use crate::state::owner::{Follower, Owner};

/// Pause before the end of an action is noted again, when the disk refused it.
const NOTED_AGAIN: Duration = Duration::from_secs(1);
/// How often that is tried: an hour's time to make room on a disk. The next start settles what is left.
const NOTED_TRIES_MAX: u32 = 3_600;

/// What a user may set of a running cloud.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) droplet_limit: u64,
    /// The only token that is accepted; without one, any is.
    pub(crate) token: Option<Secret>,
    /// The hosts that are served while there is no such token.
    pub(crate) trusted: TrustedHosts,
    /// Where domains are answered.
    pub(crate) name_server: SocketAddr,
}

/// What an app is put together from.
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) state: StateDir,
    pub(crate) balancers: Arc<Balancers>,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) limits: RateLimits,
    pub(crate) probe: reqwest::Client,
    pub(crate) cloud: Cloud,
    /// What the name server answers.
    pub(crate) zones: Zones,
}

/// DigitalOcean's API of one running local cloud.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) settings: Settings,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) state: StateDir,
    pub(crate) balancers: Arc<Balancers>,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) faults: Faults,
    pub(crate) limits: RateLimits,
    /// Asks droplets whether they are ready.
    pub(crate) probe: reqwest::Client,
    /// Whether the hosts hold what firewalls say, as of the last change.
    traffic_is_held: Arc<AtomicBool>,
    ending: Ending,
    cloud: Owner<Cloud>,
}

/// Machines that are taken out of the state, and whose hosts may still run: their filters are held until the hosts have ended.
#[derive(Debug, Clone, Default)]
struct Ending(Arc<Mutex<BTreeSet<u64>>>);

impl Ending {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// Called inside of the runtime.
    ///
    /// # Errors
    /// When the system has no thread to write the state.
    pub(crate) fn new(parts: Parts) -> std::io::Result<Self> {
        let path = parts.state.file();
        let traffic_is_held = Arc::new(AtomicBool::new(true));
        let ending = Ending::default();
        let follower = Following {
            traffic_is_held: Arc::clone(&traffic_is_held),
            ending: ending.clone(),
            traffic: Traffic::default(),
            fleet: Arc::clone(&parts.fleet),
            balancers: Arc::clone(&parts.balancers),
            published: Published::new(parts.zones),
            certificates: Arc::clone(&parts.certificates),
        };
        let write = move |cloud: &Cloud| file::save(&path, cloud);
        Ok(Self {
            settings: parts.settings,
            fleet: parts.fleet,
            state: parts.state,
            balancers: parts.balancers,
            certificates: parts.certificates,
            faults: Faults::default(),
            limits: parts.limits,
            probe: parts.probe,
            traffic_is_held,
            ending,
            cloud: Owner::start(parts.cloud, write, follower)?,
        })
    }

    /// The time, as the API writes it.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the source of the whole program"
    )]
    pub(crate) fn now(&self) -> String {
        Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// Whether the hosts hold what firewalls say; the log has why they don't.
    pub(crate) fn traffic_is_held(&self) -> bool {
        self.traffic_is_held.load(Ordering::Relaxed)
    }

    /// The time in seconds since 1970, as serial numbers of zones have it, too.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the source of the whole program"
    )]
    pub(crate) fn now_secs(&self) -> u32 {
        u32::try_from(Timestamp::now().as_second()).unwrap_or(u32::MAX)
    }

    /// Looks at the state as it is on disk.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Cloud) -> T) -> T {
        look(&self.cloud.read())
    }

    /// Changes the state; it is on disk and the balancers know it when this returns.
    ///
    /// # Errors
    /// Those of `change`, and 500 when the state can't be written: nothing is changed then.
    pub(crate) async fn change<T>(&self, change: impl FnOnce(&mut Cloud) -> Result<T>) -> Result<T> {
        self.cloud.change(change).await
    }

    /// Notes how an action on a droplet ended, and the power that the droplet has since; None leaves it as it was.
    pub(crate) async fn action_done(&self, ended: Ended) {
        let now = self.now();
        self.note_end(&format!("action {}", ended.action), |cloud| {
            if let Some(droplet) = cloud.records.droplets.get_mut(&ended.droplet) {
                droplet.locked = false;
            }
            if let Some(machine) = cloud.machines.get_mut(ended.droplet) {
                machine.power = ended.power.unwrap_or(machine.power);
            }
            cloud.records.action_end(ended.action, ended.state, &now);
        })
        .await;
    }

    /// Notes how something ended, as soon as the disk has room for it.
    pub(crate) async fn note_end(&self, what: &str, note: impl Fn(&mut Cloud)) {
        for _try in 0..NOTED_TRIES_MAX {
            let noted = self.change(|cloud| {
                note(cloud);
                Ok(())
            });
            if noted.await.is_ok() {
                return;
            }
            // It has happened, whatever the disk says: without it the droplet stays locked.
            tokio::time::sleep(NOTED_AGAIN).await;
        }
        tracing::error!(what, "its end is not noted");
    }

    /// Takes droplets out of the state, then ends what runs of them and removes what is left, of all at the same time.
    ///
    /// # Errors
    /// When the state can't be written.
    pub(crate) async fn destroy(&self, ids: Vec<u64>) -> Result<()> {
        self.ending.lock().extend(&ids);
        let removed = self
            .change(|cloud| {
                for id in &ids {
                    cloud.remove_droplet(*id);
                }
                Ok(())
            })
            .await;
        if let Err(error) = removed {
            self.ending.lock().retain(|id| !ids.contains(id));
            return Err(error);
        }
        join_all(ids.iter().map(|id| self.destroy_host(*id))).await;
        if self.read(|cloud| !cloud.records.firewalls.is_empty()) {
            // Another machine may have their addresses by now: their filters go at once. That is so, too, when nothing can be written.
            let _unchanged = self.change(|_| Ok(())).await;
        }
        Ok(())
    }

    /// Whether a droplet is out of the state, or on its way, and its host not yet gone.
    pub(crate) fn is_ending(&self, id: u64) -> bool {
        self.ending.lock().contains(&id)
    }

    /// Removes what is left of a droplet that is no longer in the state.
    pub(crate) async fn destroy_host(&self, id: u64) {
        match self.fleet.hosts.destroy(id).await {
            Ok(()) => {
                self.ending.lock().remove(&id);
            }
            Err(error) => tracing::warn!(machine = id, %error, "something is left of a destroyed machine"),
        }
    }
}

/// Tells the balancers who is behind them, the hosts what may pass, and the name server what it answers.
struct Following {
    traffic_is_held: Arc<AtomicBool>,
    ending: Ending,
    /// What the hosts have held since the last change.
    traffic: Traffic,
    fleet: Arc<Fleet>,
    balancers: Arc<Balancers>,
    published: Published,
    certificates: Arc<Certificates>,
}

impl Following {
    fn steer(&mut self, cloud: &Cloud) {
        let mut next = traffic::of(cloud, &self.fleet);
        for id in self.ending.lock().iter() {
            if let Some(filter) = self.traffic.filters.remove(id) {
                next.filters.entry(*id).or_insert(filter);
            }
        }
        let steered = self.fleet.hosts.steer(&next);
        self.traffic = next;
        let was_held = self.traffic_is_held.swap(steered.is_ok(), Ordering::Relaxed);
        match steered {
            // Once, not at every change.
            Err(error) if was_held => tracing::error!(%error, "firewalls are not held"),
            Ok(()) if !was_held => tracing::info!("firewalls are held again"),
            Err(_) | Ok(()) => {}
        }
    }
}

impl Follower<Cloud> for Following {
    fn kept(&mut self, cloud: &Cloud) {
        // Before the balancers: no request goes to a machine that may not have it.
        self.steer(cloud);
        self.published.publish(&cloud.records.domains);
        for balancer in cloud.records.balancers.values() {
            let ip = self.fleet.addresses.balancer_ip(balancer.slot);
            let targets = cloud.behind(balancer).map(|machine| {
                let network = self.fleet.network(machine);
                Target {
                    machine: machine.id,
                    ip: network.public.ip,
                    endpoints: network.endpoints,
                    // A machine of the balancer's network is reached inside of it, by what the balancer's own address stands for.
                    from: machine
                        .private
                        .as_ref()
                        .filter(|private| private.network == balancer.vpc)
                        .map(|_| ip),
                }
            });
            self.balancers.set_members(&balancer.id, targets.collect());
        }
    }

    /// Balancers run before they are noted, because a port may be taken: those of changes that are undone go back.
    fn undone(&mut self, cloud: &Cloud) {
        let records = &cloud.records.balancers;
        self.balancers.retain(|id| records.contains_key(id));
        for balancer in records.values() {
            let ip = self.fleet.addresses.balancer_ip(balancer.slot);
            if let Err(error) = self.balancers.apply(&balancer.spec(ip, &self.certificates)) {
                tracing::error!(balancer = balancer.name, %error, "a load balancer can't go back to what it was");
            }
        }
        self.kept(cloud);
    }
}

/// How an action on a droplet ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) action: u64,
    pub(crate) droplet: u64,
    pub(crate) state: ActionState,
    pub(crate) power: Option<Power>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digitalocean::records::cloud_firewall::CloudFirewall;
    use crate::digitalocean::stand_in::{self, Gate, PATIENCE, StandIn};

    /// Its host does not end.
    const STUBBORN: u64 = 13;

    /// Droplets under a firewall that lets nothing pass.
    fn guarded(ids: &[u64]) -> Cloud {
        let mut cloud = stand_in::droplets(ids, Power::On);
        let firewall = CloudFirewall {
            id: "firewall".to_owned(),
            name: "closed".to_owned(),
            created_at: String::new(),
            inbound: Vec::new(),
            outbound: Vec::new(),
            droplet_ids: ids.to_vec(),
            tags: Vec::new(),
        };
        cloud.records.firewalls.insert(firewall.id.clone(), firewall);
        cloud
    }

    #[tokio::test]
    async fn hosts_end_at_the_same_time_and_are_filtered_until_they_have_ended() {
        let dir = tempfile::tempdir().unwrap();
        let ids = [11, 12, STUBBORN];
        let hosts = Arc::new(StandIn {
            ends: Gate::closed(),
            stubborn: Some(STUBBORN),
            ..StandIn::default()
        });
        let held = || ids.map(|id| hosts.held.lock().unwrap().filters.contains_key(&id));
        let app = stand_in::app(dir.path(), &hosts, guarded(&ids));
        app.change(|_| Ok(())).await.unwrap();
        assert_eq!(held(), [true; 3]);
        let destroying = Arc::clone(&app);
        let destroyed = tokio::spawn(async move { destroying.destroy(ids.to_vec()).await });
        // None is let go before all of them are on their way.
        hosts.ends.reached_by(3).await;
        assert_eq!(held(), [true; 3], "what still runs is still filtered");
        hosts.ends.let_go(3);
        tokio::time::timeout(PATIENCE, destroyed)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(held(), [false, false, true], "one of them still runs");
        app.change(|_| Ok(())).await.unwrap();
        assert_eq!(held(), [false, false, true]);
    }
}
