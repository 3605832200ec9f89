//! Keys: making them, and keeping [`Access`] up to date with those in the store.
//!
//! A key's text exists once, on the standard output of `keys create`; the store holds its SHA-256. The text has 256
//! random bits, so a fast hash is enough: there is nothing to guess.
//!
//! Requests never wait for keys: they are answered from memory, and a task asks the store every
//! [`REFRESH_INTERVAL`]. A store that once had keys never opens again by itself, also not when the last one is revoked and
//! the server starts again: only an operator opens it, by `keys open`. While the store does not answer, the last known keys count for
//! [`STALE_MAX`]; after that nobody is let in ([`KeyFreshness::is_stale`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::domain::{KEY_PREFIX, Scope};
use crate::http::access::{Access, Key, KeyRing};
use crate::store::{KeyRecord, Store, StoreError};

/// How often the store is asked. A new, revoked or expired key must count on every instance within 10 s:
/// 2 s of interval and 5 s of [`REFRESH_TIMEOUT`] leave 3 s to spare, also when one question was in vain.
pub const REFRESH_INTERVAL: Duration = Duration::from_secs(2);

/// How long a question may take before it counts as failed.
pub const REFRESH_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the last known keys count while the store does not answer. Long enough for a database to elect, restart or
/// lose a node without every client being turned away; short enough that a revoked key does not live on in a partition.
pub const STALE_MAX: Duration = Duration::from_secs(60);

/// Makes a key's text of 32 random bytes: `tp_` and 43 characters of `A-Za-z0-9_-`.
#[must_use]
pub fn key_text(random: [u8; 32]) -> String {
    format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(random))
}

/// What the store keeps of a key's text.
#[must_use]
pub fn key_hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// The stored keys as requests are checked against them. A scope that can't be read grants nothing.
#[must_use]
pub fn ring_of(records: &[KeyRecord]) -> HashMap<[u8; 32], Arc<Key>> {
    records
        .iter()
        .map(|record| {
            let key = Key {
                name: record.name.clone(),
                scopes: scopes_of(record),
                expires_at: record.expires_at,
            };
            (record.hash, Arc::new(key))
        })
        .collect()
}

fn scopes_of(record: &KeyRecord) -> Vec<Scope> {
    let mut scopes = Vec::with_capacity(record.scopes.len());
    for text in &record.scopes {
        match Scope::parse(text) {
            Ok(scope) => scopes.push(scope),
            Err(error) => {
                tracing::error!(key_name = %record.name, scope = %text, %error, "a stored scope can't be read: it grants nothing");
            }
        }
    }
    scopes
}

/// Whether the keys in memory are too old to be trusted; read by every request.
#[derive(Debug, Default)]
pub struct KeyFreshness {
    stale: AtomicBool,
}

impl KeyFreshness {
    /// True when the store has not given the keys for [`STALE_MAX`]: nobody may be let in.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }
}

/// The keys at the start, before the first request.
pub struct LoadedKeys {
    /// For requests.
    pub access: Arc<Access>,
    records: Vec<KeyRecord>,
}

impl LoadedKeys {
    /// Asks the store.
    ///
    /// # Errors
    /// The store's.
    pub async fn load(
        store: &dyn Store,
        clock: fn() -> crate::domain::Timestamp,
    ) -> Result<Self, StoreError> {
        let records = store.key_list().await?;
        let closed = !records.is_empty() || store.access_is_closed().await?;
        if !records.is_empty() {
            // For keys that an older program has made, which knew of no marker. As long as they are there it is not needed.
            if let Err(error) = store.access_close().await {
                tracing::warn!(error = %tidepool_logging::chain(&error), "that the store has keys could not be noted; trying at the next start");
            }
        }
        let ring = match closed {
            true => KeyRing::Keys(ring_of(&records)),
            false => KeyRing::Open,
        };
        Ok(Self {
            access: Arc::new(Access::new(ring, clock)),
            records,
        })
    }

    /// Whether any key exists, expired ones included.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.records.is_empty()
    }

    /// Whether requests need no key.
    #[must_use]
    pub fn are_not_needed(&self) -> bool {
        self.access.is_open()
    }
}

/// Keeps the keys up to date until the process ends.
pub async fn refresh_forever(store: Arc<dyn Store>, keys: LoadedKeys, freshness: Arc<KeyFreshness>) {
    let mut refresher = Refresher {
        access: keys.access,
        records: keys.records,
        freshness,
        fresh_at: Instant::now(),
        failing: false,
    };
    loop {
        tokio::time::sleep(REFRESH_INTERVAL).await;
        let asked_at = Instant::now();
        match tokio::time::timeout(REFRESH_TIMEOUT, store.key_list()).await {
            Ok(Ok(found)) => refresher.succeeded(asked_at, found),
            Ok(Err(error)) => refresher.failed(Instant::now(), &tidepool_logging::chain(&error)),
            Err(_) => {
                let error = format!("no answer within {} s", REFRESH_TIMEOUT.as_secs());
                refresher.failed(Instant::now(), &error);
            }
        }
    }
}

/// What the refreshing task knows between two questions.
struct Refresher {
    access: Arc<Access>,
    records: Vec<KeyRecord>,
    freshness: Arc<KeyFreshness>,
    fresh_at: Instant,
    failing: bool,
}

