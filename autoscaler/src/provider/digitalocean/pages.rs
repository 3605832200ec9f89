//! Lists through every page: each item still as its text, and never taken for whole when it may be short.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use reqwest::Method;
use serde_json::value::RawValue;

use super::api::{Account, BASE_URL_DEFAULT, Call};
use super::refusal;
use crate::provider::{ProviderError, ProviderErrorKind};

/// Items a page: DigitalOcean's own maximum.
pub(super) const PAGE_ITEMS: usize = 200;
/// Pages a listing: 50 of 200 make 10,000 items, and cost a fifth of a minute's calls.
const PAGES_MAX: usize = 50;
/// A listing whose pages don't add up, because items came or went meanwhile, is read so often. One that is short in the
/// same way each time is believed, with what it lacks as a number.
const LISTINGS_MAX: usize = 3;
/// The page that shows whether a server looks at `page` at all.
const SECOND_PAGE: usize = 2;
/// Of an address that can't be followed so much is shown.
const LINK_CHARS_MAX: usize = 100;

/// What is listed.
pub(super) struct List<'a> {
    /// The port's method, for messages.
    pub(super) operation: &'static str,
    /// Which pool, for messages.
    pub(super) subject: &'a str,
    /// Path below the base address.
    pub(super) path: &'static str,
    /// The filter, as names and values of the query.
    pub(super) filter: &'a [(&'static str, &'a str)],
    /// The member of a page that holds its items.
    pub(super) items: &'static str,
    /// What makes an item the same as one of another page; `None` where that isn't known.
    pub(super) identity: fn(&RawValue) -> Option<String>,
}

/// A list, and how much of it isn't there.
#[derive(Debug, Default)]
pub(super) struct Items {
    /// Each item once.
    pub(super) items: Vec<Box<RawValue>>,
    /// How many more the provider counts.
    pub(super) unseen: usize,
    /// There may be more, and nothing says how many.
    pub(super) may_go_on: bool,
    /// What is odd about the list, a sentence each.
    pub(super) problems: Vec<String>,
}

/// One reading of all pages.
#[derive(Debug, Default)]
struct Pass {
    items: Vec<Box<RawValue>>,
    seen: BTreeSet<String>,
    repeated: usize,
    total: Option<usize>,
    in_circle: bool,
    /// The first page came again in place of the second one, it may be cut short, and nothing says how many items there are.
    open_ended: bool,
}

/// One page.
struct Page {
    items: Vec<Box<RawValue>>,
    next: Next,
    total: Option<usize>,
}

enum Next {
    /// The address of the next page.
    Link(String),
    /// This is the last one.
    None,
    /// The page doesn't say.
    NotSaid,
}

impl Pass {
    fn take(&mut self, items: Vec<Box<RawValue>>, identity: fn(&RawValue) -> Option<String>) -> usize {
        let before = self.items.len();
        for item in items {
            if identity(&item).is_none_or(|identity| self.seen.insert(identity)) {
                self.items.push(item);
            } else {
                self.repeated += 1;
            }
        }
        self.items.len() - before
    }

    /// Whether it has all items that there are, as far as the provider says how many that is.
    fn is_whole(&self) -> bool {
        let listed = self.items.len();
        match self.total {
            None => !self.in_circle,
            Some(total) if self.in_circle => listed > 0 && total == listed,
            Some(total) => listed >= total,
        }
    }

    /// Whether it is short only by items that stand in it more than once.
    fn is_short_by_repeats(&self) -> bool {
        !self.in_circle
            && self
                .total
                .is_some_and(|total| self.items.len() + self.repeated >= total)
    }

    /// Whether another reading shows the same items, and is as short.
    fn is_like(&self, other: &Pass) -> bool {
        (&self.seen, self.items.len(), self.total) == (&other.seen, other.items.len(), other.total)
    }

    /// Why it is not believed.
    fn refusal(&self) -> String {
        if self.in_circle {
            "the list's pages lead in a circle".to_owned()
        } else {
            format!("the list changed each of the {LISTINGS_MAX} times while it was read")
        }
    }

