//! The container registry: names, subscription and credentials, as DigitalOcean shows them. No images are stored: a push or a
//! pull goes to the real one, which doesn't know these credentials.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::app::App;
use super::call::{Answer, Call, Result};
use super::error::ApiError;
use super::records::Cloud;
use super::records::registry::{Credential, Registries, Registry, Subscription};

/// Where images would be pushed to: the name in docker's configuration.
const SERVER: &str = "registry.digitalocean.com";
/// Where registries can be, as DigitalOcean's API document lists them; the first is taken when none is named.
const REGIONS: [&str; 5] = ["nyc3", "sfo3", "ams3", "sgp1", "fra1"];
/// Longest name (the document's `^[a-z0-9-]{1,63}$`).
const NAME_MAX: usize = 63;
/// Names that are paths.
const NAMES_TAKEN: [&str; 3] = ["options", "subscription", "validate-name"];
/// Credentials of a registry that are remembered; the oldest is forgotten first.
const CREDENTIALS_KEPT_MAX: usize = 100;
const CENTS_PER_GIB_OVER: u64 = 2;

/// A tier, as the options of DigitalOcean's API document show it.
struct Tier {
    name: &'static str,
    slug: &'static str,
    /// 0 for any number.
    repositories: u64,
    storage_bytes: u64,
    /// Whether more may be stored, for money.
    storage_overage: bool,
    price_cents: u64,
    /// How many registries an account may have with it.
    registries: usize,
}

const TIERS: [Tier; 3] = [
    Tier {
        name: "Starter",
        slug: "starter",
        repositories: 1,
        storage_bytes: 524_288_000,
        storage_overage: false,
        price_cents: 0,
        registries: 1,
    },
    Tier {
        name: "Basic",
        slug: "basic",
        repositories: 5,
        storage_bytes: 5_368_709_120,
        storage_overage: true,
        price_cents: 500,
        registries: 1,
    },
    Tier {
        name: "Professional",
        slug: "professional",
        repositories: 0,
        storage_bytes: 107_374_182_400,
        storage_overage: true,
        price_cents: 2_000,
        registries: 10,
    },
];

const GET: &str = "GET, HEAD";
const POST: &str = "POST";
const GET_POST: &str = "GET, HEAD, POST";
const GET_DELETE: &str = "GET, HEAD, DELETE";

/// `/v2/registry…`: the account's one registry.
pub(crate) async fn route_one(app: &App, call: &Call, rest: &[&str]) -> Result {
    match (call.method.as_str(), rest) {
        ("GET", []) => {
            let name = the_one(app)?;
            get(app, &name)
        }
        ("POST", []) => create(app, call).await,
        ("DELETE", []) => {
            let name = the_one(app)?;
            delete(app, &name).await
        }
        ("GET", ["docker-credentials"]) => {
            let name = the_one(app)?;
            credentials(app, &name, call).await
        }
        (_, []) => Err(ApiError::method_not_allowed("GET, HEAD, POST, DELETE")),
        (_, ["docker-credentials"]) => Err(ApiError::method_not_allowed(GET)),
        _ => shared(app, call, rest).await,
    }
}

/// `/v2/registries…`: registries by name.
pub(crate) async fn route(app: &App, call: &Call, rest: &[&str]) -> Result {
    match (call.method.as_str(), rest) {
        ("GET", []) => list(app),
        ("POST", []) => create(app, call).await,
        (_, []) => Err(ApiError::method_not_allowed(GET_POST)),
        (_, [name]) if NAMES_TAKEN.contains(name) => shared(app, call, rest).await,
        ("GET", [name]) => get(app, name),
        ("DELETE", [name]) => delete(app, name).await,
        ("GET", [name, "docker-credentials"]) => credentials(app, name, call).await,
        (_, [_]) => Err(ApiError::method_not_allowed(GET_DELETE)),
        (_, [_, "docker-credentials"]) => Err(ApiError::method_not_allowed(GET)),
        _ => Err(ApiError::not_found()),
    }
}

/// What both have.
async fn shared(app: &App, call: &Call, rest: &[&str]) -> Result {
    match (call.method.as_str(), rest) {
        ("GET", ["options"]) => options(app),
        ("GET", ["subscription"]) => app.read(|cloud| {
            let subscription = cloud.records.registries.subscription.as_ref();
            Answer::ok(
                json!({"subscription": subscription_view(subscription.ok_or_else(ApiError::not_found)?)}),
            )
        }),
        ("POST", ["subscription"]) => subscribe(app, call).await,
        ("POST", ["validate-name"]) => {
            let name = call.needed_text("name")?;
            check_name(name)?;
            app.read(|cloud| name_is_free(&cloud.records.registries, name))?;
            Answer::no_content()
        }
        (_, ["options"]) => Err(ApiError::method_not_allowed(GET)),
        (_, ["subscription"]) => Err(ApiError::method_not_allowed(GET_POST)),
        (_, ["validate-name"]) => Err(ApiError::method_not_allowed(POST)),
        _ => Err(ApiError::not_found()),
    }
}

