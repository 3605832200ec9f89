//! Certificates: `POST`, `GET` and `DELETE /v2/certificates`. Keys go straight into `certificates`, and are never shown.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::app::App;
use super::call::{Answer, Call, Result};
use super::error::ApiError;
use super::records::certificate::{Certificate, CertificateKind};
use super::views::set;
use super::{names, page};
use crate::certificates::authority::IssueError;
use crate::certificates::{Checked, Pem, check};

/// Certificates of the account at most: DigitalOcean documents no limit. 1,000 are 500 kB of state.
const CERTIFICATES_MAX: usize = 1_000;
/// Names of one that is issued, as Let's Encrypt limits them (<https://letsencrypt.org/docs/rate-limits/>).
const DNS_NAMES_MAX: usize = 100;

/// `GET /v2/certificates`; the query's `name` chooses the one that has it.
pub(crate) fn list(app: &App, call: &Call) -> Result {
    app.read(|cloud| {
        let wanted = call.param("name");
        let named = |certificate: &&Certificate| wanted.is_none_or(|wanted| certificate.name == wanted);
        let mut all: Vec<&Certificate> = cloud.records.certificates.values().filter(named).collect();
        all.sort_by_key(|certificate| (&certificate.created_at, &certificate.name));
        page::answer(call, "certificates", &all, |certificate| view(certificate))
    })
}

/// `GET /v2/certificates/{id}`
pub(crate) fn get(app: &App, id: &str) -> Result {
    app.read(|cloud| {
        let found = cloud.records.certificates.get(id);
        Answer::ok(json!({"certificate": view(found.ok_or_else(ApiError::not_found)?)}))
    })
}

/// `POST /v2/certificates`
#[expect(clippy::disallowed_methods, reason = "ids are random, as DigitalOcean's are")]
pub(crate) async fn create(app: &App, call: &Call) -> Result {
    let name = call.needed_text("name")?.to_owned();
    names::check_certificate(&name)?;
    let (now, now_secs) = (app.now(), i64::from(app.now_secs()));
    let kind = match call.text("type")? {
        None | Some("custom") => CertificateKind::Custom,
        Some("lets_encrypt") => CertificateKind::LetsEncrypt,
        Some(_) => return Err(ApiError::unprocessable("type must be custom or lets_encrypt")),
    };
    let checked = match kind {
        CertificateKind::Custom => uploaded(call, now_secs)?,
        CertificateKind::LetsEncrypt => issued(app, call, now_secs).await?,
    };
    let id = uuid::Uuid::new_v4().to_string();
    let certificate = Certificate {
        id: id.clone(),
        name,
        kind,
        dns_names: checked.facts.dns_names.clone(),
        not_after: written(checked.facts.not_after_secs),
        sha1_fingerprint: checked.facts.sha1_fingerprint.clone(),
        created_at: now,
    };
    // The key first: a record without one would be of no use. What has no record is removed by the next start.
    let (certificates, kept_id) = (Arc::clone(&app.certificates), id.clone());
    blocking(move || certificates.keep(&kept_id, &checked))
        .await?
        .map_err(|error| ApiError::server_error(format!("the certificate can't be kept: {error}")))?;
    let noted = app.change(|cloud| {
        let all = &mut cloud.records.certificates;
        if all.len() >= CERTIFICATES_MAX {
            return Err(ApiError::unprocessable("You have reached the certificate limit."));
        }
        // The real provider knows a certificate by its name alone.
        if all.values().any(|other| other.name == certificate.name) {
            return Err(ApiError::unprocessable(
                "A certificate with this name already exists.",
            ));
        }
        let mut shown = view(&certificate);
        // The real one needs a while: clients have to wait for `verified`.
        set(&mut shown, "state", json!("pending"));
        all.insert(certificate.id.clone(), certificate);
        Ok(shown)
    });
    match noted.await {
        Ok(shown) => Answer::created(json!({"certificate": shown})),
        Err(error) => {
            forget(app, &id).await?;
            Err(error)
        }
    }
}

/// `DELETE /v2/certificates/{id}`
pub(crate) async fn delete(app: &App, id: &str) -> Result {
    app.change(|cloud| {
        if !cloud.records.certificates.contains_key(id) {
            return Err(ApiError::not_found());
        }
        let in_use = cloud
            .records
            .balancers
            .values()
            .any(|balancer| balancer.uses_certificate(id));
        if in_use {
            // The real provider knows by these words that it may try again.
            return Err(ApiError::forbidden(
                "Make sure the certificate is not in use before deleting it",
            ));
        }
        cloud.records.certificates.remove(id);
        Ok(())
    })
    .await?;
    forget(app, id).await?;
    Answer::no_content()
}

/// Removes the key of a certificate that has no record.
async fn forget(app: &App, id: &str) -> Result<()> {
    let (certificates, id) = (Arc::clone(&app.certificates), id.to_owned());
    blocking(move || certificates.forget(&id)).await
}

fn uploaded(call: &Call, now_secs: i64) -> Result<Checked> {
    call.refuse(
        "dns_names",
        "an uploaded certificate says itself which names it has",
    )?;
    let pem = Pem {
        private_key: call.needed_text("private_key")?,
        leaf_certificate: call.needed_text("leaf_certificate")?,
        certificate_chain: call.text("certificate_chain")?.unwrap_or_default(),
    };
    check(pem, now_secs)
        .map_err(|error| ApiError::unprocessable(format!("Invalid certificate data: {error}")))
}

async fn issued(app: &App, call: &Call, now_secs: i64) -> Result<Checked> {
    for name in ["private_key", "leaf_certificate", "certificate_chain"] {
        call.refuse(
            name,
            "the authority makes it for a certificate of the type lets_encrypt",
        )?;
    }
    let mut wanted: Vec<String> = Vec::new();
    for name in call.texts("dns_names")? {
        let name = name.to_ascii_lowercase();
        names::check_dns_name(&name)?;
        if !wanted.contains(&name) {
            wanted.push(name);
        }
    }
    if wanted.is_empty() || wanted.len() > DNS_NAMES_MAX {
        return Err(ApiError::unprocessable(format!(
            "dns_names must hold 1 to {DNS_NAMES_MAX} names"
        )));
    }
    let certificates = Arc::clone(&app.certificates);
    let issued = blocking(move || certificates.authority().issue(&wanted, now_secs)).await?;
    issued.map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        let message = format!("{error}{}", source.unwrap_or_default());
        match error {
            IssueError::Sign(_) => ApiError::unprocessable(message),
            IssueError::Disk { .. } | IssueError::Unusable(_) => ApiError::server_error(message),
        }
    })
}

/// Runs what waits for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ApiError::server_error(error.to_string()))
}

fn written(secs: i64) -> String {
    let time = Timestamp::from_second(secs).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn view(certificate: &Certificate) -> Value {
    json!({
        "id": certificate.id,
        "name": certificate.name,
        "not_after": certificate.not_after,
        "sha1_fingerprint": certificate.sha1_fingerprint,
        "created_at": certificate.created_at,
        "dns_names": certificate.dns_names,
        "state": "verified",
        "type": certificate.kind.as_str(),
    })
}
