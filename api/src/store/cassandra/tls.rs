//! TLS to the cluster's nodes: what they must show, what is shown to them, and what it means when that fails.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};
use scylla::errors::{
    BrokenConnectionError, BrokenConnectionErrorKind, ConnectionError, ConnectionPoolError,
    ConnectionSetupRequestErrorKind, FrameHeaderParseError, MetadataError, NewSessionError,
};

type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// What is needed for TLS to a cluster.
pub struct ClusterTlsParts {
    /// Who may have signed the nodes' certificates.
    pub authorities: Vec<CertificateDer<'static>>,
    /// What the nodes are shown, where they ask for it.
    pub identity: Option<ClientIdentity>,
    /// What nodes' certificates must name.
    pub names: NodeNames,
}

/// A certificate of this program, and its key.
pub struct ClientIdentity {
    /// The chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key.
    pub key: PrivateKeyDer<'static>,
}

/// What a node's certificate must name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeNames {
    /// The address that is connected to: the driver knows nodes by nothing else.
    Address,
    /// Anything: any certificate of an authority is good for any node.
    Any,
}

/// Why there can be no TLS of some parts. `Display` leaves the source out.
#[derive(Debug, thiserror::Error)]
pub enum ClusterTlsError {
    /// A text that is not a certificate.
    #[error("names a file with a certificate that can't be read")]
    Authority(#[source] Error),
    /// A certificate and a key that don't go together, or that rustls does not know.
    #[error("names a certificate that can't be used with the key in cassandra.tls.key_file")]
    Identity(#[source] Error),
}

/// TLS to a cluster's nodes, 1.2 and 1.3. A clone is the same.
#[derive(Clone)]
pub struct ClusterTls {
    config: Arc<ClientConfig>,
    identity: Identity,
}

/// Whether there is a certificate to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Identity {
    Shown,
    None,
}

impl fmt::Debug for ClusterTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterTls")
    }
}

impl PartialEq for ClusterTls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

impl Eq for ClusterTls {}

impl ClusterTls {
    /// Puts the parts together.
    ///
    /// # Errors
    /// [`ClusterTlsError`] says which of them is of no use.
    pub fn new(parts: ClusterTlsParts) -> Result<Self, ClusterTlsError> {
        let mut roots = RootCertStore::empty();
        for authority in parts.authorities {
            roots.add(authority).map_err(ClusterTlsError::Authority)?;
        }
        // Named, not the process's default: two providers are linked, and rustls refuses to guess.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let checked = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| ClusterTlsError::Authority(Error::General(error.to_string())))?;
        let verifier: Arc<dyn ServerCertVerifier> = match parts.names {
            NodeNames::Address => checked,
            NodeNames::Any => Arc::new(AnyName(checked)),
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(ClusterTlsError::Authority)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let (config, identity) = match parts.identity {
            None => (config.with_no_client_auth(), Identity::None),
            Some(ClientIdentity { chain, key }) => {
                let config = config.with_client_auth_cert(chain, key);
                (config.map_err(ClusterTlsError::Identity)?, Identity::Shown)
            }
        };
        Ok(Self {
            config: Arc::new(config),
            identity,
        })
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }
}

/// Checks a certificate but for what it names. That is what is checked last: who fails it has passed everything else.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked = self
            .0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match checked {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// A failure to connect that TLS has to do with, in words that say what to do.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
struct TlsTrouble {
    words: &'static str,
    source: Trouble,
}

/// The error of an attempt to connect, with what to do about it where TLS is at fault.
pub(super) fn explained(error: NewSessionError, tls: Option<&ClusterTls>) -> Trouble {
    match last_attempt(&error).and_then(|last| words_for(last, tls)) {
        Some(words) => Box::new(TlsTrouble {
            words,
            source: error.into(),
        }),
        None => error.into(),
    }
}

fn last_attempt(error: &NewSessionError) -> Option<&ConnectionError> {
    match error {
        NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
            last_connection_error,
        })) => Some(last_connection_error),
        _ => None,
    }
}

fn words_for(error: &ConnectionError, tls: Option<&ClusterTls>) -> Option<&'static str> {
    let broken = match error {
        ConnectionError::BrokenConnection(broken) => Some(broken),
        ConnectionError::ConnectionSetupRequestError(setup) => match &setup.error {
            ConnectionSetupRequestErrorKind::BrokenConnection(broken) => Some(broken),
            _ => None,
        },
        _ => None,
    };
    let Some(tls) = tls else {
        return broken.map(|_| {
            "the node ended the connection without a word: where it expects TLS, cassandra.tls.ca_file is needed"
        });
    };
    let io = match (error, broken) {
        (ConnectionError::IoError(error), _) => Some(&**error),
        (_, Some(broken)) => io_error(broken),
        _ => None,
    };
    // What a node says after the handshake, the driver loses more often than not.
    let cause = io
        .and_then(std::io::Error::get_ref)
        .and_then(|cause| cause.downcast_ref::<Error>());
    match cause {
        Some(Error::InvalidCertificate(problem)) => Some(words_for_certificate(problem)),
        Some(Error::InvalidMessage(_)) => Some("the node does not speak TLS on this port"),
        Some(Error::AlertReceived(AlertDescription::CertificateExpired)) => {
            Some("the node says that the certificate in cassandra.tls.cert_file has expired")
        }
        Some(Error::AlertReceived(_)) => Some(words_for_refusal(tls.identity)),
        _ => broken.map(|_| words_for_refusal(tls.identity)),
    }
}

