//! The scrape adapter against members that answer, hang, talk nonsense or come back from a restart.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tidepool_autoscaler::metrics::presets::{SourceKind, resolve};
use tidepool_autoscaler::metrics::scrape::{ScrapeConfig, ScrapeSource};
use tidepool_autoscaler::metrics::{MetricSource, PerHost, SignalQuery, SignalSpec};
use tidepool_autoscaler_core::observe::{MemberName, PoolName, Sample, UnixMillis};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
/// A rate wants half a second between scrapes; this is a little more.
const BETWEEN: Duration = Duration::from_millis(550);

/// A member: `/metrics` with a text that a test sets.
struct Member {
    server: MockServer,
}

impl Member {
    async fn start() -> Self {
        Self {
            server: MockServer::start().await,
        }
    }

    async fn tells(&self, answer: ResponseTemplate) {
        self.server.reset().await;
        Mock::given(method("GET"))
            .and(path("/metrics"))
            .respond_with(answer)
            .mount(&self.server)
            .await;
    }

    async fn says(&self, text: &str) {
        self.tells(ResponseTemplate::new(200).set_body_raw(text.to_owned(), "text/plain; version=0.0.4"))
            .await;
    }

    fn source(&self) -> ScrapeSource {
        source(self.server.address().port())
    }
}

fn source(port: u16) -> ScrapeSource {
    ScrapeSource::new(ScrapeConfig {
        port,
        timeout: Duration::from_millis(700),
    })
    .unwrap()
}

const HERE: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
/// Nobody listens there on a member's port.
const NOBODY: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(127, 77, 66, 55)));

fn query(what: SignalSpec, hosts: &[(&str, Option<IpAddr>)]) -> SignalQuery {
    let hosts = hosts
        .iter()
        .map(|(name, address)| (MemberName((*name).to_owned()), *address))
        .collect();
    SignalQuery {
        pool: PoolName("web".to_owned()),
        signal: "signal".to_owned(),
        hosts,
        what,
        window_secs: 60,
    }
}

fn preset(name: &str) -> SignalQuery {
    query(resolve(name, SourceKind::Scrape).unwrap(), &[("web-1", HERE)])
}

fn family(name: &str, per_host: PerHost) -> SignalSpec {
    SignalSpec {
        field: name.to_owned(),
        filter: BTreeMap::new(),
        per_host,
        scale: 1.0,
    }
}

async fn read(source: &ScrapeSource, query: SignalQuery) -> Vec<Sample> {
    source.read(&[query], NOW).await.remove(0).unwrap()
}

/// Until this much real time has passed since `from`: a rate is about time, so time has to pass.
async fn until(from: Instant, passed: Duration) {
    tokio::time::sleep(passed.saturating_sub(from.elapsed())).await;
}

#[tokio::test]
async fn gauges_and_ratios_are_read_at_once() {
    let member = Member::start().await;
    member
        .says(
            "# TYPE tidepool_host_cpu_ratio gauge\ntidepool_host_cpu_ratio 0.25\n\
             tidepool_host_memory_used_bytes 3e9\ntidepool_host_memory_total_bytes 12e9\n",
        )
        .await;
    let source = member.source();
    for (name, expected) in [("cpu", 0.25), ("memory", 0.25)] {
        let samples = read(&source, preset(name)).await;
        assert_eq!(
            samples,
            [Sample {
                host: MemberName("web-1".to_owned()),
                value: expected,
                at: NOW
            }],
            "{name}"
        );
    }
    let mut percent = preset("cpu");
    percent.what.scale = 100.0;
    assert_eq!(read(&source, percent).await[0].value, 25.0);
}

#[tokio::test]
async fn labels_are_summed_and_filtered() {
    let member = Member::start().await;
    member.says("queue{name=\"in\",kind=\"a\"} 1\nqueue{name=\"in\",kind=\"b\"} 2\nqueue{name=\"out\"} 4\nqueue_total 9\n").await;
    let source = member.source();
    for (filter, expected) in [(None, 7.0), (Some("in"), 3.0), (Some("!in"), 4.0)] {
        let mut asked = query(family("queue", PerHost::Last), &[("web-1", HERE)]);
        asked
            .what
            .filter
            .extend(filter.map(|value| ("name".to_owned(), value.to_owned())));
        assert_eq!(read(&source, asked).await[0].value, expected, "{filter:?}");
    }
}

#[tokio::test]
async fn a_counter_has_a_rate_from_its_second_scrape_on_and_survives_a_restart() {
    let member = Member::start().await;
    let source = member.source();
    let requests = |get: u32, put: u32| {
        format!(
            "tidepool_http_requests_total{{method=\"GET\",route=\"/v1/collections/{{collection}}\",status=\"200\"}} {get}\n\
             tidepool_http_requests_total{{method=\"PUT\",route=\"/v1/collections/{{collection}}\",status=\"200\"}} {put}\n"
        )
    };
    member.says(&requests(1_000_000, 500)).await;
    let started = Instant::now();
    assert_eq!(
        read(&source, preset("requests")).await,
        [],
        "one scrape tells no rate"
    );
    until(started, BETWEEN).await;
    member.says(&requests(1_000_060, 540)).await;
    let sample = read(&source, preset("requests")).await.remove(0);
    // 100 requests, in the half second that went by at least, and in no more than has gone by since.
    let fastest = 100.0 / BETWEEN.as_secs_f64();
    let slowest = 100.0 / (started.elapsed().as_secs_f64() + 0.01);
    assert!(
        slowest <= sample.value && sample.value <= fastest * 1.1,
        "{slowest} <= {} <= {fastest}",
        sample.value
    );
    // After a restart the counters begin anew: 30 more, and no million less.
    until(started, 2 * BETWEEN).await;
    member.says(&requests(20, 10)).await;
    let value = read(&source, preset("requests")).await[0].value;
    let most = 130.0 / (2.0 * BETWEEN.as_secs_f64()) * 1.1;
    assert!(0.0 < value && value <= most, "{value} > {most}");
}

