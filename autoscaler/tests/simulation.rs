//! Whole rounds of the daemon against a provider, members and metrics that fail in every way that is known: the pool never
//! shrinks on what can't be trusted, minimum and maximum hold, and one bad pool stops no other.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tidepool_autoscaler::apply::Applier;
use tidepool_autoscaler::audit::{Audit, Record};
use tidepool_autoscaler::config::{AuditConfig, Purpose, Secret, Surroundings, parse};
use tidepool_autoscaler::daemon::{Outside, pools, round};
use tidepool_autoscaler::journal::{Journal, Line};
use tidepool_autoscaler::meters::Meters;
use tidepool_autoscaler::metrics::elasticsearch::{Auth, ElasticsearchConfig, ElasticsearchSource};
use tidepool_autoscaler::metrics::{MetricError, MetricSource, SignalQuery};
use tidepool_autoscaler::probe::MemberProbe;
use tidepool_autoscaler::provider::{CreateMember, Provider, ProviderError, ProviderErrorKind};
use tidepool_autoscaler::record::Board;
use tidepool_autoscaler::server::{Shared, serve};
use tidepool_autoscaler::state::StateDir;
use tidepool_autoscaler::status::Status;
use tidepool_autoscaler::tick::{Carried, Pool, World};
use tidepool_autoscaler_core::decide::{Control, decide};
use tidepool_autoscaler_core::observe::{
    Member, MemberId, MemberName, PoolName, Power, Readiness, Sample, UnixMillis,
};
use tidepool_autoscaler_core::plan::Step;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wiremock::matchers::{any, method};
use wiremock::{Mock, MockServer, ResponseTemplate};

/// Seconds between rounds, by the tests' own clock.
const TICK_SECS: i64 = 10;

/// A provider in memory, with faults.
#[derive(Default)]
struct FakeCloud {
    members: Mutex<BTreeMap<MemberId, Member>>,
    next: AtomicI64,
    calls: Mutex<Vec<String>>,
    /// How creates end; works when empty.
    creates: Mutex<Vec<ProviderErrorKind>>,
    /// How the next listing ends.
    list: Mutex<Option<ProviderErrorKind>>,
    /// A new member is listed only when it is so old.
    listed_after_secs: AtomicI64,
    /// Listing panics.
    panics: bool,
    now: Arc<AtomicI64>,
}

fn failed(kind: ProviderErrorKind, operation: &'static str) -> ProviderError {
    ProviderError {
        kind,
        operation,
        subject: "x".to_owned(),
        detail: "as told".to_owned(),
        source: None,
    }
}

impl FakeCloud {
    fn add(&self, pool: &str, serving: bool) {
        let n = self.next.fetch_add(1, Ordering::SeqCst) + 1;
        let member = Member {
            id: MemberId(format!("{n:04}")),
            name: MemberName(format!("{pool}-{n}")),
            created_at: UnixMillis(if serving {
                0
            } else {
                self.now.load(Ordering::SeqCst)
            }),
            power: Power::Running,
            serving,
            draining: false,
            readiness: Readiness::Unknown,
            address: Some(IpAddr::from([10, 0, 0, u8::try_from(n).unwrap()])),
            image: "host".to_owned(),
        };
        self.members.lock().unwrap().insert(member.id.clone(), member);
    }

    fn change(
        &self,
        call: &str,
        id: &MemberId,
        change: impl FnOnce(&mut Member),
    ) -> Result<(), ProviderError> {
        self.calls.lock().unwrap().push(format!("{call} {id}"));
        if let Some(member) = self.members.lock().unwrap().get_mut(id) {
            change(member);
        }
        Ok(())
    }

    fn count(&self) -> usize {
        self.members
            .lock()
            .unwrap()
            .values()
            .filter(|m| !m.draining)
            .count()
    }

    fn creates(&self) -> usize {
        self.calls
            .lock()
            .unwrap()
            .iter()
            .filter(|call| call.starts_with("create"))
            .count()
    }
}

