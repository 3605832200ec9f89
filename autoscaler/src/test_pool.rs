//! A pool's settings for unit tests.

use tidepool_autoscaler_core::observe::PoolName;
use tidepool_autoscaler_core::recipe::Recipe;
use tidepool_autoscaler_core::spec::{Lifetimes, Pace, PoolSpec, RepairLimit, StepLimits};

pub(crate) fn spec(name: &str) -> PoolSpec {
    PoolSpec {
        name: PoolName(name.to_owned()),
        min: 1,
        max: 10,
        recipe: Recipe {
            image: "image".into(),
            ..Recipe::default()
        },
        tick_secs: 15,
        signals: Vec::new(),
        policies: Vec::new(),
        out_window_secs: 0,
        in_window_secs: 300,
        limits: StepLimits {
            out_max: 4,
            out_period_secs: 60,
            in_max: 1,
            in_period_secs: 60,
        },
        life: Lifetimes {
            warm_up_secs: 60,
            boot_timeout_secs: 300,
            unready_secs: 60,
            create_settle_secs: 60,
            withdraw_settle_secs: 10,
            drain_secs: 120,
            shutdown_secs: 30,
        },
        repair: RepairLimit {
            max: 5,
            window_secs: 600,
        },
        pace: Pace::default(),
        rollout: None,
    }
}
