//! The check: `serde_json` reads the grammar, and the visitor here adds what it lets pass, duplicate members and depth.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::ops::ControlFlow;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::problem::{JsonProblem, Place, Problems};
use super::text::Text;

/// Deepest nesting of objects and arrays, the outermost one counted. `serde_json` itself stops at 128.
pub const DEPTH_MAX: usize = 64;

/// Up to this many members of one object are compared each with each (120 comparisons, mostly of lengths); beyond, the
/// names are sorted.
const LINEAR_NAMES_MAX: usize = 16;

/// Checks that the bytes are one JSON value in UTF-8, without duplicate members and lone surrogates, at most
/// [`DEPTH_MAX`] deep.
///
/// # Errors
/// What is wrong, at most [`super::PROBLEMS_MAX`] things. A number that no double can hold the magnitude of (`1e999`) is
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
