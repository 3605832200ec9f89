//! The policies' proposals as one recommendation.

use crate::outcome::{Proposal, Reason, Verdict};

/// Out if any policy says so, to the largest; in only if all agree, to the largest. As AWS target tracking does.
pub(super) fn combine(proposals: &[Proposal], kept: u32) -> (u32, Vec<Reason>) {
    let grow = |p: &&Proposal| match p.verdict {
        Verdict::Grow { to } => Some(to),
        Verdict::Keep | Verdict::Shrink { .. } | Verdict::Blind => None,
    };
    let shrink = |p: &Proposal| match p.verdict {
        Verdict::Shrink { to } => Some(to),
        Verdict::Keep | Verdict::Grow { .. } | Verdict::Blind => None,
    };
    if let Some(most) = proposals.iter().filter(|p| grow(p).is_some()).max_by_key(grow) {
        return (grow(&most).unwrap_or(kept), vec![of(most)]);
    }
    let objections: Vec<Reason> = proposals.iter().filter(|p| shrink(p).is_none()).map(of).collect();
    let enough: Option<u32> = proposals.iter().filter_map(shrink).max();
    match enough {
        Some(enough) if objections.is_empty() => (enough, proposals.iter().map(of).collect()),
        Some(_) | None if objections.is_empty() => (kept, vec![Reason::NoPolicy]),
        Some(_) | None => (kept, objections),
    }
}

fn of(proposal: &Proposal) -> Reason {
    Reason::Policy {
        policy: proposal.policy.clone(),
    }
}
