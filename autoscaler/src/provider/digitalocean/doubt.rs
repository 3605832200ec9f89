//! Creates whose answer was lost, so that none is ever sent twice. Pure; time is an argument.
//!
//! DigitalOcean has no idempotency key and allows two droplets of the same name. After a lost answer the droplet may exist,
//! may never exist, or may appear a moment later. So the name is *in doubt* until a listing that began late enough has
//! either shown it (then it is made) or not (then it was never made, and may be asked for again).

use std::collections::BTreeMap;

use tidepool_autoscaler_core::observe::{MemberId, MemberName, UnixMillis};

/// A listing settles a doubt only if it began so long after the answer was lost: DigitalOcean lists a droplet as soon as it
/// has accepted its create, and gives up on a request within seconds.
pub(super) const SETTLE_MS: i64 = 10_000;
/// More names in doubt than this are refused: a pool makes a few at a time, and ten are a provider's outage.
const IN_DOUBT_MAX: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Doubt {
    /// The answer was lost at this time.
    Lost(UnixMillis),
    /// A later listing showed it.
    Found(MemberId),
}

/// What to do about a name that is to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing speaks against it.
    Create,
    /// It is there already: the lost create had worked.
    Exists(MemberId),
    /// Its answer was lost, and no listing has settled it yet.
    Wait,
}

/// The names in doubt of one pool.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    names: BTreeMap<MemberName, Doubt>,
}

impl Doubts {
    /// Says whether `name` may be created.
    pub(super) fn verdict(&self, name: &MemberName) -> Verdict {
        match self.names.get(name) {
            None if self.names.len() >= IN_DOUBT_MAX => Verdict::Wait,
            None => Verdict::Create,
            Some(Doubt::Found(id)) => Verdict::Exists(id.clone()),
            Some(Doubt::Lost(_)) => Verdict::Wait,
        }
    }

    /// The answer to creating `name` was lost at `now`.
    pub(super) fn lost(&mut self, name: MemberName, now: UnixMillis) {
        self.names.insert(name, Doubt::Lost(now));
    }

    /// The answer to creating `name` came after all.
    pub(super) fn settle(&mut self, name: &MemberName) {
        self.names.remove(name);
    }

    /// A listing showed `ids` by name. `began` is when a whole one began; one that is short says of no name that it isn't
    /// there.
    pub(super) fn listed(&mut self, began: Option<UnixMillis>, ids: &BTreeMap<MemberName, MemberId>) {
        if let Some(began) = began {
            // A clock that was set back would keep a name in doubt for as long.
            for doubt in self.names.values_mut() {
                if let Doubt::Lost(at) = doubt {
                    *at = (*at).min(began);
                }
            }
        }
        self.names.retain(|name, doubt| match (&*doubt, ids.get(name)) {
            (_, Some(id)) => {
                *doubt = Doubt::Found(id.clone());
                true
            }
            (Doubt::Lost(at), None) => began.is_none_or(|began| began.0 < at.0 + SETTLE_MS),
            // It was there and is gone again: nothing is in doubt any more.
            (Doubt::Found(_), None) => began.is_none(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> MemberName {
        MemberName(text.to_owned())
    }

    fn listing(entries: &[(&str, &str)]) -> BTreeMap<MemberName, MemberId> {
        entries
            .iter()
            .map(|(n, id)| (name(n), MemberId((*id).to_owned())))
            .collect()
    }

    #[test]
    fn a_lost_create_waits_until_a_late_listing_misses_it() {
        let mut doubts = Doubts::default();
        assert_eq!(doubts.verdict(&name("web-1")), Verdict::Create);
        doubts.lost(name("web-1"), UnixMillis(1_000));
        doubts.listed(Some(UnixMillis(1_000 + SETTLE_MS - 1)), &listing(&[]));
        assert_eq!(doubts.verdict(&name("web-1")), Verdict::Wait);
        doubts.listed(Some(UnixMillis(1_000 + SETTLE_MS)), &listing(&[("web-2", "2")]));
        assert_eq!(doubts.verdict(&name("web-1")), Verdict::Create);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_keep_a_doubt() {
        let mut doubts = Doubts::default();
        doubts.lost(name("web-1"), UnixMillis(86_400_000));
        doubts.listed(Some(UnixMillis(1_000)), &listing(&[]));
        assert_eq!(doubts.verdict(&name("web-1")), Verdict::Wait);
        doubts.listed(Some(UnixMillis(1_000 + SETTLE_MS)), &listing(&[]));
        assert_eq!(doubts.verdict(&name("web-1")), Verdict::Create);
    }

    #[test]
    fn a_listing_that_is_short_settles_nothing_by_leaving_it_out() {
        let mut doubts = Doubts::default();
        doubts.lost(name("web-1"), UnixMillis(1_000));
        doubts.listed(None, &listing(&[("web-2", "2")]));
        assert_eq!(doubts.verdict(&name("web-1")), Verdict::Wait);
        doubts.listed(None, &listing(&[("web-1", "17")]));
        assert_eq!(
            doubts.verdict(&name("web-1")),
            Verdict::Exists(MemberId("17".to_owned()))
        );
    }

    #[test]
    fn a_lost_create_that_worked_is_answered_with_its_id() {
        let mut doubts = Doubts::default();
        doubts.lost(name("web-1"), UnixMillis(1_000));
        doubts.listed(Some(UnixMillis(1_001)), &listing(&[("web-1", "17")]));
        assert_eq!(
            doubts.verdict(&name("web-1")),
            Verdict::Exists(MemberId("17".to_owned()))
        );
        doubts.listed(Some(UnixMillis(9_000)), &listing(&[]));
        assert_eq!(doubts.verdict(&name("web-1")), Verdict::Create);
    }

    #[test]
    fn too_many_doubts_stop_every_create() {
        let mut doubts = Doubts::default();
        for n in 0..IN_DOUBT_MAX {
            doubts.lost(name(&format!("web-{n}")), UnixMillis(0));
        }
        assert_eq!(doubts.verdict(&name("another")), Verdict::Wait);
    }
}
