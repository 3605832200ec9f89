//! Whether an uploaded certificate can be used: its texts parse, the key is the leaf's, the chain issued it, it has not expired.

use std::sync::Arc;

use rustls::InconsistentKeys;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tidepool_listener::pem;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use super::{Checked, Facts};

/// Shortest RSA key, as DigitalOcean's API refuses shorter ones
/// (<https://github.com/digitalocean/terraform-provider-digitalocean/pull/736>).
const RSA_BITS_MIN: usize = 2_048;
/// Shortest key on an elliptic curve; same source.
const EC_BITS_MIN: usize = 224;
/// Certificates of a chain at most: public ones have two or three.
const CHAIN_MAX: usize = 10;

/// The texts of an upload.
#[derive(Clone, Copy)]
pub(crate) struct Pem<'a> {
    pub(crate) private_key: &'a str,
    pub(crate) leaf_certificate: &'a str,
    /// Empty when there is none.
    pub(crate) certificate_chain: &'a str,
}

/// Why a certificate is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error(
        "private_key is not a private key in PEM format that is known here: RSA, ECDSA P-256 or P-384, or Ed25519"
    )]
    Key,
    #[error("leaf_certificate must hold one certificate in PEM format")]
    Leaf,
    #[error("certificate_chain must hold certificates in PEM format, {CHAIN_MAX} at most")]
    Chain,
    #[error(
        "the provided private key is not a minimum of {RSA_BITS_MIN} bits (RSA) or {EC_BITS_MIN} bits (ECDSA)"
    )]
    Weak,
    #[error("the private key does not match the leaf certificate")]
    Mismatch,
    #[error("certificate {} of the certificate chain did not issue the one before it", .0 + 1)]
    NotIssued(usize),
    #[error("the certificate has expired")]
    Expired,
    #[error("the certificate chain has a certificate that has expired")]
    ChainExpired,
    #[error("the certificate can't be used: {0}")]
    Unusable(String),
}

/// Checks an upload.
///
/// # Errors
/// [`CertificateError`] is the first thing that is wrong; it holds nothing of the key.
pub(crate) fn check(texts: Pem<'_>, now_secs: i64) -> Result<Checked, CertificateError> {
    let key = pem::private_key(texts.private_key.as_bytes()).map_err(|_| CertificateError::Key)?;
    let mut chain =
        pem::certificates(texts.leaf_certificate.as_bytes()).map_err(|_| CertificateError::Leaf)?;
    if chain.len() != 1 {
        return Err(CertificateError::Leaf);
    }
    let issuers = match texts.certificate_chain.trim() {
        "" => Vec::new(),
        issuers => pem::certificates(issuers.as_bytes()).map_err(|_| CertificateError::Chain)?,
    };
    if issuers.len() > CHAIN_MAX {
        return Err(CertificateError::Chain);
    }
    chain.extend(issuers);
    let facts = read(&chain, now_secs)?;
    let key = certified(chain, key)?;
    let all = [texts.private_key, texts.leaf_certificate, texts.certificate_chain];
    Ok(Checked {
        facts,
        key: Arc::new(key),
        pem: all.map(|text| format!("{}\n", text.trim())).concat(),
    })
}

/// What signs, of a file that holds a key and its chain.
///
/// # Errors
/// When one of them is missing or they don't fit.
pub(super) fn key_of(text: &str) -> Result<CertifiedKey, CertificateError> {
    let key = pem::private_key(text.as_bytes()).map_err(|_| CertificateError::Key)?;
    certified(
        pem::certificates(text.as_bytes()).map_err(|_| CertificateError::Leaf)?,
        key,
    )
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, CertificateError> {
    let provider = default_provider();
    if provider.key_provider.load_private_key(key.clone_key()).is_err() {
        return Err(CertificateError::Key);
    }
    CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => CertificateError::Mismatch,
        other => CertificateError::Unusable(other.to_string()),
    })
}

