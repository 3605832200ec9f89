//! The autoscaler, killed at each step of a scale-out and a scale-in and started again: no orphan, no duplicate.
//!
//! The real program against the real local cloud. Crash points are enumerated from the plan's own kinds of step, and each
//! must be reached: a new kind that no scenario here comes to makes the test fail.

#![expect(clippy::unwrap_used, reason = "tests")]

mod local_cloud;

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tidepool_autoscaler::apply::CrashPoint;
use tidepool_autoscaler::provider::Provider;
use tidepool_autoscaler::provider::digitalocean::DigitalOcean;
use tidepool_autoscaler_core::observe::{Member, PoolName, Power};
use tidepool_autoscaler_core::outcome::StepKind;

use self::local_cloud::LocalCloud;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidepool-autoscaler");
/// A crash, or order after it, comes within this on a busy machine, too.
const PATIENCE: Duration = Duration::from_secs(120);
/// Twice a second are 120 calls a minute, of the 240 that the provider allows itself.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Scenarios side by side; they mostly wait for ticks.
const SIDE_BY_SIDE: usize = 8;
const LOW: u32 = 2;
const HIGH: u32 = 3;

/// Ends a program that the test started, whatever comes.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Running {
    fn terminate(mut self) -> ExitStatus {
        let asked = Command::new("kill")
            .arg("-TERM")
            .arg(self.0.id().to_string())
            .status()
            .unwrap();
        assert!(asked.success());
        self.ended(|| "it was asked to stop".to_owned())
    }

    fn ended(&mut self, why: impl Fn() -> String) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "it still runs, although {}", why());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn image(more: &str) -> String {
    format!(
        "[[process]]\nname = \"host\"\nprogram = \"self\"\n\
         args = [\"test-host\", \"--listen\", \"{{ip}}:8080\", \"--ops-listen\", \"{{ip}}:9090\"{more}]\n"
    )
}

/// One crash point's own pool and daemon.
struct Scenario {
    point: CrashPoint,
    dir: PathBuf,
    pool: PoolName,
    provider: DigitalOcean,
    runtime: tokio::runtime::Runtime,
}

impl Scenario {
    fn new(cloud: &LocalCloud, folder: &Path, point: CrashPoint) -> Scenario {
        let pool = point.to_string().replace([':', '_'], "-");
        let dir = folder.join(&pool);
        std::fs::create_dir_all(&dir).unwrap();
        // Only a member that doesn't stop when it is asked to has its power cut.
        let image = if point.kind() == StepKind::PowerOff {
            "stubborn"
        } else {
            "host"
        };
        let config = format!(
            r#"
                tick_secs = 1
                state_dir = "state"
                metrics = "scrape"
                status.listen = "127.0.0.1:0"
                digitalocean = {{ base_url = "{}", token_env = "TOKEN" }}
                [[pool]]
                name = "{pool}"
                min = {LOW}
                max = {HIGH}
                digitalocean = {{ region = "fra1", size = "s-1vcpu-1gb", image = "{image}" }}
                policy = [{{ preset = "cpu", target = 0.5 }}]
                limits = {{ out_period_secs = 0, in_period_secs = 0 }}
                # Power is cut between this and twice this: three ticks, so that late ones do no harm.
                life = {{ create_settle_secs = 5, withdraw_settle_secs = 1, drain_secs = 10, shutdown_secs = 3 }}
            "#,
            cloud.url
        );
        std::fs::write(dir.join("autoscaler.toml"), config).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Scenario {
            point,
            dir,
            pool: PoolName(pool),
            provider: cloud.provider(image, &[]),
            runtime,
        }
    }

