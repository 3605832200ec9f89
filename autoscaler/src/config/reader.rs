//! Reads TOML tables key by key and collects every problem with its path, so that all are reported at once.

use std::cell::RefCell;
use std::fmt;
use std::ops::RangeInclusive;

use toml::{Table, Value};

use super::Surroundings;
use crate::metrics::presets::SourceKind;

/// Windows, periods and life stages at most; the core's memory is sized for it.
pub(super) const WINDOW_SECS_MAX: u32 = 3600;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Such as `pool[0].policy[1].target`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// Where problems are collected, and warnings of what is odd but works.
#[derive(Debug, Default)]
pub(super) struct Problems {
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl Problems {
    pub(super) fn add(&self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem {
            path: path.into(),
            message: message.into(),
        });
    }

    pub(super) fn warn(&self, path: impl Into<String>, message: impl Into<String>) {
        self.warnings.borrow_mut().push(Problem {
            path: path.into(),
            message: message.into(),
        });
    }

    /// The problems, and the warnings.
    pub(super) fn into_inner(self) -> (Vec<Problem>, Vec<Problem>) {
        (self.problems.into_inner(), self.warnings.into_inner())
    }
}

/// What is known besides the table that is read.
pub(super) struct Context<'a> {
    pub(super) around: &'a Surroundings<'a>,
    pub(super) source_kind: SourceKind,
    pub(super) tick_secs: u32,
}

/// A table that is read; what nobody asked for is a problem when it is finished.
pub(super) struct Section<'p> {
    pub(super) path: String,
    pub(super) problems: &'p Problems,
    table: Table,
    known: Vec<&'static str>,
}

/// A value of TOML as a value of ours.
pub(super) trait FromToml: Sized {
    /// What is expected, for messages.
    const WHAT: &'static str;
    fn from_toml(value: Value) -> Option<Self>;
}

impl FromToml for String {
    const WHAT: &'static str = "text";
    fn from_toml(value: Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

impl FromToml for i64 {
    const WHAT: &'static str = "a whole number";
    fn from_toml(value: Value) -> Option<Self> {
        value.as_integer()
    }
}

impl FromToml for f64 {
    const WHAT: &'static str = "a number";
    fn from_toml(value: Value) -> Option<Self> {
        value.as_float().or_else(|| value.as_integer().map(|n| n as f64))
    }
}

impl<T: FromToml> FromToml for Vec<T> {
    const WHAT: &'static str = "a list";
    fn from_toml(value: Value) -> Option<Self> {
        match value {
            Value::Array(items) => items.into_iter().map(T::from_toml).collect(),
            _ => None,
        }
    }
}

impl FromToml for Table {
    const WHAT: &'static str = "a table";
    fn from_toml(value: Value) -> Option<Self> {
        match value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }
}

impl FromToml for Value {
    const WHAT: &'static str = "a value";
    fn from_toml(value: Value) -> Option<Self> {
        Some(value)
    }
}

impl<'p> Section<'p> {
    pub(super) fn root(table: Table, problems: &'p Problems) -> Self {
        Self {
            path: String::new(),
            problems,
            table,
            known: Vec::new(),
        }
    }

    /// The path of a key in here.
    pub(super) fn at(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    pub(super) fn problem(&self, key: &str, message: impl Into<String>) {
        self.problems.add(self.at(key), message);
    }

    pub(super) fn warn(&self, key: &str, message: impl Into<String>) {
        self.problems.warn(self.at(key), message);
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub(super) fn optional<T: FromToml>(&mut self, key: &'static str) -> Option<T> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        let kind = value.type_str();
        let read = T::from_toml(value);
        if read.is_none() {
            self.problem(key, format!("must be {}, not {kind}", T::WHAT));
        }
        read
    }

    pub(super) fn required<T: FromToml>(&mut self, key: &'static str) -> Option<T> {
        if !self.has(key) {
            self.known.push(key);
            self.problem(key, format!("is missing; it must be {}", T::WHAT));
            return None;
        }
        self.optional(key)
    }

    fn in_range(&self, key: &str, number: i64, range: &RangeInclusive<u32>) -> Option<u32> {
        let inside = u32::try_from(number).ok().filter(|n| range.contains(n));
        if inside.is_none() {
            self.problem(
                key,
                format!(
                    "must be within {} and {}, not {number}",
                    range.start(),
                    range.end()
                ),
            );
        }
        inside
    }

    /// A whole number that must be there.
    pub(super) fn number(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let number = self.required(key)?;
        self.in_range(key, number, &range)
    }

    /// A whole number with a default.
    pub(super) fn number_or(&mut self, key: &'static str, range: RangeInclusive<u32>, default: u32) -> u32 {
        let number = self
            .optional(key)
            .and_then(|number| self.in_range(key, number, &range));
        number.unwrap_or(default)
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text: String = self.optional(key)?;
        let found = words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value);
        if found.is_none() {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.problem(key, format!("must be one of {}, not {text:?}", all.join(", ")));
        }
        found
    }

    /// A table within; empty when it isn't there.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'p> {
        let table = self.optional::<Table>(key).unwrap_or_default();
        Section {
            path: self.at(key),
            problems: self.problems,
            table,
            known: Vec::new(),
        }
    }

    /// A list of tables within.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Section<'p>> {
        let tables: Vec<Table> = self.optional(key).unwrap_or_default();
        let section = |(n, table)| Section {
            path: format!("{}[{n}]", self.at(key)),
            problems: self.problems,
            table,
            known: Vec::new(),
        };
        tables.into_iter().enumerate().map(section).collect()
    }

    /// Reports what nobody asked for.
    pub(super) fn finish(self) {
        for key in self.table.keys() {
            let known = self.known.join(", ");
            self.problem(key, format!("is unknown; known here: {known}"));
        }
    }
}
