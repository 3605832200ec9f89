//! What a host writes on its console, kept in a file that does not grow without bound: the newest part, and one older.

use std::fs::File;
use std::io::{self, PipeWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::private_files;

/// Bytes of a part: a boot writes some 10 KiB.
const PART_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes taken from the console at a time.
const PIECE_BYTES: usize = 8 * 1024;

/// The log of one host's console.
#[derive(Debug, Clone)]
pub(super) struct Console(Arc<Mutex<Parts>>);

#[derive(Debug)]
struct Parts {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
}

impl Console {
    /// The log in that file, which may have something of earlier boots.
    ///
    /// # Errors
    /// When the file can't be had.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::bounded(path, PART_BYTES_MAX)
    }

    fn bounded(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let file = private_files::append(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self(Arc::new(Mutex::new(Parts {
            path: path.to_owned(),
            file,
            bytes,
            bytes_max,
        }))))
    }

    /// What a host is to write into. A thread keeps it, until nobody writes any more.
    ///
    /// # Errors
    /// When the system has no pipe or thread to give.
    pub(super) fn writer(&self) -> io::Result<PipeWriter> {
        let (mut reader, writer) = io::pipe()?;
        let log = self.clone();
        std::thread::Builder::new()
            .name("console".to_owned())
            .spawn(move || {
                let mut piece = vec![0; PIECE_BYTES];
                // A pipe that fails has nobody at its other end.
                while let Ok(length @ 1..) = reader.read(&mut piece) {
                    // A host must not stand still because its log can't be written.
                    if let Err(error) = log.keep(piece.get(..length).unwrap_or_default()) {
                        tracing::debug!(%error, "a console's log");
                    }
                }
            })?;
        Ok(writer)
    }

    fn keep(&self, piece: &[u8]) -> io::Result<()> {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if parts.bytes >= parts.bytes_max {
            let mut older = parts.path.clone().into_os_string();
            older.push(".1");
            std::fs::rename(&parts.path, older)?;
            parts.file = private_files::append(&parts.path)?;
            parts.bytes = 0;
        }
        parts.file.write_all(piece)?;
        parts.bytes += u64::try_from(piece.len()).unwrap_or(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_talkative_host_fills_two_parts_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        std::fs::write(&path, "of an earlier boot\n").unwrap();
        let log = Console::bounded(&path, 100).unwrap();
        for nth in 0..40 {
            log.keep(format!("line {nth} of a host\n").as_bytes()).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let (newer, older) = (read("console.log"), read("console.log.1"));
        assert!(newer.ends_with("line 39 of a host\n"), "{newer}");
        assert!(newer.len() < 200 && older.len() < 200);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_is_written_is_kept_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let log = Console::open(&path).unwrap();
        let mut writer = log.writer().unwrap();
        for _ in 0..3 {
            writer.write_all(b"Welcome\n").unwrap();
        }
        drop(writer);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::fs::read_to_string(&path).unwrap() != "Welcome\nWelcome\nWelcome\n" {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
    }
}
