//! Certificates and private keys in PEM.

use rustls::pki_types::pem::{Error, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A file with a chain of certificates or a key at most, bytes: a certificate has about 2 KiB.
pub const BYTES_MAX: u64 = 1 << 20;

/// Why a text is of no use. `Display` goes on after the file's name.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// PEM, or any other text, without what is needed.
    #[error("holds no {0}")]
    Missing(&'static str),
    /// A private key that only its password opens.
    #[error(
        "holds a private key that is encrypted: decrypt it first (openssl pkey -in FILE -out PLAIN, mode 0600)"
    )]
    Encrypted,
    /// What begins as PEM and isn't.
    #[error("is not valid PEM: {0}")]
    Malformed(Error),
}

/// The certificates, in their order; at least one.
///
/// # Errors
/// [`PemError`].
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let what = "certificate";
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(PemError::Missing(what)),
        chain => chain.map_err(|error| of_error(what, error)),
    }
}

/// The first private key.
///
/// # Errors
/// [`PemError`].
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match is_encrypted(text) {
        true => PemError::Encrypted,
        false => of_error("private key", error),
    })
}

/// Whether a text says of its key that it is encrypted, in PKCS #8's label or in the headers of older PEM (RFC 1421).
fn is_encrypted(text: &[u8]) -> bool {
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.any(|line| {
        line == b"-----BEGIN ENCRYPTED PRIVATE KEY-----"
            || (line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED"))
    })
}

fn of_error(what: &'static str, error: Error) -> PemError {
    match error {
        Error::NoItemsFound => PemError::Missing(what),
        error => PemError::Malformed(error),
    }
}
