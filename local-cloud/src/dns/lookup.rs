//! What all zones together have for a question. Pure: no sockets, no bytes.

use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{LowerName, Name, Record, RecordType};

use super::ByName;
use super::zone::{Found, Zone};

/// Names that may stand for another one, one after the other; more are a circle, or as good as one.
const ALIASES_MAX: usize = 8;

/// An answer, but for its envelope.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    pub(super) code: ResponseCode,
    /// Whether this server is responsible for the name that was asked for.
    pub(super) authoritative: bool,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
}

impl Lookup {
    fn failed(code: ResponseCode) -> Self {
        Self {
            code,
            ..Self::default()
        }
    }
}

/// Looks a name up; an alias is followed as long as it stays in the zones.
pub(super) fn look_up(zones: &ByName, name: &Name, kind: RecordType) -> Lookup {
    let mut lookup = Lookup::default();
    let mut asked = LowerName::new(name);
    let mut owner = name.clone();
    for _alias in 0..=ALIASES_MAX {
        let Some(zone) = zone_of(zones, &asked) else {
            if lookup.answers.is_empty() {
                return Lookup::failed(ResponseCode::Refused);
            }
            return lookup;
        };
        match zone.find(&asked, kind) {
            Found::Records(records) => {
                lookup.authoritative = true;
                lookup.answers.extend(named(records, &owner));
                return lookup;
            }
            Found::Alias(record, target) => {
                lookup.authoritative = true;
                lookup.answers.extend(named(vec![record], &owner));
                owner = Name::from(target.clone());
                asked = target;
            }
            Found::Delegated(servers) => {
                lookup.authorities = servers.into_iter().cloned().collect();
                return lookup;
            }
            Found::NoData => return nothing(lookup, ResponseCode::NoError, &zone),
            Found::NoName => return nothing(lookup, ResponseCode::NXDomain, &zone),
        }
    }
    Lookup::failed(ResponseCode::ServFail)
}

/// There is nothing, and how long that may be remembered (RFC 2308).
fn nothing(mut lookup: Lookup, code: ResponseCode, zone: &Zone) -> Lookup {
    lookup.authoritative = true;
    lookup.code = code;
    lookup.authorities = vec![zone.soa().clone()];
    lookup
}

/// The records with the name that was asked for: a wildcard's have another, and capitals come back as they were sent.
fn named<'a>(records: Vec<&'a Record>, owner: &'a Name) -> impl Iterator<Item = Record> {
    records.into_iter().map(move |record| {
        let mut record = record.clone();
        record.name = owner.clone();
        record
    })
}

