//! Samples straight from the members: each one's `GET /metrics` on its operations listener, in Prometheus' text format.
//! The only place that knows it. No Elasticsearch is needed.
//!
//! What was scraped is kept for as long as a signal's window asks, so that rates and means can be told; a counter's first
//! scrape gives no rate. A member that does not answer gives no sample.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::StreamExt;
use tidepool_autoscaler_core::observe::{MemberName, Sample, UnixMillis};

use super::series::{HostSeries, Point};
use super::{MetricError, MetricSource, PerHost, SignalQuery, SignalSpec, prometheus_text};

/// The members' operations listener.
pub const PORT_DEFAULT: u16 = 9090;
/// A member has so long to answer: it does so within milliseconds, and a read of all members shall end well within a tick.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);

/// Members asked at the same time; 200 members that all hang hold a read for 200 / 64 · 2 s = 8 s.
const AT_ONCE_MAX: usize = 64;
/// An answer is no larger: 10,000 series of 200 bytes make 2 MB.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Scrapes kept of a member: an hour at one in 5 s. The window bounds them first.
const SCRAPES_MAX: usize = 720;
/// Members kept; those that were not asked for the longest time go first.
const MEMBERS_MAX: usize = 4_096;
/// A scrape that is older than every window serves nobody: the longest window that a query may have, and the default.
const KEEP_MS: i64 = 3_600_000;

/// What a preset of `presets::PRESETS` means here. The members don't tell load and network.
pub(super) fn preset(name: &str) -> Option<SignalSpec> {
    let (field, per_host) = match name {
        "cpu" => ("tidepool_host_cpu_ratio", PerHost::Avg),
        "memory" => (
            "tidepool_host_memory_used_bytes / tidepool_host_memory_total_bytes",
            PerHost::Last,
        ),
        "requests" => ("tidepool_http_requests_total", PerHost::Rate),
        "process_cpu" => ("process_cpu_seconds_total", PerHost::Rate),
        _ => return None,
    };
    Some(SignalSpec {
        field: field.to_owned(),
        filter: BTreeMap::new(),
        per_host,
        scale: 1.0,
    })
}

/// How members are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrapeConfig {
    /// The port of `/metrics`.
    pub port: u16,
    /// How long a member has to answer.
    pub timeout: Duration,
}

impl Default for ScrapeConfig {
    fn default() -> Self {
        Self {
            port: PORT_DEFAULT,
            timeout: TIMEOUT_DEFAULT,
        }
    }
}

/// The members themselves as a source of samples.
#[derive(Debug)]
pub struct ScrapeSource {
    http: reqwest::Client,
    config: ScrapeConfig,
    started: Instant,
    members: Mutex<BTreeMap<MemberName, History>>,
}

/// What was scraped of one member.
#[derive(Debug)]
struct History {
    address: IpAddr,
    /// Oldest first.
    scrapes: VecDeque<Scrape>,
    /// Families wanted of it, ever since it is known.
    wanted: BTreeSet<String>,
}

#[derive(Debug)]
struct Scrape {
    /// By our own clock that never jumps, milliseconds since the source began.
    ticks_ms: i64,
    series: Vec<Kept>,
}

/// One series in one scrape.
#[derive(Debug)]
struct Kept {
    family: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl ScrapeSource {
    /// A source; nobody is asked yet.
    pub fn new(config: ScrapeConfig) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(config.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self {
            http,
            config,
            started: Instant::now(),
            members: Mutex::default(),
        })
    }

