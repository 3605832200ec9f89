//! The number of lost lines as a Prometheus counter.

use prometheus::IntCounter;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

const NAME: &str = "tidepool_log_lines_lost_total";
const HELP: &str = "Log lines that could not be written to standard error.";

/// Collects `tidepool_log_lines_lost_total`.
pub struct LostLines(IntCounter);

impl LostLines {
    /// Makes it; it remains to be registered.
    ///
    /// # Errors
    /// Only for a bad name: a defect.
    pub fn new() -> Result<Self, prometheus::Error> {
        IntCounter::new(NAME, HELP).map(Self)
    }
}

impl Collector for LostLines {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // A counter of its own for each scrape: two scrapes that set one counter would add to each other.
        let Ok(counter) = IntCounter::new(NAME, HELP) else {
            return Vec::new();
        };
        counter.inc_by(crate::lines_lost());
        counter.collect()
    }
}
