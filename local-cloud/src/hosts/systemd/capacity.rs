//! What this machine has for its hosts: nobody can have a size that is larger.

use crate::machines::Size;

/// Processors and memory of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capacity {
    processors: u64,
    /// None when the kernel doesn't say.
    memory_mb: Option<u64>,
}

impl Capacity {
    pub(super) fn of_this_machine() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            processors: u64::try_from(processors).unwrap_or(u64::MAX),
            memory_mb: memory_mb(),
        }
    }

    /// Looks whether a host could have that size.
    ///
    /// # Errors
    /// A sentence with both figures and what to do.
    pub(super) fn check(self, size: Size) -> Result<(), String> {
        if size.vcpus > self.processors {
            return Err(format!(
                "the size has {} vCPUs, and this machine {}: choose a smaller one",
                size.vcpus, self.processors
            ));
        }
        match self.memory_mb {
            Some(memory) if size.memory_mb > memory => Err(format!(
                "the size has {} MiB of memory, and this machine {memory}: choose a smaller one",
                size.memory_mb
            )),
            _ => Ok(()),
        }
    }
}

fn memory_mb() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_larger_than_the_machine_is_refused_with_both_figures() {
        let machine = Capacity {
            processors: 2,
            memory_mb: Some(3_900),
        };
        let size = |vcpus, memory_mb| Size {
            vcpus,
            memory_mb,
            disk_gb: 10,
        };
        assert_eq!(machine.check(size(2, 3_900)), Ok(()));
        assert_eq!(
            machine.check(size(4, 2_048)).unwrap_err(),
            "the size has 4 vCPUs, and this machine 2: choose a smaller one"
        );
        assert_eq!(
            machine.check(size(2, 4_096)).unwrap_err(),
            "the size has 4096 MiB of memory, and this machine 3900: choose a smaller one"
        );
        let unknown = Capacity {
            memory_mb: None,
            ..machine
        };
        assert_eq!(unknown.check(size(2, 1 << 30)), Ok(()));
        assert!(Capacity::of_this_machine().memory_mb > Some(0));
    }
}
