//! What was given for each setting: picked by precedence, and parsed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::file;
use super::settings::{CONFIG_ENV, SETTINGS, Use};
use super::{Problem, Sources};

/// Longest time that any timeout may be set to: an hour. Longer is a typing error in the unit.
const SECS_MAX: u64 = 3_600;

/// A configuration at most, bytes: one with every setting has less than 4 KiB.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// What was given for each setting, and where.
pub(super) struct Values {
    given: HashMap<&'static str, Given>,
    pub(super) problems: Vec<Problem>,
}

struct Given {
    place: String,
    text: String,
}

pub(super) fn gather(sources: &Sources<'_>) -> Values {
    let mut problems = Vec::new();
    let mut given = HashMap::new();
    let config_env = (sources.env)(CONFIG_ENV)
        .filter(|text| !text.is_empty())
        .map(PathBuf::from);
    let config_file = sources.config_flag.map(PathBuf::from).or(config_env);
    if let Some(path) = config_file {
        match (sources.read)(&path, CONFIG_BYTES_MAX) {
            Ok(text) => {
                for value in file::flatten(&path, &text, &mut problems) {
                    given.insert(
                        value.path,
                        Given {
                            place: format!("{}: {}", path.display(), value.path),
                            text: value.text,
                        },
                    );
                }
            }
            Err(error) => problems.push(Problem {
                place: path.display().to_string(),
                detail: format!("can't be read: {error}"),
            }),
        }
    }
    for setting in SETTINGS {
        if let Some(text) = (sources.env)(setting.env) {
            given.insert(
                setting.path,
                Given {
                    place: setting.env.to_owned(),
                    text,
                },
            );
        }
        let flag = sources.flags.iter().find(|(path, _)| *path == setting.path);
        if let Some((_, text)) = flag.filter(|_| setting.usage != Use::Secret) {
            given.insert(
                setting.path,
                Given {
                    place: format!("--{}", setting.flag),
                    text: text.clone(),
                },
            );
        }
        if let Some(default) = setting.default {
            given.entry(setting.path).or_insert_with(|| Given {
                place: format!("default of --{}", setting.flag),
                text: default.to_owned(),
            });
        }
    }
    Values { given, problems }
}

impl Values {
    /// The parsed value; `None` if there is none or it is wrong, and then the problem is noted. `detail` does not quote the
    /// value: the wrong one is often another setting's, and that may be a password.
    pub(super) fn take<T>(&mut self, path: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let given = self.given.get(path)?;
        match parse(&given.text) {
            Ok(value) => Some(value),
            Err(detail) => {
                let place = given.place.clone();
                self.problems.push(Problem { place, detail });
                None
            }
        }
    }

    pub(super) fn text(&mut self, path: &str) -> Option<String> {
        self.take(path, |text| match text.is_empty() {
            true => Err("must not be empty".to_owned()),
            false => Ok(text.to_owned()),
        })
    }

    /// A file that is named, if one is; what is wrong with it is noted elsewhere.
    pub(super) fn path(&self, path: &str) -> Option<PathBuf> {
        let given = self.given.get(path)?;
        (!given.text.is_empty()).then(|| PathBuf::from(&given.text))
    }

    pub(super) fn address(&mut self, path: &str) -> Option<SocketAddr> {
        self.take(path, |text| {
            text.parse().map_err(|_| {
                "must be IP:PORT, such as 127.0.0.1:8080 (names of hosts are not looked up)".to_owned()
            })
        })
    }

    pub(super) fn number(&mut self, path: &str, min: u64, max: u64) -> Option<u64> {
        self.take(path, |text| match text.parse::<u64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(number),
            // What is a number is not a password.
            Ok(number) => Err(format!("must be a whole number from {min} to {max}, is {number}")),
            Err(_) => Err(format!("must be a whole number from {min} to {max}")),
        })
    }

    pub(super) fn count(&mut self, path: &str, min: u64, max: u64) -> Option<usize> {
        self.number(path, min, max)
            .and_then(|number| usize::try_from(number).ok())
    }

    pub(super) fn secs(&mut self, path: &str, min: u64) -> Option<Duration> {
        self.number(path, min, SECS_MAX).map(Duration::from_secs)
    }

    pub(super) fn choice<T: Copy>(&mut self, path: &str, choices: &[(&str, T)]) -> Option<T> {
        self.take(path, |text| {
            let found = choices.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value).ok_or_else(|| {
                let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
                format!("must be {}", words.join(" or "))
            })
        })
    }

    pub(super) fn parsed<T: FromStr>(&mut self, path: &str) -> Option<T>
    where
        T::Err: std::fmt::Display,
    {
        self.take(path, |text| {
            // Without the text: it may hold a password.
            text.parse().map_err(|error: T::Err| error.to_string())
        })
    }

    pub(super) fn is_given(&self, path: &str) -> bool {
        self.given.contains_key(path)
    }

    /// Notes what is wrong with a setting beside others.
    pub(super) fn problem(&mut self, path: &str, detail: &str) {
        let place = place_of(self, path);
        let detail = detail.to_owned();
        self.problems.push(Problem { place, detail });
    }
}

pub(super) fn place_of(values: &Values, path: &str) -> String {
    values
        .given
        .get(path)
        .map_or_else(|| path.to_owned(), |given| given.place.clone())
}
