//! Faults on demand: armed by HTTP or by the `fault` command, used up one by one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// The next `count` droplets take `secs` to boot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SlowBoot {
    pub(crate) secs: f64,
    #[serde(default = "one")]
    pub(crate) count: u64,
}

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
    pub(crate) slow_boot: Option<SlowBoot>,
    pub(crate) fail_creates: Option<FailCreates>,
    pub(crate) rate_limit: Option<RateLimited>,
}

/// The faults of one local cloud.
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

    pub(crate) fn arm_slow_boot(&self, fault: SlowBoot) {
        self.lock().slow_boot = Some(fault);
    }

    pub(crate) fn arm_fail_creates(&self, fault: FailCreates) {
        self.lock().fail_creates = Some(fault);
    }

    pub(crate) fn arm_rate_limit(&self, fault: RateLimited) {
        self.lock().rate_limit = Some(fault);
    }

    /// The boot time of the next droplet, when it is to be slow.
    pub(crate) fn next_boot_secs(&self) -> Option<f64> {
        let mut armed = self.lock();
        let secs = armed.slow_boot.as_ref().map(|fault| fault.secs)?;
        use_up(&mut armed.slow_boot, |fault| &mut fault.count);
        Some(secs)
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

/// Counts one use; the last one disarms. A count of 0 was never armed.
fn use_up<T>(fault: &mut Option<T>, count: impl Fn(&mut T) -> &mut u64) {
    if let Some(armed) = fault {
        let left = count(armed);
        *left = left.saturating_sub(1);
        if *left == 0 {
            *fault = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_used_up_count_by_count() {
        let faults = Faults::default();
        assert_eq!(faults.next_boot_secs(), None);
        faults.arm_slow_boot(SlowBoot { secs: 3.5, count: 2 });
        assert_eq!(faults.next_boot_secs(), Some(3.5));
        assert_eq!(faults.armed().slow_boot.map(|fault| fault.count), Some(1));
        assert_eq!(faults.next_boot_secs(), Some(3.5));
        assert_eq!(faults.next_boot_secs(), None);
        faults.arm_rate_limit(RateLimited {
            count: 5,
            retry_after_secs: 2,
        });
        faults.clear();
        assert_eq!(faults.next_call(), None);
    }
}
