//! Names that clients choose: collection names and document ids share one alphabet.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

/// Longest collection name or document id, in characters (all ASCII, so also bytes).
pub const NAME_CHARS_MAX: usize = 128;

/// Why a text is not a collection name or document id. `Display` is fit to be shown to a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// No characters at all.
    #[error("must not be empty")]
    Empty,
    /// More than [`NAME_CHARS_MAX`] characters.
    #[error("must have at most {NAME_CHARS_MAX} characters, has {0}")]
    TooLong(usize),
    /// `.` and `..` are path segments with a meaning of their own.
    #[error("must not be \".\" or \"..\"")]
    Dots,
    /// A character outside `A-Za-z0-9_.~-`.
    #[error("may only hold A-Z a-z 0-9 _ . ~ -, found {0:?}")]
    Character(char),
}

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.~-";

/// Which bytes a name may hold. A table, for a page has up to a thousand names.
#[expect(
    clippy::indexing_slicing,
    reason = "a constant: out of bounds it would not compile"
)]
const NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    while at < ALPHABET.len() {
        table[ALPHABET[at] as usize] = true;
        at += 1;
    }
    table
};

fn is_name_byte(byte: u8) -> bool {
    NAME_BYTES.get(usize::from(byte)).is_some_and(|is| *is)
}

fn check_name(text: &str) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty);
    }
    if !text.bytes().all(is_name_byte)
        && let Some(bad) = text.chars().find(|c| !u8::try_from(*c).is_ok_and(is_name_byte))
    {
        return Err(InvalidName::Character(bad));
    }
    if text.len() > NAME_CHARS_MAX {
        return Err(InvalidName::TooLong(text.len()));
    }
    if text == "." || text == ".." {
        return Err(InvalidName::Dots);
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks length and alphabet. The text must be percent-decoded already.
            ///
            /// # Errors
            /// [`InvalidName`] says which rule is broken.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                check_name(text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type! {
    /// A collection's name, as clients write it: 1 to 128 characters of `A-Za-z0-9_.~-`.
    CollectionName
}
name_type! {
    /// A document's id within its collection: 1 to 128 characters of `A-Za-z0-9_.~-`, case-sensitive.
    DocumentId
}

/// A collection's identity in the store. It changes when a collection is dropped and made again, so dropping is O(1)
/// and nothing of the old one can be seen through the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionId(pub Uuid);

impl fmt::Display for CollectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_whole_alphabet_and_ordinary_words() {
        for text in [
            "a",
            "null",
            "-",
            "documents",
            "...",
            "A-Za-z0-9_.~-",
            &"x".repeat(128),
        ] {
            assert_eq!(DocumentId::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_collections_identity_is_written_as_a_uuid() {
        let id = CollectionId(Uuid::from_u128(0xab));
        assert_eq!(id.to_string(), "00000000-0000-0000-0000-0000000000ab");
    }

    #[test]
    fn refuses_with_the_broken_rule() {
        assert_eq!(DocumentId::parse(""), Err(InvalidName::Empty));
        assert_eq!(DocumentId::parse("."), Err(InvalidName::Dots));
        assert_eq!(DocumentId::parse(".."), Err(InvalidName::Dots));
        assert_eq!(DocumentId::parse("a/b"), Err(InvalidName::Character('/')));
        assert_eq!(CollectionName::parse("ä"), Err(InvalidName::Character('ä')));
        assert_eq!(CollectionName::parse("a:b"), Err(InvalidName::Character(':')));
        for byte in 0..=127_u8 {
            let fits = byte.is_ascii_alphanumeric() || b"_.~-".contains(&byte);
            let name = format!("a{}", char::from(byte));
            assert_eq!(DocumentId::parse(&name).is_ok(), fits, "{name:?}");
        }
        assert_eq!(
            CollectionName::parse(&"x".repeat(129)),
            Err(InvalidName::TooLong(129))
        );
    }
}
