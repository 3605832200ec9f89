//! A load balancer's firewall: which client addresses may connect.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::ip_range::Ipv4Range;

/// Rules of one list at most: far more than DigitalOcean's clients send.
pub(crate) const RULES_MAX: usize = 1_000;

/// The rules. An address on the deny list is refused; with an allow list, so is one that is not on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Firewall {
    pub(crate) allow: Vec<Source>,
    pub(crate) deny: Vec<Source>,
}

/// Client addresses as a rule names them: `ip:192.0.2.7` or `cidr:192.0.2.0/24`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Source {
    text: String,
    range: Ipv4Range,
}

/// Why a rule is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("`{0}` is not a firewall rule: write ip:192.0.2.7 or cidr:192.0.2.0/24")]
    Syntax(String),
    #[error("`{0}`: firewall rules for IPv6 are not supported")]
    Ipv6(String),
}

impl Firewall {
    /// Whether a client at this address may connect.
    pub(crate) fn admits(&self, client: IpAddr) -> bool {
        let IpAddr::V4(client) = client.to_canonical() else {
            return self.allow.is_empty();
        };
        let listed = |list: &[Source]| list.iter().any(|source| source.range.contains(client));
        !listed(&self.deny) && (self.allow.is_empty() || listed(&self.allow))
    }
}

impl Source {
    /// The rule as it was sent.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for Source {
    type Error = SourceError;

    fn try_from(text: String) -> Result<Self, SourceError> {
        let range = match text.split_once(':') {
            Some(("ip", address)) => address
                .parse::<Ipv4Addr>()
                .ok()
                .and_then(|address| Ipv4Range::new(address, 32)),
            Some(("cidr", range)) => range.parse().ok(),
            _ => None,
        };
        match range {
            Some(range) => Ok(Self { text, range }),
            None if is_ipv6(&text) => Err(SourceError::Ipv6(text)),
            None => Err(SourceError::Syntax(text)),
        }
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.text
    }
}

fn is_ipv6(text: &str) -> bool {
    text.split_once(':').is_some_and(|(_, rest)| {
        let address = rest.split_once('/').map_or(rest, |(address, _)| address);
        address.parse::<std::net::Ipv6Addr>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn firewall(allow: &[&str], deny: &[&str]) -> Firewall {
        let list = |rules: &[&str]| {
            rules
                .iter()
                .map(|rule| Source::try_from((*rule).to_owned()).unwrap())
                .collect()
        };
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
        let denied = firewall(&[], &["ip:127.0.0.9"]);
        assert!(denied.admits(client(1)) && !denied.admits(client(9)));
        assert!(!denied.admits("::ffff:127.0.0.9".parse().unwrap()));
        let allowed = firewall(&["cidr:10.0.0.0/8"], &[]);
        assert!(!allowed.admits(client(1)) && allowed.admits(IpAddr::from([10, 1, 2, 3])));
        assert!(!allowed.admits("::1".parse().unwrap()));
        let both = firewall(&["cidr:127.0.0.0/24"], &["ip:127.0.0.9"]);
        assert!(
            both.admits(client(1)) && !both.admits(client(9)),
            "the deny list wins"
        );
    }

    #[test]
    fn other_rules_are_refused_with_their_reason() {
        for rule in [
            "",
            "127.0.0.1",
            "ip:",
            "ip:1.2.3",
            "cidr:1.2.3.4",
            "cidr:1.2.3.4/33",
            "host:a",
            "IP:1.2.3.4",
        ] {
            let refused = Source::try_from(rule.to_owned());
            assert_eq!(refused, Err(SourceError::Syntax(rule.to_owned())));
        }
        for rule in ["cidr:2400:cb00::/32", "ip:::1"] {
            assert_eq!(
                Source::try_from(rule.to_owned()),
                Err(SourceError::Ipv6(rule.to_owned()))
            );
        }
    }
}
