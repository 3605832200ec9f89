//! JSON text, checked strictly and then kept as it is.
//!
//! `serde_json` reads the text once for its grammar; the visitor here adds what it lets pass: duplicate members and
//! depth. Nothing is built, so numbers, member order and white space stay the client's.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::ops::ControlFlow;

use serde::de::{DeserializeSeed, Deserializer as _, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Deepest nesting of objects and arrays, the outermost one counted. `serde_json` itself stops at 128.
pub const DEPTH_MAX: usize = 64;

/// Longest body, bytes: 1 MiB.
pub const BODY_BYTES_MAX: usize = 1_048_576;

/// Most problems reported at once; a body that is wrong all over needs no longer list. With [`POINTER_BYTES_MAX`] a
/// report has at most 20 x (1,024 + about 150) bytes, 24 KiB, whatever the body.
pub const PROBLEMS_MAX: usize = 20;

/// Longest pointer reported. A usual one has some ten characters a level, of which there are 64 at most; a member's name
/// may be as long as a body, and three times that when it is percent-encoded.
pub const POINTER_BYTES_MAX: usize = 1_024;

/// Up to this many members of one object are compared each with each (120 comparisons, mostly of lengths); beyond, the
/// names are sorted.
const LINEAR_NAMES_MAX: usize = 16;

/// One thing that is wrong with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonProblem {
    /// Where: a JSON pointer as a URI fragment, `#/data/x` (RFC 6901, section 6); `#` is the whole body.
    pub pointer: String,
    /// What, for people.
    pub detail: String,
}

impl JsonProblem {
    /// A problem at a place.
    #[must_use]
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
        }
    }

    /// A problem of a member of the outermost object.
    #[must_use]
    pub fn of_member(name: &str, detail: &str) -> Self {
        let root = Place::ROOT;
        root.member(name).problem(detail)
    }
}

/// What is wrong with a body, bounded: at most [`PROBLEMS_MAX`] are kept, and those beyond are not even made.
#[derive(Debug, Default)]
pub struct Problems(Vec<JsonProblem>);

impl Problems {
    /// Adds one, unless there are enough.
    pub fn add(&mut self, problem: impl FnOnce() -> JsonProblem) {
        if !self.is_full() {
            self.0.push(problem());
        }
    }

    /// Whether no more are kept: looking for others is of no use.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.len() >= PROBLEMS_MAX
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the order in which they were found.
    #[must_use]
    pub fn into_vec(self) -> Vec<JsonProblem> {
        self.0
    }
}

/// Checks that the bytes are one JSON value in UTF-8, without duplicate members and lone surrogates, at most
/// [`DEPTH_MAX`] deep.
///
/// # Errors
/// What is wrong, at most [`PROBLEMS_MAX`] things. A number that no double can hold the magnitude of (`1e999`) is
/// refused; every other number is left exactly as written.
pub fn check(bytes: &[u8]) -> Result<&str, Vec<JsonProblem>> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        vec![JsonProblem::new("#", format!("is not UTF-8 at byte {at}"))]
    })?;
    let checker = Checker::default();
    let mut parser = serde_json::Deserializer::from_str(text);
    let root = Place::ROOT;
    let parsed = Value {
        checker: &checker,
        place: &root,
    }
    .deserialize(&mut parser)
    .and_then(|()| parser.end());
    let Found {
        mut problems,
        failed_at,
        ..
    } = checker.found.into_inner();
    if let Err(error) = parsed
        && !failed_at.as_ref().is_some_and(|failure| failure.reported)
    {
        let pointer = failed_at.map_or_else(|| "#".to_owned(), |failure| failure.pointer);
        problems.add(|| JsonProblem::new(pointer, format!("is not valid JSON: {error}")));
    }
    if problems.is_empty() {
        Ok(text)
    } else {
        Err(problems.into_vec())
    }
}

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

fn push_token(pointer: &mut String, name: &str) {
    // RFC 6901 escapes ~ and /; in a URI fragment (RFC 3986) everything outside this set is percent-encoded.
    for byte in name.bytes() {
        match byte {
            b'~' => pointer.push_str("~0"),
            b'/' => pointer.push_str("~1"),
            b'-' | b'.' | b'_' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';'
            | b'=' | b':' | b'@' | b'?' => pointer.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => pointer.push(char::from(byte)),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(pointer, "%{byte:02X}");
            }
        }
    }
}

/// Where in the text the reader is; rendered only when something is wrong there.
struct Place<'p> {
    parent: Option<&'p Place<'p>>,
    token: Token<'p>,
    depth: usize,
}

