//! TLS to a Cassandra or ScyllaDB cluster, from the PEM files that the settings name.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use tidepool_listener::pem;

use super::Sources;
use super::values::Values;
use crate::store::{ClientIdentity, ClusterTls, ClusterTlsError, ClusterTlsParts, NodeNames};

const CA_FILE: &str = "cassandra.tls.ca_file";
const CERT_FILE: &str = "cassandra.tls.cert_file";
const KEY_FILE: &str = "cassandra.tls.key_file";

/// TLS, where its authorities are given. Whatever is wrong is noted.
pub(super) fn read(values: &mut Values, sources: &Sources<'_>) -> Option<ClusterTls> {
    let authorities = values.take(CA_FILE, |file| certificates(file, sources));
    let chain = values.take(CERT_FILE, |file| certificates(file, sources));
    let key = values.take(KEY_FILE, |file| {
        pem::private_key(&text_of(file, sources)?).map_err(|error| format!("names a file that {error}"))
    });
    let names = values.choice(
        "cassandra.tls.verify_host",
        &[("true", NodeNames::Address), ("false", NodeNames::Any)],
    );
    for (one, other) in [
        (CERT_FILE, KEY_FILE),
        (KEY_FILE, CERT_FILE),
        (CERT_FILE, CA_FILE),
        (KEY_FILE, CA_FILE),
    ] {
        if values.is_given(one) && !values.is_given(other) {
            let flag = other.replace(['.', '_'], "-");
            values.problem(one, &format!("needs {other} (--{flag}) beside it"));
        }
    }
    let identity_is_wanted = values.is_given(CERT_FILE) || values.is_given(KEY_FILE);
    let identity = chain.zip(key).map(|(chain, key)| ClientIdentity { chain, key });
    if identity_is_wanted && identity.is_none() {
        return None;
    }
    let parts = ClusterTlsParts {
        authorities: authorities?,
        identity,
        names: names?,
    };
    match ClusterTls::new(parts) {
        Ok(tls) => Some(tls),
        Err(error) => {
            let setting = match &error {
                ClusterTlsError::Authority(_) => CA_FILE,
                ClusterTlsError::Identity(_) => CERT_FILE,
            };
            values.problem(setting, &tidepool_logging::chain(&error));
            None
        }
    }
}

fn certificates(file: &str, sources: &Sources<'_>) -> Result<Vec<CertificateDer<'static>>, String> {
    pem::certificates(&text_of(file, sources)?).map_err(|error| format!("names a file that {error}"))
}

/// Without the path in messages: it may be a secret, given in the wrong place.
fn text_of(file: &str, sources: &Sources<'_>) -> Result<Vec<u8>, String> {
    if file.is_empty() {
        return Err("must not be empty".to_owned());
    }
    (sources.read)(Path::new(file), pem::BYTES_MAX)
        .map(String::into_bytes)
        .map_err(|error| format!("names a file that can't be read: {error}"))
}
