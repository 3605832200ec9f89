//! `serve`: puts the parts together, runs until a signal, and cleans up.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_util::future::join_all;
use tidepool_listener::{EndpointService, ServiceManager, TrustedHosts};
use tidepool_logging::Secret;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::balancer::{self, Balancers};
use crate::certificates::Certificates;
use crate::descriptors;
use crate::digitalocean::app::{App, Parts, Settings};
use crate::digitalocean::attachments::attached;
use crate::digitalocean::limits::{RateLimits, Rates};
use crate::digitalocean::records::volume::Volume;
use crate::digitalocean::records::{Cloud, earlier};
use crate::digitalocean::{Api, early};
use crate::dns::{Server, Sockets, Zones};
use crate::fleet::Fleet;
use crate::hosts::guard::Guard;
use crate::hosts::process::ProcessHosts;
use crate::hosts::systemd::{Setup, SystemdHosts};
use crate::hosts::{Hosts, sweep};
use crate::http_server;
use crate::machines::addresses::{AddressKind, Addresses};
use crate::machines::faults::{BootFault, Faults};
use crate::machines::{Machine, Power};
use crate::manifests::{Images, Manifests};
use crate::private_files;
use crate::state::dir::{HeldFor, StateDir};
use crate::state::file;

/// How long calls under way may take after a signal.
const CALLS_END_WITHIN: Duration = Duration::from_secs(5);

/// What `serve` was asked for.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) listen: SocketAddr,
    pub(crate) images: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) fresh: bool,
    pub(crate) hosts: HostsPlan,
    pub(crate) token: Option<Secret>,
    pub(crate) trusted: TrustedHosts,
    pub(crate) droplet_limit: u64,
    pub(crate) rate_limit_per_hour: u64,
    pub(crate) rate_limit_per_minute: u64,
    pub(crate) lb_retry: bool,
    pub(crate) stop_grace_secs: u64,
}

/// What machines are.
#[derive(Debug, Clone)]
pub(crate) enum HostsPlan {
    Process(AddressKind),
    Systemd { base_images: PathBuf, packages: bool },
}

/// Serves until SIGINT, SIGTERM or SIGHUP.
pub(crate) async fn run(plan: Plan) -> anyhow::Result<()> {
    let images = Manifests::new(plan.images.clone()).read().await?;
    private_files::create_dir_all(&plan.state)
        .with_context(|| format!("state directory {}", plan.state.display()))?;
    // Absolute, and without links: processes know it by this name, whatever directory they are in.
    let state = StateDir::new(&plan.state.canonicalize()?);
    let _lock = state.lock(HeldFor::Serving)?;
    let instance = state.instance()?;
    let swept = sweep(&state)?;
    if swept > 0 {
        tracing::warn!(processes = swept, "ended what an earlier run left behind");
    }
    let cloud = load(&state, plan.fresh)?;
    let known = cloud.records.certificates.keys().map(String::as_str).collect();
    let certificates =
        Certificates::open(state.path(), &known).context("the directory of the certificates")?;
    let mut stop = Stop::new()?;
    let listener =
        std::net::TcpListener::bind(plan.listen).with_context(|| format!("listen on {}", plan.listen))?;
    listener.set_nonblocking(true)?;
    let guard = Guard::start(&state).context("start the guard process")?;
    let division = descriptors::divide(plan.droplet_limit).context("the limit of open files")?;
    let faults = Arc::new(Faults::default());
    let (zones, calls) = (Zones::default(), CancellationToken::new());
    let names = Server::new(zones.clone(), calls.child_token());
    let started = start_hosts(&plan.hosts, (&state, instance), (&images, &faults), &names).await?;
    let Started {
        hosts,
        addresses,
        name_server,
    } = started;
    let fleet = Arc::new(Fleet {
        hosts,
        addresses,
        manifests: Manifests::new(plan.images.canonicalize()?),
        faults,
        stop_grace: Duration::from_secs(plan.stop_grace_secs),
    });
    let app = Arc::new(App::new(Parts {
        settings: Settings {
            droplet_limit: plan.droplet_limit,
            token: plan.token.clone(),
            trusted: plan.trusted.clone(),
            name_server,
        },
        fleet,
        state,
        balancers: Arc::new(Balancers::new(balancer::Settings {
            retry: plan.lb_retry,
            connections_max: division.balancers,
        })),
        certificates: Arc::new(certificates),
        limits: RateLimits::new(Rates {
            per_hour: plan.rate_limit_per_hour,
            per_minute: plan.rate_limit_per_minute,
        }),
        probe: reqwest::Client::builder().no_proxy().build()?,
        cloud,
        zones,
    })?);
    resume(&app).await?;
    let address = listener.local_addr()?;
    let settings = http_server::Settings {
        name: "api",
        limits: division.api,
        answers_end_within: CALLS_END_WITHIN,
    };
    let service = EndpointService::new(Api(Arc::clone(&app)), early);
    let server = http_server::serve(settings, listener, service, calls.clone())?;
    tracing::info!(addresses = app.fleet.addresses.describe(), state = %app.state.path().display(), "serving");
    let (ip, port) = (name_server.ip(), name_server.port());
    tracing::info!("domains are answered: dig @{ip} -p {port} NAME");
    announce(address);
    ServiceManager::of_process().ready();
    let watch = tokio::spawn(note_off(Arc::clone(&app)));
    stop.asked().await;
    watch.abort();
    tracing::info!("stopping; once more to cut the power of all droplets at once");
    calls.cancel();
    let served = server.await;
    tokio::select! {
        () = shut_down(&app, app.fleet.stop_grace) => {}
        () = stop.asked() => {}
    }
    // Whatever the shutdown did not reach, a droplet created by the last call for instance.
    cut_power(&app).await;
    app.balancers.clear();
    app.fleet.hosts.close().await?;
    guard.release().await;
    served.context("the API's listener failed")
}

