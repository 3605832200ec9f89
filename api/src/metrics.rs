//! What the operations listener shows under `/metrics`: requests, latencies, connections, and (in `machine`) the
//! process's and host's CPU and memory.
//!
//! Routes are labelled by their template, so that ids never become labels. A request's handles are found by two array indices and a status: no label is looked up or allocated on its way.
//! No HTTP answers and no store here.

mod machine;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, PullingGauge,
    Registry, TextEncoder,
};
use tidepool_listener::ConnectionMetrics;
use tidepool_logging::LostLines;

use crate::http::Route;
use crate::lifecycle::Lifecycle;
use machine::MachineCollector;

/// Methods that have a label of their own; all others share `other`.
const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other",
];

fn method_index(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::PATCH => 4,
        Method::DELETE => 5,
        Method::OPTIONS => 6,
        _ => 7,
    }
}

/// Statuses that this server gives; any other (there should be none) shares `other`.
const STATUSES: [(u16, &str); 24] = [
    (200, "200"),
    (201, "201"),
    (204, "204"),
    (304, "304"),
    (307, "307"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (406, "406"),
    (408, "408"),
    (409, "409"),
    (412, "412"),
    (413, "413"),
    (414, "414"),
    (415, "415"),
    (422, "422"),
    (429, "429"),
    (431, "431"),
    (500, "500"),
    (501, "501"),
    (503, "503"),
    (0, "other"),
];

fn status_index(status: StatusCode) -> usize {
    let code = status.as_u16();
    STATUSES
        .iter()
        .position(|(known, _)| *known == code)
        .unwrap_or(STATUSES.len() - 1)
}

/// Upper bounds of the latency buckets, seconds: from a cached read (0.25 ms) to the longest a request may take.
const DURATION_BUCKETS: [f64; 15] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 25.0,
];

/// The two handles of one (route, method, status), made when it is first seen.
struct Series {
    requests: IntCounter,
    duration: Histogram,
}

type StatusCells = [OnceLock<Series>; STATUSES.len()];

/// All metrics of one process.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    connections: IntGauge,
    connections_cut: IntCounterVec,
    cells: Vec<[StatusCells; METHODS.len()]>,
}

impl Metrics {
    /// Makes and registers everything, the machine's metrics included.
    ///
    /// # Errors
    /// Only if two metrics had the same name: a defect.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let requests = IntCounterVec::new(
            Opts::new(
                "tidepool_http_requests_total",
                "Requests answered, by route template.",
            ),
            &["method", "route", "status"],
        )?;
        let durations = HistogramVec::new(
            HistogramOpts::new(
                "tidepool_http_request_duration_seconds",
                "Time from a request's headers to its answer's headers.",
            )
            .buckets(DURATION_BUCKETS.to_vec()),
            &["method", "route", "status"],
        )?;
        let connections = IntGauge::new(
            "tidepool_http_connections",
            "Open connections of the public listener.",
        )?;
        let connections_cut = IntCounterVec::new(
            Opts::new(
                "tidepool_http_connections_cut_total",
                "Connections that the server cut, by reason.",
            ),
            &["reason"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(durations.clone()))?;
        registry.register(Box::new(connections.clone()))?;
        registry.register(Box::new(connections_cut.clone()))?;
        registry.register(Box::new(MachineCollector::new()?))?;
        registry.register(Box::new(LostLines::new()?))?;
        let cells = (0..Route::count())
            .map(|_| std::array::from_fn(|_| std::array::from_fn(|_| OnceLock::new())))
            .collect();
        Ok(Self {
            registry,
            requests,
            durations,
            connections,
            connections_cut,
            cells,
        })
    }

    /// The registry, for collectors that live elsewhere (the store's).
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Counts one answered request.
    pub fn request_answered(&self, method: &Method, route: Route, status: StatusCode, took: Duration) {
        let (method_index, status_index) = (method_index(method), status_index(status));
        let cell = self
            .cells
            .get(route.index())
            .and_then(|methods| methods.get(method_index))
            .and_then(|statuses| statuses.get(status_index));
        let Some(cell) = cell else { return };
        let series = cell.get_or_init(|| {
            let method = METHODS.get(method_index).copied().unwrap_or("other");
            let status = STATUSES.get(status_index).map_or("other", |(_, label)| label);
            let labels = [method, route.template(), status];
            Series {
                requests: self.requests.with_label_values(&labels),
                duration: self.durations.with_label_values(&labels),
            }
        });
        series.requests.inc();
        series.duration.observe(took.as_secs_f64());
    }

    /// Shows the lifecycle's requests in flight.
    ///
    /// # Errors
    /// If it was called before: a defect.
    pub fn watch_in_flight(&self, lifecycle: Arc<Lifecycle>) -> Result<(), prometheus::Error> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "2^53 requests don't fit into a machine"
        )]
        let value = move || lifecycle.in_flight() as f64;
        self.registry.register(Box::new(PullingGauge::new(
            "tidepool_http_requests_in_flight",
            "Requests whose headers arrived and whose answer is not yet handed over whole.",
            Box::new(value),
        )?))
    }

    /// The Prometheus text exposition (version 0.0.4).
    ///
    /// # Errors
    /// If two collectors gave the same series: a defect.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

impl ConnectionMetrics for Metrics {
    fn opened(&self) {
        self.connections.inc();
    }

    fn closed(&self) {
        self.connections.dec();
    }

    fn cut(&self, reason: &'static str) {
        self.connections_cut.with_label_values(&[reason]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_once_under_its_own_labels() {
        let metrics = Metrics::new().unwrap();
        let took = Duration::from_millis(2);
        metrics.request_answered(
            &Method::GET,
            Route::of("/v1/collections/c/documents/a"),
            StatusCode::OK,
            took,
        );
        metrics.request_answered(
            &Method::GET,
            Route::of("/v1/collections/c/documents/a"),
            StatusCode::OK,
            took,
        );
        let odd = Method::from_bytes(b"BREW").unwrap();
        metrics.request_answered(&odd, Route::UNKNOWN, StatusCode::IM_A_TEAPOT, took);
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        let document = "method=\"GET\",route=\"/v1/collections/{collection}/documents/{id}\",status=\"200\"";
        assert!(
            text.contains(&format!("tidepool_http_requests_total{{{document}}} 2\n")),
            "{text}"
        );
        assert!(
            text.contains(&format!(
                "tidepool_http_request_duration_seconds_count{{{document}}} 2\n"
            )),
            "{text}"
        );
        let other = "method=\"other\",route=\"unknown\",status=\"other\"";
        assert!(
            text.contains(&format!("tidepool_http_requests_total{{{other}}} 1\n")),
            "{text}"
        );
    }
}
