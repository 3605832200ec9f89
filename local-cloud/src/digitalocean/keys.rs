//! SSH keys, by id or by MD5 fingerprint.

use base64::Engine;
use md5::{Digest, Md5};
use serde_json::json;

use super::app::App;
use super::call::{Answer, Call, Result};
use super::error::ApiError;
use super::records::{Cloud, Key};
use super::{page, views};

/// `GET /v2/account/keys`
pub(crate) fn list(app: &App, call: &Call) -> Result {
    app.read(|cloud| {
        let keys: Vec<&Key> = cloud.records.keys.values().collect();
        page::answer(call, "ssh_keys", &keys, |key| views::key(key))
    })
}

/// `POST /v2/account/keys`
pub(crate) async fn create(app: &App, call: &Call) -> Result {
    let name = call.needed_text("name")?.to_owned();
    let public_key = call.needed_text("public_key")?.to_owned();
    let fingerprint = fingerprint(&public_key).ok_or_else(|| {
        ApiError::unprocessable("Key invalid, key should be of the format `type key [comment]`")
    })?;
    app.change(|cloud| {
        if cloud
            .records
            .keys
            .values()
            .any(|key| key.fingerprint == fingerprint)
        {
            return Err(ApiError::unprocessable(
                "SSH Key is already in use on your account",
            ));
        }
        let key = Key {
            id: cloud.machines.new_id(),
            name,
            public_key,
            fingerprint,
        };
        let shown = views::key(&key);
        cloud.records.keys.insert(key.id, key);
        Answer::created(json!({"ssh_key": shown}))
    })
    .await
}

/// `GET /v2/account/keys/{id}`
pub(crate) fn get(app: &App, wanted: &str) -> Result {
    app.read(|cloud| Answer::ok(json!({"ssh_key": views::key(find(cloud, wanted)?)})))
}

/// `PUT /v2/account/keys/{id}`
pub(crate) async fn rename(app: &App, wanted: &str, call: &Call) -> Result {
    let name = call.needed_text("name")?.to_owned();
    app.change(|cloud| {
        let id = find(cloud, wanted)?.id;
        let key = cloud.records.keys.get_mut(&id).ok_or_else(ApiError::not_found)?;
        key.name = name;
        Answer::ok(json!({"ssh_key": views::key(key)}))
    })
    .await
}

/// `DELETE /v2/account/keys/{id}`
pub(crate) async fn delete(app: &App, wanted: &str) -> Result {
    app.change(|cloud| {
        let id = find(cloud, wanted)?.id;
        cloud.records.keys.remove(&id);
        Answer::no_content()
    })
    .await
}

/// The key of that id or fingerprint.
///
/// # Errors
/// 404.
pub(crate) fn find<'a>(cloud: &'a Cloud, wanted: &str) -> Result<&'a Key> {
    let by_id = wanted
        .parse()
        .ok()
        .and_then(|id: u64| cloud.records.keys.get(&id));
    by_id
        .or_else(|| {
            cloud
                .records
                .keys
                .values()
                .find(|key| key.fingerprint.eq_ignore_ascii_case(wanted))
        })
        .ok_or_else(ApiError::not_found)
}

/// MD5 of the key's bytes, which stand after its type; None when this is not an OpenSSH public key.
fn fingerprint(public_key: &str) -> Option<String> {
    let mut parts = public_key.split_whitespace();
    let kind = parts.next()?;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(parts.next()?)
        .ok()?;
    // The bytes begin with the length of the type's name and that name itself.
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let named = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    if named != kind.as_bytes() {
        return None;
    }
    let pairs: Vec<String> = Md5::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Some(pairs.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ssh-keygen -l -E md5` said so of this key.
    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f test\n";

    #[test]
    fn a_fingerprint_is_sixteen_pairs_and_nonsense_has_none() {
        let found = fingerprint(KEY).unwrap();
        assert_eq!(found.split(':').count(), 16);
        assert_eq!(fingerprint("ssh-rsa AAAA"), None);
        assert_eq!(fingerprint("ssh-rsa !!!"), None);
        assert_eq!(fingerprint(&KEY.replace("ssh-ed25519", "ssh-rsa")), None);
        assert_eq!(fingerprint(""), None);
    }
}
