//! What tells one run's processes from all others: a variable in their environment, which they pass on.

/// The variable that holds it.
const VARIABLE: &str = "TIDEPOOL_DEMO_RUN";

/// What one run's processes are known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(String);

impl Mark {
    /// `text` is unique for the run.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The environment variable for whatever the run starts.
    pub fn variable(&self) -> (String, String) {
        (VARIABLE.to_owned(), self.0.clone())
    }
}
