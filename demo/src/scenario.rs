//! The story: everything is started, the load begins, a member loses its power (on the stack a database node, too), the
//! load ends, and what clients noticed is reported.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tidepool_load::{Generator, HIGH_MIDDLE, LoadConfig, LoadError, Shape, UnknownFound};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::cloud::CloudError;
use crate::files::{Backend, POOL, Pool};
use crate::guard::{Guard, GuardError, Watched};
use crate::mark::Mark;
use crate::place::{Place, PlaceError};
use crate::scaler::{self, Change, Observer};
use crate::services::{Services, ServicesError};
use crate::site::{Handles, Site, SiteError, Wanted};
use crate::stop::Stop;
use crate::summary::{Durability, Expected, NodeKill, Summary};
use crate::view::{Frame, Tone, View, clock};

/// Where in the run a Cassandra node is killed: after the power cut, still at high water.
const NODE_KILL_AT: f64 = 0.5;
/// The node that is killed.
const NODE_KILLED: u32 = 2;
/// Between two looks at the autoscaler; it ticks once a second.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// The autoscaler may be unreachable for so many looks in a row (10 s) before that is an error.
const LOOKS_LOST_MAX: u32 = 25;
/// How long after a tide the pool may still be busy coming back to its minimum.
const EBB_MAX: Duration = Duration::from_secs(20);
/// How long an answer is waited for: longer than the API itself ever takes to give up (25 s), so that its problem answer
/// is seen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Cassandra, Elasticsearch and Metricbeat instead of SQLite: the folder of the services' scripts.
    pub services: Option<PathBuf>,
    /// How long; `None`: until it is stopped.
    pub duration: Option<Duration>,
    /// The length of one tide.
    pub period: Duration,
    /// The load.
    pub shape: Shape,
    /// The pool.
    pub pool: Pool,
    /// Documents that exist before the load begins, so that reads and updates spread.
    pub documents_before: usize,
    /// Where the dashboard listens.
    pub dashboard: Option<SocketAddr>,
    /// Where files go; `None`: a temporary directory.
    pub work_dir: Option<PathBuf>,
    /// Leave a temporary directory where it is.
    pub keep: bool,
    /// What the run's processes are known by.
    pub mark: Mark,
}

/// The run could not be made, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The parts.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// The generator.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The local cloud.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// The real servers.
    #[error(transparent)]
    Services(#[from] ServicesError),
    /// The guard.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The autoscaler doesn't answer.
    #[error("the autoscaler's status can't be read: {reason}")]
    Status {
        /// Why.
        reason: String,
    },
}

/// A run that was made.
#[derive(Debug)]
pub struct Outcome {
    /// What was counted.
    pub summary: Summary,
    /// What keeps it from being a success.
    pub shortcomings: Vec<String>,
}

/// Makes a run; whatever it started is stopped when this returns.
pub async fn run(options: &Options, stop: &Stop, view: &mut View) -> Result<Outcome, RunError> {
    let place = Place::new(options.work_dir.as_deref())?;
    view.say(&format!(" Logs       {}", place.logs().display()));
    let watched = Watched {
        mark: options.mark.clone(),
        work_dir: place.path().to_path_buf(),
        services: options.services.clone(),
    };
    let guard = Guard::start(&watched, &place.logs())?;
    let mut site = Site::new(place).marked(options.mark.clone());
    let played = tokio::select! {
        played = play(options, &mut site, stop, view) => played,
        () = stop.now.cancelled() => Err(SiteError::Interrupted.into()),
    };
    view.close();
    if stop.gently.is_cancelled() {
        view.say(" Stopping everything; Ctrl-C once more to be quick about it.");
    }
    let (place, mut problems) = site.stop(stop).await;
    problems.extend(guard.release().await);
    for problem in &problems {
        view.say(&format!(" {problem}"));
    }
    let good = problems.is_empty()
        && played
            .as_ref()
            .is_ok_and(|outcome| outcome.shortcomings.is_empty());
    let interrupted = matches!(played, Err(RunError::Site(SiteError::Interrupted)));
    if options.keep || (options.work_dir.is_none() && !good && !interrupted) {
        view.say(&format!(
            " Everything that was written is kept in {}",
            place.keep().display()
        ));
    }
    played
}

