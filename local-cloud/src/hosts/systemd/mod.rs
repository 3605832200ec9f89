//! Hosts as systems: systemd as PID 1 in namespaces of its own, with a disk on an image, addresses, and a size that the kernel
//! enforces. Needs root. No security boundary: root in a host is root of this machine's kernel, with less at hand.

mod base;
mod boot;
mod capacity;
mod cgroups;
mod claim;
mod command;
mod console;
mod container;
mod disk;
mod disk_file;
mod filters;
mod inside;
mod kernel;
mod loops;
mod metadata;
mod mirror;
mod mounts;
mod network;
#[cfg(test)]
mod network_tests;
mod packages;
pub(crate) mod requirements;
mod rules;
mod service;
mod still;
pub(crate) mod sweep;
mod volumes;

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::base::Bases;
use self::capacity::Capacity;
use self::cgroups::Cgroups;
use self::claim::{Claim, Taken};
use self::container::Run;
use self::disk::{Disks, Layers, NewDisk};
use self::metadata::Metadata;
use self::mounts::DiskError;
use self::network::{DNS_PORT, METADATA, Switch};
use self::packages::Packages;
use self::rules::NAME_SERVERS;
use self::volumes::VolumeDisks;
use super::{Boot, FirstBoot, HostError, HostFault, HostView, Hosts, ProcessView, Wanted};
use crate::dns::Server;
use crate::machines::addresses::{Network, OPS_PORT, PUBLIC_PORT};
use crate::machines::block::Block;
use crate::machines::faults::Faults;
use crate::machines::traffic::Traffic;
use crate::machines::{Machine, Power, Size};
use crate::manifests::{Image, System};
use crate::private_files;
use crate::state::dir::StateDir;

/// How long the remains of a host may take to be gone after its power was cut.
const GONE_WITHIN: Duration = Duration::from_secs(15);

/// All machines as systems.
#[derive(Debug, Clone)]
pub(crate) struct SystemdHosts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    block: Block,
    _taken: Taken,
    switch: Switch,
    cgroups: Cgroups,
    disks: Disks,
    volumes: VolumeDisks,
    /// Held while a machine stands still for a copy.
    still: Mutex<()>,
    bases: Bases,
    metadata: Metadata,
    /// What hosts may install, if anything.
    packages: Option<Packages>,
    table: Mutex<Table>,
    /// Whether machines can still be made and booted. Held while that is done, so that the end finds all of it.
    open: RwLock<bool>,
    /// Machines that powered themselves off, until somebody has asked.
    off: Mutex<BTreeSet<u64>>,
    news: Notify,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Table {
    /// Machines that were made and not destroyed: no other one is powered on.
    known: BTreeSet<u64>,
    runs: HashMap<u64, Arc<Run>>,
}

/// What a machine was told at its first boot, as noted on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    authorized_keys: String,
    user_data: String,
    region: String,
    tags: Vec<String>,
}

/// What the hosts are set up with.
#[derive(Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) state: &'a StateDir,
    /// The mark of the state directory.
    pub(crate) instance: &'a str,
    /// Where base images are kept, for all clouds of this machine.
    pub(crate) base_images: PathBuf,
    /// Whether hosts may install packages.
    pub(crate) packages: bool,
    /// What goes wrong with hosts on demand.
    pub(crate) faults: Arc<Faults>,
    /// Answers hosts' questions about names.
    pub(crate) names: Server,
}

impl SystemdHosts {
    /// Takes a block of addresses and makes the network; no machine yet. Called inside of the runtime that will serve the
    /// metadata.
    ///
    /// # Errors
    /// When something of it can't be had; nothing is left then.
    pub(crate) fn start(setup: &Setup<'_>) -> Result<Self, HostError> {
        let disks = Disks::of(setup.state);
        private_files::make_private_dir(disks.machines()).map_err(failed("the machines' directory"))?;
        let claim = Claim {
            instance: setup.instance.to_owned(),
            machines: disks.machines().to_owned(),
        };
        sweep::sweep_abandoned();
        let taken = claim::take(Path::new(claim::CLAIMS), wanted_block(setup.state), &claim)
            .map_err(failed("a block of addresses"))?;
        let block = taken.block;
        let started = Self::start_in(taken, disks, setup);
        if started.is_err()
            && let Err(error) = sweep::remove(block, &claim)
        {
            tracing::error!(%error, "something is left of a failed start");
        }
        started
    }

