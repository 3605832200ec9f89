//! A certificate's record. Its key is not in the state: `certificates` keeps it in a file of its own.

use serde::{Deserialize, Serialize};

/// A certificate as it survives a restart.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Certificate {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) kind: CertificateKind,
    pub(crate) dns_names: Vec<String>,
    pub(crate) not_after: String,
    pub(crate) sha1_fingerprint: String,
    pub(crate) created_at: String,
}

/// Where a certificate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CertificateKind {
    /// Uploaded.
    Custom,
    /// Issued by the local authority.
    LetsEncrypt,
}

impl CertificateKind {
    /// As the API writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Custom => "custom",
            Self::LetsEncrypt => "lets_encrypt",
        }
    }
}
