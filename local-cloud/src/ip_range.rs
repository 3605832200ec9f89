//! Ranges of IPv4 addresses in CIDR notation: those of private networks and of load balancers' firewalls.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An IPv4 range such as 10.10.0.0/16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Ipv4Range {
    address: Ipv4Addr,
    prefix: u8,
}

/// The text is not a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not an IPv4 range such as 10.10.0.0/16")]
pub(crate) struct RangeError;

impl Ipv4Range {
    /// The range of `prefix` bits that begins at `address`; None when the prefix is over 32.
    pub(crate) fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        (prefix <= 32).then_some(Self { address, prefix })
    }

    /// The range of `prefix` bits around `address`; a prefix over 32 is 32.
    pub(crate) fn of(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        Self { address, prefix }
    }

    /// The length of the prefix.
    pub(crate) fn prefix(self) -> u8 {
        self.prefix
    }

    /// The range's first address.
    pub(crate) fn first(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() & self.mask())
    }

    /// The range's last address.
    pub(crate) fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !self.mask())
    }

    /// The prefix as a mask, such as 255.255.0.0.
    pub(crate) fn netmask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.mask())
    }

    /// Whether the range was written with its first address, as 10.10.0.0/16 is and 10.10.0.1/16 is not.
    pub(crate) fn begins_at_its_address(self) -> bool {
        self.first() == self.address
    }

    /// Whether the address is in the range.
    pub(crate) fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask() == self.first().to_bits()
    }

    /// Whether any address is in both ranges.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.contains(other.first()) || other.contains(self.first())
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }
}

impl TryFrom<String> for Ipv4Range {
    type Error = RangeError;

    fn try_from(text: String) -> Result<Self, RangeError> {
        text.parse()
    }
}

impl From<Ipv4Range> for String {
    fn from(range: Ipv4Range) -> Self {
        range.to_string()
    }
}

impl fmt::Display for Ipv4Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Ipv4Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let (address, prefix) = text.split_once('/').ok_or(RangeError)?;
        let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|_| digits).ok_or(RangeError)?;
        Self::new(address.parse().map_err(|_| RangeError)?, prefix).ok_or(RangeError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Ipv4Range {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_contain_and_overlap_by_their_prefix() {
        let net = range("10.10.0.0/16");
        assert!(net.contains(Ipv4Addr::new(10, 10, 255, 255)) && !net.contains(Ipv4Addr::new(10, 11, 0, 0)));
        assert!(net.overlaps(range("10.10.10.0/24")) && range("10.10.10.0/24").overlaps(net));
        assert!(net.overlaps(net) && !net.overlaps(range("10.11.0.0/16")));
        assert!(range("0.0.0.0/0").contains(Ipv4Addr::BROADCAST));
        let one = range("192.0.2.7/32");
        assert!(one.contains(Ipv4Addr::new(192, 0, 2, 7)) && !one.contains(Ipv4Addr::new(192, 0, 2, 6)));
        assert!(range("10.10.10.3/24").contains(Ipv4Addr::new(10, 10, 10, 200)));
        assert!(!range("10.10.10.3/24").begins_at_its_address() && net.begins_at_its_address());
        assert_eq!(net.to_string(), "10.10.0.0/16");
        assert_eq!(
            (net.last().to_string(), net.netmask().to_string()),
            ("10.10.255.255".to_owned(), "255.255.0.0".to_owned())
        );
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0/8",
            "010.0.0.0/8",
            "10.0.0.0/8/8",
            "2400:cb00::/32",
            "10.0.0.0/ 8",
            "10.0.0.256/8",
        ] {
            assert_eq!(text.parse::<Ipv4Range>(), Err(RangeError), "{text}");
        }
    }
}
