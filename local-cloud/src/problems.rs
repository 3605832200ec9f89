//! Problems of a user's input, collected so that all are reported at once, each with its place.

use std::fmt;

/// What is wrong, and where: `image.toml: process[0].program`, `listen`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The place: a file, a field's path, or both.
    pub path: String,
    /// What is wrong there, and what is expected.
    pub message: String,
}

/// All problems of one input; never empty when it is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// No problem yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes one more problem.
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem {
            path: path.into(),
            message: message.into(),
        });
    }

    /// Takes over the problems of another input.
    pub fn append(&mut self, mut other: Problems) {
        self.0.append(&mut other.0);
    }

    /// The problems, in the order found.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.0
    }

    /// `value` when nothing was found, all problems otherwise.
    ///
    /// # Errors
    /// The problems themselves.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, problem) in self.0.iter().enumerate() {
            if nth > 0 {
                writeln!(f)?;
            }
            write!(f, "{}: {}", problem.path, problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
