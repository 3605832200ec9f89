//! The lines of nftables that turn what may pass now into what may pass next, in one step. Machines with the same rules share
//! a chain for each way, which the chains of `rules` reach by the machines' addresses: a bridge sees to it that nobody has another's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::machines::traffic::{Flow, Kind, Ports, Rules, Traffic};

/// The table, and its maps from addresses to what becomes of connections to and from them.
const TABLE: &str = "inet tidepool";
/// The map of further addresses, and the set of pairs that are right now.
const FORWARDS: &str = "ip tidepool-balancers forwards";
const FORWARDED: &str = "inet tidepool forwarded";
/// The set of addresses and ports of load balancers.
const BALANCERS: &str = "inet tidepool balancers";

/// Which way a connection goes, from the machine's view.
#[derive(Debug, Clone, Copy)]
enum Way {
    In,
    Out,
}

impl Way {
    /// The map of that way.
    fn map(self) -> &'static str {
        match self {
            Self::In => "inbound",
            Self::Out => "outbound",
        }
    }

    /// The chain of that number.
    fn chain(self, number: u64) -> String {
        match self {
            Self::In => format!("in-{number}"),
            Self::Out => format!("out-{number}"),
        }
    }

    /// The field with the other side's address.
    fn peer(self) -> &'static str {
        match self {
            Self::In => "saddr",
            Self::Out => "daddr",
        }
    }

    fn flows(self, rules: &Rules) -> &[Flow] {
        match self {
            Self::In => &rules.inbound,
            Self::Out => &rules.outbound,
        }
    }
}

/// What the rules hold: which chains there are, who is led to them, the further addresses, and the load balancers.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    chains: BTreeMap<u64, Arc<Rules>>,
    /// By a machine's address.
    led: BTreeMap<Ipv4Addr, u64>,
    forwards: BTreeMap<Ipv4Addr, Ipv4Addr>,
    balancers: BTreeSet<(Ipv4Addr, u16)>,
    /// The number of the next chain that is new.
    next: u64,
}

impl Held {
    /// What is to be held next; rules that there are keep their chains.
    pub(super) fn after(&self, traffic: &Traffic) -> Self {
        let mut held = Self {
            forwards: traffic.forwards.clone(),
            balancers: traffic.balancers.clone(),
            next: self.next,
            ..Self::default()
        };
        for filter in traffic.filters.values() {
            let known = held
                .chain_of(&filter.rules)
                .or_else(|| self.chain_of(&filter.rules));
            let chain = known.unwrap_or(held.next);
            held.next = held.next.max(chain + 1);
            held.chains.insert(chain, Arc::clone(&filter.rules));
            held.led
                .extend(filter.addresses.iter().map(|address| (*address, chain)));
        }
        held
    }

    fn chain_of(&self, rules: &Arc<Rules>) -> Option<u64> {
        let same = |other: &Arc<Rules>| Arc::ptr_eq(other, rules) || other == rules;
        let found = self.chains.iter().find(|(_, other)| same(other));
        found.map(|(number, _)| *number)
    }
}

/// Lines that make `old` to `new`, all of them or none; nothing when they are the same.
pub(super) fn changed(old: &Held, new: &Held) -> String {
    let mut lines = String::new();
    // A chain can go once nothing leads to it, and an address may lead to another one.
    elements(&mut lines, "delete", (old, new));
    for number in old
        .chains
        .keys()
        .filter(|number| !new.chains.contains_key(number))
    {
        for way in [Way::In, Way::Out] {
            let chain = way.chain(*number);
            push(&mut lines, &format!("flush chain {TABLE} {chain}"));
            push(&mut lines, &format!("delete chain {TABLE} {chain}"));
        }
    }
    for (number, rules) in new
        .chains
        .iter()
        .filter(|(number, _)| !old.chains.contains_key(number))
    {
        for way in [Way::In, Way::Out] {
            chain(&mut lines, (*number, rules), way);
        }
    }
    elements(&mut lines, "add", (new, old));
    forwards(&mut lines, "delete", (old, new));
    forwards(&mut lines, "add", (new, old));
    balancers(&mut lines, "delete", (old, new));
    balancers(&mut lines, "add", (new, old));
    lines
}

