//! The account's call budget: how DigitalOcean's rate limits are kept. Pure; time is an argument.
//!
//! DigitalOcean allows 5,000 calls an hour and 250 a minute for each token. The hour is in its headers
//! (`ratelimit-remaining`, `ratelimit-reset`), so that other programs with the same token count, too; the minute shows only
//! as a 429, so it is counted here.

use std::collections::VecDeque;

use tidepool_autoscaler_core::observe::{UnixMillis, Wait};

/// Calls a minute that we allow ourselves: DigitalOcean's 250 less ten for a person with the same token.
pub(super) const CALLS_PER_MINUTE_MAX: usize = 240;
/// Calls an hour that DigitalOcean allows each token.
pub const CALLS_PER_HOUR_MAX: u32 = 5_000;
/// Calls of the hour that stay for a person: we stop when no more than these are left, until the hour's reset.
const HOUR_RESERVE: u64 = 20;
/// Wait after a 429 that does not say how long: the length of the shorter limit.
const RETRY_AFTER_DEFAULT_SECS: u64 = 60;
/// No answer makes us wait longer than this: the length of the longer limit.
const WAIT_SECS_MAX: u32 = 3_600;

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
    /// `ratelimit-reset`: the seconds until then, by the provider's own clock.
    pub(super) reset_in_secs: Option<u64>,
}

/// The calls made, and until when no more may be made.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Times of the calls of the last minute, oldest first; at most [`CALLS_PER_MINUTE_MAX`].
    recent: VecDeque<UnixMillis>,
    closed: Option<Wait>,
    /// What the answer said that closed it.
    closed_by: Option<String>,
}

impl Budget {
    /// Takes one call out of the budget, or says after how many seconds one may be there.
    pub(super) fn take(&mut self, now: UnixMillis) -> Result<(), u64> {
        if let Some(left) = self.closed.and_then(|wait| wait.left_secs(now)) {
            return Err(u64::from(left));
        }
        if self.closed.is_some() {
            (self.closed, self.closed_by) = (None, None);
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
            // DigitalOcean says how long at the minute's limit; at the hour's it says when that is reset.
            let reset_in_secs = headers.reset_in_secs.filter(|_| headers.remaining == Some(0));
            let secs = headers.retry_after_secs.or(reset_in_secs);
            let secs = secs.unwrap_or(RETRY_AFTER_DEFAULT_SECS);
            return self.close_for(now, secs.max(1));
        }
        if let (Some(remaining), Some(reset_in_secs)) = (headers.remaining, headers.reset_in_secs)
            && remaining <= HOUR_RESERVE
        {
            self.close_for(now, reset_in_secs);
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

    /// Makes no more calls for so long, or for an hour if that is longer, and says for how long.
    fn close_for(&mut self, now: UnixMillis, secs: u64) -> u64 {
        let secs = u32::try_from(secs).unwrap_or(u32::MAX).min(WAIT_SECS_MAX);
        let left = self.closed.and_then(|wait| wait.left_secs(now));
        if left.is_none_or(|left| left < secs) {
            self.closed = Some(Wait::of_secs(now, secs));
        }
        u64::from(secs)
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
    fn a_429_without_a_time_waits_for_the_reset_or_a_minute_and_an_absurd_one_an_hour() {
        let mut budget = Budget::default();
        let bare = LimitHeaders {
            limited: true,
            ..LimitHeaders::default()
        };
        assert_eq!(budget.learn(at(0), bare), 60);
        let hour = LimitHeaders {
            remaining: Some(0),
            reset_in_secs: Some(900),
            ..bare
        };
        assert_eq!(Budget::default().learn(at(0), hour), 900);
        let absurd = LimitHeaders {
            retry_after_secs: Some(u64::MAX),
            ..bare
        };
        assert_eq!(budget.learn(at(0), absurd), 3600);
    }

    #[test]
    fn the_last_calls_of_an_hour_are_left_until_its_reset() {
        let mut budget = Budget::default();
        let headers = |remaining| LimitHeaders {
            remaining: Some(remaining),
            reset_in_secs: Some(90),
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
            reset_in_secs: None,
            ..LimitHeaders::default()
        };
        budget.learn(at(0), past);
        assert_eq!(budget.take(at(0)), Ok(()));
    }

    #[test]
    fn a_clock_set_back_does_not_make_a_wait_longer() {
        let mut budget = Budget::default();
        let limited = LimitHeaders {
            limited: true,
            retry_after_secs: Some(7),
            ..LimitHeaders::default()
        };
        budget.learn(at(0), limited);
        assert_eq!(budget.take(at(-86_400)), Ok(()));
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
