//! Where a run keeps its files: a directory of its own, removed at the end unless something went wrong or it was named.

use std::path::{Path, PathBuf};

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

/// A run's directory.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    temporary: Option<tempfile::TempDir>,
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
                std::fs::create_dir_all(named).map_err(error)?;
                Self {
                    path: std::path::absolute(named).map_err(error)?,
                    temporary: None,
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
    fn a_place_that_can_not_be_made_is_told_with_its_path() {
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
