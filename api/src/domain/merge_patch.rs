//! JSON Merge Patch (RFC 7396) on text: what the patch does not name keeps its order, numbers and spelling.
//!
//! Both texts are read once, however deep the patch goes: whether a member's value is an object is seen from the byte
//! after its name, before the value is read, so it is either entered or taken whole.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::json;

/// Up to this many members a patch is searched one by one; beyond, by a hash map.
const LINEAR_MEMBERS_MAX: usize = 16;

/// One of the texts was not the checked JSON that it must be.
#[derive(Debug, thiserror::Error)]
#[error("a text that should have been checked is no JSON")]
pub struct NotJson(#[source] serde_json::Error);

/// The target with the patch applied. Both must be checked JSON texts; a target that is not an object counts as an empty one.
///
/// The result is nowhere deeper than the deeper of the two, since a patch's values stand where its own members stand;
/// and it is at most as long as both together.
///
/// # Errors
/// [`NotJson`]: nothing is known of the result then.
pub fn merge(target: &str, patch: &str) -> Result<String, NotJson> {
    let mut merged = String::with_capacity(target.len() + patch.len());
    if !json::is_object(patch) {
        merged.push_str(patch.trim_ascii());
        return Ok(merged);
    }
    let changes = Changes::read(patch).map_err(NotJson)?;
    if json::is_object(target) {
        let mut parser = serde_json::Deserializer::from_str(target);
        let apply = Apply {
            text: target,
            changes: &changes,
            out: &mut merged,
        };
        apply
            .deserialize(&mut parser)
            .and_then(|()| parser.end())
            .map_err(NotJson)?;
    } else {
        changes.write_new(&mut merged);
    }
    Ok(merged)
}

/// A patch that is an object.
struct Changes<'p> {
    changes: Vec<Change<'p>>,
    by_name: HashMap<Cow<'p, str>, usize>,
}

struct Change<'p> {
    raw_name: &'p str,
    name: Cow<'p, str>,
    value: NewValue<'p>,
}

enum NewValue<'p> {
    /// `null`: the member goes.
    Remove,
    /// An object: merged into what is there.
    Merge(Changes<'p>),
    /// Anything else stands as it is.
    Set(&'p str),
}

impl<'p> Changes<'p> {
    fn read(patch: &'p str) -> Result<Self, serde_json::Error> {
        let mut parser = serde_json::Deserializer::from_str(patch);
        let changes = ReadChanges { text: patch }.deserialize(&mut parser)?;
        parser.end()?;
        Ok(changes)
    }

    fn index(mut self) -> Self {
        if self.changes.len() > LINEAR_MEMBERS_MAX {
            let names = self.changes.iter().enumerate();
            self.by_name = names.map(|(at, change)| (change.name.clone(), at)).collect();
        }
        self
    }

    fn position(&self, name: &str) -> Option<usize> {
        if self.changes.len() > LINEAR_MEMBERS_MAX {
            return self.by_name.get(name).copied();
        }
        self.changes.iter().position(|change| change.name == name)
    }

    /// The object that the patch makes where there was none.
    fn write_new(&self, out: &mut String) {
        let mut object = ObjectWriter::begin(out);
        self.write_added(&mut object, |_| true);
        object.end();
    }

    fn write_added(&self, object: &mut ObjectWriter<'_>, is_new: impl Fn(usize) -> bool) {
        for (_, change) in self.changes.iter().enumerate().filter(|(at, _)| is_new(*at)) {
            match &change.value {
                NewValue::Remove => {}
                NewValue::Merge(changes) => changes.write_new(object.member(change.raw_name)),
                NewValue::Set(text) => object.member(change.raw_name).push_str(text),
            }
        }
    }
}

/// Reads an object as changes.
struct ReadChanges<'p> {
    text: &'p str,
}

