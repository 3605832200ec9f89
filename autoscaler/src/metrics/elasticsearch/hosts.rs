//! Whose documents are whose. Names are compared as RFC 4343 compares host names (without case, without a dot at the end),
//! short ones match fully qualified ones, and the droplet's id decides where the documents have it. What could be two
//! members' is neither's, and what has another droplet's id is not the member's, whatever its name (docs/adr/0104).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tidepool_autoscaler_core::observe::{MemberId, MemberName, UnixMillis};

use super::config::ElasticsearchConfig;
use super::fields::Fields;
use crate::metrics::fault::words;
use crate::metrics::{Host, SignalQuery, shown};

/// Names that are compared at most; more make the reasons poorer and the spellings fewer, nothing else.
pub(super) const NAMES_MAX: usize = 10_000;
/// Names are looked for so far back at least, seconds: longer than most windows, so that a host whose clock is slow is seen.
const LOOK_BACK_SECS: u32 = 300;
/// A name is the nearest one only if no more than so many letters differ.
const NEAR_EDITS_MAX: usize = 3;

/// How a document names its host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    /// Its name.
    pub(super) name: String,
    /// The droplet's id, where the document has one.
    pub(super) instance: Option<String>,
}

/// Every host that has written documents lately, with its newest document's time.
#[derive(Debug, Clone, Default)]
pub(super) struct Directory {
    seen: BTreeMap<Origin, UnixMillis>,
    /// There are more than were read.
    truncated: bool,
}

impl Directory {
    /// The search that lists them.
    pub(super) fn body(
        queries: &[SignalQuery],
        now: UnixMillis,
        config: &ElasticsearchConfig,
        fields: &Fields,
    ) -> Result<Value, String> {
        let window_secs = queries.iter().map(|query| query.window_secs).max().unwrap_or(0);
        let since = now.0 - i64::from(window_secs.max(LOOK_BACK_SECS)) * 1000;
        let mut sources =
            vec![json!({ "host": { "terms": { "field": fields.exact(&config.host_field)? } } })];
        if let Some(instance) = fields.instance() {
            sources.push(json!({ "instance": { "terms": { "field": instance, "missing_bucket": true } } }));
        }
        Ok(json!({
            "size": 0,
            "track_total_hits": false,
            "timeout": config.server_timeout(),
            "query": { "range": { "@timestamp": { "gte": since, "format": "epoch_millis" } } },
            "aggs": { "hosts": {
                "composite": { "size": NAMES_MAX, "sources": sources },
                "aggs": { "newest": { "max": { "field": "@timestamp" } } },
            } },
        }))
    }

    /// Reads the answer. What can't be read of it makes the reasons poorer, nothing else.
    pub(super) fn read(answer: &Value) -> Directory {
        let buckets = answer.pointer("/aggregations/hosts/buckets");
        let buckets = buckets.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let seen = buckets.iter().filter_map(|bucket| {
            let newest = bucket.pointer("/newest/value").and_then(Value::as_f64)?;
            Some((Origin::of(bucket.get("key")?)?, UnixMillis(newest as i64)))
        });
        Directory {
            seen: seen.collect(),
            truncated: buckets.len() >= NAMES_MAX,
        }
    }

    /// How the documents of these hosts may be named: exactly, in lower case, and as was seen.
    pub(super) fn spellings(&self, hosts: &BTreeMap<MemberName, Host>) -> BTreeSet<String> {
        let wanted: BTreeSet<String> = hosts
            .keys()
            .map(|name| short(&normal(&name.0)).to_owned())
            .collect();
        let seen = self.seen.keys().map(|origin| &origin.name);
        let seen = seen.filter(|name| wanted.contains(short(&normal(name)))).cloned();
        let own = hosts.keys().flat_map(|name| [name.0.clone(), normal(&name.0)]);
        seen.chain(own).collect()
    }

