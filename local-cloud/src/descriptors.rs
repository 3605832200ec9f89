//! How many files and sockets this process may have open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raised to at most this: more is never needed, and some systems say "unlimited", which they then refuse.
const DESCRIPTORS_MAX: u64 = 1_048_576;
/// What is assumed when the system does not say.
const DESCRIPTORS_ASSUMED: u64 = 1_024;
/// Kept for everything but the balancers' connections: the API's own, log files, and what libraries open.
const RESERVED: u64 = 512;
/// A droplet's process, its health check and its log.
const PER_DROPLET: u64 = 4;
/// Connections through balancers that are possible even where the limit is low.
const CONNECTIONS_MIN: u64 = 64;
/// A connection through a balancer is two: the client's and the member's.
const PER_CONNECTION: u64 = 2;

/// Raises the limit as far as the system allows it; what it is then.
pub(crate) fn raise_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return DESCRIPTORS_ASSUMED;
    };
    let wanted = hard.min(DESCRIPTORS_MAX);
    if wanted <= soft {
        return soft;
    }
    match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!(%error, limit = soft, "the limit of open files could not be raised");
            soft
        }
    }
}

/// Client connections that all balancers together may have, with that limit and so many droplets.
pub(crate) fn connections_max(limit: u64, droplets: u64) -> u64 {
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
