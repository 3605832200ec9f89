//! DigitalOcean's droplets as a provider: its v2 API, spoken by an HTTP client of our own (docs/adr/0060).
//!
//! A droplet's place is said by tags: `pool:<name>` makes it a member, `serving:<name>` lets the load balancer send it
//! traffic, `draining:<name>` marks it for removal.

mod api;
mod budget;
mod doubt;
mod droplet;
mod listing;
mod pages;
mod recipe;
mod refusal;
mod tags;
mod template;
mod wire;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::Method;
use tidepool_autoscaler_core::observe::{MemberId, PoolName};
use tidepool_autoscaler_core::recipe::{Image, Recipe};

use api::Call;
pub use api::{Account, AccountError, ApiToken, BASE_URL_DEFAULT, Clock, in_clear};
pub use budget::CALLS_PER_HOUR_MAX;
use doubt::{Doubts, Verdict};
use droplet::Droplet;
pub use listing::listing_calls;
pub use template::{AddressKind, DropletTemplate, ImageRef, SshKeyRef};
use wire::CreateDroplet;

use super::{
    CreateMember, EarlierCreate, Found, Listing, Provider, ProviderError, ProviderErrorKind, RecipeError,
};

/// DigitalOcean, configured for one pool.
#[derive(Debug)]
pub struct DigitalOcean {
    account: Arc<Account>,
    template: DropletTemplate,
    doubts: Mutex<Doubts>,
}

