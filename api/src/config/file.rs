//! The TOML file as a flat list of `path = text`. Unknown fields and odd types are problems; values are not judged.

use std::path::Path;

use super::{Problem, settings};

/// One value in the file.
pub(super) struct FileValue {
    pub(super) path: &'static str,
    pub(super) text: String,
}

/// Flattens the file's text.
pub(super) fn flatten(file: &Path, text: &str, problems: &mut Vec<Problem>) -> Vec<FileValue> {
    let table = match text.parse::<toml::Table>() {
        Ok(table) => table,
        Err(error) => {
            problems.push(Problem {
                place: file.display().to_string(),
                detail: format!(
                    "is not valid TOML at line {}: {}",
                    line_of(&error, text),
                    error.message()
                ),
            });
            return Vec::new();
        }
    };
    let mut values = Vec::new();
    let mut walk = Walk {
        file,
        problems,
        values: &mut values,
    };
    for (name, value) in table {
        walk.visit(&name, value, 0);
    }
    values
}

/// Where the file is not TOML. The line itself is not shown: it may hold a password.
fn line_of(error: &toml::de::Error, text: &str) -> usize {
    let at = error.span().map_or(0, |span| span.start);
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// Settings are at most in a table of a table; deeper tables are unknown fields, so recursion ends there.
const DEPTH_MAX: usize = 2;

struct Walk<'a> {
    file: &'a Path,
    problems: &'a mut Vec<Problem>,
    values: &'a mut Vec<FileValue>,
}

impl Walk<'_> {
    fn visit(&mut self, path: &str, value: toml::Value, depth: usize) {
        let is_within = |setting: &settings::Setting| {
            let rest = setting.path.strip_prefix(path);
            rest.is_some_and(|rest| rest.starts_with('.'))
        };
        let known_table = settings::SETTINGS.iter().any(is_within);
        match value {
            toml::Value::Table(table) if known_table && depth < DEPTH_MAX => {
                for (name, value) in table {
                    self.visit(&format!("{path}.{name}"), value, depth + 1);
                }
            }
            _ if known_table => self.problem(path, "must be a table"),
            value => self.leaf(path, &value),
        }
    }

    fn leaf(&mut self, path: &str, value: &toml::Value) {
        let Some(setting) = settings::by_path(path) else {
            self.problem(path, "unknown field");
            return;
        };
        if setting.usage == settings::Use::Secret {
            self.problem(path, &format!("is a secret: give it as {}", setting.env));
            return;
        }
        let text = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(truth) => truth.to_string(),
            other => {
                self.problem(
                    path,
                    &format!("must be a text or a whole number, is {}", other.type_str()),
                );
                return;
            }
        };
        self.values.push(FileValue {
            path: setting.path,
            text,
        });
    }

    fn problem(&mut self, path: &str, detail: &str) {
        self.problems.push(Problem {
            place: format!("{}: {path}", self.file.display()),
            detail: detail.to_owned(),
        });
    }
}
