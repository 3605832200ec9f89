//! Sends the schedule's requests, each in a task of its own, and judges the answers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::LoadError;
use super::arrivals::{Arrival, Arrivals, Kind};
use super::ledger::{Ledger, Read, Write, body};
use super::shape::Shape;
use super::tally::{Ended, Figures, LATE_AFTER, Tally, Verdict};
use super::wire::{Answer, NoAnswer, Wire, exchange};

/// Requests in flight at once: the demo's high tide of 340 a second times the 5 s after which an answer is late, with a
/// fifth to spare. One more is not sent and counts as failed; it isn't dropped silently.
const IN_FLIGHT_MAX: usize = 2_048;
/// Documents a list asks for.
const LIST_LIMIT: usize = 20;
/// How long one request of the preparation may take.
const PREPARE_PATIENCE: Duration = Duration::from_secs(10);

/// What to send where.
#[derive(Debug, Clone)]
pub struct LoadConfig {
    /// The balancer's base address, such as `http://127.0.0.1:8080`.
    pub target: String,
    /// The collection that is written; made if it isn't there.
    pub collection: String,
    /// Begins every document's id: letters, digits, `_`, `.`, `~`, `-`.
    pub run: String,
    /// A key for the API, if it wants one.
    pub key: Option<String>,
    /// The load over time.
    pub shape: Shape,
    /// The length of one tide.
    pub period: Duration,
    /// How long; `None`: until it is stopped.
    pub duration: Option<Duration>,
    /// Documents written before the load begins.
    pub documents_before: usize,
    /// How long an answer is waited for, from the intended time. Longer than 5 s, after which it counts as failed anyway,
    /// so that it is seen what comes.
    pub patience: Duration,
    /// Makes the schedule repeatable.
    pub seed: u64,
}

/// See the module. A clone is another handle of the same generator.
#[derive(Debug, Clone)]
pub struct Generator {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: LoadConfig,
    pub(super) wire: Wire,
    ledger: Mutex<Ledger>,
    tally: Mutex<Tally>,
    random: Mutex<StdRng>,
    in_flight: Arc<Semaphore>,
    started: Mutex<Option<Instant>>,
}

/// One request with what its answer is checked against.
enum Order {
    Get(Read),
    Put(Write),
    Post(Write),
    List(Option<String>),
}

