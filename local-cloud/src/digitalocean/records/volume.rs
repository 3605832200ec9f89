//! Volumes and their snapshots. A volume outlives the droplet that it is attached to.

use serde::{Deserialize, Serialize};

use super::{Action, ActionState, Cloud, Records, ResourceKind};

/// A volume.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Volume {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) size_gib: u64,
    pub(crate) description: String,
    /// What it was formatted with when it was made; empty for nothing.
    pub(crate) filesystem_type: String,
    pub(crate) filesystem_label: String,
    pub(crate) tags: Vec<String>,
    pub(crate) created_at: String,
    /// The droplet that has it.
    pub(crate) droplet: Option<u64>,
    /// True while something is done with it.
    pub(crate) busy: bool,
}

/// What a volume held at a moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct VolumeSnapshot {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The volume, which may be gone since.
    pub(crate) volume: String,
    pub(crate) region: String,
    pub(crate) size_gib: u64,
    pub(crate) filesystem_type: String,
    pub(crate) filesystem_label: String,
    pub(crate) tags: Vec<String>,
    pub(crate) created_at: String,
}

impl Cloud {
    /// The volumes that a droplet has.
    pub(crate) fn volumes_of(&self, droplet: u64) -> impl Iterator<Item = &Volume> {
        let volumes = self.records.volumes.values();
        volumes.filter(move |volume| volume.droplet == Some(droplet))
    }

    /// Notes a new action on a volume: with a droplet it is one of the machine's, else of the volume alone.
    pub(crate) fn volume_action_start(
        &mut self,
        kind: &str,
        (volume, droplet): (&str, Option<u64>),
        now: &str,
    ) -> Action {
        let resource = match droplet {
            Some(droplet) => (ResourceKind::Backend, droplet),
            None => (ResourceKind::Volume, 0),
        };
        let started = self.action_start(kind, resource, now);
        let region = self
            .records
            .volumes
            .get(volume)
            .map(|volume| volume.region.clone());
        let action = Action {
            volume: Some(volume.to_owned()),
            region: region.unwrap_or(started.region),
            ..started
        };
        self.records.actions.insert(action.id, action.clone().into());
        action
    }

    /// A droplet that is gone has no volumes; they stay.
    pub(super) fn volumes_forget_droplet(&mut self, droplet: u64) {
        for volume in self.records.volumes.values_mut() {
            volume.droplet = volume.droplet.filter(|other| *other != droplet);
        }
    }

    /// Takes a tag that is gone from volumes and their snapshots.
    pub(crate) fn volumes_forget_tag(&mut self, tag: &str) {
        for volume in self.records.volumes.values_mut() {
            volume.tags.retain(|other| other != tag);
        }
        for snapshot in self.records.volume_snapshots.values_mut() {
            snapshot.tags.retain(|other| other != tag);
        }
    }

    /// After a restart: nothing is done with a volume any more. What was to be taken away is, and what was to be attached will be.
    pub(super) fn settle_volumes(&mut self) {
        for volume in self.records.volumes.values_mut() {
            volume.busy = false;
        }
        let detached = |action: &&std::sync::Arc<Action>| {
            action.state == ActionState::InProgress && action.kind == DETACH
        };
        let volumes: Vec<String> = self
            .records
            .actions
            .values()
            .filter(detached)
            .filter_map(|action| action.volume.clone())
            .collect();
        for id in volumes {
            if let Some(volume) = self.records.volumes.get_mut(&id) {
                volume.droplet = None;
            }
        }
    }
}

impl Records {
    /// Puts a tag, by its own spelling, on a volume that exists.
    pub(crate) fn tag_volume(&mut self, tag: &str, volume: &str) {
        let tag = self.tag_canonical(tag);
        if let Some(record) = self.tags.get_mut(&tag) {
            record.last_volume = Some(volume.to_owned());
        }
        if let Some(found) = self.volumes.get_mut(volume)
            && !found.tags.contains(&tag)
        {
            found.tags.push(tag);
        }
    }

    /// Ids of the volumes with a tag.
    pub(crate) fn tagged_volumes(&self, tag: &str) -> Vec<&String> {
        let has = |volume: &&Volume| has_tag(&volume.tags, tag);
        self.volumes
            .values()
            .filter(has)
            .map(|volume| &volume.id)
            .collect()
    }

    /// How many snapshots of volumes have a tag.
    pub(crate) fn tagged_volume_snapshots(&self, tag: &str) -> usize {
        let has = |snapshot: &&VolumeSnapshot| has_tag(&snapshot.tags, tag);
        self.volume_snapshots.values().filter(has).count()
    }
}

fn has_tag(tags: &[String], tag: &str) -> bool {
    tags.iter().any(|other| other.eq_ignore_ascii_case(tag))
}

/// The kinds of actions on volumes, as they are shown.
pub(crate) const ATTACH: &str = "attach_volume";
pub(crate) const DETACH: &str = "detach_volume";
pub(crate) const RESIZE: &str = "resize";
