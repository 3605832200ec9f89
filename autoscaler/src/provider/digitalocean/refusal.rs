//! What a refusal says, in a few clean words: DigitalOcean's own JSON in its shapes, or the first words of whatever came.

use serde_json::Value;

/// Of a text that isn't DigitalOcean's JSON so many characters are shown.
const FIRST_WORDS_CHARS_MAX: usize = 200;
/// So much of such a text is looked at; an error page begins with what it has to say.
const LOOKED_AT_BYTES_MAX: usize = 8 << 10;

/// The words of an answer other than 2xx.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    /// In one line; empty when the answer had none.
    pub(super) text: String,
    /// The provider's id of the request.
    pub(super) request_id: Option<String>,
    /// Whether it is the provider's own word that the thing isn't there: its `id` says so. What stands between us and the
    /// provider answers 404 in JSON, too.
    pub(super) says_not_found: bool,
}

/// Reads an answer's words. Tags answer in a shape of their own, with `error`.
pub(super) fn words(body: &[u8]) -> Words {
    let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(body) else {
        return Words {
            text: first_words(body),
            request_id: None,
            says_not_found: false,
        };
    };
    let said = |name: &str| match fields.get(name)? {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let message = said("message")
        .or_else(|| said("error"))
        .or_else(|| said("errors"));
    let text = match (said("id"), message) {
        (Some(id), Some(text)) => format!("{id}: {text}"),
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => first_words(body),
    };
    Words {
        text,
        request_id: said("request_id"),
        says_not_found: said("id").is_some_and(|id| id == "not_found"),
    }
}

/// The first words of a text or a page, without its markup.
fn first_words(body: &[u8]) -> String {
    let body = body.get(..LOOKED_AT_BYTES_MAX).unwrap_or(body);
    let text = String::from_utf8_lossy(body);
    let looks_like_markup = text.trim_start().starts_with('<');
    let text = if looks_like_markup {
        without_markup(&text)
    } else {
        text.into_owned()
    };
    one_line(&text, FIRST_WORDS_CHARS_MAX)
}

/// A page's text: no tags, and nothing of its scripts and styles.
fn without_markup(page: &str) -> String {
    let mut text = String::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once('<') {
        text.push_str(before);
        text.push(' ');
        let end = ["script", "style", "!--"]
            .into_iter()
            .find(|name| {
                after
                    .get(..name.len())
                    .is_some_and(|begin| begin.eq_ignore_ascii_case(name))
            })
            .map_or(">", |name| match name {
                "!--" => "-->",
                "script" => "</script>",
                _ => "</style>",
            });
        let lower = after.to_ascii_lowercase();
        // An element without an end is the page's rest.
        rest = lower
            .find(end)
            .and_then(|at| after.get(at + end.len()..))
            .unwrap_or_default();
    }
    text.push_str(rest);
    text
}

/// A text of others as it stands in our messages: one line without control characters, cut where it gets long.
pub(super) fn one_line(text: &str, chars_max: usize) -> String {
    let mut line = String::new();
    // Twice the bound is enough to find words in, however much space there is between them.
    for word in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
    {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > chars_max.saturating_mul(4) {
            break;
        }
    }
    // Marks that turn the direction of writing could make a message say something else.
    line.retain(|c| !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'));
    if line.chars().count() <= chars_max {
        return line;
    }
    line.chars().take(chars_max).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &str) -> String {
        words(body.as_bytes()).text
    }

    #[test]
    fn words_of_every_shape() {
        let table = [
            (
                r#"{"id":"forbidden","message":"No.","request_id":"r"}"#,
                "forbidden: No.",
            ),
            (
                r#"{"error":"tag has invalid characters","messages":null}"#,
                "tag has invalid characters",
            ),
            (r#"{"id":7,"message":{"a":1}}"#, r#"7: {"a":1}"#),
            (r#"{"id":null,"message":null,"errors":["a","b"]}"#, r#"["a","b"]"#),
            (
                r#"{"fault":{"string":"quota"}}"#,
                r#"{"fault":{"string":"quota"}}"#,
            ),
            (
                "Server Temporarily Unavailable\n",
                "Server Temporarily Unavailable",
            ),
            ("[1,2]", "[1,2]"),
            ("", ""),
            (
                "<!doctype html><html><head><style>p{color:red}</style><script>alert(1)</script><title>503</title></head>\r\n<body><h1>Service\u{0} Unavailable</h1><!-- secret --></body></html>",
                "503 Service Unavailable",
            ),
            ("<html><script>never ends", ""),
            ("a\u{202e}b\u{7}c", "ab c"),
        ];
        for (body, expected) in table {
            assert_eq!(text(body), expected, "{body}");
        }
    }

    #[test]
    fn long_texts_are_cut_and_bytes_do_no_harm() {
        let long = text(&"word ".repeat(100_000));
        assert_eq!(long.chars().count(), FIRST_WORDS_CHARS_MAX + 1);
        assert!(long.ends_with('…'));
        assert!(!words(&[0xff, 0xfe, b'x', 0]).text.contains('\u{0}'));
    }
}
