//! The lock that says whose a directory is: one process at a time has it.

use std::fs::{File, TryLockError};
use std::io;

/// A file's lock; let go when it is dropped, or when the process ends in any way.
#[derive(Debug)]
pub struct FileLock(File);

impl FileLock {
    /// Takes the lock of an open file, without waiting for it.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] where somebody has it, and those of the disk.
    pub fn take(file: File) -> Result<Self, TryLockError> {
        file.try_lock()?;
        Ok(Self(file))
    }

    /// The same; waits for whoever has it.
    ///
    /// # Errors
    /// The disk's.
    pub fn wait(file: File) -> io::Result<Self> {
        file.lock()?;
        Ok(Self(file))
    }

    /// The file, for who writes into it why it is locked.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing isn't enough: a program that is being started has the file, too, until it is executed. If it fails, the lock
        // goes with the last of those that have the file.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_let_go_though_a_program_that_is_being_started_has_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let open = || File::create(dir.path().join("lock")).unwrap();
        let file = open();
        let inherited = file.try_clone().unwrap();
        let lock = FileLock::take(file).unwrap();
        assert!(matches!(FileLock::take(open()), Err(TryLockError::WouldBlock)));
        drop(lock);
        assert!(FileLock::take(open()).is_ok());
        drop(inherited);
    }
}