enum Token<'p> {
    Root,
    Member(&'p str),
    Index(usize),
}

impl<'p> Place<'p> {
    const ROOT: Self = Self {
        parent: None,
        token: Token::Root,
        depth: 0,
    };

    /// A member of the object that stands here.
    fn member(&'p self, name: &'p str) -> Self {
        Self {
            parent: Some(self),
            token: Token::Member(name),
            depth: self.depth + 1,
        }
    }

    /// An item of the array that stands here.
    fn item(&'p self, index: usize) -> Self {
        Self {
            parent: Some(self),
            token: Token::Index(index),
            depth: self.depth + 1,
        }
    }

    fn problem(&self, detail: &str) -> JsonProblem {
        let mut pointer = String::new();
        match self.write_pointer(&mut pointer) {
            Written::Whole => JsonProblem::new(pointer, detail),
            Written::Shortened => JsonProblem::new(
                pointer,
                format!("{detail} (at a member inside, whose own pointer is too long to be shown)"),
            ),
        }
    }

    /// Writes the pointer of this place, or, where that is too long, of the innermost place around it that fits.
    fn write_pointer(&self, pointer: &mut String) -> Written {
        if let Some(parent) = self.parent
            && parent.write_pointer(pointer) == Written::Shortened
        {
            return Written::Shortened;
        }
        let before = pointer.len();
        match self.token {
            Token::Root => pointer.push('#'),
            // Encoding makes no name shorter, so a name that is too long need not be encoded first.
            Token::Member(name) if name.len() > POINTER_BYTES_MAX => return Written::Shortened,
            Token::Member(name) => {
                pointer.push('/');
                push_token(pointer, name);
            }
            Token::Index(index) => {
                // Writing to a String cannot fail.
                let _ = write!(pointer, "/{index}");
            }
        }
        if pointer.len() > POINTER_BYTES_MAX {
            pointer.truncate(before);
            return Written::Shortened;
        }
        Written::Whole
    }
}

/// How much of a pointer was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Whole,
    Shortened,
}

#[derive(Default)]
struct Checker {
    found: RefCell<Found>,
}

#[derive(Default)]
struct Found {
    problems: Problems,
    failed_at: Option<Failure>,
}

struct Failure {
    pointer: String,
    /// A problem says already why reading stopped.
    reported: bool,
}

impl Checker {
    fn problem(&self, place: &Place<'_>, detail: &str) {
        self.found.borrow_mut().problems.add(|| place.problem(detail));
    }

    fn has_enough(&self) -> bool {
        self.found.borrow().problems.is_full()
    }

    /// Remembers the innermost place where reading failed: it is the first to be reported, on the way out.
    fn failed(&self, place: &Place<'_>, reported: bool) {
        let mut found = self.found.borrow_mut();
        if found.failed_at.is_none() {
            let mut pointer = String::new();
            place.write_pointer(&mut pointer);
            found.failed_at = Some(Failure { pointer, reported });
        }
    }
}

/// Reads one value and everything in it.
struct Value<'c> {
    checker: &'c Checker,
    place: &'c Place<'c>,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let (checker, place) = (self.checker, self.place);
        deserializer
            .deserialize_any(self)
            .inspect_err(|_| checker.failed(place, false))
    }
}

impl Value<'_> {
    /// Goes one level deeper, unless that is too deep.
    fn enter<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.place.depth >= DEPTH_MAX {
            let detail = format!("is nested deeper than {DEPTH_MAX} levels");
            self.checker.problem(self.place, &detail);
            return Err(self.stop(&detail));
        }
        Ok(())
    }

    /// Ends the reading for a reason that is reported already.
    fn stop<E: serde::de::Error>(&self, why: &str) -> E {
        self.checker.failed(self.place, true);
        E::custom(why)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.enter()?;
        let mut index = 0;
        loop {
            let place = self.place.item(index);
            let item = Value {
                checker: self.checker,
                place: &place,
            };
            if items.next_element_seed(item)?.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        self.enter()?;
        let mut names = Vec::new();
        while let Some(name) = members.next_key_seed(Text)? {
            let place = self.place.member(&name);
            members.next_value_seed(Value {
                checker: self.checker,
                place: &place,
            })?;
            names.push(name);
        }
        let reported = for_each_repeated(&mut names, |name| {
            if self.checker.has_enough() {
                return ControlFlow::Break(());
            }
            self.checker
                .problem(&self.place.member(name), "appears more than once in its object");
            ControlFlow::Continue(())
        });
        match reported {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(self.stop("enough is wrong with it")),
        }
    }
}