fn list(app: &App) -> Result {
    app.read(|cloud| {
        let registries = &cloud.records.registries;
        let shown: Vec<Value> = registries
            .all
            .values()
            .map(|registry| view(registries, registry))
            .collect();
        Answer::ok(json!({"registries": shown, "total_storage_usage_bytes": 0}))
    })
}

fn get(app: &App, name: &str) -> Result {
    app.read(|cloud| {
        let registries = &cloud.records.registries;
        Answer::ok(json!({"registry": view(registries, find(registries, name)?)}))
    })
}

async fn create(app: &App, call: &Call) -> Result {
    let name = call.needed_text("name")?.to_owned();
    check_name(&name)?;
    let [default_region, ..] = REGIONS;
    let region = call.text("region")?.unwrap_or(default_region);
    if !REGIONS.contains(&region) {
        let message = format!("region must be one of {}", REGIONS.join(", "));
        return Err(ApiError::unprocessable(message));
    }
    let wanted = call.text("subscription_tier_slug")?.map(tier_of).transpose()?;
    let now = app.now();
    app.change(|cloud| {
        let registries = &mut cloud.records.registries;
        name_is_free(registries, &name)?;
        let tier = match (&registries.subscription, wanted) {
            (Some(subscription), None) => tier_of(&subscription.tier)?,
            (Some(subscription), Some(tier)) if subscription.tier == tier.slug => tier,
            (Some(_), Some(_)) => {
                return Err(ApiError::unprocessable(
                    "subscription_tier_slug: the account has another subscription; change that first",
                ));
            }
            (None, Some(tier)) => tier,
            (None, None) => return Err(ApiError::unprocessable("subscription_tier_slug can't be blank")),
        };
        room_in(tier, registries.all.len() + 1)?;
        registries.subscription.get_or_insert_with(|| Subscription {
            tier: tier.slug.to_owned(),
            created_at: now.clone(),
            updated_at: now.clone(),
        });
        let registry = Registry {
            name: name.clone(),
            region: region.to_owned(),
            created_at: now,
            credentials: Vec::new(),
        };
        let shown = view(registries, &registry);
        registries.all.insert(name, registry);
        Answer::created(json!({"registry": shown}))
    })
    .await
}

async fn delete(app: &App, name: &str) -> Result {
    app.change(|cloud| {
        let registries = &mut cloud.records.registries;
        registries.all.remove(name).ok_or_else(ApiError::not_found)?;
        if registries.all.is_empty() {
            registries.subscription = None;
        }
        Answer::no_content()
    })
    .await
}

async fn subscribe(app: &App, call: &Call) -> Result {
    let tier = tier_of(call.needed_text("tier_slug")?)?;
    let now = app.now();
    app.change(|cloud| {
        let registries = &mut cloud.records.registries;
        room_in(tier, registries.all.len())?;
        let subscription = registries.subscription.as_mut().ok_or_else(ApiError::not_found)?;
        if subscription.tier != tier.slug {
            tier.slug.clone_into(&mut subscription.tier);
            subscription.updated_at = now;
        }
        Answer::ok(json!({"subscription": subscription_view(subscription)}))
    })
    .await
}

fn options(app: &App) -> Result {
    app.read(|cloud| {
        let count = cloud.records.registries.all.len();
        let tiers = TIERS.iter().map(|tier| {
            let eligible = count <= tier.registries;
            let mut shown = tier_view(tier);
            super::views::set(&mut shown, "eligible", json!(eligible));
            if !eligible {
                super::views::set(&mut shown, "eligibility_reasons", json!(["OverRegistryLimit"]));
            }
            shown
        });
        let tiers: Vec<Value> = tiers.collect();
        Answer::ok(json!({"options": {"available_regions": REGIONS, "subscription_tiers": tiers}}))
    })
}

