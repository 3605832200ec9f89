//! Samples straight from the members: each one's `GET /metrics` on its operations listener, in Prometheus' text format or
//! OpenMetrics'. The only place that knows them. No Elasticsearch is needed.
//!
//! What was scraped is kept for as long as the signals' windows ask, so that there can be rates and means; a counter's first
//! scrape gives no rate. A member that does not answer has no value, and the reading says why.

mod history;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::StreamExt;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, TRANSFER_ENCODING};
#[cfg(test)]
use tidepool_autoscaler_core::observe::MemberName;
use tidepool_autoscaler_core::observe::{MemberId, Reading, UnixMillis};

use self::history::{Answer, History, Scrape, Window, families};
use super::fault::{Fault, first_words, innermost, words};
use super::range::Range;
use super::series::HostValue;
use super::{Host, MetricError, MetricSource, PerHost, SignalQuery, SignalSpec};

/// The members' operations listener.
pub const PORT_DEFAULT: u16 = 9090;
/// A member has so long to answer: it does so within milliseconds, and a read of all members shall end well within a tick.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);

/// The older format first: OpenMetrics names counters otherwise (`x_total` for a counter `x`).
const ACCEPTED: &str = "text/plain;version=0.0.4;escaping=underscores, \
     application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.5, text/plain;q=0.4, */*;q=0.1";
/// Members asked at the same time; 200 members that all hang hold a read for 200 / 64 · 2 s = 8 s.
const AT_ONCE_MAX: usize = 64;
/// No answer is larger, unpacked: 10,000 series of 200 bytes make 2 MB.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Of an answer that is an error only the first words are wanted.
const REFUSAL_BYTES_MAX: usize = 4 << 10;
/// Members kept; those that were not asked for the longest time go first.
const MEMBERS_MAX: usize = 4_096;
/// Why one of those has no value.
const TOO_MANY: &str = "too many members are scraped";

