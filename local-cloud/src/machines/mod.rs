//! What a machine is, whatever cloud it belongs to: plain data. How it runs is `hosts`' matter, how clients see it that of
//! each cloud's API.

pub(crate) mod addresses;
pub(crate) mod block;
pub(crate) mod faults;
pub(crate) mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use self::addresses::Interface;
use crate::ip_range::Ipv4Range;

/// First id given; eight digits, as large clouds give them.
const FIRST_ID: u64 = 10_000_001;

/// A machine as it survives a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) id: u64,
    /// What it calls itself.
    pub(crate) name: String,
    /// Its place among the addresses.
    pub(crate) slot: u32,
    pub(crate) power: Power,
    /// The image of the images' directory that it was made from, itself or by way of a snapshot.
    pub(crate) image: String,
    /// The snapshot that it was made from.
    pub(crate) snapshot: Option<u64>,
    pub(crate) size: Size,
    /// Whether it has its public address; without, its private network is all that it is in.
    #[serde(default = "yes")]
    pub(crate) public: bool,
    /// Its place in a private network; None where machines have one address for everything.
    #[serde(default)]
    pub(crate) private: Option<Private>,
}

fn yes() -> bool {
    true
}

/// A machine's place in a private network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Private {
    /// The network's id.
    pub(crate) network: String,
    pub(crate) range: Ipv4Range,
    pub(crate) ip: Ipv4Addr,
}

impl Private {
    /// The address and what is around it; the gateway is the network's second address, which leads nowhere.
    pub(crate) fn interface(&self) -> Interface {
        Interface {
            ip: self.ip,
            netmask: self.range.netmask(),
            gateway: Ipv4Addr::from_bits(self.range.first().to_bits() + 1),
        }
    }
}

/// Whether a machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Power {
    /// It is being made.
    New,
    On,
    Off,
}

/// What a machine has of the machine that it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) vcpus: u64,
    pub(crate) memory_mb: u64,
    pub(crate) disk_gb: u64,
}

/// All machines, and what no two of them share: ids and places among the addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registry {
    next_id: u64,
    next_slot: u32,
    #[serde(default)]
    machines: BTreeMap<u64, Machine>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            next_id: FIRST_ID,
            next_slot: 0,
            machines: BTreeMap::new(),
        }
    }
}

impl Registry {
    /// A number never given before, to a machine or to anything else.
    pub(crate) fn new_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// A place for a machine: the next free one, so that an address is used again as late as possible.
    pub(crate) fn new_slot(&mut self, slots: u32) -> Option<u32> {
        let used: BTreeSet<u32> = self.machines.values().map(|machine| machine.slot).collect();
        let slot = (0..slots)
            .map(|step| (self.next_slot + step) % slots)
            .find(|slot| !used.contains(slot))?;
        self.next_slot = (slot + 1) % slots;
        Some(slot)
    }

    /// The lowest free address of a private network: one that was freed is given again at once, as clouds do. The first
    /// and the last address are the network's own, the second its gateway's.
    pub(crate) fn new_private(&self, network: &str, range: Ipv4Range) -> Option<Private> {
        let used: BTreeSet<Ipv4Addr> = self
            .machines
            .values()
            .filter_map(|machine| machine.private.as_ref())
            .filter(|private| private.network == network)
            .map(|private| private.ip)
            .collect();
        let first = range.first().to_bits();
        let ip = (first + 2..range.last().to_bits())
            .map(Ipv4Addr::from_bits)
            .find(|ip| !used.contains(ip))?;
        Some(Private {
            network: network.to_owned(),
            range,
            ip,
        })
    }

    pub(crate) fn insert(&mut self, machine: Machine) {
        self.machines.insert(machine.id, machine);
    }

    pub(crate) fn remove(&mut self, id: u64) {
        self.machines.remove(&id);
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Machine> {
        self.machines.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut Machine> {
        self.machines.get_mut(&id)
    }

    /// All machines, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Machine> {
        self.machines.values()
    }

    /// After a restart: what was being made when the last run ended is made.
    pub(crate) fn settle(&mut self) {
        for machine in self.machines.values_mut() {
            if machine.power == Power::New {
                machine.power = Power::On;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(id: u64, private: Private) -> Machine {
        Machine {
            id,
            name: format!("machine-{id}"),
            slot: 0,
            power: Power::On,
            image: "image".to_owned(),
            snapshot: None,
            size: Size {
                vcpus: 1,
                memory_mb: 512,
                disk_gb: 10,
            },
            public: true,
            private: Some(private),
        }
    }

    /// Makes a machine in a network; its address, or none when the network is full.
    fn joined(registry: &mut Registry, network: &str, range: &str) -> Option<(u64, String)> {
        let private = registry.new_private(network, range.parse().unwrap())?;
        let (id, ip) = (registry.new_id(), private.ip.to_string());
        registry.insert(machine(id, private));
        Some((id, ip))
    }

    #[test]
    fn a_private_address_that_was_freed_is_the_next_one_given() {
        let mut registry = Registry::default();
        let join = |registry: &mut Registry| joined(registry, "a", "10.10.0.0/24").unwrap();
        let first = join(&mut registry);
        let second = join(&mut registry);
        let third = join(&mut registry);
        let given = [&first, &second, &third].map(|(_, ip)| ip.as_str());
        assert_eq!(given, ["10.10.0.2", "10.10.0.3", "10.10.0.4"]);
        registry.remove(second.0);
        assert_eq!(join(&mut registry).1, second.1);
        assert_eq!(join(&mut registry).1, "10.10.0.5");
        // The lowest first, whatever order they were freed in.
        registry.remove(third.0);
        registry.remove(first.0);
        assert_eq!(join(&mut registry).1, first.1);
        assert_eq!(join(&mut registry).1, third.1);
    }

    #[test]
    fn a_full_network_gives_an_address_as_soon_as_one_is_freed_and_another_network_has_its_own() {
        let mut registry = Registry::default();
        // 16 addresses: without the network's own two and its gateway, 13.
        let all: Vec<(u64, String)> =
            std::iter::from_fn(|| joined(&mut registry, "a", "10.10.0.0/28")).collect();
        assert_eq!(all.len(), 13);
        assert_eq!(all.last().unwrap().1, "10.10.0.14");
        assert_eq!(joined(&mut registry, "a", "10.10.0.0/28"), None);
        let other = joined(&mut registry, "b", "10.10.0.0/28").unwrap();
        assert_eq!(other.1, "10.10.0.2");
        registry.remove(other.0);
        assert_eq!(joined(&mut registry, "a", "10.10.0.0/28"), None);
        let (id, freed) = &all[6];
        registry.remove(*id);
        assert_eq!(joined(&mut registry, "a", "10.10.0.0/28").unwrap().1, *freed);
    }
}
