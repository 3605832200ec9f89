//! Scopes: what a key may do, and on which collections.

use std::fmt;

/// What a request needs, or a scope grants. Each level includes those before it: a write's answer shows the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// See documents, collections and lists.
    Read,
    /// Create, replace, change and delete documents.
    Write,
    /// Make, change and drop collections.
    Admin,
}

impl Level {
    /// The word in a scope's text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

/// Longest pattern, in characters: a whole collection name (128) with a `*` on each side.
pub const PATTERN_CHARS_MAX: usize = 130;

/// Why a text is not a scope. `Display` is fit to be shown to an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidScope {
    /// No colon between level and pattern.
    #[error("must have the form LEVEL:PATTERN, such as read:notes-*")]
    Form,
    /// A level that does not exist.
    #[error("level must be read, write or admin, found {0:?}")]
    Level(String),
    /// Nothing after the colon.
    #[error("pattern must not be empty; * means every collection")]
    EmptyPattern,
    /// More than [`PATTERN_CHARS_MAX`] characters.
    #[error("pattern must have at most {PATTERN_CHARS_MAX} characters, has {0}")]
    PatternTooLong(usize),
    /// A character outside `A-Za-z0-9_.~-*`.
    #[error("pattern may only hold A-Z a-z 0-9 _ . ~ - *, found {0:?}")]
    Character(char),
}

/// One scope: a level on the collections whose name matches a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    level: Level,
    pattern: Box<str>,
}

impl Scope {
    /// Reads `level:pattern`.
    ///
    /// # Errors
    /// [`InvalidScope`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidScope> {
        let (level, pattern) = text.split_once(':').ok_or(InvalidScope::Form)?;
        let level = match level {
            "read" => Level::Read,
            "write" => Level::Write,
            "admin" => Level::Admin,
            other => return Err(InvalidScope::Level(other.to_owned())),
        };
        if pattern.is_empty() {
            return Err(InvalidScope::EmptyPattern);
        }
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '~' | '-' | '*');
        if let Some(bad) = pattern.chars().find(|c| !allowed(c)) {
            return Err(InvalidScope::Character(bad));
        }
        if pattern.len() > PATTERN_CHARS_MAX {
            return Err(InvalidScope::PatternTooLong(pattern.len()));
        }
        Ok(Self {
            level,
            pattern: pattern.into(),
        })
    }

    /// Whether the scope grants `level` on the collection of that name.
    #[must_use]
    pub fn grants(&self, level: Level, collection: &str) -> bool {
        self.level >= level && matches(self.pattern.as_bytes(), collection.as_bytes())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level.as_str(), self.pattern)
    }
}

/// Whether the name is the pattern, `*` standing for any run of characters.
///
/// Each literal piece is searched from the left and taken where it is found first, which is never worse than a later
/// place; so there is no backtracking, and at most 130 x 128 comparisons.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let mut pieces = pattern.split(|byte| *byte == b'*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return rest.is_empty();
    };
    for piece in pieces.filter(|piece| !piece.is_empty()) {
        let found = rest.windows(piece.len()).position(|window| window == piece);
        let Some(after) = found.and_then(|at| rest.get(at + piece.len()..)) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn levels_include_the_lower_ones() {
        let scope = Scope::parse("write:notes").unwrap();
        assert!(scope.grants(Level::Read, "notes"));
        assert!(scope.grants(Level::Write, "notes"));
        assert!(!scope.grants(Level::Admin, "notes"));
        assert!(!scope.grants(Level::Read, "Notes"));
        assert!(Scope::parse("admin:*").unwrap().grants(Level::Read, "x"));
        assert!(!Scope::parse("read:*").unwrap().grants(Level::Write, "x"));
        assert_eq!(Scope::parse("read:notes-*").unwrap().to_string(), "read:notes-*");
    }

    #[test]
    fn refuses_what_is_not_a_scope() {
        assert_eq!(Scope::parse("read"), Err(InvalidScope::Form));
        assert_eq!(Scope::parse("Read:x"), Err(InvalidScope::Level("Read".into())));
        assert_eq!(Scope::parse("read:"), Err(InvalidScope::EmptyPattern));
        assert_eq!(Scope::parse("read:a:b"), Err(InvalidScope::Character(':')));
        assert_eq!(Scope::parse("read:a b"), Err(InvalidScope::Character(' ')));
        assert_eq!(
            Scope::parse(&format!("read:{}", "x".repeat(131))),
            Err(InvalidScope::PatternTooLong(131))
        );
        assert!(Scope::parse(&format!("read:{}", "x".repeat(130))).is_ok());
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("notes", "notes", true),
            ("notes", "notes2", false),
            ("notes", "my-notes", false),
            ("notes-*", "notes-", true),
            ("notes-*", "notes-a", true),
            ("notes-*", "notes", false),
            ("*", "anything", true),
            ("*-eu", "notes-eu", true),
            ("*-eu", "-eu", true),
            ("*-eu", "notes-eu2", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "acb", false),
            ("*ab*ab", "ab", false),
            ("*ab*ab", "abab", true),
            ("a**b", "ab", true),
            ("a.c", "abc", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }

    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                naive(rest, name) || name.split_first().is_some_and(|(_, n)| naive(pattern, n))
            }
            (Some((p, rest)), Some((n, name))) if p == n => naive(rest, name),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_equals_the_plain_definition(pattern in "[ab*]{0,8}", name in "[ab]{0,10}") {
            prop_assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                naive(pattern.as_bytes(), name.as_bytes())
            );
        }
    }
}
