//! A provider whose clock a test moves, and answers in DigitalOcean's shapes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tidepool_autoscaler::provider::digitalocean::{
    Account, AddressKind, ApiToken, DigitalOcean, DropletTemplate, ImageRef,
};
use tidepool_autoscaler::provider::{CreateMember, EarlierCreate, ProviderError, ProviderErrorKind};
use tidepool_autoscaler_core::observe::{MemberId, MemberName, PoolName, UnixMillis};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

pub(crate) const T0: i64 = 1_800_000_000_000;
pub(crate) const TOKEN: &str = "dop_v1_not-a-real-token";

/// The time under test: it moves when a test says so.
#[derive(Clone, Default)]
pub(crate) struct Time(pub(crate) Arc<AtomicI64>);

impl Time {
    pub(crate) fn pass_secs(&self, secs: i64) {
        self.0.fetch_add(secs * 1000, Ordering::SeqCst);
    }
}

pub(crate) fn template() -> DropletTemplate {
    DropletTemplate {
        region: "fra1".to_owned(),
        size: "s-1vcpu-1gb".to_owned(),
        image: ImageRef::Slug("tidepool-api".to_owned()),
        ssh_keys: vec![],
        vpc_uuid: None,
        tags: vec![],
        user_data: None,
        address: AddressKind::Private,
    }
}

pub(crate) fn provider_at(uri: &str, time: &Time, template: DropletTemplate) -> DigitalOcean {
    let time = time.clone();
    let clock = Arc::new(move || UnixMillis(T0 + time.0.load(Ordering::SeqCst)));
    let account = Account::new(Some(uri), ApiToken::new(TOKEN).unwrap(), clock).unwrap();
    DigitalOcean::new(
        Arc::new(account.with_call_timeout(Duration::from_secs(10))),
        template,
    )
}

pub(crate) fn provider(server: &MockServer) -> DigitalOcean {
    provider_at(&server.uri(), &Time::default(), template())
}

pub(crate) fn web() -> PoolName {
    PoolName("web".to_owned())
}

pub(crate) fn create(name: &str) -> CreateMember {
    CreateMember {
        pool: web(),
        name: MemberName(name.to_owned()),
        earlier: EarlierCreate::None,
        made: template().made(),
    }
}

pub(crate) fn id(number: u64) -> MemberId {
    MemberId(number.to_string())
}

pub(crate) fn droplet(id: u64, name: &str, status: &str, tags: &[&str]) -> Value {
    json!({
        "id": id, "name": name, "memory": 1024, "vcpus": 1, "disk": 25, "locked": false, "status": status, "kernel": null,
        "created_at": "2026-11-21T14:00:05Z", "features": ["private_networking"], "backup_ids": [53893572],
        "next_backup_window": null, "snapshot_ids": [67512819], "volume_ids": [], "size_slug": "s-1vcpu-1gb",
        "image": { "id": 7555620, "name": "Tidepool API", "distribution": "Debian", "slug": "tidepool-api", "public": false },
        "size": { "slug": "s-1vcpu-1gb", "price_hourly": 0.00893 },
        "networks": {
            "v4": [
                { "ip_address": "203.0.113.7", "netmask": "255.255.255.0", "gateway": "203.0.113.1", "type": "public" },
                { "ip_address": "10.114.0.7", "netmask": "255.255.240.0", "gateway": "", "type": "private" }
            ],
            "v6": []
        },
        "region": { "slug": "fra1", "name": "Frankfurt 1", "sizes": [], "features": [], "available": true },
        "tags": tags, "vpc_uuid": "5a4981aa-9653-4bd1-bef5-d6bff52042e4"
    })
}

pub(crate) fn one_page(droplets: &[Value]) -> Value {
    json!({ "droplets": droplets, "links": {}, "meta": { "total": droplets.len() } })
}

pub(crate) fn refusal(status: u16, id: &str, message: &str) -> ResponseTemplate {
    ResponseTemplate::new(status)
        .set_body_json(json!({ "id": id, "message": message, "request_id": "4d9d8375-3c56" }))
}

pub(crate) async fn server_with(mocks: Vec<Mock>) -> MockServer {
    let server = MockServer::start().await;
    for mock in mocks {
        mock.mount(&server).await;
    }
    server
}

/// Answers as the n-th of a row, the last one again and again.
pub(crate) struct InTurn(pub(crate) Vec<ResponseTemplate>, pub(crate) AtomicI64);

impl InTurn {
    pub(crate) fn new(answers: Vec<ResponseTemplate>) -> Self {
        Self(answers, AtomicI64::new(0))
    }
}

impl Respond for InTurn {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        let turn = usize::try_from(self.1.fetch_add(1, Ordering::SeqCst)).unwrap();
        self.0[turn.min(self.0.len() - 1)].clone()
    }
}

pub(crate) async fn calls(server: &MockServer, verb: &str) -> usize {
    server
        .received_requests()
        .await
        .unwrap()
        .iter()
        .filter(|request| request.method.as_str() == verb)
        .count()
}

pub(crate) fn kind<T: std::fmt::Debug>(outcome: Result<T, ProviderError>) -> ProviderErrorKind {
    outcome.unwrap_err().kind
}
