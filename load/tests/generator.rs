//! The load generator against a bare server: what it sends, and what it counts as failed, unknown and lost.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "tests"
)]

mod support;

use std::time::{Duration, Instant};

use support::{BareServer, Mood};
use tidepool_load::{Generator, LoadConfig, Shape};
use tokio_util::sync::CancellationToken;

fn generator(target: &str, per_sec: f64, secs: f64) -> Generator {
    Generator::new(LoadConfig {
        target: target.to_owned(),
        collection: "tide".into(),
        run: "t".into(),
        key: None,
        shape: Shape::Flat { per_sec },
        period: Duration::from_secs(10),
        duration: Some(Duration::from_secs_f64(secs)),
        documents_before: 50,
        patience: Duration::from_secs(7),
        seed: 1,
    })
    .unwrap()
}

async fn prepared(server: &BareServer, per_sec: f64, secs: f64) -> Generator {
    let generator = generator(&server.target(), per_sec, secs);
    generator.prepare().await.unwrap();
    generator
}

async fn run(generator: &Generator) {
    generator.run(&CancellationToken::new()).await;
}

#[tokio::test]
async fn a_right_server_fails_nothing_and_sees_every_request() {
    let server = BareServer::start().await;
    let generator = prepared(&server, 200.0, 2.0).await;
    let before = server.requests();
    run(&generator).await;
    let figures = generator.figures();
    assert_eq!(
        generator.with_tally(|tally| tally.reasons().clone()),
        std::collections::BTreeMap::new()
    );
    assert_eq!((figures.failed, figures.unknown, figures.in_flight), (0, 0, 0));
    assert!(
        (300..500).contains(&figures.requests),
        "{} requests",
        figures.requests
    );
    assert_eq!(server.requests() - before, figures.requests);

    let found = generator.read_back().await;
    assert_eq!((found.lost, found.read_back), (0, found.acknowledged));
    assert!(found.acknowledged > 50 + 60, "{found:?}");
}

#[tokio::test]
async fn slow_answers_do_not_slow_the_schedule() {
    let server = BareServer::start().await;
    let generator = prepared(&server, 100.0, 2.0).await;
    server.set_mood(Mood::Slow(Duration::from_secs(1)));
    run(&generator).await;
    let figures = generator.figures();
    // A closed loop of a few connections would have sent a handful.
    assert!(
        (150..260).contains(&figures.requests),
        "{} requests",
        figures.requests
    );
    assert_eq!(figures.failed, 0);
    assert!(figures.p99_ms >= 1_000.0, "{}", figures.p99_ms);
}

#[tokio::test]
async fn answers_after_five_seconds_are_failed() {
    let server = BareServer::start().await;
    let generator = prepared(&server, 50.0, 0.5).await;
    server.set_mood(Mood::Slow(Duration::from_millis(5_200)));
    run(&generator).await;
    let figures = generator.figures();
    assert!(figures.requests > 5, "{} requests", figures.requests);
    assert_eq!(figures.failed, figures.requests);
}

#[tokio::test]
async fn a_stuck_server_ends_the_run_within_the_patience() {
    let server = BareServer::start().await;
    let generator = prepared(&server, 50.0, 0.5).await;
    server.set_mood(Mood::Stuck);
    let start = Instant::now();
    run(&generator).await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let figures = generator.figures();
    assert_eq!(figures.failed, figures.requests);
}

#[tokio::test]
async fn creates_that_break_off_are_failed_without_a_power_cut() {
    let server = BareServer::start().await;
    let generator = prepared(&server, 200.0, 1.0).await;
    server.set_mood(Mood::BadGateway {
        member: None,
        stored: true,
    });
    run(&generator).await;
    let figures = generator.figures();
    assert!(figures.failed > 5 && figures.unknown == 0, "{figures:?}");
}

#[tokio::test]
async fn creates_that_break_off_during_a_power_cut_are_unknown_and_read_back() {
    for stored in [true, false] {
        let server = BareServer::start().await;
        let generator = prepared(&server, 200.0, 1.0).await;
        server.set_mood(Mood::BadGateway {
            member: Some("7".into()),
            stored,
        });
        generator.power_cut_begins("7".into());
        run(&generator).await;
        generator.power_cut_done();
        server.set_mood(Mood::Fine);
        let figures = generator.figures();
        assert!(figures.failed == 0 && figures.unknown > 5, "{figures:?}");
        let found = generator.unknown_found().await;
        assert_eq!(found.len() as u64, figures.unknown);
        assert!(
            found.iter().all(|unknown| unknown.stored == Some(stored)),
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn creates_that_break_off_on_another_member_are_failed() {
    let server = BareServer::start().await;
    let generator = prepared(&server, 200.0, 1.0).await;
    server.set_mood(Mood::BadGateway {
        member: Some("8".into()),
        stored: true,
    });
    generator.power_cut_begins("7".into());
    run(&generator).await;
    generator.power_cut_done();
    let figures = generator.figures();
    assert!(figures.failed > 5 && figures.unknown == 0, "{figures:?}");
}

#[tokio::test]
async fn a_server_that_forgets_is_found_out() {
    let server = BareServer::start().await;
    let generator = prepared(&server, 200.0, 2.0).await;
    server.set_mood(Mood::Forgetful);
    run(&generator).await;
    let reasons = generator.with_tally(|tally| tally.reasons().keys().cloned().collect::<Vec<_>>());
    assert!(
        reasons
            .iter()
            .any(|reason| reason.starts_with("GET: wrong answer")),
        "{reasons:?}"
    );
    let found = generator.read_back().await;
    assert!(
        found.lost > 0 && found.lost + found.read_back == found.acknowledged,
        "{found:?}"
    );
    assert!(!found.notes.is_empty());
}

#[tokio::test]
async fn a_target_that_refuses_is_reported_before_the_load() {
    // A port that was just free: bound and let go.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let generator = generator(&format!("http://{free}"), 1.0, 1.0);
    let error = generator.prepare().await.unwrap_err().to_string();
    assert!(error.starts_with("making the collection failed"), "{error}");
}
