//! Secrets: read from the environment or a file, never from the configuration itself, and never printed.

pub use tidepool_logging::Secret;

use super::reader::Section;
use super::{Purpose, Surroundings};

/// The longest word that is shown though it has no look of a path or a variable.
const PLAIN_WORD_CHARS_MAX: usize = 24;

/// The name of a variable, if it is one by its looks. What stands there by mistake may be the secret itself.
fn variable_shown(name: &str) -> Option<&str> {
    let usual = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    (name.bytes().all(usual) || is_plain_word(name)).then_some(name)
}

/// A word of letters, as people name files and variables; tokens have digits and are longer.
fn is_plain_word(text: &str) -> bool {
    text.len() <= PLAIN_WORD_CHARS_MAX
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-'))
}

/// A path, if it is one by its looks.
fn path_shown(path: &str) -> Option<&str> {
    let begins = ["/", "./", "../", "~"]
        .iter()
        .any(|begin| path.starts_with(begin));
    (begins || path.contains('.') || is_plain_word(path)).then_some(path)
}

/// The keys of one secret: the name of an environment variable, or the path of a file.
pub(super) struct SecretKeys {
    pub(super) env: &'static str,
    pub(super) file: &'static str,
}

/// Reads a secret where one is configured. `None` with a problem added when it can't be read; `None` without one when
/// nothing is configured, or when it is only asked for: then only the keys are checked.
pub(super) fn read(
    section: &mut Section<'_>,
    keys: &SecretKeys,
    around: &Surroundings<'_>,
    purpose: Purpose,
) -> Option<Secret> {
    let env: Option<String> = section.optional(keys.env);
    let file: Option<String> = section.optional(keys.file);
    let (key, text) = match (env, file) {
        (None, None) => return None,
        (Some(_), Some(_)) => {
            section.problem(
                keys.file,
                format!("stands beside {}; one of them must go", keys.env),
            );
            return None;
        }
        _ if purpose == Purpose::Ask => return None,
        (Some(name), None) => {
            let text = (around.env)(&name).ok_or_else(|| match variable_shown(&name) {
                Some(name) => format!("environment variable {name} is not set"),
                None => {
                    "names an environment variable that is not set; it isn't shown, for it doesn't look like \
                         the name of one"
                        .to_owned()
                }
            });
            (keys.env, text)
        }
        (None, Some(path)) => {
            let text = (around.read_file)(&around.path_of(&path));
            (
                keys.file,
                text.map_err(|error| match path_shown(&path) {
                    Some(path) => format!("{path} can't be read: {error}"),
                    None => format!(
                        "names a file that can't be read: {error}; it isn't shown, for it doesn't look like a path"
                    ),
                }),
            )
        }
    };
    match text.map(|text| text.trim().to_owned()) {
        Ok(text) if text.is_empty() => {
            section.problem(key, "names an empty secret");
            None
        }
        Ok(text) => Some(Secret::new(text)),
        Err(problem) => {
            section.problem(key, problem);
            None
        }
    }
}
