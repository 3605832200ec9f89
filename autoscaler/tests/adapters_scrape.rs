//! The scrape adapter against members that answer, hang, talk nonsense or come back from a restart.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tidepool_autoscaler::metrics::presets::{SourceKind, resolve};
use tidepool_autoscaler::metrics::range::Range;
use tidepool_autoscaler::metrics::scrape::{ScrapeConfig, ScrapeSource};
use tidepool_autoscaler::metrics::{Host, MetricSource, PerHost, SignalQuery, SignalSpec};
use tidepool_autoscaler_core::observe::{MemberId, MemberName, PoolName, Reading, Sample, UnixMillis};
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

    async fn answers(&self, answer: ResponseTemplate) {
        self.server.reset().await;
        Mock::given(method("GET"))
            .and(path("/metrics"))
            .respond_with(answer)
            .mount(&self.server)
            .await;
    }

    async fn says(&self, text: &str) {
        self.answers(ResponseTemplate::new(200).set_body_raw(text.to_owned(), "text/plain; version=0.0.4"))
            .await;
    }

    fn source(&self) -> ScrapeSource {
        source(self.server.address().port())
    }
}

fn source(port: u16) -> ScrapeSource {
    ScrapeSource::new(ScrapeConfig {
        port,
        timeout: Duration::from_secs(5),
    })
    .unwrap()
}

const HERE: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
/// Nobody listens there on a member's port.
const NOBODY: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(127, 77, 66, 55)));

fn query(what: SignalSpec, hosts: &[(&str, Option<IpAddr>)]) -> SignalQuery {
    let hosts = hosts
        .iter()
        .map(|(name, address)| {
            let id = MemberId((*name).to_owned());
            (
                MemberName((*name).to_owned()),
                Host {
                    id,
                    address: *address,
                },
            )
        })
        .collect();
    SignalQuery {
        pool: PoolName("web".to_owned()),
        signal: "signal".to_owned(),
        hosts,
        what,
        window_secs: 60,
        fresh_secs: 90,
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
        range: Range::NOT_NEGATIVE,
    }
}

async fn reading(source: &ScrapeSource, query: SignalQuery) -> Reading {
    source.read(&[query], NOW).await.remove(0).unwrap()
}

/// The whole values.
async fn read(source: &ScrapeSource, query: SignalQuery) -> Vec<Sample> {
    reading(source, query).await.samples
}

/// Why the only host has no whole value, and the lower bound that there is.
async fn cause(source: &ScrapeSource, query: SignalQuery) -> (String, Option<f64>) {
    let mut reading = reading(source, query).await;
    assert_eq!(reading.samples, []);
    let (_, cause) = reading.causes.pop_first().unwrap();
    (cause, reading.at_least.first().map(|sample| sample.value))
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
        "one scrape gives no rate"
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
    let page = "<html>\n<head><title>502 Bad Gateway</title></head>\n</html>";
    let table = [
        (hanging, "no answer within 5000 ms"),
        (
            ResponseTemplate::new(200).set_body_string(large),
            "its /metrics has more than 4194304 bytes",
        ),
        (
            ResponseTemplate::new(503).set_body_string("warming up\nplease wait\n"),
            "HTTP 503: warming up please wait",
        ),
        (
            ResponseTemplate::new(302).insert_header("location", "/elsewhere"),
            "HTTP 302",
        ),
        (
            ResponseTemplate::new(200).set_body_string(page),
            "its /metrics holds no metrics: <html> <head><title>502 Bad Gateway</title></head> </html>",
        ),
        (ResponseTemplate::new(200), "its /metrics holds no metrics"),
        (
            ResponseTemplate::new(200).set_body_string("m_total 1\n"),
            "\"m\" is not in its /metrics, but \"m_total\" is",
        ),
        (
            ResponseTemplate::new(200).set_body_string("n 1\n"),
            "\"m\" is not in its /metrics",
        ),
        (
            ResponseTemplate::new(200).set_body_string("n 1\nm 1 2 3\n"),
            "m: line 2 can't be read: there is more than a value and a time",
        ),
        (
            ResponseTemplate::new(200).set_body_bytes(b"n 1\nm \xff\n".to_vec()),
            "m: line 2 can't be read: it is not UTF-8",
        ),
        (
            ResponseTemplate::new(200).set_body_string("m NaN\n"),
            "a value is not a finite number",
        ),
        (
            ResponseTemplate::new(200).set_body_string("m -30\n"),
            "a value of -30 is outside the signal's range (0 and above)",
        ),
        (
            ResponseTemplate::new(200).set_body_string("m 1\nm 2\n"),
            "two different values of one series at one time: name the field or label that tells them apart in \
             `series_fields` or `filter`",
        ),
    ];
    for (answer, expected) in table {
        member.answers(answer).await;
        let asked = query(family("m", PerHost::Last), &[("web-1", HERE)]);
        let (cause, at_least) = cause(&member.source(), asked).await;
        assert_eq!((cause.as_str(), at_least), (expected, None));
    }
    member.says("m 5\n").await;
    let asked = query(
        family("m", PerHost::Last),
        &[("gone", NOBODY), ("new", None), ("web-1", HERE)],
    );
    let reading = reading(&member.source(), asked).await;
    assert_eq!(reading.causes[&MemberName("new".to_owned())], "it has no address");
    assert!(
        reading.causes[&MemberName("gone".to_owned())].contains("refused"),
        "{reading:?}"
    );
    assert_eq!(
        reading
            .samples
            .iter()
            .map(|s| (s.host.0.as_str(), s.value))
            .collect::<Vec<_>>(),
        [("web-1", 5.0)]
    );
}

