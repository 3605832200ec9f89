//! Counters of answers by the class of their status.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

/// Answers, by class.
#[derive(Debug, Default)]
pub(crate) struct StatusCounts([AtomicU64; 5]);

impl StatusCounts {
    /// Counts an answer.
    pub(crate) fn add(&self, status: u16) {
        let class = usize::from(status / 100).saturating_sub(1);
        if let Some(count) = self.0.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// For `/_local/state`.
    pub(crate) fn view(&self) -> Value {
        let [informational, success, redirect, client_error, server_error] =
            self.0.each_ref().map(|count| count.load(Ordering::Relaxed));
        json!({
            "1xx": informational, "2xx": success, "3xx": redirect, "4xx": client_error, "5xx": server_error,
        })
    }
}

/// What one load balancer did since it started.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Requests whose head came in whole.
    pub(crate) requests: AtomicU64,
    /// Answers sent to clients, its own included.
    pub(crate) answers: StatusCounts,
    /// Second tries.
    pub(crate) retries: AtomicU64,
    /// Its own 502: the member's connection died and there was no other way.
    pub(crate) own_502: AtomicU64,
    /// Its own 503: no member was there.
    pub(crate) own_503: AtomicU64,
    /// Its own 504: a member took too long.
    pub(crate) own_504: AtomicU64,
    /// Answers that broke off in the middle: the member died after its head.
    pub(crate) cut_answers: AtomicU64,
    /// Clients that went away before their answer began.
    pub(crate) clients_gone: AtomicU64,
    /// Connections that the firewall refused.
    pub(crate) refused_by_firewall: AtomicU64,
    /// Connections whose TLS handshake failed or took too long.
    pub(crate) failed_handshakes: AtomicU64,
    /// Requests that were sent to https.
    pub(crate) redirects: AtomicU64,
    /// Connections of TCP rules.
    pub(crate) tcp_connections: AtomicU64,
    /// Those that were closed because no member could be reached.
    pub(crate) tcp_without_member: AtomicU64,
}

impl Counts {
    /// For `/_local/state`.
    pub(crate) fn view(&self) -> Value {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        json!({
            "requests": read(&self.requests),
            "answers": self.answers.view(),
            "retries": read(&self.retries),
            "own_502": read(&self.own_502),
            "own_503": read(&self.own_503),
            "own_504": read(&self.own_504),
            "cut_answers": read(&self.cut_answers),
            "clients_gone": read(&self.clients_gone),
            "refused_by_firewall": read(&self.refused_by_firewall),
            "failed_handshakes": read(&self.failed_handshakes),
            "redirects": read(&self.redirects),
            "tcp_connections": read(&self.tcp_connections),
            "tcp_without_member": read(&self.tcp_without_member),
        })
    }
}

/// One more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
