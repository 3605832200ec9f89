//! Everything that runs during a demo: local cloud, load balancer, autoscaler, and for the stack the database and
//! Elasticsearch. Started in order, checked on, stopped in the opposite order.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::children::{ChildError, Program, Running, sibling, sibling_dir};
use crate::cloud::{BalancerState, Cloud, CloudError};
use crate::files::{self, Backend, POOL, Pool};
use crate::mark::Mark;
use crate::place::{Place, PlaceError};
use crate::scaler::{self, Scaler};
use crate::services::{Services, ServicesError};
use crate::stop::Stop;

/// The load balancer's port; its address is its own.
const ENTRY_PORT: u16 = 8080;
/// How long the local cloud and the autoscaler may take to answer: they do within a second; a busy machine needs more.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// How long the first members may take until they serve: 2 s to boot, health checks, and on a stack the database's schema.
const SERVES_WITHIN: Duration = Duration::from_secs(120);
/// Between two looks while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long the autoscaler may take to end its tick.
const SCALER_STOPS_WITHIN: Duration = Duration::from_secs(20);
/// How long the local cloud may take to shut its droplets down.
const CLOUD_STOPS_WITHIN: Duration = Duration::from_secs(20);

/// The site can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// A program.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// The local cloud.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// A file.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A real server.
    #[error(transparent)]
    Services(#[from] ServicesError),
    /// An HTTP client.
    #[error("an HTTP client can't be set up")]
    Client {
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// A wait was over.
    #[error("{what} took longer than {secs} s{detail}; the logs are in {}", .logs.display())]
    TooLong {
        /// What was waited for.
        what: &'static str,
        /// The bound.
        secs: u64,
        /// What was seen last.
        detail: String,
        /// Where the logs are.
        logs: PathBuf,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

/// What to set up.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where the dashboard listens; `None`: a free port.
    pub dashboard: Option<std::net::SocketAddr>,
    /// The pool.
    pub pool: Pool,
}

/// See the module. Filled step by step, so that whatever was started is stopped, also after a failure in the middle.
#[derive(Debug)]
pub struct Site {
    place: Place,
    mark: Option<Mark>,
    services: Option<Services>,
    cloud_process: Option<Running>,
    scaler_process: Option<Running>,
}

/// What the load and the view talk to.
#[derive(Debug, Clone)]
pub struct Handles {
    /// The local cloud.
    pub cloud: Cloud,
    /// The autoscaler.
    pub scaler: Scaler,
    /// The load balancer's id.
    pub balancer: String,
    /// Where clients send requests.
    pub target: String,
    /// Where the dashboard is.
    pub dashboard: String,
}

impl Site {
    /// Nothing runs yet.
    pub fn new(place: Place) -> Self {
        Self {
            place,
            mark: None,
            services: None,
            cloud_process: None,
            scaler_process: None,
        }
    }

    /// Marks what it starts, for the guard.
    pub fn marked(mut self, mark: Mark) -> Self {
        self.mark = Some(mark);
        self
    }

    /// Its directory.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The real servers in use.
    pub fn services(&self) -> Option<&Services> {
        self.services.as_ref()
    }

    /// Uses real servers, which [`Self::stop`] will stop.
    pub fn with_services(&mut self, services: Services) {
        self.services = Some(services);
    }

    /// Starts the local cloud and makes the load balancer.
    pub async fn start_cloud(
        &mut self,
        backend: &Backend,
        stop: &Stop,
    ) -> Result<(Cloud, String, String), SiteError> {
        let images = files::write_images(&self.place, backend)?;
        sibling("tidepool-api")?;
        let mut env = vec![(
            "BIN_DIR".to_owned(),
            sibling_dir()?.to_string_lossy().into_owned(),
        )];
        if let Backend::Stack(endpoints) = backend {
            env.push((
                "METRICBEAT".to_owned(),
                endpoints.metricbeat.to_string_lossy().into_owned(),
            ));
        }
        env.extend(self.mark.as_ref().map(Mark::variable));
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let process = Running::start(Program {
            name: "local-cloud",
            path: sibling("tidepool-local-cloud")?,
            args: [
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--hosts",
                "process",
                "--stop-grace-secs",
                "10",
                "--images",
                &text(images),
                "--state",
                &text(self.place.path().join("cloud")),
            ]
            .map(str::to_owned)
            .to_vec(),
            env,
            logs: &self.place.logs(),
        })?;
        let log = process.log().to_path_buf();
        self.cloud_process = Some(process);
        let base = self.wait("starting the local cloud", ANSWERS_WITHIN, stop, async || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let address = said.lines().find_map(|line| line.strip_prefix("listening on "));
            address.map(str::to_owned).ok_or_else(String::new)
        });
        let cloud = Cloud::new(base.await?, files::TOKEN.to_owned())?;
        let tag = format!("serving:{POOL}");
        cloud.create_tag(&tag).await?;
        let balancer = cloud.create_balancer("tide", &tag, ENTRY_PORT).await?;
        let state: BalancerState = cloud.balancer(&balancer).await?;
        let target = format!("http://{}:{}", state.ip, state.port.unwrap_or(ENTRY_PORT));
        Ok((cloud, balancer, target))
    }

    /// Starts everything and waits until the pool serves at its minimum.
    pub async fn start(
        &mut self,
        wanted: &Wanted,
        backend: &Backend,
        stop: &Stop,
    ) -> Result<Handles, SiteError> {
        let (cloud, balancer, target) = self.start_cloud(backend, stop).await?;
        let status = match wanted.dashboard {
            Some(address) => address,
            None => files::free_address()?,
        };
        let mut env = vec![(files::TOKEN_ENV.to_owned(), files::TOKEN.to_owned())];
        env.extend(self.mark.as_ref().map(Mark::variable));
        let config = files::write_scaler_config(&self.place, &cloud, status, &wanted.pool, backend)?;
        self.scaler_process = Some(Running::start(Program {
            name: "autoscaler",
            path: sibling("tidepool-autoscaler")?,
            args: ["run", "--config", &config.to_string_lossy()]
                .map(str::to_owned)
                .to_vec(),
            env,
            logs: &self.place.logs(),
        })?);
        let dashboard = format!("http://{status}");
        let scaler = Scaler::new(dashboard.clone()).map_err(|source| SiteError::Client { source })?;
        self.wait("starting the autoscaler", ANSWERS_WITHIN, stop, async || {
            scaler.pool(POOL).await.map(drop)
        })
        .await?;
        self.wait("starting the first members", SERVES_WITHIN, stop, async || {
            settled(&cloud, &scaler, &balancer).await
        })
        .await?;
        Ok(Handles {
            cloud,
            scaler,
            balancer,
            target,
            dashboard,
        })
    }

    /// An error if a program ended by itself.
    pub fn check(&mut self) -> Result<(), ChildError> {
        for process in [&mut self.cloud_process, &mut self.scaler_process]
            .into_iter()
            .flatten()
        {
            process.check()?;
        }
        Ok(())
    }

    /// Looks again and again until `look` succeeds; its error is what was seen.
    async fn wait<T>(
        &mut self,
        what: &'static str,
        within: Duration,
        stop: &Stop,
        look: impl AsyncFn() -> Result<T, String>,
    ) -> Result<T, SiteError> {
        let deadline = Instant::now() + within;
        loop {
            self.check()?;
            let seen = match look().await {
                Ok(found) => return Ok(found),
                Err(seen) => seen,
            };
            if Instant::now() >= deadline {
                let detail = if seen.is_empty() {
                    seen
                } else {
                    format!(" ({seen})")
                };
                return Err(SiteError::TooLong {
                    what,
                    secs: within.as_secs(),
                    detail,
                    logs: self.place.logs(),
                });
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.gently.cancelled() => return Err(SiteError::Interrupted),
            }
        }
    }

    /// Stops everything that was started, in the opposite order; gives the directory back. Problems are returned as text: they
    /// come on top of whatever ended the run.
    pub async fn stop(mut self, stop: &Stop) -> (Place, Vec<String>) {
        let mut problems = Vec::new();
        let mut killed = |name: &str| problems.push(format!("{name} did not end when asked and was killed"));
        if let Some(scaler) = self.scaler_process.take()
            && scaler.stop(SCALER_STOPS_WITHIN, &stop.now).await.is_none()
        {
            killed("the autoscaler");
        }
        if let Some(cloud) = self.cloud_process.take()
            && cloud.stop(CLOUD_STOPS_WITHIN, &stop.now).await.is_none()
        {
            killed("the local cloud (its guard ends its droplets)");
        }
        if let Some(services) = self.services.take()
            && let Err(error) = services.down().await
        {
            problems.push(error.to_string());
        }
        (self.place, problems)
    }
}

/// Whether the pool serves at its minimum, in the eyes of both the autoscaler and the load balancer.
async fn settled(cloud: &Cloud, scaler: &Scaler, balancer: &str) -> Result<(), String> {
    let pool: scaler::Pool = scaler.pool(POOL).await?;
    let healthy = cloud
        .balancer(balancer)
        .await
        .map_err(|error| error.to_string())?
        .healthy()
        .len();
    if pool.serving == pool.min && pool.planned == pool.min && healthy == pool.min as usize {
        return Ok(());
    }
    let error = pool
        .last_error
        .map(|error| format!("; {error}"))
        .unwrap_or_default();
    Err(format!(
        "{} of {} members serve, {healthy} have passed their checks{error}",
        pool.serving, pool.min
    ))
}
