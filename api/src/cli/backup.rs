//! `backup`: a copy of the SQLite file, also while a server writes to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{Failure, flags, install_logging, load};
use crate::config::Problem;
use crate::run::nonce;
use crate::store::StoreUrl;
use crate::store::backup::{BackupOrder, Existing, backup};

/// A backup that takes longer than this says how far it is, and again each time as much has passed.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn run(store: &flags::Given, file: &Path, existing: Existing) -> Result<(), Failure> {
    let config = load(store)?;
    install_logging(&config)?;
    let StoreUrl::Sqlite { file: source } = &config.store.url else {
        return Err(Failure::Usage(vec![Problem {
            place: "backup".to_owned(),
            detail: "copies an SQLite file; a Cassandra or ScyllaDB keyspace is backed up by its own tools, such as \
                     nodetool snapshot (see docs/backup-and-restore.md)"
                .to_owned(),
        }]));
    };
    let order = BackupOrder {
        source,
        target: file,
        existing,
        nonce: nonce(),
        stop: stop_on_signals().map_err(|error| Failure::failed(&error))?,
    };
    let began = Instant::now();
    let mut reported_at = began;
    let done = backup(&order, |part| {
        if reported_at.elapsed() >= PROGRESS_INTERVAL {
            reported_at = Instant::now();
            say(&format!("copied {:.0} %", part * 100.0));
        }
    })
    .map_err(|error| Failure::failed(&error))?;
    let file: PathBuf = file.to_owned();
    say(&format!(
        "{} is a whole and checked copy of {}: {} bytes, in {:.1} s",
        file.display(),
        source.display(),
        done.bytes,
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// A line for the operator. A backup does not fail because nobody reads it.
fn say(line: &str) {
    tidepool_logging::report(&tidepool_logging::printable(&format!("tidepool-api: {line}")));
}

/// Set by SIGTERM, SIGINT and SIGHUP, so that what has been copied is removed. Signals that are ignored stay so (`nohup`).
fn stop_on_signals() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let ignored = ignored_signals();
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        if ignored & (1 << (signal - 1)) == 0 {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
    }
    Ok(stop)
}

/// A bit for each signal that is ignored; none where the system doesn't tell.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