/// One of the port's methods on one droplet, for messages.
#[derive(Clone, Copy)]
struct On<'a> {
    operation: &'static str,
    id: &'a MemberId,
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

    /// The account's spelling of a tag.
    fn spelled(&self, tag: &str) -> String {
        self.account.spellings(|spellings| spellings.of(tag))
    }

    /// Notes how the provider spells a droplet's tags.
    fn learn_tags(&self, droplet: &Droplet) {
        self.account.spellings(|spellings| {
            for tag in droplet.tags.iter().flatten() {
                spellings.learn(tag);
            }
        });
    }

    async fn act(&self, on: On<'_>, action: &str) -> Result<(), ProviderError> {
        let path = format!("/v2/droplets/{}/actions", on.checked()?);
        let body = serde_json::json!({ "type": action });
        match self.account.call(&on.call(Method::POST, &path, Some(body))).await {
            Ok(_) => Ok(()),
            // "Droplet is already powered off" is an `Invalid`: the droplet itself says so.
            Err(error) if error.kind == ProviderErrorKind::Invalid && self.is_off(on).await? => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn is_off(&self, on: On<'_>) -> Result<bool, ProviderError> {
        Ok(self.droplet(on).await?.is_off())
    }

    /// One droplet by its id.
    async fn droplet(&self, on: On<'_>) -> Result<Droplet, ProviderError> {
        let path = format!("/v2/droplets/{}", on.checked()?);
        let call = on.call(Method::GET, &path, None);
        let body = self.account.call(&call).await?;
        wire::droplet_in(&body)
            // What stands between us and the provider may give one's answer to the question for another.
            .filter(|droplet| droplet.id.as_ref() == Some(on.id))
            .ok_or_else(|| unexpected(&call, &body))
    }

    /// Tags a droplet, by the account's spelling; a tag that nobody has made yet is made first.
    async fn tag(&self, on: On<'_>, tag: &str) -> Result<(), ProviderError> {
        let body = Some(wire::tag_resources(on.id));
        let path = format!("/v2/tags/{}/resources", self.spelled(tag));
        match self
            .account
            .call(&on.call(Method::POST, &path, body.clone()))
            .await
        {
            Err(error) if error.kind == ProviderErrorKind::NotFound => {}
            settled => return settled.map(drop),
        }
        // The answer says how the account spells it, also when it has it already.
        let make = Call {
            operation: on.operation,
            subject: tag,
            method: Method::POST,
            path: "/v2/tags",
            body: Some(serde_json::json!({ "name": tag })),
        };
        match self.account.call(&make).await {
            Ok(answer) => {
                let spelling = tags::name_in(&answer).filter(|name| tags::same(name, tag));
                self.account
                    .spellings(|s| s.learn(spelling.as_deref().unwrap_or(tag)));
            }
            // It may be there by another spelling, and not be made again.
            Err(error) if error.kind == ProviderErrorKind::Invalid => {
                self.spellings_read().await;
                if self.spelled(tag) == tag {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        let path = format!("/v2/tags/{}/resources", self.spelled(tag));
        self.account
            .call(&on.call(Method::POST, &path, body))
            .await
            .map(drop)
    }

    /// Takes a tag off a droplet. That the tag isn't known is believed only of the account's own spelling.
    async fn untag(&self, on: On<'_>, tag: &str) -> Result<(), ProviderError> {
        let body = Some(wire::tag_resources(on.id));
        let first = self.spelled(tag);
        let path = format!("/v2/tags/{first}/resources");
        match self
            .account
            .call(&on.call(Method::DELETE, &path, body.clone()))
            .await
        {
            Err(error) if error.kind == ProviderErrorKind::NotFound => {}
            settled => return settled.map(drop),
        }
        self.spellings_read().await;
        let second = self.spelled(tag);
        if second == first {
            return Ok(());
        }
        let path = format!("/v2/tags/{second}/resources");
        gone_is_fine(self.account.call(&on.call(Method::DELETE, &path, body)).await)
    }

    /// A droplet of this name that is this pool's, or that may be what an earlier create made.
    async fn made_before(&self, create: &CreateMember) -> Result<Option<MemberId>, ProviderError> {
        if create.earlier == EarlierCreate::None {
            return Ok(None);
        }
        let found = match self.droplets_named(&create.pool, &create.name).await {
            Ok(found) => found,
            // Who can't be asked for names leaves a first create as safe as it was; a lost one is not sent again.
            Err(error)
                if create.earlier == EarlierCreate::NotKnown
                    && matches!(
                        error.kind,
                        ProviderErrorKind::NotFound | ProviderErrorKind::Invalid
                    ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let tagged = found
            .iter()
            .find(|droplet| droplet.tagged(&tags::pool_tag(&create.pool)) == Some(true));
        let by_time = |droplet: &&Droplet| match create.earlier {
            EarlierCreate::Begun(at) => match (droplet.created_at, self.account.by_their_clock(at)) {
                (Some(made), Some(begun)) => made.0 >= begun.0.saturating_sub(MADE_BEFORE_MILLIS),
                // Nobody can say which was first: it is not made a second time.
                (None, _) | (_, None) => true,
            },
            EarlierCreate::None | EarlierCreate::NotKnown => false,
        };
        let made = tagged.or_else(|| found.iter().find(by_time));
        if let Some(droplet) = made {
            self.learn_tags(droplet);
        }
        Ok(made.and_then(|droplet| droplet.id.clone()))
    }

    /// Sends a create; what can't be understood of its answer, an id apart, does no harm.
    async fn create(&self, create: &CreateMember) -> Result<MemberId, ProviderError> {
        const OPERATION: &str = "member_create";
        let subject = &create.name.0;
        let mut tags = vec![self.spelled(&tags::pool_tag(&create.pool))];
        if let Some(generation) = &create.made.recipe.generation {
            tags.push(self.spelled(&tags::generation_tag(&create.pool, generation)));
        }
        tags.extend(self.template.tags.iter().map(|tag| self.spelled(tag)));
        let template = self.template.made_of(&create.made);
        let body = serde_json::to_value(CreateDroplet::new(&template, &create.name, tags))
            .map_err(|error| invalid(OPERATION, subject, error.to_string()))?;
        let call = Call {
            operation: OPERATION,
            subject,
            method: Method::POST,
            path: "/v2/droplets",
            body: Some(body),
        };
        let answer = self.account.call(&call).await?;
        let is_ours = |droplet: &Droplet| {
            let name = droplet.name.as_ref();
            name.is_none_or(|name| name.0.eq_ignore_ascii_case(&create.name.0))
        };
        let droplet = wire::droplet_in(&answer).filter(is_ours);
        let droplet = droplet.ok_or_else(|| unexpected(&call, &answer))?;
        self.learn_tags(&droplet);
        droplet.id.ok_or_else(|| unexpected(&call, &answer))
    }
}

/// A droplet that was made so long before our create was begun, by the provider's clock, may be what came of it: answers
/// tell the time in whole seconds, and the machines that tell it differ a little.
const MADE_BEFORE_MILLIS: i64 = 60_000;

#[async_trait]
impl Provider for DigitalOcean {
    async fn members_list(&self, pool: &PoolName) -> Result<Listing, ProviderError> {
        let began = self.account.now();
        let listing = self.listing(pool).await?;
        let members = listing.members.iter();
        let ids = members
            .map(|member| (member.name.clone(), member.id.clone()))
            .collect();
        let whole = listing.unseen == 0 && !listing.may_go_on;
        self.doubts(|doubts| doubts.listed(whole.then_some(began), &ids));
        Ok(listing)
    }

    async fn member_get(&self, pool: &PoolName, id: &MemberId) -> Result<Option<Found>, ProviderError> {
        let on = On {
            operation: "member_get",
            id,
        };
        let droplet = match self.droplet(on).await {
            Ok(droplet) => droplet,
            Err(error) if error.kind == ProviderErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        self.learn_tags(&droplet);
        Ok(Some(Found {
            member: droplet.member(pool, self.template.address, id.clone()),
            tagged: droplet.may_belong_to(pool),
            problem: droplet.problem(pool, self.template.address),
        }))
    }

    async fn pool_is_known(&self, pool: &PoolName) -> Result<bool, ProviderError> {
        let names = self.tags_list().await?;
        let own = tags::pool_tag(pool);
        Ok(names.iter().any(|name| tags::same(name, &own)))
    }

    async fn names_check(&self, pool: &PoolName) -> Result<Vec<String>, ProviderError> {
        let now = self.account.now();
        if self.account.spellings(|spellings| spellings.is_due(now)) {
            self.tags_list().await?;
        }
        let mut found = self.spelling_problems(pool);
        found.extend(self.shared_problems(pool).await);
        Ok(found)
    }

    async fn recipe_find(&self, recipe: &Recipe) -> Result<Image, RecipeError> {
        recipe::find(&self.account, &self.template, recipe).await
    }

    async fn member_create(&self, create: &CreateMember) -> Result<MemberId, ProviderError> {
        const OPERATION: &str = "member_create";
        match self.doubts(|doubts| doubts.verdict(&create.name)) {
            Verdict::Create => {}
            Verdict::Exists(id) => return Ok(id),
            Verdict::Wait => {
                let detail = "the answer to an earlier create was lost, and no listing has settled it yet; nothing was sent";
                let error = invalid(OPERATION, &create.name.0, detail.to_owned());
                return Err(ProviderError {
                    kind: ProviderErrorKind::UnknownOutcome,
                    ..error
                });
            }
        }
        if let Some(id) = self.made_before(create).await? {
            return Ok(id);
        }
        // Until the answer is here, it is lost: a caller that gives up waiting drops this future, and the doubt stays.
        self.doubts(|doubts| doubts.lost(create.name.clone(), self.account.now()));
        let outcome = self.create(create).await;
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
        let operation = "serving_admit";
        self.tag(On { operation, id }, &tags::serving_tag(pool)).await
    }

    async fn draining_mark(&self, pool: &PoolName, id: &MemberId) -> Result<(), ProviderError> {
        let operation = "draining_mark";
        self.tag(On { operation, id }, &tags::draining_tag(pool)).await
    }

    async fn serving_withdraw(&self, pool: &PoolName, id: &MemberId) -> Result<(), ProviderError> {
        let operation = "serving_withdraw";
        self.untag(On { operation, id }, &tags::serving_tag(pool)).await
    }

    async fn member_shutdown(&self, id: &MemberId) -> Result<(), ProviderError> {
        let operation = "member_shutdown";
        self.act(On { operation, id }, "shutdown").await
    }

    async fn member_power_off(&self, id: &MemberId) -> Result<(), ProviderError> {
        let operation = "member_power_off";
        self.act(On { operation, id }, "power_off").await
    }

    async fn member_destroy(&self, id: &MemberId) -> Result<(), ProviderError> {
        let operation = "member_destroy";
        let on = On { operation, id };
        let path = format!("/v2/droplets/{}", on.checked()?);
        gone_is_fine(self.account.call(&on.call(Method::DELETE, &path, None)).await)
    }
}

impl<'a> On<'a> {
    /// A droplet's id as a path segment: digits only, so that no other path can be meant.
    fn checked(&self) -> Result<&'a str, ProviderError> {
        let id = &self.id.0;
        if !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) {
            Ok(id)
        } else {
            Err(invalid(
                self.operation,
                id,
                "is not the id of a droplet".to_owned(),
            ))
        }
    }

    fn call<'c>(&'c self, method: Method, path: &'c str, body: Option<serde_json::Value>) -> Call<'c> {
        Call {
            operation: self.operation,
            subject: &self.id.0,
            method,
            path,
            body,
        }
    }
}

/// A 2xx that can't be read: an answer that was lost.
fn unexpected(call: &Call<'_>, body: &Bytes) -> ProviderError {
    let words = refusal::words(body).text;
    call.error(
        call.kind_when_lost(),
        format!("the answer is not the JSON that was expected: {words}"),
    )
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
