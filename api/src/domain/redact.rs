//! Taking secrets out of texts that people will read: messages, log lines and answers that quote what was given.

/// What stands in a secret's place.
const REDACTED: &str = "[redacted]";

/// What every key begins with, so that leaked ones can be searched for.
pub const KEY_PREFIX: &str = "tp_";

/// From this many characters after [`KEY_PREFIX`] on a text counts as a key (they have 43).
const KEY_CHARS_MIN: usize = 20;

/// The text without what looks like one of our keys, and without user and password of URLs.
///
/// A text that holds neither is given back as it is, after one look for `tp_` and one for `://`.
#[must_use]
pub fn redact(text: &str) -> String {
    without_user_info(&without_keys(text))
}

fn without_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(KEY_PREFIX) {
        let key_bytes = after
            .bytes()
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
            .count();
        out.push_str(before);
        if key_bytes >= KEY_CHARS_MIN {
            out.push_str(REDACTED);
            rest = after.get(key_bytes..).unwrap_or_default();
        } else {
            out.push_str(KEY_PREFIX);
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// A password may hold anything, a slash or an `@` among it, so everything from `://` to the last `@` of its word goes.
fn without_user_info(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        let end = after.find(char::is_whitespace).unwrap_or(after.len());
        let (word, behind) = after.split_at_checked(end).unwrap_or((after, ""));
        out.push_str(before);
        out.push_str("://");
        match word.rsplit_once('@') {
            Some((_, host)) => {
                out.push_str(REDACTED);
                out.push('@');
                out.push_str(host);
            }
            None => out.push_str(word),
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_passwords_go_and_the_rest_stays() {
        let key = format!("tp_{}", "aB3_-".repeat(9));
        for (text, expected) in [
            ("no secret here".to_owned(), "no secret here".to_owned()),
            (
                format!("there is no key named \"{key}\""),
                "there is no key named \"[redacted]\"".to_owned(),
            ),
            (format!("{key}{key}, tp_short"), "[redacted], tp_short".to_owned()),
            (format!("tp_ {key}."), "tp_ [redacted].".to_owned()),
            (
                "store cassandra://tide:s3same@db-1,db-2/tide is wrong".to_owned(),
                "store cassandra://[redacted]@db-1,db-2/tide is wrong".to_owned(),
            ),
            (
                "postgres://u:p@ss/w@rd@h/k and http://a:b@c".to_owned(),
                "postgres://[redacted]@h/k and http://[redacted]@c".to_owned(),
            ),
            (
                "http://127.0.0.1:8080/docs a@b".to_owned(),
                "http://127.0.0.1:8080/docs a@b".to_owned(),
            ),
            ("://".to_owned(), "://".to_owned()),
        ] {
            assert_eq!(redact(&text), expected);
        }
    }
}
