//! DigitalOcean's droplets as a provider: its v2 API, spoken by an HTTP client of our own (docs/adr/0060).
//!
//! A droplet's place is told by tags: `pool:<name>` makes it a member, `serving:<name>` lets the load balancer send it
//! traffic, `draining:<name>` marks it for removal.

mod api;
mod budget;
mod doubt;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use tidepool_autoscaler_core::observe::{Member, MemberId, MemberName, PoolName, UnixMillis};

use api::Call;
pub use api::{Account, AccountError, ApiToken, BASE_URL_DEFAULT, Clock};
use doubt::{Doubts, Verdict};
use wire::{CreateDroplet, Droplet, DropletAnswer, DropletPage};

use super::{CreateMember, Provider, ProviderError, ProviderErrorKind};

/// Droplets a page: DigitalOcean's own maximum.
const PAGE_ITEMS: usize = 200;
/// Pages a listing: 50 of 200 make 10,000 droplets, and cost a fifth of a minute's calls.
const PAGES_MAX: usize = 50;
/// A listing whose pages don't add up, because droplets came or went meanwhile, is read so often.
const LISTINGS_MAX: usize = 2;
/// DigitalOcean's bound on cloud-init data.
const USER_DATA_BYTES_MAX: usize = 64 << 10;
/// DigitalOcean's bound on a tag's length.
const TAG_CHARS_MAX: usize = 255;

/// An image, by slug or by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ImageRef {
    /// A snapshot's or a private image's number.
    Id(u64),
    /// A public image's name.
    Slug(String),
}

/// An SSH key, by id or by fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SshKeyRef {
    /// Its number.
    Id(u64),
    /// Its MD5 fingerprint.
    Fingerprint(String),
}

/// On which of its addresses a member is asked. There is no falling back to the other one: a member would look unready for
/// want of a route, or be asked in the open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressKind {
    /// The VPC's.
    #[default]
    Private,
    /// The internet's.
    Public,
}

/// What the pool's droplets are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropletTemplate {
    /// Region slug, such as `fra1`.
    pub region: String,
    /// Size slug, such as `s-1vcpu-1gb`.
    pub size: String,
    /// What they boot.
    pub image: ImageRef,
    /// Who may log in as root.
    pub ssh_keys: Vec<SshKeyRef>,
    /// The VPC; the region's default one when `None`.
    pub vpc_uuid: Option<String>,
    /// Tags beside our own.
    pub tags: Vec<String>,
    /// cloud-init data.
    pub user_data: Option<String>,
    /// On which address members are asked.
    pub address: AddressKind,
}

impl DropletTemplate {
    /// Everything that DigitalOcean would refuse for certain: the field and what is wrong with it.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        for (field, text) in [("region", &self.region), ("size", &self.size)] {
            if text.is_empty() {
                problems.push((field.to_owned(), "is empty".to_owned()));
            }
        }
        if self.image == ImageRef::Slug(String::new()) {
            problems.push(("image".to_owned(), "is empty".to_owned()));
        }
        for (n, tag) in self.tags.iter().enumerate() {
            let path = format!("tags[{n}]");
            if !is_tag(tag) {
                problems.push((
                    path,
                    format!("{tag:?} is no tag: 1-255 letters, digits, ':', '-' and '_'"),
                ));
            } else if ["pool:", "serving:", "draining:"]
                .iter()
                .any(|own| tag.starts_with(own))
            {
                problems.push((path, format!("{tag:?} begins like a tag of the autoscaler's own")));
            }
        }
        if self
            .user_data
            .as_ref()
            .is_some_and(|data| data.len() > USER_DATA_BYTES_MAX)
        {
            problems.push((
                "user_data".to_owned(),
                format!("is larger than {USER_DATA_BYTES_MAX} bytes"),
            ));
        }
        problems
    }
}

fn is_tag(text: &str) -> bool {
    (1..=TAG_CHARS_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b':' | b'-' | b'_'))
}

/// DigitalOcean, configured for one pool.
#[derive(Debug)]
pub struct DigitalOcean {
    account: Arc<Account>,
    template: DropletTemplate,
    doubts: Mutex<Doubts>,
}

impl DigitalOcean {
    /// The provider of one pool; pools with the same token share `account`.
    pub fn new(account: Arc<Account>, template: DropletTemplate) -> Self {
        Self {
            account,
            template,
            doubts: Mutex::default(),
        }
    }

