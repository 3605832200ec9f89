//! The state as an earlier version wrote it: what is true of the machine stood in the droplet's record.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::digitalocean::catalog;
use crate::machines::{Machine, Power, Size};

#[derive(Deserialize)]
struct Earlier {
    droplets: BTreeMap<u64, EarlierDroplet>,
    /// Only which ones there are.
    snapshots: BTreeMap<u64, serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct EarlierDroplet {
    id: u64,
    name: String,
    slot: u32,
    status: EarlierStatus,
    size: String,
    /// Missing or 0 in still earlier ones: the disk of the size.
    #[serde(default)]
    disk_gb: u64,
    image: u64,
    base_slug: String,
}

#[derive(Deserialize)]
enum EarlierStatus {
    New,
    Active,
    Off,
}

/// The machines of such a state.
///
/// # Errors
/// When it is something else.
pub(crate) fn machines(text: &str) -> Result<Vec<Machine>, serde_json::Error> {
    let earlier: Earlier = serde_json::from_str(text)?;
    let machine = |droplet: EarlierDroplet| {
        let size = catalog::size_of(&droplet.size).map(catalog::Size::of_machine);
        let size = size.unwrap_or(Size {
            vcpus: 0,
            memory_mb: 0,
            disk_gb: 0,
        });
        Machine {
            id: droplet.id,
            name: droplet.name,
            slot: droplet.slot,
            power: match droplet.status {
                EarlierStatus::New => Power::New,
                EarlierStatus::Active => Power::On,
                EarlierStatus::Off => Power::Off,
            },
            image: droplet.base_slug,
            snapshot: Some(droplet.image).filter(|id| earlier.snapshots.contains_key(id)),
            size: Size {
                disk_gb: if droplet.disk_gb == 0 {
                    size.disk_gb
                } else {
                    droplet.disk_gb
                },
                ..size
            },
            public: true,
            private: None,
        }
    };
    Ok(earlier.droplets.into_values().map(machine).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digitalocean::records::Cloud;
    use crate::state::file;

    const EARLIER: &str = r#"{"next_id": 10000008, "next_slot": 3, "tags": {}, "keys": {}, "image_ids": {"web": 10000001},
        "vpcs": {}, "balancers": {}, "actions": {},
        "snapshots": {"10000007": {"id": 10000007, "name": "s", "base_slug": "web", "droplet": 10000002,
            "created_at": "2026-01-01T00:00:00Z", "min_disk_gb": 25, "regions": ["nyc3"]}},
        "droplets": {
            "10000002": {"id": 10000002, "name": "a", "slot": 0, "status": "Active", "locked": true,
                "created_at": "2026-01-01T00:00:00Z", "region": "nyc3", "size": "s-1vcpu-1gb", "image": 10000001,
                "base_slug": "web", "tags": ["t"], "features": [], "vpc": "v", "snapshots": [10000007]},
            "10000004": {"id": 10000004, "name": "b", "slot": 2, "status": "Off", "locked": false, "disk_gb": 25,
                "created_at": "2026-01-01T00:00:00Z", "region": "nyc3", "size": "s-1vcpu-2gb", "image": 10000007,
                "public_networking": false, "base_slug": "web", "tags": [], "features": [], "vpc": "v", "snapshots": []}}}"#;

    #[test]
    fn a_whole_file_of_an_earlier_version_is_read_and_written_as_one_of_this() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cloud.json");
        std::fs::write(&path, EARLIER).unwrap();
        let cloud: Cloud = file::load(&path, machines).unwrap();
        let names: Vec<&str> = cloud
            .droplets()
            .map(|found| found.machine.name.as_str())
            .collect();
        assert_eq!(names, ["a", "b"]);
        file::save(&path, &cloud).unwrap();
        let again: Cloud = file::load(&path, |_| panic!("machines have a place of their own now")).unwrap();
        assert_eq!(again.machines, cloud.machines);
        assert_eq!(again.machines.clone().new_id(), 10_000_008);
    }

    #[test]
    fn a_droplets_record_of_an_earlier_version_is_a_droplet_and_a_machine() {
        let machine = |id, name: &str, slot, power, snapshot, memory_mb| Machine {
            id,
            name: name.to_owned(),
            slot,
            power,
            image: "web".to_owned(),
            snapshot,
            size: Size {
                vcpus: 1,
                memory_mb,
                disk_gb: 25,
            },
            public: true,
            private: None,
        };
        assert_eq!(
            machines(EARLIER).unwrap(),
            [
                machine(10_000_002, "a", 0, Power::On, None, 1_024),
                machine(10_000_004, "b", 2, Power::Off, Some(10_000_007), 2_048),
            ]
        );
    }
}