/// For scripts: the one line on standard output, once calls are taken. In a thread of its own, and no failure: droplets run,
/// whether somebody reads it or not.
fn announce(address: SocketAddr) {
    std::thread::spawn(move || {
        if let Err(error) = tidepool_logging::print(&format!("listening on http://{address}\n")) {
            tracing::warn!(%error, "standard output can't be written");
        }
    });
}

fn load(state: &StateDir, fresh: bool) -> anyhow::Result<Cloud> {
    if fresh {
        for path in [
            state.file(),
            state.hosts(),
            state.path().join("snapshots"),
            state.volumes(),
            state.volume_snapshots(),
        ] {
            let removed = if path.is_dir() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            if let Err(error) = removed
                && error.kind() != std::io::ErrorKind::NotFound
            {
                return Err(error).with_context(|| format!("remove {}", path.display()));
            }
        }
    }
    Ok(file::load(&state.file(), earlier::machines)?)
}

/// The machine rebooted: balancers run again, and droplets that were on boot again, with their directories.
async fn resume(app: &App) -> anyhow::Result<()> {
    let now = app.now();
    let balancers = app.read(|cloud| cloud.records.balancers.values().cloned().collect::<Vec<_>>());
    for balancer in balancers {
        let ip = app.fleet.addresses.balancer_ip(balancer.slot);
        app.balancers
            .apply(&balancer.spec(ip, &app.certificates))
            .with_context(|| format!("load balancer {}", balancer.name))?;
    }
    let settled = app.change(|cloud| {
        cloud.settle(&now);
        Ok(cloud.machines.iter().cloned().collect())
    });
    let machines: Vec<Machine> = settled.await.map_err(|error| anyhow!(error.message))?;
    let images = app.fleet.manifests.read().await?;
    let on = |machine: &&Machine| machine.power == Power::On;
    let booting = machines.iter().filter(on).count();
    if booting > 0 {
        tracing::info!(droplets = booting, "booting the droplets of the earlier run");
    }
    let volumes: Vec<Volume> = app.read(|cloud| cloud.records.volumes.values().cloned().collect());
    keep_volumes(app, &volumes).await?;
    for machine in &machines {
        let hosts = &app.fleet.hosts;
        let adopted = hosts.adopt(machine).await;
        adopted.with_context(|| format!("directory of droplet {}", machine.id))?;
        for volume in volumes.iter().filter(|volume| volume.droplet == Some(machine.id)) {
            let attached = hosts.volume_attach(machine.id, &attached(volume)).await;
            attached.with_context(|| format!("volume {} of droplet {}", volume.name, machine.id))?;
        }
        if on(&machine)
            && let Some(boot) = app.fleet.boot_of(&images, machine, BootFault::default())
        {
            hosts.power_on(boot).await?;
        }
    }
    Ok(())
}

/// Removes disks of volumes that a run which was killed had just made, or had not yet removed.
async fn keep_volumes(app: &App, volumes: &[Volume]) -> anyhow::Result<()> {
    let volumes: Vec<String> = volumes.iter().map(|volume| volume.id.clone()).collect();
    let snapshots = app.read(|cloud| cloud.records.volume_snapshots.keys().cloned().collect::<Vec<_>>());
    let kept = app.fleet.hosts.volumes_retain(&volumes, &snapshots).await;
    kept.context("the disks of volumes")
}