/// Reads a chain, leaf first.
fn read(chain: &[CertificateDer<'static>], now_secs: i64) -> Result<Facts, CertificateError> {
    let parsed = chain.iter().enumerate().map(|(nth, der)| {
        let unreadable = if nth == 0 {
            CertificateError::Leaf
        } else {
            CertificateError::Chain
        };
        match X509Certificate::from_der(der) {
            Ok(([], certificate)) => Ok(certificate),
            _ => Err(unreadable),
        }
    });
    let parsed: Vec<X509Certificate<'_>> = parsed.collect::<Result<_, _>>()?;
    let (Some(leaf), Some(der)) = (parsed.first(), chain.first()) else {
        return Err(CertificateError::Leaf);
    };
    let weak = match leaf.public_key().parsed() {
        Ok(PublicKey::RSA(rsa)) => rsa.key_size() < RSA_BITS_MIN,
        Ok(PublicKey::EC(point)) => point.key_size() < EC_BITS_MIN,
        _ => false,
    };
    if weak {
        return Err(CertificateError::Weak);
    }
    let expired =
        |certificate: &X509Certificate<'_>| certificate.validity().not_after.timestamp() <= now_secs;
    if expired(leaf) {
        return Err(CertificateError::Expired);
    }
    for (nth, (issued, issuer)) in parsed.iter().zip(parsed.iter().skip(1)).enumerate() {
        let named = issued.issuer() == issuer.subject() && issuer.is_ca();
        if !named || issued.verify_signature(Some(issuer.public_key())).is_err() {
            return Err(CertificateError::NotIssued(nth));
        }
        if expired(issuer) {
            return Err(CertificateError::ChainExpired);
        }
    }
    Ok(Facts {
        dns_names: dns_names(leaf),
        not_after_secs: leaf.validity().not_after.timestamp(),
        sha1_fingerprint: sha1(der),
    })
}

fn dns_names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = leaf.subject_alternative_name() else {
        return Vec::new();
    };
    let dns = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    dns.collect()
}

/// As DigitalOcean shows it: forty digits, small letters.
fn sha1(der: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, der);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P384_SHA384,
    };

    use super::*;

    const NOW: i64 = 1_790_000_000;

    struct Made {
        key: String,
        leaf: String,
        chain: String,
    }

    impl Made {
        fn new(change: impl FnOnce(&mut CertificateParams)) -> Self {
            let mut authority = CertificateParams::new(Vec::new()).unwrap();
            authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
            let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
            let names = ["a.example".to_owned(), "*.a.example".to_owned()];
            let mut params = CertificateParams::new(names).unwrap();
            change(&mut params);
            let leaf = params.signed_by(&key, &issuer).unwrap();
            Self {
                key: key.serialize_pem(),
                leaf: leaf.pem(),
                chain: issuer.pem(),
            }
        }

        fn check(&self) -> Result<Facts, CertificateError> {
            let pem = Pem {
                private_key: &self.key,
                leaf_certificate: &self.leaf,
                certificate_chain: &self.chain,
            };
            check(pem, NOW).map(|checked| checked.facts)
        }
    }

    #[test]
    fn what_a_certificate_says_is_read_from_it() {
        let made = Made::new(|params| params.not_after = rcgen::date_time_ymd(2027, 2, 25));
        let facts = made.check().unwrap();
        assert_eq!(facts.dns_names, ["a.example", "*.a.example"]);
        assert_eq!(facts.not_after_secs, 1_803_513_600);
        assert_eq!(facts.sha1_fingerprint.len(), 40);
        let alone = Made {
            chain: String::new(),
            ..made
        };
        assert_eq!(alone.check(), Ok(facts), "a chain is not needed");
    }

    #[test]
    fn what_can_t_be_used_is_refused_with_its_reason() {
        let good = || Made::new(|_| ());
        let other = good();
        for (made, error) in [
            (
                Made {
                    key: other.key.clone(),
                    ..good()
                },
                CertificateError::Mismatch,
            ),
            (
                Made {
                    key: "no".into(),
                    ..good()
                },
                CertificateError::Key,
            ),
            (
                Made {
                    key: good().leaf,
                    ..good()
                },
                CertificateError::Key,
            ),
            (
                Made {
                    leaf: String::new(),
                    ..good()
                },
                CertificateError::Leaf,
            ),
            (
                Made {
                    leaf: other.leaf.repeat(2),
                    ..good()
                },
                CertificateError::Leaf,
            ),
            (
                Made {
                    leaf: other.key.clone(),
                    ..good()
                },
                CertificateError::Leaf,
            ),
            (
                Made {
                    chain: other.chain.clone(),
                    ..good()
                },
                CertificateError::NotIssued(0),
            ),
            (
                Made {
                    chain: other.leaf.clone(),
                    ..good()
                },
                CertificateError::NotIssued(0),
            ),
            (
                Made {
                    chain: other.chain.repeat(11),
                    ..good()
                },
                CertificateError::Chain,
            ),
            (
                Made {
                    chain: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----".into(),
                    ..good()
                },
                CertificateError::Chain,
            ),
            (
                Made {
                    leaf: "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----".into(),
                    ..good()
                },
                CertificateError::Leaf,
            ),
            (
                Made::new(|params| params.not_after = rcgen::date_time_ymd(2026, 9, 1)),
                CertificateError::Expired,
            ),
        ] {
            assert_eq!(made.check(), Err(error));
        }
    }
}
