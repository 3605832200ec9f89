//! What firewalls, reserved addresses and load balancers come to for each machine: plain lists of flows and addresses, without names of anything of the
//! API.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::records::Cloud;
use super::records::cloud_firewall::{CloudFirewall, Peers, Protocol, Rule};
use super::records::droplet::WithMachine;
use crate::fleet::Fleet;
use crate::ip_range::Ipv4Range;
use crate::machines::traffic::{Filter, Flow, Kind, Peers as Spans, Rules, Traffic};

/// The traffic of a cloud as it is now.
pub(super) fn of(cloud: &Cloud, fleet: &Fleet) -> Traffic {
    let mut traffic = Traffic::default();
    let sides = Sides::of(cloud, fleet);
    let flows = |rules: &[Rule]| rules.iter().map(|rule| sides.flow(rule)).collect::<Vec<Flow>>();
    let of_each = cloud.records.firewalls.values().map(|firewall| {
        let rules = Rules {
            inbound: flows(&firewall.inbound),
            outbound: flows(&firewall.outbound),
        };
        (firewall, rules)
    });
    let of_each: Vec<(&CloudFirewall, Rules)> = of_each.collect();
    // Droplets under the same firewalls have the same rules.
    let mut unions: BTreeMap<Vec<&str>, Arc<Rules>> = BTreeMap::new();
    for found in cloud.droplets() {
        let over = of_each
            .iter()
            .filter(|(firewall, _)| firewall.covers(found.droplet));
        let over: Vec<&(&CloudFirewall, Rules)> = over.collect();
        if over.is_empty() {
            continue;
        }
        let key = over.iter().map(|(firewall, _)| firewall.id.as_str()).collect();
        let rules = unions.entry(key).or_insert_with(|| Arc::new(union(&over)));
        let filter = Filter {
            addresses: own(found, fleet),
            rules: Arc::clone(rules),
        };
        traffic.filters.insert(found.machine.id, filter);
    }
    for (slot, reserved) in &cloud.records.reserved_ips {
        if let Some(found) = reserved.droplet.and_then(|id| cloud.droplet(id)) {
            let own = fleet.network(found.machine).public.ip;
            traffic.forwards.insert(fleet.addresses.reserved_ip(*slot), own);
        }
    }
    for balancer in cloud.records.balancers.values() {
        let ip = fleet.addresses.balancer_ip(balancer.slot);
        let ports = balancer.forwarding_rules.iter().map(|rule| rule.entry_port);
        traffic.balancers.extend(ports.map(|port| (ip, port)));
    }
    traffic
}

/// What any of these allows.
fn union(firewalls: &[&(&CloudFirewall, Rules)]) -> Rules {
    let mut all = Rules::default();
    for (_, rules) in firewalls {
        all.inbound.extend(rules.inbound.iter().cloned());
        all.outbound.extend(rules.outbound.iter().cloned());
    }
    all
}

/// The addresses of a droplet: a firewall is about all of them.
fn own(found: WithMachine<'_>, fleet: &Fleet) -> Vec<Ipv4Addr> {
    let network = fleet.network(found.machine);
    let public = found.machine.public.then_some(network.public.ip);
    let private = found.machine.private.as_ref().map(|private| private.ip);
    public.into_iter().chain(private).collect()
}

/// Whom rules can name, by their names. There may be many rules, and many droplets: each is looked at once.
struct Sides<'a> {
    cloud: &'a Cloud,
    fleet: &'a Fleet,
    droplets: BTreeMap<u64, Vec<Ipv4Addr>>,
    /// By the tag in small letters.
    tagged: BTreeMap<String, Vec<Ipv4Addr>>,
}

impl<'a> Sides<'a> {
    fn of(cloud: &'a Cloud, fleet: &'a Fleet) -> Self {
        let mut sides = Self {
            cloud,
            fleet,
            droplets: BTreeMap::new(),
            tagged: BTreeMap::new(),
        };
        if cloud.records.firewalls.is_empty() {
            return sides;
        }
        for found in cloud.droplets() {
            let addresses = own(found, fleet);
            for tag in &found.droplet.tags {
                let tagged = sides.tagged.entry(tag.to_ascii_lowercase()).or_default();
                tagged.extend(&addresses);
            }
            sides.droplets.insert(found.droplet.id, addresses);
        }
        sides
    }

    fn flow(&self, rule: &Rule) -> Flow {
        Flow {
            kind: match rule.protocol {
                Protocol::Tcp => Kind::Tcp(rule.ports.range()),
                Protocol::Udp => Kind::Udp(rule.ports.range()),
                Protocol::Icmp => Kind::Icmp,
            },
            peers: self.spans(&rule.peers),
        }
    }

    fn spans(&self, peers: &Peers) -> Spans {
        let ranges = peers.addresses.iter().filter_map(|address| address.range());
        let by_id = peers.droplet_ids.iter().filter_map(|id| self.droplets.get(id));
        let tags = peers.tags.iter();
        let by_tag = tags.filter_map(|tag| self.tagged.get(&tag.to_ascii_lowercase()));
        let balancers = peers
            .load_balancer_uids
            .iter()
            .filter_map(|id| self.cloud.records.balancers.get(id))
            .map(|balancer| self.fleet.addresses.balancer_ip(balancer.slot));
        let droplets = by_id.chain(by_tag).flatten().copied();
        let single = droplets
            .chain(balancers)
            .map(|address| Ipv4Range::of(address, 32));
        Spans::of(ranges.chain(single))
    }
}
