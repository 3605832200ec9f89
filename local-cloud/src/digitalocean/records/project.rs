//! Projects: what an account's resources are grouped by. Which resources there are is `resources`' matter.

use serde::{Deserialize, Serialize};

/// The id of the project that is there from the start. It is the same in each local cloud, as the account's own id is.
pub(crate) const FIRST_PROJECT: &str = "00000000-0000-4000-8000-000000000002";

/// A project.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Project {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) purpose: String,
    /// Empty when none was said.
    pub(crate) environment: String,
    pub(crate) is_default: bool,
    pub(crate) created_at: String,
    pub(crate) updated_at: String,
}

impl Project {
    /// The one that an account has before anybody made one, with the words that the real one has.
    pub(crate) fn first(now: &str) -> Self {
        Self {
            id: FIRST_PROJECT.to_owned(),
            name: "first-project".to_owned(),
            description: "Update your project information under Settings".to_owned(),
            purpose: "Other".to_owned(),
            environment: String::new(),
            is_default: true,
            created_at: now.to_owned(),
            updated_at: now.to_owned(),
        }
    }
}

/// That a resource was put into a project.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Membership {
    pub(crate) project: String,
    pub(crate) assigned_at: String,
}
