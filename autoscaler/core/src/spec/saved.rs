//! A pool's settings as older versions wrote them into the audit file: a policy held its signal's settings, too.

use serde::Deserialize;

use super::{
    Across, Lifetimes, Pace, Policy, PoolSpec, RepairLimit, SignalSettings, StepLimits, TargetPolicy,
};
use crate::observe::PoolName;
use crate::recipe::{Image, Recipe};
use crate::rollout::Rollout;

/// The default of the configuration when the length of a tick was not written down.
const TICK_SECS: u32 = 15;
/// The default of the configuration when a signal's window was not written down.
const WINDOW_SECS: u32 = 60;

#[derive(Deserialize)]
pub(super) struct SavedPool {
    name: PoolName,
    min: u32,
    max: u32,
    /// As older versions wrote it.
    #[serde(default)]
    image: Image,
    recipe: Option<Recipe>,
    #[serde(default = "tick_secs")]
    tick_secs: u32,
    #[serde(default)]
    signals: Vec<SignalSettings>,
    policies: Vec<SavedPolicy>,
    out_window_secs: u32,
    in_window_secs: u32,
    limits: StepLimits,
    life: Lifetimes,
    repair: RepairLimit,
    #[serde(default)]
    pace: Pace,
    #[serde(default)]
    rollout: Option<Rollout>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SavedPolicy {
    Now(Policy),
    WithItsSignal {
        name: String,
        target: f64,
        tolerance: f64,
        across: Across,
        fresh_secs: u32,
    },
}

fn tick_secs() -> u32 {
    TICK_SECS
}

impl From<SavedPool> for PoolSpec {
    fn from(saved: SavedPool) -> PoolSpec {
        let mut signals = saved.signals;
        let policy = |policy| match policy {
            SavedPolicy::Now(policy) => policy,
            SavedPolicy::WithItsSignal {
                name,
                target,
                tolerance,
                across,
                fresh_secs,
            } => {
                signals.push(SignalSettings {
                    name: name.clone(),
                    across,
                    window_secs: WINDOW_SECS,
                    fresh_secs,
                });
                Policy::Target(TargetPolicy {
                    signal: name.clone(),
                    name,
                    target,
                    tolerance,
                })
            }
        };
        let policies = saved.policies.into_iter().map(policy).collect();
        PoolSpec {
            name: saved.name,
            min: saved.min,
            max: saved.max,
            recipe: saved.recipe.unwrap_or(Recipe {
                image: saved.image,
                ..Recipe::default()
            }),
            tick_secs: saved.tick_secs,
            signals,
            policies,
            out_window_secs: saved.out_window_secs,
            in_window_secs: saved.in_window_secs,
            limits: saved.limits,
            life: saved.life,
            repair: saved.repair,
            pace: saved.pace,
            rollout: saved.rollout,
        }
    }
}
