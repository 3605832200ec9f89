//! CPU and memory of the process and of the host, sampled when somebody asks.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, IntGauge};
use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// Shortest time between two samples. The CPU's ratio is measured between them, so it needs some length (sysinfo asks
/// for at least 0.2 s), and a flood of scrapes must not become a flood of reads below /proc.
const SAMPLE_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Collects the machine's metrics; registered once.
pub(super) struct MachineCollector {
    state: Mutex<State>,
    process_cpu: Counter,
    process_memory: IntGauge,
    host_cpu: Gauge,
    host_memory_used: IntGauge,
    host_memory_total: IntGauge,
}

struct State {
    system: System,
    pid: Option<Pid>,
    sampled_at: Option<Instant>,
}

impl MachineCollector {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let mut system = System::new().map_err(|error| prometheus::Error::Msg(error.to_string()))?;
        // The ratio is measured since the last refresh: this is where the first one starts.
        system.refresh_cpu_usage();
        Ok(Self {
            state: Mutex::new(State {
                system,
                pid: sysinfo::get_current_pid().ok(),
                sampled_at: None,
            }),
            process_cpu: Counter::new(
                "process_cpu_seconds_total",
                "User and system CPU time of this process, seconds.",
            )?,
            process_memory: IntGauge::new(
                "process_resident_memory_bytes",
                "Resident memory of this process, bytes.",
            )?,
            host_cpu: Gauge::new(
                "tidepool_host_cpu_ratio",
                "Share of the host's CPU time that was busy since the sample before, 0 to 1.",
            )?,
            host_memory_used: IntGauge::new(
                "tidepool_host_memory_used_bytes",
                "Memory in use on the host, bytes.",
            )?,
            host_memory_total: IntGauge::new(
                "tidepool_host_memory_total_bytes",
                "Memory of the host, bytes.",
            )?,
        })
    }

    fn sample(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state
            .sampled_at
            .is_some_and(|at| at.elapsed() < SAMPLE_INTERVAL_MIN)
        {
            return;
        }
        state.sampled_at = Some(Instant::now());
        state.system.refresh_cpu_usage();
        state
            .system
            .refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        self.host_cpu
            .set((f64::from(state.system.global_cpu_usage()) / 100.0).clamp(0.0, 1.0));
        self.host_memory_used.set(gauge_value(state.system.used_memory()));
        self.host_memory_total
            .set(gauge_value(state.system.total_memory()));
        let Some(pid) = state.pid else { return };
        state.system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&[pid]),
            false,
            ProcessRefreshKind::nothing()
                .with_cpu()
                .with_memory()
                .without_tasks(),
        );
        if let Some(process) = state.system.process(pid) {
            #[expect(clippy::cast_precision_loss, reason = "2^53 milliseconds are 285,000 years")]
            let seconds = process.accumulated_cpu_time() as f64 / 1_000.0;
            // A counter only grows; sysinfo gives the sum since the process began.
            self.process_cpu
                .inc_by((seconds - self.process_cpu.get()).max(0.0));
            self.process_memory.set(gauge_value(process.memory()));
        }
    }
}

fn gauge_value(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl Collector for MachineCollector {
    fn desc(&self) -> Vec<&Desc> {
        [
            self.process_cpu.desc(),
            self.process_memory.desc(),
            self.host_cpu.desc(),
            self.host_memory_used.desc(),
            self.host_memory_total.desc(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.sample();
        [
            self.process_cpu.collect(),
            self.process_memory.collect(),
            self.host_cpu.collect(),
            self.host_memory_used.collect(),
            self.host_memory_total.collect(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_and_this_process_have_plausible_values() {
        let collector = MachineCollector::new().unwrap();
        collector.sample();
        assert!(collector.process_memory.get() > 1_000_000);
        assert!(collector.host_memory_total.get() > collector.process_memory.get());
        assert!(collector.host_memory_used.get() > 0);
        let ratio = collector.host_cpu.get();
        assert!((0.0..=1.0).contains(&ratio), "{ratio}");
    }

    #[test]
    fn the_process_cpu_counter_grows_with_work() {
        let collector = MachineCollector::new().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut work = 1_u64;
        while collector.process_cpu.get() <= 0.0 {
            assert!(Instant::now() < deadline, "no CPU time was seen");
            for step in 0..1_000_000_u64 {
                work = std::hint::black_box(work.wrapping_mul(31).wrapping_add(step));
            }
            collector.state.lock().unwrap().sampled_at = None;
            collector.sample();
        }
    }
}
