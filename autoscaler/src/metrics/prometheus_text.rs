//! The two text formats of `/metrics`, Prometheus' (0.0.4 and 1.0.0) and OpenMetrics 1.0, as far as a signal needs them: the
//! sample lines of the families that are wanted, each with its time where it has one. Comments (types, help, units) and
//! exemplars are passed over.
//!
//! A line that can't be read costs its own family, no other. A parser of our own, and why: docs/adr/0061.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// A longer line is not read: a name and thirty labels of 2,000 bytes.
const LINE_BYTES_MAX: usize = 64 << 10;

/// What was found of the wanted families.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    /// Their samples.
    pub(super) samples: Vec<Line>,
    /// Families with a line that can't be read, and the first such line.
    pub(super) broken: BTreeMap<String, BrokenLine>,
    /// The first line whose family isn't known.
    pub(super) nameless: Option<BrokenLine>,
    /// Families that are nearly named like a wanted one, by that.
    pub(super) near: BTreeMap<String, String>,
    /// Lines that could be read up to a value, wanted or not.
    pub(super) readable: usize,
    /// Whether the last line that isn't blank is OpenMetrics' `# EOF`.
    pub(super) ended: bool,
}

/// One sample line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) name: String,
    /// Without those that are blank: a label without a value is the same as no label.
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
    pub(super) time: Option<Time>,
}

/// A sample's own time. Its unit depends on the format: milliseconds, or OpenMetrics' seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Time {
    number: f64,
    /// It is written with a fraction or an exponent, which milliseconds never are.
    is_broken: bool,
}

/// A line that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} can't be read: {problem}")]
pub(super) struct BrokenLine {
    pub(super) line: usize,
    pub(super) problem: &'static str,
}

/// Reads `body`. With `last_line_ends` a last line without its line feed may have been cut off, and is not read.
pub(super) fn parse(body: &[u8], wanted: &BTreeSet<String>, last_line_ends: bool) -> Exposition {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    let mut found = Exposition::default();
    for (n, line) in body.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let cut_off = last_line_ends && !line.ends_with(b"\n");
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        found.ended = line == b"# EOF";
        if !line.starts_with(b"#") {
            let line = RawLine {
                number: n + 1,
                bytes: line,
                cut_off,
            };
            found.take(&line, wanted);
        }
    }
    found
}

/// A name as it is written where only letters, digits, `_` and `:` are allowed (`escaping=underscores`).
pub(super) fn escaped(name: &str) -> String {
    let legal = |(at, c): (usize, char)| {
        c.is_ascii_alphabetic() || c == '_' || c == ':' || (at > 0 && c.is_ascii_digit())
    };
    let chars = name.chars().enumerate();
    chars
        .map(|(at, c)| if legal((at, c)) { c } else { '_' })
        .collect()
}

/// A line of the text.
struct RawLine<'a> {
    /// From 1.
    number: usize,
    bytes: &'a [u8],
    /// The text ends within it.
    cut_off: bool,
}

impl Time {
    /// Milliseconds since the Unix epoch.
    pub(super) fn unix_ms(self, is_openmetrics: bool) -> i64 {
        let factor = if is_openmetrics || self.is_broken {
            1000.0
        } else {
            1.0
        };
        // A float to integer cast saturates at both ends, which are far from any time that counts.
        (self.number * factor).round() as i64
    }
}

impl Exposition {
    fn take(&mut self, line: &RawLine<'_>, wanted: &BTreeSet<String>) {
        let bytes = line.bytes;
        let broken = |problem| BrokenLine {
            line: line.number,
            problem,
        };
        let Some(name) = name_of(bytes) else {
            self.nameless
                .get_or_insert(broken("no metric's name can be found in it"));
            return;
        };
        if !wanted.contains(name.as_ref()) {
            self.pass(&name, wanted);
            return;
        }
        let read = if line.cut_off {
            Err("the text ends within it")
        } else if bytes.len() > LINE_BYTES_MAX {
            Err("it is too long")
        } else {
            std::str::from_utf8(bytes)
                .map_err(|_| "it is not UTF-8")
                .and_then(sample)
        };
        match read {
            Ok(sample) => {
                self.readable += 1;
                self.samples.push(sample);
            }
            Err(problem) => {
                self.broken
                    .entry(name.into_owned())
                    .or_insert_with(|| broken(problem));
            }
        }
    }

