//! What the policies want: each goes by a signal and proposes a size. A kind of policy has a file here.

mod target;

use std::collections::BTreeMap;

use crate::outcome::Proposal;
use crate::roster::Spread;
use crate::signal::Signal;
use crate::spec::{Across, Policy};

/// A signal as policies see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured<'a> {
    /// How far it can be trusted, with the values.
    pub signal: Signal,
    /// How the hosts' values become one.
    pub across: Across,
    /// Who the load was spread over when it was measured.
    pub spread: Spread<'a>,
}

/// What policies go by.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Every signal by its name, judged once whoever goes by it.
    pub signals: &'a BTreeMap<&'a str, Measured<'a>>,
    /// The size that the pool is meant to have, with booting members.
    pub size: u32,
}

/// Asks a policy.
pub fn propose(policy: &Policy, context: Context<'_>) -> Proposal {
    match policy {
        Policy::Target(policy) => target::propose(policy, context),
    }
}
