//! `If-Match` and `If-None-Match` fields, as RFC 9110 writes them (sections 8.8.3 and 13.1).

use super::{EntityTag, EntityTags, Version};

/// Why a field is not a list of entity tags. `Display` is fit to be shown to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCondition {
    /// Nothing between the commas.
    #[error("must be * or at least one entity tag")]
    Empty,
    /// `*` beside tags, or twice.
    #[error("may hold * only alone")]
    StarNotAlone,
    /// Something else, such as a tag without quotes.
    #[error("must be * or a list of entity tags in double quotes, such as \"v1\" or W/\"v1\"")]
    Malformed,
}

/// Parses the lines of one field; several lines are one list. `None` when there is no line at all.
///
/// # Errors
/// [`InvalidCondition`].
pub fn entity_tags<'a>(
    lines: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Option<EntityTags>, InvalidCondition> {
    let mut found = Found::default();
    let mut present = false;
    for line in lines {
        present = true;
        read_line(line, &mut found)?;
    }
    match found {
        _ if !present => Ok(None),
        Found {
            stars: 0, members: 0, ..
        } => Err(InvalidCondition::Empty),
        Found { stars: 0, tags, .. } => Ok(Some(EntityTags::List(tags))),
        Found {
            stars: 1, members: 0, ..
        } => Ok(Some(EntityTags::Any)),
        _ => Err(InvalidCondition::StarNotAlone),
    }
}

#[derive(Default)]
struct Found {
    stars: usize,
    members: usize,
    tags: Vec<EntityTag>,
}

fn read_line(line: &[u8], found: &mut Found) -> Result<(), InvalidCondition> {
    let mut rest = trim_start(line);
    while let Some((&first, after_first)) = rest.split_first() {
        match first {
            // An empty member; it counts as none.
            b',' => {
                rest = trim_start(after_first);
                continue;
            }
            b'*' => {
                found.stars += 1;
                rest = after_first;
            }
            _ => {
                let (tag, after) = entity_tag(rest)?;
                found.members += 1;
                found.tags.extend(tag);
                rest = after;
            }
        }
        rest = trim_start(rest);
        match rest.split_first() {
            None => {}
            Some((b',', after)) => rest = trim_start(after),
            Some(_) => return Err(InvalidCondition::Malformed),
        }
    }
    Ok(())
}

/// One tag, and what follows it. A well-formed tag that can't be one of our versions is `None`: it matches nothing.
fn entity_tag(text: &[u8]) -> Result<(Option<EntityTag>, &[u8]), InvalidCondition> {
    let (weak, text) = match text.strip_prefix(b"W/") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let text = text.strip_prefix(b"\"").ok_or(InvalidCondition::Malformed)?;
    let end = text.iter().position(|byte| *byte == b'"');
    let (opaque, rest) = end
        .and_then(|end| text.split_at_checked(end))
        .ok_or(InvalidCondition::Malformed)?;
    // etagc = %x21 / %x23-7E / obs-text
    if !opaque.iter().all(|byte| matches!(byte, 0x21..=0x7e | 0x80..)) {
        return Err(InvalidCondition::Malformed);
    }
    let version = std::str::from_utf8(opaque).ok().and_then(Version::parse);
    let tag = version.map(|version| EntityTag { version, weak });
    Ok((tag, rest.get(1..).unwrap_or_default()))
}

fn trim_start(text: &[u8]) -> &[u8] {
    let blank = text
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    text.get(blank..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V1: &str = "000000000000000a000000000000000b";
    const V2: &str = "000000000000000c000000000000000d";

    fn parse(lines: &[&str]) -> Result<Option<EntityTags>, InvalidCondition> {
        entity_tags(lines.iter().map(|line| line.as_bytes()))
    }

    fn tag(version: &str, weak: bool) -> EntityTag {
        EntityTag {
            version: Version::parse(version).unwrap(),
            weak,
        }
    }

    #[test]
    fn reads_lists_lines_stars_and_weak_tags() {
        let both = EntityTags::List(vec![tag(V1, false), tag(V2, true)]);
        assert_eq!(parse(&[]), Ok(None));
        assert_eq!(parse(&["*"]), Ok(Some(EntityTags::Any)));
        assert_eq!(parse(&[" , * ,"]), Ok(Some(EntityTags::Any)));
        for lines in [
            &[format!("\"{V1}\", W/\"{V2}\"").as_str()][..],
            &[&format!("\"{V1}\""), &format!("W/\"{V2}\"")],
            &[&format!(",, \"{V1}\" ,\t,W/\"{V2}\" , ")],
            &[
                &format!("\"{V1}\",\"not one of ours\",\"a,b\"").replace(' ', ""),
                &format!("W/\"{V2}\""),
            ],
        ] {
            assert_eq!(parse(lines), Ok(Some(both.clone())), "{lines:?}");
        }
        assert_eq!(parse(&["\"\""]), Ok(Some(EntityTags::List(vec![]))));
        assert_eq!(
            entity_tags([&b"\"\xff\""[..]]),
            Ok(Some(EntityTags::List(vec![])))
        );
    }

    #[test]
    fn refuses_malformed_fields() {
        assert_eq!(parse(&[""]), Err(InvalidCondition::Empty));
        assert_eq!(parse(&[", ,"]), Err(InvalidCondition::Empty));
        assert_eq!(parse(&["*, \"a\""]), Err(InvalidCondition::StarNotAlone));
        assert_eq!(parse(&["*", "*"]), Err(InvalidCondition::StarNotAlone));
        for bad in [
            V1,
            "\"a",
            "a\"",
            "\"a\"b",
            "\"a\" \"b\"",
            "w/\"a\"",
            "W/a",
            "W/ \"a\"",
            "\"a b\"",
            "**",
            "*x",
            "\"a\"*",
        ] {
            assert_eq!(parse(&[bad]), Err(InvalidCondition::Malformed), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(lines in prop::collection::vec("[*,W/\"a \t]{0,12}", 0..4)) {
            let _ = entity_tags(lines.iter().map(String::as_bytes));
        }
    }
}
