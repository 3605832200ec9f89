//! RFC 9110 preconditions, evaluated against a document's current version.

use super::Version;

/// The tags of one `If-Match` or `If-None-Match` field, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntityTags {
    /// `*`: any current representation.
    Any,
    /// A list of tags. Those that can't be a version of ours are left out by the parser: they match nothing.
    List(Vec<EntityTag>),
}

/// One tag that could name a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityTag {
    /// The version it names.
    pub version: Version,
    /// Written with `W/`: never matches strongly.
    pub weak: bool,
}

/// What a request demands of the current state; the default demands nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Precondition {
    /// `If-Match`, compared strongly.
    pub if_match: Option<EntityTags>,
    /// `If-None-Match`, compared weakly.
    pub if_none_match: Option<EntityTags>,
}

impl Precondition {
    /// No condition at all.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.if_match.is_none() && self.if_none_match.is_none()
    }

    /// Whether `If-Match` holds for the current version (`None`: there is no document).
    #[must_use]
    pub fn if_match_holds(&self, current: Option<Version>) -> bool {
        match (&self.if_match, current) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(EntityTags::Any), Some(_)) => true,
            (Some(EntityTags::List(tags)), Some(version)) => {
                tags.iter().any(|tag| !tag.weak && tag.version == version)
            }
        }
    }

    /// Whether `If-None-Match` holds (true: go on; false: 304 on reads, 412 on writes).
    #[must_use]
    pub fn if_none_match_holds(&self, current: Option<Version>) -> bool {
        match (&self.if_none_match, current) {
            (None, _) | (_, None) => true,
            (Some(EntityTags::Any), Some(_)) => false,
            (Some(EntityTags::List(tags)), Some(version)) => tags.iter().all(|tag| tag.version != version),
        }
    }

    /// Whether `If-Match` holds where there is something without a version, as a list: `*` alone can match.
    #[must_use]
    pub fn if_match_holds_unversioned(&self) -> bool {
        !matches!(self.if_match, Some(EntityTags::List(_)))
    }

    /// The same of `If-None-Match`.
    #[must_use]
    pub fn if_none_match_holds_unversioned(&self) -> bool {
        !matches!(self.if_none_match, Some(EntityTags::Any))
    }

    /// Whether a write may go ahead on the current version.
    #[must_use]
    pub fn holds(&self, current: Option<Version>) -> bool {
        self.if_match_holds(current) && self.if_none_match_holds(current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Timestamp, WriteStamp};

    fn version(nonce: u64) -> Version {
        Version::first(WriteStamp {
            now: Timestamp(1),
            nonce,
        })
    }

    fn tags(of: &[(u64, bool)]) -> Option<EntityTags> {
        let tag = |&(nonce, weak): &(u64, bool)| EntityTag {
            version: version(nonce),
            weak,
        };
        Some(EntityTags::List(of.iter().map(tag).collect()))
    }

    fn holds(if_match: Option<EntityTags>, if_none_match: Option<EntityTags>, current: Option<u64>) -> bool {
        let precondition = Precondition {
            if_match,
            if_none_match,
        };
        precondition.holds(current.map(version))
    }

    #[test]
    fn if_match_compares_strongly_and_wants_a_document() {
        let holds = |if_match, current| holds(if_match, None, current);
        assert!(holds(None, Some(1)) && holds(None, None));
        assert!(holds(Some(EntityTags::Any), Some(1)) && !holds(Some(EntityTags::Any), None));
        assert!(holds(tags(&[(2, false), (1, false)]), Some(1)));
        assert!(!holds(tags(&[(1, false)]), None));
        assert!(!holds(tags(&[(2, false)]), Some(1)));
        assert!(!holds(tags(&[(1, true)]), Some(1)));
        assert!(!holds(tags(&[]), Some(1)));
    }

    #[test]
    fn if_none_match_compares_weakly() {
        let holds = |if_none_match, current| holds(None, if_none_match, current);
        assert!(holds(None, Some(1)) && holds(None, None));
        assert!(!holds(Some(EntityTags::Any), Some(1)) && holds(Some(EntityTags::Any), None));
        assert!(!holds(tags(&[(2, false), (1, false)]), Some(1)));
        assert!(!holds(tags(&[(1, true)]), Some(1)));
        assert!(holds(tags(&[(2, false)]), Some(1)) && holds(tags(&[(1, false)]), None));
        assert!(holds(tags(&[]), Some(1)));
    }

    #[test]
    fn what_has_no_version_matches_only_a_star() {
        let of = |if_match, if_none_match| Precondition {
            if_match,
            if_none_match,
        };
        let none = Precondition::default();
        assert!(none.if_match_holds_unversioned() && none.if_none_match_holds_unversioned());
        assert!(of(Some(EntityTags::Any), None).if_match_holds_unversioned());
        assert!(!of(tags(&[(1, false)]), None).if_match_holds_unversioned());
        assert!(!of(tags(&[]), None).if_match_holds_unversioned());
        assert!(!of(None, Some(EntityTags::Any)).if_none_match_holds_unversioned());
        assert!(of(None, tags(&[(1, true)])).if_none_match_holds_unversioned());
    }

    #[test]
    fn both_must_hold() {
        let (one, two) = (|| tags(&[(1, false)]), || tags(&[(2, false)]));
        assert!(holds(one(), two(), Some(1)));
        assert!(!holds(one(), one(), Some(1)));
        assert!(!holds(two(), two(), Some(1)));
    }

    #[test]
    fn nothing_is_demanded_only_without_both() {
        assert!(Precondition::default().is_none());
        for (if_match, if_none_match) in [
            (Some(EntityTags::Any), None),
            (None, Some(EntityTags::Any)),
            (Some(EntityTags::Any), Some(EntityTags::Any)),
        ] {
            let precondition = Precondition {
                if_match,
                if_none_match,
            };
            assert!(!precondition.is_none());
        }
    }
}
