//! Domains as zones: what the name server answers, and the zone file that the API shows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::records::domain::{Domain, DomainRecord, NAME_SERVERS, RecordData, TTL_DEFAULT_SECS};
use crate::dns::{Authority, Data, Entry, Zone, Zones};

/// Times of a zone's start of authority, as DigitalOcean's API document shows them: they are for servers that copy zones.
const REFRESH_SECS: i32 = 10_800;
const RETRY_SECS: i32 = 3_600;
const EXPIRE_SECS: i32 = 604_800;

/// What the name server was given, so that only what has changed is made anew.
#[derive(Debug)]
pub(crate) struct Published {
    zones: Zones,
    made: BTreeMap<String, (Arc<Domain>, Arc<Zone>)>,
}

impl Published {
    pub(crate) fn new(zones: Zones) -> Self {
        Self {
            zones,
            made: BTreeMap::new(),
        }
    }

    /// From now on these domains are answered.
    pub(crate) fn publish(&mut self, domains: &BTreeMap<String, Arc<Domain>>) {
        let same = |key: &String, domain: &Arc<Domain>| {
            let made = self.made.get(key);
            made.is_some_and(|(of, _)| Arc::ptr_eq(of, domain))
        };
        if domains.len() == self.made.len() && domains.iter().all(|(key, domain)| same(key, domain)) {
            return;
        }
        let mut made = BTreeMap::new();
        for (key, domain) in domains {
            let before = self.made.remove(key);
            let kept = before.filter(|(of, _)| Arc::ptr_eq(of, domain));
            let zone = kept.map(|(_, zone)| zone).or_else(|| zone_of(domain));
            if let Some(zone) = zone {
                made.insert(key.clone(), (Arc::clone(domain), zone));
            }
        }
        self.made = made;
        self.zones
            .set(self.made.values().map(|(_, zone)| Arc::clone(zone)));
    }
}

fn zone_of(domain: &Domain) -> Option<Arc<Zone>> {
    let entries = domain.records.values().filter_map(|record| {
        Some(Entry {
            name: domain.full_name(record),
            ttl_secs: record.ttl_secs,
            data: data_of(&record.data)?,
        })
    });
    match Zone::new(&domain.name, &authority(domain), entries) {
        Ok(zone) => Some(Arc::new(zone)),
        Err(error) => {
            tracing::error!(domain = domain.name, %error, "this domain can't be answered");
            None
        }
    }
}

/// None for the start of authority, which the zone has of its own.
fn data_of(data: &RecordData) -> Option<Data> {
    Some(match data.clone() {
        RecordData::A(address) => Data::A(address),
        RecordData::Aaaa { address, .. } => Data::Aaaa(address),
        RecordData::Cname(target) => Data::Cname(target),
        RecordData::Mx { priority, target } => Data::Mx {
            preference: priority,
            exchange: target,
        },
        RecordData::Ns(target) => Data::Ns(target),
        RecordData::Srv {
            priority,
            weight,
            port,
            target,
        } => Data::Srv {
            priority,
            weight,
            port,
            target,
        },
        RecordData::Txt(text) => Data::Txt(text),
        RecordData::Caa { flags, tag, value } => Data::Caa { flags, tag, value },
        RecordData::Soa { .. } => return None,
    })
}

fn authority(domain: &Domain) -> Authority {
    let soa = domain.records.values().find_map(|record| match record.data {
        RecordData::Soa { minimum_secs } => Some((record.ttl_secs, minimum_secs)),
        _ => None,
    });
    let (ttl_secs, minimum_secs) = soa.unwrap_or((TTL_DEFAULT_SECS, TTL_DEFAULT_SECS));
    let [primary, ..] = NAME_SERVERS;
    Authority {
        primary: primary.to_owned(),
        mailbox: format!("hostmaster.{}", domain.name),
        serial: domain.serial,
        refresh_secs: REFRESH_SECS,
        retry_secs: RETRY_SECS,
        expire_secs: EXPIRE_SECS,
        minimum_secs,
        ttl_secs,
    }
}