#[tokio::test]
async fn members_that_do_not_answer_well_have_no_sample_and_spoil_no_other() {
    let member = Member::start().await;
    let large = "m 1\n".repeat((4 << 20) / 4 + 1);
    let hanging = ResponseTemplate::new(200)
        .set_body_string("m 1\n")
        .set_delay(Duration::from_secs(60));
    let table = [
        ("hangs", hanging),
        ("too large", ResponseTemplate::new(200).set_body_string(large)),
        ("an error", ResponseTemplate::new(503).set_body_string("m 1\n")),
        (
            "a redirect",
            ResponseTemplate::new(302).insert_header("location", "/elsewhere"),
        ),
        (
            "broken text",
            ResponseTemplate::new(200).set_body_string("m 1\n<html>\n"),
        ),
        (
            "no text",
            ResponseTemplate::new(200).set_body_bytes(vec![b'm', b' ', 0xff]),
        ),
        ("nothing", ResponseTemplate::new(200)),
        ("no number", ResponseTemplate::new(200).set_body_string("m NaN\n")),
        (
            "a series twice",
            ResponseTemplate::new(200).set_body_string("m 1\nm 2\n"),
        ),
    ];
    for (name, answer) in table {
        member.tells(answer).await;
        let asked = query(family("m", PerHost::Last), &[("web-1", HERE)]);
        let started = Instant::now();
        assert_eq!(read(&member.source(), asked).await, [], "{name}");
        assert!(started.elapsed() < Duration::from_secs(20), "{name}");
    }
    member.says("m 5\n").await;
    let asked = query(
        family("m", PerHost::Last),
        &[("gone", NOBODY), ("new", None), ("web-1", HERE)],
    );
    let samples = read(&member.source(), asked).await;
    assert_eq!(
        samples
            .iter()
            .map(|s| (s.host.0.as_str(), s.value))
            .collect::<Vec<_>>(),
        [("web-1", 5.0)]
    );
}

#[tokio::test]
async fn what_a_member_said_before_it_fell_silent_is_not_told_again() {
    let member = Member::start().await;
    member.says("m 5\n").await;
    let source = member.source();
    let asked = || query(family("m", PerHost::Avg), &[("web-1", HERE)]);
    assert_eq!(read(&source, asked()).await.len(), 1);
    member.tells(ResponseTemplate::new(500)).await;
    assert_eq!(read(&source, asked()).await, []);
    // Back, but without the family.
    member.says("other 1\n").await;
    assert_eq!(read(&source, asked()).await, []);
}

#[tokio::test]
async fn a_name_at_another_address_begins_anew() {
    let member = Member::start().await;
    member.says("m 10\n").await;
    let source = member.source();
    let asked = |address| query(family("m", PerHost::Max), &[("web-1", Some(address))]);
    assert_eq!(
        read(&source, asked(IpAddr::V4(Ipv4Addr::LOCALHOST))).await[0].value,
        10.0
    );
    member.says("m 1\n").await;
    assert_eq!(
        read(&source, asked(IpAddr::V4(Ipv4Addr::LOCALHOST))).await[0].value,
        10.0
    );
    // The same server listens on 127.0.0.1 only, so another loopback address is another machine: nobody.
    assert_eq!(read(&source, asked(NOBODY.unwrap())).await, []);
    assert_eq!(
        read(&source, asked(IpAddr::V4(Ipv4Addr::LOCALHOST))).await[0].value,
        1.0
    );
}

#[tokio::test]
async fn a_member_is_asked_once_a_read_whatever_is_wanted_of_it() {
    let member = Member::start().await;
    member
        .says("tidepool_host_cpu_ratio 0.5\nprocess_cpu_seconds_total 7\n")
        .await;
    let queries = [preset("cpu"), preset("process_cpu"), preset("cpu")];
    let answers = member.source().read(&queries, NOW).await;
    let counts: Vec<usize> = answers.into_iter().map(|answer| answer.unwrap().len()).collect();
    assert_eq!(counts, [1, 0, 1]);
    assert_eq!(member.server.received_requests().await.unwrap().len(), 1);
}

#[tokio::test]
async fn members_that_hang_hang_together() {
    // A listener that never accepts: connections wait in its queue, and no answer comes.
    let listener = tokio::net::TcpListener::bind(SocketAddr::new(HERE.unwrap(), 0))
        .await
        .unwrap();
    let source = source(listener.local_addr().unwrap().port());
    let names: Vec<String> = (0..40).map(|n| format!("web-{n}")).collect();
    let hosts: Vec<(&str, Option<IpAddr>)> = names.iter().map(|name| (name.as_str(), HERE)).collect();
    let started = Instant::now();
    assert_eq!(read(&source, query(family("m", PerHost::Last), &hosts)).await, []);
    // 40 members of 0.7 s each would be 28 s one after another.
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}
