//! Figures, their medians over rounds, the table and the JSON file.

use std::path::Path;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// What one measurement gave.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) requests_per_sec: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) cpu_us_per_request: f64,
    pub(crate) resident_mib: f64,
}

impl Figures {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of a few seconds fit a float exactly"
    )]
    pub(crate) fn new(
        requests: u64,
        failed: u64,
        seconds: f64,
        histogram: &Histogram<u64>,
        cpu_micros: f64,
        resident_mib: f64,
    ) -> Self {
        Self {
            requests,
            failed,
            requests_per_sec: requests as f64 / seconds,
            p50_ms: histogram.value_at_quantile(0.50) as f64 / 1e3,
            p99_ms: histogram.value_at_quantile(0.99) as f64 / 1e3,
            cpu_us_per_request: cpu_micros / (requests as f64).max(1.0),
            resident_mib,
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) store: &'static str,
    pub(crate) operation: &'static str,
    pub(crate) server: &'static str,
    /// The median of each figure over the rounds.
    pub(crate) median: Figures,
    /// CPU a request of every round, microseconds.
    pub(crate) cpu_us_rounds: Vec<f64>,
    /// CPU a request by the minimal server's for the same kind of statement.
    pub(crate) to_minimal: Option<f64>,
    /// "held", "missed", or nothing where no aim is set.
    pub(crate) aim: Option<&'static str>,
}

/// The minimal server's CPU a request in the figures that the aim was made from, microseconds: store, operation, figure. The
/// bare handler took [`BARE_THEN_US`] there, the raw driver [`RAW_THEN_US`].
const MINIMAL_THEN_US: [(&str, &str, f64); 5] = [
    ("sqlite", "read", 10.0),
    ("sqlite", "create", 31.0),
    ("cassandra", "read", 15.0),
    ("cassandra", "create", 16.0),
    ("cassandra", "create-lwt", 38.0),
];
const BARE_THEN_US: f64 = 5.0;
const RAW_THEN_US: f64 = 7.0;

fn median_of(rounds: &[Figures], figure: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The median of each figure; counts are summed.
pub(crate) fn median(rounds: &[Figures]) -> Figures {
    Figures {
        requests: rounds.iter().map(|round| round.requests).sum(),
        failed: rounds.iter().map(|round| round.failed).sum(),
        requests_per_sec: median_of(rounds, |round| round.requests_per_sec),
        p50_ms: median_of(rounds, |round| round.p50_ms),
        p99_ms: median_of(rounds, |round| round.p99_ms),
        cpu_us_per_request: median_of(rounds, |round| round.cpu_us_per_request),
        resident_mib: median_of(rounds, |round| round.resident_mib),
    }
}

pub(crate) fn print_table(rows: &[Row]) {
    println!(
        "\n{:<10} {:<20} {:<10} {:>10} {:>8} {:>8} {:>9} {:>8} {:>10}  aim",
        "store", "operation", "server", "requests/s", "p50 ms", "p99 ms", "CPU us", "RSS MiB", "to minimal"
    );
    let mut last = "";
    for row in rows {
        if last != row.operation && !last.is_empty() {
            println!();
        }
        last = row.operation;
        let figures = row.median;
        println!(
            "{:<10} {:<20} {:<10} {:>10.0} {:>8.2} {:>8.2} {:>9.1} {:>8.1} {:>10}  {}",
            row.store,
            row.operation,
            row.server,
            figures.requests_per_sec,
            figures.p50_ms,
            figures.p99_ms,
            figures.cpu_us_per_request,
            figures.resident_mib,
            row.to_minimal
                .map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            row.aim.unwrap_or("")
        );
        if figures.failed > 0 {
            println!(
                "  ^ {} of {} requests failed: this row is worth nothing",
                figures.failed, figures.requests
            );
        }
    }
}

/// What the minimal server costs beside the bare handler and the raw driver, now and in the figures that the aim was made
/// from: a minimal server that were slower than it need be would make the aim an easy one.
pub(crate) fn print_yardstick(rows: &[Row]) {
    let cpu_us = |store: &str, operation: &str, server: &str| {
        let mut found = rows.iter();
        let row = found.find(|row| row.store == store && row.operation == operation && row.server == server);
        row.map(|row| row.median.cpu_us_per_request)
    };
    let mut lines = Vec::new();
    for (store, operation, then_us) in MINIMAL_THEN_US {
        let Some(minimal) = cpu_us(store, operation, "minimal") else {
            continue;
        };
        // The bare handler does the same in every operation; it is measured beside the reads.
        let bare = cpu_us(store, "read", "bare");
        // The figures have no raw driver for transactions.
        let raw = cpu_us(store, operation, "raw").filter(|_| operation != "create-lwt");
        let beside = |now: Option<f64>, then: f64| {
            now.map_or_else(String::new, |now| {
                format!("{:.1} ({:.1})", minimal / now, then_us / then)
            })
        };
        lines.push(format!(
            "{store:<10} {operation:<20} {:>16} {:>16}",
            beside(bare, BARE_THEN_US),
            beside(raw, RAW_THEN_US)
        ));
    }
    if !lines.is_empty() {
        println!(
            "\nThe minimal server's CPU by that of the bare handler and the raw driver (in parentheses: when the aim was set)"
        );
        println!(
            "{:<10} {:<20} {:>16} {:>16}\n{}",
            "store",
            "operation",
            "to bare",
            "to raw",
            lines.join("\n")
        );
    }
}

pub(crate) fn write_json(file: &Path, rows: &[Row]) -> anyhow::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    let text = serde_json::to_string_pretty(rows)?;
    std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}
