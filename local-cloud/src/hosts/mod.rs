//! Where machines run. [`Hosts`] is the port behind which each kind of host stands: `process` makes a machine of child
//! processes. A host is told what its machine is, and knows nothing of a cloud's API.

pub(crate) mod guard;
pub(crate) mod process;
pub(crate) mod systemd;
pub(crate) mod volumes;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use self::volumes::Volumes;
use crate::machines::addresses::Network;
use crate::machines::traffic::Traffic;
use crate::machines::{Machine, Power, Size};
use crate::manifests::Image;
use crate::state::dir::{DirError, StateDir};

/// A kind of host. Every call names a machine; calls about different machines don't wait for each other.
#[async_trait]
pub(crate) trait Hosts: Volumes + fmt::Debug + Send + Sync {
    /// Looks whether there could be such a machine; changes nothing.
    ///
    /// # Errors
    /// [`HostError::Refused`], with the reason for the user.
    fn check(&self, wanted: &Wanted<'_>) -> Result<(), HostError>;

    /// Looks whether a machine could have that size. A kind of host for which it is a label has room for any.
    ///
    /// # Errors
    /// [`HostError::Refused`], with the reason for the user.
    fn check_size(&self, _size: Size) -> Result<(), HostError> {
        Ok(())
    }

    /// Makes a machine's host, powered off: its disk, and on it what it is told at its first boot. May take long, and
    /// leaves something behind when it fails in the middle: the caller destroys it then.
    ///
    /// # Errors
    /// When it can't be made.
    async fn create(&self, machine: &Machine, first_boot: &FirstBoot) -> Result<(), HostError>;

    /// Takes over the host of an earlier run, powered off and with its disk as it was.
    ///
    /// # Errors
    /// When what belongs to it can't be had.
    async fn adopt(&self, machine: &Machine) -> Result<(), HostError>;

    /// Powers on, and returns as soon as the boot begins. A host that is on stays as it is, and one that was destroyed
    /// meanwhile is not made again.
    ///
    /// # Errors
    /// When it can't be started.
    async fn power_on(&self, boot: Boot) -> Result<(), HostError>;

    /// Cuts the power at once. Returns when nothing of the machine runs.
    ///
    /// # Errors
    /// When something does not end.
    async fn power_off(&self, machine: u64) -> Result<(), HostError>;

    /// Asks the machine to shut down, and waits `grace` at most. The power that it has then: a kind of host that leaves a
    /// machine on which does not obey says so.
    ///
    /// # Errors
    /// When something does not end.
    async fn shutdown(&self, machine: u64, grace: Duration) -> Result<Power, HostError>;

    /// Shuts down and boots again; a machine that does not shut down in time is powered off.
    ///
    /// # Errors
    /// As those of its parts.
    async fn reboot(&self, boot: Boot, grace: Duration) -> Result<(), HostError> {
        if self.shutdown(boot.machine.id, grace).await? != Power::Off {
            self.power_off(boot.machine.id).await?;
        }
        self.power_on(boot).await
    }

    /// Cuts the power and boots again.
    ///
    /// # Errors
    /// As those of its parts.
    async fn power_cycle(&self, boot: Boot) -> Result<(), HostError> {
        self.power_off(boot.machine.id).await?;
        self.power_on(boot).await
    }

    /// Keeps what the machine's disk holds now as the image of that id. What a kind of host has no disk for is kept as
    /// nothing: machines from such a snapshot begin as those of the image.
    ///
    /// # Errors
    /// When it can't be kept; nothing is left then.
    async fn snapshot(&self, machine: &Machine, snapshot: u64) -> Result<(), HostError>;

    /// Forgets an image that a snapshot kept.
    ///
    /// # Errors
    /// When it can't be removed.
    async fn snapshot_remove(&self, snapshot: u64) -> Result<(), HostError>;

    /// Gives a machine that is off its new size.
    ///
    /// # Errors
    /// When it can't have it.
    async fn resize(&self, machine: &Machine) -> Result<(), HostError>;

    /// Whether this kind of host can begin anew from another image.
    fn can_rebuild(&self) -> bool {
        false
    }

    /// Cuts the power and gives the machine an empty disk on the image that it has now. What it was told at its first boot stays.
    ///
    /// # Errors
    /// When the image is not there, and nothing is changed; or when the disk fails.
    async fn rebuild(&self, _machine: &Machine) -> Result<(), HostError> {
        Err(HostError::Refused(
            "this kind of host can't be rebuilt".to_owned(),
        ))
    }

    /// Cuts the power and removes everything of the machine; one that is not there is no mistake.
    ///
    /// # Errors
    /// When something is left.
    async fn destroy(&self, machine: u64) -> Result<(), HostError>;

    /// Makes something go wrong.
    ///
    /// # Errors
    /// When this kind of host does not have that fault.
    async fn fail(&self, machine: u64, fault: HostFault) -> Result<(), HostError>;

    /// From now on this alone may begin between machines and others, and these addresses lead to them; the whole of it, each time.
    /// It holds for machines that are off, too, before they boot. A kind of host without networks of its own has nothing to hold
    /// it with, and does nothing.
    ///
    /// # Errors
    /// When it can't be held; what was so before may still be.
    fn steer(&self, _traffic: &Traffic) -> Result<(), HostError> {
        Ok(())
    }

    /// What runs of a machine now, and where what it writes can be read.
    fn view(&self, machine: u64) -> HostView;

    /// The text with what this kind of host fills into manifests: `{root}`, `{ip}`, `{name}`, `{id}`, `{port}`, `{ops_port}`.
    fn fill_in(&self, text: &str, machine: &Machine, network: &Network) -> String;

    /// Waits for the next machine that is off, by whatever way: nobody may have asked for it. A kind of host whose machines
    /// never go off by themselves waits for ever.
    async fn next_off(&self) -> u64 {
        std::future::pending().await
    }

    /// Gives back what all machines share, once all of them are off.
    ///
    /// # Errors
    /// When something of it is left.
    async fn close(&self) -> Result<(), HostError> {
        Ok(())
    }
}

/// A machine that somebody wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) image: &'a Image,
    pub(crate) size: Size,
    pub(crate) first_boot: &'a FirstBoot,
}

