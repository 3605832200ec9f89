//! Domains and their records.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The servers that DigitalOcean makes a new domain's NS records for, as its API document shows them.
pub(crate) const NAME_SERVERS: [&str; 3] = [
    "ns1.digitalocean.com",
    "ns2.digitalocean.com",
    "ns3.digitalocean.com",
];
/// How long a record may be remembered, unless it says, and how long it may be remembered that there is none.
pub(crate) const TTL_DEFAULT_SECS: u32 = 1_800;

/// A domain.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Domain {
    /// As it was sent; compared without case.
    pub(crate) name: String,
    pub(crate) created_at: String,
    /// Counts the changes up, by the clock where it is ahead.
    pub(crate) serial: u32,
    pub(crate) records: BTreeMap<u64, Arc<DomainRecord>>,
}

/// A record of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DomainRecord {
    pub(crate) id: u64,
    /// `@` for the domain itself, otherwise relative to it; as it was sent.
    pub(crate) name: String,
    pub(crate) ttl_secs: u32,
    pub(crate) data: RecordData,
}

/// What a record says. Other names in it are full ones, without the last dot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RecordData {
    A(Ipv4Addr),
    Aaaa {
        address: Ipv6Addr,
        /// As it was sent: an address of version 6 can be written in several ways.
        written: String,
    },
    Cname(String),
    Mx {
        priority: u16,
        target: String,
    },
    Ns(String),
    Srv {
        priority: u16,
        weight: u16,
        port: u16,
        target: String,
    },
    Txt(String),
    Caa {
        flags: u8,
        tag: String,
        value: String,
    },
    /// The start of authority, of which this is what the API shows.
    Soa {
        minimum_secs: u32,
    },
}

impl Domain {
    /// What a domain is listed by.
    pub(crate) fn key(name: &str) -> String {
        name.to_ascii_lowercase()
    }

    /// Notes a change: who copies zones sees a newer one.
    pub(crate) fn changed(&mut self, now_secs: u32) {
        self.serial = self.serial.wrapping_add(1).max(now_secs);
    }

    /// Whether two names of records are one.
    pub(crate) fn is_same_name(one: &str, other: &str) -> bool {
        one.eq_ignore_ascii_case(other)
    }

    /// The full name of a record, without the last dot.
    pub(crate) fn full_name(&self, record: &DomainRecord) -> String {
        match record.name.as_str() {
            "@" => self.name.clone(),
            relative => format!("{relative}.{}", self.name),
        }
    }
}

impl RecordData {
    /// The record's type.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::A(_) => "A",
            Self::Aaaa { .. } => "AAAA",
            Self::Cname(_) => "CNAME",
            Self::Mx { .. } => "MX",
            Self::Ns(_) => "NS",
            Self::Srv { .. } => "SRV",
            Self::Txt(_) => "TXT",
            Self::Caa { .. } => "CAA",
            Self::Soa { .. } => "SOA",
        }
    }
}
