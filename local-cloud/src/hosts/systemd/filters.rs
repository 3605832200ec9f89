//! The lines of nftables that turn what may pass now into what may pass next, in one step. Each machine with a filter has a chain for
//! each way, which the chains of `rules` reach by its addresses: a bridge sees to it that nobody has another's.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use crate::machines::traffic::{Filter, Flow, Kind, Ports, Traffic};

/// The table, and its maps from addresses to what becomes of connections to and from them.
const TABLE: &str = "inet tidepool";
/// The map of further addresses, and the set of pairs that are right now.
const FORWARDS: &str = "ip tidepool-balancers forwards";
const FORWARDED: &str = "inet tidepool forwarded";

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

    /// A machine's chain.
    fn chain(self, machine: u64) -> String {
        match self {
            Self::In => format!("in-{machine}"),
            Self::Out => format!("out-{machine}"),
        }
    }

    /// The field with the other side's address.
    fn peer(self) -> &'static str {
        match self {
            Self::In => "saddr",
            Self::Out => "daddr",
        }
    }

    fn flows(self, filter: &Filter) -> &[Flow] {
        match self {
            Self::In => &filter.inbound,
            Self::Out => &filter.outbound,
        }
    }
}

/// Lines that make `old` to `new`, all of them or none; nothing when they are the same.
pub(super) fn changed(old: &Traffic, new: &Traffic) -> String {
    let differs = |of: &Traffic, other: &Traffic| {
        let filters = of.filters.iter();
        let changed = filters.filter(|(id, filter)| other.filters.get(id) != Some(filter));
        changed
            .map(|(id, filter)| (*id, filter.clone()))
            .collect::<Vec<(u64, Filter)>>()
    };
    let (away, come) = (differs(old, new), differs(new, old));
    let mut lines = String::new();
    // An address may go from one machine to another: first no map leads to what changes.
    for (id, filter) in &away {
        elements(&mut lines, "delete", (*id, filter));
    }
    for (id, _) in &away {
        for way in [Way::In, Way::Out] {
            push(&mut lines, &format!("flush chain {TABLE} {}", way.chain(*id)));
            if !new.filters.contains_key(id) {
                push(&mut lines, &format!("delete chain {TABLE} {}", way.chain(*id)));
            }
        }
    }
    for (id, filter) in &come {
        for way in [Way::In, Way::Out] {
            chain(&mut lines, (*id, filter), way);
        }
        elements(&mut lines, "add", (*id, filter));
    }
    forwards(&mut lines, "delete", (old, new));
    forwards(&mut lines, "add", (new, old));
    lines
}

/// What may begin goes back to where it was; all else ends here.
fn chain(lines: &mut String, (machine, filter): (u64, &Filter), way: Way) {
    let chain = way.chain(machine);
    push(lines, &format!("add chain {TABLE} {chain}"));
    for flow in way.flows(filter) {
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

fn elements(lines: &mut String, verb: &str, (machine, filter): (u64, &Filter)) {
    for way in [Way::In, Way::Out] {
        for address in &filter.addresses {
            let (map, chain) = (way.map(), way.chain(machine));
            push(
                lines,
                &format!("{verb} element {TABLE} {map} {{ {address} : jump {chain} }}"),
            );
        }
    }
}

/// Those of one that the other does not have.
fn forwards(lines: &mut String, verb: &str, (of, other): (&Traffic, &Traffic)) {
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

fn push(lines: &mut String, line: &str) {
    // Writing to a text can't fail.
    let _never = writeln!(lines, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machines::traffic::Peers;

    fn flow(kind: Kind, peers: &[&str]) -> Flow {
        Flow {
            kind,
            peers: Peers::of(peers.iter().map(|range| range.parse().unwrap())),
        }
    }

    fn filter(address: &str, inbound: Vec<Flow>) -> Filter {
        Filter {
            addresses: vec![address.parse().unwrap()],
            inbound,
            outbound: vec![flow(Kind::Icmp, &["0.0.0.0/0"])],
        }
    }

    fn traffic(filters: Vec<(u64, Filter)>, forwards: &[(&str, &str)]) -> Traffic {
        let pair = |(from, to): &(&str, &str)| (from.parse().unwrap(), to.parse().unwrap());
        Traffic {
            filters: filters.into_iter().collect(),
            forwards: forwards.iter().map(pair).collect(),
        }
    }

    #[test]
    fn only_what_changes_is_said_and_what_goes_first() {
        let ssh = Kind::Tcp(Ports { first: 22, last: 22 });
        let old = traffic(
            vec![
                (
                    1,
                    filter("10.0.0.2", vec![flow(ssh, &["192.0.2.7/32", "10.0.0.0/8"])]),
                ),
                (2, filter("10.0.0.3", vec![])),
            ],
            &[("198.18.1.252", "198.18.0.4")],
        );
        assert_eq!(changed(&old, &old), "");
        let new = traffic(
            vec![
                (
                    1,
                    filter("10.0.0.2", vec![flow(ssh, &["192.0.2.7/32", "10.0.0.0/8"])]),
                ),
                (
                    3,
                    filter(
                        "10.0.0.3",
                        vec![
                            flow(Kind::Udp(Ports::ALL), &["0.0.0.0/0"]),
                            flow(ssh, &["192.0.2.0/31"]),
                            flow(ssh, &[]),
                        ],
                    ),
                ),
            ],
            &[("198.18.1.252", "198.18.0.5")],
        );
        assert_eq!(
            changed(&old, &new),
            "delete element inet tidepool inbound { 10.0.0.3 : jump in-2 }\n\
             delete element inet tidepool outbound { 10.0.0.3 : jump out-2 }\n\
             flush chain inet tidepool in-2\n\
             delete chain inet tidepool in-2\n\
             flush chain inet tidepool out-2\n\
             delete chain inet tidepool out-2\n\
             add chain inet tidepool in-3\n\
             add rule inet tidepool in-3 meta l4proto udp return\n\
             add rule inet tidepool in-3 tcp dport 22-22 ip saddr { 192.0.2.0-192.0.2.1 } return\n\
             add rule inet tidepool in-3 drop\n\
             add chain inet tidepool out-3\n\
             add rule inet tidepool out-3 meta l4proto icmp return\n\
             add rule inet tidepool out-3 drop\n\
             add element inet tidepool inbound { 10.0.0.3 : jump in-3 }\n\
             add element inet tidepool outbound { 10.0.0.3 : jump out-3 }\n\
             delete element ip tidepool-balancers forwards { 198.18.1.252 : 198.18.0.4 }\n\
             delete element inet tidepool forwarded { 198.18.1.252 . 198.18.0.4 }\n\
             add element ip tidepool-balancers forwards { 198.18.1.252 : 198.18.0.5 }\n\
             add element inet tidepool forwarded { 198.18.1.252 . 198.18.0.5 }\n"
        );
    }
}
