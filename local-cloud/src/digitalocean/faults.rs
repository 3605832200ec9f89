//! Faults of the API on demand: armed by HTTP or by the `fault` command, used up one by one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::machines::faults::use_up;

/// The next `count` creates are answered with `status`; with `after_effect` the droplets are made all the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FailCreates {
    #[serde(default = "one")]
    pub(crate) count: u64,
    #[serde(default = "unavailable")]
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) after_effect: bool,
}

/// The next `count` calls are answered with 429.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RateLimited {
    #[serde(default = "one")]
    pub(crate) count: u64,
    #[serde(default = "one")]
    pub(crate) retry_after_secs: u64,
}

/// What is armed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Armed {
    pub(crate) fail_creates: Option<FailCreates>,
    pub(crate) rate_limit: Option<RateLimited>,
}

/// The API's faults of one local cloud.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Armed>);

fn one() -> u64 {
    1
}

fn unavailable() -> u16 {
    503
}

impl Faults {
    /// What is armed now.
    pub(crate) fn armed(&self) -> Armed {
        self.lock().clone()
    }

    /// Disarms everything.
    pub(crate) fn clear(&self) {
        *self.lock() = Armed::default();
    }

    pub(crate) fn arm_fail_creates(&self, fault: FailCreates) {
        self.lock().fail_creates = Some(fault);
    }

    pub(crate) fn arm_rate_limit(&self, fault: RateLimited) {
        self.lock().rate_limit = Some(fault);
    }

    /// How the next create fails, when it is to fail.
    pub(crate) fn next_create(&self) -> Option<FailCreates> {
        let mut armed = self.lock();
        let fault = armed.fail_creates.clone()?;
        use_up(&mut armed.fail_creates, |fault| &mut fault.count);
        Some(fault)
    }

    /// The `retry-after` of the next call, when it is to be refused.
    pub(crate) fn next_call(&self) -> Option<u64> {
        let mut armed = self.lock();
        let secs = armed.rate_limit.as_ref().map(|fault| fault.retry_after_secs)?;
        use_up(&mut armed.rate_limit, |fault| &mut fault.count);
        Some(secs)
    }

    fn lock(&self) -> MutexGuard<'_, Armed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_used_up_count_by_count() {
        let faults = Faults::default();
        faults.arm_rate_limit(RateLimited {
            count: 2,
            retry_after_secs: 2,
        });
        assert_eq!(faults.next_call(), Some(2));
        assert_eq!(faults.armed().rate_limit.map(|fault| fault.count), Some(1));
        faults.clear();
        assert_eq!(faults.next_call(), None);
    }
}
