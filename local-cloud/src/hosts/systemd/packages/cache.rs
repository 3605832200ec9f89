//! Files of Debian's archive that are kept for all local clouds of the machine: fetched when first asked for, and forgotten, those first that
//! nobody has asked for, when there are too many.

use std::fs::{File, FileTimes};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::hosts::systemd::mirror::{DownloadError, Source};
use crate::private_files;

/// Bytes that are kept: the packages of some twenty images.
const BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// How long a file that changes is taken as it is: Debian changes its lists four times a day.
const FRESH: Duration = Duration::from_secs(10 * 60);
/// A download that is older was left behind.
const DRAFT_AGE_MAX: Duration = Duration::from_secs(60 * 60);
/// Downloads at a time; who wants the same file waits for it.
const TURNS: usize = 8;

/// Fetches the file at a source's path into a new file.
pub(super) type Fetch = fn(&Source, &str, &Path) -> Result<(), DownloadError>;

/// A file of the archive.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) source: Source,
    /// Below the source's address.
    pub(super) path: String,
}

impl Wanted {
    /// Whether the file of that name never changes: packages, and lists that are named by what is in them.
    fn is_lasting(&self) -> bool {
        self.path.starts_with("pool/") || self.path.contains("/by-hash/")
    }

    fn file_name(&self) -> String {
        use md5::Digest;
        let text = format!("{} {}", self.source.uri, self.path);
        let digest: [u8; 16] = md5::Md5::digest(text.as_bytes()).into();
        uuid::Uuid::from_bytes(digest).simple().to_string()
    }
}

/// The kept files.
#[derive(Debug)]
pub(super) struct Cache {
    dir: PathBuf,
    fetch: Fetch,
    turns: [Mutex<()>; TURNS],
    bytes_max: u64,
}

impl Cache {
    pub(super) fn new(dir: PathBuf, fetch: Fetch) -> io::Result<Self> {
        private_files::create_dir_all(&dir)?;
        Ok(Self {
            dir,
            fetch,
            turns: Default::default(),
            bytes_max: BYTES_MAX,
        })
    }

    /// The file and how long it is, fetched first if need be. When the mirror doesn't answer, a file that may have changed since is
    /// given as it is kept.
    ///
    /// # Errors
    /// When it can't be had.
    pub(super) fn open(&self, wanted: &Wanted, now: SystemTime) -> Result<(File, u64), DownloadError> {
        let name = wanted.file_name();
        let path = self.dir.join(&name);
        let _turn = self.turn(&name);
        let kept = open_kept(&path)?;
        if let Some(file) = &kept
            && (wanted.is_lasting() || is_fresh(file, now)?)
        {
            return used(file, now);
        }
        let fetched = self.fetch(wanted, (&path, now));
        match (fetched, kept) {
            (Ok(file), _) => {
                self.make_room(&name, now)?;
                used(&file, now)
            }
            (Err(error @ DownloadError::Mirror(_)), Some(kept)) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(
                    path = wanted.path,
                    error,
                    "the mirror doesn't answer: an older file is served"
                );
                used(&kept, now)
            }
            (Err(error), _) => Err(error),
        }
    }

    fn turn(&self, name: &str) -> Option<std::sync::MutexGuard<'_, ()>> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let turns = u64::try_from(TURNS).unwrap_or(1);
        let nth = usize::try_from(hasher.finish() % turns).unwrap_or_default();
        let turn = self.turns.get(nth)?;
        Some(turn.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Fetches into a file of its own first, so that a kept one is always whole.
    fn fetch(&self, wanted: &Wanted, (path, now): (&Path, SystemTime)) -> Result<File, DownloadError> {
        // This process has one turn for each file, and other clouds have other ids.
        let draft = self
            .dir
            .join(format!(".{}.{}", wanted.file_name(), std::process::id()));
        let fetched = (self.fetch)(&wanted.source, &wanted.path, &draft).and_then(|()| {
            let file = File::options().read(true).write(true).open(&draft)?;
            // The download has the mirror's time; what counts here is when it was fetched.
            file.set_modified(now)?;
            std::fs::rename(&draft, path)?;
            Ok(file)
        });
        if fetched.is_err() {
            // It may not have come to a file.
            let _left = std::fs::remove_file(&draft);
        }
        fetched
    }

    /// Removes what nobody has asked for longest, until the rest fits. What was just fetched stays.
    fn make_room(&self, newest: &str, now: SystemTime) -> io::Result<()> {
        let mut kept = Vec::new();
        let mut bytes = 0;
        for entry in std::fs::read_dir(&self.dir)?.flatten() {
            // Another cloud may have removed it.
            let Ok(about) = entry.metadata() else { continue };
            let name = entry.file_name();
            if name.to_string_lossy().starts_with('.') {
                let age = now.duration_since(about.modified()?).unwrap_or_default();
                if age > DRAFT_AGE_MAX {
                    remove(&entry.path())?;
                }
                continue;
            }
            bytes += about.len();
            if name != newest {
                kept.push((about.accessed()?, about.len(), entry.path()));
            }
        }
        kept.sort();
        for (_, length, path) in kept {
            if bytes <= self.bytes_max {
                break;
            }
            remove(&path)?;
            bytes = bytes.saturating_sub(length);
        }
        Ok(())
    }
}

