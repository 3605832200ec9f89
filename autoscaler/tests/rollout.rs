//! The real program rolls out and back on the real local cloud, behind its load balancer, while a client counts; and it is
//! killed at each step of it.

#![expect(clippy::unwrap_used, reason = "tests")]

mod local_cloud;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidepool_autoscaler::apply::CrashPoint;
use tidepool_autoscaler::provider::Provider;
use tidepool_autoscaler_core::observe::{Member, PoolName};
use tidepool_autoscaler_core::outcome::StepKind;
use tokio::process::{Child, Command};

use self::local_cloud::LocalCloud;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidepool-autoscaler");
/// A rollout of three members takes half a minute; a busy machine several times as long.
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Clients side by side.
const CLIENTS: usize = 4;
/// Pools so far: some dozens, at most 255.
static SITES: AtomicU8 = AtomicU8::new(0);
/// Crash points side by side; they mostly wait for ticks.
const SIDE_BY_SIDE: usize = 8;

/// `broken` never gets ready, `stubborn` does not stop when it is asked to.
fn cloud(test: &str, folder: &Path) -> Option<LocalCloud> {
    let image = |ops: u16, more: &str| {
        format!(
            "[[process]]\nname = \"host\"\nprogram = \"self\"\n\
             args = [\"test-host\", \"--listen\", \"{{ip}}:8080\", \"--ops-listen\", \"{{ip}}:{ops}\"{more}]\n"
        )
    };
    let (plain, stubborn, broken) = (image(9090, ""), image(9090, ", \"--stubborn\""), image(9999, ""));
    let images = [
        ("one", plain.as_str()),
        ("two", &plain),
        ("stubborn", &stubborn),
        ("broken", &broken),
    ];
    LocalCloud::start(test, folder, &images)
}

/// What a pool is like.
struct Settings<'s> {
    pool: &'s str,
    image: &'s str,
    size: usize,
    min_ready_secs: u32,
    ready_secs: u32,
}

/// A pool and its daemon.
struct Site {
    size: usize,
    url: String,
    http: reqwest::Client,
    pool: String,
    dir: PathBuf,
    config: PathBuf,
}