async fn play(options: &Options, site: &mut Site, stop: &Stop, view: &mut View) -> Result<Outcome, RunError> {
    let backend = start_backend(options, site, stop, view).await?;
    view.say(" Starting   local cloud, load balancer, autoscaler, first members …");
    let wanted = Wanted {
        dashboard: options.dashboard,
        pool: options.pool,
    };
    let handles = site.start(&wanted, &backend, stop).await?;
    view.say(&format!(" Dashboard  {}", handles.dashboard));
    view.say(&format!(" API        {}/docs", handles.target));
    view.say("");
    let generator = Generator::new(LoadConfig {
        target: handles.target.clone(),
        collection: "tide".into(),
        run: "tide".into(),
        key: None,
        shape: options.shape,
        period: options.period,
        duration: options.duration,
        documents_before: options.documents_before,
        patience: PATIENCE,
        seed: 1,
    })?;
    generator.prepare().await?;
    let pool = handles
        .scaler
        .pool(POOL)
        .await
        .map_err(|reason| RunError::Status { reason })?;
    let mut run = RunState {
        options,
        handles,
        services: site.services().cloned(),
        observer: Observer::new(&pool),
        reason: pool
            .decisions
            .first()
            .map(|decision| decision.reason.clone())
            .unwrap_or_default(),
        pool,
        power_cuts: 0,
        power_cut_tried: false,
        node_killed_at: None,
        looks_lost: 0,
        generator,
    };
    run.load(site, stop, view).await?;
    run.report(stop, view).await
}

async fn start_backend(
    options: &Options,
    site: &mut Site,
    stop: &Stop,
    view: &mut View,
) -> Result<Backend, RunError> {
    let Some(scripts) = &options.services else {
        return Ok(Backend::Embedded);
    };
    view.say(
        " Starting   three Cassandra nodes, Elasticsearch, Metricbeat (the first time they are fetched) …",
    );
    let services = Services::new(
        scripts,
        site.place().path().join("services"),
        &site.place().logs(),
    )?
    .marked(options.mark.clone());
    site.with_services(services.clone());
    let endpoints = tokio::select! {
        endpoints = services.up() => endpoints?,
        () = stop.gently.cancelled() => return Err(SiteError::Interrupted.into()),
    };
    view.say(&format!(" Database   Cassandra on {}", endpoints.cassandra_hosts));
    view.say(&format!(" Metrics    {}", endpoints.elasticsearch_url));
    Ok(Backend::Stack(endpoints))
}

/// A run under way.
struct RunState<'a> {
    options: &'a Options,
    handles: Handles,
    services: Option<Services>,
    generator: Generator,
    observer: Observer,
    pool: scaler::Pool,
    reason: String,
    power_cuts: u32,
    power_cut_tried: bool,
    node_killed_at: Option<Duration>,
    looks_lost: u32,
}