/// Hosts that are started, and how they are reached.
struct Started {
    hosts: Arc<dyn Hosts>,
    addresses: Addresses,
    name_server: SocketAddr,
}

/// Starts that kind of hosts, with the addresses that they have, and the name server where they find it.
async fn start_hosts(
    plan: &HostsPlan,
    (state, instance): (&StateDir, String),
    (images, faults): (&Images, &Arc<Faults>),
    names: &Server,
) -> anyhow::Result<Started> {
    match plan {
        HostsPlan::Process(kind) => {
            let addresses = Addresses::claim(*kind, state.path())?;
            let name_server = serve_names(names, &addresses.name_servers()).context("the name server")?;
            let hosts = ProcessHosts::start(state, instance).context("the directory of the droplets")?;
            Ok(Started {
                hosts: Arc::new(hosts),
                addresses,
                name_server,
            })
        }
        HostsPlan::Systemd {
            base_images,
            packages,
        } => {
            let hosts = SystemdHosts::start(&Setup {
                state,
                instance: &instance,
                base_images: base_images.clone(),
                packages: *packages,
                faults: Arc::clone(faults),
                names: names.clone(),
            })?;
            let systems = images.iter().filter_map(|image| image.system.clone());
            let systems = systems.filter(|system| system.at_start).collect();
            if let Err(error) = hosts.prepare(systems).await {
                hosts.close().await?;
                return Err(error.into());
            }
            Ok(Started {
                addresses: Addresses::of_block(hosts.block()),
                name_server: hosts.name_server(),
                hosts: Arc::new(hosts),
            })
        }
    }
}

/// Answers at the first of these addresses that can be had.
fn serve_names(names: &Server, candidates: &[SocketAddr]) -> anyhow::Result<SocketAddr> {
    let mut last = anyhow!("there is no address for it");
    for candidate in candidates {
        match Sockets::bind(*candidate) {
            Ok(sockets) => {
                let address = sockets.address()?;
                names.serve(sockets)?;
                return Ok(address);
            }
            Err(error) => last = anyhow::Error::new(error).context(format!("listen on {candidate}")),
        }
    }
    Err(last)
}

/// Notes machines that went off without having been asked to.
async fn note_off(app: Arc<App>) {
    loop {
        let id = app.fleet.hosts.next_off().await;
        let view = app.fleet.hosts.view(id);
        // It has been powered on again since.
        if view.processes.iter().any(|process| process.ended.is_none()) {
            continue;
        }
        let noted = app
            .change(|cloud| {
                // While an action is under way, that one notes what comes of it.
                let locked = cloud
                    .records
                    .droplets
                    .get(&id)
                    .is_none_or(|droplet| droplet.locked);
                if let Some(machine) = cloud.machines.get_mut(id).filter(|_| !locked) {
                    machine.power = Power::Off;
                }
                Ok(())
            })
            .await;
        if let Err(error) = noted {
            tracing::error!(
                machine = id,
                reason = error.message,
                "that it is off is not noted"
            );
        }
    }
}

/// Cuts the power of all droplets.
async fn cut_power(app: &App) {
    let ids: Vec<u64> = app.read(|cloud| cloud.machines.iter().map(|machine| machine.id).collect());
    let hosts = &app.fleet.hosts;
    join_all(ids.into_iter().map(|id| async move {
        if let Err(error) = hosts.power_off(id).await {
            tracing::error!(machine = id, %error, "could not be powered off");
        }
    }))
    .await;
}

/// Ends the processes of all droplets; their records stay as they are.
async fn shut_down(app: &Arc<App>, grace: Duration) {
    let ids: Vec<u64> = app.read(|cloud| cloud.machines.iter().map(|machine| machine.id).collect());
    let hosts = &app.fleet.hosts;
    join_all(ids.into_iter().map(|id| async move {
        if let Err(error) = hosts.shutdown(id, grace).await {
            tracing::error!(machine = id, %error, "could not be shut down");
        }
    }))
    .await;
}

/// SIGINT, SIGTERM, and SIGHUP, which is a closed terminal.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: if hangup_is_ignored() {
                None
            } else {
                Some(signal(SignalKind::hangup())?)
            },
        })
    }

    async fn asked(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hangup => {}
        }
    }
}

/// Whether whoever started this process has it ignore SIGHUP, as `nohup` does. The kernel shows it as a mask (Linux).
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // SIGHUP is number 1, so the lowest bit.
    mask.is_some_and(|mask| mask & 1 == 1)
}
