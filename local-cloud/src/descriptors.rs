//! How the files and sockets that this process may have open are divided.

use tidepool_listener::{Limits, make_room};

/// Raised to at most this: more is never needed, and some systems say "unlimited", which they then refuse.
const DESCRIPTORS_MAX: usize = 1_048_576;
/// Kept for everything but the balancers' connections: the API's own, log files, and what libraries open.
const RESERVED: u64 = 512;
/// A droplet's process, its health check and its log.
const PER_DROPLET: u64 = 4;
/// Connections through balancers that are possible even where the limit is low.
const CONNECTIONS_MIN: u64 = 64;
/// A connection through a balancer is two: the client's and the member's.
const PER_CONNECTION: u64 = 2;

/// What the limit of open files leaves to whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Division {
    /// The API's limits.
    pub(crate) api: Limits,
    /// Client connections that all balancers together may have.
    pub(crate) balancers: u64,
}

/// Raises the limit as far as the system allows it, and divides what it is then. The API's 256 connections are within
/// [`RESERVED`]; of a limit too low for that it gets a quarter.
///
/// # Errors
/// The kernel's, when it doesn't say what the limit is.
pub(crate) fn divide(droplets: u64) -> std::io::Result<Division> {
    let limit = make_room(DESCRIPTORS_MAX)?.limit;
    let mut api = Limits::PRIVATE;
    let fitting = api.connections_max.min((limit / 4).max(1));
    if fitting < api.connections_max {
        tracing::warn!(
            open_files_max = limit,
            connections = fitting,
            "the limit of open files is low and can't be raised: the API takes fewer connections"
        );
    }
    api.connections_max = fitting;
    Ok(Division {
        api,
        balancers: connections_max(u64::try_from(limit).unwrap_or(u64::MAX), droplets),
    })
}

/// Client connections that all balancers together may have, with that limit and so many droplets.
fn connections_max(limit: u64, droplets: u64) -> u64 {
    let others = RESERVED.saturating_add(droplets.saturating_mul(PER_DROPLET));
    (limit.saturating_sub(others) / PER_CONNECTION).max(CONNECTIONS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_the_rest() {
        assert_eq!(connections_max(1_048_576, 1_000), 522_032);
        assert_eq!(connections_max(20_512, 0), 10_000);
        assert_eq!(connections_max(1_024, 1_000), CONNECTIONS_MIN);
    }
}
