//! The stage: a provider, members and metrics in memory that fail on demand, and pools upon them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tidepool_autoscaler::apply::Applier;
use tidepool_autoscaler::audit::Audit;
use tidepool_autoscaler::config::{AuditConfig, Purpose, Surroundings, parse};
use tidepool_autoscaler::daemon::round;
use tidepool_autoscaler::journal::Journal;
use tidepool_autoscaler::meters::Meters;
use tidepool_autoscaler::metrics::{MetricError, MetricSource, SignalQuery};
use tidepool_autoscaler::probe::MemberProbe;
use tidepool_autoscaler::provider::{
    CreateMember, EarlierCreate, Found, Listing, Made, Provider, ProviderError, ProviderErrorKind,
    RecipeError,
};
use tidepool_autoscaler::record::StatusRecorder;
use tidepool_autoscaler::state::{StateDir, Word};
use tidepool_autoscaler::tick::{Pool, Services, TickState};
use tidepool_autoscaler::versions::{SharedVersions, Versions};
use tidepool_autoscaler_core::decide::Control;
use tidepool_autoscaler_core::observe::{
    Member, MemberId, MemberName, PoolName, Power, Readiness, Reading, Sample, UnixMillis,
};
use tidepool_autoscaler_core::recipe::{Image, Recipe};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Seconds between rounds, by the tests' own clock.
const TICK_SECS: i64 = 10;

/// A provider in memory, with faults.
#[derive(Default)]
pub(crate) struct FakeCloud {
    pub(crate) members: Mutex<BTreeMap<MemberId, Member>>,
    next: AtomicI64,
    pub(crate) calls: Mutex<Vec<String>>,
    /// So long each create takes, by the stage's clock.
    pub(crate) create_takes_secs: AtomicI64,
    /// How all creates end; works when `None`.
    pub(crate) refuses_creates: Mutex<Option<ProviderErrorKind>>,
    /// How creates end; works when empty.
    pub(crate) creates: Mutex<Vec<ProviderErrorKind>>,
    /// How the next listing ends.
    pub(crate) list: Mutex<Option<ProviderErrorKind>>,
    /// A new member is listed only when it is so old.
    pub(crate) listed_after_secs: AtomicI64,
    /// These exist and no list shows them.
    pub(crate) unlisted: Mutex<BTreeSet<MemberId>>,
    /// New members are such ones.
    pub(crate) lists_nothing_new: AtomicBool,
    /// What lists say of these members' power, whatever it is.
    pub(crate) listed_as: Mutex<BTreeMap<MemberId, Power>>,
    /// New members are gone as soon as they are accepted.
    pub(crate) makes_nothing: AtomicBool,
    /// These do not carry the pool's tag.
    pub(crate) untagged: Mutex<BTreeSet<MemberId>>,
    /// How asking for a member by its id ends; works when `None`.
    pub(crate) get: Mutex<Option<ProviderErrorKind>>,
    /// What earlier creates were said to be known.
    pub(crate) earlier: Mutex<Vec<EarlierCreate>>,
    /// What members were made of.
    pub(crate) made: Mutex<Vec<Made>>,
    /// How destroying ends; works when `None`.
    pub(crate) destroys: Mutex<Option<ProviderErrorKind>>,
    /// How shutting down ends; works when `None`.
    pub(crate) shutdowns: Mutex<Option<ProviderErrorKind>>,
    /// So many more are counted than listed.
    pub(crate) unseen: AtomicU32,
    /// Tagging and untagging are answered as done, and nothing comes of them.
    pub(crate) tags_nothing: AtomicBool,
    /// The list may go on beyond what it shows.
    pub(crate) may_go_on: AtomicBool,
    /// The account has never heard of the pool.
    pub(crate) knows_no_pool: AtomicBool,
    /// Listing never ends.
    pub(crate) hangs: AtomicBool,
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
    pub(crate) fn add(&self, pool: &str, serving: bool) {
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
            image: "host".into(),
            size: None,
            generation: None,
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
        if self.tags_nothing.load(Ordering::SeqCst) && ["admit", "mark", "withdraw"].contains(&call) {
            return Ok(());
        }
        if let Some(member) = self.members.lock().unwrap().get_mut(id) {
            change(member);
        }
        Ok(())
    }

    pub(crate) fn count(&self) -> usize {
        self.members
            .lock()
            .unwrap()
            .values()
            .filter(|m| !m.draining)
            .count()
    }

