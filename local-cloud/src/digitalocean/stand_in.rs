//! For tests of what the API does with its hosts: hosts that run nothing, of which a test decides when they are done, and a cloud before
//! them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use serde_json::Value;
use tidepool_listener::TrustedHosts;
use tokio::sync::Semaphore;

use super::app::{App, Parts, Settings};
use super::call::Call;
use super::limits::{RateLimits, Rates};
use super::records::Cloud;
use super::records::droplet::Droplet;
use crate::balancer::{self, Balancers};
use crate::certificates::Certificates;
use crate::dns::Zones;
use crate::fleet::Fleet;
use crate::hosts::volumes::Volumes;
use crate::hosts::{Boot, FirstBoot, HostError, HostFault, HostView, Hosts, Wanted};
use crate::machines::addresses::{Addresses, Network};
use crate::machines::block::Block;
use crate::machines::traffic::Traffic;
use crate::machines::{Machine, Power, Size};
use crate::manifests::Manifests;
use crate::state::dir::StateDir;

/// How long anything may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// The processors of the machine that the hosts are on.
pub(super) const PROCESSORS: u64 = 2;

/// Where calls wait until the test lets them go on.
#[derive(Debug)]
pub(super) struct Gate {
    come: Semaphore,
    gone: Semaphore,
}

impl Gate {
    fn open() -> Self {
        Self {
            come: Semaphore::new(0),
            gone: Semaphore::new(Semaphore::MAX_PERMITS),
        }
    }

    pub(super) fn closed() -> Self {
        Self {
            gone: Semaphore::new(0),
            ..Self::open()
        }
    }

    async fn pass(&self) {
        self.come.add_permits(1);
        self.gone.acquire().await.unwrap().forget();
    }

    /// Waits until so many calls have come.
    pub(super) async fn reached_by(&self, calls: u32) {
        let come = tokio::time::timeout(PATIENCE, self.come.acquire_many(calls)).await;
        come.expect("a call does not come").unwrap().forget();
    }

    /// Lets so many calls go on.
    pub(super) fn let_go(&self, calls: usize) {
        self.gone.add_permits(calls);
    }
}

/// Hosts that do nothing.
#[derive(Debug)]
pub(super) struct StandIn {
    /// Where the ends of machines wait.
    pub(super) ends: Gate,
    /// Where snapshots wait.
    pub(super) snapshots: Gate,
    /// A machine that does not end.
    pub(super) stubborn: Option<u64>,
    /// What is held of traffic.
    pub(super) held: Mutex<Traffic>,
    /// Snapshots that were made and not removed.
    pub(super) kept: Mutex<BTreeSet<u64>>,
}

impl Default for StandIn {
    fn default() -> Self {
        Self {
            ends: Gate::open(),
            snapshots: Gate::open(),
            stubborn: None,
            held: Mutex::default(),
            kept: Mutex::default(),
        }
    }
}

impl Volumes for StandIn {}

#[async_trait]
impl Hosts for StandIn {
    fn check(&self, _: &Wanted<'_>) -> Result<(), HostError> {
        unreachable!("no machine is made")
    }

    fn check_size(&self, size: Size) -> Result<(), HostError> {
        if size.vcpus > PROCESSORS {
            return Err(HostError::Refused("too large".to_owned()));
        }
        Ok(())
    }

    async fn create(&self, _: &Machine, _: &FirstBoot) -> Result<(), HostError> {
        unreachable!("no machine is made")
    }

    async fn adopt(&self, _: &Machine) -> Result<(), HostError> {
        unreachable!("no machine is made")
    }

    async fn power_on(&self, _: Boot) -> Result<(), HostError> {
        unreachable!("no machine boots")
    }

    async fn power_off(&self, _: u64) -> Result<(), HostError> {
        Ok(())
    }

    async fn shutdown(&self, _: u64, _: Duration) -> Result<Power, HostError> {
        Ok(Power::Off)
    }

    async fn snapshot(&self, _: &Machine, snapshot: u64) -> Result<(), HostError> {
        self.snapshots.pass().await;
        self.kept.lock().unwrap().insert(snapshot);
        Ok(())
    }

    async fn snapshot_remove(&self, snapshot: u64) -> Result<(), HostError> {
        self.kept.lock().unwrap().remove(&snapshot);
        Ok(())
    }

    async fn resize(&self, _: &Machine) -> Result<(), HostError> {
        Ok(())
    }

    async fn destroy(&self, machine: u64) -> Result<(), HostError> {
        self.ends.pass().await;
        match self.stubborn {
            Some(stubborn) if stubborn == machine => Err(HostError::StillThere(machine)),
            _ => Ok(()),
        }
    }

    async fn fail(&self, _: u64, _: HostFault) -> Result<(), HostError> {
        unreachable!("nothing fails")
    }

    fn steer(&self, traffic: &Traffic) -> Result<(), HostError> {
        *self.held.lock().unwrap() = traffic.clone();
        Ok(())
    }

    fn view(&self, _: u64) -> HostView {
        unreachable!("nobody looks")
    }

    fn fill_in(&self, text: &str, _: &Machine, _: &Network) -> String {
        text.to_owned()
    }
}

/// Droplets of those ids, with that power.
pub(super) fn droplets(ids: &[u64], power: Power) -> Cloud {
    let mut cloud = Cloud::default();
    for (slot, id) in (0..).zip(ids) {
        cloud.machines.insert(Machine {
            id: *id,
            name: format!("droplet-{id}"),
            slot,
            power,
            image: "image".to_owned(),
            snapshot: None,
            size: Size {
                vcpus: 1,
                memory_mb: 512,
                disk_gb: 10,
            },
            public: true,
            private: None,
        });
        let droplet = Droplet {
            id: *id,
            locked: false,
            created_at: String::new(),
            region: "fra1".to_owned(),
            size: "s-1vcpu-512mb-10gb".to_owned(),
            public_networking: true,
            image: 1,
            tags: Vec::new(),
            features: Vec::new(),
            vpc: String::new(),
            snapshots: Vec::new(),
        };
        cloud.records.droplets.insert(*id, droplet);
    }
    cloud
}

/// The API of that cloud, with its state in that directory.
pub(super) fn app(dir: &Path, hosts: &Arc<StandIn>, cloud: Cloud) -> Arc<App> {
    let fleet = Fleet {
        hosts: Arc::clone(hosts) as Arc<dyn Hosts>,
        addresses: Addresses::of_block(Block(0)),
        manifests: Manifests::new(dir.to_owned()),
        faults: Arc::default(),
        stop_grace: Duration::ZERO,
    };
    let app = App::new(Parts {
        settings: Settings {
            droplet_limit: 10,
            token: None,
            trusted: TrustedHosts::default(),
            name_server: SocketAddr::from(([127, 0, 0, 1], 53)),
        },
        fleet: Arc::new(fleet),
        state: StateDir::new(dir),
        balancers: Arc::new(Balancers::new(balancer::Settings {
            retry: false,
            connections_max: 10,
        })),
        certificates: Arc::new(Certificates::open(dir, &BTreeSet::new()).unwrap()),
        limits: RateLimits::new(Rates {
            per_hour: 10,
            per_minute: 10,
        }),
        probe: reqwest::Client::builder().no_proxy().build().unwrap(),
        cloud,
        zones: Zones::default(),
    });
    Arc::new(app.unwrap())
}

/// A call with that object.
pub(super) fn call(body: &Value) -> Call {
    Call {
        method: Method::POST,
        path: Vec::new(),
        query: Vec::new(),
        body: body.as_object().unwrap().clone(),
        base: String::new(),
    }
}
