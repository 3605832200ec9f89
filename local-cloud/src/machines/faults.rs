//! Faults of machines on demand, armed for those to come and used up one by one. What goes wrong with one machine at once,
//! as a power cut, is a fault of its host.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// The next `count` machines take `secs` to boot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SlowBoot {
    pub(crate) secs: f64,
    #[serde(default = "one")]
    pub(crate) count: u64,
}

/// What is armed.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Option<SlowBoot>>);

fn one() -> u64 {
    1
}

impl Faults {
    /// What is armed now.
    pub(crate) fn slow_boot(&self) -> Option<SlowBoot> {
        self.lock().clone()
    }

    /// Disarms everything.
    pub(crate) fn clear(&self) {
        *self.lock() = None;
    }

    pub(crate) fn arm_slow_boot(&self, fault: SlowBoot) {
        *self.lock() = Some(fault);
    }

    /// The boot time of the next machine, when it is to be slow.
    pub(crate) fn next_boot_secs(&self) -> Option<f64> {
        let mut armed = self.lock();
        let secs = armed.as_ref().map(|fault| fault.secs)?;
        use_up(&mut armed, |fault| &mut fault.count);
        Some(secs)
    }

    fn lock(&self) -> MutexGuard<'_, Option<SlowBoot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one use; the last one disarms. A count of 0 was never armed.
pub(crate) fn use_up<T>(fault: &mut Option<T>, count: impl Fn(&mut T) -> &mut u64) {
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
        assert_eq!(faults.slow_boot().map(|fault| fault.count), Some(1));
        assert_eq!(faults.next_boot_secs(), Some(3.5));
        assert_eq!(faults.next_boot_secs(), None);
        faults.arm_slow_boot(SlowBoot { secs: 1.0, count: 5 });
        faults.clear();
        assert_eq!(faults.next_boot_secs(), None);
    }
}