/// The domain as a zone file (RFC 1035, section 5).
pub(crate) fn zone_file(domain: &Domain) -> String {
    let Authority {
        primary,
        mailbox,
        serial,
        refresh_secs,
        retry_secs,
        expire_secs,
        minimum_secs,
        ..
    } = authority(domain);
    let name = &domain.name;
    let mut text = format!(
        "$ORIGIN {name}.\n$TTL {TTL_DEFAULT_SECS}\n\
         {name}. IN SOA {primary}. {mailbox}. {serial} {refresh_secs} {retry_secs} {expire_secs} {minimum_secs}\n"
    );
    for record in domain.records.values() {
        if let Some(said) = said(record) {
            let (full, ttl, kind) = (domain.full_name(record), record.ttl_secs, record.data.kind());
            // Writing to a text can't fail.
            let _written = writeln!(text, "{full}. {ttl} IN {kind} {said}");
        }
    }
    text
}

/// None for the start of authority, which stands at the top.
fn said(record: &DomainRecord) -> Option<String> {
    Some(match &record.data {
        RecordData::A(address) => address.to_string(),
        RecordData::Aaaa { written, .. } => written.clone(),
        RecordData::Cname(target) | RecordData::Ns(target) => format!("{target}."),
        RecordData::Mx { priority, target } => format!("{priority} {target}."),
        RecordData::Srv {
            priority,
            weight,
            port,
            target,
        } => format!("{priority} {weight} {port} {target}."),
        RecordData::Txt(text) => quoted(text),
        RecordData::Caa { flags, tag, value } => format!("{flags} {tag} {}", quoted(value)),
        RecordData::Soa { .. } => return None,
    })
}

/// In quotation marks; what would end them, and what is no printable ASCII, by its number.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..=b'~' => quoted.push(char::from(byte)),
            other => {
                // Writing to a text can't fail.
                let _written = write!(quoted, "\\{other:03}");
            }
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_file_has_every_record_in_its_own_form() {
        let target = || "mail.a.example".to_owned();
        let all = [
            RecordData::Soa { minimum_secs: 900 },
            RecordData::A([10, 0, 0, 1].into()),
            RecordData::Aaaa {
                address: "::1".parse().unwrap(),
                written: "0::1".to_owned(),
            },
            RecordData::Cname(target()),
            RecordData::Mx {
                priority: 10,
                target: target(),
            },
            RecordData::Srv {
                priority: 1,
                weight: 2,
                port: 3,
                target: target(),
            },
            RecordData::Txt("a \"b\" \\ ü".to_owned()),
            RecordData::Caa {
                flags: 128,
                tag: "issue".to_owned(),
                value: "ca.example".to_owned(),
            },
        ];
        let records = (1..).zip(all).map(|(id, data)| {
            let record = DomainRecord {
                id,
                name: "x".to_owned(),
                ttl_secs: 60,
                data,
            };
            (id, Arc::new(record))
        });
        let domain = Domain {
            name: "a.example".to_owned(),
            created_at: String::new(),
            serial: 7,
            records: records.collect(),
        };
        assert_eq!(
            zone_file(&domain),
            "$ORIGIN a.example.\n$TTL 1800\n\
             a.example. IN SOA ns1.digitalocean.com. hostmaster.a.example. 7 10800 3600 604800 900\n\
             x.a.example. 60 IN A 10.0.0.1\n\
             x.a.example. 60 IN AAAA 0::1\n\
             x.a.example. 60 IN CNAME mail.a.example.\n\
             x.a.example. 60 IN MX 10 mail.a.example.\n\
             x.a.example. 60 IN SRV 1 2 3 mail.a.example.\n\
             x.a.example. 60 IN TXT \"a \\\"b\\\" \\\\ \\195\\188\"\n\
             x.a.example. 60 IN CAA 128 issue \"ca.example\"\n"
        );
    }
}