#[tokio::test]
async fn only_a_whole_answer_in_a_text_format_is_an_exposition() {
    let member = Member::start().await;
    let typed = |status: u16, media: &str| ResponseTemplate::new(status).set_body_raw("m 5\n# EOF\n", media);
    let asked = || query(family("m", PerHost::Last), &[("web-1", HERE)]);
    for media in [
        "text/plain",
        "Text/Plain; version=0.0.4; charset=utf-8",
        "text/plain;version=1.0.0;escaping=underscores",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    ] {
        member.answers(typed(200, media)).await;
        assert_eq!(read(&member.source(), asked()).await[0].value, 5.0, "{media}");
    }
    member
        .answers(ResponseTemplate::new(200).set_body_bytes(b"m 5\n".to_vec()))
        .await;
    assert_eq!(read(&member.source(), asked()).await[0].value, 5.0);
    for media in [
        "text/html",
        "text/html; charset=utf-8",
        "application/json",
        "application/octet-stream",
        "text/plainer",
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
    ] {
        member.answers(typed(200, media)).await;
        let (why, at_least) = cause(&member.source(), asked()).await;
        let expected = format!("its /metrics is {media:?}, which is not a text format of metrics: m 5 # EOF");
        assert_eq!((why, at_least), (expected, None));
    }
    for status in [201, 202, 203, 206, 226, 304] {
        member.answers(typed(status, "text/plain")).await;
        let (why, at_least) = cause(&member.source(), asked()).await;
        assert!(why.starts_with(&format!("HTTP {status}")), "{why}");
        assert_eq!(at_least, None);
    }
}