impl Generator {
    /// Sends nothing yet.
    pub fn new(config: LoadConfig) -> Result<Self, LoadError> {
        let wire = Wire::new(&config.target, &config.collection, config.key.clone())?;
        let tally = Tally::new().map_err(|error| LoadError::Histogram {
            reason: error.to_string(),
        })?;
        let shared = Shared {
            wire,
            ledger: Mutex::new(Ledger::new(config.run.clone())),
            tally: Mutex::new(tally),
            random: Mutex::new(StdRng::seed_from_u64(config.seed)),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
            started: Mutex::new(None),
            config,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Makes the collection and the first documents. These requests are not part of the count.
    pub async fn prepare(&self) -> Result<(), LoadError> {
        let shared = &self.shared;
        let answer = exchange(shared.wire.put_collection(), PREPARE_PATIENCE).await;
        succeeded("making the collection", answer)?;
        // As fast as the load begins, so that nobody takes the preparation for a load of its own.
        let pause = Duration::from_secs_f64(1.0 / shared.config.shape.rate_at(0.0));
        let mut due = Instant::now();
        for _ in 0..shared.config.documents_before {
            sleep_until(due).await;
            due += pause;
            self.prepare_document().await?;
        }
        Ok(())
    }

    async fn prepare_document(&self) -> Result<(), LoadError> {
        let shared = &self.shared;
        let (write, id, data) = {
            let mut ledger = shared.ledger();
            let write = ledger.begin_create();
            (write, ledger.id(write.index), ledger.data(write))
        };
        // A PUT, so that a balancer may try it again.
        let answer = exchange(shared.wire.put(&id, &body(None, data)), PREPARE_PATIENCE).await;
        succeeded("writing the first documents", answer)?;
        shared.ledger().acknowledge(write);
        Ok(())
    }

    /// Sends the load until its duration is over or `stop` is cancelled, and waits for the last answers.
    pub async fn run(&self, stop: &CancellationToken) {
        let shared = &self.shared;
        let start = shared.start();
        let tasks = TaskTracker::new();
        for arrival in Arrivals::new(shared.config.shape, shared.config.period, shared.config.seed) {
            if shared
                .config
                .duration
                .is_some_and(|duration| arrival.at >= duration)
            {
                break;
            }
            tokio::select! {
                () = sleep_until(start + arrival.at) => {}
                () = stop.cancelled() => break,
            }
            shared.tally().begin();
            match Arc::clone(&shared.in_flight).try_acquire_owned() {
                Ok(permit) => {
                    let shared = Arc::clone(shared);
                    tasks.spawn(async move {
                        shared.serve(arrival).await;
                        drop(permit);
                    });
                }
                Err(_) => shared.refuse(arrival),
            }
        }
        tasks.close();
        // Bounded by the patience of each request.
        tasks.wait().await;
    }

    /// How long the load has been running.
    pub fn elapsed(&self) -> Duration {
        self.shared.elapsed()
    }

    /// The rate that the schedule has now.
    pub fn offered_per_sec(&self) -> f64 {
        let config = &self.shared.config;
        config
            .shape
            .rate_at(self.elapsed().as_secs_f64() / config.period.as_secs_f64())
    }

    /// The figures as of now.
    pub fn figures(&self) -> Figures {
        self.shared.tally().figures(self.elapsed())
    }

    /// Looks at the counts.
    pub fn with_tally<T>(&self, look: impl FnOnce(&Tally) -> T) -> T {
        look(&self.shared.tally())
    }

    /// To be called just before a member's power is cut: creates that break from now on may be *unknown*.
    pub fn power_cut_begins(&self, member: String) {
        let now = self.elapsed();
        self.shared.tally().power_cut_begins(member, now);
    }

    /// To be called as soon as the power is off: creates that are sent from now on can't have been on that member.
    pub fn power_cut_done(&self) {
        let now = self.elapsed();
        self.shared.tally().power_cut_done(now);
    }
}

impl Shared {
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> Instant {
        *self
            .started
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(Instant::now)
    }

    fn elapsed(&self) -> Duration {
        self.started
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .map_or(Duration::ZERO, |start| start.elapsed())
    }

    fn refuse(&self, arrival: Arrival) {
        let now = self.elapsed();
        let reason = format!("not sent, {IN_FLIGHT_MAX} were in flight");
        let verdict = Verdict::Failed {
            reason,
            problem: false,
        };
        self.tally().end(Ended {
            kind: arrival.kind,
            intended: arrival.at,
            sent: now,
            ended: now,
            verdict,
        });
    }

    async fn serve(&self, arrival: Arrival) {
        let order = self.order(arrival.kind);
        let request = match &order {
            Order::Get(read) => self.wire.get(&self.ledger().id(read.index)),
            Order::Put(write) => {
                let (id, data) = self.content(*write);
                self.wire.put(&id, &body(None, data))
            }
            Order::Post(write) => {
                let (id, data) = self.content(*write);
                self.wire.post(&body(Some(&id), data))
            }
            Order::List(token) => self.wire.list(LIST_LIMIT, token.as_deref()),
        };
        let sent = self.elapsed();
        let patience = (arrival.at + self.config.patience).saturating_sub(sent);
        let outcome = exchange(request, patience).await;
        let ended = self.elapsed();
        let verdict = self.judge(order, outcome);
        self.tally().end(Ended {
            kind: arrival.kind,
            intended: arrival.at,
            sent,
            ended,
            verdict,
        });
    }

    fn order(&self, kind: Kind) -> Order {
        let mut ledger = self.ledger();
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        match kind {
            Kind::Get => ledger.begin_read(&mut *random).map(Order::Get),
            Kind::Put => ledger.begin_update(&mut *random).map(Order::Put),
            Kind::Post => Some(Order::Post(ledger.begin_create())),
            // Every other list goes on where the last page ended; the others begin anew.
            Kind::List if random.random() => Some(Order::List(ledger.take_page_token())),
            Kind::List => Some(Order::List(None)),
        }
        // Only without any free document: a first page is a read that is always possible.
        .unwrap_or(Order::List(None))
    }

    fn content(&self, write: Write) -> (String, serde_json::Value) {
        let ledger = self.ledger();
        (ledger.id(write.index), ledger.data(write))
    }

    fn judge(&self, order: Order, outcome: Result<Answer, NoAnswer>) -> Verdict {
        let (reason, problem, member, cut_off) = match outcome {
            Ok(answer) if answer.is_success() => match self.check(&order, &answer) {
                Ok(()) => return Verdict::Good,
                Err(reason) => (reason, false, None, false),
            },
            // A balancer's own words for a member that broke off are 502 and 504.
            Ok(answer) => {
                let cut_off = matches!(answer.status, 502 | 504);
                (
                    format!("status {}", answer.status),
                    answer.problem,
                    answer.member,
                    cut_off,
                )
            }
            Err(NoAnswer::Broken(cause)) => (format!("connection broken: {cause}"), false, None, true),
            Err(NoAnswer::TimedOut) => {
                let reason = format!(
                    "no answer within {} s",
                    self.config.patience.max(LATE_AFTER).as_secs()
                );
                (reason, false, None, false)
            }
        };
        if let Order::Put(write) | Order::Post(write) = &order {
            self.ledger().doubt(*write);
        }
        match order {
            Order::Post(write) if cut_off => Verdict::Suspect {
                reason,
                problem,
                index: write.index,
                member,
            },
            _ => Verdict::Failed { reason, problem },
        }
    }

    /// Whether a successful answer is the right one; on a write also takes note of it.
    fn check(&self, order: &Order, answer: &Answer) -> Result<(), String> {
        let json = answer.json();
        let mut ledger = self.ledger();
        if let Order::Put(write) | Order::Post(write) = order {
            // Acknowledged by its status, whatever the body is like: from here on it must be there.
            ledger.acknowledge(*write);
        }
        let json = json?;
        let checked = match order {
            Order::Get(read) => ledger.check_read(*read, &json).map(drop),
            Order::Put(write) | Order::Post(write) => ledger.check_write(*write, &json),
            Order::List(_) => ledger.check_page(&json).map(drop),
        };
        checked.map_err(|contradiction| format!("wrong answer: {contradiction}"))
    }
}

fn succeeded(what: &str, outcome: Result<Answer, NoAnswer>) -> Result<(), LoadError> {
    let reason = match outcome {
        Ok(answer) if answer.is_success() => return Ok(()),
        Ok(answer) => answer.shown(),
        Err(NoAnswer::Broken(cause)) => cause,
        Err(NoAnswer::TimedOut) => format!("no answer within {} s", PREPARE_PATIENCE.as_secs()),
    };
    Err(LoadError::Prepare {
        what: what.to_owned(),
        reason,
    })
}
