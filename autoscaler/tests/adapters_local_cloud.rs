//! The DigitalOcean adapter against the local cloud: other people's idea of the same API, with real processes behind it.
//!
//! The local cloud's program is looked for beside the one under test; without it each test prints a line
//! `tidepool-skip: <name>: <reason>`, which the runner counts.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tidepool_autoscaler::provider::digitalocean::{
    Account, AddressKind, ApiToken, DigitalOcean, DropletTemplate, ImageRef,
};
use tidepool_autoscaler::provider::{CreateMember, Provider, ProviderErrorKind};
use tidepool_autoscaler_core::observe::{Member, MemberId, MemberName, PoolName, Power, UnixMillis};

/// A droplet boots and stops within this, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running local cloud; it is stopped, its droplets with it, at the end.
struct Cloud {
    child: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Cloud {
    /// `None`, and a line that says so, when the program is not there.
    fn start(test: &str) -> Option<Self> {
        let program =
            Path::new(env!("CARGO_BIN_EXE_tidepool-autoscaler")).with_file_name("tidepool-local-cloud");
        if !program.is_file() {
            println!("tidepool-skip: {test}: tidepool-local-cloud is not built");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let images = folder.path().join("images");
        std::fs::create_dir_all(images.join("sleeper")).unwrap();
        let image = "slug = \"sleeper\"\nname = \"Sleeper\"\ndistribution = \"Tidepool\"\nboot_secs = 0.1\n\
                     [[process]]\nname = \"sleep\"\nprogram = \"/bin/sleep\"\nargs = [\"3600\"]\n";
        std::fs::write(images.join("sleeper/image.toml"), image).unwrap();
        let mut child = Command::new(program)
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--hosts",
                "process",
                "--addresses",
                "loopback",
                "--images",
            ])
            .arg(&images)
            .arg("--state")
            .arg(folder.path().join("state"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Some(Self {
            child,
            url,
            _folder: folder,
        })
    }

    fn provider(&self) -> DigitalOcean {
        let clock = Arc::new(|| UnixMillis(jiff::Timestamp::now().as_millisecond()));
        let account = Account::new(Some(&self.url), ApiToken::new("any-token").unwrap(), clock).unwrap();
        let template = DropletTemplate {
            region: "fra1".to_owned(),
            size: "s-1vcpu-1gb".to_owned(),
            image: ImageRef::Slug("sleeper".to_owned()),
            ssh_keys: vec![],
            vpc_uuid: None,
            tags: vec!["env:test".to_owned()],
            user_data: None,
            address: AddressKind::Private,
        };
        DigitalOcean::new(Arc::new(account), template)
    }

    async fn fault(&self, name: &str, body: serde_json::Value) {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = http
            .post(format!("{}/_local/faults/{name}", self.url))
            .json(&body)
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let stopped = Command::new("kill")
            .arg("-TERM")
            .arg(self.child.id().to_string())
            .status();
        if !stopped.is_ok_and(|status| status.success()) {
            self.child.kill().ok();
        }
        self.child.wait().ok();
    }
}

fn web() -> PoolName {
    PoolName("web".to_owned())
}

fn create(name: &str) -> CreateMember {
    CreateMember {
        pool: web(),
        name: MemberName(name.to_owned()),
    }
}

/// Lists until the members are as wanted.
async fn listed(provider: &DigitalOcean, what: &str, wanted: impl Fn(&[Member]) -> bool) -> Vec<Member> {
    let started = Instant::now();
    loop {
        let members = provider.members_list(&web()).await.unwrap();
        if wanted(&members) {
            return members;
        }
        assert!(started.elapsed() < PATIENCE, "not {what}: {members:?}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn a_members_whole_life() {
    let Some(cloud) = Cloud::start("a_members_whole_life") else {
        return;
    };
    let provider = cloud.provider();
    assert_eq!(provider.members_list(&web()).await.unwrap(), []);
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
            .all(|member| member.image == "sleeper" && !member.serving && !member.draining)
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
        serving(&provider.members_list(&web()).await.unwrap()),
        std::slice::from_ref(&one)
    );
    provider.draining_mark(&web(), &one).await.unwrap();
    for _ in 0..2 {
        provider.serving_withdraw(&web(), &one).await.unwrap();
    }
    let members = provider.members_list(&web()).await.unwrap();
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
    let Some(cloud) = Cloud::start("a_create_whose_answer_is_lost_makes_one_droplet") else {
        return;
    };
    let provider = cloud.provider();
    cloud
        .fault(
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
    assert_eq!(provider.members_list(&web()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_429_is_told_with_its_wait_and_kept() {
    let Some(cloud) = Cloud::start("a_429_is_told_with_its_wait_and_kept") else {
        return;
    };
    let provider = cloud.provider();
    cloud
        .fault("rate-limit", json!({ "count": 1, "retry_after_secs": 30 }))
        .await;
    let first = provider.members_list(&web()).await.unwrap_err().kind;
    assert_eq!(first, ProviderErrorKind::RateLimited { retry_after_secs: 30 });
    let second = provider.members_list(&web()).await.unwrap_err();
    assert!(second.detail.contains("nothing was sent"), "{second}");
}
