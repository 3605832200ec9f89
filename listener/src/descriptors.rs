//! File descriptors: each connection takes one, and a program must keep some for its own files.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// Descriptors that a program keeps for itself: its files, its store, its own connections, the runtime's. The API holds
/// about 30 with SQLite and as many again as a cluster has shards; the autoscaler asks at most 64 members at a time.
const OWN: usize = 128;

/// How many connections fit beside the program's own files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The limit that holds now.
    pub limit: usize,
    /// Connections that fit, at most as many as were wanted.
    pub connections: usize,
}

/// Raises the soft limit of open files, as far as the hard one allows, to what so many connections need.
///
/// # Errors
/// The kernel's, when it doesn't say what the limits are. A limit that can't be raised is not an error: [`Room`] says what
/// fits.
pub fn make_room(connections: usize) -> std::io::Result<Room> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let needed = rlim_t::try_from(connections.saturating_add(OWN)).unwrap_or(rlim_t::MAX);
    let raised = needed.min(hard);
    let limit = match soft < raised && setrlimit(Resource::RLIMIT_NOFILE, raised, hard).is_ok() {
        true => raised,
        false => soft,
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(Room {
        limit,
        connections: fitting(limit, connections),
    })
}

/// Connections within a limit: all but the program's own files, of a limit too small for that a quarter.
fn fitting(limit: usize, wanted: usize) -> usize {
    wanted.min(limit.saturating_sub(OWN).max(limit / 4)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_own_files_come_first() {
        for (limit, wanted, fits) in [
            (20_000, 10_000, 10_000),
            (1_024, 10_000, 896),
            (1_024, 256, 256),
            (200, 256, 72),
            (128, 256, 32),
            (40, 256, 10),
            (1, 256, 1),
        ] {
            assert_eq!(fitting(limit, wanted), fits, "{limit}");
        }
    }
}