    fn start_in(taken: Taken, disks: Disks, setup: &Setup<'_>) -> Result<Self, HostError> {
        let block = taken.block;
        // What is left in a block that nobody had is from a cloud whose claim was removed.
        network::remove(block).map_err(failed("the network"))?;
        disks.share().map_err(of_disk)?;
        let cgroups = Cgroups::of(block, Path::new(cgroups::MOUNT)).map_err(HostError::Refused)?;
        let switch = Switch::make(block).map_err(failed("the network"))?;
        // Once it is loaded what can be.
        for warning in requirements::warnings(requirements::this_machine()) {
            tracing::warn!("{warning}");
        }
        let (metadata, stop) = (Metadata::new(Arc::clone(&setup.faults)), CancellationToken::new());
        switch
            .listener(METADATA)
            .and_then(|listener| service::serve(("metadata", metadata.clone()), listener, stop.clone()))
            .map_err(failed("the metadata service"))?;
        for address in NAME_SERVERS.into_iter().chain([block.gateway()]) {
            switch
                .dns_sockets(address)
                .and_then(|sockets| setup.names.serve(sockets))
                .map_err(failed("the name server"))?;
        }
        let packages = setup.packages.then(|| {
            let kept = setup.base_images.join("packages");
            let packages = Packages::new(kept, block.gateway()).map_err(failed("packages for hosts"))?;
            switch
                .listener(block.gateway())
                .and_then(|listener| service::serve(("packages", packages.clone()), listener, stop.clone()))
                .map_err(failed("packages for hosts"))?;
            Ok(packages)
        });
        Ok(Self(Arc::new(Inner {
            block,
            _taken: taken,
            switch,
            cgroups,
            disks,
            volumes: VolumeDisks::of(setup.state),
            still: Mutex::default(),
            bases: Bases::new(setup.base_images.clone()),
            metadata,
            packages: packages.transpose()?,
            table: Mutex::default(),
            open: RwLock::new(true),
            off: Mutex::default(),
            news: Notify::new(),
            stop,
        })))
    }

    /// The addresses of these hosts.
    pub(crate) fn block(&self) -> Block {
        self.0.block
    }

    /// Where this machine asks the hosts' name server.
    pub(crate) fn name_server(&self) -> SocketAddr {
        (self.0.block.gateway(), DNS_PORT).into()
    }