/// Makes credentials each time that it is asked.
#[expect(
    clippy::disallowed_methods,
    reason = "secrets are random, and expire by the wall's clock"
)]
async fn credentials(app: &App, name: &str, call: &Call) -> Result {
    let read_write = match call.param("read_write") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(ApiError::unprocessable("read_write must be true or false")),
    };
    let expires_at = match call.param("expiry_seconds") {
        None | Some("0") => None,
        Some(secs) => Some(after(Timestamp::now(), secs)?),
    };
    let token = format!(
        "{}{}",
        uuid::Uuid::new_v4().simple(),
        uuid::Uuid::new_v4().simple()
    );
    let credential = Credential {
        read_write,
        created_at: app.now(),
        expires_at,
    };
    let now = credential.created_at.clone();
    app.change(|cloud: &mut Cloud| {
        let registry = cloud.records.registries.all.get_mut(name);
        let kept = &mut registry.ok_or_else(ApiError::not_found)?.credentials;
        // Both are written in the same form, so their order is that of the times.
        kept.retain(|other| other.expires_at.as_ref().is_none_or(|at| *at > now));
        kept.push(credential);
        let over = kept.len().saturating_sub(CREDENTIALS_KEPT_MAX);
        kept.drain(..over);
        Ok(())
    })
    .await?;
    let auth = STANDARD.encode(format!("{token}:{token}"));
    Answer::ok(json!({"auths": {SERVER: {"auth": auth}}}))
}

/// The time so many seconds later, as the API writes it.
fn after(now: Timestamp, secs: &str) -> Result<String> {
    let wrong = || ApiError::unprocessable("expiry_seconds must be a number of seconds, 0 or more");
    let secs: u32 = secs.parse().map_err(|_| wrong())?;
    let then = now.checked_add(SignedDuration::from_secs(secs.into()));
    let then = then.map_err(|_| wrong())?;
    Ok(then.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// What is behind the curtain, for the local cloud's own state: credentials without their secrets.
pub(crate) fn state(cloud: &Cloud) -> Vec<Value> {
    let credential = |credential: &Credential| {
        json!({"read_write": credential.read_write, "created_at": credential.created_at,
            "expires_at": credential.expires_at})
    };
    let registries = cloud.records.registries.all.values();
    registries
        .map(|registry| {
            let credentials: Vec<Value> = registry.credentials.iter().map(credential).collect();
            json!({"name": registry.name, "credentials": credentials})
        })
        .collect()
}

/// The name of the only registry.
fn the_one(app: &App) -> Result<String> {
    app.read(|cloud| {
        let mut names = cloud.records.registries.all.keys();
        let name = names.next().ok_or_else(ApiError::not_found)?;
        match names.next() {
            None => Ok(name.clone()),
            Some(_) => Err(ApiError::unprocessable(
                "there are several registries: name one, as in /v2/registries/NAME",
            )),
        }
    })
}

fn find<'a>(registries: &'a Registries, name: &str) -> Result<&'a Registry> {
    registries.all.get(name).ok_or_else(ApiError::not_found)
}

fn check_name(name: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.len() <= NAME_MAX && name.bytes().all(fits) && !NAMES_TAKEN.contains(&name) {
        return Ok(());
    }
    Err(ApiError::unprocessable(format!(
        "name is invalid: small letters, numbers and dashes, at most {NAME_MAX} characters"
    )))
}

fn name_is_free(registries: &Registries, name: &str) -> Result<()> {
    if registries.all.contains_key(name) {
        return Err(ApiError::conflict("name is already in use"));
    }
    Ok(())
}

fn room_in(tier: &Tier, registries: usize) -> Result<()> {
    if registries <= tier.registries {
        return Ok(());
    }
    Err(ApiError::unprocessable(format!(
        "the tier {} has room for {} registries",
        tier.slug, tier.registries
    )))
}

fn tier_of(slug: &str) -> Result<&'static Tier> {
    TIERS.iter().find(|tier| tier.slug == slug).ok_or_else(|| {
        ApiError::unprocessable("the subscription's tier must be one of starter, basic, professional")
    })
}

fn view(registries: &Registries, registry: &Registry) -> Value {
    json!({
        "name": registry.name,
        "created_at": registry.created_at,
        "region": registry.region,
        "storage_usage_bytes": 0,
        "storage_usage_bytes_updated_at": registry.created_at,
        "subscription": registries.subscription.as_ref().map(subscription_view),
    })
}

fn subscription_view(subscription: &Subscription) -> Value {
    let tier = TIERS.iter().find(|tier| tier.slug == subscription.tier);
    json!({
        "tier": tier.map(tier_view),
        "created_at": subscription.created_at,
        "updated_at": subscription.updated_at,
    })
}

fn tier_view(tier: &Tier) -> Value {
    let overage = if tier.storage_overage {
        CENTS_PER_GIB_OVER
    } else {
        0
    };
    json!({
        "name": tier.name,
        "slug": tier.slug,
        "included_repositories": tier.repositories,
        "included_storage_bytes": tier.storage_bytes,
        "allow_storage_overage": tier.storage_overage,
        "included_bandwidth_bytes": tier.storage_bytes,
        "monthly_price_in_cents": tier.price_cents,
        "storage_overage_price_in_cents": overage,
    })
}
