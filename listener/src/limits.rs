//! What bounds a listener's connections.

use std::time::Duration;

/// Bounds of one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most connections at a time; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Longest time from a request's first byte to its last header (and for a TLS handshake).
    pub header_timeout: Duration,
    /// Longest time from a request's headers to the end of its body.
    pub body_timeout: Duration,
    /// Longest time that a connection may stay without a request.
    pub idle_timeout: Duration,
    /// Most bytes of a request line and headers together.
    pub header_bytes_max: usize,
}

impl Limits {
    /// For listeners that a few operators, checkers and programs of our own use, none of which has reason to be slow.
    /// 256 connections with 64 KiB of buffer each are 16 MiB.
    pub const PRIVATE: Self = Self {
        connections_max: 256,
        header_timeout: Duration::from_secs(10),
        body_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(75),
        header_bytes_max: 16 * 1024,
    };
}
