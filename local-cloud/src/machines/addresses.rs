//! Addresses of machines and load balancers. On Linux each has an address of its own in 127.0.0.0/8; where other loopback
//! addresses than 127.0.0.1 need an alias first (macOS), each has ports of its own instead.
//!
//! One local cloud claims 127.A.0.0/16 for an A in 16..=250 by holding a listener in it, so that several on one machine
//! never meet. Machines keep a *slot*, not an address: when another cloud took the range meanwhile, all move together. The range
//! of the last run is in the state's directory, and is the first choice of the next.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use super::block::{Block, HOSTS_MAX};
use super::{Machine, Private};
use crate::private_files;

/// Second bytes to choose from: below 16 people's own servers stand (127.0.0.1, a Cassandra on .2 and .3).
const SECOND_MIN: u8 = 16;
const SECOND_MAX: u8 = 250;
/// Hosts of one /24 that are used: 1..=250, so that no address ends in 0 or 255.
const HOSTS_PER_NET: u32 = 250;
/// Slots of machines: 250 nets (third byte 1..=250) of 250.
pub(crate) const SLOTS_MAX: u32 = 250 * HOSTS_PER_NET;
/// Where the claim's listener stands: an address and a port that nothing else uses.
const CLAIM_PORT: u16 = 47_999;
/// The file of the state's directory that names the range of the last run: its second byte, or its first port.
const RANGE_FILE: &str = "range";
/// The ports-only way takes a block of 1,000 ports, below those that systems give to clients (32,768 and up): 12 blocks,
/// so 12 clouds at once, of 499 machines with two ports each; the last port of a block is its claim, the one before the name server's.
const PORTS_FIRST: u16 = 20_000;
const BLOCK_PORTS: u16 = 1_000;
const BLOCKS: u16 = 12;
const PORT_SLOTS_MAX: u32 = 499;

/// Where names are asked for: the standard port, or one that needs no root.
const DNS_PORTS: [u16; 2] = [53, 1_053];

/// The port of a machine's public listener.
pub(crate) const PUBLIC_PORT: u16 = 8_080;
/// The port of a machine's operations listener.
pub(crate) const OPS_PORT: u16 = 9_090;

/// How machines are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AddressKind {
    /// Own addresses where the machine has them, else ports.
    Auto,
    /// An own 127.x.y.z each.
    Loopback,
    /// 127.0.0.1 for all, with ports of their own for 8080 and 9090.
    Ports,
}

/// The addresses of one local cloud; the claim lasts as long as this value.
#[derive(Debug)]
pub(crate) struct Addresses {
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// Systemd hosts have real networks, and claim theirs themselves.
    Block(Block),
    Loopback {
        second: u8,
        _claim: TcpListener,
    },
    Ports {
        first: u16,
        _claim: TcpListener,
    },
}

/// How one machine is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Network {
    /// Its address for everybody, this machine and its load balancers among them.
    pub(crate) public: Interface,
    /// Its address for the other machines of its network.
    pub(crate) private: Interface,
    /// Real endpoints of the two known ports; elsewhere than at its address only without addresses of one's own.
    pub(crate) endpoints: [(u16, SocketAddr); 2],
}

impl Network {
    /// Where a machine's `port` is in truth.
    pub(crate) fn endpoint(&self, port: u16) -> SocketAddr {
        self.endpoints
            .iter()
            .find(|(known, _)| *known == port)
            .map_or_else(
                || SocketAddr::from((self.public.ip, port)),
                |(_, endpoint)| *endpoint,
            )
    }
}

/// An address and what is around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) ip: Ipv4Addr,
    pub(crate) netmask: Ipv4Addr,
    pub(crate) gateway: Ipv4Addr,
}

/// Why no addresses could be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("this machine has no loopback addresses besides 127.0.0.1; use --addresses ports")]
    NoLoopback,
    #[error("all ranges 127.16.0.0/16 to 127.250.0.0/16 are claimed by other local clouds")]
    AllClaimed,
    #[error("all blocks of 1,000 ports from 20000 to 31999 are claimed by other local clouds")]
    AllPortsClaimed,
}

impl Addresses {
    /// Claims a range: that of the last run if it is free. Without one the first choice follows from the directory's name.
    ///
    /// # Errors
    /// When the machine has no such addresses, or all are claimed.
    pub(crate) fn claim(kind: AddressKind, state: &Path) -> Result<Self, AddressError> {
        let file = state.join(RANGE_FILE);
        let last = std::fs::read_to_string(&file)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        let claimed = Self::claim_any(kind, state, last)?;
        let range = claimed.range();
        if last != Some(range)
            && let Err(error) = private_files::write(&file, format!("{range}\n"))
        {
            tracing::warn!(file = %file.display(), %error, "the next run may choose other addresses");
        }
        Ok(claimed)
    }

