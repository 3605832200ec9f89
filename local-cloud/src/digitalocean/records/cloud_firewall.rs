//! A firewall of droplets: its record. DigitalOcean calls it a Cloud Firewall; that of a load balancer is another thing.

use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::Cloud;
use super::droplet::Droplet;
use crate::ip_range::Ipv4Range;
use crate::machines::traffic;

/// A firewall as it survives a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CloudFirewall {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created_at: String,
    pub(crate) inbound: Vec<Rule>,
    pub(crate) outbound: Vec<Rule>,
    /// Droplets that it was given one by one.
    pub(crate) droplet_ids: Vec<u64>,
    /// Droplets with one of these tags are under it, too.
    pub(crate) tags: Vec<String>,
}

/// What may pass; everything else may not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rule {
    pub(crate) protocol: Protocol,
    pub(crate) ports: Ports,
    pub(crate) peers: Peers,
}

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

impl Protocol {
    /// As the API writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

/// The other sides: sources of an inbound rule, destinations of an outbound one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peers {
    pub(crate) addresses: Vec<Address>,
    pub(crate) droplet_ids: Vec<u64>,
    pub(crate) tags: Vec<String>,
    pub(crate) load_balancer_uids: Vec<String>,
}

/// Ports as a rule names them: `22`, `8000-9000`, or `0` for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Ports {
    text: String,
    range: traffic::Ports,
}

/// The text names no ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no ports: write 22, 8000-9000, or all")]
pub(crate) struct PortsError(String);

impl Ports {
    /// The normal form of all ports, and that of a protocol that has none.
    const ALL: &str = "0";

    /// Every port.
    pub(crate) fn all() -> Self {
        Self {
            text: Self::ALL.to_owned(),
            range: traffic::Ports::ALL,
        }
    }

    /// The normal form.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether they are all ports, however that was written first.
    pub(crate) fn are_all(&self) -> bool {
        self.text == Self::ALL
    }

    pub(crate) fn range(&self) -> traffic::Ports {
        self.range
    }
}

impl TryFrom<String> for Ports {
    type Error = PortsError;

    fn try_from(text: String) -> Result<Self, PortsError> {
        if text == Self::ALL || text == "all" {
            return Ok(Self::all());
        }
        let port = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u16>().ok().filter(|port| digits && *port > 0)
        };
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self {
                text,
                range: traffic::Ports { first, last },
            }),
            _ => Err(PortsError(text)),
        }
    }
}

impl From<Ports> for String {
    fn from(ports: Ports) -> Self {
        ports.text
    }
}

/// An address or a range of them as a rule names it, of IPv4 or IPv6.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Address {
    text: String,
    /// None for IPv6, which no droplet here has.
    range: Option<Ipv4Range>,
}

/// The text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32")]
pub(crate) struct AddressError(String);

impl Address {
    /// As it was sent.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// What it is of IPv4.
    pub(crate) fn range(&self) -> Option<Ipv4Range> {
        self.range
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        let range = match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(single)) => Some(Some(Ipv4Range::of(single, 32))),
            Ok(IpAddr::V6(_)) => Some(None),
            Err(_) if is_ipv6_range(&text) => Some(None),
            Err(_) => text.parse().ok().map(Some),
        };
        match range {
            Some(range) => Ok(Self { text, range }),
            None => Err(AddressError(text)),
        }
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.text
    }
}

fn is_ipv6_range(text: &str) -> bool {
    let Some((address, prefix)) = text.split_once('/') else {
        return false;
    };
    let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
    address.parse::<Ipv6Addr>().is_ok() && digits && prefix.parse::<u8>().is_ok_and(|prefix| prefix <= 128)
}

impl CloudFirewall {
    /// Whether a droplet is under it, by its id or by a tag.
    pub(crate) fn covers(&self, droplet: &Droplet) -> bool {
        self.droplet_ids.contains(&droplet.id) || self.tags.iter().any(|tag| droplet.has_tag(tag))
    }

    fn peers_mut(&mut self) -> impl Iterator<Item = &mut Peers> {
        let rules = self.inbound.iter_mut().chain(&mut self.outbound);
        rules.map(|rule| &mut rule.peers)
    }
}

impl Cloud {
    /// The droplets under a firewall, oldest first.
    pub(crate) fn covered(&self, firewall: &CloudFirewall) -> Vec<u64> {
        let droplets = self.records.droplets.values();
        let covered = droplets.filter(|droplet| firewall.covers(droplet));
        covered.map(|droplet| droplet.id).collect()
    }

    /// Firewalls and their rules no longer name a droplet that is gone.
    pub(super) fn firewalls_forget_droplet(&mut self, id: u64) {
        for firewall in self.records.firewalls.values_mut() {
            firewall.droplet_ids.retain(|other| *other != id);
            for peers in firewall.peers_mut() {
                peers.droplet_ids.retain(|other| *other != id);
            }
        }
    }

    /// The same of a tag, in its own spelling.
    pub(crate) fn firewalls_forget_tag(&mut self, tag: &str) {
        for firewall in self.records.firewalls.values_mut() {
            firewall.tags.retain(|other| other != tag);
            for peers in firewall.peers_mut() {
                peers.tags.retain(|other| other != tag);
            }
        }
    }

    /// The same of a load balancer.
    pub(crate) fn firewalls_forget_balancer(&mut self, id: &str) {
        for firewall in self.records.firewalls.values_mut() {
            for peers in firewall.peers_mut() {
                peers.load_balancer_uids.retain(|other| other != id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_a_normal_form() {
        let ports = |text: &str| Ports::try_from(text.to_owned());
        for (sent, shown) in [
            ("0", "0"),
            ("all", "0"),
            ("22", "22"),
            ("8000-9000", "8000-9000"),
            ("1-65535", "1-65535"),
            ("22-22", "22-22"),
        ] {
            assert_eq!(ports(sent).unwrap().as_str(), shown);
        }
        for bad in [
            "",
            "-",
            "a",
            "0-100",
            "65536",
            "1-65536",
            "9000-8000",
            "+22",
            "22,80",
            "1-2-3",
            " 22",
            "-22",
            "22-",
            "ALL",
        ] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_are_of_both_kinds_single_or_ranges() {
        let address = |text: &str| Address::try_from(text.to_owned());
        for (good, range) in [
            ("192.0.2.7", Some("192.0.2.7/32")),
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("10.1.2.3/8", Some("10.1.2.3/8")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("::/0", None),
            ("2001:db8::1", None),
            ("2001:db8::/128", None),
        ] {
            let address = address(good).unwrap();
            assert_eq!(address.range().map(|range| range.to_string()).as_deref(), range);
            assert_eq!(address.as_str(), good);
        }
        for bad in [
            "",
            "a",
            "10.0.0.0/33",
            "10.0.0/8",
            "::/129",
            "::/",
            "1.2.3.4/",
            "2001:db8::/+1",
            "1.2.3.4 ",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
