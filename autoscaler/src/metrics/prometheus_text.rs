//! Prometheus' text format, as far as a signal needs it: sample lines. Comments (types, help) are passed over.
//!
//! A parser of our own, and why: docs/adr/0061.

use std::collections::BTreeMap;

/// One sample line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) labels: BTreeMap<&'a str, String>,
    pub(super) value: f64,
}

/// A line that can't be read: the answer as a whole is not to be trusted then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(super) struct TextError {
    pub(super) line: usize,
    pub(super) problem: &'static str,
}

/// All sample lines of `text`.
pub(super) fn parse(text: &str) -> Result<Vec<Line<'_>>, TextError> {
    let mut lines = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        lines.push(sample(line).map_err(|problem| TextError { line: n + 1, problem })?);
    }
    Ok(lines)
}

fn sample(line: &str) -> Result<Line<'_>, &'static str> {
    let (name, rest) = take_while(line, |c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("no metric's name at its beginning");
    }
    let (labels, rest) = match rest.trim_start().strip_prefix('{') {
        Some(inner) => parse_labels(inner)?,
        None => (BTreeMap::new(), rest),
    };
    let mut words = rest.split_ascii_whitespace();
    let value = words
        .next()
        .ok_or("no value")?
        .parse()
        .map_err(|_| "a value that is no number")?;
    // Then, perhaps, a time, and perhaps an exemplar (`# {…} value`): neither is needed.
    let mut after = words.next();
    if after.is_some_and(|word| word.parse::<i64>().is_ok()) {
        after = words.next();
    }
    if after.is_some_and(|word| word != "#") {
        return Err("more than a value and a time");
    }
    Ok(Line { name, labels, value })
}

type Labels<'a> = BTreeMap<&'a str, String>;

/// Labels up to the closing brace, and what follows it.
fn parse_labels(mut rest: &str) -> Result<(Labels<'_>, &str), &'static str> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (name, after) = take_while(rest, |c| c.is_ascii_alphanumeric() || c == '_');
        if name.is_empty() {
            return Err("no label's name where one should be");
        }
        let after = after
            .trim_start()
            .strip_prefix('=')
            .ok_or("a label without '='")?;
        let after = after
            .trim_start()
            .strip_prefix('"')
            .ok_or("a label's value without a quote")?;
        let (value, after) = quoted(after)?;
        if labels.insert(name, value).is_some() {
            return Err("a label twice");
        }
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(next) => next,
            None if after.starts_with('}') => after,
            None => return Err("neither ',' nor '}' after a label"),
        };
    }
}

/// The text up to the closing quote, its escapes resolved, and what follows.
fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('\\' | '"'))) => value.push(c),
                _ => return Err("an unknown escape in a label's value"),
            },
            c => value.push(c),
        }
    }
    Err("a label's value without an end")
}

fn take_while(text: &str, of: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !of(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> (String, Vec<(String, String)>, f64) {
        let lines = parse(text).unwrap();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line = lines.into_iter().next().unwrap();
        (
            line.name.to_owned(),
            line.labels.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            line.value,
        )
    }

    fn label(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn samples_with_and_without_labels() {
        assert_eq!(one("up 1"), ("up".to_owned(), vec![], 1.0));
        assert_eq!(one("up{} 1"), ("up".to_owned(), vec![], 1.0));
        assert_eq!(
            one("http_total { method = \"GET\", status=\"200\", } 1027 1395066363000"),
            (
                "http_total".to_owned(),
                vec![label("method", "GET"), label("status", "200")],
                1027.0
            )
        );
    }

    #[test]
    fn label_values_hold_anything() {
        assert_eq!(
            one(r#"r{route="/v1/collections/{collection}/documents",q="a=b,c",p="C:\\x\"y\nz",u="é"} 2"#),
            (
                "r".to_owned(),
                vec![
                    label("p", "C:\\x\"y\nz"),
                    label("q", "a=b,c"),
                    label("route", "/v1/collections/{collection}/documents"),
                    label("u", "é"),
                ],
                2.0
            )
        );
    }

    #[test]
    fn values_in_every_spelling() {
        for (text, value) in [
            ("1.5e3", 1500.0),
            ("-0.25", -0.25),
            ("+Inf", f64::INFINITY),
            ("-Inf", f64::NEG_INFINITY),
        ] {
            assert_eq!(one(&format!("m {text}")).2, value);
        }
        assert!(one("m NaN").2.is_nan());
    }

    #[test]
    fn comments_blank_lines_and_other_line_ends_are_passed_over() {
        let text = "# HELP m help\r\n# TYPE m counter\r\n\r\nm 1\r\n# EOF\n";
        assert_eq!(parse(text).unwrap().len(), 1);
        assert_eq!(parse("").unwrap(), vec![]);
    }

    #[test]
    fn an_exemplar_is_passed_over() {
        for time in ["", " 1395066363000"] {
            assert_eq!(one(&format!("m_total 17{time} # {{trace_id=\"x\"}} 0.5")).2, 17.0);
        }
    }

    #[test]
    fn broken_lines_are_told_with_their_number() {
        for broken in [
            "m",
            "m x",
            "m 1 x",
            "1m 1",
            "{a=\"b\"} 1",
            "m{a} 1",
            "m{a=b} 1",
            "m{a=\"b} 1",
            "m{a=\"b\" c=\"d\"} 1",
            "m{a=\"b\",a=\"c\"} 1",
            "m{a=\"\\q\"} 1",
            "m{=\"b\"} 1",
            "<html>",
        ] {
            let text = format!("up 1\n{broken}\n");
            assert_eq!(parse(&text).map_err(|error| error.line), Err(2), "{broken}");
        }
    }
}
