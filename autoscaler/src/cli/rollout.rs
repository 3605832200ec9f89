//! What `rollout` reads: the manifest of an image, and user data.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{CommandError, NAMED_FILE_BYTES_MAX, RolloutChange, RolloutWord};
use crate::status::RolloutRequest;

/// A manifest has some 300 bytes.
const MANIFEST_BYTES_MAX: u64 = 64 << 10;

/// The clouds whose images a pool's droplets can have.
const CLOUDS: [&str; 2] = ["digitalocean", "local"];

/// The manifest of an image, as a build leaves it (`packer/cloud.py record`).
#[derive(Deserialize)]
struct Manifest {
    image: Option<String>,
    version: Option<String>,
    cloud: Option<String>,
    id: Id,
}

/// A number, that builds write as a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Number(u64),
    Text(String),
}

impl RolloutWord {
    /// The word, if one is said.
    pub(super) fn said(&self) -> Option<&'static str> {
        let words = [
            (self.pause, "pause"),
            (self.resume, "resume"),
            (self.undo, "undo"),
        ];
        words.into_iter().find_map(|(said, word)| said.then_some(word))
    }
}

/// What the daemon is asked for.
pub(super) fn request(change: &RolloutChange) -> Result<RolloutRequest, CommandError> {
    let mut request = RolloutRequest {
        size: change.size.clone(),
        ..RolloutRequest::default()
    };
    if let Some(image) = &change.image {
        let path = PathBuf::from(image);
        if is_file(image, &path) {
            (request.image, request.name) = manifest(&path)?;
        } else {
            request.image = Some(image.clone());
        }
    }
    if let Some(path) = &change.user_data {
        let text = tidepool_listener::read_text(path, NAMED_FILE_BYTES_MAX);
        request.user_data = Some(text.map_err(|source| CommandError::Unreadable {
            path: path.clone(),
            source,
        })?);
    }
    Ok(request)
}

/// Whether a manifest is meant. Neither numbers nor slugs have a slash or end like a file of JSON.
fn is_file(text: &str, path: &Path) -> bool {
    let json = path
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("json"));
    text.contains('/') || json
}

/// An image's number by its manifest, and what it is called.
fn manifest(path: &Path) -> Result<(Option<String>, Option<String>), CommandError> {
    let text = tidepool_listener::read_text(path, MANIFEST_BYTES_MAX).map_err(|source| {
        CommandError::Unreadable {
            path: path.to_owned(),
            source,
        }
    })?;
    let failed = |problem: String| CommandError::Rollout {
        path: path.to_owned(),
        problem,
    };
    let read: Result<Manifest, _> = serde_json::from_str(&text);
    let manifest = read.map_err(|error| failed(format!("it is not the manifest of an image: {error}")))?;
    if let Some(cloud) = manifest
        .cloud
        .as_ref()
        .filter(|cloud| !CLOUDS.contains(&cloud.as_str()))
    {
        return Err(failed(format!(
            "it is an image of {cloud}, and the pool's members are droplets"
        )));
    }
    let id = match manifest.id {
        Id::Number(number) => number.to_string(),
        Id::Text(text) => text,
    };
    if id.parse::<u64>().is_err() {
        return Err(failed(format!("its id {id:?} is not an image's number")));
    }
    let words: Vec<String> = manifest.image.into_iter().chain(manifest.version).collect();
    Ok((Some(id), (!words.is_empty()).then(|| words.join(" "))))
}
