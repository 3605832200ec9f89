//! The API's rate limits: so many calls an hour and a minute for each token, counted over a sliding window.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);
/// Tokens remembered at most; the one longest unused goes. A machine has a handful.
const TOKENS_MAX: usize = 1_000;

/// Calls allowed for one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(crate) per_hour: u64,
    pub(crate) per_minute: u64,
}

/// What the headers of an answer say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    /// Until the oldest call of the window no longer counts.
    pub(crate) reset_after: Duration,
    /// Set when the call is refused: when to come again.
    pub(crate) retry_after: Option<Duration>,
}

/// Counts of all tokens.
#[derive(Debug)]
pub(crate) struct RateLimits {
    rates: Rates,
    calls: Mutex<HashMap<String, VecDeque<Instant>>>,
}

impl RateLimits {
    pub(crate) fn new(rates: Rates) -> Self {
        Self {
            rates,
            calls: Mutex::new(HashMap::new()),
        }
    }

    /// Counts a call of `token` at `now`, or refuses it. A refused call does not count.
    pub(crate) fn call(&self, token: &str, now: Instant) -> Standing {
        let mut all = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(token) && all.len() >= TOKENS_MAX {
            let oldest = all
                .iter()
                .min_by_key(|(_, calls)| calls.back().copied())
                .map(|(key, _)| key.clone());
            oldest.and_then(|key| all.remove(&key));
        }
        let calls = all.entry(token.to_owned()).or_default();
        while calls
            .front()
            .is_some_and(|first| now.duration_since(*first) >= HOUR)
        {
            calls.pop_front();
        }
        let of_hour = count(calls.len());
        let minute_from = calls.partition_point(|at| now.duration_since(*at) >= MINUTE);
        let of_minute = count(calls.len() - minute_from);
        let waits = |oldest: Option<&Instant>, window: Duration| {
            oldest.map_or(window, |oldest| {
                window.saturating_sub(now.duration_since(*oldest))
            })
        };
        let retry_after = if of_hour >= self.rates.per_hour {
            Some(waits(calls.front(), HOUR))
        } else if of_minute >= self.rates.per_minute {
            Some(waits(calls.get(minute_from), MINUTE))
        } else {
            calls.push_back(now);
            None
        };
        let remaining = match retry_after {
            Some(_) => 0,
            None => self.rates.per_hour.saturating_sub(of_hour + 1),
        };
        let reset_after = waits(calls.front(), HOUR);
        Standing {
            limit: self.rates.per_hour,
            remaining,
            reset_after,
            retry_after,
        }
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_burst_is_refused_and_recovers() {
        let limits = RateLimits::new(Rates {
            per_hour: 10,
            per_minute: 3,
        });
        let start = Instant::now();
        for nth in 0..3 {
            let standing = limits.call("t", start + Duration::from_secs(nth));
            assert_eq!((standing.remaining, standing.retry_after), (9 - nth, None));
        }
        let refused = limits.call("t", start + Duration::from_secs(10));
        assert_eq!(refused.retry_after, Some(Duration::from_secs(50)));
        assert_eq!(refused.remaining, 0);
        assert_eq!(limits.call("other", start).retry_after, None);
        assert_eq!(
            limits.call("t", start + Duration::from_secs(60)).retry_after,
            None
        );
    }

    #[test]
    fn an_hours_limit_is_refused_until_its_oldest_call_is_an_hour_old() {
        let limits = RateLimits::new(Rates {
            per_hour: 2,
            per_minute: 100,
        });
        let start = Instant::now();
        assert_eq!(limits.call("t", start).remaining, 1);
        assert_eq!(limits.call("t", start + Duration::from_secs(600)).remaining, 0);
        let refused = limits.call("t", start + Duration::from_secs(700));
        assert_eq!(refused.retry_after, Some(Duration::from_secs(2_900)));
        assert_eq!(
            limits.call("t", start + Duration::from_secs(3_600)).retry_after,
            None
        );
    }
}
