//! Parts of a checked JSON text, as they stand there.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A member of an object, as it stands in the text.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// The name with its quotes and escapes.
    pub raw_name: &'a str,
    /// The name.
    pub name: Cow<'a, str>,
    /// The value's text, without white space around it.
    pub value: &'a str,
}

/// The members of an object in their order; `None` when the text is not an object. The text must be checked JSON.
#[must_use]
pub fn members(text: &str) -> Option<Vec<Member<'_>>> {
    if !is_object(text) {
        return None;
    }
    serde_json::Deserializer::from_str(text)
        .deserialize_map(MembersVisitor)
        .ok()
}

/// Whether a checked JSON text is an object.
#[must_use]
pub fn is_object(text: &str) -> bool {
    text.trim_ascii_start().starts_with('{')
}

/// What a checked JSON text is, for messages.
#[must_use]
pub fn kind(text: &str) -> &'static str {
    match text.trim_ascii_start().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The string that a checked JSON text is; `None` when it is something else.
#[must_use]
pub fn string(text: &str) -> Option<Cow<'_, str>> {
    serde_json::Deserializer::from_str(text)
        .deserialize_str(TextVisitor)
        .ok()
}

/// Reads a string, borrowed where it has no escapes.
pub(super) struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<Member<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((name, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
            members.push(Member {
                raw_name: name.get(),
                name: string(name.get()).ok_or_else(|| A::Error::custom("a name that is not a string"))?,
                value: value.get(),
            });
        }
        Ok(members)
    }
}