/// The zone that a name is in: of two that are one in the other, the inner one.
fn zone_of(zones: &ByName, name: &LowerName) -> Option<Arc<Zone>> {
    let mut at = name.clone();
    loop {
        if let Some(zone) = zones.get(&at) {
            return Some(Arc::clone(zone));
        }
        if at.is_root() {
            return None;
        }
        at = at.base_name();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::dns::{Authority, Data, Entry, Zones};

    fn zone(origin: &str, entries: &[(&str, Data)]) -> Arc<Zone> {
        let authority = Authority {
            primary: "ns1.example.net".to_owned(),
            mailbox: format!("hostmaster.{origin}"),
            serial: 1,
            refresh_secs: 10_800,
            retry_secs: 3_600,
            expire_secs: 604_800,
            minimum_secs: 1_800,
            ttl_secs: 1_800,
        };
        let entries = entries.iter().map(|(name, data)| Entry {
            name: (*name).to_owned(),
            ttl_secs: 60,
            data: data.clone(),
        });
        Arc::new(Zone::new(origin, &authority, entries).unwrap())
    }

    fn a(last: u8) -> Data {
        Data::A(Ipv4Addr::new(10, 0, 0, last))
    }

    fn cname(target: &str) -> Data {
        Data::Cname(target.to_owned())
    }

    fn zones() -> Arc<ByName> {
        let zones = Zones::default();
        zones.set([
            zone(
                "a.example",
                &[
                    ("a.example", a(1)),
                    ("a.example", a(2)),
                    ("a.example", a(2)),
                    ("www.a.example", cname("a.example")),
                    ("deep.er.a.example", a(3)),
                    ("*.a.example", a(4)),
                    ("*.er.a.example", Data::Txt("t".repeat(300))),
                    ("out.a.example", cname("elsewhere.example")),
                    ("other.a.example", cname("x.b.example")),
                    ("one.a.example", cname("two.a.example")),
                    ("two.a.example", cname("one.a.example")),
                    ("sub.a.example", Data::Ns("ns.far.example".to_owned())),
                    ("host.sub.a.example", a(9)),
                ],
            ),
            zone("b.example", &[("x.b.example", a(5))]),
            zone("in.a.example", &[("in.a.example", a(6))]),
        ]);
        zones.current()
    }

    /// Code, whether authoritative, and what each answer says.
    fn asked(name: &str, kind: RecordType) -> (ResponseCode, bool, Vec<String>) {
        let lookup = look_up(&zones(), &Name::from_ascii(name).unwrap(), kind);
        let said = lookup.answers.iter().map(|record| record.data.to_string());
        (lookup.code, lookup.authoritative, said.collect())
    }

    #[test]
    fn names_are_answered_as_the_zones_have_them() {
        use RecordType as T;
        use ResponseCode::{NXDomain, NoError, Refused, ServFail};
        let cases: [(&str, T, ResponseCode, bool, &[&str]); 18] = [
            ("a.example.", T::A, NoError, true, &["10.0.0.1", "10.0.0.2"]),
            ("A.Example.", T::A, NoError, true, &["10.0.0.1", "10.0.0.2"]),
            ("a.example.", T::AAAA, NoError, true, &[]),
            (
                "www.a.example.",
                T::A,
                NoError,
                true,
                &["a.example.", "10.0.0.1", "10.0.0.2"],
            ),
            ("www.a.example.", T::CNAME, NoError, true, &["a.example."]),
            ("www.a.example.", T::MX, NoError, true, &["a.example."]),
            ("any.a.example.", T::A, NoError, true, &["10.0.0.4"]),
            ("two.labels.a.example.", T::A, NoError, true, &["10.0.0.4"]),
            // There is something below it, so the wildcard is not for it.
            ("er.a.example.", T::A, NoError, true, &[]),
            ("new.er.a.example.", T::A, NoError, true, &[]),
            ("x.deep.er.a.example.", T::A, NXDomain, true, &[]),
            ("out.a.example.", T::A, NoError, true, &["elsewhere.example."]),
            (
                "other.a.example.",
                T::A,
                NoError,
                true,
                &["x.b.example.", "10.0.0.5"],
            ),
            ("one.a.example.", T::A, ServFail, false, &[]),
            ("host.sub.a.example.", T::A, NoError, false, &[]),
            ("in.a.example.", T::A, NoError, true, &["10.0.0.6"]),
            ("y.b.example.", T::A, NXDomain, true, &[]),
            ("example.", T::A, Refused, false, &[]),
        ];
        for (name, kind, code, authoritative, said) in cases {
            let said: Vec<String> = said.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(asked(name, kind), (code, authoritative, said), "{name} {kind}");
        }
    }

    #[test]
    fn what_is_not_there_comes_with_how_long_that_may_be_remembered() {
        for name in ["y.b.example.", "b.example."] {
            let lookup = look_up(&zones(), &Name::from_ascii(name).unwrap(), RecordType::A);
            let kinds: Vec<RecordType> = lookup.authorities.iter().map(Record::record_type).collect();
            assert_eq!(kinds, [RecordType::SOA], "{name}");
        }
        let lookup = look_up(
            &zones(),
            &Name::from_ascii("sub.a.example.").unwrap(),
            RecordType::A,
        );
        assert_eq!(lookup.authorities.len(), 1);
        assert!(lookup.authorities[0].record_type() == RecordType::NS && !lookup.authoritative);
    }

    #[test]
    fn a_wildcards_answer_has_the_name_that_was_asked_for_in_its_capitals() {
        let name = Name::from_ascii("SomeThing.a.example.").unwrap();
        let lookup = look_up(&zones(), &name, RecordType::A);
        assert_eq!(lookup.answers[0].name.to_ascii(), "SomeThing.a.example.");
    }

    #[test]
    fn all_of_a_name_is_answered_together_and_long_texts_in_several_strings() {
        let (code, _, said) = asked("a.example.", RecordType::ANY);
        assert_eq!((code, said.len()), (ResponseCode::NoError, 3));
        let lookup = look_up(
            &zones(),
            &Name::from_ascii("q.er.a.example.").unwrap(),
            RecordType::TXT,
        );
        let hickory_proto::rr::RData::TXT(text) = &lookup.answers[0].data else {
            panic!("{lookup:?}");
        };
        let lengths: Vec<usize> = text.txt_data.iter().map(|part| part.len()).collect();
        assert_eq!(lengths, [255, 45]);
    }
}