    /// Why a host has no documents of a signal, as far as the names show. Those later than `until` don't count.
    pub(super) fn explain(&self, member: &MemberName, query: &SignalQuery, until: UnixMillis) -> String {
        let id = query.hosts.get(member).map(|host| &host.id);
        let shared = shared_ids(&self.seen.keys().collect());
        let anothers = |origin: &Origin| {
            let written = origin.instance.as_deref().filter(|id| !shared.contains(id))?;
            let own = id.filter(|own| contradicts(own, written))?;
            Some(of_another_droplet(own, written))
        };
        let mine = |origin: &&Origin| {
            id.is_some_and(|id| origin.instance.as_ref() == Some(&id.0))
                || (may_write(&member.0, &origin.name) && anothers(origin).is_none())
        };
        let newest = self.seen.iter().filter(|(origin, _)| mine(origin));
        if let Some((origin, at)) = newest.max_by_key(|(_, at)| **at) {
            let named = if origin.name == member.0 {
                String::new()
            } else {
                format!(" (as {:?})", origin.name)
            };
            let filter = match shown(&query.what.filter) {
                none if none.is_empty() => none,
                filter => format!(" with {filter}"),
            };
            return if *at > until {
                format!("its documents{named} claim to be from the future: its clock is wrong")
            } else {
                format!("it writes documents{named}, but none of this signal{filter} within the window")
            };
        }
        let named = self
            .seen
            .keys()
            .filter(|origin| may_write(&member.0, &origin.name));
        if let Some(cause) = named.filter_map(anothers).next() {
            return cause;
        }
        let more = if self.truncated {
            format!(" (only {NAMES_MAX} hosts were compared)")
        } else {
            String::new()
        };
        match self.nearest(&member.0, query) {
            Some(near) => format!("no documents of it; the nearest host's name is {near:?}{more}"),
            None if self.seen.is_empty() => "no documents of any host".to_owned(),
            None => format!(
                "no documents of it, among those of {} hosts{more}",
                self.seen.len()
            ),
        }
    }

    /// The name that is nearest to a member's, of those that are not another member's.
    fn nearest(&self, name: &str, query: &SignalQuery) -> Option<&str> {
        let name = normal(name);
        let edits = |origin: &Origin| strsim::levenshtein(&name, &normal(&origin.name));
        let is_anothers = |origin: &Origin| query.hosts.keys().any(|one| may_write(&one.0, &origin.name));
        let near = self.seen.keys().map(|origin| (edits(origin), origin));
        near.filter(|(edits, _)| *edits <= NEAR_EDITS_MAX && edits * 2 < name.len())
            .filter(|(_, origin)| !is_anothers(origin))
            .min_by_key(|(edits, _)| *edits)
            .map(|(_, origin)| origin.name.as_str())
    }
}

impl Origin {
    /// A group's key of an answer.
    pub(super) fn of(key: &Value) -> Option<Origin> {
        let text = |name| match key.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        Some(Origin {
            name: text("host")?,
            instance: text("instance").filter(|id| !id.is_empty()),
        })
    }
}

/// Whose an origin's documents are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner<'a> {
    /// This member's; by its id, where that says so.
    Member(&'a MemberName, Option<&'a MemberId>),
    /// Nobody's that was asked about.
    Nobody,
    /// Another droplet's, though they are in the name of these.
    Another(BTreeSet<&'a MemberName>),
    /// One of several members', so neither's.
    Unclear(BTreeSet<&'a MemberName>),
}

/// The members of all pools that are asked about, to know whose documents are whose.
#[derive(Debug, Default)]
pub(super) struct Owners<'a> {
    by_short_name: BTreeMap<String, BTreeSet<&'a MemberName>>,
    by_id: BTreeMap<&'a MemberId, &'a MemberName>,
    /// Several where pools share a name.
    ids: BTreeMap<&'a MemberName, BTreeSet<&'a MemberId>>,
}

/// How surely an origin is a member's; the surest ones count alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// By its id; or by its whole name, where the documents have no id.
    Sure,
    /// By its whole name, though the id is of another provider's format, or several hosts' own.
    OddId,
    /// By a shorter or longer form of its name.
    OtherForm,
}

