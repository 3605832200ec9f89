//! What firewalls and reserved addresses come to for each machine: plain lists of flows and addresses, without names of anything of the
//! API.

use std::net::Ipv4Addr;

use super::records::Cloud;
use super::records::cloud_firewall::{CloudFirewall, Peers, Protocol, Rule};
use super::records::droplet::WithMachine;
use crate::fleet::Fleet;
use crate::ip_range::Ipv4Range;
use crate::machines::traffic::{Filter, Flow, Kind, Peers as Spans, Traffic};

/// The traffic of a cloud as it is now.
pub(super) fn of(cloud: &Cloud, fleet: &Fleet) -> Traffic {
    let mut traffic = Traffic::default();
    for firewall in cloud.records.firewalls.values() {
        let flows = |rules: &[Rule]| {
            rules
                .iter()
                .map(|rule| flow(rule, cloud, fleet))
                .collect::<Vec<Flow>>()
        };
        let (inbound, outbound) = (flows(&firewall.inbound), flows(&firewall.outbound));
        for found in covered(cloud, firewall) {
            let filter = traffic.filters.entry(found.machine.id).or_insert_with(|| Filter {
                addresses: own(found, fleet),
                ..Filter::default()
            });
            filter.inbound.extend(inbound.iter().cloned());
            filter.outbound.extend(outbound.iter().cloned());
        }
    }
    for (slot, reserved) in &cloud.records.reserved_ips {
        if let Some(found) = reserved.droplet.and_then(|id| cloud.droplet(id)) {
            let own = fleet.network(found.machine).public.ip;
            traffic.forwards.insert(fleet.addresses.reserved_ip(*slot), own);
        }
    }
    traffic
}

fn covered<'a>(cloud: &'a Cloud, firewall: &CloudFirewall) -> impl Iterator<Item = WithMachine<'a>> {
    cloud.droplets().filter(|found| firewall.covers(found.droplet))
}

/// The addresses of a droplet: a firewall is about all of them.
fn own(found: WithMachine<'_>, fleet: &Fleet) -> Vec<Ipv4Addr> {
    let network = fleet.network(found.machine);
    let public = found.machine.public.then_some(network.public.ip);
    let private = found.machine.private.as_ref().map(|private| private.ip);
    public.into_iter().chain(private).collect()
}

fn flow(rule: &Rule, cloud: &Cloud, fleet: &Fleet) -> Flow {
    Flow {
        kind: match rule.protocol {
            Protocol::Tcp => Kind::Tcp(rule.ports.range()),
            Protocol::Udp => Kind::Udp(rule.ports.range()),
            Protocol::Icmp => Kind::Icmp,
        },
        peers: spans(&rule.peers, cloud, fleet),
    }
}

fn spans(peers: &Peers, cloud: &Cloud, fleet: &Fleet) -> Spans {
    let ranges = peers.addresses.iter().filter_map(|address| address.range());
    let named = |found: &WithMachine<'_>| {
        peers.droplet_ids.contains(&found.droplet.id)
            || peers.tags.iter().any(|tag| found.droplet.has_tag(tag))
    };
    let by_name = !peers.droplet_ids.is_empty() || !peers.tags.is_empty();
    let droplets = cloud.droplets().filter(|found| by_name && named(found));
    let droplets = droplets.flat_map(|found| own(found, fleet));
    let balancers = peers
        .load_balancer_uids
        .iter()
        .filter_map(|id| cloud.records.balancers.get(id))
        .map(|balancer| fleet.addresses.balancer_ip(balancer.slot));
    let single = droplets
        .chain(balancers)
        .map(|address| Ipv4Range::of(address, 32));
    Spans::of(ranges.chain(single))
}
