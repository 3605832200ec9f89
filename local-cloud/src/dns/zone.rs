//! One zone: its records by name, and what of it answers a question.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Bound;

use hickory_proto::ProtoError;
use hickory_proto::rr::rdata::{A, AAAA, CAA, CNAME, MX, NS, SOA, SRV, TXT};
use hickory_proto::rr::{LowerName, Name, RData, Record, RecordType};

/// Longest of the strings that a text is sent in (RFC 1035, section 3.3).
const TXT_STRING_BYTES_MAX: usize = 255;
/// The highest bit of a CAA record's flags (RFC 8659, section 4.1).
const CAA_CRITICAL: u8 = 128;

/// A zone that is complete.
#[derive(Debug)]
pub(crate) struct Zone {
    origin: LowerName,
    soa: Record,
    /// In the order of RFC 4034, section 6.1: what is below a name follows it.
    names: BTreeMap<LowerName, Vec<Record>>,
}

/// What the start of authority says; names are full ones, with or without the last dot.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    pub(crate) primary: String,
    pub(crate) mailbox: String,
    pub(crate) serial: u32,
    pub(crate) refresh_secs: i32,
    pub(crate) retry_secs: i32,
    pub(crate) expire_secs: i32,
    /// How long it may be remembered that there is no such name.
    pub(crate) minimum_secs: u32,
    pub(crate) ttl_secs: u32,
}

/// One record; its name is a full one.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) ttl_secs: u32,
    pub(crate) data: Data,
}

/// What a record says; names are full ones.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(String),
    Ns(String),
    Mx {
        preference: u16,
        exchange: String,
    },
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
}

/// What a zone has for a question.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Records(Vec<&'a Record>),
    /// The name is another name for this one.
    Alias(&'a Record, LowerName),
    /// Other servers are responsible for the name.
    Delegated(Vec<&'a Record>),
    /// There is such a name, and nothing of that kind.
    NoData,
    NoName,
}

impl Zone {
    /// Puts a zone together. What is not a name is left out, with a line in the log.
    ///
    /// # Errors
    /// When the zone's own name or a name of its authority is none.
    pub(crate) fn new(
        origin: &str,
        authority: &Authority,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<Self, ProtoError> {
        let name = full_name(origin)?;
        let soa = SOA::new(
            full_name(&authority.primary)?,
            full_name(&authority.mailbox)?,
            authority.serial,
            authority.refresh_secs,
            authority.retry_secs,
            authority.expire_secs,
            authority.minimum_secs,
        );
        let soa = Record::from_rdata(name.clone(), authority.ttl_secs, RData::SOA(soa));
        let origin = LowerName::new(&name);
        let mut names = BTreeMap::from([(origin.clone(), vec![soa.clone()])]);
        for entry in entries {
            match record_of(&entry) {
                Ok(record) => {
                    let records: &mut Vec<Record> = names.entry(LowerName::new(&record.name)).or_default();
                    // One that is there twice is answered once (RFC 2181, section 5).
                    if !records.iter().any(|other| other.data == record.data) {
                        records.push(record);
                    }
                }
                Err(error) => tracing::warn!(name = entry.name, %error, "this record can't be answered"),
            }
        }
        Ok(Self { origin, soa, names })
    }

    pub(super) fn origin(&self) -> &LowerName {
        &self.origin
    }

    pub(super) fn soa(&self) -> &Record {
        &self.soa
    }

    /// What there is for a name that is in this zone.
    pub(super) fn find(&self, name: &LowerName, kind: RecordType) -> Found<'_> {
        if let Some(servers) = self.delegation(name) {
            return Found::Delegated(servers);
        }
        match self.names.get(name) {
            Some(records) => of_kind(records, kind),
            None if self.has_below(name) => Found::NoData,
            None => self
                .wildcard(name)
                .map_or(Found::NoName, |records| of_kind(records, kind)),
        }
    }

    /// The servers of the part of the zone that is others' business and has that name in it; the one nearest to the origin counts.
    fn delegation(&self, name: &LowerName) -> Option<Vec<&Record>> {
        let mut found = None;
        let mut at = name.clone();
        while at != self.origin && !at.is_root() {
            let records = self.names.get(&at).into_iter().flatten();
            let servers: Vec<&Record> = records.filter(|record| is(record, RecordType::NS)).collect();
            if !servers.is_empty() {
                found = Some(servers);
            }
            at = at.base_name();
        }
        found
    }

    /// The records that stand for every name without records of its own, below the nearest name that there is (RFC 4592).
    fn wildcard(&self, name: &LowerName) -> Option<&Vec<Record>> {
        let mut at = name.clone();
        while at != self.origin && !at.is_root() {
            let above = at.base_name();
            if above == self.origin || self.names.contains_key(&above) || self.has_below(&above) {
                return self.names.get(&at.into_wildcard());
            }
            at = above;
        }
        None
    }

    fn has_below(&self, name: &LowerName) -> bool {
        let after = (Bound::Excluded(name), Bound::Unbounded);
        let next = self.names.range::<LowerName, _>(after).next();
        next.is_some_and(|(next, _)| name.zone_of(next))
    }
}

fn of_kind(records: &[Record], kind: RecordType) -> Found<'_> {
    let found: Vec<&Record> = records
        .iter()
        .filter(|record| kind == RecordType::ANY || is(record, kind))
        .collect();
    if !found.is_empty() {
        return Found::Records(found);
    }
    let alias = records.iter().find_map(|record| match &record.data {
        RData::CNAME(CNAME(target)) => Some((record, LowerName::new(target))),
        _ => None,
    });
    alias.map_or(Found::NoData, |(record, target)| Found::Alias(record, target))
}

fn is(record: &Record, kind: RecordType) -> bool {
    record.record_type() == kind
}

fn record_of(entry: &Entry) -> Result<Record, ProtoError> {
    let data = match &entry.data {
        Data::A(address) => RData::A(A(*address)),
        Data::Aaaa(address) => RData::AAAA(AAAA(*address)),
        Data::Cname(target) => RData::CNAME(CNAME(full_name(target)?)),
        Data::Ns(target) => RData::NS(NS(full_name(target)?)),
        Data::Mx { preference, exchange } => RData::MX(MX::new(*preference, full_name(exchange)?)),
        Data::Srv {
            priority,
            weight,
            port,
            target,
        } => RData::SRV(SRV::new(*priority, *weight, *port, full_name(target)?)),
        Data::Txt(text) => {
            let strings = text.as_bytes().chunks(TXT_STRING_BYTES_MAX).collect();
            RData::TXT(TXT::from_bytes(strings))
        }
        Data::Caa { flags, tag, value } => {
            let mut caa = CAA::new_issue(flags & CAA_CRITICAL != 0, None, Vec::new());
            caa.reserved_flags = flags & !CAA_CRITICAL;
            tag.clone_into(&mut caa.tag);
            caa.value = value.as_bytes().to_vec();
            RData::CAA(caa)
        }
    };
    Ok(Record::from_rdata(full_name(&entry.name)?, entry.ttl_secs, data))
}

/// A full name, whose last dot may be missing.
fn full_name(text: &str) -> Result<Name, ProtoError> {
    let labels = text.strip_suffix('.').unwrap_or(text).split('.');
    Name::from_labels(labels.map(str::as_bytes))
}