#[async_trait]
impl Provider for FakeCloud {
    async fn members_list(&self, _: &PoolName) -> Result<Vec<Member>, ProviderError> {
        assert!(!self.panics, "this pool's provider panics, for a test");
        self.calls.lock().unwrap().push("list".to_owned());
        if let Some(kind) = self.list.lock().unwrap().take() {
            return Err(failed(kind, "members_list"));
        }
        let newest = self.now.load(Ordering::SeqCst) - self.listed_after_secs.load(Ordering::SeqCst) * 1000;
        let members = self.members.lock().unwrap();
        let listed = members.values().filter(|m| m.created_at.0 <= newest);
        Ok(listed.cloned().collect())
    }

    async fn member_create(&self, create: &CreateMember) -> Result<MemberId, ProviderError> {
        self.calls.lock().unwrap().push(format!("create {}", create.name));
        let kind = self.creates.lock().unwrap().pop();
        if let None | Some(ProviderErrorKind::UnknownOutcome) = kind {
            // An answer that is lost is lost after the droplet was made.
            self.add(&create.pool.0, false);
            let mut members = self.members.lock().unwrap();
            let newest = members.values_mut().next_back().unwrap();
            newest.name = create.name.clone();
        }
        match kind {
            None => Ok(MemberId("new".to_owned())),
            Some(kind) => Err(failed(kind, "member_create")),
        }
    }

    async fn serving_admit(&self, _: &PoolName, id: &MemberId) -> Result<(), ProviderError> {
        self.change("admit", id, |m| m.serving = true)
    }

    async fn draining_mark(&self, _: &PoolName, id: &MemberId) -> Result<(), ProviderError> {
        self.change("mark", id, |m| m.draining = true)
    }

    async fn serving_withdraw(&self, _: &PoolName, id: &MemberId) -> Result<(), ProviderError> {
        self.change("withdraw", id, |m| m.serving = false)
    }

    async fn member_shutdown(&self, id: &MemberId) -> Result<(), ProviderError> {
        self.change("shutdown", id, |m| m.power = Power::Off)
    }

    async fn member_power_off(&self, id: &MemberId) -> Result<(), ProviderError> {
        self.change("power_off", id, |m| m.power = Power::Off)
    }

    async fn member_destroy(&self, id: &MemberId) -> Result<(), ProviderError> {
        self.calls.lock().unwrap().push(format!("destroy {id}"));
        self.members.lock().unwrap().remove(id);
        Ok(())
    }
}

/// Members that are ready and drained whenever they are asked.
struct Willing;

#[async_trait]
impl MemberProbe for Willing {
    async fn readiness(&self, _: IpAddr, _: u16) -> Readiness {
        Readiness::Ready
    }

    async fn drained(&self, _: IpAddr, _: u16) -> bool {
        true
    }

    async fn drain(&self, _: IpAddr, _: u16) -> Result<(), String> {
        Ok(())
    }
}

/// What the metrics say.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Says {
    Idle,
    Busy,
    Failed,
    Incomplete,
    Nothing,
    Old,
    Future,
    Half,
    NotNumbers,
    Panic,
}

struct FakeMetrics(Mutex<Says>);

#[async_trait]
impl MetricSource for FakeMetrics {
    async fn read(&self, queries: &[SignalQuery], now: UnixMillis) -> Vec<Result<Vec<Sample>, MetricError>> {
        let says = *self.0.lock().unwrap();
        assert!(says != Says::Panic, "the source panics, for a test");
        let answer = |query: &SignalQuery| {
            let (pool, signal, reason) = (query.pool.clone(), query.signal.clone(), "as told".to_owned());
            let (value, shift_secs) = match says {
                Says::Failed => return Err(MetricError::Failed { pool, signal, reason }),
                Says::Incomplete => return Err(MetricError::Incomplete { pool, signal, reason }),
                Says::Busy => (1.0, 0),
                Says::Old => (0.01, -3600),
                Says::Future => (0.01, 3600),
                Says::NotNumbers => (f64::NAN, 0),
                Says::Idle | Says::Nothing | Says::Half | Says::Panic => (0.01, 0),
            };
            let told = match says {
                Says::Nothing => 0,
                Says::Half => query.hosts.len() / 2,
                _ => query.hosts.len(),
            };
            let at = UnixMillis(now.0 + shift_secs * 1000);
            Ok(query
                .hosts
                .keys()
                .take(told)
                .map(|host| Sample {
                    host: host.clone(),
                    value,
                    at,
                })
                .collect())
        };
        queries.iter().map(answer).collect()
    }
}