/// What a preset of `presets::PRESETS` means here. The members don't report load and network.
pub(super) fn preset(name: &str) -> Option<SignalSpec> {
    let (field, per_host, range) = match name {
        "cpu" => ("tidepool_host_cpu_ratio", PerHost::Avg, Range::RATIO),
        "memory" => (
            "tidepool_host_memory_used_bytes / tidepool_host_memory_total_bytes",
            PerHost::Last,
            Range::RATIO,
        ),
        "requests" => ("tidepool_http_requests_total", PerHost::Rate, Range::NOT_NEGATIVE),
        "process_cpu" => ("process_cpu_seconds_total", PerHost::Rate, Range::NOT_NEGATIVE),
        _ => return None,
    };
    Some(SignalSpec {
        field: field.to_owned(),
        filter: BTreeMap::new(),
        per_host,
        scale: 1.0,
        range,
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
    members: Mutex<BTreeMap<Target, History>>,
}

/// Who is scraped, and where. Not by its name: members of two pools may share one. At another address it is another one.
type Target = (MemberId, IpAddr);

/// Each member's scrape of this read, or why there is none.
type Outcomes = BTreeMap<Target, Result<(), String>>;

fn target_of(host: &Host) -> Option<Target> {
    Some((host.id.clone(), host.address?))
}

impl ScrapeSource {
    /// A source; nobody is asked yet.
    pub fn new(config: ScrapeConfig) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(config.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .gzip(true)
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
        let request = self.http.get(url).header(ACCEPT, ACCEPTED);
        let response = request.send().await.map_err(|error| self.reason(&error))?;
        let status = response.status();
        // Another success than 200 is about a part, or about nothing.
        if status != StatusCode::OK {
            return Err(format!("HTTP {}{}", status.as_u16(), refusal(response).await));
        }
        let media = media_type(response.headers());
        let is_openmetrics = media.as_deref() == Some("application/openmetrics-text");
        if let Some(media) = media.filter(|media| !(is_openmetrics || media == "text/plain")) {
            let shown = content_type(response.headers()).unwrap_or(media);
            let (shown, rest) = (words(&shown), refusal(response).await);
            return Err(format!(
                "its /metrics is {shown:?}, which is not a text format of metrics{rest}"
            ));
        }
        let ends_with_connection = response.version() < reqwest::Version::HTTP_2
            && response.content_length().is_none()
            && !response.headers().contains_key(TRANSFER_ENCODING);
        let body = body(response, BODY_BYTES_MAX)
            .await
            .map_err(|error| match error {
                BodyError::TooLong(_) => format!("its /metrics has more than {BODY_BYTES_MAX} bytes"),
                BodyError::Broken(error) => self.reason(&error),
            })?;
        let answer = Answer {
            body: &body,
            is_openmetrics,
            ends_with_connection,
        };
        Scrape::read(answer, wanted, self.ticks_ms())
    }

    fn reason(&self, error: &reqwest::Error) -> String {
        if error.is_timeout() {
            format!("no answer within {} ms", self.config.timeout.as_millis())
        } else {
            innermost(error)
        }
    }

    fn ticks_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Who is to be asked, and for which families; members that have another address now begin anew.
    fn wanted(&self, queries: &[SignalQuery]) -> Vec<(Target, BTreeSet<String>)> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let mut asked = BTreeSet::new();
        for query in queries {
            for target in query.hosts.values().filter_map(target_of) {
                let history = members.entry(target.clone()).or_default();
                history
                    .wanted
                    .extend(families(&query.what.field).map(str::to_owned));
                asked.insert(target);
            }
        }
        let ids: BTreeSet<MemberId> = asked.iter().map(|(id, _)| id.clone()).collect();
        members.retain(|target, _| asked.contains(target) || !ids.contains(&target.0));
        let one = |target: Target| {
            let wanted = members.get(&target)?.wanted.clone();
            Some((target, wanted))
        };
        asked.into_iter().filter_map(one).collect()
    }

    /// Keeps what was scraped for `keep_secs`.
    fn keep(&self, scraped: Vec<(Target, Result<Scrape, String>)>, keep_secs: u32) -> Outcomes {
        let oldest_ms = self.ticks_ms() - i64::from(keep_secs) * 1000;
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let mut outcomes = Outcomes::new();
        for (target, scrape) in scraped {
            let history = members.get_mut(&target);
            let outcome = match (history, scrape) {
                (Some(history), Ok(scrape)) => {
                    history.push(scrape);
                    Ok(())
                }
                (None, Ok(_)) => Err(TOO_MANY.to_owned()),
                (_, Err(reason)) => Err(reason),
            };
            outcomes.insert(target, outcome);
        }
        members.retain(|target, history| {
            history.forget(oldest_ms);
            history.newest_ms().is_some() || outcomes.contains_key(target)
        });
        while members.len() > MEMBERS_MAX {
            let Some(target) = members
                .iter()
                .min_by_key(|(_, history)| history.newest_ms())
                .map(|(target, _)| target.clone())
            else {
                break;
            };
            members.remove(&target);
        }
        outcomes
    }
}

/// The reading of one query, of the scrapes since `since_ms`: only members that answered just now have a value.
fn reading(
    members: &BTreeMap<Target, History>,
    query: &SignalQuery,
    outcomes: &Outcomes,
    (since_ms, now): (i64, UnixMillis),
) -> Reading {
    let mut reading = Reading::default();
    let window = Window {
        since_ms,
        now,
        fresh_secs: query.fresh_secs,
    };
    for (name, host) in &query.hosts {
        let target = target_of(host);
        let value = match target.as_ref().map(|target| (target, outcomes.get(target))) {
            None | Some((_, None)) => Err("it has no address".to_owned()),
            Some((_, Some(Err(reason)))) => Err(reason.clone()),
            Some((target, Some(Ok(())))) => members
                .get(target)
                .map(|history| history.value(&query.what, window))
                .ok_or_else(|| TOO_MANY.to_owned()),
        };
        let value = value.unwrap_or_else(|reason| HostValue::None {
            fault: Some(Fault::Other(reason)),
        });
        value.put(name, &mut reading);
    }
    reading
}

enum BodyError {
    /// What was read until then.
    TooLong(Vec<u8>),
    Broken(reqwest::Error),
}

/// The body, read no further than `bytes_max`; counted after it is unpacked.
async fn body(mut response: reqwest::Response, bytes_max: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Broken)? {
        if body.len() + chunk.len() > bytes_max {
            body.extend_from_slice(chunk.get(..bytes_max - body.len()).unwrap_or_default());
            return Err(BodyError::TooLong(body));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The first words of an answer that is not wanted.
async fn refusal(response: reqwest::Response) -> String {
    match body(response, REFUSAL_BYTES_MAX).await {
        Ok(body) | Err(BodyError::TooLong(body)) => first_words(&body),
        Err(BodyError::Broken(_)) => String::new(),
    }
}

/// `Content-Type` as it was sent; `None` where there is none, or nothing in it.
fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = String::from_utf8_lossy(headers.get(CONTENT_TYPE)?.as_bytes()).into_owned();
    (!value.trim().is_empty()).then_some(value)
}

/// The media type in it, in lower case and without parameters.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = content_type(headers)?;
    let media = value.split(';').next().unwrap_or_default();
    Some(media.trim().to_ascii_lowercase())
}

#[async_trait]
impl MetricSource for ScrapeSource {
    async fn read(&self, queries: &[SignalQuery], now: UnixMillis) -> Vec<Result<Reading, MetricError>> {
        let asked = futures_util::stream::iter(self.wanted(queries));
        let scraped: Vec<_> = asked
            .map(async |(target, wanted)| {
                let outcome = self.scrape(target.1, &wanted).await;
                (target, outcome)
            })
            .buffer_unordered(AT_ONCE_MAX)
            .collect()
            .await;
        let keep_secs = queries.iter().map(|query| query.window_secs).max().unwrap_or(0);
        let outcomes = self.keep(scraped, keep_secs);
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let since_ms = |query: &SignalQuery| self.ticks_ms() - i64::from(query.window_secs) * 1000;
        queries
            .iter()
            .map(|query| Ok(reading(&members, query, &outcomes, (since_ms(query), now))))
            .collect()
    }
}

/// The reading of what members answered at these times, milliseconds before now; `None` stands for no answer.
#[cfg(test)]
pub(super) fn read_texts(
    query: &SignalQuery,
    answers: &BTreeMap<MemberName, Vec<(i64, Option<String>)>>,
    now: UnixMillis,
) -> Reading {
    let wanted = families(&query.what.field).map(str::to_owned).collect();
    let (mut members, mut outcomes) = (BTreeMap::new(), Outcomes::new());
    let here = IpAddr::from([127, 0, 0, 1]);
    let mut query = query.clone();
    query
        .hosts
        .values_mut()
        .for_each(|host| host.address = Some(here));
    for (name, texts) in answers {
        let Some(target) = query.hosts.get(name).and_then(target_of) else {
            continue;
        };
        let mut history = History::default();
        for (ago_ms, text) in texts {
            let answer = |text: &String| {
                let answer = Answer {
                    body: text.as_bytes(),
                    is_openmetrics: false,
                    ends_with_connection: true,
                };
                Scrape::read(answer, &wanted, -ago_ms)
            };
            let scrape = text.as_ref().map_or_else(|| Err("no answer".to_owned()), answer);
            outcomes.insert(target.clone(), scrape.map(|scrape| history.push(scrape)));
        }
        members.insert(target, history);
    }
    let since_ms = -i64::from(query.window_secs) * 1000;
    reading(&members, &query, &outcomes, (since_ms, now))
}