/// What may begin goes back to where it was; all else ends here.
fn chain(lines: &mut String, (number, rules): (u64, &Rules), way: Way) {
    let chain = way.chain(number);
    push(lines, &format!("add chain {TABLE} {chain}"));
    for flow in way.flows(rules) {
        if let Some(peers) = peers(flow, way) {
            let kind = kind(flow.kind);
            push(lines, &format!("add rule {TABLE} {chain} {kind} {peers}return"));
        }
    }
    push(lines, &format!("add rule {TABLE} {chain} drop"));
}

fn kind(kind: Kind) -> String {
    let of = |protocol: &str, ports: Ports| match ports {
        Ports::ALL => format!("meta l4proto {protocol}"),
        Ports { first, last } => format!("{protocol} dport {first}-{last}"),
    };
    match kind {
        Kind::Tcp(ports) => of("tcp", ports),
        Kind::Udp(ports) => of("udp", ports),
        Kind::Icmp => "meta l4proto icmp".to_owned(),
    }
}

/// None for nobody.
fn peers(flow: &Flow, way: Way) -> Option<String> {
    if flow.peers.are_all() {
        return Some(String::new());
    }
    let span = |(first, last): &(Ipv4Addr, Ipv4Addr)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    let spans: Vec<String> = flow.peers.spans().iter().map(span).collect();
    (!spans.is_empty()).then(|| format!("ip {} {{ {} }} ", way.peer(), spans.join(", ")))
}

/// Addresses that one leads elsewhere than the other does.
fn elements(lines: &mut String, verb: &str, (of, other): (&Held, &Held)) {
    let differ = of
        .led
        .iter()
        .filter(|(address, chain)| other.led.get(address) != Some(chain));
    let differ: Vec<(&Ipv4Addr, &u64)> = differ.collect();
    if differ.is_empty() {
        return;
    }
    for way in [Way::In, Way::Out] {
        let entry =
            |(address, number): &(&Ipv4Addr, &u64)| format!("{address} : jump {}", way.chain(**number));
        let entries: Vec<String> = differ.iter().map(entry).collect();
        let (map, entries) = (way.map(), entries.join(", "));
        push(lines, &format!("{verb} element {TABLE} {map} {{ {entries} }}"));
    }
}

/// Those of one that the other does not have.
fn forwards(lines: &mut String, verb: &str, (of, other): (&Held, &Held)) {
    for (address, own) in &of.forwards {
        if other.forwards.get(address) != Some(own) {
            push(
                lines,
                &format!("{verb} element {FORWARDS} {{ {address} : {own} }}"),
            );
            push(
                lines,
                &format!("{verb} element {FORWARDED} {{ {address} . {own} }}"),
            );
        }
    }
}

/// Those of one that the other does not have.
fn balancers(lines: &mut String, verb: &str, (of, other): (&Held, &Held)) {
    let entry = |(address, port): &(Ipv4Addr, u16)| format!("{address} . {port}");
    let entries: Vec<String> = of.balancers.difference(&other.balancers).map(entry).collect();
    if !entries.is_empty() {
        let entries = entries.join(", ");
        push(lines, &format!("{verb} element {BALANCERS} {{ {entries} }}"));
    }
}

