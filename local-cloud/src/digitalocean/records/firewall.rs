//! The rules of a load balancer's firewall as DigitalOcean writes them.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::balancer::firewall as balancer;
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
    /// What the running balancer keeps to.
    pub(super) fn rules(&self) -> balancer::Firewall {
        let ranges = |list: &[Source]| list.iter().map(|source| source.range).collect();
        balancer::Firewall {
            allow: ranges(&self.allow),
            deny: ranges(&self.deny),
        }
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

    #[test]
    fn rules_name_an_address_or_a_range() {
        let list = |rules: &[&str]| {
            rules
                .iter()
                .map(|rule| Source::try_from((*rule).to_owned()).unwrap())
                .collect()
        };
        let firewall = Firewall {
            allow: list(&["cidr:127.0.0.0/24"]),
            deny: list(&["ip:127.0.0.9"]),
        };
        let rules = firewall.rules();
        let written = |list: &[Ipv4Range]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(written(&rules.allow), ["127.0.0.0/24"]);
        assert_eq!(written(&rules.deny), ["127.0.0.9/32"]);
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