    fn claim_any(kind: AddressKind, state: &Path, last: Option<u16>) -> Result<Self, AddressError> {
        if kind == AddressKind::Ports {
            return Self::claim_ports(last);
        }
        if TcpListener::bind((Ipv4Addr::new(127, SECOND_MIN, 255, 253), 0)).is_err() {
            return match kind {
                AddressKind::Loopback => Err(AddressError::NoLoopback),
                AddressKind::Auto | AddressKind::Ports => Self::claim_ports(last),
            };
        }
        let last = last
            .and_then(|last| u8::try_from(last).ok())
            .filter(|last| (SECOND_MIN..=SECOND_MAX).contains(last));
        let mut hasher = DefaultHasher::new();
        state.hash(&mut hasher);
        let count = u64::from(SECOND_MAX - SECOND_MIN) + 1;
        let others = (0..count).map(|step| {
            let offset = u8::try_from(hasher.finish().wrapping_add(step) % count).unwrap_or(0);
            SECOND_MIN + offset
        });
        for second in last.into_iter().chain(others) {
            if let Ok(claim) = TcpListener::bind((Ipv4Addr::new(127, second, 255, 254), CLAIM_PORT)) {
                return Ok(Self {
                    way: Way::Loopback {
                        second,
                        _claim: claim,
                    },
                });
            }
        }
        Err(AddressError::AllClaimed)
    }

    /// The addresses of systemd hosts.
    pub(crate) fn of_block(block: Block) -> Self {
        Self {
            way: Way::Block(block),
        }
    }

    /// Whether machines have an address in their private network, beside the public one.
    pub(crate) fn are_private_too(&self) -> bool {
        matches!(self.way, Way::Block(_))
    }

    /// What names the range.
    fn range(&self) -> u16 {
        match self.way {
            Way::Loopback { second, .. } => second.into(),
            Way::Ports { first, .. } => first,
            Way::Block(block) => block.0.into(),
        }
    }

    fn claim_ports(last: Option<u16>) -> Result<Self, AddressError> {
        let all = || (0..BLOCKS).map(|block| PORTS_FIRST + block * BLOCK_PORTS);
        all()
            .filter(|first| last == Some(*first))
            .chain(all())
            .find_map(|first| {
                let claim = TcpListener::bind((Ipv4Addr::LOCALHOST, first + BLOCK_PORTS - 1)).ok()?;
                Some(Self {
                    way: Way::Ports { first, _claim: claim },
                })
            })
            .ok_or(AddressError::AllPortsClaimed)
    }

    /// How many machines there can be.
    pub(crate) fn slots(&self) -> u32 {
        match self.way {
            Way::Loopback { .. } => SLOTS_MAX,
            Way::Ports { .. } => PORT_SLOTS_MAX,
            Way::Block(_) => HOSTS_MAX,
        }
    }

    /// Where the name server of machines that are processes may listen, the best first; systemd hosts have one in their network.
    pub(crate) fn name_servers(&self) -> Vec<SocketAddr> {
        match self.way {
            Way::Loopback { second, .. } => {
                let ip = Ipv4Addr::new(127, second, 255, 253);
                DNS_PORTS.map(|port| SocketAddr::from((ip, port))).to_vec()
            }
            Way::Ports { first, .. } => {
                vec![SocketAddr::from((Ipv4Addr::LOCALHOST, first + BLOCK_PORTS - 2))]
            }
            Way::Block(_) => Vec::new(),
        }
    }

    /// How that machine is reached.
    pub(crate) fn network(&self, machine: &Machine) -> Network {
        let slot = machine.slot;
        let public = self.public(slot);
        let endpoint = |port| (port, self.machine_endpoint(slot, port));
        Network {
            public,
            private: machine.private.as_ref().map_or(public, Private::interface),
            endpoints: [PUBLIC_PORT, OPS_PORT].map(endpoint),
        }
    }

    fn public(&self, slot: u32) -> Interface {
        let (netmask, gateway) = match self.way {
            Way::Loopback { .. } | Way::Ports { .. } => (Ipv4Addr::new(255, 0, 0, 0), Ipv4Addr::LOCALHOST),
            Way::Block(block) => (Ipv4Addr::new(255, 255, 255, 0), block.gateway()),
        };
        Interface {
            ip: self.machine_ip(slot),
            netmask,
            gateway,
        }
    }