impl<'a> Owners<'a> {
    /// Those that `queries` ask about.
    pub(super) fn of(queries: &'a [SignalQuery]) -> Owners<'a> {
        let mut owners = Owners::default();
        for (name, host) in queries.iter().flat_map(|query| &query.hosts) {
            let short = short(&normal(&name.0)).to_owned();
            owners.by_short_name.entry(short).or_default().insert(name);
            owners.by_id.insert(&host.id, name);
            owners.ids.entry(name).or_default().insert(&host.id);
        }
        owners
    }

    /// Whose each of these is.
    pub(super) fn assign<'o>(&self, origins: &BTreeSet<&'o Origin>) -> BTreeMap<&'o Origin, Owner<'a>> {
        let shared = shared_ids(origins);
        let mut claims: BTreeMap<&MemberName, BTreeMap<Claim, Vec<&Origin>>> = BTreeMap::new();
        let mut owners: BTreeMap<&Origin, Owner<'a>> = BTreeMap::new();
        for origin in origins {
            match self.owner(origin, &shared) {
                (owner @ Owner::Member(member, _), claim) => {
                    let member_claims = claims.entry(member).or_default();
                    member_claims.entry(claim).or_default().push(origin);
                    owners.insert(origin, owner);
                }
                (owner, _) => {
                    owners.insert(origin, owner);
                }
            }
        }
        for (member, claims) in &claims {
            let surest = claims.keys().next().copied();
            for (claim, origins) in claims {
                let names: BTreeSet<String> = origins.iter().map(|origin| normal(&origin.name)).collect();
                let unclear = *claim == Claim::OtherForm && names.len() > 1;
                for origin in origins {
                    if Some(*claim) != surest {
                        owners.insert(origin, Owner::Nobody);
                    } else if unclear {
                        owners.insert(origin, Owner::Unclear([*member].into()));
                    }
                }
            }
        }
        owners
    }

    fn owner(&self, origin: &Origin, shared: &BTreeSet<&str>) -> (Owner<'a>, Claim) {
        let instance = origin.instance.as_deref();
        let id = instance.filter(|id| !shared.contains(id));
        let by_id = id.and_then(|id| self.by_id.get_key_value(&MemberId(id.to_owned())));
        if let Some((id, member)) = by_id {
            return (Owner::Member(member, Some(id)), Claim::Sure);
        }
        let alike = self.by_short_name.get(short(&normal(&origin.name)));
        let named: BTreeSet<&MemberName> = alike
            .into_iter()
            .flatten()
            .copied()
            .filter(|member| may_write(&member.0, &origin.name))
            .collect();
        let is_another = |member: &MemberName| {
            let mut own = self.ids.get(member).into_iter().flatten();
            id.is_some_and(|id| own.all(|own| contradicts(own, id)))
        };
        let candidates: BTreeSet<&MemberName> = named
            .iter()
            .copied()
            .filter(|member| !is_another(member))
            .collect();
        if candidates.is_empty() && !named.is_empty() {
            return (Owner::Another(named), Claim::Sure);
        }
        let claim = match candidates.first() {
            Some(member) if normal(&member.0) != normal(&origin.name) => Claim::OtherForm,
            _ if instance.is_some() => Claim::OddId,
            _ => Claim::Sure,
        };
        // Only their ids distinguish members of two pools that share a name.
        let is_shared = |member: &MemberName| self.ids.get(member).is_some_and(|ids| ids.len() > 1);
        let owner = match (candidates.len(), candidates.first()) {
            (1, Some(member)) if is_shared(member) => Owner::Unclear(candidates),
            (1, Some(member)) => Owner::Member(member, None),
            (0, _) | (_, None) => Owner::Nobody,
            _ => Owner::Unclear(candidates),
        };
        (owner, claim)
    }
}

/// Ids that several hosts claim to have (a cloned image, a wrong metadata service): they identify nobody.
fn shared_ids<'o>(origins: &BTreeSet<&'o Origin>) -> BTreeSet<&'o str> {
    let mut names: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for origin in origins {
        if let Some(id) = &origin.instance {
            let short = short(&normal(&origin.name)).to_owned();
            names.entry(id).or_default().insert(short);
        }
    }
    let shared = names.into_iter().filter(|(_, names)| names.len() > 1);
    shared.map(|(id, _)| id).collect()
}

