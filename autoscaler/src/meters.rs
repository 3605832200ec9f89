//! The autoscaler's own Prometheus metrics.

use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};
use tidepool_autoscaler_core::observe::PoolName;
use tidepool_autoscaler_core::outcome::Decision;
use tidepool_autoscaler_core::signal::Signal;
use tidepool_logging::LostLines;

use crate::apply::Applied;
use crate::provider::ProviderErrorKind;
use crate::status::Direction;

/// All of them.
#[derive(Debug)]
pub struct Meters {
    registry: Registry,
    members: IntGaugeVec,
    decisions: IntCounterVec,
    steps: IntCounterVec,
    ticks: IntCounterVec,
    tick_seconds: Histogram,
    signal_value: GaugeVec,
    signal_age: GaugeVec,
    signal_state: IntGaugeVec,
    provider_errors: IntCounterVec,
    audit_errors: IntCounterVec,
}

impl Meters {
    /// Registers them; fails only on a name given twice.
    pub fn new() -> prometheus::Result<Meters> {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntGaugeVec> {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let real = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<GaugeVec> {
            let gauge = GaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntCounterVec> {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let tick_seconds = Histogram::with_opts(HistogramOpts::new(
            "tidepool_autoscaler_tick_duration_seconds",
            "One pool's tick, from observing to recording",
        ))?;
        registry.register(Box::new(tick_seconds.clone()))?;
        registry.register(Box::new(LostLines::new()?))?;
        Ok(Meters {
            members: gauge(
                "tidepool_autoscaler_members",
                "Members by kind: actual, desired, planned, serving, min, max",
                &["pool", "kind"],
            )?,
            decisions: counter(
                "tidepool_autoscaler_decisions_total",
                "Decisions by direction",
                &["pool", "direction"],
            )?,
            steps: counter(
                "tidepool_autoscaler_steps_total",
                "Steps by outcome",
                &["pool", "step", "outcome"],
            )?,
            ticks: counter(
                "tidepool_autoscaler_ticks_total",
                "Ticks by result: done, failed, panicked, skipped (the one before still runs), waiting (rate limit)",
                &["pool", "result"],
            )?,
            tick_seconds,
            signal_value: real(
                "tidepool_autoscaler_signal_value",
                "A signal across hosts",
                &["pool", "signal"],
            )?,
            signal_age: real(
                "tidepool_autoscaler_signal_age_seconds",
                "Age of a signal",
                &["pool", "signal"],
            )?,
            signal_state: gauge(
                "tidepool_autoscaler_signal_state",
                "1 for the state that a signal is in: fresh, partial, stale, missing",
                &["pool", "signal", "state"],
            )?,
            provider_errors: counter(
                "tidepool_autoscaler_provider_errors_total",
                "The provider's refusals by kind",
                &["pool", "kind"],
            )?,
            audit_errors: counter(
                "tidepool_autoscaler_audit_errors_total",
                "Decisions that were not recorded, by sink: queue, file, elasticsearch",
                &["sink"],
            )?,
            registry,
        })
    }

    /// A tick's end.
    pub fn tick_ended(&self, pool: &PoolName, result: &str) {
        self.ticks.with_label_values(&[pool.0.as_str(), result]).inc();
    }

    /// A tick's duration.
    pub fn tick_took(&self, seconds: f64) {
        self.tick_seconds.observe(seconds);
    }

    /// A decision and the pool's limits.
    pub fn decided(&self, pool: &PoolName, decision: &Decision, serving: u32, min: u32, max: u32) {
        let kinds = [
            ("actual", decision.actual),
            ("desired", decision.desired),
            ("planned", decision.planned),
            ("serving", serving),
            ("min", min),
            ("max", max),
        ];
        for (kind, count) in kinds {
            self.members
                .with_label_values(&[pool.0.as_str(), kind])
                .set(i64::from(count));
        }
        let direction = match crate::record::direction(decision) {
            Direction::Out => "out",
            Direction::In => "in",
            Direction::None => "none",
        };
        self.decisions
            .with_label_values(&[pool.0.as_str(), direction])
            .inc();
        for proposal in &decision.proposals {
            let Some(basis) = &proposal.basis else {
                continue;
            };
            let labels = [pool.0.as_str(), proposal.policy.as_str()];
            let (state, age) = match &basis.signal {
                Signal::Fresh { values } => ("fresh", Some(values.age_secs)),
                Signal::Partial { values, .. } => ("partial", Some(values.age_secs)),
                Signal::Stale { age_secs, .. } => ("stale", Some(*age_secs)),
                Signal::Missing { .. } => ("missing", None),
            };
            // What isn't known is not a number: an old one would look like a new one.
            self.signal_value
                .with_label_values(&labels)
                .set(basis.value.unwrap_or(f64::NAN));
            self.signal_age
                .with_label_values(&labels)
                .set(age.unwrap_or(f64::NAN));
            for each in ["fresh", "partial", "stale", "missing"] {
                let labels = [pool.0.as_str(), proposal.policy.as_str(), each];
                self.signal_state
                    .with_label_values(&labels)
                    .set(i64::from(each == state));
            }
        }
    }

    /// What came of a plan.
    pub fn applied(&self, pool: &PoolName, applied: &Applied) {
        for step in &applied.steps {
            let labels = [pool.0.as_str(), step.step.kind().name(), step.outcome.name()];
            self.steps.with_label_values(&labels).inc();
            if let Some(kind) = step.refusal {
                self.provider_failed(pool, kind);
            }
        }
    }

    /// A refusal of the provider.
    pub fn provider_failed(&self, pool: &PoolName, kind: ProviderErrorKind) {
        let kind = match kind {
            ProviderErrorKind::Transient => "transient",
            ProviderErrorKind::RateLimited { .. } => "rate_limited",
            ProviderErrorKind::NotFound => "not_found",
            ProviderErrorKind::Denied => "denied",
            ProviderErrorKind::Invalid => "invalid",
            ProviderErrorKind::QuotaReached => "quota_reached",
            ProviderErrorKind::UnknownOutcome => "unknown_outcome",
        };
        self.provider_errors
            .with_label_values(&[pool.0.as_str(), kind])
            .inc();
    }

    /// A record that is lost.
    pub fn audit_failed(&self, sink: &str) {
        self.audit_errors.with_label_values(&[sink]).inc();
    }

    /// Prometheus text.
    pub fn text(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
