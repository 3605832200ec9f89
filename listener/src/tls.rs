//! TLS by rustls, from PEM files.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::pem::{self, PemError};

/// PEM files of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, leaf first.
    pub cert_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
}

/// Why the files make no TLS. `Display` leaves the source out.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that can't be read.
    #[error("can't read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// One that can, and is of no use.
    #[error("{} {problem}", file.display())]
    Useless {
        /// The file.
        file: PathBuf,
        /// Why.
        problem: PemError,
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

/// The TLS of a listener. Its files can be read anew while it serves, for certificates expire.
pub struct Tls {
    files: TlsFiles,
    acceptor: RwLock<TlsAcceptor>,
}

impl Tls {
    /// Reads the files. HTTP/2 and HTTP/1.1 are offered, TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// [`TlsError`] names the file.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let acceptor = RwLock::new(acceptor(&files)?);
        Ok(Self { files, acceptor })
    }

    /// Reads the files anew: connections that come from now on are met with what they hold. Blocks on the files.
    ///
    /// # Errors
    /// [`TlsError`] names the file; then everything stays as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        let fresh = acceptor(&self.files)?;
        *self.acceptor.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// What meets the next connection.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, TlsError> {
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

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    pem::certificates(&text_of(file)?).map_err(|error| of_pem(file, error))
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    pem::private_key(&text_of(file)?).map_err(|error| of_pem(file, error))
}

fn text_of(file: &Path) -> Result<Vec<u8>, TlsError> {
    crate::files::read_bytes(file, pem::BYTES_MAX).map_err(|source| TlsError::Read {
        file: file.to_owned(),
        source,
    })
}

fn of_pem(file: &Path, problem: PemError) -> TlsError {
    let file = file.to_owned();
    TlsError::Useless { file, problem }
}
