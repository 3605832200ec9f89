//! JSON text, checked strictly and then kept as it is.
//!
//! `serde_json` reads the text once for its grammar; the visitor in `check.rs` adds what it lets pass: duplicate members
//! and depth. Nothing is built, so numbers, member order and white space stay the client's.

mod check;
mod problem;
mod text;

pub use check::{DEPTH_MAX, check};
pub use problem::{JsonProblem, POINTER_BYTES_MAX, PROBLEMS_MAX, Problems};
pub use text::{Member, is_object, kind, members, string};

/// Longest body, bytes: 1 MiB.
pub const BODY_BYTES_MAX: usize = 1_048_576;

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
