//! A load balancer's firewall: which client addresses may connect.

use std::net::IpAddr;

use crate::ip_range::Ipv4Range;

/// The rules. An address on the deny list is refused; with an allow list, so is one that is not on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Firewall {
    pub(crate) allow: Vec<Ipv4Range>,
    pub(crate) deny: Vec<Ipv4Range>,
}

impl Firewall {
    /// Whether a client at this address may connect.
    pub(crate) fn admits(&self, client: IpAddr) -> bool {
        let IpAddr::V4(client) = client.to_canonical() else {
            return self.allow.is_empty();
        };
        let listed = |list: &[Ipv4Range]| list.iter().any(|range| range.contains(client));
        !listed(&self.deny) && (self.allow.is_empty() || listed(&self.allow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn firewall(allow: &[&str], deny: &[&str]) -> Firewall {
        let list = |ranges: &[&str]| ranges.iter().map(|range| range.parse().unwrap()).collect();
        Firewall {
            allow: list(allow),
            deny: list(deny),
        }
    }

    #[test]
    fn denied_addresses_are_refused_and_an_allow_list_admits_nobody_else() {
        let client = |last| IpAddr::from([127, 0, 0, last]);
        let open = Firewall::default();
        assert!(open.admits(client(1)) && open.admits("::1".parse().unwrap()));
        let denied = firewall(&[], &["127.0.0.9/32"]);
        assert!(denied.admits(client(1)) && !denied.admits(client(9)));
        assert!(!denied.admits("::ffff:127.0.0.9".parse().unwrap()));
        let allowed = firewall(&["10.0.0.0/8"], &[]);
        assert!(!allowed.admits(client(1)) && allowed.admits(IpAddr::from([10, 1, 2, 3])));
        assert!(!allowed.admits("::1".parse().unwrap()));
        let both = firewall(&["127.0.0.0/24"], &["127.0.0.9/32"]);
        assert!(
            both.admits(client(1)) && !both.admits(client(9)),
            "the deny list wins"
        );
    }
}
