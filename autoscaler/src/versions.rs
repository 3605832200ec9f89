//! What a pool's members are made of, as it was ordered: kept in the state directory, so that a rollout goes on after a stop. The
//! user data is kept with it, for a provider doesn't read it back: the file is readable by its owner alone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tidepool_autoscaler_core::observe::{PoolName, UnixMillis};
use tidepool_autoscaler_core::recipe::{Generation, Image, Recipe};
use tidepool_autoscaler_core::rollout::Rollout;
use tidepool_autoscaler_core::spec::PoolSpec;

use crate::provider::{Made, UserData};
use crate::state::{StateDir, StateError};

/// What the pool's members are, were, and shall be made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// What the configuration said when it was read last.
    configured: Made,
    /// What members shall be made of.
    current: Made,
    /// What they were made of before, and can go back to.
    previous: Option<Made>,
    /// The last rollout that was ordered.
    rollout: Option<Rollout>,
}

/// What members shall be made of instead; what isn't said stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Order {
    /// The image, by all its names.
    pub image: Option<Image>,
    /// What people call that image.
    pub name: Option<String>,
    /// The size.
    pub size: Option<String>,
    /// The user data.
    pub user_data: Option<UserData>,
}

/// Why an order can't be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// No rollout is under way.
    #[error("no rollout of the pool is under way")]
    NoneUnderWay,
    /// Nothing was rolled out.
    #[error("nothing was rolled out that could be undone")]
    NothingToUndo,
}

impl Versions {
    /// Those of a pool to which nothing was ordered yet.
    pub fn configured(made: Made) -> Versions {
        Versions {
            configured: made.clone(),
            current: made,
            previous: None,
            rollout: None,
        }
    }

    /// What members shall be made of.
    pub fn current(&self) -> &Made {
        &self.current
    }

    /// The last rollout that was ordered.
    pub fn rollout(&self) -> Option<&Rollout> {
        self.rollout.as_ref()
    }

    /// The pool's settings with what was ordered.
    pub fn put_into(&self, spec: &PoolSpec) -> PoolSpec {
        PoolSpec {
            recipe: self.current.recipe.clone(),
            rollout: self.rollout.clone(),
            ..spec.clone()
        }
    }

    /// What a generation is made of.
    pub fn of_generation(&self, generation: Option<&Generation>) -> Option<&Made> {
        let all = std::iter::once(&self.current).chain(&self.previous);
        all.into_iter()
            .find(|made| made.recipe.generation.as_ref() == generation)
    }

    /// Takes in what the configuration says. If it says something else than when it was read last, it is what new members are made
    /// of; those that are there are replaced when it is ordered. What is to be known about that is given back.
    pub fn read_again(&mut self, configured: &Made, now: UnixMillis) -> Option<String> {
        if self.configured.is_same(configured) {
            return None;
        }
        self.configured = configured.clone();
        if self.current.is_same(configured) {
            return None;
        }
        let left = self.rollout.take().filter(Rollout::is_under_way);
        let new = self.named(configured.clone(), now);
        let notice = left.as_ref().map(|left| {
            format!(
                "the rollout to {} was left: the configuration says something else now, {}",
                left.to, new.recipe
            )
        });
        let serving = self.serving(left.as_ref());
        (self.current, self.previous) = (new, serving);
        notice
    }

    /// Orders a rollout. Of what members are made of already nothing is changed, but those that aren't of it are replaced.
    pub fn order(&mut self, order: Order, now: UnixMillis) {
        let wanted = self.wanted(&order);
        let under_way = self.rollout.as_ref().filter(|rollout| rollout.is_under_way());
        if self.current.is_same(&wanted) {
            if under_way.is_none() {
                // By a slug alone, members of an earlier image that bore it would pass for ones of this.
                if let Some(number) = wanted.recipe.image.number {
                    self.current.recipe.image.number.get_or_insert(number);
                }
                // What was rolled back is not gone back to.
                let failed = self.rollout.as_ref().is_some_and(|rollout| rollout.back);
                let back_to = self
                    .previous
                    .as_ref()
                    .filter(|_| !failed)
                    .map(|made| made.recipe.clone());
                self.rollout = Some(Rollout::new(self.current.recipe.clone(), back_to, now));
            }
            return;
        }
        let serving = self.serving(under_way);
        self.current = self.named(wanted, now);
        self.previous = serving;
        let back_to = self.previous.as_ref().map(|made| made.recipe.clone());
        self.rollout = Some(Rollout::new(self.current.recipe.clone(), back_to, now));
    }