    /// Makes the base images that are not there yet, and looks where their packages are had from, so that no create waits.
    ///
    /// # Errors
    /// When one can't be made.
    pub(crate) async fn prepare(&self, images: Vec<System>) -> Result<(), HostError> {
        self.aside(move |inner| {
            for system in &images {
                inner.bases.ensure(system).map_err(failed("a base image"))?;
                if let Some(packages) = &inner.packages {
                    packages
                        .list(&system.suite)
                        .map_err(failed("packages for hosts"))?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Runs work that blocks where that is no matter.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Inner>) -> Result<T, HostError> + Send + 'static,
    ) -> Result<T, HostError> {
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|error| Err(failed("a thread")(error)))
    }

    fn run(&self, machine: u64) -> Option<Arc<Run>> {
        self.0.table().runs.get(&machine).cloned()
    }
}

#[async_trait]
impl Hosts for SystemdHosts {
    fn check(&self, wanted: &Wanted<'_>) -> Result<(), HostError> {
        system_of(wanted.image)?;
        self.check_size(wanted.size)
    }

    fn check_size(&self, size: Size) -> Result<(), HostError> {
        Capacity::of_this_machine()
            .check(size)
            .map_err(HostError::Refused)
    }

    async fn create(&self, machine: &Machine, first_boot: &FirstBoot) -> Result<(), HostError> {
        let (id, first_boot) = (machine.id, first_boot.clone());
        let disk = NewDisk::of(machine);
        self.aside(move |inner| {
            let _open = inner.open()?;
            inner.disks.make(disk).map_err(of_disk)?;
            inner.tell(id, first_boot)?;
            inner.table().known.insert(id);
            Ok(())
        })
        .await
    }

    async fn adopt(&self, machine: &Machine) -> Result<(), HostError> {
        let id = machine.id;
        self.aside(move |inner| {
            let _open = inner.open()?;
            inner.told(id)?;
            inner.disks.adopt(id).map_err(of_disk)?;
            inner.table().known.insert(id);
            Ok(())
        })
        .await
    }

    async fn power_on(&self, boot: Boot) -> Result<(), HostError> {
        self.aside(move |inner| inner.boot(&boot)).await
    }

    async fn power_off(&self, machine: u64) -> Result<(), HostError> {
        let Some(run) = self.run(machine) else {
            return Ok(());
        };
        if run.is_gone() {
            return Ok(());
        }
        run.cut();
        self.aside(move |inner| {
            inner
                .cgroups
                .kill(Some(machine))
                .map_err(failed("the machine's processes"))?;
            Ok(())
        })
        .await?;
        match tokio::time::timeout(GONE_WITHIN, run.gone()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(HostError::StillThere(machine)),
        }
    }

    /// A host that does not obey stays on, as with the real one.
    async fn shutdown(&self, machine: u64, grace: Duration) -> Result<Power, HostError> {
        let Some(run) = self.run(machine) else {
            return Ok(Power::Off);
        };
        run.ask_to_power_off();
        match tokio::time::timeout(grace, run.gone()).await {
            Ok(()) => Ok(Power::Off),
            Err(_) => Ok(Power::On),
        }
    }

    /// The host stands still while its disk is copied.
    async fn snapshot(&self, machine: &Machine, snapshot: u64) -> Result<(), HostError> {
        let id = machine.id;
        self.aside(move |inner| {
            inner
                .while_still(Some(id), || inner.disks.snapshot(id, snapshot))?
                .map_err(failed("the snapshot"))
        })
        .await
    }

    async fn snapshot_remove(&self, snapshot: u64) -> Result<(), HostError> {
        self.aside(move |inner| {
            inner
                .disks
                .snapshot_remove(snapshot)
                .map_err(failed("the snapshot"))
        })
        .await
    }

    /// Processors and memory are given at the next boot.
    async fn resize(&self, machine: &Machine) -> Result<(), HostError> {
        let (id, gib) = (machine.id, machine.size.disk_gb);
        self.aside(move |inner| {
            let _open = inner.open()?;
            inner.disks.grow(id, gib).map_err(of_disk)
        })
        .await
    }

    fn can_rebuild(&self) -> bool {
        true
    }

    async fn rebuild(&self, machine: &Machine) -> Result<(), HostError> {
        let disk = NewDisk::of(machine);
        self.aside(move |inner| inner.disks.check(disk).map_err(of_disk))
            .await?;
        self.power_off(machine.id).await?;
        self.aside(move |inner| {
            let _open = inner.open()?;
            inner.disks.remake(disk).map_err(of_disk)
        })
        .await
    }

    async fn destroy(&self, machine: u64) -> Result<(), HostError> {
        // First, so that it is not powered on again while it ends.
        self.0.table().known.remove(&machine);
        let ended = self.power_off(machine).await;
        self.aside(move |inner| {
            inner.metadata.forget(machine);
            inner.table().runs.remove(&machine);
            inner.volumes.forget(machine);
            inner.disks.remove(machine).map_err(failed("the machine's disk"))
        })
        .await?;
        ended
    }

    async fn fail(&self, machine: u64, fault: HostFault) -> Result<(), HostError> {
        if fault == HostFault::PowerCut {
            return self.power_off(machine).await;
        }
        if self.run(machine).is_none_or(|run| run.is_gone()) {
            return Err(HostError::Refused("the droplet is off".to_owned()));
        }
        self.aside(move |inner| {
            let freeze = |frozen| {
                inner
                    .cgroups
                    .freeze(machine, frozen)
                    .map_err(failed("the control group"))
            };
            let reach = |reachable| {
                let set = inner.switch.set_reachable(machine, reachable);
                set.map_err(failed("the network"))
            };
            match fault {
                HostFault::PowerCut => Ok(()),
                HostFault::Freeze => freeze(true),
                HostFault::Partition => reach(false),
                HostFault::SlowDisk { bytes_per_sec } => inner.throttle(machine, Some(bytes_per_sec)),
                HostFault::Heal => freeze(false)
                    .and_then(|()| reach(true))
                    .and_then(|()| inner.throttle(machine, None)),
            }
        })
        .await
    }

    fn steer(&self, traffic: &Traffic) -> Result<(), HostError> {
        self.0.metadata.lead(&traffic.forwards);
        self.0.switch.steer(traffic).map_err(failed("the packet filter"))
    }

    fn view(&self, machine: u64) -> HostView {
        let run = self.run(machine);
        HostView {
            root: self.0.disks.root(machine),
            logs: self.0.disks.machine(machine).join("log"),
            processes: run.iter().map(|run| shown(run)).collect(),
        }
    }

    fn fill_in(&self, text: &str, machine: &Machine, network: &Network) -> String {
        text.replace("{port}", &PUBLIC_PORT.to_string())
            .replace("{ops_port}", &OPS_PORT.to_string())
            .replace("{ip}", &network.public.ip.to_string())
            .replace("{id}", &machine.id.to_string())
            .replace("{name}", &machine.name)
            .replace("{root}", &self.0.disks.root(machine.id).to_string_lossy())
    }

    async fn next_off(&self) -> u64 {
        loop {
            let news = self.0.news.notified();
            let next = self
                .0
                .off
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_first();
            match next {
                Some(machine) => return machine,
                None => news.await,
            }
        }
    }

    async fn close(&self) -> Result<(), HostError> {
        self.0.stop.cancel();
        self.aside(|inner| {
            *inner.open.write().unwrap_or_else(PoisonError::into_inner) = false;
            let claim = Claim {
                instance: String::new(),
                machines: inner.disks.machines().to_owned(),
            };
            sweep::remove(inner.block, &claim).map_err(failed("the network"))?;
            Ok(())
        })
        .await
    }
}

impl Inner {
    /// Bounds what a machine reads and writes, or no longer does.
    fn throttle(&self, machine: u64, bytes_per_sec: Option<u64>) -> Result<(), HostError> {
        let layers = self.disks.layers(machine).map_err(of_disk)?.unwrap_or_default();
        let devices = self.disks.devices(machine, &layers).map_err(of_disk)?;
        self.cgroups
            .throttle(machine, &devices, bytes_per_sec)
            .map_err(failed("the control group"))
    }

    /// A disk that was slow is so no more.
    fn lift(&self, machine: u64) -> Result<(), HostError> {
        let devices = self.disks.devices(machine, &Layers::default()).map_err(of_disk)?;
        let lifted = devices.own.map_or(Ok(()), |own| self.cgroups.lift(own));
        lifted.map_err(failed("the control group"))
    }

    fn tell(&self, id: u64, first_boot: FirstBoot) -> Result<(), HostError> {
        let told = Told {
            authorized_keys: first_boot.authorized_keys,
            user_data: first_boot.user_data,
            region: first_boot.region,
            tags: first_boot.tags,
        };
        let text = serde_json::to_vec(&told).map_err(failed("what the machine is told"))?;
        private_files::write(&self.told_file(id), text).map_err(failed("what the machine is told"))
    }

    fn told(&self, id: u64) -> Result<Told, HostError> {
        let text = std::fs::read(self.told_file(id)).map_err(failed("what the machine is told"))?;
        serde_json::from_slice(&text).map_err(failed("what the machine is told"))
    }

    fn told_file(&self, id: u64) -> PathBuf {
        self.disks.machine(id).join("first-boot.json")
    }

    fn open(&self) -> Result<RwLockReadGuard<'_, bool>, HostError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        if *open {
            Ok(open)
        } else {
            Err(HostError::Refused("the local cloud is ending".to_owned()))
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The system that an image is.
fn system_of(image: &Image) -> Result<&System, HostError> {
    image.system.as_ref().ok_or_else(|| {
        HostError::Refused(format!(
            "image `{}` has no [system] table in its manifest, which --hosts systemd needs",
            image.slug
        ))
    })
}

fn shown(run: &Run) -> ProcessView {
    ProcessView {
        name: "systemd".to_owned(),
        pid: run.pid(),
        ended: run.ended(),
    }
}

/// The first choice follows from the state's directory, so that addresses stay the same over restarts.
fn wanted_block(state: &StateDir) -> u8 {
    let mut hasher = DefaultHasher::new();
    state.path().hash(&mut hasher);
    u8::try_from(hasher.finish() % 256).unwrap_or_default()
}

/// The directory of a base image among those that are kept in `kept`, which is made first if it is not there.
///
/// # Errors
/// When it can't be made.
pub(crate) fn base_image(kept: PathBuf, system: &System) -> Result<PathBuf, HostError> {
    Bases::new(kept).ensure(system).map_err(failed("a base image"))
}

/// Whoever asks for what is no longer there is told so.
fn of_disk(error: DiskError) -> HostError {
    match error {
        DiskError::NoSnapshot(_) | DiskError::NoLayer(_) => HostError::Refused(error.to_string()),
        other => failed("the machine's disk")(other),
    }
}

fn failed<E: Into<Box<dyn Error + Send + Sync>>>(what: &'static str) -> impl FnOnce(E) -> HostError {
    move |source| HostError::System {
        what,
        source: source.into(),
    }
}
