//! Settings that are each in order and don't fit each other: what can't work is refused, what is odd is warned of.

use std::time::Duration;

use tidepool_autoscaler_core::spec::{Policy, PoolSpec, TargetPolicy};

use super::MetricsConfig;
use super::follow::SignalConfig;
use super::reader::Problems;
use crate::metrics::presets::SourceKind;
use crate::metrics::{PerHost, SignalSpec};
use crate::provider::digitalocean::CALLS_PER_HOUR_MAX;

/// How often Metricbeat reports unless its configuration says otherwise, seconds (Elastic, *Metricbeat reference*, `period`).
const METRICBEAT_PERIOD_SECS: u32 = 10;

/// Where the pool is in the configuration, for messages.
pub(super) struct Place<'p> {
    pub(super) pool: String,
    pub(super) problems: &'p Problems,
}

impl Place<'_> {
    fn refuse(&self, key: &str, message: String) {
        self.problems.add(format!("{}.{key}", self.pool), message);
    }

    fn warn(&self, key: &str, message: String) {
        self.problems.warn(format!("{}.{key}", self.pool), message);
    }
}

/// Looks at every pair of a pool's settings that can work against each other.
pub(super) fn check(spec: &PoolSpec, signals: &[SignalConfig], source: SourceKind, at: &Place<'_>) {
    for (n, policy) in spec.policies.iter().enumerate() {
        let signal = signals.iter().find(|s| Some(s.name.as_str()) == policy.signal());
        match policy {
            Policy::Target(target) => {
                if let Some(signal) = signal.filter(|_| spec.min < spec.max && target.target > 0.0) {
                    let key = format!("policy[{n}].target");
                    never_grows(target, signal, &key, at);
                    never_shrinks(spec, target, signal, &key, at);
                }
            }
        }
    }
    for signal in signals {
        values_that_never_count(spec, signal, source, at);
    }
    if spec.min == spec.max && !spec.policies.is_empty() {
        at.warn("policy", "has no effect, because min = max".to_owned());
    }
    windows(spec, at);
    boots(spec, at);
    repairs(spec, at);
}

/// The least and the largest value of a host, as far as the range of what is read says it. A range is about the values of
/// the field; how fast a counter grows is not one of them, but the quotient of two is.
fn bounds(signal: &SignalConfig) -> (f64, f64) {
    let SignalSpec {
        range,
        scale,
        per_host,
        field,
        ..
    } = &signal.what;
    if *per_host == PerHost::Rate && !field.contains(" / ") {
        return (f64::NEG_INFINITY, f64::INFINITY);
    }
    range.scaled(*scale)
}

/// The load of full hosts must ask for more hosts.
fn never_grows(policy: &TargetPolicy, signal: &SignalConfig, key: &str, at: &Place<'_>) {
    let TargetPolicy {
        name,
        target,
        tolerance,
        ..
    } = policy;
    let (_, ceiling) = bounds(signal);
    let grows_above = target * (1.0 + tolerance);
    if grows_above >= ceiling {
        at.refuse(
            key,
            format!(
                "{name} would never grow the pool: it grows above target × (1 + tolerance) = {target} × {} = {grows_above:.4}, and its signal is never above {ceiling}",
                1.0 + tolerance
            ),
        );
    }
}

/// The load of idle hosts must ask for fewer hosts, of the largest pool at least.
fn never_shrinks(spec: &PoolSpec, policy: &TargetPolicy, signal: &SignalConfig, key: &str, at: &Place<'_>) {
    let TargetPolicy {
        name,
        target,
        tolerance,
        ..
    } = policy;
    let (floor, _) = bounds(signal);
    let max = f64::from(spec.max);
    // The others must be able to carry what one of `max` hosts carries, too.
    let fits_fewer = target * (max - 1.0) / max;
    if floor >= target * (1.0 - tolerance) {
        at.refuse(
            key,
            format!(
                "{name} would never shrink the pool: it shrinks below target × (1 - tolerance) = {target} × {} = {:.4}, and its signal is never below {floor}",
                1.0 - tolerance,
                target * (1.0 - tolerance)
            ),
        );
    } else if floor > fits_fewer {
        at.refuse(
            key,
            format!(
                "{name} would never shrink the pool: {max} hosts shrink to fewer at target × (max - 1) / max = {fits_fewer:.4} and below, and its signal is never below {floor}"
            ),
        );
    }
}