    /// The last that is known to serve: what one under way would go back to, or what is current.
    fn serving(&self, under_way: Option<&Rollout>) -> Option<Made> {
        match under_way {
            Some(Rollout { back: false, .. }) => self.previous.clone(),
            Some(_) | None => Some(self.current.clone()),
        }
    }

    /// What members would be made of by this order.
    pub fn wanted(&self, order: &Order) -> Made {
        let Made { recipe, user_data } = self.current.clone();
        let image = order.image.clone().unwrap_or_else(|| recipe.image.clone());
        let renamed = order.name.is_some() || !image.is(&recipe.image);
        Made {
            recipe: Recipe {
                generation: None,
                name: if renamed { order.name.clone() } else { recipe.name },
                image,
                size: order.size.clone().or(recipe.size),
            },
            user_data: order.user_data.clone().or(user_data),
        }
    }

    /// With a generation: the one that it has already, or one that is called by the time.
    fn named(&self, made: Made, now: UnixMillis) -> Made {
        let known = std::iter::once(&self.current)
            .chain(&self.previous)
            .find(|known| known.is_same(&made));
        let generation = match known {
            Some(known) => known.recipe.generation.clone(),
            None => Some(self.generation_at(now)),
        };
        Made {
            recipe: Recipe {
                generation,
                ..made.recipe
            },
            ..made
        }
    }

    fn generation_at(&self, now: UnixMillis) -> Generation {
        // Only a clock that was set back gives a time again.
        let times = (now.0..).map(|millis| {
            let at = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
            Generation(at.strftime("%Y%m%d-%H%M%S-%3f").to_string())
        });
        let taken = |generation: &Generation| self.of_generation(Some(generation)).is_some();
        let mut free = times.skip_while(taken);
        free.next().unwrap_or_else(|| Generation(now.0.to_string()))
    }

    /// Replaces nobody until `resume`.
    pub fn pause(&mut self) -> Result<(), OrderError> {
        self.under_way()?.pause();
        Ok(())
    }

    /// Goes on after a pause.
    pub fn resume(&mut self) -> Result<(), OrderError> {
        self.under_way()?.resume();
        Ok(())
    }

    /// Goes back to what members were made of before. One that goes back already goes on.
    pub fn undo(&mut self) -> Result<(), OrderError> {
        if !self.rollout.as_mut().is_some_and(Rollout::undo) {
            return Err(OrderError::NothingToUndo);
        }
        self.follow_turn();
        Ok(())
    }

    fn under_way(&mut self) -> Result<&mut Rollout, OrderError> {
        let rollout = self.rollout.as_mut().filter(|rollout| rollout.is_under_way());
        rollout.ok_or(OrderError::NoneUnderWay)
    }

    /// Takes in how far the rollout is by what was seen, unless something else was ordered meanwhile.
    pub fn advance(&mut self, before: Option<&Rollout>, after: Option<&Rollout>) {
        if self.rollout.as_ref() == before {
            self.rollout = after.cloned();
            self.follow_turn();
        }
    }

    /// Takes in how a create ended.
    pub fn create_ended(&mut self, generation: Option<&Generation>, impossible: bool) {
        let under_way = self
            .rollout
            .as_mut()
            .filter(|rollout| rollout.is_under_way() && rollout.to.generation.as_ref() == generation);
        if let Some(rollout) = under_way {
            rollout.create_ended(impossible);
        }
    }