    /// What was called that changes something, as `destroy 0001`.
    pub(crate) fn changes(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|call| *call != "list").cloned().collect()
    }

    pub(crate) fn ids(&self) -> Vec<MemberId> {
        self.members.lock().unwrap().keys().cloned().collect()
    }

    /// Changes these members, the oldest being number 0.
    pub(crate) fn each(&self, numbers: &[usize], change: impl Fn(&mut Member)) {
        let mut members = self.members.lock().unwrap();
        for (_, member) in members
            .values_mut()
            .enumerate()
            .filter(|(n, _)| numbers.contains(n))
        {
            change(member);
        }
    }

    pub(crate) fn creates(&self) -> usize {
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
    async fn members_list(&self, _: &PoolName) -> Result<Listing, ProviderError> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        assert!(!self.panics, "this pool's provider panics, for a test");
        self.calls.lock().unwrap().push("list".to_owned());
        if let Some(kind) = self.list.lock().unwrap().take() {
            return Err(failed(kind, "members_list"));
        }
        let newest = self.now.load(Ordering::SeqCst) - self.listed_after_secs.load(Ordering::SeqCst) * 1000;
        let members = self.members.lock().unwrap();
        let unlisted = self.unlisted.lock().unwrap();
        let listed = members
            .values()
            .filter(|m| m.created_at.0 <= newest && !unlisted.contains(&m.id));
        let listed_as = self.listed_as.lock().unwrap();
        let as_listed = |member: &Member| Member {
            power: listed_as.get(&member.id).copied().unwrap_or(member.power),
            ..member.clone()
        };
        Ok(Listing {
            members: listed.map(as_listed).collect(),
            unseen: self.unseen.load(Ordering::SeqCst),
            may_go_on: self.may_go_on.load(Ordering::SeqCst),
            ahead_millis: Some(0),
            problems: Vec::new(),
        })
    }

    async fn member_get(&self, _: &PoolName, id: &MemberId) -> Result<Option<Found>, ProviderError> {
        if let Some(kind) = *self.get.lock().unwrap() {
            return Err(failed(kind, "member_get"));
        }
        let member = self.members.lock().unwrap().get(id).cloned();
        Ok(member.map(|member| Found {
            tagged: !self.untagged.lock().unwrap().contains(id),
            member,
            problem: None,
        }))
    }

    async fn pool_is_known(&self, _: &PoolName) -> Result<bool, ProviderError> {
        Ok(!self.knows_no_pool.load(Ordering::SeqCst))
    }

    async fn names_check(&self, _: &PoolName) -> Result<Vec<String>, ProviderError> {
        Ok(Vec::new())
    }

    async fn recipe_find(&self, recipe: &Recipe) -> Result<Image, RecipeError> {
        match recipe.image.to_string().as_str() {
            "down" => Err(failed(ProviderErrorKind::Transient, "recipe_find").into()),
            "missing" => Err(RecipeError::NotToBeHad(
                "the account has no image missing".to_owned(),
            )),
            // It bears the slug that the pools' configuration names.
            "9101" => Ok("host (9101)".into()),
            _ => Ok(recipe.image.clone()),
        }
    }

    async fn member_create(&self, create: &CreateMember) -> Result<MemberId, ProviderError> {
        self.calls.lock().unwrap().push(format!("create {}", create.name));
        self.earlier.lock().unwrap().push(create.earlier);
        let takes_secs = self.create_takes_secs.load(Ordering::SeqCst);
        self.now.fetch_add(takes_secs * 1000, Ordering::SeqCst);
        let kind = self.creates.lock().unwrap().pop();
        let kind = kind.or(*self.refuses_creates.lock().unwrap());
        let mut id = MemberId(String::new());
        if let None | Some(ProviderErrorKind::UnknownOutcome) = kind {
            // An answer that is lost is lost after the droplet was made.
            self.add(&create.pool.0, false);
            let mut members = self.members.lock().unwrap();
            let newest = members.values_mut().next_back().unwrap();
            newest.name = create.name.clone();
            let recipe = &create.made.recipe;
            newest.image = recipe.image.clone();
            newest.size.clone_from(&recipe.size);
            newest.generation.clone_from(&recipe.generation);
            self.made.lock().unwrap().push(create.made.clone());
            id = newest.id.clone();
            if self.makes_nothing.load(Ordering::SeqCst) {
                members.remove(&id);
            } else if self.lists_nothing_new.load(Ordering::SeqCst) {
                self.unlisted.lock().unwrap().insert(id.clone());
            }
        }
        match kind {
            None => Ok(id),
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
        if let Some(kind) = *self.shutdowns.lock().unwrap() {
            return Err(failed(kind, "member_shutdown"));
        }
        self.change("shutdown", id, |m| m.power = Power::Off)
    }

    async fn member_power_off(&self, id: &MemberId) -> Result<(), ProviderError> {
        self.change("power_off", id, |m| m.power = Power::Off)
    }

    async fn member_destroy(&self, id: &MemberId) -> Result<(), ProviderError> {
        self.calls.lock().unwrap().push(format!("destroy {id}"));
        if let Some(kind) = *self.destroys.lock().unwrap() {
            return Err(failed(kind, "member_destroy"));
        }
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
pub(crate) enum Says {
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

pub(crate) struct FakeMetrics(pub(crate) Mutex<Says>);

#[async_trait]
impl MetricSource for FakeMetrics {
    async fn read(&self, queries: &[SignalQuery], now: UnixMillis) -> Vec<Result<Reading, MetricError>> {
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
            let answering = match says {
                Says::Nothing => 0,
                Says::Half => query.hosts.len() / 2,
                _ => query.hosts.len(),
            };
            let at = UnixMillis(now.0 + shift_secs * 1000);
            let sample = |host: &MemberName| Sample {
                host: host.clone(),
                value,
                at,
            };
            let samples: Vec<Sample> = query.hosts.keys().take(answering).map(sample).collect();
            let mut reading = Reading::from(samples);
            // Of one of those that are silent the source knows why.
            let silent = query.hosts.keys().skip(answering).take(1);
            reading
                .causes
                .extend(silent.map(|host| (host.clone(), "HTTP 500".to_owned())));
            Ok(reading)
        };
        queries.iter().map(answer).collect()
    }
}

pub(crate) struct Stage {
    pub(crate) clouds: BTreeMap<String, Arc<FakeCloud>>,
    pub(crate) pools: Vec<Arc<Pool>>,
    pub(crate) services: Arc<Services>,
    pub(crate) now: Arc<AtomicI64>,
    pub(crate) stop: CancellationToken,
    pub(crate) records: JoinHandle<()>,
    pub(crate) dir: tempfile::TempDir,
}

/// A pool of each name, with this many serving members, 2 to 10, that shrinks by one in a tick and at once.
pub(crate) fn stage(pools: &[(&str, u32)], source: Arc<dyn MetricSource>, panics: &str) -> Stage {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(1_000_000_000));
    let stop = CancellationToken::new();
    let state = StateDir::open(dir.path()).unwrap();
    let journal = Arc::new(Mutex::new(
        Journal::open(&state.journal(), UnixMillis(0)).unwrap(),
    ));
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
                versions: SharedVersions::new(Versions::configured(config.droplets.made())),
                probe: Arc::new(Willing),
                ops_port: 9090,
                journal: Arc::clone(&journal),
                clock: Arc::new(move || UnixMillis(clock.load(Ordering::SeqCst))),
                stop: stop.clone(),
                crash: None,
            },
            recorder: StatusRecorder::new(&config.spec, Control::Auto),
            word: Mutex::new(Word::Given(Control::Auto)),
            tick_state: Arc::new(tokio::sync::Mutex::new(TickState::default())),
            config,
        }));
    }
    let services = Arc::new(Services {
        source,
        state,
        audit,
        meters,
    });
    Stage {
        clouds,
        pools: made,
        services,
        now,
        stop,
        records,
        dir,
    }
}