impl Refresher {
    fn succeeded(&mut self, asked_at: Instant, found: Vec<KeyRecord>) {
        if self.failing {
            tracing::info!("keys are up to date again");
        }
        self.failing = false;
        self.fresh_at = asked_at;
        if found != self.records {
            apply(&self.access, &found);
            self.records = found;
        }
        // After the keys are in place: whoever sees that they are fresh sees the fresh ones.
        self.freshness.stale.store(false, Ordering::Release);
    }

    fn failed(&mut self, now: Instant, error: &str) {
        if !self.failing {
            let stale_max_secs = STALE_MAX.as_secs();
            tracing::warn!(
                error,
                stale_max_secs,
                "keys can't be refreshed: the last known ones count on"
            );
        }
        self.failing = true;
        let too_old = now.saturating_duration_since(self.fresh_at) >= STALE_MAX;
        if too_old && !self.freshness.stale.swap(true, Ordering::Relaxed) {
            tracing::error!("keys could not be refreshed for too long: requests are refused until they are");
        }
    }
}

/// Puts the found keys in place. Without any, an open server stays open and a closed one closed.
fn apply(access: &Access, found: &[KeyRecord]) {
    if found.is_empty() && access.is_open() {
        return;
    }
    if access.is_open() {
        tracing::info!("the first key exists: requests need a key from now on");
    }
    if found.is_empty() {
        tracing::warn!("the last key is gone: every request is refused until a key is made");
    }
    access.replace(KeyRing::Keys(ring_of(found)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use http::HeaderValue;

    fn record(name: &str, text: &str, scopes: &[&str]) -> KeyRecord {
        KeyRecord {
            name: name.to_owned(),
            hash: key_hash(text),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            created_at: Timestamp(1),
            expires_at: None,
        }
    }

    fn header(text: &str) -> HeaderValue {
        HeaderValue::from_str(&format!("Bearer {text}")).unwrap()
    }

    #[test]
    fn a_key_has_the_prefix_and_256_bits() {
        let text = key_text([0xfb; 32]);
        assert_eq!(text.len(), "tp_".len() + 43);
        let rest = text.strip_prefix("tp_").unwrap();
        assert!(
            rest.chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)),
            "{text}"
        );
        assert_ne!(key_text([0; 32]), key_text([1; 32]));
    }

    #[test]
    fn the_first_key_closes_and_nothing_opens_again() {
        let access = Access::new(KeyRing::Open, || Timestamp(0));
        apply(&access, &[]);
        assert!(access.is_open());
        apply(&access, &[record("one", "tp_one", &["read:*"])]);
        assert!(!access.is_open());
        assert!(access.authorise(Some(&header("tp_one"))).is_ok());
        apply(&access, &[record("two", "tp_two", &["read:*"])]);
        assert!(access.authorise(Some(&header("tp_one"))).is_err());
        apply(&access, &[]);
        assert!(!access.is_open());
        assert!(access.authorise(None).is_err());
        assert!(access.authorise(Some(&header("tp_two"))).is_err());
    }

    #[test]
    fn a_foreign_scope_grants_nothing_and_leaves_the_others() {
        let ring = ring_of(&[record("one", "tp_one", &["fly:*", "read:notes"])]);
        let key = ring.get(&key_hash("tp_one")).unwrap();
        assert_eq!(key.scopes, [Scope::parse("read:notes").unwrap()]);
    }

    fn refresher(access: &Arc<Access>, records: Vec<KeyRecord>) -> Refresher {
        Refresher {
            access: Arc::clone(access),
            records,
            freshness: Arc::default(),
            fresh_at: Instant::now(),
            failing: false,
        }
    }

    #[test]
    fn keys_that_can_not_be_refreshed_count_for_a_while_and_then_nobody_is_let_in() {
        let known = vec![record("one", "tp_one", &["read:*"])];
        let ring = KeyRing::Keys(ring_of(&known));
        let access = Arc::new(Access::new(ring, || Timestamp(0)));
        let mut refresher = refresher(&access, known.clone());
        let fresh_at = refresher.fresh_at;
        for waited in [2, 30, 59] {
            refresher.failed(fresh_at + Duration::from_secs(waited), "the database is away");
            assert!(!refresher.freshness.is_stale(), "{waited}");
            assert!(access.authorise(Some(&header("tp_one"))).is_ok());
            assert!(access.authorise(None).is_err());
        }
        refresher.failed(fresh_at + STALE_MAX, "the database is away");
        assert!(refresher.freshness.is_stale());
        refresher.succeeded(fresh_at + Duration::from_secs(70), known);
        assert!(!refresher.freshness.is_stale());
        assert!(access.authorise(Some(&header("tp_one"))).is_ok());
        refresher.failed(fresh_at + Duration::from_secs(129), "again");
        assert!(
            !refresher.freshness.is_stale(),
            "the minute counts from the last success"
        );
    }

    #[test]
    fn an_open_server_is_not_open_for_ever_when_the_store_is_away() {
        let access = Arc::new(Access::new(KeyRing::Open, || Timestamp(0)));
        let mut refresher = refresher(&access, Vec::new());
        let fresh_at = refresher.fresh_at;
        refresher.failed(fresh_at + STALE_MAX, "the database is away");
        assert!(refresher.freshness.is_stale());
    }

    #[test]
    fn a_change_counts_within_ten_seconds_even_when_one_question_was_in_vain() {
        assert!(REFRESH_INTERVAL + REFRESH_TIMEOUT + REFRESH_INTERVAL < Duration::from_secs(10));
    }
}