struct Stage {
    clouds: BTreeMap<String, Arc<FakeCloud>>,
    pools: Vec<Arc<Pool>>,
    world: Arc<World>,
    now: Arc<AtomicI64>,
    stop: CancellationToken,
    records: JoinHandle<()>,
    dir: tempfile::TempDir,
}

/// A pool of each name, with this many serving members, 2 to 10, that shrinks by one in a tick and at once.
fn stage(pools: &[(&str, u32)], source: Arc<dyn MetricSource>, panics: &str) -> Stage {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(1_000_000_000));
    let stop = CancellationToken::new();
    let state = StateDir::open(dir.path()).unwrap();
    let journal = Arc::new(Mutex::new(Journal::open(&state.journal()).unwrap()));
    let meters = Arc::new(Meters::new().unwrap());
    let config = AuditConfig {
        file: dir.path().join("audit.jsonl"),
        index: None,
    };
    let (audit, records) = Audit::start(&config, Arc::clone(&meters)).unwrap();
    let (mut clouds, mut made) = (BTreeMap::new(), Vec::new());
    for (name, count) in pools {
        let cloud = Arc::new(FakeCloud {
            panics: *name == panics,
            now: Arc::clone(&now),
            ..FakeCloud::default()
        });
        (0..*count).for_each(|_| cloud.add(name, true));
        clouds.insert((*name).to_owned(), Arc::clone(&cloud));
        let text = format!(
            r#"
                state_dir = "state"
                metrics = "scrape"
                digitalocean = {{ token_env = "T" }}
                [[pool]]
                name = "{name}"
                min = 2
                max = 10
                digitalocean = {{ region = "fra1", size = "s", image = "host" }}
                policy = [{{ preset = "cpu", target = 0.5 }}]
                windows = {{ in_secs = 0 }}
                limits = {{ in_period_secs = 0, out_period_secs = 0 }}
                life = {{ create_settle_secs = 35 }}
            "#
        );
        let around = Surroundings {
            env: &|_| Some("token".to_owned()),
            read_file: &|_| Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
            base: Path::new("/"),
        };
        let config = parse(&text, &around, Purpose::Act).unwrap().pools.remove(0);
        let clock = Arc::clone(&now);
        made.push(Arc::new(Pool {
            applier: Applier {
                provider: cloud,
                probe: Arc::new(Willing),
                ops_port: 9090,
                journal: Arc::clone(&journal),
                clock: Arc::new(move || UnixMillis(clock.load(Ordering::SeqCst))),
                stop: stop.clone(),
                crash: None,
            },
            board: Board::new(&config.spec, Control::Auto),
            control: Mutex::new(Control::Auto),
            carried: Arc::new(tokio::sync::Mutex::new(Carried::default())),
            config,
        }));
    }
    let world = Arc::new(World {
        source,
        state,
        audit,
        meters,
    });
    Stage {
        clouds,
        pools: made,
        world,
        now,
        stop,
        records,
        dir,
    }
}

impl Stage {
    fn cloud(&self, pool: &str) -> &FakeCloud {
        self.clouds.get(pool).unwrap()
    }

    async fn rounds(&self, count: u32) {
        for _ in 0..count {
            self.now.fetch_add(TICK_SECS * 1000, Ordering::SeqCst);
            round(Arc::clone(&self.world), self.pools.clone()).await;
        }
    }

    fn error(&self, pool: usize) -> Option<String> {
        self.pools.get(pool).unwrap().board.status().last_error
    }

    fn metrics(&self) -> String {
        String::from_utf8(self.world.meters.text().unwrap()).unwrap()
    }
}

fn metrics(says: Says) -> Arc<FakeMetrics> {
    Arc::new(FakeMetrics(Mutex::new(says)))
}

#[tokio::test]
async fn a_signal_that_can_be_trusted_shrinks_and_grows_the_pool() {
    // Without this, the tests that nothing shrinks would prove nothing.
    let source = metrics(Says::Idle);
    let stage = stage(&[("api", 5)], source.clone(), "");
    stage.rounds(5).await;
    assert_eq!(stage.cloud("api").count(), 2);
    *source.0.lock().unwrap() = Says::Busy;
    stage.rounds(20).await;
    assert_eq!(stage.cloud("api").count(), 10);
}

