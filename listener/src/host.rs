//! A `Host`: its grammar (RFC 9110 section 7.2, RFC 3986 section 3.2.2), in every spelling that clients use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Host and port of a `Host` header, an `:authority` or an absolute request target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Host<'a> {
    pub(crate) name: HostName<'a>,
    pub(crate) port: Option<u16>,
}

/// A host without its port.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HostName<'a> {
    /// An address, whatever its spelling: `[::1]`, `127.1` and `2130706433` are addresses too.
    Address(IpAddr),
    /// Any other name, without the dot that may end it.
    Name(&'a str),
}

impl PartialEq for HostName<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Address(one), Self::Address(other)) => one == other,
            (Self::Name(one), Self::Name(other)) => one.eq_ignore_ascii_case(other),
            _ => false,
        }
    }
}

impl Eq for HostName<'_> {}

impl<'a> Host<'a> {
    /// Parses `name[:port]`. `None` for everything that names no host: empty, user information, a port that is not one,
    /// blanks, or a list. RFC 3986 allows a comma in names; here it is what two lines become when they are joined.
    pub(crate) fn parse(text: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            let name = HostName::Address(IpAddr::V6(address).to_canonical());
            return Some(Self {
                name,
                port: port_of(port)?,
            });
        }
        let (name, port) = match text.find(':') {
            Some(colon) => text.split_at(colon),
            None => (text, ""),
        };
        Some(Self {
            name: HostName::parse(name)?,
            port: port_of(port)?,
        })
    }
}

impl<'a> HostName<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() || !is_registered_name(name.as_bytes()) {
            return None;
        }
        Some(match ipv4(name) {
            Some(address) => Self::Address(IpAddr::V4(address)),
            None => Self::Name(name),
        })
    }
}

/// `:PORT`, `:` (the default port) or nothing.
fn port_of(text: &str) -> Option<Option<u16>> {
    let Some(digits) = text.strip_prefix(':') else {
        return text.is_empty().then_some(None);
    };
    if digits.is_empty() {
        return Some(None);
    }
    // `parse` would take a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(Some)
}

/// RFC 3986's reg-name, without the comma.
fn is_registered_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        rest = match first {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => tail,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => tail,
            b'%' => match tail.split_at_checked(2) {
                Some((hex, tail)) if hex.iter().all(u8::is_ascii_hexdigit) => tail,
                _ => return false,
            },
            _ => return false,
        };
    }
    true
}

/// The IPv4 address that a name is, as `inet_aton` and browsers read it: one to four numbers, decimal, octal (`0177`) or
/// hexadecimal (`0x7f`), the last of which fills the rest.
fn ipv4(name: &str) -> Option<Ipv4Addr> {
    if !name.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    if let Ok(address) = name.parse() {
        return Some(address);
    }
    let mut parts = [0_u32; 4];
    let mut count = 0;
    for text in name.split('.') {
        *parts.get_mut(count)? = number(text)?;
        count += 1;
    }
    let (last, heads) = parts.get(..count)?.split_last()?;
    let room = 8 * (4 - heads.len());
    if heads.iter().any(|part| *part > 255) || u64::from(*last) >= 1 << room {
        return None;
    }
    let heads = heads
        .iter()
        .enumerate()
        .fold(0, |bits, (index, part)| bits | part << (24 - 8 * index));
    Some(Ipv4Addr::from_bits(heads | last))
}

fn number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (text.get(2..)?, 16),
        [b'0', _, ..] => (text.get(1..)?, 8),
        _ => (text, 10),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        match Host::parse(text.as_bytes())?.name {
            HostName::Address(address) => Some(address),
            HostName::Name(_) => None,
        }
    }

    #[test]
    fn every_spelling_of_an_address_is_that_address() {
        for text in [
            "127.0.0.1",
            "127.0.0.1.",
            "127.0.0.1:80",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0X7F.1",
            "0177.0.0.1",
            "[::ffff:127.0.0.1]",
            "[::FFFF:7f00:1]:8080",
        ] {
            assert_eq!(address(text), Some(Ipv4Addr::LOCALHOST.into()), "{text}");
        }
        assert_eq!(address("[::1]:8080"), Some(Ipv6Addr::LOCALHOST.into()));
        for text in [
            "256.1.1.1",
            "1.2.3.4.5",
            "4294967296",
            "0.2130706433",
            "127.16777216",
            "1.2.65536",
            "1.2.3.256",
            "127.0.0.1.nip.io",
            "0x",
            "1..2",
            "08",
            "1e3",
        ] {
            assert_eq!(address(text), None, "{text}");
        }
    }

    #[test]
    fn names_and_ports_are_parsed() {
        for (text, name, port) in [
            ("localhost", "localhost", None),
            ("Web-1.example.COM.:8080", "web-1.EXAMPLE.com", Some(8080)),
            ("a:", "a", None),
            ("a:00080", "a", Some(80)),
            ("my_host", "my_host", None),
            ("a%2Db", "a%2Db", None),
        ] {
            let host = Host::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((host.name, host.port), (HostName::Name(name), port), "{text}");
        }
    }

    #[test]
    fn what_names_no_host_is_refused() {
        for text in [
            "",
            ".",
            ":80",
            "a b",
            "a\tb",
            "user@a",
            "user:pw@a",
            "a:b",
            "a:99999",
            "a:-1",
            "a:+1",
            "a:1:2",
            "::1",
            "a,b",
            "a, b",
            "a/b",
            "http://a",
            "[::1",
            "[::1]x",
            "[::1]:x",
            "[fe80::1%eth0]",
            "[v1.a]",
            "[127.0.0.1]",
            "a%2",
            "a%zz",
            "a\\b",
            "a?b",
            "a#b",
            "\"a\"",
            "<a>",
            "ä",
            "a:8 0",
        ] {
            assert_eq!(Host::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Host::parse(b"a\xff"), None);
    }
}
