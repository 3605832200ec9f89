//! The generator's count of requests against the load balancer's and the members' own: nobody may have seen more or fewer.
//! Real local cloud, real API, three members.

use std::collections::BTreeMap;
use std::time::Duration;

use tidepool_demo::cloud::Cloud;
use tidepool_demo::files::{Backend, droplet};
use tidepool_demo::place::Place;
use tidepool_demo::site::Site;
use tidepool_demo::stop::Stop;
use tidepool_load::{Generator, LATE_REASON, LoadConfig, Shape};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const MEMBERS: usize = 3;
/// Debug builds on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn generator_balancer_and_members_count_the_same_requests() {
    let mut site = Site::new(Place::new(None).unwrap());
    let counted = count(&mut site).await;
    let (_, problems) = site.stop(&Stop::new()).await;
    let counted = counted.expect("the run was made");
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(counted.failed, BTreeMap::new(), "{counted:?}");
    assert!(counted.generator > 500, "{counted:?}");
    assert_eq!(counted.balancer, counted.generator, "{counted:?}");
    assert_eq!(counted.balancer_to_members, counted.generator, "{counted:?}");
    assert_eq!(counted.members, counted.generator, "{counted:?}");
    assert!(
        counted.each_member.iter().all(|count| *count > 50),
        "every member had a share: {counted:?}"
    );
}

#[derive(Debug)]
struct Counted {
    generator: u64,
    /// Reasons, and how often. Late answers are left out: how busy the machine is, is not the question here.
    failed: BTreeMap<String, u64>,
    balancer: u64,
    balancer_to_members: u64,
    members: u64,
    each_member: Vec<u64>,
}

async fn count(site: &mut Site) -> anyhow::Result<Counted> {
    let backend = Backend::Embedded;
    let (cloud, balancer, target) = site.start_cloud(&backend, &Stop::new()).await?;
    for number in 0..MEMBERS {
        cloud
            .create_droplet(&droplet(site.place(), &backend, &format!("api-{number}")))
            .await?;
    }
    until("the members serve", async || {
        cloud
            .balancer(&balancer)
            .await
            .is_ok_and(|state| state.healthy().len() == MEMBERS)
    })
    .await;
    let generator = Generator::new(LoadConfig {
        target,
        collection: "tide".into(),
        run: "t".into(),
        key: None,
        shape: Shape::Flat { per_sec: 120.0 },
        period: Duration::from_secs(8),
        duration: Some(Duration::from_secs(8)),
        documents_before: 50,
        patience: Duration::from_secs(30),
        seed: 1,
    })?;
    generator.prepare().await?;
    let before = counters(&cloud, &balancer).await?;
    generator.run(&CancellationToken::new()).await;
    let figures = generator.figures();
    // The balancer counts an answer when it is through with it, a moment after the client has it.
    until("the balancer is idle", async || {
        counters(&cloud, &balancer)
            .await
            .is_ok_and(|after| after.to_members >= before.to_members + figures.requests)
    })
    .await;
    let after = counters(&cloud, &balancer).await?;
    let each_member: Vec<u64> = after
        .by_member
        .iter()
        .zip(&before.by_member)
        .map(|(after, before)| after - before)
        .collect();
    Ok(Counted {
        generator: figures.requests,
        failed: generator.with_tally(|tally| {
            let mut reasons = tally.reasons().clone();
            reasons.retain(|reason, _| !reason.ends_with(LATE_REASON));
            reasons
        }),
        balancer: after.balancer - before.balancer,
        balancer_to_members: after.to_members - before.to_members,
        members: each_member.iter().sum(),
        each_member,
    })
}

struct Counters {
    balancer: u64,
    to_members: u64,
    by_member: Vec<u64>,
}

async fn counters(cloud: &Cloud, balancer: &str) -> anyhow::Result<Counters> {
    let state = cloud.state().await?;
    let balancer = cloud.balancer(balancer).await?;
    let mut by_member = Vec::new();
    for droplet in &state.droplets {
        let text = reqwest::get(format!("http://{}/metrics", droplet.ops))
            .await?
            .error_for_status()?
            .text()
            .await?;
        by_member.push(requests_total(&text));
    }
    Ok(Counters {
        balancer: balancer.requests().unwrap_or_default(),
        to_members: balancer
            .members
            .iter()
            .filter_map(|member| member.rest.get("requests")?.as_u64())
            .sum(),
        by_member,
    })
}

/// The sum of all series of the request counter.
fn requests_total(text: &str) -> u64 {
    text.lines()
        .filter(|line| line.starts_with("tidepool_http_requests_total{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum::<f64>() as u64
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