/// Whether a document with the id `written` can't be of the droplet `own`: both are of one provider's format, and they differ.
pub(super) fn contradicts(own: &MemberId, written: &str) -> bool {
    let own = own.0.as_str();
    let is_number = |id: &str| id.bytes().all(|byte| byte.is_ascii_digit());
    let marks = |id: &str| -> Vec<(usize, char)> {
        let chars = id.char_indices();
        chars.filter(|(_, c)| !c.is_ascii_alphanumeric()).collect()
    };
    let alike = match (is_number(own), is_number(written)) {
        (true, true) => true,
        (false, false) => own.len() == written.len() && marks(own) == marks(written),
        _ => false,
    };
    alike && own != written && !written.is_empty()
}

/// That documents are in a member's name and not its own.
pub(super) fn of_another_droplet(own: &MemberId, written: &str) -> String {
    let (own, written) = (words(&own.0), words(written));
    format!(
        "the documents in its name are another droplet's: cloud.instance.id is {written:?}, and its own is {own:?}"
    )
}

/// A host's name as names of hosts compare (RFC 4343): without case, and without the root's dot.
fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// The first label.
fn short(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// Whether a host of this name may call itself `written`: the same name, a shorter form of it, or it with a domain.
fn may_write(name: &str, written: &str) -> bool {
    let (name, written) = (normal(name), normal(written));
    let begins = |long: &str, short: &str| long.strip_prefix(short).is_some_and(|rest| rest.starts_with('.'));
    name == written || begins(&name, &written) || begins(&written, &name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::test_query;

    fn origin(name: &str, instance: Option<&str>) -> Origin {
        Origin {
            name: name.to_owned(),
            instance: instance.map(str::to_owned),
        }
    }

    /// Whose each origin is: a member's name, "-" for nobody, "?" for several.
    fn owners(members: &[(&str, &str)], origins: &[(&str, Option<&str>)]) -> Vec<String> {
        let queries = [test_query(members)];
        let origins: Vec<Origin> = origins.iter().map(|(name, id)| origin(name, *id)).collect();
        let assigned = Owners::of(&queries).assign(&origins.iter().collect());
        let text = |origin| match &assigned[origin] {
            Owner::Member(member, _) => member.0.clone(),
            Owner::Nobody | Owner::Another(_) => "-".to_owned(),
            Owner::Unclear(_) => "?".to_owned(),
        };
        origins.iter().map(text).collect()
    }

    #[test]
    fn names_of_hosts_compare_without_case_and_with_or_without_a_domain() {
        for (member, written) in [
            ("Web-A", "web-a"),
            ("web-a", "WEB-A"),
            ("web-b.example.com", "web-b"),
            ("web-b.example.com", "Web-B.Example.com."),
            ("web-b", "web-b.example.com"),
            ("web-b.example.com", "web-b.example"),
        ] {
            assert_eq!(
                owners(&[(member, "1")], &[(written, None)]),
                [member],
                "{written}"
            );
        }
        for written in ["web", "web-bb", "b", "web-b.example.org", "xweb-b", ""] {
            assert_eq!(
                owners(&[("web-b.example.com", "1")], &[(written, None)]),
                ["-"],
                "{written}"
            );
        }
    }

    #[test]
    fn what_could_be_two_members_is_neither_ones() {
        let cased = [("Web-A", "1"), ("web-a", "2")];
        assert_eq!(owners(&cased, &[("web-a", None), ("Web-A", None)]), ["?", "?"]);
        let domains = [("web-b.example.com", "1"), ("web-b.example.net", "2")];
        assert_eq!(owners(&domains, &[("web-b", None)]), ["?"]);
        assert_eq!(
            owners(&domains, &[("web-b.example.net", None)]),
            ["web-b.example.net"]
        );
        // One member, and two other hosts of whom either may be it.
        let written = [("web-c.a.com", None), ("web-c.b.com", None)];
        assert_eq!(owners(&[("web-c", "1")], &written), ["?", "?"]);
        let written = [("web-c.a.com", None), ("web-c", None)];
        assert_eq!(owners(&[("web-c", "1")], &written), ["-", "web-c"]);
    }

    #[test]
    fn the_droplets_id_decides() {
        let cased = [("Web-A", "1"), ("web-a", "2")];
        let written = [("web-a", Some("1")), ("web-a", Some("2"))];
        assert_eq!(owners(&cased, &written), ["Web-A", "web-a"]);
        assert_eq!(
            owners(&[("web-1", "7")], &[("ip-10-0-0-1", Some("7"))]),
            ["web-1"]
        );
        // A droplet of the same name that is gone, or another's.
        let written = [("web-1", Some("7")), ("web-1", Some("8"))];
        assert_eq!(owners(&[("web-1", "7")], &written), ["web-1", "-"]);
        // An id of another kind, where there is nothing better.
        assert_eq!(owners(&[("web-1", "7")], &[("web-1", Some("i-0abc"))]), ["web-1"]);
    }

    #[test]
    fn a_name_with_another_droplets_id_is_not_the_members() {
        for (id, written, owner) in [
            ("7", "8", "-"),
            ("100", "900", "-"),
            ("412345678", "41234", "-"),
            ("i-0abc", "i-0abd", "-"),
            (
                "5f0c1a2e-1111-4222-8333-444455556666",
                "5f0c1a2e-1111-4222-8333-444455556667",
                "-",
            ),
            // Formats of other providers, and what is not an id at all.
            ("7", "i-0abc", "web-1"),
            ("7", "5f0c1a2e-1111-4222-8333-444455556666", "web-1"),
            ("7", "", "web-1"),
            ("i-0abc", "7", "web-1"),
        ] {
            for name in ["web-1", "WEB-1.example.com"] {
                assert_eq!(
                    owners(&[("web-1", id)], &[(name, Some(written))]),
                    [owner],
                    "{id} {written}"
                );
            }
        }
        // Neither among others, nor where the member's own documents have no id.
        let written = [("web-1", Some("8")), ("web-1", None)];
        assert_eq!(owners(&[("web-1", "7")], &written), ["-", "web-1"]);
    }

    #[test]
    fn an_id_that_several_hosts_claim_identifies_nobody() {
        let members = [("web-1", "7"), ("web-2", "8")];
        let written = [("web-1", Some("7")), ("web-2", Some("7")), ("db-1", Some("7"))];
        assert_eq!(owners(&members, &written), ["web-1", "web-2", "-"]);
    }

    #[test]
    fn where_nothing_matches_the_nearest_name_is_given() {
        let answer = json!({ "aggregations": { "hosts": { "buckets": [
            { "key": { "host": "web-bb", "instance": null }, "newest": { "value": 1_000_000.0 } },
            { "key": { "host": "WEB-C", "instance": "i-9" }, "newest": { "value": 9_000_000.0 } },
            { "key": { "host": "web-d.example.com" }, "newest": { "value": 1_000_000.0 } },
        ] } } });
        let directory = Directory::read(&answer);
        let queries = [test_query(&[
            ("web-b", "1"),
            ("web-c", "2"),
            ("web-d", "3"),
            ("database", "4"),
        ])];
        let explain =
            |name: &str| directory.explain(&MemberName(name.to_owned()), &queries[0], UnixMillis(1_010_000));
        assert_eq!(
            explain("web-b"),
            "no documents of it; the nearest host's name is \"web-bb\""
        );
        assert_eq!(
            explain("web-c"),
            "its documents (as \"WEB-C\") claim to be from the future: its clock is wrong"
        );
        assert_eq!(
            explain("web-d"),
            "it writes documents (as \"web-d.example.com\"), but none of this signal within the window"
        );
        let soon = UnixMillis(9_000_000 - 20_000);
        assert_eq!(
            directory.explain(&MemberName("web-c".to_owned()), &queries[0], soon),
            "its documents (as \"WEB-C\") claim to be from the future: its clock is wrong"
        );
        assert_eq!(explain("database"), "no documents of it, among those of 3 hosts");
        let spellings = directory.spellings(&queries[0].hosts);
        assert!(
            spellings.contains("WEB-C") && spellings.contains("web-d.example.com"),
            "{spellings:?}"
        );
        assert!(!spellings.contains("web-bb"), "{spellings:?}");
    }
}