/// What a machine is told at its first boot.
#[derive(Debug, Clone, Default)]
pub(crate) struct FirstBoot {
    /// Public keys that may log in as root, one a line.
    pub(crate) authorized_keys: String,
    pub(crate) user_data: String,
    /// Where its cloud says that it is.
    pub(crate) region: String,
    pub(crate) tags: Vec<String>,
}

/// What is needed to power a machine on.
#[derive(Debug, Clone)]
pub(crate) struct Boot {
    pub(crate) machine: Machine,
    pub(crate) network: Network,
    pub(crate) image: Image,
    /// Simulated boot.
    pub(crate) after: Duration,
    /// It never comes to the machine's programs.
    pub(crate) hangs: bool,
}

/// Something that goes wrong with one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostFault {
    PowerCut,
    /// Every process stands still, and keeps its connections.
    Freeze,
    /// Nothing reaches it, and it reaches nothing.
    Partition,
    /// What it reads and writes takes long.
    SlowDisk {
        bytes_per_sec: u64,
    },
    /// The end of all of these but the power cut.
    Heal,
}

/// What runs of a machine.
#[derive(Debug, Clone)]
pub(crate) struct HostView {
    /// Its file system.
    pub(crate) root: PathBuf,
    /// What it has written to its console.
    pub(crate) logs: PathBuf,
    pub(crate) processes: Vec<ProcessView>,
}

/// One process of a machine.
#[derive(Debug, Clone)]
pub(crate) struct ProcessView {
    pub(crate) name: String,
    pub(crate) pid: Option<i32>,
    /// How it ended, or why it could not start.
    pub(crate) ended: Option<String>,
}

/// Why something could not be done with a host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    /// It is wrong to ask for it; the text is for the user.
    #[error("{0}")]
    Refused(String),
    /// The disk failed.
    #[error("{what}: {source}")]
    Disk {
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// The system refused.
    #[error("{what}: {source}")]
    System {
        what: &'static str,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something of the machine still runs.
    #[error("something of machine {0} does not end")]
    StillThere(u64),
}

/// Why leftovers can't be swept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SweepError {
    #[error(transparent)]
    Dir(#[from] DirError),
    /// Something would not end.
    #[error("{0} processes did not end within 5 s")]
    StillThere(usize),
    /// Something of a systemd host is left.
    #[error("what is left of systemd hosts can't be removed: {0}")]
    Systemd(Box<dyn std::error::Error + Send + Sync>),
}

/// Ends whatever an earlier run left behind, of each kind of host; says how many processes there were. The caller holds the
/// lock.
///
/// # Errors
/// When the disk fails or something does not end.
pub(crate) fn sweep(state: &StateDir) -> Result<usize, SweepError> {
    let processes = process::sweep::sweep(state)?;
    let systems = systemd::sweep::sweep(&state.instance()?).map_err(SweepError::Systemd)?;
    Ok(processes + systems)
}

/// As [`sweep`], when the directory is gone and only the mark of its processes is known.
///
/// # Errors
/// When something does not end.
pub(crate) fn sweep_marked(instance: &str) -> Result<usize, SweepError> {
    let processes = process::sweep::end_all(instance, &[])?;
    let systems = systemd::sweep::sweep(instance).map_err(SweepError::Systemd)?;
    Ok(processes + systems)
}
