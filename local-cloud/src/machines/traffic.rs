//! What may reach machines and leave them, as plain lists of flows, and which further addresses lead to them. What wants it so,
//! firewalls for instance, is a cloud's matter; how it is held, that of the hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::ip_range::Ipv4Range;

/// The traffic of a whole cloud.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// By machine; one without a filter is open to all.
    pub(crate) filters: BTreeMap<u64, Filter>,
    /// Addresses that lead to a machine beside its own, and the address of the machine's own that each leads to.
    pub(crate) forwards: BTreeMap<Ipv4Addr, Ipv4Addr>,
    /// Where load balancers answer: all that machines reach of the machine that they run on.
    pub(crate) balancers: BTreeSet<(Ipv4Addr, u16)>,
}

/// What may begin between a machine and others. What has begun goes on, in both directions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// The machine's own addresses.
    pub(crate) addresses: Vec<Ipv4Addr>,
    /// Shared by machines with the same ones: there may be many rules, and many machines.
    pub(crate) rules: Arc<Rules>,
}

/// Nothing else may begin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// What others may begin.
    pub(crate) inbound: Vec<Flow>,
    /// What the machine may begin.
    pub(crate) outbound: Vec<Flow>,
}

/// Connections of one kind, with some addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) kind: Kind,
    /// The other sides.
    pub(crate) peers: Peers,
}

/// What a connection speaks, and at which ports of whoever is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp(Ports),
    Udp(Ports),
    Icmp,
}

/// Ports from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) first: u16,
    pub(crate) last: u16,
}

impl Ports {
    /// Every port.
    pub(crate) const ALL: Self = Self {
        first: 0,
        last: u16::MAX,
    };
}

/// A set of addresses: spans in order, which neither meet nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Peers(Vec<(Ipv4Addr, Ipv4Addr)>);

impl Peers {
    /// Every address of these ranges.
    pub(crate) fn of(ranges: impl IntoIterator<Item = Ipv4Range>) -> Self {
        let mut spans: Vec<(u32, u32)> = ranges
            .into_iter()
            .map(|range| (range.first().to_bits(), range.last().to_bits()))
            .collect();
        spans.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::new();
        for (first, last) in spans {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        let span = |(first, last)| (Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last));
        Self(merged.into_iter().map(span).collect())
    }

    /// The first and the last address of each span.
    pub(crate) fn spans(&self) -> &[(Ipv4Addr, Ipv4Addr)] {
        &self.0
    }

    /// Whether that is every address.
    pub(crate) fn are_all(&self) -> bool {
        self.0 == [(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_meet_or_touch_are_one_span() {
        let peers = |ranges: &[&str]| Peers::of(ranges.iter().map(|range| range.parse().unwrap()));
        let span = |first: &str, last: &str| (first.parse().unwrap(), last.parse().unwrap());
        let few = peers(&[
            "10.1.0.0/16",
            "10.0.0.0/16",
            "192.0.2.7/32",
            "10.1.2.0/24",
            "192.0.2.7/32",
        ]);
        assert_eq!(
            few.spans(),
            [span("10.0.0.0", "10.1.255.255"), span("192.0.2.7", "192.0.2.7")]
        );
        assert!(!few.are_all());
        let all = peers(&["128.0.0.0/1", "0.0.0.0/1", "255.255.255.255/32"]);
        assert!(all.are_all());
        assert!(peers(&["10.0.0.0/8", "0.0.0.0/0"]).are_all());
        assert_eq!(peers(&[]).spans(), []);
    }
}
