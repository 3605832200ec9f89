//! Where a run keeps its files: a directory of its own, removed at the end unless something went wrong or it was named. A named
//! one may be used again: what an earlier run left in it is removed at the start.

use std::fs::File;
use std::path::{Path, PathBuf};

use tidepool_listener::FileLock;

/// The directory can't be made or written.
#[derive(Debug, thiserror::Error)]
#[error("{} can't be written{}", .path.display(), hint(.source))]
pub struct PlaceError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

impl PlaceError {
    /// A path that can't be written, and why.
    pub fn new(path: PathBuf, source: std::io::Error) -> Self {
        Self { path, source }
    }
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            ": the disk is full; --work-dir names a directory on another one"
        }
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            ": --work-dir names a directory that can be written"
        }
        _ => "",
    }
}

/// A named directory holds this file while and after a run uses it: locked by the run, and the sign that [`ENTRIES`] are ours.
const LOCK: &str = "tidepool-demo.lock";

/// What a run writes below its directory and the next one begins without. The servers' scripts clean up after themselves.
const ENTRIES: [&str; 8] = [
    "logs",
    "images",
    "cloud",
    "autoscaler",
    "autoscaler.toml",
    "tide.db",
    "tide.db-wal",
    "tide.db-shm",
];

/// A run's directory.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    temporary: Option<tempfile::TempDir>,
    #[expect(dead_code, reason = "held, not read: the lock lasts until it is dropped")]
    lock: Option<FileLock>,
}

/// Takes a named directory for this run, and removes what an earlier one left there.
fn claim(dir: &Path) -> std::io::Result<FileLock> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join(LOCK);
    if !path.exists()
        && let Some(entry) = ENTRIES.iter().find(|entry| dir.join(entry).exists())
    {
        return Err(std::io::Error::other(format!(
            "it holds {entry:?}, which is not of an earlier run: name an empty directory"
        )));
    }
    let lock = FileLock::take(File::create(&path)?)
        .map_err(|_| std::io::Error::other("a running tidepool-demo uses it"))?;
    for entry in ENTRIES {
        let path = dir.join(entry);
        let removed = if path.is_dir() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(lock)
}

impl Place {
    /// Makes the named directory, or a new one among the system's temporary ones.
    pub fn new(named: Option<&Path>) -> Result<Self, PlaceError> {
        let place = match named {
            Some(named) => {
                let error = |source| PlaceError {
                    path: named.to_path_buf(),
                    source,
                };
                let lock = claim(named).map_err(error)?;
                Self {
                    path: std::path::absolute(named).map_err(error)?,
                    temporary: None,
                    lock: Some(lock),
                }
            }
            None => {
                let error = |source| PlaceError {
                    path: std::env::temp_dir(),
                    source,
                };
                let dir = tempfile::Builder::new()
                    .prefix("tidepool-demo-")
                    .tempdir()
                    .map_err(error)?;
                Self {
                    path: dir.path().to_path_buf(),
                    temporary: Some(dir),
                    lock: None,
                }
            }
        };
        std::fs::create_dir_all(place.logs()).map_err(|source| PlaceError {
            path: place.logs(),
            source,
        })?;
        Ok(place)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the programs' logs are.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// Writes a file below the directory and returns its path.
    pub fn write(&self, relative: &str, content: &str) -> Result<PathBuf, PlaceError> {
        let path = self.path.join(relative);
        let error = |source| PlaceError {
            path: path.clone(),
            source,
        };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(error)?;
        }
        std::fs::write(&path, content).map_err(error)?;
        Ok(path)
    }

    /// Leaves the directory where it is, also a temporary one.
    pub fn keep(self) -> PathBuf {
        if let Some(temporary) = self.temporary {
            return temporary.keep();
        }
        self.path
    }
}

#[cfg(test)]
mod tests {
    use tidepool_logging::chain;

    use super::*;

    #[test]
    fn a_temporary_place_goes_unless_it_is_kept() {
        let place = Place::new(None).unwrap();
        let gone = place.path().to_path_buf();
        place.write("a/b.txt", "x").unwrap();
        assert!(gone.join("a/b.txt").is_file());
        drop(place);
        assert!(!gone.exists());

        let kept = Place::new(None).unwrap().keep();
        assert!(kept.join("logs").is_dir());
        std::fs::remove_dir_all(kept).unwrap();
    }

    #[test]
    fn a_named_place_stays() {
        let dir = tempfile::tempdir().unwrap();
        let named = dir.path().join("x/y");
        drop(Place::new(Some(&named)).unwrap());
        assert!(named.join("logs").is_dir());
    }

    #[test]
    fn a_named_place_may_be_used_again_but_not_by_two_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Place::new(Some(dir.path())).unwrap();
        first.write("cloud/cloud.json", "x").unwrap();
        first.write("tide.db", "x").unwrap();
        first.write("notes.txt", "of the user").unwrap();
        let error = Place::new(Some(dir.path())).unwrap_err();
        assert!(
            chain(&error).contains("a running tidepool-demo uses it"),
            "{error}"
        );
        drop(first);
        drop(Place::new(Some(dir.path())).unwrap());
        assert!(!dir.path().join("cloud").exists() && !dir.path().join("tide.db").exists());
        assert!(dir.path().join("notes.txt").exists() && dir.path().join("logs").exists());
    }

    #[test]
    fn a_directory_with_files_of_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("images")).unwrap();
        let error = Place::new(Some(dir.path())).unwrap_err();
        assert!(chain(&error).contains("name an empty directory"), "{error}");
        assert!(dir.path().join("images").exists());
    }

    #[test]
    fn a_place_that_can_not_be_made_is_reported_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Place::new(Some(&file.join("x"))).unwrap_err().to_string();
        assert!(error.contains("file/x can't be written"), "{error}");
    }

    #[test]
    fn a_full_disk_is_called_one() {
        let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = PlaceError {
            path: "/x".into(),
            source,
        }
        .to_string();
        assert_eq!(
            error,
            "/x can't be written: the disk is full; --work-dir names a directory on another one"
        );
    }
}
