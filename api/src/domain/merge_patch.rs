//! JSON Merge Patch (RFC 7396) on text: what the patch does not name keeps its order, numbers and spelling.

use std::collections::HashMap;

use super::json::{self, Member};

/// Up to this many members a patch is searched one by one; beyond, by a hash map.
const LINEAR_MEMBERS_MAX: usize = 16;

/// The target with the patch applied. Both must be checked JSON texts.
///
/// The result is nowhere deeper than the deeper of the two, since a patch's values stand where its own members stand;
/// and it is at most as long as both together. Only levels that the patch names are read: at most
/// [`json::DEPTH_MAX`] passes over what lies below.
#[must_use]
pub fn merge(target: &str, patch: &str) -> String {
    let mut merged = String::with_capacity(target.len() + patch.len());
    merge_value(target, patch, &mut merged);
    merged
}

/// A target that is no object counts as an empty one.
const NOTHING: &str = "null";

fn merge_value(target: &str, patch: &str, out: &mut String) {
    let Some(patch_members) = json::members(patch) else {
        out.push_str(patch.trim_ascii());
        return;
    };
    let target_members = json::members(target).unwrap_or_default();
    let changes = Changes::new(&patch_members);
    let mut used = vec![false; patch_members.len()];

    let mut object = ObjectWriter::begin(out);
    for member in &target_members {
        let Some(index) = changes.find(&member.name) else {
            object.member(member.raw_name, |out| out.push_str(member.value));
            continue;
        };
        if let Some(used) = used.get_mut(index) {
            *used = true;
        }
        let change = patch_members.get(index).map_or(NOTHING, |change| change.value);
        if change != NOTHING {
            object.member(member.raw_name, |out| merge_value(member.value, change, out));
        }
    }
    let added = patch_members.iter().zip(used).filter(|(_, used)| !used);
    for (member, _) in added.filter(|(member, _)| member.value != NOTHING) {
        object.member(member.raw_name, |out| merge_value(NOTHING, member.value, out));
    }
    object.end();
}

/// Finds a patch's member by name.
enum Changes<'a> {
    Few(&'a [Member<'a>]),
    Many(HashMap<&'a str, usize>),
}

impl<'a> Changes<'a> {
    fn new(members: &'a [Member<'a>]) -> Self {
        if members.len() <= LINEAR_MEMBERS_MAX {
            return Self::Few(members);
        }
        let by_name = members.iter().enumerate();
        Self::Many(
            by_name
                .map(|(index, member)| (member.name.as_ref(), index))
                .collect(),
        )
    }

    fn find(&self, name: &str) -> Option<usize> {
        match self {
            Self::Few(members) => members.iter().position(|member| member.name == name),
            Self::Many(by_name) => by_name.get(name).copied(),
        }
    }
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

    fn member(&mut self, raw_name: &str, value: impl FnOnce(&mut String)) {
        if !self.first {
            self.out.push(',');
        }
        self.first = false;
        self.out.push_str(raw_name);
        self.out.push(':');
        value(self.out);
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
            assert_eq!(merge(target, patch), expected, "{target} + {patch}");
        }
    }

    #[test]
    fn untouched_parts_keep_order_numbers_and_spelling() {
        assert_eq!(
            merge(
                r#"{"z": 1.0, "\u0061": [1e2,  -0], "big": 123456789012345678901234567890, "o": {"x":  1}}"#,
                r#" {"n": {"k": null, "j": 2.50}, "big": null, "o": {"y": 3}} "#
            ),
            r#"{"z":1.0,"\u0061":[1e2,  -0],"o":{"x":1,"y":3},"n":{"j":2.50}}"#
        );
        // The same name in another spelling is the same member, and keeps the target's spelling.
        assert_eq!(merge(r#"{"\u0061":1}"#, r#"{"a":2}"#), r#"{"\u0061":2}"#);
    }

    #[test]
    fn large_patches_find_their_members() {
        let patch: Map<String, Value> = (0..100).map(|n| (format!("k{n}"), json!(n))).collect();
        let target = json!({"k50": "old", "other": 1});
        let merged = merge(&target.to_string(), &Value::Object(patch.clone()).to_string());
        assert_eq!(
            serde_json::from_str::<Value>(&merged).unwrap(),
            naive(target, &Value::Object(patch))
        );
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
                prop::collection::hash_map("[a-c\"]", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
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
            let merged = merge(&target.to_string(), &patch.to_string());
            prop_assert!(json::check(merged.as_bytes()).is_ok());
            let parsed: Value = serde_json::from_str(&merged).unwrap();
            prop_assert!(depth(&parsed) <= depth(&target).max(depth(&patch)));
            prop_assert!(merged.len() <= target.to_string().len() + patch.to_string().len());
            prop_assert_eq!(parsed, naive(target, &patch));
        }

        #[test]
        fn applying_twice_equals_once(target in any_json(), patch in any_json()) {
            let once = merge(&target.to_string(), &patch.to_string());
            prop_assert_eq!(merge(&once, &patch.to_string()), once);
        }

        #[test]
        fn an_empty_patch_changes_nothing(target in any_json()) {
            prop_assume!(target.is_object());
            prop_assert_eq!(merge(&target.to_string(), "{}"), target.to_string());
        }
    }
}
