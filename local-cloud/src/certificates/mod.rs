//! Certificates and their private keys: checked, issued, and kept in files that only their owner may read. A key leaves this
//! module as something that signs, never as text.

pub(crate) mod authority;
mod check;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::sign::CertifiedKey;

use self::authority::Authority;
pub(crate) use self::check::{CertificateError, Pem, check};
use crate::private_files;

/// A file has a key and a chain: a call's body is not larger.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) dns_names: Vec<String>,
    /// Seconds since 1970.
    pub(crate) not_after_secs: i64,
    pub(crate) sha1_fingerprint: String,
}

/// A certificate that was checked, with its key.
pub(crate) struct Checked {
    pub(crate) facts: Facts,
    key: Arc<CertifiedKey>,
    /// The private key, then the chain, leaf first.
    pem: String,
}

/// All certificates of a state directory.
#[derive(Debug)]
pub(crate) struct Certificates {
    dir: PathBuf,
    authority: Authority,
    keys: Mutex<BTreeMap<String, Arc<CertifiedKey>>>,
}

impl Certificates {
    /// Those in this state directory, as far as they are `known`; others were left by a run that ended in the middle of a
    /// create or a delete, and are removed.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub(crate) fn open(state: &Path, known: &BTreeSet<&str>) -> io::Result<Self> {
        let certificates = Self {
            dir: state.join("certificates"),
            authority: Authority::in_dir(state.join("authority")),
            keys: Mutex::default(),
        };
        let entries = match std::fs::read_dir(&certificates.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(certificates),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.path();
            let id = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_suffix(".pem"))
                .filter(|id| known.contains(id));
            match id {
                None => std::fs::remove_file(&path)?,
                Some(id) => match load(&path) {
                    Ok(key) => drop(certificates.keys().insert(id.to_owned(), Arc::new(key))),
                    // Its balancers turn clients away; everything else runs.
                    Err(error) => tracing::error!(certificate = id, %error, "a certificate can't be used"),
                },
            }
        }
        Ok(certificates)
    }

    /// Keeps a certificate: it is on disk when this returns.
    ///
    /// # Errors
    /// When the disk fails; nothing is kept then.
    pub(crate) fn keep(&self, id: &str, checked: &Checked) -> io::Result<()> {
        private_files::make_private_dir(&self.dir)?;
        let path = self.path(id);
        if let Err(error) = private_files::write_durably(&path, &checked.pem) {
            // Half a file is none; one that can't be removed is removed by the next start.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        self.keys().insert(id.to_owned(), Arc::clone(&checked.key));
        Ok(())
    }

    /// Forgets a certificate and removes its key from the disk.
    pub(crate) fn forget(&self, id: &str) {
        self.keys().remove(id);
        if let Err(error) = std::fs::remove_file(self.path(id))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(certificate = id, %error, "the file of a removed certificate is still there");
        }
    }

    /// What signs for a certificate.
    pub(crate) fn key(&self, id: &str) -> Option<Arc<CertifiedKey>> {
        self.keys().get(id).map(Arc::clone)
    }

    /// What issues certificates here.
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.pem"))
    }

    fn keys(&self) -> MutexGuard<'_, BTreeMap<String, Arc<CertifiedKey>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(path: &Path) -> io::Result<CertifiedKey> {
    let text = tidepool_listener::read_text(path, FILE_BYTES_MAX)?;
    check::key_of(&text).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: i64 = 1_790_000_000;

    fn issued(dir: &Path) -> Checked {
        Authority::in_dir(dir.join("authority"))
            .issue(&["a.example".to_owned()], NOW)
            .unwrap()
    }

    #[test]
    fn keys_are_private_files_and_are_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let none = Certificates::open(dir.path(), &BTreeSet::new()).unwrap();
        none.keep("one", &issued(dir.path())).unwrap();
        none.keep("two", &issued(dir.path())).unwrap();
        let file = dir.path().join("certificates/one.pem");
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // "two" is not in the state: its create was not finished.
        let again = Certificates::open(dir.path(), &BTreeSet::from(["one"])).unwrap();
        assert!(again.key("one").is_some() && again.key("two").is_none());
        assert!(!dir.path().join("certificates/two.pem").exists());
        again.forget("one");
        assert!(again.key("one").is_none() && !file.exists());
    }

    #[test]
    fn a_file_that_is_damaged_costs_one_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::open(dir.path(), &BTreeSet::new()).unwrap();
        certificates.keep("one", &issued(dir.path())).unwrap();
        std::fs::write(dir.path().join("certificates/one.pem"), "damaged").unwrap();
        let again = Certificates::open(dir.path(), &BTreeSet::from(["one"])).unwrap();
        assert!(again.key("one").is_none());
    }
}