impl RunState<'_> {
    /// Runs the load to its end, and looks at everything meanwhile.
    async fn load(&mut self, site: &mut Site, stop: &Stop, view: &mut View) -> Result<(), RunError> {
        view.load_begins();
        let load_stop = stop.gently.child_token();
        let generator = self.generator.clone();
        let load = tokio::spawn({
            let load_stop = load_stop.clone();
            async move { generator.run(&load_stop).await }
        });
        let end_load = load_stop.drop_guard();
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !load.is_finished() {
            ticks.tick().await;
            site.check().map_err(SiteError::from)?;
            self.look(view).await?;
            self.faults(view).await?;
        }
        drop(end_load);
        self.ebb(stop, view).await
    }

    /// After a tide the pool may need a moment more to come back to its minimum.
    async fn ebb(&mut self, stop: &Stop, view: &mut View) -> Result<(), RunError> {
        let deadline = Instant::now() + EBB_MAX;
        self.look(view).await?;
        while self.options.is_tide()
            && !stop.gently.is_cancelled()
            && self.observer.members_end != self.options.pool.min
        {
            if Instant::now() >= deadline {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            self.look(view).await?;
        }
        Ok(())
    }

    async fn look(&mut self, view: &mut View) -> Result<(), RunError> {
        match self.handles.scaler.pool(POOL).await {
            Ok(pool) => {
                self.looks_lost = 0;
                for change in self.observer.look(&pool) {
                    self.report_change(&change, view);
                }
                if let Some(decision) = pool.decisions.first() {
                    self.reason.clone_from(&decision.reason);
                }
                self.pool = pool;
            }
            Err(reason) => {
                self.looks_lost += 1;
                if self.looks_lost > LOOKS_LOST_MAX {
                    return Err(RunError::Status { reason });
                }
            }
        }
        view.show(&self.frame());
        Ok(())
    }

    fn frame(&self) -> Frame {
        Frame {
            elapsed: self.generator.elapsed(),
            duration: self.options.duration,
            shape: self.options.shape,
            period: self.options.period,
            offered_per_sec: self.generator.offered_per_sec(),
            figures: self.generator.figures(),
            states: self
                .pool
                .members
                .iter()
                .map(|member| member.state.clone())
                .collect(),
            desired: self.pool.desired,
            reason: self.reason.clone(),
        }
    }

    fn decided(&self, from: u32, to: u32, reason: &str) -> String {
        let load = self.generator.offered_per_sec();
        // The autoscaler's own words; without them at least the figures.
        if reason.is_empty() {
            return format!("load {load:.0}/s: from {from} to {to} members");
        }
        format!("load {load:.0}/s: {reason}")
    }

    fn report_change(&self, change: &Change, view: &View) {
        match change {
            Change::Out { from, to, reason } => view.event(Tone::Out, &self.decided(*from, *to, reason)),
            Change::In { from, to, reason } => view.event(Tone::In, &self.decided(*from, *to, reason)),
            Change::Member { name, state } => {
                let words = match state.as_str() {
                    "booting" => "is created and boots",
                    "ready" => "is ready",
                    "serving" => "serves",
                    "unready" => "is not ready any more",
                    "draining" => "leaves the load balancer and is drained",
                    "off" => "is off; if it stays so, it is replaced",
                    "dead" => "is dead; it is replaced",
                    other => other,
                };
                let tone = if state == "dead" { Tone::Alarm } else { Tone::Quiet };
                view.event(tone, &format!("{name} {words}"));
            }
            Change::Gone { name } => view.event(Tone::Quiet, &format!("{name} is gone")),
            Change::Error { reason } => {
                view.event(Tone::Alarm, &format!("the autoscaler's tick failed: {reason}"))
            }
        }
    }

    async fn faults(&mut self, view: &View) -> Result<(), RunError> {
        let elapsed = self.generator.elapsed();
        if !self.power_cut_tried && elapsed >= self.options.period.mul_f64(HIGH_MIDDLE) {
            self.power_cut(view).await?;
        }
        if let Some(services) = &self.services
            && self.node_killed_at.is_none()
            && elapsed >= self.options.period.mul_f64(NODE_KILL_AT)
        {
            // Failures count from before the kill, so that none escapes the bound on its time.
            self.node_killed_at = Some(elapsed);
            services.kill_cassandra_node(NODE_KILLED).await?;
            view.event(
                Tone::Alarm,
                &format!("Cassandra node {NODE_KILLED} of 3 is killed with -9"),
            );
        }
        Ok(())
    }

    /// Cuts the power of the serving member with the most requests in flight.
    async fn power_cut(&mut self, view: &View) -> Result<(), RunError> {
        let balancer = self.handles.cloud.balancer(&self.handles.balancer).await?;
        let serving = balancer.members.iter().filter(|member| member.state == "healthy");
        let in_flight = |member: &&crate::cloud::BalancerMember| {
            member
                .rest
                .get("in_flight")
                .and_then(serde_json::Value::as_u64)
                .unwrap_or(0)
        };
        // With nobody serving there is nothing to cut yet: the next look tries again.
        let Some(member) = serving.max_by_key(in_flight).map(|member| member.droplet_id) else {
            return Ok(());
        };
        let id = member.to_string();
        let name = self
            .pool
            .members
            .iter()
            .find(|known| known.id == id)
            .map_or(id.clone(), |known| known.name.clone());
        self.power_cut_tried = true;
        self.generator.power_cut_begins(id);
        let cut = self.handles.cloud.power_cut(member).await;
        self.generator.power_cut_done();
        cut?;
        self.power_cuts += 1;
        view.event(Tone::Alarm, &format!("{name}, which serves, loses its power"));
        Ok(())
    }

    /// Reads back what has to be, and reports the outcome.
    async fn report(self, stop: &Stop, view: &View) -> Result<Outcome, RunError> {
        let figures = self.generator.figures();
        let ended_early = stop.gently.is_cancelled()
            && self
                .options
                .duration
                .is_some_and(|all| self.generator.elapsed() < all);
        view.event(
            Tone::Plain,
            &format!("the load ends after {} requests", figures.requests),
        );
        let mut damaged = 0;
        for UnknownFound { id, stored, detail } in self.generator.unknown_found().await {
            damaged += u32::from(stored.is_none());
            view.event(
                Tone::Plain,
                &format!("POST of {id} was in flight when the power went: {detail}"),
            );
        }
        let durability = match self.services {
            Some(_) => Some(self.read_back(view).await),
            None => None,
        };
        let summary = Summary {
            requests: figures.requests,
            failed: figures.failed,
            unknown: figures.unknown,
            members_min: self.observer.members_min,
            members_max: self.observer.members_max,
            members_end: self.observer.members_end,
            scale_outs: self.observer.scale_outs,
            scale_ins: self.observer.scale_ins,
            power_cuts: self.power_cuts,
            p99_ms: (figures.p99_ms * 10.0).round() / 10.0,
            durability,
        };
        let mut shortcomings = self.shortcomings(&summary);
        if ended_early {
            shortcomings.push("it was interrupted before its time".into());
        }
        if damaged > 0 {
            shortcomings.push(format!(
                "{damaged} unknown documents could not be read back whole"
            ));
        }
        self.report_failures(view);
        Ok(Outcome {
            summary,
            shortcomings,
        })
    }

    /// A run without an end is judged by what clients saw only; where in the tide it was stopped is up to the user.
    fn shortcomings(&self, summary: &Summary) -> Vec<String> {
        if self.options.duration.is_none() {
            let mut found = Vec::new();
            if summary.failed > 0 && self.node_killed_at.is_none() {
                found.push(format!("{} requests failed", summary.failed));
            }
            return found;
        }
        let node_kill = self.node_killed_at.map(|at| {
            self.generator.with_tally(|tally| NodeKill {
                last_failure_after_secs: tally
                    .last_failed_at()
                    .map(|last| last.as_secs_f64() - at.as_secs_f64()),
                failed_without_problem: tally.failed_without_problem(),
            })
        });
        summary.shortcomings(&Expected {
            tide: self.options.is_tide(),
            pool_min: self.options.pool.min,
            node_kill,
        })
    }

    async fn read_back(&self, view: &View) -> Durability {
        view.event(Tone::Plain, "reading back every acknowledged write …");
        let found = self.generator.read_back().await;
        for note in &found.notes {
            view.event(Tone::Alarm, note);
        }
        let tone = if found.lost == 0 { Tone::Good } else { Tone::Alarm };
        let (acknowledged, read_back, lost) = (found.acknowledged, found.read_back, found.lost);
        view.event(
            tone,
            &format!("{acknowledged} acknowledged, {read_back} read back, {lost} lost"),
        );
        Durability {
            acknowledged,
            read_back,
            lost,
        }
    }

    fn report_failures(&self, view: &View) {
        self.generator.with_tally(|tally| {
            for (reason, count) in tally.reasons() {
                view.event(Tone::Alarm, &format!("{count} × {reason}"));
            }
            if let Some(first) = tally.notes().first() {
                view.event(Tone::Alarm, &format!("the first of them at {}", clock(first.at)));
            }
        });
    }
}

impl Options {
    fn is_tide(&self) -> bool {
        matches!(self.shape, Shape::Tide { .. })
    }
}

/// The generator alone, against somebody else's target.
pub async fn load_only(config: LoadConfig, stop: &CancellationToken) -> Result<Generator, LoadError> {
    let generator = Generator::new(config)?;
    generator.prepare().await?;
    generator.run(stop).await;
    Ok(generator)
}