impl Site {
    fn new(cloud: &LocalCloud, folder: &Path, settings: &Settings<'_>) -> Site {
        let Settings {
            pool,
            image,
            size,
            min_ready_secs,
            ready_secs,
        } = *settings;
        let dir = folder.join(format!("pool-{pool}"));
        std::fs::create_dir_all(&dir).unwrap();
        // A port that was free a moment ago, on an address of its own: no other pool takes it until the daemon does.
        let nth = SITES.fetch_add(1, Ordering::Relaxed) + 1;
        let status = std::net::TcpListener::bind((Ipv4Addr::new(127, 77, 5, nth), 0))
            .unwrap()
            .local_addr()
            .unwrap();
        let config = format!(
            r#"
                tick_secs = 1
                state_dir = "state"
                metrics = "scrape"
                status.listen = "{status}"
                digitalocean = {{ base_url = "{}", token_env = "TOKEN" }}
                [[pool]]
                name = "{pool}"
                min = {size}
                max = {size}
                digitalocean = {{ region = "fra1", size = "s-1vcpu-1gb", image = "{image}" }}
                limits = {{ out_period_secs = 0, in_period_secs = 0 }}
                # Power is cut between shutdown_secs and twice that:
                # three ticks, so that late ones do no harm.
                life = {{ create_settle_secs = 5, withdraw_settle_secs = 2, drain_secs = 10, shutdown_secs = 3 }}
                rollout = {{ min_ready_secs = {min_ready_secs}, ready_secs = {ready_secs} }}
            "#,
            cloud.url
        );
        let file = dir.join("autoscaler.toml");
        std::fs::write(&file, config).unwrap();
        Site {
            size,
            url: cloud.url.clone(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            pool: pool.to_owned(),
            dir,
            config: file,
        }
    }

    /// Starts the daemon; it is killed when it is dropped.
    fn start(&self, crash: Option<CrashPoint>) -> Child {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("run").arg("--config").arg(&self.config);
        command
            .env("TOKEN", "any")
            .env_remove(CrashPoint::VARIABLE)
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        if let Some(point) = crash {
            command.env(CrashPoint::VARIABLE, point.to_string());
        }
        command.spawn().unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap()
    }

    async fn command(&self, args: &[&str]) -> Output {
        let mut command = Command::new(PROGRAM);
        command
            .args(args)
            .arg("--config")
            .arg(&self.config)
            .env("TOKEN", "any");
        command.output().await.unwrap()
    }

    /// `rollout POOL …`, once the daemon answers.
    async fn rollout(&self, args: &[&str]) -> String {
        let started = Instant::now();
        loop {
            let output = self.command(&[&["rollout", &self.pool], args].concat()).await;
            if output.status.success() {
                return String::from_utf8(output.stdout).unwrap();
            }
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(error.contains("no tidepool-autoscaler answers"), "{error}");
            assert!(started.elapsed() < PATIENCE, "{error}\n{}", self.log());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Orders an image, until the order is on the disk.
    async fn order_kept(&self, image: &str) {
        let file = self.dir.join("state").join(format!("{}.rollout.json", self.pool));
        let kept = || {
            let text = std::fs::read(&file).unwrap_or_default();
            let versions: Value = serde_json::from_slice(&text).unwrap_or_default();
            versions.pointer("/rollout/to").is_some()
        };
        let started = Instant::now();
        while !kept() {
            let output = self.command(&["rollout", &self.pool, "--image", image]).await;
            assert!(started.elapsed() < PATIENCE, "{output:?}\n{}", self.log());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn json(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth("any");
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {answer:?}");
        answer.json().await.unwrap()
    }

    /// All droplets of the pool: image, tags, name.
    async fn droplets(&self) -> Vec<Value> {
        let path = format!("/v2/droplets?per_page=200&tag_name=pool:{}", self.pool);
        let answer = self.json(&path).await;
        answer
            .get("droplets")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    }

    async fn status(&self) -> Option<Value> {
        let output = self.command(&["status", "--json"]).await;
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        status.pointer("/pools/0").cloned()
    }

    /// Waits until the rollout is done, and exactly as many members as wanted serve, all of this image.
    async fn settled(&self, image: &str) -> Value {
        let started = Instant::now();
        loop {
            let droplets = self.droplets().await;
            let serving = format!("serving:{}", self.pool);
            let well = |droplet: &Value| {
                let tags = droplet.get("tags").and_then(Value::as_array).unwrap();
                droplet.pointer("/image/slug") == Some(&json!(image)) && tags.contains(&json!(serving))
            };
            let names: BTreeSet<String> = droplets
                .iter()
                .map(|d| d.get("name").unwrap().to_string())
                .collect();
            assert_eq!(names.len(), droplets.len(), "two have one name: {names:?}");
            let all = droplets.len() == self.size && droplets.iter().all(well);
            let status = if all { self.status().await } else { None };
            let done = |status: &Value| {
                status
                    .pointer("/rollout/stage")
                    .is_none_or(|stage| stage == &json!("done"))
                    && status.get("serving") == Some(&json!(self.size))
            };
            if let Some(status) = status.filter(done) {
                return status;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{}: not {} of {image}: {:#?}\n{}",
                self.pool,
                self.size,
                self.status().await,
                self.log()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Makes a load balancer for the pool and waits until it answers; gives its address.
    async fn balancer(&self) -> String {
        let body = json!({
            "name": self.pool, "region": "fra1", "tag": format!("serving:{}", self.pool),
            "forwarding_rules": [{
                "entry_protocol": "http", "entry_port": 80, "target_protocol": "http", "target_port": 8080
            }],
            "health_check": {
                "protocol": "http", "port": 9090, "path": "/readyz", "check_interval_seconds": 3,
                "response_timeout_seconds": 3, "healthy_threshold": 2, "unhealthy_threshold": 2
            }
        });
        let request = self
            .http
            .post(format!("{}/v2/load_balancers", self.url))
            .bearer_auth("any")
            .json(&body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 202, "{}", answer.text().await.unwrap());
        let started = Instant::now();
        loop {
            let state = self.json("/_local/state").await;
            let balancer = state.pointer("/load_balancers/0").cloned().unwrap_or_default();
            let place = balancer.get("ip").and_then(Value::as_str);
            let port = balancer.get("port").and_then(Value::as_u64);
            if let Some((ip, port)) = place.zip(port) {
                let url = format!("http://{ip}:{port}/");
                let answer = self.http.get(&url).send().await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    return url;
                }
            }
            assert!(started.elapsed() < PATIENCE, "{state}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Reads through the balancer, one after the other, and counts what fails.
#[derive(Default)]
struct Counts {
    done: AtomicU64,
    failed: AtomicU64,
    first: std::sync::Mutex<Option<String>>,
}

async fn client(url: String, counts: Arc<Counts>) {
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .unwrap();
    loop {
        let answer = http.get(&url).send().await;
        let problem = match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(answer.status().to_string()),
            Err(error) => Some(error.to_string()),
        };
        counts.done.fetch_add(1, Ordering::Relaxed);
        if let Some(problem) = problem {
            counts.failed.fetch_add(1, Ordering::Relaxed);
            counts.first.lock().unwrap().get_or_insert(problem);
        }
        // Some hundred requests a second, so that the machine has time for the rest.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_there_and_back_no_request_fails_and_a_broken_image_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let test = "under_load_there_and_back_no_request_fails_and_a_broken_image_is_taken_back";
    let Some(cloud) = cloud(test, folder.path()) else {
        return;
    };
    let settings = Settings {
        pool: "api",
        image: "one",
        size: 3,
        // The balancer looks every 3 s, and believes the second answer.
        min_ready_secs: 8,
        ready_secs: 20,
    };
    let site = Site::new(&cloud, folder.path(), &settings);
    let _daemon = site.start(None);
    site.settled("one").await;
    let url = site.balancer().await;
    let counts = Arc::new(Counts::default());
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(client(url.clone(), Arc::clone(&counts)));
    }

    // A manifest as a build leaves it.
    let image = site.json("/v2/images/two").await;
    let id = image.pointer("/image/id").unwrap().to_string();
    let manifest = folder.path().join("api-0.3.2.json");
    let text = json!({ "image": "api", "version": "0.3.2", "cloud": "local", "id": id }).to_string();
    std::fs::write(&manifest, text).unwrap();
    let said = site.rollout(&["--image", manifest.to_str().unwrap()]).await;
    assert!(
        said.starts_with("api: rollout to api 0.3.2 (image two ("),
        "{said}"
    );
    let status = site.settled("two").await;
    assert_eq!(status.pointer("/rollout/back"), Some(&json!(false)), "{status}");
    // All are of one generation, by their tags.
    let listing = cloud
        .provider("two", &[])
        .members_list(&PoolName("api".to_owned()))
        .await;
    let members: Vec<Member> = listing.unwrap().members;
    let generations: BTreeSet<_> = members.iter().map(|member| member.generation.clone()).collect();
    assert!(
        generations.len() == 1 && !generations.contains(&None),
        "{generations:?}"
    );

    let said = site.rollout(&["--undo"]).await;
    assert!(said.starts_with("api: rollback to image one"), "{said}");
    site.settled("one").await;

    // One that never gets ready stops by itself, and all old members go on serving meanwhile.
    site.rollout(&["--image", "broken"]).await;
    let started = Instant::now();
    loop {
        let serving = site.droplets().await.into_iter().filter(|droplet| {
            let tags = droplet.get("tags").and_then(Value::as_array).unwrap();
            droplet.pointer("/image/slug") == Some(&json!("one")) && tags.contains(&json!("serving:api"))
        });
        assert_eq!(serving.count(), settings.size);
        let status = site.status().await.unwrap();
        if status.pointer("/rollout/back") == Some(&json!(true)) {
            let cause = status.pointer("/rollout/cause").and_then(Value::as_str).unwrap();
            assert!(cause.starts_with("2 of 2 new members failed (api-"), "{cause}");
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{status:#}\n{}", site.log());
        tokio::time::sleep(LOOK_EVERY).await;
    }
    site.settled("one").await;

    clients.shutdown().await;
    let (done, failed) = (
        counts.done.load(Ordering::Relaxed),
        counts.failed.load(Ordering::Relaxed),
    );
    println!("{done} requests, {failed} failed");
    assert_eq!(failed, 0, "of {done}: {:?}", counts.first.lock().unwrap());
    assert!(done > 1000, "{done}");
}

/// One crash point: the daemon dies there while it replaces the members, and the next one goes on.
async fn play(site: Site, point: CrashPoint) {
    let mut first = site.start(None);
    let from = site.settled(if point.kind() == StepKind::PowerOff {
        "stubborn"
    } else {
        "one"
    });
    from.await;
    // Its lock is free when it is dead, not when it is dropped.
    first.kill().await.unwrap();
    // The answer may be lost: it dies as soon as it has kept the order, or later.
    let mut dying = site.start(Some(point));
    site.order_kept("two").await;
    let status = tokio::time::timeout(PATIENCE, dying.wait()).await;
    let status = status
        .unwrap_or_else(|_| panic!("it was to die at {point}\n{}", site.log()))
        .unwrap();
    // 6 is SIGABRT.
    assert_eq!(status.signal(), Some(6), "{point}: {status}\n{}", site.log());
    let _daemon = site.start(None);
    let status = site.settled("two").await;
    assert_eq!(
        status.pointer("/rollout/back"),
        Some(&json!(false)),
        "{point}: {status:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_each_step_of_a_rollout_it_goes_on_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some(cloud) = cloud(
        "killed_at_each_step_of_a_rollout_it_goes_on_with_it",
        folder.path(),
    ) else {
        return;
    };
    let points: Vec<CrashPoint> = CrashPoint::all().collect();
    for some in points.chunks(SIDE_BY_SIDE) {
        let mut playing = tokio::task::JoinSet::new();
        for point in some {
            let image = if point.kind() == StepKind::PowerOff {
                "stubborn"
            } else {
                "one"
            };
            let pool = point.to_string().replace([':', '_'], "-");
            let settings = Settings {
                pool: &pool,
                image,
                size: 2,
                min_ready_secs: 2,
                ready_secs: 120,
            };
            playing.spawn(play(Site::new(&cloud, folder.path(), &settings), *point));
        }
        while let Some(played) = playing.join_next().await {
            played.unwrap();
        }
    }
}
