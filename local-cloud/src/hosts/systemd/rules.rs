//! What passes through the switch of a cloud, as nftables has it: which way connections may go, and that each host has its own
//! addresses and no other's, whatever root in it sets.

use std::net::Ipv4Addr;

use crate::machines::block::Block;

/// Where hosts ask for names: the addresses of DigitalOcean's own resolvers, which images may know.
pub(super) const NAME_SERVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(67, 207, 67, 2), Ipv4Addr::new(67, 207, 67, 3)];

/// This machine's connections to hosts, answers, and hosts' connections to load balancers are passed on, and what stays within one
/// network. Load balancers are known by address and port: all addresses of this machine's half of a block lead to whatever listens on all
/// of its addresses. A balancer that connects from its own address reaches a host in their private network, and seems to come from that network's
/// gateway. What may begin with a machine that has a filter is in chains of its own (`filters`), whichever way it comes: frames between
/// two ports of a bridge pass the chain `forward`, too, by way of br_netfilter. From a host's interface comes, and to it goes, what has the interface's own addresses: all public interfaces are on
/// one bridge, where a host would otherwise take what is meant for its private address, too.
const RULES: &str = r#"
table inet tidepool {
    set within {
        type ifname . ifname
    }
    map inbound {
        type ipv4_addr : verdict
    }
    map outbound {
        type ipv4_addr : verdict
    }
    set forwarded {
        type ipv4_addr . ipv4_addr
    }
    set balancers {
        type ipv4_addr . inet_service
    }
    chain forward {
        type filter hook forward priority 0; policy drop;
        # A connection by a further address goes to the machine that the address leads to now, or ends.
        ct original ip daddr FORWARDS ct original ip daddr . ct reply ip saddr != @forwarded jump elsewhere
        ct state established,related accept
        ip saddr vmap @outbound
        ip daddr vmap @inbound
        iifname . oifname @within accept
        iifname "uplink" oifname "public" accept
        iifname "uplink" oifname "vpc-*" ct status dnat accept
        iifname "public" oifname "uplink" ip daddr . tcp dport @balancers accept
    }
    chain input {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        meta l4proto icmp accept
        ip daddr 169.254.169.254 tcp dport 80 accept
        # Packages are the world outside; the metadata is the cloud's own.
        ip daddr GATEWAY tcp dport 80 ip saddr vmap @outbound
        ip daddr GATEWAY tcp dport 80 accept
        # So are names, which a firewall that lets nothing out shuts off on the real one, too.
        ip daddr { NAME_SERVERS, GATEWAY } meta l4proto { tcp, udp } th dport 53 ip saddr vmap @outbound
        ip daddr { NAME_SERVERS, GATEWAY } meta l4proto { tcp, udp } th dport 53 accept
    }
    chain elsewhere {
        ct state established meta l4proto tcp reject with tcp reset
        drop
    }
}
table bridge tidepool {
    set from {
        type ifname . ether_addr . ipv4_addr
    }
    set own {
        type ifname . ipv4_addr
    }
    # Before the bridge learns behind which port an address is.
    chain prerouting {
        type filter hook prerouting priority -300; policy drop;
        iifname . ether saddr . ip saddr @from accept
        iifname . ether saddr . arp saddr ip @from accept
    }
    chain forward {
        type filter hook forward priority 0; policy drop;
        oifname . ip daddr @own accept
        oifname . arp daddr ip @own accept
    }
}
table ip tidepool-balancers {
    map private {
        type ipv4_addr : ipv4_addr
    }
    map forwards {
        type ipv4_addr : ipv4_addr
    }
    chain prerouting {
        type nat hook prerouting priority -100;
        dnat to ip daddr map @forwards
        iifname "uplink" ip saddr != MACHINE dnat to ip daddr map @private
    }
    chain postrouting {
        type nat hook postrouting priority 100;
        oifname "vpc-*" ct status dnat masquerade
        # Else the answer would go to the neighbour directly, and not seem to come from where it asked.
        oifname "public" ip saddr HOSTS ct status dnat masquerade
    }
}
"#;

/// The rules of a block's switch, without anything about its hosts yet.
pub(super) fn of(block: Block) -> String {
    RULES
        .replace("MACHINE", &block.machine().to_string())
        .replace(
            "NAME_SERVERS",
            &NAME_SERVERS.map(|address| address.to_string()).join(", "),
        )
        .replace("GATEWAY", &block.gateway().to_string())
        .replace("HOSTS", &format!("{}/24", block.hosts()))
        .replace("FORWARDS", &block.forwards().to_string())
}

/// Something that the rules know: a set, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    set: &'static str,
    entry: String,
}

impl Element {
    /// Hosts on that bridge reach each other.
    pub(super) fn within(bridge: &str) -> Self {
        Self {
            set: "inet tidepool within",
            entry: format!("{bridge:?} . {bridge:?}"),
        }
    }

    /// The host behind that port of a bridge has that address, and that hardware address.
    pub(super) fn own(port: &str, address: Ipv4Addr, mac: &str) -> [Self; 2] {
        [
            Self {
                set: "bridge tidepool own",
                entry: format!("{port:?} . {address}"),
            },
            Self {
                set: "bridge tidepool from",
                entry: format!("{port:?} . {mac} . {address}"),
            },
        ]
    }

    /// Which private address stands behind the one that a machine is known by, for balancers.
    pub(super) fn balanced(known_as: Ipv4Addr, private: Ipv4Addr) -> Self {
        Self {
            set: "ip tidepool-balancers private",
            entry: format!("{known_as} : {private}"),
        }
    }

    fn line(&self, verb: &str) -> String {
        format!("{verb} element {} {{ {} }}\n", self.set, self.entry)
    }
}

/// Lines that add these, all of them or none.
pub(super) fn added(elements: &[Element]) -> String {
    elements.iter().map(|element| element.line("add")).collect()
}

/// Lines that take these away.
pub(super) fn deleted(elements: &[Element]) -> String {
    elements.iter().map(|element| element.line("delete")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_left_to_fill_in() {
        let rules = of(Block(7));
        for name in ["MACHINE", "GATEWAY", "NAME_SERVERS", "HOSTS", "FORWARDS"] {
            assert!(!rules.contains(name), "{name}: {rules}");
        }
        let address = Ipv4Addr::new(10, 108, 0, 2);
        assert_eq!(
            added(&Element::own("v10000001", address, "02:01:0a:6c:00:02")),
            "add element bridge tidepool own { \"v10000001\" . 10.108.0.2 }\n\
             add element bridge tidepool from { \"v10000001\" . 02:01:0a:6c:00:02 . 10.108.0.2 }\n"
        );
        assert_eq!(
            deleted(&[Element::within("vpc-1")]),
            "delete element inet tidepool within { \"vpc-1\" . \"vpc-1\" }\n"
        );
    }
}
