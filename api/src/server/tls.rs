//! TLS by rustls, from PEM files.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsFiles;

/// Why the files make no TLS. `Display` leaves the source out.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that can't be opened, or is no PEM.
    #[error("can't read {file}")]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// PEM, but without what is needed.
    #[error("{file} holds no {what}")]
    Missing {
        /// The file.
        file: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
    },
    /// Certificate and key that don't go together, or that rustls does not know.
    #[error("the certificate in {cert_file} can't be used with the key in {key_file}")]
    Unusable {
        /// The certificate's file.
        cert_file: PathBuf,
        /// The key's file.
        key_file: PathBuf,
        /// What rustls says.
        #[source]
        source: rustls::Error,
    },
}

/// Makes an acceptor that offers HTTP/2 and HTTP/1.1, TLS 1.2 and 1.3.
///
/// # Errors
/// [`TlsError`] names the file.
pub fn load(files: &TlsFiles) -> Result<TlsAcceptor, TlsError> {
    let chain = certificates(&files.cert_file)?;
    let key = private_key(&files.key_file)?;
    let unusable = |source| TlsError::Unusable {
        cert_file: files.cert_file.clone(),
        key_file: files.key_file.clone(),
        source,
    };
    // Named, not the process's default: two providers are linked, and rustls refuses to guess.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn open(file: &Path) -> Result<BufReader<File>, TlsError> {
    File::open(file)
        .map(BufReader::new)
        .map_err(|source| TlsError::Read {
            file: file.to_owned(),
            source,
        })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = rustls_pemfile::certs(&mut open(file)?).collect();
    let chain = chain.map_err(|source| TlsError::Read {
        file: file.to_owned(),
        source,
    })?;
    match chain.is_empty() {
        true => Err(TlsError::Missing {
            file: file.to_owned(),
            what: "certificate",
        }),
        false => Ok(chain),
    }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let key = rustls_pemfile::private_key(&mut open(file)?).map_err(|source| TlsError::Read {
        file: file.to_owned(),
        source,
    })?;
    key.ok_or_else(|| TlsError::Missing {
        file: file.to_owned(),
        what: "private key",
    })
}