    fn doubts<T>(&self, ask: impl FnOnce(&mut Doubts) -> T) -> T {
        ask(&mut self.doubts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All droplets of the pool by id, or `None` if the pages don't add up: something came or went between them.
    async fn pages_read(&self, pool: &PoolName) -> Result<Option<Vec<Droplet>>, ProviderError> {
        const OPERATION: &str = "members_list";
        let tag = wire::pool_tag(pool);
        let escaped: String = reqwest::Url::parse_with_params("http://x/", [("tag_name", tag.as_str())])
            .map(|url| url.query().unwrap_or_default().to_owned())
            .map_err(|_| invalid(OPERATION, &pool.0, format!("{tag:?} can't stand in a query")))?;
        let mut path = format!("/v2/droplets?{escaped}&per_page={PAGE_ITEMS}&page=1");
        let mut seen = BTreeSet::new();
        let mut droplets = Vec::new();
        for _ in 0..PAGES_MAX {
            let call = Call {
                operation: OPERATION,
                subject: &pool.0,
                method: Method::GET,
                path: &path,
                body: None,
            };
            let page: DropletPage = parse(&call, &self.account.call(&call).await?)?;
            let next = page.next().map(|link| next_path(&call, link)).transpose()?;
            let total = page.meta.as_ref().map(|meta| meta.total);
            droplets.extend(
                page.droplets
                    .into_iter()
                    .filter(|droplet| seen.insert(droplet.id)),
            );
            match next {
                None if total.is_some_and(|total| total != droplets.len()) => return Ok(None),
                None => return Ok(Some(droplets)),
                Some(next) => path = next,
            }
        }
        Err(invalid(
            OPERATION,
            &pool.0,
            format!("the list has more than {PAGES_MAX} pages"),
        ))
    }

    async fn act(&self, operation: &'static str, id: &MemberId, action: &str) -> Result<(), ProviderError> {
        let path = format!("/v2/droplets/{}/actions", checked(operation, id)?);
        let body = serde_json::json!({ "type": action });
        let call = Call {
            operation,
            subject: &id.0,
            method: Method::POST,
            path: &path,
            body: Some(body),
        };
        match self.account.call(&call).await {
            Ok(_) => Ok(()),
            // "Droplet is already powered off" is an `Invalid`: the droplet itself tells.
            Err(error) if error.kind == ProviderErrorKind::Invalid && self.is_off(operation, id).await? => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn is_off(&self, operation: &'static str, id: &MemberId) -> Result<bool, ProviderError> {
        let path = format!("/v2/droplets/{}", checked(operation, id)?);
        let call = Call {
            operation,
            subject: &id.0,
            method: Method::GET,
            path: &path,
            body: None,
        };
        let answer: DropletAnswer = parse(&call, &self.account.call(&call).await?)?;
        Ok(answer.droplet.is_off())
    }

    /// Tags a droplet; a tag that nobody has made yet is made first.
    async fn tag(&self, operation: &'static str, tag: &str, id: &MemberId) -> Result<(), ProviderError> {
        let path = format!("/v2/tags/{tag}/resources");
        let body = wire::tag_resources(id);
        let call = Call {
            operation,
            subject: &id.0,
            method: Method::POST,
            path: &path,
            body: Some(body),
        };
        match self.account.call(&call).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == ProviderErrorKind::NotFound => {
                let body = serde_json::json!({ "name": tag });
                let make = Call {
                    operation,
                    subject: tag,
                    method: Method::POST,
                    path: "/v2/tags",
                    body: Some(body),
                };
                self.account.call(&make).await?;
                self.account.call(&call).await.map(drop)
            }
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Provider for DigitalOcean {
    async fn members_list(&self, pool: &PoolName) -> Result<Vec<Member>, ProviderError> {
        const OPERATION: &str = "members_list";
        for _ in 0..LISTINGS_MAX {
            let began = self.account.now();
            let Some(droplets) = self.pages_read(pool).await? else {
                continue;
            };
            let tag = wire::pool_tag(pool);
            let members: Vec<Member> = droplets
                .iter()
                // The filter is the server's work, but what is listed here may be destroyed one day: look again.
                .filter(|droplet| droplet.has_tag(&tag))
                .map(|droplet| droplet.member(pool, self.template.address))
                .collect::<Result<_, _>>()
                .map_err(|detail| ProviderError {
                    kind: ProviderErrorKind::Transient,
                    ..invalid(OPERATION, &pool.0, detail)
                })?;
            self.remember(began, &members);
            return Ok(members);
        }
        let detail = format!("the list changed each of the {LISTINGS_MAX} times while it was read");
        Err(ProviderError {
            kind: ProviderErrorKind::Transient,
            ..invalid(OPERATION, &pool.0, detail)
        })
    }

    async fn member_create(&self, create: &CreateMember) -> Result<MemberId, ProviderError> {
        const OPERATION: &str = "member_create";
        let subject = &create.name.0;
        match self.doubts(|doubts| doubts.verdict(&create.name)) {
            Verdict::Create => {}
            Verdict::Exists(id) => return Ok(id),
            Verdict::Wait => {
                let detail = "the answer to an earlier create was lost, and no listing has settled it yet; nothing was sent";
                let error = invalid(OPERATION, subject, detail.to_owned());
                return Err(ProviderError {
                    kind: ProviderErrorKind::UnknownOutcome,
                    ..error
                });
            }
        }
        let body = serde_json::to_value(CreateDroplet::new(&self.template, &create.pool, &create.name))
            .map_err(|error| invalid(OPERATION, subject, error.to_string()))?;
        let call = Call {
            operation: OPERATION,
            subject,
            method: Method::POST,
            path: "/v2/droplets",
            body: Some(body),
        };
        // Until the answer is here, it is lost: a caller that gives up waiting drops this future, and the doubt stays.
        self.doubts(|doubts| doubts.lost(create.name.clone(), self.account.now()));
        let outcome = match self.account.call(&call).await {
            Ok(body) => {
                parse::<DropletAnswer>(&call, &body).map(|answer| MemberId(answer.droplet.id.to_string()))
            }
            Err(error) => Err(error),
        };
        let unknown = matches!(&outcome, Err(error) if error.kind == ProviderErrorKind::UnknownOutcome);
        let now = self.account.now();
        self.doubts(|doubts| {
            if unknown {
                doubts.lost(create.name.clone(), now)
            } else {
                doubts.settle(&create.name)
            }
        });
        outcome
    }

    async fn serving_admit(&self, pool: &PoolName, id: &MemberId) -> Result<(), ProviderError> {
        self.tag("serving_admit", &wire::serving_tag(pool), id).await
    }

    async fn draining_mark(&self, pool: &PoolName, id: &MemberId) -> Result<(), ProviderError> {
        self.tag("draining_mark", &wire::draining_tag(pool), id).await
    }

    async fn serving_withdraw(&self, pool: &PoolName, id: &MemberId) -> Result<(), ProviderError> {
        let path = format!("/v2/tags/{}/resources", wire::serving_tag(pool));
        let body = Some(wire::tag_resources(id));
        let call = Call {
            operation: "serving_withdraw",
            subject: &id.0,
            method: Method::DELETE,
            path: &path,
            body,
        };
        gone_is_fine(self.account.call(&call).await)
    }

    async fn member_shutdown(&self, id: &MemberId) -> Result<(), ProviderError> {
        self.act("member_shutdown", id, "shutdown").await
    }

    async fn member_power_off(&self, id: &MemberId) -> Result<(), ProviderError> {
        self.act("member_power_off", id, "power_off").await
    }

    async fn member_destroy(&self, id: &MemberId) -> Result<(), ProviderError> {
        const OPERATION: &str = "member_destroy";
        let path = format!("/v2/droplets/{}", checked(OPERATION, id)?);
        let call = Call {
            operation: OPERATION,
            subject: &id.0,
            method: Method::DELETE,
            path: &path,
            body: None,
        };
        gone_is_fine(self.account.call(&call).await)
    }
}

impl DigitalOcean {
    fn remember(&self, began: UnixMillis, members: &[Member]) {
        let ids: BTreeMap<MemberName, MemberId> = members
            .iter()
            .map(|member| (member.name.clone(), member.id.clone()))
            .collect();
        self.doubts(|doubts| doubts.listed(began, &ids));
    }
}

/// Parses a 2xx. One that can't be read is an answer that was lost.
fn parse<T: serde::de::DeserializeOwned>(call: &Call<'_>, body: &Bytes) -> Result<T, ProviderError> {
    serde_json::from_slice(body).map_err(|error| {
        let detail = "the answer is not the JSON that was expected".to_owned();
        ProviderError {
            source: Some(Box::new(error)),
            ..call.error(call.kind_when_lost(), detail)
        }
    })
}

/// Path and query of the next page's address. Its host is not looked at: the token goes to the configured one only.
fn next_path(call: &Call<'_>, link: &str) -> Result<String, ProviderError> {
    let base = reqwest::Url::parse(BASE_URL_DEFAULT).ok();
    let url = base.and_then(|base| base.join(link).ok());
    url.filter(|url| url.path() == "/v2/droplets")
        .and_then(|url| url.query().map(|query| format!("/v2/droplets?{query}")))
        .ok_or_else(|| {
            call.error(
                ProviderErrorKind::Transient,
                format!("{link:?} is no address of a next page"),
            )
        })
}

/// A droplet's id as a path segment: digits only, so that no other path can be meant.
fn checked<'a>(operation: &'static str, id: &'a MemberId) -> Result<&'a str, ProviderError> {
    if !id.0.is_empty() && id.0.bytes().all(|b| b.is_ascii_digit()) {
        Ok(&id.0)
    } else {
        Err(invalid(operation, &id.0, "is no id of a droplet".to_owned()))
    }
}

fn gone_is_fine(outcome: Result<Bytes, ProviderError>) -> Result<(), ProviderError> {
    match outcome {
        Err(error) if error.kind == ProviderErrorKind::NotFound => Ok(()),
        other => other.map(drop),
    }
}

fn invalid(operation: &'static str, subject: &str, detail: String) -> ProviderError {
    ProviderError {
        kind: ProviderErrorKind::Invalid,
        operation,
        subject: subject.to_owned(),
        detail,
        source: None,
    }
}