fn push(lines: &mut String, line: &str) {
    // Writing to a text can't fail.
    let _never = writeln!(lines, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machines::traffic::{Filter, Peers};

    fn flow(kind: Kind, peers: &[&str]) -> Flow {
        Flow {
            kind,
            peers: Peers::of(peers.iter().map(|range| range.parse().unwrap())),
        }
    }

    fn filter(address: &str, inbound: Vec<Flow>) -> Filter {
        Filter {
            addresses: vec![address.parse().unwrap()],
            rules: Arc::new(Rules {
                inbound,
                outbound: vec![flow(Kind::Icmp, &["0.0.0.0/0"])],
            }),
        }
    }

    fn traffic(filters: Vec<(u64, Filter)>, forwards: &[(&str, &str)]) -> Traffic {
        let pair = |(from, to): &(&str, &str)| (from.parse().unwrap(), to.parse().unwrap());
        Traffic {
            filters: filters.into_iter().collect(),
            forwards: forwards.iter().map(pair).collect(),
            balancers: BTreeSet::new(),
        }
    }

    #[test]
    fn balancers_come_and_go_by_their_addresses_and_ports() {
        let held = |ports: &[u16]| {
            let address = "198.18.1.2".parse().unwrap();
            Held::default().after(&Traffic {
                balancers: ports.iter().map(|port| (address, *port)).collect(),
                ..Traffic::default()
            })
        };
        assert_eq!(
            changed(&held(&[80, 443]), &held(&[443, 8000, 9000])),
            "delete element inet tidepool balancers { 198.18.1.2 . 80 }\n\
             add element inet tidepool balancers { 198.18.1.2 . 8000, 198.18.1.2 . 9000 }\n"
        );
        assert_eq!(changed(&held(&[80]), &held(&[80])), "");
    }

    #[test]
    fn only_what_changes_is_said_and_machines_with_the_same_rules_share_them() {
        let ssh = Kind::Tcp(Ports { first: 22, last: 22 });
        let first = || filter("10.0.0.2", vec![flow(ssh, &["192.0.2.7/32", "10.0.0.0/8"])]);
        let old = traffic(
            vec![(1, first()), (2, filter("10.0.0.3", vec![]))],
            &[("198.18.1.252", "198.18.0.4")],
        );
        let old = Held::default().after(&old);
        assert_eq!(changed(&old, &old), "");
        let udp = flow(Kind::Udp(Ports::ALL), &["0.0.0.0/0"]);
        let another = vec![udp, flow(ssh, &["192.0.2.0/31"]), flow(ssh, &[])];
        let mut shared = first();
        shared.addresses = vec!["10.0.0.4".parse().unwrap()];
        let new = traffic(
            vec![(1, first()), (3, filter("10.0.0.3", another)), (4, shared)],
            &[("198.18.1.252", "198.18.0.5")],
        );
        assert_eq!(
            changed(&old, &old.after(&new)),
            "delete element inet tidepool inbound { 10.0.0.3 : jump in-1 }\n\
             delete element inet tidepool outbound { 10.0.0.3 : jump out-1 }\n\
             flush chain inet tidepool in-1\n\
             delete chain inet tidepool in-1\n\
             flush chain inet tidepool out-1\n\
             delete chain inet tidepool out-1\n\
             add chain inet tidepool in-2\n\
             add rule inet tidepool in-2 meta l4proto udp return\n\
             add rule inet tidepool in-2 tcp dport 22-22 ip saddr { 192.0.2.0-192.0.2.1 } return\n\
             add rule inet tidepool in-2 drop\n\
             add chain inet tidepool out-2\n\
             add rule inet tidepool out-2 meta l4proto icmp return\n\
             add rule inet tidepool out-2 drop\n\
             add element inet tidepool inbound { 10.0.0.3 : jump in-2, 10.0.0.4 : jump in-0 }\n\
             add element inet tidepool outbound { 10.0.0.3 : jump out-2, 10.0.0.4 : jump out-0 }\n\
             delete element ip tidepool-balancers forwards { 198.18.1.252 : 198.18.0.4 }\n\
             delete element inet tidepool forwarded { 198.18.1.252 . 198.18.0.4 }\n\
             add element ip tidepool-balancers forwards { 198.18.1.252 : 198.18.0.5 }\n\
             add element inet tidepool forwarded { 198.18.1.252 . 198.18.0.5 }\n"
        );
    }
}