impl<'p> DeserializeSeed<'p> for ReadChanges<'p> {
    type Value = Changes<'p>;

    fn deserialize<D: Deserializer<'p>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'p> Visitor<'p> for ReadChanges<'p> {
    type Value = Changes<'p>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'p>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut changes = Vec::new();
        while let Some(raw_name) = members.next_key::<&'p RawValue>()? {
            let raw_name = raw_name.get();
            let value = if value_is_object(self.text, raw_name) {
                NewValue::Merge(members.next_value_seed(ReadChanges { text: self.text })?)
            } else {
                match members.next_value::<&'p RawValue>()?.get() {
                    "null" => NewValue::Remove,
                    text => NewValue::Set(text),
                }
            };
            changes.push(Change {
                raw_name,
                name: name_of(raw_name)?,
                value,
            });
        }
        let by_name = HashMap::new();
        Ok(Changes { changes, by_name }.index())
    }
}

/// Reads the target object and writes it out changed.
struct Apply<'t, 'c> {
    text: &'t str,
    changes: &'c Changes<'c>,
    out: &'c mut String,
}

impl<'t> DeserializeSeed<'t> for Apply<'t, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'t> Visitor<'t> for Apply<'t, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut members: A) -> Result<(), A::Error> {
        let Self { text, changes, out } = self;
        let mut used = vec![false; changes.changes.len()];
        let mut object = ObjectWriter::begin(out);
        while let Some(raw_name) = members.next_key::<&'t RawValue>()? {
            let raw_name = raw_name.get();
            let at = changes.position(&name_of::<A::Error>(raw_name)?);
            if let Some(used) = at.and_then(|at| used.get_mut(at)) {
                *used = true;
            }
            match at
                .and_then(|at| changes.changes.get(at))
                .map(|change| &change.value)
            {
                None => {
                    let value = members.next_value::<&'t RawValue>()?;
                    object.member(raw_name).push_str(value.get());
                }
                Some(NewValue::Merge(changes)) if value_is_object(text, raw_name) => {
                    let out = object.member(raw_name);
                    members.next_value_seed(Apply { text, changes, out })?;
                }
                Some(new) => {
                    members.next_value::<IgnoredAny>()?;
                    match new {
                        NewValue::Remove => {}
                        NewValue::Merge(changes) => changes.write_new(object.member(raw_name)),
                        NewValue::Set(text) => object.member(raw_name).push_str(text),
                    }
                }
            }
        }
        changes.write_added(&mut object, |at| used.get(at) == Some(&false));
        object.end();
        Ok(())
    }
}

/// Whether the value of a member is an object. `raw_name` is the part of `text` that names it; white space and a colon
/// stand between the two.
fn value_is_object(text: &str, raw_name: &str) -> bool {
    let end = (raw_name.as_ptr().addr() - text.as_ptr().addr()) + raw_name.len();
    let rest = text.get(end..).unwrap_or_default();
    rest.trim_start_matches([' ', '\t', '\n', '\r', ':'])
        .starts_with('{')
}

fn name_of<E: serde::de::Error>(raw_name: &str) -> Result<Cow<'_, str>, E> {
    json::string(raw_name).ok_or_else(|| E::custom("a name that is not a string"))
}

struct ObjectWriter<'o> {
    out: &'o mut String,
    first: bool,
}

impl<'o> ObjectWriter<'o> {
    fn begin(out: &'o mut String) -> Self {
        out.push('{');
        Self { out, first: true }
    }

    /// Writes a member's name; its value is to be written where this returns.
    fn member(&mut self, raw_name: &str) -> &mut String {
        if !self.first {
            self.out.push(',');
        }
        self.first = false;
        self.out.push_str(raw_name);
        self.out.push(':');
        self.out
    }

