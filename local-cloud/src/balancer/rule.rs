//! What a port of a load balancer does now. It may change while clients are connected: who comes next is met by the new rule,
//! and the next request of one who is there goes where the new rule says.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::sign::CertifiedKey;

use super::spec::{Entry, Forward};
use super::tls;

/// A port's rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) target_port: u16,
    pub(super) speaks: Speaks,
}

/// What clients speak.
#[derive(Debug)]
pub(super) enum Speaks {
    Http { redirect_to: Option<u16> },
    Https(Option<Tls>),
    Tcp,
}

/// How TLS is spoken on a port.
#[derive(Debug)]
pub(super) struct Tls {
    key: Arc<CertifiedKey>,
    http2: bool,
    pub(super) config: Arc<ServerConfig>,
}

/// The place of a rule that can change.
#[derive(Debug)]
pub(super) struct RuleCell(Mutex<Arc<Rule>>);

impl RuleCell {
    pub(super) fn new(forward: &Forward) -> Self {
        Self(Mutex::new(Arc::new(Rule::of(forward, None))))
    }

    /// The rule as it is now.
    pub(super) fn now(&self) -> Arc<Rule> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another rule in place.
    pub(super) fn set(&self, forward: &Forward) {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Rule::of(forward, Some(&place));
        *place = Arc::new(fresh);
    }
}

impl Rule {
    /// With the TLS of the rule `before`, where it stays the same: clients that come back need no whole handshake then.
    fn of(forward: &Forward, before: Option<&Rule>) -> Self {
        let speaks = match &forward.entry {
            Entry::Http { redirect_to } => Speaks::Http {
                redirect_to: *redirect_to,
            },
            Entry::Tcp => Speaks::Tcp,
            Entry::Https { key, http2 } => {
                let same = match before.map(|rule| &rule.speaks) {
                    Some(Speaks::Https(Some(tls))) => Some(tls),
                    _ => None,
                };
                Speaks::Https(key.as_ref().and_then(|key| Tls::new(key, *http2, same)))
            }
        };
        Self {
            target_port: forward.target_port,
            speaks,
        }
    }
}

impl Tls {
    fn new(key: &Arc<CertifiedKey>, http2: bool, before: Option<&Tls>) -> Option<Self> {
        let same = before.filter(|tls| Arc::ptr_eq(&tls.key, key) && tls.http2 == http2);
        let config = match same {
            Some(tls) => Arc::clone(&tls.config),
            None => tls::server_config(Arc::clone(key), http2)?,
        };
        Some(Self {
            key: Arc::clone(key),
            http2,
            config,
        })
    }
}
