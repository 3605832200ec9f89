//! Machines stand still while something of theirs is copied.

use std::sync::PoisonError;

use super::{Inner, failed};
use crate::hosts::HostError;

impl Inner {
    /// Works while a machine, if it is on, stands still. One at a time, so that the end of one copy doesn't let a machine go of
    /// which another is being made; and a machine that was frozen on purpose stays so.
    ///
    /// # Errors
    /// When it can't be stopped.
    pub(super) fn while_still<T>(
        &self,
        machine: Option<u64>,
        work: impl FnOnce() -> T,
    ) -> Result<T, HostError> {
        let _alone = self.still.lock().unwrap_or_else(PoisonError::into_inner);
        let on = machine.filter(|machine| self.running(*machine).is_some());
        let stopped = on.filter(|machine| !self.cgroups.is_frozen(*machine));
        if let Some(machine) = stopped {
            let frozen = self.cgroups.freeze(machine, true);
            frozen.map_err(failed("stopping the machine"))?;
        }
        let done = work();
        // It may have been destroyed or cut meanwhile: then there is nothing to let go.
        if let Some(machine) = stopped
            && let Err(error) = self.cgroups.freeze(machine, false)
        {
            tracing::warn!(machine, %error, "could not be let go after a snapshot");
        }
        Ok(done)
    }
}
