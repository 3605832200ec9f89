//! Certificates and private keys in PEM.

use std::borrow::Cow;

use rustls::pki_types::pem::{Error, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A file with a chain of certificates or a key at most, bytes: a certificate has about 2 KiB.
pub const BYTES_MAX: u64 = 1 << 20;

/// What some editors put before a text in UTF-8; where files were put together, it stands between them. PEM's lines begin with
/// their dashes: with this before it, a certificate would be left out without a word.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

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
    /// As PowerShell writes what it is given.
    #[error("is text in UTF-16, and PEM is ASCII: convert it first (iconv -f UTF-16 -t ASCII FILE > PLAIN)")]
    Utf16,
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
    let text = without_marks(text)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
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
    let text = without_marks(text)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match is_encrypted(&text) {
        true => PemError::Encrypted,
        false => of_error("private key", error),
    })
}

/// The text without its byte order marks.
fn without_marks(text: &[u8]) -> Result<Cow<'_, [u8]>, PemError> {
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return Err(PemError::Utf16);
    }
    let (mut plain, mut rest) = (Vec::new(), text);
    while let Some(at) = position(rest, BYTE_ORDER_MARK) {
        let (before, after) = rest.split_at(at);
        plain.extend_from_slice(before);
        rest = after.get(BYTE_ORDER_MARK.len()..).unwrap_or_default();
    }
    if rest.len() == text.len() {
        return Ok(Cow::Borrowed(text));
    }
    plain.extend_from_slice(rest);
    Ok(Cow::Owned(plain))
}

fn position(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|bytes| bytes == wanted)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_marks_leave_nothing_out() {
        let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let (leaf, authority) = (made("leaf"), made("authority"));
        let chain = format!("\u{feff}{}\u{feff}{}", leaf.cert.pem(), authority.cert.pem());
        let read = certificates(chain.as_bytes()).unwrap();
        assert_eq!(read, [leaf.cert.der().clone(), authority.cert.der().clone()]);
        let key = format!("\u{feff}{}", leaf.signing_key.serialize_pem());
        assert_eq!(
            private_key(key.as_bytes()).unwrap().secret_der(),
            leaf.signing_key.serialized_der()
        );
        let encrypted = "\u{feff}-----BEGIN ENCRYPTED PRIVATE KEY-----\n";
        assert!(matches!(
            private_key(encrypted.as_bytes()),
            Err(PemError::Encrypted)
        ));
    }

    #[test]
    fn text_in_utf_16_is_called_so() {
        let made = rcgen::generate_simple_self_signed(vec!["leaf".to_owned()]).unwrap();
        let text = format!("\u{feff}{}", made.cert.pem());
        for order in [u16::to_le_bytes, u16::to_be_bytes] {
            let bytes: Vec<u8> = text.encode_utf16().flat_map(order).collect();
            assert!(matches!(certificates(&bytes), Err(PemError::Utf16)));
            assert!(matches!(private_key(&bytes), Err(PemError::Utf16)));
        }
    }
}
