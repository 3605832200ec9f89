//! The boot of a host: what is put together before it, and taken apart when it is off.

use std::error::Error;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use super::console::Console;
use super::container::{self, Bound, Container, Run, Surroundings};
use super::disk::Layers;
use super::metadata::Facts;
use super::network::Connection;
use super::requirements;
use super::{Inner, Table, failed, of_disk, system_of};
use crate::hosts::{Boot, HostError};
use crate::manifests::Image;
use crate::private_files;

/// The first program of a host is made executable for it.
const INIT_MODE: u32 = 0o755;

impl Inner {
    /// Boots a machine that is known and off.
    pub(super) fn boot(self: &Arc<Self>, boot: &Boot) -> Result<(), HostError> {
        let id = boot.machine.id;
        // Before the lock: a base image that has to be made first takes minutes.
        let layers = self.layers(id, &boot.image)?;
        let told = self.told(id)?;
        let sources = self.sources(&boot.image)?;
        let _open = self.open()?;
        let mut table = self.table();
        if !table.known.contains(&id) || table.runs.get(&id).is_some_and(|run| !run.is_gone()) {
            return Ok(());
        }
        let Some(private) = boot.machine.private.clone() else {
            return Err(HostError::Refused(
                "the machine is in no private network".to_owned(),
            ));
        };
        let dir = self.disks.machine(id);
        let init = dir.join("init");
        let first_program = if boot.hangs {
            container::HANGING_INIT.to_owned()
        } else {
            container::init(sources.as_deref())
        };
        write_init(&init, &first_program).map_err(failed("the machine's first program"))?;
        let log = dir.join("log");
        private_files::create_dir_all(&log).map_err(failed("the machine's log"))?;
        let console = Console::open(&log.join("console.log")).map_err(failed("the machine's log"))?;
        let groups = self
            .cgroups
            .make(id, boot.machine.size)
            .map_err(failed("the control groups"))?;
        self.disks.mount(id, &layers).map_err(of_disk)?;
        self.metadata.tell(Facts {
            id,
            name: boot.machine.name.clone(),
            region: told.region,
            tags: told.tags,
            public_keys: told.authorized_keys.lines().map(str::to_owned).collect(),
            user_data: told.user_data,
            public: boot.machine.public.then_some(boot.network.public),
            private: boot.network.private,
        });
        let container = Container {
            machine: id,
            name: self.block.host_name(id),
            hostname: boot.machine.name.clone(),
            root: self.disks.root(id),
            init,
            console,
            groups,
            after: boot.after,
        };
        let around = Around {
            inner: Arc::clone(self),
            connection: Connection {
                machine: id,
                public: boot.machine.public.then_some(boot.network.public.ip),
                known_as: boot.network.public.ip,
                private,
            },
        };
        let run = Run::start(container, around).map_err(failed("a thread"))?;
        table.runs.insert(id, run);
        warn_of_too_many(&table);
        Ok(())
    }

    /// What apt in a host of that image reads, if there is anything to install.
    fn sources(&self, image: &Image) -> Result<Option<String>, HostError> {
        let Some(packages) = &self.packages else {
            return Ok(None);
        };
        let suite = &system_of(image)?.suite;
        packages
            .list(suite)
            .map(Some)
            .map_err(failed("packages for the machine"))
    }

    /// What a machine's disk stands on, noted at its first boot.
    fn layers(&self, id: u64, image: &Image) -> Result<Layers, HostError> {
        if let Some(layers) = self.disks.layers(id).map_err(failed("the machine's disk"))? {
            return Ok(layers);
        }
        let base = self
            .bases
            .ensure(system_of(image)?)
            .map_err(failed("the base image"))?;
        let layers = Layers(vec![base]);
        self.disks
            .set_layers(id, &layers)
            .map_err(failed("the machine's disk"))?;
        Ok(layers)
    }
}

/// What a host's thread does around its boots.
struct Around {
    inner: Arc<Inner>,
    connection: Connection,
}

impl Surroundings for Around {
    fn before_boot(&self) -> Result<Vec<Bound>, String> {
        let machine = self.connection.machine;
        if container::needs_one_hierarchy(&self.inner.disks.root(machine))
            && !self.inner.cgroups.has_one_for_all()
        {
            return Err(
                "its systemd boots with control groups of version 2 alone, which this machine has not                  mounted: mkdir /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified"
                    .to_owned(),
            );
        }
        // Nothing of the last boot may be in the way of the next.
        self.inner
            .cgroups
            .kill(Some(machine))
            .map_err(|error| error.to_string())?;
        self.inner
            .switch
            .connect(&self.connection)
            .map_err(|error| error.to_string())?;
        self.inner
            .volumes
            .bound(machine)
            .map_err(|error| error.to_string())
    }

    fn after_off(&self) {
        let (inner, machine) = (&self.inner, self.connection.machine);
        let log = |what: &str, error: &dyn Error| tracing::error!(machine, %error, "{what} of a host that is off: left");
        if let Err(error) = inner.cgroups.kill(Some(machine)) {
            log("a process", &error);
        }
        if let Err(error) = inner.switch.disconnect(machine) {
            log("the network", &error);
        }
        if let Err(error) = inner.lift(machine) {
            log("a slow disk", &error);
        }
        if let Err(error) = inner.cgroups.remove(Some(machine)) {
            log("a control group", &error);
        }
        container::forget(&inner.block.host_name(machine), &inner.disks.root(machine));
        if let Err(error) = inner.disks.unmount(machine) {
            log("the disk", &error);
        }
        if let Err(error) = inner.volumes.off(machine) {
            log("a volume's device", &error);
        }
    }

    fn tell_off(&self) {
        let (inner, machine) = (&self.inner, self.connection.machine);
        inner
            .off
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(machine);
        inner.news.notify_one();
    }
}

fn warn_of_too_many(table: &Table) {
    let on = table.runs.values().filter(|run| !run.is_gone()).count();
    if let Some(reason) = requirements::too_many(on) {
        tracing::warn!("{reason}");
    }
}

fn write_init(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(INIT_MODE))
}
