//! Volumes: disks that outlive the machines that they are attached to.

use async_trait::async_trait;

use super::HostError;

/// What a kind of host does with volumes. One that can't have disks has none of them: a volume is its record then.
#[async_trait]
pub(crate) trait Volumes {
    /// Looks whether there could be such a volume; changes nothing.
    ///
    /// # Errors
    /// [`HostError::Refused`], with the reason for the user.
    fn volume_check(&self, _wanted: &NewVolume) -> Result<(), HostError> {
        Ok(())
    }

    /// Makes a volume's disk.
    ///
    /// # Errors
    /// When it can't be made; nothing is left then.
    async fn volume_make(&self, _wanted: &NewVolume) -> Result<(), HostError> {
        Ok(())
    }

    /// Removes the disk of a volume that is attached to no machine; one that is not there is no mistake.
    ///
    /// # Errors
    /// When something is left.
    async fn volume_remove(&self, _volume: &str) -> Result<(), HostError> {
        Ok(())
    }

    /// Makes a volume's disk larger, attached or not; what is on it stays as it is.
    ///
    /// # Errors
    /// When it can't be; it stays as it was then.
    async fn volume_grow(&self, _volume: &str, _gib: u64) -> Result<(), HostError> {
        Ok(())
    }

    /// Attaches a volume to a machine that was made, at once if it is on and at its boots.
    ///
    /// # Errors
    /// When it can't be; it is not attached then.
    async fn volume_attach(&self, _machine: u64, _volume: &Attached) -> Result<(), HostError> {
        Ok(())
    }

    /// Takes a volume away from a machine, whatever it does with it. One that has not got it is no mistake.
    ///
    /// # Errors
    /// When it can't be taken away.
    async fn volume_detach(&self, _machine: u64, _volume: &str) -> Result<(), HostError> {
        Ok(())
    }

    /// Keeps what a volume's disk holds now. The machine that has it stands still meanwhile.
    ///
    /// # Errors
    /// When it can't be kept; nothing is left then.
    async fn volume_snapshot(&self, _volume: &str, _snapshot: &str) -> Result<(), HostError> {
        Ok(())
    }

    /// Forgets what a snapshot of a volume kept.
    ///
    /// # Errors
    /// When it can't be removed.
    async fn volume_snapshot_remove(&self, _snapshot: &str) -> Result<(), HostError> {
        Ok(())
    }

    /// Removes disks and snapshots that are none of these: a run that was killed may have left some.
    ///
    /// # Errors
    /// When the disk fails.
    async fn volumes_retain(&self, _volumes: &[String], _snapshots: &[String]) -> Result<(), HostError> {
        Ok(())
    }
}

/// A volume that is to be made.
#[derive(Debug, Clone)]
pub(crate) struct NewVolume {
    pub(crate) id: String,
    pub(crate) gib: u64,
    /// The snapshot of which it is to hold what that kept.
    pub(crate) snapshot: Option<String>,
    /// None for an empty disk, or one that begins as a snapshot.
    pub(crate) filesystem: Option<Filesystem>,
}

/// What a disk is formatted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filesystem {
    pub(crate) kind: FilesystemKind,
    /// Empty for none.
    pub(crate) label: String,
}

/// The kinds of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FilesystemKind {
    Ext4,
    Xfs,
}

impl FilesystemKind {
    pub(crate) const ALL: [Self; 2] = [Self::Ext4, Self::Xfs];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// Bytes of its longest label.
    pub(crate) fn label_bytes_max(self) -> usize {
        match self {
            Self::Ext4 => 16,
            Self::Xfs => 12,
        }
    }
}

/// A volume as a machine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attached {
    pub(crate) id: String,
    /// What the machine knows it by.
    pub(crate) name: String,
}
