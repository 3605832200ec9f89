//! Tags: the autoscaler's own, and how the account spells them. Pure, but for reading them.
//!
//! DigitalOcean compares tags without case and keeps the spelling that was used first; in addresses and filters only that
//! one is known. So every tag is compared by [`same`], and sent as [`Spellings::of`] says.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use tidepool_autoscaler_core::observe::{PoolName, UnixMillis};
use tidepool_autoscaler_core::recipe::Generation;

/// The account's tags are read anew after this: a person may make one at any time.
const FRESH_SECS: u32 = 300;
/// After a failure they are asked for again sooner.
const RETRY_SECS: u32 = 60;
/// The autoscaler's own tags begin so.
const OWN: [&str; 4] = ["pool:", "serving:", "draining:", "generation:"];

/// Membership of a pool.
pub(super) fn pool_tag(pool: &PoolName) -> String {
    format!("pool:{pool}")
}

/// What the load balancer targets.
pub(super) fn serving_tag(pool: &PoolName) -> String {
    format!("serving:{pool}")
}

/// Chosen as a victim.
pub(super) fn draining_tag(pool: &PoolName) -> String {
    format!("draining:{pool}")
}

/// What its member was made as.
pub(super) fn generation_tag(pool: &PoolName, generation: &Generation) -> String {
    format!("generation:{pool}:{generation}")
}

/// The generation of this pool that a tag says, if it is one of these.
pub(super) fn generation_in(tag: &str, pool: &PoolName) -> Option<Generation> {
    let begin = format!("generation:{pool}:");
    let is_one = tag.get(..begin.len()).is_some_and(|text| same(text, &begin));
    let text = tag.get(begin.len()..).filter(|text| is_one && !text.is_empty())?;
    Some(Generation(text.to_ascii_lowercase()))
}

/// Whether two spellings are one tag to DigitalOcean.
pub(super) fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// Whether a tag is, or could be taken for, one of the autoscaler's own.
pub(super) fn is_own(tag: &str) -> bool {
    OWN.iter()
        .any(|own| tag.get(..own.len()).is_some_and(|begin| same(begin, own)))
}

/// Whether a tag makes a droplet a member of some pool.
pub(super) fn is_pool(tag: &str) -> bool {
    let [pool, ..] = OWN;
    tag.len() > pool.len() && tag.get(..pool.len()).is_some_and(|begin| same(begin, pool))
}

/// How the account spells its tags.
#[derive(Debug, Default)]
pub(super) struct Spellings {
    /// By the tag in lower case.
    known: BTreeMap<String, Vec<String>>,
    read_at: Option<UnixMillis>,
    failed_at: Option<UnixMillis>,
    /// Why they could not be read.
    pub(super) problem: Option<String>,
}

impl Spellings {
    /// The account's spelling of a tag, or the tag itself if the account doesn't know it.
    pub(super) fn of(&self, tag: &str) -> String {
        let known = self.known.get(&tag.to_ascii_lowercase());
        let spelling = known.and_then(|all| all.iter().find(|one| *one == tag).or_else(|| all.first()));
        spelling.map_or_else(|| tag.to_owned(), Clone::clone)
    }

    /// Notes a spelling that was seen.
    pub(super) fn learn(&mut self, spelling: &str) {
        let all = self.known.entry(spelling.to_ascii_lowercase()).or_default();
        if !all.iter().any(|one| one == spelling) {
            all.push(spelling.to_owned());
        }
    }

    /// Whether it is time to read the account's tags.
    pub(super) fn is_due(&self, now: UnixMillis) -> bool {
        let due = |at: Option<UnixMillis>, secs| at.is_none_or(|at| at > now || now.is_past(at, secs));
        due(self.read_at, FRESH_SECS) && due(self.failed_at, RETRY_SECS)
    }

    /// All of the account's tags were read.
    pub(super) fn read(&mut self, tags: &[String], now: UnixMillis) {
        self.known.clear();
        tags.iter().for_each(|tag| self.learn(tag));
        (self.read_at, self.failed_at, self.problem) = (Some(now), None, None);
    }

    /// They could not be read; what is known of them stays.
    pub(super) fn failed(&mut self, why: &str, now: UnixMillis) {
        self.failed_at = Some(now);
        self.problem = Some(format!(
            "the account's tags can't be read, so their spelling isn't checked: {why}"
        ));
    }
}

/// The name of a tag in the answer to making one.
pub(super) fn name_in(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        tag: Tag,
    }
    serde_json::from_slice::<Answer>(body)
        .ok()
        .map(|answer| answer.tag.name)
}

/// The name of one item of the account's tags; one that can't be read is nobody's.
pub(super) fn name_of(item: &RawValue) -> Option<String> {
    serde_json::from_str::<Tag>(item.get()).ok().map(|tag| tag.name)
}

#[derive(Deserialize)]
struct Tag {
    name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_spelling_is_used_and_an_exact_one_before_it() {
        let mut spellings = Spellings::default();
        assert_eq!(spellings.of("pool:api"), "pool:api");
        spellings.learn("pool:API");
        assert_eq!(spellings.of("pool:api"), "pool:API");
        spellings.learn("pool:api");
        assert_eq!(spellings.of("pool:api"), "pool:api");
    }

    #[test]
    fn own_tags_are_known_in_every_spelling() {
        for tag in ["pool:web", "POOL:web", "Serving:", "dRaining:x"] {
            assert!(is_own(tag), "{tag}");
        }
        for tag in ["pools:web", "pool", "", "é:x", "my-pool:web"] {
            assert!(!is_own(tag), "{tag}");
        }
    }

    #[test]
    fn a_generation_is_read_from_the_tag_of_its_own_pool() {
        let of = |tag| generation_in(tag, &PoolName("web".to_owned())).map(|generation| generation.0);
        assert_eq!(of("generation:web:20261129-1"), Some("20261129-1".to_owned()));
        assert_eq!(of("Generation:WEB:A"), Some("a".to_owned()));
        for other in [
            "generation:web:",
            "generation:web",
            "generation:webshop:1",
            "generation:é",
            "pool:web",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn the_tags_are_read_again_after_a_while_and_sooner_after_a_failure() {
        let at = |secs: i64| UnixMillis(secs * 1000);
        let mut spellings = Spellings::default();
        assert!(spellings.is_due(at(0)));
        spellings.failed("no", at(0));
        assert!(!spellings.is_due(at(59)) && spellings.is_due(at(60)));
        spellings.read(&["env:a".to_owned()], at(60));
        assert!(!spellings.is_due(at(359)) && spellings.is_due(at(360)));
        // A clock that was set back does not keep them for ever.
        assert!(spellings.is_due(at(10)));
        assert_eq!(spellings.problem, None);
    }
}