    /// The address of a machine.
    fn machine_ip(&self, slot: u32) -> Ipv4Addr {
        match self.way {
            Way::Loopback { second, .. } => Ipv4Addr::new(
                127,
                second,
                byte(1 + slot / HOSTS_PER_NET),
                byte(1 + slot % HOSTS_PER_NET),
            ),
            Way::Ports { .. } => Ipv4Addr::LOCALHOST,
            Way::Block(block) => block.host(slot),
        }
    }

    /// Where a machine's `port` is in truth: the same port of its address, or a port of its own.
    fn machine_endpoint(&self, slot: u32, port: u16) -> SocketAddr {
        let truth = match (&self.way, port) {
            (Way::Ports { first, .. }, PUBLIC_PORT) => own_port(*first, slot, 0),
            (Way::Ports { first, .. }, OPS_PORT) => own_port(*first, slot, 1),
            _ => port,
        };
        SocketAddr::from((self.machine_ip(slot), truth))
    }

    /// The address of a load balancer.
    pub(crate) fn balancer_ip(&self, slot: u32) -> Ipv4Addr {
        match self.way {
            Way::Loopback { second, .. } => Ipv4Addr::new(127, second, 0, byte(1 + slot % HOSTS_PER_NET)),
            Way::Ports { .. } => Ipv4Addr::LOCALHOST,
            Way::Block(block) => block.balancer(slot),
        }
    }

    /// The reserved address in that place. Machines that are processes have none that anything answers at: theirs are of the
    /// range that is kept for documents (RFC 5737), which is nowhere.
    pub(crate) fn reserved_ip(&self, slot: u32) -> Ipv4Addr {
        match self.way {
            Way::Loopback { .. } | Way::Ports { .. } => Ipv4Addr::new(192, 0, 2, byte(1 + slot)),
            Way::Block(block) => block.forward(slot),
        }
    }

    /// The range, for people.
    pub(crate) fn describe(&self) -> String {
        match self.way {
            Way::Loopback { second, .. } => format!("127.{second}.0.0/16"),
            Way::Ports { first, .. } => format!("127.0.0.1, ports from {first}"),
            Way::Block(block) => block.describe(),
        }
    }
}

fn byte(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn own_port(first: u16, slot: u32, nth: u16) -> u16 {
    u16::try_from(slot).map_or(u16::MAX, |slot| first.saturating_add(2 * slot + nth))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn two_clouds_never_share_an_address() {
        let one = Addresses::claim(AddressKind::Loopback, Path::new("/a")).unwrap();
        let two = Addresses::claim(AddressKind::Loopback, Path::new("/a")).unwrap();
        assert_ne!(one.machine_ip(0), two.machine_ip(0));
        assert_ne!(one.balancer_ip(0), two.balancer_ip(0));
    }

    #[test]
    fn a_cloud_keeps_its_range_though_its_first_choice_is_free_again() {
        for kind in [AddressKind::Loopback, AddressKind::Ports] {
            let state = tempfile::tempdir().unwrap();
            let in_the_way = Addresses::claim(kind, state.path()).unwrap();
            let before = Addresses::claim(kind, state.path()).unwrap();
            let range = before.range();
            drop((before, in_the_way));
            assert_eq!(Addresses::claim(kind, state.path()).unwrap().range(), range);
        }
    }

    #[test]
    fn every_slot_has_its_own_address_and_none_is_a_balancers() {
        let range = Addresses::claim(AddressKind::Loopback, Path::new("/slots")).unwrap();
        let mut all: BTreeSet<Ipv4Addr> = (0..range.slots()).map(|slot| range.machine_ip(slot)).collect();
        assert_eq!(all.len(), 62_500);
        all.extend((0..250).map(|slot| range.balancer_ip(slot)));
        assert_eq!(all.len(), 62_750);
    }

    #[test]
    fn with_ports_only_the_two_known_ports_move() {
        let range = Addresses::claim(AddressKind::Ports, Path::new("/ports")).unwrap();
        let other = Addresses::claim(AddressKind::Ports, Path::new("/ports")).unwrap();
        assert_ne!(range.machine_endpoint(3, 8080), other.machine_endpoint(3, 8080));
        let public = range.machine_endpoint(3, 8080).port();
        assert_eq!(
            (public % BLOCK_PORTS, range.machine_endpoint(3, 9090).port()),
            (6, public + 1)
        );
        assert_eq!(range.machine_endpoint(3, 7000).to_string(), "127.0.0.1:7000");
        let last = range.machine_endpoint(range.slots() - 1, 9090);
        assert_eq!(last.port() % BLOCK_PORTS, 997);
    }
}