    /// A rollout that has turned round makes of the previous the current.
    fn follow_turn(&mut self) {
        let turned = self
            .rollout
            .as_ref()
            .is_some_and(|rollout| rollout.to != self.current.recipe);
        if let Some(previous) = self.previous.as_mut().filter(|_| turned) {
            std::mem::swap(&mut self.current, previous);
        }
    }
}

impl Made {
    /// Whether both are the same, whatever they are called.
    fn is_same(&self, other: &Made) -> bool {
        let image = self.recipe.image == other.recipe.image || self.recipe.image.is(&other.recipe.image);
        image && self.recipe.size == other.recipe.size && self.user_data == other.user_data
    }
}

/// A pool's versions, shared by its ticks, its steps and its operator.
#[derive(Debug, Clone)]
pub struct SharedVersions(Arc<Mutex<Versions>>);

impl SharedVersions {
    /// These.
    pub fn new(versions: Versions) -> SharedVersions {
        SharedVersions(Arc::new(Mutex::new(versions)))
    }

    /// As they are now.
    pub fn lock(&self) -> MutexGuard<'_, Versions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes them, and keeps them before anybody sees it.
    pub fn change<T>(
        &self,
        state: &StateDir,
        pool: &PoolName,
        change: impl FnOnce(&mut Versions) -> T,
    ) -> Result<T, StateError> {
        let mut now = self.lock();
        let mut next = now.clone();
        let answer = change(&mut next);
        if next != *now {
            state.versions_save(pool, &next)?;
            *now = next;
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use tidepool_autoscaler_core::rollout::Stage;

    use super::*;

    fn made(image: &str, user_data: Option<&str>) -> Made {
        Made {
            recipe: Recipe {
                image: image.into(),
                size: Some("s-1".to_owned()),
                ..Recipe::default()
            },
            user_data: user_data.map(|text| UserData(text.to_owned())),
        }
    }

    fn image(image: &str) -> Order {
        Order {
            image: Some(image.into()),
            ..Order::default()
        }
    }

    const NOW: UnixMillis = UnixMillis(1_795_269_605_123);

    fn done(versions: &mut Versions) {
        let before = versions.rollout().cloned();
        let after = before.clone().map(|rollout| Rollout {
            stage: Stage::Done,
            ..rollout
        });
        versions.advance(before.as_ref(), after.as_ref());
        assert_eq!(versions.rollout(), after.as_ref());
    }

    #[test]
    fn an_order_makes_a_generation_and_undoing_it_goes_back_to_the_one_before() {
        let mut versions = Versions::configured(made("api (1)", None));
        assert_eq!(versions.undo(), Err(OrderError::NothingToUndo));
        assert_eq!(versions.pause(), Err(OrderError::NoneUnderWay));
        versions.order(image("api (2)"), NOW);
        let generation = versions.current().recipe.generation.clone().unwrap();
        assert_eq!(generation.0, "20261121-140005-123");
        // The same again changes nothing, also while it is paused.
        versions.pause().unwrap();
        let paused = versions.clone();
        versions.order(image("2"), NOW);
        assert_eq!(versions, paused);
        versions.resume().unwrap();
        done(&mut versions);
        assert_eq!(versions.pause(), Err(OrderError::NoneUnderWay));
        versions.undo().unwrap();
        let undone = versions.clone();
        assert_eq!(undone.current().recipe, made("api (1)", None).recipe);
        versions.undo().unwrap();
        assert_eq!(versions, undone);
        done(&mut versions);
        // What was undone is known by its generation.
        versions.order(image("api (2)"), NOW);
        assert_eq!(versions.current().recipe.generation, Some(generation));
        assert!(!versions.rollout().unwrap().back);
    }

    #[test]
    fn an_order_settles_which_of_the_images_of_a_slug_is_meant() {
        let mut versions = Versions::configured(made("api", None));
        versions.order(image("api (2)"), NOW);
        let settled = made("api (2)", None).recipe;
        assert_eq!(versions.current().recipe, settled);
        assert_eq!(versions.rollout().unwrap().to, settled);
        done(&mut versions);
        // It stays so while the configuration says the slug, and another image under it is another one.
        assert_eq!(versions.read_again(&made("api", None), NOW), None);
        versions.order(image("api (3)"), NOW);
        assert_eq!(versions.current().recipe.image, "api (3)".into());
        assert_eq!(versions.rollout().unwrap().from, Some(settled));
    }

    #[test]
    fn a_newer_order_goes_back_to_what_last_served() {
        let mut versions = Versions::configured(made("1", None));
        versions.order(image("2"), NOW);
        versions.order(image("3"), NOW);
        let rollout = versions.rollout().unwrap().clone();
        assert_eq!(rollout.from.unwrap().image, "1".into());
        assert_ne!(rollout.to.generation, None);
        versions.undo().unwrap();
        assert_eq!(versions.current().recipe.image, "1".into());
        // While it goes back, what it goes back to is what is known to serve.
        versions.order(image("4"), NOW);
        assert_eq!(
            versions.rollout().unwrap().from.clone().unwrap().image,
            "1".into()
        );
    }

    #[test]
    fn user_data_alone_makes_a_generation_and_is_not_shown() {
        let mut versions = Versions::configured(made("1", Some("secret-1")));
        let order = Order {
            user_data: Some(UserData("secret-2".to_owned())),
            ..Order::default()
        };
        versions.order(order, NOW);
        let current = versions.current();
        assert_eq!(current.recipe.image, "1".into());
        assert!(current.recipe.generation.is_some());
        assert_eq!(
            versions.of_generation(None).unwrap().user_data,
            Some(UserData("secret-1".to_owned()))
        );
        assert!(!format!("{versions:?}").contains("secret"), "{versions:?}");
    }

    #[test]
    fn a_configuration_that_was_changed_is_what_new_members_are_made_of() {
        let mut versions = Versions::configured(made("1", None));
        versions.order(image("2"), NOW);
        assert_eq!(versions.read_again(&made("1", None), NOW), None);
        assert_eq!(versions.current().recipe.image, "2".into());
        // It was brought up to what is rolled out.
        assert_eq!(versions.read_again(&made("2", None), NOW), None);
        assert!(versions.rollout().is_some());
        let notice = versions.read_again(&made("3", None), NOW).unwrap();
        assert!(
            notice.contains("the rollout to image 2, s-1 was left"),
            "{notice}"
        );
        assert_eq!(
            (versions.rollout(), &versions.current().recipe.image),
            (None, &"3".into())
        );
        let generation = versions.current().recipe.generation.clone();
        assert!(generation.is_some());
        // Ordering what the configuration says replaces those that were made before, and can be undone.
        versions.order(image("3"), NOW);
        let rollout = versions.rollout().unwrap();
        assert_eq!(
            (&rollout.to.generation, rollout.is_under_way()),
            (&generation, true)
        );
        // Nobody knows whether what the rollout that was left made serves.
        versions.undo().unwrap();
        assert_eq!(versions.current().recipe.image, "1".into());
    }

    #[test]
    fn what_was_rolled_back_is_not_gone_back_to() {
        let mut versions = Versions::configured(made("1", None));
        versions.order(image("2"), NOW);
        versions.undo().unwrap();
        done(&mut versions);
        // Once more of what serves.
        versions.order(image("1"), NOW);
        let rollout = versions.rollout().unwrap();
        assert_eq!((&rollout.to.image, &rollout.from), (&"1".into(), &None));
    }

    #[test]
    fn what_was_ordered_while_a_tick_ran_is_not_taken_back_by_it() {
        let mut versions = Versions::configured(made("1", None));
        versions.order(image("2"), NOW);
        let before = versions.rollout().cloned();
        versions.order(image("3"), NOW);
        let after = before.clone().map(|rollout| Rollout {
            stage: Stage::Done,
            ..rollout
        });
        versions.advance(before.as_ref(), after.as_ref());
        assert!(versions.rollout().unwrap().is_under_way());
    }
}