impl Stage {
    pub(crate) fn cloud(&self, pool: &str) -> &FakeCloud {
        self.clouds.get(pool).unwrap()
    }

    pub(crate) async fn rounds(&self, count: u32) {
        for _ in 0..count {
            self.now.fetch_add(TICK_SECS * 1000, Ordering::SeqCst);
            round(Arc::clone(&self.services), self.pools.clone()).await;
        }
    }

    pub(crate) fn error(&self, pool: usize) -> Option<String> {
        self.pools.get(pool).unwrap().recorder.status().last_error
    }

    pub(crate) fn reason(&self, pool: usize) -> String {
        let decisions = self.pools.get(pool).unwrap().recorder.status().decisions;
        decisions.first().unwrap().reason.clone()
    }

    pub(crate) fn control(&self, control: Control) {
        *self.pools.first().unwrap().word.lock().unwrap() = Word::Given(control);
    }

    pub(crate) fn problems(&self, pool: usize) -> Vec<String> {
        self.pools.get(pool).unwrap().recorder.status().problems
    }

    pub(crate) fn metrics(&self) -> String {
        String::from_utf8(self.services.meters.text().unwrap()).unwrap()
    }
}

pub(crate) fn metrics(says: Says) -> Arc<FakeMetrics> {
    Arc::new(FakeMetrics(Mutex::new(says)))
}
