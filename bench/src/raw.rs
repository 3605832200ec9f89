//! The driver alone: the same statements, no HTTP. One process a measurement, so its CPU time is its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::sys::resource::{UsageWho, getrusage};

use crate::minimal;
use crate::report::Figures;

/// Documents that are read.
const SEED: u64 = 1_000;
/// Time for connections and statements to settle before the clock starts.
const WARM_UP: Duration = Duration::from_millis(700);

fn cpu_micros() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("getrusage of this process");
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of minutes fit a float exactly"
    )]
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 * 1e6 + time.tv_usec() as f64;
    micros(usage.user_time()) + micros(usage.system_time())
}

#[expect(clippy::disallowed_methods, reason = "runs must not meet in one table")]
pub(crate) async fn run(
    hosts: &str,
    operation: &str,
    seconds: f64,
    connections: usize,
) -> anyhow::Result<()> {
    let state = Arc::new(minimal::cassandra_open(hosts).await?);
    if operation == "read" {
        for number in 0..SEED {
            let values = (format!("raw-{number}"), tidepool_load::closed::body(number));
            state.session.execute_unpaged(&state.insert, &values).await?;
        }
    }
    let done = Arc::new(AtomicU64::new(0));
    let unique = format!("{}-{}", std::process::id(), uuid::Uuid::new_v4());
    let start = Instant::now() + WARM_UP;
    let end = start + Duration::from_secs_f64(seconds);
    let mut tasks = tokio::task::JoinSet::new();
    for connection in 0..connections {
        let (state, done, operation, unique) = (
            Arc::clone(&state),
            Arc::clone(&done),
            operation.to_owned(),
            unique.clone(),
        );
        tasks.spawn(async move {
            let mut histogram = Histogram::<u64>::new(3)?;
            let mut number = connection as u64;
            while Instant::now() < end {
                let begun = Instant::now();
                one(&state, &operation, &unique, number).await?;
                number += connections as u64;
                if begun >= start {
                    histogram.record(u64::try_from(begun.elapsed().as_micros())?)?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
            anyhow::Ok(histogram)
        });
    }
    tokio::time::sleep_until(start.into()).await;
    let cpu_before = cpu_micros();
    let mut histogram = Histogram::<u64>::new(3)?;
    tokio::time::sleep_until(end.into()).await;
    let cpu = cpu_micros() - cpu_before;
    let requests = done.load(Ordering::Relaxed);
    while let Some(task) = tasks.join_next().await {
        histogram.add(task??)?;
    }
    let resident_mib = crate::process::resident_mib(std::process::id())?;
    let figures = Figures::new(requests, 0, seconds, &histogram, cpu, resident_mib);
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

async fn one(
    state: &minimal::CassandraState,
    operation: &str,
    unique: &str,
    number: u64,
) -> anyhow::Result<()> {
    match operation {
        "read" => {
            let id = format!("raw-{}", number % SEED);
            let result = state
                .session
                .execute_unpaged(&state.read, (id,))
                .await?
                .into_rows_result()?;
            let (body,) = result.first_row::<(&[u8],)>()?;
            anyhow::ensure!(!body.is_empty(), "an empty document");
        }
        "create" => {
            let values = (
                format!("raw-{unique}-{number}"),
                tidepool_load::closed::body(number),
            );
            state.session.execute_unpaged(&state.insert, &values).await?;
        }
        "create-lwt" => {
            let values = (
                format!("raw-lwt-{unique}-{number}"),
                tidepool_load::closed::body(number),
            );
            let result = state.session.execute_unpaged(&state.insert_lwt, &values).await?;
            anyhow::ensure!(minimal::applied(&result)?, "an id that should be free is taken");
        }
        other => anyhow::bail!("the raw driver has no operation {other:?}"),
    }
    Ok(())
}