    fn end(self) {
        self.out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    /// The pseudo code of RFC 7396, section 2.
    fn naive(target: Value, patch: &Value) -> Value {
        let Value::Object(patch) = patch else {
            return patch.clone();
        };
        let mut merged = match target {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        for (name, value) in patch {
            if value.is_null() {
                merged.remove(name);
            } else {
                let old = merged.remove(name).unwrap_or(Value::Null);
                merged.insert(name.clone(), naive(old, value));
            }
        }
        Value::Object(merged)
    }

    #[test]
    fn the_examples_of_rfc_7396() {
        for (target, patch, expected) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (
                r#"{"a":{"b":"c"}}"#,
                r#"{"a":{"b":"d","c":null}}"#,
                r#"{"a":{"b":"d"}}"#,
            ),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            (r#"[1,2]"#, r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            (r#"{}"#, r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            assert_eq!(merge(target, patch).unwrap(), expected, "{target} + {patch}");
        }
    }

    #[test]
    fn untouched_parts_keep_order_numbers_and_spelling() {
        assert_eq!(
            merge(
                r#"{"z": 1.0, "\u0061": [1e2,  -0], "big": 123456789012345678901234567890, "o": {"x":  1}}"#,
                r#" {"n": {"k": null, "j": 2.50}, "big": null, "o": {"y": 3}} "#
            )
            .unwrap(),
            r#"{"z":1.0,"\u0061":[1e2,  -0],"o":{"x":1,"y":3},"n":{"j":2.50}}"#
        );
        // The same name in another spelling is the same member, and keeps the target's spelling.
        assert_eq!(merge(r#"{"\u0061":1}"#, r#"{"a":2}"#).unwrap(), r#"{"\u0061":2}"#);
    }

    #[test]
    fn large_patches_find_their_members() {
        let patch: Map<String, Value> = (0..100).map(|n| (format!("k{n}"), json!(n))).collect();
        let target = json!({"k50": "old", "other": 1});
        let merged = merge(&target.to_string(), &Value::Object(patch.clone()).to_string()).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&merged).unwrap(),
            naive(target, &Value::Object(patch))
        );
    }

    /// Few members are searched one by one, many by a map.
    #[test]
    fn patches_of_every_size_find_their_members() {
        for count in (LINEAR_MEMBERS_MAX - 1)..=(LINEAR_MEMBERS_MAX + 2) {
            let object = |value: u64| -> Value {
                let members = (0..count).map(|n| (format!("m{n}"), Value::from(value)));
                Value::Object(members.collect())
            };
            let merged = merge(&object(1).to_string(), &object(2).to_string()).unwrap();
            assert_eq!(merged, object(2).to_string(), "{count} members");
        }
    }

    #[test]
    fn texts_that_are_not_json_are_reported_and_not_guessed() {
        assert!(merge(r#"{"a":1"#, r#"{"a":2}"#).is_err());
        assert!(merge(r#"{"a":1} x"#, r#"{"a":2}"#).is_err());
        assert!(merge("{}", r#"{"a":"#).is_err());
    }

    #[test]
    fn white_space_around_the_colon_hides_no_object() {
        let (target, patch) = ("{\"a\" \n:\t{\"x\":1}}", "{\"a\"\r\n : {\"y\":2}}");
        assert_eq!(merge(target, patch).unwrap(), r#"{"a":{"x":1,"y":2}}"#);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-c\\\\\"\u{e9}]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                object_of(inner),
            ]
        })
    }

    fn object_of(member: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
        prop::collection::hash_map("[a-c\"]", member, 0..4)
            .prop_map(|members| Value::Object(members.into_iter().collect()))
    }

    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    proptest! {
        #[test]
        fn equals_the_pseudo_code(target in any_json(), patch in any_json()) {
            let merged = merge(&target.to_string(), &patch.to_string()).unwrap();
            prop_assert!(json::check(merged.as_bytes()).is_ok());
            let parsed: Value = serde_json::from_str(&merged).unwrap();
            prop_assert!(depth(&parsed) <= depth(&target).max(depth(&patch)));
            prop_assert!(merged.len() <= target.to_string().len() + patch.to_string().len());
            prop_assert_eq!(parsed, naive(target, &patch));
        }

        #[test]
        fn applying_twice_equals_once(target in any_json(), patch in any_json()) {
            let once = merge(&target.to_string(), &patch.to_string()).unwrap();
            prop_assert_eq!(merge(&once, &patch.to_string()).unwrap(), once);
        }

        #[test]
        fn an_empty_patch_changes_nothing(target in object_of(any_json())) {
            prop_assert_eq!(merge(&target.to_string(), "{}").unwrap(), target.to_string());
        }
    }
}
