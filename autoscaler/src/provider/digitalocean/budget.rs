//! The account's call budget: how DigitalOcean's rate limits are kept. Pure; time is an argument.
//!
//! DigitalOcean allows 5,000 calls an hour and 250 a minute for each token. The hour is in its headers
//! (`ratelimit-remaining`, `ratelimit-reset`), so that other programs with the same token count, too; the minute shows only
//! as a 429, so it is counted here.

use std::collections::VecDeque;

use tidepool_autoscaler_core::observe::UnixMillis;

/// Calls a minute that we allow ourselves: DigitalOcean's 250 less ten for a person with the same token.
pub(super) const CALLS_PER_MINUTE_MAX: usize = 240;
/// Calls an hour that DigitalOcean allows each token.
pub const CALLS_PER_HOUR_MAX: u32 = 5_000;
/// Calls of the hour that stay for a person: we stop when no more than these are left, until the hour's reset.
const HOUR_RESERVE: u64 = 20;
/// Wait after a 429 that does not say how long: the length of the shorter limit.
const RETRY_AFTER_DEFAULT_SECS: u64 = 60;
/// No answer makes us wait longer than this: the length of the longer limit.
const WAIT_SECS_MAX: u64 = 3_600;

const MINUTE_MS: i64 = 60_000;

/// What an answer said about the limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LimitHeaders {
    /// Whether the status was 429.
    pub(super) limited: bool,
    /// `retry-after`, seconds.
    pub(super) retry_after_secs: Option<u64>,
    /// `ratelimit-remaining`.
    pub(super) remaining: Option<u64>,
    /// `ratelimit-reset`, seconds since 1970.
    pub(super) reset_at_secs: Option<i64>,
}

/// The calls made, and until when no more may be made.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Times of the calls of the last minute, oldest first; at most [`CALLS_PER_MINUTE_MAX`].
    recent: VecDeque<UnixMillis>,
    closed_until: Option<UnixMillis>,
    /// What the answer said that closed it.
    closed_by: Option<String>,
}

impl Budget {
    /// Takes one call out of the budget, or says after how many seconds one may be there.
    pub(super) fn take(&mut self, now: UnixMillis) -> Result<(), u64> {
        if let Some(until) = self.closed_until {
            if now < until {
                return Err(secs_until(now, until));
            }
            (self.closed_until, self.closed_by) = (None, None);
        }
        // A clock that was set back would keep times of the future for ever; they are dropped, too.
        self.recent.retain(|at| at.0 <= now.0 && now.0 - at.0 < MINUTE_MS);
        if self.recent.len() >= CALLS_PER_MINUTE_MAX
            && let Some(oldest) = self.recent.front()
        {
            return Err(secs_until(now, UnixMillis(oldest.0 + MINUTE_MS)));
        }
        self.recent.push_back(now);
        Ok(())
    }

    /// Learns from an answer; gives the seconds to wait when the answer was a 429.
    pub(super) fn learn(&mut self, now: UnixMillis, headers: LimitHeaders) -> u64 {
        if headers.limited {
            let secs = headers
                .retry_after_secs
                .unwrap_or(RETRY_AFTER_DEFAULT_SECS)
                .clamp(1, WAIT_SECS_MAX);
            self.close_for(now, secs);
            return secs;
        }
        if let (Some(remaining), Some(reset)) = (headers.remaining, headers.reset_at_secs)
            && remaining <= HOUR_RESERVE
            && let Ok(wait) = u64::try_from(reset.saturating_sub(now.0 / 1000))
        {
            self.close_for(now, wait.min(WAIT_SECS_MAX));
        }
        0
    }

    /// Notes the words of the 429 that closed it.
    pub(super) fn close_for_words(&mut self, words: &str) {
        self.closed_by = Some(words.to_owned());
    }

    /// What the 429 said that closed it, if one did.
    pub(super) fn closed_by(&self) -> Option<&str> {
        self.closed_by.as_deref()
    }

    fn close_for(&mut self, now: UnixMillis, secs: u64) {
        let until = UnixMillis(now.0 + i64::try_from(secs).unwrap_or(i64::MAX / 2000) * 1000);
        self.closed_until = self.closed_until.max(Some(until));
    }
}

fn secs_until(now: UnixMillis, until: UnixMillis) -> u64 {
    u64::try_from((until.0 - now.0 + 999) / 1000).unwrap_or(0).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: i64 = 1_800_000_000_000;

    fn at(secs: i64) -> UnixMillis {
        UnixMillis(T0 + secs * 1000)
    }

    #[test]
    fn a_minute_holds_no_more_than_its_calls() {
        let mut budget = Budget::default();
        for _ in 0..CALLS_PER_MINUTE_MAX {
            assert_eq!(budget.take(at(0)), Ok(()));
        }
        assert_eq!(budget.take(at(10)), Err(50));
        assert_eq!(budget.take(at(60)), Ok(()));
    }

    #[test]
    fn a_429_is_obeyed_to_the_second() {
        let mut budget = Budget::default();
        let limited = LimitHeaders {
            limited: true,
            retry_after_secs: Some(7),
            ..LimitHeaders::default()
        };
        assert_eq!(budget.learn(at(0), limited), 7);
        assert_eq!(budget.take(at(6)), Err(1));
        assert_eq!(budget.take(at(7)), Ok(()));
    }

    #[test]
    fn a_429_without_a_time_waits_a_minute_and_an_absurd_one_an_hour() {
        let mut budget = Budget::default();
        let bare = LimitHeaders {
            limited: true,
            ..LimitHeaders::default()
        };
        assert_eq!(budget.learn(at(0), bare), 60);
        let absurd = LimitHeaders {
            retry_after_secs: Some(u64::MAX),
            ..bare
        };
        assert_eq!(budget.learn(at(0), absurd), 3600);
    }

    #[test]
    fn the_last_calls_of_an_hour_are_left_until_its_reset() {
        let mut budget = Budget::default();
        let reset = T0 / 1000 + 90;
        let headers = |remaining| LimitHeaders {
            remaining: Some(remaining),
            reset_at_secs: Some(reset),
            ..LimitHeaders::default()
        };
        budget.learn(at(0), headers(HOUR_RESERVE + 1));
        assert_eq!(budget.take(at(0)), Ok(()));
        budget.learn(at(0), headers(HOUR_RESERVE));
        assert_eq!(budget.take(at(1)), Err(89));
        assert_eq!(budget.take(at(90)), Ok(()));
    }

    #[test]
    fn a_reset_in_the_past_closes_nothing() {
        let mut budget = Budget::default();
        let past = LimitHeaders {
            remaining: Some(0),
            reset_at_secs: Some(T0 / 1000 - 5),
            ..LimitHeaders::default()
        };
        budget.learn(at(0), past);
        assert_eq!(budget.take(at(0)), Ok(()));
    }

    #[test]
    fn a_clock_set_back_frees_the_minute() {
        let mut budget = Budget::default();
        for _ in 0..CALLS_PER_MINUTE_MAX {
            assert_eq!(budget.take(at(1000)), Ok(()));
        }
        assert_eq!(budget.take(at(0)), Ok(()));
    }
}
