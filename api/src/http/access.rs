//! Who may do what: from an `Authorization` header to a [`Grant`]. Keys are loaded by `keys.rs`; this
//! module holds the current ring and answers from memory.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use http::HeaderValue;
use sha2::{Digest, Sha256};

use crate::domain::{CollectionName, Level, Scope, Timestamp};

/// A key as requests are checked against it.
#[derive(Debug, Clone)]
pub struct Key {
    /// The operator's name for it, for logs.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it ceases to count.
    pub expires_at: Option<Timestamp>,
}

/// All keys of a database at one moment.
#[derive(Debug, Default)]
pub enum KeyRing {
    /// No key was ever made: everybody may do everything. Only allowed on loopback.
    #[default]
    Open,
    /// By the SHA-256 of the whole key text. Expired ones stay in it, so that the last one's expiry opens nothing.
    Keys(HashMap<[u8; 32], Arc<Key>>),
}

/// The handle that requests are authorised with; shared by all of them and by the task that reloads the keys.
#[derive(Debug)]
pub struct Access {
    ring: RwLock<Arc<KeyRing>>,
    clock: fn() -> Timestamp,
}

/// Why a request could not be authenticated. Never says which part of a key was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthProblem {
    /// No `Authorization` header.
    #[error("this server needs a key: send Authorization: Bearer tp_…")]
    Missing,
    /// Not `Bearer` and a token.
    #[error("the Authorization header must be Bearer and a key")]
    Malformed,
    /// No such key, or it has expired or was revoked.
    #[error("the key is unknown, expired or revoked")]
    Unknown,
}

/// What the client that sent a request may do.
#[derive(Debug, Clone)]
pub enum Grant {
    /// Everything: no keys exist.
    Open,
    /// What the key's scopes say.
    Key(Arc<Key>),
}

impl Grant {
    /// Whether `level` is granted on the collection, existing or not.
    #[must_use]
    pub fn allows(&self, level: Level, collection: &CollectionName) -> bool {
        match self {
            Self::Open => true,
            Self::Key(key) => key
                .scopes
                .iter()
                .any(|scope| scope.grants(level, collection.as_str())),
        }
    }

    /// Whether the collection may be shown in a list: any scope on it does.
    #[must_use]
    pub fn sees(&self, collection: &CollectionName) -> bool {
        self.allows(Level::Read, collection)
    }
}

impl Access {
    /// Starts with the given ring. `clock` decides on expiry.
    #[must_use]
    pub fn new(ring: KeyRing, clock: fn() -> Timestamp) -> Self {
        Self {
            ring: RwLock::new(Arc::new(ring)),
            clock,
        }
    }

    /// Puts another ring in place; requests that begin after this see it.
    pub fn replace(&self, ring: KeyRing) {
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
    }

    /// Whether no keys exist.
    #[must_use]
    pub fn is_open(&self) -> bool {
        // Asked for each request: without taking a share in the ring.
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        matches!(**ring, KeyRing::Open)
    }

    /// Finds out who sent a request.
    ///
    /// # Errors
    /// [`AuthProblem`], always a 401.
    pub fn authorise(&self, authorization_header: Option<&HeaderValue>) -> Result<Grant, AuthProblem> {
        let ring = self.current();
        let KeyRing::Keys(keys) = &*ring else {
            return Ok(Grant::Open);
        };
        let header = authorization_header.ok_or(AuthProblem::Missing)?;
        let token = bearer_token(header.as_bytes()).ok_or(AuthProblem::Malformed)?;
        // Looking a digest up takes no secret-dependent time that would help to guess a key.
        let digest: [u8; 32] = Sha256::digest(token).into();
        let key = keys.get(&digest).ok_or(AuthProblem::Unknown)?;
        if key.expires_at.is_some_and(|at| at <= (self.clock)()) {
            return Err(AuthProblem::Unknown);
        }
        Ok(Grant::Key(Arc::clone(key)))
    }

    fn current(&self) -> Arc<KeyRing> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The token of `Bearer TOKEN`; the scheme's name is case-insensitive (RFC 9110, 11.1).
fn bearer_token(header: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = header.split_at_checked("Bearer".len())?;
    if !scheme.eq_ignore_ascii_case(b"Bearer") || !rest.starts_with(b" ") {
        return None;
    }
    let token = rest.trim_ascii();
    (!token.is_empty() && token.iter().all(u8::is_ascii_graphic)).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "tp_0123456789abcdefghij";

    fn ring(expires_at: Option<Timestamp>) -> KeyRing {
        let key = Key {
            name: "reader".into(),
            scopes: vec![Scope::parse("read:notes-*").unwrap()],
            expires_at,
        };
        KeyRing::Keys(HashMap::from([(Sha256::digest(KEY).into(), Arc::new(key))]))
    }

    fn authorise(access: &Access, header: &str) -> Result<Grant, AuthProblem> {
        access.authorise(Some(&HeaderValue::from_str(header).unwrap()))
    }

    #[test]
    fn a_ring_without_keys_is_open_until_the_first_key() {
        let access = Access::new(KeyRing::Open, || Timestamp(0));
        assert!(access.is_open());
        assert!(matches!(access.authorise(None), Ok(Grant::Open)));
        access.replace(ring(None));
        assert!(!access.is_open());
        assert_eq!(access.authorise(None).unwrap_err(), AuthProblem::Missing);
    }

    #[test]
    fn a_key_grants_its_scopes_and_nothing_else() {
        let access = Access::new(ring(None), || Timestamp(0));
        let grant = authorise(&access, &format!("bearer {KEY}")).unwrap();
        let notes = CollectionName::parse("notes-a").unwrap();
        let other = CollectionName::parse("other").unwrap();
        assert!(grant.allows(Level::Read, &notes) && grant.sees(&notes));
        assert!(!grant.allows(Level::Write, &notes));
        assert!(!grant.allows(Level::Read, &other) && !grant.sees(&other));
    }

    #[test]
    fn refuses_unknown_expired_and_malformed_keys() {
        let access = Access::new(ring(Some(Timestamp(100))), || Timestamp(100));
        for (header, expected) in [
            (format!("Bearer {KEY}"), AuthProblem::Unknown),
            (format!("Bearer {KEY}x"), AuthProblem::Unknown),
            (format!("Bearer{KEY}"), AuthProblem::Malformed),
            (format!("Basic {KEY}"), AuthProblem::Malformed),
            ("Bearer ".to_owned(), AuthProblem::Malformed),
            ("Bearer a b".to_owned(), AuthProblem::Malformed),
        ] {
            assert_eq!(authorise(&access, &header).unwrap_err(), expected, "{header}");
        }
        let access = Access::new(ring(Some(Timestamp(101))), || Timestamp(100));
        assert!(authorise(&access, &format!("Bearer {KEY}")).is_ok());
    }
}
