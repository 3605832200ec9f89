//! A rollout: what the pool's members shall be made of from now on, and how far that is. Kept by the shell from tick to tick;
//! which members are of it is observed each time.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::observe::{Member, MemberId, MemberName, UnixMillis};
use crate::recipe::Recipe;

/// A rollout, from its order on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// What members shall be made of.
    pub to: Recipe,
    /// What they were made of before, and go back to; `None` where nobody knows.
    pub from: Option<Recipe>,
    /// How far it is.
    pub stage: Stage,
    /// It is the way back from one: what fails now doesn't turn it round again.
    #[serde(default)]
    pub back: bool,
    /// Why it goes back, or was stopped.
    #[serde(default)]
    pub cause: Option<Cause>,
    /// When it was ordered.
    pub ordered_at: UnixMillis,
    /// A member made of it has been ready for long enough.
    #[serde(default)]
    pub proven: bool,
    /// Members made of it that failed.
    #[serde(default)]
    pub failed: BTreeSet<MemberId>,
    /// Other members that failed meanwhile.
    #[serde(default)]
    pub others_failed: BTreeSet<MemberId>,
    /// Creates in a row that were refused as impossible.
    #[serde(default)]
    pub refused: u32,
    /// How many times creates had come to nothing before those that count: before it began, or went on after a pause. `None`
    /// until the next tick.
    #[serde(default)]
    pub vanished_before: Option<u32>,
}

/// How far a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Members are replaced.
    Running,
    /// None is replaced until the operator says so.
    Paused,
    /// All members are made of it.
    Done,
}

/// Why a rollout goes back, or was stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// The operator said so.
    ByHand,
    /// New members didn't get ready, or failed afterwards, and relatively more of them than of the others.
    NewOnesFail {
        /// So many.
        failed: u32,
        /// Of so many new ones.
        of: u32,
        /// Of the others so many.
        others_failed: u32,
        /// Of so many.
        others: u32,
        /// Some of the new ones.
        members: Vec<MemberName>,
    },
    /// The provider accepted to make new members, and they were gone before they were ready.
    Vanished {
        /// So many times.
        times: u32,
    },
    /// The provider refused to make new ones.
    Refused {
        /// So many times in a row.
        times: u32,
    },
}

impl Rollout {
    /// An order to make all members of `to`.
    pub fn new(to: Recipe, from: Option<Recipe>, ordered_at: UnixMillis) -> Rollout {
        Rollout {
            to,
            from,
            stage: Stage::Running,
            back: false,
            cause: None,
            ordered_at,
            proven: false,
            failed: BTreeSet::new(),
            others_failed: BTreeSet::new(),
            refused: 0,
            vanished_before: None,
        }
    }

    /// What members are made of that replace no others: of what is known to serve, until one of the new ones has shown that it
    /// does.
    pub fn grows_by(&self) -> &Recipe {
        let known = self.proven || self.back || self.stage == Stage::Done;
        self.from.as_ref().filter(|_| !known).unwrap_or(&self.to)
    }

    /// Whether members are still to be replaced.
    pub fn is_under_way(&self) -> bool {
        self.stage != Stage::Done
    }

    /// Replaces nobody until it is resumed.
    pub fn pause(&mut self) {
        if self.is_under_way() {
            self.stage = Stage::Paused;
        }
    }

    /// Goes back, by the operator's word, also after it is done; one that goes back already goes on. Says whether it goes back:
    /// it doesn't where there is nothing to go back to.
    #[must_use]
    pub fn undo(&mut self) -> bool {
        if !self.back && self.from.is_some() {
            self.turn_back(Cause::ByHand);
        }
        self.back
    }

    /// Turns round: what was to be replaced is what all members shall be again. Without anything to go back to it is paused.
    pub fn turn_back(&mut self, cause: Cause) {
        match self.from.take() {
            Some(from) => {
                self.from = Some(std::mem::replace(&mut self.to, from));
                (self.stage, self.back) = (Stage::Running, true);
            }
            None => self.stage = Stage::Paused,
        }
        self.cause = Some(cause);
        self.forget_failures();
    }

    /// Goes on after a pause; what failed before it no longer counts.
    pub fn resume(&mut self) {
        if self.stage != Stage::Paused {
            return;
        }
        self.stage = Stage::Running;
        if !self.back {
            self.cause = None;
        }
        self.forget_failures();
    }

    /// Forgets what failed so far.
    pub fn forget_failures(&mut self) {
        (self.proven, self.refused, self.vanished_before) = (false, 0, None);
        self.failed.clear();
        self.others_failed.clear();
    }

    /// Takes in how a create of a new member ended: whether the provider said that there can be none such.
    pub fn create_ended(&mut self, impossible: bool) {
        self.refused = if impossible {
            self.refused.saturating_add(1)
        } else {
            0
        };
    }

    /// Whether this member is to be replaced.
    pub fn replaces(&self, member: &Member) -> bool {
        self.is_under_way() && !makes(&self.to, member)
    }
}

/// Whether a member is made of this, as far as can be seen of it.
fn makes(recipe: &Recipe, member: &Member) -> bool {
    let other_size = recipe
        .size
        .as_ref()
        .zip(member.size.as_ref())
        .is_some_and(|(one, other)| one != other);
    let other_image = !member.image.is_unknown() && !recipe.image.is(&member.image);
    recipe.generation == member.generation && !other_size && !other_image
}