/// Visits the names that stand in an object more than once, each as often as it is too many.
fn for_each_repeated(
    names: &mut [Cow<'_, str>],
    mut visit: impl FnMut(&str) -> ControlFlow<()>,
) -> ControlFlow<()> {
    if names.len() <= LINEAR_NAMES_MAX {
        for (at, name) in names.iter().enumerate() {
            if names.iter().take(at).any(|earlier| earlier == name) {
                visit(name)?;
            }
        }
        return ControlFlow::Continue(());
    }
    names.sort_unstable();
    for pair in names.windows(2) {
        if let [left, right] = pair
            && left == right
        {
            visit(right)?;
        }
    }
    ControlFlow::Continue(())
}

/// Reads a string, borrowed where it has no escapes.
struct Text;

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problems(text: &[u8]) -> Vec<(String, String)> {
        check(text)
            .unwrap_err()
            .into_iter()
            .map(|problem| (problem.pointer, problem.detail))
            .collect()
    }

    fn nested(depth: usize) -> String {
        format!("{}{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn accepts_json_and_leaves_it_alone() {
        for text in [
            "{}",
            " [1, -0, 1.0, 1e5, 18446744073709551615, -9223372036854775808] ",
            "123456789012345678901234567890.123456789012345678901234567890",
            "\"\\ud83d\\ude00 \\u0000 \u{e9}\"",
            "null",
            "{\"a\":{\"a\":[{\"a\":true}]},\"b\":false}",
        ] {
            assert_eq!(check(text.as_bytes()), Ok(text));
        }
    }

    #[test]
    fn refuses_what_is_not_json() {
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "'a'",
            "01",
            "1.",
            "+1",
            "NaN",
            "nul",
            "\u{feff}{}",
            "{} {}",
            "\"\t\"",
            "[1e999]",
            "// x\n1",
        ] {
            assert!(check(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn refuses_lone_surrogates_and_broken_utf_8() {
        for text in [
            r#"["\ud800"]"#,
            r#"["\udc00"]"#,
            r#"["\ud800\ud800"]"#,
            r#"["\ud800x"]"#,
            r#"{"\udfff":1}"#,
        ] {
            assert!(check(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(
            problems(b"[\"\xff\"]"),
            [("#".to_owned(), "is not UTF-8 at byte 2".to_owned())]
        );
        assert!(check(b"\"\xed\xa0\x80\"").is_err());
    }

    #[test]
    fn reports_duplicates_with_their_place_all_at_once() {
        let found = problems(br#"{"data":{"x":1,"a/b":[{"~":1,"~":2}],"x":2},"data":1}"#);
        let pointers: Vec<&str> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(pointers, ["#/data/a~1b/0/~0", "#/data/x", "#/data"]);
        // The same name written differently is the same name.
        assert_eq!(problems(br#"{"a":1,"\u0061":2}"#).first().unwrap().0, "#/a");
    }

    #[test]
    fn finds_duplicates_among_many_members() {
        let mut names: Vec<String> = (0..1_000).map(|n| format!("\"n{n}\":0")).collect();
        assert!(check(format!("{{{}}}", names.join(",")).as_bytes()).is_ok());
        names.push("\"n17\":0".into());
        assert_eq!(
            problems(format!("{{{}}}", names.join(",")).as_bytes()),
            [(
                "#/n17".to_owned(),
                "appears more than once in its object".to_owned()
            )]
        );
    }

    #[test]
    fn reports_at_most_a_bounded_number_of_problems() {
        let text = format!("[{}]", vec![r#"{"a":1,"a":2}"#; 100].join(","));
        assert_eq!(problems(text.as_bytes()).len(), PROBLEMS_MAX);
    }

    /// A report is small however large the body is, and its pointers lead to a place that exists.
    #[test]
    fn a_report_has_a_bounded_length_whatever_the_body() {
        const REPORT_BYTES_MAX: usize = PROBLEMS_MAX * (POINTER_BYTES_MAX + 256);
        let long = "\u{e9}".repeat(100_000);
        let twice = |name: &str| format!(r#""{name}":1,"{name}":2"#);
        let around = |depth: usize, name: &str, inner: &str| {
            let (open, close) = (format!(r#"{{"{name}":"#).repeat(depth), "}".repeat(depth));
            format!("{open}{{{inner}}}{close}")
        };
        for (body, place) in [
            (
                around(0, "", &vec![twice("a"); 50_000].join(",")),
                "#/a".to_owned(),
            ),
            (around(0, "", &twice(&long)), "#".to_owned()),
            (
                around(1, &long, &vec![twice("a"); 50_000].join(",")),
                "#".to_owned(),
            ),
            (
                around(2, "data", &format!(r#"{},"x":{{{}}}"#, twice(&long), twice("b"))),
                "#/data/data/x/b".to_owned(),
            ),
            (
                around(60, &"n".repeat(300), &twice("a")),
                format!("#{}", format!("/{}", "n".repeat(300)).repeat(3)),
            ),
            (format!(r#"{{"{long}":[1,}}"#), "#".to_owned()),
        ] {
            let found = check(body.as_bytes()).unwrap_err();
            let bytes: usize = found.iter().map(|p| p.pointer.len() + p.detail.len()).sum();
            assert!(
                found.len() <= PROBLEMS_MAX && bytes <= REPORT_BYTES_MAX,
                "{bytes}"
            );
            assert_eq!(found.first().unwrap().pointer, place);
        }
    }

    #[test]
    fn a_problem_whose_place_is_too_long_says_so() {
        let problem = JsonProblem::of_member(&"x".repeat(POINTER_BYTES_MAX), "is wrong");
        assert_eq!(problem.pointer, "#");
        assert!(
            problem.detail.starts_with("is wrong (at a member inside"),
            "{problem:?}"
        );
        let problem = JsonProblem::of_member(&"x".repeat(POINTER_BYTES_MAX - 2), "is wrong");
        assert_eq!(
            (problem.pointer.len(), problem.detail.as_str()),
            (POINTER_BYTES_MAX, "is wrong")
        );
    }

    #[test]
    fn counts_depth_with_the_outermost_level() {
        assert!(check(nested(DEPTH_MAX).as_bytes()).is_ok());
        let found = problems(nested(DEPTH_MAX + 1).as_bytes());
        assert_eq!(
            found,
            [(
                format!("#{}", "/0".repeat(DEPTH_MAX)),
                "is nested deeper than 64 levels".to_owned()
            )]
        );
        assert!(check("[".repeat(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn says_where_the_grammar_is_broken() {
        let found = problems(br#"{"data":{"list":[1,tru]}}"#);
        assert_eq!(found.first().unwrap().0, "#/data/list/1");
        assert_eq!(problems(b"{} x").first().unwrap().0, "#");
    }

    #[test]
    fn pointers_are_uri_fragments() {
        let pointer = |name| JsonProblem::of_member(name, "is wrong").pointer;
        assert_eq!(pointer("a b"), "#/a%20b");
        assert_eq!(pointer("ä~/%\""), "#/%C3%A4~0~1%25%22");
        assert_eq!(pointer(""), "#/");
    }

    #[test]
    fn kinds_have_names() {
        for (text, name) in [
            (" {}", "an object"),
            ("[1]", "an array"),
            ("\"{\"", "a string"),
            ("true", "a boolean"),
            ("false", "a boolean"),
            ("null", "null"),
            ("-1.5e3", "a number"),
        ] {
            assert_eq!(kind(text), name, "{text}");
        }
    }

    #[test]
    fn members_keep_their_text() {
        let found = members(" { \"a\\u0062\" : [1.0 , 2] , \"c\":1e5 } ").unwrap();
        let texts: Vec<_> = found
            .iter()
            .map(|m| (m.raw_name, m.name.as_ref(), m.value))
            .collect();
        assert_eq!(
            texts,
            [("\"a\\u0062\"", "ab", "[1.0 , 2]"), ("\"c\"", "c", "1e5")]
        );
        assert!(members("[]").is_none());
        assert_eq!(members("{}").unwrap().len(), 0);
        assert_eq!(string("\"x\\n\"").unwrap(), "x\n");
        assert_eq!(string("1"), None);
    }

    proptest! {
        #[test]
        fn never_panics_and_accepts_no_more_than_serde_json(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if check(&bytes).is_ok() {
                prop_assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
            }
        }

        #[test]
        fn agrees_with_serde_json_on_json_like_text(text in r#"[\[\]{},:"ab10.e \\u-]{0,24}"#) {
            let parsed = serde_json::from_str::<serde_json::Value>(&text);
            match check(text.as_bytes()) {
                Ok(_) => prop_assert!(parsed.is_ok()),
                Err(problems) => prop_assert!(
                    parsed.is_err() || problems.iter().all(|p| p.detail.contains("more than once"))
                ),
            }
        }
    }
}
