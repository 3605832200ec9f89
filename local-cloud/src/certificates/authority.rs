//! The local authority: issues what Let's Encrypt would for DigitalOcean. Nobody trusts it before told to; its root certificate
//! is a file for that.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use super::{CertificateError, Checked, Pem, check};
use crate::private_files;

/// What the authority is called.
const NAME: &str = "Tidepool local cloud authority";
/// How long its root is valid: 10 years, longer than any state directory is kept.
const ROOT_DAYS: i64 = 3_650;
/// How long a certificate is valid, as Let's Encrypt documents it.
const LEAF_DAYS: i64 = 90;
/// Begun that much earlier, as Let's Encrypt does with an hour: clocks differ.
const BACKDATED_DAYS: i64 = 1;
const DAY_SECS: i64 = 86_400;
/// A file of the authority has under 1 kB.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Why nothing can be issued.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    /// The authority's files can't be read or written.
    #[error("{}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The authority's key is damaged, or a name is none.
    #[error("the certificate can't be issued")]
    Sign(#[from] rcgen::Error),
    /// What was issued does not pass.
    #[error("the certificate that was issued can't be used")]
    Unusable(#[from] CertificateError),
}

/// The authority of a state directory.
#[derive(Debug)]
pub(crate) struct Authority {
    dir: PathBuf,
    /// Held while it is made: two that are first at the same time get one.
    making: Mutex<()>,
}

impl Authority {
    /// The one that is kept in this directory, and made there on first use.
    pub(crate) fn in_dir(dir: PathBuf) -> Self {
        Self {
            dir,
            making: Mutex::default(),
        }
    }

    /// The file with the root certificate.
    pub(crate) fn root_file(&self) -> PathBuf {
        self.dir.join("root.pem")
    }

    /// Issues a certificate for these names, with a new key.
    ///
    /// # Errors
    /// When the disk fails, or a name is none.
    pub(crate) fn issue(&self, dns_names: &[String], now_secs: i64) -> Result<Checked, IssueError> {
        let key = self.key(now_secs)?;
        let root = read(self.root_file())?;
        let issuer = Issuer::new(root_params(now_secs), key);
        let leaf_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(dns_names)?;
        params.distinguished_name = DistinguishedName::new();
        set_validity(&mut params, now_secs, LEAF_DAYS);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&leaf_key, &issuer)?;
        let pem = Pem {
            private_key: &leaf_key.serialize_pem(),
            leaf_certificate: &leaf.pem(),
            certificate_chain: &root,
        };
        Ok(check(pem, now_secs)?)
    }

    /// That of an earlier run, or a new one with its root certificate.
    fn key(&self, now_secs: i64) -> Result<KeyPair, IssueError> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.dir.join("key.pem");
        // The root is written last: without it, the key is made anew.
        if self.root_file().is_file() {
            return Ok(KeyPair::from_pem(&read(path)?)?);
        }
        let key = KeyPair::generate()?;
        let root = root_params(now_secs).self_signed(&key)?;
        let made = private_files::make_private_dir(&self.dir)
            .and_then(|()| private_files::write_durably(&path, key.serialize_pem()))
            .and_then(|()| private_files::write_durably(&self.root_file(), root.pem()));
        made.map_err(|source| IssueError::Disk { path, source })?;
        let root = self.root_file();
        tracing::info!(root = %root.display(), "made an authority for certificates of the type lets_encrypt");
        Ok(key)
    }
}

fn root_params(now_secs: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now_secs, ROOT_DAYS);
    params
}

fn read(path: PathBuf) -> Result<String, IssueError> {
    tidepool_listener::read_text(&path, FILE_BYTES_MAX).map_err(|source| IssueError::Disk { path, source })
}

/// Valid from a little before now, for so many days; a day by its first second.
fn set_validity(params: &mut CertificateParams, now_secs: i64, days: i64) {
    let date = |secs| {
        let day = Timestamp::from_second(secs)
            .unwrap_or_default()
            .to_zoned(TimeZone::UTC)
            .date();
        let small = |number: i8| u8::try_from(number).unwrap_or(1);
        rcgen::date_time_ymd(i32::from(day.year()), small(day.month()), small(day.day()))
    };
    params.not_before = date(now_secs - BACKDATED_DAYS * DAY_SECS);
    params.not_after = date(now_secs + days * DAY_SECS);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_790_000_000;

    #[test]
    fn what_is_issued_chains_to_the_root_that_stays() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["a.example".to_owned(), "*.b.example".to_owned()];
        let authority = Authority::in_dir(dir.path().to_owned());
        let first = authority.issue(&names, NOW).unwrap();
        assert_eq!(first.facts.dns_names, names);
        let days = (first.facts.not_after_secs - NOW) / DAY_SECS;
        assert!((89..=90).contains(&days), "{days}");
        let root = std::fs::read_to_string(authority.root_file()).unwrap();
        let second = authority.issue(&names, NOW + 400 * DAY_SECS).unwrap();
        assert_ne!(first.facts.sha1_fingerprint, second.facts.sha1_fingerprint);
        assert_eq!(std::fs::read_to_string(authority.root_file()).unwrap(), root);
        // Its files are lost in part: a new one is made.
        std::fs::remove_file(authority.root_file()).unwrap();
        authority.issue(&names, NOW).unwrap();
        assert_ne!(std::fs::read_to_string(authority.root_file()).unwrap(), root);
    }
}