    async fn scrape(&self, address: IpAddr, wanted: &BTreeSet<String>) -> Result<Scrape, String> {
        let url = format!("http://{}/metrics", SocketAddr::new(address, self.config.port));
        let mut response = self.http.get(url).send().await.map_err(|error| cause(&error))?;
        if !response.status().is_success() {
            return Err(format!("HTTP {}", response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| cause(&error))? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(format!("more than {BODY_BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        let body = std::str::from_utf8(&body).map_err(|error| error.to_string())?;
        let lines = prometheus_text::parse(body).map_err(|error| error.to_string())?;
        let series = lines
            .into_iter()
            .filter(|line| wanted.contains(line.name))
            .map(|line| Kept {
                family: line.name.to_owned(),
                labels: line
                    .labels
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect(),
                value: line.value,
            });
        Ok(Scrape {
            ticks_ms: self.ticks_ms(),
            series: series.collect(),
        })
    }

    fn ticks_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Who is to be asked, and for which families; members that have another address now begin anew.
    fn wanted(&self, queries: &[SignalQuery]) -> Vec<(MemberName, IpAddr, BTreeSet<String>)> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let mut asked = BTreeSet::new();
        for query in queries {
            let hosts = query
                .hosts
                .iter()
                .filter_map(|(name, address)| Some((name, (*address)?)));
            for (name, address) in hosts {
                let fresh = || History {
                    address,
                    scrapes: VecDeque::new(),
                    wanted: BTreeSet::new(),
                };
                let history = members.entry(name.clone()).or_insert_with(fresh);
                if history.address != address {
                    *history = fresh();
                }
                history
                    .wanted
                    .extend(families(&query.what.field).map(str::to_owned));
                asked.insert(name.clone());
            }
        }
        let one = |name: MemberName| {
            members
                .get(&name)
                .map(|h| (name.clone(), h.address, h.wanted.clone()))
        };
        asked.into_iter().filter_map(one).collect()
    }

    fn keep(&self, scraped: Vec<(MemberName, IpAddr, Scrape)>) {
        let oldest = self.ticks_ms() - KEEP_MS;
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, address, mut scrape) in scraped {
            if let Some(history) = members
                .get_mut(&name)
                .filter(|history| history.address == address)
            {
                // Two scrapes within a millisecond are two all the same.
                let last_ms = history.scrapes.back().map_or(i64::MIN, |last| last.ticks_ms);
                scrape.ticks_ms = scrape.ticks_ms.max(last_ms.saturating_add(1));
                history.scrapes.push_back(scrape);
                while history.scrapes.len() > SCRAPES_MAX {
                    history.scrapes.pop_front();
                }
            }
        }
        members.retain(|_, history| {
            history.scrapes.retain(|scrape| scrape.ticks_ms >= oldest);
            !history.scrapes.is_empty()
        });
        while members.len() > MEMBERS_MAX {
            let last = |history: &History| history.scrapes.back().map(|scrape| scrape.ticks_ms);
            let Some(name) = members
                .iter()
                .min_by_key(|(_, h)| last(h))
                .map(|(name, _)| name.clone())
            else {
                return;
            };
            members.remove(&name);
        }
    }

    /// The samples of one query: only members that answered just now have one.
    fn samples(&self, query: &SignalQuery, answered: &BTreeSet<MemberName>, now: UnixMillis) -> Vec<Sample> {
        let since = self.ticks_ms() - i64::from(query.window_secs) * 1000;
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let hosts = query.hosts.keys().filter(|name| answered.contains(*name));
        hosts
            .filter_map(|name| {
                let value = members.get(name)?.value(&query.what, since)?;
                Some(Sample {
                    host: name.clone(),
                    value: value * query.what.scale,
                    at: now,
                })
            })
            .collect()
    }
}

impl History {
    fn value(&self, what: &SignalSpec, since: i64) -> Option<f64> {
        let mut values = families(&what.field).map(|family| self.family_value(family, what, since));
        let value = values.next()??;
        match values.next() {
            None => Some(value),
            Some(divisor) => divisor
                .filter(|divisor| *divisor != 0.0)
                .map(|divisor| value / divisor),
        }
    }

    fn family_value(&self, family: &str, what: &SignalSpec, since: i64) -> Option<f64> {
        let mut host = HostSeries::default();
        for scrape in self.scrapes.iter().filter(|scrape| scrape.ticks_ms >= since) {
            for kept in scrape
                .series
                .iter()
                .filter(|kept| kept.family == family && kept.passes(&what.filter))
            {
                let point = Point {
                    at: UnixMillis(scrape.ticks_ms),
                    value: kept.value,
                };
                // A series that is told twice in one scrape is a fault of the member's: no value rather than a wrong one.
                host.add(format!("{:?}", kept.labels), point).ok()?;
            }
        }
        let point = host.value(what.per_host)?;
        // Nothing in the newest scrape: what older ones said is not the host's value any more.
        let newest = self.scrapes.back()?.ticks_ms;
        (point.at.0 == newest).then_some(point.value)
    }
}

impl Kept {
    fn passes(&self, filter: &BTreeMap<String, String>) -> bool {
        filter.iter().all(|(name, wanted)| {
            let value = self.labels.get(name).map(String::as_str);
            match wanted.strip_prefix('!') {
                Some(unwanted) => value != Some(unwanted),
                None => value == Some(wanted),
            }
        })
    }
}

/// The families of a field: one, or two with ` / ` between them, the first divided by the second.
fn families(field: &str) -> impl Iterator<Item = &str> {
    field.splitn(2, " / ").map(str::trim)
}

/// The innermost cause: "connection refused" says more than "error sending request".
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[async_trait]
impl MetricSource for ScrapeSource {
    async fn read(&self, queries: &[SignalQuery], now: UnixMillis) -> Vec<Result<Vec<Sample>, MetricError>> {
        let asked = futures_util::stream::iter(self.wanted(queries));
        let scraped: Vec<_> = asked
            .map(async |(name, address, wanted)| {
                let outcome = self.scrape(address, &wanted).await;
                outcome
                    .inspect_err(|error| tracing::debug!(member = %name, %error, "no metrics"))
                    .ok()
                    .map(|s| (name, address, s))
            })
            .buffer_unordered(AT_ONCE_MAX)
            .filter_map(async |answer| answer)
            .collect()
            .await;
        let answered: BTreeSet<MemberName> = scraped.iter().map(|(name, ..)| name.clone()).collect();
        self.keep(scraped);
        queries
            .iter()
            .map(|query| Ok(self.samples(query, &answered, now)))
            .collect()
    }
}