    /// Says how many members there shall be, as `scale` would.
    fn resize(&self, size: u32) {
        let state = self.dir.join("state");
        std::fs::create_dir_all(&state).unwrap();
        let word = format!(r#"{{"control":{{"kind":"manual","size":{size}}}}}"#);
        std::fs::write(state.join(format!("{}.control.json", self.pool)), word).unwrap();
    }

    fn start(&self, crash: Option<CrashPoint>) -> Running {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .unwrap();
        let mut command = Command::new(PROGRAM);
        command
            .arg("run")
            .arg("--config")
            .arg(self.dir.join("autoscaler.toml"));
        command
            .env("TOKEN", "any")
            .env_remove(CrashPoint::VARIABLE)
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(point) = crash {
            command.env(CrashPoint::VARIABLE, point.to_string());
        }
        Running(command.spawn().unwrap())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap()
    }

    fn members(&self) -> Vec<Member> {
        self.runtime
            .block_on(self.provider.members_list(&self.pool))
            .unwrap()
            .members
    }

    /// Waits until exactly `size` members run and serve, none leaves, and no two have one name; then makes sure that it
    /// stays so for a few ticks.
    fn in_order(&self, size: u32) {
        let orderly = |members: &[Member]| {
            let names: BTreeSet<_> = members.iter().map(|m| &m.name).collect();
            let well = |m: &Member| m.power == Power::Running && m.serving && !m.draining;
            members.len() == size as usize && names.len() == members.len() && members.iter().all(well)
        };
        let started = Instant::now();
        loop {
            let members = self.members();
            if orderly(&members) {
                break;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{}: not {size} in order: {members:#?}\n{}",
                self.point,
                self.log()
            );
            std::thread::sleep(LOOK_EVERY);
        }
        let ticks = self.ticks();
        while self.ticks() < ticks + 3 {
            let members = self.members();
            assert!(
                orderly(&members),
                "{}: no longer in order: {members:#?}\n{}",
                self.point,
                self.log()
            );
            assert!(
                started.elapsed() < PATIENCE,
                "{}: no more ticks\n{}",
                self.point,
                self.log()
            );
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// When the daemon kept its memory last, in whole seconds: it does so in every tick.
    fn ticks(&self) -> i64 {
        let text = std::fs::read(self.dir.join("state").join(format!("{}.memory.json", self.pool))).unwrap();
        let memory: serde_json::Value = serde_json::from_slice(&text).unwrap();
        memory
            .get("last_tick")
            .and_then(serde_json::Value::as_i64)
            .unwrap()
            / 1000
    }

    fn crash(&self) {
        let status = self
            .start(Some(self.point))
            .ended(|| format!("it was to die at {}\n{}", self.point, self.log()));
        // 6 is SIGABRT.
        assert_eq!(
            status.signal(),
            Some(6),
            "{}: {status}\n{}",
            self.point,
            self.log()
        );
    }

    fn play(&self) {
        let outwards = match self.point.kind() {
            StepKind::Admit | StepKind::Create => true,
            StepKind::MarkDraining
            | StepKind::Withdraw
            | StepKind::Drain
            | StepKind::Shutdown
            | StepKind::PowerOff
            | StepKind::Destroy => false,
        };
        self.resize(HIGH);
        if outwards {
            self.crash();
        }
        let daemon = self.start(None);
        self.in_order(HIGH);
        if !outwards {
            assert!(daemon.terminate().success(), "{}", self.log());
            self.resize(LOW);
            self.crash();
            let _daemon = self.start(None);
            self.in_order(LOW);
        }
    }
}

#[test]
fn killed_at_each_step_and_started_again_it_leaves_no_orphan_and_no_duplicate() {
    let folder = tempfile::tempdir().unwrap();
    let images = [("host", &*image("")), ("stubborn", &*image(", \"--stubborn\""))];
    let Some(cloud) = LocalCloud::start("crash_points", folder.path(), &images) else {
        return;
    };
    let points: Vec<CrashPoint> = CrashPoint::all().collect();
    for some in points.chunks(SIDE_BY_SIDE) {
        std::thread::scope(|scope| {
            let threads: Vec<_> = some
                .iter()
                .map(|point| scope.spawn(|| Scenario::new(&cloud, folder.path(), *point).play()))
                .collect();
            for thread in threads {
                if let Err(panic) = thread.join() {
                    std::panic::resume_unwind(panic);
                }
            }
        });
    }
}

#[test]
fn a_second_daemon_with_the_same_state_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = tidepool_autoscaler::state::StateDir::open(&dir.path().join("state")).unwrap();
    let _lease = state.lease().unwrap();
    let config = r#"
        state_dir = "state"
        metrics = "scrape"
        status.listen = "127.0.0.1:0"
        digitalocean = { base_url = "http://127.0.0.1:9", token_env = "TOKEN" }
        [[pool]]
        name = "api"
        min = 1
        max = 1
        digitalocean = { region = "fra1", size = "s-1vcpu-1gb", image = "host" }
    "#;
    std::fs::write(dir.path().join("autoscaler.toml"), config).unwrap();
    let output = Command::new(PROGRAM)
        .args(["run", "--config"])
        .arg(dir.path().join("autoscaler.toml"))
        .env("TOKEN", "any")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("another tidepool-autoscaler runs with the state directory"),
        "{text}"
    );
}
