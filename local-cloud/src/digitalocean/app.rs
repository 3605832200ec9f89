//! The local cloud as one thing: its state, the processes behind it, the balancers before it. Every change goes through
//! [`App::change`], which writes the state and updates the balancers.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use tidepool_listener::TrustedHosts;

use super::limits::RateLimits;
use super::records::droplet::{Droplet, Status};
use super::records::{ActionState, Cloud};
use crate::balancer::Balancers;
use crate::balancer::member::Target;
use crate::hosts::sweep::StateDir;
use crate::hosts::{Boot, Hosts};
use crate::machines::addresses::{Addresses, OPS_PORT, PUBLIC_PORT};
use crate::machines::faults::Faults;
use crate::manifests::{Images, Program};
use crate::problems::Problems;
use crate::store;

/// What a user may set of a running cloud.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) images: PathBuf,
    pub(crate) droplet_limit: u64,
    /// The only token that is accepted; without one, any is.
    pub(crate) token: Option<String>,
    /// The hosts that are served while there is no such token.
    pub(crate) trusted: TrustedHosts,
    /// How long a shutdown may take before the power is cut.
    pub(crate) stop_grace: Duration,
}

/// One running local cloud.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) settings: Settings,
    pub(crate) addresses: Addresses,
    pub(crate) state: StateDir,
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) balancers: Balancers,
    pub(crate) faults: Faults,
    pub(crate) limits: RateLimits,
    /// Asks droplets whether they are ready.
    pub(crate) probe: reqwest::Client,
    cloud: Mutex<Cloud>,
}

/// What an app is put together from.
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) addresses: Addresses,
    pub(crate) state: StateDir,
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) balancers: Balancers,
    pub(crate) limits: RateLimits,
    pub(crate) probe: reqwest::Client,
    pub(crate) cloud: Cloud,
}

impl App {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            settings: parts.settings,
            addresses: parts.addresses,
            state: parts.state,
            hosts: parts.hosts,
            balancers: parts.balancers,
            faults: Faults::default(),
            limits: parts.limits,
            probe: parts.probe,
            cloud: Mutex::new(parts.cloud),
        }
    }

    /// The time, as the API writes it.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the source of the whole program"
    )]
    pub(crate) fn now(&self) -> String {
        Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// Looks at the state.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Cloud) -> T) -> T {
        look(&self.cloud())
    }

    /// Changes the state; it is on disk and the balancers know it when this returns.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Cloud) -> T) -> T {
        let mut cloud = self.cloud();
        let result = change(&mut cloud);
        self.after_change(&cloud);
        result
    }

    /// The images' directory as it is now.
    ///
    /// # Errors
    /// Every problem of every manifest.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the source of the whole program"
    )]
    pub(crate) fn images(&self) -> Result<Images, Problems> {
        Images::load(&self.settings.images, &|name| std::env::var(name).ok())
    }

    /// Powers a droplet on, with the boot time of its image or `boot_secs`.
    pub(crate) fn boot(&self, images: &Images, droplet: &Droplet, boot_secs: Option<f64>) {
        let Some(image) = images.get(&droplet.base_slug) else {
            tracing::error!(
                droplet = droplet.id,
                image = droplet.base_slug,
                "can't boot: its image is gone"
            );
            return;
        };
        let after = Duration::try_from_secs_f64(boot_secs.unwrap_or(image.boot_secs)).unwrap_or_default();
        let programs = image
            .processes
            .iter()
            .map(|program| self.substituted(program, droplet))
            .collect();
        // Under the cloud's lock: a droplet that is being destroyed is either gone already, and doesn't start, or its
        // destruction finds what starts here.
        self.read(|cloud| {
            if cloud.droplets.contains_key(&droplet.id) {
                self.hosts.power_on(Boot {
                    droplet: droplet.id,
                    after,
                    programs,
                });
            }
        });
    }

    /// The text with `{root}`, `{ip}`, `{name}`, `{id}`, `{port}` and `{ops_port}` filled in.
    pub(crate) fn substitute(&self, text: &str, droplet: &Droplet) -> String {
        let endpoint = |port| self.addresses.droplet_endpoint(droplet.slot, port);
        let root = self.state.droplet_root(droplet.id);
        text.replace(
            &format!("{{ip}}:{PUBLIC_PORT}"),
            &endpoint(PUBLIC_PORT).to_string(),
        )
        .replace(&format!("{{ip}}:{OPS_PORT}"), &endpoint(OPS_PORT).to_string())
        .replace("{port}", &endpoint(PUBLIC_PORT).port().to_string())
        .replace("{ops_port}", &endpoint(OPS_PORT).port().to_string())
        .replace("{ip}", &self.addresses.droplet_ip(droplet.slot).to_string())
        .replace("{id}", &droplet.id.to_string())
        .replace("{name}", &droplet.name)
        .replace("{root}", &root.to_string_lossy())
    }

    /// Notes the new power state of a droplet and ends the action that brought it.
    pub(crate) fn action_done(&self, action: u64, droplet: u64, status: Option<Status>) {
        let now = self.now();
        self.change(|cloud| {
            if let Some(found) = cloud.droplets.get_mut(&droplet) {
                found.locked = false;
                found.status = status.unwrap_or(found.status);
            }
            cloud.action_end(action, ActionState::Completed, &now);
        });
    }

    /// Takes droplets out of the state, then ends their processes and removes their directories.
    pub(crate) async fn destroy(&self, ids: Vec<u64>) {
        self.change(|cloud| {
            for id in &ids {
                cloud.droplets.remove(id);
                for balancer in cloud.balancers.values_mut() {
                    balancer.droplet_ids.retain(|other| other != id);
                }
            }
        });
        for id in ids {
            self.hosts.power_off(id).await;
            let dir = self.state.droplet(id);
            match std::fs::remove_dir_all(&dir) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(path = %dir.display(), %error, "could not remove a droplet's directory")
                }
            }
        }
    }

    fn substituted(&self, program: &Program, droplet: &Droplet) -> Program {
        Program {
            name: program.name.clone(),
            program: program.program.clone(),
            args: program
                .args
                .iter()
                .map(|arg| self.substitute(arg, droplet))
                .collect(),
            env: program
                .env
                .iter()
                .map(|(key, text)| (key.clone(), self.substitute(text, droplet)))
                .collect(),
        }
    }

    fn cloud(&self) -> MutexGuard<'_, Cloud> {
        self.cloud.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn after_change(&self, cloud: &Cloud) {
        if let Err(error) = store::save(&self.state.cloud_file(), cloud) {
            tracing::error!(%error, "the state could not be written: a restart would forget the last change");
        }
        for balancer in cloud.balancers.values() {
            let targets = cloud.behind(balancer).map(|droplet| Target {
                machine: droplet.id,
                ip: self.addresses.droplet_ip(droplet.slot),
                endpoints: [PUBLIC_PORT, OPS_PORT]
                    .map(|port| (port, self.addresses.droplet_endpoint(droplet.slot, port))),
            });
            self.balancers.set_members(&balancer.id, targets.collect());
        }
    }
}
