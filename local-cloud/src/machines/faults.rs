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

/// The next `count` machines never come to their programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HangBoot {
    #[serde(default = "one")]
    pub(crate) count: u64,
}

/// The next `count` answers of the metadata service come `secs` late, and with `status` are that failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BadMetadata {
    #[serde(default)]
    pub(crate) secs: f64,
    #[serde(default)]
    pub(crate) status: Option<u16>,
    #[serde(default = "one")]
    pub(crate) count: u64,
}

/// What is armed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Armed {
    pub(crate) slow_boot: Option<SlowBoot>,
    pub(crate) hang_boot: Option<HangBoot>,
    pub(crate) metadata: Option<BadMetadata>,
}

/// What becomes of one boot.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct BootFault {
    /// How long it takes, instead of what its image says.
    pub(crate) secs: Option<f64>,
    pub(crate) hangs: bool,
}

/// The faults of one cloud's machines.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Armed>);

fn one() -> u64 {
    1
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

    pub(crate) fn arm_hang_boot(&self, fault: HangBoot) {
        self.lock().hang_boot = Some(fault);
    }

    pub(crate) fn arm_metadata(&self, fault: BadMetadata) {
        self.lock().metadata = Some(fault);
    }

    /// What becomes of the next boot.
    pub(crate) fn next_boot(&self) -> BootFault {
        let mut armed = self.lock();
        let fault = BootFault {
            secs: armed.slow_boot.as_ref().map(|fault| fault.secs),
            hangs: armed.hang_boot.is_some(),
        };
        use_up(&mut armed.slow_boot, |fault| &mut fault.count);
        use_up(&mut armed.hang_boot, |fault| &mut fault.count);
        fault
    }

    /// What becomes of the metadata service's next answer.
    pub(crate) fn next_metadata(&self) -> Option<BadMetadata> {
        let mut armed = self.lock();
        let fault = armed.metadata.clone()?;
        use_up(&mut armed.metadata, |fault| &mut fault.count);
        Some(fault)
    }

    fn lock(&self) -> MutexGuard<'_, Armed> {
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
        let boot = |secs, hangs| BootFault { secs, hangs };
        assert_eq!(faults.next_boot(), boot(None, false));
        faults.arm_slow_boot(SlowBoot { secs: 3.5, count: 2 });
        faults.arm_hang_boot(HangBoot { count: 1 });
        assert_eq!(faults.next_boot(), boot(Some(3.5), true));
        assert_eq!(faults.armed().slow_boot.map(|fault| fault.count), Some(1));
        assert_eq!(faults.next_boot(), boot(Some(3.5), false));
        assert_eq!(faults.next_boot(), boot(None, false));
        faults.arm_slow_boot(SlowBoot { secs: 1.0, count: 5 });
        faults.clear();
        assert_eq!(faults.next_boot(), boot(None, false));
        let late = BadMetadata {
            secs: 2.0,
            status: Some(500),
            count: 1,
        };
        faults.arm_metadata(late.clone());
        assert_eq!(faults.next_metadata(), Some(late));
        assert_eq!(faults.next_metadata(), None);
    }
}