    /// A line of a family that nobody asked for.
    fn pass(&mut self, name: &str, wanted: &BTreeSet<String>) {
        self.readable +=
            usize::from(name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':'));
        let alike = |one: &&String| {
            let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
            same(one, name)
                || name.strip_suffix("_total").is_some_and(|short| same(short, one))
                || one.strip_suffix("_total").is_some_and(|short| same(short, name))
        };
        if let Some(one) = wanted.iter().find(alike) {
            self.near.entry(one.clone()).or_insert_with(|| name.to_owned());
        }
    }
}

/// The metric's name of a line: before the braces, or quoted within them.
fn name_of(line: &[u8]) -> Option<Cow<'_, str>> {
    let end = line
        .iter()
        .position(|byte| byte.is_ascii_whitespace() || *byte == b'{')
        .unwrap_or(line.len());
    let name = line.get(..end)?;
    if !name.is_empty() {
        return std::str::from_utf8(name).ok().map(Cow::Borrowed);
    }
    let inner = line.get(..line.len().min(LINE_BYTES_MAX))?.strip_prefix(b"{")?;
    let inner = String::from_utf8_lossy(inner);
    braces(&inner).0.name.map(Cow::Owned)
}

fn sample(line: &str) -> Result<Line, &'static str> {
    let end = line.find(|c: char| c.is_ascii_whitespace() || c == '{');
    let (name, rest) = line.split_at(end.unwrap_or(line.len()));
    let (inside, rest) = match rest.trim_ascii_start().strip_prefix('{') {
        Some(inner) => {
            let (inside, rest) = braces(inner);
            (inside, rest?)
        }
        None => (Inside::default(), rest),
    };
    let name = match (name, inside.name) {
        ("", Some(quoted)) => quoted,
        (_, Some(_)) => return Err("it has two names"),
        (name, None) => name.to_owned(),
    };
    let mut words = rest.split_ascii_whitespace();
    let value = words.next().ok_or("it has no value")?;
    let value = value.parse().map_err(|_| "its value is not a number")?;
    // Then, perhaps, a time (milliseconds, or seconds with a fraction), and perhaps an exemplar (`# {…} value time`).
    let mut after = words.next();
    let mut time = None;
    if let Some((word, Ok(number))) = after.map(|word| (word, word.parse::<f64>())) {
        if !number.is_finite() {
            return Err("its time is not a finite number");
        }
        let is_broken = word.contains(['.', 'e', 'E']);
        time = Some(Time { number, is_broken });
        after = words.next();
    }
    if after.is_some_and(|word| !word.starts_with('#')) {
        return Err("there is more than a value and a time");
    }
    Ok(Line {
        name,
        labels: inside.labels,
        value,
        time,
    })
}

/// What stands between the braces.
#[derive(Debug, Default)]
struct Inside {
    name: Option<String>,
    labels: BTreeMap<String, String>,
}

/// Reads up to the closing brace; what was read so far, and what follows or what is wrong.
fn braces(text: &str) -> (Inside, Result<&str, &'static str>) {
    let mut inside = Inside::default();
    let mut rest = text;
    loop {
        rest = rest.trim_ascii_start();
        if let Some(after) = rest.strip_prefix('}') {
            return (inside, Ok(after));
        }
        match item(rest, &mut inside) {
            Ok(after) => rest = after,
            Err(problem) => return (inside, Err(problem)),
        }
    }
}

/// One label, or the quoted name; and what follows its comma.
fn item<'a>(text: &'a str, inside: &mut Inside) -> Result<&'a str, &'static str> {
    let (name, is_quoted, after) = if let Some(inner) = text.strip_prefix('"') {
        let (name, after) = quoted(inner)?;
        (name, true, after)
    } else {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let (name, after) = text.split_at(text.find(|c| !legal(c)).unwrap_or(text.len()));
        (name.to_owned(), false, after)
    };
    if name.is_empty() {
        return Err("a label has no name");
    }
    let mut after = after.trim_ascii_start();
    if let Some(value) = after.strip_prefix('=') {
        let value = value.trim_ascii_start().strip_prefix('"');
        let (value, next) = quoted(value.ok_or("a label's value is not quoted")?)?;
        if inside.labels.contains_key(&name) {
            return Err("a label is there twice");
        }
        inside.labels.insert(name, value);
        after = next.trim_ascii_start();
    } else if is_quoted && inside.name.is_none() {
        inside.name = Some(name);
    } else {
        return Err("a label has no value");
    }
    match after.strip_prefix(',') {
        Some(next) => Ok(next),
        None if after.starts_with('}') => {
            inside.labels.retain(|_, value| !value.is_empty());
            Ok(after)
        }
        None => Err("neither ',' nor '}' follows a label"),
    }
}

