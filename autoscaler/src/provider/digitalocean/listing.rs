//! Who is in a pool: the lists that show its droplets, and the account's tags.

use serde_json::value::RawValue;
use tidepool_autoscaler_core::observe::{Member, MemberId, MemberName, PoolName, count};

use super::droplet::Droplet;
use super::pages::{self, Items, List};
use super::tags::{self, draining_tag, pool_tag, serving_tag};
use super::{DigitalOcean, DropletTemplate};
use crate::provider::{Listing, ProviderError, ProviderErrorKind, UNIDENTIFIED};

const DROPLETS: &str = "/v2/droplets";
/// DigitalOcean leaves GPU droplets out of every list but this one, which takes no tag.
const GPUS: (&str, &str) = ("type", "gpus");
/// So many odd droplets of one list are reported at most; the rest is like them.
const PROBLEMS_MAX: usize = 20;

/// Calls that the list of a pool of so many members takes: each page is one. A list of GPU droplets comes on top.
pub fn listing_calls(template: &DropletTemplate, members: u32) -> u32 {
    let page_items = u32::try_from(pages::PAGE_ITEMS).unwrap_or(u32::MAX);
    members.div_ceil(page_items).max(1) + u32::from(template.is_gpu())
}

/// How far a list is one pool's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filtered {
    /// By the pool's tag: what can't be read in it is a member of the pool all the same.
    ByTag,
    /// Not at all: only what carries the tag for certain is one.
    No,
}

impl DigitalOcean {
    /// All members of the pool.
    pub(super) async fn listing(&self, pool: &PoolName) -> Result<Listing, ProviderError> {
        let now = self.account.now();
        if self.account.spellings(|spellings| spellings.is_due(now)) {
            self.spellings_read().await;
        }
        let tag = self.spelled(&pool_tag(pool));
        let mut listing = Listing::default();
        let items = self.droplets(pool, &[("tag_name", &tag)]).await?;
        self.take_in(&mut listing, pool, items, Filtered::ByTag);
        if self.template.is_gpu() {
            let items = self.droplets(pool, &[GPUS]).await?;
            self.take_in(&mut listing, pool, items, Filtered::No);
        }
        listing.ahead_millis = self.account.ahead_millis();
        listing.problems.truncate(PROBLEMS_MAX);
        listing.problems.extend(self.spelling_problems(pool));
        Ok(listing)
    }

    /// Droplets of exactly this name, tagged or not, of every type.
    pub(super) async fn droplets_named(
        &self,
        pool: &PoolName,
        name: &MemberName,
    ) -> Result<Vec<Droplet>, ProviderError> {
        let mut found = Vec::new();
        for filter in [
            &[("name", name.0.as_str())][..],
            &[("name", name.0.as_str()), GPUS][..],
        ] {
            let droplets = self.droplets(pool, filter).await?;
            if droplets.unseen > 0 || droplets.may_go_on {
                return Err(ProviderError {
                    kind: ProviderErrorKind::Transient,
                    operation: "members_list",
                    subject: name.0.clone(),
                    detail: droplets.problems.join("; "),
                    source: None,
                });
            }
            let droplets = droplets.items.iter().map(|item| Droplet::read(item));
            found.extend(droplets.filter(|droplet| droplet.name.as_ref() == Some(name)));
        }
        Ok(found)
    }

    /// Droplets that are other pools' as well, a sentence each, or why they could not be looked for.
    pub(super) async fn shared_problems(&self, pool: &PoolName) -> Vec<String> {
        let tag = self.spelled(&pool_tag(pool));
        match self.droplets(pool, &[("tag_name", &tag)]).await {
            Ok(found) => {
                let droplets = found.items.iter().map(|item| Droplet::read(item));
                let shared = droplets.filter(|droplet| droplet.shared(pool).is_some());
                shared
                    .filter_map(|droplet| droplet.problem(pool, self.template.address))
                    .take(PROBLEMS_MAX)
                    .collect()
            }
            Err(error) => vec![format!(
                "whether its droplets are other pools' as well was not checked: {error}"
            )],
        }
    }

    async fn droplets(
        &self,
        pool: &PoolName,
        filter: &[(&'static str, &str)],
    ) -> Result<Items, ProviderError> {
        let list = List {
            operation: "members_list",
            subject: &pool.0,
            path: DROPLETS,
            filter,
            items: "droplets",
            identity: |item: &RawValue| Droplet::read(item).id.map(|id| id.0),
        };
        pages::read(&self.account, &list).await
    }

    fn take_in(&self, listing: &mut Listing, pool: &PoolName, items: Items, filtered: Filtered) {
        listing.problems.extend(items.problems);
        listing.unseen = listing.unseen.saturating_add(count(items.unseen));
        listing.may_go_on |= items.may_go_on;
        for item in &items.items {
            let droplet = Droplet::read(item);
            // The filter is the server's work, but what is listed here may be destroyed one day: look again.
            let belongs = match droplet.tagged(&pool_tag(pool)) {
                Some(tagged) => tagged,
                None => filtered == Filtered::ByTag,
            };
            if !belongs {
                continue;
            }
            self.learn_tags(&droplet);
            listing
                .problems
                .extend(droplet.problem(pool, self.template.address));
            let id = droplet
                .id
                .clone()
                .unwrap_or_else(|| unidentified(&listing.members));
            if listing.members.iter().all(|member| member.id != id) {
                listing
                    .members
                    .push(droplet.member(pool, self.template.address, id));
            }
        }
    }

    /// Reads the account's tags, or notes why that can't be done; the spellings that are known stay then.
    pub(super) async fn spellings_read(&self) {
        let before = self.account.now();
        if let Err(error) = self.tags_list().await {
            let why = error.to_string();
            self.account.spellings(|spellings| spellings.failed(&why, before));
        }
    }

    /// Reads the account's tags, and gives their names.
    pub(super) async fn tags_list(&self) -> Result<Vec<String>, ProviderError> {
        let list = List {
            operation: "tags_list",
            subject: "account",
            path: "/v2/tags",
            filter: &[],
            items: "tags",
            identity: tags::name_of,
        };
        let now = self.account.now();
        let items = pages::read(&self.account, &list).await?.items;
        let names: Vec<String> = items.iter().filter_map(|item| tags::name_of(item)).collect();
        self.account.spellings(|spellings| spellings.read(&names, now));
        Ok(names)
    }

    /// Tags that the account spells in another way than we do, and why that could not be found out.
    pub(super) fn spelling_problems(&self, pool: &PoolName) -> Vec<String> {
        let own = [pool_tag(pool), serving_tag(pool), draining_tag(pool)];
        let differing = own.iter().chain(&self.template.tags).filter_map(|tag| {
            let spelling = self.spelled(tag);
            (spelling != *tag).then(|| {
                format!("the account spells the tag {tag} as {spelling}; to DigitalOcean they are one tag, and its spelling is used")
            })
        });
        let unread = self.account.spellings(|spellings| spellings.problem.clone());
        differing.chain(unread).collect()
    }
}

/// An id for a droplet that has none of its own: it counts, and no call can be made with it.
fn unidentified(members: &[Member]) -> MemberId {
    MemberId(format!("{UNIDENTIFIED}{}", members.len() + 1))
}