/// Never shrinks, never grows for nothing, and the bounds hold.
async fn holds(source: &Arc<dyn MetricSource>, what: &str) {
    let pools = [("low", 1), ("right", 5), ("high", 12)];
    let stage = stage(&pools, Arc::clone(source), "");
    stage.rounds(12).await;
    let counts: Vec<usize> = ["low", "right", "high"]
        .map(|pool| stage.cloud(pool).count())
        .to_vec();
    assert_eq!(counts, [2, 5, 10], "{what}");
}

#[tokio::test]
async fn a_signal_that_cannot_be_trusted_never_shrinks_a_pool_and_the_bounds_hold() {
    for says in [
        Says::Failed,
        Says::Incomplete,
        Says::Nothing,
        Says::Old,
        Says::Future,
        Says::Half,
        Says::NotNumbers,
        Says::Panic,
    ] {
        let source: Arc<dyn MetricSource> = metrics(says);
        holds(&source, &format!("{says:?}")).await;
    }
}

fn elasticsearch(url: String) -> Arc<dyn MetricSource> {
    let config = ElasticsearchConfig {
        timeout: Duration::from_secs(2),
        ..ElasticsearchConfig::new(url, Auth::Anonymous)
    };
    Arc::new(ElasticsearchSource::new(config).unwrap())
}