    fn into_items(self, what: &str) -> Items {
        let listed = self.items.len();
        let total = self.total.unwrap_or(listed);
        let unseen = total.saturating_sub(listed);
        let mut problems = Vec::new();
        if self.repeated > 0 && !self.is_whole() {
            problems.push(format!(
                "the list of {what} has {} items more than once",
                self.repeated
            ));
        }
        if self.in_circle {
            problems.push(format!("the pages of {what} lead in a circle"));
        }
        if self.open_ended {
            problems.push(format!(
                "the list of {what} has {listed}, and each of its pages is the same: nothing says whether there are more, \
                 neither links nor meta.total, so none are made"
            ));
        }
        if unseen > 0 {
            problems.push(format!(
                "DigitalOcean counts {total} {what} and its list has {listed}; for the {unseen} that it leaves out none are made"
            ));
        }
        Items {
            items: self.items,
            unseen,
            may_go_on: self.open_ended,
            problems,
        }
    }
}

/// Reads a list, or fails: one that may be short is given only with the number of items that it lacks.
pub(super) async fn read(account: &Account, list: &List<'_>) -> Result<Items, ProviderError> {
    let mut last = read_once(account, list).await?;
    let mut by_repeats = last.is_short_by_repeats();
    let mut alike = last.total.is_some() && !last.in_circle;
    for _ in 1..LISTINGS_MAX {
        if last.is_whole() {
            break;
        }
        let next = read_once(account, list).await?;
        by_repeats &= next.is_short_by_repeats();
        alike &= !next.in_circle && next.is_like(&last);
        last = next;
    }
    if last.is_whole() || by_repeats || alike {
        return Ok(last.into_items(list.items));
    }
    Err(list.call("").error(ProviderErrorKind::Transient, last.refusal()))
}

async fn read_once(account: &Account, list: &List<'_>) -> Result<Pass, ProviderError> {
    let mut pass = Pass::default();
    let mut visited = BTreeSet::new();
    let mut path = list.page_path(&[("page", "1")])?;
    for number in 1..=PAGES_MAX {
        if !visited.insert(path.clone()) {
            pass.in_circle = true;
            return Ok(pass);
        }
        let call = list.call(&path);
        let body = account.call(&call).await?;
        let page = read_page(&call, &body, (list.items, pass.items.len()))?;
        pass.total = page.total.or(pass.total);
        let count = page.items.len();
        let new = pass.take(page.items, list.identity);
        path = match page.next {
            Next::Link(link) => list.next_path(&call, &link)?,
            // There may be more: the next page is asked for by its number, as long as that brings something.
            Next::NotSaid if new > 0 && pass.may_go_on() => {
                list.page_path(&[("page", &(number + 1).to_string())])?
            }
            Next::NotSaid => {
                // A server that has read `page` once repeats at most its last one.
                let repeats = number == SECOND_PAGE && new == 0 && count > 0;
                pass.open_ended = pass.total.is_none() && repeats && !is_heeded(account, list, count).await?;
                return Ok(pass);
            }
            Next::None => return Ok(pass),
        };
    }
    let detail = format!("the list has more than {PAGES_MAX} pages");
    Err(list.call("").error(ProviderErrorKind::Invalid, detail))
}

/// Whether a server that ignores `page` gives as many items as it is asked for, and not fewer: then a page that isn't full
/// is the whole list.
async fn is_heeded(account: &Account, list: &List<'_>, count: usize) -> Result<bool, ProviderError> {
    if count >= PAGE_ITEMS {
        return Ok(false);
    }
    let path = list.path_of(1, &[("page", "1")])?;
    let call = list.call(&path);
    let body = account.call(&call).await?;
    Ok(read_page(&call, &body, (list.items, 0))?.items.len() <= 1)
}

impl Pass {
    /// A server may give fewer items a page than it was asked for: without a number of them, only a page that brings
    /// nothing new is the end.
    fn may_go_on(&self) -> bool {
        self.total.is_none_or(|total| self.items.len() < total)
    }
}