fn open_kept(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_fresh(file: &File, now: SystemTime) -> io::Result<bool> {
    let age = now.duration_since(file.metadata()?.modified()?);
    // One from the future was fetched under another clock.
    Ok(age.is_ok_and(|age| age < FRESH))
}

/// Notes that somebody asked for it.
fn used(file: &File, now: SystemTime) -> Result<(File, u64), DownloadError> {
    file.set_times(FileTimes::new().set_accessed(now))?;
    Ok((file.try_clone()?, file.metadata()?.len()))
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::hosts::systemd::command;

    fn wanted(path: &str) -> Wanted {
        Wanted {
            source: Source {
                uri: "http://mirror.example/".to_owned(),
                release: "bookworm".to_owned(),
            },
            path: path.to_owned(),
        }
    }

    /// A mirror that has every file: its own path.
    fn has_all(_: &Source, path: &str, to: &Path) -> Result<(), DownloadError> {
        Ok(std::fs::write(to, path)?)
    }

    fn is_down(_: &Source, _: &str, to: &Path) -> Result<(), DownloadError> {
        std::fs::write(to, "half")?;
        command::run("sh", &["-c", "exit 100"])
            .map(|_| ())
            .map_err(DownloadError::Mirror)
    }

    fn cache(dir: &Path, fetch: Fetch) -> Cache {
        Cache::new(dir.to_owned(), fetch).unwrap()
    }

    /// So many seconds after some time.
    fn at(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + secs)
    }

    fn read(cache: &Cache, path: &str, secs: u64) -> Result<String, DownloadError> {
        let (mut file, bytes) = cache.open(&wanted(path), at(secs))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        assert_eq!(u64::try_from(text.len()).unwrap(), bytes);
        Ok(text)
    }

    const PACKAGE: &str = "pool/main/h/hello/hello_2.10_amd64.deb";
    const RELEASE: &str = "dists/bookworm/InRelease";

    const OLD: u64 = FRESH.as_secs() + 1;

    #[test]
    fn a_package_is_fetched_once_and_a_list_again_when_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let up = cache(dir.path(), has_all);
        for path in [PACKAGE, RELEASE] {
            assert_eq!(read(&up, path, 0).unwrap(), path);
            let name = dir.path().join(wanted(path).file_name());
            std::fs::write(&name, "kept").unwrap();
            let file = File::options().write(true).open(name).unwrap();
            file.set_modified(at(0)).unwrap();
            assert_eq!(read(&up, path, 1).unwrap(), "kept");
        }
        assert_eq!(read(&up, PACKAGE, OLD).unwrap(), "kept");
        assert_eq!(read(&up, RELEASE, OLD).unwrap(), RELEASE);
    }

    #[test]
    fn when_the_mirror_is_down_what_is_kept_is_served_and_nothing_half() {
        let dir = tempfile::tempdir().unwrap();
        let down = cache(dir.path(), is_down);
        assert!(matches!(read(&down, RELEASE, 0), Err(DownloadError::Mirror(_))));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        read(&cache(dir.path(), has_all), RELEASE, 0).unwrap();
        assert_eq!(read(&down, RELEASE, OLD).unwrap(), RELEASE);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_nobody_asks_for_goes_first_when_there_is_too_much() {
        let dir = tempfile::tempdir().unwrap();
        let mut up = cache(dir.path(), has_all);
        let paths = ["pool/a/1", "pool/a/2", "pool/a/3", "pool/a/4"];
        up.bytes_max = 3 * 8;
        // Asked for again, the first is no longer the one that goes.
        for (path, secs) in [(0, 1), (1, 2), (2, 3), (0, 4)] {
            read(&up, paths[path], secs).unwrap();
        }
        let draft = dir.path().join(".left");
        let left = File::create(&draft).unwrap();
        left.set_modified(at(0)).unwrap();
        read(&up, paths[3], DRAFT_AGE_MAX.as_secs() + 5).unwrap();
        let there = |path: &str| dir.path().join(wanted(path).file_name()).exists();
        assert_eq!(paths.map(there), [true, false, true, true]);
        assert!(!draft.exists());
    }
}