fn words_for_refusal(identity: Identity) -> &'static str {
    match identity {
        Identity::None => {
            "the node ended the connection with the TLS handshake: where it wants a client certificate, \
             cassandra.tls.cert_file and cassandra.tls.key_file are needed"
        }
        Identity::Shown => {
            "the node ended the connection with the TLS handshake: it does not seem to accept the certificate in \
             cassandra.tls.cert_file"
        }
    }
}

fn words_for_certificate(problem: &CertificateError) -> &'static str {
    match problem {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the node's certificate is not signed by an authority of cassandra.tls.ca_file"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the node's certificate has expired"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the node's certificate is not valid yet"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the node's certificate does not name its IP address: cassandra.tls.verify_host = false would accept it"
        }
        _ => "the node's certificate is of no use",
    }
}

fn io_error(broken: &BrokenConnectionError) -> Option<&std::io::Error> {
    match broken.downcast_ref::<BrokenConnectionErrorKind>()? {
        BrokenConnectionErrorKind::WriteError(error)
        | BrokenConnectionErrorKind::FrameHeaderParseError(
            FrameHeaderParseError::HeaderIoError(error) | FrameHeaderParseError::BodyChunkIoError(_, error),
        ) => Some(error),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    use super::*;

    struct Authority(Issuer<'static, KeyPair>, CertificateDer<'static>);

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            let certificate = certificate.der().clone();
            Self(Issuer::new(params, key), certificate)
        }

        fn signs(&self, name: &str) -> ClientIdentity {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &self.0).unwrap();
            ClientIdentity {
                chain: vec![certificate.der().clone()],
                key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            }
        }

        fn checks(&self) -> Arc<WebPkiServerVerifier> {
            let mut roots = RootCertStore::empty();
            roots.add(self.1.clone()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .unwrap()
        }
    }

    #[test]
    fn any_name_is_taken_and_nothing_else_is() {
        let (ours, other) = (Authority::new(), Authority::new());
        let node = ServerName::IpAddress(IpAddr::from(Ipv4Addr::LOCALHOST).into());
        let verdict = |verifier: &dyn ServerCertVerifier, identity: &ClientIdentity, now: UnixTime| {
            let checked = verifier.verify_server_cert(&identity.chain[0], &[], &node, &[], now);
            checked.map(|_| ()).map_err(|error| match error {
                Error::InvalidCertificate(problem) => words_for_certificate(&problem),
                other => panic!("{other}"),
            })
        };
        let strict = ours.checks();
        let lax = AnyName(ours.checks());
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000));
        let unknown = "the node's certificate is not signed by an authority of cassandra.tls.ca_file";
        for (identity, by_name, by_any) in [
            (ours.signs("127.0.0.1"), Ok(()), Ok(())),
            (
                ours.signs("db-1"),
                Err(words_for_certificate(&CertificateError::NotValidForName)),
                Ok(()),
            ),
            (other.signs("127.0.0.1"), Err(unknown), Err(unknown)),
        ] {
            assert_eq!(verdict(&*strict, &identity, now), by_name);
            assert_eq!(verdict(&lax, &identity, now), by_any);
        }
        let long_ago = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
        assert_eq!(
            verdict(&lax, &ours.signs("db-1"), long_ago),
            Err("the node's certificate is not valid yet")
        );
    }

    #[test]
    fn what_does_not_go_together_is_told() {
        let ours = Authority::new();
        let parts = |identity| ClusterTlsParts {
            authorities: vec![ours.1.clone()],
            identity,
            names: NodeNames::Address,
        };
        assert!(ClusterTls::new(parts(None)).is_ok());
        let (one, other) = (ours.signs("a"), ours.signs("b"));
        let mixed = ClientIdentity {
            chain: one.chain,
            key: other.key,
        };
        let error = ClusterTls::new(parts(Some(mixed))).unwrap_err();
        assert!(matches!(error, ClusterTlsError::Identity(_)), "{error}");
        let broken = ClusterTlsParts {
            authorities: vec![CertificateDer::from(vec![1, 2, 3])],
            ..parts(None)
        };
        let error = ClusterTls::new(broken).unwrap_err();
        assert!(matches!(error, ClusterTlsError::Authority(_)), "{error}");
    }
}