impl List<'_> {
    fn call<'c>(&'c self, path: &'c str) -> Call<'c> {
        Call {
            operation: self.operation,
            subject: self.subject,
            method: Method::GET,
            path,
            body: None,
        }
    }

    /// The address of a page: the filter, and what else is asked.
    fn page_path(&self, more: &[(&str, &str)]) -> Result<String, ProviderError> {
        self.path_of(PAGE_ITEMS, more)
    }

    fn path_of(&self, items: usize, more: &[(&str, &str)]) -> Result<String, ProviderError> {
        let items = items.to_string();
        let pairs = self.filter.iter().copied().chain([("per_page", items.as_str())]);
        let url = reqwest::Url::parse_with_params(BASE_URL_DEFAULT, pairs.chain(more.iter().copied()));
        let url = url.map_err(|error| self.call("").error(ProviderErrorKind::Invalid, error.to_string()))?;
        Ok(format!("{}?{}", self.path, url.query().unwrap_or_default()))
    }

    /// Path and query of the next page's address. Only its query is taken, for the token goes to the configured address
    /// alone; its path may have a proxy's before ours, and a slash behind. Nor is its filter looked at: it is ours.
    fn next_path(&self, call: &Call<'_>, link: &str) -> Result<String, ProviderError> {
        let here = reqwest::Url::parse(BASE_URL_DEFAULT).and_then(|base| base.join(self.path));
        let url = here.and_then(|here| here.join(link)).ok();
        let is_list = |url: &reqwest::Url| url.path().trim_end_matches('/').ends_with(self.path);
        let url = url.filter(|url| is_list(url) && url.query().is_some());
        let Some(url) = url else {
            let link = refusal::one_line(link, LINK_CHARS_MAX);
            let detail = format!("{link:?} is not the address of a next page");
            return Err(call.error(ProviderErrorKind::Transient, detail));
        };
        let own = |name: &str| name == "per_page" || self.filter.iter().any(|(filter, _)| *filter == name);
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let others = pairs.iter().filter(|(name, _)| !own(name));
        let others: Vec<(&str, &str)> = others.map(|(name, value)| (&**name, &**value)).collect();
        self.page_path(&others)
    }
}

/// Reads one page of a list of which so much was read already. Only the list itself must be there; what else can't be read
/// is as if it were missing.
fn read_page(call: &Call<'_>, body: &Bytes, (items, listed): (&str, usize)) -> Result<Page, ProviderError> {
    type Fields = BTreeMap<String, Box<RawValue>>;
    let failed = |error: serde_json::Error| ProviderError {
        source: Some(Box::new(error)),
        ..call.error(
            call.kind_when_lost(),
            format!(
                "the answer is not the list that was expected: {}",
                refusal::words(body).text
            ),
        )
    };
    let fields: Fields = serde_json::from_slice(body).map_err(failed)?;
    let total = fields
        .get("meta")
        .and_then(|meta| serde_json::from_str::<Fields>(meta.get()).ok())
        .and_then(|meta| serde_json::from_str::<usize>(meta.get("total")?.get()).ok());
    let items = match fields.get(items).map(|list| list.get()) {
        // So some write an empty list; the number of items says whether it is one.
        Some("null") if total.is_some_and(|total| total <= listed) => Vec::new(),
        list => serde_json::from_str(list.unwrap_or("null")).map_err(failed)?,
    };
    let next = fields.get("links").map_or(Next::NotSaid, |links| next_of(links));
    Ok(Page { items, next, total })
}

fn next_of(links: &RawValue) -> Next {
    type Fields = BTreeMap<String, Box<RawValue>>;
    let Ok(links) = serde_json::from_str::<Fields>(links.get()) else {
        return Next::NotSaid;
    };
    let Some(pages) = links.get("pages") else {
        return Next::None;
    };
    let Ok(pages) = serde_json::from_str::<Option<Fields>>(pages.get()) else {
        return Next::NotSaid;
    };
    let next = pages.as_ref().and_then(|pages| pages.get("next"));
    match next.map(|next| serde_json::from_str::<Option<String>>(next.get())) {
        Some(Ok(Some(link))) if !link.is_empty() => Next::Link(link),
        Some(Err(_)) => Next::NotSaid,
        Some(Ok(_)) | None => Next::None,
    }
}
