//! Members that our own creates made twice: one whose answer was lost was sent again, and both took effect.
//!
//! Sharing a name is not enough, for the provider allows it: members that were taken in may all have the same one.

use crate::memory::{Memory, SentAgain};
use crate::observe::{Member, MemberId, Power, Readiness};

/// The members that may go as copies, the worst of each name first. Of each name the best stays: serving before not, ready
/// before not, then the oldest; and no more go than creates were sent again.
pub(crate) fn of<'a>(memory: &Memory, members: &[&'a Member]) -> Vec<&'a MemberId> {
    let mut copies = Vec::new();
    for (name, again) in &memory.sent_again {
        let mut made: Vec<&Member> = members
            .iter()
            .copied()
            .filter(|m| m.name == *name && may_be_ours(memory, again, m))
            .collect();
        made.sort_by_key(|m| {
            let (power, ready) = (m.power == Power::Off, m.readiness != Readiness::Ready);
            (power, !m.serving, ready, m.created_at, &m.id)
        });
        let spare = made.iter().skip(1).rev().take(again.times as usize);
        copies.extend(spare.map(|m| &m.id));
    }
    copies
}

/// Whether one of these creates may have made it: it wasn't known when the first of them was sent. What isn't known is not
/// taken for a copy, and one that leaves already is none.
fn may_be_ours(memory: &Memory, again: &SentAgain, member: &Member) -> bool {
    let known_since = memory.members.get(&member.id).and_then(|m| m.known_since);
    !member.draining
        && member.power != Power::Unknown
        && known_since.is_some_and(|since| since >= again.since)
}