#[tokio::test]
async fn an_elasticsearch_that_is_down_never_shrinks_a_pool_and_the_bounds_hold() {
    // A port that was free a moment ago, on an address that nobody else uses.
    let port = std::net::TcpListener::bind("127.77.3.10:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    holds(&elasticsearch(format!("http://127.77.3.10:{port}")), "down").await;
}

#[tokio::test]
async fn an_elasticsearch_that_answers_errors_never_shrinks_a_pool_and_the_bounds_hold() {
    let shards = r#"{"total":2,"successful":1,"skipped":0,"failed":1}"#;
    let empty = r#"{"took":1,"timed_out":true,"_shards":{"total":1,"successful":1,"skipped":0,"failed":0},"hits":{"hits":[]}}"#;
    let torn = format!(r#"{{"took":1,"timed_out":false,"_shards":{shards},"hits":{{"hits":[]}}}}"#);
    for (status, body) in [
        (503, "{}".to_owned()),
        (503, "<html>".to_owned()),
        (429, "{}".to_owned()),
        (200, "{}".to_owned()),
        (
            200,
            format!(r#"{{"took":1,"responses":[{empty},{empty},{empty}]}}"#),
        ),
        (200, format!(r#"{{"took":1,"responses":[{torn},{torn},{torn}]}}"#)),
    ] {
        let server = MockServer::start().await;
        let answer = ResponseTemplate::new(status).set_body_raw(body.clone(), "application/json");
        Mock::given(any()).respond_with(answer).mount(&server).await;
        holds(&elasticsearch(server.uri()), &format!("{status} {body}")).await;
        assert!(!server.received_requests().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_makes_no_second_member() {
    // It may be a while until the list shows what was made; up to 35 s are waited for.
    for listed_after_secs in [0, 25] {
        let stage = stage(&[("api", 0)], metrics(Says::Nothing), "");
        let cloud = stage.cloud("api");
        cloud.listed_after_secs.store(listed_after_secs, Ordering::SeqCst);
        *cloud.creates.lock().unwrap() = vec![ProviderErrorKind::UnknownOutcome; 2];
        stage.rounds(8).await;
        assert_eq!((cloud.count(), cloud.creates()), (2, 2), "{listed_after_secs}");
    }
}

#[tokio::test]
async fn a_reached_quota_blocks_growth_only() {
    let source = metrics(Says::Busy);
    let stage = stage(&[("api", 4)], source.clone(), "");
    *stage.cloud("api").creates.lock().unwrap() = vec![ProviderErrorKind::QuotaReached];
    stage.rounds(1).await;
    // The first create is refused, and the others of the plan are not tried.
    assert_eq!((stage.cloud("api").count(), stage.cloud("api").creates()), (4, 1));
    assert!(stage.error(0).unwrap().contains("QuotaReached"));
    stage.rounds(3).await;
    assert_eq!(stage.cloud("api").creates(), 1);
    *source.0.lock().unwrap() = Says::Idle;
    stage.rounds(1).await;
    assert_eq!(stage.cloud("api").count(), 3);
    *source.0.lock().unwrap() = Says::Busy;
    stage.rounds(8).await;
    assert!(stage.cloud("api").count() > 4);
    assert!(
        stage
            .metrics()
            .contains(r#"tidepool_autoscaler_provider_errors_total{kind="quota_reached",pool="api"} 1"#)
    );
}

#[tokio::test]
async fn a_reached_quota_leaves_the_rest_of_the_plan_alone() {
    let stage = stage(&[("api", 4)], metrics(Says::Busy), "");
    let cloud = stage.cloud("api");
    *cloud.creates.lock().unwrap() = vec![ProviderErrorKind::QuotaReached];
    cloud.members.lock().unwrap().values_mut().next().unwrap().power = Power::Off;
    stage.rounds(1).await;
    assert_eq!(
        *cloud.calls.lock().unwrap(),
        ["list", "create api-5", "withdraw 0001", "destroy 0001"]
    );
}

#[tokio::test]
async fn a_rate_limit_is_waited_for() {
    let stage = stage(&[("api", 0)], metrics(Says::Nothing), "");
    *stage.cloud("api").creates.lock().unwrap() =
        vec![ProviderErrorKind::RateLimited { retry_after_secs: 25 }];
    stage.rounds(1).await;
    assert_eq!(
        *stage.cloud("api").calls.lock().unwrap(),
        ["list", "create api-1"]
    );
    stage.rounds(2).await;
    assert_eq!(stage.cloud("api").calls.lock().unwrap().len(), 2);
    stage.rounds(1).await;
    assert_eq!(stage.cloud("api").count(), 2);

    *stage.cloud("api").list.lock().unwrap() = Some(ProviderErrorKind::RateLimited { retry_after_secs: 15 });
    stage.rounds(1).await;
    let calls = stage.cloud("api").calls.lock().unwrap().len();
    stage.rounds(1).await;
    assert_eq!(stage.cloud("api").calls.lock().unwrap().len(), calls);
    assert!(
        stage
            .error(0)
            .unwrap()
            .starts_with("the pool can't be observed: ")
    );
    stage.rounds(1).await;
    assert_eq!(stage.error(0), None);
}

#[tokio::test]
async fn one_bad_pool_stops_no_other() {
    let stage = stage(
        &[("bad", 5), ("good", 5), ("blind", 5)],
        metrics(Says::Idle),
        "bad",
    );
    for _ in 0..4 {
        *stage.cloud("blind").list.lock().unwrap() = Some(ProviderErrorKind::Transient);
        stage.rounds(1).await;
    }
    let counts: Vec<usize> = ["bad", "good", "blind"]
        .map(|pool| stage.cloud(pool).count())
        .to_vec();
    assert_eq!(counts, [5, 2, 5]);
    assert_eq!(stage.error(0).unwrap(), "the tick panicked; the log says where");
    assert_eq!(stage.error(1), None);
    assert!(stage.error(2).unwrap().starts_with("the pool can't be observed"));
    let text = stage.metrics();
    assert!(
        text.contains(r#"tidepool_autoscaler_ticks_total{pool="bad",result="panicked"} 4"#),
        "{text}"
    );
    assert!(text.contains(r#"tidepool_autoscaler_ticks_total{pool="good",result="done"} 4"#));
    assert!(text.contains(r#"tidepool_autoscaler_ticks_total{pool="blind",result="failed"} 4"#));
    // It was only ill, and goes on when it is well.
    stage.rounds(3).await;
    assert_eq!(stage.cloud("blind").count(), 2);
}

#[tokio::test]
async fn a_pool_that_is_still_busy_is_left_out() {
    let stage = stage(&[("busy", 5), ("free", 5)], metrics(Says::Idle), "");
    let busy = Arc::clone(&stage.pools.first().unwrap().carried)
        .lock_owned()
        .await;
    stage.rounds(1).await;
    assert_eq!((stage.cloud("busy").count(), stage.cloud("free").count()), (5, 4));
    assert!(
        stage
            .metrics()
            .contains(r#"tidepool_autoscaler_ticks_total{pool="busy",result="skipped"} 1"#)
    );
    drop(busy);
    stage.rounds(1).await;
    assert_eq!(stage.cloud("busy").count(), 4);
}

#[tokio::test]
async fn steps_that_were_not_begun_when_it_stops_are_not_begun() {
    let stage = stage(&[("api", 5)], metrics(Says::Idle), "");
    stage.stop.cancel();
    stage.rounds(1).await;
    assert_eq!(*stage.cloud("api").calls.lock().unwrap(), ["list"]);
    assert!(stage.error(0).unwrap().contains("the autoscaler stops"));
}

#[tokio::test]
async fn a_state_that_cannot_be_written_stops_every_step() {
    let stage = stage(&[("api", 5)], metrics(Says::Idle), "");
    std::fs::create_dir(stage.dir.path().join("api.memory.new")).unwrap();
    stage.rounds(1).await;
    assert_eq!(*stage.cloud("api").calls.lock().unwrap(), ["list"]);
    assert!(
        stage
            .error(0)
            .unwrap()
            .starts_with("the pool's memory can't be kept, so nothing is done: ")
    );
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_stops_every_step() {
    let stage = stage(&[("api", 5)], metrics(Says::Idle), "");
    let to_look_at = Journal::look(&stage.world.state.journal()).unwrap();
    *stage.pools.first().unwrap().applier.journal.lock().unwrap() = to_look_at;
    stage.rounds(1).await;
    assert_eq!(*stage.cloud("api").calls.lock().unwrap(), ["list"]);
    assert!(stage.error(0).unwrap().contains("the journal can't be written"));
}

/// The list does not show the droplet yet, and the pool's memory was lost with the process: the journal alone knows.
#[tokio::test]
async fn a_create_that_was_begun_before_a_crash_is_not_begun_again() {
    let server = MockServer::start().await;
    let empty = r#"{"droplets":[],"links":{},"meta":{"total":0}}"#;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200).set_body_raw(empty, "application/json"))
        .mount(&server)
        .await;
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let now = Arc::new(AtomicI64::new(1_000_000_000));
    let begun = Line {
        at: UnixMillis(now.load(Ordering::SeqCst) - 3_000),
        pool: PoolName("api".to_owned()),
        step: Step::Create {
            name: MemberName("api-1".to_owned()),
        },
        outcome: None,
    };
    Journal::open(&state.journal()).unwrap().write(begun).unwrap();
    let text = format!(
        r#"
            state_dir = "state"
            metrics = "scrape"
            digitalocean = {{ base_url = "{}", token_env = "T" }}
            [[pool]]
            name = "api"
            min = 1
            max = 1
            digitalocean = {{ region = "fra1", size = "s", image = "host" }}
            life = {{ create_settle_secs = 35 }}
        "#,
        server.uri()
    );
    let around = Surroundings {
        env: &|_| Some("token".to_owned()),
        read_file: &|_| Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
        base: Path::new("/"),
    };
    let clock = Arc::clone(&now);
    let outside = Outside {
        clock: Arc::new(move || UnixMillis(clock.load(Ordering::SeqCst))),
        stop: CancellationToken::new(),
        crash: None,
    };
    let config = parse(&text, &around, Purpose::Act).unwrap();
    let journal = Journal::open(&state.journal()).unwrap();
    let pools = pools(&config, &state, journal, &outside).unwrap();
    let meters = Arc::new(Meters::new().unwrap());
    let audit = AuditConfig {
        file: dir.path().join("audit.jsonl"),
        index: None,
    };
    let (audit, _records) = Audit::start(&audit, Arc::clone(&meters)).unwrap();
    let world = Arc::new(World {
        source: metrics(Says::Nothing),
        state,
        audit,
        meters,
    });
    let mut creates = Vec::new();
    for _ in 0..4 {
        round(Arc::clone(&world), pools.clone()).await;
        let asked = server.received_requests().await.unwrap();
        let names = asked.iter().filter(|request| request.method.as_str() == "POST");
        creates.push(
            names
                .map(|request| request.body_json::<CreateBody>().unwrap().name)
                .collect::<Vec<_>>(),
        );
        now.fetch_add(15_000, Ordering::SeqCst);
    }
    // 3, 18 and 33 s after it was begun it may still show; after 48 s it is made again, under the same name.
    assert_eq!(creates, [vec![], vec![], vec![], vec!["api-1".to_owned()]]);
}

#[derive(serde::Deserialize)]
struct CreateBody {
    name: String,
}

#[tokio::test]
async fn a_member_leaves_the_balancer_before_anything_else_and_is_destroyed_last() {
    let stage = stage(&[("api", 3)], metrics(Says::Idle), "");
    stage.rounds(8).await;
    let calls = stage.cloud("api").calls.lock().unwrap().clone();
    let steps: Vec<&String> = calls.iter().filter(|call| *call != "list").collect();
    assert_eq!(
        steps,
        ["mark 0001", "withdraw 0001", "shutdown 0001", "destroy 0001"]
    );
}

#[tokio::test]
async fn what_was_recorded_gives_the_same_decision_again() {
    let Stage {
        pools,
        world,
        now,
        records,
        dir,
        clouds,
        ..
    } = {
        let stage = stage(&[("api", 4)], metrics(Says::Busy), "");
        stage.rounds(3).await;
        stage
    };
    drop((pools, world, now, clouds));
    records.await.unwrap();
    let text = std::fs::read_to_string(dir.path().join("audit.jsonl")).unwrap();
    let recorded: Vec<Record> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!recorded.is_empty());
    for Record { decision, inputs, .. } in recorded {
        assert_eq!(
            decide(&inputs.spec, &inputs.observation, &inputs.memory, inputs.control),
            decision
        );
    }
}

#[tokio::test]
async fn a_pool_that_is_held_keeps_its_size_and_replaces_what_dies() {
    let stage = stage(&[("api", 5)], metrics(Says::Idle), "");
    *stage.pools.first().unwrap().control.lock().unwrap() = Control::Hold { size: 5 };
    stage.rounds(3).await;
    assert_eq!(stage.cloud("api").count(), 5);
    stage
        .cloud("api")
        .members
        .lock()
        .unwrap()
        .values_mut()
        .next()
        .unwrap()
        .power = Power::Off;
    stage.rounds(3).await;
    let names: BTreeSet<String> = stage
        .cloud("api")
        .members
        .lock()
        .unwrap()
        .values()
        .map(|m| m.name.0.clone())
        .collect();
    assert_eq!(
        names.into_iter().collect::<Vec<_>>(),
        ["api-2", "api-3", "api-4", "api-5", "api-6"]
    );
}

/// The status port of a stage, on a free port; it closes when the stage's stop is set.
async fn status_port(stage: &Stage, token: Option<&str>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let clock = Arc::clone(&stage.now);
    let shared = Shared {
        pools: Arc::new(stage.pools.clone()),
        state: stage.world.state.clone(),
        meters: Arc::clone(&stage.world.meters),
        tick_secs: 10,
        token: token.map(|token| Secret::new(token.to_owned())),
        clock: Arc::new(move || UnixMillis(clock.load(Ordering::SeqCst))),
    };
    tokio::spawn(serve(listener, shared, stage.stop.clone()));
    url
}

async fn asked(request: reqwest::RequestBuilder) -> (u16, String) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn the_operator_speaks_through_the_status_port() {
    let stage = stage(&[("api", 5)], metrics(Says::Idle), "");
    let url = status_port(&stage, None).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let say = |path: &str, body: &'static str| http.post(format!("{url}/api/pools/{path}")).body(body);
    let not_yet = r#"{"error":"the pool was not observed yet"}"#;
    assert_eq!(asked(say("api/hold", "")).await, (409, not_yet.to_owned()));
    stage.rounds(1).await;
    assert_eq!(stage.cloud("api").count(), 4);
    assert_eq!(
        asked(say("api/scale", r#"{"size":7}"#)).await,
        (200, r#"{"kind":"manual","size":7}"#.to_owned())
    );
    stage.rounds(4).await;
    assert_eq!(stage.cloud("api").count(), 7);
    assert_eq!(
        asked(say("api/hold", "")).await,
        (200, r#"{"kind":"hold","size":7}"#.to_owned())
    );
    // The word outlives the daemon.
    let name = PoolName("api".to_owned());
    assert_eq!(
        stage.world.state.control_load(&name).unwrap(),
        Control::Hold { size: 7 }
    );
    stage.rounds(2).await;
    assert_eq!(stage.cloud("api").count(), 7);
    assert_eq!(
        asked(say("api/resume", "")).await,
        (200, r#"{"kind":"auto"}"#.to_owned())
    );
    stage.rounds(1).await;
    assert_eq!(stage.cloud("api").count(), 6);

    let (status, told) = asked(say("web/hold", "")).await;
    assert_eq!(
        (status, told.as_str()),
        (404, r#"{"error":"there is no pool \"web\"; there are: api"}"#)
    );
    for (body, words) in [
        (r#"{"size":1}"#, "size must be within the pool's 2 and 10, not 1"),
        (
            r#"{"size":11}"#,
            "size must be within the pool's 2 and 10, not 11",
        ),
        (r#"{"size":-1}"#, "the body must be"),
        (r#"{"size":3,"now":true}"#, "unknown field `now`"),
        ("three", "the body must be"),
    ] {
        let (status, told) = asked(say("api/scale", body)).await;
        assert!(status == 400 && told.contains(words), "{body}: {status} {told}");
    }
    let (status, told) = asked(http.get(format!("{url}/api/nothing"))).await;
    assert!(status == 404 && told.contains("error"), "{status} {told}");
}

#[tokio::test]
async fn the_status_port_tells_what_is_so() {
    let stage = stage(&[("api", 4)], metrics(Says::Busy), "");
    let url = status_port(&stage, None).await;
    stage.rounds(1).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let (_, text) = asked(http.get(format!("{url}/api/status"))).await;
    let status: Status = serde_json::from_str(&text).unwrap();
    let pool = status.pools.first().unwrap();
    assert_eq!(
        (
            pool.min,
            pool.max,
            pool.actual,
            pool.desired,
            pool.planned,
            pool.serving
        ),
        (2, 10, 4, 8, 8, 4)
    );
    assert_eq!(
        (pool.members.len(), pool.history.len(), pool.decisions.len()),
        (4, 1, 1)
    );
    let signal = pool.signals.first().unwrap();
    assert_eq!(
        (
            signal.value,
            signal.target,
            signal.hosts_fresh,
            signal.hosts_expected
        ),
        (Some(1.0), 0.5, 4, 4)
    );
    let decision = pool.decisions.first().unwrap();
    assert_eq!(
        decision.reason,
        "grow from 4 to 8: cpu: ceil(4 hosts × mean 1.0000 / target 0.5) = 8"
    );
    let steps: Vec<&str> = decision.steps.iter().map(|s| s.member.0.as_str()).collect();
    assert_eq!(steps, ["api-5", "api-6", "api-7", "api-8"]);
    // A thousand ticks make no more than an hour of points.
    stage.rounds(800).await;
    let pool = stage.pools.first().unwrap().board.status();
    assert!(
        pool.history.len() <= 360 && pool.decisions.len() <= 50,
        "{} {}",
        pool.history.len(),
        pool.decisions.len()
    );
    for (path, words) in [
        ("/metrics", "tidepool_autoscaler_members"),
        ("/livez", "alive"),
        ("/", "<html"),
    ] {
        let (code, text) = asked(http.get(format!("{url}{path}"))).await;
        assert!(code == 200 && text.contains(words), "{path}: {code}");
    }
}

#[tokio::test]
async fn who_has_no_token_or_comes_from_another_page_is_refused() {
    let stage = stage(&[("api", 4)], metrics(Says::Busy), "");
    let url = status_port(&stage, Some("the-token")).await;
    stage.rounds(1).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = || http.get(format!("{url}/api/status"));
    assert_eq!(asked(get()).await.0, 401);
    assert_eq!(asked(get().bearer_auth("another")).await.0, 401);
    assert_eq!(asked(get().bearer_auth("the-token")).await.0, 200);
    let hold = || {
        http.post(format!("{url}/api/pools/api/hold"))
            .bearer_auth("the-token")
    };
    assert_eq!(asked(hold().header("origin", "http://evil.example")).await.0, 403);
    assert_eq!(asked(hold().header("origin", url.clone())).await.0, 200);
    assert_eq!(asked(http.post(format!("{url}/api/pools/api/hold"))).await.0, 401);
}