fn values_that_never_count(spec: &PoolSpec, signal: &SignalConfig, source: SourceKind, at: &Place<'_>) {
    let SignalConfig {
        name,
        what,
        window_secs,
        place,
        ..
    } = signal;
    let tick_secs = spec.tick_secs;
    let settings = spec.signals.iter().find(|s| s.name == *name);
    let fresh_secs = settings.map_or(u32::MAX, |s| s.fresh_secs);
    let rate = what.per_host == PerHost::Rate;
    match source {
        SourceKind::Scrape if rate && *window_secs <= tick_secs => at.refuse(
            place,
            format!(
                "{name} would never have a value: a rate needs two readings within window_secs = {window_secs}, and members are read every tick_secs = {tick_secs}"
            ),
        ),
        SourceKind::Scrape if rate && *window_secs < tick_secs.saturating_mul(2) => at.warn(
            place,
            format!(
                "{name} has no value when a tick is late: window_secs = {window_secs} is less than two ticks of {tick_secs} s"
            ),
        ),
        SourceKind::Elasticsearch if rate && *window_secs < 2 * METRICBEAT_PERIOD_SECS => at.warn(
            place,
            format!(
                "{name} needs two documents within window_secs = {window_secs}, and Metricbeat writes one every {METRICBEAT_PERIOD_SECS} s unless its period is shorter"
            ),
        ),
        SourceKind::Elasticsearch if fresh_secs.min(*window_secs) < METRICBEAT_PERIOD_SECS => at.warn(
            place,
            format!(
                "{name} often has no fresh value: window_secs = {window_secs} and fresh_secs = {fresh_secs}, and Metricbeat writes a document every {METRICBEAT_PERIOD_SECS} s unless its period is shorter"
            ),
        ),
        SourceKind::Scrape | SourceKind::Elasticsearch => {}
    }
}

fn windows(spec: &PoolSpec, at: &Place<'_>) {
    let PoolSpec {
        tick_secs,
        out_window_secs: out_secs,
        in_window_secs: in_secs,
        ..
    } = spec;
    if (1..*tick_secs).contains(out_secs) {
        at.warn(
            "windows.out_secs",
            format!("is {out_secs}, less than a tick of {tick_secs} s, so it has no effect"),
        );
    }
    if (1..*tick_secs).contains(in_secs) {
        at.warn(
            "windows.in_secs",
            format!("is {in_secs}, less than a tick of {tick_secs} s, so it has no effect"),
        );
    }
    if out_secs > in_secs {
        at.warn(
            "windows.out_secs",
            format!("is {out_secs}, more than in_secs = {in_secs}, so the pool shrinks faster than it grows"),
        );
    }
}

/// Members are looked at once a tick; who is not ready then and older than the timeout is given up.
fn boots(spec: &PoolSpec, at: &Place<'_>) {
    let (tick_secs, boot_secs) = (spec.tick_secs, spec.life.boot_timeout_secs);
    if boot_secs < tick_secs {
        at.refuse(
            "life.boot_timeout_secs",
            format!(
                "is {boot_secs}, less than a tick of {tick_secs} s, so every member would be given up before it is looked at"
            ),
        );
    } else if boot_secs < tick_secs.saturating_mul(2) {
        at.warn(
            "life.boot_timeout_secs",
            format!(
                "is {boot_secs}, less than two ticks of {tick_secs} s, so a new member is looked at once and then given up"
            ),
        );
    }
}

fn repairs(spec: &PoolSpec, at: &Place<'_>) {
    let (tick_secs, life, repair) = (spec.tick_secs, &spec.life, &spec.repair);
    if life.unready_secs <= tick_secs {
        let secs = life.unready_secs;
        at.warn(
            "life.unready_secs",
            format!(
                "is {secs}, at most a tick of {tick_secs} s, so two failed readiness checks replace a member"
            ),
        );
    }
    if repair.max == 0 {
        at.warn(
            "repair.max",
            "is 0, so dead members are never replaced".to_owned(),
        );
    } else if repair.window_secs < life.boot_timeout_secs {
        let (window_secs, boot_secs) = (repair.window_secs, life.boot_timeout_secs);
        at.warn(
            "repair.window_secs",
            format!(
                "is {window_secs}, less than life.boot_timeout_secs = {boot_secs}, so members that never boot are replaced without end"
            ),
        );
    }
}

/// What only all pools together are too much for.
pub(super) fn calls(a_tick: u32, tick_secs: u32, problems: &Problems) {
    let an_hour = a_tick.saturating_mul(3600) / tick_secs;
    if an_hour > CALLS_PER_HOUR_MAX {
        let enough_secs = a_tick.saturating_mul(3600).div_ceil(CALLS_PER_HOUR_MAX);
        problems.warn(
            "tick_secs",
            format!(
                "is {tick_secs}, too short for these pools: their lists take up to {a_tick} calls a tick, {a_tick} × 3600 / {tick_secs} = {an_hour} an hour, and DigitalOcean allows {CALLS_PER_HOUR_MAX} for each token; {enough_secs} s or more would fit"
            ),
        );
    }
}

/// A source that doesn't answer must not hold a tick up until the next one is due.
pub(super) fn source_timeout(metrics: &MetricsConfig, tick_secs: u32, problems: &Problems) {
    let (key, timeout) = match metrics {
        MetricsConfig::Scrape(scrape) => ("scrape.timeout_ms", scrape.timeout),
        MetricsConfig::Elasticsearch(server) => ("elasticsearch.timeout_secs", server.timeout),
    };
    if timeout > Duration::from_secs(u64::from(tick_secs)) {
        problems.warn(
            key,
            format!(
                "is {} s, more than a tick of {tick_secs} s, so ticks are left out while the source doesn't answer",
                timeout.as_secs_f64()
            ),
        );
    }
}
