//! What survives a restart: the machines, and whatever a cloud's API knows of them. Knows no API.

pub(crate) mod dir;
pub(crate) mod file;
pub(crate) mod owner;

use serde::Serialize;

use crate::machines::Registry;

/// Everything that is kept; `R` are the records of the APIs.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct State<R> {
    #[serde(flatten)]
    pub(crate) machines: Registry,
    #[serde(flatten)]
    pub(crate) records: R,
}