#[tokio::test]
async fn what_a_member_said_before_it_fell_silent_is_not_repeated() {
    let member = Member::start().await;
    member.says("m 5\n").await;
    let source = member.source();
    let asked = || query(family("m", PerHost::Avg), &[("web-1", HERE)]);
    assert_eq!(read(&source, asked()).await.len(), 1);
    member.answers(ResponseTemplate::new(500)).await;
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

/// Members that were taken in keep their names, and two pools may have one of the same name.
#[tokio::test]
async fn members_of_two_pools_that_share_a_name_have_values_of_their_own() {
    let one = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = one.local_addr().unwrap().port();
    let other = std::net::TcpListener::bind(("127.0.0.2", port)).unwrap();
    let mut members = Vec::new();
    for (listener, value) in [(one, 7), (other, 70)] {
        let server = MockServer::builder().listener(listener).start().await;
        let text = ResponseTemplate::new(200).set_body_raw(format!("depth {value}\n"), "text/plain");
        Mock::given(path("/metrics"))
            .respond_with(text)
            .mount(&server)
            .await;
        members.push(server);
    }
    let pool = |id: &str, address: [u8; 4]| {
        let mut query = query(
            family("depth", PerHost::Avg),
            &[("web", Some(IpAddr::from(address)))],
        );
        let host = query.hosts.values_mut().next().unwrap();
        host.id = MemberId(id.to_owned());
        query
    };
    let source = source(port);
    let pools = [pool("100", [127, 0, 0, 1]), pool("200", [127, 0, 0, 2])];
    // Twice, so that what was kept of the one is not the other's.
    for _ in 0..2 {
        let readings = source.read(&pools, NOW).await;
        let values: Vec<f64> = readings
            .iter()
            .flat_map(|reading| {
                reading
                    .as_ref()
                    .unwrap()
                    .samples
                    .iter()
                    .map(|sample| sample.value)
            })
            .collect();
        assert_eq!(values, [7.0, 70.0]);
    }
}

#[tokio::test]
async fn a_member_is_asked_once_a_read_whatever_is_wanted_of_it() {
    let member = Member::start().await;
    member
        .says("tidepool_host_cpu_ratio 0.5\nprocess_cpu_seconds_total 7\n")
        .await;
    let queries = [preset("cpu"), preset("process_cpu"), preset("cpu")];
    let answers = member.source().read(&queries, NOW).await;
    let counts: Vec<usize> = answers
        .into_iter()
        .map(|answer| answer.unwrap().samples.len())
        .collect();
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

#[tokio::test]
async fn an_odd_line_costs_one_family() {
    let odd = [
        "odd{cmdline=\"agetty -- \\u--noclear\"} 0",
        "odd 12.5 1739184970.553",
        "odd 0.4 1.739184970e9",
        "{\"odd.name\", \"queue.name\"=\"mail\"} 3",
        "odd_total{\"http.route\"=\"/v1\",status=\"200\"} 7",
        "odd_total 17 # {trace_id=\"x\"} 0.5 1739184970.5",
        "odd {count:2,sum:3,schema:0,zero_threshold:0.1,zero_count:1} 1",
        "# UNIT odd seconds",
        "# TYPE odd stateset",
        "odd_created 1739184970.553",
        "odd{a=\"",
        "odd{} ",
        "<odd>",
        "{\"odd",
        "\u{feff}odd 1",
        "odd{a=\"\"} 1",
        "odd{a=\"b\",} 1\r",
    ];
    let member = Member::start().await;
    for line in odd.into_iter().map(str::to_owned).chain(["x".repeat(100_000)]) {
        for end in ["", "# EOF\n"] {
            member
                .says(&format!("{line}\ntidepool_host_cpu_ratio 0.4\n{line}\n{end}"))
                .await;
            let samples = read(&member.source(), preset("cpu")).await;
            assert_eq!(samples.first().map(|sample| sample.value), Some(0.4), "{line:?}");
        }
    }
}

#[tokio::test]
async fn times_quoted_names_and_exemplars_are_read() {
    let member = Member::start().await;
    member
        .says(
            "# TYPE process_cpu_seconds counter\nprocess_cpu_seconds_total 12.5 1799999999.553\n\
             tidepool_host_cpu_ratio 0.4 1.8e9\n{\"app.queue.depth\", \"queue.name\"=\"mail\"} 3\n\
             other_queue{\"queue.name\"=\"mail\"} 4 # {trace_id=\"x\"} 0.5\n# EOF\n",
        )
        .await;
    let source = member.source();
    for (field, expected) in [
        ("process_cpu_seconds_total", 12.5),
        ("tidepool_host_cpu_ratio", 0.4),
        ("app.queue.depth", 3.0),
        ("other_queue", 4.0),
    ] {
        let samples = read(&source, query(family(field, PerHost::Last), &[("web-1", HERE)])).await;
        assert_eq!(
            samples.first().map(|sample| sample.value),
            Some(expected),
            "{field}"
        );
    }
    // A member that escapes names, as it is asked to.
    member
        .says("app_queue_depth{queue_name=\"mail\"} 5\napp_queue_depth{queue_name=\"x\"} 1\n")
        .await;
    let mut asked = query(family("app.queue.depth", PerHost::Last), &[("web-1", HERE)]);
    asked.what.filter = [("queue.name".to_owned(), "mail".to_owned())].into();
    assert_eq!(read(&member.source(), asked).await[0].value, 5.0);
    let requests = member.server.received_requests().await.unwrap();
    let accept = requests.last().unwrap().headers["accept"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        accept.starts_with("text/plain;version=0.0.4;escaping=underscores"),
        "{accept}"
    );
}

#[tokio::test]
async fn a_member_with_an_unreadable_series_has_a_lower_bound_at_most() {
    let member = Member::start().await;
    for (bad, expected) in [
        ("NaN", "a value is not a finite number"),
        ("+Inf", "a value is not a finite number"),
        ("-1", "a value of -1 is outside the signal's range (0 and above)"),
        (
            "lots",
            "queue_depth: line 1 can't be read: its value is not a number",
        ),
    ] {
        member
            .says(&format!(
                "queue_depth{{q=\"a\"}} {bad}\nqueue_depth{{q=\"b\"}} 3\n"
            ))
            .await;
        for per_host in [PerHost::Last, PerHost::Avg, PerHost::Max] {
            let mut asked = query(family("queue_depth", per_host), &[("web-1", HERE)]);
            let found = cause(&member.source(), asked.clone()).await;
            assert_eq!(found, (expected.to_owned(), Some(3.0)));
            // Without a range, parts may be negative, and the rest is not a bound.
            if bad != "-1" {
                asked.what.range = Range::ANY;
                assert_eq!(cause(&member.source(), asked).await, (expected.to_owned(), None));
            }
        }
    }
}

#[tokio::test]
async fn a_ratio_of_two_families_has_its_range() {
    let member = Member::start().await;
    for (used, total, expected) in [
        ("13e9", "12e9", "outside the signal's range (0 to 1)"),
        ("-3e9", "-12e9", "outside the signal's range (0 and above)"),
        ("3e9", "0", "not a finite number"),
        ("3e9", "NaN", "not a finite number"),
    ] {
        member
            .says(&format!(
                "tidepool_host_memory_used_bytes {used}\ntidepool_host_memory_total_bytes {total}\n"
            ))
            .await;
        let (cause, at_least) = cause(&member.source(), preset("memory")).await;
        assert!(cause.contains(expected) && at_least.is_none(), "{cause}");
    }
}

#[tokio::test]
async fn openmetrics_without_its_end_is_not_whole() {
    let member = Member::start().await;
    let text = |text: &str| {
        ResponseTemplate::new(200)
            .set_body_raw(text.to_owned(), "application/openmetrics-text; version=1.0.0")
    };
    member.answers(text("queue_depth 3\n# EOF\n")).await;
    let asked = || query(family("queue_depth", PerHost::Last), &[("web-1", HERE)]);
    assert_eq!(read(&member.source(), asked()).await[0].value, 3.0);
    member.answers(text("queue_depth 3\n")).await;
    let (cause, at_least) = cause(&member.source(), asked()).await;
    assert!(cause.contains("# EOF"), "{cause}");
    assert_eq!(at_least, Some(3.0));
}

/// A member that answers every request with these bytes and closes the connection.
async fn closes_after(answer: &'static str) -> ScrapeSource {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind(SocketAddr::new(HERE.unwrap(), 0))
        .await
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            // A request of this client comes in one piece.
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    source(port)
}

#[tokio::test]
async fn a_last_line_is_read_only_where_it_can_not_have_been_cut_off() {
    let asked = || query(family("m", PerHost::Last), &[("web-1", HERE)]);
    let cut = closes_after("HTTP/1.1 200 OK\r\n\r\nn 1\nm 12").await;
    let expected = "m: line 2 can't be read: the text ends within it";
    assert_eq!(cause(&cut, asked()).await, (expected.to_owned(), None));
    for whole in [
        "HTTP/1.1 200 OK\r\n\r\nn 1\nm 123\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\nn 1\nm 123",
    ] {
        let samples = read(&closes_after(whole).await, asked()).await;
        assert_eq!(samples.first().map(|sample| sample.value), Some(123.0), "{whole}");
    }
}

#[tokio::test]
async fn a_packed_answer_is_unpacked_and_its_size_is_bounded() {
    let member = Member::start().await;
    let packed = |text: &str| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut packed, text.as_bytes()).unwrap();
        ResponseTemplate::new(200)
            .set_body_bytes(packed.finish().unwrap())
            .insert_header("content-encoding", "gzip")
    };
    let asked = || query(family("m", PerHost::Last), &[("web-1", HERE)]);
    member.answers(packed("m 5\n")).await;
    assert_eq!(read(&member.source(), asked()).await[0].value, 5.0);
    member.answers(packed(&"m 5\n".repeat(2 << 20))).await;
    let (cause, _) = cause(&member.source(), asked()).await;
    assert_eq!(cause, "its /metrics has more than 4194304 bytes");
}