/// The text up to the closing quote, and what follows. An escape that the formats don't know stands for itself, as it does
/// for Prometheus' own server.
fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('\\' | '"'))) => value.push(c),
                Some((_, c)) => value.extend(['\\', c]),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err("a quoted text has no end")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, wanted: &[&str]) -> Exposition {
        let wanted = wanted.iter().map(|name| (*name).to_owned()).collect();
        parse(text.as_bytes(), &wanted, false)
    }

    fn one(text: &str, name: &str) -> (Vec<(String, String)>, f64) {
        let found = read(text, &[name]);
        assert_eq!(found.broken, BTreeMap::new(), "{text}");
        assert_eq!(found.samples.len(), 1, "{text}: {found:?}");
        let line = found.samples.into_iter().next().unwrap();
        assert_eq!(line.name, name);
        (line.labels.into_iter().collect(), line.value)
    }

    fn label(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn samples_with_and_without_labels() {
        for text in [
            "up 1",
            "up{} 1",
            "\tup\t1\t",
            "up {} 1",
            "up{a=\"\"} 1",
            "\u{feff}up 1",
        ] {
            assert_eq!(one(text, "up"), (vec![], 1.0), "{text}");
        }
        let labels = vec![label("method", "GET"), label("status", "200")];
        let text = "http_total { method = \"GET\", status=\"200\", } 1027 1395066363000";
        assert_eq!(one(text, "http_total"), (labels, 1027.0));
    }

    #[test]
    fn label_values_hold_anything() {
        let text = r#"r{route="/v1/collections/{collection}/documents",q="a=b,c",p="C:\\x\"y\nz",u="é",k="a -- \u--b"} 2"#;
        let labels = vec![
            label("k", "a -- \\u--b"),
            label("p", "C:\\x\"y\nz"),
            label("q", "a=b,c"),
            label("route", "/v1/collections/{collection}/documents"),
            label("u", "é"),
        ];
        assert_eq!(one(text, "r"), (labels, 2.0));
    }

    #[test]
    fn values_in_every_spelling() {
        for (text, value) in [
            ("1.5e3", 1500.0),
            ("-0.25", -0.25),
            ("+Inf", f64::INFINITY),
            ("-Inf", f64::NEG_INFINITY),
        ] {
            assert_eq!(one(&format!("m {text}"), "m").1, value);
        }
        assert!(one("m NaN", "m").1.is_nan());
    }

    #[test]
    fn times_have_the_unit_of_their_format() {
        for (time, in_older_format, in_openmetrics) in [
            ("1395066363000", 1_395_066_363_000, 1_395_066_363_000_000),
            ("1395066363", 1_395_066_363, 1_395_066_363_000),
            ("1739184970.553", 1_739_184_970_553, 1_739_184_970_553),
            ("1.739184970e9", 1_739_184_970_000, 1_739_184_970_000),
            ("-1", -1, -1000),
            ("9223372036854775807", i64::MAX, i64::MAX),
        ] {
            let found = read(&format!("m 1 {time}"), &["m"]);
            let read = |is_openmetrics| found.samples[0].time.unwrap().unix_ms(is_openmetrics);
            assert_eq!(
                (read(false), read(true)),
                (in_older_format, in_openmetrics),
                "{time}"
            );
        }
        assert_eq!(read("m 1 # {a=\"b\"} 1 2", &["m"]).samples[0].time, None);
        for time in ["NaN", "inf", "-Infinity"] {
            assert_eq!(read(&format!("m 1 {time}"), &["m"]).broken.len(), 1, "{time}");
        }
    }

    #[test]
    fn times_of_both_formats_and_exemplars_are_read_over() {
        for time in ["", " 1395066363000", " 1739184970.553", " 1.739184970e9", " -1"] {
            for exemplar in ["", " # {trace_id=\"x\"} 0.5", " # {} 0.5 1739184970.5", " #"] {
                let text = format!("m_total 17{time}{exemplar}");
                assert_eq!(one(&text, "m_total").1, 17.0, "{text}");
            }
        }
    }

    #[test]
    fn names_may_be_quoted() {
        assert_eq!(one("{\"up\"} 1", "up"), (vec![], 1.0));
        let text = "{\"app.queue.depth\", \"queue.name\"=\"mail\",kind=\"a\"} 3";
        let labels = vec![label("kind", "a"), label("queue.name", "mail")];
        assert_eq!(one(text, "app.queue.depth"), (labels, 3.0));
        let text = "requests_total{\"http.route\"=\"/v1\",status=\"200\"} 7";
        let labels = vec![label("http.route", "/v1"), label("status", "200")];
        assert_eq!(one(text, "requests_total"), (labels, 7.0));
    }

    #[test]
    fn comments_blank_lines_and_other_line_ends_are_passed_over() {
        let text = "# HELP m help\r\n# TYPE m stateset\r\n# UNIT m\r\n\r\nm 1\r\n#\r\n# EOF\n\n";
        let found = read(text, &["m"]);
        assert_eq!((found.samples.len(), found.ended), (1, true));
        assert!(!read("m 1\n", &["m"]).ended && !read("# EOF\nm 1\n", &["m"]).ended);
        assert!(read("", &["m"]).samples.is_empty());
    }

    #[test]
    fn a_broken_line_costs_its_own_family() {
        for broken in [
            "m",
            "m x",
            "m 1 x",
            "m 1 2 3",
            "m{a} 1",
            "m{a=b} 1",
            "m{a=\"b} 1",
            "m{a=\"b\" c=\"d\"} 1",
            "m{a=\"b\",a=\"c\"} 1",
            "m{=\"b\"} 1",
            "m{\"n\"} 1",
            "m{a=\"b\"",
            "m {count:2,sum:3,schema:0,zero_threshold:0.1,zero_count:1} 1",
            "{\"m\", a} 1",
        ] {
            let found = read(&format!("up 1\nm 5\n{broken}\nup 2\n"), &["up", "m"]);
            assert_eq!(found.broken.get("m").map(|line| line.line), Some(3), "{broken}");
            assert_eq!(found.broken.len(), 1, "{broken}");
            let ups = found.samples.iter().filter(|line| line.name == "up");
            assert_eq!(ups.count(), 2, "{broken}");
        }
        let long = format!("m{{a=\"{}\"}} 1\nup 1\n", "x".repeat(LINE_BYTES_MAX));
        let found = read(&long, &["up", "m"]);
        assert_eq!((found.samples.len(), found.broken.len()), (1, 1));
        let wanted = ["up".to_owned(), "m".to_owned()].into();
        let found = parse(b"m{a=\"\xff\"} 1\nup 1\n\xff 1\n", &wanted, false);
        assert_eq!((found.samples.len(), found.broken.len()), (1, 1));
        assert_eq!(found.nameless.map(|line| line.line), Some(3));
    }

    #[test]
    fn lines_that_nobody_asked_for_cost_nothing() {
        let text = "x{ 1\n<html>\n{\"a\\\n{} 1\n1m 1\nup 1\n";
        let found = read(text, &["up"]);
        assert_eq!((found.samples.len(), found.broken.len()), (1, 0));
        assert_eq!(found.nameless.map(|line| line.line), Some(3));
    }

    #[test]
    fn a_last_line_that_may_have_been_cut_off_is_not_read() {
        let wanted = ["up".to_owned(), "m".to_owned()].into();
        let cut = parse(b"up 1\nm 12", &wanted, true);
        assert_eq!((cut.samples.len(), cut.broken.len()), (1, 1));
        assert_eq!(parse(b"up 1\nm 12", &wanted, false).samples.len(), 2);
        assert_eq!(parse(b"up 1\nm 123\n", &wanted, true).samples.len(), 2);
    }

    #[test]
    fn families_that_are_nearly_the_wanted_one_are_named() {
        let found = read("requests_total 1\nQueue 2\n", &["requests", "queue", "cpu"]);
        let near: Vec<_> = found.near.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(near, [("queue", "Queue"), ("requests", "requests_total")]);
    }

    #[test]
    fn names_are_escaped_as_the_formats_do() {
        assert_eq!(escaped("app.queue-depth:9"), "app_queue_depth:9");
        assert_eq!(escaped("9é"), "__");
    }
}
