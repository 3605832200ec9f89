//! Addresses of one cloud's machines: a block of 198.18.0.0/15, the range that RFC 2544 keeps for tests of networks, so that
//! it meets nobody's own. A block has 512 addresses: the lower half is the hosts', the upper half this machine's own, with
//! those of its load balancers.

use std::net::Ipv4Addr;

use crate::ip_range::Ipv4Range;

/// First address of them all.
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// Addresses of one block: two /24.
const ADDRESSES: u32 = 512;
/// Where this machine's half begins.
const OWN_HALF: u32 = 256;
/// Offset of the first host: .1 is the gateway, the next two stay free.
const FIRST_HOST: u32 = 4;
/// Offset of the first load balancer in this machine's half: .1 is the machine itself.
const FIRST_BALANCER: u32 = 2;

/// Hosts of a block: offsets 4 to 254.
pub(crate) const HOSTS_MAX: u32 = 251;
/// Load balancers of a block: offsets 2 to 251.
const BALANCERS_MAX: u32 = 250;
/// Offset of the first further address of hosts, in this machine's half: the last /30 of it.
const FIRST_FORWARD: u32 = 252;
/// The prefix of the further addresses.
const FORWARDS_PREFIX: u8 = 30;
/// Further addresses of a block, offsets 252 to 254: as many as DigitalOcean reserves for an account.
const FORWARDS_MAX: u32 = 3;

/// One of 256 blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Block(pub(crate) u8);

impl Block {
    /// What everything of the block is named after: network namespaces, the link, the cgroups.
    pub(crate) fn name(self) -> String {
        format!("tpc{}", self.0)
    }

    /// The name of a machine's network namespace and of its container.
    pub(crate) fn host_name(self, machine: u64) -> String {
        format!("{}-{machine}", self.name())
    }

    /// The hosts' network, a /24.
    pub(crate) fn hosts(self) -> Ipv4Addr {
        self.at(0)
    }

    /// The hosts' gateway; it leads to this machine and nowhere else.
    pub(crate) fn gateway(self) -> Ipv4Addr {
        self.at(1)
    }

    /// The address of the host in that slot.
    pub(crate) fn host(self, slot: u32) -> Ipv4Addr {
        self.at(FIRST_HOST + slot % HOSTS_MAX)
    }

    /// This machine's own network, a /24: all of its addresses are local.
    pub(crate) fn own(self) -> Ipv4Addr {
        self.at(OWN_HALF)
    }

    /// This machine's own address, from which it speaks to hosts.
    pub(crate) fn machine(self) -> Ipv4Addr {
        self.at(OWN_HALF + 1)
    }

    /// The address of the load balancer in that slot.
    pub(crate) fn balancer(self, slot: u32) -> Ipv4Addr {
        self.at(OWN_HALF + FIRST_BALANCER + slot % BALANCERS_MAX)
    }

    /// The address in that place that leads to a host of choice, beside the host's own.
    pub(crate) fn forward(self, slot: u32) -> Ipv4Addr {
        self.at(OWN_HALF + FIRST_FORWARD + slot % FORWARDS_MAX)
    }

    /// All of these.
    pub(crate) fn forwards(self) -> Ipv4Range {
        Ipv4Range::of(self.at(OWN_HALF + FIRST_FORWARD), FORWARDS_PREFIX)
    }

    /// The range, for people.
    pub(crate) fn describe(self) -> String {
        format!(
            "hosts in {}/24, load balancers in {}/24",
            self.hosts(),
            self.own()
        )
    }

    fn at(self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(FIRST.to_bits() + u32::from(self.0) * ADDRESSES + offset)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_things_have_the_same_address_and_all_are_in_the_range() {
        let mut all = BTreeSet::new();
        let mut count = 0;
        for block in [Block(0), Block(1), Block(255)] {
            let single = [block.gateway(), block.machine()];
            let hosts = (0..HOSTS_MAX).map(|slot| block.host(slot));
            let balancers = (0..BALANCERS_MAX).map(|slot| block.balancer(slot));
            let forwards = (0..FORWARDS_MAX).map(|slot| block.forward(slot));
            assert!(forwards.clone().all(|address| block.forwards().contains(address)));
            let all_of = single.into_iter().chain(hosts).chain(balancers).chain(forwards);
            for address in all_of {
                count += 1;
                assert!(
                    matches!(address.octets(), [198, 18 | 19, _, 1..=254]),
                    "{address}"
                );
                all.insert(address);
            }
        }
        assert_eq!(all.len(), count);
        assert_eq!(Block(0).host(0).to_string(), "198.18.0.4");
        assert_eq!(Block(255).balancer(249).to_string(), "198.19.255.251");
        assert_eq!(Block(255).forward(2).to_string(), "198.19.255.254");
        assert_eq!(Block(0).forwards().to_string(), "198.18.1.252/30");
    }

    #[test]
    fn names_fit_into_what_the_kernel_allows_for_a_link() {
        assert!(Block(255).name().len() <= 15);
    }
}
