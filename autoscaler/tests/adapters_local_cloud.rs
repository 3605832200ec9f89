//! The DigitalOcean adapter against the local cloud: other people's idea of the same API, with real processes behind it.

#![expect(clippy::disallowed_methods, reason = "tests")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod local_cloud;

use std::time::{Duration, Instant};

use serde_json::json;
use tidepool_autoscaler::provider::digitalocean::DigitalOcean;
use tidepool_autoscaler::provider::{CreateMember, EarlierCreate, Made, Provider, ProviderErrorKind};
use tidepool_autoscaler_core::observe::{Member, MemberId, MemberName, PoolName, Power};
use tidepool_autoscaler_core::recipe::Recipe;

use self::local_cloud::LocalCloud;

/// A droplet boots and stops within this, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// A local cloud with an image that only sleeps; `None` where its program is not built.
fn cloud(test: &str, folder: &tempfile::TempDir) -> Option<LocalCloud> {
    let sleeper = "[[process]]\nname = \"sleep\"\nprogram = \"/bin/sleep\"\nargs = [\"3600\"]\n";
    LocalCloud::start(test, folder.path(), &[("sleeper", sleeper)])
}

async fn fault(cloud: &LocalCloud, name: &str, body: serde_json::Value) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http
        .post(format!("{}/_local/faults/{name}", cloud.url))
        .json(&body)
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

fn web() -> PoolName {
    PoolName("web".to_owned())
}

fn create(name: &str) -> CreateMember {
    CreateMember {
        pool: web(),
        name: MemberName(name.to_owned()),
        earlier: EarlierCreate::None,
        made: Made {
            recipe: Recipe {
                image: "sleeper".into(),
                ..Recipe::default()
            },
            user_data: None,
        },
    }
}

/// Lists until the members are as wanted.
async fn listed(provider: &DigitalOcean, what: &str, wanted: impl Fn(&[Member]) -> bool) -> Vec<Member> {
    let started = Instant::now();
    loop {
        let members = provider.members_list(&web()).await.unwrap().members;
        if wanted(&members) {
            return members;
        }
        assert!(started.elapsed() < PATIENCE, "not {what}: {members:?}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn a_members_whole_life() {
    let folder = tempfile::tempdir().unwrap();
    let Some(cloud) = cloud("a_members_whole_life", &folder) else {
        return;
    };
    let provider = cloud.provider("sleeper", &["env:test"]);
    assert_eq!(provider.members_list(&web()).await.unwrap().members, []);
    let one = provider.member_create(&create("web-1")).await.unwrap();
    let two = provider.member_create(&create("web-2")).await.unwrap();
    let members = listed(&provider, "running", |all| {
        all.len() == 2 && all.iter().all(|m| m.power == Power::Running)
    })
    .await;
    let addresses: Vec<_> = members.iter().map(|member| member.address.unwrap()).collect();
    assert!(
        addresses[0] != addresses[1] && addresses.iter().all(std::net::IpAddr::is_loopback),
        "{addresses:?}"
    );
    assert!(
        members
            .iter()
            .all(|member| member.image.slug.as_deref() == Some("sleeper")
                && !member.serving
                && !member.draining)
    );
    let age_ms = jiff::Timestamp::now().as_millisecond() - members[0].created_at.0;
    assert!((-2_000..120_000).contains(&age_ms), "{age_ms} ms old");

    for _ in 0..2 {
        provider.serving_admit(&web(), &one).await.unwrap();
    }
    let serving = |all: &[Member]| {
        all.iter()
            .filter(|m| m.serving)
            .map(|m| m.id.clone())
            .collect::<Vec<MemberId>>()
    };
    assert_eq!(
        serving(&provider.members_list(&web()).await.unwrap().members),
        std::slice::from_ref(&one)
    );
    provider.draining_mark(&web(), &one).await.unwrap();
    for _ in 0..2 {
        provider.serving_withdraw(&web(), &one).await.unwrap();
    }
    let members = provider.members_list(&web()).await.unwrap().members;
    assert!(serving(&members).is_empty());
    assert!(members.iter().all(|member| member.draining == (member.id == one)));

    provider.member_shutdown(&one).await.unwrap();
    listed(&provider, "off", |all| {
        all.iter().any(|m| m.id == one && m.power == Power::Off)
    })
    .await;
    provider.member_power_off(&one).await.unwrap();
    for _ in 0..2 {
        provider.member_destroy(&one).await.unwrap();
    }
    let left = listed(&provider, "destroyed", |all| all.len() == 1).await;
    assert_eq!(left[0].id, two);
    assert_eq!(
        provider.member_shutdown(&one).await.unwrap_err().kind,
        ProviderErrorKind::NotFound
    );
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_makes_one_droplet() {
    let folder = tempfile::tempdir().unwrap();
    let Some(cloud) = cloud("a_create_whose_answer_is_lost_makes_one_droplet", &folder) else {
        return;
    };
    let provider = cloud.provider("sleeper", &["env:test"]);
    fault(
        &cloud,
        "fail-creates",
        json!({ "count": 1, "status": 503, "after_effect": true }),
    )
    .await;
    for _ in 0..2 {
        let error = provider.member_create(&create("web-1")).await.unwrap_err();
        assert_eq!(error.kind, ProviderErrorKind::UnknownOutcome);
    }
    let members = listed(&provider, "made", |all| !all.is_empty()).await;
    assert_eq!(
        provider.member_create(&create("web-1")).await.unwrap(),
        members[0].id
    );
    assert_eq!(provider.members_list(&web()).await.unwrap().members.len(), 1);
}

#[tokio::test]
async fn a_429_is_reported_with_its_wait_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let Some(cloud) = cloud("a_429_is_reported_with_its_wait_and_kept", &folder) else {
        return;
    };
    let provider = cloud.provider("sleeper", &["env:test"]);
    fault(
        &cloud,
        "rate-limit",
        json!({ "count": 1, "retry_after_secs": 30 }),
    )
    .await;
    let first = provider.members_list(&web()).await.unwrap_err().kind;
    assert_eq!(first, ProviderErrorKind::RateLimited { retry_after_secs: 30 });
    let second = provider.members_list(&web()).await.unwrap_err();
    assert!(second.detail.contains("nothing was sent"), "{second}");
}
